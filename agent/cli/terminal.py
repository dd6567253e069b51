"""What a person reads on: colours and widths only on a terminal, plain text in a pipe, any encoding."""

from __future__ import annotations

import errno
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import TextIO

from agent.errors import OutputError
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
        """A text of whole lines on standard output. Raises OutputError if it takes nothing any more."""
        with _failing_as_output():
            self.out.write(text if text.endswith("\n") or not text else text + "\n")

    def complain(self, text: str) -> None:
        """A line on standard error, behind what was written before it."""
        flush(self.out)
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
    out, err = (_Closed() if stream is None else stream for stream in (sys.stdout, sys.stderr))
    for stream in (out, err):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    return Terminal(
        out=out,
        err=err,
        colors=_wants_colors(out, color),
        err_colors=_wants_colors(err, color),
        width=_width() if out.isatty() else None,
    )


class _Closed(StringIO):
    """A descriptor that was closed before we started: whoever needs it must not take it for one that works."""

    def write(self, _: str) -> int:
        raise OSError(errno.EBADF, "is closed")


def flush(out: TextIO | None) -> None:
    """What is buffered for standard output. Raises OutputError if it cannot be written."""
    if out is not None:
        with _failing_as_output():
            out.flush()


@contextmanager
def _failing_as_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        code = error.errno or 0
        reason = f"{os.strerror(code).lower()} ({errno.errorcode.get(code, code)})"
        raise OutputError(f"standard output: {'is closed' if code == errno.EBADF else reason}") from error


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
