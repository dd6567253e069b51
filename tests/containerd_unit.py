"""A containerd that reads config.toml when it starts, as far as the agent can see it: on a FakeHost, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from agent.errors import HostError, NotOrderedError
from agent.ledger import Ledger
from agent.model import Absent, ActiveState, CommandResult, Cri, Regular, UnitState
from agent.plan import RemoveFile, WriteFile
from agent.runtimes._config_toml import read_config
from tests.fakes import FakeHost

CONFIG = "/etc/containerd/config.toml"
PROGRAM = "/usr/bin/containerd"
CTR = "/usr/bin/ctr"
SOCKET = "/run/containerd/containerd.sock"
UNIT = "containerd.service"
DOWN = UnitState(ActiveState.INACTIVE, True, "dead")
FAILED = UnitState(ActiveState.FAILED, True, "failed")


class KilledError(BaseException):
    """The agent is gone, in the middle of what it did."""


@dataclass
class ContainerdHost(FakeHost):
    """`refuses` are words that keep the daemon from starting if they stand in its file, `breaks_cri` those that keep
    its CRI plugin from starting, `hangs_cri` those with which it starts and does not answer, `rejects` those that its
    own check finds; `lives` counts changes until the agent is killed (None: never). `job` is what systemd has still to
    do of what it was asked for, each step with its time: it goes on when the agent is dead. `takes_no_orders` is what
    systemd says instead."""

    version: str = "1.7.24"
    refuses: tuple[str, ...] = ()
    breaks_cri: tuple[str, ...] = ()
    hangs_cri: tuple[str, ...] = ()
    rejects: tuple[str, ...] = ()
    lives: int | None = None
    loaded: str = ""
    starts: int = 0
    job: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    takes_no_orders: str = ""

    def __post_init__(self) -> None:
        for path in (PROGRAM, CTR, SOCKET):
            self.put(path, "")
        self.mkdirs("/etc/containerd")

    def start(self) -> None:
        """What systemd does: the unit is up with a new invocation, or has failed."""
        self.starts += 1
        self.clock = replace(self.clock, unix_seconds=self.clock.unix_seconds + 1)
        if any(word in self.config for word in self.refuses):
            self.units[UNIT] = replace(FAILED, at_rest_since=self.clock.unix_seconds)
            return
        self.loaded = self.config
        at = self.clock.unix_seconds
        self.units[UNIT] = UnitState(ActiveState.ACTIVE, True, "running", 600 + self.starts, f"i{self.starts}", at)
        self.processes = {600 + self.starts: (PROGRAM,)}
        self.clock = replace(self.clock, unix_seconds=at + 1)

    def _stopping(self) -> None:
        self.units[UNIT] = replace(self.units[UNIT], active=ActiveState.DEACTIVATING, sub_state="stop-sigterm")

    def _end(self) -> None:
        self.units[UNIT] = replace(DOWN, at_rest_since=self.clock.unix_seconds)

    def unit(self, name: str) -> UnitState:
        while self.job and self.job[0][0] <= self.clock.unix_seconds:
            self.job.pop(0)[1]()
        return replace(super().unit(name), has_job=name == UNIT and bool(self.job))

    @property
    def config(self) -> str:
        state = self.files.get(CONFIG, Absent())
        return state.content.decode() if isinstance(state, Regular) else ""

    @property
    def is_up(self) -> bool:
        return self.unit(UNIT).is_up

    def command(self, argv: Sequence[str], *_: object, **__: object) -> CommandResult | None:
        if argv[-1] == "--version":
            return CommandResult(0, f"containerd github.com/containerd/containerd v{self.version} 0", "")
        if argv[-1] == "dump":
            rejected = any(word in self.config for word in self.rejects)
            return CommandResult(1, "", "no") if rejected else CommandResult(0, self.config, "")
        state = "error" if self._cri_fails() else "ok"
        return CommandResult(0, f"TYPE ID PLATFORMS STATUS\nio.containerd.grpc.v1 cri linux/amd64 {state}\n", "")

    def cri(self, socket: str) -> Cri:
        if not self.is_up or not self.exists(socket) or any(word in self.loaded for word in self.hangs_cri):
            return Cri.SILENT
        is_off = read_config(self.loaded, (1, 7, 24)).is_cri_disabled
        return Cri.MISSING if self._cri_fails() or is_off else Cri.READY

    def _cri_fails(self) -> bool:
        return any(word in self.loaded for word in self.breaks_cri) or self._clashes()

    def _clashes(self) -> bool:
        """As containerd has it: config_path does not go together with the tables that it replaces."""
        found = read_config(self.loaded, (1, 7, 24))
        return bool(found.config_path) and (found.has_mirrors or found.has_tls)

    def restart_unit(self, unit: str, deadline_seconds: float) -> None:
        self._step()
        if self.takes_no_orders or not self.is_up:
            raise NotOrderedError(unit, self.takes_no_orders or "is not running, so it is not restarted")
        super().restart_unit(unit, deadline_seconds)
        self._order(self._stopping, self._end, self.start)
        if not self.is_up:
            raise HostError(unit, "did not come up after a restart")

    def recover_unit(self, unit: str, deadline_seconds: float, taken: Callable[[], None]) -> None:
        self._step()
        super().recover_unit(unit, deadline_seconds, lambda: None)
        if self.unit(UNIT).active is ActiveState.FAILED:  # reset-failed comes before the order to start
            self.units[UNIT] = replace(self.units[UNIT], active=ActiveState.INACTIVE, sub_state="dead")
        self._step()
        if self.takes_no_orders:
            raise HostError(unit, self.takes_no_orders)
        self._order(self.start, taken=taken)
        if not self.is_up:
            raise HostError(unit, "did not come up")

    def _order(self, *steps: Callable[[], None], taken: Callable[[], None] = lambda: None) -> None:
        """A job: systemd does one step a second, and before and after each the agent can be killed."""
        self.job = [(self.clock.unix_seconds + 1.0 + at, step) for at, step in enumerate(steps)]
        taken()
        for _ in steps:
            self._step()
            self.pause(1.0)
            self.unit(UNIT)
        self._step()

    def write_files(self, actions: Sequence[WriteFile]) -> tuple[HostError | None, ...]:
        results = []
        for action in actions:
            self._step()
            results += super().write_files([action])
        return tuple(results)

    def remove_file(self, action: RemoveFile) -> None:
        self._step()
        super().remove_file(action)

    def save_ledger(self, ledger: Ledger) -> None:
        self._step()
        super().save_ledger(ledger)

    def _step(self) -> None:
        self.pause(0.03)
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                raise KilledError
