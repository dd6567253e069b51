"""`mirror-agent run`: the daemon."""

from __future__ import annotations

import argparse

from agent.cli import lean
from agent.cli.session import Session

NAME = "run"
SUMMARY = "keep this node converged, for ever (what the service starts)"
DESCRIPTION = """\
Reads the desired state, converges on it, and stays: after an edit, after somebody else's edit of a managed file, after
a runtime was installed or upgraded. SIGHUP makes it look at once, SIGTERM and Ctrl-C end it; everything stays as it is.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(session: Session) -> int:
    """Serve until told to stop."""
    lean.collect_garbage()
    from agent.daemon import Daemon
    from agent.events import Level
    from agent.journal import Journal, line_sender, open_journal
    from agent.libraries import bridge_libraries

    level = Level[session.settings.log_level.upper()]
    if session.settings.color == "auto":
        journal = open_journal(level)
    else:
        journal = Journal(line_sender(2, colour=session.settings.color == "always"), level)
    try:
        bridge_libraries(journal.emit)
        return Daemon(session.places, session.settings.config, journal.emit, journal.hide).run()
    finally:
        journal.close()
