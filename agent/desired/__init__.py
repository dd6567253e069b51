"""The desired state: what an operator writes, checked whole, as a frozen value.

What only some ask for is imported when they do: the daemon's start and `apply` wait for no lints.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.desired.loading import load
from agent.errors import Problem

__all__ = ["format_problems", "lint", "load"]


def lint(
    data: bytes, source: str = "/etc/mirror-agent.yaml", *, is_daemon_json_open: bool = False
) -> tuple[Problem, ...]:
    """Warnings about a valid desired state: see `agent.desired.lints`."""
    from agent.desired import lints

    return lints.lint(data, source, is_daemon_json_open=is_daemon_json_open)


def format_problems(path: str, data: bytes, problems: Iterable[Problem]) -> str:
    """Problems as a person reads them: see `agent.desired.text`."""
    from agent.desired import text

    return text.format_problems(path, data, problems)
