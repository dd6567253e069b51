"""What containerd's config.toml says about certs.d. Reads versions 1 to 4 of the file, and what `config dump` prints.

| file | where `config_path` stands | read by |
|---|---|---|
| no version, or 1 | `[plugins.cri.registry]` | 1.x, 2.3; not 2.0 to 2.2 |
| 2 | `[plugins."io.containerd.grpc.v1.cri".registry]` | all; 2.x reads the table of version 3 too |
| 3, 4 | `[plugins."io.containerd.cri.v1.images".registry]` | 2.0, 2.3 and later |

Source: containerd cmd/containerd/server/config/config.go, plugins/cri, internal/cri/config @ v1.5 … v2.3.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.runtimes import _toml

Version = tuple[int, int, int]

_OLDEST_2: Version = (2, 0, 0)
_READS_VERSION_1_AGAIN: Version = (2, 3, 0)
_V1_TABLE = "cri"
_V2_TABLE = "io.containerd.grpc.v1.cri"
_V3_TABLE = "io.containerd.cri.v1.images"
_CRI_PLUGINS = frozenset({_V1_TABLE, _V2_TABLE, _V3_TABLE, "io.containerd.cri.v1.runtime"})
_HEADINGS = {
    1: "[plugins.cri.registry]",
    2: f'[plugins."{_V2_TABLE}".registry]',
    3: f'[plugins."{_V3_TABLE}".registry]',
}

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CriConfig:
    """The part of the configuration that decides whether certs.d is read.

    `config_path` is "" where it is not set; `pulls_locally` tells the one way of pulling in which containerd 2.1 and
    later understand a list of directories there (internal/cri/config CheckLocalImagePullConfigs).
    """

    file_version: int = 1
    config_path: str = ""
    is_cri_disabled: bool = False
    has_mirrors: bool = False
    has_tls: bool = False
    pulls_locally: bool = False
    has_imports: bool = False

    @property
    def heading(self) -> str:
        """The table in which `config_path` belongs, in this version of the file."""
        return _HEADINGS[min(max(self.file_version, 1), 3)]


def parse_version(output: str) -> Version | None:
    """The version in what `containerd --version` prints: `containerd github.com/containerd/containerd 1.7.24~ds1 …`."""
    match = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)", output)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def read_config(content: str, version: Version | None) -> CriConfig:
    """What a config.toml means to containerd `version` (None: unknown, then to any). Raises ValueError if it is no
    TOML."""
    document = _toml.loads(content)
    file_version = document.get("version", 1)
    file_version = file_version if isinstance(file_version, int) else 1
    tables = [_table(document, "plugins", name) for name in _names(file_version, version)]
    registries = [_table(table, "registry") for table in tables]
    paths = [path for table in registries if isinstance(path := table.get("config_path"), str) and path]
    disabled = document.get("disabled_plugins")
    return CriConfig(
        file_version=file_version,
        config_path=paths[0] if paths else "",
        is_cri_disabled=isinstance(disabled, list) and any(name in _CRI_PLUGINS for name in disabled),
        has_mirrors=any(_table(table, "mirrors") for table in registries),
        has_tls=any(_table(each, "tls") for table in registries for each in _tables(table, "configs")),
        pulls_locally=any(_pulls_locally(table) for table in tables),
        has_imports=bool(document.get("imports")),
    )


def locations(file_version: int, version: Version | None) -> tuple[tuple[str, ...], ...]:
    """The registry tables that count in a file of this version, as the keys that lead there; the first wins. () where
    containerd `version` reads none of them."""
    return tuple(("plugins", name, "registry") for name in _names(file_version, version))


def imports_of(content: str) -> tuple[str, ...]:
    """The files that a config.toml imports, as it writes them. Raises ValueError if it is no TOML."""
    found = _toml.loads(content).get("imports")
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def cri_tables(content: str) -> tuple[Table, ...]:
    """The tables of a file that configure CRI, of any version. Raises ValueError if it is no TOML."""
    document = _toml.loads(content)
    return tuple(table for name in (_V1_TABLE, _V2_TABLE, _V3_TABLE) if (table := _table(document, "plugins", name)))


def shape(dump: str) -> str:
    """A digest of all that a merged configuration says but for how registries are reached: config_path, the mirrors
    and tls tables that it replaces, and empty tables. Raises ValueError if it is no TOML."""
    document = _toml.loads(dump)
    for name in (_V1_TABLE, _V2_TABLE, _V3_TABLE):
        registry = _table(document, "plugins", name, "registry")
        for key in ("config_path", "mirrors"):
            registry.pop(key, None)
        for each in _tables(registry, "configs"):
            each.pop("tls", None)
    return hashlib.sha256(json.dumps(without_empty(document), sort_keys=True, default=str).encode()).hexdigest()


def without_empty(value: Any) -> Any:  # noqa: ANN401 -- any TOML value
    """A TOML value without its empty tables, which mean nothing to containerd."""
    if not isinstance(value, dict):
        return value
    inner = {key: without_empty(each) for key, each in value.items()}
    return {key: each for key, each in inner.items() if each != {}}


def _names(file_version: int, version: Version | None) -> Iterator[str]:
    """The plugin tables that count, the first wins."""
    is_2 = version is None or version >= _OLDEST_2
    if file_version >= 3:
        yield _V3_TABLE
    elif file_version == 2:
        yield _V2_TABLE
        if is_2:
            yield _V3_TABLE
    elif version is None or not is_2 or version >= _READS_VERSION_1_AGAIN:
        yield _V1_TABLE


def _pulls_locally(table: Table) -> bool:
    inner = {**_table(table, "containerd"), **table}
    registry = _table(table, "registry")
    return (
        any(inner.get(key) is True for key in ("use_local_image_pull", "discard_unpacked_layers"))
        or inner.get("image_pull_with_sync_fs") is True
        or inner.get("disable_snapshot_annotations") is False
        or inner.get("max_concurrent_downloads", 3) != 3
        or any(_table(registry, key) for key in ("mirrors", "configs", "auths"))
    )


def _tables(document: Table, key: str) -> tuple[Table, ...]:
    return tuple(each for each in _table(document, key).values() if isinstance(each, dict))


def _table(document: Table, *keys: str) -> Table:
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
