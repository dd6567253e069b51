"""A small machine on disk for tests of `agent.files`: a tree, and a FileSystem on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from agent.files import FileSystem
from agent.model import FileState
from agent.plan import RemoveFile, WriteFile

_MEMORY = Path("/dev/shm")

OWNER = (os.getuid(), os.getgid())


@contextmanager
def quick_directory() -> Iterator[Path]:
    """A directory in memory, if there is such a thing: flushing costs nothing there, and thousands of rounds flush."""
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with TemporaryDirectory(dir=memory, prefix="mirror-agent-") as directory:
        yield Path(directory)


class Machine:
    """A tree with /etc/docker (allowed), /srv (not allowed), and a FileSystem on it.

    `inside` gives a path as an operator would write it, `outside` as this test sees it.
    """

    def __init__(self, directory: Path, root: str) -> None:
        self.directory = directory
        self.prefix = "" if root == str(directory) else str(directory)
        self.outside("/etc/docker").mkdir(parents=True)
        self.outside("/srv").mkdir()
        self.notes: list[tuple[str, str]] = []
        self.files = FileSystem(root, [self.inside("/etc/docker")], lambda *note: self.notes.append(note))

    def inside(self, path: str) -> str:
        return self.prefix + path

    def outside(self, path: str) -> Path:
        return self.directory / path.lstrip("/")

    def put(self, path: str, content: bytes, mode: int = 0o644) -> Path:
        place = self.outside(path)
        place.write_bytes(content)
        place.chmod(mode)
        return place

    def link(self, path: str, target: str) -> None:
        """A link that leads to an absolute path inside, or a relative one."""
        os.symlink(self.inside(target) if target.startswith("/") else target, self.outside(path))

    def read(self, path: str) -> FileState:
        return self.files.read(self.inside(path))

    def write(self, path: str, content: bytes, replaces: FileState | None = None, mode: int = 0o644) -> str:
        """Write over what stands there, or over what the caller believes; the words of the failure, "" for none."""
        believed = self.read(path) if replaces is None else replaces
        error = self.files.write_files([WriteFile(self.inside(path), content, "test", believed, mode)])[0]
        return str(error).replace(self.prefix, "") if error and self.prefix else str(error or "")

    def remove(self, path: str, replaces: FileState | None = None) -> None:
        believed = self.read(path) if replaces is None else replaces
        self.files.remove_file(RemoveFile(self.inside(path), "test", believed))

    def tree(self) -> dict[str, str]:
        """Every entry below the root, with what it holds or leads to."""
        found = {}
        for entry in sorted(self.directory.rglob("*")):
            name = "/" + str(entry.relative_to(self.directory))
            if entry.is_symlink():
                found[name] = f"-> {os.readlink(entry).removeprefix(self.prefix)}"
            elif entry.is_file():
                found[name] = entry.read_text()
        return found
