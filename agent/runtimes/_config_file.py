"""The config.toml of containerd as it stands, and all that decides what may become of it."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.host import HostReader
from agent.ledger import Entry
from agent.model import Absent, CommandResult, DesiredState, FileState, Now, Regular
from agent.runtimes._config_toml import CriConfig, imports_of
from agent.runtimes._containerd_config import (
    NAME,
    Daemon,
    clashes,
    directories_of,
    effective,
    own_config,
    uses,
)
from agent.runtimes._trial import ABSENT, digest_of

_SOCKET = "/run/containerd/containerd.sock"
_CRI = {
    ("io.containerd.grpc.v1", "cri"),
    ("io.containerd.cri.v1", "images"),
    ("io.containerd.cri.v1", "runtime"),
}
_GLOB = re.compile(r"[*?\[]")


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
    `missing` are the parents of the file that are not there, outermost first; `distribution` is os-release's ID."""

    daemon: Daemon
    now: Now
    owned: OwnedFile | None = None
    others: tuple[OwnedFile, ...] = ()
    good: bytes | None = field(default=None, repr=False)
    imports: tuple[tuple[str, FileState], ...] = ()
    existing: frozenset[str] = frozenset()
    ours: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    distribution: str = ""
    plugins: CommandResult | None = None

    @property
    def path(self) -> str:
        return self.daemon.config_path

    @property
    def state(self) -> FileState:
        return self.daemon.config

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
    """Look at the file, what it imports, and what the ledger says; ask `ctr` only where the answer may matter."""
    ledger = host.ledger()
    mine = [each for each in ledger.owned_by(NAME) if each.keys]
    owned = [OwnedFile(each, host.read(each.path), host.original(each.original.sha256)) for each in mine]
    config = _effective(daemon)
    directories = directories_of(config.config_path)
    is_right = uses(daemon, config, desired.containerd.certs_dir) and not clashes(daemon, config)
    matters = not is_right or daemon.memory.trial
    return ConfigFile(
        daemon=daemon,
        now=host.now(),
        owned=next((each for each in owned if each.entry.path == daemon.config_path), None),
        others=tuple(each for each in owned if each.entry.path not in {daemon.config_path, desired.containerd.config}),
        good=host.original(daemon.memory.good) if daemon.memory.good not in {"", ABSENT} else None,
        imports=tuple(imported_files(host, daemon.config_path, daemon.config)),
        existing=frozenset(each for each in directories if host.list_directory(each) is not None),
        ours=frozenset(_grandparent(each.path) for each in ledger.owned_by(NAME) if not each.keys),
        missing=_missing(host, daemon.config_path),
        distribution=_distribution(host),
        plugins=_plugins(host, daemon) if daemon.unit.is_up and matters else None,
    )


def _effective(daemon: Daemon) -> CriConfig:
    try:
        return effective(daemon)
    except ValueError:
        return CriConfig()


def _grandparent(path: str) -> str:
    return posixpath.dirname(posixpath.dirname(path))


def _missing(host: HostReader, path: str) -> tuple[str, ...]:
    on_the_way = [path[:end] for end, letter in enumerate(path) if letter == "/" and end > 0]
    return tuple(each for each in on_the_way if host.list_directory(each) is None)


def _distribution(host: HostReader) -> str:
    state = host.read("/etc/os-release")
    text = state.content.decode("utf-8", "replace") if isinstance(state, Regular) else ""
    found = re.search(r'^ID="?([a-z0-9._-]+)"?$', text, re.MULTILINE)
    return found[1] if found else ""


def _plugins(host: HostReader, daemon: Daemon) -> CommandResult | None:
    """What became of each plugin at the last start. The socket is named because it is a new one after each start."""
    ctr = f"{posixpath.dirname(daemon.program)}/ctr"
    if not host.exists(ctr) or not host.exists(_SOCKET):
        return None
    return host.command([ctr, "--address", _SOCKET, "plugins", "ls"])


def imported_files(host: HostReader, importing: str, config: FileState) -> Iterator[tuple[str, FileState]]:
    """The imported files, in containerd's order; a pattern in a directory's name is left out."""
    for pattern in _patterns(config):
        path = posixpath.join(posixpath.dirname(importing), pattern)
        directory, _, name = path.rpartition("/")
        if not _GLOB.search(path):
            yield path, host.read(path)
        elif not _GLOB.search(directory):
            names = host.list_directory(directory) or ()
            found = [f"{directory}/{each}" for each in names if fnmatch.fnmatchcase(each, name)]
            yield from ((each, host.read(each)) for each in found if each != importing)


def _patterns(config: FileState) -> tuple[str, ...]:
    if isinstance(config, Absent) or not isinstance(config, Regular):
        return ()
    try:
        return imports_of(config.content.decode())
    except ValueError:
        return ()
