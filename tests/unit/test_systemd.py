"""The service manager is talked to, or nothing happens without one."""

import math
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import processes, systemd
from agent.errors import HostError, NotOrderedError
from agent.model import ActiveState, UnitState, UnitTies

# --- units -----------------------------------------------------------------------------------------------------------

without_systemd = pytest.mark.skipif(systemd.available(), reason="this machine was booted with systemd")


@without_systemd
def test_without_systemd_every_unit_is_off() -> None:
    """No service manager to ask: OFF, not an error."""
    assert systemd.unit_state("docker.service") == UnitState(active=ActiveState.OFF)
    assert systemd.invocation_id("docker.service") == ""
    assert systemd.unit_ties("docker.service") == UnitTies()


@pytest.mark.parametrize(
    "act",
    [systemd.send_hup, lambda name: systemd.restart(name, 1.0, time.sleep)],
    ids=["hup", "restart"],
)
def test_a_unit_that_is_not_up_is_left_alone(act: Callable[[str], None]) -> None:
    """Neither signalled nor started, and the error names the unit; of the restart it says that there was none."""
    with pytest.raises(
        HostError if act is systemd.send_hup else NotOrderedError,
        match=r"^mirror-agent-test-no-such\.service: is not running",
    ):
        act("mirror-agent-test-no-such.service")


def test_a_process_start_is_told_and_stays_the_same() -> None:
    """Within 50 ms of the truth (the kernel counts in hundredths), and equal at each look."""
    before = time.time()
    with subprocess.Popen(["/bin/sleep", "1000"]) as process:
        after = time.time()
        first = processes.process_start(process.pid)
        time.sleep(0.1)
        second = processes.process_start(process.pid)
        process.kill()
    assert first == second
    assert before - 0.05 <= first <= after + 0.05


def test_a_process_with_a_hostile_name_is_understood(tmp_path: Path) -> None:
    """Blanks and brackets in the program's name do not shift the fields."""
    program = tmp_path / "a) R 1 (b"
    shutil.copy2("/bin/sleep", program)
    before = time.time()
    with subprocess.Popen([program, "1000"]) as process:
        start = processes.process_start(process.pid)
        process.kill()
    assert abs(start - before) < 1.0


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_no_process_has_no_start(pid: int) -> None:
    """0.0 for a process that is not there."""
    assert processes.process_start(pid) == 0.0


def test_how_long_a_start_has_been_under_way() -> None:
    """Told while it is; between two attempts, and when the unit is up, none is."""
    shown = {"InactiveExitTimestampMonotonic": str(int((time.monotonic() - 5.0) * 1e6))}
    starting = {**shown, "ActiveState": "activating", "SubState": "start-pre"}
    assert abs(systemd._starting_since(starting) - (time.time() - 5.0)) < 1.0
    assert systemd._starting_since({**starting, "SubState": "auto-restart"}) == 0.0
    assert systemd._starting_since({**starting, "ActiveState": "active"}) == 0.0
    assert systemd._starting_since({**starting, "InactiveExitTimestampMonotonic": "0"}) == 0.0
    assert systemd._unix_time(0) == 0.0


# --- sd_notify -------------------------------------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def test_ready_status_stopping_and_ping(manager: socket.socket) -> None:
    """What PID 1 receives, message by message; a status is one line whatever was in it."""
    systemd.ready("converged 7f3a91c")
    systemd.ready()
    systemd.status("two\nlines\tof  text")
    systemd.ping()
    systemd.stopping()
    received = [manager.recv(4096).decode() for _ in range(5)]
    assert received == [
        "READY=1\nSTATUS=converged 7f3a91c",
        "READY=1",
        "STATUS=two lines of text",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_reloading_carries_the_time(manager: socket.socket) -> None:
    """RELOADING=1 with MONOTONIC_USEC, which later systemd wants."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    systemd.reloading()
    first, second = manager.recv(4096).decode().split("\n")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    name, microseconds = second.split("=")
    assert (first, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before <= int(microseconds) <= after


@pytest.mark.parametrize("address", [None, "", "/nonexistent/notify", "not-a-path"])
def test_without_a_listener_nothing_happens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No NOTIFY_SOCKET, or one where nobody listens: every call returns."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.ready("x")
    systemd.reloading()
    systemd.status("x")
    systemd.ping()
    systemd.stopping()


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [
        ("60000000", "own", 30.0),
        ("60000000", "", 30.0),
        ("60000000", "1", math.inf),
        ("", "own", math.inf),
        ("0", "own", math.inf),
        ("soon", "own", math.inf),
    ],
)
def test_the_watchdog_is_fed_at_half_its_time(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str, seconds: float
) -> None:
    """Half of WATCHDOG_USEC; never, if it is not set or meant for another process."""
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert systemd.ping_interval_seconds() == seconds
