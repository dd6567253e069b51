"""The words of the command line, and the help that one can learn from."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent import __version__
from agent.cli import apply, check, explain, import_, mirrors, plan, probe, revert, run, status
from agent.cli.session import Session

_FLAGS = ("root", "config", "state_dir", "run_dir", "probe_dir", "log_level", "color", "debug")

_DESCRIPTION = """\
Keeps the registry mirrors of containerd and Docker as one file says: /etc/mirror-agent.yaml.
"""

_TOUR = """\
a short tour:
  0. A node that has mirrors already: mirror-agent import prints them as a desired state.

  1. Say which registries are reached through which mirrors, in /etc/mirror-agent.yaml:

       version: 1
       presets: [daocloud]
       registries:
         docker.io:
           mirrors: [https://docker.m.daocloud.io]

  2. mirror-agent check          is it valid, and is anything in it known to be dead?
     mirror-agent plan           what would change, and why
     mirror-agent apply          do it once; or for ever: systemctl enable --now mirror-agent
     mirror-agent status         do the running containerd and Docker have it?

     mirror-agent explain nginx  which hosts is an image asked from, in which order?

  3. From then on edit the file: it converges within a second. journalctl -u mirror-agent says what was done.

  man mirror-agent.yaml has every key of the file with examples; man mirror-agent says what is restarted, and when.

examples:
  mirror-agent check new.yaml && cp new.yaml /etc/mirror-agent.yaml
  mirror-agent plan || test $? = 3 && mirror-agent apply
  mirror-agent status --json | jq .live
  mirror-agent --root /mnt/image apply        prepare an image: files only, no daemon is touched

exit codes: 0 fine; 1 it failed, the message says why; 2 wrong usage; 3 changes are pending, or not live; 70 a bug.
Options can be variables: MIRROR_AGENT_ROOT, MIRROR_AGENT_CONFIG, MIRROR_AGENT_COLOR and so on. Options win.
"""


class Command(Protocol):
    """What each module of a command binds."""

    NAME: str
    SUMMARY: str
    DESCRIPTION: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options that only this command has."""
        ...

    def run(self, session: Session) -> int:
        """Do it, and return the exit code."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """A parsed command line: the settings that were given, and the command with its own options."""

    flags: dict[str, Any]
    command: argparse.Namespace
    run: Callable[[Session], int]
    json: bool
    debug: bool


_COMMANDS: tuple[Command, ...] = (run, check, plan, apply, status, explain, import_, mirrors, revert, probe)


def parse(argv: Sequence[str]) -> Options:
    """Exits (SystemExit) with 2 for what cannot be meant, with 0 after --help and --version."""
    found = new_parser().parse_args(argv)
    flags = {name: getattr(found, name) for name in _FLAGS if hasattr(found, name)}
    return Options(flags, found, found.run, json=getattr(found, "json", False), debug=flags.get("debug", False))


def new_parser() -> argparse.ArgumentParser:
    """Every command with its options: what completions and manual pages must say too (tests hold them to it)."""
    parser = argparse.ArgumentParser(
        prog="mirror-agent",
        description=_DESCRIPTION,
        epilog=_TOUR,
        formatter_class=_layout,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mirror-agent {__version__}")
    _add_common(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        _add_command(commands, module)
    return parser


def _add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser], module: Command) -> None:
    parser = commands.add_parser(
        module.NAME,
        help=module.SUMMARY,
        description=module.DESCRIPTION,
        formatter_class=_layout,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    _add_common(parser)
    parser.set_defaults(run=module.run)


def _layout(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=22, width=110)


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Accepted before and after the command; what is not given leaves no trace, so that a later default cannot win."""
    group = parser.add_argument_group("options for every command")
    absent = argparse.SUPPRESS
    group.add_argument(
        "--root",
        metavar="DIR",
        default=absent,
        help="put every path below DIR, and touch no daemon: for images, and to try things out",
    )
    group.add_argument(
        "--config", metavar="FILE", default=absent, help="the desired state, instead of /etc/mirror-agent.yaml"
    )
    group.add_argument("--json", action="store_true", default=absent, help="answer with one JSON document, for scripts")
    group.add_argument(
        "--color", choices=("auto", "always", "never"), default=absent, help="auto, the default: on a terminal"
    )
    group.add_argument("--debug", action="store_true", default=absent, help="show the traceback of a bug")
    group.add_argument("--log-level", choices=_LEVELS, default=absent, help=argparse.SUPPRESS)
    group.add_argument("--state-dir", metavar="DIR", default=absent, help=argparse.SUPPRESS)
    group.add_argument("--run-dir", metavar="DIR", default=absent, help=argparse.SUPPRESS)
    group.add_argument("--probe-dir", metavar="DIR", default=absent, help=argparse.SUPPRESS)


_LEVELS = ("debug", "info", "notice", "warning", "error")
