"""How problems are shown: file, place and message, then the line with the words underlined. Secrets are `***`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from agent.desired.secrets import Span, secret_columns, secret_spans
from agent.desired.tree import MAX_BYTES
from agent.errors import Problem

_NEWLINE = re.compile("\r\n|\r|\n")
_HIDDEN = "***"
_BEFORE, _AFTER = 60, 100
_LONGEST_SHOWN = 2_000


def format_problems(path: str, data: bytes, problems: Iterable[Problem]) -> str:
    """One paragraph per problem, in the style of compilers; no final line break.

    `path:line:column: key.path: message`, and below it the line of `data` with the words underlined. Never raises,
    whatever the bytes are; never shows the value of a header or anything else that may be a secret.
    """
    listed = tuple(problems)
    text = data.decode("utf-8", "replace").removeprefix("\ufeff") if listed and len(data) <= MAX_BYTES else ""
    source = _Source(_NEWLINE.split(text), secret_spans(text))
    return "\n".join(line for problem in listed for line in _paragraph(path, problem, source))


@dataclass(frozen=True, slots=True)
class _Source:
    """The lines of a text and what to hide in them; found out once for each line that is shown."""

    lines: Sequence[str]
    spans: Sequence[Span]
    known: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def line(self, number: int) -> str:
        """A line, "" if there is none or it is too long to be one that a person wrote."""
        line = self.lines[number - 1] if 0 < number <= len(self.lines) else ""
        return line if len(line) <= _LONGEST_SHOWN else ""

    def hidden(self, number: int) -> list[tuple[int, int]]:
        """The hidden parts of a line, as columns from 1."""
        if number not in self.known:
            self.known[number] = _hidden_columns(self.line(number), number, self.spans)
        return self.known[number]


def _paragraph(path: str, problem: Problem, source: _Source) -> list[str]:
    head = problem.line_of(path)
    line = source.line(problem.line)
    if not line.strip():
        return [head]
    shown = _cut(_shown(line, problem, source.hidden(problem.line)))
    gutter = f"{problem.line:>5} | "
    return [head, gutter + shown.text, " " * (len(gutter) - 2) + "| " + shown.underline]


@dataclass(frozen=True, slots=True)
class _Shown:
    """A line as it is printed, and which part of it (from, up to, in characters) is underlined."""

    text: str
    first: int
    last: int

    @property
    def underline(self) -> str:
        """Blanks and carets as wide on a terminal as what stands above them."""
        before = "".join(c if c == "\t" else " " * _columns(c) for c in self.text[: self.first])
        width = sum(_columns(character) for character in self.text[self.first : self.last])
        return before + "^" * max(1, width)


def _hidden_columns(source: str, line: int, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """The hidden parts of one line, as columns from 1, joined and in order."""
    found = list(secret_columns(source))
    for (first_line, first), (last_line, last) in spans:
        if first_line <= line <= last_line:
            found.append((first if first_line == line else 1, last if last_line == line else len(source) + 1))
    joined: list[tuple[int, int]] = []
    for start, end in sorted(part for part in found if part[0] < part[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _shown(source: str, problem: Problem, hidden: Sequence[tuple[int, int]]) -> _Shown:
    """The line with its hidden parts as `***`; a problem inside one underlines the `***`."""
    pieces: list[str] = []
    places = [0] * (len(source) + 2)
    column = length = 0
    for start, end in [*hidden, (len(source) + 1, len(source) + 1)]:
        while column < start - 1:
            pieces.append(_printable(source[column]))
            column, length = column + 1, length + 1
            places[column] = length
        stars = _HIDDEN if start <= len(source) and start < end else ""
        pieces.append(stars)
        for inside in range(column + 1, min(end, len(source) + 1)):
            places[inside] = length + len(stars)
        column, length = max(column, min(end - 1, len(source))), length + len(stars)
    text = "".join(pieces)
    first = places[min(max(problem.column - 1, 0), len(source))]
    last = places[min(problem.column - 1 + problem.width, len(source))]
    if first >= last and text[:first].endswith(_HIDDEN):
        first = last - len(_HIDDEN)
    return _Shown(text, first, max(last, first))


def _cut(shown: _Shown) -> _Shown:
    """A long line is cut around what is underlined."""
    if len(shown.text) <= _BEFORE + _AFTER:
        return shown
    start = max(0, shown.first - _BEFORE)
    end = min(len(shown.text), start + _BEFORE + _AFTER)
    left, right = "…" if start else "", "…" if end < len(shown.text) else ""
    shift = len(left) - start
    text = left + shown.text[start:end] + right
    return _Shown(text, shown.first + shift, min(shown.last, end) + shift)


def _printable(character: str) -> str:
    return character if character == "\t" or character.isprintable() else "\ufffd"


def _columns(character: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
