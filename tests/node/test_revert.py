"""Giving back: after `revert` the node is as it was before the agent came."""

from tests.node.rig import CERTS_D, DAEMON_JSON, Rig
from tests.node.service import Service, desired_state, hosts_path

_THEIRS = '{\n\t"registry-mirrors": ["https://old.example"],\n\t"labels": ["a=b"]\n}'
_TREES = ("/etc/containerd", "/etc/docker")


def test_revert_gives_the_tree_back_byte_for_byte(rig: Rig, service: Service) -> None:
    """Files that stood there are as they stood (bytes, mode, owner), files and directories that did not are gone."""
    rig.node.put(DAEMON_JSON, _THEIRS, 0o640)
    rig.node.put(hosts_path("docker.io"), "# by hand\n[host.'https://old.example']\n", 0o604)
    rig.node.run(f"chown 1000:1000 {hosts_path('docker.io')}")
    before = rig.node.tree(*_TREES)
    service.start_with(
        desired_state({"docker.io": [rig.first.url], "ghcr.io": [rig.first.url]}, "{settings: {debug: true}}")
    )
    service.desire(desired_state({"docker.io": [rig.second.url]}, "{settings: {debug: false}}"))
    service.await_mirror("docker.io", rig.second.url)
    service.await_nothing_pending()
    assert rig.node.tree(*_TREES) != before
    service.stop()
    reverted = service.cli("revert")
    assert (reverted.rc, reverted.err) == (0, "")
    assert rig.node.tree(*_TREES) == before


def test_revert_on_a_node_that_had_nothing_leaves_nothing(rig: Rig, service: Service) -> None:
    """Neither certs.d nor daemon.json existed: afterwards they do not exist again, and a second revert is fine."""
    before = rig.node.tree(*_TREES)
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    assert rig.node.exists(CERTS_D)
    service.stop()
    assert [service.cli("revert").rc, service.cli("revert").rc] == [0, 0]
    assert rig.node.tree(*_TREES) == before


def test_revert_does_not_work_behind_the_running_agents_back(rig: Rig, service: Service) -> None:
    """While the unit runs, revert changes nothing, exits 1 and says who is at work."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    during = rig.node.identity(*_TREES)
    refused = service.cli("revert")
    assert refused.rc == 1
    assert service.pid() in refused.out + refused.err
    assert rig.node.identity(*_TREES) == during
