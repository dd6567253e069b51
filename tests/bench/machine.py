"""A root of its own for the benchmarks, and the agent running on it as its unit runs it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from agent import systemd
from agent.node import Places
from tests import sandbox

REPOSITORY = Path(__file__).parents[2]
DEADLINE_SECONDS = 30.0

PACKAGED = os.environ.pop("MIRROR_AGENT_BENCH_PYTHON", "")
"""The interpreter of a package, installed or unpacked, whose agent is measured; "" for this checkout's. Taken out of
the environment, because the agent refuses variables that look like its own."""

PYTHON = PACKAGED or sys.executable
# As the packaged launcher: isolated, and nothing on the path but the agent and its dependencies.
_LAUNCHER = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from agent.cli import main; sys.exit(main())"
_SYSTEMD = Path("/run/systemd")
_MOUNTED = Path("/mnt")
"""Where the files are for the agent that names them by real paths: the directories above are as quiet as /etc."""

_FOREIGN = '{\n  "data-root": "/data/docker",\n  "exec-opts": ["native.cgroupdriver=systemd"]\n}\n'


@dataclass(frozen=True, slots=True)
class Root:
    """The files of a machine with a desired state of `registries` registries, all below `path`. `is_real`: named by
    their real paths, as on a node; else by --root, below which each look takes several system calls."""

    path: Path
    registries: int
    is_real: bool

    @property
    def config(self) -> Path:
        return self.path / "etc/mirror-agent.yaml"

    @property
    def seen_config(self) -> str:
        """The path of the desired state, as the agent is told it."""
        return self._seen("etc/mirror-agent.yaml")

    @property
    def places(self) -> Places:
        """Where an agent in this process works."""
        root = "/" if self.is_real else str(self.path)
        return Places(root, self._seen("var/lib/mirror-agent"), self._seen("run/mirror-agent"))

    @property
    def flags(self) -> list[str]:
        """The same on a command line."""
        places = self.places
        named = {"--root": places.root, "--config": self.seen_config}
        named |= {"--state-dir": places.state_directory, "--run-dir": places.run_directory}
        return [word for pair in named.items() for word in pair]

    def _seen(self, path: str) -> str:
        return f"{_MOUNTED}/{path}" if self.is_real else f"/{path}"

    def desired_state(self, number: int, first: int | None = None) -> str:
        """One desired state; each number gives every registry another mirror, and so changes every file. `first` is
        another number for the first registry alone."""
        names = ["docker.io", *(f"registry-{index}.example" for index in range(1, self.registries))]
        entries = [f"  {name}:\n    mirrors: [https://mirror-{number}.example]\n" for name in names]
        if first is not None:
            entries[0] = f"  {names[0]}:\n    mirrors: [https://mirror-{first}.example]\n"
        containerd, docker = self._seen("etc/containerd"), self._seen("etc/docker")
        head = (
            "version: 1\n"
            f"containerd: {{manage: true, config: {containerd}/config.toml, certs_dir: {containerd}/certs.d}}\n"
            f"docker: {{manage: true, daemon_json: {docker}/daemon.json}}\nregistries:\n"
        )
        return head + "".join(entries)

    def save(self, number: int, first: int | None = None) -> None:
        """Replace the desired state as a careful editor does, and flush it, so that the agent need not."""
        temporary = self.config.with_name("mirror-agent.yaml.new")
        with temporary.open("w") as file:
            file.write(self.desired_state(number, first))
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o640)
        temporary.rename(self.config)

    def managed(self) -> dict[str, bytes]:
        """Every file that is kept converged, with its content."""
        etc = self.path / "etc"
        paths = [*etc.glob("containerd/certs.d/*/hosts.toml"), etc / "docker/daemon.json"]
        return {str(path.relative_to(self.path)): path.read_bytes() for path in paths}


@contextmanager
def new_root(registries: int) -> Iterator[Root]:
    """On a real file system, because fsync is what is measured; removed at the end.

    As on a node, where we may hide systemd from this process for good: an agent on the real root would act on units.
    """
    is_real = _hide_systemd()
    with tempfile.TemporaryDirectory(prefix="mirror-agent-bench-", dir="/var/tmp") as name:
        root = Root(Path(name), registries, is_real)
        for directory in ("etc/containerd", "etc/docker", "var/lib", "run"):
            (root.path / directory).mkdir(parents=True)
        (root.path / "etc/docker/daemon.json").write_text(_FOREIGN)
        root.save(0)
        if is_real:
            sandbox.bind(root.path, _MOUNTED)
        try:
            yield root
        finally:
            if is_real:
                sandbox.unmount(_MOUNTED)


def _hide_systemd() -> bool:
    if os.geteuid() != 0 or sandbox.own_mounts():
        return False
    if _SYSTEMD.is_dir():
        sandbox.mount_memory(_SYSTEMD, "size=64k")
    return not systemd.available()


def agent_command(root: Root, *words: str) -> list[str]:
    """The command line of the agent on the root."""
    launcher = ["-IB", "-m", "agent"] if PACKAGED else ["-I", "-c", _LAUNCHER]
    return [PYTHON, *launcher, *root.flags, *words]


class Agent:
    """`mirror-agent run` on a root, from its start to its end; READY=1 has been sent when the block is entered."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._pending = b""
        self.ready_seconds = 0.0

    def __enter__(self) -> Self:
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            address = f"{directory}/notify"
            notify.bind(address)
            notify.settimeout(DEADLINE_SECONDS)
            began = time.perf_counter()
            self._process = subprocess.Popen(
                agent_command(self._root, "run"), stderr=subprocess.PIPE, env={"NOTIFY_SOCKET": address}
            )
            while b"READY=1" not in notify.recv(4096):
                pass
            self.ready_seconds = time.perf_counter() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(DEADLINE_SECONDS)

    @property
    def pid(self) -> int:
        return self._process.pid

    def await_lines(self, text: str, count: int) -> float:
        """The clock (perf_counter) at which that many lines with the text have come since the last call."""
        found, deadline = 0, time.monotonic() + DEADLINE_SECONDS
        while found < count:
            found += text in self._line(deadline)
        return time.perf_counter()

    def drain(self, quiet_seconds: float) -> None:
        """Throw away what it says until it has been silent for that long."""
        while select.select([self._process.stderr], [], [], quiet_seconds)[0] and self._read():
            pass
        self._pending = b""

    def _line(self, deadline: float) -> str:
        while b"\n" not in self._pending:
            wait = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stderr], [], [], wait)[0] or not self._read():
                raise TimeoutError(f"the agent did not say it within {DEADLINE_SECONDS:.0f} s")
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def _read(self) -> bool:
        assert self._process.stderr is not None
        data = os.read(self._process.stderr.fileno(), 65536)
        self._pending += data
        return bool(data)
