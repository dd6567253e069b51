"""Somebody changes daemon.json between our write and the daemon's reading of it: that says nothing about the reload."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent import converge
from agent.events import Event, Kind
from agent.feud import Feuds
from agent.model import DesiredState, Mirror, Registry
from tests.dockerd import DockerHost

OURS, THEIRS = "https://ours.example", "https://theirs.example"
HUB = Registry("docker.io", "https://registry-1.docker.io", (Mirror(OURS),))
DESIRED = DesiredState("g1" * 32, registries=(HUB,))


@dataclass
class Contested(DockerHost):
    """A machine on which another tool writes its own mirrors whenever dockerd is about to read ours."""

    at_war: bool = True
    changes: list[float] = field(default_factory=list)

    def reload_unit(self, unit: str) -> None:
        if self.at_war:
            self.edit({"registry-mirrors": [THEIRS]})
            self.changes.append(self.clock.unix_seconds)
        super().reload_unit(unit)


def test_a_reload_that_read_somebody_elses_file_has_not_failed() -> None:
    """It is not waited for, not remembered as failed, and no restart comes of it, neither in the war nor after it: when
    the file is ours again, one reload brings what is desired."""
    host, feuds = Contested(), Feuds()
    events: list[Event] = []
    host.start()
    began = host.clock.unix_seconds
    for _ in range(3):
        converge.converge(DESIRED, host, events.append, acts=True, feuds=feuds)
    assert (len(host.changes) > 3, host.clock.unix_seconds - began < 9.0) == (True, True)
    assert host.stored_ledger.memory_of("docker").failed_reload == ""
    assert feuds.contended == {"/etc/docker/daemon.json"}
    host.at_war = False
    host.tick(700.0)
    for _ in range(3):
        converge.converge(DESIRED, host, events.append, acts=True, feuds=feuds)
        host.tick(700.0)
    assert (host.running["registry-mirrors"], host.restarts, host.wrong_acts) == ([OURS], [], [])
    assert feuds.contended == frozenset()
    assert [event.message for event in events if event.kind is Kind.FAILED] == []
