"""What the old tables of config.toml said lives on in hosts.toml once config_path takes their place.

What the desired state names, it decides; for every other registry the tables are read once more as long as config.toml
is ours: those that still stand in the file, and those that we took out of it, which the ledger holds. So the files that
come of them are repaired and given back like those of the desired state.

A CA that config.toml names under `configs.*.tls` is used again by containerd 2.x, which drops that table without a
word: it is what the operator wrote, and what an upgrade took away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from agent.desired.names import canonical_registry
from agent.model import DEFAULT_REGISTRY, ActiveState, DesiredState, Registry, Regular
from agent.render import is_debris, is_ours
from agent.runtimes._certs_dir import is_registry_name
from agent.runtimes._config_edit import Location, NotEditableError
from agent.runtimes._config_file import ConfigFile
from agent.runtimes._config_toml import Version, locations, read_config
from agent.runtimes._containerd_config import Daemon
from agent.runtimes._hosts_reading import read
from agent.runtimes._hosts_toml import registries_with_files
from agent.runtimes._hosts_tree import Tree, conflicts_of
from agent.runtimes._legacy_edit import MIRRORS, TLS, is_legacy, keys_of, registry_table
from agent.runtimes._legacy_tables import Tables, needs_tables, tables_for

_OVERRIDE_PATH_SINCE: Version = (1, 6, 0)
_DEFAULT_SINCE: Version = (1, 6, 17)
_OLDEST: Version = (1, 5, 0)
_WORDS = (b"mirrors", b"tls", b"\\")
_HUB_ENDPOINT = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Migration:
    """`standing` are the keys in the file, `registries` what all keys, those that we took out too, say about registries
    that the desired state does not name; `refusal` is why that cannot be said in hosts.toml, "" if it can; `foreign`
    are files that somebody has put there for such a registry already: they stay. `tables`, where containerd is older
    than hosts.toml, is what the old tables are to say instead; then nothing moves."""

    standing: tuple[str, ...] = ()
    registries: tuple[Registry, ...] = ()
    refusal: str = ""
    foreign: tuple[str, ...] = ()
    tables: Tables | None = None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(registry.name for registry in self.registries)


def look_at_migration(look: ConfigFile, desired: DesiredState) -> Migration:
    """What there is to move. Nothing, where the desired state needs no config_path."""
    if not registries_with_files(desired) or needs_tables(look.daemon.version):
        return Migration()
    try:
        standing = standing_keys(look)
    except NotEditableError:
        return Migration()
    held = {key.key: key.json for key in look.owned.entry.keys if is_legacy(key)} if look.owned is not None else {}
    keys = {key: value for key, value in {**standing, **held}.items() if value is not None}
    named = {registry.name for registry in desired.registries}
    registries, refusal = _registries(keys, named, look)
    every = replace(desired, registries=(*desired.registries, *registries))
    needed = registries_with_files(every) if registries else ()
    return Migration(tuple(standing), tuple(each for each in registries if each in needed), refusal)


def standing_keys(look: ConfigFile) -> dict[str, str]:
    """The keys of the file as it stands. Raises NotEditableError."""
    if not isinstance(look.state, Regular) or not any(word in look.state.content for word in _WORDS):
        return {}
    return keys_of(look.state.content, tables_of(look))


def tables_of(look: ConfigFile) -> tuple[Location, ...]:
    """The registry tables that count in the file. Raises NotEditableError."""
    if not isinstance(look.state, Regular):
        return locations(2, None)
    try:
        return locations(read_config(look.state.content.decode(), None).file_version, None)
    except (ValueError, RecursionError) as error:
        raise NotEditableError("is no valid TOML") from error


def checked(migration: Migration, tree: Tree, look: ConfigFile, wanted: Iterable[Registry]) -> Migration:
    """With what was seen in certs.d: files by others, and what keeps one of ours from being written. `wanted` are the
    registries of the desired state that need a file."""
    if needs_tables(look.daemon.version):
        wanted = tuple(wanted)
        held_up = frozenset(each.name for each in wanted if any(conflicts_of(each, tree)))
        as_desired = (registry.as_desired for registry in wanted)  # a change costs a restart, which no mirror is worth
        return replace(migration, tables=tables_for(as_desired, held_up))
    foreign = {each.name: tree.directories[each.name].file for each in migration.registries if _is_foreign(each, tree)}
    ours = tuple(each for each in migration.registries if each.name not in foreign)
    refusal = migration.refusal or next(_in_the_way(foreign, ours, tree), "")
    return replace(migration, registries=ours, refusal=refusal, foreign=tuple(sorted(foreign.values())))


def has_migrated(look: ConfigFile) -> bool:
    """Whether we took old tables out of this file."""
    return look.owned is not None and any(is_legacy(key) and key.json is not None for key in look.owned.entry.keys)


def with_migrated(desired: DesiredState, migration: Migration) -> DesiredState:
    """The desired state as if it named these registries too."""
    return replace(desired, registries=(*desired.registries, *migration.registries))


# --- inside ----------------------------------------------------------------------------------------------------------


def _registries(keys: Mapping[str, str], named: Iterable[str], look: ConfigFile) -> tuple[tuple[Registry, ...], str]:
    usable = {key: value for key, value in keys.items() if _can_matter(key)}
    if not usable:
        return (), ""
    from agent.runtimes._legacy_adopt import read_tables  # not at the top: few nodes have such tables still

    found = read_tables(registry_table(usable), look.path, every_host=True).registries
    mine = [each for each in found if each.entry.name not in named]
    problems = [_misnamed(key) for key in usable if _name(key) not in named]
    problems += [remark for each in mine for remark in each.remarks]
    problems += [problem for each in mine for problem in _too_old(each.entry, look.daemon)]
    return tuple(each.entry for each in mine), next(filter(None, problems), "")


def _name(key: str) -> str:
    return key.removeprefix(MIRRORS) if key.startswith(MIRRORS) else key.removeprefix(TLS)


def _can_matter(key: str) -> bool:
    """Whether an image can name the registry, or TLS is for an endpoint that some table may name."""
    if key.startswith(TLS) or key == f"{MIRRORS}*":
        return True
    try:
        return bool(canonical_registry(_name(key)))
    except ValueError:
        return False


def _misnamed(key: str) -> str:
    name = _name(key)
    if name in {_HUB_ENDPOINT, "*"} and key.startswith(TLS):
        return f"tls for {name} is nothing that hosts.toml can say"
    try:
        is_right = name == "*" or (canonical_registry(name) == name != DEFAULT_REGISTRY and is_registry_name(name))
    except ValueError:
        return ""
    return "" if is_right else f"{name!r} is not how an image names that registry"


def _too_old(registry: Registry, daemon: Daemon) -> Iterator[str]:
    """A stopped containerd is waited for; one that can never be asked (--root) may be any."""
    if daemon.version is None and daemon.unit.active is not ActiveState.OFF:
        return
    version = daemon.version or _OLDEST
    text = f"this is {daemon.version_text}" if daemon.version else "its version is not known here"
    if registry.name == DEFAULT_REGISTRY and version < _DEFAULT_SINCE:
        yield f'mirrors."*" needs containerd 1.6.17, {text}'
    for mirror in registry.mirrors:
        if mirror.override_path and version < _OVERRIDE_PATH_SINCE:
            yield f"the path of {mirror.url} needs containerd 1.6, {text}"


def _is_foreign(registry: Registry, tree: Tree) -> bool:
    directory = tree.directories[registry.name]
    state = directory.hosts_toml
    is_there = isinstance(state, Regular) and not is_ours(state.content) and not is_debris(state.content)
    return is_there and directory.file not in tree.entries


def _in_the_way(foreign: Mapping[str, str], ours: Iterable[Registry], tree: Tree) -> Iterator[str]:
    for name, path in foreign.items():
        directory = tree.directories[name]
        try:
            read(directory.hosts_toml.content if isinstance(directory.hosts_toml, Regular) else b"", directory.path)
        except ValueError as error:
            yield f"{path}, which would come into force, is one that containerd ignores: {error}"
    for registry in ours:
        yield from (f"{conflict.path} {conflict.reason}" for conflict in conflicts_of(registry, tree))
