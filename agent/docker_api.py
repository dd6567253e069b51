"""One question to a daemon on a unix socket: HTTP/1.1 GET, with a deadline for the whole exchange."""

from __future__ import annotations

import socket
import time
from io import BufferedReader

from agent.wire import Deadlined, read_body, read_head

MAX_BYTES = 4 * 1024 * 1024


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
            with BufferedReader(Deadlined(connection, deadline)) as reader:
                head = read_head(reader)
                return read_body(reader, head, max_bytes) if head.status == 200 else None
    except (OSError, ValueError):
        return None
