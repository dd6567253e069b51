"""Which hosts Docker asks for an image. `registry-mirrors` is for Docker Hub alone; from 28 on the containerd image
store reads /etc/docker/certs.d besides, for every registry; what names hosts there wins (moby daemon/hosts.go @ 28.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.host import HostReader
from agent.image import Image
from agent.model import DOCKER_HUB, DesiredState, UnitState
from agent.route import Route, Step, about_host, manifest_url
from agent.runtimes._certs_route import own_step, way
from agent.runtimes._docker_file import look_at
from agent.runtimes._docker_info import SOCKET, Info, insecure_name, parse_info
from agent.runtimes._docker_reload import INSECURE, MIRRORS
from agent.runtimes._json_text import NotEditableError, strings_of

CERTS_DIR = "/etc/docker/certs.d"
_CERTS_DIR_SINCE = 28
_BEFORE_V2_SINCE = 28


@dataclass(frozen=True, slots=True)
class Docker:
    """What decides: the running daemon where it answers, else its file. `problem` tells why that says nothing."""

    path: str
    info: Info | None
    mirrors: tuple[str, ...] = ()
    insecure: frozenset[str] = frozenset()
    problem: str = ""

    @property
    def reads_certs_dir(self) -> bool:
        return self.info is not None and self.info.containerd_store and self.info.major >= _CERTS_DIR_SINCE


def look(host: HostReader, desired: DesiredState, unit: UnitState) -> Docker:
    """The mirrors and insecure registries in force. Connecting could start a stopped Docker: only one that is up is
    asked."""
    path = desired.docker.daemon_json
    info = parse_info(host.query(SOCKET, "/info")) if unit.is_up else None
    if info is not None:
        return Docker(path, info, info.mirrors, info.insecure)
    try:
        document = look_at(host, path).document
    except NotEditableError as error:
        return Docker(path, None, problem=f"{path} cannot be read: {error}")
    mirrors = tuple(url.removesuffix("/") for url in strings_of(document.get(MIRRORS)) or ())
    insecure = frozenset(map(insecure_name, strings_of(document.get(INSECURE)) or ()))
    return Docker(path, None, mirrors, insecure)


def route(host: HostReader, desired: DesiredState, image: Image, *, unit: UnitState, installed: bool) -> Route:
    """The way as it is now."""
    docker = look(host, desired, unit)
    found = way(host, CERTS_DIR, image) if docker.reads_certs_dir else None
    is_hub = image.registry == DOCKER_HUB
    if found is not None and (found.names_hosts or not is_hub):
        steps, file, remarks = found.steps, found.file, found.remarks
    elif is_hub and docker.mirrors:
        steps, file, remarks = (*_mirrors(docker, image), own_step(image)), docker.path, tuple(_hub_remarks(docker))
    else:
        steps, file, remarks = (own_step(image),), "", tuple(_remarks(docker, image))
    return Route(
        runtime="docker",
        title="Docker",
        version=docker.info.version if docker.info else "",
        installed=installed,
        file=file,
        can_mirror=is_hub or docker.reads_certs_dir,
        steps=steps,
        remarks=remarks,
    )


def _mirrors(docker: Docker, image: Image) -> Iterator[Step]:
    for url in docker.mirrors:
        base = url if _path_comes_first(docker) else _bare(url)
        root = f"{base.rstrip('/')}/v2" if base == url else f"{base}/v2{url.removeprefix(base)}"
        request = manifest_url(root, image, ns=_uses_containerd_code(docker))
        yield Step(request, ("pull", "resolve"), remarks=about_host(url, image))


def _bare(url: str) -> str:
    """The URL without its path."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _path_comes_first(docker: Docker) -> bool:
    """The containerd image store of Docker 25 to 27 asks /v2/PATH; all others ask PATH/v2."""
    return not _uses_containerd_code(docker) or docker.info is None or docker.info.major >= _BEFORE_V2_SINCE


def _uses_containerd_code(docker: Docker) -> bool:
    return docker.info is not None and docker.info.containerd_store


def _hub_remarks(docker: Docker) -> Iterator[str]:
    if docker.info is None:
        yield "Docker was not asked: this is what its file says"


def _remarks(docker: Docker, image: Image) -> Iterator[str]:
    if docker.problem:
        yield docker.problem
    if image.registry == DOCKER_HUB:
        return
    version = f"Docker {docker.info.major}" if docker.info and docker.info.major else "Docker"
    yield f"{version} cannot mirror {image.registry}: its mirrors are for Docker Hub alone"
    if insecure_name(image.registry) in docker.insecure:
        yield f"{image.registry} is listed as insecure: asked without verification, or over http"
