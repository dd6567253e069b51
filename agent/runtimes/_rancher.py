"""registries.yaml of k3s and RKE2: its tables are those of containerd's old config.toml, as YAML (rancher/wharfie)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from agent.host import HostReader
from agent.model import Registry, Regular
from agent.runtimes._legacy_adopt import Legacy, read_tables
from agent.runtimes._legacy_edit import MIRRORS, TLS
from agent.runtimes._legacy_tables import tables_for


def registries_yaml(host: HostReader, path: str) -> Legacy | None:
    """What the file says; None if it cannot be read as YAML. A missing one says nothing."""
    import yaml

    state = host.read(path)
    if not isinstance(state, Regular):
        return Legacy()
    try:
        document = yaml.safe_load(state.content)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return read_tables(document if isinstance(document, dict) else {}, path)


def said_in_yaml(registries: Iterable[Registry]) -> str:
    """The content that says the same as these entries of a desired state, on one line: JSON is YAML."""
    document: dict[str, Any] = {}
    for key, value in tables_for(registries, frozenset()).values:
        said = json.loads(value)
        if key.startswith(TLS):
            document.setdefault("configs", {})[key.removeprefix(TLS)] = {"tls": said}
        elif said["endpoint"]:
            document.setdefault("mirrors", {})[key.removeprefix(MIRRORS)] = said
    return json.dumps(document)
