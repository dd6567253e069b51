"""Somebody who keeps changing what the agent keeps putting back: a bounded number of writes and reloads, no restart,
one line in the journal; and the node converges as soon as the war is over."""

import json
from collections.abc import Iterator

import pytest

from agent.events import Kind
from tests.node.rig import DAEMON_JSON, Rig
from tests.node.service import Service, desired_state, hosts_path, starts_of
from tests.node.waiting import wait_until

WAR_SECONDS = 20
_UNIT = "drift-war"
_NVIDIA = '{\\n    "labels": ["nvidia-container-runtime=1"],\\n    "registry-mirrors": ["http://127.0.0.1:9"]\\n}'
_KUBESPRAY = 'server = "https://docker.io"\\n\\n[host."https://x.example"]\\n  capabilities = ["pull"]\\n'
_KUBESPRAY += "  skip_verify = false\\n  override_path = false\\n\\n"
# In ten wars a second there were four waits of 2, 4, 8 and 16 s at most: five writes before, and four between.
MOST_WRITES = 5 + 4


@pytest.fixture
def war(rig: Rig) -> Iterator[Rig]:
    """A rig in which wars end with the test."""
    yield rig
    rig.node.run(f"systemctl stop {_UNIT}; systemctl reset-failed {_UNIT}", check=False)


def make_war(rig: Rig, path: str, content: str) -> None:
    """Another tool that has its own idea of a file, ten times a second."""
    loop = f"while :; do printf '{content}' > {path}.theirs; mv {path}.theirs {path}; sleep 0.1; done"
    rig.node.run(["systemd-run", "-q", f"--unit={_UNIT}", "/bin/sh", "-c", loop])


@pytest.mark.parametrize(
    ("path", "content", "writer"),
    [(DAEMON_JSON, _NVIDIA, "nvidia-ctk"), (hosts_path("docker.io"), _KUBESPRAY, "kubespray")],
    ids=["daemon.json", "hosts.toml"],
)
def test_a_drift_war_is_not_fought(war: Rig, service: Service, path: str, content: str, writer: str) -> None:
    """Ten changes a second for twenty seconds: a handful of writes, at most as many reloads, no restart of anything,
    one line that says who; status says contended and exits 3. When it is over the node converges by itself."""
    node = war.node
    service.start_with(desired_state({"docker.io": [war.first.url]}))
    cursor = node.cursor()
    lives = [node.life("docker"), node.life("containerd"), service.pid()]
    make_war(war, path, content)
    said = service.await_event(Kind.CONTENDED, after=cursor, deadline_seconds=60)
    assert (said["MIRROR_AGENT_PATH"], said["MIRROR_AGENT_REASON"]) == (path, writer)
    node.run(["sleep", str(WAR_SECONDS)])
    shown = service.cli("status")
    assert (shown.rc, shown.out.split()[0], f"contended   {path}: somebody else ({writer}" in shown.out) == (
        3,
        "contended",
        True,
    ), shown.out
    contentions = json.loads(service.cli("status", "--json").raw_out)["contentions"]
    assert [(each["path"], each["writer"]) for each in contentions] == [(path, writer)]
    node.run(["systemctl", "stop", _UNIT])
    wait_until(lambda: war.first.url in node.text(path), 120, f"{path} to be as desired")
    service.await_docker(war.first.url, deadline_seconds=60)
    assert [node.life("docker"), node.life("containerd"), service.pid()] == lives
    counted = service.count(Kind.WROTE, Kind.RELOADED, Kind.RESTARTED, Kind.CONTENDED, Kind.BUG, after=cursor)
    # The war may last longer than we meant on a slow machine, but each further write waits twice as long.
    assert counted["WROTE"] <= MOST_WRITES + 2, counted
    assert counted.pop("RELOADED", 0) <= counted.pop("WROTE")
    assert counted == {"CONTENDED": 1}
    assert starts_of(node, "docker.service", cursor) == 0


def test_an_edit_of_the_desired_state_ends_the_waiting(war: Rig, service: Service) -> None:
    """An operator's edit is tried at once, and if the war is over then, so is the contention."""
    node, path = war.node, hosts_path("docker.io")
    service.start_with(desired_state({"docker.io": [war.first.url]}))
    cursor = node.cursor()
    make_war(war, path, _KUBESPRAY)
    service.await_event(Kind.CONTENDED, after=cursor, deadline_seconds=60)
    node.run(["systemctl", "stop", _UNIT])
    service.stop()
    service.start()
    assert service.cli("status").rc == 3
    service.desire(desired_state({"docker.io": [war.second.url]}))
    service.await_mirror("docker.io", war.second.url)
    service.await_event(Kind.CALM, after=cursor)
    service.await_nothing_pending()
    wait_until(service.is_live, 10, "status to be live")
    assert len(service.events(Kind.CONTENDED, cursor)) == 1
