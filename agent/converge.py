"""One cycle: observe, plan, apply, observe again. The same for every runtime; the only place that applies a Plan.

Files come first (claims, directories, writes, removals, releases), acts last, one at a time, and after each step the
runtime is observed and planned anew: "converged" is claimed only when that plan is empty. A failure stops what
depends on it (one registry's file, or this runtime's acts) and nothing else.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any, assert_never

from agent.errors import ConcurrentChangeError, HostError, StaleNamespaceError
from agent.events import Event, Kind, Level
from agent.host import Host, HostReader
from agent.ledger import Ledger
from agent.model import DesiredState, Manage, Regular, RuntimeReport
from agent.outcome import CycleResult, Outcome, RuntimeResult, Tally
from agent.plan import (
    Act,
    FileAction,
    MakeDirectory,
    Plan,
    Recover,
    Reload,
    RemoveDirectory,
    RemoveFile,
    Restart,
    WriteFile,
)
from agent.runtimes import Runtime, discover

MAX_ROUNDS = 12
"""Rounds of observe, plan, apply in one cycle. A change takes two, the removal of a mirror three, a busy second writer
more; whoever needs twelve fights with somebody, and the next cycle goes on."""

RELOAD_DEADLINE_SECONDS = 10.0
RESTART_DEADLINE_SECONDS = 90.0

Emit = Callable[[Event], None]

_Results = Sequence[Exception | None]
_Turn = Generator[list[WriteFile], _Results | None, bool]
"""One round of one runtime: it gives the files to be written, is told what became of each, and returns whether another
round can help."""


def plans(desired: DesiredState, host: HostReader) -> tuple[Plan, ...]:
    """What would be done now, per runtime. Touches nothing."""
    return tuple(runtime.plan(desired, runtime.observe(host, desired)) for runtime in discover())


def reports(desired: DesiredState, host: HostReader) -> tuple[RuntimeReport, ...]:
    """What is so now, per runtime. Touches nothing."""
    return tuple(runtime.report(desired, runtime.observe(host, desired)) for runtime in discover())


def converge(desired: DesiredState, host: Host, emit: Emit, *, acts: bool) -> CycleResult:
    """Bring the machine to the desired state. With `acts` False only files are touched, and wanted acts are counted
    as pending. Never raises for what the machine does: the result says what failed."""
    started = time.monotonic()
    cycles = [_Cycle(runtime, desired, host, emit) for runtime in discover()]
    _run(cycles, host, acts=False)
    if acts and any(cycle.wants_acts for cycle in cycles):
        for cycle in cycles:
            _run([cycle], host, acts=True)
    return CycleResult(
        generation=desired.generation,
        runtimes=tuple(cycle.result() for cycle in cycles),
        seconds=time.monotonic() - started,
    )


def revert(desired: DesiredState, host: Host, emit: Emit) -> CycleResult:
    """Give everything back as it stood before the agent came, as if the desired state managed no runtime."""
    unmanaged = replace(
        desired,
        registries=(),
        containerd=replace(desired.containerd, manage=Manage.NEVER),
        docker=replace(desired.docker, manage=Manage.NEVER),
    )
    return converge(unmanaged, host, emit, acts=True)


def _run(cycles: Sequence[_Cycle], host: Host, *, acts: bool) -> None:
    """Go round until there is nothing left to do, something fails, or the rounds are used up."""
    for _ in range(MAX_ROUNDS):
        cycles = _in_step(cycles, host, acts=acts)


def _in_step(cycles: Sequence[_Cycle], host: Host, *, acts: bool) -> list[_Cycle]:
    """One round of each runtime; what all of them write is written at once, for it is the disk that an edit waits for.
    Returns those that another round can help."""
    turns = [cycle.turn(acts=acts) for cycle in cycles]
    reached = [_advanced(turn, None) for turn in turns]
    results = _written([write for writes in reached if isinstance(writes, list) for write in writes], host)
    ends = [
        _advanced(turn, [next(results) for _ in writes]) if isinstance(writes, list) else writes
        for turn, writes in zip(turns, reached, strict=True)
    ]
    return [cycle for cycle, end in zip(cycles, ends, strict=True) if end is True]


def _advanced(turn: _Turn, results: _Results | None) -> list[WriteFile] | bool:
    """The files that it gives to be written, or what it ended with."""
    try:
        return turn.send(results)
    except StopIteration as end:
        return bool(end.value)


def _written(writes: list[WriteFile], host: Host) -> Iterator[Exception | None]:
    """What became of each; a bug becomes the result of all of them."""
    try:
        return iter(host.write_files(writes) if writes else ())
    except Exception as error:  # noqa: BLE001 -- each runtime whose files they are reports it
        return repeat(error)


@dataclass
class _Cycle:
    """One runtime in one cycle, and what has happened to it so far."""

    runtime: Runtime[Any]
    desired: DesiredState
    host: Host
    emit: Emit
    tally: Tally = field(default_factory=Tally)
    errors: list[HostError] = field(default_factory=list)
    failed_groups: set[str] = field(default_factory=set)
    bug: str = ""
    failed_acts: list[HostError] = field(default_factory=list)
    stopped: bool = False
    acts_allowed: bool = False
    last_plan: Plan | None = None

    @property
    def wants_acts(self) -> bool:
        """Whether the last look left something to reload or restart."""
        return self.last_plan is not None and bool(self.last_plan.acts)

    def turn(self, *, acts: bool) -> _Turn:
        """One round. Contains whatever goes wrong in it."""
        self.acts_allowed = acts
        try:
            return not self.stopped and (yield from self._round(acts=acts))
        except HostError as error:
            self._fail(error, "")
        except Exception as error:  # noqa: BLE001 -- a bug in one runtime must not keep the other one from converging
            self.bug = describe_bug(error)
            self._say(Event(Kind.BUG, f"a bug in mirror-agent, please report it: {self.bug}", Level.ERROR))
        return False

    def _round(self, *, acts: bool) -> _Turn:
        plan = self._plan()
        if self._has_file_work(plan):
            return (yield from self._apply_files(plan))
        if acts and plan.acts and (not self.failed_acts or isinstance(plan.acts[0], Recover)):
            return self._perform(plan.acts[0])
        return False

    def _plan(self) -> Plan:
        self.last_plan = self.runtime.plan(self.desired, self.runtime.observe(self.host, self.desired))
        return self.last_plan

    # --- files ---------------------------------------------------------------------------------------------------

    def _has_file_work(self, plan: Plan) -> bool:
        remembers = plan.remember is not None and plan.remember != self.host.ledger().memory_of(plan.runtime)
        return bool(plan.file_actions or plan.claims or plan.releases or remembers)

    def _apply_files(self, plan: Plan) -> _Turn:
        """Claims, then files, then releases."""
        self.failed_groups.clear()
        self.errors.clear()
        if not self._attempt("", lambda: self._store_claims(plan)):
            self.stopped = True
            return False
        changed_by_others = yield from self._apply_actions(plan.file_actions)
        failed = {action.path for action in plan.file_actions if action.registry in self.failed_groups}
        done = [release for release in plan.releases if release.path not in failed]
        self._attempt("", lambda: self._save(self.host.ledger().with_releases(done)))
        self.stopped = bool(self.errors)
        return changed_by_others or not self.errors

    def _store_claims(self, plan: Plan) -> None:
        ledger = self.host.ledger()
        for content in plan.keeps:
            self.host.keep_original(content)
        for claim in plan.claims:
            if isinstance(claim.original, Regular) and claim.path not in ledger.entries:
                self.host.keep_original(claim.original.content)
        claimed = ledger.with_claims(plan.runtime, plan.claims)
        self._save(claimed if plan.remember is None else claimed.with_memory(plan.runtime, plan.remember))

    def _save(self, ledger: Ledger) -> None:
        if ledger != self.host.ledger():
            self.host.save_ledger(ledger)

    def _apply_actions(self, actions: tuple[FileAction, ...]) -> _Turn:
        """Do what can be done; an action whose group has failed is left for the next cycle. Returns whether somebody
        else changed a file meanwhile, so that a new plan is needed."""
        for directory in (item for item in actions if isinstance(item, MakeDirectory)):
            self._do(directory)
        writes = [item for item in actions if isinstance(item, WriteFile) and item.registry not in self.failed_groups]
        results = (yield writes) or ()
        for write, error in zip(writes, results, strict=True):
            if error is not None and not isinstance(error, HostError):
                raise error
            self._finish(write, error)
        for removal in (item for item in actions if isinstance(item, RemoveFile | RemoveDirectory)):
            if removal.registry not in self.failed_groups:
                self._do(removal)
        return any(isinstance(error, ConcurrentChangeError) for error in results)

    def _do(self, action: MakeDirectory | RemoveFile | RemoveDirectory) -> None:
        try:
            match action:
                case MakeDirectory():
                    self.host.make_directory(action.path, action.mode)
                case RemoveFile():
                    self.host.remove_file(action)
                case RemoveDirectory():
                    self.host.remove_directory(action.path)
                case _:
                    assert_never(action)
        except HostError as error:
            self._finish(action, error)
        else:
            self._finish(action, None)

    def _finish(self, action: FileAction, error: HostError | None) -> None:
        if isinstance(error, ConcurrentChangeError):
            self.failed_groups.add(action.registry)
        elif error is not None:
            self.failed_groups.add(action.registry)
            self._fail(error, action.registry)
        elif isinstance(action, WriteFile):
            self.tally += Tally(written=1)
            self._tell(action, Kind.WROTE, "wrote")
        elif isinstance(action, RemoveFile):
            self.tally += Tally(removed=1)
            self._tell(action, Kind.REMOVED, "removed")

    def _attempt(self, group: str, work: Callable[[], None]) -> bool:
        try:
            work()
        except HostError as error:
            self._fail(error, group)
            return False
        return True

    # --- acts ----------------------------------------------------------------------------------------------------

    def _perform(self, act: Act) -> bool:
        """Do it. Returns whether another round can help: after a restart that failed only what undoes it can."""
        try:
            match act:
                case Reload():
                    self._reload(act)
                case Restart():
                    self._restart(act)
                case Recover():
                    self._recover(act)
                case _:
                    assert_never(act)
        except HostError as error:
            self._say_failure(error, "")
            self.failed_acts.append(error)
            self.host.refresh()
            return isinstance(act, Restart)
        return True

    def _reload(self, act: Reload) -> None:
        self.host.reload_unit(act.unit)
        self.tally += Tally(reloads=1)
        self._remember(act)
        if self._settled(RELOAD_DEADLINE_SECONDS):
            self._say_act(Kind.RELOADED, f"reloaded, and the daemon confirms it: {act.reason}", Level.INFO, act)
            return
        memory = replace(self.host.ledger().memory_of(self.runtime.name), failed_reload=act.attempt, reloaded_at=0.0)
        self._save(self.host.ledger().with_memory(self.runtime.name, memory))
        sentence = f"reloaded, but after {RELOAD_DEADLINE_SECONDS:.0f} s the daemon does not show it: {act.reason}"
        self._say_act(Kind.FAILED, sentence, Level.WARNING, act)

    def _remember(self, act: Reload) -> None:
        self._save(self.host.ledger().with_memory(self.runtime.name, act.after))

    def _settled(self, deadline_seconds: float) -> bool:
        """Whether the plan stops asking for acts before the deadline. Looks ever less often, 20 ms to 0.5 s."""
        waited, step = 0.0, 0.02
        while waited < deadline_seconds:
            self.host.pause(step)
            waited, step = waited + step, min(step * 1.5, 0.5)
            self.host.refresh()
            if not self._plan().acts:
                return True
        return False

    def _restart(self, act: Restart) -> None:
        self._save(self.host.ledger().with_memory(self.runtime.name, act.before))
        self._say_act(Kind.RESTARTED, f"restarting {act.unit}: {act.reason}", Level.NOTICE, act)
        self.tally += Tally(restarts=1)
        self.host.restart_unit(act.unit, RESTART_DEADLINE_SECONDS)
        self.host.refresh()
        self._say_act(Kind.RESTARTED, f"{act.unit} is up again after its restart", Level.NOTICE, act)

    def _recover(self, act: Recover) -> None:
        self._save(self.host.ledger().with_memory(self.runtime.name, act.before))
        self._say_act(Kind.RESTARTED, f"starting {act.unit}: {act.reason}", Level.WARNING, act)
        self.host.recover_unit(act.unit, RESTART_DEADLINE_SECONDS)
        self.host.refresh()
        self._say_act(Kind.RESTARTED, f"{act.unit} is up again", Level.NOTICE, act)

    # --- what is said --------------------------------------------------------------------------------------------

    def _fail(self, error: HostError, registry: str) -> None:
        self.errors.append(error)
        self._say_failure(error, registry)

    def _say_failure(self, error: HostError, registry: str) -> None:
        self._say(Event(Kind.FAILED, str(error), Level.ERROR, registry=registry, path=error.path, outcome="failed"))

    def _tell(self, action: WriteFile | RemoveFile, kind: Kind, verb: str) -> None:
        sentence = f"{verb} {self._short(action.path)}: {action.reason}"
        event = Event(kind, sentence, registry=action.registry, path=action.path, reason=action.reason)
        self._say(replace(event, action="write" if kind is Kind.WROTE else "remove", outcome="changed"))

    def _short(self, path: str) -> str:
        for directory in self.runtime.owns:
            if path.startswith(directory + "/"):
                return path[len(directory) + 1 :]
        return path

    def _say_act(self, kind: Kind, sentence: str, level: Level, act: Act) -> None:
        outcome = "failed" if kind is Kind.FAILED else "changed"
        self._say(Event(kind, sentence, level, reason=act.reason, action=type(act).__name__.lower(), outcome=outcome))

    def _say(self, event: Event) -> None:
        """Emit with the runtime and the generation filled in; the sentence gets the runtime's name in front."""
        sentence = f"{self.runtime.name}: {event.message}"
        stamp = self.desired.short_generation
        self.emit(replace(event, message=sentence, runtime=self.runtime.name, generation=stamp))

    # --- what it came to -----------------------------------------------------------------------------------------

    def result(self) -> RuntimeResult:
        plan = self.last_plan or Plan(self.runtime.name)
        errors = [*self.failed_acts, *self.errors]
        return RuntimeResult(
            runtime=self.runtime.name,
            outcome=self._outcome(plan),
            tally=self.tally,
            pending_acts=plan.acts,
            conflicts=plan.conflicts,
            deferred=plan.deferred,
            errors=tuple(map(str, errors)) + ((self.bug,) if self.bug else ()),
            stale_namespace=any(isinstance(error, StaleNamespaceError) for error in self.errors),
        )

    def _outcome(self, plan: Plan) -> Outcome:
        if self.errors or self.failed_acts or self.bug:
            return Outcome.FAILED
        if plan.file_actions or (self.acts_allowed and plan.acts):
            return Outcome.DEGRADED
        if plan.conflicts:
            return Outcome.CONFLICT
        return Outcome.UNCHANGED if self.tally.is_empty else Outcome.CHANGED


def describe_bug(error: BaseException) -> str:
    """An unexpected exception in one line: its type and where it came from. Its text may quote file content, and
    with that a secret, so it is left out."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
