"""What a Keeper asks of its machine besides, for the machines in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.events import Event
from agent.model import KeptFile
from agent.node import Places


@dataclass
class KeptHost:
    """To be put before one of the machines; `kept` is what the state and the run directory hold."""

    kept: dict[str, bytes] = field(default_factory=dict)
    loss: str = ""
    places: Places = field(default_factory=Places)

    def strays(self) -> tuple[KeptFile, ...]:
        """Nothing is lost."""
        return ()

    def begin(self) -> None:
        """Nothing is cached."""

    def conclude(self) -> None:
        """Nothing is remembered of a look."""

    def sweep(self) -> tuple[Event, ...]:
        """Nothing is left over."""
        return ()

    def allow(self, directories: Iterable[str]) -> None:
        """Everything may be written."""

    def read_state(self, name: str) -> bytes | None:
        return self.kept.get(name)

    def save_state(self, name: str, content: bytes) -> None:
        self.kept[name] = content

    def publish(self, name: str, content: bytes) -> None:
        self.kept[name] = content

    def retract(self, name: str) -> None:
        self.kept.pop(name, None)
