"""Keeps one desired state: reads it, holds on to the last good one, runs cycles and says what came of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent import converge, desired, feud, source, status
from agent.errors import WHOLE_FILE, DesiredStateError, HostError, Problem
from agent.events import Event, Kind, Level
from agent.exposition import Exposition, metric_of
from agent.feud import Feuds
from agent.health import What
from agent.kept import Kept
from agent.model import DesiredState, RuntimeReport
from agent.node import RealHost
from agent.outcome import CycleResult, Outcome, Tally
from agent.plan import Conflict, Contention, Deferred, Memory, Restart, reason_of
from agent.probing import Probing
from agent.source import Source
from agent.status import Status
from agent.store import FEUDS, LAST_GOOD

VERDICTS = "verdicts.json"

_TROUBLE = (Outcome.FAILED, Outcome.DEGRADED)


@dataclass
class Keeper:
    """`owner` is the uid that may own the desired state besides root; `hide` is told what must not be shown. `state` is
    what is desired, `effective` that with the mirrors that are asked now."""

    host: RealHost
    config: str
    emit: converge.Emit
    owner: int
    hide: Callable[[Iterable[str]], None] = lambda _: None
    state: DesiredState | None = None
    effective: DesiredState | None = None
    rejected: HostError | DesiredStateError | None = None
    doubts: bool = False
    result: CycleResult | None = None
    status: Status = field(default_factory=Status)
    _seen: Source | None = None
    _unlinted: bytes = b""
    _good: bytes = b""
    _tally: Tally = field(default_factory=Tally)
    _announced: str = ""
    _said: set[Conflict | Deferred] = field(default_factory=set)
    _feuds: Feuds = field(default_factory=Feuds)
    _contended: Mapping[str, bool] = field(default_factory=dict)
    _in_trouble: bool = False
    _needs_person: bool = False
    _complaint: tuple[str, bytes] | None = None
    _is_started: bool = False
    _change: str = ""
    _failed_over: bool = False

    def __post_init__(self) -> None:
        self._last_good = Kept(lambda data: self.host.save_state(LAST_GOOD, data), self.emit)
        self._kept_feuds = Kept(lambda data: self.host.save_state(FEUDS, data), self.emit)
        self._published = Kept(lambda data: self.host.publish(status.FILE, data), self.emit)
        self.exposition = Exposition(self.host, self.emit)
        self.probing = Probing(self.host, self.emit, f"{self.host.places.probe_directory}/{VERDICTS}")

    def start(self) -> None:
        """Read the desired state; if it is no good, fall back on the last one that was. Raises HostError where the
        state directory cannot be had; every look tries it again then."""
        self.host.allow(())
        for event in self.host.sweep():
            self.emit(event)
        self._last_good.content = self.host.read_state(LAST_GOOD)
        self._kept_feuds.content = self.host.read_state(FEUDS) or b""
        self._feuds = feud.decode(self._kept_feuds.content, self.host.now().unix_seconds)
        self._contended = {path: path in self._feuds.costly for path in self._feuds.contended}
        self.probing.start()
        self._is_started = True
        self._read()

    def look(self, *, acts: bool) -> CycleResult | None:
        """One cycle on the desired state in force. None while there has never been a good one.

        Without acts it is the look that follows an event at once: a file that is missing or invalid then may be in the
        hands of its writer, so it is not complained about (`doubts` says so) before the look that follows with acts.
        """
        self.host.begin()
        if not self._is_started:
            self.start()
        self._read(is_final=acts)
        if self.state is None:
            return None
        self.effective = self.probing.look(self.state)
        self._failed_over |= bool(self.probing.moves)
        self.exposition.failed_over(self.probing.moves.count(What.OUT))
        self.result = converge.converge(self.effective, self.host, self.emit, acts=acts, feuds=self._feuds)
        self._account(self.state, self.result)
        if acts:
            self._warn(self.state)
        self.host.conclude()
        return self.result

    def repeat(self) -> None:
        """Somebody asks: what is wrong with the file is to be said again by the next look."""
        if self.rejected is not None:
            self._seen = self._complaint = None

    def failed(self, error: HostError) -> None:
        """A look was not possible at all."""
        self._in_trouble = True
        seconds = self.host.now().unix_seconds
        self.status = replace(self.status, outcome="failed", last_error=str(error), last_error_at=seconds)

    def close(self) -> None:
        """The agent ends: nothing that only a living one can answer for stays."""
        self.exposition.close()

    # --- the desired state ---------------------------------------------------------------------------------------

    def _read(self, *, is_final: bool = True) -> None:
        self.doubts = False
        found = None
        try:
            found = source.read(self.host, self.config, self.owner)
            if found != self._seen:
                self._accept(source.load(found), found.data)
            self._seen = found
        except (HostError, DesiredStateError) as error:
            data = found.data if found else b""
            if is_final or (str(error), data) == self._complaint:
                self._seen = found
                self._reject(error, data)
            else:
                self.doubts = True

    def _accept(self, state: DesiredState, data: bytes) -> None:
        self.state, self.rejected, self._complaint, self._good = state, None, None, data
        self.host.allow(source.writable(state))
        self.hide(source.secrets(state, self.host))
        self.status = replace(self.status, loaded_at=self.host.now().unix_seconds)
        sentence = f"desired state {state.short_generation} loaded from {self.config}: {count_registries(state)}"
        self.emit(Event(Kind.LOADED, sentence, generation=state.short_generation))
        self._unlinted = data

    def _warn(self, state: DesiredState) -> None:
        """What `check` warns of, once for each desired state, when no file waits any more."""
        data, self._unlinted = self._unlinted, b""
        for warning in source.warnings(Source(self.config, data), state, self.host) if data else ():
            self.emit(Event(Kind.WARNING, warning.line_of(self.config), Level.WARNING, state.short_generation))

    def _reject(self, error: HostError | DesiredStateError, data: bytes) -> None:
        self.rejected = error
        if (str(error), data) == self._complaint:
            return
        self._complaint = str(error), data
        fell_back = self.state is None and self._fall_back(self._last_good.content or b"")
        kind = Kind.INVALID if data or isinstance(error, DesiredStateError) else Kind.MISSING
        for line in _lines(error, self.config):
            self.emit(Event(kind, line, Level.ERROR, path=self.config))
        force = f"the state {self.state.short_generation} stays in force" if self.state else "nothing is managed"
        self.emit(Event(kind, f"Nothing was changed; {force}.", Level.WARNING, path=self.config))
        if fell_back and self.state:
            stamp = self.state.short_generation
            sentence = f"the last good state {stamp} is kept in force until {self.config} is mended"
            self.emit(Event(Kind.LOADED, sentence, Level.WARNING, generation=stamp))

    def _fall_back(self, data: bytes) -> bool:
        """To the last good state. Returns whether there is one."""
        try:
            state = desired.load(data, self.config)
        except DesiredStateError:
            return False
        self.state, self._good = state, data
        self.host.allow(source.writable(state))
        self.hide(source.secrets(state, self.host))
        return True

    # --- what came of it -----------------------------------------------------------------------------------------

    def _account(self, state: DesiredState, result: CycleResult) -> None:
        self._tally += result.tally
        self.exposition.count(result)
        if state.generation != self._announced:
            self._change = f"after an edit of {self.config}" if self._announced else "after the start of mirror-agent"
        elif not result.tally.is_empty:
            self._change = self._change or self._cause()
        self._announce_open_points(state, result)
        self._announce_contentions(state, result)
        self._kept_feuds.bring(self._feuds.encode(), state.short_generation)
        if result.outcome in _TROUBLE:
            self._in_trouble = True
            return
        if not result.acts_are_pending:
            self._announce_end(state, len(result.conflicts))
        self._last_good.bring(self._good, state.short_generation)

    def _cause(self) -> str:
        """Of a change that no edit has asked for."""
        if self._tally.undone:
            return "after a change that did not work was put back"
        healed = "after mirrors failed or recovered"
        return healed if self._failed_over else "after somebody else's change was put right"

    def _announce_end(self, state: DesiredState, conflicts: int) -> None:
        """One line for a cycle that did something, or that is no longer in anybody's way."""
        is_new, was_stuck = state.generation != self._announced, self._needs_person
        if self._in_trouble and not conflicts:
            self._in_trouble = False
            self.emit(Event(Kind.RECOVERED, "what had failed works again", generation=state.short_generation))
        if is_new or (was_stuck and not conflicts) or not self._tally.is_empty:
            self._say_end(state, conflicts, is_new=is_new or was_stuck or self._failed_over)
        self._announced, self._needs_person = state.generation, conflicts > 0
        self._tally, self._failed_over = Tally(), False

    def _say_end(self, state: DesiredState, conflicts: int, *, is_new: bool) -> None:
        stamp = state.short_generation
        if conflicts:
            need = f"{conflicts} conflicts need" if conflicts > 1 else "1 conflict needs"
            sentence = f"{stamp}: {self._tally.brief}, but {need} you"
            self.emit(Event(Kind.UNRESOLVED, sentence, Level.WARNING, generation=stamp, outcome="conflict"))
            return
        kind = Kind.CONVERGED if is_new or self._tally.undone else Kind.DRIFT
        what = "converged" if is_new else "drift repaired, converged"
        if self._tally.undone:
            what = "what did not work is put back, converged"
        self.exposition.converged(self._tally.seconds, is_drift=kind is Kind.DRIFT)
        done = "nothing to change" if self._tally.is_empty else str(self._tally)
        sentence = f"{what} {stamp} in {self._tally.seconds * 1000:.0f} ms: {done}"
        self.emit(Event(kind, sentence, generation=stamp, outcome="changed"))

    def _announce_open_points(self, state: DesiredState, result: CycleResult) -> None:
        """Conflicts and deferred acts, each when it is new."""
        now: set[Conflict | Deferred] = set()
        for part in result.runtimes:
            for conflict in part.conflicts:
                now.add(conflict)
                if conflict not in self._said:
                    self._say_conflict(state, part.runtime, conflict)
            for deferred in part.deferred:
                timeless = _timeless(deferred)
                now.add(timeless)
                if timeless not in self._said:
                    self._say_deferred(state, part.runtime, deferred)
        self._said = now

    def _say_conflict(self, state: DesiredState, runtime: str, conflict: Conflict) -> None:
        event = Event(Kind.CONFLICT, f"{runtime}: {conflict.path}: {conflict.reason}", Level.WARNING)
        stamped = replace(event, generation=state.short_generation, runtime=runtime, path=conflict.path)
        self.emit(replace(stamped, registry=conflict.registry, reason=conflict.reason, outcome="conflict"))

    def _say_deferred(self, state: DesiredState, runtime: str, deferred: Deferred) -> None:
        act = type(deferred.act).__name__.lower()
        sentence = f"{runtime}: {act} pending, because {deferred.reason}: {reason_of(deferred.act)}"
        event = Event(Kind.DEFERRED, sentence, Level.NOTICE, generation=state.short_generation, runtime=runtime)
        self.emit(replace(event, action=act, reason=deferred.reason))

    def _announce_contentions(self, state: DesiredState, result: CycleResult) -> None:
        """Each when it begins and when it ends."""
        for contention in result.contentions:
            if contention.path not in self._contended:
                self._say_contended(state, contention)
        now = {contention.path: contention.takes_restarts for contention in result.contentions}
        quiet = {
            False: f"nobody else has changed it for {feud.WINDOW_SECONDS / 60:.0f} min",
            True: "no restart is held back because of it any more",
        }
        is_new = state.generation != self._announced
        for path in sorted(self._contended.keys() - now):
            why = "the desired state is new" if is_new else quiet[self._contended[path]]
            sentence = f"{path} is no longer contended: {why}"
            self.emit(Event(Kind.CALM, sentence, Level.NOTICE, state.short_generation, path=path))
        self._contended = now

    def _say_contended(self, state: DesiredState, contention: Contention) -> None:
        by = f" ({contention.writer}, by its marks)" if contention.writer else ""
        often = f"{feud.REVERTS} times within {feud.WINDOW_SECONDS / 60:.0f} min"
        then = "it is put back ever more rarely from now on, and no restart is made meanwhile"
        if contention.takes_restarts:
            days = f"{feud.RESTARTS_WINDOW_SECONDS / 86400:.0f} days"
            often = f"{feud.RESTARTS} times within {days}, and each time it takes a restart to undo it"
            then = "it is still put back, and no restart is made for it any more"
        sentence = (
            f"{contention.runtime}: {contention.path} is contended: somebody else{by} has changed it {often}; {then}"
        )
        event = Event(Kind.CONTENDED, sentence, Level.WARNING, state.short_generation, contention.runtime)
        self.emit(replace(event, path=contention.path, reason=contention.writer, outcome="contended"))

    # --- what status shows ---------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Replace status.json and metrics if they say something new. A failure is said once and disturbs nothing."""
        if self.effective is None or self.result is None:
            self.status = self._status_of_nothing()
        else:
            self.status = self._status(self.effective, self.result)
            self.exposition.mirrors = tuple(map(metric_of, self.status.mirrors))
            failure = self.exposition.publish(self.effective.metrics.directory, self.status, self.result)
            self.status = replace(self.status, metrics_error=failure)
        self._change = ""
        self._published.bring(status.encode(self.status))

    def _status_of_nothing(self) -> Status:
        """Nothing is in force yet, because no desired state was valid, or we could not look."""
        known = replace(self.status, outcome="unchanged") if self._is_started else self.status
        problems = _problems(self.rejected)
        return replace(known, source=self.config, pid=os.getpid(), problems=problems, ledger=self.host.loss)

    def _status(self, state: DesiredState, result: CycleResult) -> Status:
        errors = [error for part in result.runtimes for error in part.errors]
        seconds = self.host.now().unix_seconds
        return replace(
            self.status,
            outcome=result.outcome.value,
            generation=state.generation,
            source=self.config,
            pid=os.getpid(),
            converged_at=seconds if self._change else self.status.converged_at,
            cause=self._change or self.status.cause,
            runtimes=self._reports(state),
            pending=tuple(status.pending_of(part.runtime, d) for part in result.runtimes for d in part.deferred),
            conflicts=result.conflicts,
            contentions=result.contentions,
            problems=_problems(self.rejected),
            ledger=self.host.loss,
            strays=self.host.strays(),
            mirrors=status.mirrors_of(state, self.probing.known),
            last_error=errors[0] if errors else self.status.last_error,
            last_error_at=seconds if errors else self.status.last_error_at,
        )

    def _reports(self, state: DesiredState) -> tuple[RuntimeReport, ...]:
        """What is so now; what was so last where the machine does not let us look, which the cycle has said."""
        try:
            return converge.reports(state, self.host)
        except HostError:
            return self.status.runtimes


def _timeless(deferred: Deferred) -> Deferred:
    """What makes one wait the same as another: neither how long it still is, nor which containers run just now, nor
    what is remembered of the daemon that runs just now."""
    act = replace(deferred.act, ends="", before=Memory()) if isinstance(deferred.act, Restart) else deferred.act
    return replace(deferred, act=act, retry_after_seconds=None)


def count_registries(state: DesiredState) -> str:
    """`1 registry`, `12 registries`."""
    count = len(state.registries)
    return f"{count} registry" if count == 1 else f"{count} registries"


def _problems(error: HostError | DesiredStateError | None) -> tuple[Problem, ...]:
    if error is None:
        return ()
    return (Problem(1, 1, WHOLE_FILE, str(error)),) if isinstance(error, HostError) else error.problems


def _lines(error: HostError | DesiredStateError, path: str) -> list[str]:
    if isinstance(error, HostError):
        return [str(error)]
    return [problem.line_of(path) for problem in error.problems]
