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

REPOSITORY = Path(__file__).parents[2]
DEADLINE_SECONDS = 30.0

# As the packaged launcher: isolated, and nothing on the path but the agent and its dependencies.
_LAUNCHER = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from agent.cli import main; sys.exit(main())"
_FOREIGN = '{\n  "data-root": "/data/docker",\n  "exec-opts": ["native.cgroupdriver=systemd"]\n}\n'


@dataclass(frozen=True, slots=True)
class Root:
    """A root directory with a desired state of `registries` registries."""

    path: Path
    registries: int

    @property
    def config(self) -> Path:
        return self.path / "etc/mirror-agent.yaml"

    def desired_state(self, number: int) -> str:
        """One desired state; each number gives every registry another mirror, and so changes every file."""
        names = ["docker.io", *(f"registry-{index}.example" for index in range(1, self.registries))]
        entries = [f"  {name}:\n    mirrors: [https://mirror-{number}.example]\n" for name in names]
        head = "version: 1\ncontainerd: {manage: true}\ndocker: {manage: true}\nregistries:\n"
        return head + "".join(entries)

    def save(self, number: int) -> None:
        """Replace the desired state as a careful editor does, and flush it, so that the agent need not."""
        temporary = self.config.with_name("mirror-agent.yaml.new")
        with temporary.open("w") as file:
            file.write(self.desired_state(number))
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
    """On a real file system, because fsync is what is measured; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="mirror-agent-bench-", dir="/var/tmp") as name:
        root = Root(Path(name), registries)
        for directory in ("etc/containerd", "etc/docker"):
            (root.path / directory).mkdir(parents=True)
        (root.path / "etc/docker/daemon.json").write_text(_FOREIGN)
        root.save(0)
        yield root


def agent_command(root: Root, *words: str) -> list[str]:
    """The command line of the agent on the root."""
    return [sys.executable, "-I", "-c", _LAUNCHER, "--root", str(root.path), *words]


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
