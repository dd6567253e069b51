"""Bad luck on disk, one fault at a time: the old file stays whole, the reason is in words, the next try heals it."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from agent.errors import HostError, StaleNamespaceError
from agent.files import FileSystem
from agent.model import Absent, Regular
from agent.plan import RemoveFile, WriteFile
from tests import crash, sandbox
from tests.disk import OWNER, Machine
from tests.sandbox import APPEND_ONLY, IMMUTABLE, needs_root

PATH = "/etc/docker/daemon.json"
OLD = b'{"old": true}'
BIG = b'{"new": "' + b"x" * 100_000 + b'"}'


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, str(tmp_path))


def names(machine: Machine) -> list[str]:
    return sorted(os.listdir(machine.outside("/etc/docker")))


# --- no space, no room, no rights ------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("options", ["size=64k", "nr_inodes=3"])
def test_a_full_disk(machine: Machine, options: str) -> None:
    """Without blocks or inodes the old file stays and no temp; as soon as there is space, the same plan succeeds."""

    def on_a_full_disk() -> None:
        sandbox.mount_memory(machine.outside("/etc/docker"), options)
        machine.put(PATH, OLD)
        ballast = machine.put("/etc/docker/ballast", b"x")
        told = machine.write(PATH, BIG if "size" in options else b"{}")
        assert told.startswith(f"{PATH}: no space left on device (ENOSPC); free space or inodes")
        assert machine.tree() == {PATH: OLD.decode(), "/etc/docker/ballast": "x"}
        ballast.unlink()
        sandbox.remount(machine.outside("/etc/docker"), read_only=False, options="size=1m,nr_inodes=100")
        assert machine.write(PATH, BIG) == ""
        assert machine.tree() == {PATH: BIG.decode()}

    sandbox.with_own_mounts(on_a_full_disk)


def test_a_file_size_limit(machine: Machine) -> None:
    """A write that stops half-way (RLIMIT_FSIZE) is continued, and then fails as a whole: EFBIG, nothing changed."""
    machine.put(PATH, OLD)

    def limited() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        assert machine.write("/etc/docker/small.json", b'"' + b"x" * 4094 + b'"') == ""
        return machine.write(PATH, BIG)

    assert crash.in_child(limited).startswith(f"{PATH}: file too large (EFBIG); a file size limit")
    assert machine.read(PATH) == Regular(OLD, 0o644, *OWNER)
    assert names(machine) == ["daemon.json", "small.json"]


@pytest.mark.parametrize("spare", [3, 6, 12])
def test_hardly_any_descriptors(machine: Machine, spare: int) -> None:
    """With fewer descriptors than a batch wants, every file is still written, one after the other if need be."""
    orders = []
    for number in range(40):
        machine.outside(f"/etc/docker/{number}").mkdir()
        orders.append(WriteFile(f"/etc/docker/{number}/hosts.toml", b"# x\n", "", Absent()))

    def limited() -> tuple[HostError | None, ...]:
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + spare, lowest_free + spare))
        return machine.files.write_files(orders)

    assert crash.in_child(limited) == (None,) * 40
    assert machine.tree() == {order.path: "# x\n" for order in orders}


def test_no_descriptor_at_all(machine: Machine) -> None:
    """Then every file has its own error in words, and nothing changed."""

    def limited() -> list[str]:
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, lowest_free))
        orders = [WriteFile(f"/etc/docker/{number}", b"", "", Absent()) for number in range(3)]
        return [str(error) for error in machine.files.write_files(orders)]

    reason = "too many open files (EMFILE); raise LimitNOFILE= of the service"
    assert crash.in_child(limited) == [f"/etc/docker/{number}: {reason}" for number in range(3)]
    assert names(machine) == []


@needs_root
def test_without_the_right_to_keep_an_owner(machine: Machine) -> None:
    """Without CAP_CHOWN a file of somebody else is left as it is, never silently made root's; our own is written."""
    os.chown(machine.put(PATH, OLD), 1234, 1234)
    machine.put("/etc/docker/ours.json", OLD)

    def without() -> list[str]:
        sandbox.drop_capability(sandbox.CAP_CHOWN)
        return [machine.write(PATH, b"{}"), machine.write("/etc/docker/ours.json", b"{}")]

    reason = "cannot keep its owner 1234:1234: operation not permitted (EPERM); the service needs CAP_CHOWN for that"
    assert crash.in_child(without) == [f"{PATH}: {reason}", ""]
    assert machine.read(PATH) == Regular(OLD, 0o644, 1234, 1234)
    assert names(machine) == ["daemon.json", "ours.json"]


def attributes(path: Path, flags: int) -> Callable[[], None]:
    return lambda: sandbox.set_attributes(path, flags)


@needs_root
@pytest.mark.parametrize(
    ("where", "flags", "words"),
    [
        (PATH, IMMUTABLE, "it is immutable (i)"),
        (PATH, APPEND_ONLY, "it is append-only (a)"),
        ("/etc/docker", IMMUTABLE, "its directory is immutable (i)"),
        ("/etc/docker", APPEND_ONLY, "its directory is append-only (a)"),
    ],
)
def test_inode_attributes(machine: Machine, request: pytest.FixtureRequest, where: str, flags: int, words: str) -> None:
    """`chattr +i`, `+a` on file or directory: nothing changes, no temp stays, and the words name the attribute."""
    machine.put(PATH, OLD)
    request.addfinalizer(attributes(machine.outside(where), 0))
    sandbox.set_attributes(machine.outside(where), flags)
    hint = "lsattr -d shows it, chattr -i -a removes it"
    assert machine.write(PATH, b"{}") == f"{PATH}: operation not permitted (EPERM): {words}; {hint}"
    with pytest.raises(HostError, match=r"operation not permitted \(EPERM\)"):
        machine.remove(PATH)
    if where == "/etc/docker":
        for change in (
            lambda: machine.files.make_directory("/etc/docker/new", 0o755),
            lambda: machine.files.replace_file("/etc/docker/status.json", b"", 0o644),
        ):
            with pytest.raises(HostError, match=words.replace("(", r"\(").replace(")", r"\)")):
                change()
    assert (names(machine), machine.read(PATH)) == (["daemon.json"], Regular(OLD, 0o644, *OWNER))


OLD_KERNELS = {
    "no renameat2": {"renameat2": errno.ENOSYS},
    "no flags of renameat2": {"renameat2": errno.EINVAL},
    "no hard links either": {"renameat2": errno.EINVAL, "linkat": errno.EPERM},
}


@pytest.mark.parametrize("refused", OLD_KERNELS.values(), ids=OLD_KERNELS.keys())
def test_kernels_and_file_systems_that_know_less(machine: Machine, refused: dict[str, int]) -> None:
    """Without exchange, without rename-if-absent, without links: everything works, and conflicts are still seen."""
    machine.put(PATH, OLD)
    machine.put("/etc/docker/gone.json", OLD)

    def on_it() -> None:
        for name, code in refused.items():
            sandbox.refuse_system_call(sandbox.system_call_number(name), code)
        assert machine.write(PATH, b"{}") == ""
        assert machine.write("/etc/docker/new.json", b"{}") == ""
        assert "changed by somebody else" in machine.write(PATH, b"[]", Regular(OLD, 0o644, *OWNER))
        assert "changed by somebody else" in machine.write(PATH, b"[]", Absent())
        machine.remove("/etc/docker/gone.json")
        machine.files.make_directory("/etc/docker/certs.d", 0o755)

    crash.in_child(on_it)
    assert machine.tree() == {PATH: "{}", "/etc/docker/new.json": "{}"}
    assert names(machine) == ["certs.d", "daemon.json", "new.json"]


# --- mounts ----------------------------------------------------------------------------------------------------------


@needs_root
def test_a_read_only_disk(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that went read-only is an error for every kind of change, no stale namespace, and heals."""
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)

    def on_a_read_only_disk() -> None:
        sandbox.mount_memory(machine.directory / "etc", "size=1m")
        machine.outside("/etc/docker").mkdir()
        machine.put(PATH, OLD)
        sandbox.remount(machine.directory / "etc", read_only=True)
        files = FileSystem("/", [str(machine.outside("/etc/docker"))])
        path = str(machine.outside(PATH))
        error = files.write_files([WriteFile(path, b"{}", "", Regular(OLD, 0o644, *OWNER))])[0]
        assert (type(error), str(error)) == (
            HostError, f"{path}: read-only file system (EROFS); findmnt -T shows the mount",
        )  # fmt: skip
        for change in (
            lambda: files.remove_file(RemoveFile(path, "", Regular(OLD, 0o644, *OWNER))),
            lambda: files.make_directory(f"{path}.d", 0o755),
            lambda: files.replace_file(f"{path}.status", b"", 0o644),
        ):
            with pytest.raises(HostError, match="EROFS"):
                change()
        assert machine.tree() == {PATH: OLD.decode()}
        sandbox.remount(machine.directory / "etc", read_only=False)
        assert machine.write(PATH, b"{}") == ""

    sandbox.with_own_mounts(on_a_read_only_disk)


@needs_root
@pytest.mark.parametrize(
    ("invocation", "read_only_at", "expected"),
    [
        ("0" * 32, "/etc", StaleNamespaceError),
        ("0" * 32, "/etc/docker", HostError),
        ("", "/etc", HostError),
    ],
    ids=["a directory newer than the service", "a mount of its own", "no service"],
)
def test_a_stale_mount_namespace(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, invocation: str, read_only_at: str, expected: type[HostError]
) -> None:
    """Read-only only as systemd's ProtectSystem= makes it, on a mount from further up, under a service manager: stale.

    A directory that somebody mounted read-only itself, or no service manager: a restart would not help.
    """
    if invocation:
        monkeypatch.setenv("INVOCATION_ID", invocation)
    else:
        monkeypatch.delenv("INVOCATION_ID", raising=False)

    def below_a_read_only_mount() -> None:
        where = machine.outside(read_only_at)
        sandbox.bind(where, where, read_only=True)
        docker = str(machine.outside("/etc/docker"))
        files = FileSystem("/", [docker])
        errors = [*files.write_files([WriteFile(f"{docker}/daemon.json", b"{}", "", Absent())])]
        with pytest.raises(HostError) as raised:
            files.make_directory(f"{docker}/certs.d", 0o755)
        errors.append(raised.value)
        assert [type(error) for error in errors] == [expected, expected]
        assert all("read-only file system (EROFS)" in str(error) for error in errors)
        with pytest.raises(HostError) as raised:
            FileSystem("/", [f"{docker}/new"]).make_directory(f"{docker}/new", 0o755)
        assert type(raised.value) is HostError

    sandbox.with_own_mounts(below_a_read_only_mount)


@needs_root
def test_a_file_that_is_a_mount_point(machine: Machine) -> None:
    """A single file bound into place can be neither replaced nor removed: EBUSY with a way out, and both stay."""
    machine.put(PATH, b"below")
    source = machine.put("/srv/daemon.json", OLD)

    def bound() -> None:
        sandbox.bind(source, machine.outside(PATH))
        told = "device or resource busy (EBUSY); the file itself is a mount point: mount its directory instead"
        assert machine.write(PATH, b"{}").startswith(f"{PATH}: {told}")
        with pytest.raises(HostError, match="EBUSY"):
            machine.remove(PATH)
        assert machine.tree() == {PATH: OLD.decode(), "/srv/daemon.json": OLD.decode()}

    sandbox.with_own_mounts(bound)


# --- attributes ------------------------------------------------------------------------------------------------------

USER_ACL = sandbox.access_list((0x01, 6, -1), (0x02, 4, 1234), (0x04, 4, -1), (0x10, 4, -1), (0x20, 0, -1))


def test_attributes_are_kept(machine: Machine) -> None:
    """Extended attributes of the old file are those of the new one, an ACL too, also where the mode changes."""
    path = machine.put(PATH, OLD, 0o640)
    sandbox.set_attribute(path, "user.note", b"by hand")
    sandbox.set_attribute(path, "system.posix_acl_access", USER_ACL)
    before = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    assert machine.write(PATH, b"{}", mode=0o640) == ""
    assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == before
    assert machine.write(PATH, b"[]", mode=0o600) == ""
    shut = sandbox.access_list((0x01, 6, -1), (0x02, 4, 1234), (0x04, 4, -1), (0x10, 0, -1), (0x20, 0, -1))
    assert os.getxattr(path, "system.posix_acl_access") == shut
    assert machine.read(PATH) == Regular(b"[]", 0o600, *OWNER)


@needs_root
def test_a_security_label_is_kept(machine: Machine) -> None:
    """SELinux's label moves to the new file."""
    path = machine.put(PATH, OLD)
    sandbox.set_attribute(path, "security.selinux", b"system_u:object_r:container_config_t:s0\0")
    assert machine.write(PATH, b"{}") == ""
    assert os.getxattr(path, "security.selinux") == b"system_u:object_r:container_config_t:s0\0"


def test_a_directory_s_default_is_for_new_files_only(machine: Machine) -> None:
    """A new file gets its directory's default ACL; a replaced one without an ACL does not acquire it."""
    path = machine.put(PATH, OLD)
    sandbox.set_attribute(machine.outside("/etc/docker"), "system.posix_acl_default", USER_ACL)
    assert machine.write(PATH, b"{}") == ""
    assert os.listxattr(path) == []
    assert machine.write("/etc/docker/new.json", b"{}", mode=0o640) == ""
    assert os.getxattr(machine.outside("/etc/docker/new.json"), "system.posix_acl_access") == USER_ACL


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("user.note", errno.EPERM, "cannot keep its attribute user.note: operation not permitted (EPERM)"),
        ("user.note", errno.ENOSPC, "cannot keep its attribute user.note: no space left on device (ENOSPC)"),
        ("user.note", errno.EOPNOTSUPP, ""),
        ("security.selinux", errno.EPERM, ""),
    ],
)
def test_an_attribute_that_cannot_be_kept(machine: Machine, name: str, code: int, told: str) -> None:
    """A file is not replaced where a mark of it would be lost; only where the file system knows no such marks, and for
    a label of a security module that is switched off."""
    path = machine.put(PATH, OLD)
    try:
        sandbox.set_attribute(path, name, b"mark")
    except PermissionError:
        pytest.skip("security labels need root")
    call = crash.list_calls(lambda: machine.write(PATH, OLD)).index("setxattr") + 1
    failing = partial(crash.run_failing_at, call, code, lambda: machine.write(PATH, b"{}"))
    assert told in crash.in_child(failing)
    assert machine.tree() == {PATH: OLD.decode() if told else "{}"}


def test_content_is_private_from_the_first_byte(machine: Machine) -> None:
    """At every system call of a write that makes a public file secret, nobody else may read any of the new content."""
    path = machine.outside(PATH)
    secret = b'{"auth": "' + b"s" * 70_000 + b'"}'

    def reset() -> None:
        for entry in path.parent.iterdir():
            entry.unlink()
        machine.put(PATH, OLD, 0o644)
        sandbox.set_attribute(path, "system.posix_acl_access", USER_ACL)
        machine.files.read(PATH)

    def write() -> None:
        assert machine.write(PATH, secret, mode=0o600) == ""

    reset()
    calls = crash.count_calls(write)
    readable = set()
    for call in range(1, calls + 1):
        reset()
        assert crash.run_killed_at(call, write)
        for entry in path.parent.iterdir():
            if stat.S_IMODE(entry.stat().st_mode) & 0o077:
                readable.add(entry.read_bytes())
    assert readable <= {OLD, b""}
    assert OLD in readable
