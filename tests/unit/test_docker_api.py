"""One question over a unix socket: the answer whole and in time, or None; real servers, sane and otherwise."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.docker_api import get

Serve = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def serving(path: Path, serve: Serve) -> Iterator[list[bytes]]:
    """A server on a unix socket that reads each request to its empty line, notes it and lets `serve` answer."""
    requests: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += connection.recv(4096)
            requests.append(request)
            serve(connection)

    def listen() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        threading.Thread(target=listen, daemon=True).start()
        yield requests
        listening.shutdown(socket.SHUT_RDWR)
    path.unlink()


def saying(*parts: bytes) -> Serve:
    """Send the parts and close."""

    def serve(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)

    return serve


def asked(tmp_path: Path, serve: Serve, timeout_seconds: float = 5.0, max_bytes: int = 1000) -> bytes | None:
    with serving(tmp_path / "socket", serve):
        return get(str(tmp_path / "socket"), "/info", timeout_seconds, max_bytes)


def test_the_request_is_what_dockerd_expects(tmp_path: Path) -> None:
    """A GET with a Host header that asks for the connection to be closed."""
    with serving(tmp_path / "socket", saying(OK + b"Content-Length: 2\r\n\r\n{}")) as requests:
        assert get(str(tmp_path / "socket"), "/events?since=1") == b"{}"
    expected = (
        b"GET /events?since=1 HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    )
    assert requests == [expected]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (OK + b"content-LENGTH:5\r\n\r\nhello and more than promised", b"hello"),
        (OK + b"Content-Length: 0\r\n\r\n", b""),
        (OK + b"\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 200\r\n\r\nno reason", b"no reason"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", b"hello world"),
        (OK + b"Transfer-Encoding: gzip, Chunked\r\n\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", b"0123456789"),
        (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nx\r\n0\r\n\r\n", b"x"),
        (OK.replace(b"\r\n", b"\n") + b"Content-Length: 1\n\nx", b"x"),
        (OK + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000, b"x" * 1000),
        (OK + b"\r\n" + b"x" * 1000, b"x" * 1000),
    ],
)
def test_a_good_answer_is_its_body(tmp_path: Path, answer: bytes, body: bytes) -> None:
    """By length, in chunks, or until the end, up to exactly the limit."""
    assert asked(tmp_path, saying(answer)) == body


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\xff" * 5000,
        OK,
        OK + b"Content-Length: 5\r\n",
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Content-Length: 0x5\r\n\r\nhello",
        OK + b"Content-Length: \xb2\r\n\r\nhello",
        OK + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001,
        OK + b"Content-Length: 99999999999999999999999\r\n\r\nx",
        OK + b"\r\n" + b"x" * 1001,
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhellooo\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1f4\r\n" + b"x" * 500 + b"\r\n" + b"1f5\r\n" + b"x" * 501,
        OK + b"X: y\r\n" * 100_000,
        OK + b"X: " + b"y" * 100_000,
    ],
)
def test_any_other_answer_is_none(tmp_path: Path, answer: bytes) -> None:
    """Another status, cut off, too long, malformed or not HTTP at all: nothing is guessed and nothing raised."""
    assert asked(tmp_path, saying(answer)) is None


def test_a_connection_that_stays_open_is_not_waited_for(tmp_path: Path) -> None:
    """With a length or an end of chunks the answer is complete, whether or not the server closes."""
    for body in (b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"):
        began = time.monotonic()

        def serve(connection: socket.socket, body: bytes = body) -> None:
            connection.sendall(OK + body)
            connection.recv(1)

        assert asked(tmp_path, serve, timeout_seconds=5.0) == b"{}"
        assert time.monotonic() - began < 2.0


def dripping(head: bytes) -> Serve:
    """The head at once, then a byte every 20 ms, for ever."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"1")
            time.sleep(0.02)

    return serve


@pytest.mark.parametrize(
    "serve",
    [
        lambda connection: connection.recv(1),
        dripping(b""),
        dripping(OK),
        dripping(OK + b"\r\n"),
        dripping(OK + b"Content-Length: 900\r\n\r\n"),
        dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    ],
    ids=["hangs", "status line", "headers", "to the end", "by length", "chunk size"],
)
def test_the_deadline_is_for_the_whole_answer(tmp_path: Path, serve: Serve) -> None:
    """A daemon that hangs, or says a byte now and then, holds us for the timeout and no longer."""
    began = time.monotonic()
    assert asked(tmp_path, serve, timeout_seconds=0.3) is None
    assert 0.2 < time.monotonic() - began < 2.0


def test_an_endless_answer_is_left_at_the_limit(tmp_path: Path) -> None:
    """No more is read than the limit and a buffer."""
    sent = [0]

    def serve(connection: socket.socket) -> None:
        connection.sendall(OK + b"\r\n")
        while True:
            sent[0] += connection.send(b"x" * 65536)

    began = time.monotonic()
    assert asked(tmp_path, serve, timeout_seconds=10.0, max_bytes=100_000) is None
    assert time.monotonic() - began < 5.0
    assert sent[0] < 2_000_000


def test_a_full_backlog_is_none(tmp_path: Path) -> None:
    """A frozen daemon whose queue of connections is full neither answers nor blocks."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen(0)
        waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(path)
        began = time.monotonic()
        assert get(path, "/info", timeout_seconds=0.3) is None
        assert time.monotonic() - began < 2.0
        for connection in waiting:
            connection.close()


@pytest.mark.parametrize("kind", ["missing", "file", "directory", "refused", "too long", "nul", "datagram"])
def test_no_socket_to_connect_to_is_none(tmp_path: Path, kind: str) -> None:
    """Not there, not a socket, nobody listening, not even a possible path."""
    path = tmp_path / "x"
    if kind == "file":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    elif kind in {"refused", "datagram"}:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if kind == "refused" else socket.SOCK_DGRAM) as bound:
            bound.bind(str(path))
    elif kind == "too long":
        path = tmp_path / ("x" * 200)
    assert get(str(path) + ("\0x" if kind == "nul" else ""), "/info", 1.0) is None


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """Good answers, bad ones and timeouts all close what they opened."""
    descriptors = Path("/proc/self/fd")
    with serving(tmp_path / "socket", saying(OK + b"Content-Length: 9\r\n\r\n{}")):
        get(str(tmp_path / "socket"), "/info")
        time.sleep(0.05)
        before = len(list(descriptors.iterdir()))
        for _ in range(50):
            assert get(str(tmp_path / "socket"), "/info") is None
        time.sleep(0.05)
        assert len(list(descriptors.iterdir())) <= before


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[bytes]]]:
    """A server that says whatever is put into the list."""
    answers: list[bytes] = []
    path = tmp_path_factory.mktemp("echo") / "socket"
    with serving(path, lambda connection: connection.sendall(answers[-1])):
        yield path, answers


@settings(max_examples=300, deadline=None)
@given(head=st.sampled_from([b"", OK, OK + b"\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"]), noise=st.binary())
def test_noise_never_raises(echo: tuple[Path, list[bytes]], head: bytes, noise: bytes) -> None:
    """Whatever bytes come: a body or None."""
    path, answers = echo
    answers.append(head + noise)
    answer = get(str(path), "/info", 5.0, 1000)
    assert answer is None or isinstance(answer, bytes)
    if head == OK + b"\r\n":
        assert answer == noise
