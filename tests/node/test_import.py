"""`mirror-agent import` on real nodes: what it prints describes the node so that nothing is left to do.

A few kinds of nodes each time, all of them with MIRROR_AGENT_SOAK=1.
"""

import os

import pytest

from tests.node.found_nodes import FOUND, laid
from tests.node.rig import DESIRED_STATE, Rig
from tests.node.service import Service

_TREES = ("/etc/containerd", "/etc/docker")
_EACH_TIME = ("stock", "hosts.toml without config_path", "both, differing", "flags and hosts.toml")
_CHOSEN = tuple(FOUND) if os.environ.get("MIRROR_AGENT_SOAK") == "1" else _EACH_TIME


@pytest.mark.parametrize("name", _CHOSEN)
def test_a_node_as_it_is_found_needs_nothing(stock_rig: Rig, stock_service: Service, name: str) -> None:
    """import's text as the desired state: `plan` has nothing to do, `apply` touches no file and no daemon."""
    node, service = stock_rig.node, stock_service
    with laid(node, FOUND[name]):
        imported = service.cli("import")
        assert imported.rc == 0, imported.err
        node.put(DESIRED_STATE, imported.raw_out, 0o640)
        planned = service.cli("plan")
        assert planned.rc == 0, planned.out + imported.out
        before = (node.identity(*_TREES), node.life("containerd"), node.life("docker"))
        applied = service.cli("apply")
        assert applied.rc == 0, applied.out + applied.err
        assert (node.identity(*_TREES), node.life("containerd"), node.life("docker")) == before
