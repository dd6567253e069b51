"""`mirror-agent plan`: what would change, and why. Touches nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agent.cli.session import FINE, NOT_LIVE, Session
from agent.cli.terminal import Paint, plain

if TYPE_CHECKING:
    from agent.model import DesiredState
    from agent.node import RealHost
    from agent.plan import Plan

NAME = "plan"
SUMMARY = "show what would change and why, as diffs; touches nothing"
DESCRIPTION = """\
Prints, per runtime and in order, what `apply` would do: each step with its reason, each file as a unified diff, the
reloads and restarts that would follow, and what it refuses to do. Secrets are shown as ***.
Exit code 0: nothing to do. 3: something is pending, or in conflict.
"""

_STYLE_OF_LINE = {"+": "good", "-": "bad", "@": "place"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(session: Session) -> int:
    """Print the plans of all runtimes."""
    host = session.host()
    desired = session.desired_state(host)
    plans = session.plans(desired, host)
    waiting = tuple(_left_waiting(desired, host))
    if session.json:
        from agent import describe

        documents = [describe.document(plan) for plan in plans]
        document = {"generation": desired.generation, "plans": documents, "left": list(waiting)}
        session.write_json({**document, "failover": _failovers(desired)})
    else:
        for line in waiting:
            session.terminal.write(plain(line))
        session.terminal.write("".join(text(plans, session.terminal.paint)))
        for each in _failovers(desired):
            session.terminal.write(plain(f"failover: {each['registry']}: {each['sentence']}") + "\n")
        session.terminal.write(f"{_summary(plans, session.settings.config)}\n")
    return FINE if all(plan.changes_nothing for plan in plans) else NOT_LIVE


def _left_waiting(desired: DesiredState, host: RealHost) -> Iterator[str]:
    """What we own for a runtime that is gone. Without the runtime it does nothing, and it is right when that is back;
    what was never ours to install is not ours to clear away."""
    from agent import converge

    for report in converge.reports(desired, host):
        owned = [entry.path for entry in host.ledger().owned_by(report.name)]
        if owned and not report.installed and not report.registries:
            why = "it is not installed any more, so what was written for it stays as it is, for when it is back"
            yield f"{report.name}: {why}: {', '.join(owned)}"


def _failovers(desired: DesiredState) -> list[dict[str, str]]:
    """Why files differ from what the desired state says of a registry's mirrors."""
    return [{"registry": r.name, "sentence": r.difference} for r in desired.registries if r.difference]


def text(plans: Sequence[Plan], paint: Paint) -> Iterator[str]:
    """Each step on its line with the runtime's name in front, and its diff below it."""
    from agent import describe

    for plan in plans:
        for line, diff in describe.lines_with_diffs(plan):
            yield paint("strong", plain(f"{plan.runtime}: {line}")) + "\n"
            yield from (_painted(shown, paint) for shown in diff.splitlines(keepends=True))


def _painted(line: str, paint: Paint) -> str:
    style = _STYLE_OF_LINE.get(line[:1])
    shown = plain(line.removesuffix("\n"))
    return (paint(style, shown) if style else shown) + "\n"


def _summary(plans: Sequence[Plan], config: str) -> str:
    files = sum(len(plan.file_actions) for plan in plans)
    acts = sum(len(plan.acts) for plan in plans)
    waiting = sum(len(plan.deferred) for plan in plans)
    conflicts = sum(len(plan.conflicts) for plan in plans)
    if all(plan.is_empty for plan in plans):
        return f"Nothing to do: everything is as {config} wants it."
    if all(plan.changes_nothing for plan in plans):
        return f"Nothing to change: everything is as {config} wants it; the ledger notes what belongs to it."
    parts = [f"{count} {noun}" for count, noun in _counted(files, acts, waiting, conflicts) if count]
    advice = "; mirror-agent apply does it" if files or acts else ""
    return f"{', '.join(parts)}. Nothing was touched{advice}."


def _counted(files: int, acts: int, waiting: int, conflicts: int) -> Iterator[tuple[int, str]]:
    yield files, "change of a file" if files == 1 else "changes of files"
    yield acts, "act on a runtime" if acts == 1 else "acts on runtimes"
    yield waiting, "act that waits" if waiting == 1 else "acts that wait"
    yield conflicts, "conflict for you to resolve" if conflicts == 1 else "conflicts for you to resolve"
