"""May config_path be set in this config.toml, and what does the file become? Pure; every refusal is one sentence.

What is edited is the file that the running containerd was started with, in the registry table of that file's own
version, never a drop-in: with containerd 1.x a drop-in replaces the whole CRI table, and with 2.x one of another
version does (cmd/containerd/server/config @ v1.4 … v2.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from agent.model import ActiveState, Cri, DesiredState, Regular, Unusable
from agent.plan import KeyOriginal
from agent.runtimes._config_edit import KEY, NotEditableError, created, location_of, value_of, with_path
from agent.runtimes._config_file import ConfigFile
from agent.runtimes._config_toml import CriConfig, Version, cri_tables, locations, read_config
from agent.runtimes._containerd_config import clashes, directories_of, uses
from agent.runtimes._legacy_decide import changes_of, claims_of, releases_of, told, with_tables
from agent.runtimes._legacy_edit import MIRRORS, TLS, with_keys
from agent.runtimes._legacy_plan import Migration, standing_keys, tables_of
from agent.runtimes._legacy_tables import Tables

_OLDEST_2: Version = (2, 0, 0)
_READS_VERSION_1: Version = (2, 3, 0)
_REFUSES_VERSION_3: Version = (1, 7, 0)
_SETTLED = frozenset({ActiveState.ACTIVE, ActiveState.INACTIVE, ActiveState.OFF})
_ACK_DIRECTORY = "/etc/containerd/cert.d"
_WAYS = {
    "k3s": "k3s or RKE2 generates it at each start: name the mirrors in its registries.yaml",
    "microk8s": "MicroK8s makes it from args/containerd-template.toml: set config_path there and restart the snap",
    "k0s": "k0s manages it: set config_path in a file of your own in /etc/k0s/containerd.d",
    "talos": "Talos renders it: name the mirrors in the machine configuration",
    "bottlerocket": "Bottlerocket renders it: name the mirrors through its settings API",
}


_RENDERED = frozenset({"k3s", "talos", "bottlerocket"})


@dataclass(frozen=True, slots=True)
class Edit:
    """What the file becomes, why, what of it is ours from then on, and for which registries a file must be there
    first."""

    content: bytes = field(repr=False)
    reason: str
    keys: tuple[KeyOriginal, ...] = field(repr=False)
    needs: frozenset[str] = frozenset()
    releases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an edit has to wait for something that may be otherwise in a moment."""

    reason: str


def decide(look: ConfigFile, desired: DesiredState, migration: Migration) -> Edit | Wait | str | None:
    """An edit, or what it waits for; or why there must be none although certs.d is not in use; or None: nothing to do,
    or not now."""
    certs_dir = desired.containerd.certs_dir
    config = look.effective()
    if config is None:
        return _unreadable(look)
    if config.is_cri_disabled:
        return None
    if is_rendered(look) and not uses(look.daemon, config, certs_dir):
        return f"{_WAYS[_manager(look)]}; mirror-agent leaves it alone"
    if migration.tables is not None:
        return _decide_tables(look, desired, migration.tables)
    is_right = uses(look.daemon, config, certs_dir) and not clashes(look.daemon, config)
    refusal = next(_refusals(look, config, migration if not is_right else Migration()), "")
    if refusal or is_right or not _is_time(look, migration):
        return refusal or None
    obstacle = next(_obstacles(look, config, desired), "")
    return obstacle or _unanswered(look, config) or _edit(look, config, certs_dir, migration)


def _unreadable(look: ConfigFile) -> str:
    if isinstance(look.state, Unusable):
        advice = "let root read it" if "EACCES" in look.state.reason else "put a file there"
        return f"{look.state.reason}, so config_path cannot be set: {advice}"
    return "cannot be read as TOML, so config_path cannot be set: mend it"


def _decide_tables(look: ConfigFile, desired: DesiredState, tables: Tables) -> Edit | Wait | str | None:
    """The same for a containerd that reads the old tables alone."""
    config = look.effective() or CriConfig()
    refusal = _rejection(look)
    try:
        changes = changes_of(look, tables)
        if refusal or not changes or not _is_time(look, Migration()):
            return refusal or None
        if obstacle := next(_obstacles(look, config, desired), ""):
            return obstacle
        if wait := _unanswered(look, config):
            return wait
        content = with_tables(look, changes)
    except NotEditableError as error:
        return f"{error}: write the mirrors tables by hand"
    version = look.daemon.version_text
    return Edit(
        content,
        f"containerd {version} reads no hosts.toml, but registry.mirrors: {told(changes)}",
        claims_of(look, tables),
        releases=releases_of(look, tables),
    )


def _is_time(look: ConfigFile, migration: Migration) -> bool:
    """Up, stopped or out of our hands. A unit that starts, stops or has failed is left in peace; what a running
    containerd has to merge or to say waits for it; nothing is made where there is no containerd."""
    unit = look.daemon.unit
    settled = unit.is_up if unit.active is ActiveState.ACTIVE else unit.active in _SETTLED
    depends = bool(look.imports or migration.standing) or _file_version(look) < 2
    waits = unit.active is ActiveState.INACTIVE and depends
    return settled and not waits and bool(look.daemon.program)


def _file_version(look: ConfigFile) -> int:
    """A file that we make has version 2."""
    return read_config(look.state.content.decode(), None).file_version if isinstance(look.state, Regular) else 2


# --- why not ---------------------------------------------------------------------------------------------------------


def _refusals(look: ConfigFile, config: CriConfig, migration: Migration) -> Iterator[str]:
    """What is wrong even where config_path is right."""
    if rejection := _rejection(look):
        yield rejection
    if migration.standing and migration.refusal:
        yield (
            f"has {_legacy(migration)}, which containerd does not combine with config_path, and which cannot be moved "
            f"into hosts.toml: {migration.refusal}. Say the same in the desired state, or remove them here"
        )
    elif config.has_mirrors and not migration.standing and not look.imports:
        yield "has registry.mirrors, which cannot be found in it: remove them, and config_path is set"


def _rejection(look: ConfigFile) -> str:
    """What containerd itself cannot load; why, if it is a version that it does not read, or an import."""
    if look.daemon.dump is None or look.daemon.dump.returncode == 0 or look.digest == look.daemon.memory.trial:
        return ""
    rejected = "containerd itself rejects it (containerd config dump), so it is left as it is: mend it"
    return next(chain(_too_new(look), _unloadable_imports(look)), rejected)


def _unloadable_imports(look: ConfigFile) -> Iterator[str]:
    for path, state in look.imports:
        if not isinstance(state, Regular):
            yield f"imports {path}, which is not there to be read, so that containerd would not start again: mend that"
        elif not _is_readable(state.content):
            yield f"imports {path}, which cannot be read as TOML: mend that"


def _is_readable(content: bytes) -> bool:
    try:
        read_config(content.decode(), None)
    except ValueError:
        return False
    return True


def _legacy(migration: Migration) -> str:
    names = ["registry.mirrors"] * any(key.startswith(MIRRORS) for key in migration.standing)
    names += ["registry.configs.*.tls"] * any(key.startswith(TLS) for key in migration.standing)
    return " and ".join(names)


def _obstacles(look: ConfigFile, config: CriConfig, desired: DesiredState) -> Iterator[str]:
    """What forbids setting it."""
    certs_dir = desired.containerd.certs_dir
    if look.path != desired.containerd.config:
        yield _elsewhere(look.path, desired.containerd.config)
    if way := _WAYS.get(_manager(look)):
        yield f"{way}; mirror-agent leaves it alone"
    directories = directories_of(config.config_path)
    others = [each for each in directories if each in look.existing and each not in look.ours]
    if certs_dir not in directories and others:
        owner = "Alibaba Cloud ACK manages that directory" if others[0] == _ACK_DIRECTORY else "somebody set it so"
        yield f"config_path is {config.config_path} and {owner}: name it as containerd.certs_dir"
    yield from _imported(look)
    yield from _versions(look)
    if look.cri is Cri.MISSING and _is_judged(look, config):
        why = "containerd's CRI plugin does not run (ctr plugins ls)" if look.cri_fails else "containerd has no CRI"
        yield f"{why}, so nothing is changed here until that is well"


def _is_judged(look: ConfigFile, config: CriConfig) -> bool:
    """Whether the CRI must be well before a change, so that it can be told from what the change does to it. Not where
    it is down for what is to be mended, and not while the change is on trial."""
    is_on_trial = look.daemon.memory.trial == look.digest
    return not is_on_trial and not (config.config_path and clashes(look.daemon, config))


def _unanswered(look: ConfigFile, config: CriConfig) -> Wait | None:
    """A change is made only where it can be checked: by containerd's own reading before its start, by its CRI after."""
    if look.daemon.unit.is_up and isinstance(look.state, Regular) and look.daemon.dump is None:
        return Wait("containerd config dump gives no answer, so that a change could not be checked")
    if look.cri is Cri.SILENT and _is_judged(look, config):
        return Wait("its CRI does not answer, so that nobody could tell whether it does after a change")
    return None


def _elsewhere(path: str, wanted: str) -> str:
    if path.startswith("/usr/"):
        how = f"which belongs to the system: copy it to {wanted}, have containerd.service use that"
        return f"the running containerd reads this file (--config), {how}, and config_path is set"
    return "the running containerd reads this file (--config): name it as containerd.config, and config_path is set"


def is_rendered(look: ConfigFile) -> bool:
    """Whether another program makes this file from settings of its own, so that nothing of ours can ever be read."""
    return _manager(look) in _RENDERED


def _manager(look: ConfigFile) -> str:
    text = look.state.content.decode("utf-8", "replace") if isinstance(look.state, Regular) else ""
    if look.path.startswith("/var/lib/rancher/") or text.startswith("# File generated by "):
        return "k3s"
    if "/microk8s/" in look.path:
        return "microk8s"
    if "k0s_managed=true" in text.partition("\n")[0] or '"/run/k0s/' in text:
        return "k0s"
    return "talos" if '"/etc/cri/conf.d/' in text else look.distribution


def _imported(look: ConfigFile) -> Iterator[str]:
    """Somebody else's drop-in that decides: any CRI table with 1.x, one with a registry table with 2.x."""
    version = look.daemon.version
    merges = version is not None and version >= _OLDEST_2
    if unloadable := next(_unloadable_imports(look), ""):
        yield unloadable
        return
    for path, state in look.imports:
        text = state.content.decode() if isinstance(state, Regular) else ""
        tables, file_version = cri_tables(text), read_config(text, None).file_version
        if version is not None and (effect := _mixed(version, _file_version(look), file_version)):
            yield f"imports {path} of version {file_version}, {effect}: give both one version"
        said = [str(table.get("registry")) for table in tables]
        if any("config_path" in each or not merges for each in said):
            yield f"imports {path}, whose CRI table decides and is not ours: set config_path there"
        if any("'mirrors'" in each or "'tls'" in each for each in said):
            yield f"imports {path}, whose registry.mirrors or tls containerd does not combine with config_path"


def _mixed(version: Version, main: int, imported: int) -> str:
    """What a file of a later version does to the one that imports it; 1.5 and 1.6 read past what they do not know."""
    if imported <= main or version < _REFUSES_VERSION_3:
        return ""
    if _OLDEST_2 <= version < _READS_VERSION_1:
        return "which hides the CRI tables here"
    return "with which containerd would not start again" if imported > 2 else ""


def _versions(look: ConfigFile) -> Iterator[str]:
    file_version, version = _file_version(look), look.daemon.version
    if file_version < 2 and (version is None or _OLDEST_2 <= version < _READS_VERSION_1):
        known = f"containerd {look.daemon.version_text} ignores" if version else "not every containerd reads"
        yield f"is of version 1, whose CRI tables {known}: convert it (containerd config migrate)"
    yield from _too_new(look)


def _too_new(look: ConfigFile) -> Iterator[str]:
    file_version, version = _file_version(look), look.daemon.version
    if file_version > 2 and version is not None and version < _OLDEST_2:
        yield f"is of version {file_version}, which containerd {look.daemon.version_text} does not read: mend it"


# --- the edit --------------------------------------------------------------------------------------------------------


def _edit(look: ConfigFile, config: CriConfig, certs_dir: str, migration: Migration) -> Edit | str:
    if not isinstance(look.state, Regular):
        location = locations(2, None)[0]
        reason = f"there was none, and {_reason(config, certs_dir)}"
        return Edit(created(location, certs_dir), reason, (KeyOriginal(KEY, None),))
    content = look.state.content
    try:
        standing = standing_keys(look)
        bare = with_keys(content, tables_of(look), dict.fromkeys(standing)) if standing else content
        keys = [KeyOriginal(key, value) for key, value in standing.items()]
        if uses(look.daemon, config, certs_dir):
            reason = f"{_moved(look, migration)}: beside config_path the CRI does not start"
            return Edit(bare, reason, tuple(keys), migration.names)
        location = location_of(content, locations(_file_version(look), look.daemon.version))
        edited = with_path(bare, location, certs_dir)
        keys.append(KeyOriginal(KEY, value_of(content, location)))
    except NotEditableError as error:
        return f'{error}: set config_path = "{certs_dir}" by hand'
    reason = _reason(config, certs_dir) + (f"; {_moved(look, migration)}" if standing else "")
    return Edit(edited, reason, tuple(keys), migration.names if standing else frozenset())


def _moved(look: ConfigFile, migration: Migration) -> str:
    """What becomes of the old tables."""
    where = f" to hosts.toml ({', '.join(sorted(migration.names))})"
    is_deaf = look.daemon.version is not None and look.daemon.version >= _OLDEST_2
    again = any(key.startswith(TLS) for key in migration.standing) and is_deaf
    names = _legacy(migration)
    are_two = " and " in names
    if not migration.names:
        return f"{names} {'go' if are_two else 'goes'}, for nothing in {'them' if are_two else 'it'} needs a hosts.toml"
    text = f"{names} {'move' if are_two else 'moves'}{where}"
    text += f", where containerd {look.daemon.version_text} reads tls again" if again and migration.names else ""
    return text + "".join(f"; {path} was there already and stays" for path in migration.foreign)


def _reason(config: CriConfig, certs_dir: str) -> str:
    directories = directories_of(config.config_path)
    if not directories:
        return f"containerd looks for hosts.toml only if config_path says where: {certs_dir}"
    if certs_dir in directories:
        return f"config_path was a list of directories, which containerd 2.1 and later ignore: {certs_dir} alone"
    return f"config_path was {config.config_path}: {certs_dir} is right"
