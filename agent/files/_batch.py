"""Several writes at once: flushed side by side, and each directory once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Self

from agent.errors import HostError
from agent.files._paths import Identity, Place
from agent.files._reasons import explained, explained_in, refuse_frozen
from agent.files._replace import Replacement
from agent.plan import WriteFile

_MOST_THREADS = 8


class Attempt:
    """One write on its way. The first step that fails is its result, and no further step is tried."""

    def __init__(self, order: WriteFile) -> None:
        self.order = order
        self.error: HostError | None = None
        self.directory = -1
        self.broken_links = 0
        self._bound: tuple[str, ...] = ()
        self._replacement: Replacement | None = None

    def begin(self, name: str, directory: int, bound: tuple[str, ...]) -> None:
        """The target is `name` in the held `directory`. `bound`: see `agent.files._reasons.explained_in`."""
        self.directory = directory
        self._bound = bound
        self._replacement = Replacement(self.order, name, directory)

    def stage(self) -> None:
        self._try(Replacement.stage)

    def flush(self) -> None:
        self._try(Replacement.flush)

    def place(self) -> None:
        self._try(Replacement.place)

    def close(self) -> None:
        if self._replacement is not None:
            self.broken_links = self._replacement.broken_links
            self._replacement.close()
            self._replacement = None

    def _try(self, step: Callable[[Replacement], None]) -> None:
        if self.error is not None or self._replacement is None:
            return
        try:
            step(self._replacement)
        except HostError as error:
            self.error = error
        except OSError as error:
            self.error = explained_in(self.order.path, error, self.directory, self._bound)
        if self.error is not None:
            self.close()


class Batch:
    """Holds each directory once, and nothing of any file after the `with` block."""

    def __init__(self) -> None:
        self._attempts: list[Attempt] = []
        self._directories: dict[Identity, int] = {}
        self._targets: set[tuple[Identity, str]] = set()
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for attempt in self._attempts:
            attempt.close()
        self._held.close()

    def add(self, attempt: Attempt, place: Place, bound: tuple[str, ...]) -> None:
        """Take one more. Raises HostError and OSError if that is not possible."""
        target = (place.trail[-1], place.name)
        if target in self._targets:
            raise HostError(attempt.order.path, f"{place.real} is written twice at once")
        directory = self._directories.get(place.trail[-1])
        if directory is None:
            directory = self._held.enter_context(place.opened())
            self._directories[place.trail[-1]] = directory
        refuse_frozen(attempt.order.path, directory)
        self._targets.add(target)
        attempt.begin(place.name, directory, bound)
        self._attempts.append(attempt)

    def write(self) -> None:
        """Carry out all of them. One directory alone starts no thread.

        The processor's part is done here, the disk's part side by side: threads that compute would only wait for each
        other, and a rename too can wait for the disk.
        """
        for attempt in self._attempts:
            attempt.stage()
        groups = [
            [attempt for attempt in self._attempts if attempt.directory == directory and attempt.error is None]
            for directory in self._directories.values()
        ]
        if len(groups) <= 1:
            for group in groups:
                _finish(group)
            return
        from concurrent.futures import ThreadPoolExecutor  # not at the top: most looks of an `apply` write nothing

        with ThreadPoolExecutor(_MOST_THREADS, "flush") as threads:
            list(threads.map(_finish, groups))


def _finish(attempts: Sequence[Attempt]) -> None:
    """Bring staged files of one directory to the disk and into their places, and flush the directory once."""
    for attempt in attempts:
        attempt.flush()
    for attempt in attempts:
        attempt.place()
    placed = [attempt for attempt in attempts if attempt.error is None]
    try:
        if placed:
            os.fsync(placed[0].directory)
    except OSError as error:
        for attempt in placed:
            words = "it was replaced, but may not survive a power cut"
            attempt.error = explained(attempt.order.path, error, words)
