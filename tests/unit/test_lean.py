"""What a process of ours loads: the memory and the time that every node pays."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

_NEVER = ("_hashlib", "bz2", "difflib", "importlib.metadata", "lzma", "pydantic_settings", "tomlkit", "zipfile")
"""Of libraries that we use, or for mistakes and reports alone. The daemon is loaded without them, and so is a no-op."""

_FOR_OTHERS = ("catalogue", "health", "image", "keeper", "route", "runtimes._docker_report", "watch")
"""Of ours: what an `apply` that has nothing to do, of a desired state without presets, does not need."""

_APPLY = """\
import json, sys
sys.path[0:0] = [{repository!r}, {packages!r}]
from agent.cli import main
sys.argv = ["mirror-agent", "--root", {root!r}, "apply"]
assert main() == 0
import hashlib
print(json.dumps([[name for name, module in sys.modules.items() if module], hashlib.sha256(b"").hexdigest()[:8]]))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with one mirror for containerd, converged."""
    (tmp_path / "etc/containerd").mkdir(parents=True)
    config = tmp_path / "etc/mirror-agent.yaml"
    config.write_text("version: 1\ncontainerd: {manage: true}\nregistries: {ghcr.io: {mirrors: [https://m.example]}}\n")
    config.chmod(0o640)
    return tmp_path


def _applied(root: Path, packages: Path | None = None) -> tuple[list[str], str]:
    """The modules of an `apply` in a process of its own, and what its SHA-256 makes of nothing."""
    program = _APPLY.format(repository=str(REPOSITORY), root=str(root), packages=str(packages or REPOSITORY))
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    modules, digest = json.loads(done.stdout.splitlines()[-1])
    return modules, digest


def test_no_plugin_of_another_package_is_loaded(root: Path, tmp_path: Path) -> None:
    """A package that offers pydantic a plugin gets no say in a process of root."""
    entry_points = tmp_path / "site/nosy-1.0.dist-info/entry_points.txt"
    entry_points.parent.mkdir(parents=True)
    entry_points.write_text("[pydantic]\nnosy = nosy:plugin\n")
    (entry_points.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: nosy\nVersion: 1.0\n")
    (tmp_path / "site/nosy.py").write_text("raise SystemExit('loaded')\n")
    modules, _ = _applied(root, tmp_path / "site")
    assert "nosy" not in modules


def test_a_process_loads_what_it_needs(root: Path) -> None:
    """Neither OpenSSL nor watchdog nor what only the daemon, mistakes or reports need is in an `apply` that has nothing
    to do, and SHA-256 is what it was."""
    _applied(root)
    modules, digest = _applied(root)
    never = {*_NEVER, *(f"agent.{name}" for name in _FOR_OTHERS), "logging", "systemd.daemon", "watchdog"}
    never -= set() if _has_own_sha256() else {"_hashlib"}
    assert (never & set(modules), digest) == (set(), "e3b0c442")


def _has_own_sha256() -> bool:
    """Fedora and RHEL build Python without it."""
    return any(importlib.util.find_spec(name) for name in ("_sha2", "_sha256"))
