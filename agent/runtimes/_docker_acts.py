"""Reload, restart, or wait: what makes a running dockerd have what its file says.

The way of a reload. The plan asks for Reload as long as a reloadable key of ours differs from what the daemon runs
with. converge signals, stores Reload.after (Memory.reloaded_at = when), and then looks at observe + plan until no act
is left: `/info` shows the registry lists and a few more keys, and for the rest the reload event since reloaded_at
makes the plan carry a Memory whose `loaded` has the new values. If 20 s pass, converge stores the attempt's name as
Memory.failed_reload; the same attempt is not made again on the same invocation, and what it should have brought is
then up to a restart. A crash anywhere in between leaves a ledger from which the next plan asks for the same.

The way of a restart. At most one per plan, and it stands in for reloads. What forbids it now makes it Deferred, while
the reloadable part goes ahead. The plan that confirms a reload asks for no restart: its Memory is stored first.
A restart that cannot help (the daemon has read this very file and says otherwise) is a Conflict, never a loop.

Where the file is on trial (_docker_trial), a reload that dockerd refused and a start that brought something else are
a Fault instead: what stood there before comes back.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from enum import Enum

from agent.model import ActiveState, DockerSettings, Now, OnChange, RestartIf, RestartWindow, UnitState, UnitTies
from agent.plan import Act, Conflict, Deferred, Memory, Plan, Reload, Restart
from agent.runtimes._docker_fate import Fate
from agent.runtimes._docker_info import SOCKET
from agent.runtimes._docker_memory import WAIT_SECONDS
from agent.runtimes._docker_reload import INSECURE, LIVE_RESTORE, Running, names_of, takes_reload
from agent.runtimes._docker_toll import Toll
from agent.runtimes._trial import noted, wait_of

UNIT = "docker.service"
_RETRY_SECONDS = 10.0
_IDLE_RETRY_SECONDS = 60.0
_STORES = frozenset({"storage-driver", "data-root"})


@dataclass(frozen=True, slots=True)
class Situation:
    """One daemon that is up, and the policy. `memory` is what the next Memory starts from; `just_confirmed` says that
    this plan confirms a reload; `file_is_news` that the daemon may not have read the file as it is;
    `loses_authorization` that a SIGHUP would switch off a plugin that a flag of dockerd names; `started_with_file` that
    it has started with the file as it is; `is_undoable` that the file is on trial, `digest` names it; `toll` is what a
    restart costs, None if nobody knows, `ties` what it takes along, and `spares_containers` that these run on."""

    policy: DockerSettings
    running: Running
    memory: Memory
    now: Now
    just_confirmed: bool = False
    file_is_news: bool = False
    loses_authorization: bool = False
    started_with_file: bool = True
    is_undoable: bool = False
    digest: str = ""
    toll: Toll | None = None
    ties: UnitTies = UnitTies()  # noqa: RUF009 -- frozen
    spares_containers: bool = False


@dataclass(frozen=True, slots=True)
class Acts:
    """The part of a Plan that is about the running daemon."""

    acts: tuple[Act, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    fault: Fault | None = None


class Fault(Enum):
    """Why what is on trial has to be undone, as the beginning of a sentence that goes on with what failed."""

    START = "Docker did not come up with"
    RELOAD = "Docker did not take a reload with"
    LIE = "Docker came up without"
    SILENCE = "Docker runs, but does not answer, with"


def decide(fates: tuple[Fate, ...], situation: Situation) -> Acts:
    """What to do about the keys that the running daemon does not have as the file says."""
    differing = tuple(fate for fate in fates if not fate.is_loaded(situation.running))
    attempt = attempt_of(fates, situation.memory.invocation_id)
    if not differing:
        return Acts()
    if situation.running.info is None:
        return _unanswered(differing, attempt, situation)
    if situation.is_undoable and situation.started_with_file and any(_has_read(each, situation) for each in differing):
        return Acts(fault=Fault.LIE)
    return _chosen(differing, attempt, situation)


def _chosen(differing: tuple[Fate, ...], attempt: str, situation: Situation) -> Acts:
    """Reload, restart, wait, or undo."""
    by_reload = tuple(fate for fate in differing if _may_reload(fate, attempt, situation))
    rest = tuple(fate for fate in differing if fate not in by_reload)
    by_restart = tuple(fate for fate in rest if _restart_helps(fate, attempt, situation))
    if situation.is_undoable and (fault := _fault(rest, by_restart, attempt, situation)):
        return Acts(fault=fault)
    conflicts = tuple(_stuck(fate, situation) for fate in rest if fate not in by_restart)
    reload = (_reload(by_reload, attempt, situation),) if by_reload else ()
    if not by_restart or situation.just_confirmed or _turns_live_restore_on(by_reload, situation):
        return Acts(reload, (), conflicts)
    restart = _restart(by_restart, situation)
    if found := obstacle(situation):
        return Acts(reload, (Deferred(restart, *found),), conflicts)
    before = replace(noted(situation.memory, situation.now), trial=situation.memory.trial or situation.digest)
    return Acts((replace(restart, before=before),), (), conflicts)


def wants_restart(plan: Plan) -> bool:
    """Whether a restart is in the plan, now or later."""
    return any(isinstance(act, Restart) for act in (*plan.acts, *(deferred.act for deferred in plan.deferred)))


def wait_for_reload(fates: tuple[Fate, ...], unit: UnitState, memory: Memory, now: Now) -> tuple[Act, ...]:
    """While the daemon is busy because we told it to reload (systemd's state then is `reloading`, from Docker 29.3 on;
    or it has ended over it and is started again), the plan goes on asking for it: nothing is confirmed yet."""
    busy = unit.active not in {ActiveState.INACTIVE, ActiveState.FAILED, ActiveState.OFF}
    if not (memory.reloaded_at > 0 and busy and now.unix_seconds - memory.reloaded_at <= WAIT_SECONDS):
        return ()
    after = replace(memory, reloaded_at=now.unix_seconds)
    return (Reload(UNIT, "the reload is not finished", attempt_of(fates, memory.invocation_id), after),)


def attempt_of(fates: tuple[Fate, ...], invocation_id: str) -> str:
    """A name for "this daemon shall load these values", the same for as long as that is what is wanted."""
    values = [(fate.key, sorted(fate.must), sorted(fate.must_not), _whole_value(fate)) for fate in fates]
    return hashlib.sha256(json.dumps([invocation_id, values]).encode()).hexdigest()[:16]


def _whole_value(fate: Fate) -> str | None:
    """What others add to a set is not part of the attempt."""
    return None if fate.key == INSECURE else fate.value


def _unanswered(differing: tuple[Fate, ...], attempt: str, situation: Situation) -> Acts:
    """Docker is up and silent: nothing could be confirmed, so nothing is done. An act that is under way stays asked
    for, for silence does not confirm it."""
    reload = _reload(differing, attempt, situation)
    if situation.memory.reloaded_at:
        return Acts((reload,))
    quiet = replace(reload, after=situation.memory)
    return Acts((), (Deferred(quiet, f"Docker runs but does not answer on {SOCKET}", _RETRY_SECONDS),))


# --- reload ------------------------------------------------------------------------------------------------------


def _may_reload(fate: Fate, attempt: str, situation: Situation) -> bool:
    if situation.policy.on_change is OnChange.RESTART or situation.loses_authorization:
        return False
    if situation.memory.failed_reload == attempt:
        return False
    return takes_reload(fate.key, situation.running.value(fate.key), fate.value)


def _reload(fates: tuple[Fate, ...], attempt: str, situation: Situation) -> Reload:
    reason = "; ".join(fate.difference(situation.running) for fate in fates)
    after = replace(situation.memory, reloaded_at=situation.now.unix_seconds, failed_reload="")
    return Reload(UNIT, reason, attempt, after)


def _turns_live_restore_on(fates: tuple[Fate, ...], situation: Situation) -> bool:
    """A reload first, so that the containers survive the restart that comes after it. Not in a swarm, which Docker
    does not combine with live-restore."""
    info = situation.running.info
    wanted = any(fate.key == LIVE_RESTORE and fate.value == "true" for fate in fates)
    return wanted and info is not None and not info.in_swarm


# --- restart -----------------------------------------------------------------------------------------------------


def _restart_helps(fate: Fate, attempt: str, situation: Situation) -> bool:
    """A daemon that has read it, and runs with something else, may have it after a start, if it was a reload that made
    it read it (moby 23.0.0 to 23.0.6 and 24.0.0 lose insecure registries so)."""
    if situation.file_is_news or not _has_read(fate, situation):
        return True
    return situation.memory.failed_reload == attempt and not situation.started_with_file


def _has_read(fate: Fate, situation: Situation) -> bool:
    return fate.is_loaded(Running(None, situation.running.loaded))


def _fault(rest: tuple[Fate, ...], by_restart: tuple[Fate, ...], attempt: str, situation: Situation) -> Fault | None:
    """What is wrong with a daemon that is up. A reload that made no event is one that dockerd refused: it would refuse
    the file at a start as well, and is not restarted with it."""
    if len(by_restart) < len(rest):
        return Fault.LIE
    running = situation.running
    reloadable = [fate for fate in rest if takes_reload(fate.key, running.value(fate.key), fate.value)]
    is_refused = any(not _has_read(fate, situation) for fate in reloadable)
    return Fault.RELOAD if situation.memory.failed_reload == attempt and is_refused else None


def _stuck(fate: Fate, situation: Situation) -> Conflict:
    reason = f"Docker has read {fate.key} from this file and runs with something else"
    advice = "look for a flag in `systemctl cat docker` and for errors in `journalctl -u docker`"
    return Conflict(situation.policy.daemon_json, f"{reason}: {advice}")


def _restart(fates: tuple[Fate, ...], situation: Situation) -> Restart:
    """`before` without a time, so that a deferred restart is the same in every plan."""
    reason = "; ".join([_why(fates, situation), *_losses(fates), cost_of(situation)])
    return Restart(UNIT, reason, situation.memory, situation.toll.sentence if situation.toll else "")


def _losses(fates: tuple[Fate, ...]) -> list[str]:
    """What is out of sight after a restart with another store."""
    keys = [fate.key for fate in fates if fate.key in _STORES]
    return (
        [f"images and containers under the old {names_of(keys)} are out of Docker's sight afterwards"] if keys else []
    )


def _why(fates: tuple[Fate, ...], situation: Situation) -> str:
    names = names_of(fate.key for fate in fates)
    running = situation.running
    reloadable = all(takes_reload(fate.key, running.value(fate.key), fate.value) for fate in fates)
    if not reloadable:
        return f"{names}: Docker takes the change only at a restart"
    if situation.loses_authorization:
        return f"{names}: a reload would switch off the authorization plugin that a flag of dockerd names"
    if situation.policy.on_change is OnChange.RESTART:
        return f"{names}: docker.on_change is restart"
    return f"{names}: the reload did not take"


def cost_of(situation: Situation) -> str:
    """What a restart means for containers, in words."""
    return "; ".join([_cost_in_containers(situation), *_cost_in_units(situation)])


def _cost_in_containers(situation: Situation) -> str:
    if situation.spares_containers:
        return "containers keep running (live-restore)"
    info, mode = situation.running.info, situation.ties.kill_mode
    stops = "containers stop, and those with a restart policy come back"
    if info is None or not info.live_restore:
        return stops
    return f"live-restore is on, but {UNIT} has KillMode={mode or '?'}, with which containers may stop all the same"


def _cost_in_units(situation: Situation) -> list[str]:
    """What systemd restarts along with it."""
    units = situation.ties.bound_units
    return [f"{names_of(units)} {'is' if len(units) == 1 else 'are'} restarted with it"] if units else []


def obstacle(situation: Situation) -> tuple[str, float | None] | None:
    """Why there must be no restart now, and when to ask again (None: somebody has to change something)."""
    if situation.policy.on_change is OnChange.RELOAD:
        return ("docker.on_change is reload: restart Docker when it suits you", None)
    said, seconds = wait_of(situation.memory, situation.now)
    if said:
        return (said, seconds)
    window = situation.policy.restart_window
    if window is not None and (seconds := seconds_until(window, situation.now)):
        return (f"it waits for the restart window, which opens at {_clock(window.start_minute)}", seconds)
    return _container_obstacle(situation)


def _container_obstacle(situation: Situation) -> tuple[str, float | None] | None:
    info, restart_if = situation.running.info, situation.policy.restart_if
    if restart_if is RestartIf.ALWAYS or info is None or situation.spares_containers:
        return None
    if restart_if is RestartIf.LIVE_RESTORE and info.live_restore:
        return (f"docker.restart_if is live-restore, and with the KillMode of {UNIT} containers may not survive", None)
    if restart_if is RestartIf.LIVE_RESTORE:
        return ("docker.restart_if is live-restore, and live-restore is off in the running Docker", None)
    if situation.toll is not None:
        wait = ("docker.restart_if is idle, and containers would end for good", _IDLE_RETRY_SECONDS)
        return None if situation.toll.is_free else wait
    if info.running_containers:
        return ("docker.restart_if is idle, and containers run", _IDLE_RETRY_SECONDS)
    return None


def seconds_until(window: RestartWindow, now: Now) -> float:
    """Seconds until the window opens, 0.0 while it is open. The local clock is known to the minute."""
    start, end = window.start_minute, window.end_minute
    span, since_start = (end - start) % 1440, (now.local_minute - start) % 1440
    if since_start < span:
        return 0.0
    return (1440 - since_start) * 60.0 - now.unix_seconds % 60.0


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
