"""What a restart of containerd is judged by, and when none is made, on nodes as Debian ships them."""

from collections.abc import Iterator
from contextlib import contextmanager

from agent.events import Kind
from tests.node.machine import Node
from tests.node.pulls import cri_call, cri_pull
from tests.node.rig import CONFIG_TOML, GHCR_IMAGE, Rig, needs_hosts_toml
from tests.node.service import RESYNC_DEADLINE_SECONDS, Service, desired_state, starts_of
from tests.node.test_bringup import pid_of_container
from tests.node.waiting import wait_until

pytestmark = needs_hosts_toml
_DROP_IN = "/run/systemd/system/containerd.service.d/test.conf"
_KUBELET = "/run/systemd/system/kubelet.service"
_HANGS = f"[Service]\nExecStartPost=/bin/sh -c '! grep -q config_path {CONFIG_TOML} || kill -STOP $MAINPID'\n"
_CRI_DEADLINE_SECONDS = 90


def drop_in(node: Node, text: str) -> None:
    node.put(_DROP_IN, text)
    node.run("systemctl daemon-reload")


@contextmanager
def container(node: Node) -> Iterator[str]:
    """A container that containerd looks after: its process and state."""
    running = pid_of_container(node)
    assert running.endswith("RUNNING")
    try:
        yield running
    finally:
        node.run(f"systemctl stop kubelet; rm -f {_DROP_IN} {_KUBELET}; systemctl daemon-reload", check=False)
        node.run("systemctl kill -s CONT containerd; systemctl stop mirror-agent; systemctl restart containerd")
        node.run("ctr task kill -s KILL keeps; ctr task rm -f keeps; ctr c rm keeps", check=False)


def test_a_cri_that_hangs_gets_its_file_back(stock_rig: Rig, stock_service: Service) -> None:
    """containerd is up with the new file and its socket takes connections, but its CRI never answers: the old file is
    back and the CRI pulls, a container keeps its process over both restarts, and it is not tried again."""
    node, service = stock_rig.node, stock_service
    shipped = node.text(CONFIG_TOML)
    with container(node) as running:
        drop_in(node, _HANGS)
        cursor = node.cursor()
        service.desire(desired_state({"ghcr.io": [stock_rig.first.url]}))
        service.start()
        waiting = service.await_event(Kind.DEFERRED, after=cursor, deadline_seconds=30)["MESSAGE"]
        assert "its CRI does not answer yet" in waiting
        service.await_event(Kind.CONFLICT, after=cursor, deadline_seconds=2 * _CRI_DEADLINE_SECONDS)
        wait_until(lambda: node.run("systemctl is-active containerd", check=False).ok, 10, "containerd is up")
        assert (node.text(CONFIG_TOML), starts_of(node, "containerd.service", cursor)) == (shipped, 2)
        told = [entry["MESSAGE"] for entry in service.events(Kind.WROTE, cursor)]
        assert any("its CRI does not answer with this, 90 s after the start" in each for each in told), told
        wait_until(lambda: cri_call(node, "ListImages", b"").status == 0, 20, "an answer of the CRI")
        assert pid_of_container(node) == running
        life = node.life("containerd")
        service.cli("apply")
        assert (node.life("containerd"), node.text(CONFIG_TOML)) == (life, shipped)


def test_a_file_that_others_lay_anew_costs_no_restart(stock_rig: Rig, stock_service: Service) -> None:
    """config.toml as shipped again, three times, and containerd left alone, which still reads certs.d: the file is put
    back, containerd keeps its process, kubelet pulls through the mirror, status says live."""
    node, service = stock_rig.node, stock_service
    shipped = node.text(CONFIG_TOML)
    service.start_with(desired_state({"ghcr.io": [stock_rig.first.url]}))
    ours, life = node.text(CONFIG_TOML), node.life("containerd")
    for _ in range(3):
        node.put(CONFIG_TOML, shipped)
        wait_until(lambda: node.text(CONFIG_TOML) == ours, 10, "config_path is back")
        service.await_nothing_pending()
    service.pass_barrier(desired_state({"ghcr.io": [stock_rig.first.url]}))
    assert node.life("containerd") == life
    pull = cri_pull(node, GHCR_IMAGE)
    assert (pull.error, pull.image_id) == ("", stock_rig.first.pushed["org/app"].image_id)
    assert service.cli("status").rc == 0


def test_a_unit_that_takes_its_containers_along_is_not_restarted(stock_rig: Rig, stock_service: Service) -> None:
    """Without KillMode=process a restart would end the container, which is shown in the end: it waits, and plan says
    why and what to do. With KillMode=process it is made by itself, the container keeps its process, and what hangs on
    the unit was named before."""
    node, service = stock_rig.node, stock_service
    node.put(
        _KUBELET,
        "[Unit]\nRequires=containerd.service\nAfter=containerd.service\n[Service]\nExecStart=/bin/sleep infinity\n",
    )
    with container(node) as running:
        drop_in(node, "[Service]\nKillMode=control-group\n")
        node.run("systemctl start kubelet")
        life, kubelet, cursor = node.life("containerd"), node.life("kubelet"), node.cursor()
        service.desire(desired_state({"ghcr.io": [stock_rig.first.url]}))
        service.start()
        said = service.await_event(Kind.DEFERRED, after=cursor)["MESSAGE"]
        assert "KillMode=control-group" in said
        assert "set KillMode=process (systemctl edit containerd)" in said
        assert "kubelet.service" in said
        plan = service.cli("plan")
        assert (plan.rc, "KillMode=control-group" in plan.out) == (3, True)
        assert (node.life("containerd"), node.life("kubelet"), pid_of_container(node)) == (life, kubelet, running)
        drop_in(node, "[Service]\nKillMode=process\n")
        restarting = service.await_event(Kind.RESTARTED, after=cursor, deadline_seconds=RESYNC_DEADLINE_SECONDS)
        assert restarting["MESSAGE"].endswith("containers keep running; systemd restarts kubelet.service with it")
        service.await_nothing_pending()
        assert (pid_of_container(node), service.cli("status").rc) == (running, 0)
        assert node.life("kubelet") != kubelet
        drop_in(node, "[Service]\nKillMode=control-group\n")
        node.run("systemctl restart containerd")
        assert pid_of_container(node) != running
