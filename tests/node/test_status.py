"""What `status` and `plan` say on a real node, and their exit codes."""

from tests.node.rig import DESIRED_STATE, Rig
from tests.node.service import Service, desired_state


def test_status_is_live_when_the_running_daemons_have_it(rig: Rig, service: Service) -> None:
    """Exit 0, and both runtimes with their mirrors in order are in the text."""
    service.start_with(desired_state({"docker.io": [rig.first.url, rig.second.url]}))
    shown = service.cli("status")
    assert shown.rc == 0, shown.out
    assert [word for word in ("containerd", "Docker", rig.first.url, rig.second.url) if word not in shown.out] == []


def test_status_says_when_containerd_does_not_read_certs_d(rig: Rig, service: Service) -> None:
    """With config_path not in force perfect files change nothing for kubelet: where the restart it takes is forbidden,
    status says so, exit 3."""
    rig.node.run("sed -i '/config_path/d' /etc/containerd/config.toml && systemctl restart containerd")
    try:
        service.desire(desired_state({"ghcr.io": [rig.first.url]}) + "containerd: {restart: never}\n")
        service.start()
        service.await_mirror("ghcr.io", rig.first.url)
        shown = service.cli("status")
        assert (shown.rc, "restart" in shown.out) == (3, True), shown.out
    finally:
        service.stop()
        rig.node.run("cp -a /root/etc-containerd/config.toml /etc/containerd/ && systemctl restart containerd")


def test_plan_shows_what_would_change_and_touches_nothing(rig: Rig, service: Service) -> None:
    """Before the first start: exit 3, unified diffs and the act; not one file, and not even the state directory."""
    before = rig.node.identity("/etc/containerd", "/etc/docker")
    service.desire(desired_state({"docker.io": [rig.first.url]}))
    shown = service.cli("plan")
    assert shown.rc == 3, shown.err
    assert [word for word in ("hosts.toml", "daemon.json", "+server", "reload") if word not in shown.out] == []
    assert rig.node.identity("/etc/containerd", "/etc/docker") == before
    assert rig.node.tree("/var/lib/mirror-agent") == {}


def test_apply_converges_once_without_the_daemon(rig: Rig, service: Service) -> None:
    """`apply` writes and reloads, exits 0; a second apply writes nothing."""
    service.desire(desired_state({"docker.io": [rig.first.url]}))
    first = service.cli("apply")
    assert first.rc == 0, first.err
    before = rig.node.identity("/etc/containerd", "/etc/docker")
    assert (service.cli("apply").rc, service.cli("plan").rc) == (0, 0)
    assert rig.node.identity("/etc/containerd", "/etc/docker") == before
    assert rig.node.exists(DESIRED_STATE)
