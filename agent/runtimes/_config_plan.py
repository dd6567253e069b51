"""From config.toml as it stands to one that makes containerd read certs.d, and back: claims, the edit, the one restart.

_config_decide says what the file becomes, _trial what becomes of the daemon; this is what ties them to the ledger.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace

from agent.model import ActiveState, Cri, DesiredState, Regular, Setting, UnitTies, Unusable
from agent.plan import (
    Act,
    Claim,
    Conflict,
    Deferred,
    FileAction,
    KeyOriginal,
    MakeDirectory,
    Memory,
    Release,
    RemoveDirectory,
    RemoveFile,
    Restart,
    WriteFile,
)
from agent.runtimes._config_back import given_back, is_only_ours, keeps_cri_down
from agent.runtimes._config_decide import Edit, Wait, decide
from agent.runtimes._config_edit import KEY, NotEditableError
from agent.runtimes._config_file import ConfigFile, OwnedFile
from agent.runtimes._config_toml import read_config, shape
from agent.runtimes._containerd_config import (
    LOADED_CONTENT,
    LOADED_IMPORTS,
    LOADED_PATH,
    UNIT,
    digest_of_imports,
    directories_of,
    uses,
)
from agent.runtimes._hosts_file import Part
from agent.runtimes._legacy_decide import loaded_tables
from agent.runtimes._legacy_edit import is_legacy
from agent.runtimes._legacy_plan import Migration, has_migrated
from agent.runtimes._legacy_tables import needs_tables
from agent.runtimes._trial import ABSENT, Bench, attempt, next_act, recall, setback

_NEVER = "containerd.restart is never: restart it when it suits you"
_RESTART_REASON = "only a start reads config.toml"
_KILLS = (
    "its unit has KillMode={mode}, with which systemd ends what runs the containers, too: set KillMode=process "
    "(systemctl edit containerd), or restart it when it suits you"
)
_CRI_DEADLINE_SECONDS = 90.0
"""How long the CRI of a containerd that is up may take until it answers: it first looks after all containers."""
_LOOK_AGAIN_SECONDS, _TIES_SECONDS = 10.0, 60.0
"""When what gave no answer is asked again; and KillMode, of which no file tells that it is another one now."""


@dataclass(frozen=True, slots=True)
class ConfigPlan:
    """The part of a Plan that is about config.toml and the running containerd. `migrates`: what its old tables say is
    to stand in hosts.toml, for they are taken out now or were before. `undoes`: what was on trial is put back."""

    part: Part = Part()  # noqa: RUF009 -- frozen
    acts: tuple[Act, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    remember: Memory | None = None
    keeps: tuple[bytes, ...] = field(default=(), repr=False)
    migrates: bool = False
    undoes: bool = False


def plan_config(look: ConfigFile, desired: DesiredState, migration: Migration, *, wanted: bool) -> ConfigPlan:
    """`wanted`: at least one hosts.toml is to be read."""
    plan = _plan(look, desired, migration, wanted=wanted)
    return replace(plan, migrates=plan.migrates or has_migrated(look))


def _plan(look: ConfigFile, desired: DesiredState, migration: Migration, *, wanted: bool) -> ConfigPlan:
    bench = recall(_bench(look, desired, wants=_wants(look, desired, migration) if wanted else ()))
    if reason := setback(bench):
        return _go_back(look, bench, reason, desired)
    others = [_given_back(each, f"containerd.config is {look.path} now") for each in look.others]
    if not wanted:
        return _joined(_end(look, bench), others)
    verdict = decide(look, desired, migration)
    if isinstance(verdict, Wait):
        return _joined(_waiting(look, bench, verdict), others)
    if isinstance(verdict, Edit):
        content = hashlib.sha256(verdict.content).hexdigest()
        if bench.memory.bad != attempt(content, desired.generation):
            after = _wants(_with_content(look, verdict.content), desired, migration)
            return _joined(_begin(look, replace(bench, wants=after), verdict), others)
        verdict = (
            "containerd does not come up with what was changed here, so it is as it was: see journalctl -u containerd; "
            "it is tried again after an edit of this file or of the desired state"
        )
    conflicts = (Conflict(look.path, verdict),) if isinstance(verdict, str) else ()
    plan = _follow(look, _adopted(look, bench, desired, migration) if verdict is None else bench)
    return _joined(replace(plan, part=Part(conflicts=conflicts)), others)


# --- what is known ---------------------------------------------------------------------------------------------------


def _bench(look: ConfigFile, desired: DesiredState, wants: tuple[Setting, ...]) -> Bench:
    forbidden, seconds = ("", None) if desired.containerd.may_restart else (_NEVER, None)
    if not forbidden and look.ties is not None and not _keeps_containers(look.ties):
        forbidden, seconds = _KILLS.format(mode=look.ties.kill_mode or "unknown"), _TIES_SECONDS
    return Bench(
        name=UNIT,
        unit=look.daemon.unit,
        memory=look.daemon.memory,
        now=look.now,
        digest=look.digest,
        written_at=look.daemon.config_written_at,
        content_key=LOADED_CONTENT,
        facts=_facts(look),
        rejected=_rejected(look),
        broken=_broken(look),
        unchecked=_unchecked(look),
        silent="its CRI does not answer yet" if look.cri is Cri.SILENT else "",
        forbidden=forbidden,
        asks_again_seconds=seconds,
        wants=wants,
        serves=look.cri is Cri.READY,
    )


def _facts(look: ConfigFile) -> tuple[Setting, ...]:
    """What a containerd has that reads the file now."""
    config = look.effective()
    directories = directories_of(config.config_path) if config else ()
    imports = digest_of_imports(look.daemon)
    read = (Setting(LOADED_IMPORTS, json.dumps(imports)),) if imports else ()
    return (Setting(LOADED_PATH, json.dumps(":".join(directories))), *read, *loaded_tables(look))


def _wants(look: ConfigFile, desired: DesiredState, migration: Migration) -> tuple[Setting, ...]:
    """What of it a containerd must have that looks where the desired state is."""
    if migration.tables is not None:
        return loaded_tables(look)
    return (Setting(LOADED_PATH, json.dumps(desired.containerd.certs_dir)),)


def _with_content(look: ConfigFile, content: bytes) -> ConfigFile:
    return replace(look, daemon=replace(look.daemon, config=Regular(content)))


def _keeps_containers(ties: UnitTies) -> bool:
    """Shims live in the unit's cgroup, and `mixed` ends them as `control-group` does (systemd.kill(5))."""
    return ties.kill_mode == "process"


def _restart_reason(look: ConfigFile) -> str:
    """Why, and what it costs, where systemd tells."""
    ties = look.ties or UnitTies("process")
    fate = "containers keep running" if _keeps_containers(ties) else "containers end" if ties.kill_mode else ""
    along = f"; systemd restarts {', '.join(ties.bound_units)} with it" if ties.bound_units else ""
    return "; ".join(filter(None, (_RESTART_REASON, fate))) + along


def _broken(look: ConfigFile) -> str:
    """What is wrong in a containerd that runs on the file."""
    if look.cri in {Cri.MISSING, Cri.SILENT} and look.cri_fails:
        return "its CRI plugin does not start with this (ctr plugins ls)"
    if look.cri is Cri.MISSING:
        return "it has no CRI with this"
    age = look.now.unix_seconds - look.daemon.unit.started_at
    if look.cri is Cri.SILENT and age >= _CRI_DEADLINE_SECONDS:
        return f"its CRI does not answer with this, {_CRI_DEADLINE_SECONDS:.0f} s after the start"
    return ""


def _unchecked(look: ConfigFile) -> str:
    is_there = look.daemon.unit.is_up and isinstance(look.state, Regular)
    return "containerd config dump does not say whether it is right" if is_there and look.daemon.dump is None else ""


def _waiting(look: ConfigFile, bench: Bench, wait: Wait) -> ConfigPlan:
    """Nothing is written yet; what is under way goes on."""
    plan = _follow(look, bench)
    act = Restart(UNIT, _restart_reason(look), bench.memory)
    return replace(plan, deferred=(*plan.deferred, Deferred(act, wait.reason, _LOOK_AGAIN_SECONDS)))


def _rejected(look: ConfigFile) -> str:
    """What containerd itself says about a content that it has not read yet."""
    dump, expects = look.daemon.dump, look.daemon.memory.expects
    if dump is None:
        return ""
    if dump.returncode != 0:
        return "it rejects this (containerd config dump)"
    if expects and shape(dump.stdout) != expects:
        return "by its own account this changes more than its registries (containerd config dump)"
    seen = read_config(dump.stdout, look.daemon.version)
    reads_hosts_toml = look.daemon.version is not None and not needs_tables(look.daemon.version)
    if expects and reads_hosts_toml and (seen.has_mirrors or not seen.config_path):
        return "it does not see config_path alone in this (containerd config dump)"
    return ""


def _expects(look: ConfigFile) -> str:
    dump = look.daemon.dump
    return shape(dump.stdout) if dump is not None and dump.returncode == 0 else ""


# --- there ----------------------------------------------------------------------------------------------------------


def _begin(look: ConfigFile, bench: Bench, edit: Edit) -> ConfigPlan:
    """Claim the key, remember the trial, write, and say which act will follow."""
    digest = hashlib.sha256(edit.content).hexdigest()
    memory = replace(bench.memory, trial=digest, good=look.digest, expects=_expects(look), bad="")
    mode = look.state.mode if isinstance(look.state, Regular) else 0o644
    makes = tuple(MakeDirectory(each, f"{look.path} is to stand in it") for each in look.missing)
    write = WriteFile(look.path, edit.content, edit.reason, look.state, mode, needs=edit.needs)
    follow = _follow(look, replace(bench, memory=memory, digest=digest))
    releases = (Release(look.path, edit.releases),) if edit.releases else ()
    part = Part((*makes, write), _claims(look, edit), releases)
    return replace(follow, part=part, remember=memory, keeps=_kept(look), migrates=True)


def _claims(look: ConfigFile, edit: Edit) -> tuple[Claim, ...]:
    """What the ledger does not know yet."""
    known = {key.key for key in look.owned.entry.keys} if look.owned is not None else set()
    new = tuple(key for key in edit.keys if key.key not in known)
    if isinstance(look.state, Unusable) or not new:
        return ()
    return (Claim(look.path, look.state, new, look.missing if look.owned is None else ()),)


def _kept(look: ConfigFile) -> tuple[bytes, ...]:
    return (look.state.content,) if isinstance(look.state, Regular) else ()


def _follow(look: ConfigFile, bench: Bench) -> ConfigPlan:
    act = next_act(bench, _restart_reason(look))
    remember = bench.memory if _is_worth_remembering(bench) else None
    if isinstance(act, Deferred):
        return ConfigPlan(deferred=(act,), remember=remember)
    return ConfigPlan(acts=(act,) if act is not None else (), remember=remember)


def _is_worth_remembering(bench: Bench) -> bool:
    return bench.memory != Memory() and bench.unit.active is not ActiveState.OFF


def _adopted(look: ConfigFile, bench: Bench, desired: DesiredState, migration: Migration) -> Bench:
    """Our key stands in a file that somebody has changed since, and the running containerd has not read it: what stands
    there now is on trial."""
    config, memory, certs_dir = look.effective(), bench.memory, desired.containerd.certs_dir
    is_old = migration.tables is not None
    is_known = bench.loaded == look.digest or bench.knows or memory.trial == look.digest
    if look.owned is None or config is None or not bench.unit.is_up or is_known:
        return bench
    if not is_old and not uses(look.daemon, config, certs_dir):
        return bench
    good = memory.good or look.owned.entry.original.sha256 or ABSENT
    return replace(bench, memory=replace(memory, trial=look.digest, good=good, expects=""))


# --- back ------------------------------------------------------------------------------------------------------------


def _go_back(look: ConfigFile, bench: Bench, setback_reason: str, desired: DesiredState) -> ConfigPlan:
    """What stood there before the trial comes back; the trial is remembered as bad, and its bytes are kept."""
    memory, state = bench.memory, look.state
    memory = replace(memory, bad=attempt(memory.trial, desired.generation))
    reason = f"{setback_reason}, so what stood there before is put back"
    if memory.good == ABSENT:
        return ConfigPlan(Part((RemoveFile(look.path, reason, state),)), remember=memory, undoes=True)
    if look.good is None:
        text = f"{setback_reason}, and what stood there before is lost: mend it by hand"
        return ConfigPlan(Part(conflicts=(Conflict(look.path, text),)), remember=memory)
    mode = state.mode if isinstance(state, Regular) else 0o644
    write = WriteFile(look.path, look.good, reason, state, mode, verbatim=True)
    return ConfigPlan(Part((write,)), remember=memory, keeps=_kept(look), undoes=True)


def _end(look: ConfigFile, bench: Bench) -> ConfigPlan:
    """config_path is not wanted any more: give it back if it is ours, and let the running containerd know."""
    if look.owned is None:
        return _follow(look, bench)
    part = _given_back(look.owned, "no registry needs it any more")
    write = next((each for each in part.actions if isinstance(each, WriteFile | RemoveFile)), None)
    if write is None:
        return replace(_follow(look, bench), part=part)
    content = write.content if isinstance(write, WriteFile) else None
    digest = hashlib.sha256(content).hexdigest() if content is not None else ABSENT
    memory = replace(bench.memory, trial="", good="", expects="", bad="")
    if bench.unit.is_up:
        memory = replace(memory, trial=digest, good=look.digest)
    after = replace(bench, memory=memory, digest=digest)
    return replace(_follow(look, after), part=part, remember=memory, keeps=_kept(look))


def _given_back(owned: OwnedFile, reason: str) -> Part:
    """The file as it was before us if nobody else has changed it, else without what is ours alone. What kept the CRI
    from starting does not come back."""
    entry, state = owned.entry, owned.state
    release = (Release(entry.path),)
    if not isinstance(state, Regular):
        return Part(_unmade(owned), releases=release)
    if not entry.original.existed and is_only_ours(state.content, entry.keys):
        return Part((RemoveFile(entry.path, f"{reason}; it did not exist before", state), *_unmade(owned)), (), release)
    try:
        content = given_back(state.content, entry.keys, owned.original)
    except NotEditableError as error:
        text = f"{error}, so config_path cannot be given back: mend it, or take config_path out by hand"
        return Part(conflicts=(Conflict(entry.path, text),))
    if content == state.content or keeps_cri_down(content):
        return Part(releases=release)
    is_original = content == owned.original
    said = f"{reason}; the file is as it was" if is_original else f"{reason}; {_what(entry.keys)} as before us"
    actions: tuple[FileAction, ...] = (
        WriteFile(
            entry.path,
            content,
            said,
            state,
            entry.original.mode if is_original else state.mode,
            (entry.original.uid, entry.original.gid) if is_original else None,
            verbatim=is_original,
        ),
    )
    return Part(actions, releases=release)


def _what(keys: tuple[KeyOriginal, ...]) -> str:
    has_path, has_legacy = any(key.key == KEY for key in keys), any(is_legacy(key) for key in keys)
    if not has_legacy:
        return "config_path is"
    return "config_path and the old tables are" if has_path else "the mirrors tables are"


def _unmade(owned: OwnedFile) -> tuple[RemoveDirectory, ...]:
    made = reversed(owned.entry.made_directories)
    return tuple(RemoveDirectory(each, "it was made for config.toml, which is gone") for each in made)


def _joined(plan: ConfigPlan, others: list[Part]) -> ConfigPlan:
    parts = (plan.part, *others)
    return replace(
        plan,
        part=Part(
            actions=tuple(action for part in parts for action in part.actions),
            claims=tuple(claim for part in parts for claim in part.claims),
            releases=tuple(release for part in parts for release in part.releases),
            conflicts=tuple(conflict for part in parts for conflict in part.conflicts),
        ),
    )
