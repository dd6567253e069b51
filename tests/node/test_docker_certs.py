"""Docker 28 with the containerd image store: mirrors for every registry, without a reload."""

import json

import pytest

from agent.events import Kind
from tests.node.pulls import docker_info, docker_pull, docker_remove
from tests.node.rig import DAEMON_JSON, GHCR_IMAGE, Rig
from tests.node.service import CONVERGE_DEADLINE_SECONDS, Service, desired_state, starts_of
from tests.node.waiting import wait_until

_GHCR = "/etc/docker/certs.d/ghcr.io/hosts.toml"
pytestmark = pytest.mark.only_on("forky")


def test_docker_pulls_from_any_registry_through_its_mirror(fresh_rig: Rig, fresh_service: Service) -> None:
    """A ghcr.io name comes from the mirror named in the desired state; dockerd keeps its process and its invocation,
    and is told nothing. Another mirror counts at the next pull, and what is no longer desired goes without a trace."""
    rig, service, node = fresh_rig, fresh_service, fresh_rig.node
    node.put(DAEMON_JSON, json.dumps({"features": {"containerd-snapshotter": True}}))
    node.run("systemctl restart docker")
    assert "io.containerd.snapshotter.v1" in str(docker_info(node)["DriverStatus"])
    before, cursor, mark = node.life("docker"), node.cursor(), rig.second.mark()
    service.start_with(desired_state({"ghcr.io": [rig.second.url]}))
    pull = docker_pull(node, GHCR_IMAGE)
    assert (pull.error, bool(pull.image_id)) == ("", True)
    rig.second.await_request("/v2/org/app/manifests/", since=mark)
    assert node.life("docker") == before
    assert (starts_of(node, "docker.service", cursor), service.count(Kind.RELOADED, Kind.RESTARTED, after=cursor)) == (
        0,
        {},
    )
    service.await_nothing_pending()
    docker = next(part for part in service.status()["runtimes"] if part["name"] == "docker")
    assert [(row["name"], row["hosts"], row["note"]) for row in docker["registries"]] == [
        ("ghcr.io", [rig.second.url, "https://ghcr.io"], "")
    ]
    service.desire(desired_state({"ghcr.io": [rig.first.url]}))
    wait_until(lambda: rig.first.url in node.text(_GHCR), CONVERGE_DEADLINE_SECONDS, f"{rig.first.url} in {_GHCR}")
    docker_remove(node, GHCR_IMAGE)
    mark = rig.first.mark()
    assert docker_pull(node, GHCR_IMAGE).error == ""
    rig.first.await_request("/v2/org/app/manifests/", since=mark)
    service.desire(desired_state({}))
    wait_until(lambda: not node.exists("/etc/docker/certs.d"), CONVERGE_DEADLINE_SECONDS, "certs.d to be gone")
    assert node.life("docker") == before
