"""The unit: when it is ready, how it stops, what kills it and what does not, and how little it may do."""

import re
import time

import pytest

from agent.events import Kind
from tests.node.install import UNIT
from tests.node.pulls import docker_mirrors
from tests.node.rig import DAEMON_JSON, Rig
from tests.node.service import CONVERGE_DEADLINE_SECONDS, Service, desired_state, hosts_path
from tests.node.waiting import wait_until

STOP_DEADLINE_SECONDS = 5.0
WORST_EXPOSURE = 1.0


def monotonic_microseconds(entry: dict[str, object]) -> int:
    return int(str(entry["__MONOTONIC_TIMESTAMP"]))


def test_ready_means_that_the_files_are_converged_and_acts_come_later(rig: Rig, service: Service) -> None:
    """`systemctl start` returns with every file in place; Docker's reload comes after READY, never before."""
    service.desire(desired_state({"docker.io": [rig.first.url], "ghcr.io": [rig.second.url]}))
    cursor = rig.node.cursor()
    service.start()
    found = [rig.node.exists(path) for path in (hosts_path("docker.io"), hosts_path("ghcr.io"), DAEMON_JSON)]
    assert found == [True, True, True]
    reload = service.await_event(Kind.RELOADED, after=cursor)
    ready = int(rig.node.show(UNIT, "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"])
    assert monotonic_microseconds(reload) > ready


def test_without_a_desired_state_the_unit_is_ready_and_touches_nothing(rig: Rig, service: Service) -> None:
    """Freshly installed and not configured, it runs, says so, and manages nothing."""
    before = rig.node.tree("/etc/containerd", "/etc/docker")
    cursor = rig.node.cursor()
    service.start()
    service.await_event(Kind.MISSING, after=cursor)
    assert rig.node.show(UNIT, "ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}
    assert rig.node.tree("/etc/containerd", "/etc/docker") == before


def test_sigterm_stops_it_cleanly(rig: Rig, service: Service) -> None:
    """`systemctl stop` ends it within seconds with success, and it says goodbye."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    cursor, began = rig.node.cursor(), time.monotonic()
    service.stop()
    seconds = time.monotonic() - began
    ended = rig.node.show(UNIT, "Result", "ExecMainStatus", "ActiveState")
    assert ended == {"Result": "success", "ExecMainStatus": "0", "ActiveState": "inactive"}
    assert service.count(Kind.STOPPED, after=cursor) == {"STOPPED": 1}
    assert seconds < STOP_DEADLINE_SECONDS


def test_reload_is_a_cycle_in_the_same_process(rig: Rig, service: Service) -> None:
    """`systemctl reload` works, keeps the process, and what it finds wrong is repaired."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    pid = service.pid()
    rig.node.run(["systemctl", "reload", UNIT])
    service.desire(desired_state({"docker.io": [rig.second.url]}))
    rig.node.run(["systemctl", "reload", UNIT])
    service.await_mirror("docker.io", rig.second.url)
    # We tell systemd ourselves when the reload begins, which may be after `systemctl reload` has returned.
    wait_until(lambda: rig.node.show(UNIT, "ActiveState")["ActiveState"] == "active", 10.0, "the end of the reload")
    assert service.pid() == pid


def test_killed_between_write_and_act_it_finishes_after_the_next_start(rig: Rig, service: Service) -> None:
    """SIGKILL when daemon.json is written and Docker not yet reloaded: systemd starts it anew and Docker gets it."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    life, cursor = rig.node.life("docker"), rig.node.cursor()
    hunt = f"until grep -q :5002 {DAEMON_JSON}; do :; done; systemctl kill -s KILL --kill-who=main {UNIT}"
    with rig.node.popen(["bash", "-c", hunt]) as hunter:
        service.desire(desired_state({"docker.io": [rig.second.url]}))
        hunter.wait(CONVERGE_DEADLINE_SECONDS)
    before_the_act = service.count(Kind.RELOADED, after=cursor) == {}
    service.await_docker(rig.second.url)
    service.await_nothing_pending()
    assert (before_the_act, service.restarts(), rig.node.life("docker")) == (True, 1, life)


def test_a_frozen_journal_stops_nothing(rig: Rig, service: Service) -> None:
    """With journald stopped in its tracks an edit still reaches both runtimes; afterwards the agent is still alive."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    journald = rig.node.show("systemd-journald", "MainPID")["MainPID"]
    pid = service.pid()
    rig.node.run(["kill", "-STOP", journald])
    try:
        for mirror in (rig.second, rig.first, rig.second):
            service.desire(desired_state({"docker.io": [mirror.url]}))
            service.await_mirror("docker.io", mirror.url)
            service.await_docker(mirror.url)
    finally:
        rig.node.run(["kill", "-CONT", journald])
    assert service.pid() == pid


def test_a_second_instance_says_who_holds_the_lock(rig: Rig, service: Service) -> None:
    """`mirror-agent run` beside the unit exits 1 and names the process that is there already."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    second = service.cli("run")
    assert second.rc == 1
    assert service.pid() in second.out + second.err


@pytest.mark.usefixtures("service")
def test_the_unit_is_hardened(rig: Rig) -> None:
    """`systemd-analyze security`: an exposure of at most 1.0, where most packaged daemons have 9."""
    text = rig.node.run(["systemd-analyze", "security", "--no-pager", UNIT], check=False).out
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", text)
    assert found, text
    print(f"{rig.node.suite}: exposure {found[1]}")
    assert float(found[1]) <= WORST_EXPOSURE, text


@pytest.mark.usefixtures("service")
def test_the_unit_file_is_clean(rig: Rig) -> None:
    """`systemd-analyze verify` has nothing to say about the unit."""
    done = rig.node.run(["systemd-analyze", "verify", "--man=no", f"/lib/systemd/system/{UNIT}"], check=False)
    about_us = [line for line in done.err.splitlines() if "mirror-agent" in line]
    assert (done.rc, about_us) == (0, [])


@pytest.mark.parametrize("runtime", ["docker", "containerd"])
def test_a_restarted_runtime_changes_nothing(rig: Rig, service: Service, runtime: str) -> None:
    """After somebody restarts a runtime it has the mirrors from its files: no write, no act."""
    state = desired_state({"docker.io": [rig.first.url]})
    service.start_with(state)
    paths = (DAEMON_JSON, hosts_path("docker.io"))
    before, cursor = rig.node.identity(*paths), rig.node.cursor()
    rig.node.run(["systemctl", "restart", runtime])
    service.pass_barrier(state)
    assert (rig.node.identity(*paths), docker_mirrors(rig.node)) == (before, [rig.first.url + "/"])
    assert service.count(Kind.RELOADED, Kind.RESTARTED, after=cursor) == {}
