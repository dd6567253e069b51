"""containerd older than 1.5: what in config.toml changes so that the old tables say what the desired state says, what
of it is ours, and whether the running containerd has read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from agent.model import ActiveState, Regular, Setting
from agent.plan import KeyOriginal
from agent.runtimes._config_back import as_before
from agent.runtimes._config_edit import NotEditableError
from agent.runtimes._config_file import ConfigFile
from agent.runtimes._config_toml import locations
from agent.runtimes._containerd_config import LOADED_CONTENT, LOADED_TABLES, Verdict, judge
from agent.runtimes._legacy_edit import MIRRORS, TLS, is_legacy, with_keys
from agent.runtimes._legacy_plan import Migration, standing_keys, tables_of
from agent.runtimes._legacy_tables import Tables, needs_tables

_NEW_FILE = b"version = 2\n"


def changes_of(look: ConfigFile, tables: Tables) -> dict[str, str | None]:
    """The keys to set, and those of ours to give back because nothing asks for them any more. Raises
    NotEditableError."""
    standing, wanted = standing_keys(look), dict(tables.values)
    changes: dict[str, str | None] = {key: value for key, value in wanted.items() if not _same(standing, key, value)}
    for key in _surplus(look, tables):
        if not _same(standing, key.key, key.json):
            changes[key.key] = key.json
    return changes


def with_tables(look: ConfigFile, changes: Mapping[str, str | None]) -> bytes:
    """The file with these changes: the one of before us, if what the desired state wants is what stood there. Raises
    NotEditableError."""
    if not isinstance(look.state, Regular):
        return with_keys(_NEW_FILE, locations(2, None), changes)
    content = with_keys(look.state.content, tables_of(look), changes)
    return as_before(content, look.owned.original if look.owned is not None else None)


def claims_of(look: ConfigFile, tables: Tables) -> tuple[KeyOriginal, ...]:
    """What is ours from then on: what we set, with what stood there. Raises NotEditableError."""
    standing = standing_keys(look)
    changed = changes_of(look, tables)
    return tuple(KeyOriginal(key, standing.get(key)) for key, _ in tables.values if key in changed)


def releases_of(look: ConfigFile, tables: Tables) -> tuple[str, ...]:
    """What is ours no longer."""
    return tuple(key.key for key in _surplus(look, tables))


def told(changes: Mapping[str, str | None]) -> str:
    """The changes in words."""
    names = [_short(key) for key, value in changes.items() if value is not None]
    gone = [_short(key) for key, value in changes.items() if value is None]
    return "; ".join([*([", ".join(names)] if names else []), *([f"{', '.join(gone)} goes"] if gone else [])])


def loaded_tables(look: ConfigFile) -> tuple[Setting, ...]:
    """What a containerd that reads this file now has of them; () for one that is not so old."""
    if not needs_tables(look.daemon.version):
        return ()
    try:
        text = json.dumps(standing_keys(look), sort_keys=True)
    except NotEditableError:
        return ()
    return (Setting(LOADED_TABLES, json.dumps(hashlib.sha256(text.encode()).hexdigest())),)


def live_tables(look: ConfigFile, migration: Migration) -> Verdict | None:
    """One sentence for `status`; None where certs.d counts."""
    daemon = look.daemon
    if migration.tables is None or daemon.unit.active is ActiveState.OFF or not daemon.unit.is_up:
        return None
    if daemon.dump is not None and daemon.dump.returncode != 0:
        return judge(daemon, "")
    try:
        missing = changes_of(look, migration.tables)
    except NotEditableError as error:
        return Verdict(is_live=False, sentence=f"{daemon.config_path} {error}")
    if missing:
        return Verdict(
            is_live=False, sentence=f"registry.mirrors in {daemon.config_path} do not say it: {told(missing)}"
        )
    if not _has_read_it(look):
        why = f"restart pending: {daemon.config_path} changed after containerd started: systemctl restart containerd"
        return Verdict(is_live=False, sentence=why)
    return Verdict(is_live=True, sentence=f"registry.mirrors in {daemon.config_path} are in use, nothing to restart")


# --- inside ----------------------------------------------------------------------------------------------------------


def _surplus(look: ConfigFile, tables: Tables) -> tuple[KeyOriginal, ...]:
    wanted = {key for key, _ in tables.values} | tables.kept
    keys = look.owned.entry.keys if look.owned is not None else ()
    return tuple(key for key in keys if is_legacy(key) and key.key not in wanted)


def _same(standing: Mapping[str, str], key: str, value: str | None) -> bool:
    found = standing.get(key)
    if found is None or value is None:
        return found is value
    return bool(json.loads(found) == json.loads(value))


def _short(key: str) -> str:
    return key.removeprefix(MIRRORS) if key.startswith(MIRRORS) else f"tls of {key.removeprefix(TLS)}"


def _has_read_it(look: ConfigFile) -> bool:
    daemon = look.daemon
    if daemon.memory.invocation_id == daemon.unit.invocation_id and daemon.memory.loaded:
        loaded = {setting.key: setting.json for setting in daemon.memory.loaded}
        is_same = loaded.get(LOADED_CONTENT) == json.dumps(look.digest)
        return is_same or set(loaded_tables(look)) <= set(daemon.memory.loaded)
    return (daemon.config_written_at or 0.0) <= daemon.unit.started_at
