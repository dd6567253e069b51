"""Which hosts an image is asked from, in which order, and under which other names it can be pulled: values and rules.

Each runtime makes its own Route (agent.runtimes); what is the same for all of them is here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent import catalogue
from agent.catalogue import CatalogueEntry, MirrorKind, MirrorState
from agent.image import Image
from agent.model import DOCKER_HUB, Mirror
from agent.redact import redact

ALL_CAPABILITIES = ("pull", "resolve", "push")
HUB_ENDPOINT = "https://registry-1.docker.io"
OF_USE = frozenset({MirrorState.USABLE, MirrorState.FROZEN, MirrorState.EXPERIMENTAL, MirrorState.RESTRICTED})


@dataclass(frozen=True, slots=True)
class Step:
    """One request for the image's manifest. `is_asked` False: the runtime passes this host over for such a reference;
    `remarks` say why, and what else is known about the host."""

    url: str
    capabilities: tuple[str, ...] = ALL_CAPABILITIES
    is_asked: bool = True
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One runtime's way to an image. `file` says so, "" where it is the runtime's built-in way. `can_mirror` False:
    this runtime knows no mirrors for this registry. `remarks` are sentences about the way as a whole."""

    runtime: str
    title: str
    version: str
    installed: bool
    file: str = ""
    can_mirror: bool = True
    steps: tuple[Step, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Name:
    """Another name for an image, and how it comes about."""

    text: str
    kind: MirrorKind
    remark: str = ""


def api_root(url: str, *, override_path: bool) -> str:
    """The URL below which containerd asks an endpoint: `/v2` is appended unless its path ends so or override_path is
    set (remotes/docker/config/hosts.go)."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    clean = posixpath.normpath(slash + path).removesuffix("/") if path else ""
    if not override_path and not clean.endswith("/v2"):
        clean += "/v2"
    return f"{scheme}://{host}{clean}"


def manifest_url(base: str, image: Image, *, ns: bool) -> str:
    """The URL of the first request: `base` is the API's root (`https://host/v2`). `ns` tells a mirror which registry is
    meant, as containerd does wherever the host is not the registry's own (remotes/docker/registry.go isProxy)."""
    host = base.partition("://")[2].partition("/")[0]
    is_own = host == image.registry or (image.registry == DOCKER_HUB and base.startswith(f"{HUB_ENDPOINT}/"))
    query = f"?ns={image.registry}" if ns and not is_own else ""
    return redact("", f"{base}/{image.repository}/manifests/{image.reference}{query}")


def default_endpoint(registry: str) -> str:
    """Where a runtime asks a registry about which nothing is said."""
    return HUB_ENDPOINT if registry == DOCKER_HUB else f"https://{registry}"


def about_host(url: str, image: Image) -> tuple[str, ...]:
    """What the catalogue knows against a mirror; nothing is asked over the network."""
    entry = catalogue.find(url)
    return tuple(_known(entry, image)) if entry else ()


def _known(entry: CatalogueEntry, image: Image) -> Iterator[str]:
    if entry.state not in {MirrorState.USABLE, MirrorState.UNKNOWN}:
        note = f": {entry.note}" if entry.note else ""
        yield f"{entry.state.value} since {entry.since}{note} ({entry.source})"
    served = [registry for registry, _ in entry.serves]
    if served and image.registry not in served:
        yield f"mirrors {', '.join(served[:3])}{' and others' if len(served) > 3 else ''}, not {image.registry}"
    elif entry.kind is MirrorKind.ADD_PREFIX:
        yield trap(image)


def trap(image: Image) -> str:
    """Why an add-prefix host is no safe mirror for containerd: it asks the token server for two scopes, sorted, and
    such servers read the first alone (containerd#9648). Which one is first depends on the image."""
    scopes = sorted((image.repository, f"{image.registry}/{image.repository}"))
    first = f"repository:{scopes[0]}:pull"
    if scopes[0] == image.repository:
        return f"its token server reads only the first of containerd's scopes, {first}, and refuses this image"
    return (
        f"its token server reads only the first of containerd's scopes; for this image that is the right one, {first}"
    )


def other_names(image: Image) -> tuple[Name, ...]:
    """The names under which the catalogue's living mirrors serve the image: usable ones first."""
    found = [
        (entry, url)
        for entry in catalogue.mirrors()
        for registry, url in entry.serves
        if _serves(entry, image, registry)
    ]
    order = sorted(
        found, key=lambda each: (each[0].kind is MirrorKind.ADD_PREFIX, each[0].state is not MirrorState.USABLE)
    )
    return tuple(_name(entry, url, image) for entry, url in order)


def names_of_mirrors(image: Image, mirrors: Iterable[Mirror]) -> tuple[Name, ...]:
    """The names under which the operator's own mirrors serve the image. A path that is no API's has none."""
    found = []
    for mirror in mirrors:
        host, slash, path = mirror.url.partition("://")[2].partition("/")
        if not slash or (mirror.override_path and f"{path}/".startswith("v2/")):
            folder = f"{path.removeprefix('v2').strip('/')}/".lstrip("/")
            name = f"{host}/{folder}{image.repository}{image.suffix}"
            found.append(Name(name, MirrorKind.PREFIX_REPLACE, "from the desired state"))
    return tuple(found)


def _serves(entry: CatalogueEntry, image: Image, registry: str) -> bool:
    return registry == image.registry and entry.state in OF_USE and not entry.host.startswith("*.")


def _name(entry: CatalogueEntry, url: str, image: Image) -> Name:
    prefix = url.partition("://")[2].replace("/v2/", "/", 1)
    parts = [entry.operator, "" if entry.state is MirrorState.USABLE else f"{entry.state.value} since {entry.since}"]
    parts.append("only what its allowlist names" if entry.access is catalogue.Access.ALLOWLIST else "")
    return Name(f"{prefix}/{image.repository}{image.suffix}", entry.kind, ", ".join(filter(None, parts)))
