"""The real host's memory: what it need not look at twice, and what it must."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent.errors import HostError, LockedError
from agent.ledger import Ledger
from agent.model import Absent, Regular
from agent.node import Places, RealHost, locked
from agent.plan import Claim, Memory, WriteFile

PATH = "/etc/docker/daemon.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker/daemon.json").write_text("{}\n")
    return tmp_path


def places(root: Path) -> Places:
    return Places(root=str(root))


def age(path: Path, seconds: float) -> None:
    """Wait until the file is older than the coarsest clock that stamps it (its ctime cannot be set)."""
    while time.time() - path.stat().st_ctime < seconds:
        time.sleep(0.01)


def test_an_unchanged_file_is_not_opened_again(root: Path) -> None:
    """The second reading of a settled file is the same object: one stat, no open."""
    age(root / "etc/docker/daemon.json", 0.06)
    host = RealHost(places(root))
    assert host.read(PATH) is host.read(PATH)


def test_what_changes_behind_a_cycle_is_a_change_whoever_reads_it(root: Path) -> None:
    """A file that is changed when the cycle has decided, and then read for a report, is not what the cycle relied on:
    it has to be looked at again. The report has what stands there, and the next cycle relies on that."""
    target = root / "etc/docker/daemon.json"
    age(target, 0.06)
    host = RealHost(places(root))
    host.begin()
    host.read(PATH)
    host.list_directory("/etc/docker")
    host.conclude()
    assert host.unchanged()
    target.write_text('{"debug": true}')
    (root / "etc/docker/new").write_text("")
    age(target, 0.06)
    found = host.read(PATH)
    assert (isinstance(found, Regular) and found.content, host.list_directory("/etc/docker")) == (
        b'{"debug": true}', ("daemon.json", "new"),
    )  # fmt: skip
    assert not host.unchanged()
    host.begin()
    assert isinstance(found := host.read(PATH), Regular)
    host.conclude()
    assert (found.content, host.unchanged()) == (b'{"debug": true}', True)


def test_a_file_changed_just_now_is_read_again(root: Path) -> None:
    """Within one tick of its timestamps a file can change twice and look the same; such a reading is never trusted."""
    host = RealHost(places(root))
    target = root / "etc/docker/daemon.json"
    for number in range(200):
        target.write_text(f"{{}}{number % 10}")
        found = host.read(PATH)
        assert isinstance(found, Regular)
        assert found.content == f"{{}}{number % 10}".encode()


def test_a_reading_of_a_fresh_change_is_used_once(root: Path) -> None:
    """What was read within the tick of a change is read anew once the tick is over, for it may have changed again
    since and look the same; that reading is kept. So is a listing."""
    directory = root / "etc/docker"
    (directory / "new").write_text("")
    (directory / "daemon.json").write_text('{"debug": true}')
    host = RealHost(places(root))
    first = host.read(PATH), host.list_directory("/etc/docker")
    age(directory, 0.06)
    host.begin()
    second = host.read(PATH), host.list_directory("/etc/docker")
    host.begin()
    third = host.read(PATH), host.list_directory("/etc/docker")
    assert first == second == third
    assert [one is other for one, other in zip(first, second, strict=True)] == [False, False]
    assert [one is other for one, other in zip(second, third, strict=True)] == [True, True]


def test_unchanged_notices_every_kind_of_change(root: Path) -> None:
    """Content, mode, replacement, removal, a new name in a listed directory, a thing that was asked for and appears."""
    target = root / "etc/docker/daemon.json"
    changes = [
        lambda: target.write_text('{"debug": true}\n'),
        lambda: target.chmod(0o600),
        lambda: os.replace(_made(root / "etc/docker/new", "{}\n"), target),
        target.unlink,
        (root / "etc/docker/certs.d").mkdir,
        lambda: _made(root / "usr-bin-dockerd", ""),
    ]
    for change in changes:
        host = RealHost(places(root))
        age(root / "etc/docker", 0.06)
        if target.exists():
            age(target, 0.06)
        host.begin()
        host.read(PATH)
        host.list_directory("/etc/docker")
        host.exists("/usr-bin-dockerd")
        assert host.unchanged()
        change()
        assert not host.unchanged()


def _made(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_chmod_is_no_writing(root: Path) -> None:
    """`written_at` is the content's time; `modified_at` is the later of both, for whom a moved file matters."""
    target = root / "etc/docker/daemon.json"
    os.utime(target, (1_000_000_000, 1_000_000_000))
    host = RealHost(places(root))
    assert host.written_at(PATH) == 1_000_000_000
    assert (host.modified_at(PATH) or 0.0) > 1_700_000_000


def test_nothing_is_written_where_nobody_said(root: Path) -> None:
    """A directory outside the runtimes' own is refused until the desired state names it."""
    (root / "data").mkdir()
    host = RealHost(places(root))
    order = WriteFile("/data/daemon.json", b"{}\n", "a test", Absent())
    assert isinstance(host.write_files([order])[0], HostError)
    host.allow(["/data"])
    assert host.write_files([order]) == (None,)


def test_what_the_ledger_owns_may_be_given_back(root: Path) -> None:
    """A file below a certs_dir of a former desired state can still be removed: the ledger says that it is ours."""
    (root / "data/certs.d/ghcr.io").mkdir(parents=True)
    host = RealHost(places(root))
    host.save_ledger(Ledger().with_claims("containerd", [Claim("/data/certs.d/ghcr.io/hosts.toml", Absent())]))
    later = RealHost(places(root))
    later.allow(())
    order = WriteFile("/data/certs.d/ghcr.io/hosts.toml", b"", "a test", Absent())
    assert later.write_files([order]) == (None,)


def test_a_damaged_ledger_is_kept_and_begun_anew(root: Path) -> None:
    """Nothing is guessed from damaged bytes, nothing of them is lost, and the agent goes on."""
    state = root / "var/lib/mirror-agent"
    state.mkdir(parents=True)
    (state / "ledger.json").write_bytes(b'{"format": 1, "entries": [')
    host = RealHost(places(root))
    host.sweep()
    assert (host.ledger().lost, dict(host.ledger().entries)) == (True, {})
    assert [path.read_bytes() for path in state.glob("ledger.damaged-*")] == [b'{"format": 1, "entries": [']


def test_what_root_keeps_is_roots(root: Path) -> None:
    """Originals and the ledger can hold secrets of others: nobody else may read them."""
    host = RealHost(places(root))
    host.keep_original(b"secret")
    host.save_ledger(Ledger())
    modes = {path.name: path.stat().st_mode & 0o777 for path in (root / "var/lib/mirror-agent").rglob("*")}
    assert set(modes.values()) <= {0o700, 0o600}
    assert (root / "var/lib/mirror-agent").stat().st_mode & 0o777 == 0o700


def test_a_lost_original_is_not_taken_for_an_empty_one(root: Path) -> None:
    """An original that is damaged or gone is None: what cannot be given back is not overwritten with nothing."""
    host = RealHost(places(root))
    digest = host.keep_original(b"as it was")
    assert host.original(digest) == b"as it was"
    (root / "var/lib/mirror-agent/originals" / digest).write_bytes(b"as it")
    assert host.original(digest) is None


def test_only_one_agent_works_on_a_root(root: Path) -> None:
    """The second one is told who holds the lock; afterwards the lock is free again."""
    with locked(places(root), "run"):
        with pytest.raises(LockedError) as refused, locked(places(root), "apply"):
            pass
        holder = f"mirror-agent run (pid {os.getpid()}) holds {root}/run/mirror-agent/lock"
        assert str(refused.value) == holder
    with locked(places(root), "apply"):
        pass


def test_kept_bytes_that_nothing_refers_to_are_forgotten(root: Path) -> None:
    """At the start: originals, and what a trial may need, stay; a lost ledger keeps everything until it is settled."""
    host = RealHost(places(root))
    digests = [host.keep_original(content) for content in (b"original", b"good", b"trial", b"bad", b"left over")]
    claim = Claim("/etc/docker/daemon.json", Regular(b"original"))
    memory = Memory(good=digests[1], trial=digests[2], bad=f"{digests[3]}@1@2")
    RealHost(places(root)).sweep()
    assert [host.original(digest) is None for digest in digests] == [False] * 5
    host.save_ledger(Ledger().with_claims("docker", [claim]).with_memory("docker", memory))
    RealHost(places(root)).sweep()
    assert [host.original(digest) is None for digest in digests] == [False] * 5
    (root / "var/lib/mirror-agent/ledger.missing").unlink()
    RealHost(places(root)).sweep()
    assert [host.original(digest) is None for digest in digests] == [False, False, False, False, True]
