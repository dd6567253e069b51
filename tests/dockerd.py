"""A dockerd in memory: it reads daemon.json at its start and at a SIGHUP, as the real one does (moby daemon/reload.go),
and answers /info and /events. Written from the measured facts, not from the agent's table, so that the two can differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.errors import HostError, NotOrderedError
from agent.ledger import Ledger
from agent.model import JOURNALCTL, ActiveState, CommandResult, Regular, UnitState
from agent.plan import RemoveFile, WriteFile
from tests.fakes import FakeHost

UNIT = "docker.service"
SOCKET = "/run/docker.sock"
DAEMON_JSON = "/etc/docker/daemon.json"

KEEPS = {"registry-mirrors", "insecure-registries", "labels", "debug", "live-restore", "shutdown-timeout"}
DROPS = {"max-concurrent-downloads", "features"}

Values = dict[str, Any]


class Crash(BaseException):
    """The agent is killed here."""


@dataclass
class DockerHost(FakeHost):
    """A machine whose dockerd lives. Time passes with every change; `crash_after` counts down changes to a kill;
    a SIGHUP is taken only when time passes, for it is asynchronous. `deaf`: it does not answer;
    `refuses_reloads`: there is something in the file that it does not like at a SIGHUP.

    What goes wrong at a start is told by the values of the file: with those that `fails` knows it ends at once, for
    good (systemd's own attempts are over within seconds); with those that `hangs` knows it never gets ready; of those
    that `ignores` names it starts without a word. `dies_at_reload` are values over which a SIGHUP ends it; systemd then
    starts it again. `is_reset`: the agent has made systemd forget its failure, so it looks stopped. `containers` are
    the restart policies of those that run, by name. `job` is what systemd has still to do of what it was asked for,
    each step with its time: it goes on when the agent is dead. `takes_no_orders` is what systemd says instead. `said`
    is what dockerd has written into the journal, each line with its time; `again`: systemd has begun one more attempt
    when the agent looks at one that has failed, as it does within 100 ms (Restart=). `is_collected`: nothing refers to
    its unit, so systemd forgets one that is inactive, and with it since when (measured on systemd 252: a disabled unit,
    its socket stopped, no unit in memory that names it; mirror-agent.service does, by Before=)."""

    running: Values = field(default_factory=dict)
    events: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    wrong_acts: list[str] = field(default_factory=list)
    invocations: int = 0
    signals: int = 0
    crash_after: int | None = None
    deaf: bool = False
    refuses_reloads: bool = False
    fails: Callable[[Values], bool] = field(default=lambda _: False)
    hangs: Callable[[Values], bool] = field(default=lambda _: False)
    dies_at_reload: Callable[[Values], bool] = field(default=lambda _: False)
    ignores: frozenset[str] = frozenset()
    starts: int = 0
    is_reset: bool = False
    containers: dict[str, str] = field(default_factory=dict)
    job: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    takes_no_orders: str = ""
    said: list[tuple[float, str]] = field(default_factory=list)
    again: bool = False
    is_collected: bool = False

    def __post_init__(self) -> None:
        self.mkdirs("/etc/docker")
        self.answers[(SOCKET, "/info")] = self.info
        self.answers[(SOCKET, "/events")] = self.reload_events
        self.units[UNIT] = UnitState(ActiveState.INACTIVE, loaded=True)

    # --- what others do ------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        return self.units[UNIT].is_up

    def start(self) -> None:
        """(Re)start it: a new invocation that reads the file."""
        self.tick(0.5)
        self.invocations, self.starts, self.running, self.is_reset = self.invocations + 1, self.starts + 1, {}, False
        values, invocation, at = self.file(), f"i{self.invocations}", self.clock.unix_seconds
        if self.fails(values):
            state = UnitState(ActiveState.FAILED, True, "failed", 0, invocation)
            self.units[UNIT] = replace(state, at_rest_since=at)
            self.said.append((at, f"failed to start daemon: bad values (attempt {self.starts})"))
            if self.again:
                self._begin_again()
        elif self.hangs(values):
            state = UnitState(ActiveState.ACTIVATING, True, "start", 100 + self.invocations, invocation, at)
            self.units[UNIT] = replace(state, starting_since=at)
        else:
            self.units[UNIT] = UnitState(ActiveState.ACTIVE, True, "running", 100 + self.invocations, invocation, at)
            self.tick(0.1)
            self.running, self.signals, self.events = self._read(), 0, []
        self.tick(0.5)

    def _begin_again(self) -> None:
        self.tick(0.1)
        self.invocations += 1
        at, number = self.clock.unix_seconds, self.invocations
        state = UnitState(ActiveState.ACTIVATING, True, "start", 100 + number, f"i{number}", at)
        self.units[UNIT] = replace(state, starting_since=at, automatic_restarts=2)
        self.said.append((at, 'time="2026-11-28T12:21:11Z" level=info msg="Starting up"'))

    def _read(self) -> Values:
        return {key: value for key, value in self.file().items() if key not in self.ignores}

    def stop(self) -> None:
        """Somebody stops it, whatever it is doing."""
        self.job.clear()
        self._end()
        self.tick(0.1)

    def _stopping(self) -> None:
        self.units[UNIT] = replace(self.units[UNIT], active=ActiveState.DEACTIVATING, sub_state="stop-sigterm")

    def _end(self) -> None:
        self.units[UNIT] = self._forgotten(UnitState(loaded=True, at_rest_since=self.clock.unix_seconds))
        self.running, self.is_reset = {}, False

    def _forgotten(self, state: UnitState) -> UnitState:
        """Neither running nor failed."""
        since = 0.0 if self.is_collected else state.at_rest_since
        return replace(state, active=ActiveState.INACTIVE, sub_state="dead", at_rest_since=since)

    def tick(self, seconds: float) -> None:
        """Time passes."""
        self.clock = replace(self.clock, unix_seconds=self.clock.unix_seconds + seconds)
        if self.signals and self.is_up:
            self.signals = 0
            self._reload()
        while self.job and self.job[0][0] <= self.clock.unix_seconds:
            self.job.pop(0)[1]()

    def file(self) -> Values:
        state = self.files.get(DAEMON_JSON)
        return dict(json.loads(state.content)) if isinstance(state, Regular) else {}

    def edit(self, changes: Mapping[str, Any]) -> None:
        """Somebody else sets keys in the file; None removes one."""
        values = {**self.file(), **changes}
        self.tick(0.1)
        self.put(DAEMON_JSON, json.dumps({key: value for key, value in values.items() if value is not None}))
        self.tick(0.1)

    def delete(self) -> None:
        """Somebody else deletes the file."""
        self.tick(0.1)
        self.files.pop(DAEMON_JSON, None)
        self.mtimes["/etc/docker"] = self.clock.unix_seconds
        self.tick(0.1)

    # --- what the daemon says ------------------------------------------------------------------------------------

    def info(self) -> bytes | None:
        if self.deaf or not self.is_up:
            return None
        hosts = {host: {"Secure": False} for host in self.running.get("insecure-registries") or []}
        return json.dumps(
            {
                "ServerVersion": "26.1.5",
                "RegistryConfig": {
                    "Mirrors": [f"{url}/" for url in self.running.get("registry-mirrors") or []] or None,
                    "IndexConfigs": {"docker.io": {"Secure": True}, **hosts},
                    "InsecureRegistryCIDRs": ["127.0.0.0/8"],
                },
                "Debug": bool(self.running.get("debug")),
                "LiveRestoreEnabled": bool(self.running.get("live-restore")),
                "LoggingDriver": self.running.get("log-driver") or "json-file",
                "Labels": self.running.get("labels"),
                "ContainersRunning": len(self.containers),
            }
        ).encode()

    def unit(self, name: str) -> UnitState:
        return replace(super().unit(name), has_job=name == UNIT and bool(self.job))

    def query(self, socket: str, target: str) -> bytes | None:
        if self.is_up and not self.deaf and target == "/containers/json":
            rows = [{"Id": f"{number:064x}", "Names": [f"/{name}"]} for number, name in enumerate(self.containers)]
            return json.dumps(rows).encode()
        if target.startswith("/containers/"):
            policy = list(self.containers.values())[int(target.split("/")[2], 16)]
            return json.dumps({"HostConfig": {"RestartPolicy": {"Name": policy}}}).encode()
        return super().query(socket, target)

    def reload_events(self) -> bytes:
        lines = [{"Type": "daemon", "Action": "reload", "timeNano": int(at * 1e9)} for at in self.events]
        return "\n".join(map(json.dumps, lines)).encode()

    def command(self, argv: Sequence[str], stdin: bytes = b"", files: Sequence[str] = ()) -> CommandResult | None:
        """Every line of the journal since then, as with `_SYSTEMD_UNIT=docker.service`; not of one invocation."""
        if argv[0] not in JOURNALCTL:
            return super().command(argv, stdin, files)
        assert {"--output=cat", f"_SYSTEMD_UNIT={UNIT}"} < set(argv)
        since = next(float(word.removeprefix("--since=@")) for word in argv if word.startswith("--since=@"))
        return CommandResult(0, "".join(f"{line}\n" for at, line in self.said if at >= since), "")

    # --- what the agent does -------------------------------------------------------------------------------------

    def reload_unit(self, unit: str) -> None:
        self._about_to_change()
        self._note_act("reload")
        super().reload_unit(unit)
        self.signals += 1

    def restart_unit(self, unit: str, deadline_seconds: float) -> None:
        self._about_to_change()
        self._note_act("restart")
        if self.takes_no_orders or not self.is_up:
            raise NotOrderedError(UNIT, self.takes_no_orders or "is not running, so it is not restarted")
        self.restarts.append(self.clock.unix_seconds)
        super().restart_unit(unit, deadline_seconds)
        self._order(self._stopping, self._end, self.start)
        self._await_up(deadline_seconds)

    def recover_unit(self, unit: str, deadline_seconds: float, taken: Callable[[], None]) -> None:
        self._about_to_change()
        was = self.units[UNIT]
        if was.active is ActiveState.ACTIVE or (was.active is ActiveState.INACTIVE and not self.is_reset):
            self.wrong_acts.append(f"start of a daemon that is {self.units[UNIT].active.value}")
        super().recover_unit(unit, deadline_seconds, lambda: None)
        if was.active is ActiveState.FAILED:  # reset-failed comes before the order to start
            self.units[UNIT], self.is_reset = self._forgotten(was), True
        self._about_to_change()
        if self.takes_no_orders:
            raise HostError(UNIT, self.takes_no_orders)
        ends = (self._stopping, self._end) if was.active is ActiveState.ACTIVATING else ()
        self._order(*ends, self.start, taken=taken)
        self._await_up(deadline_seconds)

    def _order(self, *steps: Callable[[], None], taken: Callable[[], None] = lambda: None) -> None:
        """A job: systemd does one step a second, and before and after each the agent can be killed."""
        self.job = [(self.clock.unix_seconds + 1.0 + at, step) for at, step in enumerate(steps)]
        taken()
        for _ in steps:
            self._about_to_change()
            self.tick(1.0)
        self._about_to_change()

    def _await_up(self, deadline_seconds: float) -> None:
        if self.is_up:
            return
        if self.units[UNIT].active is ActiveState.ACTIVATING:
            self.tick(deadline_seconds)
        raise HostError(UNIT, "did not come up after a restart: its process exited with an error (exit-code)")

    def write_files(self, actions: Sequence[WriteFile]) -> tuple[HostError | None, ...]:
        self._about_to_change()
        self.mtimes["/etc/docker"] = self.clock.unix_seconds
        return super().write_files(actions)

    def remove_file(self, action: RemoveFile) -> None:
        self._about_to_change()
        super().remove_file(action)
        self.mtimes["/etc/docker"] = self.clock.unix_seconds

    def keep_original(self, content: bytes) -> str:
        self._about_to_change()
        return super().keep_original(content)

    def save_ledger(self, ledger: Ledger) -> None:
        self._about_to_change()
        super().save_ledger(ledger)

    def pause(self, seconds: float) -> None:
        self.tick(seconds)

    def _about_to_change(self) -> None:
        self.tick(0.03)
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                self.crash_after = None
                raise Crash

    def _note_act(self, act: str) -> None:
        if not self.is_up:
            self.wrong_acts.append(f"{act} of a daemon that is not up")
        if act == "restart" and self.restarts and self.clock.unix_seconds - self.restarts[-1] < 60:
            self.wrong_acts.append("restart within 60 s of the last")

    def _reload(self) -> None:
        values = self._read()
        if self.dies_at_reload(values):
            self.start()
            return
        if self.refuses_reloads:
            return
        for key in KEEPS & values.keys():
            self.running[key] = values[key]
        store = (self.running.get("features") or {}).get("containerd-snapshotter")
        for key in DROPS:
            self.running.pop(key, None)
            if key in values:
                self.running[key] = values[key]
        if store is not None or "features" in self.running:
            self.running["features"] = {**(self.running.get("features") or {}), "containerd-snapshotter": store}
        self.events.append(self.clock.unix_seconds)
