"""The probe's unit on a node: who it is, what it may do, what it leaves for the daemon, and that it harms nobody."""

import json
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.targets import ProbeTarget, Sample, decode_samples, encode_targets
from agent.verdict import Verdict
from tests.node.install import PROBE, PROBE_TIMER
from tests.node.machine import Node
from tests.node.rig import Rig
from tests.node.service import Service, desired_state
from tests.node.waiting import wait_until

WORST_EXPOSURE = 1.1
KILLS = 12
TARGETS = "/run/mirror-agent/targets.json"
DIRECTORY = "/run/mirror-agent-probe"
DEAD = "http://127.0.0.1:5009"
METADATA = "169.254.169.254"
IMAGE = "docker.io/library/hello:latest"
DYNAMIC_USERS = range(61184, 65520)
"""systemd's uids for DynamicUser= (docs/UIDS-GIDS.md)."""
NOBODY = 65534
"""Whom a dynamic user's directory belongs to on the disk from systemd 256 on, which maps it."""


def want(node: Node, *urls: str, due: float | None = None) -> None:
    """What the daemon writes when mirrors are to be probed now."""
    at = time.time() if due is None else due
    targets = tuple(ProbeTarget("docker.io", url, IMAGE, due=at, timeout_seconds=3.0) for url in urls)
    node.put(TARGETS, encode_targets(targets))


def samples(node: Node) -> tuple[Sample, ...]:
    return decode_samples(node.read(f"{DIRECTORY}/verdicts.json"), time.time())


def verdicts(node: Node) -> dict[str, Verdict]:
    return {each.url: each.verdict for each in samples(node)}


def probe(node: Node) -> None:
    """Start the unit, and wait for its end."""
    node.run(["systemctl", "start", PROBE])


@contextmanager
def drop_in(node: Node, unit: str, text: str) -> Iterator[None]:
    path = f"/run/systemd/system/{unit}.d/test.conf"
    node.put(path, text)
    node.run("systemctl daemon-reload")
    try:
        yield
    finally:
        node.run(f"rm {path}; systemctl daemon-reload")


@pytest.mark.usefixtures("service")
def test_it_is_nobody_and_its_verdicts_outlive_it(rig: Rig) -> None:
    """The verdicts belong to nobody, are there afterwards, and are kept by the next run where nothing is due; in the
    journal there is not a line."""
    node, cursor = rig.node, rig.node.cursor()
    want(node, rig.first.url, DEAD)
    probe(node)
    assert verdicts(node) == {rig.first.url: Verdict.OK, DEAD: Verdict.REFUSED}
    assert node.show(PROBE, "ActiveState", "Result", "ExecMainStatus") == {
        "ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0",
    }  # fmt: skip
    (entry,) = node.tree(f"{DIRECTORY}/verdicts.json").values()
    assert (entry[:2], entry[2] in {*DYNAMIC_USERS, NOBODY}) == (("-", "644"), True)
    before = samples(node)
    want(node, rig.first.url, DEAD, rig.second.url, due=before[0].at - 1)
    probe(node)
    assert samples(node)[:2] == before
    assert verdicts(node)[rig.second.url] is Verdict.OK
    assert said_about_it(node, cursor) == []


_NO_CONTROLLER = re.compile(r"Failed to read \S+ for control group .*, ignoring")
"""Nodes in these tests have no cgroup controllers, which systemd 262 says at each start."""


def said_about_it(node: Node, cursor: str) -> list[str]:
    """What the journal has of the unit; of systemd 247, which LogLevelMax= does not stop, only the program's lines."""
    entries = node.journal("-u", PROBE, after=cursor)
    if node.suite == "bullseye":
        entries = [entry for entry in entries if entry.get("SYSLOG_IDENTIFIER") != "systemd"]
    return [line for entry in entries if not _NO_CONTROLLER.search(line := str(entry["MESSAGE"]))]


_AS_THE_DAEMON = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
watch = libc.inotify_init1(0)
assert libc.inotify_add_watch(watch, b"/run/mirror-agent-probe", 0x80) > 0, os.strerror(ctypes.get_errno())
print("watching", flush=True)
os.read(watch, 4096)
print(open("/run/mirror-agent-probe/verdicts.json").read(), flush=True)
"""


@pytest.mark.usefixtures("service")
def test_the_daemon_can_read_it_with_what_it_has(rig: Rig) -> None:
    """systemd keeps the directory below /run/private, which is root's alone. Root without the capability to overrule
    modes, in the daemon's sandbox, sees it change and reads it."""
    node = rig.node
    want(node, rig.first.url)
    probe(node)
    assert node.run(["readlink", DIRECTORY]).out.strip() == "private/mirror-agent-probe"
    assert node.run(["stat", "-c", "%a %u", "/run/private"]).out.strip() == "700 0"
    limits = ["CapabilityBoundingSet=CAP_CHOWN", "ProtectSystem=strict", "PrivateNetwork=yes", "PrivateMounts=yes"]
    options = [word for limit in limits for word in ("-p", limit)]
    node.put("/run/as-the-daemon.py", _AS_THE_DAEMON)
    output = ["-p", "StandardOutput=file:/run/seen"]
    node.run(["systemd-run", "--unit=as-the-daemon", *output, *options, "python3", "-I", "/run/as-the-daemon.py"])
    wait_until(lambda: "watching" in node.text("/run/seen"), 20, "a watch on the probe's directory")
    want(node, rig.first.url, DEAD)
    probe(node)
    wait_until(lambda: node.text("/run/seen").rstrip().endswith("}"), 20, "what was seen")
    seen = node.text("/run/seen").partition("\n")[2]
    assert {each["url"] for each in json.loads(seen)["verdicts"]} >= {rig.first.url}


@pytest.mark.usefixtures("service")
def test_the_unit_is_hardened(rig: Rig) -> None:
    """`systemd-analyze security`: an exposure of at most 1.1, and nothing to say about either unit."""
    text = rig.node.run(["systemd-analyze", "security", "--no-pager", PROBE], check=False).out
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", text)
    assert found, text
    print(f"{rig.node.suite}: exposure {found[1]}")
    assert float(found[1]) <= WORST_EXPOSURE, text
    units = [f"/lib/systemd/system/{name}" for name in (PROBE, PROBE_TIMER)]
    checked = rig.node.run(["systemd-analyze", "verify", "--man=no", *units], check=False)
    assert [line for line in checked.err.splitlines() if "mirror-agent-probe" in line] == []


@pytest.mark.usefixtures("service")
def test_the_kernel_keeps_it_from_metadata(rig: Rig) -> None:
    """A mirror that the operator names by that number is asked by nobody, although somebody listens there."""
    node = rig.node
    node.run(f"ip address add {METADATA}/32 dev lo")
    listen = ["python3", "-I", "-m", "http.server", "--bind", METADATA, "80"]
    try:
        with node.popen(listen) as _:
            wait_until(lambda: node.run(f"curl -s -o /dev/null http://{METADATA}/", check=False).ok, 20, "an answer")
            want(node, f"http://{METADATA}", rig.first.url)
            probe(node)
    finally:
        node.run(f"ip address del {METADATA}/32 dev lo")
    assert verdicts(node) == {f"http://{METADATA}": Verdict.UNREACHABLE, rig.first.url: Verdict.OK}


@pytest.mark.usefixtures("service")
def test_without_targets_no_process_is_started_and_with_them_the_timer_does_it(rig: Rig) -> None:
    """Where health is off the timer finds the condition not met; where it is on, run follows run."""
    node = rig.node
    quick = "[Timer]\nOnBootSec=\nOnUnitInactiveSec=\nOnActiveSec=100ms\nOnUnitInactiveSec=2s\n"
    with drop_in(node, PROBE_TIMER, f"{quick}RandomizedDelaySec=0\nAccuracySec=1ms\n"):
        before = node.show(PROBE, "ConditionTimestampMonotonic")
        node.run(["systemctl", "restart", PROBE_TIMER])
        wait_until(lambda: node.show(PROBE, "ConditionTimestampMonotonic") != before, 20, "a look at the condition")
        never = {"ConditionResult": "no", "ExecMainStartTimestampMonotonic": "0"}
        assert node.show(PROBE, *never) == never
        want(node, rig.first.url)
        for _ in range(2):
            life = node.show(PROBE, "ExecMainStartTimestampMonotonic")
            wait_until(
                lambda life=life: node.show(PROBE, "ExecMainStartTimestampMonotonic") != life, 20, "a run by the timer"
            )
        wait_until(lambda: node.exists(f"{DIRECTORY}/verdicts.json"), 20, "verdicts")
        node.run(["systemctl", "stop", PROBE_TIMER])
    wait_until(lambda: verdicts(node) == {rig.first.url: Verdict.OK}, 20, "the verdict")


def test_kills_at_random_do_no_harm(rig: Rig, service: Service) -> None:
    """At any moment there is either no file or a whole one, the next run goes on, nothing is left lying about, and the
    daemon does not notice."""
    node = rig.node
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    pid, dice = service.pid(), random.Random(node.suite)
    with node.popen(["python3", "-I", "-c", _SILENT]) as _:
        urls = (rig.first.url, DEAD, "http://127.0.0.1:5008", rig.second.url)
        for _ in range(KILLS):
            want(node, *urls)
            node.run(["systemctl", "start", "--no-block", PROBE])
            time.sleep(dice.uniform(0, 1.5))
            node.run(f"systemctl kill -s KILL {PROBE}", check=False)
            wait_until(lambda: node.show(PROBE, "ActiveState")["ActiveState"] != "activating", 20, "its end")
            text = node.text(f"{DIRECTORY}/verdicts.json")
            assert not text or {each["url"] for each in json.loads(text)["verdicts"]} <= set(urls)
        want(node, *urls)
        probe(node)
    assert verdicts(node) == dict(zip(urls, (Verdict.OK, Verdict.REFUSED, Verdict.HANGING, Verdict.OK), strict=True))
    assert {path.rpartition("/")[2] for path in node.tree(f"{DIRECTORY}/")} <= {"", "verdicts.json", "said"}
    assert (service.pid(), service.restarts()) == (pid, 0)


_SILENT = """
import socket
listening = socket.create_server(("127.0.0.1", 5008))
held = []
while True:
    held.append(listening.accept())
"""


def test_a_probe_that_cannot_write_ends_and_asks_nobody(rig: Rig, service: Service) -> None:
    """It fails with a sentence in the journal, before any request; the daemon works on."""
    node, cursor, mark = rig.node, rig.node.cursor(), rig.first.mark()
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    pid = service.pid()
    want(node, rig.first.url)
    with drop_in(node, PROBE, "[Service]\nLimitFSIZE=0\n"):
        assert not node.run(["systemctl", "start", PROBE], check=False).ok
    failed = node.show(PROBE, "Result", "ExecMainStatus")
    assert failed == {"Result": "exit-code", "ExecMainStatus": "1"}
    assert any("verdicts.json" in line and "EFBIG" in line for line in node.messages(PROBE, cursor))
    assert (rig.first.requests(mark), service.pid()) == ([], pid)
    probe(node)
    assert verdicts(node) == {rig.first.url: Verdict.OK}


def test_it_ends_with_the_daemon(rig: Rig, service: Service) -> None:
    """While it runs it is a user of its own without any capability; `systemctl stop mirror-agent` stops it, and waits
    for no mirror."""
    node = rig.node
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    with node.popen(["python3", "-I", "-c", _SILENT]) as _:
        want(node, *(f"http://127.0.0.1:5008/v2/{number}" for number in range(40)))
        node.run(["systemctl", "start", "--no-block", PROBE])
        wait_until(lambda: node.exists(f"{DIRECTORY}/verdicts.json"), 20, "the probe at work")
        status = dict(
            line.split(":\t", 1)
            for line in node.text(f"/proc/{node.show(PROBE, 'MainPID')['MainPID']}/status").splitlines()
        )
        service.stop()
        wait_until(lambda: node.show(PROBE, "ActiveState")["ActiveState"] == "inactive", 20, "its end")
    assert {int(uid) in DYNAMIC_USERS for uid in status["Uid"].split()} == {True}
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}


def test_root_does_not_probe(service: Service) -> None:
    """By hand neither: it says what to do instead."""
    refused = service.cli("probe")
    assert (refused.rc, "mirrors --probe" in refused.err) == (1, True)


def test_the_daemon_has_no_network_socket(rig: Rig, service: Service) -> None:
    """Each socket among its descriptors is a unix socket, and its network namespace has no other."""
    node = rig.node
    service.start_with(desired_state({"docker.io": [rig.first.url], "ghcr.io": [rig.second.url]}))
    pid = service.pid()
    links = node.run(f"readlink /proc/{pid}/fd/*", check=False).out
    sockets = set(re.findall(r"socket:\[(\d+)\]", links))
    unix = {line.split()[6] for line in node.text(f"/proc/{pid}/net/unix").splitlines()[1:]}
    open_elsewhere = {
        name: len(node.text(f"/proc/{pid}/net/{name}").splitlines()) - 1
        for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")
        if node.exists(f"/proc/{pid}/net/{name}")
    }
    print(f"{node.suite}: {len(sockets)} sockets, all of them unix; others in its namespace: {open_elsewhere}")
    assert sockets != set()
    assert sockets - unix - _of_the_manager(node, sockets) == set()
    assert set(open_elsewhere.values()) == {0}


def _of_the_manager(node: Node, sockets: set[str]) -> set[str]:
    """Standard output and error are systemd's sockets to the journal: unix too, of the node's own namespace."""
    return sockets & {line.split()[6] for line in node.text("/proc/1/net/unix").splitlines()[1:]}
