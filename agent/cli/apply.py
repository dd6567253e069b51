"""`mirror-agent apply`: one converge, then exit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agent.cli.session import FAILED, FINE, Session
from agent.errors import LockedError

if TYPE_CHECKING:
    from agent.events import Event
    from agent.model import DesiredState, KeptFile
    from agent.node import RealHost
    from agent.outcome import CycleResult

NAME = "apply"
SUMMARY = "converge once, then exit"
DESCRIPTION = """\
Does what `plan` shows: files first, then reloads and restarts as far as the desired state allows them, then looks again
whether the running daemons have it. Exit code 0: converged. 1: something failed or is in conflict.
"""


_OF_AN_ACTION = ("runtime", "action", "path", "registry", "reason")
WHEN_DONE = "; try again when it is done"


@dataclass(frozen=True, slots=True)
class Gap:
    """What `revert` could not give back because nobody knows it any more: the files, a line for each, and why; and the
    kept originals that may be what is missing."""

    paths: tuple[str, ...]
    lines: tuple[str, ...]
    reason: str
    strays: tuple[KeptFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """What there is to tell of a cycle besides its result."""

    events: tuple[Event, ...] = ()
    gap: Gap | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(session: Session) -> int:
    """Converge once. Raises LockedError if the daemon does this already."""
    from agent import converge, runtimes
    from agent.node import locked

    host = session.host()
    desired = session.desired_state(host)
    runtimes.discover()  # imported before the clock of the cycle starts
    events: list[Event] = []
    try:
        with locked(session.places, NAME), session.events(events) as emit:
            for event in host.sweep():
                emit(event)
            result = converge.converge(desired, host, emit, acts=True)
            if _is_fine(result):
                _remember(session, host, desired, result)
    except LockedError as error:
        look = ' and converges by itself; "systemctl reload mirror-agent" makes it look now'
        raise LockedError(f"{error}{look if error.is_daemon else WHEN_DONE}") from error
    return report(session, result, desired.short_generation, Account(tuple(events)))


def _is_fine(result: CycleResult) -> bool:
    from agent.outcome import Outcome

    return result.outcome in {Outcome.UNCHANGED, Outcome.CHANGED}


def _remember(session: Session, host: RealHost, desired: DesiredState, result: CycleResult) -> None:
    """Leave behind what the daemon would: the last good state and a status. Nothing is written if nothing is new."""
    from agent import converge, status
    from agent.store import LAST_GOOD

    data = session.source(host).data
    if host.read_state(LAST_GOOD) != data:
        host.save_state(LAST_GOOD, data)
    known = session.published()
    if known and known.generation == desired.generation and result.tally.is_empty:
        return
    now = host.now().unix_seconds
    current = status.Status(
        outcome=result.outcome.value,
        generation=desired.generation,
        source=desired.source,
        loaded_at=now,
        converged_at=now,
        cause="after mirror-agent apply",
        runtimes=converge.reports(desired, host),
    )
    host.publish(status.FILE, status.encode(current))


def report(session: Session, result: CycleResult, what: str, account: Account) -> int:
    """The end of a cycle: what was refused or waits, and a last line. Returns the exit code."""
    fine, gap = _is_fine(result), account.gap
    if session.json:
        missing = {} if gap is None else _document_of(gap)
        session.write_json({**document(result, account.events), **missing})
    else:
        for line in (*_open_points(result), *_missing_points(gap)):
            session.terminal.write(session.terminal.paint("warn", line))
        word = "converged" if fine else f"not converged ({result.outcome.value})"
        start = f"not everything could be given back; the rest {word}" if gap else word
        done = "nothing to change" if result.tally.is_empty else str(result.tally)
        session.terminal.write(f"{start} {what} in {result.seconds * 1000:.0f} ms: {done}")
    return FINE if fine and gap is None else FAILED


def _document_of(gap: Gap) -> dict[str, object]:
    kept = [asdict(stray) for stray in gap.strays]
    return {"not_given_back": list(gap.paths), "ledger": gap.reason, "strays": kept}


def _missing_points(gap: Gap | None) -> tuple[str, ...]:
    if gap is None:
        return ()
    return (*gap.lines, gap.reason) if gap.reason else gap.lines


def _open_points(result: CycleResult) -> list[str]:
    lines = []
    for part in result.runtimes:
        lines += [f"{part.runtime}: conflict: {c.path}: {c.reason}" for c in part.conflicts]
        lines += [f"{part.runtime}: waits: {d.act.reason}; {d.reason}" for d in part.deferred]
    return lines


def document(result: CycleResult, events: Sequence[Event]) -> dict[str, Any]:
    """A cycle for scripts."""
    done = result.tally
    return {
        "generation": result.generation,
        "outcome": result.outcome.value,
        "seconds": result.seconds,
        "done": {name: getattr(done, name) for name in ("written", "removed", "reloads", "restarts")},
        "actions": [{name: getattr(event, name) for name in _OF_AN_ACTION} for event in events if event.action],
        "runtimes": [
            {
                "runtime": part.runtime,
                "outcome": part.outcome.value,
                "conflicts": [{"path": c.path, "reason": c.reason} for c in part.conflicts],
                "deferred": [{"reason": d.act.reason, "waits": d.reason} for d in part.deferred],
                "errors": list(part.errors),
            }
            for part in result.runtimes
        ],
    }
