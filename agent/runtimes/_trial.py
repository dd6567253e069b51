"""A file that a daemon reads only when it starts: written on trial, put back if the daemon does not come up with it.

The way of a change. The plan that writes stores first, in Memory, what it writes (`trial`) and what stood there
(`good`, its bytes kept). Then a restart, recorded before it is made (`is_restarting`). Once the unit is up and has read
the trial, all of this is forgotten. If it has failed instead, or says that it cannot use what it read, the trial is
marked `bad`, the bytes of `good` are written back, and a unit that was up before our restart is started again.

Each step is made from what is on disk and what is remembered, never from where a cycle was: killed at any point, the
next plan goes on or goes back. A unit that somebody stopped is left alone: it is judged when somebody starts it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from agent.model import Absent, ActiveState, FileState, Now, Regular, Setting, UnitState
from agent.plan import Act, Deferred, Memory, Recover, Restart

ABSENT = "absent"
"""Stands for the content of a file that is not there."""

RESTART_INTERVAL_SECONDS = 60.0
_BUCKET_SECONDS, _BUCKET_SIZE = 600.0, 2
_START_DEADLINE_SECONDS = 90.0
"""How long a start that we asked for may take before it counts as failed (agent.converge waits as long)."""
_LOOK_AGAIN_SECONDS = 2.0
_WAITS_TO_START_AGAIN = frozenset({"auto-restart", "auto-restart-queued"})
_TICK_SECONDS = 0.01
"""The kernel stamps a file up to one tick late, so a file changed "just before" the start may be one changed after."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What is known. `digest` names the content of the file as it is, `facts` what a daemon has that reads it now;
    `content_key` is the name of the digest among Memory.loaded. `rejected` is why a start on this content would go
    wrong, `broken` what is wrong in a daemon that runs on it, each "" for nothing; `unchecked` and `silent` say why
    neither can be told yet. `forbidden` says why no restart may be made, "" if one may, and `asks_again_seconds` after
    which time that may be otherwise. `wants` are the facts that a restart is for, and `serves` tells that the daemon
    is well as it runs: one that has them all needs none."""

    name: str
    unit: UnitState
    memory: Memory
    now: Now
    digest: str
    written_at: float | None
    content_key: str = ""
    facts: tuple[Setting, ...] = ()
    rejected: str = ""
    broken: str = ""
    unchecked: str = ""
    silent: str = ""
    forbidden: str = ""
    asks_again_seconds: float | None = None
    wants: tuple[Setting, ...] = ()
    serves: bool = False

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
    def doubt(self) -> str:
        """Why nobody can tell yet whether there is a complaint, "" if it can be told."""
        return self.silent if self.unit.is_up and self.loaded == self.digest else self.unchecked

    @property
    def knows(self) -> bool:
        """Whether the running daemon has read all that a restart would be for, in whatever file."""
        return self.unit.is_up and bool(self.wants) and set(self.wants) <= set(self.memory.loaded)

    @property
    def needs_no_restart(self) -> bool:
        """Whether the daemon is well on what it has read, which was not the content that had to be put back."""
        is_bad = is_rollback(self.memory) and self.loaded != "" and self.memory.bad.startswith(f"{self.loaded}@")
        return self.knows and self.serves and not is_bad

    @property
    def is_failed(self) -> bool:
        """The unit did not come up: for good, or between two attempts, or, after our restart, in a second attempt or
        longer than a start may take. One that is started with what it had before gets all the time it wants."""
        unit, memory = self.unit, self.memory
        if unit.active is ActiveState.FAILED or unit.sub_state in _WAITS_TO_START_AGAIN:
            return True
        if unit.active is not ActiveState.ACTIVATING or not memory.is_restarting or memory.is_recovering:
            return False
        since = max(unit.starting_since, memory.restarted_at)
        return unit.automatic_restarts > 0 or self.now.unix_seconds - since >= _START_DEADLINE_SECONDS

    @property
    def is_forgotten(self) -> bool:
        """The start that we noted was never ordered: it was to begin with forgetting the failure (reset-failed), after
        which a unit looks like one that somebody has stopped; but it had come to rest before the note. Where nothing
        else refers to the unit, systemd forgets that, too; then our note says it, as long as the machine is up."""
        unit, memory = self.unit, self.memory
        if unit.active is not ActiveState.INACTIVE or unit.has_job:
            return False
        if unit.at_rest_since:
            return unit.at_rest_since < memory.restarted_at
        return memory.awaits_order and memory.restarted_at > self.now.booted_at

    @property
    def is_blamed(self) -> bool:
        """Whether the trial is why the unit is not up: we restarted it, or it was up before and somebody or something
        has started it anew with the trial. A daemon that died as it ran had not read it yet."""
        unit, memory = self.unit, self.memory
        is_new = unit.invocation_id != memory.invocation_id
        return self.is_failed and (memory.is_restarting or (self.digest == memory.trial and is_new))


def digest_of(state: FileState) -> str:
    """The name of a content in Memory; ABSENT for no file, "" for what cannot be read."""
    if isinstance(state, Regular):
        return hashlib.sha256(state.content).hexdigest()
    return ABSENT if isinstance(state, Absent) else ""


def noted(memory: Memory, now: Now) -> Memory:
    """The memory with a restart or start of ours that is about to be made."""
    at = now.unix_seconds
    recent = (each for each in memory.restarts if 0 <= at - each < _BUCKET_SECONDS)
    restarts = (*recent, at)[-_BUCKET_SIZE:]
    return replace(memory, is_restarting=True, restarted_at=at, restarts=restarts, awaits_order=False)


def wait_of(memory: Memory, now: Now) -> tuple[str, float]:
    """Why a restart must wait after those before it, and for how many seconds; 0.0 for not at all. At most one in a
    minute and two in ten: the packaged units take three starts a minute, whoever asks for them. A clock that was put
    back costs no more than that."""
    at = now.unix_seconds
    minute = RESTART_INTERVAL_SECONDS - (at - min(memory.restarted_at, at))
    if minute > 0:
        return "the last restart was less than a minute ago", minute
    recent = sorted(min(each, at) for each in memory.restarts)[-_BUCKET_SIZE:]
    bucket = _BUCKET_SECONDS - (at - recent[0]) if len(recent) == _BUCKET_SIZE else 0.0
    return ("it was restarted twice in the last ten minutes", bucket) if bucket > 0 else ("", 0.0)


def recall(bench: Bench) -> Bench:
    """The bench with its memory brought up to date with the invocation that runs now."""
    unit, memory = (
        bench.unit,
        replace(bench.memory, restarted_at=min(bench.memory.restarted_at, bench.now.unix_seconds)),
    )
    if unit.is_up and memory.invocation_id != unit.invocation_id:
        loaded = _with_content(bench) if _has_read_it(bench) else ()
        memory = replace(memory, invocation_id=unit.invocation_id, loaded=loaded)
        memory = replace(memory, is_restarting=False, is_recovering=False, awaits_order=False)
    return replace(bench, memory=_settled(replace(bench, memory=memory)))


def setback(bench: Bench) -> str:
    """Why what stood there before must come back; "" if it need not, or if it stands there already."""
    memory = bench.memory
    if not memory.good or bench.digest == memory.good:
        return ""
    if bench.is_blamed:
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
    if recovery := recover(bench):
        return recovery
    if not bench.unit.is_up or is_leaving(bench):
        return under_way(bench)
    if bench.doubt and not is_rollback(memory):
        act = Restart(bench.name, "what was changed is on trial", memory)
        return Deferred(act, bench.doubt, _LOOK_AGAIN_SECONDS)
    return None if bench.loaded == memory.trial or bench.needs_no_restart else _restart(bench, reason)


def recover(bench: Bench) -> Recover | Deferred | None:
    """The start of a unit that was up before our restart and has failed since, with what it had then: at once, and
    after one that has failed too as seldom as restarts."""
    memory = bench.memory
    if not (is_rollback(memory) and memory.is_restarting and (bench.is_failed or bench.is_forgotten)):
        return None
    act = Recover(bench.name, "it was up before, and is started again with what it had then", memory)
    reason, seconds = wait_of(memory, bench.now)
    if memory.is_recovering and seconds:
        return Deferred(act, f"it did not come up with what it had before, either; {reason}", seconds)
    return replace(act, before=replace(noted(memory, bench.now), awaits_order=True))


def is_leaving(bench: Bench) -> bool:
    """Whether what runs is about to end by a restart that was ordered before the agent was ended."""
    unit, memory = bench.unit, bench.memory
    return unit.is_up and unit.has_job and memory.is_restarting and memory.invocation_id == unit.invocation_id


def under_way(bench: Bench) -> Deferred | None:
    """The wait for a start that was ordered before the agent was ended: nobody tells when it is over, and a unit that
    fails again must not wait for the next resync."""
    memory = bench.memory
    if not (memory.trial and memory.is_restarting and bench.unit.is_in_motion):
        return None
    act = Restart(bench.name, "the change is loaded by a start that is under way", memory)
    seconds = RESTART_INTERVAL_SECONDS if memory.is_recovering else _LOOK_AGAIN_SECONDS
    is_moving = replace(bench.unit, has_job=False).is_in_motion
    return Deferred(act, f"it is {bench.unit.active.value}" if is_moving else "systemd has it in hand", seconds)


def is_rollback(memory: Memory) -> bool:
    """Whether what is on trial is what stood there before: there is nothing behind it to go back to."""
    return bool(memory.trial) and not memory.good


# --- inside ----------------------------------------------------------------------------------------------------------


def _restart(bench: Bench, reason: str) -> Act | Deferred:
    memory = bench.memory
    restart = Restart(bench.name, reason, memory)
    if not is_rollback(memory):
        if bench.forbidden:
            return Deferred(restart, bench.forbidden, bench.asks_again_seconds)
        why, seconds = wait_of(memory, bench.now)
        if seconds:
            return Deferred(restart, why, seconds)
    return replace(restart, before=noted(memory, bench.now))


def _with_content(bench: Bench) -> tuple[Setting, ...]:
    return (Setting(bench.content_key, json.dumps(bench.digest)), *bench.facts)


def _has_read_it(bench: Bench) -> bool:
    """Whether the invocation that runs now has read the file as it is. After a restart of ours that is certain;
    else a content written before the start is one that was read."""
    if bench.memory.is_restarting and bench.digest == bench.memory.trial:
        return True
    return bench.written_at is None or bench.written_at < bench.unit.started_at - _TICK_SECONDS


def _settled(bench: Bench) -> Memory:
    """The memory without what is over: a trial that the daemon has come up with, or that tells it nothing new; one that
    has been put back is a trial of what stood there before."""
    memory = bench.memory
    if memory.good and bench.digest == memory.good and memory.bad.startswith(f"{memory.trial}@"):
        memory = replace(memory, trial=memory.good, good="", expects="")
    bench = replace(bench, memory=memory)
    has_it = bench.unit.is_up and (bench.loaded == bench.digest or bench.needs_no_restart)
    is_over = has_it and bench.digest == memory.trial != ""
    if is_over and (is_rollback(memory) or not (bench.complaint or bench.doubt)):
        memory = replace(memory, trial="", good="", expects="", is_restarting=False)
    return memory
