"""How times and long lines are shown to a person."""

from __future__ import annotations

import textwrap
import time

from agent.cli.terminal import width_of

HEAD_COLUMNS = 10
"""How wide the first word of a line is."""
NARROWEST_COLUMNS = 60


def lasting(seconds: float) -> str:
    """`40 s`, from two minutes on `9 min`, from two hours on `71 h`."""
    if seconds >= 7200:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def age(seconds: float) -> str:
    """`12 s ago`, in the largest unit that is at least one."""
    for name, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {'day' if name == 'days' and count == 1 else name} ago"
    return f"{max(0, int(seconds))} s ago"


def moment(unix_seconds: float, now: float) -> str:
    """Local time: `10:32` today, `2026-11-23 10:32` before."""
    then, today = time.localtime(unix_seconds), time.localtime(now)
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then)


def wrapped(line: str, width: int | None, indent: int) -> list[str]:
    """The line, broken at blanks where a terminal is narrower; what follows is indented."""
    if width is None or width < NARROWEST_COLUMNS or width_of(line) <= width:
        return [line]
    hanging = " " * indent
    return textwrap.wrap(line, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)
