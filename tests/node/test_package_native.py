"""The distribution-native .deb: built on a node of a suite that has all it needs, and installed there."""

import io
import tarfile
import tomllib
from collections.abc import Iterator

import pytest

from tests.node.conftest import bootable, watch_journal
from tests.node.install import INSTALL_TIMEOUT_SECONDS, PROBE_TIMER
from tests.node.packaged import PACKAGE, TREES, assert_pulls_through, install, left_over, runtimes, unit
from tests.node.rig import Rig, build_rig
from tests.node.service import Service, desired_state
from tests.packages import REPOSITORY, Packages, inputs

_BUILD = ("debhelper", "dh-python", "lintian", "pybuild-plugin-pyproject", "python3-setuptools")
_RUN = ("python3-h2", "python3-pydantic-settings", "python3-tomlkit", "python3-watchdog", "python3-yaml")
_BUILD_TIMEOUT_SECONDS = 300


@pytest.fixture
def native(suite: str, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A node with this checkout's native package in /root/dist."""
    with bootable(suite, "native", *_BUILD, *_RUN) as node:
        node.run(["tar", "-x", "-C", "/root"], input=_checkout())
        node.run(["/root/packaging/build.sh", "native"], timeout_seconds=_BUILD_TIMEOUT_SECONDS)
        rig = build_rig(node)
        watch_journal(request, rig)
        yield rig


def _checkout() -> bytes:
    """What the package is built from, as a tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in (*inputs(REPOSITORY), REPOSITORY / "pyproject.toml", REPOSITORY / "README.md"):
            archive.add(path, arcname=str(path.relative_to(REPOSITORY)))
    return packed.getvalue()


def _asked_for() -> list[str]:
    """What pyproject.toml asks for, in Debian's names."""
    asked = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    pairs = [one.removeprefix("Py").lower().split(">=") for one in asked]
    return [f"python3-{name.removesuffix('-python')} (>= {version})" for name, version in pairs]


@pytest.mark.only_on("trixie", "forky")
def test_the_native_package_works_and_gives_way(native: Rig, packages: Packages) -> None:
    """It needs Debian's packages alone, and lintian has nothing to say. Installed: enabled, running, converging. The
    package with a Python of its own is the higher version, and takes over what is there; the way back works too. Nobody
    notices, and a purge leaves nothing."""
    node, url, lives = native.node, native.first.url, runtimes(native.node)
    native_deb = f"/root/dist/{PACKAGE}_{packages.version}~native_all.deb"
    depends = node.run(["dpkg-deb", "-f", native_deb, "Depends"]).out.strip()
    assert sorted(depends.split(", ")) == sorted([*_asked_for(), "python3:any", "systemd"])
    assert node.run(["lintian", "--allow-root", native_deb]).out == ""
    put = ["dpkg", "--force-unsafe-io", "--force-confold", "-i", native_deb]
    service = Service(node)

    node.run(put, timeout_seconds=INSTALL_TIMEOUT_SECONDS)
    assert (unit(node), unit(node, PROBE_TIMER)) == (("enabled", "active"), ("enabled", "active"))
    edited = desired_state({"docker.io": [url], "ghcr.io": [url]})
    service.desire(edited)
    service.await_mirror("ghcr.io", url)
    service.await_docker(url)
    service.await_nothing_pending()
    assert_pulls_through(native, url)
    converged = node.identity(*TREES)

    node.run(["dpkg", "--compare-versions", f"{packages.version}~native", "lt", packages.version])
    for act in (lambda: install(native, packages.deb), lambda: node.run(put, timeout_seconds=INSTALL_TIMEOUT_SECONDS)):
        before = service.pid()
        act()
        assert (unit(node), unit(node, PROBE_TIMER)) == (("enabled", "active"), ("enabled", "active"))
        assert service.pid() != before
        service.await_nothing_pending()
        assert (node.text("/etc/mirror-agent.yaml"), node.identity(*TREES)) == (edited, converged)

    node.run(["dpkg", "--purge", PACKAGE], timeout_seconds=INSTALL_TIMEOUT_SECONDS)
    assert (left_over(node), runtimes(node), node.identity(*TREES)) == ("", lives, converged)
