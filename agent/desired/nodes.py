"""The tree of a YAML text: every node knows where it stands. YAML 1.2 core schema decides what a plain word means.

Source: YAML 1.2.2, chapter 10.3 (core schema) and 8.1/7.3 (what breaks a line).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

Path = tuple[str | int, ...]
"""Keys and list positions from the root to a node, as they stand in the text."""


class Kind(Enum):
    """What a scalar is. The value is what an operator calls it."""

    NULL = "nothing"
    BOOLEAN = "a boolean"
    INTEGER = "a number"
    ODD_INTEGER = "a number in a notation that YAML versions read differently"
    FLOAT = "a decimal number"
    STRING = "a string"


@dataclass(slots=True)
class Scalar:
    """A single value. `text` is what it says once quotes and escapes are undone; `plain` means it had no quotes.

    `line` and `column` count from 1; `width` is the number of characters on its first line, quotes included.
    `broken` means that a problem was reported for it already and nothing more is to be said about it.
    """

    line: int
    column: int
    width: int
    text: str
    plain: bool
    broken: bool = False

    @property
    def kind(self) -> Kind:
        return kind_of(self.text) if self.plain else Kind.STRING


@dataclass(slots=True)
class Sequence:
    """A list; its place is where its first sign stands."""

    line: int
    column: int
    items: list[Node] = field(default_factory=list)
    broken: bool = False
    width: int = 1


@dataclass(slots=True)
class Mapping:
    """A mapping in the order of the text. Of a repeated key the first entry stays (the second is a problem)."""

    line: int
    column: int
    entries: dict[str, Entry] = field(default_factory=dict)
    broken: bool = False
    width: int = 1

    def get(self, key: str) -> Node | None:
        """The value under a key, None if there is none."""
        entry = self.entries.get(key)
        return entry.value if entry else None


@dataclass(slots=True)
class Entry:
    """A key with its value."""

    key: Scalar
    value: Node


Node = Scalar | Sequence | Mapping

_TYPED = re.compile(
    r"(?P<null>null|Null|NULL|~|)"
    r"|(?P<boolean>true|True|TRUE|false|False|FALSE)"
    r"|(?P<integer>-?(?:0|[1-9][0-9]*))"
    r"|(?P<odd>[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
)
_KINDS = {
    "null": Kind.NULL,
    "boolean": Kind.BOOLEAN,
    "integer": Kind.INTEGER,
    "odd": Kind.ODD_INTEGER,
    "float": Kind.FLOAT,
}
_FIRST_OF_TYPED = frozenset("nN~tTfF-+.0123456789")


def kind_of(plain: str) -> Kind:
    """What a plain scalar is in the core schema. `no`, `on`, `22:22` and dates are strings."""
    if plain and plain[0] not in _FIRST_OF_TYPED:
        return Kind.STRING
    match = _TYPED.fullmatch(plain)
    return _KINDS[match.lastgroup or ""] if match else Kind.STRING


class Unfit:
    """Stands for a value that is no string, boolean or usable number, where it is handed to the models."""


UNFIT = Unfit()
_SAFE_DIGITS = 18


MOST_ENTRIES = 20_001
"""One more than any list or mapping may have: the rest could only make more errors than memory holds."""


def plain_value(node: Node) -> object:
    """The node as Python values for the models. What cannot be meant anywhere becomes UNFIT and fails there."""
    if node.broken:
        return UNFIT
    if isinstance(node, Mapping):
        return {key: plain_value(entry.value) for key, entry in islice(node.entries.items(), MOST_ENTRIES)}
    if isinstance(node, Sequence):
        return [plain_value(item) for item in islice(node.items, MOST_ENTRIES)]
    return _scalar_value(node)


def _scalar_value(node: Scalar) -> object:
    match node.kind:
        case Kind.STRING:
            return node.text
        case Kind.NULL:
            return None
        case Kind.BOOLEAN:
            return node.text[0] in "tT"
        case Kind.INTEGER if len(node.text) <= _SAFE_DIGITS:
            return int(node.text)
        case _:
            return UNFIT


def children(node: Node) -> Iterator[tuple[str | int, Node]]:
    """The direct children with the step that leads to each."""
    if isinstance(node, Mapping):
        for key, entry in node.entries.items():
            yield key, entry.value
    elif isinstance(node, Sequence):
        yield from enumerate(node.items)
