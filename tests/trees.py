"""Snapshots of a tree, and random machines: foreign files, daemon.json, and desired states to go with them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

REGISTRIES = ("docker.io", "ghcr.io", "quay.io", "registry.lan:5000", "harbor.example.cn", "_default")
MIRRORS = ("https://docker.m.daocloud.io", "https://m.example.cn", "http://10.0.0.1:5000", "https://mirror.lan:8443")


@dataclass(frozen=True)
class Found:
    """What stood at one path: a kind, its mode, and its content or where it leads."""

    kind: str
    mode: int
    content: bytes = b""


def snapshot(root: Path, *, without: tuple[str, ...] = ()) -> dict[str, Found]:
    """Every file, directory and link below `root`, by path; subtrees in `without` left out."""
    found = {}
    for directory, names, files in os.walk(root):
        here = Path(directory)
        names[:] = [name for name in names if str((here / name).relative_to(root)) not in without]
        for name in (*names, *files):
            found[str((here / name).relative_to(root))] = _look(here / name)
    return found


def _look(path: Path) -> Found:
    mode = path.lstat().st_mode & 0o7777
    if path.is_symlink():
        return Found("link", mode, os.fsencode(path.readlink()))
    if path.is_dir():
        return Found("directory", mode)
    return Found("file", mode, path.read_bytes())


def lay(root: Path, files: dict[str, str]) -> None:
    """Write files below `root`, making their directories."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


# --- random machines -------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(["data-root", "storage-driver", "log-driver", "log-opts", "labels", "runtimes", "dns", "bip"])
_SETTINGS = {"log-driver": "json-file", "log-opts": {"max-size": "500m"}, "data-root": "/data", "debug": True}
_MIRROR_LISTS = st.lists(st.sampled_from(MIRRORS), unique=True, max_size=3)


@st.composite
def daemon_json(draw: st.DrawFn) -> str | None:
    """No file, or an object in one of several layouts, with and without the keys that we manage."""
    if draw(st.booleans()):
        return None
    members: dict[str, object] = draw(st.dictionaries(_KEYS, _JSON, max_size=4))
    if draw(st.booleans()):
        members["registry-mirrors"] = draw(_MIRROR_LISTS)
    if draw(st.booleans()):
        members["insecure-registries"] = draw(
            st.lists(st.sampled_from(["a.lan", "10.0.0.0/8", "b.lan:5000"]), unique=True)
        )
    indent = draw(st.sampled_from([None, 2, 4, "\t"]))
    return json.dumps(members, indent=indent, ensure_ascii=draw(st.booleans())) + draw(st.sampled_from(["", "\n"]))


@st.composite
def certs_d(draw: st.DrawFn) -> dict[str, str]:
    """Foreign registry directories: hosts.toml by hand, certificates, port in either spelling."""
    files = {}
    for name in draw(st.lists(st.sampled_from([*REGISTRIES, "other.example"]), unique=True, max_size=4)):
        directory = draw(st.sampled_from([name, name.replace(":", "_") + "_" if ":" in name else name]))
        if draw(st.booleans()):
            files[f"etc/containerd/certs.d/{directory}/hosts.toml"] = (
                'server = "https://by.hand"\n\n[host."https://h"]\n'
            )
        if draw(st.booleans()):
            files[f"etc/containerd/certs.d/{directory}/ca.crt"] = (
                "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
            )
    return files


@st.composite
def desired_yaml(draw: st.DrawFn) -> str:
    """A valid desired state for a machine without running daemons."""
    registries: dict[str, object] = {}
    for name in draw(st.lists(st.sampled_from(REGISTRIES), unique=True, max_size=5)):
        mirrors = draw(_MIRROR_LISTS)
        options: dict[str, object] = {"mirrors": mirrors} if mirrors else {}
        if mirrors and draw(st.booleans()):
            options["fallback"] = False
        if name != "_default" and (not options or draw(st.booleans())):
            options["insecure"] = True
        if options:
            registries[name] = options
    settings = draw(st.fixed_dictionaries({}, optional={key: st.just(value) for key, value in _SETTINGS.items()}))
    state = {
        "version": 1,
        "registries": registries,
        "containerd": {"manage": draw(st.sampled_from([True, False]))},
        "docker": {"manage": draw(st.sampled_from([True, False])), "settings": settings},
    }
    return json.dumps(state)
