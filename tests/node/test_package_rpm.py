"""The .rpm on a node, with the build machine's rpm: no Debian node has one."""

import io
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.install import INSTALL_TIMEOUT_SECONDS, PROBE_TIMER, UNIT
from tests.node.machine import Node
from tests.node.packaged import NEWER, PACKAGE, assert_pulls_through, runtimes, unit
from tests.node.pulls import docker_mirrors
from tests.node.rig import Rig
from tests.node.service import Service, desired_state
from tests.packages import Packages

_RPM = "/opt/rpm"


def packed_rpm() -> bytes:
    """The build machine's rpm as a tar for a node: with its libraries, its loader and its macros."""
    program = shutil.which("rpm")
    if program is None:
        pytest.skip("rpm is not installed; run packaging/setup.sh package")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    files = {f"lib/{Path(found).name}": Path(found) for found in (program, *re.findall(r"(/\S+)", listed))}
    files |= {name: Path("/usr/lib/rpm") / name for name in ("rpmrc", "macros")}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", dereference=True) as archive:
        for name, path in files.items():
            archive.add(path.resolve(), arcname=f"{_RPM[1:]}/{name}")
    return packed.getvalue()


def rpm_command(*arguments: str) -> str:
    """A shell's line that runs it. The node's packages are Debian's, so nothing is asked about dependencies."""
    loader = f"{_RPM}/lib/ld-linux-x86-64.so.2 --library-path {_RPM}/lib {_RPM}/lib/rpm"
    options = "--dbpath /var/lib/rpm --nodeps --force-debian --noplugins"
    return f"RPM_CONFIGDIR={_RPM} {loader} {options} {shlex.join(arguments)}"


def rpm(node: Node, *arguments: str) -> None:
    """Run it in the node."""
    node.run(rpm_command(*arguments), timeout_seconds=INSTALL_TIMEOUT_SECONDS)


@pytest.fixture
def node(bare: Rig, packages: Packages, newer: Packages) -> Iterator[Node]:
    """The bare node with both versions under /root; what was installed is erased at the end."""
    bare.node.run(["tar", "-x", "-C", "/"], input=packed_rpm())
    bare.node.put("/root/it.rpm", packages.rpm.read_bytes())
    bare.node.put("/root/newer.rpm", newer.rpm.read_bytes())
    yield bare.node
    bare.node.run(f"systemctl unmask {UNIT} {PROBE_TIMER}; {rpm_command('-e', PACKAGE)}", check=False)
    bare.node.run("rm -rf /var/lib/rpm /opt/rpm /root/*.rpm")


def test_the_rpm_works_too(bare: Rig, node: Node) -> None:
    """Installed: enabled, running, converging. Upgraded and downgraded: the agent is another process and converged, the
    runtimes live on. Erased: they keep what they have, and the edited desired state is kept aside."""
    url, lives = bare.first.url, runtimes(node)
    rpm(node, "-i", "/root/it.rpm")
    service = Service(node)
    assert (unit(node), unit(node, PROBE_TIMER)) == (("enabled", "active"), ("enabled", "active"))
    edited = desired_state({"docker.io": [url], "ghcr.io": [url]})
    service.desire(edited)
    service.await_mirror("ghcr.io", url)
    service.await_docker(url)
    for act, name in (("-U", "newer"), ("-U --oldpackage", "it")):
        before = service.pid()
        rpm(node, *act.split(), f"/root/{name}.rpm")
        assert (unit(node), unit(node, PROBE_TIMER)) == (("enabled", "active"), ("enabled", "active"))
        assert service.pid() != before
        assert (service.cli("--version").out.split()[-1] == NEWER) is (name == "newer")
        service.await_nothing_pending()
        assert node.text("/etc/mirror-agent.yaml") == edited
        assert ("a later version" in node.text("/etc/mirror-agent.yaml.rpmnew")) is (name == "newer")
    assert_pulls_through(bare, url)
    rpm(node, "-e", PACKAGE)
    assert runtimes(node) == lives
    assert unit(node, PROBE_TIMER)[1] == "inactive"
    assert (unit(node)[1], node.exists("/usr/lib/mirror-agent"), node.text("/etc/mirror-agent.yaml.rpmsave")) == (
        "inactive", False, edited,
    )  # fmt: skip
    assert docker_mirrors(node) == [f"{url}/"]


def test_decisions_survive_an_upgrade_of_the_rpm(node: Node) -> None:
    """Disabled stays disabled, masked stays masked, and what was stopped is not started; a start works afterwards."""
    decisions = {
        "disable --now": ("disabled", "inactive"),
        "mask --now": ("masked", "inactive"),
        "stop": ("enabled", "inactive"),
    }
    rpm(node, "-i", "/root/it.rpm")
    kept = {}
    for decision, name in zip(decisions, ("newer", "it", "newer"), strict=True):
        node.run(f"systemctl {decision} {UNIT} {PROBE_TIMER}")
        # A timer that is masked while it waits can be "failed" for systemd: it waits no more, either way.
        timer = unit(node, PROBE_TIMER)
        rpm(node, "-U", "--oldpackage", f"/root/{name}.rpm")
        kept[decision] = unit(node)
        assert unit(node, PROBE_TIMER) == timer
        assert timer[0] == kept[decision][0]
        node.run(f"systemctl unmask {UNIT} {PROBE_TIMER}; systemctl enable --now {UNIT} {PROBE_TIMER}")
        assert unit(node) == ("enabled", "active")
    assert kept == decisions
