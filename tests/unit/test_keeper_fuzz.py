"""Mutated desired states on a whole machine: invalid ones change nothing, valid ones write only where they may.

The audit hook sees every open, rename, mkdir and remove of this process, so "nothing was written" is observed, not
concluded from what the files look like afterwards.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.keeper import Keeper
from agent.node import Places, RealHost
from tests import trees
from tests.disk import quick_directory
from tests.unit.test_desired_fuzz import mutants

SOAK = os.environ.get("MIRROR_AGENT_SOAK") == "1"
COUNT = 100_000 if SOAK else 3_000
ALLOWED = ("etc/containerd/", "etc/docker/", "var/lib/mirror-agent/", "run/mirror-agent/")
WRITES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.truncate",
}


class Watch:
    """Counts what touches a file system while it is on; an audit hook cannot be removed, so there is one."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event in WRITES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & 0o3):
            self.seen.append(f"{event} {arguments[0]!r}")


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture
def root() -> Iterator[Path]:
    with quick_directory() as directory:
        trees.lay(
            directory,
            {
                "etc/docker/daemon.json": '{"data-root": "/data"}\n',
                "etc/containerd/certs.d/quay.io/hosts.toml": 'server = "https://by.hand"\n\n[host."https://h"]\n',
                "usr/bin/containerd": "",
                "usr/bin/dockerd": "",
                "outside/canary": "as it was",
            },
        )
        yield directory


@pytest.mark.slow
def test_mutants_on_a_whole_machine(root: Path, watch: Watch) -> None:
    """Whatever the file says: no exception, no write while it is invalid, none outside the allowed directories."""
    path = root / "etc/mirror-agent.yaml"
    host = RealHost(Places(root=str(root)))
    events: list[object] = []
    keeper = Keeper(host, "/etc/mirror-agent.yaml", events.append, owner=os.geteuid())
    keeper.start()
    keeper.look(acts=True)
    valid = 0
    for data in mutants(7, COUNT):
        path.write_bytes(data)
        path.chmod(0o640)
        watch.seen.clear()
        watch.on = True
        keeper.look(acts=True)
        watch.on = False
        if keeper.rejected is None:
            valid += 1
        else:
            assert watch.seen == [], data
        events.clear()
    assert COUNT // 50 < valid < COUNT
    assert _outside(root) == []
    assert (root / "outside/canary").read_text() == "as it was"


def _outside(root: Path) -> list[str]:
    """Files in places where nobody said that there should be any."""
    expected = {"etc/mirror-agent.yaml", "usr/bin/containerd", "usr/bin/dockerd", "outside/canary"}
    found = {name for name, what in trees.snapshot(root).items() if what.kind != "directory"}
    return sorted(name for name in found - expected if not name.startswith(ALLOWED))
