"""The packages of this checkout, and the .deb's tree in a directory; skipped where they cannot be built.

MIRROR_AGENT_NODE_TESTS=required turns that skip into a failure.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.node.rootfs import CannotBuildError
from tests.packages import Packages, built


@pytest.fixture(scope="session")
def packages() -> Packages:
    """The .deb and the .rpm of this checkout."""
    try:
        return built()
    except CannotBuildError as reason:
        if os.environ.get("MIRROR_AGENT_NODE_TESTS") == "required":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def tree(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the .deb would install, below a directory."""
    target = tmp_path_factory.mktemp("deb")
    subprocess.run(["dpkg-deb", "-x", str(packages.deb), str(target)], check=True, timeout=120)
    return target
