"""What verdicts over mirrors come to: which are asked, in which order, when each is probed next.

A mirror is out after `unhealthy_after` outages in a row, and in again after `healthy_after` verdicts without one, when
it has been out for some minutes: five the first time, twice as long each time after that, an hour at most, until it has
been in for six hours. So whatever a mirror does, it is moved at most 60 times a day. A list is never emptied: if all of
its mirrors fail, it stands as desired. With the order "fastest" a list is put in another order at most once an hour,
and only for a first mirror that is much faster.

Nothing that is known outlives its source: without verdicts for an hour, or six intervals, every mirror is in.

Pure: times come in as Unix seconds, so that a day of mirror life can be tested in a moment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from typing import Any

from agent import catalogue
from agent.model import (
    DEFAULT_REGISTRY,
    DOCKER_HUB,
    DesiredState,
    Failover,
    HealthSettings,
    Mirror,
    Order,
    Registry,
    Sidelined,
)
from agent.targets import Blind, ProbeTarget, Sample
from agent.verdict import Verdict

FORMAT = 1
HOLD_FIRST_SECONDS = 300.0
HOLD_AT_MOST_SECONDS = 3600.0
CALM_SECONDS = 6 * 3600.0
"""After so long without an outage the hold begins anew."""
SUSPECT_SECONDS = 15.0
"""How soon a mirror is looked at again whose last probe failed, or, if it is out, did not."""
OUT_AT_MOST_SECONDS = 300.0
SECOND_LOOK_SECONDS = 60.0
"""How soon a mirror that is new, or just well again, is looked at once more: then its content too."""
CLOSEST_SECONDS = 5.0
"""Verdicts that are nearer to each other count as one, whoever makes them."""
BLIND_FIRST_SECONDS, BLIND_AT_MOST_SECONDS = 60.0, 3600.0
"""How soon a mirror is tried again that could not be looked at, ever more rarely."""
ORDER_HOLD_SECONDS = 3600.0
NUDGE_HOLD_SECONDS = 60.0
_FORGET_SECONDS = 3600.0
_MUCH_FASTER, _FASTER_SECONDS = 0.7, 0.02
_SMOOTHING = 0.3
_SPREAD = 0.1
_FIRST_WITHIN_SECONDS = 5.0
_UNKNOWN_IMAGE = "library/hello-world"

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class MirrorHealth:
    """One mirror of one registry. `since` is when the present verdict was first given, `probed_at` when last; `bad` and
    `good` count verdicts in a row; `moved_at` is when it was last taken out or put back, `outages` how often it was
    taken out lately. `seconds` is what a pull waits before its first byte, smoothed (0.0: not known); `rests_until` is
    what a rate limit asked for. `unprobed` is why the probe cannot look at it at all ("": it can), found at
    `unprobed_at` and `unprobed_times` in a row."""

    registry: str
    url: str
    verdict: Verdict | None = None
    detail: str = ""
    since: float = 0.0
    probed_at: float = 0.0
    last_ok: float = 0.0
    seconds: float = 0.0
    bad: int = 0
    good: int = 0
    is_out: bool = False
    moved_at: float = 0.0
    outages: int = 0
    rests_until: float = 0.0
    unprobed: str = ""
    unprobed_at: float = 0.0
    unprobed_times: int = 0

    @property
    def key(self) -> Key:
        """What tells it from others."""
        return self.registry, self.url

    @property
    def hold_seconds(self) -> float:
        """How long it stays out at least."""
        return min(HOLD_FIRST_SECONDS * 2.0 ** min(max(self.outages - 1, 0), 16), HOLD_AT_MOST_SECONDS)


class What(Enum):
    """What a verdict has changed."""

    OUT = "taken out"
    BACK = "put back"
    KEPT = "kept, because all of them fail"
    NOTED = "noted"


@dataclass(frozen=True, slots=True)
class Change:
    """Something worth a line in the journal. `asked` are the mirrors that are asked now, in order."""

    what: What
    mirror: MirrorHealth
    asked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OrderOf:
    """The order in which a registry's mirrors were found to be fast, and since when it is in force."""

    registry: str
    urls: tuple[str, ...]
    since: float


@dataclass(frozen=True, slots=True)
class Health:
    """Everything that is known about mirrors."""

    mirrors: Mapping[Key, MirrorHealth] = field(default_factory=dict)
    orders: Mapping[str, OrderOf] = field(default_factory=dict)

    def of(self, registry: str, url: str) -> MirrorHealth:
        """One mirror; blank if nothing is known."""
        return self.mirrors.get((registry, url)) or MirrorHealth(registry, url)


# --- verdicts in -----------------------------------------------------------------------------------------------------


def weigh(
    health: Health, samples: Iterable[Sample], desired: DesiredState, now: float, blind: Iterable[Blind] = ()
) -> tuple[Health, list[Change]]:
    """What is known with these verdicts, and what changes because of them. Verdicts that were counted already count
    for nothing; what is no longer desired is forgotten. `blind` are the mirrors that the probe cannot look at."""
    settings, partial = desired.health, {key for key, mirror in _mirrors(desired) if is_partial(mirror)}
    found, unseen = {sample.key: sample for sample in samples}, {each.key: each for each in blind}
    before = {key: health.of(*key) for key, _ in _mirrors(desired)}
    seen = {key: _counted(each, found.get(key), is_partial=key in partial) for key, each in before.items()}
    after = {key: _unseen(each, unseen.get(key)) for key, each in seen.items()}
    moved = {key: _moved(each, settings, now) for key, each in after.items()}
    orders = {r.name: order for r in desired.registries if (order := _order(r, moved, health.orders, settings, now))}
    known = Health(moved, orders)
    return known, list(_changes(before, known, desired, now))


def _counted(mirror: MirrorHealth, sample: Sample | None, *, is_partial: bool) -> MirrorHealth:
    if sample is None or sample.at < mirror.probed_at + CLOSEST_SECONDS:
        return mirror
    verdict = sample.verdict
    is_bad = _is_outage(verdict, is_partial=is_partial)
    smooth = _SMOOTHING * sample.seconds + (1 - _SMOOTHING) * mirror.seconds if mirror.seconds else sample.seconds
    is_ok = verdict is Verdict.OK
    return replace(
        mirror,
        verdict=verdict,
        detail=sample.detail,
        since=mirror.since if verdict is mirror.verdict else sample.at,
        probed_at=sample.at,
        last_ok=sample.at if is_ok else mirror.last_ok,
        seconds=smooth if is_ok else mirror.seconds,
        bad=mirror.bad + 1 if is_bad else 0,
        good=0 if is_bad else mirror.good + 1,
        rests_until=sample.at + sample.retry_seconds if sample.retry_seconds else 0.0,
        unprobed="",
        unprobed_times=0,
    )


def _unseen(mirror: MirrorHealth, blind: Blind | None) -> MirrorHealth:
    if blind is None or blind.at < mirror.unprobed_at + CLOSEST_SECONDS or blind.at <= mirror.probed_at:
        return mirror
    times = mirror.unprobed_times + 1
    return replace(mirror, unprobed=blind.why, unprobed_at=blind.at, unprobed_times=times)


def with_new_eyes(health: Health) -> Health:
    """What could not be looked at is to be tried again: a desired state may name another file."""
    mirrors = health.mirrors.items()
    return replace(health, mirrors={key: replace(each, unprobed="", unprobed_times=0) for key, each in mirrors})


def _is_outage(verdict: Verdict, *, is_partial: bool) -> bool:
    """A probe without the mirror's client certificate may be what fails, not the mirror."""
    return verdict.is_outage and not (is_partial and verdict is Verdict.TLS)


def _moved(mirror: MirrorHealth, settings: HealthSettings, now: float) -> MirrorHealth:
    elapsed = now - mirror.moved_at
    if not mirror.is_out and mirror.bad >= settings.unhealthy_after:
        outages = 1 if elapsed >= CALM_SECONDS else mirror.outages + 1
        return replace(mirror, is_out=True, moved_at=now, outages=outages)
    is_held = 0 <= elapsed < mirror.hold_seconds
    if mirror.is_out and mirror.good >= settings.healthy_after and not is_held:
        return replace(mirror, is_out=False, moved_at=now)
    return mirror


def _order(
    registry: Registry,
    mirrors: Mapping[Key, MirrorHealth],
    orders: Mapping[str, OrderOf],
    settings: HealthSettings,
    now: float,
) -> OrderOf | None:
    """The order of a registry's mirrors, the fastest first; None for that of the desired state."""
    if settings.order is not Order.FASTEST or len(registry.desired_mirrors) < 2:
        return None
    urls = [mirror.url for mirror in registry.desired_mirrors]
    known = orders.get(registry.name)
    standing = sorted(urls, key=known.urls.index) if known and sorted(known.urls) == sorted(urls) else urls
    speed = {url: mirrors[registry.name, url].seconds or float("inf") for url in urls}
    fastest = sorted(standing, key=lambda url: speed[url])
    first, best = speed[standing[0]], speed[fastest[0]]
    is_much_faster = best < _MUCH_FASTER * first and first - best > _FASTER_SECONDS
    is_held = known is not None and 0 <= now - known.since < ORDER_HOLD_SECONDS
    if is_much_faster and not is_held:
        return OrderOf(registry.name, tuple(fastest), now)
    return replace(known, urls=tuple(standing)) if known else None


def _changes(before: Mapping[Key, MirrorHealth], known: Health, desired: DesiredState, now: float) -> Iterable[Change]:
    asked = {r.name: tuple(m.url for m in r.mirrors) for r in effective(desired, known, now).registries}
    for key, old in before.items():
        new = known.mirrors[key]
        names = asked[new.registry]
        if new.is_out and not old.is_out:
            yield Change(What.KEPT if new.url in names else What.OUT, new, names)
        elif old.is_out and not new.is_out:
            yield Change(What.BACK, new, names)
        elif not new.is_out and _is_news(old.verdict, new.verdict):
            yield Change(What.NOTED, new, names)


def _is_news(old: Verdict | None, new: Verdict | None) -> bool:
    """A mirror that turns something away is, and so is one that does so no longer; an outage is when it is out."""
    if new is old or new is None or new.is_outage:
        return False
    return new is not Verdict.OK or (old is not None and not old.is_outage)


# --- the desired state with it ---------------------------------------------------------------------------------------


def effective(desired: DesiredState, health: Health, now: float) -> DesiredState:
    """The desired state with the mirrors that are asked now. Each registry remembers what is desired."""
    if not desired.health.enabled:
        return desired
    return replace(desired, registries=tuple(_effective(r, health, desired.health, now) for r in desired.registries))


def as_desired(desired: DesiredState) -> DesiredState:
    """The desired state as it was written, whatever became of its mirrors."""
    return replace(desired, registries=tuple(registry.as_desired for registry in desired.registries))


def _effective(registry: Registry, health: Health, settings: HealthSettings, now: float) -> Registry:
    listed = registry.desired_mirrors
    states = {mirror.url: health.of(registry.name, mirror.url) for mirror in listed}
    order = health.orders.get(registry.name)
    places = {url: place for place, url in enumerate(order.urls)} if order else {}
    ordered = sorted(listed, key=lambda mirror: places.get(mirror.url, len(places)))
    out = [state for state in states.values() if _is_out(state, settings, now)]
    asked = [mirror for mirror in ordered if states[mirror.url] not in out]
    mirrors, out = (tuple(asked), out) if asked else (tuple(ordered), [])
    if mirrors == listed:
        return replace(registry, mirrors=listed, failover=None)
    sidelined = tuple(Sidelined(m.url, m.verdict or Verdict.FAILING, m.detail, m.moved_at) for m in out)
    return replace(registry, mirrors=mirrors, failover=Failover(listed, sidelined))


def _is_out(mirror: MirrorHealth, settings: HealthSettings, now: float) -> bool:
    """Whether it is out, and somebody has looked at it lately."""
    return mirror.is_out and abs(now - mirror.probed_at) < max(_FORGET_SECONDS, 6 * settings.interval_seconds)


# --- what is probed, and when ----------------------------------------------------------------------------------------


def targets(desired: DesiredState, health: Health, nudged: Mapping[Key, float], seed: str) -> tuple[ProbeTarget, ...]:
    """Every mirror with the time when it is to be probed next. `nudged` says when somebody saw a runtime pass it over;
    `seed` tells machines apart, so that those behind one address do not all ask at the same time."""
    if not desired.health.enabled:
        return ()
    images = dict(desired.health.images)
    return tuple(
        ProbeTarget(
            registry=name,
            url=url,
            image=images.get(name) or probe_image(name),
            override_path=mirror.override_path,
            ca=mirror.ca,
            skip_verify=mirror.skip_verify,
            timeout_seconds=desired.health.timeout_seconds,
            due=_due(health.of(name, url), desired.health, nudged.get((name, url), 0.0), seed),
            is_partial=is_partial(mirror),
            checks_content=_checks_content(health.of(name, url), nudged.get((name, url), 0.0)),
        )
        for (name, url), mirror in _mirrors(desired)
    )


def probe_image(registry: str) -> str:
    """The image with which the mirrors of a registry are probed where none is named; `_default`'s with Docker Hub's."""
    name = DOCKER_HUB if registry == DEFAULT_REGISTRY else registry
    return catalogue.probe_image(name) or f"{name}/{_UNKNOWN_IMAGE}:latest"


def is_partial(mirror: Mirror) -> bool:
    """Whether a runtime shows the mirror something that a probe does not have."""
    return bool(mirror.headers or mirror.header_files or mirror.client)


def _due(mirror: MirrorHealth, settings: HealthSettings, nudged_at: float, seed: str) -> float:
    share = int.from_bytes(hashlib.sha256(f"{seed} {mirror.registry} {mirror.url}".encode()).digest()[:4]) / 2**32
    if mirror.unprobed:
        wait = min(BLIND_FIRST_SECONDS * 2.0 ** min(mirror.unprobed_times - 1, 16), BLIND_AT_MOST_SECONDS)
        return mirror.unprobed_at + wait * (1 + _SPREAD * share)
    if not mirror.probed_at:
        return share * _FIRST_WITHIN_SECONDS
    wait = _wait(mirror, settings) * (1 + _SPREAD * (2 * share - 1))
    due = max(mirror.probed_at + wait, mirror.rests_until)
    if nudged_at > mirror.probed_at and not mirror.rests_until:
        due = min(due, max(nudged_at, mirror.probed_at + NUDGE_HOLD_SECONDS))
    return due


def _checks_content(mirror: MirrorHealth, nudged_at: float) -> bool:
    """Heads tell of an outage, not of wrong bytes, on which pulls fail: so what a mirror serves is looked at in its
    second probe, and where a runtime has had trouble with it."""
    return bool(mirror.probed_at) and (_is_new(mirror) or nudged_at > mirror.probed_at)


def _is_new(mirror: MirrorHealth) -> bool:
    return mirror.verdict is Verdict.OK and mirror.good == 1 and not mirror.is_out


def _wait(mirror: MirrorHealth, settings: HealthSettings) -> float:
    """A mirror that is in doubt is looked at soon, one that stays out ever more rarely, one that works at leisure."""
    if mirror.is_out and mirror.bad:
        beyond = max(mirror.bad - settings.unhealthy_after, 0)
        return min(SUSPECT_SECONDS * 2.0 ** min(beyond + 1, 16), OUT_AT_MOST_SECONDS, settings.interval_seconds)
    if mirror.is_out:
        return min(SUSPECT_SECONDS * 2, settings.interval_seconds)
    if mirror.bad:
        return min(SUSPECT_SECONDS, settings.interval_seconds)
    return min(SECOND_LOOK_SECONDS, settings.interval_seconds) if _is_new(mirror) else settings.interval_seconds


def _mirrors(desired: DesiredState) -> Iterable[tuple[Key, Mirror]]:
    return (((r.name, m.url), m) for r in desired.registries for m in r.desired_mirrors)


# --- memory ----------------------------------------------------------------------------------------------------------


def encode(health: Health) -> bytes:
    """To be kept over a restart of the agent."""
    mirrors = [{**asdict(m), "verdict": m.verdict and m.verdict.value} for m in health.mirrors.values()]
    orders = [asdict(order) for order in health.orders.values()]
    return json.dumps({"format": FORMAT, "mirrors": mirrors, "orders": orders}, indent=1).encode() + b"\n"


def decode(data: bytes, now: float) -> Health:
    """Read it back; nothing is known if it is not that. A clock that was set back makes nothing wait for it."""
    try:
        raw = json.loads(data)
        if raw["format"] != FORMAT:
            return Health()
        mirrors = [_mirror(each, now) for each in raw["mirrors"]]
        orders = [
            OrderOf(str(o["registry"]), tuple(map(str, o["urls"])), min(float(o["since"]), now)) for o in raw["orders"]
        ]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Health()
    return Health({mirror.key: mirror for mirror in mirrors}, {order.registry: order for order in orders})


_TIMES = ("since", "probed_at", "last_ok", "moved_at", "unprobed_at")


def _mirror(raw: dict[str, Any], now: float) -> MirrorHealth:
    verdict = Verdict(raw["verdict"]) if raw["verdict"] is not None else None
    known = {each.name: raw[each.name] for each in fields(MirrorHealth) if each.name in raw}
    times = {name: min(float(raw.get(name, 0.0)), now) for name in _TIMES}
    return MirrorHealth(**{**known, **times, "verdict": verdict})
