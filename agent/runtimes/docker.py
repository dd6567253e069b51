"""Docker: `registry-mirrors`, `insecure-registries` and `docker.settings` in daemon.json, live by reload if possible;
and hosts.toml for every registry where this Docker reads them.

observe looks at the files, the unit and, only where the unit is up (asking could start a stopped Docker), at /info.
plan is made of parts that know one thing each: _docker_wants (what the desired state asks for), _docker_guard (what of
it would stop dockerd), _docker_observed (which file dockerd itself would take), _docker_file (what the file becomes and
what of it is ours), _docker_memory (what the running daemon has read), _docker_acts (reload, restart or wait), and
beside them _docker_certs (hosts.toml). What becomes of a restart that fails belongs to _docker_acts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.host import HostReader
from agent.ledger import Ledger
from agent.model import ActiveState, DesiredState, Manage, RuntimeReport, UnitState
from agent.plan import (
    Conflict,
    Deferred,
    Memory,
    Plan,
    Restart,
)
from agent.render import Memo
from agent.runtimes import Runtime, _daemon_json
from agent.runtimes._docker_acts import (
    UNIT,
    Acts,
    Fault,
    Situation,
    attempt_of,
    decide,
    wait_for_reload,
    wants_restart,
)
from agent.runtimes._docker_certs import look_at_certs, plan_certs
from agent.runtimes._docker_checks import LATEST, OLDEST, Engine, faults_of
from agent.runtimes._docker_choice import DAEMONS, choose, verdicts_of
from agent.runtimes._docker_fate import Fate
from agent.runtimes._docker_file import FilePlan, look_at, plan_file
from agent.runtimes._docker_flags import config_file
from agent.runtimes._docker_guard import NO_ACT
from agent.runtimes._docker_held import hold_back, let_go
from agent.runtimes._docker_info import SOCKET, parse_info, parse_reloads, reloads_target
from agent.runtimes._docker_memory import Evidence, file_is_news, recall, reloaded, started_with_file, to_store
from agent.runtimes._docker_observed import (
    ObservedDocker,
    evidence_of,
    keys_of,
    main_file,
    running_of,
    values_of,
)
from agent.runtimes._docker_parts import assembled, stepped, with_parts
from agent.runtimes._docker_reload import Running, takes_reload
from agent.runtimes._docker_restore import is_put_off, restore
from agent.runtimes._docker_toll import look_at_toll
from agent.runtimes._docker_trial import (
    begun,
    bench_of,
    is_silent,
    is_undoable,
    last_words,
    over,
    put_back,
    silence,
    undo,
    way_back,
)
from agent.runtimes._docker_wants import NOTHING, Wants, as_reloadable, wants_of, without_failover
from agent.runtimes._hosts_toml import Recipe, text
from agent.runtimes._hosts_tree import entries_of
from agent.runtimes._json_text import NotEditableError
from agent.runtimes._trial import digest_of, is_leaving, is_rollback, under_way
from agent.runtimes._unit_files import next_start

if TYPE_CHECKING:
    from agent.found import Found, FoundRegistry
    from agent.image import Image
    from agent.proof import Bait, Proof
    from agent.route import Route

NAME = "docker"


class Docker:
    """Implements agent.runtimes.Runtime. What was rendered for the last plan is remembered; nothing else is."""

    name = NAME
    owns: tuple[str, ...] = ("/etc/docker",)
    unit: str | None = UNIT

    def __init__(self) -> None:
        self._texts: Memo[Recipe, bytes] = Memo(text)

    def observe(self, host: HostReader, desired: DesiredState) -> ObservedDocker:
        path, ledger, unit, now = desired.docker.daemon_json, host.ledger(), host.unit(UNIT), host.now()
        memory = ledger.memory_of(NAME)
        observed = ObservedDocker(
            views=tuple(look_at(host, each) for each in (path, *_other_paths(ledger, path))),
            unit=unit,
            is_installed=_is_installed(host, unit, path),
            memory=memory,
            now=now,
            file_changed_at=_changed_at(host, path),
            next_start=next_start(host, UNIT),
            good=host.original(memory.good) if memory.good else None,
            tried=host.original(memory.trial) if memory.trial else None,
        )
        observed = _asked(host, observed) if unit.is_up else _not_asked(host, observed)
        certs, wants = look_at_certs(host, desired, observed.info), _wants(desired, observed)
        observed = replace(observed, certs=certs, verdicts=verdicts_of(host, observed, wants or NOTHING))
        return self._with_consequences(host, desired, observed)

    def _with_consequences(self, host: HostReader, desired: DesiredState, observed: ObservedDocker) -> ObservedDocker:
        """With what is asked only when something has gone wrong, or is to be restarted."""
        if observed.unit.is_up:
            if observed.memory.reloaded_at > 0 or not wants_restart(self.plan(desired, observed)):
                return observed
            observed, info = replace(observed, ties=host.ties(UNIT)), observed.info
            at_risk = info is not None and info.running_containers > 0 and not observed.spares_containers
            return replace(observed, toll=look_at_toll(host)) if at_risk else observed
        memory = observed.memory
        if not (memory.good and bench_of(observed, memory).is_blamed):
            return observed
        since = memory.restarted_at if memory.is_restarting else observed.file_changed_at
        return replace(observed, last_words=last_words(host, since or 0.0))

    def plan(self, desired: DesiredState, observed: ObservedDocker) -> Plan:
        desired = as_reloadable(desired, loses_authorization=observed.loses_authorization)
        wants = _wants(desired, observed)
        if wants is None:
            return Plan(NAME)
        return with_parts(_plan(desired, observed, wants), plan_certs(desired, observed.certs, self._texts))

    def report(self, desired: DesiredState, observed: ObservedDocker) -> RuntimeReport:
        from agent.runtimes._docker_report import Picture, report

        desired = as_reloadable(desired, loses_authorization=observed.loses_authorization)
        docker = (observed.is_installed, observed.unit, observed.info)
        picture = Picture(*docker, observed.memory, observed.now, observed.certs)
        return report(desired, picture, self.plan(desired, observed))

    def proof(self, desired: DesiredState, observed: ObservedDocker) -> Bait | Proof:
        from agent.runtimes import _docker_proof

        return _docker_proof.proof(desired, observed.info, observed.certs, self.report(desired, observed))

    def route(self, host: HostReader, desired: DesiredState, image: Image) -> Route:
        from agent.runtimes import _docker_route

        unit = host.unit(UNIT)
        installed = _is_installed(host, unit, desired.docker.daemon_json)
        return _docker_route.route(host, desired, image, unit=unit, installed=installed)

    def find(self, host: HostReader, desired: DesiredState, known: tuple[FoundRegistry, ...]) -> Found:
        from agent import found
        from agent.runtimes import _docker_adopt

        unit = host.unit(UNIT)
        if not _is_installed(host, unit, desired.docker.daemon_json):
            return found.Found(NAME, installed=False)
        return _docker_adopt.find(host, desired, unit, known)


def _is_installed(host: HostReader, unit: UnitState, path: str) -> bool:
    return unit.loaded or any(map(host.exists, (*DAEMONS, path)))


def _plan(desired: DesiredState, observed: ObservedDocker, wants: Wants) -> Plan:
    """The part about daemon.json."""
    others = [plan_file(view, NOTHING, None) for view in observed.views[1:]]
    if conflict := _reads_another_file(observed, wants):
        return assembled([FilePlan(conflicts=(conflict,)), *others], Acts(), None)
    if step := way_back(observed, desired):
        return stepped(step, others)
    wants, held_back = hold_back(observed, desired, wants)
    if held_back:
        observed, released = let_go(observed)
        others.append(FilePlan(releases=released))
    admitted = observed.guard.admit(wants)
    choice = choose(observed, admitted.wants)
    others.append(FilePlan(conflicts=_conflicts(observed, (*held_back, *admitted.refused, *choice.refused))))
    if choice.wants is None:
        return assembled(others, Acts(), None)
    if not observed.unit.is_up or is_leaving(bench_of(observed, observed.memory)):
        return _plan_resting(observed, choice.wants, others)
    return _plan_running(desired, observed, choice.wants, others)


def _changed_at(host: HostReader, path: str) -> float | None:
    """When the file last changed; where there is none, when its directory did, for that is when it went at the latest.
    None where there is not even a directory."""
    own = host.modified_at(path)
    return host.modified_at(path.rpartition("/")[0]) if own is None else own


def _asked(host: HostReader, observed: ObservedDocker) -> ObservedDocker:
    """With what the running daemon says."""
    unit, memory = observed.unit, observed.memory
    is_waiting = memory.reloaded_at > 0 and memory.invocation_id == unit.invocation_id
    target = reloads_target(memory.reloaded_at, observed.now.unix_seconds)
    return replace(
        observed,
        info=parse_info(host.query(SOCKET, "/info")),
        arguments=host.arguments(unit.main_pid),
        reloads=parse_reloads(host.query(SOCKET, target) if is_waiting else None),
    )


def _not_asked(host: HostReader, observed: ObservedDocker) -> ObservedDocker:
    """With the version of the program on disk, if what the file holds is right for some versions only: a process
    costs a boot more than everything else here."""
    values = values_of(observed.main)
    program = next(filter(host.exists, DAEMONS), "")
    if not program or faults_of(values, Engine(OLDEST)) == faults_of(values, Engine(LATEST)):
        return observed
    said = host.command((program, "--version"))
    return replace(observed, installed_version=said.stdout if said and said.returncode == 0 else "")


def _other_paths(ledger: Ledger, path: str) -> tuple[str, ...]:
    """Files that were the desired daemon.json once."""
    hosts_toml = entries_of(ledger, NAME)
    return tuple(entry.path for entry in ledger.owned_by(NAME) if entry.path != path and entry.path not in hosts_toml)


def _wants(desired: DesiredState, observed: ObservedDocker) -> Wants | None:
    """What to converge on; None to leave everything as it is, because there is no Docker to converge."""
    if desired.docker.manage is Manage.NEVER:
        return NOTHING
    wants = wants_of(desired)
    if desired.docker.manage is Manage.AUTO and not observed.is_installed and not wants.is_empty:
        return None
    return wants


def _reads_another_file(observed: ObservedDocker, wants: Wants) -> Conflict | None:
    """dockerd can be told to read another file; ours would then be written and reloaded for nothing, for ever."""
    path = config_file(observed.flags)
    if wants.is_empty or path in {"", observed.main.path}:
        return None
    docker = "the running Docker" if observed.unit.is_up else "Docker"
    return Conflict(observed.main.path, f"{docker} reads {path} (--config-file): set docker.daemon_json to it")


def _plan_resting(observed: ObservedDocker, wants: Wants, others: list[FilePlan]) -> Plan:
    main = main_file(observed, wants)
    stoppers = _stoppers(observed, main)
    waiting = wait_for_reload(main.fates, observed.unit, observed.memory, observed.now)
    memory = put_back(observed.memory, digest_of(observed.main.state))
    keeps: tuple[bytes, ...] = ()
    if observed.unit.loaded and main.writes:
        memory, keeps = begun(observed, memory, main.content(observed.main), None)
        if observed.unit.active in {ActiveState.INACTIVE, ActiveState.FAILED}:
            memory = replace(memory, invocation_id=observed.unit.invocation_id, loaded=())
    remember = None if memory == observed.memory else memory
    starting = under_way(bench_of(observed, memory))
    acts = Acts(waiting, (starting,) if starting else (), stoppers)
    return replace(assembled([main, *others], acts, remember), keeps=keeps)


def _plan_running(desired: DesiredState, observed: ObservedDocker, wants: Wants, others: list[FilePlan]) -> Plan:
    evidence = evidence_of(observed)
    memory = put_back(recall(evidence, keys_of(observed, wants)), evidence.digest)
    put_off: tuple[Deferred, ...] = ()
    if is_rollback(memory):
        step = restore(observed, replace(_situation(desired, observed, memory), memory=memory))
        if step is not None and not is_put_off(step):
            return stepped(replace(step, memory=to_store(evidence, step.memory or memory)), others)
        memory = over(memory) if step is None else memory
        put_off = step.acts.deferred if step else ()
    main = main_file(observed, wants)
    keeps: tuple[bytes, ...] = ()
    if main.writes:
        memory, keeps = begun(observed, memory, main.content(observed.main), running_of(observed, memory))
    if not main.fates:
        memory = memory if observed.info is None or put_off else over(memory)
        return assembled([main, *others], Acts(deferred=put_off), _known(evidence, memory))
    main = replace(main, fates=tuple(fate for fate in main.fates if fate.key not in wants.flagged))
    if memory.reloaded_at and _shows_all(main.fates, running_of(observed, memory)):
        memory = reloaded(evidence, memory)
    acts = _and_later(_acts(desired, observed, main, memory), put_off)
    if acts.fault is not None:
        return stepped(undo(observed, desired, memory, acts.fault), others)
    if acts == Acts() and observed.info is not None and not observed.memory.reloaded_at:
        memory = over(memory)
    plan = assembled([main, *others], acts, to_store(evidence, memory))
    return replace(plan, keeps=keeps) if memory.trial else plan


def _and_later(acts: Acts, put_off: tuple[Deferred, ...]) -> Acts:
    """With the restart that waits to bring back what was before, unless one is wanted for more than that."""
    wanted = (*acts.acts, *(deferred.act for deferred in acts.deferred))
    is_covered = any(isinstance(act, Restart) for act in wanted)
    return acts if is_covered else replace(acts, deferred=(*acts.deferred, *put_off))


def _acts(desired: DesiredState, observed: ObservedDocker, main: FilePlan, memory: Memory) -> Acts:
    """What the running daemon needs so that it has what the file says."""
    if stoppers := _stoppers(observed, main):
        return Acts(conflicts=stoppers)
    situation = _situation(desired, observed, memory)
    if is_silent(observed, memory) and situation.started_with_file and not main.writes:
        waiting = silence(observed, memory)
        return Acts(deferred=(waiting,)) if waiting else Acts(fault=Fault.SILENCE)
    situation = replace(
        situation,
        file_is_news=main.writes or situation.file_is_news,
        is_undoable=is_undoable(observed, memory) and not main.writes and not memory.is_restarting,
    )
    fates, has_failed = main.fates, memory.failed_reload == attempt_of(main.fates, memory.invocation_id)
    if has_failed and not situation.is_undoable:
        fates = without_failover(fates, desired)
    return decide(fates, situation)


def _situation(desired: DesiredState, observed: ObservedDocker, memory: Memory) -> Situation:
    """The daemon that is up, as far as the file is not about to change."""
    evidence = evidence_of(observed)
    return Situation(
        policy=desired.docker,
        running=running_of(observed, memory),
        memory=to_store(evidence, memory) or observed.memory,
        now=observed.now,
        just_confirmed=observed.memory.reloaded_at > 0 and not memory.reloaded_at,
        file_is_news=file_is_news(evidence, memory),
        loses_authorization=observed.loses_authorization,
        started_with_file=started_with_file(evidence),
        digest=evidence.digest,
        toll=observed.toll,
        ties=observed.ties,
        spares_containers=observed.spares_containers,
    )


def _known(evidence: Evidence, memory: Memory) -> Memory | None:
    """What has to be stored although nothing of ours is in the file: the end of a trial, and nothing else."""
    return memory if memory.trial != evidence.memory.trial else None


def _stoppers(observed: ObservedDocker, main: FilePlan) -> tuple[Conflict, ...]:
    """Why Docker would not start with the file as it will be, whoever put it there; () where nothing of ours is in
    it, for then it is not our business."""
    content = main.content(observed.main)
    if not main.fates or content is None:
        return ()
    try:
        values = _daemon_json.parse(content).values()
    except NotEditableError:
        return ()
    refusal = observed.verdicts.refusal(content) if observed.unit.is_up else ""
    said = (f"`dockerd --validate` refuses the file: {refusal}; {NO_ACT}",) if refusal else ()
    return _conflicts(observed, tuple(observed.guard.stoppers(values)) or said)


def _conflicts(observed: ObservedDocker, reasons: tuple[str, ...]) -> tuple[Conflict, ...]:
    return tuple(Conflict(observed.main.path, reason) for reason in reasons)


def _shows_all(fates: tuple[Fate, ...], running: Running) -> bool:
    """Whether the daemon itself shows everything that a reload can bring, so that no event is needed as proof."""
    differing = (fate for fate in fates if not fate.is_loaded(running))
    missing = any(takes_reload(fate.key, running.value(fate.key), fate.value) for fate in differing)
    return running.info is not None and not missing


RUNTIME: Runtime[ObservedDocker] = Docker()
