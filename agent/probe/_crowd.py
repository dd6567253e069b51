"""Many probes at once, a few at a time, each with one deadline that is enforced from outside.

A probe runs in a thread of its own and keeps its deadline by itself wherever it can; where it cannot (a name server
that hangs, a TLS library that is fed for ever) its connection is shut, its verdict is given by where it was, and the
thread is left behind. It keeps no process alive.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.probe._transport import Progress
from agent.probe._visit import visit
from agent.probe.pace import Pace, site_of_url
from agent.probe.target import Target
from agent.probe.verdict import Finding, Verdict

_GRACE_SECONDS = 0.25
"""What a probe has after its deadline to say itself how far it came."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`deadline_seconds` is for one probe in all, unless its target has its own; at most `at_once` run at a time."""

    deadline_seconds: float = 10.0
    at_once: int = 8


@dataclass(frozen=True, slots=True)
class Result:
    """What the probe of a target came to. `seconds` is what a pull waits before its first byte: all requests up to the
    manifest."""

    target: Target
    finding: Finding
    seconds: float
    requests: int


@dataclass(frozen=True, slots=True)
class _Running:
    target: Target
    progress: Progress
    began: float

    @property
    def site(self) -> str:
        return site_of_url(self.target.mirror.url)


def probe(targets: Sequence[Target], limits: Limits | None = None, pace: Pace | None = None) -> Iterator[Result]:
    """The result of each target as it comes in. Hosts of one operator wait for each other where they are many; `pace`
    knows of those that were probed before."""
    yield from _Crowd(targets, limits or Limits(), pace or Pace()).results()


class _Crowd:
    """Those that wait, those that run, and what comes back from them."""

    def __init__(self, targets: Sequence[Target], limits: Limits, pace: Pace) -> None:
        self._waiting = list(targets)
        self._limits = limits
        self._pace = pace
        self._running: dict[int, _Running] = {}
        self._done: queue.SimpleQueue[tuple[int, Finding, float]] = queue.SimpleQueue()
        self._count = 0

    def results(self) -> Iterator[Result]:
        try:
            while self._waiting or self._running:
                wake = self._start_what_may()
                yield from self._collected(wake)
        finally:
            for each in self._running.values():
                each.progress.end()

    def _start_what_may(self) -> float:
        """Start what has a place and whose time has come; returns when there is something to do at the latest."""
        wake = min((each.progress.deadline + _GRACE_SECONDS for each in self._running.values()), default=float("inf"))
        for target in list(self._waiting):
            if len(self._running) >= self._limits.at_once:
                break
            now = time.monotonic()
            site = site_of_url(target.mirror.url)
            earliest = self._pace.earliest(site, now, target.most_requests)
            if earliest <= now:
                self._waiting.remove(target)
                self._pace.begin(site, now, target.most_requests)
                wake = min(wake, self._start(target, now) + _GRACE_SECONDS)
            else:
                wake = min(wake, earliest)
        return wake

    def _start(self, target: Target, now: float) -> float:
        self._count += 1
        seconds = target.timeout_seconds or self._limits.deadline_seconds
        running = _Running(target, Progress(now + seconds), now)
        self._running[self._count] = running
        arguments = (self._count, running, self._done)
        threading.Thread(target=_visit, args=arguments, name=f"probe-{self._count}", daemon=True).start()
        return running.progress.deadline

    def _collected(self, wake: float) -> Iterator[Result]:
        """The next that is done, if one is before `wake`; and all that are overdue."""
        try:
            number, finding, ended = self._done.get(timeout=max(0.0, wake - time.monotonic()))
        except queue.Empty:
            yield from self._overdue()
            return
        if running := self._running.pop(number, None):
            yield self._result(running, finding, ended)

    def _overdue(self) -> Iterator[Result]:
        now = time.monotonic()
        for number, running in list(self._running.items()):
            if now >= running.progress.deadline + _GRACE_SECONDS:
                del self._running[number]
                running.progress.end()
                yield self._result(running, running.progress.overdue(), now)

    def _result(self, running: _Running, finding: Finding, ended: float) -> Result:
        target, requests = running.target, running.progress.requests
        self._pace.end(running.site, (running.began, target.most_requests), ended, requests)
        return Result(target, finding, ended - running.began, requests)


def _visit(number: int, running: _Running, done: queue.SimpleQueue[tuple[int, Finding, float]]) -> None:
    try:
        finding = visit(running.target, running.progress)
    except Exception as error:  # noqa: BLE001 -- a mirror must not be able to end more than its own probe
        finding = Finding(
            Verdict.FAILING, f"the probe itself failed on it ({type(error).__name__}): please report that"
        )
    done.put((number, finding, time.monotonic()))
