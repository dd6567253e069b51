"""Noticing changes: what is heard of every way to save a file, and that the watches survive whatever is done to them.

Hints are compared as whole lists. After the deed under test comes a signature in another watched directory, a sequence
that no deed makes; inotify keeps order, so what was heard before the signature is all that there was to hear.
"""

import array
import fcntl
import os
import shutil
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.watch import Hint, Watcher

T, C = Hint.TOUCHED, Hint.CLOSED
SIGNATURE = [C] * 8 + [T] * 8
DEADLINE_SECONDS = 10.0
STORM = 5_000
MORE_THAN_THE_QUEUE = 17_000


class Ear:
    """A watcher whose every event is heard (it rearms at once), with the directories it was told to watch."""

    def __init__(self, signing: Path) -> None:
        self.heard: list[Hint] = []
        self.watcher = Watcher(self._wake)
        self.signing = signing
        signing.mkdir()
        self.directories: set[str] = {str(signing)}

    def _wake(self, hint: Hint) -> None:
        self.heard.append(hint)
        self.watcher.rearm()

    def watch(self, *directories: Path) -> None:
        """Watch these and the signing directory; forget what that alone was heard as."""
        self.directories = {str(self.signing), *map(str, directories)}
        self.again()
        self.hears(lambda: None)

    def again(self) -> None:
        """What the loop does at every look."""
        self.watcher.watch(frozenset(self.directories))

    def hears(self, deed: Callable[[], object]) -> list[Hint]:
        """All hints from the last call to the end of the deed."""
        deed()
        self._sign()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.heard[-len(SIGNATURE) :] != SIGNATURE:
            assert time.monotonic() < deadline, f"never heard the signature, only {self.heard}"
            time.sleep(0.001)
        heard, self.heard = self.heard[: -len(SIGNATURE)], []
        return heard

    def _sign(self) -> None:
        """A file renamed into the directory from one that is not watched is one CLOSED, a chmod one TOUCHED. Two files
        in turn, because the kernel makes one event of two equal ones."""
        outside = self.signing.with_name("ink")
        for number, hint in enumerate(SIGNATURE):
            inside = self.signing / str(number % 2)
            if hint is T:
                inside.chmod(0o600)
            else:
                outside.touch()
                outside.rename(inside)


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    made = Ear(tmp_path / "signing")
    yield made
    made.watcher.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The directory under test, with one file in it."""
    made = tmp_path / "home"
    made.mkdir()
    (made / "state.yaml").write_text("version: 1\n")
    return made


# --- what is heard ------------------------------------------------------------------------------------------


def test_a_file_written_in_place_is_heard_once_when_it_is_closed(ear: Ear, home: Path) -> None:
    """cp, tee and editors without a backup: truncated, written, closed; nothing is heard of the half-written file."""
    ear.watch(home)
    with (home / "state.yaml").open("w") as handle:
        assert ear.hears(lambda: (handle.write("half"), handle.flush())) == []
        handle.write("whole")
    assert ear.hears(lambda: None) == [C]


def test_a_new_file_settles_until_it_is_closed(ear: Ear, home: Path) -> None:
    """Creating is TOUCHED, because its writer is still at work; closing is CLOSED."""
    ear.watch(home)
    with (home / "new").open("w") as handle:
        assert ear.hears(lambda: None) == [T]
        handle.write("whole")
    assert ear.hears(lambda: None) == [C]


def test_a_file_renamed_over_another_is_heard_at_once(ear: Ear, home: Path) -> None:
    """sed -i, mv, atomic writers: the rename is CLOSED, for the name it leaves and the name it takes."""
    (home / ".state.yaml.tmp").write_text("version: 1\n")
    ear.watch(home)
    assert ear.hears(lambda: (home / ".state.yaml.tmp").rename(home / "state.yaml")) == [C, C]


def test_a_file_moved_in_or_out_is_heard_without_delay(ear: Ear, home: Path, tmp_path: Path) -> None:
    """Half of a rename is enough, and it does not hold up what follows (watchdog's own queue waits half a second)."""
    ear.watch(home)
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        assert ear.hears(lambda: (home / "state.yaml").rename(tmp_path / "elsewhere")) == [C]
        seconds.append(time.monotonic() - began)
        assert ear.hears(lambda: (tmp_path / "elsewhere").rename(home / "state.yaml")) == [C]
    assert min(seconds) < 0.4


def test_a_save_like_vim_ends_with_closed(ear: Ear, home: Path) -> None:
    """The original is moved aside, a new file takes its name, the backup goes."""
    state, backup = home / "state.yaml", home / "state.yaml~"

    def save() -> None:
        state.rename(backup)
        state.write_text("version: 1\nregistries: {}\n")
        state.chmod(0o640)
        backup.unlink()

    ear.watch(home)
    assert ear.hears(save) == [C, C, T, C, T, C]


def test_a_configmap_swap_is_heard(ear: Ear, home: Path) -> None:
    """Only the link `..data` moves; the file itself, a link through it, is not touched at all."""
    for version in ("..1", "..2"):
        (home / version).mkdir()
        (home / version / "state.yaml").write_text(version)
    (home / "..data").symlink_to("..1")
    (home / "..data_tmp").symlink_to("..2")
    ear.watch(home)
    assert ear.hears(lambda: (home / "..data_tmp").rename(home / "..data")) == [C, C]


def test_a_linked_file_is_heard_at_its_target(ear: Ear, home: Path, tmp_path: Path) -> None:
    """An edit at the target makes no event where the link is: with both directories watched it is heard."""
    target = tmp_path / "real" / "state.yaml"
    target.parent.mkdir()
    target.write_text("old")
    (home / "linked.yaml").symlink_to(target)
    ear.watch(home, target.parent)
    assert ear.hears(lambda: (home / "linked.yaml").write_text("new")) == [C]


@pytest.mark.parametrize(
    ("deed", "heard"),
    [
        (lambda home: (home / "state.yaml").read_bytes(), []),
        (lambda home: list(home.iterdir()), []),
        (lambda home: (home / "state.yaml").stat(), []),
        (lambda home: (home / "state.yaml").chmod(0o600), [T]),
        (lambda home: os.utime(home / "state.yaml", (1, 1)), [T]),
        (lambda home: (home / "state.yaml").unlink(), [C]),
        (lambda home: (home / "hard").hardlink_to(home / "state.yaml"), [T]),
        (lambda home: (home / "soft").symlink_to("state.yaml"), [T]),
        (lambda home: (home / "below").mkdir(), [T]),
        (lambda home: (home / "below").mkdir() or (home / "below" / "deep").write_text("x"), [T]),
        (lambda home: (home / "below").mkdir() or (home / "below").rmdir(), [T, C]),
    ],
    ids=["read", "list", "stat", "chmod", "utime", "unlink", "link", "symlink", "mkdir", "not-recursive", "rmdir"],
)
def test_what_is_heard_of(ear: Ear, home: Path, deed: Callable[[Path], object], heard: list[Hint]) -> None:
    """Our own reads are silent, attributes and creations are TOUCHED, removals CLOSED, subdirectories not followed."""
    ear.watch(home)
    assert ear.hears(lambda: deed(home)) == heard


# --- coalescing ---------------------------------------------------------------------------------------------


def test_a_storm_wakes_twice_at_most(home: Path) -> None:
    """5,000 new files between two looks are one TOUCHED and one CLOSED, however slowly they are taken."""
    heard: list[Hint] = []
    watcher = Watcher(heard.append)
    watcher.watch(frozenset({str(home)}))
    watcher.rearm()
    heard.clear()
    for number in range(STORM):
        (home / f"file-{number}").touch()
    _await(lambda: len(heard) >= 2 and not any(_unread(number) for number in _inotify_descriptors()))
    watcher.close()
    assert heard == [T, C]


def test_a_closed_is_not_followed_by_a_touched(ear: Ear, home: Path) -> None:
    """Whoever is about to look at once need not be told to settle; after rearm, TOUCHED is news again."""
    heard: list[Hint] = []
    watcher = Watcher(heard.append)
    watcher.watch(frozenset({str(home)}))
    watcher.rearm()
    heard.clear()
    (home / "state.yaml").write_text("x")
    _await(lambda: heard == [C])
    (home / "state.yaml").chmod(0o600)
    ear.watch(home)
    ear.hears(lambda: (home / "state.yaml").chmod(0o644))
    assert heard == [C]
    watcher.rearm()
    (home / "state.yaml").chmod(0o600)
    _await(lambda: heard == [C, T])
    watcher.close()


def test_what_happens_while_it_is_held_is_told_at_the_end(home: Path) -> None:
    """Whoever holds the watcher hears nothing, and once it lets go what there was to hear: two hints, however much it
    was."""
    heard: list[Hint] = []
    watcher = Watcher(heard.append)
    watcher.watch(frozenset({str(home)}))
    watcher.rearm()
    heard.clear()
    with watcher.held():
        for number in range(100):
            (home / f"file-{number}").write_text("x")
        time.sleep(0.05)  # time enough to hear it, if it could be heard
        heard_while_held = list(heard)
    _await(lambda: len(heard) >= 2 and not any(_unread(number) for number in _inotify_descriptors()))
    watcher.close()
    assert (heard_while_held, heard) == ([], [T, C])


def test_an_exception_in_wake_does_not_end_the_watch(home: Path) -> None:
    """What the consumer does wrong costs one hint, not all later ones."""
    heard: list[Hint] = []

    def wake(hint: Hint) -> None:
        heard.append(hint)
        watcher.rearm()
        raise RuntimeError("a bug in the consumer")

    watcher = Watcher(wake)
    watcher.watch(frozenset({str(home)}))
    for times in (1, 2):
        (home / "state.yaml").write_text("x")
        _await(lambda times=times: heard.count(C) == times)
    assert watcher.healthy
    watcher.close()


def test_a_queue_overflow_is_heard_as_closed(home: Path) -> None:
    """When the kernel has dropped events, anything may have happened: look at once, not at the next resync."""
    heard: list[Hint] = []
    woken, go_on = threading.Event(), threading.Event()

    def wake(hint: Hint) -> None:
        heard.append(hint)
        woken.set()
        go_on.wait(DEADLINE_SECONDS)

    watcher = Watcher(wake)
    go_on.set()
    watcher.watch(frozenset({str(home)}))
    go_on.clear()
    woken.clear()
    watcher.rearm()
    (home / "state.yaml").chmod(0o600)
    assert woken.wait(DEADLINE_SECONDS)
    (home / "other").hardlink_to(home / "state.yaml")
    for number in range(MORE_THAN_THE_QUEUE):
        (home / ("other", "state.yaml")[number % 2]).chmod(0o600)
    go_on.set()
    _await(lambda: heard[-1] is C)
    watcher.close()


# --- staying there ------------------------------------------------------------------------------------------


def test_a_directory_made_again_is_watched_again(ear: Ear, home: Path) -> None:
    """rm -rf and mkdir (a package purged and installed): heard, and after the next look the new one is watched."""
    ear.watch(home)

    def remake() -> None:
        (home / "state.yaml").unlink()
        home.rmdir()
        home.mkdir()

    assert C in ear.hears(remake)
    ear.again()
    assert ear.hears(lambda: None)[-1:] == [T]
    assert ear.hears(lambda: (home / "state.yaml").write_text("x")) == [T, C]


def test_a_directory_moved_away_is_watched_no_longer(ear: Ear, home: Path, tmp_path: Path) -> None:
    """inotify stays with the moved directory; the watcher goes by the path."""
    ear.watch(home)
    moved = tmp_path / "moved"
    assert C in ear.hears(lambda: home.rename(moved))
    home.mkdir()
    ear.again()
    ear.hears(lambda: None)
    assert ear.hears(lambda: (moved / "state.yaml").write_text("x")) == []
    assert ear.hears(lambda: (home / "state.yaml").write_text("x")) == [T, C]


def test_a_parent_moved_away_is_noticed(ear: Ear, tmp_path: Path) -> None:
    """The watched directory itself has no event then; the moved one and the name of it on the way have."""
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    ear.watch(deep)
    assert set(ear.hears(lambda: (tmp_path / "a").rename(tmp_path / "z"))) == {C}
    ear.again()
    assert ear.hears((tmp_path / "z" / "b" / "c" / "x").touch) == []
    assert ear.hears(lambda: deep.mkdir(parents=True)) == [T]
    ear.again()
    ear.hears(lambda: None)
    assert ear.hears((deep / "x").touch) == [T, C]


def test_a_replaced_directory_is_noticed_without_an_event(ear: Ear, home: Path, tmp_path: Path) -> None:
    """Mounted over, or swapped while nobody watched the way: the next look compares device and inode."""
    other = tmp_path / "other"
    other.mkdir()
    ear.watch(home)
    ear.hears(lambda: (home.rename(tmp_path / "aside"), other.rename(home)))
    ear.again()
    ear.hears(lambda: None)
    assert ear.hears((home / "x").touch) == [T, C]


def test_a_directory_that_does_not_exist_is_heard_when_it_appears(ear: Ear, tmp_path: Path) -> None:
    """Its nearest existing parent is watched, for that name only."""
    ear.watch(tmp_path / "late" / "certs.d")
    assert ear.hears((tmp_path / "unrelated").mkdir) == []
    assert ear.hears((tmp_path / "late").mkdir) == [T]
    ear.again()
    ear.hears(lambda: None)
    assert ear.hears((tmp_path / "late" / "unrelated").mkdir) == []
    assert ear.hears((tmp_path / "late" / "certs.d").mkdir) == [T]
    ear.again()
    ear.hears(lambda: None)
    assert ear.hears((tmp_path / "late" / "certs.d" / "x").touch) == [T, C]


def test_a_directory_behind_a_link_is_watched_where_it_is(ear: Ear, home: Path, tmp_path: Path) -> None:
    """/etc/docker as a link to a data disk: events come from the real one; another target of the link is noticed."""
    link, other = tmp_path / "link", tmp_path / "other"
    other.mkdir()
    link.symlink_to(home)
    (tmp_path / "link.new").symlink_to(other)
    ear.watch(link)
    assert ear.hears((home / "x").touch) == [T, C]
    assert ear.hears(lambda: (tmp_path / "link.new").rename(link)) == [C]
    ear.again()
    ear.hears(lambda: None)
    assert ear.hears((home / "y").touch) == []
    assert ear.hears((other / "y").touch) == [T, C]


@pytest.mark.parametrize("target", ["loop", "nowhere"])
def test_a_link_to_nowhere_is_no_trouble(ear: Ear, tmp_path: Path, target: str) -> None:
    """A loop or a dangling link counts as not there yet; mending it is heard."""
    link = tmp_path / "loop"
    link.symlink_to(target)
    ear.watch(link / "certs.d")
    assert ear.watcher.mode == "inotify events"
    assert ear.hears(link.unlink) == [C]


def test_a_file_where_a_directory_should_be_is_no_trouble(ear: Ear, home: Path) -> None:
    """The wanted path ends in a file: nothing to watch there until that changes."""
    ear.watch(home / "state.yaml" / "deep")
    assert ear.watcher.healthy
    assert ear.hears((home / "state.yaml").unlink) == [C]


def test_watching_the_same_again_changes_nothing(ear: Ear, home: Path) -> None:
    """No watch is added, none removed, nobody is woken."""
    ear.watch(home)
    before = _kernel_watches()
    ear.again()
    assert _kernel_watches() == before
    assert ear.hears(lambda: None) == []


def test_what_is_not_wanted_any_more_is_let_go(ear: Ear, home: Path, tmp_path: Path) -> None:
    """The kernel's watches are exactly the directories and those on the way to them."""
    ear.watch()
    without = _kernel_watches()
    ear.watch(home)
    assert _kernel_watches() - without == {_inode(home)}
    ear.watch()
    assert _kernel_watches() == without
    ear.watcher.watch(frozenset())
    assert _kernel_watches() - without == set()
    assert _inode(tmp_path) not in _kernel_watches()


def test_close_leaves_nothing_behind(home: Path) -> None:
    """No descriptor, no thread, no hint; and a closed watcher can watch again."""
    heard: list[Hint] = []
    threads, before = threading.active_count(), _kernel_watches()
    watcher = Watcher(heard.append)
    watcher.watch(frozenset({str(home)}))
    watcher.close()
    assert (threading.active_count(), _kernel_watches()) == (threads, before)
    heard.clear()
    watcher.rearm()
    (home / "state.yaml").write_text("x")
    watcher.watch(frozenset({str(home)}))
    assert heard == [T]
    watcher.close()
    watcher.close()


def test_one_thread_serves_any_number_of_directories(ear: Ear, tmp_path: Path) -> None:
    """500 directories cost one thread and one inotify instance, and each of them is heard."""
    directories = [tmp_path / f"d{number}" for number in range(500)]
    for directory in directories:
        directory.mkdir()
    ear.watch()
    threads, descriptors = threading.active_count(), len(_inotify_descriptors())
    ear.watch(*directories)
    assert (threading.active_count(), len(_inotify_descriptors())) == (threads, descriptors)
    assert ear.hears(lambda: [(directory / "x").touch() for directory in directories]) == [T, C] * 500


def test_no_program_inherits_the_descriptor(ear: Ear, home: Path) -> None:
    """inotify descriptors are close-on-exec, which watchdog forgets."""
    ear.watch(home)
    descriptors = _inotify_descriptors()
    assert descriptors
    assert [os.get_inheritable(number) for number in descriptors] == [False] * len(descriptors)


def test_nothing_runs_while_nothing_happens(ear: Ear, home: Path) -> None:
    """Between events the watcher's thread sleeps. Others may be at work in /tmp, which is on the way to the watched
    directory, so one undisturbed fifth of a second among ten is looked for; a loop with a timeout has none."""
    others = set(threading.enumerate())
    ear.watch(home)
    (thread,) = set(threading.enumerate()) - others
    assert any(_sleeps_through(thread, 0.2) for _ in range(10))
    before = _switches(thread)
    assert ear.hears((home / "x").touch) == [T, C]
    assert _switches(thread) > before


# --- limits -------------------------------------------------------------------------------------------------

_AT_A_LIMIT = """
import pathlib, sys, time
from agent.watch import Watcher
knob, home = pathlib.Path("/proc/sys/user") / sys.argv[1], sys.argv[2]
usual = knob.read_text()
heard = []
knob.write_text("0")
watcher = Watcher(heard.append)
watcher.watch(frozenset({home}))
print(watcher.healthy, watcher.mode)
knob.write_text(usual)
watcher.watch(frozenset({home}))
print(watcher.healthy, watcher.mode)
watcher.rearm()
pathlib.Path(home, "state.yaml").unlink()
until = time.monotonic() + 5
while "CLOSED" not in [hint.name for hint in heard] and time.monotonic() < until:
    time.sleep(0.001)
print(heard[-1].name)
watcher.close()
"""


@pytest.mark.parametrize(
    ("knob", "reason"),
    [
        (
            "max_inotify_instances",
            "polling, because the inotify instance limit is reached (EMFILE); raise fs.inotify.max_user_instances",
        ),
        (
            "max_inotify_watches",
            "polling, because the inotify watch limit is reached (ENOSPC); raise fs.inotify.max_user_watches",
        ),
    ],
)
def test_at_a_limit_it_says_so_and_heals(home: Path, knob: str, reason: str) -> None:
    """With no inotify to be had `mode` names the limit and its sysctl; once it is raised the next look has events."""
    inside = ["unshare", "--user", "--map-root-user", sys.executable, "-c", _AT_A_LIMIT, knob, str(home)]
    try:
        done = subprocess.run(inside, capture_output=True, text=True, cwd=os.getcwd(), timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if "unshare" in done.stderr or "/proc/sys/user" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip().splitlines()[-1]}")
    assert (done.stdout.splitlines(), done.stderr) == ([f"False {reason}", "True inotify events", "CLOSED"], "")


_WITHOUT_RIGHTS = """
import pathlib, sys, time
from agent.watch import Watcher
heard = []
watcher = Watcher(heard.append)
watcher.watch(frozenset(sys.argv[1:]))
print(watcher.healthy, watcher.mode)
watcher.rearm()
pathlib.Path(sys.argv[1], "state.yaml").unlink()
until = time.monotonic() + 5
while "CLOSED" not in [hint.name for hint in heard] and time.monotonic() < until:
    time.sleep(0.001)
print(heard[-1].name)
watcher.close()
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_a_directory_that_may_not_be_read_hides_no_other(home: Path, tmp_path: Path) -> None:
    """Root without capabilities, as in the unit, may not watch somebody's private directory; the rest is watched."""
    foreign = tmp_path / "a-foreign"
    foreign.mkdir(mode=0o700)
    os.chown(foreign, 1000, 1000)
    inside = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", sys.executable, "-c", _WITHOUT_RIGHTS]
    command = [*inside, str(home), str(foreign)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=os.getcwd(), timeout=60, check=False)
    said = f"False polling, because {foreign} cannot be watched: Permission denied"
    assert (done.stdout.splitlines(), done.stderr) == ([said, "CLOSED"], "")


# --- looking at the kernel ----------------------------------------------------------------------------------


def _await(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.001)


def _inotify_descriptors() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if "inotify" in os.readlink(f"/proc/self/fd/{name}"):
                found.append(int(name))
        except OSError:
            continue
    return found


def _unread(descriptor: int) -> int:
    """Bytes of events that the kernel still holds."""
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


def _kernel_watches() -> set[int]:
    """Inode numbers that this process watches."""
    lines = "".join(Path(f"/proc/self/fdinfo/{number}").read_text() for number in _inotify_descriptors()).splitlines()
    return {int(line.split(" ino:")[1].split()[0], 16) for line in lines if line.startswith("inotify ")}


def _inode(path: Path) -> int:
    return path.stat().st_ino


def _sleeps_through(thread: threading.Thread, seconds: float) -> bool:
    before = _switches(thread)
    time.sleep(seconds)
    return _switches(thread) == before


def _switches(thread: threading.Thread) -> int:
    """How often the thread has gone to sleep."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
