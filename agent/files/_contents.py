"""What stands at a place: reading a file as a value, and whether content is whole by its own syntax."""

from __future__ import annotations

import json
import os
import stat
import tomllib

from agent.errors import ConcurrentChangeError
from agent.files._kernel import closing, is_being_written
from agent.files._reasons import changed, reason_of
from agent.model import Absent, FileState, Regular, Unusable

MAX_BYTES = 4 << 20
"""Of a file that others write, too."""
OWN_MAX_BYTES = 32 << 20
"""Of one that we alone write and read: the ledger of 20,000 registries in both runtimes has 13 MB."""

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC

_KINDS = {
    stat.S_IFDIR: "is a directory",
    stat.S_IFLNK: "is a symbolic link",
    stat.S_IFIFO: "is a FIFO",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a character device",
    stat.S_IFBLK: "is a block device",
}


class NotRegularError(Exception):
    """Something else than a readable regular file of bearable size; the message says what."""


def too_large(most_bytes: int) -> str:
    """What is wrong with more than that."""
    return f"is larger than {most_bytes >> 20} MiB"


def state_at(directory: int, name: str, most_bytes: int = MAX_BYTES) -> FileState:
    """The file `name` in a held directory, a link not followed. Raises nothing: what cannot be read is Unusable."""
    try:
        return _read_at(directory, name, most_bytes)
    except NotRegularError as error:
        return Unusable(str(error))
    except OSError as error:
        return Unusable(reason_of(error))


def _read_at(directory: int, name: str, most_bytes: int) -> Absent | Regular:
    try:
        descriptor = open_regular(directory, name, most_bytes)
    except FileNotFoundError:
        return Absent()
    with closing(descriptor):
        return read_open(descriptor, most_bytes)


def open_regular(directory: int, name: str, most_bytes: int = MAX_BYTES) -> int:
    """Open a regular file for reading, and nothing else: opening a device or a FIFO can have effects or block."""
    _insist(os.stat(name, dir_fd=directory, follow_symlinks=False), most_bytes)
    return os.open(name, _READ, dir_fd=directory)


def read_open(descriptor: int, most_bytes: int = MAX_BYTES) -> Regular:
    """An open file from its first byte, with the owner and mode that it has now. Raises NotRegularError and OSError."""
    info = os.fstat(descriptor)
    _insist(info, most_bytes)
    content = _read(descriptor, info.st_size, most_bytes)
    if len(content) > most_bytes:
        raise NotRegularError(too_large(most_bytes))
    return Regular(content, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)


def _insist(info: os.stat_result, most_bytes: int) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise NotRegularError(_KINDS.get(stat.S_IFMT(info.st_mode), "is not a regular file"))
    if info.st_size > most_bytes:
        raise NotRegularError(too_large(most_bytes))


def _read(descriptor: int, size: int, most_bytes: int) -> bytes:
    """At most one byte more than is bearable; `size` is what stat said, and only a hint."""
    parts = []
    offset = 0
    chunk = max(size + 1, 1 << 16)
    while offset <= most_bytes and (part := os.pread(descriptor, chunk, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def insist(directory: int, name: str, path: str, expected: FileState) -> None:
    """That exactly the expected file, or none, stands there, and that nobody is writing into it.

    Raises ConcurrentChangeError, and OSError if it cannot be told. It looks for writers first: what is read after
    that has no writer, so that nothing slips through in between.
    """
    has_writer = False
    try:
        with closing(open_regular(directory, name)) as descriptor:
            has_writer = is_being_written(descriptor)
            found: FileState = read_open(descriptor)
    except FileNotFoundError:
        found = Absent()
    except NotRegularError as error:
        found = Unusable(str(error))
    if found != expected:
        raise changed(path)
    if has_writer:
        raise ConcurrentChangeError(path, "another program has it open for writing")


def flaw_in(name: str, content: bytes) -> str:
    """Why content is not what its name promises (*.toml, *.json); "" if it is, or if the name promises nothing."""
    try:
        if name.endswith(".toml"):
            tomllib.loads(content.decode())
        elif name.endswith(".json"):
            json.loads(
                content.decode(), object_pairs_hook=_object, parse_constant=_refuse, parse_int=str, parse_float=str
            )
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        return _flaw(error)
    return ""


def _flaw(error: ValueError) -> str:
    """Where it is, and never a word of the content: it may be a secret."""
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}: {error.msg}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return "it cannot be parsed" if isinstance(error, tomllib.TOMLDecodeError) else str(error)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a key twice")
    return members


def _refuse(_: str) -> object:
    raise ValueError("a number is NaN or infinite, which JSON does not know")
