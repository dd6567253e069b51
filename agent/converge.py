"""One cycle: observe, plan, apply, observe again. The same for every runtime; the only place that applies a Plan.

Files come first (claims, directories, writes, removals, releases), acts last, one at a time, and after each step the
runtime is observed and planned anew: "converged" is claimed only when that plan is empty. A failure stops what
depends on it (one registry's file, or this runtime's acts) and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from agent.errors import (
    ConcurrentChangeError,
    HostError,
    NotOrderedError,
    StaleNamespaceError,
    StopAskedError,
    describe_bug,
)
from agent.events import Event, Kind, Level
from agent.feud import Feuds
from agent.host import Host, HostReader
from agent.ledger import Ledger
from agent.masked import without_masked
from agent.model import DesiredState, Manage, Regular, RuntimeReport
from agent.outcome import CycleResult, Outcome, RuntimeResult, Tally
from agent.plan import (
    Act,
    FileAction,
    MakeDirectory,
    Memory,
    Plan,
    Recover,
    Reload,
    RemoveDirectory,
    RemoveFile,
    Restart,
    WriteFile,
    reason_of,
)
from agent.runtimes import Runtime, discover
from agent.turns import Results, Turn, run

RELOAD_DEADLINE_SECONDS = 20.0
"""dockerd looks for a missing authorization plugin for 15 s before it gives up, and ends."""

RESTART_DEADLINE_SECONDS = 90.0

Emit = Callable[[Event], None]


def plans(desired: DesiredState, host: HostReader) -> tuple[Plan, ...]:
    """What would be done now, per runtime. Touches nothing."""
    return tuple(_planned(runtime, desired, host) for runtime in discover())


def _planned(runtime: Runtime[Any], desired: DesiredState, host: HostReader) -> Plan:
    return without_masked(runtime.plan(desired, runtime.observe(host, desired)), host)


def reports(desired: DesiredState, host: HostReader) -> tuple[RuntimeReport, ...]:
    """What is so now, per runtime. Touches nothing."""
    return tuple(runtime.report(desired, runtime.observe(host, desired)) for runtime in discover())


def converge(desired: DesiredState, host: Host, emit: Emit, *, acts: bool, feuds: Feuds | None = None) -> CycleResult:
    """Bring the machine to the desired state. With `acts` False only files are touched, and wanted acts are counted
    as pending. `feuds` remembers from cycle to cycle who changes what we put back; without it everything is put back.
    Never raises for what the machine does: the result says what failed."""
    started = time.monotonic()
    known = Feuds() if feuds is None else feuds
    known.begin(desired.generation)
    cycles = [_Cycle(runtime, desired, host, emit, known) for runtime in discover()]
    run(cycles, host, acts=False)
    if acts and any(cycle.wants_acts for cycle in cycles):
        for cycle in cycles:
            run([cycle], host, acts=True)
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


@dataclass
class _Cycle:
    """One runtime in one cycle, and what has happened to it so far."""

    runtime: Runtime[Any]
    desired: DesiredState
    host: Host
    emit: Emit
    feuds: Feuds = field(default_factory=Feuds)
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

    def turn(self, *, acts: bool) -> Turn:
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

    def _round(self, *, acts: bool) -> Turn:
        plan = self._plan()
        if self._has_file_work(plan):
            return (yield from self._apply_files(plan))
        if acts and plan.acts and (not self.failed_acts or isinstance(plan.acts[0], Recover)):
            return self._perform(plan.acts[0])
        return False

    def _plan(self) -> Plan:
        self.last_plan = self.feuds.restrain(self._whole_plan(), self._now())
        return self.last_plan

    def _whole_plan(self) -> Plan:
        return _planned(self.runtime, self.desired, self.host)

    def _now(self) -> float:
        return self.host.now().unix_seconds

    # --- files ---------------------------------------------------------------------------------------------------

    def _has_file_work(self, plan: Plan) -> bool:
        remembers = plan.remember is not None and plan.remember != self.host.ledger().memory_of(plan.runtime)
        return bool(plan.file_actions or plan.claims or plan.releases or remembers)

    def _apply_files(self, plan: Plan) -> Turn:
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
        for original in (each.original for each in plan.claims if each.path not in ledger.entries):
            if isinstance(original, Regular):
                self.host.keep_original(original.content)
        claimed = ledger.with_claims(plan.runtime, plan.claims)
        self._save(claimed if plan.remember is None else claimed.with_memory(plan.runtime, plan.remember))

    def _save(self, ledger: Ledger) -> None:
        if ledger != self.host.ledger():
            self.host.save_ledger(ledger)

    def _apply_actions(self, actions: tuple[FileAction, ...]) -> Turn:
        """Do what can be done; an action whose group has failed is left for the next cycle. Returns whether somebody
        else changed a file meanwhile, so that a new plan is needed."""
        for directory in (item for item in actions if isinstance(item, MakeDirectory)):
            self._do(directory)
        writes = [item for item in actions if isinstance(item, WriteFile) and item.registry not in self.failed_groups]
        first = [write for write in writes if not write.needs]
        results = list((yield first) or ())
        self._finish_writes(first, results)
        last = [write for write in writes if write.needs and not write.needs & self.failed_groups]
        if last:
            results += self._finish_writes(last, self.host.write_files(last))
        for removal in (item for item in actions if isinstance(item, RemoveFile | RemoveDirectory)):
            if removal.registry not in self.failed_groups:
                self._do(removal)
        return any(isinstance(error, ConcurrentChangeError) for error in results)

    def _finish_writes(self, writes: Sequence[WriteFile], results: Results) -> Results:
        for write, error in zip(writes, results, strict=True):
            if error is not None and not isinstance(error, HostError):
                raise error
            self._finish(write, error)
        return results

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
            self.feuds.crossed(self.runtime.name, action, self._now(), self.host.exists)
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
        self._remember(act.after)
        settled = self._settled(RELOAD_DEADLINE_SECONDS)
        if settled:
            self._say_act(Kind.RELOADED, f"reloaded, and the daemon confirms it: {act.reason}", Level.INFO, act)
            return
        known = self.last_plan.remember if self.last_plan else None
        memory = replace(known or self.host.ledger().memory_of(self.runtime.name), reloaded_at=0.0)
        if settled is None:
            self._remember(memory)
            sentence = f"reloaded, but somebody else changed the file just then: {act.reason}"
            self._say_act(Kind.RELOADED, sentence, Level.NOTICE, act)
            return
        self._remember(replace(memory, failed_reload=act.attempt))
        sentence = f"reloaded, but after {RELOAD_DEADLINE_SECONDS:.0f} s the daemon does not show it: {act.reason}"
        self._say_act(Kind.FAILED, sentence, Level.WARNING, act)

    def _settled(self, deadline_seconds: float) -> bool | None:
        """Whether the plan stops asking for acts before the deadline; None if the file that is read at a reload is no
        longer what we left, so that the reload proves nothing. Looks ever less often, 20 ms to 0.5 s."""
        waited, step = 0.0, 0.02
        while waited < deadline_seconds:
            self.host.pause(step)
            waited, step = waited + step, min(step * 1.5, 0.5)
            self.host.refresh()
            plan = self.last_plan = self._whole_plan()
            if plan.undoes or not plan.acts:
                return not plan.undoes
            if any(not action.registry for action in plan.file_actions):
                return None
        return False

    def _restart(self, act: Restart) -> None:
        """One that was not even ordered is none: what was noted of it is forgotten again."""
        known, tally = self.host.ledger().memory_of(self.runtime.name), self.tally
        self._remember(act.before)
        self._say_act(Kind.RESTARTED, f"restarting {act.unit}: {reason_of(act)}", Level.NOTICE, act)
        self.tally += Tally(restarts=1)
        try:
            self.host.restart_unit(act.unit, RESTART_DEADLINE_SECONDS)
        except NotOrderedError:
            self.tally = tally
            self._try_to_remember(known)
            raise
        self.host.refresh()
        self._say_act(Kind.RESTARTED, f"{act.unit} is up again after its restart", Level.NOTICE, act)

    def _remember(self, memory: Memory) -> None:
        self._save(self.host.ledger().with_memory(self.runtime.name, memory))

    def _try_to_remember(self, memory: Memory) -> None:
        self._attempt("", lambda: self._remember(memory))

    def _recover(self, act: Recover) -> None:
        known, taken = self.host.ledger().memory_of(self.runtime.name), replace(act.before, awaits_order=False)
        self._remember(act.before)
        self._say_act(Kind.RESTARTED, f"starting {act.unit}: {act.reason}", Level.WARNING, act)
        try:
            self.host.recover_unit(act.unit, RESTART_DEADLINE_SECONDS, lambda: self._try_to_remember(taken))
        except HostError as error:
            if isinstance(error, NotOrderedError):
                self._try_to_remember(known)
            elif not isinstance(error, StopAskedError):
                self._remember(replace(self.host.ledger().memory_of(self.runtime.name), is_recovering=True))
            raise
        self.host.refresh()
        self._say_act(Kind.RESTARTED, f"{act.unit} is up again", Level.NOTICE, act)

    # --- what is said --------------------------------------------------------------------------------------------

    def _fail(self, error: HostError, registry: str) -> None:
        self.errors.append(error)
        self._say_failure(error, registry)

    def _say_failure(self, error: HostError, registry: str) -> None:
        self._say(Event(Kind.FAILED, str(error), Level.ERROR, registry=registry, path=error.path, outcome="failed"))

    def _tell(self, action: WriteFile | RemoveFile, kind: Kind, verb: str) -> None:
        self.feuds.done(self.runtime.name, action, self._now(), self.host.exists)
        sentence = f"{verb} {self._short(action.path)}: {action.reason}"
        undone = int(self.last_plan is not None and self.last_plan.undoes)
        self.tally += Tally(undone=undone)
        level = Level.WARNING if undone else Level.INFO
        event = Event(kind, sentence, level, registry=action.registry, path=action.path, reason=action.reason)
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
            contentions=plan.contentions,
            contended_seconds=min((each.until - self._now() for each in plan.contentions), default=None),
        )

    def _outcome(self, plan: Plan) -> Outcome:
        if self.errors or self.failed_acts or self.bug:
            return Outcome.FAILED
        if plan.file_actions or (self.acts_allowed and plan.acts):
            return Outcome.DEGRADED
        if plan.conflicts:
            return Outcome.CONFLICT
        if plan.contentions:
            return Outcome.CONTENDED
        return Outcome.UNCHANGED if self.tally.is_empty else Outcome.CHANGED
