"""The measurements, each a list of rows: what, how much, beside what, the ratio, the target."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import desired
from agent.cli.lean import GARBAGE_THRESHOLD
from agent.cli.session import FINE
from agent.events import Event
from agent.keeper import Keeper
from agent.node import RealHost
from tests.bench.machine import PYTHON, Agent, Root, agent_command
from tests.bench.peers import ShellLoop, raw_floor, shell_loop

SETTLED_SECONDS = 0.3
WARM_UP_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `holds` is None where there is no target to hold."""

    what: str
    figure: str
    target: str = ""
    holds: bool | None = None


def median_and_worst(seconds: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile (the worst but one in a hundred)."""
    ordered = sorted(seconds)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def milliseconds(seconds: Sequence[float]) -> str:
    middle, worst = median_and_worst(seconds)
    return f"{middle * 1000:.1f} ms, p99 {worst * 1000:.1f}"


# --- an edit ---------------------------------------------------------------------------------------------------------


def edits(root: Root, rounds: int) -> list[Row]:
    """Saved desired state → every file durable and said; in turn with the floor and the shell loop."""
    agent_seconds, alone, together, shell = [], [], [], []
    with Agent(root) as agent, shell_loop(root.path / "loop", root.registries) as loop:
        for number in range(1, rounds + WARM_UP_ROUNDS + 1):
            agent.drain(SETTLED_SECONDS)
            agent_seconds.append(_edit(root, agent, number))
            files = root.managed()
            alone.append(raw_floor(root.path / "alone", files, at_once=False))
            together.append(raw_floor(root.path / "together", files, at_once=True))
            shell.append(_shell_round(loop, number))
    mine, floor, wide, others = (times[WARM_UP_ROUNDS:] for times in (agent_seconds, alone, together, shell))
    return _edit_rows(mine, floor, wide, [seconds for seconds in others if seconds is not None])


def _edit(root: Root, agent: Agent, number: int) -> float:
    """Every registry's file and daemon.json change, and each is one line, said once it is durable."""
    root.save(number)
    began = time.perf_counter()
    return agent.await_lines(": wrote ", root.registries + 1) - began


def _shell_round(loop: ShellLoop | None, number: int) -> float | None:
    return None if loop is None else loop.round(number)


def _edit_rows(
    mine: Sequence[float], floor: Sequence[float], wide: Sequence[float], shell: Sequence[float]
) -> list[Row]:
    middle, worst = median_and_worst(mine)
    ratio = middle / statistics.median(floor)
    rows = [
        Row(
            "saved YAML → all files durable",
            milliseconds(mine),
            "median ≤ 15 ms, p99 ≤ 100 ms",
            holds=middle <= 0.015 and worst <= 0.1,
        ),
        Row("  floor: the same bytes, fsync, rename, one by one", milliseconds(floor)),
        Row("  floor: by 8 threads", milliseconds(wide)),
        Row("  beside the floor, one by one", f"{ratio:.2f} ×", "< 2 ×", holds=ratio < 2),
        Row("  beside the floor, by 8 threads", f"{middle / statistics.median(wide):.2f} ×"),
    ]
    if not shell:
        return [*rows, Row("  inotifywait loop with heredocs", "inotify-tools is not installed")]
    beside = middle / statistics.median(shell)
    return [
        *rows,
        Row("  inotifywait loop with heredocs, no fsync", milliseconds(shell)),
        Row("  beside that loop", f"{beside:.2f} ×", "< 0.33 ×", holds=beside < 0.33),
    ]


# --- nothing to do ----------------------------------------------------------------------------------------------------


def nothing_to_do(root: Root, rounds: int = 200) -> list[Row]:
    """The CPU of a resync and of a full look when nothing has changed, and the files they open."""
    events: list[Event] = []
    host = RealHost(root.places)
    keeper = Keeper(host, root.seen_config, events.append, owner=0)
    keeper.start()
    keeper.look(acts=True)
    time.sleep(SETTLED_SECONDS)
    keeper.look(acts=True)
    opened = _count_opened_files()
    resync = _cpu_seconds(lambda: bool(host.unchanged()) or _complain("something moved"), rounds)
    opened_by_resync = len(opened)
    opened.clear()
    look = _cpu_seconds(lambda: keeper.look(acts=True), 20)
    return [
        Row("resync, nothing moved: CPU", f"{resync * 1000:.2f} ms", "≤ 1 ms", holds=resync <= 0.001),
        Row("  files opened", f"{opened_by_resync / rounds:.0f}", "0", holds=opened_by_resync == 0),
        Row("full look, nothing moved: CPU", f"{look * 1000:.2f} ms, {len(opened) / 20:.0f} files opened"),
    ]


# --- thousands -------------------------------------------------------------------------------------------------------


def thousands(root: Root) -> list[Row]:
    """A first apply of very many registries beside the floor, one edit among them, and a resync; garbage is
    looked for as the agent does it."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    keeper = Keeper(RealHost(root.places), root.seen_config, lambda _: None, owner=0)
    keeper.start()
    first = _seconds(lambda: keeper.look(acts=False))
    keeper.look(acts=True)
    files = root.managed()
    floor, wide = (raw_floor(root.path / f"floor-{at_once}", files, at_once=at_once) for at_once in (False, True))
    parsing = min(_seconds(lambda: desired.load(root.config.read_bytes(), root.seen_config)) for _ in range(3))
    root.save(0, first=1)
    edit = _seconds(lambda: keeper.look(acts=False))
    keeper.look(acts=True)
    resync = _seconds(keeper.host.unchanged)
    return [
        Row(f"{root.registries} registries: first apply, once they are parsed", f"{first:.1f} s"),
        Row("  floor: the same files, one by one; by 8 threads", f"{floor:.1f} s; {wide:.1f} s"),
        Row("  beside the floor, one by one", f"{first / floor:.2f} ×", "≤ 2 ×", holds=first <= 2 * floor),
        Row(
            "  one edit among them", f"{edit:.2f} s, parsing {parsing:.2f}", "≤ 1 s after it", holds=edit <= parsing + 1
        ),
        Row("  resync, nothing moved", f"{resync * 1000:.0f} ms", "≤ 200 ms", holds=resync <= 0.2),
    ]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _count_opened_files() -> list[str]:
    """A list to which every file is added that is opened from now on; directories on the way to it do not count."""
    opened: list[str] = []

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        if name == "open" and isinstance(flags := arguments[2], int) and not flags & (os.O_DIRECTORY | os.O_PATH):
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    return opened


def _cpu_seconds(work: Callable[[], object], rounds: int) -> float:
    began = time.process_time()
    for _ in range(rounds):
        work()
    return (time.process_time() - began) / rounds


def _complain(what: str) -> bool:
    raise RuntimeError(what)


# --- processes --------------------------------------------------------------------------------------------------------


def starts(root: Root, rounds: int) -> list[Row]:
    """Process start → READY=1, and a whole `apply` that has nothing to do; beside an interpreter that does nothing."""
    ready, applied, bare = [], [], []
    for _ in range(rounds):
        with Agent(root) as agent:
            ready.append(agent.ready_seconds)
        applied.append(_run(agent_command(root, "apply")))
        bare.append(_run([PYTHON, "-I", "-c", "pass"]))
    middle, apply_middle = statistics.median(ready), statistics.median(applied)
    return [
        Row("process start → READY, converged already", milliseconds(ready), "≤ 350 ms", holds=middle <= 0.35),
        Row("apply, nothing to do", milliseconds(applied), "≤ 250 ms", holds=apply_middle <= 0.25),
        Row("  an interpreter that does nothing", milliseconds(bare)),
    ]


def _run(command: Sequence[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != FINE:
        raise RuntimeError(done.stderr.decode())
    return time.perf_counter() - began


def idle(root: Root, seconds: float) -> list[Row]:
    """What the resident process costs while nothing happens: wakeups, CPU, memory."""
    with Agent(root) as agent:
        time.sleep(2.0)
        wakeups, cpu = _switches(agent.pid), _cpu_nanoseconds(agent.pid)
        time.sleep(seconds)
        wakeups, cpu = _switches(agent.pid) - wakeups, _cpu_nanoseconds(agent.pid) - cpu
        memory = _resident_megabytes(agent.pid)
        threads = len(list(Path(f"/proc/{agent.pid}/task").iterdir()))
    rate, load = wakeups / seconds, cpu / 1e6 / seconds
    return [
        Row(f"idle for {seconds:.0f} s: wakeups", f"{rate:.2f} /s", "≤ 0.1 /s", holds=rate <= 0.1),
        Row("  CPU", f"{load:.3f} ms/s", "≤ 0.2 ms/s", holds=load <= 0.2),
        Row("resident memory", f"{memory:.1f} MB, {threads} threads", "≤ 40 MB", holds=memory <= 40),
    ]


def _switches(pid: int) -> int:
    """Voluntary context switches of all threads: each is a wait that ended."""
    return sum(_field(path, "voluntary_ctxt_switches:") for path in Path(f"/proc/{pid}/task").glob("*/status"))


def _field(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name))


def _cpu_nanoseconds(pid: int) -> int:
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def _resident_megabytes(pid: int) -> float:
    return _field(Path(f"/proc/{pid}/status"), "VmRSS:") / 1024
