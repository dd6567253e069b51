"""The agent's side of probing: errands for the process that has the network, and what its verdicts come to.

The agent is root and opens no network socket. It says in targets.json which mirrors are to be looked at and when,
starts the probe's unit when something is due, and reads the verdicts like something from a stranger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from agent import health, heard, systemd
from agent.errors import HostError
from agent.events import Event, Kind, Level
from agent.health import Change, Health, Key, What
from agent.kept import Kept
from agent.model import DesiredState, Regular
from agent.node import RealHost
from agent.targets import ProbeTarget, decode_blind, decode_samples, encode_targets, fitting
from agent.verdict import Verdict

PROBE_UNIT = "mirror-agent-probe.service"
TARGETS = "targets.json"
HEALTH = "health.json"
AGAIN_SECONDS = 60.0
"""How soon the probe is started anew if a start of it has brought no verdict; twice as long each time after that."""
AGAIN_AT_MOST_SECONDS = 3600.0

_MACHINE_ID = "/etc/machine-id"
_RUNTIMES = ("containerd.service", "docker.service")


@dataclass
class Probing:
    """One desired state after the other goes through `look`, and comes back with the mirrors that are asked now.

    `has_news` says whether the last look brought verdicts, `moves` which mirrors it took out or put back,
    `is_nudged` whether a runtime was heard to have trouble with one since."""

    host: RealHost
    emit: Callable[[Event], None]
    verdicts: str
    known: Health = field(default_factory=Health)
    has_news: bool = False
    moves: tuple[What, ...] = ()
    _targets: tuple[ProbeTarget, ...] = ()
    is_nudged: bool = False
    _nudged: dict[Key, float] = field(default_factory=dict)
    _seed: str = ""
    _ordered_at: float = 0.0
    _in_vain: int = 0
    _listened_at: float = 0.0
    _generation: str = ""
    _left_out: int = 0

    def __post_init__(self) -> None:
        self._stored = Kept(lambda data: self.host.save_state(HEALTH, data), self.emit)
        self._published = Kept(self._publish, self.emit)

    def start(self) -> None:
        """Remember what was known before the last end of the agent."""
        self._stored.content = self.host.read_state(HEALTH) or b""
        self.known = health.decode(self._stored.content, self._now())
        machine = self.host.read(_MACHINE_ID)
        self._seed = machine.content.decode("ascii", "replace").strip() if isinstance(machine, Regular) else ""
        self._listened_at = self._now()

    def look(self, desired: DesiredState) -> DesiredState:
        """What is desired, with the mirrors that are asked now. Never raises for what the machine does."""
        self.has_news, self.moves, self.is_nudged = False, (), False
        now = self._now()
        if desired.health.enabled:
            found = self.host.read(self.verdicts)
            data = found.content if isinstance(found, Regular) else b""
            samples, blind = decode_samples(data, now), decode_blind(data, now)
            is_edited = self._generation not in {"", desired.generation}
            before = health.with_new_eyes(self.known) if is_edited else self.known
            self._generation = desired.generation
            self.known, changes = health.weigh(before, samples, desired, now, blind)
            self.has_news = self.known != before
            self._in_vain = 0 if self.has_news else self._in_vain
            self.moves = tuple(each.what for each in changes if each.what in {What.OUT, What.BACK})
            for change in changes:
                self.emit(event_of(change, desired.short_generation))
            self._stored.bring(health.encode(self.known))
        wanted = health.targets(desired, self.known, self._nudged, self._seed)
        self._targets = fitting(wanted)
        self._leave_out(len(wanted) - len(self._targets))
        self._published.bring(encode_targets(self._targets) if self._targets else b"")
        return health.effective(desired, self.known, now)

    def _leave_out(self, count: int) -> None:
        """Said when it has changed."""
        if count > self._left_out:
            sentence = f"health: {count} mirrors are not probed: {len(self._targets)} are as many as can be"
            self.emit(Event(Kind.WARNING, sentence, Level.WARNING))
        self._left_out = count

    # --- when the probe is to look ---------------------------------------------------------------------------------

    def wait_seconds(self) -> float | None:
        """When the probe is to be started; None if nothing is to be probed."""
        if not (self._targets and self.host.places.has_units):
            return None
        now = self._now()
        due = min(target.due for target in self._targets)
        again = again_seconds(self._in_vain)
        is_under_way = 0 <= now - self._ordered_at < again and due <= self._ordered_at
        return max(0.0, (self._ordered_at + again if is_under_way else due) - now)

    def order(self) -> None:
        """Start the probe, which looks for itself at what is due. It is a unit of its own: nothing is waited for."""
        self._ordered_at = self._now()
        self._in_vain = min(self._in_vain + 1, 16)
        try:
            systemd.start_soon(PROBE_UNIT)
        except HostError as error:
            self.emit(Event(Kind.FAILED, str(error), Level.WARNING, path=error.path, action="probe", outcome="failed"))

    def listen(self) -> None:
        """What runtimes have said in the journal since the last time about mirrors that they had trouble with: those
        are looked at before their interval is over."""
        since, now = self._listened_at, self._now()
        self._listened_at = now
        if not (self._targets and self.host.places.has_units) or since > now:
            return
        doubtful = heard.troubles(systemd.said(_RUNTIMES, since), self._targets)
        self._nudged |= dict.fromkeys(doubtful, now)
        self.is_nudged |= bool(doubtful)

    def _publish(self, data: bytes) -> None:
        """targets.json, as long as something is to be probed: without it the probe's unit does not even start."""
        if data:
            self.host.publish(TARGETS, data)
        else:
            self.host.retract(TARGETS)

    def _now(self) -> float:
        return self.host.now().unix_seconds


def again_seconds(in_vain: int) -> float:
    """How soon the probe is started anew after so many starts that have brought nothing."""
    return min(AGAIN_SECONDS * 2.0 ** max(in_vain - 1, 0), AGAIN_AT_MOST_SECONDS)


def event_of(change: Change, generation: str) -> Event:
    """The journal's line for what a verdict has changed."""
    mirror, verdict = change.mirror, change.mirror.verdict or Verdict.OK
    who, seen = f"{mirror.registry}: {mirror.url}", f"({verdict.value}: {mirror.detail})"
    now = f"asked now: {', '.join(change.asked)}"
    sentences = {
        What.OUT: f"{who} is taken out {seen}; {now}",
        What.BACK: f"{who} works again and is put back; {now}",
        What.KEPT: f"{who} fails like all the others {seen}, so the list stays as desired",
        What.NOTED: f"{who} stays {seen}" + (f"; {verdict.advice}" if verdict.advice else ""),
    }
    is_move = change.what in {What.OUT, What.BACK}
    return Event(
        Kind[f"MIRROR_{verdict.name}"],
        sentences[change.what],
        Level.WARNING if change.what in {What.OUT, What.KEPT} else Level.NOTICE,
        generation,
        registry=mirror.registry,
        action="failover" if is_move else "",
        reason=verdict.value,
        outcome="changed" if is_move else "unchanged",
    )
