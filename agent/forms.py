"""What a kept file looks like, for a person who has to find out where it stood."""

from __future__ import annotations

import json
import re
import tomllib

_HOST = re.compile(r"https?://(?:[^/?#]*@)?([\w.:\[\]-]+)(?:[/?#]|$)")
_DAEMON_JSON, _CONFIG_TOML, _HOSTS_TOML = "Docker's daemon.json", "containerd's config.toml", "a hosts.toml"


def form_of(content: bytes) -> str:
    """What content looks like, and nothing that may be secret; "" for nothing known."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return ""
    return _DAEMON_JSON if _is_object(text) else _toml(text)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _toml(text: str) -> str:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not {"plugins", "version", "imports", "disabled_plugins"}.isdisjoint(document):
        return _CONFIG_TOML
    if {"server", "host"}.isdisjoint(document):
        return ""
    host = _host_of(document.get("server"))
    return f"{_HOSTS_TOML} for {host}" if host else _HOSTS_TOML


def _host_of(server: object) -> str:
    """Never with a password, which an URL can have."""
    found = _HOST.match(server) if isinstance(server, str) else None
    return found[1] if found else ""
