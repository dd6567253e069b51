"""When a process was started, from /proc."""

from __future__ import annotations

import functools
import os
import time


def process_start(pid: int) -> float:
    """Unix seconds at which a process was started, 0.0 if it is gone; the same value each time for the same process.

    From /proc/PID/stat, whose clock runs on in suspend (CLOCK_BOOTTIME).
    """
    ticks = _start_ticks(pid) if pid > 0 else 0
    return _wall_clock(pid, ticks) if ticks else 0.0


@functools.lru_cache(maxsize=64)
def _wall_clock(pid: int, ticks: int) -> float:  # noqa: ARG001 (the process is part of the key)
    """Worked out once per process, so that two looks at one process give equal values."""
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def _start_ticks(pid: int) -> int:
    """Field 22 of proc(5)'s stat; the name before it may hold blanks and brackets. 0 if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read(4096).rpartition(b")")[2].split()
        return int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0
