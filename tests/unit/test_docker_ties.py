"""What a restart of Docker takes along: containers in spite of live-restore, and the services that hang on its unit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.model import DesiredState, RestartIf, UnitTies
from agent.plan import Deferred, Restart
from agent.runtimes.docker import RUNTIME
from tests.docker_plans import desired, info, plan, settings
from tests.docker_plans import machine as bare
from tests.dockerd import UNIT, DockerHost
from tests.unit.test_docker_rollback import WANTED, cycle, machine

CHANGE = "log-driver: Docker takes the change only at a restart"
KEPT = "containers keep running (live-restore)"
STOP = "containers stop, and those with a restart policy come back"
ODD = (
    "live-restore is on, but docker.service has KillMode=control-group, with which containers may stop all the same; "
    "it ends db for good"
)


PACKAGED = ("/usr/sbin/dockerd", "-H", "fd://", "--containerd=/run/containerd/containerd.sock")


def running(ties: UnitTies, *, live_restore: bool) -> DockerHost:
    """A container that nothing brings back, and a unit with these ties."""
    host = machine({"live-restore": live_restore})
    host.containers = {"db": "no"}
    host.unit_ties[UNIT] = ties
    return host


def wish(restart_if: RestartIf = RestartIf.ALWAYS) -> DesiredState:
    return desired(docker=replace(settings(log_driver="local"), restart_if=restart_if))


def said(host: DockerHost, state: DesiredState) -> list[str]:
    """The restart as it is told, and why it waits."""
    made = RUNTIME.plan(state, RUNTIME.observe(host, state))
    acts = [act for act in made.acts if isinstance(act, Restart)]
    waiting = [each for each in made.deferred if isinstance(each.act, Restart)]
    texts = [f"{act.reason}; {act.ends}" if act.ends else act.reason for act in acts]
    return texts + [each.reason for each in waiting]


@pytest.mark.parametrize(
    ("kill_mode", "live_restore", "cost"),
    [
        ("process", True, KEPT),
        ("none", True, KEPT),
        ("control-group", True, ODD),
        ("mixed", True, ODD.replace("control-group", "mixed")),
        ("", True, ODD.replace("control-group", "?")),
        ("process", False, f"{STOP}; it ends db for good"),
        ("control-group", False, f"{STOP}; it ends db for good"),
    ],
)
def test_live_restore_is_not_all(kill_mode: str, live_restore: bool, cost: str) -> None:
    """Containers are said to survive only where systemd leaves the other processes of docker.service alone."""
    assert said(running(UnitTies(kill_mode), live_restore=live_restore), wish()) == [f"{CHANGE}; {cost}"]


@pytest.mark.parametrize("kill_mode", ["control-group", "mixed", ""])
def test_a_containerd_of_its_own_is_what_kill_mode_reaches(kill_mode: str) -> None:
    """dockerd as it is packaged uses the system's containerd, whose processes are none of docker.service."""
    host = running(UnitTies(kill_mode), live_restore=True)
    host.processes[host.units[UNIT].main_pid] = PACKAGED
    assert said(host, wish()) == [f"{CHANGE}; {KEPT}"]


@pytest.mark.parametrize(
    ("restart_if", "kill_mode", "waits"),
    [
        (RestartIf.LIVE_RESTORE, "process", ""),
        (
            RestartIf.LIVE_RESTORE,
            "control-group",
            "docker.restart_if is live-restore, and with the KillMode of docker.service containers may not survive",
        ),
        (RestartIf.IDLE, "process", ""),
        (RestartIf.IDLE, "mixed", "docker.restart_if is idle, and containers would end for good"),
    ],
)
def test_the_policy_goes_by_what_survives(restart_if: RestartIf, kill_mode: str, waits: str) -> None:
    """live-restore alone allows no restart that ends containers."""
    told = said(running(UnitTies(kill_mode), live_restore=True), wish(restart_if))
    assert told == ([waits] if waits else [f"{CHANGE}; {KEPT}"])


def test_services_that_hang_on_docker_are_named() -> None:
    """They are restarted with it, whatever becomes of containers; on the way back too."""
    one, two = UnitTies("process", ("portainer.service",)), UnitTies("process", ("ci.service", "portainer.service"))
    host = running(one, live_restore=True)
    assert said(host, wish()) == [f"{CHANGE}; {KEPT}; portainer.service is restarted with it"]
    host.unit_ties[UNIT] = two
    assert said(host, wish()) == [f"{CHANGE}; {KEPT}; ci.service and portainer.service are restarted with it"]
    host = machine(ignores=frozenset({"labels"}))
    host.unit_ties[UNIT] = one
    state = replace(WANTED["lies"], docker=replace(WANTED["lies"].docker, restart_if=RestartIf.IDLE))
    host.containers = {"db": "no"}
    cycle(host, state)
    host.tick(100.0)
    host.start()
    (waiting,) = cycle(host, state).deferred
    assert isinstance(waiting, Deferred)
    assert waiting.act.reason.endswith(f"{STOP}; portainer.service is restarted with it")


def test_systemd_is_asked_only_where_a_restart_is_in_sight() -> None:
    """Two processes of systemctl are much for a look that finds nothing to do."""
    host = bare("{}", answer=info())
    asked: list[str] = []
    host.ties = lambda name: asked.append(name) or UnitTies("process")  # type: ignore[func-returns-value,method-assign]
    plan(host, desired())
    assert asked == []
    plan(host, desired(docker=settings(log_driver="local")))
    assert asked == [UNIT]
