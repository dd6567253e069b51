"""The directory in which containerd looks for a registry's hosts.toml, and what lies there.

For `host:port` containerd looks for the directories `host_port_`, `host:port` and `_default`, for `host` without a port
only for `host` and `_default`; the first that exists counts and nothing is merged (containerd
remotes/docker/config/config_unix.go hostPaths and hosts.go HostDirFromRoot, 1.4 to 2.3). So a new `host_port_` beside
somebody's `host:port` would hide what is in there, certificates above all: we write into the directory that exists, and
make one only where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from agent.errors import HostError
from agent.host import HostReader
from agent.model import DEFAULT_REGISTRY, Absent, ClientPair, FileState, Unusable
from agent.runtimes._material import Material, examine

HOSTS_TOML = "hosts.toml"

_REGISTRY = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_PORT = re.compile(r":[0-9]+$")


class Place(Enum):
    """What stands where a directory is looked for. containerd passes over a link to nothing, but fails on a file."""

    MISSING = "is missing"
    DIRECTORY = "is a directory"
    FILE = "is not a directory"
    DANGLING = "is a link to nothing"
    CLOSED = "leads to where mirror-agent may not look"


_PASSED_OVER = (Place.MISSING, Place.DANGLING)
"""A tuple, like others of places: to find a member in a set of them takes a call in Python."""


@dataclass(frozen=True, slots=True)
class CertsDir:
    """The directory of all hosts.toml. `missing` are it and those of its parents that do not exist, outermost first;
    `obstacle` is what stands in the way of making them, as (path, what it is)."""

    path: str
    names: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    obstacle: tuple[str, Place] | None = None


@dataclass(frozen=True, slots=True)
class Directory:
    """A registry's directory, or one that could be it. `certificates` are the files beside hosts.toml that containerd
    reads where there is no valid hosts.toml (`*.crt`, `*.cert`, `*.key`), by name."""

    path: str
    place: Place = Place.MISSING
    names: tuple[str, ...] = ()
    hosts_toml: FileState = Absent()  # noqa: RUF009 -- a frozen value without fields
    certificates: Mapping[str, Material] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return f"{self.path}/{HOSTS_TOML}"


@dataclass(frozen=True, slots=True)
class Trust:
    """What the files beside hosts.toml say about TLS to the registry itself. `left_out` names those that containerd
    could not use either: with one of them every pull would fail."""

    ca: tuple[str, ...] = ()
    client: tuple[ClientPair, ...] = ()
    left_out: tuple[str, ...] = ()


_NO_TRUST = Trust()


def is_registry_name(name: str) -> bool:
    """Whether a name can be a directory of its own and nothing else, whoever checked it before."""
    return name == DEFAULT_REGISTRY or bool(_REGISTRY.fullmatch(name))


def directory_names(registry: str) -> tuple[str, ...]:
    """The names under which containerd looks for a registry, in its order (without `_default`)."""
    head, colon, tail = registry.rpartition(":")
    return (f"{head}_{tail}_", registry) if colon else (registry,)


def registry_of(directory_name: str) -> str:
    """The registry that a directory is for."""
    head, underscore, port = directory_name.removesuffix("_").rpartition("_")
    return f"{head}:{port}" if directory_name.endswith("_") and underscore and head else directory_name


def new_name(registry: str) -> str:
    """The name of a directory that we make. An IPv6 address without a port (first name: `[:_1]_`) stays readable."""
    return directory_names(registry)[0 if _PORT.search(registry) else -1]


def choose(registry: str, directories: tuple[Directory, ...]) -> Directory:
    """The directory that containerd uses, or the one to be made."""
    found = [each for each in directories if each.place not in _PASSED_OVER]
    named = (each for each in directories if each.path.endswith(f"/{new_name(registry)}"))
    return found[0] if found else next(named)


# --- looking ---------------------------------------------------------------------------------------------------------


def look_at_root(host: HostReader, path: str) -> CertsDir:
    """One listing, and where the directory does not exist, what is missing on the way to it."""
    try:
        names = host.list_directory(path)
    except HostError:
        return CertsDir(path, obstacle=(path, Place.CLOSED))
    if names is not None:
        return CertsDir(path, frozenset(names))
    on_the_way = [path[:end] for end, letter in enumerate(f"{path}/") if letter == "/" and end > 0]
    missing = tuple(each for each in on_the_way if host.list_directory(each) is None)
    place = _place(host, missing[0])
    return CertsDir(path, missing=missing, obstacle=None if place is Place.MISSING else (missing[0], place))


def look_for(host: HostReader, root: CertsDir, registry: str) -> tuple[Directory, ...]:
    """Every directory in which containerd may look for a registry, in its order."""
    return tuple(_look(host, root, name) for name in directory_names(registry))


def _look(host: HostReader, root: CertsDir, name: str) -> Directory:
    path = f"{root.path}/{name}"
    try:
        names = host.list_directory(path) if name in root.names else None
    except HostError:
        return Directory(path, Place.CLOSED)
    if names is None:
        return Directory(path, _place(host, path) if name in root.names else Place.MISSING)
    hosts_toml = host.read(f"{path}/{HOSTS_TOML}") if HOSTS_TOML in names else Absent()
    return Directory(path, Place.DIRECTORY, names, hosts_toml, _certificates(host, path, names))


def _place(host: HostReader, path: str) -> Place:
    """What stands at a path that is no directory."""
    if host.exists(path):
        return Place.FILE
    parent, _, name = path.rpartition("/")
    return Place.DANGLING if name in (host.list_directory(parent or "/") or ()) else Place.MISSING


def _certificates(host: HostReader, path: str, names: tuple[str, ...]) -> dict[str, Material]:
    found = {}
    for name in names:
        if name.endswith((".crt", ".cert", ".key")):
            state = host.read(f"{path}/{name}")
            if not (isinstance(state, Unusable) and host.list_directory(f"{path}/{name}") is not None):
                found[name] = examine(state)
    return found


# --- certificates beside hosts.toml ----------------------------------------------------------------------------------


def trust_of(directory: Directory) -> Trust:
    """What to carry over, so that a new hosts.toml does not hide it. By name, as containerd reads them."""
    if not directory.certificates:
        return _NO_TRUST
    problems = {name: _problem(name, directory.certificates) for name in sorted(directory.certificates)}
    usable = [name for name, problem in problems.items() if not problem]
    return Trust(
        ca=tuple(f"{directory.path}/{name}" for name in usable if name.endswith(".crt")),
        client=tuple(_pair(directory, name) for name in usable if name.endswith(".cert")),
        left_out=tuple(f"{_shown(directory.path, name)} {problem}" for name, problem in problems.items() if problem),
    )


def _pair(directory: Directory, name: str) -> ClientPair:
    key = _key_of(name)
    return ClientPair(f"{directory.path}/{name}", f"{directory.path}/{key}" if key in directory.certificates else "")


def _problem(name: str, certificates: Mapping[str, Material]) -> str:
    if name.endswith(".key"):
        return ""
    if not name.isprintable():
        return "has a name that no configuration file can hold"
    if name.endswith(".crt"):
        return certificates[name].certificate_problem
    return certificates[name].certificate_problem or _key_problem(name, certificates)


def _key_problem(name: str, certificates: Mapping[str, Material]) -> str:
    key = certificates.get(_key_of(name))
    if key is not None:
        return f"has a key that {key.key_problem}" if key.key_problem else ""
    return f"has no {_key_of(name)} beside it" if certificates[name].key_problem else ""


def _key_of(name: str) -> str:
    return f"{name.removesuffix('.cert')}.key"


def _shown(path: str, name: str) -> str:
    return f"{path}/{name if name.isprintable() else name.encode('unicode_escape').decode('ascii')}"
