"""What can go wrong, as types: each family has one exit code and one place that turns it into a sentence.

Every message says what happened to what, and what would be right. None of them quotes a secret or file content.
"""

from __future__ import annotations

from dataclasses import dataclass

WHOLE_FILE = "(file)"
"""The key path of a problem that is not in the text: the file is missing, or somebody else could have written it."""


class MirrorAgentError(Exception):
    """An expected failure: the command line prints its message and exits 1, never a traceback."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a desired state, at one place of its text.

    `line` and `column` count from 1 and point at the key or value meant; `key_path` is written as an operator
    would (`registries.docker.io.mirrors[0]`); `width` is the number of characters to underline there.
    """

    line: int
    column: int
    key_path: str
    message: str
    width: int = 1

    def line_of(self, source: str) -> str:
        """`/etc/x.yaml:4:5: registries.docker.io.mirror: unknown key`; without a place if it is the whole file."""
        if self.key_path == WHOLE_FILE:
            return self.message if self.message.startswith(f"{source}: ") else f"{source}: {self.message}"
        what = f"{self.key_path}: {self.message}" if self.key_path else self.message
        return f"{source}:{self.line}:{self.column}: {what}"


class DesiredStateError(MirrorAgentError):
    """The desired state is invalid. Carries every problem at once, in the order of the text; nothing was changed."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{p.line}:{p.column}: {p.key_path}: {p.message}" for p in problems))


class HostError(MirrorAgentError):
    """An operation on this machine failed. What stood there before still stands, whole.

    `path` names the file or unit, `reason` the cause in words with its errno name (`read-only file system (EROFS)`),
    and `hint`, where there is one, what a person can do about it.
    """

    def __init__(self, path: str, reason: str, hint: str = "") -> None:
        self.path = path
        self.reason = reason
        self.hint = hint
        super().__init__(f"{path}: {reason}" + (f"; {hint}" if hint else ""))


class ConcurrentChangeError(HostError):
    """Somebody else changed the file between our read and our rename: observe and plan again, nothing was lost."""


class StaleNamespaceError(HostError):
    """The directory is read-only only because it was created after this service started (systemd binds inodes).

    The daemon answers with exit code 75; a restart of the unit binds the new directory.
    """


class NotOrderedError(HostError):
    """A restart was refused before the service manager took any order: nothing has happened to the unit."""


class LedgerError(MirrorAgentError):
    """The ledger cannot be read as one: it is not there, or damaged."""


class NewerLedgerError(LedgerError):
    """A newer, incompatible version has written the ledger, and can read it."""


class LockedError(MirrorAgentError):
    """Another mirror-agent works on this root; the message says which process and what it does. `is_daemon`: it is the
    one that stays."""

    def __init__(self, message: str, *, is_daemon: bool = False) -> None:
        self.is_daemon = is_daemon
        super().__init__(message)


class OutputError(MirrorAgentError):
    """Standard output takes nothing any more: its disk is full, or it is closed."""


class StopAskedError(HostError):
    """The agent was told to end while it waited for a daemon: nothing is known of that, so nothing has failed."""


def describe_bug(error: BaseException) -> str:
    """An unexpected exception in one line: its type and where it came from. Its text may quote file content, and
    with that a secret, so it is left out."""
    import traceback  # not at the top: only a bug needs it

    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
