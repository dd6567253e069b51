"""The service manager: the only module that asks systemd about units, and talks back to it.

systemctl is used, never a bus library: as root it reaches PID 1 by its private socket, also while the D-Bus daemon is
down. Only `show` is parsed, only the properties named here, and no localised text.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from agent.errors import HostError, NotOrderedError
from agent.model import JOURNALCTL, ActiveState, CommandResult, UnitState, UnitTies
from agent.processes import process_start
from agent.programs import run

_SYSTEMCTL = ("/usr/bin/systemctl", "/bin/systemctl")
_INVOCATIONS = "/run/systemd/units"
_STATE = (
    "LoadState",
    "ActiveState",
    "SubState",
    "MainPID",
    "InvocationID",
    "ExecMainStartTimestampMonotonic",
    "InactiveExitTimestampMonotonic",
    "InactiveEnterTimestampMonotonic",
    "NRestarts",
    "Job",
)
_BINDS = ("BoundBy", "RequiredBy", "RequisiteOf", "ConsistsOf")
"""A restart of a unit restarts those of these that run, and its end ends them (systemd.unit(5))."""
_POLL_SECONDS = 0.1
_AUTO_RESTART = frozenset({"auto-restart", "auto-restart-queued"})
"""Sub-states between a failed start and the next attempt of systemd's own."""
_RESULTS = {
    "success": "it stopped by itself",
    "exit-code": "its process exited with an error",
    "signal": "its process was killed by a signal",
    "core-dump": "its process crashed",
    "timeout": "it did not report in time that it is up",
    "watchdog": "its watchdog timed out",
    "start-limit-hit": "it was started too often in a short time",
    "oom-kill": "it was killed for lack of memory",
    "protocol": "its process ended before it was up",
    "resources": "systemd lacked a resource to start it",
    "exec-condition": "a condition of the unit forbids the start",
}


# --- units --------------------------------------------------------------------------------------------------


def available() -> bool:
    """Whether this machine was booted with systemd (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def unit_state(name: str) -> UnitState:
    """The unit as systemd sees it now (about 10 ms); ActiveState.OFF if systemd does not answer."""
    shown = _show(name, _STATE)
    if not shown:
        return UnitState()
    pid = _number(shown.get("MainPID", ""))
    return UnitState(
        active=_active(shown.get("ActiveState", "")),
        loaded=shown.get("LoadState") in ("loaded", "masked"),
        sub_state=shown.get("SubState", ""),
        main_pid=pid,
        invocation_id=shown.get("InvocationID", ""),
        started_at=_started_at(pid, shown.get("ExecMainStartTimestampMonotonic", "")),
        is_masked=shown.get("LoadState") == "masked",
        starting_since=_starting_since(shown),
        at_rest_since=_unix_time(_number(shown.get("InactiveEnterTimestampMonotonic", ""))),
        automatic_restarts=_number(shown.get("NRestarts", "")),
        has_job=_number(shown.get("Job", "")) > 0,
    )


def unit_ties(name: str) -> UnitTies:
    """What a restart of the unit would take along (about 20 ms); UnitTies() if systemd does not answer, and for a
    masked one: of that it has only defaults."""
    shown = _show(name, ("KillMode", "LoadState"))
    if not shown or shown.get("LoadState") == "masked":
        return UnitTies()
    return UnitTies(shown.get("KillMode", ""), tuple(sorted(_bound_to(name))))


def _bound_to(name: str) -> Iterator[str]:
    """The services that run and that a restart reaches, step by step."""
    seen, ahead = {name}, {name}
    while ahead:
        shown = _show_all(sorted(ahead), ("Id", "ActiveState", *_BINDS))
        runs = [unit for unit in shown if unit.get("ActiveState") not in ("inactive", "failed", None)]
        yield from (unit["Id"] for unit in runs if unit["Id"] != name and unit["Id"].endswith(".service"))
        ahead = {each for unit in runs for key in _BINDS for each in unit.get(key, "").split()} - seen
        seen |= ahead


def _starting_since(shown: Mapping[str, str]) -> float:
    """When the start that is under way began, 0.0 if none is."""
    began = _number(shown.get("InactiveExitTimestampMonotonic", ""))
    if shown.get("ActiveState") != ActiveState.ACTIVATING.value or shown.get("SubState") in _AUTO_RESTART or not began:
        return 0.0
    return _unix_time(began)


def _unix_time(monotonic_microseconds: int) -> float:
    """In Unix seconds; 0 stands for never."""
    return time.time() - (time.monotonic() - monotonic_microseconds / 1e6) if monotonic_microseconds else 0.0


def invocation_id(name: str) -> str:
    """The unit's current invocation, "" if it has none; costs one readlink, so it can be asked often."""
    try:
        return os.readlink(f"{_INVOCATIONS}/invocation:{name}")
    except OSError:
        return ""


def send_hup(name: str) -> None:
    """SIGHUP to the unit's main process and to nothing else. Raises HostError if the unit is not up.

    Not by `systemctl reload`: the packaged units of Docker call /bin/kill, which minimal systems lack, and not by
    `systemctl kill`, whose default also reaches docker-proxy. A signal before the handler stands would end dockerd.
    """
    state = unit_state(name)
    if not state.is_up:
        raise HostError(name, f"is not running ({state.active.value}), so it cannot be told to reload")
    try:
        os.kill(state.main_pid, signal.SIGHUP)
    except OSError as error:
        raise HostError(name, f"could not be signalled: {error.strerror}") from error


def restart(name: str, deadline_seconds: float, pause: Callable[[float], None]) -> None:
    """Restart a running unit and wait, without blocking on systemd, until it is up with a new invocation.

    `pause(seconds)` waits and feeds our watchdog. Its start counter is reset first, since manual restarts count too and
    the fourth within a minute would leave Docker down. A unit that was stopped meanwhile is not started (try-restart).
    Raises NotOrderedError if nothing was asked of it, HostError with what systemd says when it did not come up in time.
    """
    before = unit_state(name)
    if not before.is_up:
        raise NotOrderedError(name, f"is not running ({before.active.value}), so it is not restarted")
    reset_failed(name)
    _order("try-restart", name)
    _await_up(name, before.invocation_id, deadline_seconds, pause)


def recover(
    name: str, deadline_seconds: float, pause: Callable[[float], None], taken: Callable[[], None] = lambda: None
) -> None:
    """Bring up a unit that failed, or hangs in its start, because of our restart; wait as `restart` does.

    A start that hangs would swallow another one, so the job is a restart: for a unit that is not up it is a start with
    a clean slate. A unit that is up already (systemd started it again) is left alone; a masked one keeps its failure.
    The failure has to be forgotten first, since systemd takes the order in any case, and only then finds that the unit
    has been started too often. `taken` is called when it has taken the order.
    """
    before = unit_state(name)
    if before.is_up:
        return
    _refuse_masked(name)
    reset_failed(name)
    try:
        _order("restart", name)
    except NotOrderedError as error:  # the failure is forgotten by now, which must not be taken for nothing
        raise HostError(name, error.reason, error.hint) from error
    taken()
    _await_up(name, before.invocation_id, deadline_seconds, pause)


def start_soon(name: str) -> None:
    """Ask for the start of a unit and do not wait for it. Raises HostError if systemd takes no such order."""
    _order("start", name)


def said(units: Sequence[str], since: float) -> list[str]:
    """What these units have written into the journal since then (Unix seconds), the last thousand lines of it; nothing
    if the journal cannot be read."""
    names = (f"--unit={unit}" for unit in units)
    read = run((_there(JOURNALCTL), "--quiet", "--output=cat", "--lines=1000", f"--since=@{since:.6f}", *names))
    return read.stdout.splitlines() if read is not None else []


def _order(verb: str, name: str) -> None:
    """Ask for a job without waiting for it. Raises NotOrderedError if systemd takes no such order; one that has not
    answered in time may have taken it."""
    _refuse_masked(name)
    result = _systemctl(verb, "--no-block", "--", name)
    if result is not None and result.returncode != 0:
        said = " ".join(result.stderr.split()) or f"exit code {result.returncode}"
        raise NotOrderedError(name, f"systemd does not {verb} it: {said}")


def _refuse_masked(name: str) -> None:
    """To try-restart a masked unit that runs does nothing and says nothing, and waiting for that would only hold up
    everything else."""
    if _show(name, ("LoadState",)).get("LoadState") == "masked":
        raise NotOrderedError(name, "is masked, so systemd does not restart it", f"unmask it: systemctl unmask {name}")


def _await_up(name: str, old_invocation: str, deadline_seconds: float, pause: Callable[[float], None]) -> None:
    """Return when the unit is up with an invocation other than the old one; raise HostError if it will not be. The
    deadline is the start's: before that, what runs may take as long to stop (systemd allows it 90 s by default)."""
    deadline = time.monotonic() + deadline_seconds
    latest = deadline + deadline_seconds
    idle_looks = 0
    while time.monotonic() < deadline:
        pause(_POLL_SECONDS)
        if invocation_id(name) == old_invocation != "":
            deadline = min(time.monotonic() + deadline_seconds, latest)
            continue
        state = unit_state(name)
        if state.is_up and state.invocation_id != old_invocation:
            return
        idle_looks = idle_looks + 1 if _is_over(state) else 0
        if idle_looks > 1:
            raise _not_up(name)
    raise _not_up(name, deadline_seconds)


def reset_failed(name: str) -> None:
    """Forget failures and the start counter of the unit and of the sockets that start it."""
    triggers = _show(name, ("TriggeredBy",)).get("TriggeredBy", "").split()
    _systemctl("reset-failed", "--", name, *triggers)


def _is_over(state: UnitState) -> bool:
    """Failed for good or for the second time in a row, or stopped with no job that would start it. Seen twice, it is
    not a moment between two jobs. One failure is forgiven where systemd tries again by itself (Restart=)."""
    if state.active is ActiveState.FAILED:
        return True
    if state.sub_state in _AUTO_RESTART:
        return state.automatic_restarts > 0
    return state.active is ActiveState.INACTIVE and not state.has_job


def _not_up(name: str, waited_seconds: float = 0.0) -> HostError:
    """What to say of it: 0 seconds for one that has failed, even if systemd has begun another attempt since (which is
    "success" until it fails as well)."""
    shown = _show(name, ("ActiveState", "SubState", "Result"))
    hint = f"see `journalctl -u {name}`"
    is_at_rest = shown.get("ActiveState") in ("failed", "inactive") or shown.get("SubState") in _AUTO_RESTART
    if is_at_rest or not waited_seconds:
        result = shown.get("Result", "")
        why = "" if result == "success" and not is_at_rest else f": {_RESULTS.get(result, result)} ({result})"
        return HostError(name, f"did not come up after a restart{why}", hint)
    where = "/".join(filter(None, (shown.get("ActiveState"), shown.get("SubState")))) or "unknown"
    return HostError(name, f"was not up {waited_seconds:g} s after a restart; it is {where}", hint)


def _show(name: str, properties: Sequence[str]) -> Mapping[str, str]:
    return next(iter(_show_all((name,), properties)), {})


def _show_all(names: Sequence[str], properties: Sequence[str]) -> Sequence[Mapping[str, str]]:
    """The properties of each unit, in the order of the names; () if systemd does not answer."""
    result = _systemctl("show", f"--property={','.join(properties)}", "--", *names)
    if result is None or result.returncode != 0:
        return ()
    blocks = result.stdout.split("\n\n")
    return [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]


def _systemctl(*arguments: str) -> CommandResult | None:
    return run((_there(_SYSTEMCTL), *arguments))


def _there(paths: Sequence[str]) -> str:
    """The first of them that is there, else the first."""
    return next((path for path in paths if os.access(path, os.X_OK)), paths[0])


def _active(text: str) -> ActiveState:
    """Unknown words of a systemd to come count as "not settled"."""
    try:
        return ActiveState(text)
    except ValueError:
        return ActiveState.MAINTENANCE


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


# --- when a process was started -----------------------------------------------------------------------------


def _started_at(pid: int, monotonic_microseconds: str) -> float:
    """When the main process was started, 0.0 if it is not running. systemd's own figure is second choice: its clock
    stands still in suspend, and its wall-clock text depends on zone and version (`--timestamp=` is new in 248)."""
    since = _number(monotonic_microseconds)
    if not pid or not since:
        return 0.0
    return process_start(pid) or _unix_time(since)


# --- talking back (sd_notify(3)); every call does nothing without a service manager -------------------------


def ready(status: str = "") -> None:
    """The service is up (or, after `reloading`, up again)."""
    _notify("READY=1", _status(status))


def reloading(status: str = "") -> None:
    """A reload began; `ready` ends it."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    _notify("RELOADING=1", f"MONOTONIC_USEC={microseconds}", _status(status))


def stopping(status: str = "") -> None:
    """The service is on its way down."""
    _notify("STOPPING=1", _status(status))


def status(text: str) -> None:
    """The one line that `systemctl status` shows."""
    _notify(_status(text))


def ping() -> None:
    """Keep the watchdog quiet; to be called only by the loop that makes progress."""
    _notify("WATCHDOG=1")


def ping_interval_seconds() -> float:
    """After which time `ping` should be called again: half of what the watchdog allows; infinite without one."""
    microseconds = _number(os.environ.get("WATCHDOG_USEC", ""))
    meant = os.environ.get("WATCHDOG_PID", "")
    if not microseconds or (meant and _number(meant) != os.getpid()):
        return math.inf
    return microseconds / 2e6


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split()) if text else ""


def _notify(*lines: str) -> None:
    """A service manager that does not listen must not stop the service."""
    import systemd.daemon as service_manager  # not at the top: only the daemon has anybody to tell

    with suppress(Exception):
        service_manager.notify("\n".join(line for line in lines if line))
