"""What a process of ours loads: the memory and the time that every node pays."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

_NEVER = ("_hashlib", "difflib", "email", "importlib.metadata", "pydantic_settings", "tempfile", "zipfile")
"""Of libraries that we use, or for mistakes and reports alone. The daemon is loaded without them, and so is a no-op."""

_APPLY = """\
import json, sys
sys.path.insert(0, {repository!r})
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


def test_a_process_loads_what_it_needs(root: Path) -> None:
    """Neither OpenSSL nor plugins of other packages nor watchdog are in an `apply`, and SHA-256 is what it was."""
    program = _APPLY.format(repository=str(REPOSITORY), root=str(root))
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    modules, digest = json.loads(done.stdout.splitlines()[-1])
    never = {*_NEVER, "watchdog", "agent.watch"} - (set() if _has_own_sha256() else {"_hashlib"})
    assert (never & set(modules), digest) == (set(), "e3b0c442")


def _has_own_sha256() -> bool:
    """Fedora and RHEL build Python without it."""
    return any(importlib.util.find_spec(name) for name in ("_sha2", "_sha256"))
