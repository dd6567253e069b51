"""May config_path be set in this config.toml, and what does the file become? Pure; every refusal is one sentence.

What is edited is the file that the running containerd was started with, in the registry table of that file's own
version, never a drop-in: with containerd 1.x a drop-in replaces the whole CRI table, and with 2.x one of another
version does (cmd/containerd/server/config @ v1.4 … v2.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.model import ActiveState, DesiredState, Regular, Unusable
from agent.runtimes._config_edit import Location, NotEditableError, created, location_of, with_path
from agent.runtimes._config_file import ConfigFile
from agent.runtimes._config_toml import CriConfig, Version, cri_tables, locations, read_config
from agent.runtimes._containerd_config import directories_of, uses

_FIRST_WITH_HOSTS_TOML: Version = (1, 5, 0)
_OLDEST_2: Version = (2, 0, 0)
_READS_VERSION_1: Version = (2, 3, 0)
_SETTLED = frozenset({ActiveState.ACTIVE, ActiveState.INACTIVE, ActiveState.OFF})
_ACK_DIRECTORY = "/etc/containerd/cert.d"
_WAYS = {
    "k3s": "k3s or RKE2 generates it at each start: name the mirrors in its registries.yaml",
    "microk8s": "MicroK8s makes it from args/containerd-template.toml: set config_path there and restart the snap",
    "k0s": "k0s manages it: set config_path in a file of your own in /etc/k0s/containerd.d",
    "talos": "Talos renders it: name the mirrors in the machine configuration",
    "bottlerocket": "Bottlerocket renders it: name the mirrors through its settings API",
}


@dataclass(frozen=True, slots=True)
class Edit:
    """What the file becomes, why, and where in it the key stands."""

    content: bytes = field(repr=False)
    reason: str
    location: Location


def decide(look: ConfigFile, desired: DesiredState) -> Edit | str | None:
    """An edit; or why there must be none although certs.d is not in use; or None: nothing to do, or not now."""
    certs_dir, version = desired.containerd.certs_dir, look.daemon.version
    config = look.effective()
    if isinstance(look.state, Unusable):
        return f"{look.state.reason}, so config_path cannot be set: put a file there"
    if config is None:
        return "cannot be read as TOML, so config_path cannot be set: mend it"
    if config.is_cri_disabled or (version is not None and version < _FIRST_WITH_HOSTS_TOML):
        return None
    refusal = next(_refusals(look, config, certs_dir), "")
    if refusal or uses(look.daemon, config, certs_dir) or not _is_time(look):
        return refusal or None
    return next(_obstacles(look, config, desired), "") or _edit(look, config, certs_dir)


def _is_time(look: ConfigFile) -> bool:
    """Up, stopped or out of our hands. A unit that starts, stops or has failed is left in peace; one that is stopped
    cannot be asked for its version, so what depends on that waits; nothing is made where there is no containerd."""
    unit = look.daemon.unit
    settled = unit.is_up if unit.active is ActiveState.ACTIVE else unit.active in _SETTLED
    waits = unit.active is ActiveState.INACTIVE and (bool(look.imports) or _file_version(look) < 2)
    return settled and not waits and bool(look.daemon.program)


def _file_version(look: ConfigFile) -> int:
    """A file that we make has version 2."""
    return read_config(look.state.content.decode(), None).file_version if isinstance(look.state, Regular) else 2


# --- why not ---------------------------------------------------------------------------------------------------------


def _refusals(look: ConfigFile, config: CriConfig, certs_dir: str) -> Iterator[str]:
    """What is wrong even where config_path is right."""
    if look.daemon.dump is not None and look.daemon.dump.returncode != 0 and look.digest != look.daemon.memory.trial:
        yield "containerd itself rejects it (containerd config dump), so it is left as it is: mend it"
    legacy = _legacy(config)
    if legacy and not uses(look.daemon, config, certs_dir):
        yield (
            f"has {legacy}, which containerd does not combine with config_path: say the same in the desired state, "
            "remove them here, and config_path is set"
        )
    elif config.has_mirrors:
        yield "has config_path and registry.mirrors, with which containerd's CRI does not start: remove the mirrors"


def _legacy(config: CriConfig) -> str:
    names = ["registry.mirrors"] * config.has_mirrors + ["registry.configs.*.tls"] * config.has_tls
    return " and ".join(names)


def _obstacles(look: ConfigFile, config: CriConfig, desired: DesiredState) -> Iterator[str]:
    """What forbids setting it."""
    certs_dir = desired.containerd.certs_dir
    if look.path != desired.containerd.config:
        yield "the running containerd reads this file (--config): name it as containerd.config, and config_path is set"
    if way := _WAYS.get(_manager(look)):
        yield f"{way}; mirror-agent leaves it alone"
    directories = directories_of(config.config_path)
    others = [each for each in directories if each in look.existing and each not in look.ours]
    if certs_dir not in directories and others:
        owner = "Alibaba Cloud ACK manages that directory" if others[0] == _ACK_DIRECTORY else "somebody set it so"
        yield f"config_path is {config.config_path} and {owner}: name it as containerd.certs_dir"
    yield from _imported(look)
    yield from _versions(look)
    if look.cri_fails and not look.daemon.memory.trial:
        yield "containerd's CRI plugin does not run (ctr plugins ls), so nothing is changed here until it does"


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
    merges = look.daemon.version is not None and look.daemon.version >= _OLDEST_2
    for path, state in look.imports:
        if not isinstance(state, Regular):
            yield f"imports {path}, which is not there to be read, so that containerd would not start again: mend that"
            return
        try:
            text = state.content.decode()
            tables, file_version = cri_tables(text), read_config(text, None).file_version
        except ValueError:
            yield f"imports {path}, which cannot be read as TOML: mend that"
            return
        if tables and merges and file_version > _file_version(look):
            yield f"imports {path} of version {file_version}, which hides the CRI tables here: give both one version"
        if any("config_path" in str(table.get("registry")) or not merges for table in tables):
            yield f"imports {path}, whose CRI table decides and is not ours: set config_path there"


def _versions(look: ConfigFile) -> Iterator[str]:
    file_version, version = _file_version(look), look.daemon.version
    if file_version < 2 and (version is None or _OLDEST_2 <= version < _READS_VERSION_1):
        known = f"containerd {look.daemon.version_text} ignores" if version else "not every containerd reads"
        yield f"is of version 1, whose CRI tables {known}: convert it (containerd config migrate)"
    if file_version > 2 and version is not None and version < _OLDEST_2:
        yield f"is of version {file_version}, which containerd {look.daemon.version_text} does not read: mend it"


# --- the edit --------------------------------------------------------------------------------------------------------


def _edit(look: ConfigFile, config: CriConfig, certs_dir: str) -> Edit | str:
    if not isinstance(look.state, Regular):
        location = locations(2, None)[0]
        return Edit(created(location, certs_dir), f"there was none, and {_reason(config, certs_dir)}", location)
    tables = locations(_file_version(look), look.daemon.version)
    try:
        location = location_of(look.state.content, tables)
        content = with_path(look.state.content, location, certs_dir)
    except NotEditableError as error:
        return f'{error}: set config_path = "{certs_dir}" by hand'
    return Edit(content, _reason(config, certs_dir), location)


def _reason(config: CriConfig, certs_dir: str) -> str:
    directories = directories_of(config.config_path)
    if not directories:
        return f"containerd looks for hosts.toml only if config_path says where: {certs_dir}"
    if certs_dir in directories:
        return f"config_path was a list of directories, which containerd 2.1 and later ignore: {certs_dir} alone"
    return f"config_path was {config.config_path}: {certs_dir} is right"
