"""Verdicts over mirrors become failover: hysteresis, holds, order, and a list that is never empty."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import health
from agent.health import Change, Health, MirrorHealth, What, effective, targets, weigh
from agent.model import ClientPair, DesiredState, Failover, HealthSettings, Mirror, Order, Registry, Sidelined
from agent.targets import Sample
from agent.verdict import Verdict

A, B, C = "https://a.example", "https://b.example", "https://c.example"
HUB = "docker.io"
ON = HealthSettings(enabled=True)
DAY = 86_400.0
START = 1_800_000_000.0


def desired(*urls: str, settings: HealthSettings = ON) -> DesiredState:
    registry = Registry(HUB, "https://registry-1.docker.io", tuple(map(Mirror, urls)))
    return DesiredState("0" * 64, registries=(registry,), health=settings)


def sample(url: str, verdict: Verdict, at: float, seconds: float = 0.1, retry: float = 0.0) -> Sample:
    return Sample(HUB, url, verdict, f"was {verdict.value}", at, seconds, retry)


def told(state: DesiredState, *rounds: Iterable[Sample]) -> tuple[Health, list[Change]]:
    """What is known after these rounds of verdicts, each weighed at the time of its last one."""
    known, changes = Health(), list[Change]()
    for each in rounds:
        found = list(each)
        known, new = weigh(known, found, state, max(one.at for one in found))
        changes += new
    return known, changes


def asked(state: DesiredState, known: Health, now: float) -> list[str]:
    return [mirror.url for mirror in effective(state, known, now).registries[0].mirrors]


def fails(url: str, times: int, begins: float = START, verdict: Verdict = Verdict.HANGING) -> list[list[Sample]]:
    return [[sample(url, verdict, begins + 20.0 * n)] for n in range(times)]


def test_a_mirror_is_out_after_three_outages() -> None:
    """Not after two; the registry then says what is desired, what is out, why, and since when."""
    state = desired(A, B)
    known, changes = told(state, *fails(A, 2))
    assert (asked(state, known, START), changes) == ([A, B], [])
    known, changes = told(state, *fails(A, 3))
    (registry,) = effective(state, known, START + 40.0).registries
    assert registry.mirrors == (Mirror(B),)
    assert registry.failover == Failover(
        (Mirror(A), Mirror(B)), (Sidelined(A, Verdict.HANGING, "was hanging", START + 40.0),)
    )
    assert [(each.what, each.mirror.url, each.asked) for each in changes] == [(What.OUT, A, (B,))]


@pytest.mark.parametrize("verdict", [each for each in Verdict if not each.is_outage])
def test_what_is_no_outage_keeps_a_mirror_in(verdict: Verdict) -> None:
    """However often it turns something away; the first time is news, if it is not fine."""
    state = desired(A, B)
    known, changes = told(state, *fails(A, 9, verdict=verdict))
    assert asked(state, known, START) == [A, B]
    assert [each.what for each in changes] == ([] if verdict is Verdict.OK else [What.NOTED])


def test_one_good_verdict_begins_the_count_anew() -> None:
    """Two outages, an answer, two outages: in."""
    state = desired(A, B)
    known, _ = told(state, *fails(A, 2), [sample(A, Verdict.OK, START + 60.0)], *fails(A, 2, START + 80.0))
    assert asked(state, known, START + 120.0) == [A, B]


def test_it_comes_back_in_its_place_after_three_good_ones_and_the_hold() -> None:
    """Five minutes the first time, ten the second."""
    state = desired(A, B)
    known, now = Health(), START
    for hold in (300.0, 600.0, 1200.0, 2400.0, 3600.0, 3600.0):
        for _ in range(3):
            known, _ = weigh(known, [sample(A, Verdict.REFUSED, now)], state, now)
            now += 20.0
        out_at = known.of(HUB, A).moved_at
        assert asked(state, known, now) == [B]
        while asked(state, known, now) == [B]:
            now += 20.0
            known, _ = weigh(known, [sample(A, Verdict.OK, now)], state, now)
        assert (asked(state, known, now), hold <= now - out_at < hold + 40.0) == ([A, B], True)
        now += 20.0


def test_six_calm_hours_forgive() -> None:
    """The next outage holds for five minutes again."""
    state = desired(A, B)
    tired = MirrorHealth(HUB, A, outages=7, moved_at=START - health.CALM_SECONDS, bad=2, probed_at=START - 20.0)
    known, _ = weigh(Health({(HUB, A): tired}), [sample(A, Verdict.TLS, START)], state, START)
    assert (known.of(HUB, A).is_out, known.of(HUB, A).hold_seconds) == (True, 300.0)


@pytest.mark.parametrize("urls", [(A,), (A, B), (A, B, C)])
def test_a_list_is_never_empty(urls: tuple[str, ...]) -> None:
    """When all fail, it stands as desired; the journal is told so; the first that works again is asked alone."""
    state = desired(*urls)
    rounds = [[sample(url, Verdict.UNREACHABLE, START + 20.0 * n) for url in urls] for n in range(3)]
    known, changes = told(state, *rounds)
    assert effective(state, known, START + 60.0) == state
    assert {each.what for each in changes} == {What.KEPT}
    back = [[sample(urls[-1], Verdict.OK, START + 400.0 + 20.0 * n)] for n in range(3)]
    for found in back:
        known, changes = weigh(known, found, state, found[0].at)
    assert asked(state, known, START + 440.0) == [urls[-1]]
    assert [each.what for each in changes] == [What.BACK]


def test_verdicts_are_counted_once_and_not_faster_than_they_can_be_made() -> None:
    """The same file read again, and one that is written all the time by whoever, count as what they are."""
    state, known = desired(A, B), Health()
    for _ in range(9):
        known, _ = weigh(known, [sample(A, Verdict.HANGING, START)], state, START)
    for n in range(9):
        known, _ = weigh(known, [sample(A, Verdict.HANGING, START + 0.4 * n)], state, START + 4.0)
    assert known.of(HUB, A).bad == 1


def test_a_mirror_with_a_certificate_is_not_out_because_the_probe_has_none() -> None:
    """TLS says nothing then; that it hangs says the same as of any other."""
    mirror = Mirror(A, client=(ClientPair("/c", "/k"),))
    state = replace(desired(), registries=(Registry(HUB, "https://x", (mirror, Mirror(B))),))
    known, _ = told(state, *fails(A, 9, verdict=Verdict.TLS))
    assert (asked(state, known, START), targets(state, known, {}, "")[0].is_partial) == ([A, B], True)
    known, _ = told(state, *fails(A, 3, verdict=Verdict.HANGING))
    assert asked(state, known, START + 40.0) == [B]


def test_what_nobody_has_looked_at_lately_is_in() -> None:
    """A probe that has ended must not keep a mirror out for ever."""
    state = desired(A, B)
    known, _ = told(state, *fails(A, 3))
    assert asked(state, known, START + 3000.0) == [B]
    assert effective(state, known, START + 8000.0) == state


def test_without_health_nothing_is_changed_and_nothing_probed() -> None:
    """Off unless the desired state says so, whatever is known."""
    state = desired(A, B, settings=HealthSettings())
    known, _ = told(desired(A, B), *fails(A, 3))
    assert (effective(state, known, START + 40.0), targets(state, known, {}, "")) == (state, ())


def test_what_is_no_longer_desired_is_forgotten() -> None:
    """And begins anew when it is desired again."""
    known, _ = told(desired(A, B), *fails(A, 3))
    known, _ = weigh(known, [], desired(B, C), START + 60.0)
    known, _ = weigh(known, [], desired(A, B), START + 80.0)
    assert asked(desired(A, B), known, START + 80.0) == [A, B]


def test_the_fastest_comes_first_if_it_is_much_faster() -> None:
    """Not for a third less than that, not within an hour of the last change; what is out is left out of it."""
    settings = replace(ON, order=Order.FASTEST)
    state = desired(A, B, C, settings=settings)

    def speeds(at: float, *seconds: float) -> list[Sample]:
        return [sample(url, Verdict.OK, at, each) for url, each in zip((A, B, C), seconds, strict=True)]

    known, _ = told(state, speeds(START, 0.30, 0.25, 0.28))
    assert asked(state, known, START) == [A, B, C]
    known, _ = told(state, speeds(START, 0.30, 0.10, 0.20))
    assert asked(state, known, START) == [B, C, A]
    for n in range(1, 30):
        known, _ = weigh(known, speeds(START + 100.0 * n, 0.01, 0.10, 0.20), state, START + 100.0 * n)
    assert asked(state, known, START + 3000.0) == [B, C, A]
    known, _ = weigh(known, speeds(START + 3700.0, 0.01, 0.10, 0.20), state, START + 3700.0)
    assert asked(state, known, START + 3700.0) == [A, B, C]
    for n in range(3):
        known, _ = weigh(known, [sample(A, Verdict.HTML, START + 3720.0 + 20 * n)], state, START + 3720.0 + 20 * n)
    assert asked(state, known, START + 3760.0) == [B, C]
    assert health.as_desired(effective(state, known, START + 3760.0)) == state


def test_when_the_next_probe_is_due() -> None:
    """At once, again in a minute, then at leisure; soon when in doubt, ever more rarely when out; not before a rate
    limit says; at once when a runtime had trouble with it, if the last look was a minute ago."""

    def due(known: MirrorHealth, nudged: float = 0.0) -> float:
        state = desired(A)
        (target,) = targets(state, Health({(HUB, A): known}), {(HUB, A): nudged} if nudged else {}, "machine")
        return target.due

    fresh = MirrorHealth(HUB, A, Verdict.OK, probed_at=START, good=2)
    assert 0.0 <= due(MirrorHealth(HUB, A)) <= 5.0
    assert 54.0 <= due(replace(fresh, good=1)) - START <= 66.0
    assert 540.0 <= due(replace(fresh, good=1, verdict=Verdict.RATE_LIMITED)) - START <= 660.0
    assert 540.0 <= due(fresh) - START <= 660.0
    assert 13.0 <= due(replace(fresh, bad=1, good=0)) - START <= 17.0
    out = replace(fresh, is_out=True, good=0)
    waits = [due(replace(out, bad=bad)) - START for bad in range(3, 12)]
    assert waits == sorted(waits)
    assert (27.0 <= waits[0] <= 33.0, 270.0 <= waits[-1] <= 330.0) == (True, True)
    assert 27.0 <= due(replace(out, good=1)) - START <= 33.0
    assert due(replace(fresh, rests_until=START + 5000.0)) == START + 5000.0
    assert due(fresh, START + 10.0) == START + 60.0
    assert due(fresh, START + 90.0) == START + 90.0
    assert due(fresh, START - 90.0) == due(fresh)


def test_machines_do_not_ask_at_the_same_time() -> None:
    """A thousand nodes behind one address are spread over a fifth of the interval."""
    known = Health({(HUB, A): MirrorHealth(HUB, A, Verdict.OK, probed_at=START, good=2)})
    dues = [targets(desired(A), known, {}, f"machine {n}")[0].due - START for n in range(1000)]
    assert (min(dues) < 550.0, max(dues) > 650.0, len(set(dues)) > 990) == (True, True, True)


def test_when_content_is_looked_at() -> None:
    """Not at first, so that a new list is soon known; a minute later, and when a runtime has had trouble since the last
    look: pulls fail on wrong bytes, and heads do not show them."""

    def looks(known: MirrorHealth, nudged: float = 0.0) -> bool:
        state = desired(A)
        return targets(state, Health({(HUB, A): known}), {(HUB, A): nudged}, "")[0].checks_content

    well = MirrorHealth(HUB, A, Verdict.OK, probed_at=START, good=1)
    assert [looks(MirrorHealth(HUB, A)), looks(well), looks(replace(well, good=2))] == [False, True, False]
    assert looks(replace(well, good=1, verdict=Verdict.DENIED)) is False
    assert looks(replace(well, is_out=True, good=1)) is False
    assert [looks(replace(well, good=9), START - 1.0), looks(replace(well, good=9), START + 1.0)] == [False, True]
    assert looks(MirrorHealth(HUB, A), START) is False


def test_images_are_those_of_the_desired_state_or_of_the_catalogue() -> None:
    """`_default` stands for Docker Hub's; an unknown registry gets a name that at least tells whether it answers."""
    named = replace(ON, images=((HUB, "docker.io/library/busybox:1"),))
    registries = tuple(Registry(name, "", (Mirror(A),)) for name in (HUB, "_default", "ghcr.io", "x.example"))
    state = replace(desired(settings=named), registries=registries)
    found = {target.registry: target.image for target in targets(state, Health(), {}, "")}
    assert found[HUB] == "docker.io/library/busybox:1"
    assert found["_default"].startswith("docker.io/library/")
    assert found["ghcr.io"].startswith("ghcr.io/")
    assert found["x.example"] == "x.example/library/hello-world:latest"


def test_it_survives_a_restart_of_the_agent() -> None:
    """Everything that is known comes back; a file that is not that, or of another time, is as if nothing were known."""
    settings = replace(ON, order=Order.FASTEST)
    state = desired(A, B, settings=settings)
    known, _ = told(state, *fails(A, 3), [sample(B, Verdict.RATE_LIMITED, START + 60.0, retry=30.0)])
    known = replace(known, orders={HUB: health.OrderOf(HUB, (B, A), START)})
    assert health.decode(health.encode(known), START + 100.0) == known
    for data in (b"", b"null", b"[]", b'{"format": 2}', b'{"format": 1, "mirrors": [{}], "orders": []}', b"[" * 99_999):
        assert health.decode(data, START) == Health()
    early = health.decode(health.encode(known), START - 500.0)
    assert max(m.probed_at for m in early.mirrors.values()) == START - 500.0


# --- a day of mirror life --------------------------------------------------------------------------------------------

World = Callable[[str, float], Verdict]


@dataclass
class Day:
    """A day on a node with this world of mirrors: the agent and the probe as they work together, second by second
    where something is due. Each entry of `lists` is a file that was written, and a reload of Docker."""

    state: DesiredState
    world: World
    lists: list[tuple[float, list[str]]] = field(default_factory=list)
    probes: int = 0
    known: Health = field(default_factory=Health)

    def live(self, hours: float = 24.0) -> Day:
        now, ends = START, START + hours * 3600.0
        self.lists.append((now, asked(self.state, self.known, now)))
        while now < ends:
            found = list(self._probed(now))
            self.known, _ = weigh(self.known, found, self.state, now)
            if (urls := asked(self.state, self.known, now)) != self.lists[-1][1]:
                self.lists.append((now, urls))
            dues = [target.due for target in targets(self.state, self.known, {}, "this machine")]
            now = max(now + 1.0, min(dues))
        return self

    def _probed(self, now: float) -> Iterator[Sample]:
        for target in targets(self.state, self.known, {}, "this machine"):
            if target.due <= now + 2.0:
                self.probes += 1
                yield sample(target.url, self.world(target.url, now), now)

    @property
    def changes(self) -> int:
        return len(self.lists) - 1


def always(verdict: Verdict) -> World:
    return lambda _url, _now: verdict


def flapping(period: float) -> World:
    return lambda url, now: Verdict.HANGING if url == A and now % period < period / 2 else Verdict.OK


def brown_out(url: str, now: float) -> Verdict:
    """The first mirror fails four times in ten, at random."""
    rng = random.Random(f"{url} {now}")
    return Verdict.FAILING if url == A and rng.random() < 0.4 else Verdict.OK


def night(_url: str, now: float) -> Verdict:
    """All of them are gone from the 6th to the 9th hour."""
    return Verdict.UNREACHABLE if 6 <= (now - START) / 3600 < 9 else Verdict.OK


def slow_recovery(url: str, now: float) -> Verdict:
    """The first mirror is down for four hours, and answers ever more often in the four after that."""
    hours = (now - START) / 3600
    share = 1.0 if hours < 4 else max(0.0, 1.0 - (hours - 4) / 4)
    return Verdict.REFUSED if url == A and random.Random(now).random() < share else Verdict.OK


@pytest.mark.parametrize(
    ("world", "most_changes"),
    [
        pytest.param(always(Verdict.OK), 0, id="all is well"),
        pytest.param(always(Verdict.HANGING), 0, id="all are dead"),
        pytest.param(always(Verdict.DENIED), 0, id="all deny"),
        pytest.param(night, 6, id="all are gone for a while"),
        pytest.param(slow_recovery, 12, id="slow recovery"),
        pytest.param(brown_out, 60, id="brown-out"),
        *(pytest.param(flapping(p), 60, id=f"flapping every {p:.0f} s") for p in (40, 120, 300, 900, 3600, 14_400)),
    ],
)
def test_a_day(world: World, most_changes: int) -> None:
    """The number of files written and reloads made is bounded, no list is ever empty, and once all is well again, the
    order of the desired state is back within two hours."""
    day = Day(desired(A, B, C), world).live()
    assert day.changes <= most_changes
    assert all(urls for _, urls in day.lists)
    day.world = always(Verdict.OK)
    after = day.known
    quiet = Day(day.state, always(Verdict.OK), known=after).live(2.0)
    assert quiet.lists[-1][1] == [A, B, C]


def test_a_day_costs_few_requests() -> None:
    """A healthy mirror gets about six probes an hour, a dead one about twelve and a half."""
    assert 3 * 130 <= Day(desired(A, B, C), always(Verdict.OK)).live().probes <= 3 * 160
    assert Day(desired(A), always(Verdict.HANGING)).live().probes <= 330


def test_a_dead_mirror_is_out_within_a_minute_of_the_first_look() -> None:
    """Three verdicts, fifteen seconds apart."""
    day = Day(desired(A, B), lambda url, _: Verdict.HANGING if url == A else Verdict.OK).live(0.1)
    assert (day.lists[-1][1], day.lists[-1][0] - START < 60.0) == ([B], True)


STEPS = st.lists(st.tuples(st.sampled_from([A, B, C]), st.sampled_from(list(Verdict)), st.floats(0, 4000)), max_size=60)


@hypothesis.settings(max_examples=200, deadline=None)
@given(STEPS, st.sampled_from(list(Order)), st.integers(1, 5), st.integers(1, 5))
def test_whatever_is_told(
    steps: list[tuple[str, Verdict, float]], order: Order, unhealthy_after: int, healthy_after: int
) -> None:
    """The list is never empty, holds nothing that is not desired and nothing twice, what is desired can always be read
    from it, and what is known survives being stored."""
    settings = replace(ON, order=order, unhealthy_after=unhealthy_after, healthy_after=healthy_after)
    state, known, now = desired(A, B, C, settings=settings), Health(), START
    for url, verdict, elapsed in steps:
        now += elapsed
        known, _ = weigh(known, [sample(url, verdict, now, elapsed / 100)], state, now)
        urls = asked(state, known, now)
        assert urls
        assert sorted(set(urls)) == sorted(urls)
        assert set(urls) <= {A, B, C}
        assert health.as_desired(effective(state, known, now)) == state
        assert health.decode(health.encode(known), now) == known
        assert all(target.due >= 0 for target in targets(state, known, {}, "m"))
