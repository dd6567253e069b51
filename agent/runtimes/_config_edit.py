"""One key in somebody else's config.toml: `config_path` set, or given back, with every other byte in its place.

What comes out is parsed again with another library (tomllib) and must differ from what went in by that key alone; what
cannot be edited so is refused, never guessed at.
"""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

KEY = "config_path"
Location = tuple[str, ...]
"""The keys that lead to a table."""


class NotEditableError(ValueError):
    """The text cannot be edited without touching more than the key; the message is a predicate ("is no valid TOML")."""


def created(location: Location, directory: str) -> bytes:
    """A config.toml where there was none: containerd keeps its defaults for all that it does not say."""
    return f"version = 2\n\n{_block(location, directory)}".encode()


def with_path(content: bytes, location: Location, directory: str) -> bytes:
    """The content with config_path set in the table at `location`. Raises NotEditableError."""
    wanted = _parse(content)
    table = _table(wanted, location, make=True)
    is_new = table == {} and _lookup(_parse(content), location) is None
    table[KEY] = directory
    edits = [lambda text: _appended(text, location, directory)] if is_new else []
    return _edited(content, wanted, [*edits, lambda text: _set(text, location, directory)])


def without_path(content: bytes, location: Location, before: str | None) -> bytes:
    """The content with config_path as it was: `before` is compact JSON, None if the key was not there. A table that we
    appended goes with it. Raises NotEditableError."""
    wanted = _parse(content)
    table = _table(wanted, location, make=False)
    if before is not None:
        value = json.loads(before)
        table[KEY] = value
        return _edited(content, wanted, [lambda text: _set(text, location, value)])
    directory = table.pop(KEY, None)
    bare = copy.deepcopy(wanted)
    _prune(bare, location)
    if isinstance(directory, str):
        try:
            return _edited(content, bare, [lambda text: _cut(text, location, directory)])
        except NotEditableError:
            pass
    return _edited(content, wanted, [lambda text: _unset(text, location)])


def location_of(content: bytes, locations: tuple[Location, ...]) -> Location:
    """The first of the tables that holds a config_path, else the first."""
    document = _parse(content)
    holding = (each for each in locations if (_lookup(document, each) or {}).get(KEY))
    return next(holding, locations[0])


def value_of(content: bytes, location: Location) -> str | None:
    """config_path in that table as compact JSON, None if it is not there. Raises NotEditableError."""
    table = _lookup(_parse(content), location) or {}
    return json.dumps(table[KEY]) if KEY in table else None


# --- inside ----------------------------------------------------------------------------------------------------------

_Table = dict[str, Any]


def _parse(content: bytes) -> _Table:
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise NotEditableError("is no valid TOML") from error


def _lookup(document: _Table, location: Location) -> _Table | None:
    found: object = document
    for key in location:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _table(document: _Table, location: Location, *, make: bool) -> _Table:
    for key in location:
        document = document.setdefault(key, {}) if make else document.get(key, {})
        if not isinstance(document, dict):
            raise NotEditableError(f"has something else than a table at {'.'.join(location)}")
    return document


def _prune(document: _Table, location: Location) -> None:
    """Drop tables on the way that are empty: what `_block` brought into being."""
    for end in range(len(location), 0, -1):
        parent = _lookup(document, location[: end - 1])
        if parent is not None and parent.get(location[end - 1]) == {}:
            del parent[location[end - 1]]


def _edited(content: bytes, wanted: _Table, edits: list[Callable[[str], str]]) -> bytes:
    """The first edit whose outcome means exactly what is wanted."""
    text = content.decode()
    for edit in edits:
        try:
            outcome = _with_newlines_of(text, edit(text))
            if tomllib.loads(outcome) == wanted:
                return outcome.encode()
        except (ValueError, TOMLKitError, RecursionError, KeyError, TypeError, AttributeError):
            continue
    raise NotEditableError("cannot be edited without touching more than config_path")


def _with_newlines_of(text: str, outcome: str) -> str:
    """CRLF throughout stays CRLF throughout."""
    if "\r\n" not in text or text.count("\n") != text.count("\r\n"):
        return outcome
    return outcome.replace("\r\n", "\n").replace("\n", "\r\n")


def _block(location: Location, directory: str) -> str:
    heading = ".".join(key if key.isalnum() else json.dumps(key) for key in location)
    return f"[{heading}]\n  {KEY} = {json.dumps(directory)}\n"


def _appended(text: str, location: Location, directory: str) -> str:
    """A new table goes to the end, so that every byte before it stays as it is."""
    return f"{text}{_gap(text)}{_block(location, directory)}"


def _gap(text: str) -> str:
    if not text:
        return ""
    return "\n" if text.endswith("\n") else "\n\n"


def _cut(text: str, location: Location, directory: str) -> str:
    """Without the table that `_appended` put there. The line end that the file lacked before stays."""
    plain = text.replace("\r\n", "\n")
    before, found, after = plain.rpartition(f"\n{_block(location, directory)}")
    if not found:
        raise NotEditableError("has changed where config_path was set")
    return before + after


def _set(text: str, location: Location, directory: str) -> str:
    document = tomlkit.parse(text)
    table: Any = document
    for key in location:
        if key not in table:
            table[key] = tomlkit.table(is_super_table=key != location[-1])
        table = table[key]
    table[KEY] = directory
    return tomlkit.dumps(document)


def _unset(text: str, location: Location) -> str:
    document = tomlkit.parse(text)
    table: Any = document
    for key in location:
        table = table[key]
    del table[KEY]
    return tomlkit.dumps(document)
