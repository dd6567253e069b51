"""Reload, restart, or wait: what makes a running dockerd have what its file says.

The way of a reload. The plan asks for Reload as long as a reloadable key of ours differs from what the daemon runs
with. converge signals, stores Reload.after (Memory.reloaded_at = when), and then looks at observe + plan until no act
is left: `/info` shows the registry lists and a few more keys, and for the rest the reload event since reloaded_at
makes the plan carry a Memory whose `loaded` has the new values. If 10 s pass, converge stores the attempt's name as
Memory.failed_reload; the same attempt is not made again on the same invocation, and what it should have brought is
then up to a restart. A crash anywhere in between leaves a ledger from which the next plan asks for the same.

The way of a restart. At most one per plan, and it stands in for reloads. What forbids it now makes it Deferred, while
the reloadable part goes ahead. The plan that confirms a reload asks for no restart: its Memory is stored first.
A restart that cannot help (the daemon has read this very file and says otherwise) is a Conflict, never a loop.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from agent.model import ActiveState, DockerSettings, Now, OnChange, RestartIf, RestartWindow, UnitState
from agent.plan import Act, Conflict, Deferred, Memory, Reload, Restart
from agent.runtimes._docker_fate import Fate
from agent.runtimes._docker_info import SOCKET
from agent.runtimes._docker_memory import WAIT_SECONDS
from agent.runtimes._docker_reload import INSECURE, LIVE_RESTORE, Running, names_of, takes_reload

UNIT = "docker.service"
RESTART_INTERVAL_SECONDS = 60.0
_RETRY_SECONDS = 10.0
_IDLE_RETRY_SECONDS = 60.0
_STORES = frozenset({"storage-driver", "data-root"})


@dataclass(frozen=True, slots=True)
class Situation:
    """One daemon that is up, and the policy. `memory` is what the next Memory starts from; `just_confirmed` says that
    this plan confirms a reload; `file_is_news` that the daemon may not have read the file as it is;
    `loses_authorization` that a SIGHUP would switch off a plugin that a flag of dockerd names."""

    policy: DockerSettings
    running: Running
    memory: Memory
    now: Now
    just_confirmed: bool = False
    file_is_news: bool = False
    loses_authorization: bool = False


@dataclass(frozen=True, slots=True)
class Acts:
    """The part of a Plan that is about the running daemon."""

    acts: tuple[Act, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


def decide(fates: tuple[Fate, ...], situation: Situation) -> Acts:
    """What to do about the keys that the running daemon does not have as the file says."""
    differing = tuple(fate for fate in fates if not fate.is_loaded(situation.running))
    if not differing:
        return Acts()
    attempt = attempt_of(fates, situation.memory.invocation_id)
    if situation.running.info is None:
        return _unanswered(differing, attempt, situation)
    by_reload = tuple(fate for fate in differing if _may_reload(fate, attempt, situation))
    rest = tuple(fate for fate in differing if fate not in by_reload)
    by_restart = tuple(fate for fate in rest if _restart_helps(fate, situation))
    conflicts = tuple(_stuck(fate, situation) for fate in rest if fate not in by_restart)
    reload = (_reload(by_reload, attempt, situation),) if by_reload else ()
    if not by_restart or situation.just_confirmed or _turns_live_restore_on(by_reload, situation):
        return Acts(reload, (), conflicts)
    restart = _restart(by_restart, situation)
    if obstacle := _obstacle(situation):
        return Acts(reload, (Deferred(restart, *obstacle),), conflicts)
    at = situation.now.unix_seconds
    return Acts((replace(restart, before=replace(situation.memory, restarted_at=at)),), (), conflicts)


def wait_for_reload(fates: tuple[Fate, ...], unit: UnitState, memory: Memory, now: Now) -> tuple[Act, ...]:
    """While the daemon is busy reloading because we told it to (systemd's state then is `reloading`, from Docker 29.3
    on), the plan goes on asking for it: nothing is confirmed yet."""
    ours = memory.reloaded_at > 0 and memory.invocation_id == unit.invocation_id
    busy = unit.active in {ActiveState.RELOADING, ActiveState.REFRESHING}
    if not (ours and busy and now.unix_seconds - memory.reloaded_at <= WAIT_SECONDS):
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


def _restart_helps(fate: Fate, situation: Situation) -> bool:
    has_read_it = fate.is_loaded(Running(None, situation.running.loaded))
    return situation.file_is_news or not has_read_it


def _stuck(fate: Fate, situation: Situation) -> Conflict:
    reason = f"Docker has read {fate.key} from this file and runs with something else"
    advice = "look for a flag in `systemctl cat docker` and for errors in `journalctl -u docker`"
    return Conflict(situation.policy.daemon_json, f"{reason}: {advice}")


def _restart(fates: tuple[Fate, ...], situation: Situation) -> Restart:
    """`before` without a time, so that a deferred restart is the same in every plan."""
    return Restart(UNIT, "; ".join([_why(fates, situation), *_losses(fates), _cost(situation)]), situation.memory)


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


def _cost(situation: Situation) -> str:
    info = situation.running.info
    if info is not None and info.live_restore:
        return "containers keep running (live-restore)"
    return "containers stop, and those with a restart policy come back"


def _obstacle(situation: Situation) -> tuple[str, float | None] | None:
    """Why there must be no restart now, and when to ask again (None: somebody has to change something)."""
    if situation.policy.on_change is OnChange.RELOAD:
        return ("docker.on_change is reload: restart Docker when it suits you", None)
    elapsed = situation.now.unix_seconds - situation.memory.restarted_at
    if elapsed < RESTART_INTERVAL_SECONDS:
        return ("the last restart was less than a minute ago", RESTART_INTERVAL_SECONDS - elapsed)
    window = situation.policy.restart_window
    if window is not None and (seconds := seconds_until(window, situation.now)):
        return (f"it waits for the restart window, which opens at {_clock(window.start_minute)}", seconds)
    return _container_obstacle(situation)


def _container_obstacle(situation: Situation) -> tuple[str, float | None] | None:
    info, restart_if = situation.running.info, situation.policy.restart_if
    if restart_if is RestartIf.ALWAYS or info is None or info.live_restore:
        return None
    if restart_if is RestartIf.LIVE_RESTORE:
        return ("docker.restart_if is live-restore, and live-restore is off in the running Docker", None)
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
