"""Paths inside a root, walked one component at a time on directory descriptors.

Symbolic links mean what they mean inside the root: an absolute one starts at the root again, and no number of `..`
leads out of it. What is found is held by its descriptor, so that nothing that is renamed or linked afterwards can
turn an operation somewhere else.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from agent.files._kernel import close, closing

MAX_LINKS = 40
"""As many as Linux follows (path_resolution(7))."""

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Identity = tuple[int, int]
"""Device and inode."""


class UnreachableError(Exception):
    """Something on the way stands in the way: a dangling link, a loop, a file where a directory should be."""


class MissingError(Exception):
    """A directory on the way does not exist."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path ends: `name` in the held `directory`; whether anything stands there is not said.

    `real` is the path without links, inside the root; `trail` are the directories passed, from the root down; `linked`
    says that the way was not the one written. Close it (`with`) to release the descriptor.
    """

    directory: int
    name: str
    real: str
    trail: tuple[Identity, ...]
    linked: bool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        close(self.directory)

    def open_directory(self) -> int:
        """The directory as a descriptor of its own that can be listed and flushed, and locked: nobody else of us
        works there until it is closed. Raises BlockingIOError where somebody does."""
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.directory)
        try:
            _lock(descriptor)
        except BlockingIOError:
            close(descriptor)
            raise
        return descriptor

    def opened(self) -> closing:
        """`open_directory` for the length of a block."""
        return closing(self.open_directory())


def locate(root: str, path: str, *, follow: bool = True) -> Place:
    """Walk to where `path` ends; `follow` says whether a link in its last place is followed.

    Raises MissingError, UnreachableError, ValueError (not a path) and OSError.
    """
    walk = _Walk(root, path)
    try:
        while walk.pending:
            name, link = walk.pending.pop()
            if walk.pending:
                walk.enter(name, link)
            elif walk.stops_at(name, link, follow=follow):
                return walk.place(name)
        return walk.place(".")
    except BaseException:
        close(walk.directory)
        raise


def directory_identity(root: str, path: str) -> Identity | None:
    """Which directory `path` leads to, None if there is none."""
    try:
        with locate(root, f"{path}/.") as place:
            return place.trail[-1]
    except (MissingError, UnreachableError, OSError):
        return None


class _Walk:
    """The state of one walk: the directory reached, how it was reached, and what is still to go (last first)."""

    def __init__(self, root: str, path: str) -> None:
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"{path!r} is not an absolute path")
        self.pending = [(name, "") for name in _components(path)]
        self._root = root
        self._names: list[str] = []
        self._trail: list[Identity] = []
        self._links = 0
        self.linked = False
        self.directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._remember()

    def enter(self, name: str, link: str) -> None:
        """Go one directory further; `link` is the target of the link that `name` comes from, "" if none."""
        if name == ".":
            return
        if name == "..":
            self._leave()
            return
        try:
            below = os.open(name, _DIRECTORY, dir_fd=self.directory)
        except FileNotFoundError:
            if link:
                raise UnreachableError(f"dangling link to {link}") from None
            raise MissingError(f"/{'/'.join([*self._names, name])}") from None
        except NotADirectoryError:
            self._follow(name)
            return
        self._names.append(name)
        self._move(below)

    def stops_at(self, name: str, link: str, *, follow: bool) -> bool:
        """Whether `name` is where the path ends; if not, what it leads to is pending now."""
        if name in {".", ".."}:
            self.enter(name, link)
            return False
        try:
            target = os.readlink(name, dir_fd=self.directory)
        except FileNotFoundError:
            if link:
                raise UnreachableError(f"dangling link to {link}") from None
            return True
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: not a link
                raise
            return True
        if not follow:
            return True
        self._expand(target)
        return False

    def place(self, name: str) -> Place:
        real = "/" + "/".join([*self._names, name] if name != "." else self._names)
        return Place(self.directory, name, real, tuple(self._trail), self.linked)

    def _follow(self, name: str) -> None:
        try:
            target = os.readlink(name, dir_fd=self.directory)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise UnreachableError(f"/{'/'.join([*self._names, name])} is not a directory (ENOTDIR)") from None
        self._expand(target)

    def _expand(self, target: str) -> None:
        self._links += 1
        self.linked = True
        if self._links > MAX_LINKS:
            raise UnreachableError("link loop (ELOOP)")
        self.pending += [(name, target) for name in _components(target)]
        if target.startswith("/"):
            self._restart([])

    def _leave(self) -> None:
        self.linked = True
        self._restart(self._names[:-1])

    def _restart(self, names: list[str]) -> None:
        """Go to a directory that was passed before, by the way that was found."""
        self._trail.clear()
        self._names = names
        self._move(os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        for name in names:
            self._move(os.open(name, _DIRECTORY, dir_fd=self.directory))

    def _move(self, directory: int) -> None:
        close(self.directory)
        self.directory = directory
        self._remember()

    def _remember(self) -> None:
        info = os.fstat(self.directory)
        self._trail.append((info.st_dev, info.st_ino))


def _lock(directory: int) -> None:
    """File systems without locks (some network ones) do without."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return


def _components(path: str) -> list[str]:
    """The names of a path, last first; slashes at the end say nothing."""
    return [name for name in reversed(path.split("/")) if name]


def outermost(directories: Iterable[str]) -> list[str]:
    """Those that do not lie below another one of them."""
    kept: list[str] = []
    for path in sorted(directories):
        if not any(path == above or path.startswith(above.rstrip("/") + "/") for above in kept[-1:]):
            kept.append(path)
    return kept


def resolved(path: str, known: dict[str, str]) -> str:
    """As os.path.realpath, which looks at every directory above once more for each path; `known` is what it learns."""
    if path not in known:
        parent, name = os.path.split(path)
        here = os.path.join(resolved(parent, known), name) if name else path
        known[path] = os.path.realpath(here) if os.path.islink(here) else here
    return known[path]
