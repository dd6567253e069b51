"""What would stop Docker's next start is refused beforehand: Docker lives on, untouched, and starts again."""

import json

import pytest

from agent.events import Kind
from tests.node.pulls import docker_mirrors
from tests.node.rig import DAEMON_JSON, Rig
from tests.node.service import CONVERGE_DEADLINE_SECONDS, Service, desired_state
from tests.node.waiting import wait_until

_ACTS = (Kind.RELOADED, Kind.RESTARTED)
_UNIT = "/etc/systemd/system/docker.service.d/options.conf"


def conflicts(service: Service) -> list[str]:
    plans = json.loads(service.cli("plan", "--json").raw_out)["plans"]
    return [conflict["reason"] for plan in plans if plan["runtime"] == "docker" for conflict in plan["conflicts"]]


@pytest.mark.parametrize("setting", ["debugg: true", "log-driver: bogus", "log-opts: {max-sise: 5m}"])
def test_a_bad_setting_reaches_neither_the_file_nor_docker(rig: Rig, service: Service, setting: str) -> None:
    """Inside the unit's sandbox, on each version: one conflict, the same dockerd, and it survives a restart."""
    node = rig.node
    before, cursor = node.life("docker"), node.cursor()
    service.desire(desired_state({}, docker=f"{{settings: {{{setting}}}}}"))
    service.start()
    key = setting.partition(":")[0]
    wait_until(lambda: [key in reason for reason in conflicts(service)] == [True], CONVERGE_DEADLINE_SECONDS, "it")
    assert (node.life("docker"), service.count(*_ACTS, after=cursor, runtime="docker")) == (before, {})
    assert not node.exists(DAEMON_JSON) or key not in json.loads(node.text(DAEMON_JSON))
    node.run("systemctl restart docker")


def test_a_foreign_bad_entry_keeps_docker_untouched(rig: Rig, service: Service) -> None:
    """Somebody's bad insecure registry waits in the file for the next start: no reload and no restart of ours."""
    node = rig.node
    node.put(DAEMON_JSON, json.dumps({"insecure-registries": ["a.example/x"]}))
    before, cursor = node.life("docker"), node.cursor()
    service.desire(desired_state({"docker.io": [rig.first.url]}, docker="{settings: {log-driver: local}}"))
    service.start()
    wait_until(lambda: "a.example/x" in str(conflicts(service)), CONVERGE_DEADLINE_SECONDS, "a conflict")
    assert (node.life("docker"), service.count(*_ACTS, after=cursor, runtime="docker")) == (before, {})


def test_a_key_that_a_flag_sets_is_left_to_it(fresh_rig: Rig, fresh_service: Service) -> None:
    """The flag's file is named, the other keys are loaded, and Docker starts with what is then in the file."""
    node, service = fresh_rig.node, fresh_service
    exec_start = f"ExecStart=/usr/sbin/dockerd -H fd:// --registry-mirror={fresh_rig.second.url}"
    node.put(_UNIT, f"[Service]\nExecStart=\n{exec_start}\n")
    node.run("systemctl daemon-reload; systemctl restart docker")
    service.desire(desired_state({"docker.io": [fresh_rig.first.url]}, docker="{settings: {debug: true}}"))
    service.start()
    wait_until(lambda: _UNIT in str(conflicts(service)), CONVERGE_DEADLINE_SECONDS, "a conflict that names the file")
    service.await_event(Kind.RELOADED)
    assert json.loads(node.text(DAEMON_JSON)) == {"debug": True}
    node.run("systemctl restart docker")
    assert docker_mirrors(node) == [fresh_rig.second.url + "/"]
