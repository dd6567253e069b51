"""The metrics as a text: what a reading says, and that whatever is in it, the format holds."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import __version__
from agent.errors import Problem
from agent.metrics import FAMILIES, HEADER, Counters, MirrorMetric, Reading, encode
from agent.model import RuntimeReport
from agent.outcome import CycleResult, Outcome, RuntimeResult, Tally
from agent.plan import Conflict, Contention, Deferred, Memory, Restart
from agent.status import Status
from tests.exposition_format import Parsed, parse

GENERATION = "7f3a91c" + "0" * 57
CONTAINERD = RuntimeReport("containerd", "containerd", True, "1.7.24", True, "in use")
DOCKER = RuntimeReport("docker", "Docker", True, "26.1.5", False, "not reloaded")
WAITS = Deferred(Restart("docker.service", "a key changed", Memory()), "it waits for 02:00", 60.0)
MIRROR = "https://docker.m.daocloud.io"
RESULT = CycleResult(
    GENERATION,
    (
        RuntimeResult("containerd", Outcome.CHANGED, Tally(written=2, removed=1)),
        RuntimeResult(
            "docker",
            Outcome.FAILED,
            Tally(restarts=1),
            deferred=(WAITS,),
            conflicts=(Conflict("/etc/docker/daemon.json", "not JSON"),),
            contentions=(Contention("/etc/docker/daemon.json", "docker", "", 5.5),),
            errors=("read-only file system (EROFS)",),
        ),
    ),
    0.5,
)
READING = Reading(
    Status(generation=GENERATION, runtimes=(CONTAINERD, DOCKER)),
    RESULT,
    replace(Counters().with_result(RESULT).with_converge(1_800_000_000.25, 0.0114, is_drift=True), failovers=2),
    (("docker", 1_799_999_999.0),),
    (
        MirrorMetric("docker.io", MIRROR, True, True, "ok", 0.0321, 1_800_000_000.0),
        MirrorMetric("ghcr.io", 'https://a\\b"c\nd', False, False, "hanging"),
        MirrorMetric("quay.io", "https://quay.m.daocloud.io"),
    ),
)

EXPECTED = f"""\
mirror_agent_info{{version="{__version__}",generation="7f3a91c"}} 1
mirror_agent_desired_state_valid 1
mirror_agent_converged{{runtime="containerd"}} 1
mirror_agent_converged{{runtime="docker"}} 0
mirror_agent_live{{runtime="containerd"}} 1
mirror_agent_live{{runtime="docker"}} 0
mirror_agent_pending{{runtime="containerd"}} 0
mirror_agent_pending{{runtime="docker"}} 1
mirror_agent_conflicts{{runtime="containerd"}} 0
mirror_agent_conflicts{{runtime="docker"}} 1
mirror_agent_contended{{runtime="containerd"}} 0
mirror_agent_contended{{runtime="docker"}} 1
mirror_agent_last_converge_timestamp_seconds 1800000000.25
mirror_agent_last_converge_seconds 0.011
mirror_agent_last_restart_timestamp_seconds{{runtime="containerd"}} 0
mirror_agent_last_restart_timestamp_seconds{{runtime="docker"}} 1799999999
mirror_agent_drift_repaired_total 1
mirror_agent_files_written_total{{runtime="containerd"}} 2
mirror_agent_files_written_total{{runtime="docker"}} 0
mirror_agent_files_removed_total{{runtime="containerd"}} 1
mirror_agent_files_removed_total{{runtime="docker"}} 0
mirror_agent_reloads_total{{runtime="containerd"}} 0
mirror_agent_reloads_total{{runtime="docker"}} 0
mirror_agent_restarts_total{{runtime="containerd"}} 0
mirror_agent_restarts_total{{runtime="docker"}} 1
mirror_agent_errors_total{{runtime="containerd"}} 0
mirror_agent_errors_total{{runtime="docker"}} 1
mirror_agent_failovers_total 2
mirror_agent_mirror_up{{registry="docker.io",mirror="{MIRROR}"}} 1
mirror_agent_mirror_up{{registry="ghcr.io",mirror="https://a\\\\b\\"c\\nd"}} 0
mirror_agent_mirror_in_use{{registry="docker.io",mirror="{MIRROR}"}} 1
mirror_agent_mirror_in_use{{registry="ghcr.io",mirror="https://a\\\\b\\"c\\nd"}} 0
mirror_agent_mirror_in_use{{registry="quay.io",mirror="https://quay.m.daocloud.io"}} 1
mirror_agent_mirror_latency_seconds{{registry="docker.io",mirror="{MIRROR}"}} 0.032
mirror_agent_mirror_verdict{{registry="docker.io",mirror="{MIRROR}",verdict="ok"}} 1
mirror_agent_mirror_verdict{{registry="ghcr.io",mirror="https://a\\\\b\\"c\\nd",verdict="hanging"}} 1
mirror_agent_mirror_last_ok_timestamp_seconds{{registry="docker.io",mirror="{MIRROR}"}} 1800000000
mirror_agent_mirror_last_ok_timestamp_seconds{{registry="ghcr.io",mirror="https://a\\\\b\\"c\\nd"}} 0
mirror_agent_mirror_last_ok_timestamp_seconds{{registry="quay.io",mirror="https://quay.m.daocloud.io"}} 0
"""


def samples(reading: Reading) -> str:
    """The lines that are no comments."""
    return "".join(line for line in encode(reading).decode().splitlines(keepends=True) if not line.startswith("#"))


def series(reading: Reading, name: str) -> dict[str, float]:
    """Of one metric, by the values of its labels."""
    metric = parse(encode(reading)).get(name, Parsed())
    return {" ".join(value for _, value in labels): number for labels, number in metric.series.items()}


def test_every_series_of_a_reading() -> None:
    """In the order of the table, with labels escaped, whole numbers whole and times in milliseconds; what is not known
    of a mirror is left out."""
    assert samples(READING) == EXPECTED


def test_what_a_reader_of_the_format_finds() -> None:
    """Every metric of the table, each with the help and the kind that the table gives it."""
    found = {name: (metric.kind, metric.help) for name, metric in parse(encode(READING)).items()}
    assert found == {family.name: (family.kind, family.help) for family in FAMILIES}
    assert list(found) == [family.name for family in FAMILIES]


def test_the_file_says_whose_it_is() -> None:
    """Its first line is a comment of the format that names the writer and the manual."""
    assert encode(READING).decode().startswith(HEADER)
    assert re.fullmatch(r"# mirror-agent .*\n", HEADER)


def test_without_mirrors_there_is_no_metric_of_mirrors() -> None:
    """A node that probes nothing has neither series nor HELP of that."""
    names = set(parse(encode(replace(READING, mirrors=()))))
    assert {name for name in names if name.startswith("mirror_agent_mirror_")} == set()


def test_names_are_what_prometheus_asks_for() -> None:
    """One prefix, base units, `_total` for counters and for nothing else, no name or label twice."""
    names = [family.name for family in FAMILIES]
    assert [name for name in names if not re.fullmatch(r"mirror_agent_[a-z_]+[a-z]", name)] == []
    assert len(set(names)) == len(names)
    assert {family.kind for family in FAMILIES if not family.name.endswith("_total")} == {"gauge"}
    assert [name for name in names if re.search("_(milliseconds|ms|minutes|time|count|sum|bucket)$", name)] == []
    assert {label for family in FAMILIES for label in family.labels} == {
        "version",
        "generation",
        "runtime",
        "registry",
        "mirror",
        "verdict",
    }


def test_an_invalid_file_is_seen() -> None:
    """The state in force is an earlier one."""
    status = replace(READING.status, problems=(Problem(1, 1, "x", "unknown key"),))
    assert series(replace(READING, status=status), "mirror_agent_desired_state_valid") == {"": 0}


def test_a_runtime_that_is_not_installed_has_no_series() -> None:
    """A node with containerd alone says nothing about Docker, unless something was to be done for it."""
    absent = replace(DOCKER, installed=False, live=None)
    status = replace(READING.status, runtimes=(CONTAINERD, absent))
    idle = CycleResult(GENERATION, (RESULT.runtimes[0], RuntimeResult("docker", Outcome.UNCHANGED)), 0.5)
    reading = Reading(status, idle, Counters().with_result(idle))
    labelled = {labels for metric in parse(encode(reading)).values() for labels in metric.series if labels}
    assert {value for labels in labelled for name, value in labels if name == "runtime"} == {"containerd"}
    assert series(replace(reading, result=RESULT), "mirror_agent_converged") == {"containerd": 1, "docker": 0}


def test_a_runtime_that_does_not_run_is_neither_live_nor_dead() -> None:
    """What cannot be told has no series."""
    status = replace(READING.status, runtimes=(CONTAINERD, replace(DOCKER, live=None)))
    assert series(replace(READING, status=status), "mirror_agent_live") == {"containerd": 1}


@pytest.mark.parametrize(("outcome", "converged"), [(each, each.value in {"unchanged", "changed"}) for each in Outcome])
def test_converged_is_what_needs_nobody(outcome: Outcome, converged: bool) -> None:
    """Whatever else a cycle comes to is a reason to look."""
    result = CycleResult(GENERATION, (RuntimeResult("docker", outcome),), 0.5)
    assert series(replace(READING, result=result), "mirror_agent_converged") == {"docker": converged}


def test_counters_only_grow() -> None:
    """Each cycle adds what it did, for each runtime."""
    counters = Counters().with_result(RESULT).with_result(RESULT)
    twice = Tally(written=4, removed=2)
    assert counters == Counters(
        (("containerd", twice), ("docker", Tally(restarts=2))), (("containerd", 0), ("docker", 2))
    )
    repaired = counters.with_converge(7.0, 0.5, is_drift=True).with_converge(8.0, 0.25, is_drift=False)
    assert repaired == replace(counters, drift_repaired=1, converged_at=8.0, converge_seconds=0.25)


def test_numbers_that_are_none() -> None:
    """A probe is not trusted: what is no number is written as the format writes it."""
    values = (float("inf"), float("-inf"), float("nan"), 1e300)
    mirrors = tuple(MirrorMetric(str(place), "m", last_ok=value) for place, value in enumerate(values))
    written = [
        line.split(" ")[1] for line in samples(replace(READING, mirrors=mirrors)).splitlines() if "last_ok" in line
    ]
    assert (written[:3], float(written[3])) == (["+Inf", "-Inf", "NaN"], 1e300)


TEXTS = st.text(max_size=12) | st.sampled_from(
    ['"', "\\", "\n", '\\"', "\\n", "\\\\", '",x="', "\r", "\N{LINE SEPARATOR}"]
)
MIRRORS = st.builds(
    MirrorMetric,
    registry=TEXTS,
    url=TEXTS,
    is_up=st.none() | st.booleans(),
    is_in_use=st.booleans(),
    verdict=TEXTS,
    latency_seconds=st.floats(),
    last_ok=st.floats(),
)


@given(st.lists(MIRRORS, max_size=6))
def test_no_name_breaks_the_format(mirrors: list[MirrorMetric]) -> None:
    """Whatever registries, mirrors and verdicts are called, a strict reader gets back the very same names; a mirror
    that is named twice has one series."""
    found = parse(encode(replace(READING, mirrors=tuple(mirrors)))).get("mirror_agent_mirror_in_use", Parsed())
    names = [tuple(value for _, value in labels) for labels in found.series]
    assert names == list(dict.fromkeys((mirror.registry, mirror.url) for mirror in mirrors))
