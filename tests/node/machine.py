"""A booted test node: an overlay over a cached root file system, run by systemd-nspawn with a network of its own.

Every node has its own PID, mount, network, IPC and UTS namespace; there is no route out, and ports never clash
between nodes. Needs root. What a node starts ends with its init; outside it only one sysctl is touched (nspawn.py).
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.node import rootfs
from tests.node.nspawn import booted, children_of, kill, overlay, require_host, scratch_directory
from tests.node.waiting import NodeError, wait_until

BOOT_DEADLINE_SECONDS = 90.0
COMMAND_TIMEOUT_SECONDS = 60

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "TERM": "linux",
    "SYSTEMD_PAGER": "",
}

Command = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class Result:
    """The end of one command: exit code, standard output and standard error as bytes."""

    command: str
    rc: int
    raw_out: bytes
    raw_err: bytes

    @property
    def out(self) -> str:
        return self.raw_out.decode("utf-8", "replace")

    @property
    def err(self) -> str:
        return self.raw_err.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        return self.rc == 0


class Node:
    """One booted machine of a Debian suite; a context manager that boots on entry and powers off on exit. `packages`
    are those it has besides what every node has."""

    def __init__(self, suite: str, *, name: str = "", packages: Sequence[str] = ()) -> None:
        self.suite = suite
        self.packages = tuple(packages)
        self.name = f"{name or 'node'}-{suite}".replace("_", "-").strip("-")
        self.boot_seconds = 0.0
        self._disk = contextlib.ExitStack()
        self._machine = contextlib.ExitStack()
        self._scratch = self._root = Path("/nowhere")
        self._init_pid = 0

    def __enter__(self) -> Self:
        lowest = rootfs.ensure(self.suite, *self.packages)
        require_host()
        with contextlib.ExitStack() as disk:
            self._scratch = disk.enter_context(scratch_directory(self.name))
            self._root = disk.enter_context(overlay(lowest, self._scratch))
            self._boot()
            self._disk = disk.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.close()
        self._disk.close()

    def reboot(self) -> None:
        """Power off and boot again from the same disk: all that lay under /run and /tmp is gone."""
        self._machine.close()
        self._boot()

    def _boot(self) -> None:
        began = time.monotonic()
        with contextlib.ExitStack() as machine:
            self._init_pid = machine.enter_context(booted(self._root, self._scratch, self.name))
            self._await_boot()
            self._machine = machine.pop_all()
        self.boot_seconds = time.monotonic() - began

    def _await_boot(self) -> None:
        wait_until(lambda: self.run("test -S /run/systemd/private", check=False).ok, 20, "systemd's private socket")
        state = self.run("systemctl is-system-running --wait", check=False, timeout_seconds=int(BOOT_DEADLINE_SECONDS))
        if state.out.strip() not in ("running", "degraded"):
            raise NodeError(f"{self.name} did not boot: {state.out.strip()} {state.err.strip()}")

    # -- commands ------------------------------------------------------------------------------------------------

    def argv(self, command: Command, *, environment: Mapping[str, str] = {}) -> list[str]:
        """The host's command line that runs `command` inside the node; a string is a bash script."""
        inner = ["bash", "-c", command] if isinstance(command, str) else list(command)
        variables = [f"{key}={value}" for key, value in {**_ENVIRONMENT, **environment}.items()]
        return ["nsenter", "-t", str(self._init_pid), "-a", "env", "-i", *variables, *inner]

    def run(
        self,
        command: Command,
        *,
        input: bytes = b"",  # noqa: A002 (the name that subprocess.run uses)
        check: bool = True,
        timeout_seconds: int = COMMAND_TIMEOUT_SECONDS,
        environment: Mapping[str, str] = {},
    ) -> Result:
        """Run `command` in the node to its end. It is killed after `timeout_seconds` (rc 137).

        Raises NodeError on a non-zero exit if `check`.
        """
        inner = ["bash", "-c", command] if isinstance(command, str) else list(command)
        line = self.argv(["timeout", "-s", "KILL", str(timeout_seconds), *inner], environment=environment)
        done = subprocess.run(line, input=input, capture_output=True, timeout=timeout_seconds + 10, check=False)
        shown = command if isinstance(command, str) else " ".join(command)
        result = Result(shown, done.returncode, done.stdout, done.stderr)
        if check and not result.ok:
            raise NodeError(f"{self.name}: {shown}\nrc {result.rc}\n{result.out[-2000:]}\n{result.err[-2000:]}")
        return result

    @contextlib.contextmanager
    def popen(self, command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """A running command in the node, ended (SIGKILL, by its own id and its child's) when the block is left."""
        with subprocess.Popen(self.argv(command), **options) as process:
            try:
                yield process
            finally:
                for child in children_of(process.pid):
                    kill(child)
                kill(process.pid)

    # -- files ---------------------------------------------------------------------------------------------------

    def put(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Place a whole file: written beside its name, then renamed. Missing parents are made."""
        script = 'mkdir -p "${1%/*}" && cat > "$1.new~" && chmod "$2" "$1.new~" && mv "$1.new~" "$1"'
        data = content.encode() if isinstance(content, str) else content
        self.run(["bash", "-c", script, "put", path, f"{mode:o}"], input=data)

    def read(self, path: str) -> bytes:
        """The bytes of a file; NodeError if it cannot be read."""
        return self.run(["cat", "--", path]).raw_out

    def text(self, path: str) -> str:
        """The file's content as UTF-8, or "" if there is none."""
        found = self.run(["cat", "--", path], check=False)
        return found.out if found.ok else ""

    def exists(self, path: str) -> bool:
        return self.run(["test", "-e", path], check=False).ok

    def tree(self, *paths: str) -> dict[str, tuple[Any, ...]]:
        """Everything under `paths` as {path: (type, mode, uid, gid, content or target)}."""
        return {path: tuple(entry[:5]) for path, entry in self._scan(paths).items()}

    def identity(self, *paths: str) -> dict[str, tuple[Any, ...]]:
        """As `tree`, with inode and mtime (nanoseconds) too: equal means that nothing was written."""
        return {path: tuple(entry) for path, entry in self._scan(paths).items()}

    def _scan(self, paths: Sequence[str]) -> dict[str, list[Any]]:
        scanned: dict[str, list[Any]] = json.loads(self.run(["python3", "-I", "-c", _SCAN, *paths]).raw_out)
        return scanned

    # -- units and journal ---------------------------------------------------------------------------------------

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """`systemctl show` of the named properties."""
        shown = self.run(["systemctl", "show", unit, "-p", ",".join(properties)]).out
        return dict(line.split("=", 1) for line in shown.splitlines())

    def life(self, unit: str) -> tuple[str, str]:
        """(MainPID, InvocationID): changes exactly when the unit was started anew."""
        shown = self.show(unit, "MainPID", "InvocationID")
        return shown["MainPID"], shown["InvocationID"]

    def cursor(self) -> str:
        """Where the journal stands now; for `journal(after=…)`."""
        out = self.run("journalctl -n 0 --show-cursor -q --no-pager").out
        return out.rpartition("-- cursor: ")[2].strip()

    def journal(self, *arguments: str, after: str = "") -> list[dict[str, Any]]:
        """Journal entries as dicts, oldest first; `arguments` go to journalctl (`-u UNIT`, `FIELD=value`)."""
        # Not --after-cursor: with a filter that the cursor's own entry does not pass, systemd 252 leaves out the first
        # entry after it.
        position = [f"--cursor={after}"] if after else []
        found = self.run(["journalctl", "-o", "json", "--all", "--no-pager", "-q", *position, *arguments])
        entries = [json.loads(line) for line in found.raw_out.splitlines()]
        return [entry for entry in entries if entry["__CURSOR"] != after]

    def messages(self, unit: str, after: str = "") -> list[str]:
        """The journal lines of one unit: what its processes wrote and what systemd says about it."""
        return [_as_text(entry.get("MESSAGE")) for entry in self.journal("-u", unit, after=after)]

    def save_journal(self, directory: Path, *, after: str = "") -> Path:
        """The node's journal as text in `directory`, for a failed test; never raises on a sick node."""
        directory.mkdir(parents=True, exist_ok=True)
        target = directory / f"{self.name}.journal"
        position = f"--after-cursor='{after}'" if after else ""
        with contextlib.suppress(OSError, NodeError, subprocess.SubprocessError):
            target.write_bytes(self.run(f"journalctl --no-pager -o short-precise {position}", check=False).raw_out)
        return target


_SCAN = """
import json, os, stat, sys
found = {}
def look(path):
    try:
        s = os.lstat(path)
    except FileNotFoundError:
        return
    kind = stat.filemode(s.st_mode)[0]
    content = ""
    if kind == "-":
        with open(path, "rb") as handle:
            content = handle.read().decode("latin-1")
    elif kind == "l":
        content = os.readlink(path)
    found[path] = [kind, f"{stat.S_IMODE(s.st_mode):o}", s.st_uid, s.st_gid, content, s.st_ino, s.st_mtime_ns]
    if kind == "d":
        for name in sorted(os.listdir(path)):
            look(path + "/" + name)
for path in sys.argv[1:]:
    look(path)
print(json.dumps(found))
"""


def _as_text(message: object) -> str:
    """journalctl's JSON gives bytes that are not UTF-8 as a list of numbers, and a huge field as null."""
    if isinstance(message, list):
        return bytes(message).decode("utf-8", "replace")
    return "" if message is None else str(message)
