"""Our keys in config.toml given back: byte for byte where nobody else has changed the file, else key by key."""

from __future__ import annotations

import json

from agent.plan import KeyOriginal
from agent.runtimes._config_edit import (
    KEY,
    Location,
    NotEditableError,
    created,
    location_of,
    parse,
    value_of,
    with_path,
    without_path,
)
from agent.runtimes._config_toml import locations, read_config, without_empty
from agent.runtimes._legacy_edit import is_legacy, keys_of, with_keys


def given_back(content: bytes, keys: tuple[KeyOriginal, ...], original: bytes | None) -> bytes:
    """The content with every key as it was. `original` is the file of before us, and comes back whole if nothing else
    was changed since. Raises NotEditableError."""
    tables = _tables(content)
    if original is not None and _redone(original, content, keys, tables) == content:
        return original
    now = keys_of(content, tables)
    old = {key.key: key.json for key in keys if is_legacy(key) and now.get(key.key) != key.json}
    content = _without_path(content, keys, tables)
    content = with_keys(content, tables, old) if old else content
    return as_before(content, original)


def as_before(content: bytes, original: bytes | None) -> bytes:
    """The file of before us to the byte, where nothing but blank lines tells the content from it; else the content."""
    return original if original is not None and _is_same(content, original) else content


def keeps_cri_down(content: bytes) -> bool:
    """Whether the content has both config_path and the tables that it replaces, so that the CRI does not start."""
    found = read_config(content.decode(), None)
    return bool(found.config_path) and (found.has_mirrors or found.has_tls)


def is_only_ours(content: bytes, keys: tuple[KeyOriginal, ...]) -> bool:
    """Whether a file that we made holds nothing else."""
    location = locations(2, None)[0]
    try:
        value = value_of(content, location)
        if value is not None and content == created(location, str(json.loads(value))):
            return True
        return given_back(content, keys, None).split() == [b"version", b"=", b"2"]
    except NotEditableError:
        return content == b""


# --- inside ----------------------------------------------------------------------------------------------------------


def _tables(content: bytes) -> tuple[Location, ...]:
    try:
        return locations(read_config(content.decode(), None).file_version, None)
    except (ValueError, RecursionError) as error:
        raise NotEditableError("is no valid TOML") from error


def _redone(
    original: bytes, content: bytes, keys: tuple[KeyOriginal, ...], tables: tuple[Location, ...]
) -> bytes | None:
    """What we would make of the original today so that our keys have the values that they have; None if we cannot."""
    try:
        now = keys_of(content, tables)
        legacy = {key.key: now.get(key.key) for key in keys if is_legacy(key)}
        redone = with_keys(original, tables, legacy) if legacy else original
        location = location_of(content, tables)
        value = value_of(content, location)
        is_ours = any(key.key == KEY for key in keys)
        return with_path(redone, location, str(json.loads(value))) if is_ours and value is not None else redone
    except NotEditableError:
        return None


def _without_path(content: bytes, keys: tuple[KeyOriginal, ...], tables: tuple[Location, ...]) -> bytes:
    location = location_of(content, tables)
    value = value_of(content, location)
    mine = [key.json for key in keys if key.key == KEY]
    if value is None or not mine or mine[0] == value:
        return content
    return without_path(content, location, mine[0])


def _is_same(content: bytes, original: bytes) -> bool:
    """Whether nothing but blank lines tells the two apart."""
    lines, others = ([line.rstrip() for line in each.splitlines() if line.strip()] for each in (content, original))
    return sorted(lines) == sorted(others) and without_empty(parse(content)) == without_empty(parse(original))
