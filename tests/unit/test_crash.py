"""The write path dies at every system call, fails at every system call, and dies at thousands of arbitrary instants.

What is proved each time: every file is one complete version, old or new, and the next run finishes the work.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from agent.errors import HostError
from agent.files import FileSystem
from agent.model import Absent, FileState, Regular
from agent.plan import RemoveFile, WriteFile
from tests import crash
from tests.disk import OWNER, quick_directory

DIRECTORY = "/etc/docker"
TARGET = f"{DIRECTORY}/daemon.json"
OLD = b'{"old": true}\n'
NEW = b'{"new": "' + b"x" * 9000 + b'"}\n'

RANDOM_KILLS = 1_000


@pytest.fixture
def root() -> Iterator[Path]:
    """In memory: a killed process loses nothing that the kernel has."""
    with quick_directory() as directory:
        yield directory


class Tree:
    """A root with one directory, put into a known state before each round."""

    def __init__(self, root: Path) -> None:
        self.outside = root / DIRECTORY.lstrip("/")
        self.outside.mkdir(parents=True)
        self.files = FileSystem(str(root), [DIRECTORY])

    def reset(self, names: dict[str, bytes]) -> None:
        """Exactly these files, and nothing else."""
        shutil.rmtree(self.outside)
        self.outside.mkdir()
        for name, content in names.items():
            place = self.outside / name
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)

    def content(self) -> dict[str, bytes]:
        """Every file there is, hidden ones too."""
        files = (entry for entry in self.outside.rglob("*") if entry.is_file())
        return {str(entry.relative_to(self.outside)): entry.read_bytes() for entry in files}

    def names(self) -> set[str]:
        return set(os.listdir(self.outside))

    def write(self, content: bytes, name: str = "daemon.json") -> HostError | None:
        path = f"{DIRECTORY}/{name}"
        return self.files.write_files([WriteFile(path, content, "test", self.files.read(path))])[0]


@pytest.fixture
def tree(root: Path) -> Tree:
    return Tree(root)


@dataclass(frozen=True)
class Change:
    """One way to change the tree: what stood there, what is done, what may stand there afterwards."""

    before: dict[str, bytes]
    make: Callable[[Tree], object]
    after: dict[str, bytes]

    @property
    def ends(self) -> list[dict[str, bytes]]:
        """Every mixture of whole old and whole new files."""
        ends: list[dict[str, bytes]] = [{}]
        for name in {**self.before, **self.after}:
            versions = {files.get(name) for files in (self.before, self.after)}
            ends = [{**end, **({} if v is None else {name: v})} for end in ends for v in versions]
        return ends


def known(content: bytes) -> Regular:
    return Regular(content, 0o644, *OWNER)


def write(tree: Tree, replaces: FileState, *names: str) -> tuple[HostError | None, ...]:
    return tree.files.write_files([WriteFile(f"{DIRECTORY}/{name}", NEW, "test", replaces) for name in names])


THREE = ("a.json", "b.json", "c.json")
THREE_DIRECTORIES = ("a.json", "1/b.json", "2/c.json")
CHANGES = {
    "create": Change({}, lambda tree: write(tree, Absent(), "daemon.json"), {"daemon.json": NEW}),
    "replace": Change({"daemon.json": OLD}, lambda tree: write(tree, known(OLD), "daemon.json"), {"daemon.json": NEW}),
    "replace three": Change(
        dict.fromkeys(THREE, OLD), lambda tree: write(tree, known(OLD), *THREE), dict.fromkeys(THREE, NEW)
    ),
    "replace three in three directories": Change(
        dict.fromkeys(THREE_DIRECTORIES, OLD),
        lambda tree: write(tree, known(OLD), *THREE_DIRECTORIES),
        dict.fromkeys(THREE_DIRECTORIES, NEW),
    ),
    "remove": Change(
        {"daemon.json": OLD}, lambda tree: tree.files.remove_file(RemoveFile(TARGET, "test", known(OLD))), {}
    ),
    "replace our own": Change(
        {"ledger.json": OLD},
        lambda tree: tree.files.replace_file(f"{DIRECTORY}/ledger.json", NEW, 0o600),
        {"ledger.json": NEW},
    ),
    "replace our own, not durably": Change(
        {"status.json": OLD},
        lambda tree: tree.files.replace_file(f"{DIRECTORY}/status.json", NEW, 0o644, durable=False),
        {"status.json": NEW},
    ),
}
OTHER_ERRORS = (errno.EROFS, errno.EPERM, errno.EMFILE, errno.ENOSPC)
CHANGED = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())


def visible(tree: Tree) -> dict[str, bytes]:
    """What other programs read: temps are hidden from them."""
    return {name: content for name, content in tree.content().items() if not Path(name).name.startswith(".")}


@CHANGED
def test_killed_at_every_system_call(tree: Tree, change: Change) -> None:
    """Whichever call is the last, each file is whole, old or new, and the next write succeeds and leaves no temp."""
    tree.reset(change.before)
    calls = crash.count_calls(lambda: change.make(tree))
    assert tree.content() == change.after
    killed = 0
    for call in range(1, calls + 1):
        tree.reset(change.before)
        killed += crash.run_killed_at(call, lambda: change.make(tree))
        assert visible(tree) in change.ends
        for name in {**change.before, **change.after}:
            assert tree.write(b"{}", name) is None
        assert tree.content() == dict.fromkeys({**change.before, **change.after}, b"{}")
    assert killed == calls


@pytest.mark.parametrize(
    ("change", "code"),
    [*((change, errno.EIO) for change in CHANGES.values()), *((CHANGES["replace"], c) for c in OTHER_ERRORS)],
    ids=[*CHANGES, *(f"replace {errno.errorcode[code]}" for code in OTHER_ERRORS)],
)
def test_failing_at_every_system_call(tree: Tree, change: Change, code: int) -> None:
    """Whichever call fails, each file is whole, old or new, no temp stays, and the failure has a HostError's words."""
    tree.reset(change.before)
    calls = crash.count_calls(lambda: change.make(tree))

    def failing(call: int) -> bool:
        tree.reset(change.before)
        error = crash.run_failing_at(call, code, lambda: error_of(change.make, tree))
        assert tree.content() in change.ends, (call, error)
        assert error or tree.content() == change.after, call
        return error != ""

    failures = crash.in_child(lambda: sum(failing(call) for call in range(1, calls + 1)))
    assert failures > calls / 2


def error_of(make: Callable[[Tree], object], tree: Tree) -> str:
    """The words of the failure, "" for success."""
    try:
        results = make(tree)
    except HostError as error:
        return str(error)
    return next((str(error) for error in results if error), "") if isinstance(results, tuple) else ""


@pytest.mark.parametrize("existed", [False, True])
def test_making_a_directory_killed_at_every_system_call(tree: Tree, *, existed: bool) -> None:
    """There is no directory or one with the mode asked for, and making it again leaves that and no temp."""
    path, directory = f"{DIRECTORY}/certs.d", tree.outside / "certs.d"

    def make() -> None:
        tree.files.make_directory(path, 0o755)

    def reset() -> None:
        tree.reset({})
        if existed:
            directory.mkdir(mode=0o700)

    reset()
    calls = crash.count_calls(make)
    for call in range(1, calls + 1):
        reset()
        assert crash.run_killed_at(call, make)
        mode = 0o700 if existed else 0o755
        assert not directory.exists() or directory.stat().st_mode & 0o7777 == mode
        make()
        assert (tree.names(), directory.stat().st_mode & 0o7777) == ({"certs.d"}, mode)


def test_removing_a_directory_killed_at_every_system_call(tree: Tree) -> None:
    """The directory is there or not, and removing it again ends without it, a left-over temp in it or not."""
    path, directory = f"{DIRECTORY}/certs.d", tree.outside / "certs.d"

    def remove() -> None:
        tree.files.remove_directory(path)

    def reset() -> None:
        directory.mkdir(exist_ok=True)
        (directory / ".hosts.toml.mirror-agent").touch()

    reset()
    calls = crash.count_calls(remove)
    for call in range(1, calls + 1):
        reset()
        assert crash.run_killed_at(call, remove)
        remove()
        assert tree.names() == set()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2026, 2027])
def test_killed_at_random_instants(tree: Tree, seed: int) -> None:
    """2,000 kills (in halves) within a storm of writes and removals, on what the kill before left: no torn file."""
    versions = [b'{"version": %d, "padding": "%s"}\n' % (n, b"y" * (n * 3000)) for n in range(4)]
    dice = random.Random(seed)

    def storm(first: int) -> None:
        for number in itertools.count(first):
            version = number % (len(versions) + 1)
            if version < len(versions):
                tree.write(versions[version])
            else:
                tree.files.remove_file(RemoveFile(TARGET, "test", tree.files.read(TARGET)))

    tree.reset({"daemon.json": versions[0]})
    seen: set[bytes | None] = set()
    for _ in range(RANDOM_KILLS):
        assert crash.run_killed_after(dice.uniform(0.0002, 0.0025), partial(storm, dice.randrange(5)))
        assert set(visible(tree).values()) <= set(versions)
        seen.add(visible(tree).get("daemon.json"))
    assert seen == {None, *versions}
    assert tree.write(OLD) is None
    assert tree.content() == {"daemon.json": OLD}


# --- the harness itself ----------------------------------------------------------------------------------------------


def test_the_harness_shows_a_torn_write(tree: Tree) -> None:
    """Killed at every call, a program that writes in place does leave an empty file: what is proved above can fail."""

    def write_in_place() -> None:
        descriptor = os.open(tree.outside / "daemon.json", os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, NEW)
        os.close(descriptor)

    tree.reset({"daemon.json": OLD})
    calls = crash.count_calls(write_in_place)
    ends = []
    for call in range(1, calls + 1):
        tree.reset({"daemon.json": OLD})
        crash.run_killed_at(call, write_in_place)
        ends.append(visible(tree)["daemon.json"])
    assert ends == [OLD, b"", NEW]


def test_a_kill_comes_before_its_call(tree: Tree) -> None:
    """`run_killed_at` lets k - 1 calls happen, in threads and through ctypes too, and says when there are fewer."""

    def three_calls() -> None:
        for number in range(3):
            os.mkdir(tree.outside / str(number))

    for call in range(1, 5):
        tree.reset({})
        assert crash.run_killed_at(call, three_calls) is (call <= 3)
        assert tree.names() == {str(number) for number in range(call - 1)}


def test_only_calls_that_touch_are_listed_as_writes(tree: Tree) -> None:
    """Looking is no write; a write through the protocol is listed call by call, the exchange by ctypes too."""
    tree.reset({"daemon.json": OLD})
    assert crash.list_writes(lambda: [tree.files.read(TARGET), tree.files.list_directory(DIRECTORY)]) == []
    touched = crash.list_writes(lambda: tree.write(NEW))
    assert touched == [
        "unlink", "open .daemon.json.mirror-agent", "fchmod", "fchmod", "fsync", "renameat2", "unlink", "fsync",
    ]  # fmt: skip


def test_what_the_child_raises_is_raised(tree: Tree) -> None:
    """A function that fails in the child does not pass for one that was killed, or for one that did nothing."""
    with pytest.raises(AssertionError, match="no such directory"):
        crash.count_calls(lambda: tree.files.make_directory(f"{DIRECTORY}/a/b", 0o755))
