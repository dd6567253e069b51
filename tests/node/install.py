"""Puts the agent of this checkout into a node, where its package would put it.

One function, `install`; when there is a .deb, it installs that instead and the tests stay as they are.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.node.machine import Node
from tests.node.rootfs import CannotBuildError, build_once, cache_root

REPOSITORY = Path(__file__).resolve().parents[2]
PRIVATE_TREE = "/usr/lib/mirror-agent"
UNIT = "mirror-agent.service"
PIP_TIMEOUT_SECONDS = 600

# Isolated mode: neither PYTHONPATH nor the working directory nor anybody's site-packages can change what runs as root.
_LAUNCHER = f"""\
#!/usr/bin/python3 -I
import sys

sys.path[0:0] = ["{PRIVATE_TREE}", "{PRIVATE_TREE}/site-packages"]

from agent.cli import main

sys.exit(main())
"""


def install(node: Node) -> None:
    """Install the agent, its dependencies, its unit and its journal catalogue. It is neither enabled nor started.

    Raises CannotBuildError if this checkout has no unit, no command line, or its dependencies cannot be had.
    """
    for part in (f"systemd/{UNIT}", "agent/cli", "agent/runtimes/containerd", "agent/runtimes/docker"):
        if not any((REPOSITORY / f"{part}{ending}").exists() for ending in ("", ".py")):
            raise CannotBuildError(f"this checkout has no {part}")
    node.run(["mkdir", "-p", PRIVATE_TREE])
    _unpack(node, "site-packages", site_packages(_python_version(node)))
    _unpack(node, "agent", REPOSITORY / "agent")
    node.put("/usr/bin/mirror-agent", _LAUNCHER, 0o755)
    for unit in sorted((REPOSITORY / "systemd").glob("*.service")):
        node.put(f"/lib/systemd/system/{unit.name}", unit.read_bytes())
    catalogues = sorted((REPOSITORY / "packaging").rglob("*.catalog"))
    for catalogue in catalogues:
        node.put(f"/usr/lib/systemd/catalog/{catalogue.name}", catalogue.read_bytes())
    if catalogues:
        node.run("journalctl --update-catalog")
    # The unit cannot write below /usr: without this every start would compile everything again.
    node.run(["python3", "-I", "-m", "compileall", "-q", PRIVATE_TREE])
    node.run("systemctl daemon-reload")


def update(node: Node) -> None:
    """Put this checkout's agent in place of the installed one, as an upgrade does (not restarted)."""
    node.run(["rm", "-rf", f"{PRIVATE_TREE}/agent"])
    _unpack(node, "agent", REPOSITORY / "agent")
    node.run(["python3", "-I", "-m", "compileall", "-q", f"{PRIVATE_TREE}/agent"])


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
