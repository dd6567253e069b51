"""The packages on a node: what is installed, what is left, and a version that is newer than this checkout's."""

import os
import shutil
import time
from pathlib import Path

from agent.targets import ProbeTarget, encode_targets
from tests.node.install import PROBE, PROBE_TIMER, UNIT, install_deb
from tests.node.machine import Node
from tests.node.pulls import cri_call, cri_pull, docker_info, docker_mirrors, docker_pull
from tests.node.rig import GHCR_IMAGE, HUB_IMAGE, Rig
from tests.node.service import Service
from tests.node.waiting import wait_until
from tests.packages import REPOSITORY, inputs

PACKAGE = "mirror-agent"
NEWER = "99.0.0"
TREES = ("/etc/containerd", "/etc/docker")
LEDGER = "/var/lib/mirror-agent/ledger.json"
# What the newer version's ledger has beside today's.
LATER = '"later": {"since": "99.0.0"}'


def newer_source(directory: Path) -> Path:
    """This checkout as a later version may be: another version, a module renamed, one field more in the ledger, one
    more line in the conffile."""
    for path in inputs(REPOSITORY):
        copy = directory / path.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    (directory / ".venv").symlink_to(REPOSITORY / ".venv")
    agent = directory / "agent"
    os.rename(agent / "redact.py", agent / "concealment.py")
    for module in agent.rglob("*.py"):
        module.write_text(module.read_text().replace("from agent.redact import", "from agent.concealment import"))
    code = agent / "__init__.py"
    before = code.read_text()
    code.write_text("".join(_with_version(line) for line in before.splitlines(keepends=True)))
    assert code.read_text() != before
    with (agent / "ledger.py").open("a") as ledger:
        ledger.write(_ONE_FIELD_MORE)
    with (directory / "packaging" / "mirror-agent.yaml").open("a") as conffile:
        conffile.write("# What a later version has to say.\n")
    return directory


def _with_version(line: str) -> str:
    return f'__version__ = "{NEWER}"\n' if line.startswith("__version__ = ") else line


_ONE_FIELD_MORE = f"""

def _with_a_field_more(known: Ledger) -> bytes:
    content = _encoded(known)
    return content if b'"later"' in content else content.replace(b'{{"format": 1,', b'{{"format": 1, {LATER},', 1)


_encoded = Ledger.encode
Ledger.encode = _with_a_field_more
"""


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
    """Which lives Docker and containerd are living; both answer. Debian 11's containerd (1.4) reads its mirrors when it
    starts, and so has another life with each change."""
    assert docker_info(node)["ServerVersion"]
    wait_until(lambda: cri_call(node, "ListImages", b"").status == 0, 20, "containerd's CRI")
    kept = ["docker.service"] if node.suite == "bullseye" else ["docker.service", "containerd.service"]
    return tuple(node.life(name) for name in kept)


def assert_pulls_through(rig: Rig, mirror: str) -> None:
    """Both runtimes pull, and from that mirror."""
    assert docker_mirrors(rig.node) == [f"{mirror}/"]
    pulls = [docker_pull(rig.node, HUB_IMAGE), cri_pull(rig.node, GHCR_IMAGE)]
    assert [pulled for pulled in pulls if not pulled.ok] == []
