"""`mirror-agent status`: is it live?"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.cli.session import FINE, NOT_LIVE, Session
from agent.cli.shown import Shown
from agent.errors import WHOLE_FILE, DesiredStateError, HostError, Problem
from agent.settings import UsageError

if TYPE_CHECKING:
    from agent.model import DesiredState
    from agent.node import RealHost
    from agent.plan import Plan
    from agent.proof import Proof
    from agent.status import Status

_WATCH_SECONDS = 2.0

NAME = "status"
SUMMARY = "is it live? per runtime and registry, the hosts in order"
DESCRIPTION = """\
Says for each runtime whether the *running* daemon has what is desired, and for each registry which hosts it is asked
from, in order. As root it looks for itself; others see what the service last published.
Exit code 0: live. 3: not, and the lines above say why: drift, something pending, a conflict, an invalid file.

Where mirrors are probed (`health:` in the desired state), each has a line: how it was, since when, how fast, what was
done about it, and what a person can do. --watch shows all of it anew every two seconds.

--prove puts the running daemons to the test: a hosts.toml for a registry that cannot exist, which names a listener of
this command on 127.0.0.1, is laid for a moment, and containerd (over its CRI socket) or Docker (where it reads such
files) is asked to pull from there. If it comes to the listener, it reads what is written. Exit code 0: live and proved.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own option."""
    parser.add_argument("--prove", action="store_true", help="put the running daemons to the test (root)")
    parser.add_argument("--watch", action="store_true", help="show it anew every two seconds, until Ctrl-C")


def run(session: Session) -> int:
    """Print the status."""
    if session.options.prove and os.geteuid() != 0:
        raise HostError("status --prove", "asks the running daemons", "run it as root")
    if session.options.watch:
        return _watch(session)
    return _show(session, look(session) if _may_look(session) else published(session))


def _show(session: Session, shown: Shown) -> int:
    if session.json:
        session.write_json(document(shown))
    else:
        session.terminal.write(_text(session, shown))
    return FINE if shown.is_live else NOT_LIVE


def _text(session: Session, shown: Shown) -> str:
    from agent.cli.views import status_lines

    return "\n".join(status_lines(shown, session.terminal.paint, session.terminal.width))


def _watch(session: Session) -> int:
    """Again and again on a clean screen; Ctrl-C ends it. What it costs is what `status` costs."""
    import time

    if session.json or session.options.prove:
        raise UsageError("status --watch is for people: not with --json or --prove")
    while True:
        shown = look(session) if _may_look(session) else published(session)
        screen = "\x1b[H\x1b[J" if session.terminal.out.isatty() else ""
        session.terminal.write(screen + _text(session, shown))
        session.terminal.out.flush()
        time.sleep(_WATCH_SECONDS)


def _may_look(session: Session) -> bool:
    return os.geteuid() == 0 or session.settings.root != "/"


def published(session: Session) -> Shown:
    """What the daemon last said. Raises HostError if it has said nothing that we may read."""
    import time

    status = session.published()
    if status is None:
        raise HostError(
            f"{session.run_directory}/status.json", "no status to read", "is the service running? ask as root"
        )
    return Shown(status, time.time(), daemon_pid=session.daemon_pid(), looked=False)


def look(session: Session) -> Shown:
    """A fresh observation, with what only the daemon knows (when, why, the last error) from what it published."""
    from agent.status import Status

    host = session.host()
    known = session.published() or Status()
    pid = session.daemon_pid() or (0 if session.settings.root == "/" else None)
    now = host.now().unix_seconds
    try:
        host.ledger()
    except HostError as error:
        failed = Status(outcome="failed", source=session.settings.config, last_error=str(error), last_error_at=now)
        return Shown(failed, now, daemon_pid=pid)
    desired, problems = _in_force(session, host)
    status = replace(known, source=session.settings.config, problems=problems, ledger=host.loss, strays=host.strays())
    missing: tuple[str, ...] = ()
    if desired is None:
        status = replace(status, generation="", runtimes=(), pending=(), conflicts=())
    else:
        status, missing = _observed(status, desired, host, session.plans(desired, host))
        if desired.health.enabled:
            from agent.status import mirrors_of

            status = replace(status, mirrors=mirrors_of(desired, session.known_health(host)))
    is_new = status.generation != known.generation
    if is_new or not pid:
        status = replace(status, contentions=())
    empty = desired is not None and desired.names_nothing
    shown = Shown(status, now, missing, is_new=is_new, names_nothing=empty, daemon_pid=pid)
    return replace(shown, proofs=_proofs(session, desired, host)) if session.options.prove else shown


def _proofs(session: Session, desired: DesiredState | None, host: RealHost) -> tuple[Proof, ...]:
    if desired is None:
        return ()
    from agent import prove

    return prove.prove(desired, host, session.places)


def _in_force(session: Session, host: RealHost) -> tuple[DesiredState | None, tuple[Problem, ...]]:
    """The desired state, or the last good one and what is wrong with the file."""
    try:
        return session.desired_state(host), ()
    except HostError as error:
        problems: tuple[Problem, ...] = (Problem(1, 1, WHOLE_FILE, str(error)),)
    except DesiredStateError as error:
        problems = error.problems
    from agent import desired
    from agent.store import LAST_GOOD

    with suppress(HostError, DesiredStateError):
        last_good = desired.load(host.read_state(LAST_GOOD) or b"", session.settings.config)
        return session.effective(last_good, host), problems
    return None, problems


def _observed(
    status: Status, desired: DesiredState, host: RealHost, plans: tuple[Plan, ...]
) -> tuple[Status, tuple[str, ...]]:
    from agent import converge

    current = replace(
        status,
        outcome=status.outcome if status.generation == desired.generation else "unchanged",
        generation=desired.generation,
        runtimes=converge.reports(desired, host),
        pending=tuple(_pending(plans)),
        conflicts=tuple(conflict for plan in plans for conflict in plan.conflicts),
    )
    return current, _missing(plans)


def _pending(plans: Sequence[Plan]) -> list[Any]:
    from agent.status import pending_of

    return [pending_of(plan.runtime, deferred) for plan in plans for deferred in plan.deferred]


def _missing(plans: Sequence[Plan]) -> tuple[str, ...]:
    """What is left to do: the actions, or the ledger's part where that is all."""
    from agent import describe

    parts = [replace(plan, deferred=(), conflicts=()) for plan in plans]
    shown = [replace(part, claims=(), releases=()) if part.actions else part for part in parts]
    return tuple(f"{part.runtime}: {line}" for part in shown for line in describe.lines(part))


def document(shown: Shown) -> dict[str, Any]:
    """For scripts: status.json, with the answer and what a fresh look adds."""
    from agent.status import encode

    answer = {"live": shown.is_live, "daemon_pid": shown.daemon_pid, "fresh": shown.looked}
    proofs = {} if shown.proofs is None else {"proofs": [_proof(each) for each in shown.proofs]}
    return {**answer, **json.loads(encode(shown.status)), "missing": list(shown.missing), **proofs}


def _proof(proof: Proof) -> dict[str, Any]:
    return {"runtime": proof.runtime, "proved": proof.is_proved, "sentence": proof.sentence}
