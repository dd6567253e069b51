"""The two files between the agent and the probe: what one says the other reads, and a stranger's text does no harm."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.targets import (
    MAX_BYTES,
    MAX_DETAIL,
    Blind,
    ProbeTarget,
    Sample,
    decode_blind,
    decode_samples,
    decode_targets,
    encode_samples,
    encode_targets,
)
from agent.verdict import Verdict

TARGET = ProbeTarget("ghcr.io", "https://m.example/v2/p", "ghcr.io/org/app:latest", True, ("/etc/ca.pem",), True, 5.0)
SAMPLE = Sample("ghcr.io", "https://m.example", Verdict.HANGING, "does not answer within 10 s", 1000.0, 10.0, 60.0)
ROW = {**asdict(SAMPLE), "verdict": "hanging"}


def document(*rows: object, **changes: object) -> bytes:
    return json.dumps({"format": 1, "verdicts": rows, **changes}).encode()


def test_targets_come_back() -> None:
    """Every field, in order."""
    targets = (TARGET, replace(TARGET, url="https://n.example", due=12.5, is_partial=True, ca=()))
    assert decode_targets(encode_targets(targets)) == targets


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"format": 2, "targets": []}', b'{"format": 1, "targets": [{}]}']
)
def test_what_is_no_list_of_targets_is_an_error(data: bytes) -> None:
    """The agent writes it, so nothing is guessed."""
    with pytest.raises(ValueError, match=r"not|no "):
        decode_targets(data)


def test_verdicts_come_back() -> None:
    """Each verdict by its word."""
    samples = tuple(replace(SAMPLE, verdict=verdict) for verdict in Verdict)
    assert decode_samples(encode_samples(samples), 1000.0) == samples


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "splendid"},
        {"verdict": ["ok"]},
        {"registry": 1},
        {"url": "x" * 5000},
        {"detail": None},
        {"at": True},
        {"at": "now"},
        {"at": -1},
        {"at": 1000.1},
        {"seconds": float("nan")},
        {"retry_seconds": float("inf")},
    ],
)
def test_what_is_no_verdict_is_left_out(change: dict[str, Any]) -> None:
    """One that is wrong in form, or from the future, costs nothing but itself."""
    assert decode_samples(document(ROW, {**ROW, **change}), 1000.0) == (SAMPLE,)


@pytest.mark.parametrize("row", [None, 1, "x", [], {}, {"registry": "a"}])
def test_rows_of_another_kind_are_left_out(row: object) -> None:
    """Nor does a row that is no mapping, or lacks a field, keep the others from being read."""
    assert decode_samples(document(row, ROW), 1000.0) == (SAMPLE,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * (MAX_BYTES + 1),
        document(format=2),
        document(format=None),
        b"null",
        b"{}",
    ],
)
def test_what_is_no_file_of_verdicts_says_nothing(data: bytes) -> None:
    """Neither size nor depth nor encoding gets at the agent."""
    assert decode_samples(data, 1000.0) == ()


BLIND = Blind("a", "https://m", "its CA cannot be read", 900.0)


@pytest.mark.parametrize("change", [{"why": None}, {"at": "now"}, {"at": 1000.1}, {"url": "x" * 5000}, {"registry": 1}])
def test_what_is_said_of_a_mirror_that_nobody_can_look_at(change: dict[str, Any]) -> None:
    """It comes back beside the verdicts; one that is wrong in form costs nothing but itself; an earlier probe says
    nothing of it."""
    data = encode_samples((SAMPLE,), (BLIND,))
    assert (decode_samples(data, 1000.0), decode_blind(data, 1000.0)) == ((SAMPLE,), (BLIND,))
    raw = json.loads(data)
    odd = json.dumps({**raw, "blind": [{**raw["blind"][0], **change}, None, *raw["blind"]]}).encode()
    assert (decode_samples(odd, 1000.0), decode_blind(odd, 1000.0)) == ((SAMPLE,), (BLIND,))
    assert decode_blind(document(ROW), 1000.0) == ()


def test_a_sentence_is_cut_and_cannot_steer_a_terminal() -> None:
    """What a mirror said ends in `status` and in the journal."""
    (sample,) = decode_samples(document({**ROW, "detail": "a\x1b[2J\nb\u202e" + "c" * 5000, "seconds": 1e9}), 1000.0)
    assert (sample.detail[:9], len(sample.detail), sample.seconds) == ("a [2J b c", MAX_DETAIL, 86_400.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*ROW, "format", "verdicts"]), inner),
    max_leaves=20,
)


@given(st.lists(st.fixed_dictionaries({}, optional={name: JSON | st.just(value) for name, value in ROW.items()})))
def test_no_rows_are_too_odd(rows: list[dict[str, Any]]) -> None:
    """Whatever a stranger writes, it is read, and every verdict that comes of it has the right types."""
    for sample in decode_samples(document(*rows), 2000.0):
        assert sample == decode_samples(encode_samples((sample,)), 2000.0)[0]
