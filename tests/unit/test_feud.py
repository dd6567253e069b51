"""Drift wars, with a clock of our own: what is put back, how often, and when it ends."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.feud import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, REVERTS, WINDOW_SECONDS, Feuds, decode
from agent.model import Absent, FileState, Regular
from agent.plan import (
    Claim,
    Contention,
    Deferred,
    MakeDirectory,
    Memory,
    Plan,
    Recover,
    Release,
    Reload,
    RemoveFile,
    Restart,
    WriteFile,
)

PATH = "/etc/docker/daemon.json"
OURS, THEIRS = b'{"ours": 1}', b'{"theirs": 1}'
RELOAD = Reload("docker.service", "mirrors", "a", Memory())
RESTART = Restart("docker.service", "log-driver", Memory())
RECOVER = Recover("docker.service", "was up", Memory())


def write(found: FileState, content: bytes = OURS, path: str = PATH, registry: str = "") -> WriteFile:
    return WriteFile(path, content, "somebody changed it", found, registry=registry)


class World:
    """One file, somebody who changes it when told, and an agent that goes by its feuds."""

    def __init__(self, generation: str = "g1") -> None:
        self.feuds = Feuds()
        self.feuds.begin(generation)
        self.now = 1_000_000.0
        self.file: FileState = Regular(THEIRS)
        self.writes: list[float] = []
        self.look()

    def plan(self) -> Plan:
        """What a runtime would plan."""
        actions = () if self.file == Regular(OURS) else (write(self.file), RELOAD)
        return Plan("docker", actions)

    def look(self) -> Plan:
        """One cycle: plan, do, plan again."""
        plan = self.feuds.restrain(self.plan(), self.now)
        for action in plan.file_actions:
            assert isinstance(action, WriteFile)
            self.file = Regular(OURS)
            self.writes.append(self.now)
            self.feuds.done("docker", action, self.now, lambda _: False)
        return self.feuds.restrain(self.plan(), self.now)

    def war(self, seconds: float, every: float = 1.0) -> None:
        """Somebody changes the file all the time; each change is looked at."""
        ends = self.now + seconds
        while self.now < ends:
            self.file = Regular(THEIRS)
            self.look()
            self.now += every


def test_the_first_changes_are_put_back_at_once() -> None:
    """Four times within ten minutes is no war, and the first write of a desired state is no change of somebody else."""
    world = World()
    world.war(REVERTS - 1)
    assert (len(world.writes), world.feuds.contended) == (REVERTS, frozenset())


def test_the_fifth_makes_it_contended() -> None:
    """It is still put back, and the next time waits."""
    world = World()
    world.war(REVERTS)
    assert (len(world.writes), world.feuds.contended) == (1 + REVERTS, {PATH})
    world.file = Regular(THEIRS)
    until = 1_000_000.0 + REVERTS - 1 + FIRST_WAIT_SECONDS
    assert world.look() == Plan("docker", contentions=(Contention(PATH, "docker", "", until),))


def test_a_day_of_war_is_a_bounded_number_of_writes() -> None:
    """Ever more rarely, at last once in ten minutes: 150 writes where there were 86,400 changes."""
    world = World()
    world.war(86_400.0)
    gaps = [
        later - earlier for earlier, later in zip(world.writes[REVERTS:], world.writes[REVERTS + 1 :], strict=False)
    ]
    assert gaps[:9] == [2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert set(gaps[9:]) == {LONGEST_WAIT_SECONDS}
    assert len(world.writes) < 160


def test_changes_far_apart_are_no_war() -> None:
    """One every three minutes is put back at once, for ever."""
    world = World()
    world.war(50 * 180.0, every=180.0)
    assert (len(world.writes), world.feuds.contended) == (51, frozenset())


def test_it_ends_when_nobody_has_changed_it_for_the_window() -> None:
    """Put back by the first look that may; contended for ten minutes more; then a change is put back at once again."""
    world = World()
    world.war(60.0)
    changed_at = world.now - 1.0
    world.now += LONGEST_WAIT_SECONDS
    (contention,) = world.look().contentions
    assert (world.file, contention.is_held) == (Regular(OURS), False)
    assert contention.until > changed_at + WINDOW_SECONDS
    world.now = contention.until - 1.0
    assert world.look().contentions == (contention,)
    world.now = contention.until
    assert (world.look(), world.feuds.contended) == (Plan("docker"), frozenset())
    world.file = Regular(THEIRS)
    world.look()
    assert world.file == Regular(OURS)


def test_a_new_desired_state_is_tried_at_once() -> None:
    """An edit is an operator at work."""
    world = World()
    world.war(60.0)
    world.file = Regular(THEIRS)
    world.feuds.begin("g1")
    assert world.look().contentions[0].is_held
    world.feuds.begin("g2")
    assert (world.look(), world.file) == (Plan("docker"), Regular(OURS))


def test_what_we_write_in_several_steps_is_no_change_of_somebody_else() -> None:
    """A trial and its rollback, an explicit empty list and its removal: each replaces what we left."""
    feuds = Feuds()
    feuds.begin("g1")
    found: FileState = Regular(THEIRS)
    for number in range(20):
        content = b"step %d" % number
        feuds.done("docker", write(found, content), 1.0, lambda _: False)
        found = Regular(content)
    feuds.done("docker", write(found, b"x"), 1.0, lambda _: False)
    feuds.done("docker", RemoveFile(PATH, "it goes", Regular(b"x")), 1.0, lambda _: False)
    feuds.done("docker", write(Absent(), b"new"), 1.0, lambda _: False)
    assert feuds.contended == frozenset()


@pytest.mark.parametrize("found", [Absent(), Regular(b""), Regular(OURS, 0o600)])
def test_a_file_removed_emptied_or_closed_to_others_is_changed_too(found: FileState) -> None:
    """Content and mode are both ours to keep."""
    feuds = Feuds()
    feuds.begin("g1")
    for _ in range(1 + REVERTS):
        feuds.done("docker", write(found), 1.0, lambda _: False)
    assert feuds.contended == {PATH}


def test_crossing_somebody_counts() -> None:
    """Whoever is so fast that we never get to write is at war too."""
    feuds = Feuds()
    feuds.begin("g1")
    for _ in range(REVERTS):
        feuds.crossed("docker", write(Regular(THEIRS)), 1.0, lambda _: False)
    assert feuds.contended == {PATH}


def at_war(path: str = PATH, registry: str = "", runtime: str = "docker") -> Feuds:
    feuds = Feuds()
    feuds.begin("g1")
    for _ in range(REVERTS):
        feuds.crossed(runtime, write(Regular(THEIRS), path=path, registry=registry), 1.0, lambda _: False)
    feuds.restrain(Plan(runtime), 1.0)
    return feuds


def test_what_belongs_to_a_held_file_waits_with_it() -> None:
    """Its claim, its release, what is remembered about the daemon, its reload; a restart is visible as deferred."""
    other = write(Absent(), path="/etc/docker/certs.d/x/hosts.toml", registry="x")
    plan = Plan(
        "docker",
        actions=(MakeDirectory("/etc/docker/certs.d/x", "y"), other, write(Regular(THEIRS)), RELOAD, RESTART),
        claims=(Claim(PATH, Absent()), Claim(other.path, Absent())),
        releases=(Release(PATH), Release("/z")),
        remember=Memory("i1"),
    )
    assert at_war().restrain(plan, 1.5) == Plan(
        "docker",
        actions=(MakeDirectory("/etc/docker/certs.d/x", "y"), other),
        claims=(Claim(other.path, Absent()),),
        releases=(Release("/z"),),
        deferred=(Deferred(RESTART, f"somebody else keeps changing {PATH}", None),),
        contentions=(Contention(PATH, "docker", "", 1.0 + FIRST_WAIT_SECONDS),),
    )


def test_a_held_hosts_toml_holds_nothing_else() -> None:
    """Its directory is not made for it; other registries converge, and what is remembered is remembered."""
    path, other = "/etc/containerd/certs.d/a/hosts.toml", "/etc/containerd/certs.d/b/hosts.toml"
    held = (MakeDirectory("/etc/containerd/certs.d/a", "y", registry="a"), write(Absent(), path=path, registry="a"))
    kept = write(Absent(), path=other, registry="b")
    plan = Plan("containerd", actions=(*held, kept), remember=Memory("i1"))
    found = at_war(path, "a", "containerd").restrain(plan, 1.5)
    assert (found.actions, found.remember, [each.path for each in found.contentions]) == (
        (kept,),
        Memory("i1"),
        [path],
    )


def test_no_restart_while_a_file_is_contended_and_a_reload_for_each_time_it_is_put_back() -> None:
    """When its turn has come, the file is written and the daemon told; a restart waits for peace."""
    plan = Plan("docker", actions=(write(Regular(THEIRS)), RELOAD, RESTART))
    found = at_war().restrain(plan, 1.0 + FIRST_WAIT_SECONDS)
    assert found.actions == (write(Regular(THEIRS)), RELOAD)
    assert [deferred.act for deferred in found.deferred] == [RESTART]
    assert [each.is_held for each in found.contentions] == [False]


def test_a_daemon_that_we_ended_is_helped_up_whatever_happens() -> None:
    """A rollback is not held up by anybody's war."""
    plan = Plan("docker", actions=(write(Regular(THEIRS)), RECOVER))
    assert at_war().restrain(plan, 1.5).actions == plan.actions


def test_the_other_runtime_is_not_concerned() -> None:
    """A war over daemon.json is none over containerd."""
    plan = Plan("containerd", actions=(replace(RESTART, unit="containerd.service"),))
    assert at_war().restrain(plan, 1.5) == plan


def test_a_war_survives_a_restart_of_the_agent() -> None:
    """What is contended is kept, with its wait; nothing else is."""
    feuds = at_war()
    known = decode(feuds.encode(), 1.5)
    known.begin("g1")
    plan = Plan("docker", actions=(write(Regular(THEIRS)),))
    assert known.restrain(plan, 1.5) == Plan(
        "docker", contentions=(Contention(PATH, "docker", "", 1.0 + FIRST_WAIT_SECONDS),)
    )
    assert known.encode() == feuds.encode()
    known.begin("g2")
    assert (known.encode(), Feuds().encode()) == (b"", b"")


@given(st.binary(max_size=80) | st.sampled_from([b"{}", b'{"feuds": [{}], "generation": "g"}', b'{"feuds": 1}']))
def test_a_damaged_memory_means_peace(data: bytes) -> None:
    """No bytes at all keep the agent from starting."""
    assert decode(data, 1.0).contended == frozenset()


@pytest.fixture(scope="module")
def after_an_hour() -> World:
    """A world with an hour of war behind it; not to be changed."""
    world = World()
    world.war(3_600.0)
    return world


@given(jump=st.floats(-1e9, 1e9))
def test_no_jump_of_the_clock_holds_a_file_for_longer_than_ever(after_an_hour: World, jump: float) -> None:
    """Set back or forward: from then on it is put back within the longest wait."""
    world = copy.deepcopy(after_an_hour)
    world.now += jump
    world.file = Regular(THEIRS)
    world.look()
    world.now += LONGEST_WAIT_SECONDS + 1.0
    world.look()
    assert world.file == Regular(OURS)
