"""The packages on a node: install, upgrade, downgrade, remove, purge, and what an administrator decided meanwhile.

Collected with MIRROR_AGENT_NODE_INSTALL=package. MIRROR_AGENT_SOAK=1: fifty upgrades, not a handful.
"""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

from tests.node.install import INSTALL_TIMEOUT_SECONDS, PROBE_TIMER, UNIT
from tests.node.machine import Node
from tests.node.packaged import (
    LATER,
    LEDGER,
    NEWER,
    PACKAGE,
    TREES,
    assert_pulls_through,
    install,
    left_over,
    left_verdicts,
    runtimes,
    unit,
)
from tests.node.pulls import docker_mirrors
from tests.node.rig import DAEMON_JSON, Rig
from tests.node.service import Service, desired_state, hosts_path
from tests.node.waiting import wait_until
from tests.packages import Packages

ROUNDS = 50 if os.environ.get("MIRROR_AGENT_SOAK") == "1" else 4
# An upgrade in between: the new agent starts first.
DEADLINE_SECONDS = 40.0
# Debian 11's containerd is restarted for a change of its mirrors, at most once a minute.
RESTART_DEADLINE_SECONDS = 90.0


# --- one life ---------------------------------------------------------------------------------------------------------


def test_the_whole_life_of_a_package(bare: Rig, packages: Packages, newer: Packages) -> None:
    """Install, edit, upgrade, downgrade, remove, reinstall, purge: the agent follows, the runtimes never notice, what
    they read stays as desired, and nothing of the agent is left at the end."""
    node, url = bare.node, bare.first.url
    lives, untouched = runtimes(node), node.identity(*TREES)

    service = install(bare, packages.deb)
    assert (unit(node), unit(node, PROBE_TIMER)) == (("enabled", "active"), ("enabled", "active"))
    assert (node.identity(*TREES), runtimes(node)) == (untouched, lives)

    service.desire(desired_state({"docker.io": [url], "ghcr.io": [url]}))
    service.await_mirror("ghcr.io", url)
    service.await_docker(url)
    service.await_nothing_pending()
    assert_pulls_through(bare, url)
    converged = node.identity(*TREES)

    for package in (newer.deb, packages.deb):
        before = service.pid()
        install(bare, package)
        assert (unit(node), unit(node, PROBE_TIMER)) == (("enabled", "active"), ("enabled", "active"))
        assert service.pid() != before
        assert service.cli("plan").rc == 0
    assert (node.identity(*TREES), runtimes(node)) == (converged, lives)

    node.run(["dpkg", "--remove", PACKAGE])
    assert (unit(node)[1], unit(node, PROBE_TIMER)[1]) == ("inactive", "inactive")
    assert (node.exists("/usr/lib/mirror-agent"), node.exists("/var/lib/mirror-agent")) == (False, True)
    assert (node.identity(*TREES), runtimes(node)) == (converged, lives)

    install(bare, packages.deb)
    assert (unit(node), unit(node, PROBE_TIMER)) == (("enabled", "active"), ("enabled", "active"))
    service.await_nothing_pending()
    assert (node.identity(*TREES), runtimes(node)) == (converged, lives)

    assert left_verdicts(node)
    node.run(["dpkg", "--purge", PACKAGE])
    assert left_over(node) == ""
    assert (node.identity(*TREES), runtimes(node)) == (converged, lives)
    assert_pulls_through(bare, url)


def test_revert_before_removal_gives_the_node_back(bare: Rig, packages: Packages) -> None:
    """Byte for byte, with modes and owners: as if the package had never been there."""
    node = bare.node
    node.put(DAEMON_JSON, '{\n\t"registry-mirrors": ["https://old.example"],\n\t"labels": ["a=b"]\n}', 0o640)
    before = node.tree(*TREES)
    service = install(bare, packages.deb)
    service.desire(desired_state({"docker.io": [bare.first.url], "ghcr.io": [bare.first.url]}))
    service.await_mirror("ghcr.io", bare.first.url)
    service.await_nothing_pending()
    assert node.tree(*TREES) != before
    service.stop()
    assert service.cli("revert").rc == 0
    node.run(["dpkg", "--purge", PACKAGE])
    assert (node.tree(*TREES), left_over(node)) == (before, "")


# --- upgrades under load ----------------------------------------------------------------------------------------------

_READER = r"""
import json, os, re, sys
whole = re.compile(
    r'# Managed by mirror-agent [^\n]*\n\nserver = "[^"\n]*"\n(\n\[host\."[^"\n]*"\]\n([a-z_]+ = [^\n]*\n)*)+'
)
looked = 0
while not os.path.exists("/run/enough"):
    for path in sys.argv[1:]:
        try:
            text = open(path).read()
        except FileNotFoundError:
            continue
        looked += 1
        try:
            assert json.loads(text) if path.endswith(".json") else whole.fullmatch(text)
        except Exception as torn:
            print("torn:", path, repr(text), repr(torn), flush=True)
print("looked", looked, flush=True)
"""


@contextmanager
def watched(node: Node, *paths: str) -> Iterator[list[str]]:
    """Read the files over and over in the node meanwhile; afterwards the list holds what was seen."""
    seen: list[str] = []
    node.run("rm -f /run/enough")
    with node.popen(["python3", "-I", "-c", _READER, *paths], stdout=subprocess.PIPE) as reader:
        yield seen
        node.run("touch /run/enough")
        seen.extend(reader.communicate(timeout=60)[0].decode().splitlines())


def test_upgrades_while_edits_come_in(bare: Rig, packages: Packages, newer: Packages) -> None:
    """Up and down again with edits all the while: the last edit of each round is in force soon after, no file is ever
    seen in part, and neither runtime is restarted."""
    node, urls = bare.node, (bare.first.url, bare.second.url)
    states = [desired_state({"docker.io": [url], "ghcr.io": [url]}) for url in urls]
    service = install(bare, packages.deb)
    service.desire(states[0])
    service.await_docker(urls[0])
    lives = runtimes(node)
    for name in (packages.deb, newer.deb):
        node.put(f"/root/{name.name}", name.read_bytes())
    with watched(node, DAEMON_JSON, hosts_path("docker.io"), hosts_path("ghcr.io")) as seen:
        for number in range(ROUNDS):
            package = (newer.deb, packages.deb)[number % 2]
            last = number % 2
            _upgrade_with_edits(service, f"/root/{package.name}", [*states, *states, *states, states[last]])
            service.await_mirror("docker.io", urls[last], DEADLINE_SECONDS)
            service.await_mirror("ghcr.io", urls[last], DEADLINE_SECONDS)
            service.await_docker(urls[last], deadline_seconds=DEADLINE_SECONDS)
    service.await_nothing_pending(RESTART_DEADLINE_SECONDS)
    print(f"{ROUNDS} rounds; the reader {seen[-1]}")
    assert [line for line in seen if not line.startswith("looked")] == []
    assert int(seen[-1].split()[1]) > 100 * ROUNDS
    assert (runtimes(node), unit(node)) == (lives, ("enabled", "active"))
    assert_pulls_through(bare, urls[(ROUNDS - 1) % 2])


def _upgrade_with_edits(service: Service, package: str, states: list[str]) -> None:
    """Run dpkg, and make the edits spread over its run; the last one comes when it comes, often after its end."""
    command = f"DEBIAN_FRONTEND=noninteractive dpkg --force-confold --force-unsafe-io -i {package}"
    with ThreadPoolExecutor(max_workers=1) as beside:
        upgrade = beside.submit(service.node.run, command, timeout_seconds=INSTALL_TIMEOUT_SECONDS)
        for state in states[:-1]:
            service.desire(state)
            wait([upgrade], timeout=0.3)
        service.desire(states[-1])
        upgrade.result()


# --- what an administrator decided ------------------------------------------------------------------------------------


def test_decisions_survive_an_upgrade(bare: Rig, packages: Packages, newer: Packages) -> None:
    """Disabled stays disabled, masked stays masked, and what was stopped is not started; a start works afterwards."""
    decisions = {
        "disable --now": ("disabled", "inactive"),
        "mask --now": ("masked", "inactive"),
        "stop": ("enabled", "inactive"),
    }
    install(bare, packages.deb)
    kept = {}
    for decision, package in zip(decisions, (newer.deb, packages.deb, newer.deb), strict=True):
        bare.node.run(f"systemctl {decision} {UNIT} {PROBE_TIMER}")
        install(bare, package)
        kept[decision] = unit(bare.node)
        assert unit(bare.node, PROBE_TIMER) == kept[decision]
        bare.node.run(f"systemctl unmask {UNIT} {PROBE_TIMER}; systemctl enable --now {UNIT} {PROBE_TIMER}")
        assert unit(bare.node) == ("enabled", "active")
    assert kept == decisions


def test_a_failed_agent_is_started_by_the_upgrade(bare: Rig, packages: Packages, newer: Packages) -> None:
    """An upgrade is how a broken agent gets well."""
    install(bare, packages.deb)
    bare.node.put(f"/run/systemd/system/{UNIT}.d/broken.conf", "[Service]\nExecStartPre=/bin/false\nRestart=no\n")
    bare.node.run(f"systemctl daemon-reload; systemctl restart {UNIT}", check=False)
    assert unit(bare.node) == ("enabled", "failed")
    bare.node.run(f"rm -r /run/systemd/system/{UNIT}.d")
    install(bare, newer.deb)
    assert unit(bare.node) == ("enabled", "active")


def test_an_edited_desired_state_survives(bare: Rig, packages: Packages, newer: Packages) -> None:
    """The operator's file keeps its bytes and mode when a new version brings another; that one lies beside it."""
    service = install(bare, packages.deb)
    edited = desired_state({"docker.io": [bare.first.url]})
    service.desire(edited)
    service.await_docker(bare.first.url)
    install(bare, newer.deb)
    assert bare.node.tree("/etc/mirror-agent.yaml") == {"/etc/mirror-agent.yaml": ("-", "640", 0, 0, edited)}
    assert "a later version" in bare.node.text("/etc/mirror-agent.yaml.dpkg-dist")
    service.await_nothing_pending()
    assert docker_mirrors(bare.node) == [f"{bare.first.url}/"]


def test_a_state_of_another_version_does_no_harm(bare: Rig, packages: Packages, newer: Packages) -> None:
    """What a later version has put into the ledger outlives the edits that an older one follows, and what that later
    one owned is given back by the older."""
    node, service = bare.node, install(bare, newer.deb)
    service.desire(desired_state({"docker.io": [bare.first.url], "ghcr.io": [bare.first.url]}))
    service.await_mirror("ghcr.io", bare.first.url)
    service.await_nothing_pending()
    assert (service.cli("--version").out.split()[-1], LATER in node.text(LEDGER)) == (NEWER, True)
    install(bare, packages.deb)
    service.desire(desired_state({"docker.io": [bare.second.url]}))
    service.await_mirror("docker.io", bare.second.url)
    wait_until(lambda: not node.exists(hosts_path("ghcr.io")), DEADLINE_SECONDS, "ghcr.io given back")
    service.await_nothing_pending(RESTART_DEADLINE_SECONDS)
    assert (service.cli("--version").out.split()[-1], LATER in node.text(LEDGER)) == (packages.version, True)
    assert "ghcr.io" not in node.text(LEDGER)
    install(bare, newer.deb)
    service.await_nothing_pending()


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_what_a_node_pays(bare: Rig, packages: Packages) -> None:
    """Resident memory of the packaged agent with a dozen registries, and how long its start took: printed. No figure of
    a shared machine is judged but the memory, and that with room."""
    node, names = bare.node, ["docker.io", *(f"registry-{number}.example" for number in range(11))]
    service = install(bare, packages.deb)
    service.desire(desired_state({name: [bare.first.url] for name in names}))
    service.await_docker(bare.first.url)
    service.await_nothing_pending()
    node.run(["systemctl", "restart", UNIT])
    service.await_nothing_pending()
    resident = int(node.run(f"grep VmRSS: /proc/{service.pid()}/status").out.split()[1]) / 1024
    times = ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    shown = node.show(UNIT, *times)
    started, ready = (int(shown[name]) / 1000 for name in times)
    print(f"{node.suite}: {resident:.1f} MB resident, READY after {ready - started:.0f} ms")
    assert resident <= 44
    assert ready > started
