"""FakeHost: a machine in memory. It passes the same contract test as the real one (test_host_contract.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from agent.errors import ConcurrentChangeError, HostError
from agent.ledger import Ledger
from agent.model import Absent, CommandResult, Cri, FileState, Now, Regular, UnitState, UnitTies, Unusable
from agent.plan import RemoveFile, WriteFile


@dataclass
class FakeHost:
    """Files are a dict from path to FileState, directories a set; units, answers and commands are scripted.

    `read_by` is what each command was said to read besides the files that it names. `log` records every change in order
    (`write /etc/x`, `reload docker.service`), so that "0 writes, 0 acts" is a comparison. `failures` maps a path to the
    reason with which the next change there fails, once.
    """

    files: dict[str, FileState] = field(default_factory=dict)
    directories: set[str] = field(default_factory=lambda: {"/", "/etc"})
    units: dict[str, UnitState] = field(default_factory=dict)
    unit_ties: dict[str, UnitTies] = field(default_factory=dict)
    answers: dict[tuple[str, str], bytes | Callable[[], bytes | None]] = field(default_factory=dict)
    cris: dict[str, Cri] = field(default_factory=dict)
    commands: dict[tuple[str, ...], CommandResult | Callable[[bytes], CommandResult]] = field(default_factory=dict)
    read_by: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    processes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    mtimes: dict[str, float] = field(default_factory=dict)
    originals: dict[str, bytes] = field(default_factory=dict)
    stored_ledger: Ledger = field(default_factory=Ledger)
    clock: Now = field(default_factory=lambda: Now(1_800_000_000.0, 12 * 60))
    failures: dict[str, str] = field(default_factory=dict)
    on_reload: Callable[[], None] = field(default=lambda: None)
    on_restart: Callable[[], None] = field(default=lambda: None)
    on_recover: Callable[[], None] = field(default=lambda: None)
    log: list[str] = field(default_factory=list)

    def put(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Somebody else writes a file, making its directories."""
        data = content.encode() if isinstance(content, str) else content
        self.files[path] = Regular(data, mode)
        self.mtimes[path] = self.clock.unix_seconds
        self.mkdirs(path.rpartition("/")[0])

    def mkdirs(self, path: str) -> None:
        """Somebody else makes a directory and its parents."""
        while path:
            self.directories.add(path)
            path = path.rpartition("/")[0]
        self.directories.add("/")

    def text(self, path: str) -> str:
        """The content of a regular file."""
        state = self.files[path]
        assert isinstance(state, Regular)
        return state.content.decode()

    def read(self, path: str) -> FileState:
        if path in self.directories:
            return Unusable("is a directory")
        return self.files.get(path, Absent())

    def list_directory(self, path: str) -> tuple[str, ...] | None:
        if path not in self.directories:
            return None
        prefix = path.rstrip("/") + "/"
        entries = (entry for entry in (*self.files, *self.directories) if entry.startswith(prefix) and entry != prefix)
        return tuple(sorted({entry[len(prefix) :].split("/")[0] for entry in entries}))

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.directories

    def modified_at(self, path: str) -> float | None:
        return self.mtimes.get(path, 0.0) if self.exists(path) else None

    def written_at(self, path: str) -> float | None:
        return self.modified_at(path)

    def original(self, sha256: str) -> bytes | None:
        return self.originals.get(sha256)

    def ledger(self) -> Ledger:
        return self.stored_ledger

    def unit(self, name: str) -> UnitState:
        return self.units.get(name, UnitState())

    def ties(self, name: str) -> UnitTies:
        """Every packaged unit of a runtime has KillMode=process."""
        known = UnitTies("process") if name in self.units else UnitTies()
        return self.unit_ties.get(name, known)

    def query(self, socket: str, target: str) -> bytes | None:
        answer = self.answers.get((socket, target)) or self.answers.get((socket, target.partition("?")[0]))
        return answer() if callable(answer) else answer

    def cri(self, socket: str) -> Cri:
        """Where something listens a CRI answers, unless it is told otherwise."""
        return self.cris.get(socket, Cri.READY if self.exists(socket) else Cri.SILENT)

    def command(self, argv: Sequence[str], stdin: bytes = b"", files: Sequence[str] = ()) -> CommandResult | None:
        self.read_by[tuple(argv)] = tuple(files)
        result = self.commands.get(tuple(argv))
        return result(stdin) if callable(result) else result

    def arguments(self, pid: int) -> tuple[str, ...]:
        return self.processes.get(pid, ())

    def now(self) -> Now:
        return self.clock

    def write_files(self, actions: Sequence[WriteFile]) -> tuple[HostError | None, ...]:
        return tuple(self._attempt(action) for action in actions)

    def _attempt(self, action: WriteFile) -> HostError | None:
        try:
            self._change(action.path, action.replaces)
        except HostError as error:
            return error
        if action.path.rpartition("/")[0] not in self.directories:
            return HostError(action.path, "no such directory (ENOENT)")
        self.files[action.path] = self._written(action)
        self.mtimes[action.path] = self.clock.unix_seconds
        self.log.append(f"write {action.path}")
        return None

    def _written(self, action: WriteFile) -> Regular:
        before = action.replaces
        kept = (before.uid, before.gid) if isinstance(before, Regular) else (0, 0)
        return Regular(action.content, action.mode, *(action.owner or kept))

    def _change(self, path: str, expected: FileState) -> None:
        if reason := self.failures.pop(path, ""):
            raise HostError(path, reason)
        found = self.read(path)
        if isinstance(found, Unusable):
            raise HostError(path, found.reason)
        if found != expected:
            raise ConcurrentChangeError(path, "changed by somebody else")

    def remove_file(self, action: RemoveFile) -> None:
        if self.exists(action.path):
            self._change(action.path, action.replaces)
            del self.files[action.path]
            self.log.append(f"remove {action.path}")

    def make_directory(self, path: str, mode: int) -> None:  # noqa: ARG002 -- the fake keeps no directory modes
        if path in self.directories:
            return
        if path.rpartition("/")[0] not in {*self.directories, ""}:
            raise HostError(path, "no such directory (ENOENT)")
        if path in self.files:
            raise HostError(path, "is a file, not a directory")
        self.directories.add(path)
        self.log.append(f"mkdir {path}")

    def remove_directory(self, path: str) -> None:
        if self.list_directory(path) == ():
            self.directories.discard(path)
            self.log.append(f"rmdir {path}")

    def keep_original(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.originals[digest] = content
        return digest

    def save_ledger(self, ledger: Ledger) -> None:
        self.stored_ledger = ledger

    def reload_unit(self, unit: str) -> None:
        self.log.append(f"reload {unit}")
        self.on_reload()

    def restart_unit(self, unit: str, deadline_seconds: float) -> None:  # noqa: ARG002 -- nothing waits here
        self.log.append(f"restart {unit}")
        self.on_restart()

    def recover_unit(self, unit: str, deadline_seconds: float, taken: Callable[[], None]) -> None:  # noqa: ARG002
        """Nothing waits here; `on_recover` says why systemd takes no order."""
        self.log.append(f"start {unit}")
        self.on_recover()
        taken()

    def refresh(self) -> None:
        """Nothing is cached here."""

    def pause(self, seconds: float) -> None:
        self.clock = replace(self.clock, unix_seconds=self.clock.unix_seconds + seconds)
