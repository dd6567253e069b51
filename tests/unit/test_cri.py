"""One gRPC call over a unix socket: the outcome whole and in time, whatever the other side does; real servers."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.asked import Asked
from agent.cri import UNIMPLEMENTED, UNREACHABLE, Answer, pull, version
from agent.model import Cri

IMAGE = "probe.invalid/x:1"
MESSAGE = b"\x0a\x13\x0a\x11" + IMAGE.encode()
VERSIONS = ("/runtime.v1.RuntimeService/Version", "/runtime.v1alpha2.RuntimeService/Version")
V1, V1ALPHA2 = "/runtime.v1.ImageService/PullImage", "/runtime.v1alpha2.ImageService/PullImage"


@dataclass
class Server:
    """A gRPC server with one service. `known` are the methods it has; `asked` are (method, headers, message)."""

    known: tuple[str, ...] = (V1, V1ALPHA2)
    status: int = 0
    message: str = ""
    body: bytes = b"\0\0\0\0\0"
    with_headers: bool = True
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        http.initiate_connection()
        headers: dict[str, str] = {}
        body = b""
        connection.sendall(http.data_to_send())
        while data := connection.recv(65536):
            for event in http.receive_data(data):
                if isinstance(event, RequestReceived):
                    headers = {str(name): str(value) for name, value in event.headers}
                elif isinstance(event, DataReceived):
                    body += event.data
                elif isinstance(event, StreamEnded):
                    self.asked.append((headers[":path"], headers, body))
                    self._answer(http, connection, headers[":path"])
            connection.sendall(http.data_to_send())

    def _answer(self, http: H2Connection, connection: socket.socket, method: str) -> None:
        status, message = (self.status, self.message) if method in self.known else (12, f"unknown service {method}")
        trailers = [("grpc-status", str(status)), *([("grpc-message", quote(message))] if message else [])]
        head = [(":status", "200"), ("content-type", "application/grpc")]
        if not self.with_headers or status:
            http.send_headers(1, [*head, *trailers], end_stream=True)
            return
        http.send_headers(1, head)
        rest = self.body
        while rest:
            room = min(http.local_flow_control_window(1), http.max_outbound_frame_size)
            if not room:
                connection.sendall(http.data_to_send())
                http.receive_data(connection.recv(65536))
                continue
            http.send_data(1, rest[:room])
            rest = rest[room:]
        http.send_headers(1, trailers, end_stream=True)


@contextmanager
def listening(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[str]:
    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection)

    def listen() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=listen, daemon=True).start()
        yield str(path)
        listener.shutdown(socket.SHUT_RDWR)
    path.unlink()


def answer_of(tmp_path: Path, serve: Callable[[socket.socket], None], timeout_seconds: float = 10.0) -> Answer:
    with listening(tmp_path / "cri", serve) as path:
        return pull(path, IMAGE, timeout_seconds)


def test_the_question_is_kubelets(tmp_path: Path) -> None:
    """PullImage with the image's name, framed and with the headers that gRPC asks for; once, if v1 is known."""
    server = Server()
    assert answer_of(tmp_path, server.serve) == Answer(0)
    ((method, headers, body),) = server.asked
    assert (method, body) == (V1, b"\0\0\0\0" + bytes([len(MESSAGE)]) + MESSAGE)
    timeout = headers.pop("grpc-timeout")
    assert (timeout[-1], 0 < int(timeout[:-1]) <= 10_000) == ("m", True)
    assert headers == {
        ":method": "POST",
        ":scheme": "http",
        ":path": V1,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "mirror-agent",
    }


def test_the_daemons_words_are_read(tmp_path: Path) -> None:
    """Status and message come from the trailers, compressed and percent-encoded as gRPC has them."""
    words = 'failed to resolve "probe.invalid/x:1": 未找到 100%'
    assert answer_of(tmp_path, Server(status=5, message=words).serve) == Answer(5, words)


def test_trailers_may_come_alone(tmp_path: Path) -> None:
    """An answer of headers only, which is how gRPC says that it failed at once."""
    assert answer_of(tmp_path, Server(with_headers=False).serve) == Answer(0)


def test_the_older_name_is_asked_where_v1_is_not_known(tmp_path: Path) -> None:
    """containerd 1.5 has v1alpha2 only; one with no CRI has neither, and says so."""
    server = Server(known=(V1ALPHA2,))
    assert answer_of(tmp_path, server.serve) == Answer(0)
    assert [method for method, _, _ in server.asked] == [V1, V1ALPHA2]
    assert answer_of(tmp_path, Server(known=()).serve) == Answer(UNIMPLEMENTED, f"unknown service {V1ALPHA2}")


def test_a_long_answer_is_taken_to_its_end(tmp_path: Path) -> None:
    """More than one window of data: credit is given, or the other side would wait for ever."""
    assert answer_of(tmp_path, Server(body=b"\0" + bytes(300_000)).serve) == Answer(0)


def test_an_endless_answer_is_given_up(tmp_path: Path) -> None:
    """More than anybody needs is no answer."""
    assert answer_of(tmp_path, Server(body=bytes(2_000_000)).serve).status == UNREACHABLE


def test_a_silent_daemon_meets_the_deadline(tmp_path: Path) -> None:
    """Whoever takes the question and says nothing holds us no longer than we said, over both names."""
    began = time.monotonic()
    answer = answer_of(tmp_path, _swallow, timeout_seconds=0.3)
    assert answer == Answer(UNREACHABLE, f"{tmp_path}/cri did not answer in time")
    assert 0.25 < time.monotonic() - began < 5.0


def _swallow(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def test_no_socket_and_no_listener_are_told_apart(tmp_path: Path) -> None:
    """The daemon is not there, or something else is."""
    path = tmp_path / "cri"
    assert pull(str(path), IMAGE, 1.0) == Answer(UNREACHABLE, f"there is no socket {path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    assert pull(str(path), IMAGE, 1.0) == Answer(UNREACHABLE, f"{path}: connection refused")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\x04\0\0\0\0\0"])
def test_what_does_not_speak_grpc_is_said(tmp_path: Path, answer: bytes) -> None:
    """Closed at once, HTTP/1, settings and no more."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    found = answer_of(tmp_path, serve)
    assert found.status == UNREACHABLE
    assert found.message.startswith(f"{tmp_path}/cri")


@settings(max_examples=60, deadline=None)
@given(noise=st.binary(max_size=200))
def test_noise_is_no_answer(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    """No bytes at all make it raise or hang."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(noise)
        connection.shutdown(socket.SHUT_WR)
        _swallow(connection)

    assert answer_of(tmp_path_factory.mktemp("noise"), serve, 5.0).status == UNREACHABLE


# --- does it answer? -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [VERSIONS, VERSIONS[1:], ()])
def test_a_cri_tells_its_version_or_that_there_is_none(tmp_path: Path, known: tuple[str, ...]) -> None:
    """By whichever name the daemon has the service, with an empty message; the answer is final at once."""
    server = Server(known=known, body=b"\0\0\0\0\x04\x0a\x021.")
    with listening(tmp_path / "cri", server.serve) as path:
        answer = version(path, 60.0)
    assert answer == (Answer(0) if known else Answer(UNIMPLEMENTED, f"unknown service {VERSIONS[1]}"))
    assert [(method, body) for method, _, body in server.asked] == [
        (method, bytes(5)) for method in VERSIONS[: 1 if known == VERSIONS else 2]
    ]


def test_a_cri_that_is_starting_is_asked_again(tmp_path: Path) -> None:
    """Saying "server is not initialized yet" is no answer; the first answer ends it."""
    server = Server(known=VERSIONS, status=2, message="server is not initialized yet")

    class Starting(list[tuple[str, dict[str, str], bytes]]):
        def append(self, call: tuple[str, dict[str, str], bytes]) -> None:
            super().append(call)
            server.status = 2 if len(self) < 4 else 0

    server.asked = Starting()
    with listening(tmp_path / "cri", server.serve) as path:
        assert version(path, 60.0).status == 0
    assert len(server.asked) == 4


def test_a_cri_that_never_starts_meets_the_deadline(tmp_path: Path) -> None:
    """It is given up, refused or cut off in the middle of a question; so it is with one that is not there."""
    with listening(tmp_path / "cri", Server(known=VERSIONS, status=2, message="not yet").serve) as path:
        assert version(path, 0.3).status in {2, UNREACHABLE}
    assert version(path, 0.3) == Answer(UNREACHABLE, f"there is no socket {path}")


def test_what_the_agent_makes_of_it(tmp_path: Path) -> None:
    """READY, MISSING; asked once in a look."""
    asked = Asked(lambda _: None, has_units=True)
    server = Server(known=VERSIONS)
    with listening(tmp_path / "cri", server.serve) as path:
        assert [asked.cri(path), asked.cri(path), len(server.asked)] == [Cri.READY, Cri.READY, 1]
        server.known = ()
        asked.refresh()
        assert asked.cri(path) is Cri.MISSING
