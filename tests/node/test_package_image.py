"""The packages in an image: a root file system without a running systemd, as image builders have it."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.node.nspawn import overlay, scratch_directory
from tests.node.rootfs import ensure
from tests.node.test_package_rpm import packed_rpm, rpm_command
from tests.packages import Packages

Shell = Callable[[str], list[str]]
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
_EVERYTHING = "find / -xdev -name '*mirror-agent*' ! -path '/root/*'"


@pytest.fixture
def image(suite: str) -> Iterator[Path]:
    """A root file system of the suite, not booted, and without any Python of its own."""
    with scratch_directory(f"image-{suite}") as scratch, overlay(ensure(suite), scratch) as root:
        for python in (root / "usr" / "bin").glob("python*"):
            python.unlink()
        yield root


@pytest.fixture
def shell(image: Path) -> Shell:
    """Runs a script in the image; it must succeed, and its lines come back."""

    def run(script: str) -> list[str]:
        command = ["unshare", "--pid", "--fork", "--mount", "chroot", str(image), "sh", "-ec", script]
        done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    return run


def test_the_deb_installs_into_an_image(image: Path, shell: Shell, packages: Packages) -> None:
    """No error, enabled for the first boot, working without a Python of the system; and a purge leaves nothing."""
    (image / "root" / "it.deb").write_bytes(packages.deb.read_bytes())
    shell("dpkg -i /root/it.deb >/dev/null; mirror-agent check; mirror-agent --root / plan")
    assert shell("systemctl is-enabled mirror-agent") == ["enabled"]
    assert shell(f"dpkg --purge mirror-agent >/dev/null; {_EVERYTHING}") == []


def test_the_rpm_installs_into_an_image(image: Path, shell: Shell, packages: Packages) -> None:
    """The same; an erasure leaves the state, which rpm has no purge for, and nothing else."""
    _carry(image, packages)
    shell(f"{rpm_command('-i', '/root/it.rpm')}; mirror-agent check; mirror-agent --root / plan")
    assert shell("systemctl is-enabled mirror-agent") == ["enabled"]
    assert shell("find /usr/lib/systemd/system -name 'before-239.conf'") == []
    assert shell(f"{rpm_command('-e', 'mirror-agent')}; {_EVERYTHING}") == []


def test_before_systemd_239_nothing_is_filtered(image: Path, shell: Shell, packages: Packages) -> None:
    """A systemd that knows no groups of system calls would allow next to none: there, a drop-in of the .rpm's puts the
    filters out of force, over an upgrade too, and goes with the package or with that systemd."""
    _carry(image, packages)
    _pretend(image, 219)
    shell(rpm_command("-i", "/root/it.rpm"))
    dropped = sorted(shell("find /usr/lib/systemd/system -name 'before-239.conf'"))
    assert dropped == [
        "/usr/lib/systemd/system/mirror-agent-probe.service.d/before-239.conf",
        "/usr/lib/systemd/system/mirror-agent.service.d/before-239.conf",
    ]
    assert shell(f"cat {dropped[0]}")[-2:] == ["[Service]", "SystemCallFilter="]
    shell(rpm_command("-U", "--force", "/root/it.rpm"))
    assert sorted(shell("find /usr/lib/systemd/system -name 'before-239.conf'")) == dropped
    _pretend(image, 250)
    shell(rpm_command("-U", "--force", "/root/it.rpm"))
    assert shell("find /usr/lib/systemd/system -name 'before-239.conf'") == []
    _pretend(image, 219)
    shell(rpm_command("-U", "--force", "/root/it.rpm"))
    assert shell(f"{rpm_command('-e', 'mirror-agent')}; {_EVERYTHING}") == []


def _carry(image: Path, packages: Packages) -> None:
    (image / "root" / "it.rpm").write_bytes(packages.rpm.read_bytes())
    subprocess.run(["tar", "-x", "-C", str(image)], input=packed_rpm(), check=True, timeout=60)


def _pretend(image: Path, version: int) -> None:
    """The node's systemctl gives another version than it is of."""
    program = image / "sbin" / "systemctl"  # where rpm looks first
    program.unlink(missing_ok=True)
    said = f'[ "$1" != --version ] || {{ echo "systemd {version} (pretended)"; exit; }}'
    program.write_text(f'#!/bin/sh\n{said}\nexec /bin/systemctl "$@"\n')
    program.chmod(0o755)
