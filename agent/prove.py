"""Does the running daemon read what we write? It is asked to pull from a registry that cannot exist, whose hosts.toml
names a listener of ours on the loopback interface: if it asks there, it has read the file, whatever anybody says.

Nothing is stored (the listener answers 404), and no request can leave the machine: both hosts in the file are the
listener. The file is taken up again whatever happens; that of a command that was killed goes with the next one.
Only `status --prove` imports this, never the daemon: the resident process opens no network socket.
"""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from types import FrameType
from typing import NoReturn
from urllib.parse import parse_qs, quote, urlsplit

from agent import cri
from agent.cri import UNIMPLEMENTED, UNREACHABLE, Answer
from agent.errors import HostError
from agent.model import Absent, DesiredState, Regular
from agent.node import Places, RealHost, locked
from agent.plan import RemoveFile, WriteFile
from agent.proof import Bait, Proof, Via
from agent.runtimes import discover

DEADLINE_SECONDS = 10.0
"""For one daemon. It answers in a tenth of a second if it reads the file, and as fast as its resolver says that the
name does not exist if it does not."""

LAST_WORDS_SECONDS = 2.0
"""How long a daemon that has asked is waited for, so that it is done when the file goes."""

PREFIX, SUFFIX = "mirror-agent-proof-", ".invalid"
"""The name of the registry. No resolver knows it: .invalid is reserved for that (RFC 2606)."""

MARK = "# Written by `mirror-agent status --prove` for a moment."
_LOCK = "prove.lock"
_LOCAL = "127.0.0.1"


def prove(desired: DesiredState, host: RealHost, places: Places) -> tuple[Proof, ...]:
    """Put every runtime to the test, one after the other. Raises LockedError if another command does so already, and
    KeyboardInterrupt, with everything put back, if it is told to stop."""
    tests = [runtime.proof(desired, runtime.observe(host, desired)) for runtime in discover()]
    with locked(places, "status --prove", _LOCK), _interruptible():
        return tuple(_prove_one(test, host) if isinstance(test, Bait) else test for test in tests)


def _prove_one(bait: Bait, host: RealHost) -> Proof:
    try:
        _sweep(host, bait.directory)
        is_proved, sentence = put_to_the_test(bait, host, DEADLINE_SECONDS)
    except HostError as error:
        is_proved, sentence = False, f"the test could not be made: {error}"
    return Proof(bait.runtime, bait.title, is_proved, sentence)


def put_to_the_test(bait: Bait, host: RealHost, deadline_seconds: float) -> tuple[bool, str]:
    """Whether the daemon asked the listener, and what to say. Raises HostError if the file cannot be laid."""
    name = f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
    said: SimpleQueue[Answer | None] = SimpleQueue()
    with _listening(name, said) as url, _laid(host, bait.directory, name, url):
        threading.Thread(target=_ask, args=(bait, name, deadline_seconds, said), daemon=True).start()
        answer = _next(said, deadline_seconds)
        last = answer
        while last is None:
            last = _next(said, LAST_WORDS_SECONDS)
    if answer is None:
        return True, f"asked to pull, the running {bait.title} went where {bait.directory} says"
    return False, _cause(bait, answer)


def _next(said: SimpleQueue[Answer | None], timeout_seconds: float) -> Answer | None:
    """None: the listener was asked."""
    try:
        return said.get(timeout=timeout_seconds)
    except Empty:
        return Answer(UNREACHABLE, f"no answer within {timeout_seconds:.0f} s")


def _cause(bait: Bait, answer: Answer) -> str:
    """Why nobody came, in the order of what explains most."""
    if answer.status == UNREACHABLE:
        parts = [f"{bait.title} cannot be asked to pull: {answer.message}", bait.cause]
    elif answer.status == UNIMPLEMENTED and bait.via is Via.CRI:
        parts = ["the CRI of the running containerd is off or did not load: see `ctr plugins ls`", bait.cause]
    else:
        told = " ".join(answer.message.split())
        unknown = f"nothing explains why; its answer: {told}" if told else "nothing explains why"
        parts = [f"asked to pull, the running {bait.title} did not look into {bait.directory}", bait.cause or unknown]
    return "; ".join(part for part in parts if part)


# --- the file --------------------------------------------------------------------------------------------------------


@contextmanager
def _laid(host: RealHost, directory: str, name: str, url: str) -> Iterator[None]:
    """The registry's hosts.toml, as long as it takes."""
    if host.list_directory(directory) is None:
        raise HostError(directory, "there is no such directory", "`mirror-agent apply` makes it")
    place = f"{directory}/{name}"
    text = f'{MARK}\nserver = "{url}"\n\n[host."{url}"]\n  capabilities = ["pull", "resolve"]\n'
    write = WriteFile(f"{place}/hosts.toml", text.encode(), "to prove that it is read", Absent())
    try:
        host.make_directory(place, 0o755)
        for error in filter(None, host.write_files([write])):
            raise error
        yield
    finally:
        _take_up(host, place)


def _sweep(host: RealHost, directory: str) -> None:
    """Take up what a killed command left; the caller holds the lock, so no other one is at work."""
    for name in host.list_directory(directory) or ():
        if name.startswith(PREFIX) and name.endswith(SUFFIX):
            host.sweep_directory(f"{directory}/{name}")
            _take_up(host, f"{directory}/{name}")


def _take_up(host: RealHost, place: str) -> None:
    path = f"{place}/hosts.toml"
    state = host.read(path)
    if isinstance(state, Regular) and state.content.startswith(MARK.encode()):
        host.remove_file(RemoveFile(path, "it has served", state))
    host.remove_directory(place)


@contextmanager
def _interruptible() -> Iterator[None]:
    """The first signal that would end us puts everything back first; further ones find us at it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- the listener ----------------------------------------------------------------------------------------------------


@contextmanager
def _listening(name: str, said: SimpleQueue[Answer | None]) -> Iterator[str]:
    """The URL of a listener that says None for each request which names the registry (`?ns=`)."""

    class Handler(BaseHTTPRequestHandler):
        timeout = DEADLINE_SECONDS

        def do_GET(self) -> None:
            self.do_HEAD()

        def do_HEAD(self) -> None:
            if parse_qs(urlsplit(self.path).query).get("ns") == [name]:
                said.put(None)
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody wants to know."""

    with ThreadingHTTPServer((_LOCAL, 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://{_LOCAL}:{server.server_port}"
        finally:
            server.shutdown()


# --- the question ----------------------------------------------------------------------------------------------------


def _ask(bait: Bait, name: str, timeout_seconds: float, said: SimpleQueue[Answer | None]) -> None:
    """In a thread of its own, so that nothing it meets can hold us."""
    image = f"{name}/{secrets.token_hex(4)}"
    if bait.via is Via.CRI:
        said.put(cri.pull(bait.socket, f"{image}:1", timeout_seconds))
    else:
        said.put(_docker_pull(bait.socket, image, timeout_seconds))


def _docker_pull(socket_path: str, image: str, timeout_seconds: float) -> Answer:
    """POST /images/create (Docker Engine API), whose end says nothing that we need."""
    connection = _UnixConnection(socket_path, timeout_seconds)
    try:
        connection.request("POST", f"/images/create?fromImage={quote(image, safe='')}&tag=1")
        said = connection.getresponse().read(4096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "no answer"
        return Answer(UNREACHABLE, f"{socket_path}: {reason}")
    finally:
        with suppress(OSError):
            connection.close()
    return Answer(0, said)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket; the timeout is for each step, and whoever waits for the thread has a deadline."""

    def __init__(self, socket_path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)
