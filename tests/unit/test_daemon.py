"""The daemon's life, played with tokens instead of signals: what it says of trouble, and that it outlives it."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from agent.daemon import Daemon, Token
from agent.events import Event, Kind
from agent.node import Places
from agent.status import Status, decode

CONFIG = "/etc/mirror-agent.yaml"
GOOD = "version: 1\ncontainerd: {manage: true}\nregistries:\n  ghcr.io: {mirrors: [https://m.example]}\n"
BROKEN = "version: 2\n"


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A daemon takes signals over; they are given back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


class Machine:
    """A root with containerd's directory. `live` is one life of the daemon; `said` is what it said in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "var/lib/mirror-agent"
        self.hosts = root / "etc/containerd/certs.d/ghcr.io/hosts.toml"
        (root / "etc/containerd").mkdir(parents=True)
        self.desire(GOOD)
        self.said: list[Event] = []

    def desire(self, text: str) -> None:
        path = self.root / "etc/mirror-agent.yaml"
        path.write_text(text)
        path.chmod(0o640)

    def live(self, *tokens: Token) -> int:
        self.said.clear()
        daemon = Daemon(Places(root=str(self.root)), CONFIG, self.said.append)
        for token in (*tokens, Token.STOP):
            daemon.tokens.put(token)
        return daemon.run()

    def lines(self, *kinds: Kind) -> list[str]:
        return [event.message for event in self.said if event.kind in kinds]

    def status(self) -> Status:
        status = decode((self.root / "run/mirror-agent/status.json").read_bytes())
        assert status is not None
        return status


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_every_reload_of_a_broken_file_is_answered(machine: Machine) -> None:
    """SIGHUP asks; silence would look like success."""
    machine.desire(BROKEN)
    machine.live()
    once = machine.lines(Kind.INVALID)
    machine.live(Token.RELOAD, Token.RELOAD)
    assert (len(once), machine.lines(Kind.INVALID)) == (2, once * 3)


class Busy(SimpleQueue[Token]):
    """A queue in which hints wait behind others: what is put is noted, what is got comes from a script."""

    def __init__(self, *steps: Callable[[], Token]) -> None:
        self.noted: list[Token] = []
        self._steps = list(steps)

    def put(self, item: Token, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002
        self.noted.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Token:  # noqa: ARG002
        return self._steps.pop(0)()


def test_a_directory_that_appears_behind_another_hint_is_watched(machine: Machine) -> None:
    """systemd makes the probe's directory and writes something else (its lock of /etc/passwd) in the same moment. The
    greater hint swallows the other one and finds nothing changed, but the directory has to be watched from then on."""
    machine.desire(f"{GOOD}health: {{enabled: true}}\n")
    directory = machine.root / "run/private/mirror-agent-probe"

    def has_settled() -> Token:
        time.sleep(0.3)
        return Token.RELOAD

    def appears() -> Token:
        directory.mkdir(parents=True)
        (machine.root / "run/mirror-agent-probe").symlink_to("private/mirror-agent-probe")
        return Token.CLOSED

    def is_written() -> Token:
        time.sleep(0.2)
        queue.noted.clear()
        (directory / "verdicts.json").write_text("{}")
        deadline = time.monotonic() + 10.0
        while Token.CLOSED not in queue.noted and time.monotonic() < deadline:
            time.sleep(0.01)
        return Token.STOP

    queue = Busy(has_settled, appears, is_written)
    Daemon(Places(root=str(machine.root)), CONFIG, machine.said.append, tokens=queue).run()
    assert Token.CLOSED in queue.noted


def test_metrics_last_as_long_as_the_daemon(machine: Machine) -> None:
    """The file is written in its life and gone with it; a directory that is missing ends nothing."""
    directory = machine.root / "var/lib/node_exporter"
    machine.desire(f"{GOOD}metrics: {{directory: /var/lib/node_exporter}}\n")
    assert machine.live() == 0
    missing = machine.lines(Kind.FAILED)
    directory.mkdir()
    before = directory.stat().st_mtime_ns
    assert machine.live(Token.RELOAD) == 0
    assert (len(missing), machine.lines(Kind.FAILED), list(directory.iterdir())) == (1, [], [])
    assert directory.stat().st_mtime_ns > before


def test_a_reload_of_a_good_file_says_nothing_new(machine: Machine) -> None:
    """It is looked at, and nothing is different."""
    machine.live(Token.RELOAD)
    assert len(machine.lines(Kind.LOADED)) == 1


def test_a_first_state_that_is_invalid_is_in_the_status(machine: Machine) -> None:
    """Whoever asks sees what is wrong, although nothing has ever been in force."""
    machine.desire(BROKEN)
    machine.live()
    status = machine.status()
    assert (status.generation, status.source, [problem.key_path for problem in status.problems]) == (
        "",
        CONFIG,
        ["version"],
    )


def _a_directory(state: Path) -> None:
    (state / "ledger.json").unlink()
    (state / "ledger.json").mkdir()


def _a_file(state: Path) -> None:
    shutil.rmtree(state)
    state.write_text("")


@pytest.mark.parametrize("spoil", [_a_directory, _a_file])
def test_trouble_with_the_state_directory_is_outlived(machine: Machine, spoil: object) -> None:
    """Said with its path, shown in the status, tried again; nothing is written without a ledger. Once it is mended the
    daemon goes on where it was."""
    assert callable(spoil)
    machine.live()
    machine.hosts.unlink()
    spoil(machine.state)
    assert machine.live() == 0
    (place,) = {event.path for event in machine.said if event.kind is Kind.FAILED}
    assert place.startswith("/var/lib/mirror-agent")
    assert len(machine.lines(Kind.DEGRADED)) > 0
    assert (machine.status().outcome, machine.status().last_error.partition(":")[0]) == ("failed", place)
    assert not machine.hosts.exists()


def test_a_state_directory_that_is_mended_heals_the_daemon(machine: Machine) -> None:
    """Without a restart: the next look finds it and catches up, and says so."""
    machine.state.parent.mkdir(parents=True)
    machine.state.write_text("")
    said: list[Event] = []

    def emit(event: Event) -> None:
        said.append(event)
        if event.kind is Kind.DEGRADED and machine.state.is_file():
            machine.state.unlink()

    daemon = Daemon(Places(root=str(machine.root)), CONFIG, emit)
    daemon.tokens.put(Token.RELOAD)
    daemon.tokens.put(Token.STOP)
    assert daemon.run() == 0
    assert machine.hosts.exists()
    assert [event.message for event in said if event.kind is Kind.RECOVERED] == ["what had failed works again"]


def test_a_lock_that_cannot_be_had_is_an_expected_failure(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory in its place: exit 1 with a sentence, not "a bug"."""
    from agent.cli import main

    (machine.root / "run/mirror-agent/lock").mkdir(parents=True)
    assert main(["--root", str(machine.root), "apply"]) == 1
    assert "lock: cannot be opened: is a directory (EISDIR)" in capsys.readouterr().err
