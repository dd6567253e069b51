"""When the loop does what. Pure: the clock comes in as monotonic seconds, so that a day can be tested in a moment.

Files converge at once; acts on runtimes settle (50 ms without a new hint, 1 s at most after the first); a resync runs
every 60 s, jittered, because events get lost; what failed is tried again with backoff.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SETTLE_QUIET_SECONDS = 0.05
SETTLE_AT_MOST_SECONDS = 1.0
RESYNC_SECONDS = 60.0
RESYNC_JITTER = 0.1
POLL_SECONDS = 2.0
RETRY_FIRST_SECONDS = 1.0
RETRY_AT_MOST_SECONDS = 60.0

NEVER = float("inf")


class Due(Enum):
    """What the clock asks for: nothing, a look that is skipped if nothing moved, a look in any case, with acts, or the
    start of the probe, which takes no look."""

    NOTHING = "nothing"
    RESYNC = "resync"
    SETTLED = "settled"
    RETRY = "retry"
    PROBE = "probe"


@dataclass
class Schedule:
    """The deadlines. `jitter` returns numbers in [-1, 1]."""

    now: float
    jitter: float = 0.0
    polling: bool = False
    _settle_quiet: float = NEVER
    _settle_latest: float = NEVER
    _retry: float = NEVER
    _backoff_seconds: float = RETRY_FIRST_SECONDS
    _resync: float = 0.0
    _probe: float = NEVER

    def __post_init__(self) -> None:
        self.resynced(self.now, self.jitter)

    def hinted(self, now: float) -> None:
        """Something moved: settle anew, but no later than a second after the first hint."""
        self._settle_quiet = now + SETTLE_QUIET_SECONDS
        self._settle_latest = min(self._settle_latest, now + SETTLE_AT_MOST_SECONDS)

    def settled(self) -> None:
        """The settled look was taken."""
        self._settle_quiet = self._settle_latest = NEVER

    def resynced(self, now: float, jitter: float) -> None:
        """A look at everything was taken; the next one is due in a minute, give or take."""
        period = POLL_SECONDS if self.polling else RESYNC_SECONDS
        self._resync = now + period * (1 + RESYNC_JITTER * jitter)

    def failed(self, now: float, jitter: float) -> float:
        """Something failed: try again, each time after twice as long, up to a minute. Returns that delay."""
        delay = self._backoff_seconds * (1 + RESYNC_JITTER * jitter)
        self._backoff_seconds = min(self._backoff_seconds * 2, RETRY_AT_MOST_SECONDS)
        self._retry = now + delay
        return delay

    def succeeded(self, now: float, retry_after_seconds: float | None) -> None:
        """Nothing failed; a deferred act may ask for another look later."""
        self._backoff_seconds = RETRY_FIRST_SECONDS
        self._retry = NEVER if retry_after_seconds is None else now + max(retry_after_seconds, 1.0)

    def probed(self, now: float, wait_seconds: float | None) -> None:
        """When the probe is to be started next; None: not at all."""
        self._probe = NEVER if wait_seconds is None else now + max(wait_seconds, 1.0)

    @property
    def settle_at(self) -> float:
        return min(self._settle_quiet, self._settle_latest)

    @property
    def next_at(self) -> float:
        """The earliest deadline."""
        return min(self.settle_at, self._retry, self._resync, self._probe)

    def due(self, now: float) -> Due:
        """What is due now; the most thorough first."""
        if now >= self._retry:
            return Due.RETRY
        if now >= self.settle_at:
            return Due.SETTLED
        if now >= self._resync:
            return Due.RESYNC
        return Due.PROBE if now >= self._probe else Due.NOTHING
