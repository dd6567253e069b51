"""From config.toml as it stands to one that makes containerd read certs.d, and back: claims, the edit, the one restart.

_config_decide says what the file becomes, _trial what becomes of the daemon; this is what ties them to the ledger.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace

from agent.model import ActiveState, DesiredState, Regular, Setting, Unusable
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
    WriteFile,
)
from agent.runtimes._config_back import given_back, is_only_ours, keeps_cri_down
from agent.runtimes._config_decide import Edit, decide
from agent.runtimes._config_edit import KEY, NotEditableError
from agent.runtimes._config_file import ConfigFile, OwnedFile
from agent.runtimes._config_toml import read_config, shape
from agent.runtimes._containerd_config import LOADED_CONTENT, LOADED_PATH, UNIT, uses
from agent.runtimes._hosts_file import Part
from agent.runtimes._legacy_decide import loaded_tables
from agent.runtimes._legacy_edit import is_legacy
from agent.runtimes._legacy_plan import Migration, has_migrated
from agent.runtimes._legacy_tables import needs_tables
from agent.runtimes._trial import ABSENT, Bench, attempt, next_act, recall, setback

_NEVER = "containerd.restart is never: restart it when it suits you"
_RESTART_REASON = "only a start reads config.toml; containers keep running"


@dataclass(frozen=True, slots=True)
class ConfigPlan:
    """The part of a Plan that is about config.toml and the running containerd. `migrates`: what its old tables say is
    to stand in hosts.toml, for they are taken out now or were before."""

    part: Part = Part()  # noqa: RUF009 -- frozen
    acts: tuple[Act, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    remember: Memory | None = None
    keeps: tuple[bytes, ...] = field(default=(), repr=False)
    migrates: bool = False


def plan_config(look: ConfigFile, desired: DesiredState, migration: Migration, *, wanted: bool) -> ConfigPlan:
    """`wanted`: at least one hosts.toml is to be read."""
    plan = _plan(look, desired, migration, wanted=wanted)
    return replace(plan, migrates=plan.migrates or has_migrated(look))


def _plan(look: ConfigFile, desired: DesiredState, migration: Migration, *, wanted: bool) -> ConfigPlan:
    bench = recall(_bench(look, desired))
    if reason := setback(bench):
        return _go_back(look, bench, reason, desired)
    others = [_given_back(each, f"containerd.config is {look.path} now") for each in look.others]
    if not wanted:
        return _joined(_end(look, bench), others)
    verdict = decide(look, desired, migration)
    if isinstance(verdict, Edit):
        content = hashlib.sha256(verdict.content).hexdigest()
        if bench.memory.bad != attempt(content, desired.generation):
            return _joined(_begin(look, bench, verdict), others)
        verdict = (
            "containerd does not come up with what was changed here, so it is as it was: see journalctl -u containerd; "
            "it is tried again after an edit of this file or of the desired state"
        )
    conflicts = (Conflict(look.path, verdict),) if isinstance(verdict, str) else ()
    plan = _follow(_adopted(look, bench, desired, migration) if verdict is None else bench)
    return _joined(replace(plan, part=Part(conflicts=conflicts)), others)


# --- what is known ---------------------------------------------------------------------------------------------------


def _bench(look: ConfigFile, desired: DesiredState) -> Bench:
    config = look.effective()
    return Bench(
        name=UNIT,
        unit=look.daemon.unit,
        memory=look.daemon.memory,
        now=look.now,
        digest=look.digest,
        written_at=look.daemon.config_written_at,
        content_key=LOADED_CONTENT,
        facts=(Setting(LOADED_PATH, json.dumps(config.config_path if config else "")), *loaded_tables(look)),
        rejected=_rejected(look),
        broken="its CRI plugin does not start with this (ctr plugins ls)" if look.cri_fails else "",
        forbidden="" if desired.containerd.may_restart else _NEVER,
    )


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
    is_old = needs_tables(look.daemon.version)
    if expects and not is_old and (seen.has_mirrors or not seen.config_path):
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
    follow = _follow(replace(bench, memory=memory, digest=digest))
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


def _follow(bench: Bench) -> ConfigPlan:
    act = next_act(bench, _RESTART_REASON)
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
    facts = {setting.key: setting.json for setting in memory.loaded}
    is_old = migration.tables is not None
    has_it = not is_old and certs_dir in str(json.loads(facts.get(LOADED_PATH, '""')))
    has_it |= is_old and set(loaded_tables(look)) <= set(memory.loaded)
    is_known = bench.loaded == look.digest or has_it or memory.trial == look.digest
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
    reason = f"containerd: {setback_reason}, so what stood there before is put back"
    if memory.good == ABSENT:
        return ConfigPlan(Part((RemoveFile(look.path, reason, state),)), remember=memory)
    if look.good is None:
        text = f"containerd: {setback_reason}, and what stood there before is lost: mend it by hand"
        return ConfigPlan(Part(conflicts=(Conflict(look.path, text),)), remember=memory)
    mode = state.mode if isinstance(state, Regular) else 0o644
    write = WriteFile(look.path, look.good, reason, state, mode, verbatim=True)
    return ConfigPlan(Part((write,)), remember=memory, keeps=_kept(look))


def _end(look: ConfigFile, bench: Bench) -> ConfigPlan:
    """config_path is not wanted any more: give it back if it is ours, and let the running containerd know."""
    if look.owned is None:
        return _follow(bench)
    part = _given_back(look.owned, "no registry needs it any more")
    write = next((each for each in part.actions if isinstance(each, WriteFile | RemoveFile)), None)
    if write is None:
        return replace(_follow(bench), part=part)
    content = write.content if isinstance(write, WriteFile) else None
    digest = hashlib.sha256(content).hexdigest() if content is not None else ABSENT
    memory = replace(bench.memory, trial="", good="", expects="", bad="")
    if bench.unit.is_up:
        memory = replace(memory, trial=digest, good=look.digest)
    after = replace(bench, memory=memory, digest=digest)
    return replace(_follow(after), part=part, remember=memory, keeps=_kept(look))


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
