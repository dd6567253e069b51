"""The command line: one small module for each command, and here the only place that knows exit codes.

Commands import what they need when they run: `check` and `status` are asked often and must not pay for the daemon.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from agent import settings
from agent.cli import arguments, lean
from agent.cli.session import BUG, FAILED, USAGE, InvalidFileError, Session
from agent.cli.terminal import flush, open_terminal, plain
from agent.errors import MirrorAgentError, OutputError

INTERRUPTED = 130
PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; nothing but a wrong command line, `--help` and `--version` exits here."""
    if argv is None:
        lean.begin()
    options = arguments.parse(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(options)
        flush(sys.stdout)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _leave_output(PIPE_CLOSED)
    except OutputError as error:
        return _leave_output(_complain(str(error), FAILED))
    except MirrorAgentError as error:
        return _report(error, as_json=options.json)
    except Exception as error:  # noqa: BLE001 -- the last resort: a bug is reported in one line
        return _report_bug(error, debug=options.debug)
    return code


def _run(options: arguments.Options) -> int:
    found = settings.load(options.flags)
    session = Session(found, options.command, open_terminal(found.color), options.json)
    return options.run(session)


def _report(error: MirrorAgentError, *, as_json: bool) -> int:
    if isinstance(error, InvalidFileError):
        return _report_invalid(error, as_json=as_json)
    if isinstance(error, settings.UsageError):
        return _complain(f"{error}\nmirror-agent --help says more", USAGE)
    return _complain(f"{error}{_as_root_hint(error)}", FAILED)


def _report_invalid(error: InvalidFileError, *, as_json: bool) -> int:
    if as_json:
        from agent.cli import check

        answer = check.document(check.Verdict(None, problems=error.problems))
        sys.stdout.write(json.dumps(answer, indent=1, ensure_ascii=False) + "\n")
        return FAILED
    return _tell(error.text, FAILED)


def _complain(message: str, code: int) -> int:
    return _tell(f"mirror-agent: {plain(message)}", code)


def _tell(text: str, code: int) -> int:
    """On standard error, if there is one that takes it: the exit code says the rest."""
    with suppress(OSError):
        if sys.stderr is not None:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
    return code


def _as_root_hint(error: MirrorAgentError) -> str:
    denied = any(name in str(error) for name in ("EACCES", "EPERM"))
    return "; run it as root" if denied and os.geteuid() != 0 else ""


def _leave_output(code: int) -> int:
    """Nobody takes our output any more. What is still buffered must not fail when the interpreter ends."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _report_bug(error: Exception, *, debug: bool) -> int:
    """One line without the exception's text, which may quote a file and with it a secret."""
    import traceback  # not at the top: only a bug needs it

    if debug:
        traceback.print_exception(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} at {os.path.basename(frame.filename)}:{frame.lineno}"
    advice = "please report it" if debug else "please report it with the output of the same command and --debug"
    return _complain(f"this is a bug in mirror-agent ({place}); {advice}", BUG)
