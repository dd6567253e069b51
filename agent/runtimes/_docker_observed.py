"""What was seen of Docker, what of it is known about the running daemon, and which file dockerd itself would take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agent.host import HostReader
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
from agent.runtimes._docker_validate import Validator, Verdicts
from agent.runtimes._docker_wants import Wants
from agent.runtimes._json_text import NotEditableError
from agent.runtimes._trial import digest_of

DAEMONS = ("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd")
"""Where the program is looked for."""

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


# --- what dockerd would start with -----------------------------------------------------------------------------------


def verdicts_of(host: HostReader, observed: ObservedDocker, wants: Wants) -> Verdicts:
    """Ask dockerd about the file that is to be written, and about one that the running daemon has not started with.
    If it refuses it: also about the file as it stands, and about the file without anything of ours."""
    if wants.is_empty and observed.main.entry is None:
        return Verdicts()
    contents = _candidates(observed, observed.guard.admit(wants).wants)
    changed_at, started_at = observed.file_changed_at or 0.0, observed.unit.started_at
    if contents[0] == contents[1] and not (observed.unit.is_up and changed_at > started_at):
        return Verdicts()
    running = observed.arguments[0] if observed.arguments else ""
    program = running if running.startswith("/") else next(filter(host.exists, DAEMONS), "")
    validator = Validator(host, program, observed.flags)
    said: dict[bytes, str] = {}
    for content in contents:
        if content is not None and content not in said:
            said[content] = validator.refusal(content)
        if content is None or not said[content]:
            break
    return Verdicts(said)


def _candidates(observed: ObservedDocker, wants: Wants) -> tuple[bytes | None, ...]:
    """The file as it is to be, as it stands, and without anything of ours."""
    wanted, nothing = (main_file(observed, each) for each in (wants, Wants(flagged=wants.flagged)))
    return (wanted.content(observed.main), FilePlan().content(observed.main), nothing.content(observed.main))


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be written (None: nothing), and why that is not all."""

    wants: Wants | None
    refused: tuple[str, ...] = ()


def choose(observed: ObservedDocker, wants: Wants) -> Choice:
    """What dockerd itself would start with: all of it; else the file as it stands; else that without anything of ours.
    Where even then it would not start, others have to mend it, and ours may be written as well."""
    wanted, standing, without = _candidates(observed, wants)
    refusal = observed.verdicts.refusal(wanted)
    if not refusal:
        return Choice(wants)
    said = f"`dockerd --validate` refuses the file with what is desired: {refusal}"
    if not observed.verdicts.refusal(standing):
        return Choice(None, (f"{said}; nothing of it is written until that is mended",))
    if not observed.verdicts.refusal(without):
        return Choice(Wants(flagged=wants.flagged), (f"{said}; what stood there before comes back",))
    return Choice(wants)
