"""A small file of our own that says what is so: replaced when that has changed, with one line for what hinders it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.errors import HostError
from agent.events import Event, Kind, Level

Emit = Callable[[Event], None]


@dataclass
class Kept:
    """`put` brings bytes to where they belong, or raises HostError; `content` is what stands there as far as we know,
    None before it was looked at or brought."""

    put: Callable[[bytes], None]
    emit: Emit
    content: bytes | None = None
    _said: str = field(default="", repr=False)

    def bring(self, content: bytes, generation: str = "") -> None:
        """Have it say this. What fails disturbs nothing, is tried again the next time, and is said once while it is
        the same."""
        if content == self.content:
            return
        try:
            self.put(content)
        except HostError as error:
            if str(error) != self._said:
                self._said = str(error)
                self.emit(Event(Kind.FAILED, str(error), Level.WARNING, generation, path=error.path))
            return
        self.content, self._said = content, ""
