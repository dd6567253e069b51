"""Looking and touching through FileSystem: what may be read, what may be written where, and what is kept.

Everything runs twice: with the real root, and with a root of its own in which absolute links mean the inside.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import HostError
from agent.model import Absent, FileState, Regular, Unusable
from agent.plan import RemoveFile, WriteFile
from tests.crash import in_child
from tests.disk import OWNER, Machine


@pytest.fixture(params=["real root", "root of its own"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, "/" if request.param == "real root" else str(tmp_path))


# --- looking ---------------------------------------------------------------------------------------------------------


def test_a_regular_file_is_read_with_mode_and_owner(machine: Machine) -> None:
    """`read` gives content, permission bits (special ones too) and owner."""
    machine.put("/etc/docker/daemon.json", b"{}", 0o640)
    assert machine.read("/etc/docker/daemon.json") == Regular(b"{}", 0o640, *OWNER)


@pytest.mark.parametrize("path", ["/etc/docker/daemon.json", "/etc/docker/certs.d/x/hosts.toml"])
def test_a_missing_file_or_directory_is_absent(machine: Machine, path: str) -> None:
    """No file, or no directory on the way to it, is Absent and has no signature."""
    assert (machine.read(path), machine.files.signature(machine.inside(path))) == (Absent(), None)
    assert not machine.files.exists(machine.inside(path))


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def make_null(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("device nodes need root")


def make_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate((4 << 20) + 1)


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


def make_dangling(path: Path) -> None:
    path.symlink_to("nowhere/daemon.json")


UNUSABLE: dict[Callable[[Path], object], str] = {
    Path.mkdir: "is a directory",
    make_fifo: "is a FIFO",
    make_socket: "is a socket",
    make_null: "is a character device",
    make_large: "is larger than 4 MiB",
    make_loop: "link loop (ELOOP)",
    make_dangling: "dangling link to nowhere/daemon.json",
}


@pytest.mark.parametrize(("make", "reason"), UNUSABLE.items(), ids=lambda value: getattr(value, "__name__", None))
def test_what_is_no_file_is_unusable_and_stays(machine: Machine, make: Callable[[Path], object], reason: str) -> None:
    """It is reported in words without blocking, and neither written over nor removed, whatever the plan believed."""
    path = machine.outside("/etc/docker/daemon.json")
    make(path)
    before = path.lstat()
    assert machine.read("/etc/docker/daemon.json") == Unusable(reason)
    assert machine.write("/etc/docker/daemon.json", b"{}") == f"/etc/docker/daemon.json: {reason}"
    assert machine.write("/etc/docker/daemon.json", b"{}", Absent()) != ""
    assert machine.write("/etc/docker/daemon.json", b"{}", Regular(b"")) != ""
    with pytest.raises(HostError, match=reason.partition(" (")[0]):
        machine.remove("/etc/docker/daemon.json")
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert os.listdir(path.parent) == ["daemon.json"]


def test_a_file_where_a_directory_should_be(machine: Machine) -> None:
    """Below a file there is no file, and saying so names the culprit."""
    machine.put("/etc/docker/certs.d", b"")
    state = machine.read("/etc/docker/certs.d/docker.io/hosts.toml")
    assert state == Unusable(f"{machine.inside('/etc/docker/certs.d')} is not a directory (ENOTDIR)")
    assert machine.files.list_directory(machine.inside("/etc/docker/certs.d")) is None


def test_what_may_not_be_read_is_unusable(machine: Machine) -> None:
    """A file without read permission for us is Unusable, never Absent."""
    machine.put("/etc/docker/daemon.json", b"{}", 0o000)

    def as_nobody() -> FileState:
        for directory in (machine.directory, *machine.directory.parents):
            if directory.stat().st_uid == os.getuid() and directory.stat().st_mode & 0o777 == 0o700:
                directory.chmod(0o711)
        if os.geteuid() == 0:
            os.seteuid(65534)
        return machine.read("/etc/docker/daemon.json")

    assert in_child(as_nobody) == Unusable("permission denied (EACCES)")


@pytest.mark.parametrize("path", ["daemon.json", "", "/etc/docker/daemon\0.json"])
def test_what_is_no_absolute_path(machine: Machine, path: str) -> None:
    """A path that is not absolute, or holds a NUL, is an error in words, not a traceback."""
    reason = f"{path!r} is not an absolute path"
    assert machine.files.read(path) == Unusable(reason)
    assert (machine.files.signature(path), machine.files.exists(path)) == (None, False)
    assert [str(e) for e in machine.files.write_files([WriteFile(path, b"", "", Absent())])] == [f"{path}: {reason}"]
    with pytest.raises(HostError, match="not an absolute path"):
        machine.files.list_directory(path)


def test_a_directory_is_listed_sorted_and_without_our_temps(machine: Machine) -> None:
    """Names are sorted, links to directories are followed, and what a crash left of ours is not shown."""
    for name in ("b", "a", ".hidden", ".b.mirror-agent"):
        machine.put(f"/etc/docker/{name}", b"")
    machine.link("/srv/link", "/etc/docker")
    for path in ("/etc/docker", "/etc/docker/", "/srv/link"):
        assert machine.files.list_directory(machine.inside(path)) == (".hidden", "a", "b")
    assert machine.files.list_directory(machine.inside("/srv/none")) is None


def test_a_signature_follows_every_change(machine: Machine) -> None:
    """Content, mode, replacement and a new directory entry change the signature; looking does not."""
    path = machine.put("/etc/docker/daemon.json", b"{}")
    changes: list[Callable[[], object]] = [
        lambda: path.write_bytes(b"[]!"),
        lambda: path.chmod(0o600),
        lambda: path.with_name("new").write_bytes(b"[]!"),
        lambda: path.with_name("new").rename(path),
        path.unlink,
    ]
    seen = []
    for change in [lambda: None, *changes]:
        change()
        paths = [machine.inside("/etc/docker/daemon.json"), machine.inside("/etc/docker")]
        signatures = [machine.files.signature(p) for p in paths]
        machine.read("/etc/docker/daemon.json")
        assert [machine.files.signature(p) for p in paths] == signatures
        seen.append(tuple(signatures))
    assert len(set(seen)) == len(seen)
    assert seen[-1][0] is None


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/etc/docker/real/d.json", "real/../real/d.json", "../docker/./real//d.json"])
def test_through_a_link_the_real_file_is_replaced(machine: Machine, target: str) -> None:
    """A link inside the allowed directories is followed and stays; the new file lies where the old one lay."""
    machine.outside("/etc/docker/real").mkdir()
    machine.put("/etc/docker/real/d.json", b"{}")
    machine.link("/etc/docker/daemon.json", target)
    assert machine.read("/etc/docker/daemon.json") == Regular(b"{}", 0o644, *OWNER)
    assert machine.write("/etc/docker/daemon.json", b"[]") == ""
    assert machine.tree() == {
        "/etc/docker/daemon.json": f"-> {target}",
        "/etc/docker/real/d.json": "[]",
    }


def test_an_allowed_directory_may_be_a_link(machine: Machine) -> None:
    """/etc/docker moved to another disk: what it leads to is allowed, and only that."""
    machine.outside("/etc/docker").rmdir()
    machine.outside("/srv/docker").mkdir()
    machine.put("/srv/secret.json", b"{}")
    machine.link("/etc/docker", "/srv/docker")
    machine.link("/srv/docker/escape.json", "../secret.json")
    assert machine.write("/etc/docker/daemon.json", b"[]") == ""
    assert "leads outside" in machine.write("/etc/docker/escape.json", b"[]")
    assert machine.tree() == {
        "/etc/docker": "-> /srv/docker",
        "/srv/docker/daemon.json": "[]",
        "/srv/docker/escape.json": "-> ../secret.json",
        "/srv/secret.json": "{}",
    }


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("/etc/docker/daemon.json", "/srv/d.json", "/etc/docker/daemon.json"),
        ("/etc/docker/daemon.json", "../../srv/d.json", "/etc/docker/daemon.json"),
        ("/etc/docker/certs.d", "/srv", "/etc/docker/certs.d/d.json"),
        ("/etc/docker/certs.d", "..", "/etc/docker/certs.d/../srv/d.json"),
    ],
)
def test_a_link_that_leads_outside_is_refused(machine: Machine, link: str, target: str, path: str) -> None:
    """Neither a link nor a directory that is one leads a write out of what is allowed; reading says so beforehand."""
    machine.put("/srv/d.json", b"{}")
    machine.link(link, target)
    before = machine.tree()
    real = machine.inside("/srv/d.json")
    reason = f"leads outside the directories that may be written: {real}"
    assert machine.read(path) == Unusable(reason)
    for believed in (Regular(b"{}", 0o644, *OWNER), Absent(), Unusable(reason)):
        assert "outside the directories that may be written" in machine.write(path, b"[]", believed)
    assert machine.tree() == before


@pytest.mark.parametrize("path", ["/srv/d.json", "/etc/docker/../../srv/d.json", "/etc/dockerx", "/etc/docker", "/"])
def test_nothing_is_written_elsewhere(machine: Machine, path: str) -> None:
    """A path that is not below an allowed directory is refused, for every kind of change."""
    machine.put("/srv/d.json", b"{}")
    before = machine.tree()
    assert "outside the directories that may be written" in machine.write(path, b"[]", Absent())
    for change in (
        lambda: machine.files.replace_file(machine.inside(path), b"", 0o644),
        lambda: machine.files.remove_file(RemoveFile(machine.inside("/srv/d.json"), "", machine.read("/srv/d.json"))),
        lambda: machine.files.make_directory(machine.inside("/srv/new"), 0o755),
        lambda: machine.files.remove_directory(machine.inside("/srv")),
        lambda: machine.files.sweep(machine.inside("/srv")),
    ):
        with pytest.raises(HostError, match="outside the directories that may be written"):
            change()
    assert machine.tree() == before


def test_a_link_outside_may_be_read(machine: Machine) -> None:
    """The desired state may be a link anywhere (a ConfigMap): only what is named below an allowed directory matters."""
    machine.put("/srv/real.yaml", b"version: 1")
    machine.link("/etc/mirror-agent.yaml", "../srv/real.yaml")
    assert machine.read("/etc/mirror-agent.yaml") == Regular(b"version: 1", 0o644, *OWNER)


def test_in_a_root_of_its_own_links_never_leave_it(tmp_path: Path) -> None:
    """An absolute link starts at the root again, and `..` stops there: a file outside is not even read."""
    machine = Machine(tmp_path / "root", str(tmp_path / "root"))
    (tmp_path / "secret").write_text("outside")
    machine.put("/srv/secret", b"inside")
    (machine.outside("/srv/climbing")).symlink_to("../../../../../srv/secret")
    (machine.outside("/srv/absolute")).symlink_to("/srv/secret")
    (machine.outside("/srv/foreign")).symlink_to(tmp_path / "secret")
    inside = Regular(b"inside", 0o644, *OWNER)
    assert [machine.read(f"/srv/{name}") for name in ("climbing", "absolute", "foreign")] == [
        inside, inside, Unusable(f"dangling link to {tmp_path / 'secret'}"),
    ]  # fmt: skip
    assert machine.read("/../../secret") == Absent()
    assert machine.files.signature("/srv/foreign") is None


def test_a_dangling_parent_is_not_absent(machine: Machine) -> None:
    """A data disk that is not mounted: nothing is made in its stead, for files or directories."""
    machine.outside("/etc/docker").rmdir()
    machine.link("/etc/docker", "/srv/disk/docker")
    reason = f"dangling link to {machine.inside('/srv/disk/docker')}"
    assert machine.read("/etc/docker/daemon.json") == Unusable(reason)
    assert machine.write("/etc/docker/daemon.json", b"{}", Absent()) != ""
    with pytest.raises(HostError, match="dangling link"):
        machine.files.make_directory(machine.inside("/etc/docker"), 0o755)
    assert machine.tree() == {"/etc/docker": "-> /srv/disk/docker"}


def test_a_long_chain_of_links_is_a_loop(machine: Machine) -> None:
    """As in Linux, 40 links are followed and 41 are too many."""
    machine.put("/etc/docker/0", b"{}")
    for number in range(41):
        machine.link(f"/etc/docker/{number + 1}", str(number))
    assert machine.read("/etc/docker/40") == Regular(b"{}", 0o644, *OWNER)
    assert machine.read("/etc/docker/41") == Unusable("link loop (ELOOP)")
