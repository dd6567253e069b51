"""Programs: the only module that starts any."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO

from agent.model import CommandResult

OUTPUT_BYTES = 1024 * 1024
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

_READ_BYTES = 65536
_LOOK_SECONDS = 0.05
"""How often a finished program is noticed whose children keep its output open."""
_LAST_WORDS_SECONDS = 1.0
"""How long such children are listened to."""


def run(argv: Sequence[str], timeout_seconds: float = 5.0, stdin: bytes = b"") -> CommandResult | None:
    """Run a program by absolute path, without a shell, in a clean environment, and wait for its end.

    Of standard output and error the first 1 MiB each is kept, the rest is read and thrown away. None if it cannot be
    started or did not end in time; then it is killed with every process of its group. `stdin` is a file in memory.
    """
    deadline = time.monotonic() + timeout_seconds
    try:
        with _in_memory(stdin) as source:
            process = subprocess.Popen(
                list(argv),
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,
            )
    except (OSError, ValueError):
        return None
    with process:
        try:
            out, err = _output(process, deadline)
            returncode = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)
    return CommandResult(returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def _in_memory(content: bytes) -> IO[bytes]:
    """A file that is nowhere on disk: unlike a pipe it cannot fill up, and a program can open it as /dev/stdin.

    Nameless in the tmpfs that is on every machine; memfd_create is newer than the glibc of the packaged Python (2.17).
    """
    import tempfile

    file = tempfile.TemporaryFile(buffering=0, dir="/dev/shm")  # noqa: SIM115 (the caller closes it)
    view = memoryview(content)
    while view:
        view = view[file.write(view) or 0 :]
    file.seek(0)
    return file


def _output(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
    """Both streams until they end, or until the program has ended and its left-over children fall silent."""
    kept: dict[int, bytearray] = {}
    with selectors.DefaultSelector() as selector:
        for stream in _streams(process):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, kept.setdefault(stream.fileno(), bytearray()))
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            ready = selector.select(min(left, _LOOK_SECONDS))
            for key, _ in ready:
                if not _take(key.fd, key.data):
                    selector.unregister(key.fileobj)
            if process.poll() is not None:
                deadline = min(deadline, time.monotonic() + _LAST_WORDS_SECONDS)
                if not ready:
                    break
    out, err = kept.values()
    return bytes(out), bytes(err)


def _streams(process: subprocess.Popen[bytes]) -> Iterator[IO[bytes]]:
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            yield stream


def _take(descriptor: int, kept: bytearray) -> bool:
    """Read once; False at the end of the stream."""
    try:
        chunk = os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return True
    kept += chunk[: max(0, OUTPUT_BYTES - len(kept))]
    return bool(chunk)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of a program that did not end by itself may live on; a finished one is left to its children."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
