"""A file that a daemon reads only when it starts: written on trial, put back if the daemon does not come up with it.

The way of a change. The plan that writes stores first, in Memory, what it writes (`trial`) and what stood there
(`good`, its bytes kept). Then a restart, recorded before it is made (`is_restarting`). Once the unit is up and has read
the trial, all of this is forgotten. If it has failed instead, or says that it cannot use what it read, the trial is
marked `bad`, the bytes of `good` are written back, and a unit that was up before our restart is started again.

Each step is made from what is on disk and what is remembered, never from where a cycle was: killed at any point, the
next plan goes on or goes back. A unit that somebody stopped is left alone: it is judged when somebody starts it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from agent.model import ActiveState, Now, Setting, UnitState
from agent.plan import Act, Deferred, Memory, Recover, Restart

RESTART_INTERVAL_SECONDS = 60.0
_START_DEADLINE_SECONDS = 90.0
"""How long a start that we asked for may take before it counts as failed (agent.converge waits as long)."""
_WAITS_TO_START_AGAIN = frozenset({"auto-restart", "auto-restart-queued"})
_TICK_SECONDS = 0.01
"""The kernel stamps a file up to one tick late, so a file changed "just before" the start may be one changed after."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What is known. `digest` names the content of the file as it is, `facts` what a daemon has that reads it now;
    `content_key` is the name of the digest among Memory.loaded. `rejected` is why a start on this content would go
    wrong, `broken` what is wrong in a daemon that runs on it, each "" for nothing. `may_restart` is what the operator
    allows."""

    name: str
    unit: UnitState
    memory: Memory
    now: Now
    digest: str
    written_at: float | None
    content_key: str
    facts: tuple[Setting, ...] = ()
    rejected: str = ""
    broken: str = ""
    may_restart: bool = True

    @property
    def loaded(self) -> str:
        """The digest of what the running daemon has read, "" if nobody knows."""
        found = {setting.key: setting.json for setting in self.memory.loaded}
        return str(json.loads(found.get(self.content_key) or '""'))

    @property
    def complaint(self) -> str:
        """Why the content cannot stay although the unit runs or is at rest, "" if it can."""
        return self.broken if self.unit.is_up and self.loaded == self.digest else self.rejected

    @property
    def is_failed(self) -> bool:
        """The unit did not come up: for good, or between two attempts, or longer than a start may take."""
        if self.unit.active is ActiveState.FAILED or self.unit.sub_state in _WAITS_TO_START_AGAIN:
            return True
        since = self.now.unix_seconds - self.memory.restarted_at
        hangs = self.unit.active is ActiveState.ACTIVATING and since >= _START_DEADLINE_SECONDS
        return hangs and self.memory.is_restarting


def recall(bench: Bench) -> Bench:
    """The bench with its memory brought up to date with the invocation that runs now."""
    unit, memory = (
        bench.unit,
        replace(bench.memory, restarted_at=min(bench.memory.restarted_at, bench.now.unix_seconds)),
    )
    if unit.is_up and memory.invocation_id != unit.invocation_id:
        loaded = _with_content(bench) if _has_read_it(bench) else ()
        memory = replace(memory, invocation_id=unit.invocation_id, loaded=loaded, is_restarting=False)
    return replace(bench, memory=_settled(replace(bench, memory=memory)))


def setback(bench: Bench) -> str:
    """Why what stood there before must come back; "" if it need not, or if it stands there already."""
    memory = bench.memory
    if not memory.good or bench.digest == memory.good:
        return ""
    if bench.is_failed and (memory.is_restarting or bench.digest == memory.trial):
        return "it did not come up with this"
    return bench.complaint if bench.digest == memory.trial else ""


def attempt(digest: str, generation: str) -> str:
    """The name under which a content that failed is remembered: another desired state may try it again."""
    return f"{digest}@{generation}"


def next_act(bench: Bench, reason: str) -> Act | Deferred | None:
    """What the unit needs so that it has the trial, or is up again without it."""
    memory = bench.memory
    if memory.trial != bench.digest:
        return None
    if is_rollback(memory) and memory.is_restarting and bench.is_failed:
        return Recover(bench.name, "it was up before, and is started again with what it had then", memory)
    if not bench.unit.is_up or bench.loaded == memory.trial:
        return None
    return _restart(bench, reason)


def is_rollback(memory: Memory) -> bool:
    """Whether what is on trial is what stood there before: there is nothing behind it to go back to."""
    return bool(memory.trial) and not memory.good


# --- inside ----------------------------------------------------------------------------------------------------------


def _restart(bench: Bench, reason: str) -> Act | Deferred:
    memory = bench.memory
    restart = Restart(bench.name, reason, memory)
    elapsed = bench.now.unix_seconds - memory.restarted_at
    if not is_rollback(memory):
        if not bench.may_restart:
            return Deferred(restart, "containerd.restart is never: restart it when it suits you", None)
        if elapsed < RESTART_INTERVAL_SECONDS:
            again = RESTART_INTERVAL_SECONDS - elapsed
            return Deferred(restart, "the last restart was less than a minute ago", again)
    return replace(restart, before=replace(memory, is_restarting=True, restarted_at=bench.now.unix_seconds))


def _with_content(bench: Bench) -> tuple[Setting, ...]:
    return (Setting(bench.content_key, json.dumps(bench.digest)), *bench.facts)


def _has_read_it(bench: Bench) -> bool:
    """Whether the invocation that runs now has read the file as it is. After a restart of ours that is certain;
    else a content written before the start is one that was read."""
    if bench.memory.is_restarting and bench.digest == bench.memory.trial:
        return True
    return bench.written_at is None or bench.written_at < bench.unit.started_at - _TICK_SECONDS


def _settled(bench: Bench) -> Memory:
    """The memory without what is over: a trial that the daemon has come up with; one that has been put back is a trial
    of what stood there before."""
    memory = bench.memory
    if memory.good and bench.digest == memory.good and memory.bad.startswith(f"{memory.trial}@"):
        memory = replace(memory, trial=memory.good, good="", expects="")
    is_up = bench.unit.is_up and memory.trial != "" and bench.loaded == bench.digest == memory.trial
    if is_up and (is_rollback(memory) or not bench.complaint):
        memory = replace(memory, trial="", good="", expects="", is_restarting=False)
    return memory
