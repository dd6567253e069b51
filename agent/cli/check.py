"""`mirror-agent check`: is the desired state valid? With the very code that `run` uses."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from agent.cli.session import FAILED, FINE, Session
from agent.errors import DesiredStateError, HostError, Problem

if TYPE_CHECKING:
    from agent.model import DesiredState
    from agent.source import Source

NAME = "check"
SUMMARY = "validate the desired state, and warn of what is known to be dead or risky"
DESCRIPTION = """\
Reads FILE (- is standard input; without it the file that `run` reads) and lists every problem at once, each with its
line and what would be right. Warnings do not fail. Nothing is changed. Exit code 0: valid. 1: not.
"""

_STANDARD_INPUT = "-"
_HANDED_OVER = ("/dev/", "/proc/self/fd/")
_READ_AT_MOST = 4 * 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE, if it is not the one in force."""
    parser.add_argument(
        "file", metavar="FILE", nargs="?", default="", help="another file to look at; - is standard input"
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the bytes: a state with warnings, or problems. Without `found` the file itself is unacceptable."""

    found: Source | None
    state: DesiredState | None = None
    warnings: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()


def run(session: Session) -> int:
    """Print what is wrong, or that nothing is."""
    verdict = judge(session)
    if session.json:
        session.write_json(document(verdict))
    elif verdict.found and verdict.state:
        _write_valid(session, verdict.found, verdict.state, verdict.warnings)
    else:
        session.terminal.write(session.rejection(verdict.found, verdict.problems))
    return FINE if verdict.state else FAILED


def judge(session: Session) -> Verdict:
    """Load and lint. Raises HostError if there is nothing to read."""
    from agent import source

    found = None
    try:
        found = _found(session)
        state = source.load(found)
        return Verdict(found, state, source.warnings(found, state, session.host()))
    except DesiredStateError as error:
        return Verdict(found, problems=error.problems)


def _found(session: Session) -> Source:
    from agent.source import Source

    if not session.options.file:
        return session.source(session.host())
    if session.options.file == _STANDARD_INPUT:
        return Source("standard input", _read_standard_input())
    return Source(session.options.file, _read(session.options.file))


def _read_standard_input() -> bytes:
    if sys.stdin is None:
        raise HostError("standard input", "is closed")
    return sys.stdin.buffer.read(_READ_AT_MOST)


def _read(path: str) -> bytes:
    from agent.model import Regular, Unusable
    from agent.node import Places, RealHost

    if path.startswith(_HANDED_OVER):
        return _read_stream(path)
    state = RealHost(Places()).read(os.path.abspath(path))
    if isinstance(state, Regular):
        return state.content
    raise HostError(path, state.reason if isinstance(state, Unusable) else "no such file")


def _read_stream(path: str) -> bytes:
    """What a shell hands over (`/dev/stdin`, `<(…)`): a pipe, which no configuration may be."""
    try:
        with open(path, "rb") as stream:
            return stream.read(_READ_AT_MOST)
    except OSError as error:
        raise HostError(path, str(error.strerror).lower()) from error


def _write_valid(session: Session, found: Source, state: DesiredState, warnings: Sequence[Problem]) -> None:
    from agent.desired import format_problems

    if warnings:
        marked = [replace(warning, message=f"warning: {warning.message}") for warning in warnings]
        session.terminal.write(format_problems(found.path, found.data, marked))
    registries = _count(len(state.registries), "registry", "registries")
    registries += ", so nothing is managed" if state.names_nothing else ""
    remark = f", {_count(len(warnings), 'warning', 'warnings')}" if warnings else ""
    session.terminal.write(f"{found.path} is valid: {state.short_generation}, {registries}{remark}")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def document(verdict: Verdict) -> dict[str, object]:
    """For scripts: whether it is valid, and what is to be said of it."""
    state = verdict.state
    return {
        "valid": state is not None,
        "generation": state.generation if state else "",
        "registries": [registry.name for registry in state.registries] if state else [],
        "problems": [asdict(problem) for problem in verdict.problems],
        "warnings": [asdict(warning) for warning in verdict.warnings],
    }
