"""What would stop the next start of dockerd, by its version: checks of values, without asking Docker.

`dockerd --validate` exists from 23.0 on and passes, in every version, bad insecure registries and names of drivers that
do not exist; up to 28.2 it also passes bad mirrors. Source: moby registry/config.go (ValidateMirror, validateHostPort,
loadInsecureRegistries) @ 20.10.24, 24.0.8, 26.1.5, 28.5.2, daemon/logger/factory.go; measured on 20.10.24, 26.1.5,
28.5.2. A value of the wrong type is not judged here, except in the two lists.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.desired.daemon_keys import DAEMON_KEYS
from agent.runtimes._docker_fate import shown_url
from agent.runtimes._docker_flags import FLAG_NAMES
from agent.runtimes._docker_reload import INSECURE, MIRRORS
from agent.runtimes._json_text import value_of

Version = tuple[int, int, int]

OLDEST: Version = (20, 10, 0)
LATEST: Version = (99, 0, 0)
_NEVER: Version = (100, 0, 0)
_VALIDATES_SINCE: Version = (23, 0, 0)
_PATHS_SINCE: Version = (24, 0, 8)
_SLASHES_SINCE: Version = (28, 3, 0)

_BAD_URL = re.compile(r"[\x00-\x20\x7f]")
_BAD_HOST = re.compile(r"[\x00-\x20\x7f%\\^`{|}]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(
    r"([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])(\.([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9]))*"
    r"(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?"
)
_LOG_DRIVERS = frozenset(
    {
        *("awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald"),
        *("json-file", "local", "logentries", "none", "splunk", "syslog"),
    }
)
_STORAGE_DRIVERS: Mapping[str, Version] = {
    **dict.fromkeys(("btrfs", "fuse-overlayfs", "overlay2", "vfs", "zfs"), _NEVER),
    **dict.fromkeys(("aufs", "overlay"), (24, 0, 0)),
    "devicemapper": (25, 0, 0),
}
"""Drivers and the first version that has lost them."""

_LATER_KEYS = frozenset(
    {
        *("allow-direct-routing", "bip6", "bridge-accept-fwmark", "cdi-spec-dirs", "default-network-opts"),
        *("default-stop-timeout", "firewall-backend", "host-gateway-ips", "ip-forward-no-drop", "log-format"),
        *(
            "nri-opts",
            "proxies",
            "http-proxy",
            "https-proxy",
            "no-proxy",
            "cdi-spec-dir",
            "default-network-opt",
            "feature",
        ),
    }
)
"""Keys that came with 23.0 or later."""

_KEYS_OF_20_10 = (
    frozenset(
        {
            *(MIRRORS, INSECURE, *DAEMON_KEYS, *FLAG_NAMES, "help", "version", "cluster-advertise"),
            *("cluster-store", "cluster-store-opts", "deprecated-key-path", "disable-legacy-registry", "graph"),
        }
    )
    - _LATER_KEYS
)
"""The names of flags count as keys too: it takes them without a word, and without an effect."""

_FILE_LOG_OPTS = frozenset({"max-file", "max-size", "compress"})
_ANY_LOG_OPTS = frozenset({"mode", "max-buffer-size"})
_LOG_OPTS: Mapping[str, frozenset[str]] = {
    "json-file": _FILE_LOG_OPTS | {"env", "env-regex", "labels", "labels-regex", "tag"},
    "local": _FILE_LOG_OPTS,
}


@dataclass(frozen=True, slots=True)
class Engine:
    """What the checks depend on. `log_drivers` are those that a running Docker lists, plugins among them (None: it
    cannot be asked); `containerd_store` says that storage drivers are containerd's snapshotters, whose names are
    open."""

    version: Version = LATEST
    log_drivers: frozenset[str] | None = None
    containerd_store: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """A value with which dockerd does not start. `reason` begins with what is wrong and ends with what would be
    right."""

    key: str
    reason: str


def version_of(text: str) -> Version | None:
    """`26.1.5+dfsg1` as numbers, None if there are none."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def faults_of(values: Mapping[str, str], engine: Engine) -> tuple[Fault, ...]:
    """Every fault in the values (compact JSON texts, by key) of a whole daemon.json."""
    return tuple(fault for check in _CHECKS for fault in check(values, engine))


def unknown_key_problem(key: str, version: Version) -> str:
    """Why a Docker that has no `--validate` does not start with this key, "" if it does or if it can be asked."""
    if version >= _VALIDATES_SINCE or key in _KEYS_OF_20_10:
        return ""
    return f"Docker {version[0]}.{version[1]} does not know this key, and with it does not start: take it out"


def unknown_keys(values: Mapping[str, str], version: Version) -> Iterator[Fault]:
    """Every key of a whole daemon.json with which such a Docker does not start. It looks into an object whose name it
    does not know, and takes the names in there (cmd/dockerd, configValuesSet)."""
    for key in values:
        if problem := unknown_key_problem(key, version):
            inside = value_of(values[key])
            names = list(inside) if isinstance(inside, dict) else [key]
            yield from (Fault(name, problem) for name in names if unknown_key_problem(name, version))


# --- the lists of registries -----------------------------------------------------------------------------------------


def mirror_problem(url: str, version: Version) -> str:
    """Why dockerd does not start with this mirror, "" if it does."""
    scheme, colon, rest = url.partition(":")
    if _BAD_URL.search(url) or _BAD_ESCAPE.search(url.partition("#")[0]):
        return "is no URL"
    if not colon or scheme.lower() not in {"http", "https"} or (version >= _SLASHES_SINCE and rest[:2] != "//"):
        return "has no http:// or https:// in front"
    before, _, fragment = rest.partition("#")
    before, _, query = before.partition("?")
    if query or fragment:
        return "has a query or a fragment"
    return _authority_problem(before, version)


def _authority_problem(rest: str, version: Version) -> str:
    if not rest.startswith("//"):
        return ""
    authority, slash, path = rest[2:].partition("/")
    if "@" in authority:
        return "has a user name in it"
    if _BAD_HOST.search(authority):
        return "is no URL"
    if authority.startswith("[") and "]" not in authority:
        return "is no URL"
    if not re.fullmatch(r"(:[0-9]*)?", _port(authority)):
        return "has a port that is no number"
    return "has a path, which Docker accepts from 24.0.8 on" if slash and path and version < _PATHS_SINCE else ""


def _port(authority: str) -> str:
    """The port with its colon, "" if there is none."""
    if authority.startswith("["):
        return authority.partition("]")[2]
    return authority[authority.rindex(":") :] if ":" in authority else ""


def insecure_problem(entry: str) -> str:
    """Why dockerd does not start with this insecure registry, "" if it does. The same in all versions."""
    if entry.startswith("-") or entry.endswith("-"):
        return "begins or ends with a hyphen"
    name = re.sub(r"^https?://", "", entry, flags=re.IGNORECASE)
    if "://" in name:
        return "has a scheme that is neither http nor https"
    if _is_network(name) or _is_address(name):
        return ""
    if not _HOST.fullmatch(name):
        return "is no host, host:port or network: no path, no wildcard, no blank is allowed"
    port = name.rpartition(":")[2]
    return "has a port above 65535" if name[-1] != "]" and ":" in name and int(port) > 65535 else ""


def _is_network(name: str) -> bool:
    address, slash, bits = name.partition("/")
    if not slash or not bits.isdecimal():
        return False
    try:
        ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
    return _is_address(address)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _bad_mirrors(values: Mapping[str, str], engine: Engine) -> Iterator[Fault]:
    for url in _entries(values, MIRRORS):
        problem = mirror_problem(url, engine.version) if isinstance(url, str) else "is no text"
        if problem:
            said = "write it as https://HOST or https://HOST:PORT"
            yield Fault(MIRRORS, f"{_quoted(url)} {problem}, and with that Docker does not start: {said}")


def _bad_insecure(values: Mapping[str, str], _: Engine) -> Iterator[Fault]:
    for entry in _entries(values, INSECURE):
        problem = insecure_problem(entry) if isinstance(entry, str) else "is no text"
        if problem:
            said = "write it as HOST, HOST:PORT or a network"
            yield Fault(INSECURE, f"{_quoted(entry)} {problem}, and with that Docker does not start: {said}")


def _entries(values: Mapping[str, str], key: str) -> list[object]:
    value = value_of(values.get(key, "[]"))
    return value if isinstance(value, list) else [] if value is None else [value]


def _quoted(value: object) -> str:
    return f'"{shown_url(value)}"' if isinstance(value, str) else "an entry"


# --- drivers ---------------------------------------------------------------------------------------------------------


def _bad_log_driver(values: Mapping[str, str], engine: Engine) -> Iterator[Fault]:
    name = _text(values, "log-driver")
    known = _LOG_DRIVERS | (engine.log_drivers or frozenset())
    if name and name not in known and not {"/", ":"} & set(name):
        listed = ", ".join(sorted(_LOG_DRIVERS - {"etwlogs"}))
        what = "is no log driver that this Docker has, and with that it does not start"
        yield Fault("log-driver", f'"{name}" {what}: use one of {listed}, or a plugin of `docker plugin ls`')


def _bad_log_opts(values: Mapping[str, str], _: Engine) -> Iterator[Fault]:
    driver = _text(values, "log-driver") or "json-file"
    allowed, given = _LOG_OPTS.get(driver), value_of(values.get("log-opts", "null"))
    if allowed is None or not isinstance(given, dict):
        return
    for name in given:
        if name not in allowed | _ANY_LOG_OPTS and not name.startswith("cache-"):
            listed = ", ".join(sorted(allowed))
            what = f"the log driver {driver} does not know, and with that Docker does not start"
            yield Fault("log-opts", f'"{name}" is an option that {what}: it knows {listed}')


def _bad_storage_driver(values: Mapping[str, str], engine: Engine) -> Iterator[Fault]:
    name, features = _text(values, "storage-driver"), value_of(values.get("features", "null"))
    chosen = isinstance(features, dict) and features.get("containerd-snapshotter") is True
    if not name or engine.containerd_store or chosen:
        return
    if engine.version >= _STORAGE_DRIVERS.get(name, (0, 0, 0)):
        listed = ", ".join(sorted(known for known, lost in _STORAGE_DRIVERS.items() if engine.version < lost))
        what = "is no storage driver that this Docker has, and with that it does not start"
        yield Fault("storage-driver", f'"{name}" {what}: use one of {listed}')


def _text(values: Mapping[str, str], key: str) -> str:
    value = value_of(values.get(key, "null"))
    return value if isinstance(value, str) else ""


_CHECKS = (_bad_mirrors, _bad_insecure, _bad_log_driver, _bad_log_opts, _bad_storage_driver)
