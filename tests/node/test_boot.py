"""A power cycle with the unit enabled and a new desired state on the disk: the runtimes start with it, once."""

from collections.abc import Iterator

import pytest

from tests.node.boot_table import stamp
from tests.node.install import UNIT
from tests.node.machine import Node
from tests.node.rig import CONFIG_TOML, Rig, assert_pulls_from
from tests.node.service import UNIT_STARTING, Service, desired_state

_RUNTIMES = ("containerd.service", "docker.service")


@pytest.fixture
def service(stock_rig: Rig, stock_service: Service) -> Iterator[Service]:
    """The agent on the stock node, not running and not enabled before the test does that; disabled at the end."""
    yield stock_service
    stock_rig.node.run(["systemctl", "disable", UNIT])


def test_the_first_boot_needs_no_restart(stock_rig: Rig, service: Service) -> None:
    """A node as Debian ships it boots with a desired state it has never seen: config_path, hosts.toml and daemon.json
    are there before the runtimes start, so each starts once, and the first pulls come from the mirror. What the agent
    delays are the runtimes, until it is ready, and it waits for neither (`make boot` measures it)."""
    node = stock_rig.node
    assert "config_path" not in node.text(CONFIG_TOML)
    node.run(["systemctl", "enable", UNIT])
    service.desire(desired_state({"docker.io": [stock_rig.first.url], "ghcr.io": [stock_rig.first.url]}))
    power_cycle(stock_rig)
    assert_ready_before_the_runtimes(node)
    assert_pulls_from(stock_rig.first)
    assert_quiet(node, service)


def test_a_desired_state_from_before_the_boot_counts_from_the_first_pull_on(stock_rig: Rig, service: Service) -> None:
    """Other mirrors, and a setting that only a restart could load, laid down while the agent was not there: after the
    power cycle both are live and nothing was reloaded or restarted."""
    node = stock_rig.node
    service.start_with(desired_state({"docker.io": [stock_rig.first.url], "ghcr.io": [stock_rig.first.url]}))
    service.stop()
    node.run(["systemctl", "enable", UNIT])
    mirrors = {"docker.io": [stock_rig.second.url], "ghcr.io": [stock_rig.second.url]}
    service.desire(desired_state(mirrors, "{settings: {log-driver: local}}"))
    power_cycle(stock_rig)
    assert_ready_before_the_runtimes(node)
    assert_pulls_from(stock_rig.second)
    assert_quiet(node, service)


def power_cycle(rig: Rig) -> None:
    """Off and on again; the boot is through when this returns, and the registries answer."""
    rig.node.reboot()
    for registry in (rig.first, rig.second):
        registry.start()


def assert_ready_before_the_runtimes(node: Node) -> None:
    """systemd started each runtime once, after our READY, and found no cycle that it had to break."""
    ready = stamp(node, UNIT, "ActiveEnterTimestamp")
    for unit in _RUNTIMES:
        starts = node.journal("-b", f"MESSAGE_ID={UNIT_STARTING}", f"UNIT={unit}")
        assert (len(starts), node.show(unit, "NRestarts")["NRestarts"]) == (1, "0"), unit
        assert stamp(node, unit, "ExecMainStartTimestamp") >= ready
    assert node.run("journalctl -b -q --no-pager | grep -i 'ordering cycle'", check=False).out == ""
    assert "cycle" not in node.run(["systemd-analyze", "verify", "multi-user.target"], check=False).err
    waits_for = node.show(UNIT, "After", "Requires", "Wants", "BindsTo")
    assert not [name for names in waits_for.values() for name in names.split() if name in _RUNTIMES], waits_for
    assert node.run("systemctl list-jobs --no-legend").out.strip() in ("", "No jobs running.")


def assert_quiet(node: Node, service: Service) -> None:
    """Everything is live, the agent runs since the boot, and neither runtime was touched since its own start."""
    service.await_nothing_pending()
    assert service.cli("status").rc == 0
    assert service.restarts() == 0
    for unit in _RUNTIMES:
        assert len(node.journal("-b", f"MESSAGE_ID={UNIT_STARTING}", f"UNIT={unit}")) == 1
