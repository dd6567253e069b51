"""A masked unit: systemd would refuse to start it, so it is not restarted, and that is said instead of tried."""

from __future__ import annotations

from dataclasses import replace

from agent import converge
from agent.events import Event, Kind
from agent.model import DesiredState, DockerSettings, Mirror, Registry, Setting
from agent.outcome import RuntimeResult
from tests.dockerd import UNIT, DockerHost

DESIRED = DesiredState(
    "g1" * 32,
    registries=(Registry("docker.io", "https://registry-1.docker.io", (Mirror("https://m.example"),)),),
    docker=DockerSettings(settings=(Setting("log-driver", '"local"'),)),
)
REASON = "docker.service is masked, so systemd would not start it again: systemctl unmask docker.service"


def look(host: DockerHost, desired: DesiredState, events: list[Event]) -> RuntimeResult:
    results = converge.converge(desired, host, events.append, acts=True).runtimes
    return next(result for result in results if result.runtime == "docker")


def mask(host: DockerHost, *, masked: bool) -> None:
    host.units[UNIT] = replace(host.units[UNIT], is_masked=masked)


def test_a_masked_docker_that_runs_is_reloaded_and_not_restarted() -> None:
    """What a reload brings is there; the restart waits, with the reason, and is asked about again; unmasked, it is
    made. No failure is ever said."""
    host, events = DockerHost(), []
    host.start()
    mask(host, masked=True)
    look(host, replace(DESIRED, docker=DockerSettings()), events)
    waiting = look(host, DESIRED, events)
    assert [(deferred.reason, deferred.retry_after_seconds) for deferred in waiting.deferred] == [(REASON, 60.0)]
    assert (host.restarts, host.running["registry-mirrors"]) == ([], ["https://m.example"])
    assert converge.plans(DESIRED, host)[-1].acts == ()
    mask(host, masked=False)
    host.tick(120.0)
    assert look(host, DESIRED, events).deferred == ()
    assert (len(host.restarts), host.running["log-driver"]) == (1, "local")
    assert [event.message for event in events if event.kind is Kind.FAILED] == []
