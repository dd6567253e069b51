"""Docker's hosts.toml: only where this Docker reads them, and what status says about each registry."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.model import Absent, DesiredState, Mirror, Registry, RegistryReport
from agent.plan import Claim, Memory, RemoveFile, WriteFile
from agent.render import is_ours
from agent.runtimes.docker import RUNTIME
from tests.docker_plans import DOWN, A, B, acts, desired, info, loaded, machine, owning, plan, remembered
from tests.fakes import FakeHost

HUB, GHCR = (f"/etc/docker/certs.d/{name}/hosts.toml" for name in ("docker.io", "ghcr.io"))
STORE = {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}


def answer(*mirrors: str, version: str = "28.5.2", store: object = STORE["DriverStatus"]) -> bytes:
    return info(*mirrors, DriverStatus=store).replace(b"26.1.5", version.encode())


def both() -> DesiredState:
    """A mirror for Docker Hub and one for ghcr.io."""
    state = desired(A)
    return replace(state, registries=(*state.registries, Registry("ghcr.io", "https://ghcr.io", (Mirror(B),))))


def converged(reply: bytes) -> FakeHost:
    host = owning(machine(json.dumps({"registry-mirrors": [A]}), answer=reply), Absent(), registry_mirrors=None)
    return remembered(host, Memory("i1", loaded(registry_mirrors=f'["{A}"]')))


def written(host: FakeHost) -> list[str]:
    return [action.path for action in plan(host, both()).actions if isinstance(action, WriteFile)]


def rows(host: FakeHost, state: DesiredState) -> tuple[RegistryReport, ...]:
    return RUNTIME.report(state, RUNTIME.observe(host, state)).registries


def test_every_registry_gets_a_file_without_any_act() -> None:
    """Docker 28 with the containerd image store: two files, and Docker is not even told."""
    host = converged(answer(A))
    assert written(host) == [HUB, GHCR]
    assert acts(plan(host, both())) == []


@pytest.mark.parametrize(
    "reply", [answer(A, version="27.5.1"), answer(A, store=[["Backing Filesystem", "extfs"]]), answer(A, version="")]
)
def test_other_dockers_get_none(reply: bytes) -> None:
    """An older one and the other store do not read the file, so it is not written."""
    assert written(converged(reply)) == []


def ours(host: FakeHost) -> FakeHost:
    """The files as the agent left them."""
    made = plan(converged(answer(A)), both())
    for action in made.actions:
        if isinstance(action, WriteFile):
            host.put(action.path, action.content)
    host.stored_ledger = host.stored_ledger.with_claims("docker", made.claims)
    return host


def test_what_an_older_docker_does_not_read_is_taken_back() -> None:
    """After a downgrade or another store, with the reason; daemon.json stays ours."""
    made = plan(ours(converged(answer(A, version="26.1.5"))), both())
    assert {a.path: a.reason for a in made.actions if isinstance(a, RemoveFile)} == dict.fromkeys(
        (HUB, GHCR), "this Docker does not read it"
    )
    assert {release.path for release in made.releases} == {HUB, GHCR}


def test_at_rest_the_files_are_kept_up() -> None:
    """Nothing can be asked at a boot: what we wrote says that this Docker reads it; without that nothing is written."""
    host = ours(machine("{}", unit=DOWN))
    del host.files[GHCR]
    assert GHCR in written(host)
    assert GHCR not in written(machine("{}", unit=DOWN))


def test_a_silent_docker_keeps_its_files() -> None:
    """Running, but no answer: nothing is taken back for that."""
    host = ours(converged(answer(A)))
    host.answers.clear()
    assert [action for action in plan(host, both()).actions if isinstance(action, RemoveFile)] == []


def test_a_file_of_somebody_else_is_kept_and_claimed() -> None:
    """The ledger has what stood there."""
    host = converged(answer(A))
    host.put(GHCR, 'server = "https://ghcr.io"\n')
    foreign = host.files[GHCR]
    claims = {claim.path: claim for claim in plan(host, both()).claims}
    assert isinstance(foreign, type(claims[GHCR].original))
    assert claims[GHCR] == Claim(GHCR, foreign)


def test_status_says_which_file_counts() -> None:
    """For Docker Hub two places name the mirrors; for other registries there is one."""
    host = ours(converged(answer(A)))
    note = "this file counts, and registry-mirrors in daemon.json does not"
    assert rows(host, both()) == (
        RegistryReport("docker.io", (A,), HUB, note, live=True),
        RegistryReport("ghcr.io", (B, "https://ghcr.io"), GHCR, live=True),
    )
    host.put(GHCR, "")
    assert [row.live for row in rows(host, both())] == [True, False]


def test_status_says_what_to_pull_instead() -> None:
    """Docker 28 without that store cannot mirror ghcr.io, nor can an older one."""
    for version, docker in (("28.5.2", "Docker 28 without the containerd image store"), ("26.1.5", "Docker 26")):
        row = rows(converged(answer(A, version=version, store=[])), both())[1]
        assert row == RegistryReport("ghcr.io", (), "", f"not possible in {docker}; pull b.example/NAME instead")


def test_a_stray_certificate_is_told() -> None:
    """On the containerd image store a .cert without its .key breaks every pull from Docker Hub (26 and later)."""
    host = converged(answer(A, version="26.1.5"))
    host.put("/etc/docker/certs.d/docker.io/client.cert", "x")
    assert "client.cert" in rows(host, both())[0].note
    assert rows(host, both())[0].note.endswith("so every pull from Docker Hub fails: remove it")
    host.answers[("/run/docker.sock", "/info")] = answer(A, version="26.1.5", store=[])
    assert rows(host, both())[0].note == ""


def test_the_only_mirror_without_fallback_is_named_twice() -> None:
    """With `server` alone the file would lose to registry-mirrors, and Docker Hub would be asked."""
    state = desired(A)
    state = replace(state, registries=(replace(state.registries[0], fallback=False),))
    made = plan(converged(answer(A)), state)
    content = next(action.content for action in made.actions if isinstance(action, WriteFile))
    assert is_ours(content)
    assert content.decode().count(A) == 2
