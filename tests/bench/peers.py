"""What the agent is compared with: the bare system calls, and the shell loop that people write."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

THREADS = 8


def write_durably(path: Path, content: bytes) -> None:
    """Temp, fsync, rename, fsync of the directory: nothing less is whole and durable."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def raw_floor(directory: Path, files: Mapping[str, bytes], *, at_once: bool) -> float:
    """Seconds to write the same bytes to the same tree elsewhere, one by one or by 8 threads; nothing is decided."""
    targets = [(directory / name, content) for name, content in files.items()]
    for path, _ in targets:
        path.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(THREADS if at_once else 1) as pool:
        began = time.perf_counter()
        list(pool.map(lambda target: write_durably(*target), targets))
        return time.perf_counter() - began


# One registry a line, as such scripts have it; no fsync, no merge, no check, no reload.
_LOOP = """\
inotifywait -q -m -e close_write,moved_to --format %f "$1" | while read -r name; do
    [ "$name" = list ] || continue
    while read -r registry mirror; do
        mkdir -p "$2/certs.d/$registry"
        cat > "$2/certs.d/$registry/hosts.toml" <<EOF
server = "https://$registry"

[host."$mirror"]
  capabilities = ["pull", "resolve"]
EOF
    done < "$1/list"
    cat > "$2/daemon.json" <<EOF
{
  "registry-mirrors": ["$mirror"]
}
EOF
    echo done
done
"""


class ShellLoop:
    """The running loop."""

    def __init__(self, source: Path, registries: int, process: subprocess.Popen[str]) -> None:
        self._source = source
        self._registries = registries
        self._process = process

    def round(self, number: int) -> float:
        """Seconds from the saved list to the loop's last word."""
        temporary = self._source.with_name("list.new")
        lines = (f"registry-{index}.example https://mirror-{number}.example\n" for index in range(self._registries))
        temporary.write_text("".join(lines))
        began = time.perf_counter()
        temporary.rename(self._source)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return time.perf_counter() - began


@contextmanager
def shell_loop(directory: Path, registries: int) -> Iterator[ShellLoop | None]:
    """An inotifywait loop with heredocs on that directory; None where inotify-tools is not installed."""
    if shutil.which("inotifywait") is None:
        yield None
        return
    for name in ("in", "out"):
        (directory / name).mkdir(parents=True)
    command = ["bash", "-c", _LOOP, "loop", str(directory / "in"), str(directory / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        time.sleep(0.5)
        try:
            yield ShellLoop(directory / "in/list", registries, process)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
