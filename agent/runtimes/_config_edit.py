"""One key in somebody else's config.toml: `config_path` set, or given back, with every other byte in its place.

What comes out is parsed again with another library (tomllib) and must differ from what went in by that key alone; what
cannot be edited so is refused, never guessed at.
"""

from __future__ import annotations

import copy
import json
import operator
import re
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

KEY = "config_path"
LINES = re.compile(r"[^\n]*\n|[^\n]+")
Location = tuple[str, ...]
"""The keys that lead to a table."""


class NotEditableError(ValueError):
    """The text cannot be edited without touching more than the key; the message is a predicate ("is no valid TOML")."""


def created(location: Location, directory: str) -> bytes:
    """A config.toml where there was none: containerd keeps its defaults for all that it does not say."""
    return f"version = 2\n\n{_block(location, directory)}".encode()


def with_path(content: bytes, location: Location, directory: str) -> bytes:
    """The content with config_path set in the table at `location`. Raises NotEditableError."""
    wanted = parse(content)
    table = _table(wanted, location, make=True)
    is_new = table == {} and lookup(parse(content), location) is None
    table[KEY] = directory
    edits = [lambda text: _appended(text, location, directory)] if is_new else []
    if not any(not isinstance(value, dict) for key, value in table.items() if key != KEY):
        edits.append(lambda text: _inserted(text, location, directory))
    return edited(content, wanted, [*edits, lambda text: _set(text, location, directory)])


def without_path(content: bytes, location: Location, before: str | None) -> bytes:
    """The content with config_path as it was: `before` is compact JSON, None if the key was not there. A table that we
    appended goes with it. Raises NotEditableError."""
    wanted = parse(content)
    table = _table(wanted, location, make=False)
    if before is not None:
        value = json.loads(before)
        table[KEY] = value
        return edited(content, wanted, [lambda text: _set(text, location, value)])
    directory = table.pop(KEY, None)
    bare = copy.deepcopy(wanted)
    _prune(bare, location)
    if isinstance(directory, str):
        try:
            return edited(content, bare, [lambda text: _cut(text, location, directory)])
        except NotEditableError:
            pass
    return edited(content, wanted, [lambda text: _unset(text, location)])


def location_of(content: bytes, locations: tuple[Location, ...]) -> Location:
    """The first of the tables that holds a config_path, else the first."""
    document = parse(content)
    holding = (each for each in locations if (lookup(document, each) or {}).get(KEY))
    return next(holding, locations[0])


def value_of(content: bytes, location: Location) -> str | None:
    """config_path in that table as compact JSON, None if it is not there. Raises NotEditableError."""
    table = lookup(parse(content), location) or {}
    return json.dumps(table[KEY]) if KEY in table else None


# --- inside ----------------------------------------------------------------------------------------------------------

Table = dict[str, Any]


def parse(content: bytes) -> Table:
    """The content as values. Raises NotEditableError."""
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise NotEditableError("is no valid TOML") from error


def lookup(document: Table, location: Location) -> Table | None:
    """The table to which these keys lead, None if there is none."""
    found: object = document
    for key in location:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _table(document: Table, location: Location, *, make: bool) -> Table:
    for key in location:
        document = document.setdefault(key, {}) if make else document.get(key, {})
        if not isinstance(document, dict):
            raise NotEditableError(f"has something else than a table at {'.'.join(location)}")
    return document


def _prune(document: Table, location: Location) -> None:
    """Drop tables on the way that are empty: what `_block` brought into being."""
    for end in range(len(location), 0, -1):
        parent = lookup(document, location[: end - 1])
        if parent is not None and parent.get(location[end - 1]) == {}:
            del parent[location[end - 1]]


def edited(
    content: bytes,
    wanted: Table,
    edits: Sequence[Callable[[str], str]],
    same: Callable[[Table, Table], bool] = operator.eq,
) -> bytes:
    """The first edit whose outcome means the same as what is wanted. Raises NotEditableError."""
    from tomlkit.exceptions import TOMLKitError  # not at the top: only an edit of config.toml needs it

    text = content.decode()
    for edit in edits:
        try:
            outcome = _with_newlines_of(text, edit(text))
            if same(tomllib.loads(outcome), wanted):
                return outcome.encode()
        except (ValueError, StopIteration, TOMLKitError, RecursionError, KeyError, TypeError, AttributeError):
            continue
    raise NotEditableError("cannot be edited without touching more than its registry tables")


def _with_newlines_of(text: str, outcome: str) -> str:
    """CRLF throughout stays CRLF throughout."""
    if "\r\n" not in text or text.count("\n") != text.count("\r\n"):
        return outcome
    return outcome.replace("\r\n", "\n").replace("\n", "\r\n")


def heading(location: Location) -> str:
    """The line that begins a table."""
    return f"[{'.'.join(key if key.isalnum() else json.dumps(key) for key in location)}]\n"


def _block(location: Location, directory: str) -> str:
    return f"{heading(location)}  {KEY} = {json.dumps(directory)}\n"


def _appended(text: str, location: Location, directory: str) -> str:
    """A new table goes to the end, so that every byte before it stays as it is."""
    return f"{text}{gap(text)}{_block(location, directory)}"


def gap(text: str) -> str:
    """What stands between a text and a table that is appended to it."""
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


def _inserted(text: str, location: Location, directory: str) -> str:
    """Right below the header of a table that has no key of its own: what follows may belong to the next table."""
    lines = LINES.findall(text)
    at = next(number for number, line in enumerate(lines) if location_in(line) == location)
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    lines.insert(at + 1, f"{indent}  {KEY} = {json.dumps(directory)}\n")
    return "".join(lines)


def location_in(line: str) -> Location:
    """The location that a table's header names, () if the line is none."""
    if not line.lstrip().startswith("["):
        return ()
    try:
        found: Any = tomllib.loads(line.strip())
    except ValueError:
        return ()
    path: list[str] = []
    while isinstance(found, dict) and found:
        key = next(iter(found))
        path.append(key)
        found = found[key]
    return tuple(path)


def _set(text: str, location: Location, directory: str) -> str:
    import tomlkit  # not at the top: only an edit of config.toml needs it

    document = tomlkit.parse(text)
    table: Any = document
    for key in location:
        if key not in table:
            table[key] = tomlkit.table(is_super_table=key != location[-1])
        table = table[key]
    table[KEY] = directory
    return tomlkit.dumps(document)


def _unset(text: str, location: Location) -> str:
    import tomlkit  # not at the top: only an edit of config.toml needs it

    document = tomlkit.parse(text)
    table: Any = document
    for key in location:
        table = table[key]
    del table[KEY]
    return tomlkit.dumps(document)
