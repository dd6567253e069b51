"""Does the running containerd read certs.d? What is looked at, and what it comes to.

The configuration that counts is the one the running process was started with (`-c`, `--config`), as it stands on disk;
containerd itself merges what it imports (`config dump`). Only a start reads it: that this one did is told from memory,
and from times for a containerd that was not seen before.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.host import HostReader
from agent.model import Absent, ActiveState, CommandResult, DesiredState, FileState, Regular, UnitState
from agent.plan import Memory
from agent.runtimes._config_imports import imported_files
from agent.runtimes._config_toml import CriConfig, Version, parse_version, read_config
from agent.runtimes._trial import digest_of
from agent.runtimes._unit_files import next_program

NAME = "containerd"
UNIT = "containerd.service"
LOADED_CONTENT, LOADED_PATH, LOADED_IMPORTS = "config.toml", "config_path", "imports"
"""What Memory.loaded holds: the digest of the file that the running containerd has read, where it then looks for
hosts.toml, and the digest of what it has read besides, if the file imports anything; each as JSON."""

LOADED_TABLES = "registry"
"""The same of the tables that one before 1.5 reads in their stead: their digest, as JSON."""
_PROGRAMS = tuple(
    f"{directory}/containerd"
    for directory in ("/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin", "/opt/bin", "/usr/lib/containerd")
)
_FLAGS = ("-c", "--c", "-config", "--config")
_ADDRESS_FLAGS = ("-a", "--a", "-address", "--address")
_SOCKET = "/run/containerd/containerd.sock"
_RESTART = "systemctl restart containerd"
FIRST_WITH_HOSTS_TOML: Version = (1, 5, 0)
_GRPC_PLUGIN = "io.containerd.server.v1.grpc"
_IGNORES_LISTS: Version = (2, 1, 0)
_DEFAULT_IS_A_LIST: Version = (2, 2, 0)
_READS_VERSION_1: Version = (2, 3, 0)
_OLDEST_2: Version = (2, 0, 0)


@dataclass(frozen=True, slots=True)
class Daemon:
    """containerd on this machine. `program` is "" where none was found; `imports` are the files that the configuration
    names, and those that they name; `dump` is what containerd makes of all that, asked only while it runs, and of a
    file that we have just changed; `arguments` is its command line, `memory` what the ledger holds."""

    unit: UnitState = UnitState()  # noqa: RUF009 -- frozen
    program: str = ""
    version_output: str = ""
    config_path: str = ""
    config: FileState = field(default=Absent(), repr=False)
    config_written_at: float | None = None
    imports: tuple[tuple[str, FileState], ...] = field(default=(), repr=False)
    dump: CommandResult | None = field(default=None, repr=False)
    arguments: tuple[str, ...] = ()
    memory: Memory = Memory()  # noqa: RUF009 -- frozen

    @property
    def is_installed(self) -> bool:
        return bool(self.program) or self.unit.loaded

    @property
    def version(self) -> Version | None:
        return parse_version(self.version_output)

    @property
    def version_text(self) -> str:
        """The version as people write it, "" if it is not known."""
        return ".".join(map(str, self.version)) if self.version else ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether certs.d is in use (None: cannot be told), and what to do if not."""

    is_live: bool | None
    sentence: str


def look_at_daemon(host: HostReader, desired: DesiredState) -> Daemon:
    """Look at the unit, the program and its configuration. Of one at rest only the version is asked, and only if
    nobody knows yet what must be in the file before its first start after a boot."""
    unit, memory = host.unit(UNIT), host.ledger().memory_of(NAME)
    arguments = host.arguments(unit.main_pid) if unit.is_up else ()
    started = arguments[0] if arguments else next_program(host, UNIT) if unit.loaded else ""
    program = next(filter(host.exists, (*([started] if started.startswith("/") else []), *_PROGRAMS)), "")
    path = flag_of(arguments, _FLAGS) or desired.containerd.config
    config = host.read(path)
    is_asked = unit.is_up or (unit.loaded and not _is_known_to_be_new(memory))
    version = host.command([program, "--version"]) if is_asked and program else None
    imports, dump = tuple(imported_files(host, path, config)), None
    if program and isinstance(config, Regular) and (unit.is_up or memory.trial == digest_of(config)):
        dump = host.command([program, "--config", path, "config", "dump"], files=[each for each, _ in imports])
    output = version.stdout if version else ""
    return Daemon(unit, program, output, path, config, host.written_at(path), imports, dump, arguments, memory)


def _is_known_to_be_new(memory: Memory) -> bool:
    """Whether the one that ran last has read hosts.toml, and no tables in their stead."""
    return bool(memory.loaded) and all(setting.key != LOADED_TABLES for setting in memory.loaded)


def flag_of(arguments: tuple[str, ...], flags: tuple[str, ...]) -> str:
    """The path that a command line names after one of these flags, "" if none."""
    found = ""
    for word, following in zip(arguments[1:], (*arguments[2:], ""), strict=False):
        flag, equals, value = word.partition("=")
        if flag in flags:
            found = value if equals else following
    return found if found.startswith("/") else ""


def socket_of(daemon: Daemon) -> str:
    """Where the running daemon listens: its flag, its configuration, or the default."""
    return flag_of(daemon.arguments, _ADDRESS_FLAGS) or _configured_socket(daemon) or _SOCKET


def _configured_socket(daemon: Daemon) -> str:
    """`grpc.address` of the merged configuration; a table of its own in file version 4 (containerd 2.3)."""
    try:
        document = tomllib.loads(daemon.dump.stdout) if daemon.dump is not None and daemon.dump.returncode == 0 else {}
    except tomllib.TOMLDecodeError:
        return ""
    plugins = document.get("plugins")
    tables = [document.get("grpc"), plugins.get(_GRPC_PLUGIN) if isinstance(plugins, dict) else None]
    found = [table.get("address") for table in tables if isinstance(table, dict)]
    return next((each for each in found if isinstance(each, str) and each.startswith("/")), "")


# --- what it comes to ------------------------------------------------------------------------------------------------


def judge(daemon: Daemon, certs_dir: str) -> Verdict:
    """One sentence for `status`."""
    if not daemon.is_installed:
        return Verdict(None, "not installed")
    if daemon.unit.active is ActiveState.OFF:
        return Verdict(None, "units are not controlled here, so a running containerd cannot be asked")
    verdict = judge_config(daemon, certs_dir)
    if not daemon.unit.is_up:
        state = "not running" if daemon.unit.active in {ActiveState.INACTIVE, ActiveState.FAILED} else "not up yet"
        return Verdict(None, state if verdict.is_live else f"{state}; {verdict.sentence}")
    if daemon.version is not None and daemon.version < FIRST_WITH_HOSTS_TOML:
        return _not_live(f"containerd {daemon.version_text} does not read hosts.toml: 1.5 and later do")
    return verdict


def _not_live(sentence: str) -> Verdict:
    return Verdict(is_live=False, sentence=sentence)


def judge_config(daemon: Daemon, certs_dir: str) -> Verdict:
    """The same by the configuration alone, also of a containerd that does not run or cannot be asked."""
    try:
        config = effective(daemon)
    except ValueError:
        return _not_live(f"{daemon.config_path} cannot be read as TOML: a restart of containerd would fail")
    if daemon.dump is not None and daemon.dump.returncode != 0:
        return _not_live(f"containerd rejects {daemon.config_path}: see `containerd config dump`")
    if config.is_cri_disabled:
        return Verdict(
            None, "CRI is off in its configuration: only Docker uses this containerd, nothing is needed here"
        )
    problem = next(_problems(daemon, config, certs_dir), "")
    return Verdict(not problem, problem or f"{certs_dir} is in use, nothing to restart")


def effective(daemon: Daemon) -> CriConfig:
    """What the configuration means to this containerd. Raises ValueError if it cannot be read."""
    if daemon.dump is not None and daemon.dump.returncode == 0:
        return read_config(daemon.dump.stdout, daemon.version)
    if isinstance(daemon.config, Absent):
        return CriConfig(file_version=2)
    if not isinstance(daemon.config, Regular):
        raise ValueError(daemon.config.reason)  # noqa: TRY004 -- it is the file that is wrong, not the caller
    return read_config(daemon.config.content.decode(), daemon.version)


def own_config(config: FileState) -> CriConfig | None:
    """What the file says by itself, None if there is none. Raises ValueError if it is no TOML."""
    return read_config(config.content.decode(), None) if isinstance(config, Regular) else None


def _problems(daemon: Daemon, config: CriConfig, certs_dir: str) -> Iterator[str]:
    """What keeps certs.d from being used, and what to do; the first is the one to say."""
    setting = f'config_path = "{certs_dir}"'
    if config.has_mirrors and config.config_path:
        yield (
            f"{daemon.config_path} has both config_path and registry.mirrors, with which containerd's CRI does not "
            f"start: remove the mirrors tables, then {_RESTART}"
        )
    if not config.config_path:
        yield f"{_why_unset(daemon, certs_dir)}: {_how_to_set(daemon, config, setting)}"
    elif certs_dir not in directories_of(config.config_path):
        yield f"containerd reads {config.config_path}: name that as containerd.certs_dir, or set {setting} in its place"
    elif not uses(daemon, config, certs_dir):
        yield (
            f"config_path is a list of directories ({config.config_path}), which containerd 2.1 and later ignore "
            f"whole: write {setting} in {daemon.config_path}, then {_RESTART}"
        )
    if daemon.unit.is_up and not _has_read_it(daemon, certs_dir):
        yield f"restart pending: {daemon.config_path} changed after containerd started: {_RESTART}"


def _has_read_it(daemon: Daemon, certs_dir: str) -> bool:
    """Whether the running containerd looks into certs.d because the file said so when it started."""
    loaded = {setting.key: json.loads(setting.json) for setting in daemon.memory.loaded if setting.json}
    if daemon.memory.invocation_id == daemon.unit.invocation_id and loaded:
        then = loaded.get(LOADED_IMPORTS, digest_of_imports(daemon))
        is_same = (loaded.get(LOADED_CONTENT), then) == (digest_of(daemon.config), digest_of_imports(daemon))
        return is_same or certs_dir in directories_of(str(loaded.get(LOADED_PATH, "")))
    return (daemon.config_written_at or 0.0) <= daemon.unit.started_at


def digest_of_imports(daemon: Daemon) -> str:
    """The name of all that is imported, "" for nothing."""
    lines = [f"{path} {digest_of(state)}" for path, state in daemon.imports]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""


def directories_of(config_path: str) -> tuple[str, ...]:
    """The directories that a config_path names, without trailing slashes."""
    return tuple(posixpath.normpath(path) for path in config_path.split(":") if path)


def uses(daemon: Daemon, config: CriConfig, certs_dir: str) -> bool:
    """Whether a containerd with this configuration looks into certs.d."""
    directories = directories_of(config.config_path)
    return certs_dir in directories and (len(directories) == 1 or config.pulls_locally or _may_list(daemon))


def clashes(daemon: Daemon, config: CriConfig) -> bool:
    """Whether the file has old tables beside which config_path keeps the CRI from starting; containerd 2.x drops tls
    without a word (internal/cri/config ValidatePluginConfig)."""
    is_1 = daemon.version is None or daemon.version < _OLDEST_2
    return config.has_mirrors or (config.has_tls and is_1)


def _may_list(daemon: Daemon) -> bool:
    return daemon.version is not None and daemon.version < _IGNORES_LISTS


def _why_unset(daemon: Daemon, certs_dir: str) -> str:
    if daemon.version is not None and daemon.version >= _DEFAULT_IS_A_LIST:
        return f"config_path is not set (the default is a list, which containerd ignores), so {certs_dir} is not in use"
    return f"config_path is not set, so {certs_dir} is not in use"


def _how_to_set(daemon: Daemon, config: CriConfig, setting: str) -> str:
    """The very line, for the version of the file as it stands."""
    if isinstance(daemon.config, Absent):
        return f"write version = 2, {config.heading} and {setting} to {daemon.config_path}, then {_RESTART}"
    try:
        main = own_config(daemon.config) or config
    except ValueError:
        return f"mend {daemon.config_path}, which is no TOML, set {setting} in it, then {_RESTART}"
    if main.file_version < 2 and daemon.version is not None and _OLDEST_2 <= daemon.version < _READS_VERSION_1:
        return (
            f"{daemon.config_path} is of version 1, whose CRI tables containerd {daemon.version_text} ignores: "
            f"convert it (containerd config migrate), set {setting}, then {_RESTART}"
        )
    return f"put {setting} under {main.heading} in {daemon.config_path}, then {_RESTART}"
