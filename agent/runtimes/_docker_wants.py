"""What the desired state asks of daemon.json, and what of it Docker has no words for.

`registry-mirrors` works for Docker Hub alone, takes bare endpoints, and knows neither certificates nor headers nor
capabilities per mirror (moby registry/config.go ValidateMirror @ 20.10, 24.0.8, 28.3: a path is an error up to 24.0.7
and means a different URL on each image store above). What cannot be said is left out, with a note for `status`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from agent.model import DEFAULT_REGISTRY, DOCKER_HUB, DesiredState, Mirror, OnChange, Registry, Setting
from agent.runtimes._docker_fate import Fate
from agent.runtimes._docker_info import insecure_name
from agent.runtimes._docker_reload import MIRRORS
from agent.runtimes._json_text import list_of


@dataclass(frozen=True, slots=True)
class Wants:
    """`settings` are top-level keys that are ours whole, in the order in which they are added; `insecure` are the
    registries that must be in the set `insecure-registries`, among whatever else is there; `flagged` are keys that
    flags of dockerd set, so that the file must not hold them, not even for the time of a reload."""

    settings: tuple[Setting, ...] = ()
    insecure: tuple[str, ...] = ()
    flagged: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        return not (self.settings or self.insecure)


NOTHING = Wants()


def wants_of(desired: DesiredState) -> Wants:
    """The keys of daemon.json that make this desired state true, as far as Docker can say it."""
    mirrors = hub_mirrors(desired)
    listed = (Setting(MIRRORS, list_of(mirrors)),) if mirrors else ()
    return Wants((*listed, *desired.docker.settings), insecure_registries(desired))


def as_reloadable(desired: DesiredState, *, loses_authorization: bool) -> DesiredState:
    """With Docker Hub's mirrors as they were desired where only a restart could bring others: the health of a mirror
    never costs one."""
    if desired.docker.on_change is not OnChange.RESTART and not loses_authorization:
        return desired
    return replace(desired, registries=tuple(r.as_desired if r.name == DOCKER_HUB else r for r in desired.registries))


def without_failover(fates: tuple[Fate, ...], desired: DesiredState) -> tuple[Fate, ...]:
    """What is left to load once a reload has not brought the mirrors that are asked now: that is no reason for a
    restart either."""
    return tuple(fate for fate in fates if fate.key != MIRRORS) if _hub(desired).failover else fates


def insecure_registries(desired: DesiredState) -> tuple[str, ...]:
    """The registries that Docker may reach without TLS or without a valid certificate."""
    return tuple(_host_form(registry.name) for registry in desired.registries if is_insecure(registry))


def is_insecure(registry: Registry) -> bool:
    """Whether it goes to insecure-registries. Docker Hub stays secure whatever is listed, and `_default` is no host."""
    named = registry.name not in {DOCKER_HUB, DEFAULT_REGISTRY}
    return named and (registry.insecure or registry.plain_http)


def hub_mirrors(desired: DesiredState) -> tuple[str, ...]:
    """The mirrors of Docker Hub that registry-mirrors can hold, in order. If only such are out that it can hold, all
    of them stay: the list is never emptied for their health."""
    hub = _hub(desired)
    return _sayable(hub.mirrors, desired) or _sayable(hub.desired_mirrors, desired)


def _sayable(mirrors: Iterable[Mirror], desired: DesiredState) -> tuple[str, ...]:
    trusted = insecure_registries(desired)
    return tuple(dict.fromkeys(mirror.url for mirror in mirrors if not unsayable(mirror, trusted)))


def hub_notes(desired: DesiredState) -> tuple[str, ...]:
    """A sentence for each thing about Docker Hub that Docker cannot be told."""
    hub, trusted = _hub(desired), insecure_registries(desired)
    notes = [f"{m.url} is left out: {reason}" for m in hub.mirrors if (reason := unsayable(m, trusted))]
    if hub.mirrors and not hub_mirrors(desired):
        notes.append("no mirror is left that Docker can use")
    if not hub.fallback:
        notes.append("Docker always falls back to Docker Hub")
    if hub.insecure:
        notes.append("Docker verifies Docker Hub in any case")
    return tuple(notes)


def unsayable(mirror: Mirror, insecure: tuple[str, ...]) -> str:
    """Why registry-mirrors cannot hold this mirror, "" if it can."""
    return next((reason for reason, applies in _OBSTACLES if applies(mirror, insecure)), "")


def pull_name(mirror: Mirror) -> str:
    """The name under which an image can be pulled straight from a mirror: `ghcr.m.daocloud.io/NAME`. "" if none."""
    host, slash, path = mirror.url.partition("://")[2].partition("/")
    if not slash:
        return f"{host}/NAME"
    if mirror.override_path and path.startswith("v2/"):
        return f"{host}/{path.removeprefix('v2/')}/NAME"
    return f"{host}/NAME" if mirror.override_path and path == "v2" else ""


def _hub(desired: DesiredState) -> Registry:
    found = (registry for registry in desired.registries if registry.name == DOCKER_HUB)
    return next(found, Registry(DOCKER_HUB, ""))


def _host_form(name: str) -> str:
    """Docker takes an IPv6 address without brackets when there is no port."""
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name


def _is_untrusted(mirror: Mirror, insecure: tuple[str, ...]) -> bool:
    host = mirror.url.partition("://")[2].partition("/")[0]
    return mirror.skip_verify and insecure_name(host) not in map(insecure_name, insecure)


_OBSTACLES: tuple[tuple[str, Callable[[Mirror, tuple[str, ...]], bool]], ...] = (
    ("Docker cannot replace the path of its requests (override_path)", lambda m, _: m.override_path),
    ("Docker reads a mirror with a path differently from version to version", lambda m, _: "/" in m.url[8:]),
    ("Docker has no certificates per mirror (ca, client)", lambda m, _: bool(m.ca or m.client)),
    ("Docker sends no headers of its own to a mirror", lambda m, _: bool(m.headers or m.header_files)),
    ("Docker asks every mirror to resolve and to pull", lambda m, _: not {"pull", "resolve"} <= set(m.capabilities)),
    ("for skip_verify Docker wants its host under registries with insecure: true", _is_untrusted),
)
