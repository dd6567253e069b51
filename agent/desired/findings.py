"""Collecting problems: where each is, how its place is called, and what may be quoted."""

from __future__ import annotations

import re
from typing import Protocol

from agent.desired.nodes import Mapping, Node, Path, Scalar, Sequence
from agent.errors import Problem

LIMIT = 1000
"""More problems than this are counted, not listed: nobody reads them, and a hostile file must not fill memory."""


class Place(Protocol):
    """Anything that knows where it stands in the text."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...

    @property
    def width(self) -> int: ...


class Findings:
    """The problems found so far. Two at the same place and path with the same words are one."""

    def __init__(self) -> None:
        self._problems: dict[Problem, None] = {}
        self.left_out = 0

    def add(self, place: Place, path: Path, message: str) -> None:
        """Say what is wrong at a place."""
        if len(self._problems) >= LIMIT:
            self.left_out += 1
            return
        problem = Problem(place.line, place.column, key_path(path), message, max(1, place.width))
        self._problems[problem] = None

    def at(self, root: Node, path: Path, message: str) -> None:
        """Say what is wrong with the value at a path: its key is meant if the value is not one word."""
        self.add(place_of(root, path), path, message)

    def at_key(self, root: Node, path: Path, message: str) -> None:
        """Say what is wrong with a key."""
        self.add(key_place(root, path), path, message)

    def __bool__(self) -> bool:
        return bool(self._problems)

    def sorted(self) -> tuple[Problem, ...]:
        """Every problem in the order of the text."""
        ordered = sorted(self._problems, key=lambda problem: (problem.line, problem.column))
        if self.left_out:
            last = ordered[-1]
            ordered.append(Problem(last.line, last.column, "", f"{self.left_out} more problems are not listed"))
        return tuple(ordered)


def walk(root: Node, path: Path) -> tuple[Node, Scalar | None]:
    """The node at a path and its key, as deep as the tree goes."""
    node, key = root, None
    for step in path:
        if isinstance(node, Mapping) and isinstance(step, str) and step in node.entries:
            key, node = node.entries[step].key, node.entries[step].value
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            key, node = None, node.items[step]
        else:
            break
    return node, key


def path_in(root: Node, steps: Path) -> Path:
    """The steps that are in the text: a URL alone is a mirror's `url`, one path alone a list of one, and so on."""
    path: list[str | int] = []
    node = root
    for step in steps:
        if isinstance(node, Mapping) and isinstance(step, str) and step in node.entries:
            node = node.entries[step].value
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            continue
        path.append(step)
    return tuple(path)


def place_of(root: Node, path: Path) -> Place:
    """Where the value at a path stands; its key where the value is a collection or empty."""
    node, key = walk(root, path)
    if key is not None and not (isinstance(node, Scalar) and node.width > 0):
        return key
    return node


def key_place(root: Node, path: Path) -> Place:
    """Where the key at a path stands."""
    node, key = walk(root, path)
    return key if key is not None else node


_WORD = "[A-Za-z0-9+/=_-]"
RANDOM = re.compile(rf"(?<!{_WORD})((?={_WORD}*[A-Z])(?={_WORD}*[a-z])(?={_WORD}*[0-9]){_WORD}{{16,}})")
"""What looks like a token: 16 and more letters of both cases, digits and signs in a row."""

_SAFE_KEY = re.compile(r"[\w.:/\[\]-]{1,100}")
_SAFE_UNKNOWN = re.compile(r"[\w.-]{1,32}|<<")
_SAFE_ECHO = re.compile(r"[A-Za-z0-9.:/\[\]_+-]{1,200}")


def key_path(path: Path) -> str:
    """The path as an operator writes it (`registries.docker.io.mirrors[0]`); a key that may be a secret is `…`."""
    parts: list[str] = []
    for index, step in enumerate(path):
        if isinstance(step, int):
            parts.append(f"[{step}]")
            continue
        safe = _SAFE_KEY if index == 1 and path[0] == "registries" else _SAFE_UNKNOWN
        shown = safe.fullmatch(step) and not RANDOM.search(step)
        parts.append(("." if parts else "") + (step if shown else "…"))
    return "".join(parts)


def quoted(text: str) -> str:
    """The text in quotes where it certainly is no secret (a host, a URL, a word), else `this value`."""
    return f'"{text}"' if _SAFE_ECHO.fullmatch(text) and not RANDOM.search(text) else "this value"
