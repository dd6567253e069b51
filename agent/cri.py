"""One question to a CRI socket, as kubelet asks it: its version, or a pull (that for `status --prove` alone).

gRPC is one HTTP/2 stream: headers, one framed protobuf message, and trailers with the outcome. Framing, flow control
and header compression are h2's; the message is two nested protobuf fields, written by hand.
The daemon loads this only while containerd is on trial (agent.asked).
Source: gRPC over HTTP2 (grpc doc/PROTOCOL-HTTP2.md); cri-api runtime/v1 api.proto, PullImageRequest.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

OK = 0
"""The gRPC status of a call that went well."""

UNREACHABLE = -1
"""Not a gRPC status: there was no gRPC answer at all."""

UNIMPLEMENTED = 12
"""The gRPC status of a service that the daemon does not have: CRI is off, failed to load, or is of another version."""

PACKAGES = ("runtime.v1", "runtime.v1alpha2")
"""Both names of the one service; containerd 1.5 knows only the older one (cri-api, containerd 1.6 brought v1)."""

_TRY_AGAIN_SECONDS = 0.05
"""How often a CRI is asked again that is not there yet: a start takes a moment, with many containers more."""

_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_STREAM = 1
_READ_BYTES = 65536
_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a call: a gRPC status (0 is fine) or UNREACHABLE, and the daemon's words or ours."""

    status: int
    message: str = ""


def version(socket_path: str, timeout_seconds: float) -> Answer:
    """Ask the CRI for its version, until it answers or says that there is none (UNIMPLEMENTED), at most for
    `timeout_seconds`: one that is starting refuses. Never raises for what the other side does."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        answer = _either(socket_path, "RuntimeService/Version", b"", deadline)
        left = deadline - time.monotonic()
        if answer.status in {OK, UNIMPLEMENTED} or left <= 0:
            return answer
        time.sleep(min(_TRY_AGAIN_SECONDS, left))


def pull(socket_path: str, image: str, timeout_seconds: float) -> Answer:
    """Ask for `image`. Never raises for what the other side does, and is back within `timeout_seconds`."""
    message = _field(1, _field(1, image.encode()))
    return _either(socket_path, "ImageService/PullImage", message, time.monotonic() + timeout_seconds)


def _either(socket_path: str, method: str, message: bytes, deadline: float) -> Answer:
    """The call by the name of the service that the daemon knows."""
    answer = Answer(UNREACHABLE)
    for package in PACKAGES:
        answer = call(socket_path, f"/{package}.{method}", message, deadline)
        if answer.status != UNIMPLEMENTED:
            break
    return answer


def call(socket_path: str, method: str, message: bytes, deadline: float) -> Answer:
    """One unary call; its answer is not read. `deadline` is of the monotonic clock."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection.connect(socket_path)
            return _Call(connection, deadline).run(method, message)
    except TimeoutError:
        return Answer(UNREACHABLE, f"{socket_path} did not answer in time")
    except FileNotFoundError:
        return Answer(UNREACHABLE, f"there is no socket {socket_path}")
    except OSError as error:
        return Answer(UNREACHABLE, f"{socket_path}: {(error.strerror or str(error)).lower()}")
    except (ProtocolError, ValueError):
        return Answer(UNREACHABLE, f"{socket_path} does not speak gRPC")


class _Call:
    """One connection with one stream on it."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._headers: dict[str, str] = {}

    def run(self, method: str, message: bytes) -> Answer:
        """Raises OSError, ProtocolError, ValueError for anything that is no whole gRPC answer."""
        self._http.initiate_connection()
        self._http.send_headers(_STREAM, self._request(method))
        self._http.send_data(_STREAM, b"\0" + struct.pack(">I", len(message)) + message, end_stream=True)
        self._flush()
        for event in self._events():
            if isinstance(event, ResponseReceived | TrailersReceived):
                self._headers.update((str(name), str(value)) for name, value in event.headers)
            elif isinstance(event, DataReceived):
                self._http.acknowledge_received_data(event.flow_controlled_length, _STREAM)
            elif isinstance(event, StreamEnded):
                return self._answer()
            elif isinstance(event, StreamReset | ConnectionTerminated):
                break
        raise ValueError("cut off")

    def _request(self, method: str) -> Sequence[tuple[str, str]]:
        left = max(1, int((self._deadline - time.monotonic()) * 1000))
        return (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "mirror-agent"),
            ("grpc-timeout", f"{left}m"),
        )

    def _events(self) -> Iterator[Event]:
        """What the other side says, until it says no more or more than anybody needs."""
        received = 0
        while received < _MAX_BYTES:
            self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
            data = self._connection.recv(_READ_BYTES)
            if not data:
                return
            received += len(data)
            yield from self._http.receive_data(data)
            self._flush()

    def _flush(self) -> None:
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
        self._connection.sendall(self._http.data_to_send())

    def _answer(self) -> Answer:
        return Answer(int(self._headers.get("grpc-status", "")), _unescaped(self._headers.get("grpc-message", "")))


def _unescaped(text: str) -> str:
    """A status message, in which gRPC writes bytes that are no ASCII as %XX."""
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text.encode()).decode("utf-8", "replace")


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
