"""The command line: one small module for each command, and here the only place that knows exit codes.

Commands import what they need when they run: `check` and `status` are asked often and must not pay for the daemon.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from agent import settings
from agent.cli import arguments, lean
from agent.cli.session import BUG, FAILED, USAGE, InvalidFileError, Session
from agent.cli.terminal import open_terminal, plain
from agent.errors import MirrorAgentError

INTERRUPTED = 130
PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; nothing but a wrong command line, `--help` and `--version` exits here."""
    if argv is None:
        lean.begin()
    options = arguments.parse(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _leave_pipe()
    except MirrorAgentError as error:
        return _report(error)
    except Exception as error:  # noqa: BLE001 -- the last resort: a bug is reported in one line
        return _report_bug(error, debug=options.debug)
    return code


def _run(options: arguments.Options) -> int:
    found = settings.load(options.flags)
    session = Session(found, options.command, open_terminal(found.color), options.json)
    return options.run(session)


def _report(error: MirrorAgentError) -> int:
    if isinstance(error, InvalidFileError):
        sys.stderr.write(f"{error.text}\n")
        return FAILED
    if isinstance(error, settings.UsageError):
        return _complain(f"{error}\nmirror-agent --help says more", USAGE)
    return _complain(f"{error}{_as_root_hint(error)}", FAILED)


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"mirror-agent: {plain(message)}\n")
    return code


def _as_root_hint(error: MirrorAgentError) -> str:
    denied = any(name in str(error) for name in ("EACCES", "EPERM"))
    return "; run it as root" if denied and os.geteuid() != 0 else ""


def _leave_pipe() -> int:
    """Whoever read our output has seen enough. What is still buffered must not fail when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED


def _report_bug(error: Exception, *, debug: bool) -> int:
    """One line without the exception's text, which may quote a file and with it a secret."""
    if debug:
        traceback.print_exception(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} at {os.path.basename(frame.filename)}:{frame.lineno}"
    advice = "please report it" if debug else "please report it with the output of the same command and --debug"
    return _complain(f"this is a bug in mirror-agent ({place}); {advice}", BUG)
