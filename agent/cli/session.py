"""What the commands share: the machine they look at, the desired state they were given, and how they end."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.cli.terminal import Terminal, plain
from agent.errors import DesiredStateError, Problem
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.converge import Emit
    from agent.events import Event, Level
    from agent.health import Health
    from agent.model import DesiredState
    from agent.node import Places, RealHost
    from agent.plan import Plan
    from agent.source import Source
    from agent.status import Status

FINE, FAILED, USAGE, NOT_LIVE, BUG = 0, 1, 2, 3, 70
"""Exit codes (DESIGN 2.3). NOT_LIVE is also "changes are pending"."""


class InvalidFileError(DesiredStateError):
    """The desired state is invalid; `text` shows all that is wrong to a person."""

    def __init__(self, problems: tuple[Problem, ...], text: str) -> None:
        super().__init__(problems)
        self.text = text


@dataclass(frozen=True, slots=True)
class Session:
    """One call of the command line. `options` are those of the command; `json` whether a script asks."""

    settings: Settings
    options: argparse.Namespace
    terminal: Terminal
    json: bool

    @property
    def places(self) -> Places:
        from agent.node import Places

        settings = self.settings
        places = Places(settings.root, settings.state_dir, settings.run_dir)
        return replace(places, probe_directory=settings.probe_dir)

    def host(self) -> RealHost:
        """This machine, or the tree below --root."""
        from agent.node import RealHost

        return RealHost(self.places)

    def source(self, host: RealHost) -> Source:
        """The desired state's bytes, as `run` reads them. Raises HostError, DesiredStateError (its owner or mode)."""
        from agent import source

        return source.read(host, self.settings.config, os.geteuid())

    def desired_state(self, host: RealHost) -> DesiredState:
        """The desired state, with the mirrors that are asked now. Raises HostError, or InvalidFileError with everything
        that is wrong."""
        from agent import source

        found = None
        try:
            found = self.source(host)
            state = source.load(found)
        except DesiredStateError as error:
            raise InvalidFileError(error.problems, self.rejection(found, error.problems)) from error
        host.allow(source.writable(state))
        return self.effective(state, host)

    def effective(self, state: DesiredState, host: RealHost) -> DesiredState:
        """With what the daemon knows of the health of mirrors; where nobody may read that, as it is desired."""
        if not state.health.enabled:
            return state
        from agent import health

        return health.effective(state, self.known_health(host), host.now().unix_seconds)

    def known_health(self, host: RealHost) -> Health:
        """What the daemon knows of mirrors."""
        from agent import health, probing

        return health.decode(host.read_state(probing.HEALTH) or b"", host.now().unix_seconds)

    def plans(self, desired: DesiredState, host: RealHost) -> tuple[Plan, ...]:
        """What there is to do, without the restarts that the daemon holds back because of what others do."""
        from agent import converge, feud
        from agent.store import FEUDS

        feuds = feud.decode(host.read_state(FEUDS) or b"", host.now().unix_seconds)
        feuds.begin(desired.generation)
        return tuple(map(feuds.without_costly_restarts, converge.plans(desired, host)))

    def rejection(self, found: Source | None, problems: Sequence[Problem]) -> str:
        """Every problem below its place, and what became of it: nothing."""
        from agent.desired import format_problems

        path, data = (found.path, found.data) if found else (self.settings.config, b"")
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        return f"{plain(format_problems(path, data, problems))}\n{count}. Nothing was changed{self._in_force()}."

    def _in_force(self) -> str:
        status = self.published()
        if status is None or not status.generation:
            return ""
        from agent.cli.wording import moment

        at = moment(status.loaded_at, time.time())
        return f"; the state of {at} ({status.short_generation}) stays in force"

    def published(self) -> Status | None:
        """What the daemon last said about itself; None if it has not, or nobody may read it."""
        from agent.files import OWN_MAX_BYTES
        from agent.status import FILE, decode

        with suppress(OSError), open(f"{self.run_directory}/{FILE}", "rb") as file:
            return decode(file.read(OWN_MAX_BYTES))
        return None

    def daemon_pid(self) -> int:
        """The process of the daemon, 0 if there is none. A hint: it may end at any time."""
        for pid in (self._lock_holder(), status.pid if (status := self.published()) else 0):
            with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"run" in file.read(4096).split(b"\0"):
                    return pid
        return 0

    def _lock_holder(self) -> int:
        """As the lock says; only root may read it where the service runs."""
        with suppress(OSError, ValueError), open(f"{self.run_directory}/lock", encoding="ascii") as file:
            return int(file.read(200).rpartition("(pid ")[2].partition(")")[0])
        return 0

    @property
    def run_directory(self) -> str:
        """Where it really lies."""
        return self.settings.run_dir if self.settings.root == "/" else self.settings.root + self.settings.run_dir

    @property
    def probe_directory(self) -> str:
        """The same, of the probe's own."""
        return self.settings.probe_dir if self.settings.root == "/" else self.settings.root + self.settings.probe_dir

    def here(self, path: str) -> str:
        """Where a path of the desired state lies on this machine."""
        return f"{self.settings.root.rstrip('/')}{path}"

    def write_json(self, document: object) -> None:
        """For scripts: one JSON document."""
        self.terminal.write(json.dumps(document, indent=1, ensure_ascii=False))

    @contextmanager
    def events(self, into: list[Event]) -> Iterator[Emit]:
        """Events as lines on standard output, or into a list when a script asks; without secrets, as in the journal.
        The list is whole when this ends."""
        from agent.events import Level
        from agent.journal import Journal

        def send(event: Event) -> None:
            style = {Level.ERROR: "bad", Level.WARNING: "warn"}.get(event.level, "")
            self.terminal.write(self.terminal.paint(style, event.message) if style else event.message)

        journal = Journal(into.append, Level.DEBUG) if self.json else Journal(send, self._level())
        try:
            yield journal.emit
        finally:
            journal.close(timeout_seconds=10.0)

    def _level(self) -> Level:
        from agent.events import Level

        return Level[self.settings.log_level.upper()]
