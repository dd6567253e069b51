"""What the daemon says about itself: /run/mirror-agent/status.json as a value, for `mirror-agent status` and scripts.

World-readable, so nothing secret may come in: no header values, no settings, no file content. It is a view for people,
never a source of truth: the agent itself does not read it back.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import Problem
from agent.model import DesiredState, KeptFile, RegistryReport, RuntimeReport
from agent.plan import Conflict, Contention, Deferred, Reload, reason_of

if TYPE_CHECKING:
    from agent.health import Health, MirrorHealth

FILE = "status.json"
"""Its name in the run directory."""

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Pending:
    """An act that is wanted and waits. `retry_after_seconds` None: nothing but a person changes it; `wanted` says what
    the act is for and what it costs, running containers that it ends for good by name."""

    runtime: str
    action: str
    unit: str
    reason: str
    retry_after_seconds: float | None = None
    wanted: str = ""


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """One mirror of one registry as its probes found it. `verdict` is "" before the first; `since` is when it was first
    given, `probed_at` when last, `last_ok` when it last was fine (Unix seconds); `seconds` is what a pull waits before
    its first byte (0.0: not known). `is_out`: it is not asked for the time being, since `moved_at`. `unprobed` says why
    the probe cannot look at it, "" if it can."""

    registry: str
    url: str
    verdict: str = ""
    detail: str = ""
    advice: str = ""
    since: float = 0.0
    probed_at: float = 0.0
    last_ok: float = 0.0
    seconds: float = 0.0
    is_out: bool = False
    moved_at: float = 0.0
    unprobed: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The last cycle. Times are Unix seconds, 0.0 for never.

    `outcome` is the word of `agent.outcome.Outcome`; `generation` (full digest), `source` and `loaded_at` belong to the
    desired state in force; `cause` says why the cycle ran, fit to follow a comma (`after an edit of /etc/x.yaml`).
    `problems` are those of the file as it is now, when it is invalid and an earlier state stays in force. `ledger` says
    why it is not known any more what stood here before the agent, "" if it is; `strays` are the kept originals of which
    nobody knows any more where they stood.
    `metrics_error` says why metrics are not written, "" where they are or nobody asks for them.
    """

    outcome: str = "unchanged"
    generation: str = ""
    source: str = ""
    pid: int = 0
    loaded_at: float = 0.0
    converged_at: float = 0.0
    cause: str = ""
    runtimes: tuple[RuntimeReport, ...] = ()
    pending: tuple[Pending, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    contentions: tuple[Contention, ...] = ()
    problems: tuple[Problem, ...] = ()
    ledger: str = ""
    strays: tuple[KeptFile, ...] = ()
    last_error: str = ""
    last_error_at: float = 0.0
    metrics_error: str = ""
    mirrors: tuple[MirrorStatus, ...] = ()

    @property
    def short_generation(self) -> str:
        """The seven characters that people see."""
        return self.generation[:7]

    @property
    def is_live(self) -> bool:
        """Whether every runtime that runs has what is desired, with nothing pending and nothing wrong."""
        waiting = self.pending or self.conflicts or self.contentions or self.problems
        troubled = waiting or self.outcome in {"degraded", "failed", "conflict", "contended"}
        return not troubled and all(report.live is not False for report in self.runtimes)


def pending_of(runtime: str, deferred: Deferred) -> Pending:
    """A deferred act as status shows it."""
    act = deferred.act
    action = "reload" if isinstance(act, Reload) else "restart"
    return Pending(runtime, action, act.unit, deferred.reason, deferred.retry_after_seconds, reason_of(act))


def mirrors_of(desired: DesiredState, health: Health) -> tuple[MirrorStatus, ...]:
    """What is known of each mirror; nothing where they are not probed. `desired` is the state with those asked now."""
    if not desired.health.enabled:
        return ()
    out = {(r.name, each.url) for r in desired.registries if r.failover for each in r.failover.out}
    every = [health.of(r.name, m.url) for r in desired.registries for m in r.desired_mirrors]
    return tuple(_mirror_status(each, is_out=each.key in out) for each in every)


def _mirror_status(mirror: MirrorHealth, *, is_out: bool) -> MirrorStatus:
    verdict = mirror.verdict
    return MirrorStatus(
        registry=mirror.registry,
        url=mirror.url,
        verdict=verdict.value if verdict else "",
        detail=mirror.detail,
        advice=verdict.advice if verdict else "",
        since=mirror.since,
        probed_at=mirror.probed_at,
        last_ok=mirror.last_ok,
        seconds=mirror.seconds,
        is_out=is_out,
        moved_at=mirror.moved_at,
        unprobed=mirror.unprobed,
    )


def encode(status: Status) -> bytes:
    """The file's bytes: JSON on lines of their own, so that it can be read as it is."""
    return json.dumps({"version": FORMAT, **asdict(status)}, indent=1, ensure_ascii=False).encode() + b"\n"


def decode(data: bytes) -> Status | None:
    """Read it back; fields that are missing or unknown are left out. None if it is not a status at all."""
    try:
        raw = json.loads(data)
        return Status(
            **_plain(raw, _TEXTS, str),
            **_plain(raw, _TIMES, (int, float)),
            pid=int(raw.get("pid", 0)),
            runtimes=tuple(_runtime(item) for item in raw.get("runtimes", ())),
            pending=tuple(Pending(**item) for item in raw.get("pending", ())),
            conflicts=tuple(Conflict(**item) for item in raw.get("conflicts", ())),
            contentions=tuple(Contention(**item) for item in raw.get("contentions", ())),
            strays=tuple(KeptFile(**item) for item in raw.get("strays", ())),
            problems=tuple(Problem(**item) for item in raw.get("problems", ())),
            mirrors=tuple(MirrorStatus(**item) for item in raw.get("mirrors", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


_TEXTS = ("outcome", "generation", "source", "cause", "ledger", "last_error", "metrics_error")
_TIMES = ("loaded_at", "converged_at", "last_error_at")


def _plain(raw: dict[str, Any], names: tuple[str, ...], kind: type | tuple[type, ...]) -> dict[str, Any]:
    found = {name: raw[name] for name in names if name in raw}
    if not all(isinstance(value, kind) for value in found.values()):
        raise TypeError("a field of another type")
    return found


def _runtime(raw: dict[str, Any]) -> RuntimeReport:
    registries = tuple(RegistryReport(**{**item, "hosts": tuple(item["hosts"])}) for item in raw["registries"])
    return RuntimeReport(**{**raw, "registries": registries})
