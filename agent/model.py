"""The values that travel: what is wanted (desired state) and what was seen (observed facts).

Plain frozen dataclasses, hashable, comparable, without behaviour that touches the machine. Words: DESIGN 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from agent.verdict import Verdict

DEFAULT_REGISTRY = "_default"
"""The name under which containerd looks for every registry that has no entry of its own (1.6.17, 1.7.0 and later)."""

DOCKER_HUB = "docker.io"
"""Docker Hub's name in an image reference; its endpoint is https://registry-1.docker.io."""


class Manage(Enum):
    """Whether a runtime is looked after: if it is installed, always, or never."""

    AUTO = "auto"
    ALWAYS = "true"
    NEVER = "false"


class OnChange(Enum):
    """How a change of daemon.json reaches dockerd."""

    AUTO = "auto"
    RESTART = "restart"
    RELOAD = "reload"


class RestartIf(Enum):
    """Under which condition dockerd may be restarted."""

    ALWAYS = "always"
    LIVE_RESTORE = "live-restore"
    IDLE = "idle"


class Order(Enum):
    """In which order mirrors are asked: as they are listed, or the fastest first."""

    LISTED = "listed"
    FASTEST = "fastest"


# --- the desired state -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientPair:
    """A client certificate (absolute path, PEM) and its key; `key` is "" when the same file holds both."""

    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class Header:
    """An HTTP header sent to a mirror. Nobody can tell whether `values` are secret, so they are kept like secrets."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeaderFile:
    """An HTTP header whose one value is the stripped content of a file (root-owned, no access for others)."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Mirror:
    """An endpoint tried before the registry's own. `url` is canonical: lower case, no default port, no trailing slash.

    `dial_timeout` is a Go duration as containerd wants it (`3s`); honoured by containerd 2.0.7 / 2.1 and later.
    """

    url: str
    override_path: bool = False
    capabilities: tuple[str, ...] = ("pull", "resolve")
    ca: tuple[str, ...] = ()
    client: tuple[ClientPair, ...] = ()
    skip_verify: bool = False
    headers: tuple[Header, ...] = ()
    header_files: tuple[HeaderFile, ...] = ()
    dial_timeout: str = "3s"


@dataclass(frozen=True, slots=True)
class Sidelined:
    """A mirror that is not asked for the time being: the verdict over it, what was seen, since when (Unix seconds)."""

    url: str
    verdict: Verdict
    detail: str
    since: float


@dataclass(frozen=True, slots=True)
class Failover:
    """How the mirrors of a registry differ from those desired, because of their health: `listed` are all, as desired;
    `out` are those that are not asked for the time being."""

    listed: tuple[Mirror, ...]
    out: tuple[Sidelined, ...] = ()


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry by its canonical name (`docker.io`, `registry.lan:5000`, `_default`) and how it is reached. `mirrors`
    are those asked now; `failover` is None where that are all of them, in the order of the desired state.

    `server` is the registry's own endpoint, canonical, and always present except for `_default` (where "" means each
    registry's own). `preset` names the preset an entry came from, "" when the operator wrote it.
    """

    name: str
    server: str
    mirrors: tuple[Mirror, ...] = ()
    fallback: bool = True
    insecure: bool = False
    plain_http: bool = False
    preset: str = ""
    failover: Failover | None = None

    @property
    def difference(self) -> str:
        """Why the mirrors are not those of the desired state, or not in its order; "" if they are."""
        if self.failover is None:
            return ""
        out = ", ".join(f"{each.url} is out ({each.verdict.value})" for each in self.failover.out)
        return out or "the fastest mirror is asked first"

    @property
    def as_desired(self) -> Registry:
        """The registry as it was written, whatever became of its mirrors."""
        return self if self.failover is None else replace(self, mirrors=self.failover.listed, failover=None)

    @property
    def desired_mirrors(self) -> tuple[Mirror, ...]:
        """All mirrors, in the order of the desired state."""
        return self.mirrors if self.failover is None else self.failover.listed


@dataclass(frozen=True, slots=True)
class ContainerdSettings:
    """What the desired state says of containerd itself: where its files lie, and whether it may be restarted."""

    manage: Manage = Manage.AUTO
    config: str = "/etc/containerd/config.toml"
    certs_dir: str = "/etc/containerd/certs.d"
    may_restart: bool = True


@dataclass(frozen=True, slots=True)
class Setting:
    """A top-level key of daemon.json and its value as compact JSON text (so that the value is hashable and exact)."""

    key: str
    json: str


@dataclass(frozen=True, slots=True)
class RestartWindow:
    """A daily span of local time, in minutes after midnight; `start` > `end` spans midnight."""

    start_minute: int
    end_minute: int


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """What the desired state says of Docker itself: its file, settings for it, and when it may be restarted."""

    manage: Manage = Manage.AUTO
    daemon_json: str = "/etc/docker/daemon.json"
    settings: tuple[Setting, ...] = ()
    on_change: OnChange = OnChange.AUTO
    restart_if: RestartIf = RestartIf.ALWAYS
    restart_window: RestartWindow | None = None


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """Probing and failover. A mirror that works is probed about every `interval_seconds`, each probe has
    `timeout_seconds` in all; it is out after `unhealthy_after` verdicts of an outage in a row, and in again after
    `healthy_after` without one. `images` pairs a registry's name with the image that its mirrors are probed with."""

    enabled: bool = False
    interval_seconds: float = 600.0
    timeout_seconds: float = 10.0
    unhealthy_after: int = 3
    healthy_after: int = 3
    order: Order = Order.LISTED
    images: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """`directory` is where node_exporter reads text files ("": no metrics are written)."""

    directory: str = ""


@dataclass(frozen=True, slots=True)
class DesiredState:
    """One valid desired state. `generation` is the SHA-256 (hex) of the bytes it was read from.

    `source` is the path it was read from (it stands in the header of every file we write). `registries` keeps the
    order of the text, presets after the operator's own.
    """

    generation: str
    source: str = "/etc/mirror-agent.yaml"
    registries: tuple[Registry, ...] = ()
    containerd: ContainerdSettings = ContainerdSettings()
    docker: DockerSettings = DockerSettings()
    health: HealthSettings = HealthSettings()
    metrics: MetricsSettings = MetricsSettings()

    @property
    def short_generation(self) -> str:
        """The seven characters that people see."""
        return self.generation[:7]

    @property
    def names_nothing(self) -> bool:
        """Neither a registry nor a setting, as the file is shipped: there is nothing to manage."""
        return not self.registries and not self.docker.settings


# --- observed facts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no file at the path (a dangling link is not this: it is Unusable)."""


@dataclass(frozen=True, slots=True)
class Regular:
    """A regular file, links followed. `mode` holds the permission bits only."""

    content: bytes = field(repr=False)
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Unusable:
    """Something stands there that must not be overwritten: a directory, FIFO, dangling or escaping link, huge file…"""

    reason: str


FileState = Absent | Regular | Unusable


class ActiveState(Enum):
    """systemd's ActiveState, and OFF where units are not under our control (--root, no systemd)."""

    ACTIVE = "active"
    RELOADING = "reloading"
    ACTIVATING = "activating"
    DEACTIVATING = "deactivating"
    INACTIVE = "inactive"
    FAILED = "failed"
    MAINTENANCE = "maintenance"
    REFRESHING = "refreshing"
    OFF = "off"


_IN_MOTION = frozenset(
    {ActiveState.ACTIVATING, ActiveState.DEACTIVATING, ActiveState.RELOADING, ActiveState.REFRESHING}
)


@dataclass(frozen=True, slots=True)
class UnitState:
    """A unit as systemd reports it. `started_at` is the main process's start in Unix seconds (0.0: not running);
    `starting_since` is when the start that is under way began (0.0: none is); `at_rest_since` is when it last ended or
    failed (0.0: never), which to forget a failure (reset-failed) does not change; both are worked out anew at each
    look, to the microsecond, so they make no two states different. `automatic_restarts` is how often systemd has
    started it anew by itself since somebody last started it; one that `is_masked` may run, and once it has ended
    systemd does not start it again; with `has_job` systemd was told to start, stop or restart it, and has not
    finished."""

    active: ActiveState = ActiveState.OFF
    loaded: bool = False
    sub_state: str = ""
    main_pid: int = 0
    invocation_id: str = ""
    started_at: float = 0.0
    is_masked: bool = False
    starting_since: float = field(default=0.0, compare=False)
    at_rest_since: float = field(default=0.0, compare=False)
    automatic_restarts: int = 0
    has_job: bool = False

    @property
    def is_up(self) -> bool:
        """Up and settled: the only state in which the runtime may be asked or told anything."""
        return self.active is ActiveState.ACTIVE and self.sub_state == "running" and self.main_pid > 0

    @property
    def is_in_motion(self) -> bool:
        """On its way from one state to another, so that what is true of it now is soon not."""
        return self.has_job or self.active in _IN_MOTION


@dataclass(frozen=True, slots=True)
class UnitTies:
    """What a stop or restart of a unit takes along. `kill_mode` is which of its processes systemd ends with it
    (`process`: the main one alone), "" if nobody knows; `bound_units` are the services that run and that systemd
    restarts or stops with it (BoundBy, RequiredBy, RequisiteOf, ConsistsOf), and those that hang on them."""

    kill_mode: str = ""
    bound_units: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptFile:
    """Bytes kept at `path`, of which nobody knows where they stood; `form` is what they look like, "" for nothing."""

    path: str
    kept_at: float
    form: str = ""


@dataclass(frozen=True, slots=True)
class Now:
    """The wall clock: Unix seconds, minutes after local midnight, and when the machine was booted (0.0: not known)."""

    unix_seconds: float
    local_minute: int
    booted_at: float = 0.0


class Cri(Enum):
    """What a container runtime makes of a question to its CRI: an answer, the answer that it has none, or nothing that
    could be called an answer."""

    READY = "answers"
    MISSING = "is not there"
    SILENT = "does not answer"


JOURNALCTL = ("/usr/bin/journalctl", "/bin/journalctl")
"""Where systemd's reader of the journal is: /bin can be a directory of its own up to Debian 11 and Ubuntu 20.04."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A finished command: exit status, and what it wrote, decoded as UTF-8 with replacement, at most 1 MiB each."""

    returncode: int
    stdout: str
    stderr: str


# --- what status shows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegistryReport:
    """One registry on one runtime: the endpoints in the order they are asked, and a note where that says too little.

    `path` is the file that says so ("" if none); `hosts` ends with the registry's own endpoint unless fallback is off.
    `live` tells whether the running daemon has it; None where that cannot be told, or where there is nothing to have.
    `state` is "" where the file says it, else what is to become of it, or why it is refused: then the hosts are wanted,
    and not in force.
    """

    name: str
    hosts: tuple[str, ...]
    path: str = ""
    note: str = ""
    live: bool | None = None
    state: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeReport:
    """One runtime as `status` shows it. `live` is None where it cannot be told (not running, units off)."""

    name: str
    title: str
    installed: bool
    version: str
    live: bool | None
    sentence: str
    registries: tuple[RegistryReport, ...] = ()
