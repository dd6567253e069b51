"""What systemd, daemons and their programs were asked, remembered until somebody wants to know anew (`refresh`).

A part of `agent.node`: the half of the machine that is no file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

from agent import docker_api, programs, systemd
from agent.model import CommandResult, Cri, UnitState, UnitTies

_COMMANDS_KEPT = 32
"""How many results of commands are remembered; what a command was told on stdin tells it from others."""

_CRI_SECONDS = 2.0

Signature = tuple[int, ...] | None
"""What tells that a file is still the one that was read; None for no file."""


_Named = tuple[tuple[str, Signature], ...]


class Asked:
    """Answers, each asked for once. `note` gives the signature of a file that a command is called with; without
    `has_units` nothing here is ours to ask. The methods are those of agent.host.HostReader."""

    def __init__(self, note: Callable[[str], Signature], *, has_units: bool) -> None:
        self._note = note
        self._has_units = has_units
        self._units: dict[str, tuple[str, UnitState]] = {}
        self._is_concluded = self._has_moved = False
        self._ties: dict[str, UnitTies] = {}
        self._answers: dict[tuple[str, str], bytes | None] = {}
        self._cris: dict[str, Cri] = {}
        self._commands: dict[tuple[tuple[str, ...], bytes], tuple[_Named, CommandResult | None]] = {}

    def unit(self, name: str) -> UnitState:
        if not self._has_units:
            return UnitState()
        invocation = systemd.invocation_id(name)
        known = self._units.get(name)
        if known is None or known[0] != invocation:
            self._has_moved |= known is not None and self._is_concluded
            self._answers.clear()
            self._cris.clear()
            known = (invocation, systemd.unit_state(name))
            self._units[name] = known
        return known[1]

    def ties(self, name: str) -> UnitTies:
        if not self._has_units:
            return UnitTies()
        if name not in self._ties:
            self._ties[name] = systemd.unit_ties(name)
        return self._ties[name]

    def query(self, socket: str, target: str) -> bytes | None:
        if not self._has_units:
            return None
        key = (socket, target)
        if key not in self._answers:
            self._answers[key] = docker_api.get(socket, target)
        return self._answers[key]

    def cri(self, socket: str) -> Cri:
        if not self._has_units:
            return Cri.SILENT
        if socket not in self._cris:
            from agent import cri

            answer = cri.version(socket, _CRI_SECONDS)
            self._cris[socket] = {cri.OK: Cri.READY, cri.UNIMPLEMENTED: Cri.MISSING}.get(answer.status, Cri.SILENT)
        return self._cris[socket]

    def command(self, argv: Sequence[str], stdin: bytes = b"", files: Sequence[str] = ()) -> CommandResult | None:
        if not self._has_units:
            return None
        key = (tuple(argv), hashlib.sha256(stdin).digest())
        named = (*(word for word in argv if word.startswith("/")), *files)
        signatures = tuple((path, self._note(path)) for path in named)
        known = self._commands.pop(key, None)
        if known is None or known[0] != signatures:
            known = (signatures, programs.run(key[0], stdin=stdin))
        self._commands[key] = known
        while len(self._commands) > _COMMANDS_KEPT:
            del self._commands[next(iter(self._commands))]
        return known[1]

    def arguments(self, pid: int) -> tuple[str, ...]:
        if not self._has_units:
            return ()
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read(1 << 20).split(b"\0")
        except OSError:
            return ()
        return tuple(os.fsdecode(word) for word in words[:-1])

    def begin(self) -> None:
        """A cycle begins, which decides on what it asks."""
        self._is_concluded = self._has_moved = False

    def conclude(self) -> None:
        """It has decided: a unit that is found in another invocation from now on has moved."""
        self._is_concluded = True

    def refresh(self) -> None:
        """Ask anew from now on; what a program said of files that have not changed stays, silence does not."""
        self._units.clear()
        self._ties.clear()
        self._answers.clear()
        self._cris.clear()
        self._commands = {key: known for key, known in self._commands.items() if known[1] is not None}

    def units_stand(self) -> bool:
        """Whether each unit that was asked about is still in the invocation, and at rest as it was."""
        return not self._has_moved and all(_stands(name, *known) for name, known in self._units.items())


def _stands(name: str, invocation: str, state: UnitState) -> bool:
    """A unit keeps its invocation while it starts and stops, so one that was in motion is looked at again."""
    return not state.is_in_motion and systemd.invocation_id(name) == invocation
