"""`mirror-agent revert`: gives everything back as it stood before the agent came."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.cli.session import Session
from agent.errors import DesiredStateError, HostError, LockedError

if TYPE_CHECKING:
    from agent.cli.apply import Gap
    from agent.events import Event
    from agent.model import DesiredState, KeptFile
    from agent.node import RealHost

NAME = "revert"
SUMMARY = "give everything back as it stood before mirror-agent came"
DESCRIPTION = """\
Puts back what the ledger says stood there before, removes what mirror-agent made, and lets the runtimes load it.
Foreign files and keys are not touched. Asks nothing. The desired state stays where it is: as long as the service is
enabled, its next start converges on it again (systemctl disable mirror-agent).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(session: Session) -> int:
    """Give everything back. Raises LockedError while the daemon is there to undo it at once."""
    from agent import converge
    from agent.cli.apply import WHEN_DONE, Account, report
    from agent.node import locked

    events: list[Event] = []
    try:
        with locked(session.places, NAME), session.events(events) as emit:
            host = session.host()
            host.sweep()
            doubtful = tuple(path for path, entry in sorted(host.ledger().entries.items()) if entry.is_doubtful)
            result = converge.revert(_last_desired_state(session, host), host, emit)
            _forget(host)
    except LockedError as error:
        stop = " and would undo it; first run: systemctl stop mirror-agent"
        raise LockedError(f"{error}{stop if error.is_daemon else WHEN_DONE}") from error
    account = Account(tuple(events), _gap(host, doubtful))
    return report(session, result, "on what stood here before mirror-agent", account)


def _gap(host: RealHost, doubtful: tuple[str, ...]) -> Gap | None:
    """What could not be given back, because nobody knows it any more."""
    from agent.cli.apply import Gap

    if not doubtful and not host.loss:
        return None
    lines, strays = tuple(f"{path}: {_fate(host, path)}" for path in doubtful), host.strays()
    return Gap(doubtful, (*lines, *_kept(strays, host.now().unix_seconds)), host.loss, strays)


def _kept(strays: tuple[KeptFile, ...], now: float) -> tuple[str, ...]:
    """What is there to be put back by hand."""
    from agent.cli.views import stray_lines

    intro = ("kept, and nobody knows where it stood; put back by hand what belongs there:",) if strays else ()
    return (*intro, *(f"  {line}" for line in stray_lines(strays, now)))


def _fate(host: RealHost, path: str) -> str:
    became = "what it found there then stays" if host.exists(path) else "the file of mirror-agent was removed"
    return f"what stood there before mirror-agent is not known; {became}"


def _forget(host: RealHost) -> None:
    """No state is in force any more, and none is to come back by itself when the service is started."""
    from agent import exposition, status
    from agent.store import LAST_GOOD

    with suppress(HostError):
        exposition.forget(host)
    with suppress(HostError):
        if host.read_state(LAST_GOOD):
            host.save_state(LAST_GOOD, b"")
        host.publish(status.FILE, status.encode(status.Status()))


def _last_desired_state(session: Session, host: RealHost) -> DesiredState:
    """Revert needs it only to know where files lie, so a missing or invalid one must not stop it."""
    from agent import desired
    from agent.model import DesiredState
    from agent.store import LAST_GOOD

    try:
        return session.desired_state(host)
    except (HostError, DesiredStateError):
        host.allow(())
        kept = host.read_state(LAST_GOOD)
    try:
        return desired.load(kept or b"", session.settings.config)
    except DesiredStateError:
        return DesiredState(generation="", source=session.settings.config)
