"""Nodes whose containerd is set up the old way, with registry.mirrors in config.toml: they move to certs.d."""

from collections.abc import Iterator

import pytest

from agent.events import Kind
from tests.node.machine import Node
from tests.node.pulls import cri_pull, cri_remove
from tests.node.rig import CONFIG_TOML, GHCR_IMAGE, HUB_IMAGE, Rig, needs_hosts_toml
from tests.node.service import Service, desired_state, hosts_path, starts_of
from tests.node.test_bringup import pid_of_container
from tests.node.waiting import wait_until

TABLE = 'plugins."io.containerd.grpc.v1.cri".registry'


def legacy(rig: Rig) -> str:
    """docker.io through the first mirror, as somebody wrote it years ago."""
    return f"""
# Hub is slow from here.
[{TABLE}.mirrors."docker.io"]
  endpoint = ["{rig.first.url}"]   # the near one
[{TABLE}.configs."private.example".auth]
  username = "u"
  password = "p"
"""


@pytest.fixture
def old(stock_rig: Rig) -> Iterator[Rig]:
    """A stock node with such a table in use."""
    node = stock_rig.node
    node.put(CONFIG_TOML, node.text(CONFIG_TOML).rstrip("\n") + "\n" + legacy(stock_rig))
    node.run("systemctl restart containerd")
    yield stock_rig
    node.run(
        "systemctl stop mirror-agent; ctr task kill -s KILL keeps; ctr task rm -f keeps; ctr c rm keeps", check=False
    )


def assert_hub_from_first(rig: Rig) -> None:
    """What kubelet gets for an image of Docker Hub is what the first mirror alone has."""
    pull = cri_pull(rig.node, HUB_IMAGE)
    assert (pull.error, pull.image_id) == ("", rig.first.pushed["library/hello"].image_id)
    cri_remove(rig.node, HUB_IMAGE)


def allow_a_restart(node: Node) -> None:
    """As if the last one had been a minute ago."""
    node.run('sed -i \'s/"restarted_at": [0-9.]*/"restarted_at": 0.0/\' /var/lib/mirror-agent/ledger.json')


@needs_hosts_toml
def test_old_mirrors_keep_working(old: Rig, stock_service: Service) -> None:
    """One restart of containerd, a container keeps its process, pulls of docker.io go where they went before, the
    credentials stay; status says live; a revert gives the very bytes back, and pulls still go there."""
    node, service = old.node, stock_service
    before, container = node.text(CONFIG_TOML), pid_of_container(node)
    assert container.endswith("RUNNING")
    assert_hub_from_first(old)
    cursor = node.cursor()
    service.start_with(desired_state({"ghcr.io": [old.second.url]}))
    assert starts_of(node, "containerd.service", cursor) == 1
    assert pid_of_container(node) == container
    assert_hub_from_first(old)
    pull = cri_pull(node, GHCR_IMAGE)
    assert (pull.error, pull.image_id) == ("", old.second.pushed["org/app"].image_id)
    assert "mirrors" not in node.text(CONFIG_TOML)
    assert 'password = "p"' in node.text(CONFIG_TOML)
    assert old.first.url in node.text(hosts_path("docker.io"))
    assert service.cli("status").rc == 0
    service.stop()
    allow_a_restart(node)
    reverted = service.cli("revert")
    assert (reverted.rc, node.text(CONFIG_TOML)) == (0, before), reverted.err
    assert starts_of(node, "containerd.service", cursor) == 2
    assert pid_of_container(node) == container
    assert_hub_from_first(old)


@needs_hosts_toml
def test_a_cri_that_is_down_comes_up(old: Rig, stock_service: Service) -> None:
    """config_path and mirrors together, with which containerd runs without a CRI: the mirrors move, the CRI is back."""
    node = old.node
    both = f'\n[{TABLE}]\n  config_path = "/etc/containerd/certs.d"\n'
    node.put(CONFIG_TOML, node.text(CONFIG_TOML) + both)
    node.run("systemctl restart containerd")
    assert not cri_pull(node, HUB_IMAGE).ok
    stock_service.start_with(desired_state({"ghcr.io": [old.second.url]}))
    assert_hub_from_first(old)
    assert stock_service.cli("status").rc == 0


@needs_hosts_toml
def test_what_cannot_be_moved_stays_in_force(old: Rig, stock_service: Service) -> None:
    """A CA file that is gone: one sentence, nothing half, containerd is not restarted, and pulls go where they went."""
    node = old.node
    tls = f'\n[{TABLE}.configs."r.lan".tls]\n  ca_file = "/etc/gone.pem"\n'
    node.put(CONFIG_TOML, node.text(CONFIG_TOML) + tls)
    node.run("systemctl restart containerd")
    before, life = node.text(CONFIG_TOML), node.life("containerd")
    cursor = node.cursor()
    stock_service.desire(desired_state({"ghcr.io": [old.second.url]}))
    stock_service.start()
    said = stock_service.await_event(Kind.CONFLICT, after=cursor)["MESSAGE"]
    assert "/etc/gone.pem is missing" in said
    assert (node.text(CONFIG_TOML), node.life("containerd")) == (before, life)
    assert not node.exists(hosts_path("docker.io"))
    assert_hub_from_first(old)


@needs_hosts_toml
def test_a_containerd_that_does_not_come_up_gets_its_tables_back(old: Rig, stock_service: Service) -> None:
    """Its start fails with the new file: the old tables are in force again."""
    node = old.node
    before = node.text(CONFIG_TOML)
    drop_in = "/etc/systemd/system/containerd.service.d/refuse.conf"
    node.run(f"mkdir -p {drop_in.rpartition('/')[0]}")
    node.put(drop_in, f"[Service]\nExecStartPre=/bin/sh -c '! grep -q config_path {CONFIG_TOML}'\n")
    node.run("systemctl daemon-reload")
    cursor = node.cursor()
    stock_service.desire(desired_state({"ghcr.io": [old.second.url]}))
    stock_service.start()
    stock_service.await_event(Kind.CONFLICT, after=cursor, deadline_seconds=60)
    wait_until(lambda: node.run("systemctl is-active containerd", check=False).ok, 10, "containerd is up")
    assert node.text(CONFIG_TOML) == before
    wait_until(lambda: cri_pull(node, HUB_IMAGE).ok, 20, "the CRI answers")
    node.run(f"rm -f {drop_in}; systemctl daemon-reload")
    cri_remove(node, HUB_IMAGE)
    assert_hub_from_first(old)
