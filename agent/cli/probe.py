"""`mirror-agent probe`: what mirror-agent-probe.service runs, now and then and when the daemon asks for it."""

from __future__ import annotations

import argparse
import os

from agent.cli.session import FINE, Session
from agent.errors import MirrorAgentError
from agent.settings import Settings

NAME = "probe"
SUMMARY = "probe the mirrors that are due (what mirror-agent-probe.service runs)"
DESCRIPTION = """\
Tries the mirrors that the daemon wants to know about (health in the desired state), one after the other and far below
any rate limit, and leaves the verdicts for the daemon to read. It ends at once where nothing is due. The service runs
it as a user of its own, who may do nothing else; root refuses. To try mirrors by hand: mirror-agent mirrors --probe.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(session: Session) -> int:
    """Probe what is due. Raises MirrorAgentError; what was found until then is written."""
    _refuse_root(session.settings)
    path = f"{session.run_directory}/targets.json"
    if not os.path.exists(path):
        return FINE
    from agent.cli.verdicts import Verdicts

    verdicts = Verdicts(session, path)
    verdicts.complain()
    if verdicts.due():
        from agent.cli.rounds import go

        go(session, verdicts)
    return FINE


def _refuse_root(settings: Settings) -> None:
    """Mirrors are strangers: what talks to them must not be root, which it is on a systemd that knows no DynamicUser=
    (before 235). In a place of one's own, an image or a sandbox, everybody may try it."""
    is_the_nodes = settings.root == "/" and settings.run_dir == Settings().run_dir
    if is_the_nodes and os.geteuid() == 0:
        raise MirrorAgentError(
            "probe: root does not talk to mirrors; systemctl start mirror-agent-probe does it as a user of its own"
            " (systemd 235 or later), mirror-agent mirrors --probe tries mirrors by hand"
        )
