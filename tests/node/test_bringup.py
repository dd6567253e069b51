"""containerd as Debian ships it, with no config_path: one edit of the YAML, one restart, and kubelet pulls through the
mirror; what goes wrong on the way ends in the containerd of before."""

from collections.abc import Iterator

import pytest

from agent.events import Kind
from tests.node.machine import Node
from tests.node.pulls import cri_pull
from tests.node.rig import GHCR_IMAGE, Rig, needs_hosts_toml
from tests.node.service import Service, desired_state, starts_of
from tests.node.waiting import wait_until

CONFIG = "/etc/containerd/config.toml"
KEPT = "/root/etc-containerd/config.toml"
DROP_IN = "/etc/systemd/system/containerd.service.d/refuse.conf"
_ROOTFS = "/root/rootfs"
_MAKE_ROOTFS = f"""
mkdir -p {_ROOTFS}/proc
cp -L --parents /bin/sleep $(ldd /bin/sleep | grep -o '/[^ ]*') {_ROOTFS}/
"""
_FAILS = f"[Service]\nExecStartPre=/bin/sh -c '! grep -q config_path {CONFIG}'\n"


@pytest.fixture
def stock(rig: Rig) -> Iterator[Rig]:
    """The rig with the config.toml of Debian's package, as apt left it."""
    node = rig.node
    shipped = node.text(KEPT).partition('\n\n    [plugins."io.containerd.grpc.v1.cri".registry]')[0] + "\n"
    assert "config_path" not in shipped
    node.put(CONFIG, shipped)
    node.run("systemctl restart containerd")
    yield rig
    node.run(
        "systemctl stop mirror-agent; ctr task kill -s KILL keeps; ctr task rm -f keeps; ctr c rm keeps", check=False
    )
    node.run(f"rm -f {DROP_IN}; systemctl daemon-reload; cp -a {KEPT} {CONFIG}; systemctl restart containerd")


def pid_of_container(node: Node) -> str:
    """The process of a container that containerd looks after, made on the first call."""
    if "keeps" not in node.run("ctr containers ls -q").out:
        node.run(_MAKE_ROOTFS)
        node.run(f"ctr run -d --null-io --cpu-shares 0 --rootfs {_ROOTFS} keeps /bin/sleep 100000")
    return node.run("ctr task ls | awk '$1 == \"keeps\" {print $2, $3}'").out.strip()


@needs_hosts_toml
def test_one_edit_makes_kubelet_pull_through_the_mirror(stock: Rig, service: Service) -> None:
    """No other human step, exactly one start of containerd; a running container keeps its process, Docker its own and
    its invocation; status says live, and the next edit restarts nothing."""
    node = stock.node
    shipped, docker, container = node.text(CONFIG), node.life("docker"), pid_of_container(node)
    assert container.endswith("RUNNING")
    cursor = node.cursor()
    service.start_with(desired_state({"ghcr.io": [stock.first.url]}))
    pull = cri_pull(node, GHCR_IMAGE)
    assert (pull.error, pull.image_id) == ("", stock.first.pushed["org/app"].image_id)
    service.pass_barrier(desired_state({"ghcr.io": [stock.second.url]}))
    assert starts_of(node, "containerd.service", cursor) == 1
    assert (node.life("docker"), pid_of_container(node)) == (docker, container)
    assert node.text(CONFIG).startswith(shipped)
    assert service.cli("status").rc == 0


def test_revert_gives_the_file_back_with_one_restart(stock: Rig, service: Service) -> None:
    """Byte for byte, and the containerd that runs has read it."""
    node = stock.node
    shipped = node.text(CONFIG)
    service.desire(desired_state({"ghcr.io": [stock.first.url]}))
    assert service.cli("apply").rc == 0
    node.run('sed -i \'s/"restarted_at": [0-9.]*/"restarted_at": 0.0/\' /var/lib/mirror-agent/ledger.json')
    cursor = node.cursor()
    reverted = service.cli("revert")
    assert (reverted.rc, node.text(CONFIG)) == (0, shipped), reverted.err
    assert starts_of(node, "containerd.service", cursor) == 1
    assert service.cli("revert").rc == 0
    assert starts_of(node, "containerd.service", cursor) == 1


@needs_hosts_toml
def test_a_containerd_that_does_not_come_up_gets_its_file_back(stock: Rig, service: Service) -> None:
    """Its start fails with the new file: the old one is back and containerd is up on it, the journal says so, and it is
    not tried again while nothing changes."""
    node = stock.node
    shipped, docker = node.text(CONFIG), node.life("docker")
    node.run(f"mkdir -p {DROP_IN.rpartition('/')[0]}")
    node.put(DROP_IN, _FAILS)
    node.run("systemctl daemon-reload")
    cursor = node.cursor()
    service.desire(desired_state({"ghcr.io": [stock.first.url]}))
    service.start()
    service.await_event(Kind.CONFLICT, after=cursor, deadline_seconds=60)
    wait_until(lambda: node.run("systemctl is-active containerd", check=False).ok, 10, "containerd is up")
    assert node.text(CONFIG) == shipped
    life = node.life("containerd")
    service.cli("apply")
    assert (node.life("containerd"), node.life("docker"), node.text(CONFIG)) == (life, docker, shipped)
