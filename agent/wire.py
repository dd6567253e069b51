"""What comes over a connection: reads that share one deadline, and HTTP/1.x answers of bounded size (RFC 9112).

Written by hand because the standard client has a timeout per read only (who sends a byte a second would hold us for
ever), reads as many interim answers as are sent, and brings ssl along, 8 MB that the resident process has no use for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader, RawIOBase
from typing import Any, Protocol

_MAX_LINE = 16 * 1024
_MAX_HEADERS = 200
_PIECE = 16 * 1024
_NO_LIMIT = 1 << 62


class CutOffError(ValueError):
    """The other side ended before its answer did."""


class NothingError(CutOffError):
    """The other side ended without a word."""


class TooLongError(ValueError):
    """More than was bargained for."""


class Connection(Protocol):
    """The part of a socket that is read from."""

    def settimeout(self, value: float | None, /) -> None:
        """As socket.settimeout."""
        ...

    def recv_into(self, buffer: Any, /) -> int:  # noqa: ANN401 -- as the socket has it
        """As socket.recv_into."""
        ...


class Deadlined(RawIOBase):
    """A connection whose reads share one deadline (of time.monotonic) and one number of bytes. Raises TimeoutError,
    TooLongError."""

    def __init__(self, connection: Connection, deadline: float, max_bytes: int = _NO_LIMIT) -> None:
        self._connection = connection
        self._deadline = deadline
        self._bytes_left = max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 -- as RawIOBase has it
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer)
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise TooLongError("more bytes than an answer may have")
        return count


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers; names in lower case, every value of each in its order."""

    status: int
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a header."""
        return self.headers.get(name, ())

    def value(self, name: str) -> str:
        """The last value of a header, "" without one."""
        return self.headers.get(name, ("",))[-1]


def read_head(reader: BufferedReader[Any]) -> Head:
    """The next head, which may be an interim one (1xx). Raises NothingError, CutOffError, TooLongError, ValueError (not
    HTTP)."""
    if not reader.peek(1):
        raise NothingError("no answer")
    words = _line(reader).split(b" ", 2)
    if len(words) < 2 or words[0] not in (b"HTTP/1.1", b"HTTP/1.0") or len(words[1]) != 3:
        raise ValueError("not HTTP")
    status = _decimal(words[1])
    headers: dict[str, tuple[str, ...]] = {}
    for _ in range(_MAX_HEADERS):
        name, colon, value = _line(reader).partition(b":")
        if not colon:
            return Head(status, headers)
        key = name.strip().lower().decode("latin-1")
        headers[key] = (*headers.get(key, ()), value.strip().decode("latin-1"))
    raise TooLongError("too many headers")


def read_body(reader: BufferedReader[Any], head: Head, max_bytes: int) -> bytes:
    """The whole body behind a head. Raises CutOffError, TooLongError, ValueError."""
    whole = bytearray()
    for piece in _pieces(reader, head):
        whole += piece
        if len(whole) > max_bytes:
            raise TooLongError("a body that is too long")
    return bytes(whole)


def read_start(reader: BufferedReader[Any], head: Head, max_bytes: int) -> bytes:
    """A body that is only looked at: no more than `max_bytes` of it. Raises CutOffError, ValueError."""
    start = bytearray()
    for piece in _pieces(reader, head):
        start += piece
        if len(start) >= max_bytes:
            break
    return bytes(start[:max_bytes])


def _pieces(reader: BufferedReader[Any], head: Head) -> Iterator[bytes]:
    """The body in pieces: by chunks, by its length, or until the end."""
    length = head.value("content-length")
    if "chunked" in head.value("transfer-encoding").lower():
        while size := _hexadecimal(_line(reader).partition(b";")[0].strip()):
            yield from _exactly(reader, size)
            if _line(reader):
                raise ValueError("a chunk does not end where it says")
    elif length:
        yield from _exactly(reader, _decimal(length.encode("latin-1")))
    else:
        while piece := reader.read(_PIECE):
            yield piece


def _exactly(reader: BufferedReader[Any], size: int) -> Iterator[bytes]:
    while size:
        piece = reader.read(min(size, _PIECE))
        if not piece:
            raise CutOffError("a body that is cut off")
        size -= len(piece)
        yield piece


def _line(reader: BufferedReader[Any]) -> bytes:
    line = reader.readline(_MAX_LINE)
    if line.endswith(b"\n"):
        return line.rstrip(b"\r\n")
    if len(line) == _MAX_LINE:
        raise TooLongError("a line that is too long")
    raise CutOffError("a head that is cut off")


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise ValueError("not a number")
    return int(text)


def _hexadecimal(text: bytes) -> int:
    if not text or len(text) > 16 or text.strip(b"0123456789abcdefABCDEF"):
        raise ValueError("not a chunk size")
    return int(text, 16)
