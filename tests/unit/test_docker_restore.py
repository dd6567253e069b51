"""The way back of a Docker that is up: a restart like any other, which policy, window and ledger may put off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.model import DesiredState, DockerSettings, Now, OnChange, RestartIf, RestartWindow
from agent.outcome import RuntimeResult
from agent.runtimes.docker import RUNTIME
from tests.docker_plans import A, settings
from tests.docker_plans import desired as wish
from tests.dockerd import DockerHost
from tests.unit.test_docker_rollback import BAD, BEFORE, RELOAD, RESTART, START, WANTED, WRITE, cycle, machine

WINDOW = RestartWindow(2 * 60, 5 * 60)
POLICIES = {
    "idle": (RestartIf.IDLE, None, "docker.restart_if is idle, and containers would end for good"),
    "window": (RestartIf.ALWAYS, WINDOW, "it waits for the restart window, which opens at 02:00"),
}


def wanted(policy: str, docker: DockerSettings | None = None) -> DesiredState:
    """What Docker takes and then runs without a part of it, under a policy that forbids its restart now."""
    restart_if, window, _ = POLICIES[policy]
    state = WANTED["lies"]
    return replace(state, docker=replace(docker or state.docker, restart_if=restart_if, restart_window=window))


def lied_to(policy: str) -> tuple[DockerHost, DesiredState]:
    """A container with nothing to bring it back; the restart that is wanted waits, and somebody else makes it."""
    host, state = machine(ignores=frozenset({"labels"})), wanted(policy)
    host.containers = {"db": "no"}
    cycle(host, state)
    host.tick(100.0)
    host.start()
    host.log.clear()
    return host, state


def later(host: DockerHost, state: DesiredState, seconds: float = 100.0) -> RuntimeResult:
    host.tick(seconds)
    return cycle(host, state)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_restart_back_waits_as_any_other(policy: str) -> None:
    """Docker runs with something else than the file said: the file is as it was, and the restart that brings Docker
    back to it waits for what every restart waits for, with the containers that it would end by name."""
    host, state = lied_to(policy)
    results = [cycle(host, state), *(later(host, state) for _ in range(3))]
    assert (host.file(), host.log) == (BEFORE, [WRITE])
    for result in results:
        (waiting,) = result.deferred
        assert waiting.reason == POLICIES[policy][2]
        assert (waiting.act.reason, getattr(waiting.act, "ends", "")) == (
            "what stood there before is put back, and only a restart brings Docker back to it; containers stop, and"
            " those with a restart policy come back",
            "it ends db for good",
        )


def test_it_is_made_when_nothing_is_in_its_way_any_more() -> None:
    """The window opens, or the container goes: one restart, and Docker runs as before."""
    for policy in POLICIES:
        host, state = lied_to(policy)
        cycle(host, state)
        host.containers.clear()
        host.clock = Now(host.clock.unix_seconds, 3 * 60)
        later(host, state)
        result = later(host, state, 700.0)
        assert (host.log, host.running, result.deferred) == ([WRITE, RESTART], BEFORE, ())
        assert RUNTIME.observe(host, state).memory.trial == ""


def test_everything_else_goes_on_meanwhile() -> None:
    """A mirror that is edited in while the restart waits for the night is loaded at once."""
    host, state = lied_to("window")
    cycle(host, state)
    edited = replace(wish(A, docker=replace(state.docker, settings=())), generation="1" * 64)
    later(host, edited)
    assert (host.running["registry-mirrors"], RESTART in host.log, host.log.count(RELOAD)) == ([A], False, 1)


def test_a_restart_that_is_left_to_the_operator_is_pending() -> None:
    """docker.on_change is reload: what was put back says so until somebody restarts Docker."""
    host, state = lied_to("window")
    state = replace(state, docker=replace(state.docker, on_change=OnChange.RELOAD, restart_window=None))
    for _ in range(3):
        (waiting,) = later(host, state, 700.0).deferred
        assert waiting.reason == "docker.on_change is reload: restart Docker when it suits you"
    host.start()
    assert (later(host, state).deferred, host.log, host.running) == ((), [WRITE], BEFORE)


def test_somebody_elses_restart_does_not_use_up_ours() -> None:
    """Two restarts of ours within ten minutes: the one back waits for the rest of them, as every other."""
    host = machine(ignores=frozenset({"labels"}))
    for number in range(2):
        later(host, wish(docker=settings(log_opts={"max-size": f"{number}m"})), 70.0)
    state = WANTED["lies"]
    cycle(host, state)
    host.tick(70.0)
    host.start()
    (waiting,) = later(host, state, 1.0).deferred
    assert (waiting.reason, host.log.count(RESTART)) == ("it was restarted twice in the last ten minutes", 2)


def test_a_docker_that_our_restart_has_left_silent_is_started_anew() -> None:
    """It is up and answers nobody, so nothing that runs in it can be asked for: no window is waited for. One restart
    brings it back; if that is silent, too, it is left to a person."""
    for stays_deaf in (False, True):
        host = machine()
        host.on_restart = lambda host=host: setattr(host, "deaf", True)
        cycle(host, BAD)
        policy = replace(BAD, docker=replace(BAD.docker, restart_window=WINDOW))
        host.log.clear()
        host.on_restart = lambda host=host, stays_deaf=stays_deaf: setattr(host, "deaf", stays_deaf)
        for _ in range(4):
            later(host, policy, 100.0)
        assert (host.log, host.running, host.is_up) == ([WRITE, RESTART], BEFORE, True)
        assert START not in host.log


def test_one_look_without_an_answer_undoes_nothing() -> None:
    """The change waits for its restart, and a busy Docker does not answer once: it has not even read the change."""
    host, state = machine(), wanted("window", settings(data_root="/data"))
    cycle(host, state)
    host.deaf = True
    result = later(host, state)
    host.deaf = False
    assert (host.file()["data-root"], result.conflicts, host.log) == ("/data", (), [WRITE])
