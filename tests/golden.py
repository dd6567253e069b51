"""Golden cases: a machine before, a desired state, and what must become of it (tests/cases/README.md says more)."""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent import describe
from agent import desired as desired_state
from agent.ledger import Entry, Ledger, Original
from agent.model import (
    ActiveState,
    CommandResult,
    Cri,
    DesiredState,
    Now,
    Regular,
    Setting,
    UnitState,
    UnitTies,
    Unusable,
)
from agent.plan import KeyOriginal, Memory, Plan
from tests.fakes import FakeHost

CASES = Path(__file__).parent / "cases"
SOURCE = "/etc/mirror-agent.yaml"

KEEP = ".keep"
"""Stands in a directory of a tree that is meant to be empty, because git keeps no empty directories."""


@dataclass(frozen=True, slots=True)
class Case:
    """One folder `tests/cases/<runtime>/<name>`."""

    runtime: str
    name: str

    @property
    def path(self) -> Path:
        return CASES / self.runtime / self.name

    def __str__(self) -> str:
        return f"{self.runtime}/{self.name}"


def all_cases() -> list[Case]:
    """Every folder that holds a desired.yaml, by runtime and name."""
    return [Case(path.parts[-3], path.parts[-2]) for path in sorted(CASES.glob("*/*/desired.yaml"))]


def desired_of(case: Case) -> DesiredState:
    return desired_state.load((case.path / "desired.yaml").read_bytes(), source=SOURCE)


# --- the machine before ------------------------------------------------------------------------------------------


def host_of(case: Case) -> FakeHost:
    """A FakeHost with the runtime's common host.toml, the case's own, and the tree `before/`."""
    host = FakeHost()
    for folder in (case.path.parent, case.path):
        script = folder / "host.toml"
        if script.exists():
            _play(host, case, tomllib.loads(script.read_text()))
    _load_tree(host, case.path / "before")
    _adjust(host, case)
    host.log.clear()
    return host


def _load_tree(host: FakeHost, root: Path) -> None:
    for path in sorted(root.rglob("*")):
        inside = "/" + path.relative_to(root).as_posix()
        if path.is_dir():
            host.mkdirs(inside)
        elif path.name != KEEP:
            host.put(inside, path.read_bytes())


def _adjust(host: FakeHost, case: Case) -> None:
    """Modes, owners and unusable things, which a tree in git cannot hold."""
    script = case.path / "host.toml"
    document = tomllib.loads(script.read_text()) if script.exists() else {}
    for path, mode in document.get("modes", {}).items():
        host.files[path] = replace(_regular(host, path), mode=mode)
    for path, (uid, gid) in document.get("owners", {}).items():
        host.files[path] = replace(_regular(host, path), uid=uid, gid=gid)
    for path, reason in document.get("unusable", {}).items():
        host.files[path] = Unusable(reason)


def _regular(host: FakeHost, path: str) -> Regular:
    state = host.files[path]
    assert isinstance(state, Regular), path
    return state


Document = dict[str, Any]


def _play(host: FakeHost, case: Case, document: Document) -> None:
    unknown = document.keys() - _SECTIONS.keys() - {"modes", "owners", "unusable", "source"}
    assert not unknown, f"{case}: host.toml has unknown keys {sorted(unknown)}"
    for key, section in _SECTIONS.items():
        if key in document:
            section(host, case, document[key])


def _play_files(host: FakeHost, _: Case, files: Document) -> None:
    for path, text in files.items():
        host.put(path, text)


def _play_absent(host: FakeHost, _: Case, paths: list[str]) -> None:
    for path in paths:
        del host.files[path]


def _play_directories(host: FakeHost, _: Case, directories: list[str]) -> None:
    for path in directories:
        host.mkdirs(path)


def _play_units(host: FakeHost, _: Case, units: Document) -> None:
    for name, fields in units.items():
        host.units[name] = UnitState(**{**fields, "active": ActiveState(fields["active"])})


def _play_ties(host: FakeHost, _: Case, ties: Document) -> None:
    for name, fields in ties.items():
        host.unit_ties[name] = UnitTies(fields.get("kill_mode", "process"), tuple(fields.get("bound_units", ())))


def _play_answers(host: FakeHost, _: Case, answers: list[Document]) -> None:
    for answer in answers:
        host.answers[(answer["socket"], answer["target"])] = answer["body"].encode()


def _play_cris(host: FakeHost, _: Case, cris: dict[str, str]) -> None:
    host.cris.update({socket: Cri(text) for socket, text in cris.items()})


def _play_commands(host: FakeHost, _: Case, commands: list[Document]) -> None:
    for command in commands:
        result = CommandResult(command.get("returncode", 0), command.get("stdout", ""), command.get("stderr", ""))
        host.commands[tuple(command["argv"])] = _cat(host, command["prints"]) if "prints" in command else result


def _cat(host: FakeHost, path: str) -> Callable[[bytes], CommandResult]:
    """What stands in a TOML file, as containerd itself would print it; an error where it is none."""

    def run(_: bytes) -> CommandResult:
        state = host.read(path)
        text = state.content.decode("utf-8", "replace") if isinstance(state, Regular) else ""
        try:
            tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            return CommandResult(1, "", str(error))
        return CommandResult(0, text, "")

    return run


def _play_processes(host: FakeHost, _: Case, processes: Document) -> None:
    for pid, argv in processes.items():
        host.processes[int(pid)] = tuple(argv)


def _play_clock(host: FakeHost, _: Case, clock: Document) -> None:
    host.clock = Now(clock["unix_seconds"], clock["local_minute"])


def _play_mtimes(host: FakeHost, _: Case, mtimes: Document) -> None:
    host.mtimes.update(mtimes)


def _play_owned(host: FakeHost, case: Case, owned: list[Document]) -> None:
    entries = {item["path"]: _entry(host, case, item) for item in owned}
    host.stored_ledger = replace(host.stored_ledger, entries=entries)


def _entry(host: FakeHost, case: Case, item: Document) -> Entry:
    original = Original()
    if "original" in item:
        content = (case.path / item["original"]).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if not item.get("original_is_lost", False):
            host.keep_original(content)
        original = Original(digest, item.get("mode", 0o644), item.get("uid", 0), item.get("gid", 0))
    keys = tuple(KeyOriginal(key, json or None) for key, json in item.get("keys", {}).items())
    return Entry(item["path"], case.runtime, original, keys, tuple(item.get("made_directories", ())))


def _play_originals(host: FakeHost, case: Case, names: list[str]) -> None:
    for name in names:
        host.keep_original((case.path / name).read_bytes())


def _play_ledger_lost(host: FakeHost, _: Case, lost: bool) -> None:
    host.stored_ledger = Ledger(lost=lost)


def _play_memory(host: FakeHost, case: Case, memory: Document) -> None:
    listed = {name: memory.get(name, {}).items() for name in ("loaded", "effective", "refused")}
    settings = {name: tuple(Setting(key, json) for key, json in items) for name, items in listed.items()}
    remembered = Memory(**{**memory, **settings, "restarts": tuple(memory.get("restarts", ()))})
    host.stored_ledger = host.stored_ledger.with_memory(case.runtime, remembered)


def _play_after_reload(host: FakeHost, case: Case, document: Document) -> None:
    host.on_reload = _later(host, case, document)


def _play_after_restart(host: FakeHost, case: Case, document: Document) -> None:
    host.on_restart = _later(host, case, document)


def _play_after_recover(host: FakeHost, case: Case, document: Document) -> None:
    host.on_recover = _later(host, case, document)


def _later(host: FakeHost, case: Case, document: Document) -> Callable[[], None]:
    return lambda: _play(host, case, document)


_SECTIONS: dict[str, Callable[[FakeHost, Case, Any], None]] = {
    "files": _play_files,
    "absent": _play_absent,
    "directories": _play_directories,
    "units": _play_units,
    "ties": _play_ties,
    "answers": _play_answers,
    "cris": _play_cris,
    "commands": _play_commands,
    "processes": _play_processes,
    "clock": _play_clock,
    "mtimes": _play_mtimes,
    "originals": _play_originals,
    "ledger_lost": _play_ledger_lost,
    "owned": _play_owned,
    "memory": _play_memory,
    "after_reload": _play_after_reload,
    "after_restart": _play_after_restart,
    "after_recover": _play_after_recover,
}


# --- what became of it ---------------------------------------------------------------------------------------------


def plan_text(plan: Plan) -> str:
    """A plan as plan.txt holds it: one line per thing, in the order in which they are done."""
    return "".join(f"{line}\n" for line in describe.lines(plan)) or "nothing to do\n"


def tree_of(host: FakeHost, case: Case) -> dict[str, bytes]:
    """The machine as a tree: what the common host.toml and FakeHost itself bring is left out, and so is what cannot
    be a file in git; an empty directory is its KEEP file."""
    common = _common(case)
    files = {
        path: state.content
        for path, state in host.files.items()
        if isinstance(state, Regular) and common.files.get(path) != state
    }
    empty = [path for path in host.directories - common.directories if host.list_directory(path) == ()]
    return {path.lstrip("/"): content for path, content in files.items()} | {
        f"{path}/{KEEP}".lstrip("/"): b"" for path in empty
    }


def _common(case: Case) -> FakeHost:
    host = FakeHost()
    script = case.path.parent / "host.toml"
    if script.exists():
        _play(host, case, tomllib.loads(script.read_text()))
    return host


def read_tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def write_golden(case: Case, plan: str, tree: dict[str, bytes]) -> None:
    (case.path / "plan.txt").write_text(plan)
    shutil.rmtree(case.path / "after", ignore_errors=True)
    for name, content in tree.items():
        path = case.path / "after" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
