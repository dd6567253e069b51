"""The units: what they must say, what must not be in them, and that the agent's lets the runtimes' modules write."""

import shutil
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path, PurePosixPath

import pytest

from agent.cli.rounds import MOST_SECONDS
from agent.daemon import EXIT_STALE_NAMESPACE
from agent.probe.address import Kind, kind_of
from agent.runtimes import discover
from agent.settings import Settings

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
UNIT, PROBE, TIMER = (SYSTEMD / f"mirror-agent{each}" for each in (".service", "-probe.service", "-probe.timer"))
WORST_EXPOSURE = {UNIT: 1.0, PROBE: 1.1}
METADATA = ("169.254.169.254", "fe80::1", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "64:ff9b::a9fe:a9fe")


def directives(unit: Path = UNIT) -> dict[str, list[str]]:
    """{`Section.Name`: values in order}, as systemd reads them: an empty value would reset the list."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in unit.read_text().splitlines():
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


@pytest.mark.parametrize("unit", [UNIT, PROBE])
def test_a_missing_directory_does_not_keep_the_service_down(unit: Path) -> None:
    """Every path that may be absent has a "-": without it the unit would fail with 226/NAMESPACE."""
    for name in ("ReadWritePaths", "InaccessiblePaths"):
        for value in directives(unit).get(f"Service.{name}", []):
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


@pytest.mark.parametrize("unit", [UNIT, PROBE, TIMER])
def test_no_comment_follows_a_value_and_no_line_is_continued(unit: Path) -> None:
    """systemd takes a `#` after a value as part of the value; a lost backslash would swallow a directive."""
    lines = [line for line in unit.read_text().splitlines() if line and not line.startswith(("#", "["))]
    assert [line for line in lines if " #" in line or " ;" in line or line.endswith("\\") or line != line.strip()] == []
    assert [line for line in lines if "=" not in line] == []


def analyzed(tmp_path: Path, unit: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze on a unit, with a program that is installed here; skipped where it cannot do that."""
    for each in (UNIT, PROBE, TIMER):
        (tmp_path / each.name).write_text(each.read_text().replace("/usr/bin/mirror-agent", "/bin/true"))
    command = ["systemd-analyze", *arguments, str(tmp_path / unit.name)]
    if shutil.which(command[0]) is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "mirror-agent" not in done.stdout + done.stderr:
        pytest.skip(f"systemd-analyze cannot do it here: {done.stderr.strip()[:200]}")
    return done


@pytest.mark.parametrize("unit", [UNIT, PROBE, TIMER])
def test_systemd_has_nothing_to_say_about_it(tmp_path: Path, unit: Path) -> None:
    """`systemd-analyze verify` finds no unknown directive, no wrong value and no missing program."""
    done = analyzed(tmp_path, unit, "verify", "--man=no")
    assert [line for line in done.stderr.splitlines() if "mirror-agent" in line] == []


@pytest.mark.parametrize("unit", WORST_EXPOSURE)
def test_the_exposure_is_low(tmp_path: Path, unit: Path) -> None:
    """`systemd-analyze security` gives 1.0 and 1.1 of 10, where most packaged daemons have 9."""
    threshold = f"--threshold={10 * WORST_EXPOSURE[unit]:.0f}"
    done = analyzed(tmp_path, unit, "security", "--offline=yes", "--no-pager", threshold)
    assert done.returncode == 0, done.stdout[-300:]


# --- the probe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Unit.ConditionPathExists", [f"{Settings().run_dir}/targets.json"]),
        ("Unit.PartOf", ["mirror-agent.service"]),
        ("Service.Type", ["oneshot"]),
        ("Service.ExecStart", ["/usr/bin/mirror-agent probe"]),
        ("Service.DynamicUser", ["yes"]),
        ("Service.RuntimeDirectory", [Settings().probe_dir.removeprefix("/run/")]),
        ("Service.RuntimeDirectoryMode", ["0755"]),
        ("Service.RuntimeDirectoryPreserve", ["yes"]),
        ("Service.ProtectSystem", ["strict"]),
        ("Service.CapabilityBoundingSet", [""]),
        ("Service.NoNewPrivileges", ["yes"]),
        ("Service.RestrictAddressFamilies", ["AF_INET AF_INET6"]),
        ("Service.LimitCORE", ["0"]),
    ],
)
def test_what_the_probe_may_do(name: str, values: list[str]) -> None:
    """It is nobody, it has the network and one directory, and it runs only where the daemon wants something."""
    assert directives(PROBE)[name] == values


def test_the_probe_writes_nowhere_else_and_holds_nothing_up() -> None:
    """No further path, no state, no order with any unit, and nothing that anybody has to wait for."""
    found = set(directives(PROBE))
    assert found & {f"Service.{name}" for name in ("ReadWritePaths", "StateDirectory", "CacheDirectory")} == set()
    ties = {"Before", "After", "Requires", "Requisite", "Wants", "BindsTo", "Upholds", "Conflicts"}
    assert found & {f"Unit.{name}" for name in ties} == set()
    assert not any(name.startswith("Install.") for name in found)


def test_the_probe_ends_before_it_is_ended() -> None:
    """Its own limit, a probe of the longest timeout and the wait for a rate limit come before TimeoutStartSec."""
    assert directives(PROBE)["Service.TimeoutStartSec"] == ["15min"]
    assert MOST_SECONDS + 60 + 120 < 15 * 60


@pytest.mark.parametrize("address", METADATA)
def test_the_unit_keeps_the_probe_from_metadata(address: str) -> None:
    """What the program never connects to is denied by the kernel as well, and no exception lets it through."""
    denied, allowed = (
        [
            network
            for value in directives(PROBE)[f"Service.{name}"]
            for word in value.split()
            for network in map(ip_network, _WORDS.get(word, (word,)))
        ]
        for name in ("IPAddressDeny", "IPAddressAllow")
    )
    ip = ip_address(address)
    assert any(ip in each for each in denied)
    assert not any(ip in each for each in allowed)
    assert kind_of(address) is Kind.NEVER


_WORDS = {"link-local": ("169.254.0.0/16", "fe80::/64"), "multicast": ("224.0.0.0/4", "ff00::/8")}
"""systemd.resource-control(5)."""


def test_the_timer_counts_from_the_last_run() -> None:
    """After boot once, then from the end of a run, whoever started it."""
    found = directives(TIMER)
    assert {name: found[name] for name in found if name.startswith("Timer.On")} == {
        "Timer.OnBootSec": ["1min"],
        "Timer.OnUnitInactiveSec": ["5min"],
    }
    assert found["Install.WantedBy"] == ["timers.target"]
