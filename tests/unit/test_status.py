"""status.json: what goes in comes out, and nothing that is not a status can hurt a reader."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Problem
from agent.model import RegistryReport, RuntimeReport
from agent.plan import Conflict, Contention, Deferred, Memory, Reload, Restart
from agent.status import Pending, Status, decode, encode, pending_of

HUB = RegistryReport("docker.io", ("https://docker.m.daocloud.io", "https://registry-1.docker.io"), "/etc/x", "说明")
DOCKER = RuntimeReport("docker", "Docker", True, "26.1.5", True, "reloaded", (HUB,))
FULL = Status(
    outcome="changed",
    generation="7f3a91c" + "0" * 57,
    source="/etc/mirror-agent.yaml",
    pid=123,
    loaded_at=1.5,
    converged_at=2.5,
    cause="after an edit of /etc/mirror-agent.yaml",
    runtimes=(DOCKER,),
    pending=(Pending("docker", "restart", "docker.service", "waits for 02:00", 60.0),),
    conflicts=(Conflict("/etc/docker/daemon.json", "not JSON"),),
    contentions=(Contention("/etc/docker/daemon.json", "docker", "nvidia-ctk", 5.5),),
    problems=(Problem(4, 5, "registries.docker.io.mirror", "unknown key", 6),),
    last_error="read-only file system (EROFS)",
    last_error_at=2.0,
)
CALM = Status(generation="7f3a91c", runtimes=(DOCKER,))


@pytest.mark.parametrize("status", [Status(), CALM, FULL])
def test_a_status_survives_the_file(status: Status) -> None:
    """Reading back what was written gives the same value."""
    assert decode(encode(status)) == status


def test_the_file_is_versioned_json_that_a_person_can_read() -> None:
    """It says its version, is UTF-8 as it stands, and ends with a newline."""
    data = encode(FULL)
    assert json.loads(data)["version"] == 1
    assert "说明" in data.decode()
    assert data.endswith(b"}\n")


def test_a_newer_writer_is_understood() -> None:
    """Unknown fields are ignored and missing ones have their defaults."""
    assert decode(b'{"version": 2, "generation": "abc", "mood": "good"}') == Status(generation="abc")


@given(
    st.binary(max_size=60)
    | st.sampled_from(
        [
            b"[]",
            b"null",
            b'{"outcome": 5}',
            b'{"loaded_at": "x"}',
            b'{"runtimes": 1}',
            b'{"runtimes": [{}]}',
            b"{",
            b"\xff",
        ]
    )
)
def test_anything_else_is_no_status(data: bytes) -> None:
    """No bytes at all make the reader fail: it is a Status or None."""
    assert isinstance(decode(data), Status | None)


@pytest.mark.parametrize(
    ("status", "live"),
    [
        (CALM, True),
        (replace(CALM, outcome="changed"), True),
        (replace(CALM, outcome="degraded"), False),
        (replace(CALM, runtimes=(replace(DOCKER, live=False),)), False),
        (replace(CALM, runtimes=(replace(DOCKER, live=None),)), True),
        (replace(CALM, pending=FULL.pending), False),
        (replace(CALM, conflicts=FULL.conflicts), False),
        (replace(CALM, contentions=FULL.contentions), False),
        (replace(CALM, outcome="contended"), False),
        (replace(CALM, problems=FULL.problems), False),
    ],
)
def test_live_means_nothing_waits_and_nothing_is_wrong(status: Status, live: bool) -> None:
    """A runtime that is not live, anything pending, in conflict, invalid or failed makes the whole not live."""
    assert status.is_live is live


def test_a_deferred_act_is_shown_with_its_reason() -> None:
    """Reload and restart are told apart, and the time to the next attempt is kept."""
    reload = Deferred(Reload("docker.service", "mirrors changed", "abc", Memory()), "policy", None)
    restart = Deferred(Restart("docker.service", "log-driver changed", Memory()), "within 60 s", 12.0)
    assert [pending_of("docker", deferred) for deferred in (reload, restart)] == [
        Pending("docker", "reload", "docker.service", "policy", None),
        Pending("docker", "restart", "docker.service", "within 60 s", 12.0),
    ]
