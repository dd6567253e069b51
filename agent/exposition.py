"""Metrics on their way to node_exporter: one file in a directory of somebody else, beside status.json.

It is written when it says something new, and every few minutes without that, so that its age tells whether the agent
lives. A directory that is missing or cannot be written is said once and disturbs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agent.converge import Emit
from agent.errors import HostError, StaleNamespaceError
from agent.events import Event, Kind, Level
from agent.metrics import HEADER, Counters, MirrorMetric, Reading, encode
from agent.node import RealHost
from agent.outcome import CycleResult
from agent.status import MirrorStatus, Status
from agent.verdict import Verdict

FILE = "mirror-agent.prom"

SIGN_OF_LIFE_SECONDS = 300.0
"""Idle, the agent publishes about every ten minutes, so that is how old the file becomes while the agent lives."""

_MARK = HEADER.encode()

_PLACE = "metrics-directory"
"""Where the file is, kept over a restart of the agent: it goes when the desired state names another directory."""


def metric_of(mirror: MirrorStatus) -> MirrorMetric:
    """A mirror of `status` as metrics have it."""
    is_up = not Verdict(mirror.verdict).is_outage if mirror.verdict else None
    return MirrorMetric(
        registry=mirror.registry,
        url=mirror.url,
        is_up=is_up,
        is_in_use=not mirror.is_out,
        verdict=mirror.verdict,
        latency_seconds=mirror.seconds,
        last_ok=mirror.last_ok,
    )


@dataclass
class Exposition:
    """`mirrors` is what the probes found, for the next `publish`; `is_stale` says that only a new process of ours could
    write in the directory."""

    host: RealHost
    emit: Emit
    mirrors: tuple[MirrorMetric, ...] = ()
    counters: Counters = field(default_factory=Counters)
    is_stale: bool = False
    _place: str | None = None
    _written: bytes = b""
    _written_at: float = 0.0
    _identity: tuple[int, ...] = ()
    _error: str = ""

    def count(self, result: CycleResult) -> None:
        """Every cycle, once."""
        self.counters = self.counters.with_result(result)

    def converged(self, seconds: float, *, is_drift: bool) -> None:
        """Every converge that the journal tells."""
        self.counters = self.counters.with_converge(self.host.now().unix_seconds, seconds, is_drift=is_drift)

    def failed_over(self, mirrors: int = 1) -> None:
        """So many mirrors were taken out of the lists."""
        self.counters = replace(self.counters, failovers=self.counters.failovers + mirrors)

    def publish(self, directory: str, status: Status, result: CycleResult) -> str:
        """Bring the file to what is so now; `directory` "" means that nobody wants it. Returns what keeps it from being
        written, "" if nothing does."""
        self._move(directory)
        if directory:
            self._say(self._attempt(lambda: self._write(directory, status, result)), directory)
        return self._error

    def close(self) -> None:
        """The agent ends: what it said last would soon be untrue, and would stay after it is removed from the node."""
        if self._place:
            self._report(self._attempt(lambda: self.host.withdraw(_path(self._place or ""), _MARK)))

    # --- inside --------------------------------------------------------------------------------------------------

    def _attempt(self, work: Callable[[], None]) -> HostError | None:
        try:
            work()
        except HostError as error:
            return error
        return None

    def _move(self, directory: str) -> None:
        """Remove the file from where it was and remember where it will be. What fails is said and not tried again."""
        if self._place is None:
            self._place = _remembered(self.host)
        before, self._place = self._place, directory
        if before == directory:
            return
        self._written, self._error, self.is_stale = b"", "", False
        if before:
            self._report(self._attempt(lambda: self.host.withdraw(_path(before), _MARK)))
        self._report(self._attempt(lambda: self.host.save_state(_PLACE, directory.encode())))

    def _write(self, directory: str, status: Status, result: CycleResult) -> None:
        path, content, now = _path(directory), self._content(status, result), self.host.now().unix_seconds
        is_fresh = abs(now - self._written_at) < SIGN_OF_LIFE_SECONDS
        if content == self._written and is_fresh and self.host.identity(path) == self._identity:
            return
        self.host.expose(path, content)
        self._written, self._written_at, self._identity = content, now, self.host.identity(path)

    def _content(self, status: Status, result: CycleResult) -> bytes:
        ledger = self.host.ledger()
        restarted = tuple((part.runtime, ledger.memory_of(part.runtime).restarted_at) for part in result.runtimes)
        return encode(Reading(status, result, self.counters, restarted, self.mirrors))

    def _say(self, error: HostError | None, directory: str) -> None:
        """What is wrong, when it is new, and that nothing is any more."""
        sentence = str(error) if error else ""
        self.is_stale = isinstance(error, StaleNamespaceError)
        if sentence == self._error:
            return
        self._error = sentence
        if error:
            self._report(error)
        else:
            told = f"metrics: {_path(directory)} is written again"
            self.emit(Event(Kind.RECOVERED, told, Level.NOTICE, path=_path(directory)))

    def _report(self, error: HostError | None) -> None:
        if error:
            told = f"metrics: {error}; everything else goes on"
            self.emit(Event(Kind.FAILED, told, Level.WARNING, path=error.path, outcome="failed"))


def forget(host: RealHost) -> None:
    """Remove the file wherever an agent that is gone has left it. Raises HostError."""
    if place := _remembered(host):
        host.withdraw(_path(place), _MARK)
        host.save_state(_PLACE, b"")


def _remembered(host: RealHost) -> str:
    return (host.read_state(_PLACE) or b"").decode("utf-8", "replace")


def _path(directory: str) -> str:
    return f"{directory.rstrip('/')}/{FILE}"
