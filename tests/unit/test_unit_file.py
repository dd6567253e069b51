"""The unit file: what it must say, what must not be in it, and that it lets the runtimes' modules write."""

import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from agent.daemon import EXIT_STALE_NAMESPACE
from agent.runtimes import discover

WORST_EXPOSURE = 1.0
UNIT = Path(__file__).resolve().parents[2] / "systemd" / "mirror-agent.service"


def directives() -> dict[str, list[str]]:
    """{`Section.Name`: values in order}, as systemd reads them: an empty value would reset the list."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.setdefault(f"{section}.{name}", []).append(value)
    return found


def writable() -> list[PurePosixPath]:
    (value,) = directives()["Service.ReadWritePaths"]
    return [PurePosixPath(path.removeprefix("-")) for path in value.split()]


def test_every_runtime_may_write_what_it_owns() -> None:
    """Each directory that a runtime's module owns lies under ReadWritePaths; a new runtime cannot forget it."""
    owned = [PurePosixPath(path) for runtime in discover() for path in runtime.owns]
    assert owned != []
    assert [path for path in owned if not any(path.is_relative_to(root) for root in writable())] == []


def test_a_missing_directory_does_not_keep_the_service_down() -> None:
    """Every path that may be absent has a "-": without it the unit would fail with 226/NAMESPACE."""
    for name in ("ReadWritePaths", "InaccessiblePaths"):
        for value in directives()[f"Service.{name}"]:
            assert [path for path in value.split() if not path.startswith("-/")] == []


def test_the_runtimes_are_ordered_and_not_bound() -> None:
    """We start before every runtime we know; no restart or stop of theirs reaches us."""
    found = directives()
    (before,) = found["Unit.Before"]
    assert set(before.split()) >= {runtime.unit for runtime in discover() if runtime.unit}
    bound = {"Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Upholds", "Conflicts", "PropagatesStopTo"}
    assert {name for name in found if name.removeprefix("Unit.") in bound} == set()


def test_exit_75_brings_a_new_process() -> None:
    """The daemon's way to get at a directory made after its start."""
    found = directives()
    assert found["Service.RestartForceExitStatus"] == found["Service.SuccessExitStatus"] == [str(EXIT_STALE_NAMESPACE)]
    assert found["Service.Restart"] == ["always"]


def test_only_sockets_of_this_machine_can_be_opened() -> None:
    """The root process has no network: its own empty namespace, unix sockets only, every address denied."""
    found = directives()
    assert found["Service.PrivateNetwork"] == ["yes"]
    assert found["Service.RestrictAddressFamilies"] == ["AF_UNIX"]
    assert found["Service.IPAddressDeny"] == ["any"]


def test_the_only_capability_is_to_keep_an_owner() -> None:
    """CAP_CHOWN, and the calls for it come after the filter that takes them away."""
    found = directives()
    assert found["Service.CapabilityBoundingSet"] == ["CAP_CHOWN"]
    assert found["Service.SystemCallFilter"] == ["@system-service", "~@privileged @resources", "@chown"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Service.Type", "notify"),
        ("Service.NotifyAccess", "main"),
        ("Service.ExecStart", "/usr/bin/mirror-agent run"),
        ("Service.ExecReload", "/bin/sh -c 'kill -HUP $MAINPID'"),
        ("Service.UMask", "0077"),
        ("Service.LimitCORE", "0"),
        ("Service.StateDirectory", "mirror-agent"),
        ("Service.StateDirectoryMode", "0700"),
        ("Service.RuntimeDirectory", "mirror-agent"),
        ("Service.RuntimeDirectoryPreserve", "yes"),
        ("Service.NoNewPrivileges", "yes"),
        ("Service.ProtectSystem", "strict"),
        ("Install.WantedBy", "multi-user.target"),
    ],
)
def test_a_directive_that_others_rely_on(name: str, value: str) -> None:
    """Paths, modes and protocol that code, package or documents take for granted."""
    assert directives()[name] == [value]


def test_the_watchdog_leaves_time_for_a_look() -> None:
    """A resync comes every 60 s, the loop pings at half of WatchdogSec, and stopping has half a minute."""
    found = directives()
    assert (found["Service.WatchdogSec"], found["Service.TimeoutStopSec"]) == (["60"], ["30"])


def test_no_comment_follows_a_value_and_no_line_is_continued() -> None:
    """systemd takes a `#` after a value as part of the value; a lost backslash would swallow a directive."""
    lines = [line for line in UNIT.read_text().splitlines() if line and not line.startswith(("#", "["))]
    assert [line for line in lines if " #" in line or " ;" in line or line.endswith("\\") or line != line.strip()] == []
    assert [line for line in lines if "=" not in line] == []


def analyzed(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze on the unit, with a program that is installed here; skipped where it cannot do that."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/bin/mirror-agent", "/bin/true"))
    command = ["systemd-analyze", *arguments, str(copy)]
    if shutil.which(command[0]) is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "mirror-agent" not in done.stdout + done.stderr:
        pytest.skip(f"systemd-analyze cannot do it here: {done.stderr.strip()[:200]}")
    return done


def test_systemd_has_nothing_to_say_about_it(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds no unknown directive, no wrong value and no missing program."""
    done = analyzed(tmp_path, "verify", "--man=no")
    assert [line for line in done.stderr.splitlines() if "mirror-agent" in line] == []


def test_the_exposure_is_at_most_one(tmp_path: Path) -> None:
    """`systemd-analyze security` gives 1.0 of 10, where most packaged daemons have 9."""
    done = analyzed(tmp_path, "security", "--offline=yes", "--no-pager", f"--threshold={10 * WORST_EXPOSURE:.0f}")
    assert done.returncode == 0, done.stdout[-300:]
