"""A Docker that was up is up afterwards, on the new configuration or the old, whatever the change does to it.

tests/node/rollback.py has more ways in which a change goes wrong than are played here.
"""

import json

import pytest

from agent.events import Kind
from tests.node.install import UNIT
from tests.node.rig import DAEMON_JSON, Rig
from tests.node.rollback import (
    BAD_VALUES,
    HANGS,
    KILLS,
    LIES,
    Hostile,
    await_standing,
    conflicts,
    is_up,
    run_container,
    standing_docker,
    systemctl_that_kills,
)
from tests.node.service import Service, desired_state
from tests.node.waiting import wait_until

_OUR_DEADLINE_SECONDS = 150.0


def await_verdict(service: Service, hostile: Hostile, deadline_seconds: float = 60.0) -> None:
    """Wait until the agent says what it has taken back."""
    wait_until(lambda: hostile.shows in conflicts(service.node), deadline_seconds, f"a conflict about {hostile.shows}")


def start_with(service: Service, hostile: Hostile) -> None:
    service.desire(desired_state({}, docker=f"{{settings: {hostile.settings}}}"))
    service.start()


@pytest.mark.parametrize("name", ["a data-root below a file", "a storage driver that the kernel lacks"])
def test_a_value_with_which_docker_does_not_start(rig: Rig, service: Service, name: str) -> None:
    """Only a start shows that it is bad: afterwards Docker is up on the bytes of before, its container has the same
    process, `plan` and `status` say what failed and why, and the same is not tried again."""
    node, hostile = rig.node, BAD_VALUES[name]
    with standing_docker(node, hostile) as before:
        start_with(service, hostile)
        await_verdict(service, hostile)
        await_standing(node, before)
        assert f"Docker did not come up with {hostile.shows} (" in conflicts(node)
        status = service.cli("status")
        assert (status.rc, f"did not come up with {hostile.shows}" in status.out) == (3, True), status.out
        service.stop()
        life = node.life("docker")
        assert (service.cli("apply").rc, node.life("docker")) == (1, life)
        await_standing(node, before)


def test_a_docker_that_comes_up_with_something_else(rig: Rig, service: Service) -> None:
    """It starts, and /info does not show what the file says: the file and Docker are as they were."""
    with standing_docker(rig.node, LIES) as before:
        start_with(service, LIES)
        await_verdict(service, LIES)
        await_standing(rig.node, before)
        assert "Docker came up without" in conflicts(rig.node)


@pytest.mark.only_on("trixie")
def test_a_docker_whose_start_hangs(rig: Rig, service: Service) -> None:
    """The unit would wait for ever; the agent does not, and its own watchdog stays content."""
    with standing_docker(rig.node, HANGS) as before:
        start_with(service, HANGS)
        await_verdict(service, HANGS, _OUR_DEADLINE_SECONDS)
        await_standing(rig.node, before)
        assert service.restarts() == 0


@pytest.mark.parametrize("after", ["the file is written", "the restart is ordered", "Docker has failed"])
def test_the_agent_is_killed_in_the_middle(rig: Rig, service: Service, after: str) -> None:
    """SIGKILL between two steps: systemd starts the agent again, and that finishes or undoes what was begun."""
    node, hostile = rig.node, BAD_VALUES["a data-root below a file"]
    with standing_docker(node, hostile) as before:
        cursor = node.cursor()
        start_with(service, hostile)
        if after == "the file is written":
            wait_until(lambda: "data-root" in node.text(DAEMON_JSON) or conflicts(node), 10.0, "the file")
        else:
            kind = Kind.RESTARTED if after == "the restart is ordered" else Kind.FAILED
            service.await_event(kind, after=cursor, deadline_seconds=30.0)
        node.run(["systemctl", "kill", "-s", "KILL", UNIT])
        await_verdict(service, hostile, 90.0)
        await_standing(node, before)


def test_the_agent_is_killed_between_the_steps_of_a_start(rig: Rig, service: Service) -> None:
    """systemd has forgotten that Docker failed, and was not told to start it: the next start of the agent does that, if
    systemd does not try again by itself."""
    node, hostile = rig.node, BAD_VALUES["a data-root below a file"]
    with standing_docker(node, hostile) as before, systemctl_that_kills(node):
        start_with(service, hostile)
        wait_until(lambda: not node.exists(KILLS), 60.0, "the kill")
        await_verdict(service, hostile, 90.0)
        await_standing(node, before)


def test_a_restart_says_beforehand_which_containers_it_ends(rig: Rig, service: Service) -> None:
    """By name, in `plan`, in `status` and to scripts; with `restart_if: idle` it waits until none is left, and then
    comes by itself."""
    node = rig.node
    run_container(node, "ends")
    run_container(node, "returns", "--restart=always")
    try:
        service.desire(desired_state({}, docker="{restart_if: idle, settings: {log-opts: {max-size: 7m}}}"))
        said = "it ends ends for good"
        assert said in service.cli("plan").out
        service.start()
        service.await_event(Kind.DEFERRED)
        status = service.status()
        assert [said in pending["wanted"] for pending in status["pending"]] == [True]
        assert (status["live"], "containers would end for good" in service.cli("status").out) == (False, True)
        life = node.life("docker")
        node.run(["docker", "rm", "-f", "ends"])
        service.stop()
        service.start()
        wait_until(lambda: node.life("docker") != life and is_up(node), 30.0, "the restart")
        service.await_nothing_pending(30.0)
        assert json.loads(node.text(DAEMON_JSON))["log-opts"] == {"max-size": "7m"}
    finally:
        service.stop()
        node.run("docker ps -aq | xargs -r docker rm -f")
