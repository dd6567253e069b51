"""What a node stands on: a scratch directory, an overlay over the cached root, and systemd-nspawn.

Each piece is a context manager that takes back what it made. Processes are ended by the ids of those started here.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.node import rootfs
from tests.node.waiting import NodeError, wait_until

POWER_OFF_DEADLINE_SECONDS = 25.0
# For all of root's processes in all nodes together; a booted node with both runtimes takes about 50.
INOTIFY_INSTANCES = 1024
_POWER_OFF_SIGNAL = signal.SIGRTMIN + 4
_SCRATCH_PREFIX = "mirror-agent-node-"


def require_host() -> None:
    """Raise CannotBuildError unless this host can boot nodes."""
    if os.geteuid() != 0:
        raise rootfs.CannotBuildError("nodes need root (overlay mounts, systemd-nspawn); run the node tests with sudo")
    for tool, package in (
        ("systemd-nspawn", "systemd-container"),
        ("nsenter", "util-linux"),
        ("mmdebstrap", "mmdebstrap"),
    ):
        if shutil.which(tool) is None:
            raise rootfs.CannotBuildError(f"{tool} is not installed; install it with: apt-get install {package}")


@contextlib.contextmanager
def scratch_directory(name: str) -> Iterator[Path]:
    """A directory on a real file system for the overlay's upper layer and the runtimes' data; removed at the end."""
    base = Path(os.environ.get("MIRROR_AGENT_NODE_SCRATCH") or "/var/tmp")
    _sweep(base)
    path = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH_PREFIX}{name}-", dir=base))
    with (path / "new").open("w") as mark:
        # Locked before it has the name by which another run would take it for left behind.
        fcntl.flock(mark, fcntl.LOCK_SH)
        (path / "new").rename(path / "in-use")
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _sweep(base: Path) -> None:
    """Remove what test runs that were killed left behind: directories whose lock nobody holds any more."""
    for left in base.glob(f"{_SCRATCH_PREFIX}*/in-use"):
        with contextlib.suppress(OSError), left.open("w") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            subprocess.run(["umount", "--lazy", str(left.parent / "root")], capture_output=True, check=False)
            shutil.rmtree(left.parent, ignore_errors=True)


@contextlib.contextmanager
def overlay(lowest: Path, scratch: Path) -> Iterator[Path]:
    upper, work, root = (scratch / part for part in ("upper", "work", "root"))
    for directory in (upper, work, root):
        directory.mkdir()
    options = f"lowerdir={lowest},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)


@contextlib.contextmanager
def booted(root: Path, scratch: Path, name: str) -> Iterator[int]:
    """The host's PID of the node's init."""
    _raise_inotify_limit()
    binds = []
    for data in ("docker", "containerd"):
        (scratch / data).mkdir(mode=0o711, exist_ok=True)
        binds.append(f"--bind={scratch / data}:/var/lib/{data}")
    command = [
        # A killed test run takes its nodes along: nspawn answers SIGTERM with an orderly shutdown.
        "setpriv", "--pdeathsig", "TERM",
        "systemd-nspawn", "-q", "-D", str(root), "--boot", "--register=no", "--keep-unit", "--private-network",
        "--capability=all", "--system-call-filter=@known", f"--machine={name}-{os.getpid()}", *binds,
    ]  # fmt: skip
    # On a host with a cgroup v1 hierarchy the node would get a mixed one, which systemd 258 and later refuses.
    environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    with (scratch / "console").open("wb") as console, _control_group(scratch.name) as join:
        process = subprocess.Popen(
            [*join, *command], stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, env=environment
        )
        try:
            init = wait_until(lambda: _init_of(process, scratch / "console"), 20, f"the init of {name}")
            yield init
            _power_off(process, init)
        finally:
            _end(process)


@contextlib.contextmanager
def _control_group(name: str) -> Iterator[list[str]]:
    """A cgroup of its own for one nspawn: they make their `payload` below the one they are started in, so two nodes
    would share one, and their two systemds would end each other's services. Yields the start of a command line."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    top = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
    if top is None:
        yield []
        return
    group = top / name
    group.mkdir()
    try:
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        for directory in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                directory.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()


def _init_of(process: subprocess.Popen[bytes], console: Path) -> int:
    if process.poll() is not None:
        raise NodeError(
            f"systemd-nspawn ended with {process.returncode}:\n{console.read_text(errors='replace')[-2000:]}"
        )
    for child in children_of(process.pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return child
    return 0


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _power_off(process: subprocess.Popen[bytes], init: int) -> None:
    """Ask init to power off, as `machinectl poweroff` does; after the deadline `_end` is less polite."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(init, _POWER_OFF_SIGNAL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(POWER_OFF_DEADLINE_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the node's init (its whole PID namespace ends with it) and nspawn, if they are still there."""
    if process.poll() is None:
        for child in children_of(process.pid):
            kill(child)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    if process.poll() is None:
        process.kill()
    process.wait()


def _raise_inotify_limit() -> None:
    """One limit holds for all nodes together; at 128, the kernel's default, a third node cannot start its units."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < INOTIFY_INSTANCES:
        limit.write_text(f"{INOTIFY_INSTANCES}\n")
