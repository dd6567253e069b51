"""`status --prove`: what lies in certs.d meanwhile, what counts as proof, and that nothing of it stays."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from agent import prove
from agent.errors import HostError, LockedError
from agent.model import DesiredState
from agent.node import Places, RealHost, locked
from agent.proof import Bait, Via
from agent.prove import MARK, PREFIX, put_to_the_test

CERTS_D = "/etc/docker/certs.d"


class Docker:
    """A daemon that, asked to pull, looks into its certs.d and asks the host that it finds there; or does otherwise."""

    def __init__(self, root: Path) -> None:
        self.certs_d = root / CERTS_D[1:]
        self.certs_d.mkdir(parents=True)
        self.socket = root / "docker.sock"
        self.seen: list[tuple[str, str, str]] = []
        self.on_pull: Callable[[str], None] = self.reads_certs_d
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.socket))
        self._listener.listen()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(self._listener.accept()[0],), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            request = connection.recv(65536).decode()
            method, target, _ = request.split(" ", 2)
            query = parse_qs(urlsplit(target).query)
            assert (method, urlsplit(target).path, query["tag"]) == ("POST", "/images/create", ["1"])
            self.on_pull(query["fromImage"][0])
            with suppress(BrokenPipeError):
                connection.sendall(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"error": "manifest unknown"}')

    def reads_certs_d(self, image: str) -> None:
        name, _, repository = image.partition("/")
        text = (self.certs_d / name / "hosts.toml").read_text()
        (url,) = tomllib.loads(text)["host"]
        self.seen.append((name, text, url))
        self.ask(url, f"/v2/{repository}/manifests/1?ns={name}")

    def ask(self, url: str, target: str) -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
        connection.request("HEAD", target)
        assert connection.getresponse().status == 404
        connection.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Docker]:
    daemon = Docker(tmp_path)
    yield daemon
    daemon.close()


def bait_of(docker: Docker, cause: str = "") -> Bait:
    return Bait("docker", "Docker", CERTS_D, str(docker.socket), Via.DOCKER, cause)


def result_of(docker: Docker, tmp_path: Path, cause: str = "", deadline_seconds: float = 10.0) -> tuple[bool, str]:
    return put_to_the_test(bait_of(docker, cause), RealHost(Places(root=str(tmp_path))), deadline_seconds)


def test_a_daemon_that_comes_to_the_listener_has_proved_it(docker: Docker, tmp_path: Path) -> None:
    """What lies there names nothing but our listener on the loopback interface, for a name that no resolver knows; and
    it is gone afterwards."""
    assert result_of(docker, tmp_path) == (True, f"asked to pull, the running Docker went where {CERTS_D} says")
    ((name, text, url),) = docker.seen
    assert (name.startswith(PREFIX), name.endswith(".invalid"), url.startswith("http://127.0.0.1:")) == (True,) * 3
    assert text.startswith(MARK)
    assert tomllib.loads(text) == {"server": url, "host": {url: {"capabilities": ["pull", "resolve"]}}}
    assert list(docker.certs_d.iterdir()) == []


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("restart pending", "restart pending"),
        ("", 'nothing explains why; its answer: {"error": "manifest unknown"}'),
    ],
)
def test_a_daemon_that_asks_elsewhere_has_not(docker: Docker, tmp_path: Path, cause: str, said: str) -> None:
    """What status knows to be wrong is the cause; where it knows nothing, the daemon's own words."""
    docker.on_pull = lambda _: None
    expected = f"asked to pull, the running Docker did not look into {CERTS_D}; {said}"
    assert result_of(docker, tmp_path, cause) == (False, expected)
    assert list(docker.certs_d.iterdir()) == []


def test_a_request_of_somebody_else_is_no_proof(docker: Docker, tmp_path: Path) -> None:
    """Whoever finds the port by chance does not name the registry."""

    def wander(image: str) -> None:
        text = (docker.certs_d / image.partition("/")[0] / "hosts.toml").read_text()
        url = tomllib.loads(text)["server"]
        docker.ask(url, "/v2/")
        docker.ask(url, "/v2/x/manifests/1?ns=docker.io")

    docker.on_pull = wander
    assert result_of(docker, tmp_path)[0] is False


def test_a_daemon_that_hangs_meets_the_deadline(docker: Docker, tmp_path: Path) -> None:
    """Nothing that it does can hold us."""
    release = threading.Event()
    docker.on_pull = lambda _: (release.wait(30), None)[1]
    is_proved, sentence = result_of(docker, tmp_path, deadline_seconds=0.3)
    release.set()
    assert (is_proved, sentence.startswith("Docker cannot be asked to pull: ")) == (False, True)
    assert list(docker.certs_d.iterdir()) == []


def test_a_daemon_that_is_not_there_is_told(docker: Docker, tmp_path: Path) -> None:
    """No socket: that is the first thing to say, then what else is wrong."""
    docker.socket.unlink()
    said = f"Docker cannot be asked to pull: {docker.socket}: no such file or directory; not up"
    assert result_of(docker, tmp_path, "not up") == (False, said)


def test_no_directory_is_made_for_it(docker: Docker, tmp_path: Path) -> None:
    """Where there is no certs.d, there is nothing to prove, and we do not begin with one."""
    docker.certs_d.rmdir()
    with pytest.raises(HostError, match=r"there is no such directory; `mirror-agent apply` makes it"):
        result_of(docker, tmp_path)
    assert not docker.certs_d.exists()


class OneTest:
    """A runtime that can be tested."""

    def __init__(self, bait: Bait) -> None:
        self._bait = bait

    def observe(self, *_: object) -> None:
        """Nothing to see."""

    def proof(self, *_: object) -> Bait:
        return self._bait


def prove_it(docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bool | None]:
    monkeypatch.setattr(prove, "discover", lambda: (OneTest(bait_of(docker)),))
    places = Places(root=str(tmp_path))
    return [proof.is_proved for proof in prove.prove(DesiredState("g"), RealHost(places), places)]


def test_what_a_killed_command_left_goes_first(docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name and mark: a file of somebody else with such a name stays, a half-written one of ours does not."""
    for number, text in enumerate((MARK, "# mine", "")):
        place = docker.certs_d / f"{PREFIX}{number}.invalid"
        place.mkdir()
        if text:
            (place / "hosts.toml").write_text(text)
    (docker.certs_d / f"{PREFIX}2.invalid" / ".hosts.toml.mirror-agent").write_text("ser")
    assert prove_it(docker, tmp_path, monkeypatch) == [True]
    assert [path.name for path in docker.certs_d.iterdir()] == [f"{PREFIX}1.invalid"]


def test_two_at_once_do_not_sweep_each_other(docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is told who is at it."""
    places = Places(root=str(tmp_path))
    with locked(places, "status --prove", "prove.lock"), pytest.raises(LockedError, match="status --prove"):
        prove_it(docker, tmp_path, monkeypatch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_puts_everything_back(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Told to stop in the middle: the file is gone, and the handlers are as before."""
    before = signal.getsignal(number)
    release = threading.Event()

    def interrupt(_: str) -> None:
        os.kill(os.getpid(), number)
        release.wait(30)

    docker.on_pull = interrupt
    with pytest.raises(KeyboardInterrupt):
        prove_it(docker, tmp_path, monkeypatch)
    release.set()
    assert (list(docker.certs_d.iterdir()), signal.getsignal(number)) == ([], before)


def test_the_daemon_imports_nothing_of_it() -> None:
    """No HTTP/2, no listener, no question to a CRI in the resident process."""
    script = (
        "import sys, agent.daemon, agent.cli, agent.runtimes\n"
        "agent.runtimes.discover()\n"
        "print([name for name in ('h2', 'hpack', 'http.server', 'http.client', 'agent.cri', 'agent.prove')"
        " if name in sys.modules])\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
