"""Programs are started cleanly and always end; the service manager is talked to, or nothing happens without one."""

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import processes, systemd
from agent.errors import HostError
from agent.model import ActiveState, CommandResult, UnitState

MIB = 1024 * 1024


def python(script: str, timeout_seconds: float = 20.0) -> CommandResult | None:
    """Run a script, by `run`, in a Python without site-packages."""
    return systemd.run((sys.executable, "-I", "-S", "-c", script), timeout_seconds)


# --- run -------------------------------------------------------------------------------------------------------------


def test_a_program_can_open_what_it_is_told_as_a_file() -> None:
    """Much more than a pipe holds, from its beginning, by name and more than once."""
    content = bytes(range(256)) * 4096
    done = systemd.run(("/bin/sh", "-c", "cksum /dev/stdin; cksum"), stdin=content)
    assert done is not None
    first, second = (line.split()[:2] for line in done.stdout.splitlines())
    assert (first, int(first[1])) == (second, len(content))


def test_status_and_both_streams_come_back() -> None:
    """Exit status, standard output and standard error are told apart."""
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert python(script) == CommandResult(3, "out\n", "err\n")


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    """Whatever a program writes can be shown."""
    assert python("import os; os.write(1, b'a\\xffb')") == CommandResult(0, "a\ufffdb", "")


def test_nothing_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed environment, the root directory, an empty standard input, no descriptor of ours, a session of its own."""
    monkeypatch.setenv("LD_PRELOAD_SECRET", "x")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    with open(os.devnull) as inherited:
        os.set_inheritable(inherited.fileno(), True)
        script = (
            "import os, sys; names = os.listdir('/proc/self/fd'); "
            "print(dict(os.environ), os.getcwd(), sys.stdin.read(), len(names), os.getsid(0) == os.getpid())"
        )
        result = python(script)
    # Four: the three streams and the listing itself.
    expected = f"{dict(systemd.ENVIRONMENT)} /  4 True\n"
    assert result == CommandResult(0, expected, "")


def test_a_flood_is_cut_at_a_mebibyte_and_blocks_nobody() -> None:
    """Of 64 MiB on each stream the first MiB is kept; the program ends as if somebody had read it all."""
    script = (
        "import os\n"
        "for _ in range(1024):\n"
        "    os.write(1, b'o' * 65536); os.write(2, b'e' * 65536)\n"
    )  # fmt: skip
    assert python(script) == CommandResult(0, "o" * MIB, "e" * MIB)


def test_a_program_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    """None after the timeout, and neither the program nor what it started lives on."""
    note = tmp_path / "pids"
    script = (
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['/bin/sleep', '1000'])\n"
        f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(1000)\n"
    )
    began = time.monotonic()
    assert python(script, timeout_seconds=1.0) is None
    assert time.monotonic() - began < 5.0
    pids = [int(word) for word in note.read_text().split()]
    assert len(pids) == 2
    _await_gone(pids)


def test_a_program_that_ignores_sigterm_is_killed_all_the_same() -> None:
    """The kill is a SIGKILL."""
    began = time.monotonic()
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    assert python(script, timeout_seconds=0.5) is None
    assert time.monotonic() - began < 5.0


def test_a_child_that_keeps_the_output_open_holds_nobody_up() -> None:
    """A program that leaves a daemon behind has ended when it ends, not when the daemon does."""
    began = time.monotonic()
    done = systemd.run(("/bin/sh", "-c", "sleep 3 & echo started"), timeout_seconds=20.0)
    assert done == CommandResult(0, "started\n", "")
    assert time.monotonic() - began < 2.0


def test_a_child_that_keeps_writing_holds_nobody_up(tmp_path: Path) -> None:
    """A chatty daemon left behind is listened to for a second, then its starter's result counts."""
    note = tmp_path / "pid"
    script = f"while :; do echo x; sleep 0.01; done & echo $! > {note}; exit 5"
    began = time.monotonic()
    done = systemd.run(("/bin/sh", "-c", script), timeout_seconds=20.0)
    os.kill(int(note.read_text()), signal.SIGKILL)
    assert done is not None
    assert (done.returncode, set(done.stdout.split())) == (5, {"x"})
    assert time.monotonic() - began < 5.0


def test_a_program_that_closes_its_output_is_waited_for() -> None:
    """The end of output is not the end of the program."""
    done = systemd.run(("/bin/sh", "-c", "exec >&- 2>&-; sleep 0.2; exit 7"), timeout_seconds=20.0)
    assert done == CommandResult(7, "", "")


def test_a_drip_feeding_program_meets_the_deadline() -> None:
    """The timeout is for the whole run, however much is written meanwhile."""
    began = time.monotonic()
    assert systemd.run(("/bin/sh", "-c", "while :; do echo x; sleep 0.01; done"), timeout_seconds=0.5) is None
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("program", ["/nonexistent/program", "/etc/passwd", "/", "/bin/true\0"])
def test_what_cannot_be_started_is_none(program: str) -> None:
    """Not there, not executable, a directory, not even a path: never an exception."""
    assert systemd.run((program,)) is None


def test_a_signal_shows_as_negative_status() -> None:
    """As subprocess has it: minus the number of the signal."""
    result = python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert result == CommandResult(-signal.SIGTERM, "", "")


def test_no_process_and_no_descriptor_is_left() -> None:
    """A hundred runs, some of them timing out, leave descriptors and children as they were."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        systemd.run(("/bin/sleep", "1000"), 0.0) if number % 10 == 0 else systemd.run(("/bin/true",))
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# --- units -----------------------------------------------------------------------------------------------------------

without_systemd = pytest.mark.skipif(systemd.available(), reason="this machine was booted with systemd")


@without_systemd
def test_without_systemd_every_unit_is_off() -> None:
    """No service manager to ask: OFF, not an error."""
    assert systemd.unit_state("docker.service") == UnitState(active=ActiveState.OFF)
    assert systemd.invocation_id("docker.service") == ""


@pytest.mark.parametrize(
    "act",
    [systemd.send_hup, lambda name: systemd.restart(name, 1.0, time.sleep)],
    ids=["hup", "restart"],
)
def test_a_unit_that_is_not_up_is_left_alone(act: Callable[[str], None]) -> None:
    """Neither signalled nor started, and the error names the unit."""
    with pytest.raises(HostError, match=r"^mirror-agent-test-no-such\.service: is not running"):
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


def _await_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 5
    while any(_is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"one of {pids} lives on"
        time.sleep(0.01)


def _is_running(pid: int) -> bool:
    """Alive; a zombie that nobody in this container reaps is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
