"""What FileSystem writes, makes and removes, what it keeps, and what it refuses.

Everything runs twice: with the real root, and with a root of its own.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import ConcurrentChangeError, HostError
from agent.files import FileSystem
from agent.files._reasons import reason_of
from agent.files._temps import is_temp_name, temp_name
from agent.model import Absent, FileState, Regular, Unusable
from agent.plan import WriteFile
from tests import crash
from tests.disk import OWNER, Machine
from tests.sandbox import needs_root


@pytest.fixture(params=["real root", "root of its own"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, "/" if request.param == "real root" else str(tmp_path))


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o377])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_new_file_has_exactly_its_mode(machine: Machine, umask: int, mode: int) -> None:
    """Whatever the umask, files and directories appear with the mode that was asked for."""
    before = os.umask(umask)
    try:
        assert machine.write("/etc/docker/daemon.json", b"{}", mode=mode) == ""
        machine.files.replace_file(machine.inside("/etc/docker/status.json"), b"{}", mode, durable=False)
        machine.files.make_directory(machine.inside("/etc/docker/certs.d"), mode | 0o100)
    finally:
        os.umask(before)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in machine.outside("/etc/docker").iterdir()}
    assert modes == {"daemon.json": mode, "status.json": mode, "certs.d": mode | 0o100}


def test_a_replaced_file_gets_the_mode_of_the_plan(machine: Machine) -> None:
    """Mode drift is repaired by writing, and a file that becomes secret becomes private."""
    machine.put("/etc/docker/daemon.json", b"{}", 0o666)
    assert machine.write("/etc/docker/daemon.json", b"[]", mode=0o600) == ""
    assert machine.read("/etc/docker/daemon.json") == Regular(b"[]", 0o600, *OWNER)


@needs_root
def test_owner_and_group_are_kept_or_set(machine: Machine) -> None:
    """A replaced file keeps its owner; one that the plan names wins; a new file belongs to us."""
    os.chown(machine.put("/etc/docker/kept.json", b"{}"), 1234, 4321)
    os.chown(machine.put("/etc/docker/given.json", b"{}"), 1234, 4321)
    given = machine.read("/etc/docker/given.json")
    orders = [
        WriteFile(machine.inside("/etc/docker/kept.json"), b"[]", "", machine.read("/etc/docker/kept.json")),
        WriteFile(machine.inside("/etc/docker/given.json"), b"[]", "", given, owner=(7, 8)),
        WriteFile(machine.inside("/etc/docker/new.json"), b"[]", "", Absent()),
    ]
    assert machine.files.write_files(orders) == (None, None, None)
    owners = {
        entry.name: (entry.stat().st_uid, entry.stat().st_gid) for entry in machine.outside("/etc/docker").iterdir()
    }
    assert owners == {"kept.json": (1234, 4321), "given.json": (7, 8), "new.json": OWNER}


@pytest.mark.parametrize(
    ("name", "content", "flaw"),
    [
        ("hosts.toml", b'server = "x', "it cannot be parsed"),
        ("hosts.toml", b"a = 1\na = 2", "it cannot be parsed"),
        ("hosts.toml", b"a = '\xff'", "byte 5 is not UTF-8"),
        ("daemon.json", b'{"a": 1,}', "line 1, column "),
        ("daemon.json", b'{"a": 1, "a": 2}', "an object has a key twice"),
        ("daemon.json", b'{"a": NaN}', "a number is NaN or infinite"),
        ("daemon.json", b"", "line 1, column 1"),
        ("daemon.json", b"\xef\xbb\xbf{}", "line 1, column 1: Unexpected UTF-8 BOM"),
        ("daemon.json", b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_does_not_parse_replaces_nothing(machine: Machine, name: str, content: bytes, flaw: str) -> None:
    """Content that is not what its name promises is refused, with the place and without a word of the content."""
    machine.put(f"/etc/docker/{name}", b"")
    told = machine.write(f"/etc/docker/{name}", content)
    assert told.startswith(f"/etc/docker/{name}: refused to write it: {flaw}")
    assert machine.tree() == {f"/etc/docker/{name}": ""}


def test_an_original_is_given_back_though_it_does_not_parse(machine: Machine) -> None:
    """`verbatim` writes what once stood there, valid or not."""
    path = machine.inside("/etc/docker/hosts.toml")
    assert machine.files.write_files([WriteFile(path, b'server = "x', "", Absent(), verbatim=True)]) == (None,)
    assert machine.tree() == {"/etc/docker/hosts.toml": 'server = "x'}


@pytest.mark.parametrize("size", [0, 1, 65_536, 4 << 20])
def test_any_size_up_to_the_limit(machine: Machine, size: int) -> None:
    """What is written is read back byte for byte, up to 4 MiB; more is refused."""
    assert machine.write("/etc/docker/blob", b"x" * size) == ""
    assert machine.read("/etc/docker/blob") == Regular(b"x" * size, 0o644, *OWNER)
    assert "larger than 4 MiB" in machine.write("/etc/docker/blob", b"x" * ((4 << 20) + 1))


def _identity(path: Path) -> tuple[int, ...]:
    """What a write or an exchange of the file would change; not the access time, which our own reading moves."""
    info = path.stat()
    return (info.st_ino, info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, info.st_ctime_ns)


@pytest.mark.parametrize(
    "believed", [Absent(), Regular(b"old", 0o644, *OWNER), Regular(b"{}", 0o600, *OWNER), Regular(b"{}", 0o644, 9, 9)]
)
def test_a_stale_plan_is_refused(machine: Machine, believed: FileState) -> None:
    """A file that is not what the plan was made from, in content, mode or owner, is neither replaced nor removed."""
    path = machine.put("/etc/docker/daemon.json", b"{}")
    before = _identity(path)
    changed = "/etc/docker/daemon.json: changed by somebody else"
    assert machine.write("/etc/docker/daemon.json", b"[]", believed) == changed
    with pytest.raises(ConcurrentChangeError):
        machine.remove("/etc/docker/daemon.json", believed)
    assert (path.read_bytes(), _identity(path)) == (b"{}", before)
    assert os.listdir(path.parent) == ["daemon.json"]


def test_a_plan_for_a_file_that_is_gone_is_refused(machine: Machine) -> None:
    """What was deleted meanwhile is not written anew by the old plan; removing it is done already."""
    old = Regular(b"{}", 0o644, *OWNER)
    assert machine.write("/etc/docker/daemon.json", b"[]", old) == "/etc/docker/daemon.json: changed by somebody else"
    machine.remove("/etc/docker/daemon.json", old)
    assert machine.tree() == {}


def test_one_failure_does_not_stop_the_others(machine: Machine) -> None:
    """Results come in the order of the actions, each with its own failure."""
    machine.outside("/etc/docker/dir").mkdir()
    names = ["a.json", "b.json", "missing/c.json", "d.json", "dir", "a.json"]
    contents = [b"{}", b"{", b"{}", b"{}", b"", b"[]"]
    orders = [
        WriteFile(machine.inside(f"/etc/docker/{name}"), content, "", Absent())
        for name, content in zip(names, contents, strict=True)
    ]
    results = [result and result.reason.partition(":")[0] for result in machine.files.write_files(orders)]
    twice = f"{machine.inside('/etc/docker/a.json')} is written twice at once"
    assert results == [
        None, "refused to write it", "no such directory (ENOENT)", None, "changed by somebody else", twice,
    ]  # fmt: skip
    assert machine.tree() == {"/etc/docker/a.json": "{}", "/etc/docker/d.json": "{}"}


def test_more_files_than_one_batch(machine: Machine) -> None:
    """Hundreds of files in as many directories, all in one call."""
    names = [f"/etc/docker/{number}/hosts.toml" for number in range(150)]
    for name in names:
        machine.outside(name).parent.mkdir()
    orders = [WriteFile(machine.inside(name), b"# %d\n" % n, "", Absent()) for n, name in enumerate(names)]
    assert machine.files.write_files(orders) == (None,) * 150
    assert machine.tree() == {name: f"# {number}\n" for number, name in enumerate(names)}


def test_only_several_directories_start_threads(machine: Machine) -> None:
    """What lies in one directory is written by the thread that asks for it; up to eight more flush several."""

    def threads_for(paths: list[str]) -> int:
        seen: set[int] = set()
        threading.setprofile(lambda *_: seen.add(threading.get_ident()))
        orders = [WriteFile(machine.inside(f"/etc/docker/{path}"), b"", "", Absent()) for path in paths]
        assert machine.files.write_files(orders) == (None,) * len(paths)
        return len(seen)

    for number in range(20):
        machine.outside(f"/etc/docker/{number}").mkdir()
    assert crash.in_child(lambda: threads_for([])) == 0
    assert crash.in_child(lambda: threads_for(["a"])) == 0
    assert crash.in_child(lambda: threads_for(["0/a", "0/b", "0/c"])) == 0
    assert crash.in_child(lambda: threads_for([f"{number}/x" for number in range(20)])) in range(1, 9)


def test_a_broken_hard_link_is_noted(machine: Machine) -> None:
    """A file with a second name is replaced only under the one that was meant, and we say so."""
    path = machine.put("/etc/docker/daemon.json", b"{}")
    path.with_name("twin.json").hardlink_to(path)
    assert machine.write("/etc/docker/daemon.json", b"[]") == ""
    assert machine.tree() == {"/etc/docker/daemon.json": "[]", "/etc/docker/twin.json": "{}"}
    sentence = "was a hard link: 1 other name has the old content still"
    assert machine.notes == [(machine.inside("/etc/docker/daemon.json"), sentence)]


def test_our_own_files_replace_whatever_stands_there(machine: Machine) -> None:
    """status.json replaces a link itself: what it leads to is not touched. A directory is refused."""
    machine.put("/srv/victim", b"victim")
    machine.link("/etc/docker/status.json", "/srv/victim")
    machine.files.replace_file(machine.inside("/etc/docker/status.json"), b"{}", 0o644, durable=False)
    assert machine.tree() == {"/etc/docker/status.json": "{}", "/srv/victim": "victim"}
    machine.outside("/etc/docker/dir").mkdir()
    with pytest.raises(HostError, match="EISDIR"):
        machine.files.replace_file(machine.inside("/etc/docker/dir"), b"{}", 0o644)
    assert sorted(os.listdir(machine.outside("/etc/docker"))) == ["dir", "status.json"]


# --- removing, directories, temps -----------------------------------------------------------------------------------


def test_of_a_link_only_the_link_is_removed(machine: Machine) -> None:
    """An operator's link to our file goes, and what it leads to stays, inside or outside."""
    machine.put("/etc/docker/real.toml", b"# ours")
    machine.link("/etc/docker/hosts.toml", "real.toml")
    machine.remove("/etc/docker/hosts.toml")
    assert machine.tree() == {"/etc/docker/real.toml": "# ours"}


def test_directories_are_made_and_removed_once(machine: Machine) -> None:
    """There already, not there any more, not empty, or a link: nothing happens, and nothing is said."""
    path = machine.inside("/etc/docker/certs.d")
    machine.files.make_directory(path, 0o700)
    machine.files.make_directory(path, 0o755)
    assert stat.S_IMODE(machine.outside("/etc/docker/certs.d").stat().st_mode) == 0o700
    foreign = machine.put("/etc/docker/certs.d/ca.crt", b"x")
    machine.put("/etc/docker/certs.d/.hosts.toml.mirror-agent", b"left over")
    machine.files.remove_directory(path)
    assert machine.tree() == {"/etc/docker/certs.d/ca.crt": "x"}
    foreign.unlink()
    machine.put("/etc/docker/certs.d/.hosts.toml.mirror-agent", b"left over")
    machine.files.remove_directory(path)
    machine.files.remove_directory(path)
    assert os.listdir(machine.outside("/etc/docker")) == []
    machine.link("/etc/docker/certs.d", "/etc/docker")
    machine.files.remove_directory(path)
    assert machine.tree() == {"/etc/docker/certs.d": "-> /etc/docker"}


def test_an_allowed_directory_itself_and_the_way_to_it_can_be_made(machine: Machine) -> None:
    """/etc/docker and what leads there may be made and removed, their neighbours not."""
    files = FileSystem(str(machine.directory), ["/opt/a/b"])
    for path in ("/opt", "/opt/a", "/opt/a/b", "/opt/a/b/c"):
        files.make_directory(path, 0o755)
    with pytest.raises(HostError, match="outside"):
        files.make_directory("/opt/a/x", 0o755)
    for path in ("/opt/a/b/c", "/opt/a/b", "/opt/a", "/opt"):
        files.remove_directory(path)
    assert not machine.outside("/opt").exists()


def test_a_directory_that_cannot_be_made(machine: Machine) -> None:
    """No parent, or a file of that name: an error that says so."""
    with pytest.raises(HostError, match=r"no such directory \(ENOENT\); .*/etc/docker/a is missing"):
        machine.files.make_directory(machine.inside("/etc/docker/a/b"), 0o755)
    machine.put("/etc/docker/a", b"")
    with pytest.raises(HostError, match="is a file, not a directory"):
        machine.files.make_directory(machine.inside("/etc/docker/a"), 0o755)


def test_left_over_temps_are_swept(machine: Machine) -> None:
    """Only what carries our temp names goes, files and directories; a second sweep finds nothing."""
    for name in (".a.mirror-agent", ".b.toml.mirror-agent", "a.mirror-agent", ".mirror-agent.yaml", "hosts.toml"):
        machine.put(f"/etc/docker/{name}", b"")
    machine.outside("/etc/docker/.c.mirror-agent").mkdir()
    path = machine.inside("/etc/docker")
    assert (machine.files.sweep(path), machine.files.sweep(path)) == (3, 0)
    assert machine.tree() == {f"/etc/docker/{n}": "" for n in (".mirror-agent.yaml", "a.mirror-agent", "hosts.toml")}
    assert machine.files.sweep(machine.inside("/etc/docker/none")) == 0


def test_what_a_crash_left_does_not_hinder(machine: Machine) -> None:
    """A left-over temp of the same target, even a directory or a link in its place, is swept by the next write."""
    for make in (Path.mkdir, Path.touch, lambda place: place.symlink_to(machine.outside("/srv/victim"))):
        make(machine.outside("/etc/docker/.daemon.json.mirror-agent"))
        assert machine.write("/etc/docker/daemon.json", b"{}") == ""
        assert machine.tree() == {"/etc/docker/daemon.json": "{}"}


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=255))
@example("x" * 255)
@example("ä" * 127)
def test_a_temp_name_is_hidden_short_and_no_certificate(name: str) -> None:
    """For every target there is one name that fits, is hidden, and is read by neither containerd nor Docker."""
    temp = temp_name(name)
    assert is_temp_name(temp)
    assert temp != name
    assert len(os.fsencode(temp)) <= 255
    assert not temp.endswith((".crt", ".cert", ".key", ".toml", ".json", ".yaml"))


def test_long_names(machine: Machine) -> None:
    """The longest name that a file system takes can be written; a longer one is an error in words."""
    assert machine.write("/etc/docker/" + "x" * 255, b"fits") == ""
    assert machine.read("/etc/docker/" + "x" * 256) == Unusable("file name too long (ENAMETOOLONG)")
    assert "file name too long (ENAMETOOLONG)" in machine.write("/etc/docker/" + "x" * 256, b"", Absent())


def test_every_error_has_words() -> None:
    """Every errno of this platform becomes a sentence with its name."""
    for code, name in errno.errorcode.items():
        assert reason_of(OSError(code, "")).endswith(f" ({name})")
    assert reason_of(OSError(errno.ENOSPC, "")) == "no space left on device (ENOSPC)"
