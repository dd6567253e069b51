"""The way that a directory of hosts.toml files prescribes for one image, whoever reads it: containerd's CRI, or Docker
with the containerd image store, which uses containerd's code on /etc/docker/certs.d.

Source: containerd remotes/docker/resolver.go, fetcher.go, config/hosts.go @ v1.5 … v2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from agent.host import HostReader
from agent.image import Image
from agent.model import DEFAULT_REGISTRY, Absent, Regular, Unusable
from agent.render import Endpoint, HostsToml
from agent.route import Step, about_host, default_endpoint, manifest_url
from agent.runtimes._certs_dir import Directory, Place, choose, is_registry_name, look_at_root, look_for
from agent.runtimes._hosts_reading import CAPABILITIES, api_root, read

_PASSED_OVER_FOR_TAGS = "passed over for a tag, which needs pull and resolve; still asked for what the tag leads to"


@dataclass(frozen=True, slots=True)
class Way:
    """The steps, and the file that says so ("": none does). `names_hosts` tells whether it names any before the
    registry itself."""

    steps: tuple[Step, ...]
    file: str = ""
    remarks: tuple[str, ...] = ()
    names_hosts: bool = False


def way(host: HostReader, certs_dir: str, image: Image, *, reads_default: bool = True) -> Way:
    """What the files below `certs_dir` make of an image; `reads_default` False for a containerd that is too old."""
    directory = _directory(host, certs_dir, image.registry, reads_default=reads_default)
    if directory is None:
        return built_in(image)
    state = directory.hosts_toml
    if directory.place is Place.FILE or isinstance(state, Unusable):
        path = directory.path if directory.place is Place.FILE else directory.file
        reason = directory.place.value if directory.place is Place.FILE else state_reason(state)
        return Way((), path, (f"{path} {reason}: every pull of {image.registry} fails until it is removed",))
    if isinstance(state, Absent) or not state.content:
        return _without_hosts(directory, image)
    return _with_hosts(directory, state, image)


def state_reason(state: object) -> str:
    """Why a file cannot be read."""
    return state.reason if isinstance(state, Unusable) else ""


def built_in(image: Image, *remarks: str) -> Way:
    """Nothing is said about the registry: it is asked itself."""
    return Way((own_step(image),), remarks=remarks)


def own_step(image: Image) -> Step:
    """The registry itself."""
    return Step(manifest_url(f"{default_endpoint(image.registry)}/v2", image, ns=False))


def _directory(host: HostReader, certs_dir: str, registry: str, *, reads_default: bool) -> Directory | None:
    """The first that exists: the registry's own, then `_default`. None: no directory."""
    root = look_at_root(host, certs_dir)
    for name in (registry, DEFAULT_REGISTRY) if reads_default else (registry,):
        if is_registry_name(name):
            found = choose(name, look_for(host, root, name))
            if found.place in {Place.DIRECTORY, Place.FILE}:
                return found
    return None


def _without_hosts(directory: Directory, image: Image) -> Way:
    """An empty directory hides `_default`; certificates in it are for the registry itself."""
    used = f"with the certificates in {directory.path}" if directory.certificates else ""
    why = f"{directory.path} has no hosts.toml: the registry itself is asked {used}".rstrip()
    return replace(built_in(image, why), file=directory.path if directory.certificates else "")


def _with_hosts(directory: Directory, state: Regular, image: Image) -> Way:
    try:
        reading = read(state.content, directory.path)
    except ValueError as error:
        return built_in(image, f"{directory.file} is ignored: {error}; the registry itself is asked")
    return Way(
        tuple(steps(reading.meaning, image)), directory.file, reading.remarks, names_hosts=bool(reading.meaning.hosts)
    )


def steps(meaning: HostsToml, image: Image) -> Iterator[Step]:
    """Every endpoint's request, the registry itself last."""
    for endpoint in meaning.hosts:
        yield step(endpoint, image)
    own = meaning.server
    capabilities = (own.capabilities or CAPABILITIES) if own.url else CAPABILITIES
    yield step(replace(own, url=own.url or default_endpoint(image.registry), capabilities=capabilities), image)


def step(endpoint: Endpoint, image: Image, root: str = "") -> Step:
    """One endpoint's request. A tag is asked of hosts that can pull and resolve, a digest of those that can pull."""
    needed = {"pull"} if image.digest else {"pull", "resolve"}
    is_asked = needed <= set(endpoint.capabilities)
    url = manifest_url(root or api_root(endpoint), image, ns=True)
    notes = [] if is_asked else [_PASSED_OVER_FOR_TAGS if not image.digest else "passed over: it cannot pull"]
    notes += ["its certificate is not verified"] if endpoint.skip_verify else []
    return Step(url, endpoint.capabilities, is_asked, (*notes, *about_host(endpoint.url, image)))
