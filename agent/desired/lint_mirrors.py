"""Lints of registries and their mirrors: what will not work, works only for some, or is a risk."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import cache

from agent import catalogue
from agent.catalogue import CatalogueEntry, MirrorKind, MirrorState
from agent.desired.build import default_server
from agent.desired.findings import Findings, path_in
from agent.desired.loading import Document
from agent.desired.models import MirrorModel, RegistryModel
from agent.desired.nodes import Path
from agent.desired.urls import host_of, is_plain, path_of
from agent.model import DEFAULT_REGISTRY, DOCKER_HUB

_HUB_ALIASES = {
    "index.docker.io": "containerd and Docker call it docker.io, this entry is never used",
    "registry-1.docker.io": "images of Docker Hub are called docker.io/…, this entry serves only names that say so",
    "hub.docker.com": "this is Docker Hub's web page, not a registry",
    "registry.hub.docker.com": "images of Docker Hub are called docker.io/…, this entry serves only names that say so",
}
_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_PRIVATE_NAMES = re.compile(r"(?:.*\.)?(?:localhost|lan|local|internal|intranet|corp|home|svc|test|home\.arpa)|[^.]+")
_SECRET_HEADERS = re.compile(r"auth|token|secret|passw|credential|api.?key|cookie|session", re.IGNORECASE)
Lint = tuple[Path, str]
"""Where, below a mirror or registry, and what."""


def lint_registries(document: Document, findings: Findings) -> None:
    """Every registry and every mirror, one by one."""
    for key, registry in document.model.registries.items():
        name = document.names[key]
        for below, message in _of_registry(name, registry):
            findings.at(document.root, ("registries", key, *below), message)
        for index, mirror in enumerate(registry.mirrors):
            path: Path = ("registries", key, "mirrors", index)
            for below, message in _of_mirror(name, registry, mirror):
                findings.at(document.root, path_in(document.root, (*path, *below)), message)
    for key, message in _of_names(document):
        findings.at_key(document.root, ("registries", key), message)


def _of_names(document: Document) -> Iterator[tuple[str, str]]:
    for key, name in document.names.items():
        if name in _HUB_ALIASES:
            yield key, f"{_HUB_ALIASES[name]}: name docker.io"
        elif name.endswith((":443", ":80")):
            port = name.rpartition(":")[2]
            yield key, f"serves only image names that say :{port}; without the port it is another registry"


def _of_registry(name: str, registry: RegistryModel) -> Iterator[Lint]:
    server = registry.server or default_server(name, plain_http=registry.plain_http)
    if registry.insecure and name == DOCKER_HUB:
        yield ("insecure",), "Docker never skips verification for Docker Hub, and containerd should not: remove it"
    elif registry.insecure and name in _public_registries():
        yield ("insecure",), f"{name} is public: whoever is on the way can replace its images; remove it"
    if is_plain(server) and not registry.plain_http:
        yield ("server",), "is http: say plain_http: true instead, so that Docker knows it too"
    if name == DEFAULT_REGISTRY:
        yield (
            (),
            (
                "serves registries without an entry of their own in containerd 1.6.17, 1.7.0 and later, and in "
                "Docker 28 and later with the containerd image store; older ones do not know it"
            ),
        )


def _of_mirror(name: str, registry: RegistryModel, mirror: MirrorModel) -> Iterator[Lint]:
    yield from _known(name, mirror)
    yield from _itself(name, registry, mirror)
    yield from _risks(name, mirror)
    yield from _capabilities(mirror)
    if mirror.path_is_api and not mirror.override_path:
        yield ("url",), f"containerd asks {path_of(mirror.url)}/v2 there: for a path below /v2 say override_path: true"


def _known(name: str, mirror: MirrorModel) -> Iterator[Lint]:
    """What the catalogue knows about the mirror."""
    entry = catalogue.find(mirror.url)
    if entry is None:
        return
    host = host_of(mirror.url)
    if entry.state is MirrorState.DEAD:
        yield ("url",), f"{host} is dead since {entry.since}{_note(entry)} ({entry.source}): remove it"
    elif entry.state in {MirrorState.RESTRICTED, MirrorState.RETIRED, MirrorState.EXPERIMENTAL, MirrorState.FROZEN}:
        yield ("url",), f"{host} is {entry.state.value} since {entry.since}{_note(entry)} ({entry.source})"
    elif entry.kind is MirrorKind.ADD_PREFIX:
        yield ("url",), f"{host} wants the registry in front of the image's name{_note(entry)}{_instead(entry, name)}"
        return
    served = [registry for registry, _ in entry.serves]
    if served and name not in served:
        yield ("url",), _wrong_registry(name, host, served, entry)


def _wrong_registry(name: str, host: str, served: list[str], entry: CatalogueEntry) -> str:
    if name == DEFAULT_REGISTRY:
        return f"{host} mirrors {', '.join(served)} only: one _default cannot serve every registry with it"
    return f"{host} mirrors {', '.join(served)}, not {name}{_instead(entry, name)}"


def _instead(entry: CatalogueEntry, name: str) -> str:
    """The same operator's mirror of this registry."""
    for other in catalogue.mirrors():
        urls = dict(other.serves)
        usable = other.state in {MirrorState.USABLE, MirrorState.FROZEN} and other.kind is MirrorKind.PREFIX_REPLACE
        if usable and entry.operator and other.operator == entry.operator and name in urls:
            return f": write {urls[name]}"
    return ""


def _note(entry: CatalogueEntry) -> str:
    return f": {entry.note}" if entry.note else ""


def _itself(name: str, registry: RegistryModel, mirror: MirrorModel) -> Iterator[Lint]:
    server = registry.server or default_server(name, plain_http=registry.plain_http)
    host = host_of(mirror.url)
    if mirror.url == server or (name == DOCKER_HUB and host in _HUB_HOSTS and not path_of(mirror.url)):
        yield ("url",), "is the registry itself, which is asked last anyway: remove it"


def _risks(name: str, mirror: MirrorModel) -> Iterator[Lint]:
    if mirror.skip_verify:
        yield ("skip_verify",), "whoever is on the way can pretend to be this mirror: name its CA with ca instead"
    if is_plain(mirror.url) and not is_private(host_of(mirror.url)) and not is_private(name):
        yield (
            ("url",),
            "is http over a public network: whoever is on the way can replace images; write https:// if it can",
        )
    for header in mirror.header:
        if _SECRET_HEADERS.search(header):
            yield ("header", header), "may be a secret, and this file is not the place for it: use header_file"


def _capabilities(mirror: MirrorModel) -> Iterator[Lint]:
    given = set(mirror.capabilities)
    if given == {"pull"}:
        yield (
            ("capabilities",),
            "containerd skips a mirror without resolve for tags: say [pull, resolve], unless you pull by digest",
        )
    elif "pull" not in given:
        yield (
            ("capabilities",),
            "containerd asks a mirror for tags only with pull and resolve together: say [pull, resolve]",
        )
    if "push" in given:
        yield ("capabilities",), "containerd pushes to the first host that has push: images would go to this mirror"


def is_private(authority: str) -> bool:
    """Whether a host[:port] is reached over loopback or a private network, as far as its name says."""
    host = authority.rpartition(":")[0] if re.search(r":[0-9]+$", authority) else authority
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return bool(_PRIVATE_NAMES.fullmatch(host))
    return address.is_private


@cache
def _public_registries() -> frozenset[str]:
    return frozenset(registry for entry in catalogue.mirrors() for registry, _ in entry.serves)
