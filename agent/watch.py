"""Notices changes: directories become tokens that say "look again"; the only module that knows watchdog.

An event is a hint, never data. A lost one costs delay (the loop looks at everything once a minute), never correctness.

watchdog's Observer is left out and its inotify layer used directly, for what was measured: the Observer has one thread
per directory (with 6.0 also one inotify instance of the 128 that root has), an unbounded queue, and half a second of
delay after a file is moved out of a directory. One descriptor and one thread serve any number of directories here, and
every event ends in one comparison, so a storm cannot pile anything up.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from errno import EACCES, EMFILE, ENOENT, ENOSPC, ENOTDIR
from typing import Any, Protocol


class Hint(Enum):
    """What may have happened. The greater value wins where several wait."""

    TOUCHED = 1
    """Something was created or its attributes changed; its writer may still be at work, so let it settle."""

    CLOSED = 2
    """A writer has closed, renamed or deleted something: what is there now is meant to be there."""


_CLOSE_WRITE, _ATTRIB, _CREATE, _DELETE = 0x008, 0x004, 0x100, 0x200
_MOVED_FROM, _MOVED_TO, _DELETE_SELF, _MOVE_SELF = 0x040, 0x080, 0x400, 0x800
# Left out on purpose: IN_MODIFY (a file half written), IN_OPEN, IN_ACCESS and IN_CLOSE_NOWRITE (our own reads).
MASK = _CLOSE_WRITE | _ATTRIB | _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _DELETE_SELF | _MOVE_SELF
_MAY_GO_ON = _ATTRIB | _CREATE
_NAMES = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO
_CLOSE_SECONDS = 2.0

_LIMITS = {
    EMFILE: "the inotify instance limit is reached (EMFILE); raise fs.inotify.max_user_instances",
    ENOSPC: "the inotify watch limit is reached (ENOSPC); raise fs.inotify.max_user_watches",
}


class Watcher:
    """Calls `wake(hint)` from a thread of its own when something may have changed in the watched directories.

    Between two calls of `rearm` it calls `wake` at most twice: once, and once more if TOUCHED is followed by CLOSED. So
    a consumer that puts the hints into a queue has at most two of them there. An exception in `wake` is swallowed.
    Nothing runs while nothing happens.
    """

    def __init__(self, wake: Callable[[Hint], None]) -> None:
        self._wake = wake
        self._lock = threading.RLock()
        self._waiting = 0
        self._inotify: _Inotify | None = None
        self._watched: dict[str, _Watched] = {}
        self._trouble = ""

    def rearm(self) -> None:
        """Call it before looking at the files: whatever happens after it wakes again."""
        with self._lock:
            self._waiting = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Tell nothing meanwhile; what happened is told at the end. To be held by who could not listen anyway: each
        file that we write makes nine events, and the thread that reads them would take its turns at the interpreter
        away from the writing. The kernel keeps 16,384 of them; if there are more, that is told as CLOSED."""
        with self._lock:
            yield

    def watch(self, directories: frozenset[str]) -> None:
        """Watch exactly these directories, not those below them. Cheap when nothing has changed (one lstat each), so it
        is called again at every look: it heals what was deleted, replaced, moved away, mounted over or newly made.

        What is done in a directory before it is watched stays unseen, so a directory that newly comes under watch is a
        TOUCHED by itself. One that does not exist yet is noticed when it appears, and so is a link on the way to one
        that changes. Never raises; what cannot be watched shows in `mode`.
        """
        survey = _survey(directories)
        try:
            self._drop(survey)
            self._trouble = self._add_all(survey)
        except Exception as error:  # noqa: BLE001 -- a watchdog of another kind must not stop the agent
            self._trouble = f"inotify cannot be used: {type(error).__name__}: {error}"

    @property
    def healthy(self) -> bool:
        """Whether events come for every directory; if not, look at the files yourself every few seconds."""
        return not self._trouble and (self._inotify is None or self._inotify.is_alive)

    @property
    def mode(self) -> str:
        """`inotify events`, or `polling, because …`: for the journal and for status."""
        return (
            "inotify events" if self.healthy else f"polling, because {self._trouble or 'the inotify thread has ended'}"
        )

    def close(self) -> None:
        """No event after this; waits 2 s at most."""
        inotify, self._inotify = self._inotify, None
        for watched in self._watched.values():
            watched.is_dead = True
        self._watched.clear()
        if inotify is not None:
            inotify.close()

    # --- keeping the watches --------------------------------------------------------------------------------

    def _drop(self, survey: dict[str, _Wanted]) -> None:
        """Forget watches no longer wanted, and those of a directory that is not the one at its path any more."""
        if self._inotify is not None and not self._inotify.is_alive:
            self.close()
        for path, watched in list(self._watched.items()):
            wanted = survey.get(path)
            if wanted is not None and wanted.identity == watched.identity and not watched.is_dead:
                continue
            del self._watched[path]
            if self._inotify is not None and not watched.is_dead:
                watched.is_dead = True
                self._inotify.remove(watched)

    def _add_all(self, survey: dict[str, _Wanted]) -> str:
        """Watch what is not watched yet. Returns what went wrong, "" for nothing; only a limit ends the attempt."""
        trouble = ""
        for path, wanted in survey.items():
            try:
                self._add(path, wanted)
            except OSError as error:
                if error.errno in _LIMITS:
                    return _LIMITS[error.errno]
                trouble = f"{path} cannot be watched: {error.strerror or error}"
        return trouble

    def _add(self, path: str, wanted: _Wanted) -> None:
        known = self._watched.get(path)
        if known is not None:
            known.names = wanted.names
            return
        if self._inotify is None:
            self._inotify = _open_inotify(self._lost)
        watched = _Watched(path, wanted.identity, wanted.names, self._say)
        try:
            self._inotify.add(watched)
        except OSError as error:
            if error.errno in {ENOENT, ENOTDIR}:
                return
            raise
        self._watched[path] = watched
        self._say(Hint.TOUCHED)

    def _lost(self) -> None:
        """The kernel dropped events, or watchdog stumbled over one: anything may have happened."""
        self._say(Hint.CLOSED)

    def _say(self, hint: Hint) -> None:
        with self._lock:
            if hint.value <= self._waiting:
                return
            self._waiting = hint.value
        with suppress(Exception):
            self._wake(hint)


@dataclass
class _Watched:
    """One directory under watch; watchdog 7's callback for it. `names` None: whatever happens in it counts."""

    path: str
    identity: tuple[int, int]
    names: frozenset[bytes] | None
    say: Callable[[Hint], None]
    wd: int = -1
    is_dead: bool = False

    def saw(self, mask: int, name: bytes) -> None:
        """Weigh one event: of a directory on the way to a watched one only the names on that way count."""
        if self.is_dead:
            return
        if name and self.names is not None and not (mask & _NAMES and name in self.names):
            return
        self.say(Hint.TOUCHED if mask & _MAY_GO_ON else Hint.CLOSED)

    def on_event(self, event: Any) -> None:  # noqa: ANN401 -- watchdog 7: InotifyEvent
        self.saw(event.mask, event.name)

    def on_watch_deleted(self, wd: int) -> None:  # noqa: ARG002
        """The directory is gone, or what it was mounted from."""
        self._die()

    def on_queue_overflow(self) -> None:
        self.say(Hint.CLOSED)

    def _die(self) -> None:
        if not self.is_dead:
            self.is_dead = True
            self.say(Hint.CLOSED)


# --- which directories --------------------------------------------------------------------------------------


@dataclass
class _Wanted:
    """A real directory to watch: which one stands there (device, inode), and the names in it that count (None: all)."""

    identity: tuple[int, int]
    names: frozenset[bytes] | None


@dataclass
class _Survey:
    """Walks the wanted paths from the root, each directory once."""

    real: dict[str, str | None] = field(default_factory=dict)
    identities: dict[str, tuple[int, int]] = field(default_factory=dict)
    names: dict[str, set[bytes]] = field(default_factory=dict)

    def resolve(self, path: str) -> str | None:
        """The real directory at `path`, None if there is none. Notes each name on the way in the directory it is in."""
        if path not in self.real:
            self.real[path] = self._resolve(path)
        return self.real[path]

    def _resolve(self, path: str) -> str | None:
        parent_path, name = os.path.split(path)
        parent = self.resolve(parent_path) if name else ""
        if parent is None:
            return None
        here = os.path.join(parent, name) or "/"
        if name:
            self.names.setdefault(parent, set()).add(os.fsencode(name))
        try:
            found = os.lstat(here)
            if stat.S_ISLNK(found.st_mode):
                return self.resolve(os.path.realpath(here, strict=True))
        except OSError:
            return None
        if not stat.S_ISDIR(found.st_mode):
            return None
        self.identities[here] = (found.st_dev, found.st_ino)
        return here


def _survey(directories: frozenset[str]) -> dict[str, _Wanted]:
    """Each wanted directory that exists, in full; those on the way to it, links followed, for the names on the way."""
    survey = _Survey()
    whole = {survey.resolve(os.path.normpath(path)) for path in directories}
    return {
        path: _Wanted(identity, None if path in whole else frozenset(survey.names.get(path, ())))
        for path, identity in survey.identities.items()
    }


# --- watchdog -----------------------------------------------------------------------------------------------


class _Inotify(Protocol):
    """One inotify descriptor and the thread that reads it."""

    @property
    def is_alive(self) -> bool: ...

    def add(self, watched: _Watched) -> None:
        """Raises OSError."""
        ...

    def remove(self, watched: _Watched) -> None: ...

    def close(self) -> None: ...


def _open_inotify(lost: Callable[[], None]) -> _Inotify:
    """The reader for the watchdog at hand: 7.x, or 6.x. Raises OSError at the kernel's limits."""
    # Not at the top: 7.0 opens its descriptor on import, which fails at the instance limit.
    from watchdog.observers import inotify_c

    kinds = vars(inotify_c)
    opened: _Inotify = _Inotify7(kinds["InotifyFD"]()) if "InotifyFD" in kinds else _Inotify6(kinds["Inotify"], lost)
    _close_on_exec()
    return opened


class _Inotify7:
    """watchdog 7: its InotifyFD calls us back from its own thread."""

    def __init__(self, descriptor: Any) -> None:  # noqa: ANN401 -- the class differs by version
        self._descriptor = descriptor
        if not descriptor.is_alive():
            descriptor.start()

    @property
    def is_alive(self) -> bool:
        return bool(self._descriptor.is_alive())

    def add(self, watched: _Watched) -> None:
        watched.wd = self._descriptor.add_callback(os.fsencode(watched.path), MASK, watched, self._key(watched))
        if watched.wd == -1:
            # What watchdog makes of EACCES: no error, and a watch with this number.
            raise PermissionError(EACCES, os.strerror(EACCES))

    def remove(self, watched: _Watched) -> None:
        with suppress(OSError):
            self._descriptor.remove_callbacks([(watched.wd, self._key(watched))])

    def close(self) -> None:
        self._descriptor.stop()
        self._descriptor.join(_CLOSE_SECONDS)

    @staticmethod
    def _key(watched: _Watched) -> Hashable:
        return id(watched)


class _Inotify6:
    """watchdog 6: its Inotify is read by a thread of ours. It is opened for one directory, so it gets the root, which
    is on the way to every other."""

    def __init__(self, kind: Any, lost: Callable[[], None]) -> None:  # noqa: ANN401
        self._inotify = kind(b"/", recursive=False, event_mask=MASK)
        self._lost = lost
        self._closed = False
        self._by_path: dict[bytes, _Watched] = {}
        self._thread = threading.Thread(target=self._read, name="inotify", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def add(self, watched: _Watched) -> None:
        path = os.fsencode(watched.path)
        self._by_path[path] = watched
        if path != b"/":
            self._inotify.add_watch(path)

    def remove(self, watched: _Watched) -> None:
        path = os.fsencode(watched.path)
        if self._by_path.get(path) is watched:
            del self._by_path[path]
        if path != b"/":
            with suppress(OSError, KeyError):
                self._inotify.remove_watch(path)

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._inotify.close()
        self._thread.join(_CLOSE_SECONDS)

    def _read(self) -> None:
        while not self._closed:
            try:
                for event in self._inotify.read_events():
                    self._give(event)
            except KeyError:
                # It stumbles over the last event of a watch that was removed; what it had read is lost.
                self._lost()

    def _give(self, event: Any) -> None:  # noqa: ANN401
        path = event.src_path[: -len(event.name) - 1] if event.name else event.src_path
        watched = self._by_path.get(path or b"/")
        if watched is None:
            return
        if event.is_ignored:
            watched.on_watch_deleted(event.wd)
        else:
            watched.saw(event.mask, event.name)


def _close_on_exec() -> None:
    """watchdog opens inotify without IN_CLOEXEC; no program we start shall inherit it."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if "inotify" in os.readlink(f"/proc/self/fd/{name}"):
                os.set_inheritable(int(name), False)  # noqa: FBT003
