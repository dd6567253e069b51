"""What the agent tells Prometheus, in the text format that node_exporter's textfile collector reads.

World-readable, as status.json is: names, URLs and numbers, nothing secret. Nothing in it changes by the passing of time
alone, so that a node on which nothing happens has nothing to write.
Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import isfinite, isnan

from agent import __version__
from agent.outcome import CycleResult, Outcome, RuntimeResult, Tally
from agent.status import Status

HEADER = "# mirror-agent writes this file and replaces it; mirror-agent(8) explains each metric.\n"
"""By this line the file is known as ours."""

_CONVERGED = (Outcome.UNCHANGED, Outcome.CHANGED)


@dataclass(frozen=True, slots=True)
class MirrorMetric:
    """One mirror of one registry as the last probes found it. `is_up` is None, and `verdict` "", as long as nothing is
    known; `is_in_use` is False for one that was taken out of the lists; `latency_seconds` is that of the last probe
    that it passed, 0.0 for none; `last_ok` is when that was, in Unix seconds, 0.0 for never."""

    registry: str
    url: str
    is_up: bool | None = None
    is_in_use: bool = True
    verdict: str = ""
    latency_seconds: float = 0.0
    last_ok: float = 0.0


@dataclass(frozen=True, slots=True)
class Counters:
    """What this process has counted since it started. `tallies` and `errors` are per runtime; `converged_at`
    (Unix seconds) and `converge_seconds` are of the last converge that the journal told."""

    tallies: tuple[tuple[str, Tally], ...] = ()
    errors: tuple[tuple[str, int], ...] = ()
    drift_repaired: int = 0
    failovers: int = 0
    converged_at: float = 0.0
    converge_seconds: float = 0.0

    def with_result(self, result: CycleResult) -> Counters:
        """What a cycle did is added."""
        tallies, errors = dict(self.tallies), dict(self.errors)
        for part in result.runtimes:
            tallies[part.runtime] = tallies.get(part.runtime, Tally()) + part.tally
            errors[part.runtime] = errors.get(part.runtime, 0) + len(part.errors)
        return replace(self, tallies=tuple(sorted(tallies.items())), errors=tuple(sorted(errors.items())))

    def with_converge(self, at: float, seconds: float, *, is_drift: bool) -> Counters:
        """A converge came to its end."""
        repaired = self.drift_repaired + is_drift
        return replace(self, converged_at=at, converge_seconds=seconds, drift_repaired=repaired)


@dataclass(frozen=True, slots=True)
class Reading:
    """All that the metrics are made from. `restarted` says for each runtime when we last restarted it (Unix seconds,
    0.0 for never), over restarts of the agent too."""

    status: Status
    result: CycleResult
    counters: Counters = Counters()
    restarted: tuple[tuple[str, float], ...] = ()
    mirrors: tuple[MirrorMetric, ...] = ()

    @property
    def runtimes(self) -> tuple[RuntimeResult, ...]:
        """Those that are installed, and those about which there is something to say."""
        absent = {report.name for report in self.status.runtimes if not report.installed}
        return tuple(part for part in self.result.runtimes if part.runtime not in absent or self._is_busy(part))

    def _is_busy(self, part: RuntimeResult) -> bool:
        counted = dict(self.counters.tallies).get(part.runtime, Tally())
        return part.outcome is not Outcome.UNCHANGED or not counted.is_empty


Sample = tuple[tuple[str, ...], float]
"""The values of the labels, and the value."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `labels` are the names of its labels, `samples` makes its series from a reading."""

    name: str
    help: str
    samples: Callable[[Reading], Iterable[Sample]]
    labels: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """As Prometheus' naming conventions have it."""
        return "counter" if self.name.endswith("_total") else "gauge"


def encode(reading: Reading) -> bytes:
    """The whole file: each metric that has a series, in the order of FAMILIES, each series once."""
    return (HEADER + "".join(line for family in FAMILIES for line in _lines(family, reading))).encode(
        "utf-8", "replace"
    )


def _lines(family: Family, reading: Reading) -> Iterator[str]:
    series: dict[tuple[str, ...], float] = {}
    for values, value in family.samples(reading):
        series.setdefault(values, value)
    if series:
        yield f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} {family.kind}\n"
    for values, value in series.items():
        yield f"{family.name}{_labels(family.labels, values)} {_number(value)}\n"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = [f"{name}={_quoted(value)}" for name, value in zip(names, values, strict=True)]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _quoted(value: str) -> str:
    return '"' + _escaped(value).replace('"', r"\"") + '"'


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _number(value: float) -> str:
    """Whole numbers without a point; milliseconds are enough for the rest."""
    if not isfinite(value):
        return "NaN" if isnan(value) else f"{'+' if value > 0 else '-'}Inf"
    rounded = round(value, 3)
    return str(int(rounded)) if rounded == int(rounded) else repr(rounded)


# --- where the numbers come from -----------------------------------------------------------------------------------


def _one(value: Callable[[Reading], float]) -> Callable[[Reading], Iterable[Sample]]:
    """A metric without labels."""
    return lambda reading: [((), value(reading))]


def _each(value: Callable[[RuntimeResult], float]) -> Callable[[Reading], Iterable[Sample]]:
    """A metric of each runtime, from its part of the last cycle."""
    return lambda reading: [((part.runtime,), value(part)) for part in reading.runtimes]


def _counted(value: Callable[[Tally], int]) -> Callable[[Reading], Iterable[Sample]]:
    """A metric of each runtime, from what was counted."""

    def samples(reading: Reading) -> Iterator[Sample]:
        known = dict(reading.counters.tallies)
        for part in reading.runtimes:
            yield (part.runtime,), value(known.get(part.runtime, Tally()))

    return samples


def _of_mirrors(value: Callable[[MirrorMetric], float | None]) -> Callable[[Reading], Iterable[Sample]]:
    """A metric of each mirror of which it is known."""

    def samples(reading: Reading) -> Iterator[Sample]:
        for mirror in reading.mirrors:
            found = value(mirror)
            if found is not None:
                yield (mirror.registry, mirror.url), found

    return samples


def _info(reading: Reading) -> Iterator[Sample]:
    yield (__version__, reading.status.short_generation), 1


def _live(reading: Reading) -> Iterator[Sample]:
    for report in reading.status.runtimes:
        if report.installed and report.live is not None:
            yield (report.name,), report.live


def _errors(reading: Reading) -> Iterator[Sample]:
    known = dict(reading.counters.errors)
    for part in reading.runtimes:
        yield (part.runtime,), known.get(part.runtime, 0)


def _restarted(reading: Reading) -> Iterator[Sample]:
    known = dict(reading.restarted)
    for part in reading.runtimes:
        yield (part.runtime,), known.get(part.runtime, 0.0)


def _verdicts(reading: Reading) -> Iterator[Sample]:
    for mirror in reading.mirrors:
        if mirror.verdict:
            yield (mirror.registry, mirror.url, mirror.verdict), 1


_RUNTIME = ("runtime",)
_MIRROR = ("registry", "mirror")

FAMILIES = (
    Family(
        "mirror_agent_info",
        "The version of mirror-agent and the generation of the desired state in force.",
        _info,
        ("version", "generation"),
    ),
    Family(
        "mirror_agent_desired_state_valid",
        "Whether the desired state is valid as it stands in its file; if not, an earlier one stays in force.",
        _one(lambda reading: not reading.status.problems),
    ),
    Family(
        "mirror_agent_converged",
        "Whether the last cycle left nothing to do for the runtime.",
        _each(lambda part: part.outcome in _CONVERGED),
        _RUNTIME,
    ),
    Family(
        "mirror_agent_live",
        "Whether the running daemon has what is desired; absent where that cannot be told.",
        _live,
        _RUNTIME,
    ),
    Family(
        "mirror_agent_pending",
        "Reloads and restarts that are wanted and wait.",
        _each(lambda part: len(part.deferred)),
        _RUNTIME,
    ),
    Family(
        "mirror_agent_conflicts",
        "What a person must resolve.",
        _each(lambda part: len(part.conflicts)),
        _RUNTIME,
    ),
    Family(
        "mirror_agent_contended",
        "Files that somebody else keeps changing back.",
        _each(lambda part: len(part.contentions)),
        _RUNTIME,
    ),
    Family(
        "mirror_agent_last_converge_timestamp_seconds",
        "When the last converge of a new desired state, or of drift, ended.",
        _one(lambda reading: reading.counters.converged_at),
    ),
    Family(
        "mirror_agent_last_converge_seconds",
        "How long that converge took.",
        _one(lambda reading: reading.counters.converge_seconds),
    ),
    Family(
        "mirror_agent_last_restart_timestamp_seconds",
        "When mirror-agent last restarted the runtime, 0 for never.",
        _restarted,
        _RUNTIME,
    ),
    Family(
        "mirror_agent_drift_repaired_total",
        "How often somebody else's change was put right.",
        _one(lambda reading: reading.counters.drift_repaired),
    ),
    Family(
        "mirror_agent_files_written_total",
        "Files written.",
        _counted(lambda tally: tally.written),
        _RUNTIME,
    ),
    Family(
        "mirror_agent_files_removed_total",
        "Files removed.",
        _counted(lambda tally: tally.removed),
        _RUNTIME,
    ),
    Family(
        "mirror_agent_reloads_total",
        "Reloads of the runtime.",
        _counted(lambda tally: tally.reloads),
        _RUNTIME,
    ),
    Family(
        "mirror_agent_restarts_total",
        "Restarts of the runtime.",
        _counted(lambda tally: tally.restarts),
        _RUNTIME,
    ),
    Family(
        "mirror_agent_errors_total",
        "Operations that failed, each try counted.",
        _errors,
        _RUNTIME,
    ),
    Family(
        "mirror_agent_failovers_total",
        "How often a mirror was taken out of the lists because it failed.",
        _one(lambda reading: reading.counters.failovers),
    ),
    Family(
        "mirror_agent_mirror_up",
        "Whether a runtime can use the mirror, by the last probe.",
        _of_mirrors(lambda mirror: mirror.is_up),
        _MIRROR,
    ),
    Family(
        "mirror_agent_mirror_in_use",
        "Whether the mirror is in the lists that runtimes read; 0: it was taken out.",
        _of_mirrors(lambda mirror: mirror.is_in_use),
        _MIRROR,
    ),
    Family(
        "mirror_agent_mirror_latency_seconds",
        "How long the last probe that the mirror passed took.",
        _of_mirrors(lambda mirror: mirror.latency_seconds or None),
        _MIRROR,
    ),
    Family(
        "mirror_agent_mirror_verdict",
        "What the last probe found, in one word; always 1.",
        _verdicts,
        (*_MIRROR, "verdict"),
    ),
    Family(
        "mirror_agent_mirror_last_ok_timestamp_seconds",
        "When a probe last found the mirror in order, 0 for never.",
        _of_mirrors(lambda mirror: mirror.last_ok),
        _MIRROR,
    ),
)
"""Every metric, in the order of the file. mirror-agent(8) explains each (a test holds them together)."""
