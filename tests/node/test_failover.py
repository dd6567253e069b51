"""Failover on a node: mirrors that die in the worst ways are left out, come back, and cost Docker a reload at most."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from agent import health
from agent.events import Kind
from agent.health import Health, MirrorHealth
from agent.verdict import Verdict
from tests.node.faults import Fault, FaultyMirror, black_hole
from tests.node.machine import Node
from tests.node.pulls import cri_pull, docker_pull
from tests.node.rig import GHCR_IMAGE, HUB_IMAGE, Rig, needs_hosts_toml
from tests.node.service import CONVERGE_DEADLINE_SECONDS, READS_OLD_TABLES, Service, desired_state, hosts_path
from tests.node.waiting import wait_until

OUT_DEADLINE_SECONDS = 50.0
"""Two verdicts, fifteen seconds apart, on a machine that has other things to do; and less than the minute in which
everything is looked at anyway."""
PULL_DEADLINE_SECONDS = 12.0
"""The least that a mirror which hangs costs is Docker's 15 s, for one request; containerd waits 30 s and more."""
STATE = "/var/lib/mirror-agent/health.json"
TARGETS = "/run/mirror-agent/targets.json"
REFUSED, SILENT, HOLE, PAGE, FAILING, DENIED = (f"http://127.0.0.1:{port}" for port in range(5010, 5016))
HEALTH = (
    "health: {enabled: true, unhealthy_after: 2, healthy_after: 1, timeout: 2s, "
    f"images: {{docker.io: '{HUB_IMAGE}', ghcr.io: '{GHCR_IMAGE}'}}}}\n"
)


def desire(hub: Sequence[str], ghcr: Sequence[str] = (), settings: str = HEALTH) -> str:
    return settings + desired_state({"docker.io": hub, **({"ghcr.io": ghcr} if ghcr else {})})


def asked(node: Node, registry: str = "docker.io") -> list[str]:
    """The mirrors of a registry in hosts.toml, in order."""
    lines = node.text(hosts_path(registry)).splitlines()
    return [line.split('"')[1] for line in lines if line.startswith('[host."')]


def known(node: Node) -> Health:
    """What the agent remembers."""
    return health.decode(node.text(STATE).encode(), time.time())


def remember(node: Node, *mirrors: MirrorHealth) -> None:
    """As if a life of the agent before this one had found this out."""
    node.put(STATE, health.encode(Health({each.key: each for each in mirrors})), 0o600)


def is_out(url: str, verdict: Verdict = Verdict.HANGING) -> MirrorHealth:
    """A mirror of Docker Hub that was taken out just now; its next probe is due in some seconds."""
    now = time.time()
    out = MirrorHealth("docker.io", url, verdict, "as it was", since=now, is_out=True, moved_at=now, outages=1)
    return replace(out, probed_at=now - 25.0, bad=2)


def is_well(url: str) -> MirrorHealth:
    """A mirror of Docker Hub that was well when it was last looked at, two minutes ago."""
    at = time.time() - 120.0
    return MirrorHealth("docker.io", url, Verdict.OK, "fine", since=at, probed_at=at, last_ok=at, seconds=0.01, good=5)


def await_asked(service: Service, urls: Sequence[str], deadline_seconds: float = CONVERGE_DEADLINE_SECONDS) -> None:
    """Wait until both runtimes have exactly these mirrors of Docker Hub."""
    wanted = list(urls)
    wait_until(lambda: asked(service.node) == wanted, deadline_seconds, f"{wanted} in hosts.toml")
    service.await_docker(*wanted)


def pulls_are_quick(node: Node) -> None:
    """kubelet's pull and Docker's work, and have waited for no mirror that hangs."""
    for pull in (cri_pull(node, HUB_IMAGE), docker_pull(node, HUB_IMAGE)):
        assert (pull.ok, pull.error, pull.seconds < PULL_DEADLINE_SECONDS) == (True, "", True), pull


def told(service: Service, cursor: str) -> dict[tuple[str, str], set[str]]:
    """By registry and action, which verdicts the journal has lines about, each with the MESSAGE_ID of its own kind."""
    found: dict[tuple[str, str], set[str]] = {}
    for verdict in Verdict:
        for entry in service.events(Kind[f"MIRROR_{verdict.name}"], cursor):
            assert entry["MIRROR_AGENT_REASON"] == verdict.value
            key = entry["MIRROR_AGENT_REGISTRY"], entry.get("MIRROR_AGENT_ACTION", "")
            found.setdefault(key, set()).add(verdict.value)
    return found


@pytest.fixture
def dead(rig: Rig) -> Iterator[Rig]:
    """A node on which mirrors are dead in every bad way, in front of two good ones."""
    faults = {5011: Fault.SILENT, 5013: Fault.HTML, 5014: Fault.FAILING, 5015: Fault.DENIED}
    mirrors = [FaultyMirror(rig.node, port, rig.first).start(fault) for port, fault in faults.items()]
    with ExitStack() as stack:
        for mirror in mirrors:
            stack.callback(mirror.stop)
        stack.enter_context(black_hole(rig.node, 5012))
        yield rig


@needs_hosts_toml
def test_what_is_dead_is_out_within_a_minute_and_pulls_are_quick(dead: Rig, service: Service) -> None:
    """Refused, silent, a black hole, a web page, 500: gone from both runtimes, with one journal line each. What denies
    stays. A list of which all fail stands as desired. Docker is only reloaded, containerd not even that. `status`,
    `plan` and `journalctl -x` say what happened, and that it is no drift."""
    node, cursor = dead.node, dead.node.cursor()
    listed = [REFUSED, SILENT, HOLE, PAGE, FAILING, DENIED, dead.first.url]
    service.start_with(desire(listed, [REFUSED, FAILING]))
    lives = [node.life(unit) for unit in ("docker", "containerd", "mirror-agent")]
    await_asked(service, [DENIED, dead.first.url], OUT_DEADLINE_SECONDS)
    pulls_are_quick(node)
    wait_until(lambda: asked(node, "ghcr.io") == [REFUSED, FAILING], OUT_DEADLINE_SECONDS, "the list as desired")
    assert [node.life(unit) for unit in ("docker", "containerd", "mirror-agent")] == lives
    outages = {"refused", "hanging", "unreachable", "html", "failing"}
    wait_until(lambda: len(_said(service, cursor, "ghcr.io")) == 2, OUT_DEADLINE_SECONDS, "lines about both")
    # The first of the two is taken out for a moment if its verdict comes before the other's.
    assert _said(service, cursor, "ghcr.io") == {"refused", "failing"}
    said = {key: verdicts for key, verdicts in told(service, cursor).items() if key[0] == "docker.io"}
    assert said == {("docker.io", "failover"): outages, ("docker.io", ""): {"denied"}}
    assert service.events(Kind.DRIFT, cursor) + service.events(Kind.CONTENDED, cursor) == []
    _is_explained(node, Kind.MIRROR_HANGING)
    _is_shown(service, listed)


def _said(service: Service, cursor: str, registry: str) -> set[str]:
    """The verdicts about mirrors of one registry, whatever was done about them."""
    return {
        verdict for (name, _), verdicts in told(service, cursor).items() if name == registry for verdict in verdicts
    }


def _is_explained(node: Node, kind: Kind) -> None:
    lines = node.run(f"journalctl -x --no-pager -q -n 1 MESSAGE_ID={kind.value}").out.splitlines()
    assert [line for line in lines if line[2:].startswith(" Subject: ")] != [], lines


def _is_shown(service: Service, listed: Sequence[str]) -> None:
    """`status` has each mirror with its verdict, `plan` says why the list is another one, and nothing is pending."""
    shown: list[dict[str, Any]] = [m for m in service.status()["mirrors"] if m["registry"] == "docker.io"]
    verdicts = ["refused", "hanging", "unreachable", "html", "failing", "denied", "ok"]
    assert [(m["url"], m["verdict"], m["is_out"]) for m in shown] == [
        (url, verdict, number < 5) for number, (url, verdict) in enumerate(zip(listed, verdicts, strict=True))
    ]
    text = service.cli("status")
    assert text.rc == 0, text.out
    lines = [
        line.split()[1:3] for line in text.out.splitlines() if line.startswith("  docker.io ") and " since " in line
    ]
    assert lines == [[url, verdict] for url, verdict in zip(listed, verdicts, strict=True)]
    plan = service.cli("plan")
    said = [line for line in plan.out.splitlines() if line.startswith("failover: ")]
    outs = ", ".join(f"{url} is out ({verdict})" for url, verdict in zip(listed[:5], verdicts[:5], strict=True))
    assert (plan.rc, said) == (0, [f"failover: docker.io: {outs}"])
    assert json.loads(service.cli("plan", "--json").out)["failover"] == [{"registry": "docker.io", "sentence": outs}]


def test_it_comes_back_in_its_place_after_the_hold(rig: Rig, service: Service) -> None:
    """A mirror that was taken out just now and works again stays out, for five minutes; then it is first again, and
    Docker was reloaded for it."""
    node, urls = rig.node, [rig.first.url, rig.second.url]
    remember(node, is_out(urls[0]), is_well(urls[1]))
    service.start_with(desire(urls))
    assert asked(node) == urls[1:]
    wait_until(lambda: known(node).of("docker.io", urls[0]).good, OUT_DEADLINE_SECONDS, "a verdict that it works")
    service.stop()
    state = known(node)
    assert (state.of("docker.io", urls[0]).is_out, asked(node)) == (True, urls[1:])
    early = [replace(each, moved_at=max(0.0, each.moved_at - 301.0)) for each in state.mirrors.values()]
    remember(node, *early)
    life, cursor = node.life("docker"), node.cursor()
    service.start()
    await_asked(service, urls)
    assert node.life("docker") == life
    assert told(service, cursor) == {("docker.io", "failover"): {"ok"}}
    mark = rig.first.mark()
    pulls_are_quick(node)
    rig.first.await_request("/v2/library/hello/manifests/", since=mark)


def test_what_an_operator_does_meanwhile(rig: Rig, service: Service) -> None:
    """While a mirror is out: an edit brings its other mirrors and not that one; a foreign change of the file is put
    back as it is asked now; without health the list is as desired, and nothing is probed."""
    node, first, second = rig.node, rig.first.url, rig.second.url
    remember(node, is_out(SILENT), is_well(first), is_well(second))
    service.start_with(desire([SILENT, first]))
    await_asked(service, [first])
    service.desire(desire([second, SILENT, first]))
    await_asked(service, [second, first])
    node.put(hosts_path("docker.io"), f'[host."{SILENT}"]\n')
    await_asked(service, [second, first])
    assert node.exists(TARGETS)
    service.desire(desire([second, SILENT, first], settings=""))
    await_asked(service, [second, SILENT, first])
    wait_until(lambda: not node.exists(TARGETS), CONVERGE_DEADLINE_SECONDS, "no targets any more")
    service.await_nothing_pending()


def test_what_runtimes_have_trouble_with_is_looked_at_at_once(rig: Rig, service: Service) -> None:
    """Both were well two minutes ago and are due in eight. containerd passes the first over, and a pull fails on the
    wrong bytes of the second, which no head shows. Its journal tells the agent, which otherwise would listen once a
    minute; both are out soon, and the same pull works."""
    node, wrong = rig.node, FaultyMirror(rig.node, 5013, rig.first).start(Fault.CORRUPT)
    urls = [REFUSED, wrong.url, rig.second.url]
    try:
        remember(node, *map(is_well, urls))
        service.start_with(desire(urls))
        failed = cri_pull(node, HUB_IMAGE)
        assert (failed.ok, asked(node)) == (False, urls), failed
        node.run("systemctl reload mirror-agent")
        await_asked(service, urls[2:], OUT_DEADLINE_SECONDS)
        verdicts = {url: known(node).of("docker.io", url).verdict for url in urls}
        assert verdicts == dict(zip(urls, (Verdict.REFUSED, Verdict.WRONG_CONTENT, Verdict.OK), strict=True))
        if node.suite not in READS_OLD_TABLES:  # there the list stays as it is, for only a restart would change it
            pulls_are_quick(node)
    finally:
        wrong.stop()
