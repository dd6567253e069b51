"""Random sequences of changes against a model: what was meant happens, and nothing else moves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import HostError
from agent.files import FileSystem
from agent.model import Absent, FileState, Regular
from agent.plan import RemoveFile, WriteFile
from tests.disk import OWNER, quick_directory

DIRECTORIES = ("/ours", "/ours/a", "/ours/b c", "/foreign")
FILES = ("/ours/x.json", "/ours/a/hosts.toml", "/ours/a/ca.crt", "/ours/b c/ü", "/foreign/x.json")
paths = st.sampled_from(FILES)
contents = st.sampled_from([b"{}", b"", b"[1]", b"# comment\n", b"\0" * 5_000])
modes = st.sampled_from([0o600, 0o640, 0o644])
writes = st.tuples(st.just("write"), paths, contents, modes)
removals = st.tuples(st.just("remove"), paths, contents, modes)
Step = tuple[str, str, bytes, int]


class Pair:
    """A tree on disk, and beside it a dictionary of what should stand there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in DIRECTORIES:
            (root / directory[1:]).mkdir()
        self.files = FileSystem(str(root), ["/ours"])
        self.model: dict[str, Regular] = {}
        (root / "foreign/x.json").write_bytes(b"foreign")
        (root / "foreign/x.json").chmod(0o604)
        self.model["/foreign/x.json"] = Regular(b"foreign", 0o604, *OWNER)

    def found(self) -> dict[str, FileState]:
        return {path: state for path in FILES if (state := self.files.read(path)) != Absent()}

    def stamps(self) -> dict[str, tuple[object, ...]]:
        """Of every file: its bytes, inode and times."""
        return {str(path): _stamp(path) for path in self.root.rglob("*") if path.is_file()}

    def do(self, step: Step) -> None:
        """One step, on disk as in the model, in which the rules are said once more and differently."""
        kind, path, content, mode = step
        before = self.stamps()
        expected = self._expect(kind, path, content, mode)
        assert self._attempt(kind, path, content, mode) == expected
        after = self.stamps()
        mine = str(self.root) + path
        assert {name: stamp for name, stamp in after.items() if name != mine} == {
            name: stamp for name, stamp in before.items() if name != mine
        }
        assert expected or kind == "remove" or after[mine] != before.get(mine)
        assert not expected or after.get(mine) == before.get(mine)

    def _expect(self, kind: str, path: str, content: bytes, mode: int) -> str:
        if path.startswith("/foreign/"):
            return "outside"
        if kind == "remove":
            self.model.pop(path, None)
            return ""
        if path.endswith(".json") and content not in {b"{}", b"[1]"}:
            return "refused"
        if path.endswith(".toml") and content not in {b"", b"# comment\n", b"[1]"}:
            return "refused"
        self.model[path] = Regular(content, mode, *OWNER)
        return ""

    def _attempt(self, kind: str, path: str, content: bytes, mode: int) -> str:
        believed = self.files.read(path)
        try:
            if kind == "remove":
                self.files.remove_file(RemoveFile(path, "", believed))
                return ""
            error = self.files.write_files([WriteFile(path, content, "", believed, mode)])[0]
        except HostError as raised:
            error = raised
        return next(word for word in ("outside", "refused") if word in str(error)) if error else ""


def _stamp(path: Path) -> tuple[object, ...]:
    info = path.stat()
    return (path.read_bytes(), info.st_ino, info.st_mtime_ns, info.st_ctime_ns, info.st_mode)


@settings(deadline=None)
@given(st.lists(writes | removals, max_size=12))
def test_only_what_was_meant_changes(steps: list[Step]) -> None:
    """After any sequence of writes and removals the tree is the model's, and every other file kept bytes, inode and
    times at each step."""
    with quick_directory() as directory:
        pair = Pair(directory)
        for step in steps:
            pair.do(step)
            assert pair.found() == pair.model


@settings(deadline=None)
@given(st.lists(writes, min_size=2, max_size=6, unique_by=lambda step: step[1]))
def test_a_batch_is_its_parts(steps: list[Step]) -> None:
    """Several files in one call come out as one after the other, whatever of them fails."""
    with quick_directory() as one, quick_directory() as other:
        single, together = Pair(one), Pair(other)
        orders = [WriteFile(path, content, "", together.files.read(path), mode) for _, path, content, mode in steps]
        results = [str(error or "") for error in together.files.write_files(orders)]
        expected = [single._expect(*step) for step in steps]
        assert [word in result for word, result in zip(expected, results, strict=True)] == [True] * len(steps)
        assert together.found() == single.model


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(deadline=None, max_examples=300)
@given(st.lists(names | st.sampled_from(["..", ".", "", "foreign", "up", "out", "a"]), min_size=1, max_size=6))
def test_no_path_leads_outside(parts: list[str]) -> None:
    """Whatever a path is made of, links up and out among it, nothing outside the allowed directory changes."""
    with quick_directory() as directory:
        pair = Pair(directory)
        (directory / "ours/up").symlink_to("..")
        (directory / "ours/out").symlink_to("/foreign")
        before = {path: _stamp(path) for path in directory.glob("foreign/*")}
        path = "/ours/" + "/".join(parts)
        believed = pair.files.read(path)
        changes: list[Callable[[], object]] = [
            lambda: pair.files.write_files([WriteFile(path, b"{}", "", believed)]),
            lambda: pair.files.replace_file(path, b"{}", 0o600),
            lambda: pair.files.make_directory(path, 0o700),
            lambda: pair.files.remove_directory(path),
            lambda: pair.files.remove_file(RemoveFile(path, "", believed)),
            lambda: pair.files.sweep(path),
        ]
        for change in changes:
            _tolerate(change)
        assert {path: _stamp(path) for path in directory.glob("foreign/*")} == before
        assert sorted(os.listdir(directory)) == ["foreign", "ours"]


def _tolerate(change: Callable[[], object]) -> None:
    try:
        change()
    except HostError:
        return
