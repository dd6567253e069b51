"""The packages of this checkout, and the .deb's tree in a directory; skipped where they cannot be built.

MIRROR_AGENT_ARCHITECTURES="amd64 arm64" judges those for arm64, too; their interpreter runs under qemu then.
MIRROR_AGENT_NODE_TESTS=required turns a skip into a failure.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.node.rootfs import BUILD_TIMEOUT_SECONDS, CannotBuildError, build_once, cache_root, debian_mirror
from tests.packages import Packages, built

ARCHITECTURES = (os.environ.get("MIRROR_AGENT_ARCHITECTURES") or "amd64").split()
PYTHON = "usr/lib/mirror-agent/bin/python3.14"
PythonRun = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", params=ARCHITECTURES)
def packages(request: pytest.FixtureRequest) -> Packages:
    """The .deb and the .rpm of this checkout for one architecture."""
    try:
        return built(request.param)
    except CannotBuildError as reason:
        _cannot(reason)
        raise


@pytest.fixture(scope="session")
def tree(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the .deb would install, below a directory."""
    target = tmp_path_factory.mktemp(packages.architecture)
    subprocess.run(["dpkg-deb", "-x", str(packages.deb), str(target)], check=True, timeout=120)
    return target


@pytest.fixture(scope="session")
def private_python(packages: Packages, tree: Path) -> PythonRun:
    """Runs the packaged interpreter, as the launcher does; that of another machine under qemu, with the libraries that
    Debian 11 has for it."""
    command = [str(tree / PYTHON), "-IB"]
    if packages.architecture == "arm64":
        command = ["qemu-aarch64-static", "-L", str(_arm64_libraries()), *command]

    # The agent refuses variables that look like its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIRROR_AGENT_")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, timeout=600, check=False
        )

    return run


def _arm64_libraries() -> Path:
    if shutil.which("qemu-aarch64-static") is None:
        _cannot(CannotBuildError("qemu-aarch64-static not found; run packaging/setup.sh package arm64"))
    try:
        return build_once(cache_root() / "libraries-bullseye-arm64", _bootstrap_libraries)
    except CannotBuildError as reason:
        _cannot(reason)
        raise


def _bootstrap_libraries(target: Path) -> None:
    tool = shutil.which("mmdebstrap")
    if tool is None:
        raise CannotBuildError("mmdebstrap is not installed; run packaging/setup.sh nodes")
    command = [
        tool, "--quiet", "--variant=extract", "--architectures=arm64", "--include=libc6,libgcc-s1,libsystemd0",
        '--aptopt=Acquire::Check-Valid-Until "false"', "bullseye", str(target), debian_mirror(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_SECONDS, check=False)
    if done.returncode != 0:
        raise CannotBuildError(f"mmdebstrap for arm64 failed with {done.returncode}:\n{done.stderr[-4000:]}")


def _cannot(reason: CannotBuildError) -> None:
    if os.environ.get("MIRROR_AGENT_NODE_TESTS") == "required":
        pytest.fail(str(reason))
    pytest.skip(str(reason))
