"""What a cycle came to: values that the loop, the journal and `status` share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from agent.plan import Act, Conflict, Contention, Deferred


class Outcome(Enum):
    """How one runtime's cycle ended, best first. CONTENDED: somebody else keeps changing a file, which waits. DEGRADED:
    it did not fail, and yet the second plan is not empty."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    CONTENDED = "contended"
    CONFLICT = "conflict"
    DEGRADED = "degraded"
    FAILED = "failed"


_SEVERITY = list(Outcome)


@dataclass(frozen=True, slots=True)
class Tally:
    """What was done, counted; `seconds` of wall time. `undone` are those of the files that were put back because a
    daemon did not come up, or did not run, with what was changed."""

    written: int = 0
    removed: int = 0
    reloads: int = 0
    restarts: int = 0
    seconds: float = 0.0
    undone: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.written + other.written,
            self.removed + other.removed,
            self.reloads + other.reloads,
            self.restarts + other.restarts,
            self.seconds + other.seconds,
            self.undone + other.undone,
        )

    @property
    def is_empty(self) -> bool:
        return not (self.written or self.removed or self.reloads or self.restarts)

    @property
    def brief(self) -> str:
        """`2 files written`: what is not nothing."""
        counts = ((self.written, "file", " written"), (self.removed, "file", " removed"))
        acts = ((self.reloads, "reload", ""), (self.restarts, "restart", ""))
        return ", ".join(_count(n, noun) + verb for n, noun, verb in counts + acts if n) or "nothing to change"

    def __str__(self) -> str:
        """`2 files written, 1 reload, 0 restarts`, as the journal's last line of a cycle says it."""
        parts = [_count(self.written, "file") + " written"]
        if self.removed:
            parts.append(_count(self.removed, "file") + " removed")
        return ", ".join([*parts, _count(self.reloads, "reload"), _count(self.restarts, "restart")])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True, slots=True)
class RuntimeResult:
    """One runtime's part of a cycle. `pending_acts` are wanted and were not allowed yet (settle time, READY first);
    `deferred` are wanted and postponed by policy; `contended_seconds` pass before the next look at what is
    contended."""

    runtime: str
    outcome: Outcome
    tally: Tally = Tally()
    pending_acts: tuple[Act, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    errors: tuple[str, ...] = ()
    stale_namespace: bool = False
    contentions: tuple[Contention, ...] = ()
    contended_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class CycleResult:
    """A whole cycle; `seconds` is wall time."""

    generation: str
    runtimes: tuple[RuntimeResult, ...]
    seconds: float

    @property
    def outcome(self) -> Outcome:
        """The worst of the runtimes' outcomes."""
        return max((result.outcome for result in self.runtimes), key=_SEVERITY.index, default=Outcome.UNCHANGED)

    @property
    def tally(self) -> Tally:
        """What all runtimes did, and how long the cycle took."""
        return sum((result.tally for result in self.runtimes), Tally(seconds=self.seconds))

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Those of all runtimes."""
        return tuple(conflict for result in self.runtimes for conflict in result.conflicts)

    @property
    def acts_are_pending(self) -> bool:
        return any(result.pending_acts for result in self.runtimes)

    @property
    def retry_after_seconds(self) -> float | None:
        """When the earliest deferred act may be tried again, or a contended file; None if no time changes anything."""
        waits = [d.retry_after_seconds for r in self.runtimes for d in r.deferred if d.retry_after_seconds is not None]
        waits += [r.contended_seconds for r in self.runtimes if r.contended_seconds is not None]
        return min(waits, default=None)

    @property
    def contentions(self) -> tuple[Contention, ...]:
        """Those of all runtimes."""
        return tuple(contention for result in self.runtimes for contention in result.contentions)
