"""The packages on a node: install, upgrade, downgrade, remove, purge, and what an administrator decided meanwhile.

Collected with MIRROR_AGENT_NODE_INSTALL=package. MIRROR_AGENT_SOAK=1: fifty upgrades, not a handful.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.targets import ProbeTarget, encode_targets
from tests.node.install import INSTALL_TIMEOUT_SECONDS, PROBE, PROBE_TIMER, UNIT, install_deb
from tests.node.machine import Node
from tests.node.nspawn import overlay, scratch_directory
from tests.node.pulls import cri_call, cri_pull, docker_info, docker_mirrors, docker_pull
from tests.node.rig import DAEMON_JSON, GHCR_IMAGE, HUB_IMAGE, Rig
from tests.node.rootfs import CannotBuildError, ensure
from tests.node.service import Service, desired_state, hosts_path
from tests.node.waiting import wait_until
from tests.packages import Packages, built

ROUNDS = 50 if os.environ.get("MIRROR_AGENT_SOAK") == "1" else 4
# An upgrade in between: the new agent starts first.
DEADLINE_SECONDS = 40.0
PACKAGE = "mirror-agent"
NEWER = "99.0.0"
TREES = ("/etc/containerd", "/etc/docker")


@pytest.fixture(scope="session")
def packages() -> Packages:
    """The packages of this checkout."""
    try:
        return built()
    except CannotBuildError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def newer(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same .deb with a higher version and one more line in its conffile; packed anew, its scripts untouched."""
    work = tmp_path_factory.mktemp("newer")
    tree, made = work / "tree", work / f"mirror-agent_{NEWER}_amd64.deb"
    subprocess.run(["dpkg-deb", "-R", packages.deb, tree], check=True, timeout=120)
    control = tree / "DEBIAN" / "control"
    control.write_text(control.read_text().replace(f"Version: {packages.version}\n", f"Version: {NEWER}\n"))
    with (tree / "etc" / "mirror-agent.yaml").open("a") as conffile:
        conffile.write("# What a later version has to say.\n")
    pack = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", tree, made]
    subprocess.run(pack, check=True, stdout=subprocess.DEVNULL, timeout=120)
    return made


@pytest.fixture
def bare(rig: Rig) -> Iterator[Rig]:
    """The suite's node without the agent, before and after."""
    purge(rig.node)
    assert left_over(rig.node) == ""
    yield rig
    purge(rig.node)


def purge(node: Node) -> None:
    node.run(
        f"systemctl unmask {UNIT} {PROBE_TIMER} 2>/dev/null; dpkg --purge {PACKAGE} 2>/dev/null;"
        " rm -f /etc/mirror-agent.yaml*"
    )
    node.run(
        "rm -rf /usr/lib/mirror-agent /usr/bin/mirror-agent /usr/share/*/mirror-agent /var/lib/mirror-agent"
        " /run/mirror-agent /usr/lib/systemd/catalog/mirror-agent* /lib/systemd/system/mirror-agent*;"
        " rm -rf /run/mirror-agent-probe /run/private/mirror-agent-probe;"
        " systemctl daemon-reload; journalctl --update-catalog"
    )


def left_over(node: Node) -> str:
    """Whatever of the package is still on the node: files by name, units, what dpkg and systemd remember of it."""
    return node.run(
        "find / -xdev -name '*mirror-agent*' ! -path '/root/*' ! -path '/proc/*';"
        " find /run /var/lib/systemd /etc/systemd -name '*mirror-agent*';"
        " systemctl list-unit-files --no-legend 'mirror-agent*';"
        " systemctl list-units --all --no-legend 'mirror-agent*';"
        f" dpkg-query -W {PACKAGE} 2>/dev/null; journalctl --list-catalog 2>/dev/null | grep -i mirror-agent; true"
    ).out


def install(rig: Rig, package: Path) -> Service:
    install_deb(rig.node, package)
    return Service(rig.node)


def unit(node: Node, name: str = UNIT) -> tuple[str, str]:
    """(is-enabled, is-active) in systemctl's words."""
    shown = [node.run(["systemctl", act, name], check=False).out.strip() for act in ("is-enabled", "is-active")]
    return shown[0], shown[1]


def left_verdicts(node: Node) -> bool:
    """Let the probe's unit run, for what it leaves: whether it was left."""
    target = ProbeTarget("docker.io", "http://127.0.0.1:5009", HUB_IMAGE, due=time.time())
    node.put("/run/mirror-agent/targets.json", encode_targets((target,)))
    node.run(["systemctl", "start", PROBE])
    return node.exists("/run/mirror-agent-probe/verdicts.json")


def runtimes(node: Node) -> tuple[tuple[str, str], ...]:
    """Which lives Docker and containerd are living; both answer."""
    assert docker_info(node)["ServerVersion"]
    wait_until(lambda: cri_call(node, "ListImages", b"").status == 0, 20, "containerd's CRI")
    return node.life("docker.service"), node.life("containerd.service")


def assert_pulls_through(rig: Rig, mirror: str) -> None:
    """Both runtimes pull, and from that mirror. Debian 11's containerd (1.4) has no certs.d: there, Docker alone."""
    assert docker_mirrors(rig.node) == [f"{mirror}/"]
    pulls = [docker_pull(rig.node, HUB_IMAGE)]
    if rig.node.suite != "bullseye":
        pulls.append(cri_pull(rig.node, GHCR_IMAGE))
    assert [pulled for pulled in pulls if not pulled.ok] == []


# --- one life ---------------------------------------------------------------------------------------------------------


def test_the_whole_life_of_a_package(bare: Rig, packages: Packages, newer: Path) -> None:
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

    for package in (newer, packages.deb):
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


def test_upgrades_while_edits_come_in(bare: Rig, packages: Packages, newer: Path) -> None:
    """Up and down again with edits all the while: the last edit of each round is in force soon after, no file is ever
    seen in part, and neither runtime is restarted."""
    node, urls = bare.node, (bare.first.url, bare.second.url)
    states = [desired_state({"docker.io": [url], "ghcr.io": [url]}) for url in urls]
    service = install(bare, packages.deb)
    service.desire(states[0])
    service.await_docker(urls[0])
    lives = runtimes(node)
    for name in (packages.deb, newer):
        node.put(f"/root/{name.name}", name.read_bytes())
    with watched(node, DAEMON_JSON, hosts_path("docker.io"), hosts_path("ghcr.io")) as seen:
        for number in range(ROUNDS):
            package = (newer, packages.deb)[number % 2]
            last = number % 2
            _upgrade_with_edits(service, f"/root/{package.name}", [*states, *states, *states, states[last]])
            service.await_mirror("docker.io", urls[last], DEADLINE_SECONDS)
            service.await_mirror("ghcr.io", urls[last], DEADLINE_SECONDS)
            service.await_docker(urls[last], deadline_seconds=DEADLINE_SECONDS)
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


def test_decisions_survive_an_upgrade(bare: Rig, packages: Packages, newer: Path) -> None:
    """Disabled stays disabled, masked stays masked, and what was stopped is not started; a start works afterwards."""
    decisions = {
        "disable --now": ("disabled", "inactive"),
        "mask --now": ("masked", "inactive"),
        "stop": ("enabled", "inactive"),
    }
    install(bare, packages.deb)
    kept = {}
    for decision, package in zip(decisions, (newer, packages.deb, newer), strict=True):
        bare.node.run(f"systemctl {decision} {UNIT} {PROBE_TIMER}")
        install(bare, package)
        kept[decision] = unit(bare.node)
        assert unit(bare.node, PROBE_TIMER) == kept[decision]
        bare.node.run(f"systemctl unmask {UNIT} {PROBE_TIMER}; systemctl enable --now {UNIT} {PROBE_TIMER}")
        assert unit(bare.node) == ("enabled", "active")
    assert kept == decisions


def test_a_failed_agent_is_started_by_the_upgrade(bare: Rig, packages: Packages, newer: Path) -> None:
    """An upgrade is how a broken agent gets well."""
    install(bare, packages.deb)
    bare.node.put(f"/run/systemd/system/{UNIT}.d/broken.conf", "[Service]\nExecStartPre=/bin/false\nRestart=no\n")
    bare.node.run(f"systemctl daemon-reload; systemctl restart {UNIT}", check=False)
    assert unit(bare.node) == ("enabled", "failed")
    bare.node.run(f"rm -r /run/systemd/system/{UNIT}.d")
    install(bare, newer)
    assert unit(bare.node) == ("enabled", "active")


def test_an_edited_desired_state_survives(bare: Rig, packages: Packages, newer: Path) -> None:
    """The operator's file keeps its bytes and mode when a new version brings another; that one lies beside it."""
    service = install(bare, packages.deb)
    edited = desired_state({"docker.io": [bare.first.url]})
    service.desire(edited)
    service.await_docker(bare.first.url)
    install(bare, newer)
    assert bare.node.tree("/etc/mirror-agent.yaml") == {"/etc/mirror-agent.yaml": ("-", "640", 0, 0, edited)}
    assert "a later version" in bare.node.text("/etc/mirror-agent.yaml.dpkg-dist")
    service.await_nothing_pending()
    assert docker_mirrors(bare.node) == [f"{bare.first.url}/"]


def test_a_state_of_another_version_does_no_harm(bare: Rig, packages: Packages) -> None:
    """A ledger with fields from the future is read, and what it owns is still given back."""
    service = install(bare, packages.deb)
    service.desire(desired_state({"docker.io": [bare.first.url], "ghcr.io": [bare.first.url]}))
    service.await_mirror("ghcr.io", bare.first.url)
    service.await_nothing_pending()
    service.stop()
    future = (
        "import json, pathlib; p = pathlib.Path('/var/lib/mirror-agent/ledger.json'); d = json.loads(p.read_text());"
        " d['from_the_future'] = {'a': [1]}; p.write_text(json.dumps(d))"
    )
    bare.node.run(["python3", "-I", "-c", future])
    service.start()
    service.desire(desired_state({"docker.io": [bare.second.url]}))
    service.await_mirror("docker.io", bare.second.url)
    wait_until(lambda: not bare.node.exists(hosts_path("ghcr.io")), DEADLINE_SECONDS, "ghcr.io given back")


# --- without a running systemd ----------------------------------------------------------------------------------------


def test_it_installs_into_an_image(suite: str, packages: Packages) -> None:
    """In a chroot, as image builders do it: no error, enabled for the first boot, and a purge leaves nothing."""
    with scratch_directory(f"image-{suite}") as scratch, overlay(ensure(suite), scratch) as root:
        (root / "root" / "it.deb").write_bytes(packages.deb.read_bytes())
        script = "dpkg -i /root/it.deb >/dev/null && mirror-agent --root / check && systemctl is-enabled mirror-agent"
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        run = ["unshare", "--pid", "--fork", "--mount", "chroot", str(root), "sh", "-c"]
        first = subprocess.run(
            [*run, script], env=environment, capture_output=True, text=True, check=False, timeout=180
        )
        assert (first.returncode, first.stdout.splitlines()[-1:]) == (0, ["enabled"]), first.stderr + first.stdout
        purged = "dpkg --purge mirror-agent >/dev/null && find / -xdev -name '*mirror-agent*'"
        second = subprocess.run(
            [*run, purged], env=environment, capture_output=True, text=True, check=False, timeout=180
        )
        assert (second.returncode, second.stdout) == (0, ""), second.stderr + second.stdout


# --- rpm --------------------------------------------------------------------------------------------------------------


_RPM = "/opt/rpm"


def carry_rpm(node: Node) -> None:
    """Bring the build machine's rpm into the node, with its libraries and its loader: no Debian node has one."""
    program = shutil.which("rpm")
    if program is None:
        pytest.skip("rpm is not installed; run packaging/setup.sh package")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+)", listed)
    packed = subprocess.run(
        ["tar", "-c", "-h", "--transform", "s|.*/|lib/|", program, *libraries], capture_output=True, check=True
    )
    node.run(["mkdir", "-p", _RPM])
    node.run(["tar", "-x", "-C", _RPM], input=packed.stdout)
    for name in ("rpmrc", "macros"):
        node.put(f"{_RPM}/{name}", (Path("/usr/lib/rpm") / name).read_bytes())


def rpm(node: Node, *arguments: str) -> None:
    """Run it. The node's packages are Debian's, so nothing is asked about dependencies."""
    loader = f"{_RPM}/lib/ld-linux-x86-64.so.2"
    node.run(
        [loader, "--library-path", f"{_RPM}/lib", f"{_RPM}/lib/rpm", "--dbpath", "/var/lib/rpm", "--nodeps",
         "--force-debian", "--noplugins", *arguments],
        environment={"RPM_CONFIGDIR": _RPM},
        timeout_seconds=INSTALL_TIMEOUT_SECONDS,
    )  # fmt: skip


def test_the_rpm_works_too(bare: Rig, packages: Packages) -> None:
    """Installed with rpm: enabled, running, converging; a second installation restarts it; removed, the runtimes keep
    what they have, and an edited desired state is kept aside."""
    node, url = bare.node, bare.first.url
    lives = runtimes(node)
    carry_rpm(node)
    node.put("/root/it.rpm", packages.rpm.read_bytes())
    rpm(node, "-i", "/root/it.rpm")
    try:
        service = Service(node)
        assert (unit(node), unit(node, PROBE_TIMER)) == (("enabled", "active"), ("enabled", "active"))
        service.desire(desired_state({"docker.io": [url], "ghcr.io": [url]}))
        service.await_mirror("ghcr.io", url)
        service.await_docker(url)
        before = service.pid()
        rpm(node, "-U", "--force", "/root/it.rpm")
        assert (unit(node), unit(node, PROBE_TIMER)) == (("enabled", "active"), ("enabled", "active"))
        assert service.pid() != before
        service.await_nothing_pending()
        assert_pulls_through(bare, url)
    finally:
        rpm(node, "-e", PACKAGE)
    assert runtimes(node) == lives
    assert unit(node, PROBE_TIMER)[1] == "inactive"
    assert (unit(node)[1], node.exists("/usr/lib/mirror-agent"), node.exists("/etc/mirror-agent.yaml.rpmsave")) == (
        "inactive", False, True,
    )  # fmt: skip
    assert docker_mirrors(node) == [f"{url}/"]
