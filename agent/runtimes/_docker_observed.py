"""What was seen of Docker, and what of it is known about the running daemon."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agent.model import ActiveState, Now, UnitState, UnitTies
from agent.plan import Memory
from agent.runtimes._daemon_json import parse
from agent.runtimes._docker_certs import Certs
from agent.runtimes._docker_checks import LATEST, Engine, version_of
from agent.runtimes._docker_file import FilePlan, View, plan_file
from agent.runtimes._docker_flags import RUNNING, Word, flags_by_key
from agent.runtimes._docker_guard import Guard
from agent.runtimes._docker_info import Info
from agent.runtimes._docker_memory import Evidence, recall
from agent.runtimes._docker_reload import INSECURE, MIRRORS, UNKNOWN, Running
from agent.runtimes._docker_toll import Toll, survives
from agent.runtimes._docker_validate import Verdicts
from agent.runtimes._docker_wants import Wants
from agent.runtimes._json_text import NotEditableError
from agent.runtimes._trial import digest_of

_AT_REST = frozenset({ActiveState.INACTIVE, ActiveState.FAILED, ActiveState.OFF})


@dataclass(frozen=True, slots=True)
class ObservedDocker:
    """What was seen. `views` are the daemon.json of the desired state, then others that the ledger knows; `reloads` are
    the reload events since we last asked for a reload; `arguments` is the command line of the running dockerd, and
    `next_start` what the unit's files say about the next one; `installed_version` is what the program on disk says,
    asked where it matters; `verdicts` are dockerd's own about files that are to be written or loaded; `certs` is what
    it reads below /etc/docker/certs.d; `good` and `tried` are the bytes that Memory.good and Memory.trial name, and
    `last_words` what a dockerd that did not come up with the trial said; where a restart is wanted, `toll` is what it
    costs and `ties` what it takes along."""

    views: tuple[View, ...]
    unit: UnitState
    is_installed: bool
    memory: Memory
    now: Now
    info: Info | None = None
    arguments: tuple[str, ...] = field(default=(), repr=False)
    reloads: tuple[float, ...] = ()
    file_changed_at: float | None = None
    next_start: tuple[Word, ...] = field(default=(), repr=False)
    installed_version: str = ""
    verdicts: Verdicts = Verdicts()  # noqa: RUF009 -- frozen
    certs: Certs = Certs()  # noqa: RUF009 -- frozen
    good: bytes | None = field(default=None, repr=False)
    tried: bytes | None = field(default=None, repr=False)
    last_words: str = ""
    toll: Toll | None = None
    ties: UnitTies = UnitTies()  # noqa: RUF009 -- frozen

    @property
    def main(self) -> View:
        return self.views[0]

    @property
    def flags(self) -> tuple[str, ...]:
        """dockerd's arguments: of the one that runs, else of the next."""
        return self.arguments[1:] if self.unit.is_up else tuple(word.text for word in self.next_start)

    @property
    def loses_authorization(self) -> bool:
        """Whether a SIGHUP would switch off a plugin that a flag of the running dockerd names."""
        return any(word.startswith("--authorization-plugin") for word in self.arguments)

    @property
    def spares_containers(self) -> bool:
        """Whether a restart of the running dockerd leaves containers running."""
        return self.info is not None and survives(self.info, self.ties, self.arguments)

    @property
    def engine(self) -> Engine:
        version = version_of(self.info.version if self.info else self.installed_version)
        log_drivers = self.info.log_drivers if self.info else None
        return Engine(version or LATEST, log_drivers, bool(self.info and self.info.containerd_store))

    @property
    def guard(self) -> Guard:
        running = tuple(Word(text, RUNNING) for text in self.arguments[1:])
        owned = frozenset(key.key for key in self.main.entry.keys) if self.main.entry else frozenset()
        return Guard(values_of(self.main), owned, flags_by_key((*running, *self.next_start)), self.engine)


# --- what is known about the daemon ----------------------------------------------------------------------------------


def main_file(observed: ObservedDocker, wants: Wants) -> FilePlan:
    if not observed.unit.is_up:
        return plan_file(observed.main, wants, _resting(observed, wants))
    return plan_file(
        observed.main, wants, running_of(observed, recall(evidence_of(observed), keys_of(observed, wants)))
    )


def _resting(observed: ObservedDocker, wants: Wants) -> Running | None:
    """A daemon at rest has nothing; one that starts, stops or reloads has nobody knows what."""
    if observed.unit.active in _AT_REST or not observed.unit.loaded:
        return None
    return Running(None, dict.fromkeys(keys_of(observed, wants), UNKNOWN))


def keys_of(observed: ObservedDocker, wants: Wants) -> tuple[str, ...]:
    """Every key that may concern us."""
    owned = (key.key for key in observed.main.entry.keys) if observed.main.entry else ()
    return (MIRRORS, INSECURE, *(setting.key for setting in wants.settings), *owned)


def values_of(view: View) -> dict[str, str]:
    """The file's members, {} if it cannot be read."""
    try:
        return view.document.values()
    except NotEditableError:
        return {}


def evidence_of(observed: ObservedDocker) -> Evidence:
    unit, memory, now = observed.unit, observed.memory, observed.now
    evidence = Evidence(unit, memory, values_of(observed.main), observed.file_changed_at, observed.reloads, now)
    tried = None if observed.tried is None else _values(observed.tried)
    return replace(evidence, digest=digest_of(observed.main.state), tried=tried)


def _values(content: bytes) -> dict[str, str]:
    try:
        return parse(content).values()
    except NotEditableError:
        return {}


def running_of(observed: ObservedDocker, memory: Memory) -> Running:
    return Running(observed.info, {setting.key: setting.json for setting in memory.loaded})
