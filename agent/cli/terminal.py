"""What a person reads on: colours and widths only on a terminal, plain text in a pipe, any encoding."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from agent.settings import Color

Paint = Callable[[str, str], str]
"""Takes a style and a text; gives the text in that style, or as it is where there are no colours."""

_STYLES = {"good": "32", "bad": "31", "warn": "33", "strong": "1", "dim": "2", "place": "36"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Terminal:
    """Standard output and error, and how to write on them. `width` is None where lines are not to be wrapped."""

    out: TextIO
    err: TextIO
    colors: bool
    err_colors: bool
    width: int | None

    def write(self, text: str) -> None:
        """A text of whole lines on standard output."""
        self.out.write(text if text.endswith("\n") or not text else text + "\n")

    def complain(self, text: str) -> None:
        """A line on standard error, behind what was written before it."""
        self.out.flush()
        self.err.write(text + "\n")
        self.err.flush()

    def paint(self, style: str, text: str) -> str:
        """The text in a style of standard output."""
        return painted(style, text) if self.colors else text

    def paint_error(self, style: str, text: str) -> str:
        """The text in a style of standard error."""
        return painted(style, text) if self.err_colors else text


def open_terminal(color: Color) -> Terminal:
    """The terminal of this process. Characters that its encoding lacks are written out, never an error."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    return Terminal(
        out=sys.stdout,
        err=sys.stderr,
        colors=_wants_colors(sys.stdout, color),
        err_colors=_wants_colors(sys.stderr, color),
        width=_width() if sys.stdout.isatty() else None,
    )


def _width() -> int:
    import shutil  # not at the top: it brings compressors that no service needs

    return shutil.get_terminal_size().columns


def _wants_colors(stream: TextIO, color: Color) -> bool:
    if color != "auto":
        return color == "always"
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(style: str, text: str) -> str:
    """The text between the escape codes of a style."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def plain(text: str) -> str:
    """Control characters written out: what came from a file must not steer a terminal. Tabs and line ends stay."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def width_of(text: str) -> int:
    """Columns that a text takes: two for a Chinese character, none for a combining one."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def padded(text: str, columns: int) -> str:
    """The text with spaces behind it up to that many columns."""
    return text + " " * (columns - width_of(text))


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, each column as wide as its widest cell, two spaces between; nothing behind the last."""
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)] if rows else []
    return ["  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
