"""JSON as text: reading it strictly, with the place of every fault, and printing it without touching a token.

Strict, because Docker's own reader is lax, and differently so from version to version (moby daemon/config @ 20.10,
23.0): trailing text, repeated keys, a byte order mark. Numbers are kept as they are written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

_BLANK = re.compile(r"[ \t\n\r]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')
_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')
_CONTROL = {chr(code) for code in range(32)}
_FAULTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("//", "/*", "#"), "comments are not JSON: remove it"),
    (tuple("'`‘’“”„«»"), 'only "straight quotes" are JSON: replace this one'),
    (("\u00a0",), "this is a no-break space: replace it by a plain one"),
    (("NaN", "Infinity", "-Infinity"), "NaN and Infinity are not JSON: write a number"),
)
_MAX_DEPTH = 100


class NotEditableError(ValueError):
    """The text must not be edited; the message says line, column and what to do, and never quotes a value."""


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number as it is written: Docker tells `3` from `3.0`, so 3.0 is another value."""

    text: str


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object by its offsets: where its key begins and ends, where its value begins and ends."""

    key: str
    start: int
    key_end: int
    value_start: int
    end: int


@dataclass(frozen=True, slots=True)
class Outline:
    """Where the parts of an object are. `open_end` is just after the opening brace, `close` at the closing one."""

    members: tuple[Member, ...]
    open_end: int
    close: int


def outline(text: str) -> Outline:
    """Find the members of the one object that the text is. Raises NotEditableError if it is anything else."""
    start = _skip(text, 0)
    if not text.startswith("{", start):
        raise _fault(text, start, "the file must be one JSON object, beginning with {")
    members: dict[str, Member] = {}
    position = _skip(text, start + 1)
    while not text.startswith("}", position) or members:
        member = _member(text, position)
        if member.key in members:
            raise fault_at(text, position, f"{_quoted(member.key)} is there twice: remove one")
        members[member.key] = member
        position = _skip(text, member.end)
        if text.startswith("}", position):
            break
        position = _skip(text, _expect(text, position, ","))
    _refuse_rest(text, position + 1)
    return Outline(tuple(members.values()), start + 1, position)


def compact(json_text: str) -> str:
    """Valid JSON text without the blanks between its tokens."""
    return "".join(_TOKEN.findall(json_text))


def inline(json_text: str, colon: str = ": ") -> str:
    """Valid JSON text on one line; tight if the colon is."""
    spaces = {",": ", " if colon != ":" else ",", ":": colon}
    return "".join(spaces.get(token, token) for token in _TOKEN.findall(json_text))


def value_of(json_text: str) -> Any:  # noqa: ANN401 -- a JSON value can be anything
    """The value of valid JSON text, numbers as Number. Comparing two of these compares meaning, not spelling."""
    return _DECODER.decode(json_text)


def same(left: str | None, right: str | None) -> bool:
    """Whether two values mean the same: blanks, escapes and the order of keys aside."""
    if left is None or right is None:
        return left is right
    return left == right or bool(value_of(left) == value_of(right))


def texts_of(json_text: str | None) -> tuple[str, ...] | None:
    """The items of a list of texts, each as its own JSON text (a missing list or `null` has none); None for anything
    that is not a list of texts."""
    value = None if json_text is None else value_of(json_text)
    if json_text is None or value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return tuple(token for token in _TOKEN.findall(json_text) if token not in {"[", ",", "]"})


def strings_of(json_text: str | None) -> tuple[str, ...] | None:
    """The items of a list of texts as they are meant; None for anything that is not a list of texts."""
    texts = texts_of(json_text)
    return None if texts is None else tuple(str(value_of(text)) for text in texts)


def list_of(items: Iterable[str]) -> str:
    """A list of texts as compact JSON text."""
    return json.dumps(tuple(items), ensure_ascii=False, separators=(",", ":"))


def pretty(json_text: str, line: str, unit: str) -> str:
    """Valid JSON text over several lines; `line` is the line break with the indentation of the outermost level."""
    pieces: list[str] = []
    depth, before = 0, ""
    for piece in _TOKEN.findall(json_text):
        closes, is_first = piece in {"]", "}"}, before in {"[", "{"}
        depth += (is_first and not closes) - (closes and not is_first)
        if before == "," or is_first != closes:
            pieces.append(line + unit * depth)
        pieces.append(": " if piece == ":" else piece)
        before = piece
    return "".join(pieces)


def fault_at(text: str, position: int, message: str) -> NotEditableError:
    """The error that names the place by line and column, both from 1."""
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return NotEditableError(f"line {line}, column {column}: {message}")


# --- reading -----------------------------------------------------------------------------------------------------


class _ConstantError(ValueError):
    """NaN or Infinity."""


class _RepeatedKeyError(ValueError):
    """Two equal keys in one object."""


def _refuse_constant(_text: str) -> NoReturn:
    raise _ConstantError


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _RepeatedKeyError(_repeated(pairs))
    return members


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return ""


_DECODER = json.JSONDecoder(
    parse_int=Number, parse_float=Number, parse_constant=_refuse_constant, object_pairs_hook=_unique
)


def _member(text: str, start: int) -> Member:
    if not text.startswith('"', start):
        raise _fault(text, start, 'a key in "straight quotes" must stand here')
    key, key_end = _scan(text, start, "")
    colon_end = _expect(text, _skip(text, key_end), ":")
    value_start = _skip(text, colon_end)
    _, end = _scan(text, value_start, key)
    return Member(key, start, key_end, value_start, end)


def _scan(text: str, start: int, key: str) -> tuple[Any, int]:
    """One JSON value and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _value_fault(text, error.pos) from None
    except _ConstantError:
        raise _constant_at(text, start) from None
    except _RepeatedKeyError as error:
        message = f"in {_quoted(key)}, {_quoted(str(error))} is there twice: remove one"
        raise fault_at(text, start, message) from None
    except RecursionError:
        raise _too_deep(text, start, key) from None
    if _depth(text[start:end]) > _MAX_DEPTH:
        raise _too_deep(text, start, key)
    return value, end


def _depth(json_text: str) -> int:
    """How deep lists and objects are nested, counted only where it may matter."""
    if json_text.count("[") + json_text.count("{") <= _MAX_DEPTH:
        return 0
    depth = deepest = 0
    for token in _TOKEN.findall(json_text):
        depth += (token in {"[", "{"}) - (token in {"]", "}"})
        deepest = max(deepest, depth)
    return deepest


def _too_deep(text: str, start: int, key: str) -> NotEditableError:
    return fault_at(
        text, start, f"{_quoted(key)} is nested more than {_MAX_DEPTH} levels deep: nothing in Docker needs that"
    )


def _constant_at(text: str, start: int) -> NotEditableError:
    found = next((match for match in _CONSTANT.finditer(text, start) if match[1]), None)
    position = found.start() if found else start
    return fault_at(text, position, "NaN and Infinity are not JSON: write a number")


def _expect(text: str, position: int, character: str) -> int:
    if not text.startswith(character, position):
        raise _fault(text, position, f'a "{character}" is missing here')
    return position + 1


def _refuse_rest(text: str, end: int) -> None:
    position = _skip(text, end)
    if position < len(text):
        general = "there is text after the end of the object, which Docker 23 and later refuse: remove it"
        raise _fault(text, position, general)


def _skip(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _fault(text: str, position: int, otherwise: str) -> NotEditableError:
    """What is wrong at the place where the reader stopped."""
    if position >= len(text):
        return fault_at(text, position, "the text ends too early: a bracket or a quote is missing")
    comma = _trailing_comma(text, position)
    if comma >= 0:
        return fault_at(text, comma, "there is a comma before a closing bracket: remove it")
    known = (message for signs, message in _FAULTS if text.startswith(signs, position))
    return fault_at(text, position, next(known, otherwise))


def _value_fault(text: str, position: int) -> NotEditableError:
    """What is wrong where the reader stopped within a value."""
    if text.startswith('"', position):
        return fault_at(text, position, "the text in quotes that begins here does not end")
    if text[position : position + 1] in _CONTROL:
        return fault_at(text, position, "a line break or control character in a text must be escaped")
    return _fault(text, position, "this is not valid JSON")


def _trailing_comma(text: str, position: int) -> int:
    """Where the comma is that has only a closing bracket after it, -1 if that is not the fault. Python 3.13 and later
    stop at the comma, earlier ones at the bracket."""
    if text[position] == ",":
        return position if text[_skip(text, position + 1) :][:1] in ("]", "}") else -1
    before = text[:position].rstrip(" \t\r\n")
    return len(before) - 1 if text[position] in "]}" and before.endswith(",") else -1


def _quoted(key: str) -> str:
    return json.dumps(key)
