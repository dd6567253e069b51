"""The config.toml of containerd as it stands, and all that decides what may become of it."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field

from agent.errors import HostError
from agent.host import HostReader
from agent.ledger import Entry
from agent.model import CommandResult, Cri, DesiredState, FileState, Manage, Now, Regular, Setting, UnitTies
from agent.runtimes._config_toml import CriConfig
from agent.runtimes._containerd_config import (
    LOADED_CONTENT,
    NAME,
    UNIT,
    Daemon,
    clashes,
    directories_of,
    effective,
    own_config,
    socket_of,
    uses,
)
from agent.runtimes._hosts_toml import registries_with_files
from agent.runtimes._trial import ABSENT, digest_of

_CRI = {
    ("io.containerd.grpc.v1", "cri"),
    ("io.containerd.cri.v1", "images"),
    ("io.containerd.cri.v1", "runtime"),
}


@dataclass(frozen=True, slots=True)
class OwnedFile:
    """A config.toml of which the ledger says that keys are ours. `original` are the bytes before us."""

    entry: Entry
    state: FileState
    original: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What was seen. `others` are files that were ours to edit once; `good` are the bytes that Memory.good names;
    `existing` are those of the directories named in config_path that are there; `ours` those in which we own files;
    `missing` are the parents of the file that are not there, outermost first; `distribution` is os-release's ID; `cri`,
    `plugins` (only of a containerd whose CRI does not answer) and `ties` are asked for where the answer may matter, and
    `cri` never of a containerd that is to have none."""

    daemon: Daemon
    now: Now
    owned: OwnedFile | None = None
    others: tuple[OwnedFile, ...] = ()
    good: bytes | None = field(default=None, repr=False)
    existing: frozenset[str] = frozenset()
    ours: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    distribution: str = ""
    cri: Cri | None = None
    plugins: CommandResult | None = None
    ties: UnitTies | None = None

    @property
    def path(self) -> str:
        return self.daemon.config_path

    @property
    def state(self) -> FileState:
        return self.daemon.config

    @property
    def imports(self) -> tuple[tuple[str, FileState], ...]:
        return self.daemon.imports

    @property
    def digest(self) -> str:
        return digest_of(self.daemon.config)

    @property
    def cri_fails(self) -> bool:
        """Whether the running containerd says that its CRI plugin did not start."""
        lines = self.plugins.stdout.splitlines() if self.plugins and self.plugins.returncode == 0 else ()
        rows = [line.split() for line in lines]
        return any(len(row) > 2 and tuple(row[:2]) in _CRI and row[-1] == "error" for row in rows)

    def effective(self) -> CriConfig | None:
        """What the configuration means to this containerd; None if it cannot be read, be it by us alone: containerd 1.x
        takes bytes that are no UTF-8."""
        try:
            own_config(self.state)
            return effective(self.daemon)
        except ValueError:
            return None


def look_at_config(host: HostReader, desired: DesiredState, daemon: Daemon) -> ConfigFile:
    """Look at the file, what it imports, and what the ledger says; ask the CRI only where the answer may matter."""
    ledger = host.ledger()
    mine = [each for each in ledger.owned_by(NAME) if each.keys]
    owned = [OwnedFile(each, host.read(each.path), host.original(each.original.sha256)) for each in mine]
    config = _effective(daemon)
    directories = directories_of(config.config_path)
    is_ours = bool(owned or daemon.memory.trial or _wants_files(desired))
    is_right = uses(daemon, config, desired.containerd.certs_dir) and not clashes(daemon, config)
    is_in_sight = daemon.unit.is_up and is_ours
    cri = _cri(host, daemon, config) if is_in_sight and (not is_right or daemon.memory.trial) else None
    return ConfigFile(
        daemon=daemon,
        now=host.now(),
        owned=next((each for each in owned if each.entry.path == daemon.config_path), None),
        others=tuple(each for each in owned if each.entry.path not in {daemon.config_path, desired.containerd.config}),
        good=host.original(daemon.memory.good) if daemon.memory.good not in {"", ABSENT} else None,
        existing=frozenset(each for each in directories if _is_directory(host, each)),
        ours=frozenset(_grandparent(each.path) for each in ledger.owned_by(NAME) if not each.keys),
        missing=_missing(host, daemon.config_path),
        distribution=_distribution(host),
        cri=cri,
        plugins=_plugins(host, daemon) if cri in {Cri.MISSING, Cri.SILENT} else None,
        ties=host.ties(UNIT) if is_in_sight and not (is_right and _is_loaded(daemon, desired)) else None,
    )


def _wants_files(desired: DesiredState) -> bool:
    return desired.containerd.manage is not Manage.NEVER and bool(registries_with_files(desired))


def _is_loaded(daemon: Daemon, desired: DesiredState) -> bool:
    """Whether the running containerd has read this very file, and it is to stay as it is."""
    loaded = Setting(LOADED_CONTENT, json.dumps(digest_of(daemon.config)))
    is_same = daemon.memory.invocation_id == daemon.unit.invocation_id and loaded in daemon.memory.loaded
    return is_same and not daemon.memory.trial and _wants_files(desired)


def _cri(host: HostReader, daemon: Daemon, config: CriConfig) -> Cri | None:
    return None if config.is_cri_disabled else host.cri(socket_of(daemon))


def _effective(daemon: Daemon) -> CriConfig:
    try:
        return effective(daemon)
    except ValueError:
        return CriConfig()


def _grandparent(path: str) -> str:
    """Of thousands of files: posixpath.dirname takes ten times as long."""
    return path.rsplit("/", 2)[0]


def _missing(host: HostReader, path: str) -> tuple[str, ...]:
    on_the_way = [path[:end] for end, letter in enumerate(path) if letter == "/" and end > 0]
    return tuple(each for each in on_the_way if not _is_directory(host, each))


def _is_directory(host: HostReader, path: str) -> bool:
    """One into which we may not look is one, too."""
    try:
        return host.list_directory(path) is not None
    except HostError:
        return True


def _distribution(host: HostReader) -> str:
    state = host.read("/etc/os-release")
    text = state.content.decode("utf-8", "replace") if isinstance(state, Regular) else ""
    found = re.search(r'^ID="?([a-z0-9._-]+)"?$', text, re.MULTILINE)
    return found[1] if found else ""


def _plugins(host: HostReader, daemon: Daemon) -> CommandResult | None:
    """What became of each plugin at the last start. The socket is named because it is a new one after each start."""
    ctr, socket = f"{posixpath.dirname(daemon.program)}/ctr", socket_of(daemon)
    if not host.exists(ctr) or not host.exists(socket):
        return None
    return host.command([ctr, "--address", socket, "plugins", "ls"])
