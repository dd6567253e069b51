"""Drift wars that are slow and cost a restart each: cron, a configuration manager, a nightly job. The first two are
undone with a restart, from the third on the file alone is put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from agent import converge, status
from agent.events import Event, Kind
from agent.feud import RESTARTS, RESTARTS_WINDOW_SECONDS, Feuds, decode
from agent.keeper import Keeper
from agent.model import DesiredState, RestartWindow
from agent.node import RealHost
from agent.outcome import Outcome, RuntimeResult
from agent.plan import Contention, Restart
from tests.containerd_unit import CONFIG, ContainerdHost
from tests.docker_plans import A, desired, settings
from tests.dockerd import DAEMON_JSON, DockerHost
from tests.kept_host import KeptHost
from tests.unit.test_containerd_bringup import DEBIAN, DESIRED
from tests.unit.test_containerd_bringup import machine as containerd_machine

LOCAL = desired(docker=settings(log_driver="local"))
DAY = 86400.0


@dataclass
class War:
    """A node, an agent that remembers, and somebody who changes something back."""

    host: DockerHost | ContainerdHost
    state: DesiredState
    strike: Callable[[], None]
    runtime: int
    feuds: Feuds = field(default_factory=Feuds)

    def look(self) -> RuntimeResult:
        result = converge.converge(self.state, self.host, lambda _: None, acts=True, feuds=self.feuds)
        return result.runtimes[self.runtime]

    def round(self, seconds: float) -> RuntimeResult:
        """Somebody strikes, it is looked at at once, and again after a while."""
        self.strike()
        self.look()
        self.host.pause(seconds)
        return self.look()

    def rest(self, seconds: float) -> RuntimeResult:
        self.host.pause(seconds)
        return self.look()

    @property
    def restarts(self) -> int:
        return sum(entry.startswith("restart") for entry in self.host.log)


def docker_war(*, restarts: bool = True) -> War:
    """Somebody writes another log-driver, and restarts Docker with it or does not."""
    host = DockerHost()
    host.edit({"dns": ["1.1.1.1"]})
    host.start()
    host.tick(100.0)

    def strike() -> None:
        host.edit({"log-driver": "json-file"})
        if restarts:
            host.start()

    return at_peace(War(host, LOCAL, strike, 1))


def containerd_war() -> War:
    """Somebody writes config.toml anew, as its own template has it, and restarts containerd."""
    host = containerd_machine()

    def strike() -> None:
        host.put(CONFIG, DEBIAN)
        host.start()

    return at_peace(War(host, DESIRED, strike, 0))


def at_peace(war: War) -> War:
    war.look()
    war.rest(700.0)
    war.host.log.clear()
    return war


WARS = {"docker": docker_war, "containerd": containerd_war}


@pytest.mark.parametrize("runtime", WARS)
@pytest.mark.parametrize("every", [160.0, 400.0, 1800.0, 6 * 3600.0, DAY])
def test_two_restarts_and_no_more(runtime: str, every: float) -> None:
    """However slow it is, up to once a day: the file is put back each time, the runtime is restarted twice."""
    war = WARS[runtime]()
    for _ in range(10):
        result = war.round(every)
    path = DAEMON_JSON if runtime == "docker" else CONFIG
    assert (war.restarts, war.host.log.count(f"write {path}")) == (RESTARTS - 1, 10)
    assert (result.outcome, [each.path for each in result.contentions]) == (Outcome.CONTENDED, [path])


def test_it_says_who_and_why_and_what_to_do() -> None:
    """The restart is deferred without a date, in one sentence that stays the same; the contention says when it ends."""
    war = docker_war()
    for _ in range(RESTARTS):
        began = war.host.clock.unix_seconds
        result = war.round(1800.0)
    (deferred,) = result.deferred
    assert (type(deferred.act), deferred.retry_after_seconds) == (Restart, None)
    assert deferred.reason == (
        "somebody else has changed /etc/docker/daemon.json 3 times within 3 days, and each time it takes a restart to"
        " undo it: settle who writes it, then edit the desired state, or restart docker yourself"
    )
    (contention,) = result.contentions
    expected = Contention(DAEMON_JSON, "docker", "", contention.until, is_held=False, takes_restarts=True)
    assert contention == expected
    assert 0.0 < contention.until - RESTARTS_WINDOW_SECONDS - began < 60.0
    (again,) = war.round(1800.0).deferred
    assert (again.reason, again.act.reason) == (deferred.reason, deferred.act.reason)


def test_somebody_who_does_not_restart_it_costs_nothing() -> None:
    """The running Docker has never read what they wrote: the file is put back, for ever."""
    war = docker_war(restarts=False)
    for _ in range(10):
        assert war.round(1800.0).contentions == ()
    assert (war.restarts, war.feuds.encode()) == (0, b"")


def test_a_mirror_that_is_reloaded_costs_nothing() -> None:
    """What a reload brings back is brought back for ever."""
    host = DockerHost()
    host.edit({})
    host.start()
    war = at_peace(War(host, desired(A), lambda: host.edit({"registry-mirrors": ["https://theirs.example"]}), 1))
    for _ in range(10):
        war.round(1800.0)
    assert (war.restarts, host.running["registry-mirrors"], war.feuds.encode()) == (0, [A], b"")


def test_an_edit_of_the_desired_state_ends_it() -> None:
    """A person has looked at it: one restart, and it counts from nothing again."""
    war = docker_war()
    for _ in range(4):
        war.round(1800.0)
    war.state = replace(LOCAL, generation="1" * 64)
    result = war.look()
    assert (war.restarts, result.contentions, result.deferred) == (3, (), ())
    assert war.round(1800.0).contentions == ()


def test_a_restart_by_hand_ends_it_until_the_next_time() -> None:
    """The file is as desired, so a restart of somebody's loads it: nothing is held back, until they strike again."""
    war = docker_war()
    for _ in range(4):
        war.round(1800.0)
    war.host.start()
    assert (war.look().contentions, war.host.running["log-driver"]) == ((), "local")  # type: ignore[union-attr]
    assert [each.takes_restarts for each in war.round(1800.0).contentions] == [True]
    assert war.restarts == RESTARTS - 1


def test_three_days_of_peace_end_it() -> None:
    """The restart that was held back is made then, by itself, and a later change costs one again."""
    war = docker_war()
    for _ in range(3):
        war.round(1800.0)
    assert war.rest(RESTARTS_WINDOW_SECONDS - 2000.0).contentions != ()
    assert (war.rest(300.0).contentions, war.restarts) == ((), 3)
    assert war.round(1800.0).contentions == ()


def test_it_is_remembered_over_a_restart_of_the_agent_before_it_is_contended() -> None:
    """One restart each, with a new agent after each: the third is held back all the same."""
    war = docker_war()
    for _ in range(RESTARTS + 2):
        result = war.round(1800.0)
        war.feuds = decode(war.feuds.encode(), war.host.clock.unix_seconds)
        war.look()
    assert (war.restarts, [each.takes_restarts for each in result.contentions]) == (RESTARTS - 1, [True])
    assert war.feuds.contended == {DAEMON_JSON}


def test_a_restart_of_our_own_that_waits_is_not_theirs() -> None:
    """A new setting waits for the night; meanwhile somebody rewrites the file each hour and does not restart Docker.
    The one restart is the desired state's, and is made when the window opens."""
    war = docker_war(restarts=False)
    docker = replace(settings(log_driver="local", data_root="/data"), restart_window=RestartWindow(2 * 60, 5 * 60))
    war.state = desired(docker=docker)
    war.look()
    for _ in range(6):
        war.round(3600.0)
    war.host.clock = replace(war.host.clock, local_minute=3 * 60)
    result = war.rest(60.0)
    assert (war.restarts, result.contentions, result.deferred) == (1, (), ())


def test_a_clock_that_jumps_holds_nothing_back_for_longer() -> None:
    """Set back by a year or forward by one: what is in the future is forgotten, what is long ago too."""
    for jump in (-365 * DAY, 365 * DAY):
        war = docker_war()
        for _ in range(4):
            war.round(1800.0)
        war.host.clock = replace(war.host.clock, unix_seconds=war.host.clock.unix_seconds + jump)
        assert war.feuds.encode() != b""
        war.look()
        assert war.feuds.contended == frozenset()


# --- what is said ----------------------------------------------------------------------------------------------------

YAML = "version: 1\ndocker:\n  settings: {log-driver: local}\n"
WHO = (
    "docker: /etc/docker/daemon.json is contended: somebody else has changed it 3 times within 3 days, and each time it"
)


@dataclass
class KeptDocker(KeptHost, DockerHost):
    """A DockerHost with what a keeper asks of its machine besides."""


def test_the_journal_says_once_that_it_begins_and_that_it_ends() -> None:
    """One line with who and why, over a restart of the agent, too, and one pending restart; a line when it is over."""
    host, events = KeptDocker(), list[Event]()
    host.edit({})
    host.start()
    host.put("/etc/mirror-agent.yaml", YAML, 0o640)
    keeper = Keeper(cast(RealHost, host), "/etc/mirror-agent.yaml", events.append, 0)
    keeper.start()
    for _ in range(RESTARTS + 2):
        keeper.look(acts=True)
        host.tick(1800.0)
        host.edit({"log-driver": "json-file"})
        host.start()
    keeper = Keeper(cast(RealHost, host), "/etc/mirror-agent.yaml", events.append, 0)
    keeper.start()
    keeper.look(acts=True)
    said = [event.message for event in events if event.kind in {Kind.CONTENDED, Kind.CALM}]
    assert said == [f"{WHO} takes a restart to undo it; it is still put back, and no restart is made for it any more"]
    keeper.publish()
    shown = status.decode(host.kept["status.json"])
    assert shown is not None
    assert (shown.outcome, shown.is_live, len(shown.pending), len(shown.contentions)) == ("contended", False, 1, 1)
    events.clear()
    host.start()
    keeper.look(acts=True)
    assert [event.message for event in events if event.kind in {Kind.CONTENDED, Kind.CALM}] == [
        "/etc/docker/daemon.json is no longer contended: no restart is held back because of it any more"
    ]


def test_a_pending_restart_is_said_once_however_often_others_restart_docker() -> None:
    """What is remembered of the Docker that runs just now makes no new line."""
    host, events = KeptDocker(), list[Event]()
    host.edit({})
    host.start()
    host.put("/etc/mirror-agent.yaml", YAML.replace("settings", "on_change: reload\n  settings"), 0o640)
    keeper = Keeper(cast(RealHost, host), "/etc/mirror-agent.yaml", events.append, 0)
    keeper.start()
    for _ in range(4):
        host.edit({"log-driver": "json-file"})
        host.start()
        keeper.look(acts=True)
        host.tick(1800.0)
    assert len([event for event in events if event.kind is Kind.DEFERRED]) == 1


def test_plan_and_status_know_what_is_held_back() -> None:
    """From what the daemon keeps: a restart that it does not make is none that `plan` promises."""
    war = docker_war()
    for _ in range(4):
        war.round(1800.0)
    plan = converge.plans(war.state, war.host)[1]
    known = decode(war.feuds.encode(), war.host.clock.unix_seconds)
    shown = known.without_costly_restarts(plan)
    assert ([type(act) for act in plan.acts], shown.acts) == ([Restart], ())
    assert [deferred.act for deferred in shown.deferred] == list(plan.acts)
