"""The packages of this checkout, made by packaging/build.sh once for each state of it.

    python -m tests.packages    makes them now, and says what it does

They are kept where the nodes' root file systems are (rootfs.cache_root()), not in dist/, so that a test never meets an
old one. What is older than a day goes.
"""

import hashlib
import os
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
    """One version of both packages; `rpm` does not exist if it was not asked for."""

    version: str
    deb: Path
    rpm: Path


def built(version: str = "", *formats: str) -> Packages:
    """Both packages (or the formats named), with the code's own version or another.

    Raises CannotBuildError if this machine cannot build them, with what the build said.
    """
    version = version or _own_version()
    formats = formats or ("deb", "rpm")
    where = build_once(
        cache_root() / f"packages-{version}-{'-'.join(formats)}-{_digest()}",
        lambda directory: _build(version, formats, directory),
    )
    return Packages(
        version, where / f"mirror-agent_{version}_amd64.deb", where / f"mirror-agent-{version}-1.x86_64.rpm"
    )


def _build(version: str, formats: tuple[str, ...], directory: Path) -> None:
    _forget_old()
    missing = [tool for tool in ("rpmbuild", "dpkg-deb", "strip") if shutil.which(tool) is None]
    if missing:
        raise CannotBuildError(f"{', '.join(missing)} not found; run packaging/setup.sh package")
    environment = {
        **os.environ, "MIRROR_AGENT_VERSION": version, "MIRROR_AGENT_DIST": str(directory), "SOURCE_DATE_EPOCH": _TIME,
    }  # fmt: skip
    done = subprocess.run(
        [REPOSITORY / "packaging" / "build.sh", *formats],
        env=environment, stderr=subprocess.PIPE, text=True, timeout=BUILD_TIMEOUT_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise CannotBuildError(f"packaging/build.sh failed with {done.returncode}:\n{done.stderr[-4000:]}")


def _own_version() -> str:
    from agent import __version__

    return __version__


def _digest() -> str:
    """Of every byte that goes into a package."""
    known = hashlib.sha256()
    for name in _INPUTS:
        top = REPOSITORY / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                known.update(f"{path.relative_to(REPOSITORY)} {path.stat().st_mode:o}\n".encode() + path.read_bytes())
    return known.hexdigest()[:16]


def _forget_old() -> None:
    for entry in cache_root().glob("packages-*"):
        if entry.is_dir() and time.time() - entry.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)


if __name__ == "__main__":
    try:
        print(built().deb.parent)
    except CannotBuildError as reason:
        sys.exit(f"packages: {reason}")
