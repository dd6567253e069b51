"""What libraries log and warn of, as events of ours. A module of its own: nothing else of ours loads `logging`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from agent.events import Event, Kind, Level


class _Bridge(logging.Handler):
    """Warnings of libraries become events."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        super().__init__(logging.WARNING)
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            level = Level.ERROR if record.levelno >= logging.ERROR else Level.WARNING
            kind = Kind.WATCH if record.name.startswith("watchdog") else Kind.BUG
            self._emit(Event(kind, f"{record.name}: {record.getMessage()}", level))


def bridge_libraries(emit: Callable[[Event], None]) -> None:
    """Send what libraries warn about (logging, warnings) to `emit`, and nowhere else."""
    logging.captureWarnings(True)  # noqa: FBT003
    logging.root.handlers[:] = [_Bridge(emit)]
    logging.raiseExceptions = False
