"""Hostile and broken configurations on a node as Debian ships it: Docker and the CRI stay up, nothing foreign is lost.

A spread of them each time; all of them with MIRROR_AGENT_SOAK=1 (`make hostile`).
"""

import os
from itertools import chain

import pytest

from tests.node.conftest import watch_journal
from tests.node.hostile import containerd_toml, docker_json, docker_unit, hosts_trees, nodes, wishes
from tests.node.hostile.case import restore, run
from tests.node.rig import Rig, reset
from tests.node.service import Service

_PARTS = (wishes, docker_json, docker_unit, containerd_toml, hosts_trees, nodes)
ALL = {case.name: case for case in chain.from_iterable(part.cases() for part in _PARTS)}
EACH_TIME = (
    "mirror: user",
    "setting: log-driver",
    "daemon.json: duplicate keys",
    "daemon.json: unknown keys",
    "daemon.json is a FIFO",
    "insecure of others: h/path",
    "flag: mirror, waiting",
    "start limit used up",
    "config.toml: all legacy",
    "config.toml, waiting: config_path and mirrors",
    "hosts.toml is a FIFO",
    "docker.io is a link elsewhere",
)
CHOSEN = tuple(ALL) if os.environ.get("MIRROR_AGENT_SOAK") == "1" else EACH_TIME


@pytest.fixture
def arena(shared_stock_rig: Rig, request: pytest.FixtureRequest) -> Rig:
    """The stock node as it was after boot, whatever test was there before; each case leaves it so, too."""
    reset(shared_stock_rig)
    watch_journal(request, shared_stock_rig)
    return shared_stock_rig


@pytest.mark.parametrize("name", CHOSEN)
def test_a_hostile_configuration(arena: Rig, suite: str, name: str) -> None:
    """What was up is up and starts again, nothing foreign is lost, the agent lives and says what is wrong."""
    case = ALL[name]
    if suite not in case.not_on:
        try:
            run(arena, Service.install(arena), case)
        finally:
            restore(arena, case)
