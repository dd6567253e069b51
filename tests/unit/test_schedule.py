"""The loop's clock: settle, resync, retry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.schedule import (
    POLL_SECONDS,
    RESYNC_SECONDS,
    RETRY_AT_MOST_SECONDS,
    SETTLE_AT_MOST_SECONDS,
    SETTLE_QUIET_SECONDS,
    Due,
    Schedule,
)


def test_nothing_is_due_before_the_first_resync() -> None:
    """A quiet minute costs nothing: the next deadline is the resync."""
    schedule = Schedule(100.0)
    assert schedule.next_at == 100.0 + RESYNC_SECONDS
    assert schedule.due(100.0 + RESYNC_SECONDS - 0.001) is Due.NOTHING
    assert schedule.due(100.0 + RESYNC_SECONDS) is Due.RESYNC


def test_one_hint_settles_after_the_quiet_time() -> None:
    """An act follows 50 ms after a lone edit."""
    schedule = Schedule(0.0)
    schedule.hinted(1.0)
    assert schedule.due(1.0 + SETTLE_QUIET_SECONDS / 2) is Due.NOTHING
    assert schedule.due(1.0 + SETTLE_QUIET_SECONDS) is Due.SETTLED


@given(st.lists(st.floats(0.0, 0.049), min_size=1, max_size=200))
def test_a_chatty_editor_cannot_put_an_act_off_for_more_than_a_second(gaps: list[float]) -> None:
    """However many hints come, the settled look is due at most one second after the first."""
    schedule, now = Schedule(0.0), 5.0
    for gap in gaps:
        now += gap
        schedule.hinted(now)
        assert schedule.settle_at <= 5.0 + gaps[0] + SETTLE_AT_MOST_SECONDS


def test_a_settled_look_ends_the_settling() -> None:
    """After the settled look only the resync is left."""
    schedule = Schedule(0.0)
    schedule.hinted(1.0)
    schedule.settled()
    assert schedule.next_at == RESYNC_SECONDS


def test_retries_back_off_to_a_minute_and_start_anew_after_success() -> None:
    """1, 2, 4 … 60 s; success sets it back to 1."""
    schedule = Schedule(0.0)
    delays = [schedule.failed(0.0, jitter=0.0) for _ in range(9)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert max(delays) == RETRY_AT_MOST_SECONDS
    schedule.succeeded(0.0, None)
    assert schedule.failed(0.0, jitter=0.0) == 1


def test_a_deferred_act_asks_for_a_look_of_its_own() -> None:
    """A restart that may come in 30 s is looked at in 30 s, not at the next resync; and never in a hot loop."""
    schedule = Schedule(0.0)
    schedule.succeeded(0.0, 30.0)
    assert (schedule.next_at, schedule.due(30.0)) == (30.0, Due.RETRY)
    schedule.succeeded(30.0, 0.0)
    assert schedule.next_at == 31.0


def test_polling_looks_every_two_seconds() -> None:
    """Without events the clock takes their place."""
    schedule = Schedule(0.0, polling=True)
    schedule.resynced(10.0, jitter=0.0)
    assert schedule.next_at == 10.0 + POLL_SECONDS


@given(st.floats(-1.0, 1.0))
def test_jitter_moves_the_resync_by_a_tenth_at_most(jitter: float) -> None:
    """Ten thousand nodes do not look in the same second, and none looks much later than a minute."""
    schedule = Schedule(0.0, jitter)
    assert 0.9 * RESYNC_SECONDS <= schedule.next_at <= 1.1 * RESYNC_SECONDS


def test_the_probe_is_started_when_it_is_due_and_nothing_more_urgent_is() -> None:
    """Its start takes no look; without probes nothing wakes for them, and nobody is woken in a busy loop."""
    schedule = Schedule(0.0)
    assert schedule.next_at == 60.0
    schedule.probed(0.0, 15.0)
    assert (schedule.next_at, schedule.due(14.0), schedule.due(15.0)) == (15.0, Due.NOTHING, Due.PROBE)
    assert schedule.due(60.0) is Due.RESYNC
    schedule.probed(20.0, 0.0)
    assert schedule.next_at == 21.0
    schedule.probed(20.0, None)
    assert schedule.next_at == 60.0
