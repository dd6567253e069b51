"""What `status` says about Docker: is it live, and where each registry is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.model import (
    DEFAULT_REGISTRY,
    DOCKER_HUB,
    ActiveState,
    DesiredState,
    Manage,
    Mirror,
    Now,
    Registry,
    RegistryReport,
    RuntimeReport,
    UnitState,
)
from agent.plan import Deferred, Memory, Plan, Reload, reason_of
from agent.runtimes._docker_certs import Certs
from agent.runtimes._docker_info import SOCKET, Info, insecure_name
from agent.runtimes._docker_wants import hub_mirrors, hub_notes, is_insecure, pull_name
from agent.runtimes._hosts_toml import urls_in_order

_RECENT_SECONDS = 3600.0
_CERTS_D_MAJOR = 28
_HTTP_MAJOR = 28


@dataclass(frozen=True, slots=True)
class Picture:
    """The facts that a report is made of, besides the plan."""

    is_installed: bool
    unit: UnitState
    info: Info | None
    memory: Memory
    now: Now
    certs: Certs = Certs()  # noqa: RUF009 -- frozen


def report(desired: DesiredState, picture: Picture, plan: Plan) -> RuntimeReport:
    """`live` is None where the running daemon cannot be asked."""
    managed = desired.docker.manage is not Manage.NEVER
    rows = [_row(desired, each, picture, plan) for each in desired.registries if _concerns(each)]
    return RuntimeReport(
        name="docker",
        title="Docker",
        installed=picture.is_installed,
        version=picture.info.version if picture.info else "",
        live=None if picture.info is None or not managed else _is_live(plan),
        sentence=_sentence(picture, plan) if managed else "not managed (docker.manage is false)",
        registries=tuple(_as_it_stands(row, picture, plan) for row in rows) if managed else (),
    )


def _as_it_stands(row: RegistryReport, picture: Picture, plan: Plan) -> RegistryReport:
    """With what the plan has to say of its file, where the running daemon does not have it, or cannot be asked."""
    is_open = row.live is False or (row.live is None and picture.info is None)
    return replace(row, state=plan.state_of(row.name, row.path)) if row.path and is_open else row


def _is_live(plan: Plan) -> bool:
    return not (plan.acts or plan.deferred or plan.conflicts)


# --- the sentence ------------------------------------------------------------------------------------------------


def _sentence(picture: Picture, plan: Plan) -> str:
    if not picture.is_installed:
        return "not installed"
    if plan.conflicts:
        return f"needs you: {plan.conflicts[0].reason}"
    if plan.deferred or plan.acts:
        return _wanted_act(plan)
    if not picture.unit.is_up:
        return _at_rest(picture.unit, plan)
    return _live_sentence(picture, plan)


def _wanted_act(plan: Plan) -> str:
    if plan.deferred:
        return _pending(plan.deferred[0])
    kind = "reload" if isinstance(plan.acts[0], Reload) else "restart"
    return f"{kind} to come: {reason_of(plan.acts[0])}"


def _pending(deferred: Deferred) -> str:
    kind = "reload" if isinstance(deferred.act, Reload) else "restart"
    return f"{kind} pending, because {deferred.reason}: {reason_of(deferred.act)}"


def _at_rest(unit: UnitState, plan: Plan) -> str:
    file = "the file is to be written" if plan.file_actions else "the file is ready"
    if unit.active is ActiveState.OFF:
        return f"units are not controlled here; {file}"
    if unit.active in {ActiveState.INACTIVE, ActiveState.FAILED}:
        return f"not running; {file}"
    return f"{unit.active.value}; {file}"


def _live_sentence(picture: Picture, plan: Plan) -> str:
    if picture.info is None:
        return f"running, but it does not answer on {SOCKET}"
    if plan.file_actions:
        return "live; the file is to be put right"
    seconds = picture.now.unix_seconds - picture.memory.restarted_at
    if seconds < _RECENT_SECONDS and picture.memory.restarted_at <= picture.unit.started_at:
        return f"live since its restart {_ago(seconds)}"
    return "the running daemon has it, nothing to reload"


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


# --- the registries ----------------------------------------------------------------------------------------------


def _concerns(registry: Registry) -> bool:
    return bool(registry.mirrors) or registry.name == DOCKER_HUB or is_insecure(registry)


def _row(desired: DesiredState, registry: Registry, picture: Picture, plan: Plan) -> RegistryReport:
    path, info = desired.docker.daemon_json, picture.info
    if file := picture.certs.file_of(registry.name):
        notes = (*_shadowing(desired, registry), *picture.certs.notes_of(registry.name))
        live = None if info is None else not plan.state_of(registry.name, file)
        return RegistryReport(registry.name, urls_in_order(registry), file, "; ".join(notes), live)
    if registry.name == DOCKER_HUB:
        notes = (*hub_notes(desired), *_hub_version_notes(desired, info), *picture.certs.stray)
        live = info.mirrors == hub_mirrors(desired) if info is not None and hub_mirrors(desired) else None
        return RegistryReport(DOCKER_HUB, (*hub_mirrors(desired), "Docker Hub"), path, "; ".join(notes), live)
    if not is_insecure(registry):
        return _direct(registry, info)
    notes = ("listed as insecure", *((_impossible(registry, info),) if _elsewhere(registry) else ()))
    live = None if info is None else insecure_name(registry.name) in info.insecure
    return RegistryReport(registry.name, (registry.name,), path, "; ".join(notes), live)


def _direct(registry: Registry, info: Info | None) -> RegistryReport:
    """One that Docker asks without a mirror."""
    if _elsewhere(registry):
        return RegistryReport(registry.name, (), "", _impossible(registry, info))
    plain = any(mirror.url.startswith("http://") for mirror in registry.mirrors)
    note = "Docker asks it by https: for http write plain_http: true in place of the mirror" if plain else ""
    return RegistryReport(registry.name, (registry.name,), "", note)


def _elsewhere(registry: Registry) -> tuple[Mirror, ...]:
    """The mirrors that are not the registry itself, which Docker asks in any case."""
    return tuple(each for each in registry.mirrors if each.url.partition("://")[2] != registry.name)


def _shadowing(desired: DesiredState, registry: Registry) -> tuple[str, ...]:
    """Both places name mirrors of Docker Hub: say which one counts."""
    if registry.name != DOCKER_HUB or not hub_mirrors(desired):
        return ()
    return ("this file counts, and registry-mirrors in daemon.json does not",)


def _hub_version_notes(desired: DesiredState, info: Info | None) -> tuple[str, ...]:
    if info is None or not hub_mirrors(desired):
        return ()
    notes = []
    if 0 < info.major < 25:
        notes.append(f"in Docker {info.major} `docker build` takes a change up only at a restart")
    plain = [url for url in hub_mirrors(desired) if url.startswith("http://")]
    if plain and info.containerd_store and info.major < _HTTP_MAJOR:
        notes.append(f"Docker {info.major} asks {plain[0]} by https unless its host is insecure under registries")
    return tuple(notes)


def _impossible(registry: Registry, info: Info | None) -> str:
    """What to do where mirrors for other registries than Docker Hub do not exist."""
    docker = f"Docker {info.major}" if info and info.major else "Docker"
    without = " without the containerd image store" if info and info.major >= _CERTS_D_MAJOR else ""
    return f"not possible in {docker}{without}{_instead(registry)}"


def _instead(registry: Registry) -> str:
    if registry.name == DEFAULT_REGISTRY:
        return ""
    name = next((name for mirror in _elsewhere(registry) if (name := pull_name(mirror))), "")
    return f"; pull {name} instead" if name else ""
