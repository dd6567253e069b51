"""What the running Docker says: `GET /info`, and the reloads in `GET /events`. Read defensively: an answer without the
parts that matter counts as no answer, a part that is merely odd counts as absent.

Sources: moby api/swagger.yaml (SystemInfo, EventMessage), registry/config.go, measured on 20.10.5, 20.10.24, 26.1.5,
28.5.2: mirrors carry a trailing slash; an empty list is `[]` up to 20.10 and null from 23.0 on; loopback networks are
always listed; insecure hosts are index entries that are not secure, their scheme stripped.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Any

SOCKET = "/run/docker.sock"
_LOOPBACK = frozenset({"127.0.0.0/8", "::1/128"})
_CONTAINERD_STORE = "io.containerd.snapshotter.v1"
_VERSION = re.compile(r"(\d+)\.\d+(?:\.\d+)?")
_RELOAD_FILTER = "%7B%22type%22%3A%5B%22daemon%22%5D%2C%22event%22%3A%5B%22reload%22%5D%7D"


@dataclass(frozen=True, slots=True)
class Info:
    """The facts of one answer. `mirrors` as Docker lists them, without the slash that it appends; `insecure` in the
    spelling of `insecure_name`; `settings` are top-level keys of daemon.json whose running value the answer tells;
    `log_drivers` are the built-in ones and the plugins, None if the answer does not tell."""

    version: str
    mirrors: tuple[str, ...] = ()
    insecure: frozenset[str] = frozenset()
    settings: tuple[tuple[str, str], ...] = ()
    live_restore: bool = False
    running_containers: int = 0
    containerd_store: bool = False
    in_swarm: bool = False
    log_drivers: frozenset[str] | None = None

    @property
    def major(self) -> int:
        """The first number of the version, 0 if it has none."""
        match = _VERSION.match(self.version)
        return int(match[1]) if match else 0


def parse_info(body: bytes | None) -> Info | None:
    """Read the answer to GET /info; None if it is none that tells the registry configuration."""
    document = _json(body or b"")
    registries = document.get("RegistryConfig") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(registries, dict):
        return None
    return Info(
        version=_version(document.get("ServerVersion")),
        mirrors=tuple(url.removesuffix("/") for url in _strings(registries.get("Mirrors"))),
        insecure=_insecure(registries),
        settings=_settings(document),
        live_restore=document.get("LiveRestoreEnabled") is True,
        running_containers=_count(document.get("ContainersRunning")),
        containerd_store=_uses_containerd_store(document.get("DriverStatus")),
        in_swarm=_swarm_state(document.get("Swarm")) not in {"", "inactive"},
        log_drivers=_log_drivers(document.get("Plugins")),
    )


def insecure_name(entry: str) -> str:
    """One spelling for an insecure registry as the file may write it and Docker shows it: without scheme, lower case,
    a network by its own address. Source: moby registry/config.go loadInsecureRegistries."""
    name = re.sub(r"^https?://", "", entry, flags=re.IGNORECASE).lower()
    if "/" not in name:
        return name
    try:
        return str(ipaddress.ip_network(name, strict=False))
    except ValueError:
        return name


def reloads_target(since: float, until: float) -> str:
    """What to GET for the reloads in a span of time (Unix seconds). It answers at once if the span is past."""
    return f"/events?since={since:.6f}&until={until:.6f}&filters={_RELOAD_FILTER}"


def parse_reloads(body: bytes | None) -> tuple[float, ...]:
    """When the daemon reloaded its configuration, in Unix seconds. A reload that failed makes no event."""
    events = [_json(line) for line in (body or b"").splitlines()]
    return tuple(_event_time(event) for event in events if isinstance(event, dict) and _is_reload(event))


def _is_reload(event: dict[str, Any]) -> bool:
    return event.get("Type") == "daemon" and event.get("Action") == "reload"


def _event_time(event: dict[str, Any]) -> float:
    nanoseconds = _count(event.get("timeNano"))
    return nanoseconds / 1e9 if nanoseconds else float(_count(event.get("time")))


def _json(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _version(value: object) -> str:
    """`26.1.5` of `26.1.5+dfsg1`."""
    match = _VERSION.match(value) if isinstance(value, str) else None
    return match[0] if match else ""


def _insecure(registries: dict[str, Any]) -> frozenset[str]:
    networks = set(_strings(registries.get("InsecureRegistryCIDRs"))) - _LOOPBACK
    indexes = registries.get("IndexConfigs")
    entries = indexes.items() if isinstance(indexes, dict) else ()
    hosts = {name for name, index in entries if isinstance(index, dict) and index.get("Secure") is False}
    return frozenset(insecure_name(entry) for entry in networks | hosts)


def _settings(document: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, object]] = []
    for key, name in (("debug", "Debug"), ("live-restore", "LiveRestoreEnabled")):
        if isinstance(document.get(name), bool):
            found.append((key, document[name]))
    if isinstance(document.get("LoggingDriver"), str):
        found.append(("log-driver", document["LoggingDriver"]))
    if "Labels" in document:
        found.append(("labels", _strings(document["Labels"])))
    return tuple((key, json.dumps(value, ensure_ascii=False, separators=(",", ":"))) for key, value in found)


def _uses_containerd_store(value: object) -> bool:
    rows = value if isinstance(value, list) else []
    return any(isinstance(row, list) and _CONTAINERD_STORE in row for row in rows)


def _log_drivers(plugins: object) -> frozenset[str] | None:
    names = frozenset(_strings(plugins.get("Log"))) if isinstance(plugins, dict) else frozenset()
    return names or None


def _swarm_state(value: object) -> str:
    state = value.get("LocalNodeState") if isinstance(value, dict) else ""
    return state if isinstance(state, str) else ""


def _strings(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
