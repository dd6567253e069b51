"""Puts the agent into a node: from its package, as on every machine, or straight from this checkout, for a quick look.

MIRROR_AGENT_NODE_INSTALL=package    the .deb of this checkout, with its own Python (the only way on Debian 11)
MIRROR_AGENT_NODE_INSTALL=checkout   its files, run by the node's Python (the default)
"""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.node.machine import Node
from tests.node.rootfs import CannotBuildError, build_once, cache_root
from tests.packages import built

REPOSITORY = Path(__file__).resolve().parents[2]
PRIVATE_TREE = "/usr/lib/mirror-agent"
INSTALLED = "/usr/bin/mirror-agent"
UNIT = "mirror-agent.service"
PROBE = "mirror-agent-probe.service"
PROBE_TIMER = "mirror-agent-probe.timer"
PIP_TIMEOUT_SECONDS = 600
INSTALL_TIMEOUT_SECONDS = 180
# Suites whose own Python is too old for the agent: there, only the package works.
SUITES_WITH_OLD_PYTHON = frozenset({"bullseye"})

_PATHS = f'import sys\n\nsys.path[0:0] = ["{PRIVATE_TREE}", "{PRIVATE_TREE}/site-packages"]\n'
# Isolated mode: neither PYTHONPATH nor the working directory nor anybody's site-packages can change what runs as root.
_LAUNCHER = f"#!/usr/bin/python3 -I\n{_PATHS}\nfrom agent.cli import main\n\nsys.exit(main())\n"


def from_package() -> bool:
    """Whether nodes get the agent from its package."""
    chosen = os.environ.get("MIRROR_AGENT_NODE_INSTALL") or "checkout"
    if chosen not in ("package", "checkout"):
        raise ValueError(f"MIRROR_AGENT_NODE_INSTALL is {chosen!r}; it is package or checkout")
    return chosen == "package"


def runs_on(suite: str) -> bool:
    """Whether the agent can be installed on a node of this suite, in the way that was chosen."""
    return from_package() or suite not in SUITES_WITH_OLD_PYTHON


def install(node: Node) -> None:
    """Install the agent, its dependencies, its unit and its journal catalogue. It is neither enabled nor started, and
    there is no desired state.

    Raises CannotBuildError if the package cannot be built, or the dependencies cannot be had.
    """
    if from_package():
        install_deb(node, built().deb)
        node.run(["systemctl", "disable", "--now", UNIT, PROBE_TIMER])
        node.run("rm -rf /etc/mirror-agent.yaml /var/lib/mirror-agent /run/mirror-agent")
    else:
        _install_checkout(node)


def install_deb(node: Node, package: Path) -> None:
    """Install (upgrade, downgrade) a .deb as an operator does, keeping an edited conffile."""
    node.put(f"/root/{package.name}", package.read_bytes())
    node.run(
        # Unsafe is only that a power cut could undo it: nodes are thrown away, and fsync takes seconds.
        ["dpkg", "--force-confold", "--force-unsafe-io", "-i", f"/root/{package.name}"],
        environment={"DEBIAN_FRONTEND": "noninteractive"},
        timeout_seconds=INSTALL_TIMEOUT_SECONDS,
    )


def python_argv(script: str) -> list[str]:
    """The command line that runs a script in a node with the installed agent's modules."""
    if from_package():
        return [f"{PRIVATE_TREE}/bin/python3.14", "-IB", "-c", script]
    return ["python3", "-I", "-c", _PATHS + script]


def _install_checkout(node: Node) -> None:
    node.run(["mkdir", "-p", PRIVATE_TREE])
    _unpack(node, "site-packages", site_packages(_python_version(node)))
    _unpack(node, "agent", REPOSITORY / "agent")
    node.put(INSTALLED, _LAUNCHER, 0o755)
    for unit in sorted((REPOSITORY / "systemd").glob("mirror-agent*")):
        node.put(f"/lib/systemd/system/{unit.name}", unit.read_bytes())
    for catalogue in sorted((REPOSITORY / "packaging").glob("*.catalog")):
        node.put(f"/usr/lib/systemd/catalog/{catalogue.name}", catalogue.read_bytes())
    node.run("journalctl --update-catalog")
    # The unit cannot write below /usr: without this every start would compile everything again.
    node.run(["python3", "-I", "-m", "compileall", "-q", PRIVATE_TREE])
    node.run("systemctl daemon-reload")


def site_packages(python_version: str) -> Path:
    """The run-time dependencies for `python_version` (`3.11`), from the lock file, in the cache.

    systemd-python is left out: it would have to be compiled, and Debian ships it as python3-systemd.
    """
    lock = _without((REPOSITORY / "requirements.lock").read_text(), "systemd-python")
    digest = hashlib.sha256(lock.encode()).hexdigest()[:16]
    return build_once(cache_root() / f"python{python_version}-{digest}", lambda tree: _pip(lock, python_version, tree))


def _without(lock: str, name: str) -> str:
    """The lock file less one requirement (its line and the hash lines that continue it)."""
    kept: list[str] = []
    skipping = False
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            skipping = line.startswith(f"{name}==")
        if not skipping:
            kept.append(line)
    return "".join(kept)


def _pip(lock: str, python_version: str, tree: Path) -> None:
    listed = tree.with_name("requirements.lock")
    listed.write_text(lock)
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(tree),
        "--python-version", python_version, "--only-binary=:all:", "--require-hashes", "-r", str(listed),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_SECONDS, check=False)
    if done.returncode != 0:
        raise CannotBuildError(
            f"pip could not fetch the dependencies for Python {python_version}:\n{done.stderr[-3000:]}"
        )


def _python_version(node: Node) -> str:
    return node.run("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").out.strip()


def _unpack(node: Node, name: str, source: Path) -> None:
    """Copy a directory of the host to the private tree, owned by root, without compiled files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(source, arcname=name, filter=_as_root)
    node.run(["tar", "-x", "-C", PRIVATE_TREE], input=buffer.getvalue())


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if "__pycache__" in member.name:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member
