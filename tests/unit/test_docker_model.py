"""The Docker runtime and a dockerd that lives: whatever happens, the daemon ends with what is desired."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent import converge
from agent.model import ContainerdSettings, DesiredState, DockerSettings, Manage, Mirror, Registry, Setting
from agent.outcome import CycleResult
from agent.runtimes.docker import RUNTIME
from tests.dockerd import Crash, DockerHost

MIRRORS = ("https://a.example", "https://b.example", "http://c.example:5000")
HOSTS = ("x.lan", "y.lan:5000", "z.lan")
DEFAULTS: dict[str, Any] = {
    "registry-mirrors": [],
    "insecure-registries": [],
    "labels": [],
    "debug": False,
    "live-restore": False,
    "shutdown-timeout": 15,
    "log-driver": "json-file",
}
POOL: dict[str, tuple[Any, ...]] = {
    "debug": (True, False),
    "live-restore": (True, False),
    "labels": (["a=b"], ["c=d"]),
    "shutdown-timeout": (30, 60),
    "max-concurrent-downloads": (5, 10),
    "features": ({"buildkit": True}, {"buildkit": False}, {"containerd-snapshotter": True}),
    "log-driver": ("local", "journald"),
    "log-opts": ({"max-size": "5m"}, {"max-size": "9m"}),
}

RESTARTING = ("log-driver", "log-opts")

values = st.sampled_from([(key, value) for key, options in POOL.items() for value in options])


@st.composite
def desired_states(draw: st.DrawFn) -> DesiredState:
    mirrors = draw(st.lists(st.sampled_from(MIRRORS), unique=True, max_size=3))
    hosts = draw(st.lists(st.sampled_from(HOSTS), unique=True, max_size=2))
    hub = (Registry("docker.io", "", tuple(map(Mirror, mirrors))),) if mirrors else ()
    listed = dict(draw(st.lists(values, max_size=3)))
    return DesiredState(
        generation="0" * 64,
        registries=(*hub, *(Registry(host, f"https://{host}", insecure=True) for host in hosts)),
        containerd=ContainerdSettings(manage=Manage.NEVER),
        docker=DockerSettings(
            manage=draw(st.sampled_from([Manage.AUTO, Manage.AUTO, Manage.AUTO, Manage.NEVER])),
            settings=tuple(Setting(key, json.dumps(value, separators=(",", ":"))) for key, value in listed.items()),
        ),
    )


foreign_edits = st.dictionaries(
    st.sampled_from([*POOL, "registry-mirrors", "insecure-registries", "dns", "bip"]), st.none(), max_size=2
).flatmap(lambda keys: st.fixed_dictionaries({key: foreign_value(key) for key in keys}))


def foreign_value(key: str) -> st.SearchStrategy[Any]:
    if key == "registry-mirrors":
        return st.none() | st.lists(st.sampled_from((*MIRRORS, "https://old.example")), unique=True, max_size=2)
    if key == "insecure-registries":
        return st.none() | st.lists(st.sampled_from((*HOSTS, "old.lan")), unique=True, max_size=2)
    return st.none() | st.sampled_from(POOL.get(key, ("1.2.3.4",)))


ONCE = ("delete", "converge", "crash", "files only", "stop", "wait", "deaf", "refuse")
steps = st.sampled_from(("desire", "desire", "desire", "edit", "edit", "start", "start", *ONCE)).flatmap(
    lambda kind: st.tuples(st.just(kind), ARGUMENTS.get(kind, st.none()))
)
ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "desire": st.tuples(desired_states(), st.booleans()),
    "edit": foreign_edits,
    "crash": st.integers(0, 8),
    "wait": st.sampled_from([1.0, 30.0, 90.0]),
    "deaf": st.booleans(),
    "refuse": st.booleans(),
}


def run(host: DockerHost, desired: DesiredState, *, acts: bool = True) -> CycleResult:
    return converge.converge(desired, host, lambda _: None, acts=acts)


def crash(host: DockerHost, desired: DesiredState, changes: int) -> None:
    """The agent is killed before its n-th change."""
    host.crash_after = changes
    with contextlib.suppress(Crash):
        run(host, desired)
    host.crash_after = None


def play(host: DockerHost, desired: DesiredState, step: tuple[str, Any]) -> DesiredState:
    """One thing that happens; returns the desired state that is then in force."""
    kind, argument = step
    if kind == "desire":
        desired, at_once = argument
        if at_once:
            run(host, desired)
        return desired
    happenings: dict[str, Callable[[], object]] = {
        "edit": lambda: host.edit(argument),
        "delete": host.delete,
        "converge": lambda: run(host, desired),
        "crash": lambda: crash(host, desired, argument),
        "files only": lambda: run(host, desired, acts=False),
        "start": host.start,
        "stop": host.stop,
        "wait": lambda: host.tick(argument),
        "deaf": lambda: setattr(host, "deaf", argument),
        "refuse": lambda: setattr(host, "refuses_reloads", argument),
    }
    happenings[kind]()
    return desired


def effective(values: dict[str, Any], key: str) -> Any:
    """What a value means to dockerd."""
    value = values.get(key)
    if isinstance(value, dict):
        value = {name: item for name, item in value.items() if item is not None}
    return DEFAULTS.get(key) if value in (None, [], {}, "") else value


def ours_in(host: DockerHost) -> set[str]:
    """Keys that the agent has ever claimed."""
    return {key.key for entry in host.stored_ledger.entries.values() for key in entry.keys}


def wrong(host: DockerHost, keys: set[str]) -> dict[str, tuple[Any, Any]]:
    """Keys with which the daemon runs otherwise than its file says."""
    file = host.file()
    whole = {key for key in keys if not key.startswith("insecure-registries")}
    pairs = {key: (effective(host.running, key), effective(file, key)) for key in whole}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


@settings(max_examples=100, deadline=None)
@given(st.none() | foreign_edits, st.booleans(), desired_states(), st.lists(steps, max_size=20))
def test_the_daemon_ends_with_what_is_desired(
    before: dict[str, Any] | None, is_up: bool, desired: DesiredState, story: list[tuple[str, Any]]
) -> None:
    """Random edits, foreign edits, restarts by others, kills between any two changes, a deaf socket, refused reloads:
    after these faults and one more edit of the desired state (what was refused waits for one), the file and the running
    daemon have what is desired, what is given back is gone from both, no restart came within 60 s of another, no act
    hit a daemon that was down, and nothing is left to do."""
    host = DockerHost()
    if before is not None:
        host.edit(before)
    if is_up:
        host.start()
    claimed: set[str] = set()
    """Keys that were ours at some time and that nobody else has set since they were not."""
    for step in story:
        desired = play(host, desired, step)
        claimed |= ours_in(host)
        if step[0] in {"edit", "delete"}:
            edited = {key for key in claimed if not step[1] or key.partition("[")[0] in step[1]}
            claimed -= edited - ours_in(host)
    host.deaf = host.refuses_reloads = False
    desired = replace(desired, generation="1" * 64)
    for _ in range(6):
        host.tick(601.0)
        result = run(host, desired)
        claimed |= ours_in(host)
    assert host.wrong_acts == []
    assert [(part.conflicts, part.deferred, part.errors, part.pending_acts) for part in result.runtimes] == [
        ((), (), (), ()) for _ in result.runtimes
    ]
    assert RUNTIME.plan(desired, RUNTIME.observe(host, desired)).is_empty
    assert_desired(host, desired, claimed)


def settled(desired: DesiredState, before: dict[str, Any]) -> DockerHost:
    """A machine on which this desired state is live and the last restart is over a minute ago."""
    host = DockerHost()
    host.edit(before)
    host.start()
    for _ in range(3):
        run(host, desired)
        host.tick(601.0)
    host.log.clear()
    return host


@settings(max_examples=40, deadline=None)
@given(foreign_edits, desired_states(), st.booleans())
def test_what_others_do_to_their_keys_is_nothing_to_us(
    before: dict[str, Any], desired: DesiredState, is_restarted: bool
) -> None:
    """Foreign keys edited, the file reformatted, Docker restarted by hand: 0 writes and 0 acts."""
    host = settled(desired, before)
    host.edit({"dns": ["9.9.9.9"], "bip": "10.0.0.1/24"})
    if is_restarted:
        host.start()
    run(host, desired)
    assert host.log == []


@settings(max_examples=40, deadline=None)
@given(foreign_edits, desired_states(), desired_states())
def test_one_change_costs_at_most_one_restart(
    before: dict[str, Any], first: DesiredState, second: DesiredState
) -> None:
    """From one desired state to another, whatever lies between them: one restart at most, and none if nothing that
    needs one has changed."""
    host = settled(first, before)
    loaded = {key: effective(host.running, key) for key in RESTARTING}
    run(host, second)
    changed = [key for key in RESTARTING if loaded[key] != effective(host.running, key)]
    store = any("containerd-snapshotter" in json.dumps(values) for values in (host.running, loaded, host.file()))
    assert host.log.count("restart docker.service") <= (1 if changed or store else 0)


def assert_desired(host: DockerHost, desired: DesiredState, claimed: set[str]) -> None:
    file = host.file()
    if desired.docker.manage is not Manage.NEVER:
        for setting in desired.docker.settings:
            assert file[setting.key] == json.loads(setting.json)
        for registry in desired.registries:
            assert not registry.insecure or registry.name in file["insecure-registries"]
            if registry.mirrors:
                assert file["registry-mirrors"] == [mirror.url for mirror in registry.mirrors]
    if not host.is_up:
        return
    assert wrong(host, claimed) == {}
    running = set(host.running.get("insecure-registries") or [])
    if "insecure-registries" in claimed and desired.docker.manage is not Manage.NEVER:
        assert {registry.name for registry in desired.registries if registry.insecure} <= running
    hosts = {key.partition("[")[2].removesuffix("]") for key in claimed if "[" in key}
    assert hosts & running <= set(file.get("insecure-registries") or [])
