"""The resident loop: wakes on hints, signals and the clock, takes a look, keeps the service manager informed.

Start: files converge, then READY=1, then acts on runtimes: the unit is ordered before containerd and Docker, so that
a first boot needs no restart, and an act before READY could wait for a unit that waits for us (DESIGN 4.10).
One thread decides everything; the watcher and the signal handlers only drop tokens into a queue.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from queue import Empty, SimpleQueue

from agent import __version__, systemd
from agent.converge import Emit
from agent.errors import HostError, StopAskedError, describe_bug
from agent.events import Event, Kind, Level
from agent.keeper import Keeper, count_registries
from agent.node import Places, RealHost, locked
from agent.outcome import CycleResult, Outcome
from agent.schedule import RETRY_AT_MOST_SECONDS, Due, Schedule
from agent.watch import Hint, Watcher

EXIT_STALE_NAMESPACE = 75
"""Asks the service manager for a restart (RestartForceExitStatus=): only that makes a directory writable that was
created after we started."""

_STALE_MARK = "stale-namespace"
_DEEP_EVERY = 10
"""Every tenth resync also asks the daemons themselves, although no file and no unit has moved."""


class Token(Enum):
    """Why the loop wakes."""

    CLOSED = "a file was written"
    TOUCHED = "something was touched"
    RELOAD = "reload was asked for"
    STOP = "stop was asked for"


@dataclass
class Daemon:
    """`run` is the life of the service; everything it says goes to `emit`."""

    places: Places
    config: str
    emit: Emit
    hide: Callable[[Iterable[str]], None] = lambda _: None
    tokens: SimpleQueue[Token] = field(default_factory=SimpleQueue)
    exit_code: int | None = None
    _force: bool = False
    _ticks: int = 0
    _stop_asked: bool = False

    def __post_init__(self) -> None:
        self.host = RealHost(self.places, on_pause=self._on_pause, note=self._note)
        self.keeper = Keeper(self.host, self.config, self.emit, os.geteuid(), self.hide)
        self.watcher = Watcher(self._wake)
        self.schedule = Schedule(time.monotonic(), _jitter())
        self._ping_seconds = systemd.ping_interval_seconds()

    def _note(self, path: str, sentence: str) -> None:
        self.emit(Event(Kind.WARNING, f"{path}: {sentence}", Level.WARNING, path=path))

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Returns the exit code. Raises LockedError if another one serves this root."""
        with locked(self.places, "run"):
            self._install_signals()
            try:
                self._start()
                while self.exit_code is None:
                    self._turn()
            finally:
                self._stop()
        return self.exit_code or 0

    # --- start and stop ------------------------------------------------------------------------------------------

    def _install_signals(self) -> None:
        signal.signal(signal.SIGHUP, lambda *_: self.tokens.put(Token.RELOAD))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ask_to_stop())

    def _ask_to_stop(self) -> None:
        """Runs in a signal handler: SimpleQueue.put is reentrant."""
        self._stop_asked = True
        self.tokens.put(Token.STOP)

    def _on_pause(self) -> None:
        """Somebody waits for a runtime: the loop is alive, unless it was told to stop, which ends the wait (a restart
        that has begun is finished by systemd, and the next start looks at what became of it)."""
        systemd.ping()
        if self._stop_asked:
            raise StopAskedError("mirror-agent", "was told to stop while it waited")

    def _start(self) -> None:
        self.emit(Event(Kind.STARTED, f"mirror-agent {__version__} started (pid {os.getpid()})"))
        self._look(acts=False)
        self._watch()
        systemd.ready(self._status_line())
        if self.exit_code is None:
            self._look(acts=True)
            self._publish()
        _keep_for_life()

    def _stop(self) -> None:
        systemd.stopping()
        self.watcher.close()
        self.keeper.close()
        self.emit(Event(Kind.STOPPED, "mirror-agent stopped; everything stays as it is"))

    # --- one turn of the loop ------------------------------------------------------------------------------------

    def _turn(self) -> None:
        token = self._next_token()
        now = time.monotonic()
        if token is Token.STOP:
            self.exit_code = 0
        elif token is Token.RELOAD:
            self._reload()
        elif token is Token.CLOSED:
            self._on_closed(now)
        elif token is Token.TOUCHED:
            self.schedule.hinted(now)
        self._on_clock(self.schedule.due(now))

    def _next_token(self) -> Token | None:
        """The next token, or None when a deadline has come. Feeds the watchdog: only a loop that gets here is alive."""
        systemd.ping()
        wait = max(0.0, self.schedule.next_at - time.monotonic())
        try:
            token = self.tokens.get(timeout=min(wait, self._ping_seconds))
        except Empty:
            return None
        self.watcher.rearm()
        return token

    def _on_closed(self, now: float) -> None:
        if self.host.unchanged():
            # It may be a directory that now has to be watched: a hint that something was made waits behind this one.
            self._watch()
            return
        if self._look(acts=False) or self.keeper.probing.has_news:
            self._force = True
        self.schedule.hinted(now)

    def _on_clock(self, due: Due) -> None:
        now = time.monotonic()
        if due is Due.SETTLED:
            self.schedule.settled()
            self._look_with_acts(forced=self._force)
        elif due is Due.RETRY:
            self._look_with_acts(forced=True)
        elif due is Due.RESYNC:
            self._ticks += 1
            self.schedule.resynced(now, _jitter())
            self.keeper.probing.listen()
            self._look_with_acts(forced=self._ticks % _DEEP_EVERY == 0 or self.keeper.probing.is_nudged)
        elif due is Due.PROBE:
            self.keeper.probing.order()
            self._await_verdicts()

    def _reload(self) -> None:
        systemd.reloading()
        self.keeper.repeat()
        self.keeper.probing.listen()
        self._look_with_acts(forced=True)
        systemd.ready(self._status_line())

    def _look_with_acts(self, *, forced: bool) -> None:
        if not forced and self.host.unchanged():
            self._watch()
            return
        self._force = False
        self.host.refresh()
        self._look(acts=True)
        self._publish()

    def _publish(self) -> None:
        self.keeper.publish()
        if self.keeper.exposition.is_stale:
            self._restart_for_namespace()

    # --- one look ------------------------------------------------------------------------------------------------

    def _look(self, *, acts: bool) -> bool:
        """One cycle. Returns whether it did something or leaves acts to do, so that a settled look must follow."""
        before = self.keeper.state
        try:
            with self.watcher.held():
                result = self.keeper.look(acts=acts)
        except HostError as error:
            self._fail(error)
            self.keeper.failed(error)
            systemd.status(f"degraded: {error}")
            self._retry()
            return False
        except Exception as error:
            self.emit(Event(Kind.BUG, f"a bug in mirror-agent, please report it: {describe_bug(error)}", Level.ERROR))
            raise
        self._watch()
        self._await_verdicts()
        systemd.status(self._status_line())
        if result is None:
            return self.keeper.doubts
        return self._weigh(result, new_state=self.keeper.state is not before) or self.keeper.doubts

    def _fail(self, error: HostError) -> None:
        self.emit(Event(Kind.FAILED, str(error), Level.ERROR, path=error.path))

    def _weigh(self, result: CycleResult, *, new_state: bool) -> bool:
        if result.outcome in {Outcome.FAILED, Outcome.DEGRADED}:
            if any(part.stale_namespace for part in result.runtimes):
                self._restart_for_namespace()
            self._retry()
        else:
            self.schedule.succeeded(time.monotonic(), result.retry_after_seconds)
        return new_state or result.acts_are_pending or not result.tally.is_empty

    def _await_verdicts(self) -> None:
        self.schedule.probed(time.monotonic(), self.keeper.probing.wait_seconds())

    def _retry(self) -> None:
        self.schedule.failed(time.monotonic(), _jitter())
        sentence = f"degraded: not converged, trying again, at least every {RETRY_AT_MOST_SECONDS:.0f} s"
        self.emit(Event(Kind.DEGRADED, sentence, Level.WARNING, outcome="degraded"))

    def _restart_for_namespace(self) -> None:
        """Exit 75, once for each state of the directories: if a restart did not help, another one will not."""
        metrics = self.keeper.state.metrics.directory if self.keeper.state else ""
        mark = repr([self.host.identity(path) for path in (*self.places.writable, metrics)]).encode()
        if self.host.read_state(_STALE_MARK) == mark:
            return
        try:
            self.host.save_state(_STALE_MARK, mark)
        except HostError as error:
            self._fail(error)  # without the mark it could end like this again and again
            return
        sentence = "a directory was created after this service started; restarting it, so that it becomes writable"
        self.emit(Event(Kind.STOPPED, sentence, Level.NOTICE))
        self.exit_code = EXIT_STALE_NAMESPACE

    def _status_line(self) -> str:
        if self.keeper.state is None and self.keeper.status.outcome == "failed":
            return f"degraded: {self.keeper.status.last_error}"
        if self.keeper.state is None:
            return f"waiting for a valid {self.config}"
        outcome = self.keeper.result.outcome.value if self.keeper.result else "starting"
        word = "converged" if outcome in {"unchanged", "changed"} else outcome
        invalid = f"; {self.config} cannot be used as it is now" if self.keeper.rejected else ""
        return f"{word} {self.keeper.state.short_generation}, {count_registries(self.keeper.state)}{invalid}"

    # --- hints ---------------------------------------------------------------------------------------------------

    def _wake(self, hint: Hint) -> None:
        self.tokens.put(Token.CLOSED if hint is Hint.CLOSED else Token.TOUCHED)

    def _watch(self) -> None:
        """Watch what the last look relied on; poll while the kernel has no watches left."""
        self.watcher.watch(self.host.directories())
        polling = not self.watcher.healthy
        if polling != self.schedule.polling:
            self.schedule.polling = polling
            self.schedule.resynced(time.monotonic(), _jitter())
            self.emit(Event(Kind.WATCH, f"changes are noticed by {self.watcher.mode}", Level.NOTICE))


def _keep_for_life() -> None:
    """What is loaded by now stays: no later collection, which would hold up an edit, looks at it again."""
    gc.collect()
    gc.freeze()


def _jitter() -> float:
    return random.uniform(-1.0, 1.0)  # noqa: S311 -- spreads load, guards nothing
