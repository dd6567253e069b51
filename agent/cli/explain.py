"""`mirror-agent explain`: which hosts an image is asked from, in order, on each runtime."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.cli.session import FINE, Session
from agent.cli.terminal import Paint, padded, plain, width_of
from agent.errors import DesiredStateError, HostError

if TYPE_CHECKING:
    from agent.image import Image
    from agent.model import DesiredState
    from agent.route import Name, Route, Step

NAME = "explain"
SUMMARY = "which hosts an image is asked from, in order, per runtime"
DESCRIPTION = """\
Takes IMAGE as it stands in a pod or behind `docker pull`, and shows for each runtime the requests for its manifest in
their order, the file that says so, and what is known against a host; where a runtime cannot mirror the registry, the
name to pull instead. It looks at the files and daemons as they are, whoever wrote them, and asks no registry.
Exit code 0; 1 if IMAGE names no image.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """IMAGE."""
    parser.add_argument("image", metavar="IMAGE", help="as in nginx, ghcr.io/owner/name:tag or name@sha256:…")


def run(session: Session) -> int:
    """Print every runtime's way. Raises BadReferenceError."""
    from agent import image, runtimes

    wanted = image.parse(session.options.image)
    host = session.host()
    desired = in_force(session)
    routes = [runtime.route(host, desired, wanted) for runtime in runtimes.discover()]
    names = _names(desired, wanted)
    if session.json:
        session.write_json(document(wanted, routes, names))
    else:
        session.terminal.write("\n".join(lines(wanted, routes, names, session.terminal.paint)))
    return FINE


def _names(desired: DesiredState, image: Image) -> list[Name]:
    """The operator's own mirrors first; each name once."""
    from agent.route import names_of_mirrors, other_names

    own = (mirror for registry in desired.registries if registry.name == image.registry for mirror in registry.mirrors)
    found: dict[str, Name] = {}
    for name in (*names_of_mirrors(image, own), *other_names(image)):
        found.setdefault(name.text, name)
    return list(found.values())


def in_force(session: Session) -> DesiredState:
    """The desired state, for the paths that it may move; where there is none that is valid, the defaults."""
    from agent.model import DesiredState

    with suppress(HostError, DesiredStateError):
        return session.desired_state(session.host())
    return DesiredState("")


def lines(image: Image, routes: Sequence[Route], names: Sequence[Name], paint: Paint) -> Iterator[str]:
    """The image's whole name, each runtime with its requests, then the other names."""
    yield paint("strong", image.name)
    columns = max((width_of(route.title) for route in routes), default=0)
    for route in routes:
        yield from _route_lines(route, columns, paint)
    unable = [route.title for route in routes if route.installed and not route.can_mirror]
    if unable and names:
        yield f"{' and '.join(unable)} cannot mirror {image.registry}; names to pull instead:"
        yield from _name_lines(image, names)


def _route_lines(route: Route, columns: int, paint: Paint) -> Iterator[str]:
    title = paint("strong", padded(route.title, columns))
    if not route.installed:
        yield f"{title}  not installed"
        return
    version = f"{route.version}  " if route.version else ""
    yield f"{title}  {version}{plain(route.file) or 'its built-in way: no file says otherwise'}"
    width = max((width_of(step.url) for step in route.steps), default=0)
    for count, step in enumerate(route.steps, start=1):
        yield from _step_lines(count, step, width, paint)
    for remark in route.remarks:
        yield f"     {paint('warn', plain(remark))}"


def _step_lines(count: int, step: Step, width: int, paint: Paint) -> Iterator[str]:
    line = plain(f"  {count}  {padded(step.url, width)}  {', '.join(step.capabilities)}")
    yield line if step.is_asked else paint("dim", line)
    for remark in step.remarks:
        yield f"     {paint('warn', plain(remark))}"


def _name_lines(image: Image, names: Sequence[Name]) -> Iterator[str]:
    from agent.catalogue import MirrorKind
    from agent.route import trap

    width = max(width_of(name.text) for name in names)
    for name in names:
        yield f"  {padded(name.text, width)}  {_kind(name)}"
    if any(name.kind is MirrorKind.ADD_PREFIX for name in names):
        yield f"  An added prefix belongs into the name, not into a mirror's URL: {trap(image)}."


def _kind(name: Name) -> str:
    what = "another host" if name.kind.value == "prefix-replace" else "prefix added"
    return f"{what}; {name.remark}" if name.remark else what


def document(image: Image, routes: Sequence[Route], names: Sequence[Name]) -> dict[str, Any]:
    """For scripts."""
    return {
        "image": {**asdict(image), "name": image.name},
        "runtimes": [asdict(route) for route in routes],
        "names": [{"name": name.text, "kind": name.kind.value, "remark": name.remark} for name in names],
    }
