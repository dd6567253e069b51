"""Any Debian as it ships: install, edit the YAML, and both runtimes pull through the mirror; no other human step."""

from collections.abc import Iterator

import pytest

from tests.node.containers import pids_of_containers, start_containers, stop_containers
from tests.node.install import REPOSITORY
from tests.node.rig import Rig, assert_pulls_from
from tests.node.service import Service, desired_state, starts_of

_SHIPPED = (REPOSITORY / "packaging/mirror-agent.yaml").read_text()
_TREES = ("/etc/containerd", "/etc/docker")
_CONTAINERD, _DOCKER = "containerd.service", "docker.service"


@pytest.fixture
def containers(stock_rig: Rig) -> Iterator[dict[str, str]]:
    start_containers(stock_rig.node)
    yield pids_of_containers(stock_rig.node)
    stop_containers(stock_rig.node)


def test_install_edit_pull_revert(stock_rig: Rig, containers: dict[str, str], stock_service: Service) -> None:
    """The installed agent with the desired state as it is shipped touches nothing. One edit, and kubelet's pulls and
    `docker pull` come from the mirror: one start of containerd, none of Docker, and a running container of
    each keeps its process. `revert` gives the trees back byte for byte."""
    node, service = stock_rig.node, stock_service
    assert set(containers) == {"containerd", "docker"}
    before, docker, cursor = node.identity(*_TREES), node.life("docker"), node.cursor()
    service.start_with(_SHIPPED)
    assert node.identity(*_TREES) == before
    service.desire(desired_state({"docker.io": [stock_rig.first.url], "ghcr.io": [stock_rig.first.url]}))
    service.await_docker(stock_rig.first.url)
    service.await_nothing_pending(deadline_seconds=30)
    assert_pulls_from(stock_rig.first)
    assert service.cli("status").rc == 0
    assert (starts_of(node, _CONTAINERD, cursor), starts_of(node, _DOCKER, cursor)) == (1, 0)
    assert (node.life("docker"), pids_of_containers(node)) == (docker, containers)
    service.stop()
    service.cli("revert")
    assert node.tree(*_TREES) == {path: entry[:5] for path, entry in before.items()}
    assert pids_of_containers(node) == containers
