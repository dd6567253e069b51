"""The packages of this checkout, made by packaging/build.sh once for each state of it.

    python -m tests.packages    makes them now, and says what it does

They are kept where the nodes' root file systems are (rootfs.cache_root()), not in dist/, so that a test never meets an
old one. What is older than a day goes.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.node.rootfs import CannotBuildError, build_once, cache_root

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD_TIMEOUT_SECONDS = 1800
_INPUTS = ("agent", "packaging", "systemd", "requirements.lock", "CHANGELOG.md", "LICENSE")
# Not the commit's, so that a commit alone does not make new packages.
_TIME = "1767225600"
_KEPT_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Packages:
    """Both packages of one version for one architecture, in dpkg's words; `machine` is what all others call it."""

    version: str
    architecture: str
    deb: Path
    rpm: Path

    @property
    def machine(self) -> str:
        return MACHINES[self.architecture]


MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_TOOLS = {"amd64": ("rpmbuild", "dpkg-deb", "strip"), "arm64": ("rpmbuild", "dpkg-deb", "aarch64-linux-gnu-strip")}


def built(architecture: str = "amd64", source: Path = REPOSITORY) -> Packages:
    """Both packages of this checkout, or of another `source` tree (for an upgrade to something newer).

    Raises CannotBuildError if this machine cannot build them, with what the build said.
    """
    version = _version(source)
    where = build_once(
        cache_root() / f"packages-{version}-{architecture}-{_digest(source)}",
        lambda directory: _build(architecture, source, directory),
    )
    return Packages(
        version,
        architecture,
        where / f"mirror-agent_{version}_{architecture}.deb",
        where / f"mirror-agent-{version}-1.{MACHINES[architecture]}.rpm",
    )


def _build(architecture: str, source: Path, directory: Path) -> None:
    _forget_old()
    missing = [tool for tool in _TOOLS[architecture] if shutil.which(tool) is None]
    if missing:
        raise CannotBuildError(f"{', '.join(missing)} not found; run packaging/setup.sh package {architecture}")
    environment = {**os.environ, "MIRROR_AGENT_DIST": str(directory), "SOURCE_DATE_EPOCH": _TIME}
    done = subprocess.run(
        [source / "packaging" / "build.sh", architecture],
        env=environment, stderr=subprocess.PIPE, text=True, timeout=BUILD_TIMEOUT_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise CannotBuildError(f"packaging/build.sh failed with {done.returncode}:\n{done.stderr[-4000:]}")


def _version(source: Path) -> str:
    found = re.search(r'^__version__ = "(.+)"$', (source / "agent" / "__init__.py").read_text(), re.MULTILINE)
    assert found
    return found[1]


def _digest(source: Path) -> str:
    """Of every byte that goes into a package."""
    known = hashlib.sha256()
    for path in inputs(source):
        known.update(f"{path.relative_to(source)} {path.stat().st_mode:o}\n".encode() + path.read_bytes())
    return known.hexdigest()[:16]


def inputs(source: Path) -> list[Path]:
    """The files of which packages are made."""
    tops = [source / name for name in _INPUTS]
    found = [path for top in tops for path in (sorted(top.rglob("*")) if top.is_dir() else [top])]
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def _forget_old() -> None:
    for entry in cache_root().glob("packages-*"):
        if entry.is_dir() and time.time() - entry.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)


if __name__ == "__main__":
    try:
        for wanted in (os.environ.get("MIRROR_AGENT_ARCHITECTURES") or "amd64").split():
            print(built(wanted).deb.parent)
    except CannotBuildError as reason:
        sys.exit(f"packages: {reason}")
