"""agent.systemd, agent.journal and agent.docker_api against the real service manager, journald and dockerd."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.node.install import python_argv
from tests.node.machine import Node
from tests.node.service import Service
from tests.node.waiting import wait_until

_UNIT = "shaky.service"
_PRELUDE = """
import json, os, subprocess, sys, threading, time
from agent import docker_api, journal, systemd
from agent.errors import HostError
from agent.events import Event, Kind
pauses = []
def pause(seconds):
    pauses.append(seconds)
    time.sleep(seconds)
def tried(act):
    began = time.monotonic()
    try:
        act()
        message = ""
    except HostError as error:
        message = str(error)
    return message, time.monotonic() - began
"""


def in_node(node: Node, script: str) -> Any:
    """Run a script in the node with the installed agent's modules; what it prints is JSON."""
    return json.loads(node.run(python_argv(_PRELUDE + script)).raw_out)


@pytest.fixture
def shaky(service: Service) -> Iterator[Node]:
    """A node with the agent and with a small unit that is up, and that fails or hangs at its next start if told so."""
    node = service.node
    text = (
        "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n[Service]\nType=exec\nTimeoutStartSec=infinity\n"
        "ExecStartPre=/bin/sh -c 'test ! -e /run/shaky-hangs || exec sleep 1000'\n"
        "ExecStartPre=/bin/sh -c 'test ! -e /run/shaky-fails'\n"
        "ExecStart=/bin/sleep infinity\n"
    )
    node.put(f"/run/systemd/system/{_UNIT}", text)
    wants = "/run/systemd/system/multi-user.target.wants"  # else systemd forgets all about it once it is at rest
    node.run(f"mkdir -p {wants}; ln -sf ../{_UNIT} {wants}/")
    node.run(f"systemctl daemon-reload; systemctl reset-failed; systemctl restart {_UNIT}")
    yield node
    node.run(f"rm -f /run/shaky-*; systemctl kill -s KILL {_UNIT}; systemctl stop {_UNIT}", check=False)


def restart(node: Node, deadline_seconds: float) -> tuple[str, float]:
    """(what restart raised or "", seconds it took)."""
    script = f"print(json.dumps(tried(lambda: systemd.restart('{_UNIT}', {deadline_seconds}, pause))))"
    message, seconds = in_node(node, script)
    return message, seconds


def test_a_unit_is_seen_as_systemd_sees_it(shaky: Node) -> None:
    """State, main process and invocation agree with systemctl, the start with the process; a unit that is not there
    is not loaded; the invocation is found without a subprocess."""
    shown = shaky.show("docker.service", "MainPID", "InvocationID", "ActiveState", "SubState")
    script = (
        "s = systemd.unit_state('docker.service'); n = systemd.unit_state('no-such.service')\n"
        "m = systemd.unit_state('shaky.service')\n"
        "print(json.dumps([s.active.value, s.sub_state, str(s.main_pid), s.invocation_id, s.is_up, s.loaded,\n"
        "    systemd.invocation_id('docker.service'), n.active.value, n.loaded, n.is_up,\n"
        "    systemd.invocation_id('no-such.service'), time.time() - m.started_at, s == systemd.unit_state('docker')]))"
    )
    *seen, age, again = in_node(shaky, script)
    life = [shown["ActiveState"], shown["SubState"], shown["MainPID"], shown["InvocationID"]]
    assert (seen, again) == ([*life, True, True, shown["InvocationID"], "inactive", False, False, ""], True)
    assert 0.0 < age < 60.0


def test_a_forgotten_failure_does_not_change_when_a_unit_came_to_rest(shaky: Node) -> None:
    """reset-failed makes a failed unit look stopped; since when it is at rest stays what it was."""
    shaky.run("touch /run/shaky-fails")
    restart(shaky, 10.0)
    script = (
        "s = systemd.unit_state('shaky.service'); time.sleep(0.1); systemd.reset_failed('shaky.service')\n"
        "t = systemd.unit_state('shaky.service')\n"
        "moved = t.at_rest_since - s.at_rest_since\n"
        "print(json.dumps([s.active.value, t.active.value, time.time() - s.at_rest_since, moved]))"
    )
    before, after, age, moved = in_node(shaky, script)
    assert (before, after) == ("failed", "inactive")
    assert abs(moved) < 0.01
    assert 0.1 < age < 60.0


def test_what_a_restart_takes_along(shaky: Node) -> None:
    """KillMode, and the services that run and hang on the unit, also by way of others; what is stopped is left out.
    That is what a restart restarts."""
    bonds = {
        "bound": f"BindsTo={_UNIT}",
        "part": f"PartOf={_UNIT}",
        "asks": f"Requires={_UNIT}",
        "far": "PartOf=part.service",
    }
    for name, bond in {**bonds, "rests": f"PartOf={_UNIT}", "wants": f"Wants={_UNIT}"}.items():
        text = f"[Unit]\n{bond}\nAfter={_UNIT} part.service\n[Service]\nExecStart=/bin/sleep infinity\n"
        shaky.put(f"/run/systemd/system/{name}.service", text)
    units = [f"{name}.service" for name in sorted(bonds)]
    shaky.put(f"/run/systemd/system/{_UNIT}.d/kill.conf", "[Service]\nKillMode=mixed\n")
    shaky.run(f"systemctl daemon-reload; systemctl start {' '.join(units)} wants")
    try:
        script = (
            "import dataclasses\nask = lambda name: dataclasses.astuple(systemd.unit_ties(name))\n"
            "print(json.dumps([ask('shaky.service'), ask('far.service'), ask('containerd.service')[0]]))"
        )
        assert in_node(shaky, script) == [["mixed", units], ["control-group", []], "process"]
        lives = {unit: shaky.life(unit) for unit in [*units, "wants.service"]}
        shaky.run(f"systemctl restart {_UNIT}")
        moved = [unit for unit, life in lives.items() if shaky.life(unit) != life]
        assert moved == units
    finally:
        shaky.run(
            f"systemctl stop wants {' '.join(units)}; rm -r /run/systemd/system/{_UNIT}.d; systemctl daemon-reload"
        )


def test_what_a_unit_says_is_read_from_the_journal(shaky: Node) -> None:
    """Since a moment, and of the named units alone; wherever journalctl is (/bin on some nodes with Debian 11)."""
    for name in ("talker", "other"):
        shaky.run(["systemd-run", "--wait", "-q", f"--unit={name}", "/bin/echo", f"{name} was here"])
    script = "print(json.dumps([systemd.said(['talker.service'], since) for since in (1.0, 4e9)]))"
    heard = lambda: in_node(shaky, script)  # noqa: E731
    wait_until(lambda: "talker was here" in heard()[0], 10.0, "what it said")
    assert ("other was here" in heard()[0], heard()[1]) == (False, [])


def test_a_restart_is_over_when_the_unit_is_up_again(shaky: Node) -> None:
    """It returns with a new invocation, soon, and the watchdog was fed meanwhile."""
    before = shaky.life(_UNIT)
    script = f"print(json.dumps([tried(lambda: systemd.restart('{_UNIT}', 20, pause)), pauses]))"
    (message, seconds), pauses = in_node(shaky, script)
    assert message == ""
    assert seconds < 5.0
    assert set(pauses) == {0.1}
    assert [old != new for old, new in zip(before, shaky.life(_UNIT), strict=True)] == [True, True]


def test_restarts_do_not_run_into_the_start_limit(shaky: Node) -> None:
    """Six restarts in a row of a unit that allows three starts a minute: each one is up afterwards."""
    assert [restart(shaky, 20.0)[0] for _ in range(6)] == [""] * 6


def test_a_masked_unit_is_told_at_once(shaky: Node) -> None:
    """systemd does not restart it although it runs: that is said, nobody waits for it, and it goes on running."""
    life = shaky.life(_UNIT)
    shaky.run(f"systemctl mask {_UNIT}")
    try:
        message, seconds = restart(shaky, 30.0)
        ties = in_node(
            shaky, f"import dataclasses\nprint(json.dumps(dataclasses.astuple(systemd.unit_ties('{_UNIT}'))))"
        )
    finally:
        shaky.run(f"systemctl unmask {_UNIT}")
    assert "masked" in message
    assert ties == ["", []]
    assert seconds < 10.0
    assert shaky.life(_UNIT) == life


def test_a_unit_that_does_not_come_up_is_told_in_words(shaky: Node) -> None:
    """HostError names the unit, what systemd says of it, and where to look; well before the deadline."""
    shaky.run("touch /run/shaky-fails")
    message, seconds = restart(shaky, 30.0)
    assert message == (
        f"{_UNIT}: did not come up after a restart: its process exited with an error (exit-code);"
        f" see `journalctl -u {_UNIT}`"
    )
    assert seconds < 10.0


def test_a_unit_that_hangs_at_its_start_meets_our_deadline(shaky: Node) -> None:
    """TimeoutStartSec=infinity, as Docker has it: we wait as long as we said, and say where it stands."""
    shaky.run("touch /run/shaky-hangs")
    message, seconds = restart(shaky, 3.0)
    assert message.startswith(f"{_UNIT}: was not up 3 s after a restart; it is activating/start-pre")
    assert 2.5 < seconds < 10.0


def test_a_stopped_unit_is_not_started(shaky: Node) -> None:
    """Neither a restart nor a reload brings up what an operator has stopped."""
    shaky.run(["systemctl", "stop", _UNIT])
    message, _ = restart(shaky, 10.0)
    hup = in_node(shaky, f"print(json.dumps(tried(lambda: systemd.send_hup('{_UNIT}'))))")[0]
    assert message == f"{_UNIT}: is not running (inactive), so it is not restarted"
    assert hup == f"{_UNIT}: is not running (inactive), so it cannot be told to reload"
    assert shaky.show(_UNIT, "ActiveState") == {"ActiveState": "inactive"}


def test_a_unit_stopped_while_it_restarts_stays_down(shaky: Node) -> None:
    """Somebody's stop wins over our restart, and we notice before the deadline."""
    shaky.run("touch /run/shaky-hangs")
    script = (
        f"stop = lambda: subprocess.run(['systemctl', 'stop', '{_UNIT}'])\n"
        "threading.Timer(1.0, stop).start()\n"
        f"print(json.dumps(tried(lambda: systemd.restart('{_UNIT}', 30, pause))))"
    )
    message, seconds = in_node(shaky, script)
    assert message.startswith(f"{_UNIT}: did not come up after a restart: ")
    assert seconds < 15.0
    assert shaky.show(_UNIT, "ActiveState")["ActiveState"] in ("inactive", "failed")


def test_docker_is_restarted_and_answers(shaky: Node) -> None:
    """Four restarts of Docker within a minute (the fourth is one too many for systemctl alone), then /info answers."""
    script = (
        "said = [tried(lambda: systemd.restart('docker.service', 60, pause))[0] for _ in range(4)]\n"
        "answer = json.loads(docker_api.get('/run/docker.sock', '/info'))\n"
        "print(json.dumps([said, answer['OSType']]))"
    )
    assert in_node(shaky, script) == [[""] * 4, "linux"]


def test_a_hangup_reaches_the_main_process_only(shaky: Node) -> None:
    """Docker gets the signal and keeps its process; nothing is run to send it, so /bin/kill may be missing."""
    before, cursor = shaky.life("docker.service"), shaky.cursor()
    in_node(shaky, "systemd.send_hup('docker.service'); print(json.dumps(None))")
    deadline = time.monotonic() + 10
    while not any("signal to reload" in text for text in shaky.messages("docker.service", after=cursor)):
        assert time.monotonic() < deadline, shaky.messages("docker.service", after=cursor)
        time.sleep(0.1)
    assert shaky.life("docker.service") == before


def test_a_frozen_journald_costs_lines_and_no_time(shaky: Node) -> None:
    """journald stopped in its tracks: 20,000 events are taken at once, the process ends in time although its sending
    thread is stuck (with systemd's Python library every thread would be), and what was sent is there afterwards."""
    script = (
        "sink = journal.Journal(journal.NativeSender())\n"
        "pid = systemd.unit_state('systemd-journald').main_pid\n"
        "began = time.monotonic()\n"
        "os.kill(pid, 19)\n"
        "for number in range(20000):\n"
        "    sink.emit(Event(Kind.WROTE, f'flood {number}', path='/flood'))\n"
        "sink.close(0.5)\n"
        "print(json.dumps([pid, time.monotonic() - began]))\n"
    )
    cursor, began = shaky.cursor(), time.monotonic()
    try:
        pid, seconds = in_node(shaky, script)
        took = time.monotonic() - began
    finally:
        shaky.run("systemctl kill -s CONT systemd-journald")
    assert pid > 1
    assert seconds < 8.0
    assert took < 10.0
    deadline = time.monotonic() + 10
    while not (found := shaky.journal("MIRROR_AGENT_PATH=/flood", after=cursor)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found[0]["MESSAGE"] == "flood 0"


def test_the_journal_is_found_again_after_journald_restarted(shaky: Node) -> None:
    """There is no connection that could break: lines after a restart of journald arrive."""
    script = (
        "sink = journal.Journal(journal.NativeSender())\n"
        "for word in ('before', 'after'):\n"
        "    sink.emit(Event(Kind.WROTE, word, path='/restarted'))\n"
        "    time.sleep(0.5)\n"
        "    if word == 'before': subprocess.run(['systemctl', 'restart', 'systemd-journald'])\n"
        "sink.close()\n"
        "print(json.dumps(None))\n"
    )
    cursor = shaky.cursor()
    in_node(shaky, script)
    shaky.run("journalctl --sync")
    told = [entry["MESSAGE"] for entry in shaky.journal("MIRROR_AGENT_PATH=/restarted", after=cursor)]
    assert told == ["before", "after"]
