"""Connections of a probe: names, addresses, TLS. The only place of the package, and with it of the program, that opens
network sockets.

A name is looked up once and connected to by the addresses that were judged, so that no second answer of a name server
counts. Every wait ends with the probe's deadline; what does not keep it (a look-up cannot) is left behind by `_crowd`.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from threading import Lock

from agent.probe._trust import reason
from agent.probe.address import Kind, is_literal, kind_of, may_be_led_to
from agent.probe.judge import visible
from agent.probe.verdict import Finding, Found, Verdict

_MOST_ADDRESSES = 4
_SHORTEST_ATTEMPT_SECONDS = 2.0


class Stage(Enum):
    """What a probe waits for."""

    LOOK_UP = "its name is not resolved in time"
    CONNECT = "no answer to a connection, which costs containerd 30 s per request: packets are dropped on the way"
    TLS = "takes the connection, but does not finish TLS"
    ANSWER = "takes the request and does not answer, or too slowly"


@dataclass
class Progress:
    """Where a probe is; read from another thread, which may end it. `place` is the host, "" for the mirror's own."""

    deadline: float
    stage: Stage = Stage.LOOK_UP
    place: str = ""
    requests: int = 0
    _connection: socket.socket | None = None
    _is_ended: bool = False
    _lock: Lock = field(default_factory=Lock)

    def left(self) -> float:
        """Seconds until the deadline. Raises TimeoutError behind it."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def overdue(self) -> Finding:
        """What it means that the deadline has come. A mirror that has answered before took its time for that."""
        stage = Stage.ANSWER if self.requests > 1 and not self.place else self.stage
        is_silent = stage in {Stage.LOOK_UP, Stage.CONNECT}
        return Finding(Verdict.UNREACHABLE if is_silent else Verdict.HANGING, self.at(stage.value))

    def at(self, seen: str) -> str:
        """What was seen, with the host if it is not the mirror's own."""
        return f"{self.place}: {seen}" if self.place else seen

    def hold(self, connection: socket.socket | None) -> None:
        """The connection that is in use now."""
        with self._lock:
            self._connection = connection
            if self._is_ended:
                self._shut()

    def end(self) -> None:
        """Wake the probe from whatever it waits for on a connection."""
        with self._lock:
            self._is_ended = True
            self._shut()

    def _shut(self) -> None:
        if self._connection is not None:
            try:
                self._connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


def addresses_of(host: str, port: int, progress: Progress) -> list[str]:
    """The numeric addresses of a name. Raises Found."""
    progress.stage = Stage.LOOK_UP
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no name"
        raise Found(Verdict.UNREACHABLE, progress.at(f"its name is not resolved: {why}")) from error
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


def own_addresses(host: str, port: int, progress: Progress) -> list[str]:
    """Of the mirror itself: wherever the operator says by number; a name must not lead to a machine's metadata."""
    found = addresses_of(host, port, progress)
    fit = [each for each in found if is_literal(host) or kind_of(each) is not Kind.NEVER]
    if not fit:
        raise Found(Verdict.UNREACHABLE, f"its name leads to {found[0]}, {Kind.NEVER.value}")
    return fit


def led_addresses(host: str, port: int, own: frozenset[Kind], progress: Progress) -> list[str]:
    """Of a host that the mirror leads to. Raises Found where it must not be asked."""
    found = addresses_of(host, port, progress)
    fit = [each for each in found if may_be_led_to(each, own)]
    if not fit:
        kind = kind_of(found[0]).value
        detail = f"sends requests on to {visible(host)} ({found[0]}), {kind}: not followed"
        raise Found(Verdict.WRONG_CONTENT, detail)
    return fit


def connect(addresses: list[str], port: int, progress: Progress) -> socket.socket:
    """A connection to the first address that takes one. Raises Found, TimeoutError."""
    progress.stage = Stage.CONNECT
    last: OSError = TimeoutError()
    for address, seconds in _shares(addresses[:_MOST_ADDRESSES], progress):
        try:
            return _connected(address, port, seconds)
        except OSError as error:
            last = error
    if isinstance(last, TimeoutError):
        raise TimeoutError from last
    if isinstance(last, ConnectionError):
        raise Found(Verdict.REFUSED, progress.at(f"port {port} refuses connections")) from last
    raise Found(Verdict.UNREACHABLE, progress.at(f"no way to it: {last.strerror}")) from last


def _connected(address: str, port: int, seconds: float) -> socket.socket:
    """Without a second look-up, which socket.create_connection makes even for a number."""
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect((address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _shares(addresses: list[str], progress: Progress) -> Iterator[tuple[str, float]]:
    """Each address with its share of the time that is left, as Go deals it out (net.Dialer, partialDeadline)."""
    for count, address in enumerate(addresses):
        left = progress.left()
        share = left / (len(addresses) - count)
        yield address, min(left, max(share, _SHORTEST_ATTEMPT_SECONDS))


def secure(connection: socket.socket, host: str, context: ssl.SSLContext, progress: Progress) -> socket.socket:
    """The connection with TLS on it; on failure it is closed. Raises Found, TimeoutError."""
    progress.stage = Stage.TLS
    try:
        connection.settimeout(progress.left())
        secured = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        connection.close()
        raise
    try:
        progress.hold(secured)
        secured.do_handshake()
    except TimeoutError:
        secured.close()
        raise
    except (OSError, ValueError) as error:
        secured.close()
        progress.left()
        raise Found(Verdict.TLS, progress.at(_why(error))) from error
    return secured


def _why(error: Exception) -> str:
    if isinstance(error, ConnectionError):
        return "it ends the connection instead of speaking TLS"
    return reason(error)
