"""`mirror-agent import`: the desired state that describes this node as it is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.cli.explain import in_force
from agent.cli.session import FINE, Session
from agent.errors import DesiredStateError

if TYPE_CHECKING:
    from agent.found import Found, FoundRegistry
    from agent.node import RealHost
    from agent.plan import Action, Plan

NAME = "import"
SUMMARY = "print the desired state that describes this node as it is"
DESCRIPTION = """\
Reads what stands on the node, whoever wrote it: hosts.toml files, the mirrors tables of containerd's config.toml,
daemon.json, dockerd's flags, registries.yaml of k3s and RKE2. Prints a desired state with where each thing came from;
what it cannot say stands in a comment, with the reason. Nothing is changed. Its first lines tell what applying it would
change: nothing, where the files are as mirror-agent writes them. Run it as root, who may read everything.

  mirror-agent import > new.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(session: Session) -> int:
    """Print the desired state."""
    host = session.host()
    session.terminal.write(describe_node(session, host))
    return FINE


def describe_node(session: Session, host: RealHost) -> str:
    """The text, with what applying it would change at its head."""
    from agent import adopt, runtimes

    desired = in_force(session)
    founds: list[Found] = []
    known: dict[str, FoundRegistry] = {}
    for runtime in runtimes.discover():
        found = runtime.find(host, desired, tuple(known.values()))
        founds.append(found)
        known |= {each.entry.name: each for each in found.registries if not each.is_silent}
    source = session.settings.config
    return adopt.text(founds, source, _changes(adopt.text(founds, source), source, host))


def _changes(text: str, source: str, host: RealHost) -> Iterator[str]:
    """What `apply` would do with this text: found out, not promised."""
    from agent import converge, desired
    from agent.plan import WriteFile

    plans: tuple[Plan, ...] = ()
    with suppress(DesiredStateError):
        plans = converge.plans(desired.load(text.encode(), source), host)
    steps = [f"{plan.runtime}: {action.reason}" for plan in plans for action in _shown(plan)]
    steps += [f"{plan.runtime}: {each.path}: {each.reason}" for plan in plans for each in plan.conflicts]
    if not steps:
        yield "Applying it changes no file and restarts nothing."
        return
    yield "Applying it would change:"
    yield from (f"- {step}" for step in steps)
    if any(isinstance(action, WriteFile) for plan in plans for action in plan.actions):
        yield (
            "A file by somebody else is rewritten as mirror-agent lays it out; where no comment below says otherwise "
            "it means the same. dial_timeout: 30s is containerd's own default; without it mirror-agent writes 3s."
        )


def _shown(plan: Plan) -> Iterator[Action]:
    """Everything but directories, which are made for the files."""
    from agent.plan import MakeDirectory, RemoveDirectory

    return (action for action in plan.actions if not isinstance(action, MakeDirectory | RemoveDirectory))
