"""How this process was asked to run: flags first, MIRROR_AGENT_* variables second, defaults last."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from agent.errors import MirrorAgentError

Color = Literal["auto", "always", "never"]
LogLevel = Literal["debug", "info", "notice", "warning", "error"]

PREFIX = "MIRROR_AGENT_"
_OF_THE_TESTS = (PREFIX + "NODE_", PREFIX + "SOAK")


class UsageError(MirrorAgentError):
    """The program was asked for something that cannot be meant: exit code 2."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`root` is absolute; the other paths are absolute too, as an operator writes them, and meant below `root`."""

    config: str = "/etc/mirror-agent.yaml"
    root: str = "/"
    state_dir: str = "/var/lib/mirror-agent"
    run_dir: str = "/run/mirror-agent"
    probe_dir: str = "/run/mirror-agent-probe"
    log_level: LogLevel = "info"
    color: Color = "auto"
    debug: bool = False


_NAMES = tuple(field.name for field in fields(Settings))


def variable(name: str) -> str:
    """The environment variable of a setting: `config` is MIRROR_AGENT_CONFIG."""
    return PREFIX + name.upper()


def load(flags: Mapping[str, Any]) -> Settings:
    """The settings in force; `flags` holds those given on the command line. Raises UsageError."""
    given = {name for name in os.environ if name.startswith(PREFIX) and not name.startswith(_OF_THE_TESTS)}
    for name in sorted(given - set(map(variable, _NAMES))):
        raise UsageError(f"{name}: unknown variable, {_what_would_be_right(name)}")
    return _located(replace(Settings(), **{**(_from_variables() if given else {}), **flags}))


def _from_variables() -> dict[str, Any]:
    """Imported only if there is a variable to read: pydantic costs 13 MB and a tenth of a second, and the daemon that
    a unit starts is given none."""
    from agent.settings.variables import read

    return read()


def _what_would_be_right(name: str) -> str:
    import difflib  # not at the top: only a mistake needs it

    near = difflib.get_close_matches(name.removeprefix(PREFIX).lower(), _NAMES, 1)
    return f"did you mean {variable(near[0])}?" if near else f"known are {', '.join(map(variable, _NAMES))}"


def _located(settings: Settings) -> Settings:
    """With all paths absolute. Below a root of its own a relative path could mean two places, so it is refused."""
    root = os.path.abspath(settings.root)
    if not os.path.isdir(root):
        raise UsageError(f"--root {settings.root}: no such directory")
    paths = {name: getattr(settings, name) for name in ("config", "state_dir", "run_dir", "probe_dir")}
    for name, path in paths.items():
        if root != "/" and not path.startswith("/"):
            option = "--" + name.replace("_", "-")
            raise UsageError(
                f"{option} {path}: below --root {settings.root} this must be absolute, as it is seen there"
            )
    return replace(settings, root=root, **{name: os.path.abspath(path) for name, path in paths.items()})
