"""The Host of a real machine: files through `agent.files`, units through `agent.systemd`, daemons by socket.

It remembers what it was asked (facts) with a cheap signature of each, for two things: a second look at an unchanged
file costs one stat, and `unchanged()` tells the loop that nothing it relied on has moved, without opening a file.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from agent import systemd
from agent.asked import Asked, Signature
from agent.errors import HostError, LockedError
from agent.events import Event
from agent.files import FileSystem, Note, explained, outermost, resolved
from agent.ledger import Ledger
from agent.model import Absent, CommandResult, Cri, FileState, KeptFile, Now, Regular, UnitState, UnitTies
from agent.plan import RemoveFile, WriteFile
from agent.store import Store

STATE_DIRECTORY = "/var/lib/mirror-agent"
RUN_DIRECTORY = "/run/mirror-agent"
PROBE_DIRECTORY = "/run/mirror-agent-probe"

_RACY_NS = 50_000_000
"""A file changed this shortly before we read it may change again within one tick of its timestamps: such a reading is
used once and not trusted as "unchanged" later (the rule git uses for its index)."""

_BATCH = 512
"""Files written between two signs of life; a first apply of thousands of registries takes longer than a watchdog."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where this machine is, where we may write, and where the probe does. All paths as an operator writes them, below
    `root`."""

    root: str = "/"
    state_directory: str = STATE_DIRECTORY
    run_directory: str = RUN_DIRECTORY
    writable: tuple[str, ...] = ("/etc/containerd", "/etc/docker")
    probe_directory: str = PROBE_DIRECTORY

    @property
    def has_units(self) -> bool:
        """Units are ours to control only on the running system itself."""
        return self.root == "/" and systemd.available()


@dataclass(frozen=True, slots=True)
class _Fact:
    """A signature, and whether an equal one later proves that nothing changed."""

    signature: Signature
    trusted: bool


class RealHost:
    """Implements agent.host.Host. One thread at a time; `on_pause` is called while it waits (watchdog keep-alive)."""

    def __init__(
        self,
        places: Places,
        on_pause: Callable[[], None] = lambda: None,
        note: Note = lambda _path, _sentence: None,
    ) -> None:
        self._places = places
        self._on_pause = on_pause
        self._note_about = note
        self._files = FileSystem(places.root, allowed=(*places.writable, places.state_directory, places.run_directory))
        self._asked = Asked(self._note, has_units=places.has_units)
        self._facts: dict[str, _Fact] = {}
        self._readings: dict[str, tuple[Signature, FileState]] = {}
        self._listings: dict[str, tuple[Signature, tuple[str, ...] | None]] = {}
        self._listed: set[str] = set()
        self._directories: frozenset[str] | None = None
        self._is_concluded = False
        self._store = Store(places.root, places.state_directory)

    @property
    def places(self) -> Places:
        """Where state and runtime directories lie."""
        return self._places

    def allow(self, directories: Iterable[str]) -> None:
        """Let files be written below these directories too (where the desired state says), and below those in which
        the ledger says that we own something. The service manager's own limits still hold."""
        wanted = {*self._places.writable, *directories}
        for entry in self.ledger().entries.values():
            wanted |= {os.path.dirname(entry.path), *entry.made_directories}
        own = (self._places.state_directory, self._places.run_directory)
        self._files = FileSystem(self._places.root, allowed=(*outermost(wanted), *own), note=self._note_about)

    def sweep(self) -> tuple[Event, ...]:
        """Mend the ledger and remove what a crash left of our own writes; to be called once, by who holds the lock.
        Returns what is to be said of it. Raises HostError if the ledger cannot be had."""
        said = self._store.recover()
        own = self._places.state_directory
        owned = {os.path.dirname(path) for path in self.ledger().entries}
        for directory in sorted({own, f"{own}/originals", self._places.run_directory, *owned}):
            self.sweep_directory(directory)
        with suppress(HostError):
            self._store.forget_originals()
        return said

    def sweep_directory(self, path: str) -> None:
        """Remove what a crash left of our own writes in a directory that nobody else writes to."""
        with suppress(HostError):
            self._files.sweep(path)

    # --- looking -------------------------------------------------------------------------------------------------

    def read(self, path: str) -> FileState:
        signature = self._note(path)
        known = self._readings.get(path)
        if signature is not None and known is not None and known[0] == signature:
            return known[1]
        state = self._files.read(path)
        if signature is None and not isinstance(state, Absent) and not self._is_concluded:
            self._facts[path] = _Fact(None, trusted=False)  # a dangling link has no signature, nor has what follows it
        self._readings[path] = (self._kept(path, signature), state)
        return state

    def list_directory(self, path: str) -> tuple[str, ...] | None:
        signature = self._note(path)
        self._listed.add(path)
        known = self._listings.get(path)
        if signature is not None and known is not None and known[0] == signature:
            return known[1]
        names = self._files.list_directory(path)
        self._listings[path] = (self._kept(path, signature), names)
        return names

    def exists(self, path: str) -> bool:
        return self._note(path) is not None

    def modified_at(self, path: str) -> float | None:
        signature = self._files.signature(path)
        self._note(path)
        return None if signature is None else max(signature[3:5]) / 1e9

    def written_at(self, path: str) -> float | None:
        signature = self._note(path)
        return None if signature is None else signature[3] / 1e9

    def original(self, sha256: str) -> bytes | None:
        return self._store.original(sha256)

    def ledger(self) -> Ledger:
        return self._store.ledger()

    @property
    def loss(self) -> str:
        """Why it is not known any more what stood here before us; "" if it is."""
        return self._store.loss

    def strays(self) -> tuple[KeptFile, ...]:
        """Kept originals of which nobody knows any more where they stood; () if nothing is lost."""
        return self._store.strays()

    def unit(self, name: str) -> UnitState:
        return self._asked.unit(name)

    def ties(self, name: str) -> UnitTies:
        return self._asked.ties(name)

    def query(self, socket: str, target: str) -> bytes | None:
        return self._asked.query(socket, target)

    def cri(self, socket: str) -> Cri:
        return self._asked.cri(socket)

    def command(self, argv: Sequence[str], stdin: bytes = b"", files: Sequence[str] = ()) -> CommandResult | None:
        return self._asked.command(argv, stdin, files)

    def arguments(self, pid: int) -> tuple[str, ...]:
        return self._asked.arguments(pid)

    def now(self) -> Now:
        seconds = time.time()
        local = datetime.fromtimestamp(seconds)
        up_seconds = time.clock_gettime(time.CLOCK_BOOTTIME)
        return Now(seconds, local.hour * 60 + local.minute, seconds - up_seconds)

    # --- touching ------------------------------------------------------------------------------------------------

    def write_files(self, actions: Sequence[WriteFile]) -> tuple[HostError | None, ...]:
        results: list[HostError | None] = []
        for start in range(0, len(actions), _BATCH):
            batch = actions[start : start + _BATCH]
            try:
                self._on_pause()
                results += self._files.write_files(batch)
            except HostError as error:
                results += [error] * len(batch)
        return tuple(results)

    def remove_file(self, action: RemoveFile) -> None:
        self._files.remove_file(action)

    def make_directory(self, path: str, mode: int) -> None:
        self._files.make_directory(path, mode)

    def remove_directory(self, path: str) -> None:
        self._files.remove_directory(path)

    def keep_original(self, content: bytes) -> str:
        return self._store.keep_original(content)

    def save_ledger(self, ledger: Ledger) -> None:
        self._store.save_ledger(ledger)

    def save_state(self, name: str, content: bytes) -> None:
        """Keep a small file of our own in the state directory, durably, readable by root only."""
        self._store.save(name, content)

    def read_state(self, name: str) -> bytes | None:
        """What `save_state` kept; None if there is nothing readable."""
        return self._store.read(name)

    def publish(self, name: str, content: bytes) -> None:
        """Replace a file in the run directory that everybody may read; gone at the next boot, so not flushed."""
        self._make_directories(self._places.run_directory, 0o755)
        self._files.replace_file(f"{self._places.run_directory}/{name}", content, 0o644, durable=False)

    def expose(self, path: str, content: bytes) -> None:
        """Replace a file of our own in a directory of somebody else, for everybody to read; not flushed. Nothing else
        may be written there because of it, and no look relies on it."""
        self._files_beside(path).replace_file(path, content, 0o644, durable=False)

    def withdraw(self, path: str, first_line: bytes) -> None:
        """Remove what `expose` left: a file that begins with `first_line`. Anything else stays."""
        files = self._files_beside(path)
        state = files.read_own(path)
        if isinstance(state, Regular) and state.content.startswith(first_line):
            files.remove_own(path)

    def _files_beside(self, path: str) -> FileSystem:
        return FileSystem(self._places.root, allowed=(os.path.dirname(path),))

    def retract(self, name: str) -> None:
        """Remove what `publish` put there."""
        self._files.remove_own(f"{self._places.run_directory}/{name}")

    def reload_unit(self, unit: str) -> None:
        systemd.send_hup(unit)
        self.refresh()

    def restart_unit(self, unit: str, deadline_seconds: float) -> None:
        systemd.restart(unit, deadline_seconds, self.pause)
        self.refresh()

    def recover_unit(self, unit: str, deadline_seconds: float, taken: Callable[[], None]) -> None:
        systemd.recover(unit, deadline_seconds, self.pause, taken)
        self.refresh()

    def refresh(self) -> None:
        self._asked.refresh()

    def pause(self, seconds: float) -> None:
        self._on_pause()
        time.sleep(seconds)

    # --- what the loop needs -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start collecting the facts that the coming cycle relies on."""
        self._facts.clear()
        self._listed.clear()
        self._directories = None
        self._is_concluded = False
        self._asked.begin()

    def conclude(self) -> None:
        """The cycle has decided. What is read from now on, for a report, is no fact of it: else a change that came in
        between would count as known, although nobody has acted on it."""
        self._is_concluded = True
        self._asked.conclude()

    def unchanged(self) -> bool:
        """Whether every fact of the last cycle still holds, by stat and readlink alone."""
        files = all(f.trusted and self._files.signature(path) == f.signature for path, f in self._facts.items())
        return files and self._asked.units_stand()

    def identity(self, path: str) -> tuple[int, ...]:
        """Which directory stands at a path: device and inode, () if there is none."""
        signature = self._files.signature(path)
        return () if signature is None else signature[:2]

    def directories(self) -> frozenset[str]:
        """The real directories in which a change would matter, for the watcher: those of every file looked at, links
        followed, and those listed. Worked out once a cycle: what moves a link moves a fact too."""
        if self._directories is None:
            self._directories = self._find_directories()
        return self._directories

    def _find_directories(self) -> frozenset[str]:
        found = set()
        known: dict[str, str] = {}
        for path in self._readings.keys() & self._facts.keys():
            outside = self._outside(path)
            found |= {os.path.dirname(outside), os.path.dirname(resolved(outside, known))}
        for path in self._listed:
            found |= {self._outside(path), resolved(self._outside(path), known)}
        return frozenset(found)

    # --- inside --------------------------------------------------------------------------------------------------

    def _outside(self, path: str) -> str:
        return path if self._places.root == "/" else self._places.root + path

    def _note(self, path: str) -> Signature:
        signature = self._files.signature(path)
        known = self._facts.get(path)
        if known is None or (known.signature != signature and not self._is_concluded):
            self._facts[path] = _Fact(signature, _is_settled(signature))
        return signature

    def _kept(self, path: str, signature: Signature) -> Signature:
        """The signature under which what was just read may be used again, None if it may not."""
        fact = self._facts[path]
        return signature if fact.trusted and fact.signature == signature else None

    def _make_directories(self, path: str, mode: int) -> None:
        """Below a root other than / the parents may be missing too."""
        try:
            os.makedirs(os.path.dirname(self._outside(path)), exist_ok=True)
        except OSError as error:
            raise explained(path, error) from error
        self._files.make_directory(path, mode)


def _is_settled(signature: Signature) -> bool:
    if signature is None:
        return True
    _, _, _, modified_ns, changed_ns, *_ = signature
    return time.time_ns() - max(modified_ns, changed_ns) > _RACY_NS


@contextmanager
def locked(places: Places, purpose: str, name: str = "lock") -> Iterator[None]:
    """Be the only mirror-agent that works on this root, or does `name`. Raises LockedError that says who is, and
    HostError where there can be no lock."""
    directory = places.run_directory if places.root == "/" else places.root + places.run_directory
    path = f"{directory}/{name}"
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise explained(path, error, "cannot be opened") from error
    try:
        _take(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"mirror-agent {purpose} (pid {os.getpid()})\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another mirror-agent"
        raise LockedError(f"{holder} holds {path}", is_daemon=holder.startswith("mirror-agent run ")) from None
