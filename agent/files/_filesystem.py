"""Looking at and touching the files of one root.

Looking follows links inside the root and says in words what must not be overwritten. Touching is confined to the
allowed directories, whatever links lie about, and is all or nothing and durable (the protocol: `agent.files._replace`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from agent.errors import HostError
from agent.files import _directories
from agent.files._batch import Attempt, Batch
from agent.files._contents import MAX_BYTES, OWN_MAX_BYTES, state_at, too_large
from agent.files._paths import MissingError, Place, UnreachableError, directory_identity, locate
from agent.files._reasons import changed, explained, explained_in, refuse_frozen
from agent.files._remove import Removal
from agent.files._replace import replace_own
from agent.model import Absent, FileState, Regular, Unusable
from agent.plan import RemoveFile, WriteFile

Signature = tuple[int, ...]
"""Device, inode, size, mtime_ns, ctime_ns, mode, uid, gid."""

Note = Callable[[str, str], None]
"""Told a path and a sentence about it that an operator should read."""

_BATCH = 64
"""Files staged at once: two descriptors each, far below LimitNOFILE=1024."""

_NO_DESCRIPTOR_LEFT = (errno.EMFILE, errno.ENFILE)


class FileSystem:
    """Every path is absolute, as an operator writes it, and interpreted inside `root`, links too.

    `allowed` are the directories under which anything may be written; one that is a link itself allows what it leads
    to. `note` is told what an operator should know about a write that succeeded (a broken hard link).
    """

    def __init__(
        self, root: str = "/", allowed: Sequence[str] = (), note: Note = lambda _path, _sentence: None
    ) -> None:
        self._root = root
        self._allowed = tuple(os.path.normpath(path) for path in allowed)
        self._bound = self._allowed if root == "/" else ()
        self._note = note
        self._unflushed: set[str] = set()

    # --- looking -----------------------------------------------------------------------------------------------------

    def read(self, path: str, most_bytes: int = MAX_BYTES) -> FileState:
        """The file, links followed, at most 4 MiB.

        Unusable also where its name is below an allowed directory and a link leads out of all of them: that is not
        to be overwritten.
        """
        try:
            with locate(self._root, path) as place:
                if place.linked and _is_below(path, self._allowed) and not self._is_inside(place):
                    return Unusable(_leads_outside(place))
                return state_at(place.directory, place.name, most_bytes)
        except (MissingError, FileNotFoundError):
            return Absent()
        except (UnreachableError, OSError, ValueError) as error:
            return Unusable(_failure(path, error).reason)

    def read_own(self, path: str) -> FileState:
        """The same of a file of our own: all that `replace_file` has written."""
        return self.read(path, OWN_MAX_BYTES)

    def signature(self, path: str) -> Signature | None:
        """What changes whenever a file or directory does, by stat alone; None if there is nothing to stat."""
        try:
            info = self._stat(path)
        except (MissingError, UnreachableError, OSError, ValueError):
            return None
        times = (info.st_mtime_ns, info.st_ctime_ns)
        return (info.st_dev, info.st_ino, info.st_size, *times, info.st_mode, info.st_uid, info.st_gid)

    def exists(self, path: str) -> bool:
        """Whether anything stands there, links followed."""
        return self.signature(path) is not None

    def list_directory(self, path: str) -> tuple[str, ...] | None:
        """The sorted names in a directory, left-over temps of ours aside; None if there is no directory.

        Raises HostError if there is one that cannot be read: that is not the same as none.
        """
        try:
            with locate(self._root, path) as place:
                return _directories.names(place.directory, place.name)
        except (MissingError, UnreachableError, FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise _failure(path, error) from error

    # --- touching ----------------------------------------------------------------------------------------------------

    def write_files(self, actions: Sequence[WriteFile]) -> tuple[HostError | None, ...]:
        """Replace files whole and durably, flushing side by side; one result per action, None for success.

        What fails does not disturb the others. Only more than one directory starts threads, for the call's duration.
        """
        failure = self._flush_parents() if actions else None
        if failure is not None:
            return tuple(HostError(action.path, str(failure)) for action in actions)
        results: list[HostError | None] = []
        for start in range(0, len(actions), _BATCH):
            results += self._write(actions[start : start + _BATCH])
        if len(actions) > 1:
            for index in [index for index, result in enumerate(results) if _lacked_descriptors(result)]:
                results[index] = self._write([actions[index]])[0]
        return tuple(results)

    def replace_file(self, path: str, content: bytes, mode: int, *, durable: bool = True) -> None:
        """Replace a file of our own, whatever it was, a link too. Not `durable`: whole, but a power cut may lose it.
        What could not be read again is not written."""
        if len(content) > OWN_MAX_BYTES:
            raise HostError(path, f"refused to write it: it {too_large(OWN_MAX_BYTES)}")
        with self._touching(path) as (directory, name):
            replace_own(directory, name, content, mode, durable=durable)

    def remove_file(self, action: RemoveFile) -> None:
        """Remove it if it still is what the action says; already gone: nothing. A link goes, what it leads to stays."""
        if isinstance(self.read(action.path), Absent):
            return
        with self._touching(action.path) as (directory, name):
            removal = Removal(directory, name, action.path)
            found = self.read(action.path)
            if isinstance(found, Unusable):
                raise HostError(action.path, found.reason)
            if isinstance(found, Regular):
                if found != action.replaces:
                    raise changed(action.path)
                removal.carry_out(found)

    def remove_own(self, path: str) -> None:
        """Remove a file of our own, whatever it has become; already gone: nothing."""
        if not isinstance(self.read_own(path), Absent):
            with self._touching(path) as (directory, name):
                os.unlink(name, dir_fd=directory)
                os.fsync(directory)

    def make_directory(self, path: str, mode: int) -> None:
        """Make one directory with exactly this mode, whatever the umask; already there: nothing.

        It is durable when the next `write_files` returns, so that a thousand of them are flushed at once.
        """
        found = self.read(path)
        if not isinstance(found, Absent):
            if directory_identity(self._root, path) is not None:
                return
            raise HostError(path, found.reason if isinstance(found, Unusable) else "is a file, not a directory")
        with self._touching(path, leads_to_allowed=True) as (parent, name):
            _directories.make(parent, name, mode)
        self._unflushed.add(os.path.dirname(os.path.normpath(path)))

    def remove_directory(self, path: str) -> None:
        """Remove it if it is empty, left-over temps of ours aside. A link, not empty, nothing there: nothing."""
        if directory_identity(self._root, path) is not None:
            with self._touching(path, leads_to_allowed=True) as (parent, name):
                _directories.remove_if_empty(parent, name)

    def sweep(self, directory: str) -> int:
        """Remove what a crash left of our writes in a directory; how many files that were."""
        if directory_identity(self._root, directory) is None:
            return 0
        with self._touching(f"{directory}/.") as (held, _):
            return _directories.sweep(held)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _stat(self, path: str) -> os.stat_result:
        if self._root == "/":
            return os.stat(path)
        with locate(self._root, path) as place:
            return os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)

    @contextmanager
    def _touching(self, path: str, *, leads_to_allowed: bool = False) -> Iterator[tuple[int, str]]:
        """Hold the directory of an entry that is about to change (a link in the last place is the entry itself).

        `leads_to_allowed`: the way to an allowed directory may be touched too. Raises HostError for all that fails.
        """
        try:
            with locate(self._root, path, follow=False) as place:
                inside = self._is_inside(place)
                if not inside and not (leads_to_allowed and _is_on_the_way(path, self._allowed)):
                    raise HostError(path, _leads_outside(place))
                with place.opened() as directory, self._explaining(path, directory, inside=inside):
                    refuse_frozen(path, directory)
                    yield directory, place.name
        except (MissingError, UnreachableError, OSError, ValueError) as error:
            raise _failure(path, error) from error

    def _is_inside(self, place: Place) -> bool:
        """By name where no link was followed, else by the directories that were really passed."""
        if not place.linked and _is_below(place.real, self._allowed):
            return True
        return not {directory_identity(self._root, path) for path in self._allowed}.isdisjoint(place.trail)

    @contextmanager
    def _explaining(self, path: str, directory: int, *, inside: bool) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise explained_in(path, error, directory, self._bound if inside else ()) from error

    def _write(self, actions: Sequence[WriteFile]) -> list[HostError | None]:
        attempts = [Attempt(action) for action in actions]
        with Batch() as batch:
            for attempt in attempts:
                self._add(attempt, batch)
            batch.write()
        for attempt in attempts:
            self._note_broken_links(attempt)
        return [attempt.error for attempt in attempts]

    def _flush_parents(self) -> HostError | None:
        """Of the directories that were made since the last time."""
        for path in sorted(self._unflushed):
            try:
                with locate(self._root, f"{path}/.") as place, place.opened() as directory:
                    os.fsync(directory)
            except (MissingError, FileNotFoundError):
                pass  # it is gone again
            except (UnreachableError, OSError) as error:
                return _failure(path, error)
            self._unflushed.discard(path)
        return None

    def _add(self, attempt: Attempt, batch: Batch) -> None:
        path = attempt.order.path
        try:
            with locate(self._root, path) as place:
                if self._is_inside(place):
                    batch.add(attempt, place, self._bound)
                else:
                    attempt.error = HostError(path, _leads_outside(place))
        except HostError as error:
            attempt.error = error
        except (MissingError, UnreachableError, OSError, ValueError) as error:
            attempt.error = _failure(path, error)

    def _note_broken_links(self, attempt: Attempt) -> None:
        if attempt.error is None and attempt.broken_links:
            count = attempt.broken_links
            names = "1 other name has" if count == 1 else f"{count} other names have"
            self._note(attempt.order.path, f"was a hard link: {names} the old content still")


def _is_below(path: str, directories: Sequence[str]) -> bool:
    return any(path.startswith(f"{directory.rstrip('/')}/") for directory in directories)


def _is_on_the_way(path: str, directories: Sequence[str]) -> bool:
    """Whether it is one of the directories, or one that leads there."""
    prefix = f"{os.path.normpath(path)}/"
    return any(f"{directory}/".startswith(prefix) for directory in directories)


def _leads_outside(place: Place) -> str:
    verb = "leads" if place.linked else "is"
    return f"{verb} outside the directories that may be written: {place.real}"


def _failure(path: str, error: Exception) -> HostError:
    """What kept a path from being reached."""
    if isinstance(error, OSError):
        return explained(path, error)
    if isinstance(error, MissingError):
        return HostError(path, "no such directory (ENOENT)", f"{error} is missing")
    return HostError(path, str(error))


def _lacked_descriptors(result: HostError | None) -> bool:
    cause = result and result.__cause__
    return isinstance(cause, OSError) and cause.errno in _NO_DESCRIPTOR_LEFT
