"""One question to a daemon on a unix socket: HTTP/1.1 GET, with a deadline for the whole exchange.

Written by hand because the standard client has a timeout per read only (a daemon that sends a byte a second would hold
us for ever) and brings ssl along, 8 MB that the resident process has no other use for.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from typing import Any

MAX_BYTES = 4 * 1024 * 1024
_MAX_LINE = 16 * 1024
_MAX_HEADERS = 200


def get(socket_path: str, target: str, timeout_seconds: float = 2.0, max_bytes: int = MAX_BYTES) -> bytes | None:
    """The body of a 200 answer to GET `target`; None for any other answer, and for none that is whole, well-formed, at
    most `max_bytes` long and there within `timeout_seconds` in all. Never raises for what the other side does.

    Connecting can start a socket-activated daemon: the caller asks only where the unit is up.
    """
    deadline = time.monotonic() + timeout_seconds
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(socket_path)
            connection.sendall(request.encode("ascii"))
            with BufferedReader(_Deadlined(connection, deadline)) as reader:
                return _Answer(reader, max_bytes).body()
    except (OSError, ValueError):
        return None


class _Deadlined(RawIOBase):
    """A socket whose reads share one deadline."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 -- as RawIOBase has it
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


@dataclass(frozen=True, slots=True)
class _Answer:
    """An HTTP/1.x response (RFC 9112). Raises ValueError for anything that is not a whole one."""

    reader: BufferedReader[_Deadlined]
    max_bytes: int

    def body(self) -> bytes | None:
        """The body, None if the status is not 200."""
        if not self._is_ok():
            return None
        headers = self._headers()
        if "chunked" in headers.get(b"transfer-encoding", b"").decode("latin-1").lower():
            return self._chunks()
        length = headers.get(b"content-length")
        return self._until_end() if length is None else self._exactly(_decimal(length))

    def _is_ok(self) -> bool:
        words = self._line().split(b" ", 2)
        if len(words) < 2 or words[0] not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise ValueError("not HTTP")
        return words[1] == b"200"

    def _headers(self) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = {}
        for _ in range(_MAX_HEADERS):
            name, colon, value = self._line().partition(b":")
            if not colon:
                return headers
            headers[name.strip().lower()] = value.strip()
        raise ValueError("too many headers")

    def _chunks(self) -> bytes:
        whole = bytearray()
        while size := _hexadecimal(self._line().partition(b";")[0].strip()):
            if len(whole) + size > self.max_bytes:
                raise ValueError("too long")
            whole += self._exactly(size)
            if self._line():
                raise ValueError("a chunk does not end where it says")
        return bytes(whole)

    def _exactly(self, size: int) -> bytes:
        if size > self.max_bytes:
            raise ValueError("too long")
        data = self.reader.read(size)
        if len(data) != size:
            raise ValueError("cut off")
        return data

    def _until_end(self) -> bytes:
        data = self.reader.read(self.max_bytes + 1)
        if len(data) > self.max_bytes:
            raise ValueError("too long")
        return data

    def _line(self) -> bytes:
        line = self.reader.readline(_MAX_LINE)
        if not line.endswith(b"\n"):
            raise ValueError("cut off, or a line without an end")
        return line.rstrip(b"\r\n")


def _decimal(text: bytes) -> int:
    if not text.isdigit():
        raise ValueError("not a length")
    return int(text)


def _hexadecimal(text: bytes) -> int:
    if not text or text.strip(b"0123456789abcdefABCDEF"):
        raise ValueError("not a chunk size")
    return int(text, 16)
