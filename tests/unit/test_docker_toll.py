"""Which containers a restart ends for good: asked in bounds, said by name, and never too few."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from agent.runtimes._docker_toll import Toll, look_at_toll
from tests.docker_plans import SOCKET
from tests.fakes import FakeHost


def host(policies: Mapping[str, object], labels: Mapping[str, str] | None = None) -> FakeHost:
    """A Docker in which these containers run, each with the RestartPolicy of its inspection."""
    found = FakeHost()
    rows = []
    for number, (name, policy) in enumerate(policies.items()):
        rows.append({"Id": f"{number:064x}", "Names": [f"/{name}"], "Labels": dict(labels or {})})
        answer = json.dumps({"HostConfig": {"RestartPolicy": policy}}).encode()
        found.answers[(SOCKET, f"/containers/{number:064x}/json")] = answer
    found.answers[(SOCKET, "/containers/json")] = json.dumps(rows).encode()
    return found


def test_the_policy_decides() -> None:
    """`always` and `unless-stopped` come back; `no` does not; `on-failure` does if it ends badly on SIGTERM."""
    policies = {name: {"Name": name} for name in ("no", "always", "unless-stopped", "on-failure")}
    assert look_at_toll(host(policies)) == Toll(("no",), ("on-failure",))


@pytest.mark.parametrize("policy", [None, {}, {"Name": ""}, {"Name": None}, [], "always"])
def test_what_does_not_say_is_counted_as_lost(policy: object) -> None:
    """Rather one name too many."""
    assert look_at_toll(host({"web": policy})) == Toll(("web",))


@pytest.mark.parametrize("label", ["com.docker.swarm.task.id", "io.kubernetes.pod.uid"])
def test_what_a_scheduler_makes_again_is_not_lost(label: str) -> None:
    """Swarm's tasks and kubelet's containers have no restart policy and need none."""
    assert look_at_toll(host({"web": {"Name": "no"}}, {label: "x"})) == Toll()


@pytest.mark.parametrize("answer", [None, b"", b"{}", b"null", b"\xff", b"[" * 100_000])
def test_no_answer_is_no_knowledge(answer: bytes | None) -> None:
    """None: the caller must not take it for "no container"."""
    found = FakeHost()
    if answer is not None:
        found.answers[(SOCKET, "/containers/json")] = answer
    assert look_at_toll(found) is None


def test_an_id_is_no_path() -> None:
    """What Docker calls an id goes into a request only if it is one; the container counts as lost."""
    found = FakeHost()
    found.answers[(SOCKET, "/containers/json")] = json.dumps([{"Id": "../x y", "Names": []}, 7]).encode()
    assert look_at_toll(found) == Toll(("../x y",))


def test_hundreds_are_not_all_looked_at() -> None:
    """Two hundred at most, and the rest is said to be unknown."""
    toll = look_at_toll(host({f"c{number:03}": {"Name": "no"} for number in range(250)}))
    assert toll is not None
    assert (len(toll.ended), toll.unseen, toll.is_free) == (200, 50, False)
    assert toll.sentence == (
        "it ends c000, c001, c002, c003, c004 and 195 more for good; what becomes of 50 more containers is not known"
    )


def test_a_slow_docker_holds_nobody_up() -> None:
    """After two seconds the rest is unknown."""
    found = host({f"c{number}": {"Name": "always"} for number in range(9)})

    def slow() -> bytes:
        found.clock = replace(found.clock, unix_seconds=found.clock.unix_seconds + 0.9)
        return b'{"HostConfig": {"RestartPolicy": {"Name": "always"}}}'

    for number in range(9):
        found.answers[(SOCKET, f"/containers/{number:064x}/json")] = slow
    assert look_at_toll(found) == Toll(unseen=6)


def test_nothing_lost_is_nothing_said() -> None:
    """No sentence, and free."""
    assert (Toll().sentence, Toll().is_free) == ("", True)
