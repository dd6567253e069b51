"""What a running dockerd has read, as far as /info does not say it: kept in the ledger's Memory, for one invocation.

At the first sight of an invocation the file tells it, if it has not changed since the daemon started; else every value
is UNKNOWN, which costs an act that may not have been needed and never leaves a wrong value unnoticed. From then on it
changes by reloads of ours alone, each confirmed by a reload event: the log and the exit code prove nothing (moby
daemon/command/daemon.go @ 28 logs "Reloaded configuration" after a failed one, too).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from agent.model import Now, UnitState
from agent.plan import Memory
from agent.runtimes._docker_reload import UNKNOWN, after_reload, settings_of
from agent.runtimes._json_text import same

WAIT_SECONDS = 25.0
"""How long after a SIGHUP its event is looked for without asking whether the file has changed since."""

_TICK_SECONDS = 0.01
"""The kernel stamps a file up to one tick late, so a file changed "just before" the start may be one changed after."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about a daemon that is up. `file` are the values of its daemon.json now; `changed_at` is when that
    last changed or went (None: there is not even a directory); `reloads` are the daemon's reloads since we told it to
    reload. Times are Unix seconds. `digest` names the file's content; `tried` are the values of the one on trial, None
    if it is not at hand.
    """

    unit: UnitState
    memory: Memory
    file: Mapping[str, str]
    changed_at: float | None
    reloads: tuple[float, ...]
    now: Now
    digest: str = ""
    tried: Mapping[str, str] | None = None


def recall(evidence: Evidence, keys: Iterable[str]) -> Memory:
    """The memory brought up to date; `keys` are those that must be known or said to be unknown."""
    memory = evidence.memory
    if memory.invocation_id != evidence.unit.invocation_id:
        return _first_sight(evidence, keys)
    if memory.reloaded_at and any(at >= _since(evidence) for at in evidence.reloads):
        return reloaded(evidence, memory)
    return replace(memory, restarted_at=_restarted_at(evidence))


def reloaded(evidence: Evidence, memory: Memory) -> Memory:
    """The memory after a reload that is confirmed."""
    before = {setting.key: setting.json for setting in memory.loaded}
    loaded = settings_of(after_reload(before, evidence.file))
    return replace(memory, loaded=loaded, reloaded_at=0.0, failed_reload="", restarted_at=_restarted_at(evidence))


def to_store(evidence: Evidence, memory: Memory) -> Memory | None:
    """What the ledger must be told, None if it knows."""
    if memory == evidence.memory:
        return None
    return replace(memory, file_changed_at=evidence.changed_at or 0.0)


def file_is_news(evidence: Evidence, memory: Memory) -> bool:
    """Whether the daemon may not have read the file as it is, so that a restart could bring something."""
    changed_at = evidence.changed_at
    if changed_at is None or changed_at == memory.file_changed_at:
        return False
    return not _started_after(evidence.unit, changed_at)


def _first_sight(evidence: Evidence, keys: Iterable[str]) -> Memory:
    loaded = evidence.file if _has_read_the_file(evidence) else _perhaps_read(evidence, keys)
    return replace(
        evidence.memory,
        invocation_id=evidence.unit.invocation_id,
        loaded=settings_of(loaded),
        reloaded_at=0.0,
        failed_reload="",
        restarted_at=_restarted_at(evidence),
        file_changed_at=evidence.changed_at or 0.0,
        is_restarting=False,
        is_recovering=False,
        awaits_order=False,
        our_invocation=evidence.unit.invocation_id if evidence.memory.is_restarting else "",
    )


def _perhaps_read(evidence: Evidence, keys: Iterable[str]) -> Mapping[str, str]:
    """What a daemon has that started about when the file changed. If the start was ours, it has read what was on trial
    or what stands there now, and knows each value in which the two agree."""
    tried = evidence.tried if evidence.memory.is_restarting else None
    if tried is None:
        return dict.fromkeys((*keys, *evidence.file), UNKNOWN)
    file, either = evidence.file, dict.fromkeys((*evidence.file, *tried))
    return {key: file.get(key, UNKNOWN) if same(file.get(key), tried.get(key)) else UNKNOWN for key in either}


def _has_read_the_file(evidence: Evidence) -> bool:
    changed_at, memory = evidence.changed_at, evidence.memory
    if changed_at is None or changed_at == memory.file_changed_at:
        return True
    if memory.is_restarting and evidence.digest == memory.trial:
        return True
    return _started_after(evidence.unit, changed_at)


def started_with_file(evidence: Evidence) -> bool:
    """Whether the file is older than the daemon, beyond doubt."""
    return evidence.changed_at is None or _started_after(evidence.unit, evidence.changed_at)


def _started_after(unit: UnitState, moment: float) -> bool:
    return moment < unit.started_at - _TICK_SECONDS


def _since(evidence: Evidence) -> float:
    """From when on a reload event says that the file as it is was read."""
    reloaded_at = evidence.memory.reloaded_at
    if 0 <= evidence.now.unix_seconds - reloaded_at <= WAIT_SECONDS:
        return reloaded_at
    return max(reloaded_at, evidence.changed_at or reloaded_at)


def _restarted_at(evidence: Evidence) -> float:
    """A clock that was put back must not keep restarts away for hours."""
    return min(evidence.memory.restarted_at, evidence.now.unix_seconds)
