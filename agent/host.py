"""The only door out: what a runtime may ask of a machine (HostReader) and what converge may do to it (Host).

`agent.node` implements both for a real machine, `tests.fakes.FakeHost` in memory; one contract test holds for both.
Paths are absolute and as an operator writes them; `--root DIR` is the implementation's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from agent.errors import HostError
from agent.ledger import Ledger
from agent.model import CommandResult, Cri, FileState, Now, UnitState, UnitTies
from agent.plan import RemoveFile, WriteFile


class HostReader(Protocol):
    """Looks, never touches, never raises for something absent. What it returns may be as old as the last `refresh`
    for facts about daemons (units, answers, commands); files and directories are always as they are now."""

    def read(self, path: str) -> FileState:
        """The file at `path`, links followed, at most 4 MiB; Unusable says why it must not be overwritten."""
        ...

    def list_directory(self, path: str) -> tuple[str, ...] | None:
        """The sorted names in a directory, links to directories followed; None if there is no directory."""
        ...

    def exists(self, path: str) -> bool:
        """Whether anything stands at the path (links followed)."""
        ...

    def modified_at(self, path: str) -> float | None:
        """When the file or directory at `path` last changed, in Unix seconds; None if there is none. The later of its
        mtime and its ctime: an old file that is moved into place has changed just then."""
        ...

    def written_at(self, path: str) -> float | None:
        """When the content of the file at `path` was last written (its mtime alone), in Unix seconds; None if there is
        none. A chmod, chattr or relabelling is no writing; an old file that is moved into place is not noticed."""
        ...

    def original(self, sha256: str) -> bytes | None:
        """A kept original by its digest; None if it is lost or does not match its digest."""
        ...

    def ledger(self) -> Ledger:
        """What we own and what stood there before."""
        ...

    def unit(self, name: str) -> UnitState:
        """A systemd unit; ActiveState.OFF where units are not ours to control (--root, no systemd)."""
        ...

    def ties(self, name: str) -> UnitTies:
        """What a restart of a unit would take along; ask only when one is in sight. UnitTies() where units are not ours
        to control."""
        ...

    def query(self, socket: str, target: str) -> bytes | None:
        """The body of a 200 answer to GET `target` over a unix socket; None for anything else within 2 s.

        Connecting can start a socket-activated daemon: ask only when the unit `is_up`.
        """
        ...

    def cri(self, socket: str) -> Cri:
        """Whether the CRI behind a unix socket answers (its Version), for which it has 2 s.

        Connecting can start a socket-activated daemon: ask only when the unit `is_up`.
        """
        ...

    def command(self, argv: Sequence[str], stdin: bytes = b"", files: Sequence[str] = ()) -> CommandResult | None:
        """Run a program by absolute path, no shell, clean environment, 5 s at most; None where it cannot be run
        (not there, timed out, or --root). `stdin` is a file to the program, so that it can be read as /dev/stdin. What
        it said may be remembered as long as the files that it is called with are the same, and `files`, which it reads
        besides."""
        ...

    def arguments(self, pid: int) -> tuple[str, ...]:
        """The command line of a process, () if it is gone."""
        ...

    def now(self) -> Now:
        """The wall clock."""
        ...


class Host(HostReader, Protocol):
    """Changes the machine. Every method is all or nothing and durable when it returns, or raises HostError."""

    def write_files(self, actions: Sequence[WriteFile]) -> tuple[HostError | None, ...]:
        """Replace files whole (DESIGN 4.1), flushing side by side; one result per action, None for success."""
        ...

    def remove_file(self, action: RemoveFile) -> None:
        """Remove the file if it is still what the action says; already gone: nothing."""
        ...

    def make_directory(self, path: str, mode: int) -> None:
        """Make one directory with exactly this mode; already there: nothing."""
        ...

    def remove_directory(self, path: str) -> None:
        """Remove it if it is empty; not empty or already gone: nothing."""
        ...

    def keep_original(self, content: bytes) -> str:
        """Keep bytes by their SHA-256 (hex), which is returned; readable by root only."""
        ...

    def save_ledger(self, ledger: Ledger) -> None:
        """Replace the ledger, durably."""
        ...

    def reload_unit(self, unit: str) -> None:
        """SIGHUP to the unit's main process, and to nothing else. Proves nothing about the reload."""
        ...

    def restart_unit(self, unit: str, deadline_seconds: float) -> None:
        """Restart without blocking on systemd, then wait until the unit is up again, with a new invocation."""
        ...

    def recover_unit(self, unit: str, deadline_seconds: float, taken: Callable[[], None]) -> None:
        """Forget the unit's failures, start it, and wait until it is up. For a unit that only our restart ended.

        `taken` is called when the order to start it is in systemd's hands; before that, a unit whose failure is
        forgotten looks like one that somebody has stopped."""
        ...

    def refresh(self) -> None:
        """Forget cached facts about daemons."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait, keeping the service manager's watchdog fed."""
        ...
