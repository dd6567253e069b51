"""Programs are started cleanly and always end."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from agent import programs
from agent.model import CommandResult

MIB = 1024 * 1024


def python(script: str, timeout_seconds: float = 20.0) -> CommandResult | None:
    """Run a script, by `run`, in a Python without site-packages."""
    return programs.run((sys.executable, "-I", "-S", "-c", script), timeout_seconds)


def test_a_program_can_open_what_it_is_told_as_a_file() -> None:
    """Much more than a pipe holds, from its beginning, by name and more than once."""
    content = bytes(range(256)) * 4096
    done = programs.run(("/bin/sh", "-c", "cksum /dev/stdin; cksum"), stdin=content)
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
    expected = f"{dict(programs.ENVIRONMENT)} /  4 True\n"
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
    done = programs.run(("/bin/sh", "-c", "sleep 3 & echo started"), timeout_seconds=20.0)
    assert done == CommandResult(0, "started\n", "")
    assert time.monotonic() - began < 2.0


def test_a_child_that_keeps_writing_holds_nobody_up(tmp_path: Path) -> None:
    """A chatty daemon left behind is listened to for a second, then its starter's result counts."""
    note = tmp_path / "pid"
    script = f"while :; do echo x; sleep 0.01; done & echo $! > {note}; exit 5"
    began = time.monotonic()
    done = programs.run(("/bin/sh", "-c", script), timeout_seconds=20.0)
    os.kill(int(note.read_text()), signal.SIGKILL)
    assert done is not None
    assert (done.returncode, set(done.stdout.split())) == (5, {"x"})
    assert time.monotonic() - began < 5.0


def test_a_program_that_closes_its_output_is_waited_for() -> None:
    """The end of output is not the end of the program."""
    done = programs.run(("/bin/sh", "-c", "exec >&- 2>&-; sleep 0.2; exit 7"), timeout_seconds=20.0)
    assert done == CommandResult(7, "", "")


def test_a_drip_feeding_program_meets_the_deadline() -> None:
    """The timeout is for the whole run, however much is written meanwhile."""
    began = time.monotonic()
    assert programs.run(("/bin/sh", "-c", "while :; do echo x; sleep 0.01; done"), timeout_seconds=0.5) is None
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("program", ["/nonexistent/program", "/etc/passwd", "/", "/bin/true\0"])
def test_what_cannot_be_started_is_none(program: str) -> None:
    """Not there, not executable, a directory, not even a path: never an exception."""
    assert programs.run((program,)) is None


def test_a_signal_shows_as_negative_status() -> None:
    """As subprocess has it: minus the number of the signal."""
    result = python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert result == CommandResult(-signal.SIGTERM, "", "")


def test_no_process_and_no_descriptor_is_left() -> None:
    """A hundred runs, some of them timing out, leave descriptors and children as they were."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        programs.run(("/bin/sleep", "1000"), 0.0) if number % 10 == 0 else programs.run(("/bin/true",))
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


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
