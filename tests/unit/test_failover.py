"""Failover on a machine: verdicts come in as a file, lists and reasons go out; Docker is never restarted for it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent import converge, health
from agent.events import Event, Kind
from agent.health import Health, MirrorHealth
from agent.keeper import Keeper
from agent.model import DesiredState, HealthSettings, Mirror, Now, OnChange, Regular
from agent.node import Places, RealHost
from agent.probing import again_seconds
from agent.status import decode
from agent.targets import Blind, Sample, decode_targets, encode_samples
from agent.verdict import Verdict
from tests.containerd_unit import CONFIG, ContainerdHost
from tests.containerd_unit import UNIT as CONTAINERD
from tests.docker_plans import A, B, desired, settings
from tests.dockerd import DAEMON_JSON, DockerHost
from tests.unit.test_legacy_tables import machine as old_containerd
from tests.unit.test_legacy_tables import state as legacy_state

START = 1_800_000_000.0
YAML = """\
version: 1
registries:
  docker.io: {mirrors: [https://a.example, https://b.example]}
health: {enabled: true}
"""


# --- the whole way, from a file of verdicts to files and journal ------------------------------------------------------


@dataclass
class Node:
    """A root with a keeper; time passes as it is told to, and the probe is whoever calls `verdicts`."""

    root: Path
    clock: float = START
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        for path in ("etc/containerd", "run/mirror-agent-probe", "usr/bin"):
            (self.root / path).mkdir(parents=True)
        (self.root / "usr/bin/containerd").touch()
        self.edit(YAML)
        self.restart()

    def restart(self) -> None:
        node = self

        class Host(RealHost):
            def now(self) -> Now:
                return Now(node.clock, 12 * 60)

        self.host = Host(Places(root=str(self.root)))
        self.keeper = Keeper(self.host, "/etc/mirror-agent.yaml", self.events.append, owner=os.geteuid())
        self.keeper.start()
        self.look()

    def edit(self, text: str) -> None:
        path = self.root / "etc/mirror-agent.yaml"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o640)

    def look(self) -> None:
        self.keeper.look(acts=True)
        self.keeper.publish()

    def verdicts(self, *samples: Sample, elapsed: float = 20.0) -> None:
        self.clock += elapsed
        content = encode_samples(tuple(replace(sample, at=self.clock) for sample in samples))
        (self.root / "run/mirror-agent-probe/verdicts.json").write_bytes(content)
        self.look()

    def blind(self, blind: Blind, *samples: Sample) -> None:
        content = encode_samples(tuple(replace(sample, at=self.clock) for sample in samples), (blind,))
        (self.root / "run/mirror-agent-probe/verdicts.json").write_bytes(content)
        self.look()

    def said(self, *kinds: Kind) -> list[str]:
        found = [event.message for event in self.events if event.kind in kinds]
        self.events.clear()
        return found

    @property
    def hosts(self) -> list[str]:
        text = (self.root / "etc/containerd/certs.d/docker.io/hosts.toml").read_text("utf-8")
        return [line.split('"')[1] for line in text.splitlines() if line.startswith("[host.")]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def sample(url: str, verdict: Verdict) -> Sample:
    return Sample("docker.io", url, verdict, f"was {verdict.value}", 0.0, 0.1)


def test_a_mirror_that_hangs_is_out_and_comes_back(node: Node) -> None:
    """In the file, with the reason; in the journal, with who is asked now; in `status`; and none of it is drift."""
    assert node.hosts == [A, B]
    node.said()
    for _ in range(3):
        node.verdicts(sample(A, Verdict.HANGING), sample(B, Verdict.OK))
    assert node.hosts == [B]
    assert [event.message for event in node.events] == [
        "docker.io: https://a.example is taken out (hanging: was hanging); asked now: https://b.example",
        "containerd: wrote certs.d/docker.io/hosts.toml: mirrors of docker.io: − https://a.example; "
        "https://a.example is out (hanging)",
        node.events[-1].message,
    ]
    assert (node.events[0].kind, node.events[-1].kind) == (Kind.MIRROR_HANGING, Kind.CONVERGED)
    status = decode((node.root / "run/mirror-agent/status.json").read_bytes())
    assert status is not None
    assert [(m.url, m.verdict, m.is_out) for m in status.mirrors] == [(A, "hanging", True), (B, "ok", False)]
    assert status.cause == "after mirrors failed or recovered"
    node.said()
    for _ in range(16):
        node.verdicts(sample(A, Verdict.OK), sample(B, Verdict.OK))
    assert node.hosts == [A, B]
    assert node.said(Kind.MIRROR_OK) == [
        "docker.io: https://a.example works again and is put back; asked now: https://a.example, https://b.example"
    ]


def test_a_mirror_that_the_probe_cannot_look_at(node: Node) -> None:
    """It stays in the list; it is tried again ever more rarely, and at once after an edit; status says why it is not
    probed as long as that is so; and it is the same over a restart of the agent."""
    waits = []
    for _ in range(9):
        node.clock += 4000.0
        node.blind(Blind("docker.io", A, "its CA file cannot be read", node.clock), sample(B, Verdict.OK))
        due = {each.url: each.due for each in node.keeper.probing._targets}
        waits.append(round((due[A] - node.clock) / 120.0))
        node.restart()
    assert (waits[0] <= 1, waits == sorted(waits), waits[-1] in range(30, 34)) == (True, True, True)
    status = decode((node.root / "run/mirror-agent/status.json").read_bytes())
    assert status is not None
    assert [(m.url, m.verdict, m.unprobed) for m in status.mirrors] == [
        (A, "", "its CA file cannot be read"),
        (B, "ok", ""),
    ]
    assert node.hosts == [A, B]
    node.edit(YAML + "# mended\n")
    node.look()
    assert {each.url: each.due <= node.clock for each in node.keeper.probing._targets}[A] is True
    node.verdicts(sample(A, Verdict.OK), sample(B, Verdict.OK))
    status = decode((node.root / "run/mirror-agent/status.json").read_bytes())
    assert status is not None
    assert [(m.verdict, m.unprobed) for m in status.mirrors] == [("ok", ""), ("ok", "")]


def test_a_probe_that_brings_nothing_is_started_ever_more_rarely() -> None:
    """Its unit cannot run here, or says nothing: after a minute, two, four, at last once an hour."""
    assert [again_seconds(times) for times in (0, 1, 2, 3, 6, 7, 16)] == [60, 60, 120, 240, 1920, 3600, 3600]


def test_failover_is_no_war_with_anybody(node: Node) -> None:
    """However often mirrors come and go, nobody is accused of changing the file."""
    for _ in range(8):
        for _ in range(3):
            node.verdicts(sample(A, Verdict.FAILING))
        for _ in range(3):
            node.verdicts(sample(A, Verdict.OK), elapsed=1300.0)
    assert not [event for event in node.events if event.kind in {Kind.CONTENDED, Kind.DRIFT}]


def test_drift_is_drift_while_a_mirror_is_out(node: Node) -> None:
    """Somebody else's change is put back to what is asked now, and is called what it is."""
    for _ in range(3):
        node.verdicts(sample(A, Verdict.TLS))
    path = node.root / "etc/containerd/certs.d/docker.io/hosts.toml"
    good = path.read_bytes()
    path.write_text("mine")
    node.said()
    node.clock += 60.0
    node.look()
    assert path.read_bytes() == good
    assert len(node.said(Kind.DRIFT)) == 1


def test_it_goes_on_where_it_was(node: Node) -> None:
    """A restart of the agent changes nothing, and does not ask a dead mirror again."""
    for _ in range(3):
        node.verdicts(sample(A, Verdict.UNREACHABLE), sample(B, Verdict.OK))
    node.said()
    node.restart()
    assert (node.hosts, node.said(Kind.WROTE)) == ([B], [])


def test_an_edit_turns_it_off(node: Node) -> None:
    """Then the list is as desired at once, and nothing is probed any more."""
    for _ in range(3):
        node.verdicts(sample(A, Verdict.REFUSED))
    assert (node.root / "run/mirror-agent/targets.json").exists()
    node.edit(YAML.replace("true", "false"))
    node.look()
    assert node.hosts == [A, B]
    assert not (node.root / "run/mirror-agent/targets.json").exists()


def test_the_errands_hold_no_secret(node: Node) -> None:
    """Headers stay with the agent; the probe is only told that it does not have everything."""
    node.edit(YAML.replace("https://a.example", "{url: https://a.example, header: {X-Token: [tr0ub4dor]}}"))
    node.look()
    data = (node.root / "run/mirror-agent/targets.json").read_bytes()
    assert b"tr0ub4dor" not in data
    assert [(target.url, target.is_partial) for target in decode_targets(data)] == [(A, True), (B, False)]


@pytest.mark.parametrize("what", ["garbage", "link", "directory", "pipe", "huge"])
def test_a_stranger_can_do_no_more_than_be_wrong(node: Node, what: str) -> None:
    """Whatever stands where verdicts should: nothing changes, nothing fails, and no other file is quoted."""
    path = node.root / "run/mirror-agent-probe/verdicts.json"
    if what == "garbage":
        path.write_bytes(b'{"format": 1, "verdicts": [{"registry": [], "url": {}}]} trailing')
    elif what == "link":
        (node.root / "etc/secret").write_text("s3cr3t")
        path.symlink_to("/etc/secret")
    elif what == "directory":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b" " * 5_000_000)
    node.said()
    node.look()
    assert (node.hosts, [event.message for event in node.events]) == ([A, B], [])


# --- Docker -----------------------------------------------------------------------------------------------------------


def failed_over(state: DesiredState, url: str, now: float) -> DesiredState:
    """The state with one mirror of Docker Hub out."""
    known = MirrorHealth("docker.io", url, Verdict.HANGING, probed_at=now, is_out=True, moved_at=now)
    enabled = replace(state, health=HealthSettings(enabled=True))
    return health.effective(enabled, Health({known.key: known}), now)


def docker(state: DesiredState) -> DockerHost:
    host = DockerHost()
    host.start()
    converge.converge(state, host, lambda _: None, acts=True)
    host.log.clear()
    host.restarts.clear()
    host.tick(100.0)
    return host


def test_docker_is_reloaded_for_the_health_of_a_mirror() -> None:
    """And has the list that is asked now; what is desired comes back with one more reload."""
    state = desired(A, B)
    host = docker(state)
    converge.converge(failed_over(state, A, host.clock.unix_seconds), host, lambda _: None, acts=True)
    assert (host.running["registry-mirrors"], host.restarts) == ([B], [])
    converge.converge(state, host, lambda _: None, acts=True)
    assert (host.running["registry-mirrors"], host.restarts) == ([A, B], [])
    assert [entry for entry in host.log if entry.startswith("reload")] == ["reload docker.service"] * 2


def test_docker_is_never_restarted_for_the_health_of_a_mirror() -> None:
    """Where changes go by restart, its list stays as desired; where the reload is refused, it is taken back."""
    policy = replace(settings(), on_change=OnChange.RESTART)
    state = desired(A, B, docker=policy)
    host = docker(state)
    for _ in range(5):
        result = converge.converge(failed_over(state, A, host.clock.unix_seconds), host, lambda _: None, acts=True)
        host.tick(100.0)
    assert (host.running["registry-mirrors"], host.restarts, host.log) == ([A, B], [], [])
    assert not any(part.deferred for part in result.runtimes)

    state = desired(A, B)
    host = docker(state)
    host.refuses_reloads = True
    for _ in range(5):
        converge.converge(failed_over(state, A, host.clock.unix_seconds), host, lambda _: None, acts=True)
        host.tick(100.0)
    assert (host.running["registry-mirrors"], host.restarts) == ([A, B], [])


def test_dockers_list_is_not_emptied_either() -> None:
    """The only mirror that it can be told is out; the other one has a path, which registry-mirrors cannot hold."""
    state = desired(A)
    hub = replace(state.registries[0], mirrors=(Mirror(A), Mirror("https://b.example/v2/p", override_path=True)))
    state = replace(state, registries=(hub,))
    host = docker(state)
    converge.converge(failed_over(state, A, host.clock.unix_seconds), host, lambda _: None, acts=True)
    found = host.files[DAEMON_JSON]
    assert isinstance(found, Regular)
    assert json.loads(found.content)["registry-mirrors"] == [A]


# --- containerd before 1.5 --------------------------------------------------------------------------------------------


def test_an_old_containerd_is_not_restarted_for_it() -> None:
    """Its tables are read at a start only, so they stay as desired."""
    state = legacy_state(f"{{docker.io: {{mirrors: [{A}, {B}]}}}}")
    host: ContainerdHost = old_containerd()
    converge.converge(state, host, lambda _: None, acts=True)
    assert f"restart {CONTAINERD}" in host.log
    host.log.clear()
    converge.converge(failed_over(state, A, host.clock.unix_seconds), host, lambda _: None, acts=True)
    assert ([entry for entry in host.log if CONTAINERD in entry or CONFIG in entry], A in host.text(CONFIG)) == (
        [],
        True,
    )
