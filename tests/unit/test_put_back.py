"""A file that is put back because a daemon did not run with it is no drift, and is not called that."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import pytest

from agent.events import Event, Kind, Level
from agent.keeper import Keeper
from agent.model import Cri
from agent.node import RealHost
from tests.containerd_unit import CONFIG, ContainerdHost
from tests.kept_host import KeptHost
from tests.unit.test_containerd_bringup import BLOCK, DEBIAN, machine

YAML = "version: 1\nregistries:\n  ghcr.io: {mirrors: [https://m.cn]}\ndocker: {manage: false}\n"
PATH = "/etc/mirror-agent.yaml"


@dataclass
class KeptContainerd(KeptHost, ContainerdHost):
    """`is_well` says of the file that it runs with whether its CRI answers."""

    is_well: Callable[[str], bool] = lambda _: True

    def cri(self, socket: str) -> Cri:
        return super().cri(socket) if self.is_well(self.loaded) else Cri.SILENT


def kept(events: list[Event]) -> tuple[KeptContainerd, Keeper]:
    """A node whose containerd is to have a mirror."""
    host = KeptContainerd(**machine().__dict__)
    host.put(PATH, YAML, 0o640)
    keeper = Keeper(cast(RealHost, host), PATH, events.append, 0)
    keeper.start()
    return host, keeper


def look(host: KeptContainerd, keeper: Keeper, seconds: float) -> None:
    keeper.look(acts=True)
    host.clock = replace(host.clock, unix_seconds=host.clock.unix_seconds + seconds)


def told(events: list[Event]) -> list[tuple[Kind, Level, str]]:
    """What is said of config.toml, and of a cycle's end."""
    kinds = {Kind.CONVERGED, Kind.DRIFT, Kind.UNRESOLVED}
    return [
        (event.kind, event.level, event.message.partition(" ms")[0].rpartition(" in ")[0] or event.message)
        for event in events
        if event.kind in kinds or (event.kind is Kind.WROTE and event.path == CONFIG)
    ]


@pytest.mark.parametrize("has_conflict", [True, False])
def test_what_a_containerd_does_not_run_with_is_put_back(*, has_conflict: bool) -> None:
    """The warning says why; the cycle's end that it was put back, and nobody else is blamed: neither where a person has
    to mend it, nor where what was there before is all that is wanted."""
    events: list[Event] = []
    host, keeper = kept(events)
    if has_conflict:
        host.is_well = lambda config: config != DEBIAN + BLOCK
    look(host, keeper, 700.0)
    if not has_conflict:
        host.is_well = lambda config: config != DEBIAN
        host.put(PATH, YAML.replace("ghcr.io: {mirrors: [https://m.cn]}", "{}"), 0o640)
        look(host, keeper, 0.0)
    host.clock = replace(host.clock, unix_seconds=host.clock.unix_seconds + 95.0)
    keeper.publish()
    events.clear()
    look(host, keeper, 0.0)
    keeper.publish()
    said = "its CRI does not answer with this, 90 s after the start, so what stood there before is put back"
    stamp = keeper.status.short_generation
    end = (
        (Kind.UNRESOLVED, Level.WARNING, f"{stamp}: 1 file written, 1 restart, but 1 conflict needs you")
        if has_conflict
        else (Kind.CONVERGED, Level.INFO, f"what did not work is put back, converged {stamp}")
    )
    assert told(events) == [(Kind.WROTE, Level.WARNING, f"containerd: wrote config.toml: {said}"), end]
    assert keeper.status.cause == "after a change that did not work was put back"
