"""The old tables of config.toml, `registry.mirrors` and `registry.configs.*.tls`, key by key: read, taken out, put in.

The ledger names a key `mirrors.docker.io` or `tls.harbor.lan:5000`, and holds its value as compact JSON. Where tables
stand under headers of their own they are cut from the text or appended to it; else tomlkit edits them. Either way the
outcome is parsed again, and may differ in those keys alone.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent.plan import KeyOriginal
from agent.runtimes._config_edit import (
    LINES,
    Location,
    NotEditableError,
    Table,
    edited,
    gap,
    heading,
    location_in,
    lookup,
    parse,
)
from agent.runtimes._config_toml import without_empty

MIRRORS, TLS = "mirrors.", "tls."


def is_legacy(key: KeyOriginal) -> bool:
    """Whether a key of the ledger is one of these tables."""
    return key.key.startswith((MIRRORS, TLS))


def keys_of(content: bytes, tables: tuple[Location, ...]) -> dict[str, str]:
    """Every such key and its value; the first table that has it counts. Raises NotEditableError."""
    document = parse(content)
    found: dict[str, str] = {}
    for table in tables:
        registry = lookup(document, table) or {}
        for name, value in _table(registry, "mirrors").items():
            found.setdefault(f"{MIRRORS}{name}", _json(value))
        for host, entry in _table(registry, "configs").items():
            if isinstance(entry, dict) and entry.get("tls"):
                found.setdefault(f"{TLS}{host}", _json(entry["tls"]))
    return found


def registry_table(keys: Mapping[str, str]) -> Table:
    """The keys as the `registry` table that they stand in."""
    registry: Table = {"mirrors": {}, "configs": {}}
    for key, value in keys.items():
        if key.startswith(MIRRORS):
            registry["mirrors"][key.removeprefix(MIRRORS)] = json.loads(value)
        else:
            registry["configs"][key.removeprefix(TLS)] = {"tls": json.loads(value)}
    return registry


def with_keys(content: bytes, tables: tuple[Location, ...], changes: Mapping[str, str | None]) -> bytes:
    """The content with these keys set in the first table, or taken out of all (None). Raises NotEditableError."""
    before, wanted = parse(content), parse(content)
    for key, value in changes.items():
        _change(wanted, tables, _path(key), value)
    if wanted == before:
        return content
    edits = (lambda text: _by_tables(text, tables, changes), lambda text: _by_items(text, tables, changes))
    return edited(content, wanted, edits, lambda one, other: without_empty(one) == without_empty(other))


# --- inside ----------------------------------------------------------------------------------------------------------


def _table(parent: Table, key: str) -> Table:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _json(value: object) -> str:
    try:
        return json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise NotEditableError("has a value in its registry tables that is neither text, number nor table") from error


def _path(key: str) -> Location:
    """The keys that lead there from the registry table."""
    if key.startswith(MIRRORS):
        return ("mirrors", key.removeprefix(MIRRORS))
    return ("configs", key.removeprefix(TLS), "tls")


def _change(document: Table, tables: tuple[Location, ...], path: Location, value: str | None) -> None:
    for table in tables:
        parent = lookup(document, (*table, *path[:-1]))
        if parent is not None:
            parent.pop(path[-1], None)
    if value is not None:
        place = document
        for key in (*tables[0], *path[:-1]):
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise NotEditableError(f"has something else than a table at {key}")
        place[path[-1]] = json.loads(value)


def _by_tables(text: str, tables: tuple[Location, ...], changes: Mapping[str, str | None]) -> str:
    """Cut what goes, change in place what stays, append what is new."""
    import tomlkit  # not at the top: only an edit of config.toml needs it

    gone = [(*table, *_path(key)) for key, value in changes.items() if value is None for table in tables]
    text = _without(text, gone)
    document = parse(text.encode())
    new = {key: value for key, value in changes.items() if value is not None}
    there = {key: value for key, value in new.items() if lookup(document, (*tables[0], *_path(key))) is not None}
    text = _by_items(text, tables, there) if there else text
    for key, value in new.items():
        if key not in there:
            lines = tomlkit.dumps(json.loads(value)).splitlines()
            text += gap(text) + heading((*tables[0], *_path(key))) + "".join(f"  {line}\n" for line in lines)
    return text


def _without(text: str, gone: list[Location]) -> str:
    """Without the tables at these locations and below, nor the headers above them that are left with nothing. Comments
    in front of the next table stay with that."""
    sections = list(_sections(text))
    paths = [path for path, _ in sections]
    dropped = {number for number, path in enumerate(paths) if any(path[: len(each)] == each for each in gone if path)}
    for number, (path, lines) in enumerate(sections):
        is_parent = any(len(path) > 3 and each[: len(path)] == path for each in gone)
        has_others = any(
            other[: len(path)] == path for rest, other in enumerate(paths) if rest not in {*dropped, number}
        )
        if is_parent and not has_others and not any(_is_content(line) for line in lines[1:]):
            dropped.add(number)
    kept: list[str] = []
    for number, (_, lines) in enumerate(sections):
        kept += _tail(lines, kept) if number in dropped else lines
    if len(sections) - 1 in dropped and kept and not kept[-1].strip():
        kept.pop()  # the gap in front of a table that was appended
    return "".join(kept)


def _sections(text: str) -> Iterator[tuple[Location, list[str]]]:
    """The text in pieces: what precedes the first header, then each header with what follows it."""
    path: Location = ()
    lines: list[str] = []
    for line in LINES.findall(text):
        if found := location_in(line):
            yield path, lines
            path, lines = found, []
        lines.append(line)
    yield path, lines


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _tail(lines: list[str], kept: list[str]) -> list[str]:
    """The blank lines and comments behind a piece that is cut; no two blank lines in a row come of it."""
    last = max((number for number, line in enumerate(lines) if _is_content(line)), default=-1)
    tail = lines[last + 1 :]
    while tail and not tail[0].strip() and (not kept or not kept[-1].strip()):
        tail = tail[1:]
    return tail


def _by_items(text: str, tables: tuple[Location, ...], changes: Mapping[str, str | None]) -> str:
    import tomlkit  # not at the top: only an edit of config.toml needs it

    document = tomlkit.parse(text)
    for key, value in changes.items():
        path = _path(key)
        if value is None:
            for table in tables:
                _delete(document, (*table, *path))
        else:
            _set(document, (*tables[0], *path), json.loads(value))
    return tomlkit.dumps(document)


def _delete(document: Any, path: Location) -> None:  # noqa: ANN401 -- tomlkit's containers have no common type
    for key in path[:-1]:
        if key not in document:
            return
        document = document[key]
    if path[-1] in document:
        del document[path[-1]]


def _set(document: Any, path: Location, value: Table) -> None:  # noqa: ANN401
    import tomlkit

    for key in path[:-1]:
        if key not in document:
            document[key] = tomlkit.table(is_super_table=True)
        document = document[key]
    if path[-1] not in document:
        document[path[-1]] = copy.deepcopy(value)
        return
    table = document[path[-1]]
    for key in [key for key in table if key not in value]:
        del table[key]
    for key, item in value.items():
        if key not in table or table[key] != item:
            table[key] = item
