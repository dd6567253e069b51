"""Somebody else changes things meanwhile: at every single system call of ours, and in races of two processes.

What holds each time: nothing that somebody else wrote is lost, nothing is torn, nothing is written elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest

from agent.errors import ConcurrentChangeError, HostError
from agent.files import FileSystem
from agent.model import Absent, Regular
from agent.plan import RemoveFile, WriteFile
from tests import crash
from tests.disk import OWNER, Machine, quick_directory

PATH = "/etc/docker/daemon.json"
OLD = b'{"old": true}'
OURS = b'{"ours": true}'
THEIRS = b'{"theirs": true}'
LINES = "/etc/docker/lines"
ROUNDS_EACH = 1_000

Result = TypeVar("Result")


@pytest.fixture
def machine() -> Iterator[Machine]:
    with quick_directory() as directory:
        yield Machine(directory, str(directory))


class Intruder:
    """Another program, which knows nothing of us. `wrote` tells the test's own process what came of it."""

    def __init__(self, machine: Machine) -> None:
        self.target = machine.outside(PATH)
        self.victim = machine.outside("/srv/victim")
        self._wrote = machine.outside("/srv/wrote")
        self._descriptor = -1

    def wrote(self) -> bytes | None:
        return self._wrote.read_bytes() if self._wrote.exists() else None

    def replaces(self, content: bytes = THEIRS) -> None:
        other = self.target.with_name("theirs.tmp")
        other.write_bytes(content)
        other.rename(self.target)
        self._wrote.write_bytes(content)

    def replaces_again(self) -> None:
        self.replaces(THEIRS * 2)

    def creates(self) -> None:
        """Unless there is a file."""
        try:
            self._descriptor = os.open(self.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return
        self.writes()

    def overwrites(self) -> None:
        self.opens()
        self.writes()

    def opens(self) -> None:
        """To write in place, later; unless there is no file."""
        if self.target.exists():
            self._descriptor = os.open(self.target, os.O_WRONLY | os.O_NONBLOCK)  # as one of us looks, not waiting

    def writes(self) -> None:
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, THEIRS)
            os.close(self._descriptor)
            self._wrote.write_bytes(THEIRS)

    def deletes(self) -> None:
        """If there is a file."""
        if self.target.exists():
            self.target.unlink()
            self._wrote.write_bytes(b"")

    def links(self) -> None:
        """The target to a file that is none of our business."""
        link = self.target.with_name("link.tmp")
        link.symlink_to(self.victim)
        link.rename(self.target)

    def moves_the_directory(self) -> None:
        """And puts a link to another one in its place."""
        self.target.parent.rename(self.target.parent.with_name("moved"))
        self.target.parent.symlink_to(self.victim.parent)


Act = Callable[[Intruder], None]


class Change:
    """One of our changes, and what stands there before."""

    def __init__(self, before: bytes | None, make: Callable[[FileSystem], HostError | None]) -> None:
        self.before = before
        self._make = make

    def outcome(self, machine: Machine) -> str:
        """done, conflict, or the words of another failure."""
        try:
            error = self._make(machine.files)
        except HostError as raised:
            error = raised
        return "conflict" if isinstance(error, ConcurrentChangeError) else str(error or "done")

    def reset(self, machine: Machine) -> None:
        moved = machine.outside("/etc/moved")
        if moved.exists():
            machine.outside("/etc/docker").unlink()
            moved.rename(machine.outside("/etc/docker"))
        for directory in ("/etc/docker", "/srv"):
            for entry in machine.outside(directory).iterdir():
                entry.unlink()
        machine.put("/srv/victim", b"victim")
        if self.before is not None:
            machine.put(PATH, self.before)

    def count_calls(self, machine: Machine) -> int:
        self.reset(machine)
        return crash.count_calls(lambda: self.outcome(machine))

    def run(self, machine: Machine, call: int, script: dict[int, Act]) -> tuple[str, Intruder]:
        """With the intruder's acts so many calls after `call`."""
        self.reset(machine)
        intruder = Intruder(machine)
        acts = {call + offset: partial(act, intruder) for offset, act in script.items()}
        return crash.run_interleaved(acts, lambda: self.outcome(machine)), intruder


KNOWN = Regular(OLD, 0o644, *OWNER)
REPLACE = Change(OLD, lambda files: files.write_files([WriteFile(PATH, OURS, "", KNOWN)])[0])
CREATE = Change(None, lambda files: files.write_files([WriteFile(PATH, OURS, "", Absent())])[0])
REMOVE = Change(OLD, lambda files: files.remove_file(RemoveFile(PATH, "", KNOWN)))
CHANGES = pytest.mark.parametrize("change", [REPLACE, CREATE, REMOVE], ids=["replace", "create", "remove"])

OURS_ALONE = {REPLACE: OURS, CREATE: OURS, REMOVE: None}

SCRIPTS: dict[str, dict[int, Act]] = {
    "replaces": {0: Intruder.replaces},
    "creates": {0: Intruder.creates},
    "deletes": {0: Intruder.deletes},
    "overwrites": {0: Intruder.overwrites},
    **{f"opens, {n} calls later writes": {0: Intruder.opens, n: Intruder.writes} for n in (1, 4, 12, 999)},
    **{f"replaces twice, {n} apart": {0: Intruder.replaces, n: Intruder.replaces_again} for n in (1, 2, 3, 5, 8)},
    "deletes, then creates": {0: Intruder.deletes, 1: Intruder.creates},
}


@CHANGES
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_what_others_do_meanwhile_is_never_lost(machine: Machine, change: Change, script: dict[int, Act]) -> None:
    """Whatever somebody else does, at whichever call of ours, stands in the end; no temp of ours stays."""

    def disturbed(call: int) -> str:
        outcome, intruder = change.run(machine, call, script)
        found = machine.outside(PATH).read_bytes() if machine.outside(PATH).exists() else None
        theirs = intruder.wrote()
        alone = OURS_ALONE[change] if outcome == "done" else change.before
        assert found == (alone if theirs is None else theirs or None), (call, outcome)
        assert os.listdir(machine.outside("/etc/docker")) in (["daemon.json"], []), (call, outcome)
        return outcome

    outcomes = at_every_call(machine, change, disturbed)
    assert outcomes <= {"done", "conflict"}
    assert "done" in outcomes


@CHANGES
def test_a_link_that_appears_meanwhile_is_not_followed(machine: Machine, change: Change) -> None:
    """A target that becomes a link, at whichever call of ours, leads no write astray, and stays a link."""

    def disturbed(call: int) -> None:
        change.run(machine, call, {0: Intruder.links})
        assert machine.tree() == {PATH: f"-> {machine.outside('/srv/victim')}", "/srv/victim": "victim"}, call

    at_every_call(machine, change, disturbed)


@CHANGES
def test_a_directory_that_moves_meanwhile_leads_nowhere(machine: Machine, change: Change) -> None:
    """A directory that gives way to a link, at whichever call of ours: nothing is touched where that leads."""

    def disturbed(call: int) -> None:
        change.run(machine, call, {0: Intruder.moves_the_directory})
        assert sorted(os.listdir(machine.outside("/srv"))) == ["victim"], call
        assert machine.outside("/srv/victim").read_bytes() == b"victim", call

    at_every_call(machine, change, disturbed)


def at_every_call(machine: Machine, change: Change, disturbed: Callable[[int], Result]) -> set[Result]:
    """What came of it, over all calls."""
    calls = change.count_calls(machine)
    found: set[Result] = crash.in_child(lambda: {disturbed(call) for call in range(1, calls + 1)})
    return found


# --- two processes ---------------------------------------------------------------------------------------------------


def add_lines(machine: Machine, who: str) -> int:
    """Merge one line after the other into the file, each until it is in; how often that had to be tried anew."""
    conflicts = 0
    for number in range(ROUNDS_EACH):
        while True:
            state = machine.read(LINES)
            assert isinstance(state, Regular)
            if machine.write(LINES, state.content + f"{who}{number}\n".encode(), state) == "":
                break
            conflicts += 1
    return conflicts


def test_two_writers_lose_nothing(machine: Machine) -> None:
    """Two processes merge 1,000 lines each into one file, as fast as they can: all 2,000 are in it, in order."""
    machine.put(LINES, b"")
    with ThreadPoolExecutor(2) as waiting:
        ends = [waiting.submit(crash.in_child, partial(add_lines, machine, who)) for who in "ab"]
        conflicts = [end.result() for end in ends]
    lines = machine.outside(LINES).read_text().split()
    assert {who: [line for line in lines if line.startswith(who)] for who in "ab"} == {
        who: [f"{who}{number}" for number in range(ROUNDS_EACH)] for who in "ab"
    }
    assert sum(conflicts) > 0
    assert os.listdir(machine.outside("/etc/docker")) == ["lines"]


def test_a_reader_sees_only_whole_files(machine: Machine) -> None:
    """A program that reads in a loop while we write finds one complete version each time, and never none."""
    machine.put(PATH, b"0")

    def write_many() -> None:
        for number in range(1, 1_000):
            assert machine.write(PATH, b"%d%s" % (number, b" " * (number * 7 % 9000))) == ""

    with ThreadPoolExecutor(1) as waiting:
        end = waiting.submit(crash.in_child, write_many)
        seen = []
        while not end.done():
            seen.append(json.loads(machine.outside(PATH).read_bytes()))
        end.result()
    assert seen == sorted(seen)
    assert len(set(seen)) > 10
