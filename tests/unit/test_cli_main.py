"""Exit codes and bad ends: usage, bugs, Ctrl-C, closed pipes; and that quick commands import little."""

import fcntl
import json
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from agent import __version__
from agent.cli import main
from tests.command_line import commands

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "agent"]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "ROOT", "STATE_DIR", "RUN_DIR", "LOG_LEVEL", "COLOR", "DEBUG"):
        monkeypatch.delenv(f"MIRROR_AGENT_{name}", raising=False)


def leave(*words: str) -> int:
    """The exit code of a call that argparse ends."""
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize("words", [[], ["nonsense"], ["check", "a", "b"], ["--color", "blue", "check"], ["--roo", "/"]])
def test_a_command_line_that_cannot_be_meant_is_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """argparse's own words, with the usage; abbreviated options are not guessed."""
    assert leave(*words) == 2
    assert capsys.readouterr().err.startswith("usage: mirror-agent ")


def test_a_wrong_setting_is_exit_2_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A root that is not there, in one line and where to read more."""
    assert main(["--root", f"{tmp_path}/no", "check"]) == 2
    assert capsys.readouterr().err == (
        f"mirror-agent: --root {tmp_path}/no: no such directory\nmirror-agent --help says more\n"
    )


def test_options_are_taken_before_and_after_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json check` and `check --json` mean the same."""
    (tmp_path / "x.yaml").write_text("version: 1\n")
    answers = []
    for words in (["--json", "check"], ["check", "--json"]):
        main([*words, f"{tmp_path}/x.yaml"])
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    assert answers[0]["valid"] is True


def test_help_names_every_command_and_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """All commands with a line each, a tour, examples and the exit codes, in at most 110 columns."""
    assert leave("--help") == 0
    shown = capsys.readouterr().out
    assert [name for name in commands() if f"\n    {name} " not in shown] == []
    assert [word for word in ("a short tour:", "examples:", "exit codes:") if word not in shown] == []
    assert max(map(len, shown.splitlines())) <= 120


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Name and version."""
    assert leave("--version") == 0
    assert capsys.readouterr().out == f"mirror-agent {__version__}\n"


class BrokenInput:
    """A standard input that fails as nothing expected fails."""

    @property
    def buffer(self) -> BytesIO:
        raise RuntimeError("c4n4ry")


def test_a_bug_is_one_line_and_exit_70(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback without --debug, and never the exception's own text, which could quote a file."""
    monkeypatch.setattr(sys, "stdin", BrokenInput())
    assert main(["check", "-"]) == 70
    shown = capsys.readouterr().err
    assert shown.startswith("mirror-agent: this is a bug in mirror-agent (RuntimeError at test_cli_main.py:")
    assert shown.endswith("; please report it with the output of the same command and --debug\n")
    assert "c4n4ry" not in shown
    assert main(["check", "--debug", "-"]) == 70
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_closed_standard_input_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`check - <&-` is a failure with a message."""
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["check", "-"]) == 1
    assert capsys.readouterr().err == "mirror-agent: standard input: is closed\n"


def _said_by(words: list[str], tmp_path: Path, redirection: str) -> tuple[int, str]:
    """Exit code and standard error of a command below a root of its own, with a redirection of the shell."""
    (tmp_path / "x.yaml").write_text("version: 1\n")
    call = ["sh", "-c", f'exec "$0" "$@" {redirection}', *COMMAND, *words]
    done = subprocess.run(call, stderr=subprocess.PIPE, text=True, check=False, timeout=60, cwd=ROOT)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("redirection", "reason"), [(">/dev/full", "no space left on device (ENOSPC)"), (">&-", "is closed")]
)
def test_an_output_that_takes_nothing_is_an_expected_failure(tmp_path: Path, redirection: str, reason: str) -> None:
    """A full disk or a closed descriptor behind standard output: exit 1 and one line, not "a bug"."""
    said = _said_by(["check", f"{tmp_path}/x.yaml"], tmp_path, redirection)
    assert said == (1, f"mirror-agent: standard output: {reason}\n")


def test_nobody_to_complain_to_changes_no_exit_code(tmp_path: Path) -> None:
    """Standard error closed, or full."""
    wrong = ["check", f"{tmp_path}/none.yaml"]
    codes = [_said_by(wrong, tmp_path, f"2>{where}")[0] for where in ("&-", "/dev/full")]
    assert codes == [1, 1]


@pytest.mark.parametrize("place", ["/dev/stdin", "/proc/self/fd/0", "/dev/fd/0"])
def test_check_reads_what_a_shell_hands_over(place: str) -> None:
    """`check /dev/stdin` and `check <(...)` name pipes."""
    call = [*COMMAND, "check", place]
    done = subprocess.run(call, input=b"version: 1\n", capture_output=True, check=False, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout.startswith(f"{place} is valid: ".encode())) == (0, True), done.stderr


@pytest.fixture
def _hears_ctrl_c() -> Iterator[None]:
    """A shell that starts these tests in its background has them ignore SIGINT, and with them their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_hears_ctrl_c")
def test_ctrl_c_is_130_without_a_word() -> None:
    """As a shell expects of an interrupted command."""
    with subprocess.Popen(
        [*COMMAND, "check", "-"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"version: 1\n")
        process.stdin.flush()
        await_empty(process.stdin.fileno())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""


def await_empty(pipe: int) -> None:
    """Wait until the other end has read everything, and so sleeps in its next read."""
    deadline = time.monotonic() + 20
    while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_closed_pipe_is_no_failure_to_talk_about() -> None:
    """`mirror-agent mirrors | head -1`: no traceback, no message."""
    script = f"{sys.executable} -m agent mirrors | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    heading, code = done.stdout.splitlines()
    assert (heading.split()[0], done.stderr) == ("REGISTRY", "")
    assert code in {"0", "141"}


def imported_by(*words: str, at: Path) -> set[str]:
    """The modules that a command has imported by its end."""
    report = "print('\\n'.join(sys.modules), file=sys.stderr)"
    code = f"import sys; from agent.cli import main; main({list(words)!r}); {report}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env={"HOME": str(at)}
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "spared"),
    [
        (
            ["mirrors"],
            {
                "agent.probe",
                "ssl",
                "agent.daemon",
                "agent.node",
                "agent.desired",
                "pydantic",
                "watchdog",
                "yaml",
                "tomlkit",
            },
        ),
        (["--root", "{root}", "check"], {"agent.daemon", "agent.converge", "agent.runtimes", "watchdog", "tomlkit"}),
        (["--root", "{root}", "apply"], {"agent.probe", "ssl", "urllib.request"}),
        (["--root", "{root}", "status"], {"agent.daemon", "watchdog", "pydantic_settings"}),
    ],
)
def test_a_quick_command_imports_no_more_than_it_needs(words: list[str], spared: set[str], tmp_path: Path) -> None:
    """`check`, `status` and `mirrors` are asked often and pay nothing for the daemon."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/mirror-agent.yaml").write_text("version: 1\n")
    (tmp_path / "etc/mirror-agent.yaml").chmod(0o640)
    assert imported_by(*(word.format(root=tmp_path) for word in words), at=tmp_path) & spared == set()
