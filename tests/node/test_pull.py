"""The agent's main job: after an edit of the desired state the next pull goes through the mirrors it names."""

import time

from agent.events import Kind
from tests.node.pulls import cri_pull, cri_remove, docker_mirrors, docker_pull
from tests.node.rig import DAEMON_JSON, GHCR_IMAGE, HUB_IMAGE, Rig, needs_hosts_toml
from tests.node.service import Service, desired_state, hosts_path, starts_of
from tests.node.waiting import wait_until

# "Seconds later": what a person who saved a file would call at once, with room for a busy machine.
EDIT_DEADLINE_SECONDS = 5.0
_READY_AT = "ActiveEnterTimestampMonotonic"


def lives(rig: Rig) -> list[tuple[str, str]]:
    return [rig.node.life(unit) for unit in ("containerd", "docker")]


@needs_hosts_toml
def test_an_edit_moves_kubelets_pulls_to_the_new_mirror(rig: Rig, service: Service) -> None:
    """Seconds after an edit a CRI pull is served by the mirror named now; no runtime has another process."""
    service.start_with(desired_state({"docker.io": [rig.first.url], "ghcr.io": [rig.first.url]}))
    assert cri_pull(rig.node, HUB_IMAGE).image_id == rig.first.pushed["library/hello"].image_id
    cri_remove(rig.node, HUB_IMAGE)
    before, mark, began = lives(rig), rig.second.mark(), time.monotonic()
    service.desire(desired_state({"docker.io": [rig.second.url], "ghcr.io": [rig.second.url]}))
    service.await_mirror("docker.io", rig.second.url, EDIT_DEADLINE_SECONDS)
    seconds = time.monotonic() - began
    assert cri_pull(rig.node, HUB_IMAGE).image_id == rig.second.pushed["library/hello"].image_id
    assert cri_pull(rig.node, GHCR_IMAGE).image_id == rig.second.pushed["org/app"].image_id
    rig.second.await_request("HEAD /v2/library/hello/manifests/latest?ns=docker.io", since=mark)
    rig.second.await_request("HEAD /v2/org/app/manifests/latest?ns=ghcr.io", since=mark)
    service.await_nothing_pending()
    assert lives(rig) == before
    print(f"an edit reached hosts.toml in {seconds:.3f} s (poll included)")


def test_an_edit_moves_dockers_pulls_to_the_new_mirror(rig: Rig, service: Service) -> None:
    """Seconds after an edit `docker pull` is served by the mirror named now, after one reload and no restart."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    assert docker_mirrors(rig.node) == [rig.first.url + "/"]
    before, mark, cursor, began = lives(rig), rig.second.mark(), rig.node.cursor(), time.monotonic()
    service.desire(desired_state({"docker.io": [rig.second.url]}))
    service.await_docker(rig.second.url, deadline_seconds=EDIT_DEADLINE_SECONDS)
    seconds = time.monotonic() - began
    pull = docker_pull(rig.node, "hello")
    assert (pull.error, pull.image_id) == ("", rig.second.pushed["library/hello"].image_id)
    rig.second.await_request("/v2/library/hello/manifests/", since=mark)
    service.await_nothing_pending()
    assert lives(rig) == before
    assert service.count(Kind.RELOADED, Kind.RESTARTED, after=cursor) == {"RELOADED": 1}
    print(f"an edit reached dockerd in {seconds:.3f} s (poll included)")


def test_mirrors_are_tried_in_the_order_of_the_desired_state(rig: Rig, service: Service) -> None:
    """The first mirror named serves; when it is dead the second does, for kubelet and for Docker."""
    service.start_with(desired_state({"docker.io": [rig.second.url, rig.first.url]}))
    expected = [rig.second.pushed["library/hello"].image_id, rig.first.pushed["library/hello"].image_id]
    by_kubelet = [cri_pull(rig.node, HUB_IMAGE).image_id]
    assert docker_mirrors(rig.node) == [rig.second.url + "/", rig.first.url + "/"]
    rig.second.stop()
    cri_remove(rig.node, HUB_IMAGE)
    by_kubelet.append(cri_pull(rig.node, HUB_IMAGE).image_id)
    assert (by_kubelet, docker_pull(rig.node, "hello").image_id) == (expected, expected[1])


@needs_hosts_toml
def test_a_registry_that_is_no_longer_desired_is_taken_back(rig: Rig, service: Service) -> None:
    """Dropping a registry removes its directory, so that `_default` or upstream counts again; the others stay."""
    service.start_with(desired_state({"docker.io": [rig.first.url], "ghcr.io": [rig.first.url]}))
    kept = rig.node.identity(hosts_path("docker.io"))
    service.desire(desired_state({"docker.io": [rig.first.url]}))
    directory = hosts_path("ghcr.io").rpartition("/")[0]
    wait_until(lambda: not rig.node.exists(directory), EDIT_DEADLINE_SECONDS, f"{directory} to be gone")
    assert not cri_pull(rig.node, GHCR_IMAGE).ok
    assert rig.node.identity(hosts_path("docker.io")) == kept


def test_default_serves_every_registry_without_an_entry(rig: Rig, service: Service) -> None:
    """`_default` sends a pull from a registry nobody named through its mirror (containerd 1.6.17 and later)."""
    service.start_with(desired_state({"_default": [rig.second.url]}))
    mark = rig.second.mark()
    pull = cri_pull(rig.node, GHCR_IMAGE)
    assert (pull.error, pull.image_id) == ("", rig.second.pushed["org/app"].image_id)
    rig.second.await_request("manifests/latest?ns=ghcr.io", since=mark)


def test_the_last_mirror_is_taken_from_docker_without_a_restart(rig: Rig, service: Service) -> None:
    """Docker keeps a mirror whose key is merely absent after a reload; the agent gets it out all the same."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    before, cursor = rig.node.life("docker"), rig.node.cursor()
    service.desire(desired_state({}))
    service.await_docker(deadline_seconds=EDIT_DEADLINE_SECONDS)
    service.await_nothing_pending()
    assert (rig.node.life("docker"), starts_of(rig.node, "docker.service", cursor)) == (before, 0)


def test_a_boot_needs_no_act(fresh_rig: Rig, fresh_service: Service) -> None:
    """Enabled and rebooted, the agent's files stand before the runtimes start: no cycle in the order, no deadlock, and
    Docker has the mirror from its first start."""
    node, service = fresh_rig.node, fresh_service
    service.desire(desired_state({"docker.io": [fresh_rig.first.url]}))
    node.run("systemctl enable mirror-agent")
    node.reboot()
    service.await_nothing_pending()
    assert docker_mirrors(node) == [fresh_rig.first.url + "/"]
    assert service.count(Kind.RELOADED, Kind.RESTARTED, after="") == {}
    this_boot = node.journal("-b", "0", "-t", "systemd")
    assert [entry["MESSAGE"] for entry in this_boot if "ordering cycle" in str(entry["MESSAGE"])] == []
    ready = [int(node.show(unit, _READY_AT)[_READY_AT]) for unit in ("mirror-agent", "containerd", "docker")]
    assert ready[0] < min(ready[1:])
    print(f"{node.suite}: booted with the agent in {node.boot_seconds:.1f} s")


@needs_hosts_toml
def test_docker_starts_with_the_mirrors_when_both_start_together(rig: Rig, service: Service) -> None:
    """In one transaction, as at boot, the files stand before the runtimes start: no deadlock, no reload, no restart."""
    node = rig.node
    node.run("systemctl stop docker.socket docker.service containerd.service")
    service.desire(desired_state({"docker.io": [rig.first.url]}))
    cursor = node.cursor()
    node.run("systemctl start docker.service containerd.service mirror-agent.service", timeout_seconds=30)
    assert docker_mirrors(node) == [rig.first.url + "/"]
    service.await_nothing_pending()
    assert service.count(Kind.RELOADED, Kind.RESTARTED, after=cursor) == {}
    assert starts_of(node, "docker.service", cursor) == 1
    assert '"registry-mirrors"' in node.text(DAEMON_JSON)
