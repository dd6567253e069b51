"""What tests of Docker's plans are made of: desired states, machines, answers, and what the ledger has."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from agent.model import (
    Absent,
    ActiveState,
    ContainerdSettings,
    DesiredState,
    DockerSettings,
    FileState,
    Manage,
    Mirror,
    Now,
    Registry,
    Regular,
    Setting,
    UnitState,
)
from agent.plan import Claim, KeyOriginal, Memory, Plan, Reload, Restart, WriteFile
from agent.runtimes.docker import RUNTIME
from tests.fakes import FakeHost

PATH = "/etc/docker/daemon.json"
UNIT = "docker.service"
SOCKET = "/run/docker.sock"
NOW = 1_800_000_000.0
STARTED = NOW - 3600.0
UP = UnitState(ActiveState.ACTIVE, True, "running", 812, "i1", STARTED)
DOWN = UnitState(ActiveState.INACTIVE, loaded=True)
A, B = "https://a.example", "https://b.example"
STOPS = "containers stop, and those with a restart policy come back"


def desired(*mirrors: str, docker: DockerSettings | None = None, insecure: tuple[str, ...] = ()) -> DesiredState:
    hub = (Registry("docker.io", "", tuple(map(Mirror, mirrors))),) if mirrors else ()
    others = tuple(Registry(name, f"https://{name}", insecure=True) for name in insecure)
    state = DesiredState("0" * 64, registries=(*hub, *others), containerd=ContainerdSettings(Manage.NEVER))
    return replace(state, docker=docker or DockerSettings())


def settings(docker: DockerSettings | None = None, **values: object) -> DockerSettings:
    """docker.settings; `_` in a name stands for `-`."""
    listed = ((key.replace("_", "-"), json.dumps(value, separators=(",", ":"))) for key, value in values.items())
    return replace(docker or DockerSettings(), settings=tuple(Setting(*item) for item in listed))


def info(*mirrors: str, insecure: tuple[str, ...] = (), **other: object) -> bytes:
    """An answer to GET /info."""
    hosts = {host: {"Secure": False} for host in insecure}
    registries = {
        "Mirrors": [f"{url}/" for url in mirrors],
        "IndexConfigs": {"docker.io": {"Secure": True}, **hosts},
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
    }
    return json.dumps({"ServerVersion": "26.1.5", "RegistryConfig": registries, **other}).encode()


def machine(file: str | None, unit: UnitState = UP, answer: bytes | None = None) -> FakeHost:
    """A machine with Docker, whose daemon.json, if any, is older than the daemon."""
    host = FakeHost(units={UNIT: unit}, clock=Now(NOW, 12 * 60))
    host.mkdirs("/etc/docker")
    if file is not None:
        host.put(PATH, file)
        host.mtimes[PATH] = STARTED - 60.0
    if answer is not None:
        host.answers[(SOCKET, "/info")] = answer
    return host


def plan(host: FakeHost, state: DesiredState) -> Plan:
    return RUNTIME.plan(state, RUNTIME.observe(host, state))


def digest(content: bytes | str | None) -> str:
    """The name of a content in Memory."""
    data = content.encode() if isinstance(content, str) else content
    return "absent" if data is None else hashlib.sha256(data).hexdigest()


def remembered(host: FakeHost, memory: Memory) -> FakeHost:
    host.stored_ledger = host.stored_ledger.with_memory("docker", memory)
    return host


def owning(host: FakeHost, original: FileState, made: tuple[str, ...] = (), **keys: str | None) -> FakeHost:
    """The agent owns these keys (`_` for `-`), and this stood there before it."""
    assert isinstance(original, Absent | Regular)
    if isinstance(original, Regular):
        host.keep_original(original.content)
    claimed = tuple(KeyOriginal(key.replace("_", "-"), json) for key, json in keys.items())
    claim = Claim(PATH, original, claimed, made)
    host.stored_ledger = host.stored_ledger.with_claims("docker", [claim])
    return host


def loaded(**values: str) -> tuple[Setting, ...]:
    """What the daemon has read; `_` in a name stands for `-`."""
    return tuple(Setting(key.replace("_", "-"), json) for key, json in sorted(values.items()))


def text_of(made: Plan) -> str:
    """What the plan writes."""
    return next(action.content.decode() for action in made.actions if isinstance(action, WriteFile))


def acts(made: Plan) -> list[type[Reload | Restart]]:
    return [type(act) for act in made.acts]
