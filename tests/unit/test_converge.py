"""The whole cycle on real files: idempotent, gentle to what is foreign, and undone to the byte."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import converge, desired
from agent.errors import HostError
from agent.events import Event, Kind
from agent.ledger import Ledger
from agent.node import Places, RealHost
from agent.outcome import Outcome
from agent.plan import WriteFile
from tests import crash, trees

OURS = ("var", "run")
MEMORY = "/dev/shm"


@contextmanager
def machine(files: dict[str, str]) -> Iterator[Path]:
    """A throw-away root with these files and both runtimes' directories."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as name:
        root = Path(name)
        for directory in ("etc/containerd", "etc/docker", "run", "var/lib"):
            (root / directory).mkdir(parents=True)
        trees.lay(root, files)
        yield root


def run(root: Path, yaml: str) -> tuple[converge.CycleResult, list[Event]]:
    """One start of the agent: a fresh host, one converge."""
    events: list[Event] = []
    host = RealHost(Places(root=str(root)))
    host.sweep()
    result = converge.converge(desired.load(yaml.encode()), host, events.append, acts=True)
    return result, events


def revert(root: Path) -> converge.CycleResult:
    return converge.revert(desired.load(b"version: 1\n"), RealHost(Places(root=str(root))), lambda _: None)


class Counting(RealHost):
    """Notes the names of the files of each write."""

    batches: list[list[str]]

    def write_files(self, actions: Sequence[WriteFile]) -> tuple[HostError | None, ...]:
        self.batches.append([action.path.rpartition("/")[2] for action in actions])
        return super().write_files(actions)


def test_an_edit_waits_for_the_disk_once() -> None:
    """The files of all runtimes are written by one call, and only then looked at again."""
    yaml = "version: 1\nregistries: {docker.io: {mirrors: [https://m.example]}}\n"
    with machine({"etc/docker/daemon.json": "{}"}) as root:
        host = Counting(Places(root=str(root)))
        host.batches = []
        managed = yaml + "containerd: {manage: true}\ndocker: {manage: true}\n"
        converge.converge(desired.load(managed.encode()), host, lambda _: None, acts=True)
    assert host.batches == [["hosts.toml", "daemon.json"]]


foreign_machines = st.builds(
    lambda certs, daemon: certs | ({} if daemon is None else {"etc/docker/daemon.json": daemon}),
    trees.certs_d(),
    trees.daemon_json(),
)


@settings(max_examples=60, deadline=None)
@given(foreign_machines, trees.desired_yaml())
def test_a_second_converge_does_nothing(files: dict[str, str], yaml: str) -> None:
    """Invariant I3: no bug, no failure, and the second run makes not one call that touches the file system."""
    with machine(files) as root:
        result, events = run(root, yaml)
        is_refused = result.outcome is Outcome.CONFLICT  # somebody's daemon.json would stop Docker
        assert is_refused or result.outcome in {Outcome.CHANGED, Outcome.UNCHANGED}, [e.message for e in events]
        assert not [event.message for event in events if event.kind in {Kind.BUG, Kind.FAILED}]
        before = trees.snapshot(root)
        again, said = run(root, yaml)
        assert (again.outcome, said) == (Outcome.CONFLICT if is_refused else Outcome.UNCHANGED, [])
        assert trees.snapshot(root) == before


def test_a_second_converge_makes_no_write_call() -> None:
    """Counted at the wrapper over the system calls, not inferred from the result."""
    with machine({}) as root:
        run(root, SAMPLE)
        assert crash.list_writes(lambda: run(root, SAMPLE)) == []


@settings(max_examples=60, deadline=None)
@given(foreign_machines, st.lists(trees.desired_yaml(), min_size=1, max_size=3))
def test_revert_gives_the_machine_back_byte_for_byte(files: dict[str, str], yamls: list[str]) -> None:
    """Rule 6: whatever was desired in between, everything stands again as it stood before the agent came."""
    with machine(files) as root:
        before = trees.snapshot(root, without=OURS)
        for yaml in yamls:
            run(root, yaml)
        assert revert(root).outcome in {Outcome.CHANGED, Outcome.UNCHANGED}
        assert trees.snapshot(root, without=OURS) == before
        assert RealHost(Places(root=str(root))).ledger().entries == Ledger().entries


@settings(max_examples=40, deadline=None)
@given(foreign_machines, trees.desired_yaml(), trees.desired_yaml())
def test_the_way_there_does_not_matter(files: dict[str, str], first: str, second: str) -> None:
    """What is no longer desired is taken back: going through another state ends in the same tree."""
    with machine(files) as direct, machine(files) as detour:
        run(direct, second)
        run(detour, first)
        run(detour, second)
        assert _meaning(detour) == _meaning(direct)


def _meaning(root: Path) -> dict[str, object]:
    """The tree; of daemon.json what it says, since a key keeps the place where it first stood."""
    found: dict[str, object] = dict(trees.snapshot(root, without=OURS))
    path = root / "etc/docker/daemon.json"
    if path.exists():
        found["etc/docker/daemon.json"] = json.loads(path.read_bytes())
    return found


SAMPLE = """\
version: 1
registries:
  docker.io: {mirrors: [https://docker.m.daocloud.io]}
  ghcr.io: {mirrors: [https://ghcr.m.daocloud.io]}
  harbor.example.cn: {insecure: true}
containerd: {manage: true}
docker: {manage: true, settings: {log-driver: json-file}}
"""
BEFORE = {
    "etc/containerd/certs.d/ghcr.io/hosts.toml": 'server = "https://by.hand"\n\n[host."https://h"]\n',
    "etc/docker/daemon.json": '{\n  "data-root": "/data",\n  "registry-mirrors": ["https://old.example"]\n}\n',
}


SOAK = os.environ.get("MIRROR_AGENT_SOAK") == "1"
"""`make soak`: every call and 2,000 instants. The suite takes every ninth call and 100 instants."""


@pytest.mark.slow
def test_killed_at_every_call_the_next_start_converges() -> None:
    """Invariants I1 and I7: whatever system call is the last, every managed file is old or new, and the next start
    ends where an undisturbed one ends, with the same way back."""
    with machine(BEFORE) as root:
        calls = crash.count_calls(lambda: run(root, SAMPLE))
        goal = trees.snapshot(root, without=OURS)
    assert calls > 100
    for call in range(1, calls + 1, 1 if SOAK else 9):
        _dies_and_starts_again(partial(crash.run_killed_at, call), goal)


@pytest.mark.slow
def test_killed_at_any_instant_the_next_start_converges() -> None:
    """The same, killed between and within the calls, as long as an undisturbed run takes."""
    with machine(BEFORE) as root:
        began = time.monotonic()
        run(root, SAMPLE)
        span = time.monotonic() - began
        goal = trees.snapshot(root, without=OURS)
    chance = random.Random(2026)
    killed = sum(
        _dies_and_starts_again(partial(crash.run_killed_after, chance.uniform(0.0, 1.2 * span)), goal)
        for _ in range(2000 if SOAK else 100)
    )
    assert killed > 50


def _dies_and_starts_again(die_in: Callable[[Callable[[], object]], bool], goal: dict[str, trees.Found]) -> bool:
    """Whether it died before it was through."""
    with machine(BEFORE) as root:
        before = trees.snapshot(root, without=OURS)
        died = die_in(lambda: run(root, SAMPLE))
        for name, found in trees.snapshot(root, without=OURS).items():
            if found.kind == "file" and ".mirror-agent" not in name:
                assert found in {before.get(name), goal.get(name)}, name
        run(root, SAMPLE)
        assert trees.snapshot(root, without=OURS) == goal
        revert(root)
        assert trees.snapshot(root, without=OURS) == before
    return died
