"""Bad input and bad luck: nothing is lost, the reason is said, and it heals when the fault goes away."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.events import Kind
from tests.node.rig import CERTS_D, DAEMON_JSON, DESIRED_STATE, Rig
from tests.node.service import RESYNC_DEADLINE_SECONDS, Service, desired_state, hosts_path
from tests.node.waiting import wait_until

_INVALID = {
    "typo": ("version: 1\nregistries:\n  docker.io:\n    mirror: [http://127.0.0.1:5002]\n", ":4:5"),
    "no scheme": ("version: 1\nregistries:\n  docker.io: {mirrors: [127.0.0.1:5002]}\n", ":3:25"),
    "not YAML": ("version: 1\nregistries: [\n", ":2:14"),
    "empty": ("", "version"),
    "truncated": ("version: 1\nregistr", ":2:8"),
    "another version": ("version: 2\nregistries: {}\n", ":1:10"),
}


@pytest.mark.parametrize("kind", _INVALID)
def test_an_invalid_desired_state_changes_nothing(rig: Rig, service: Service, kind: str) -> None:
    """The journal names the line, the last good state stays in force to the byte, and the next valid one counts."""
    text, place = _INVALID[kind]
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    before, cursor = rig.node.identity("/etc/containerd", "/etc/docker"), rig.node.cursor()
    service.desire(text)
    said = service.await_event(Kind.INVALID, after=cursor)
    assert place in str(said["MESSAGE"])
    assert (service.cli("check").rc, service.cli("status").rc) == (1, 3)
    assert rig.node.identity("/etc/containerd", "/etc/docker") == before
    service.desire(desired_state({"docker.io": [rig.second.url]}))
    service.await_mirror("docker.io", rig.second.url)
    service.await_nothing_pending()
    assert service.is_live()


def test_drift_is_repaired_while_the_desired_state_is_invalid(rig: Rig, service: Service) -> None:
    """The last good state is not only left alone, it is kept in force."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    cursor = rig.node.cursor()
    service.desire("version: 1\nregistries: {docker.io: {mirrors: nonsense}}\n")
    service.await_event(Kind.INVALID, after=cursor)
    rig.node.run(["rm", hosts_path("docker.io")])
    service.await_mirror("docker.io", rig.first.url)


@pytest.mark.parametrize(
    "obstacle", ["mkfifo {path}", "mkdir {path}", "ln -s /dev/zero {path}", "ln -s nowhere {path}"]
)
def test_something_else_in_place_of_a_managed_file(rig: Rig, service: Service, obstacle: str) -> None:
    """A FIFO, directory, device or dangling link is neither opened for ever nor replaced; other registries converge."""
    path = hosts_path("docker.io")
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    cursor = rig.node.cursor()
    # It is repaired from the moment it goes, so the obstacle may need more than one try to be there first.
    rig.node.run(f"for try in $(seq 200); do rm -f {path}; {obstacle.format(path=path)} 2>&- && exit; done; exit 1")
    service.desire(desired_state({"docker.io": [rig.second.url], "ghcr.io": [rig.second.url]}))
    service.await_mirror("ghcr.io", rig.second.url)
    said = service.await_event(Kind.CONFLICT, after=cursor)
    assert path in str(said["MESSAGE"]) or said["MIRROR_AGENT_PATH"] == path
    service.await_docker(rig.second.url)
    rig.node.run(f"rmdir {path} 2>/dev/null || rm {path}")
    service.await_mirror("docker.io", rig.second.url)
    service.await_nothing_pending()


@pytest.mark.parametrize("obstacle", ["mkfifo {path}", "mkdir {path}", "ln -s /dev/zero {path}"])
def test_something_else_in_place_of_the_desired_state(rig: Rig, service: Service, obstacle: str) -> None:
    """A FIFO, directory or device as desired state neither hangs the agent nor changes anything."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    before, cursor = rig.node.identity("/etc/containerd", "/etc/docker"), rig.node.cursor()
    rig.node.run(f"rm {DESIRED_STATE}; " + obstacle.format(path=DESIRED_STATE))
    wait_until(
        lambda: service.events(Kind.INVALID, cursor) + service.events(Kind.MISSING, cursor), 10, "a word about it"
    )
    assert rig.node.identity("/etc/containerd", "/etc/docker") == before
    rig.node.run(f"rmdir {DESIRED_STATE} 2>/dev/null || rm {DESIRED_STATE}")
    service.desire(desired_state({"docker.io": [rig.second.url]}))
    service.await_mirror("docker.io", rig.second.url)


def test_a_daemon_json_that_does_not_parse_is_never_touched(rig: Rig, service: Service) -> None:
    """Broken JSON blocks Docker alone: the file keeps its bytes, containerd converges, and mending it is enough."""
    broken = '{"debug": true, // a comment\n "log-driver": "json-file",}\n'
    rig.node.put(DAEMON_JSON, broken)
    before, cursor = rig.node.identity(DAEMON_JSON), rig.node.cursor()
    service.desire(desired_state({"docker.io": [rig.first.url]}))
    service.start()
    service.await_mirror("docker.io", rig.first.url)
    said = service.await_event(Kind.CONFLICT, after=cursor)
    assert DAEMON_JSON in str(said["MESSAGE"]) or said["MIRROR_AGENT_PATH"] == DAEMON_JSON
    assert (rig.node.identity(DAEMON_JSON), service.cli("status").rc) == (before, 3)
    rig.node.put(DAEMON_JSON, '{"debug": true}\n')
    service.await_docker(rig.first.url)
    service.await_nothing_pending()


@contextmanager
def immutable(rig: Rig, path: str) -> Iterator[None]:
    rig.node.run(["chattr", "+i", path])
    try:
        yield
    finally:
        rig.node.run(["chattr", "-i", path])


def test_an_immutable_file_is_left_and_named(rig: Rig, service: Service) -> None:
    """chattr +i on daemon.json: old content whole, the journal says why, the rest converges, and -i heals it."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    before, cursor = rig.node.identity(DAEMON_JSON), rig.node.cursor()
    with immutable(rig, DAEMON_JSON):
        service.desire(desired_state({"docker.io": [rig.second.url]}))
        service.await_mirror("docker.io", rig.second.url)
        said = service.await_event(Kind.FAILED, after=cursor)
        assert "EPERM" in str(said["MESSAGE"])
        assert (rig.node.identity(DAEMON_JSON), service.cli("status").rc) == (before, 3)
    service.await_docker(rig.second.url, deadline_seconds=RESYNC_DEADLINE_SECONDS)


@contextmanager
def small_disk(rig: Rig) -> Iterator[str]:
    """certs.d on a file system of its own of 64 KiB; yields a directory of it that nobody watches."""
    disk = "/mnt/small"
    rig.node.run(f"mkdir -p {disk} {CERTS_D} && mount -t tmpfs -o size=64k small {disk} && mkdir {disk}/certs.d")
    rig.node.run(f"mount --bind {disk}/certs.d {CERTS_D}")
    try:
        yield disk
    finally:
        rig.node.run("systemctl stop mirror-agent")
        rig.node.run(f"umount {CERTS_D}; umount {disk}")


def test_a_full_disk_keeps_the_old_file_whole(rig: Rig, service: Service) -> None:
    """ENOSPC: no half file, no temporary left, other runtimes converge; room made elsewhere on the disk heals it."""
    with small_disk(rig) as disk:
        service.start_with(desired_state({"docker.io": [rig.first.url]}))
        rig.node.run(f"dd if=/dev/zero of={disk}/filler bs=4k", check=False)
        before, cursor = rig.node.tree(CERTS_D), rig.node.cursor()
        service.desire(desired_state({"docker.io": [rig.second.url]}))
        said = service.await_event(Kind.FAILED, after=cursor)
        assert "ENOSPC" in str(said["MESSAGE"])
        service.await_docker(rig.second.url)
        wait_until(lambda: rig.node.tree(CERTS_D) == before, 10.0, "an attempt that leaves nothing behind")
        rig.node.run(["rm", f"{disk}/filler"])
        service.await_mirror("docker.io", rig.second.url, RESYNC_DEADLINE_SECONDS)
        service.await_nothing_pending()
        assert list(rig.node.tree(CERTS_D)) == list(before)


def test_a_disk_that_turns_read_only_heals(rig: Rig, service: Service) -> None:
    """EROFS on certs.d: the old files stand, Docker converges, and read-write again the resync finishes the work."""
    with small_disk(rig) as disk:
        service.start_with(desired_state({"docker.io": [rig.first.url]}))
        before, cursor = rig.node.identity(CERTS_D), rig.node.cursor()
        rig.node.run(["mount", "-o", "remount,ro", disk])
        service.desire(desired_state({"docker.io": [rig.second.url]}))
        said = service.await_event(Kind.FAILED, after=cursor)
        assert "EROFS" in str(said["MESSAGE"])
        service.await_docker(rig.second.url)
        assert (rig.node.identity(CERTS_D), service.restarts()) == (before, 0)
        rig.node.run(["mount", "-o", "remount,rw", disk])
        service.await_mirror("docker.io", rig.second.url, RESYNC_DEADLINE_SECONDS)


def test_a_bind_mounted_file_is_refused_with_its_reason(rig: Rig, service: Service) -> None:
    """A hosts.toml that is itself a mount point cannot be renamed over (EBUSY): it is left, and the rest converges."""
    path = hosts_path("docker.io")
    rig.node.put("/root/mounted.toml", "# mounted\n")
    rig.node.put(path, "")
    rig.node.run(["mount", "--bind", "/root/mounted.toml", path])
    try:
        cursor = rig.node.cursor()
        service.desire(desired_state({"docker.io": [rig.first.url], "ghcr.io": [rig.first.url]}))
        service.start()
        service.await_mirror("ghcr.io", rig.first.url)
        wait_until(
            lambda: service.events(Kind.FAILED, cursor) + service.events(Kind.CONFLICT, cursor), 10, "a word about it"
        )
        assert rig.node.text(path) == "# mounted\n"
    finally:
        service.stop()
        rig.node.run(["umount", path])
