"""Runtimes take turns: a round of each side by side, and what all of them write is written at once."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import repeat
from typing import Protocol

from agent.host import Host
from agent.plan import WriteFile

MAX_ROUNDS = 12
"""Rounds of observe, plan, apply in one cycle. A change takes two, the removal of a mirror three, a busy second writer
more; whoever needs twelve fights with somebody, and the next cycle goes on."""

Results = Sequence[Exception | None]
Turn = Generator[list[WriteFile], Results | None, bool]
"""One round of one runtime: it gives the files to be written, is told what became of each, and returns whether another
round can help."""


class Cycle(Protocol):
    """One runtime in one cycle."""

    def turn(self, *, acts: bool) -> Turn:
        """A round of it."""
        ...


def run(cycles: Sequence[Cycle], host: Host, *, acts: bool) -> None:
    """Go round until there is nothing left to do, something fails, or the rounds are used up."""
    for _ in range(MAX_ROUNDS):
        cycles = _in_step(cycles, host, acts=acts)


def _in_step(cycles: Sequence[Cycle], host: Host, *, acts: bool) -> list[Cycle]:
    """One round of each runtime; what all of them write is written at once, for it is the disk that an edit waits for.
    Returns those that another round can help."""
    turns = [cycle.turn(acts=acts) for cycle in cycles]
    reached = [_advanced(turn, None) for turn in turns]
    results = _written([write for writes in reached if isinstance(writes, list) for write in writes], host)
    ends = [
        _advanced(turn, [next(results) for _ in writes]) if isinstance(writes, list) else writes
        for turn, writes in zip(turns, reached, strict=True)
    ]
    return [cycle for cycle, end in zip(cycles, ends, strict=True) if end is True]


def _advanced(turn: Turn, results: Results | None) -> list[WriteFile] | bool:
    """The files that it gives to be written, or what it ended with."""
    try:
        return turn.send(results)
    except StopIteration as end:
        return bool(end.value)


def _written(writes: list[WriteFile], host: Host) -> Iterator[Exception | None]:
    """What became of each; a bug becomes the result of all of them."""
    try:
        return iter(host.write_files(writes) if writes else ())
    except Exception as error:  # noqa: BLE001 -- each runtime whose files they are reports it
        return repeat(error)
