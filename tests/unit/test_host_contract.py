"""One contract for every Host: what a runtime and converge rely on holds for the fake one as for the file system.

A new implementation is one more entry in WORLDS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from agent.errors import ConcurrentChangeError, HostError
from agent.files import FileSystem
from agent.host import Host
from agent.model import Absent, Cri, FileState, Regular, UnitState, UnitTies, Unusable
from agent.node import Places, RealHost
from agent.plan import RemoveFile, WriteFile
from tests.disk import OWNER, quick_directory
from tests.fakes import FakeHost

FILE = "/etc/docker/daemon.json"
DEEP = "/etc/docker/certs.d/docker.io/hosts.toml"


class Files(Protocol):
    """The file half of agent.host.Host."""

    def read(self, path: str) -> FileState: ...
    def list_directory(self, path: str) -> tuple[str, ...] | None: ...
    def exists(self, path: str) -> bool: ...
    def write_files(self, actions: Sequence[WriteFile]) -> tuple[HostError | None, ...]: ...
    def remove_file(self, action: RemoveFile) -> None: ...
    def make_directory(self, path: str, mode: int) -> None: ...
    def remove_directory(self, path: str) -> None: ...


class World:
    """A host with an empty /etc/docker, and somebody else who puts things there."""

    def __init__(self, host: Files, put: Callable[[str, bytes], None], owner: tuple[int, int]) -> None:
        self.host = host
        self.put = put
        self.owner = owner
        self.directory: Path | None = None

    def write(self, path: str, content: bytes, replaces: FileState | None = None) -> HostError | None:
        believed = self.host.read(path) if replaces is None else replaces
        return self.host.write_files([WriteFile(path, content, "test", believed)])[0]

    def regular(self, content: bytes, mode: int = 0o644) -> Regular:
        return Regular(content, mode, *self.owner)

    def link(self, path: str, target: str) -> None:
        """Somebody else makes a link, where the world has links."""
        if self.directory is None:
            pytest.skip("no links in memory")
        (self.directory / path[1:]).symlink_to(target)

    def unlink(self, path: str) -> None:
        assert self.directory is not None
        (self.directory / path[1:]).unlink()


def fake(_: Path) -> World:
    host = FakeHost()
    host.mkdirs("/etc/docker")
    return World(host, host.put, (0, 0))


def on_disk(directory: Path) -> World:
    (directory / "etc/docker").mkdir(parents=True)

    def put(path: str, content: bytes) -> None:
        place = directory / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        place.chmod(0o644)

    world = World(FileSystem(str(directory), ["/etc/docker"]), put, OWNER)
    world.directory = directory
    return world


def real(directory: Path) -> World:
    world = on_disk(directory)
    world.host = RealHost(Places(str(directory), writable=("/etc/docker",)))
    return world


WORLDS = {"fake": fake, "files": on_disk, "real host": real}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with quick_directory() as directory:
        yield WORLDS[request.param](directory)


def test_nothing_is_absent(world: World) -> None:
    """Where nothing stands, read is Absent, list is None, exists is false; nothing raises."""
    for path in (FILE, DEEP):
        assert (world.host.read(path), world.host.exists(path)) == (Absent(), False)
        assert world.host.list_directory(path) is None


def test_a_file_is_read_as_it_is(world: World) -> None:
    """What somebody puts there is Regular, with mode and owner, and stands in its directory's list."""
    world.put(DEEP, b"# x")
    world.put(FILE, b"{}")
    assert world.host.read(DEEP) == world.regular(b"# x")
    assert world.host.list_directory("/etc/docker") == ("certs.d", "daemon.json")
    assert [world.host.exists(path) for path in (DEEP, FILE, "/etc/docker")] == [True] * 3
    assert world.host.list_directory(FILE) is None


def test_a_directory_is_no_file(world: World) -> None:
    """A directory is Unusable, and neither written over nor removed as a file."""
    world.put(DEEP, b"")
    assert world.host.read("/etc/docker/certs.d") == Unusable("is a directory")
    assert world.write("/etc/docker/certs.d", b"") is not None
    with pytest.raises(HostError):
        world.host.remove_file(RemoveFile("/etc/docker/certs.d", "", world.regular(b"")))
    assert world.host.read(DEEP) == world.regular(b"")


def test_what_is_written_is_read(world: World) -> None:
    """A new file and a replaced one hold what was asked for, with the mode of the action."""
    assert world.write(FILE, b"{}") is None
    assert world.host.read(FILE) == world.regular(b"{}")
    action = WriteFile(FILE, b"[]", "test", world.regular(b"{}"), mode=0o600)
    assert world.host.write_files([action]) == (None,)
    assert world.host.read(FILE) == world.regular(b"[]", 0o600)
    assert world.host.list_directory("/etc/docker") == ("daemon.json",)


def test_results_come_in_order(world: World) -> None:
    """One result per action, in their order; a failure does not stop the others."""
    orders = [
        WriteFile(FILE, b"{}", "", Absent()),
        WriteFile(DEEP, b"", "", Absent()),
        WriteFile("/etc/docker/key.json", b"{}", "", Absent()),
    ]
    results = world.host.write_files(orders)
    assert [result and result.reason for result in results] == [None, "no such directory (ENOENT)", None]
    assert world.host.list_directory("/etc/docker") == ("daemon.json", "key.json")
    assert world.host.write_files([]) == ()


@pytest.mark.parametrize("theirs", [None, b"[1]"])
def test_somebody_else_s_change_is_never_overwritten(world: World, theirs: bytes | None) -> None:
    """A plan made from another state than what stands there is refused, for writing and removing."""
    believed = world.regular(b"{}")
    if theirs is not None:
        world.put(FILE, theirs)
    before = world.host.read(FILE)
    assert isinstance(world.write(FILE, b"[]", believed), ConcurrentChangeError)
    if theirs is not None:
        assert isinstance(world.write(FILE, b"[]", Absent()), ConcurrentChangeError)
        with pytest.raises(ConcurrentChangeError):
            world.host.remove_file(RemoveFile(FILE, "", believed))
    assert world.host.read(FILE) == before


def test_a_file_is_removed_once(world: World) -> None:
    """Removing what is there ends with nothing there; removing it again is nothing."""
    world.put(FILE, b"{}")
    for _ in range(2):
        world.host.remove_file(RemoveFile(FILE, "", world.regular(b"{}")))
        assert world.host.read(FILE) == Absent()
    world.host.remove_file(RemoveFile(DEEP, "", world.regular(b"")))


def test_directories_are_made_and_removed(world: World) -> None:
    """One at a time; there already, gone already, or not empty is nothing; no parent is an error."""
    host = world.host
    with pytest.raises(HostError, match=r"no such directory \(ENOENT\)"):
        host.make_directory("/etc/docker/certs.d/docker.io", 0o755)
    for path in ("/etc/docker/certs.d", "/etc/docker/certs.d", "/etc/docker/certs.d/docker.io"):
        host.make_directory(path, 0o755)
    assert world.write(DEEP, b"# x") is None
    for path in ("/etc/docker/certs.d/docker.io", "/etc/docker/certs.d", "/etc/docker/none", DEEP):
        host.remove_directory(path)
    assert host.read(DEEP) == world.regular(b"# x")
    host.remove_file(RemoveFile(DEEP, "", host.read(DEEP)))
    for path in ("/etc/docker/certs.d/docker.io", "/etc/docker/certs.d"):
        host.remove_directory(path)
    assert host.list_directory("/etc/docker") == ()


def test_a_file_is_no_directory(world: World) -> None:
    """A directory is not made where a file stands, and the file stays."""
    world.put(FILE, b"{}")
    with pytest.raises(HostError):
        world.host.make_directory(FILE, 0o755)
    world.host.remove_directory(FILE)
    assert world.host.read(FILE) == world.regular(b"{}")


def test_looking_again_shows_what_is_there_now(world: World) -> None:
    """Whatever changed between two looks, by whoever, is seen by the second."""
    seen = []
    for change in (lambda: world.put(FILE, b"{}"), lambda: world.put(FILE, b"[]"), lambda: world.write(FILE, b"[1]")):
        change()
        seen.append(world.host.read(FILE))
    world.host.remove_file(RemoveFile(FILE, "", world.host.read(FILE)))
    seen.append(world.host.read(FILE))
    assert seen == [world.regular(b"{}"), world.regular(b"[]"), world.regular(b"[1]"), Absent()]


def test_a_dangling_link_is_seen_to_come_and_go(world: World) -> None:
    """Nothing, a dangling link, nothing, a link to a file: each is seen as it is, and only the last one exists."""
    world.put(DEEP, b"{}")
    seen = []
    for target in ("nowhere", "certs.d/docker.io/hosts.toml"):
        seen.append((world.host.read(FILE), world.host.exists(FILE)))
        world.link(FILE, target)
        seen.append((world.host.read(FILE), world.host.exists(FILE)))
        world.unlink(FILE)
    absent = (Absent(), False)
    assert seen == [absent, (Unusable("dangling link to nowhere"), False), absent, (world.regular(b"{}"), True)]


@pytest.mark.parametrize("host", [FakeHost(), RealHost(Places("/nonexistent"))], ids=["fake", "real"])
def test_units_that_are_not_ours_tell_nothing(host: Host) -> None:
    """Below a root other than /, and for a unit that nobody knows: it is off, has no ties, and nobody answers."""
    assert (host.unit("x.service"), host.ties("x.service")) == (UnitState(), UnitTies())
    assert (host.cri("/run/x.sock"), host.query("/run/x.sock", "/"), host.command(["/bin/x"])) == (
        Cri.SILENT,
        None,
        None,
    )
