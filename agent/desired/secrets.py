"""Where a text may hold secrets, so that no line that is shown to people shows them.

By structure: whatever stands under a key that is `header`, looks like it, or speaks of tokens and passwords. By form:
userinfo and queries of URLs, what follows `Bearer` and the like, and what looks like a random token. It also works
where the text is no valid YAML: there, everything after such a key is hidden.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import yaml

from agent.desired.findings import RANDOM
from agent.desired.tree import events

Position = tuple[int, int]
Span = tuple[Position, Position]
"""From (line, column) up to but without (line, column), both from 1."""

_END: Position = (10**9, 1)
_SPEAKING = re.compile(r"auth|token|secret|passw|credential|api.?key|cookie|session", re.IGNORECASE)
_HARMLESS = frozenset({"authorization-plugins", "header_file"})
_PATHS = "header_file"
_FORMS = (
    re.compile(r"""(?<![^\s"'\[\]{},])(?:[a-z][a-z0-9+.-]*://)?([^\s"'\[\]{},]+)@(?=\S)""", re.IGNORECASE),
    re.compile(r"""://[^\s"'?#]*[?#]([^\s"'\]},]+)"""),
    re.compile(r"""\b(?:bearer|basic|digest|negotiate|token|apikey)\s+([^\s"'\]},]{6,})""", re.IGNORECASE),
    re.compile(
        r"""^[^#]*\#.*?(?:header|auth|token|secret|passw|credential|api.?key|cookie)[\w-]*["']?\s*[:=]\s*(\S.*)""",
        re.IGNORECASE,
    ),
    RANDOM,
)
_KEY_IN_WRECK = re.compile(r"""([A-Za-z0-9_.-]{2,40})["']?[ \t]*[:=]""")
_MAX_LEVELS = 100
_MAX_EVENTS = 1_000_000


@dataclass(slots=True)
class _Level:
    """An open collection that stands under the key `name`; a pending `key` waits for its value."""

    mapping: bool
    start: Position
    hidden: bool
    name: str
    key: str | None = None


@dataclass(slots=True)
class _Tracker:
    """Follows the events and notes which values to hide."""

    spans: list[Span] = field(default_factory=list)
    levels: list[_Level] = field(default_factory=list)
    at: Position = (1, 1)

    def event(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                self.word(event, event.value)
            case yaml.AliasEvent():
                self.word(event, "")
            case yaml.CollectionStartEvent():
                hidden, name = self.value_begins()
                self.levels.append(_Level(isinstance(event, yaml.MappingStartEvent), _start(event), hidden, name))
            case yaml.CollectionEndEvent():
                level = self.levels.pop()
                if level.hidden:
                    self.spans.append((level.start, _end(event)))
        self.at = _end(event)

    def word(self, event: yaml.Event, text: str) -> None:
        """A scalar: a key, or a value."""
        level = self.levels[-1] if self.levels else None
        if level is not None and level.mapping and level.key is None:
            level.key = text
        elif self.value_begins()[0]:
            self.spans.append((_start(event), _end(event)))

    def value_begins(self) -> tuple[bool, str]:
        """Whether the value that begins now is to be hidden, and its key; uses the pending key up."""
        level = self.levels[-1] if self.levels else None
        if level is None:
            return False, ""
        if not level.mapping:
            return False, level.name
        if level.key is None:  # a collection as key: its value follows
            level.key = ""
            return False, ""
        key, level.key = level.key, None
        return level.name != _PATHS and speaks_of_secrets(key), key

    def wrecked(self, text: str) -> None:
        """The text cannot be read on: hide what is open, and all after the next key that speaks of secrets."""
        opened = [level.start for level in self.levels if level.hidden]
        opened += [self.at for level in self.levels if level.key and speaks_of_secrets(level.key)]
        opened += [self.at for _, end in self.spans[-1:] if end == self.at]
        rest = _offset(text, self.at)
        keys = (match for match in _KEY_IN_WRECK.finditer(text, rest) if speaks_of_secrets(match[1]))
        opened += [_place(text, match.end()) for match in itertools.islice(keys, 1)]
        self.spans.extend((start, _END) for start in opened)


def secret_spans(text: str) -> tuple[Span, ...]:
    """The parts of a text that are never shown, by its structure. Never raises."""
    tracker = _Tracker()
    try:
        for count, event in enumerate(events(text)):
            tracker.event(event)
            if count > _MAX_EVENTS or len(tracker.levels) > _MAX_LEVELS:
                tracker.wrecked(text)
                break
    except yaml.YAMLError:
        tracker.wrecked(text)
    return tuple(tracker.spans)


def secret_columns(line: str) -> Iterator[tuple[int, int]]:
    """The parts of one line that are never shown, by their form: from column, up to but without column, from 1."""
    for form in _FORMS:
        for match in form.finditer(line):
            yield match.start(1) + 1, match.end(1) + 1


@lru_cache(maxsize=512)
def speaks_of_secrets(key: str) -> bool:
    """Whether what stands under this key may be a secret: `header`, its misspellings, words like token."""
    word = key.strip().lower()
    if word in _HARMLESS or not word:
        return False
    if word.startswith("head") or _SPEAKING.search(word):
        return True
    import difflib  # not at the top: only a mistake needs it

    return len(word) <= 16 and difflib.SequenceMatcher(None, word, "header").ratio() >= 0.7


def _start(event: yaml.Event) -> Position:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _end(event: yaml.Event) -> Position:
    mark = event.end_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


_NEWLINE = re.compile("\r\n|\r|\n")


def _offset(text: str, position: Position) -> int:
    """The offset of a place in the text."""
    line, column = position
    starts = (match.end() for match in _NEWLINE.finditer(text))
    start = next((start for count, start in enumerate(starts, 2) if count == line), 0 if line == 1 else len(text))
    return min(start + column - 1, len(text))


def _place(text: str, offset: int) -> Position:
    """The place of an offset in the text."""
    line, start = 1, 0
    for match in _NEWLINE.finditer(text, 0, offset):
        line, start = line + 1, match.end()
    return line, offset - start + 1
