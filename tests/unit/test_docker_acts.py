"""When a running Docker is reloaded, when it is restarted, and everything that makes an act wait or not happen."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.model import Absent, ActiveState, DockerSettings, Now, OnChange, RestartIf, RestartWindow, UnitState
from agent.plan import Conflict, Deferred, Memory, Plan, Reload, Restart
from tests.docker_plans import (
    DOWN,
    NOW,
    PATH,
    SOCKET,
    STARTED,
    STOPS,
    UNIT,
    UP,
    A,
    B,
    acts,
    desired,
    digest,
    info,
    loaded,
    machine,
    owning,
    plan,
    remembered,
    settings,
)
from tests.fakes import FakeHost

LOCAL = '{"log-opts": {"max-size": "5m"}}'
WANTED = settings(log_opts={"max-size": "5m"})
WHY = f"log-opts: Docker takes the change only at a restart; {STOPS}"


def unloaded(answer: bytes | None = None, memory: Memory | None = None) -> FakeHost:
    """The file has the log-opts of WANTED, and the daemon has read a file without."""
    host = owning(machine(LOCAL, answer=answer or info()), Absent(), log_opts=None)
    return remembered(host, memory or Memory("i1"))


# --- restart ---------------------------------------------------------------------------------------------------------


def test_what_is_not_reloadable_needs_one_restart() -> None:
    """One act; its reason says which keys and what it costs; its time, and what it is made with, are stored first."""
    before = Memory("i1", restarted_at=NOW, trial=digest(LOCAL), is_restarting=True, restarts=(NOW,))
    assert plan(unloaded(), desired(docker=WANTED)) == Plan("docker", actions=(Restart(UNIT, WHY, before),))


def test_a_restart_stands_in_for_reloads() -> None:
    """Mirrors and log-opts differ: one restart brings both."""
    host = machine(json.dumps({"registry-mirrors": [A], **json.loads(LOCAL)}), answer=info())
    remembered(owning(host, Absent(), log_opts=None, registry_mirrors=None), Memory("i1"))
    made = plan(host, desired(A, docker=WANTED))
    assert [act.reason for act in made.acts] == [WHY]


def test_with_live_restore_a_restart_is_cheap() -> None:
    """The reason says that the containers stay."""
    made = plan(unloaded(info(LiveRestoreEnabled=True)), desired(docker=WANTED))
    assert [act.reason for act in made.acts] == [
        "log-opts: Docker takes the change only at a restart; containers keep running (live-restore)"
    ]


WAITING = {
    "on_change: reload": (
        DockerSettings(on_change=OnChange.RELOAD),
        "docker.on_change is reload: restart Docker when it suits you",
        None,
    ),
    "the window is closed": (
        DockerSettings(restart_window=RestartWindow(2 * 60, 5 * 60)),
        "it waits for the restart window, which opens at 02:00",
        14 * 3600.0,
    ),
    "live-restore is off": (
        DockerSettings(restart_if=RestartIf.LIVE_RESTORE),
        "docker.restart_if is live-restore, and live-restore is off in the running Docker",
        None,
    ),
    "containers run": (
        DockerSettings(restart_if=RestartIf.IDLE),
        "docker.restart_if is idle, and containers run",
        60.0,
    ),
}


@pytest.mark.parametrize("name", WAITING)
def test_policy_postpones_a_restart(name: str) -> None:
    """The act is deferred with what it waits for; it holds no time, so that it is the same in every cycle."""
    policy, reason, seconds = WAITING[name]
    state = desired(docker=replace(policy, settings=WANTED.settings))
    deferred = Deferred(Restart(UNIT, WHY, Memory("i1")), reason, seconds)
    assert plan(unloaded(info(ContainersRunning=3)), state) == Plan("docker", deferred=(deferred,))


ALLOWED = {
    "the window is open": (DockerSettings(restart_window=RestartWindow(11 * 60, 13 * 60)), {}),
    "the window spans midnight": (DockerSettings(restart_window=RestartWindow(23 * 60, 13 * 60)), {}),
    "live-restore is on": (DockerSettings(restart_if=RestartIf.LIVE_RESTORE), {"LiveRestoreEnabled": True}),
    "no container runs": (DockerSettings(restart_if=RestartIf.IDLE), {"ContainersRunning": 0}),
    "containers survive": (
        DockerSettings(restart_if=RestartIf.IDLE),
        {"ContainersRunning": 3, "LiveRestoreEnabled": True},
    ),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_policy_allows_a_restart(name: str) -> None:
    """The same policies, met."""
    policy, facts = ALLOWED[name]
    made = plan(unloaded(info(**facts)), desired(docker=replace(policy, settings=WANTED.settings)))
    assert (acts(made), made.deferred) == ([Restart], ())


@pytest.mark.parametrize(("elapsed", "wait"), [(0.0, 60.0), (1.0, 59.0), (59.0, 1.0), (60.0, None), (-3600.0, 60.0)])
def test_restarts_are_a_minute_apart(elapsed: float, wait: float | None) -> None:
    """Within 60 s of our last restart the next one waits; a clock that was put back costs a minute, not an hour."""
    host = unloaded(memory=Memory("i1", restarted_at=NOW - elapsed))
    made = plan(host, desired(docker=WANTED))
    assert [deferred.retry_after_seconds for deferred in made.deferred] == ([] if wait is None else [wait])
    assert acts(made) == ([Restart] if wait is None else [])


@pytest.mark.parametrize(
    ("ago", "wait"),
    [
        ((599.0, 100.0), 1.0),
        ((600.0, 100.0), None),
        ((100.0,), None),
        ((900.0, 599.0, 61.0), 1.0),
        ((61.0, -5.0), 539.0),
    ],
)
def test_two_restarts_in_ten_minutes_are_enough(ago: tuple[float, ...], wait: float | None) -> None:
    """The third one waits, over restarts of the agent, too: the times are in the ledger."""
    times = tuple(NOW - each for each in ago)
    made = plan(unloaded(memory=Memory("i1", restarted_at=NOW - 61.0, restarts=times)), desired(docker=WANTED))
    assert [deferred.retry_after_seconds for deferred in made.deferred] == ([] if wait is None else [wait])


def test_while_a_restart_waits_the_rest_is_reloaded() -> None:
    """Mirrors need not wait for the window that log-opts wait for."""
    host = machine(json.dumps({"registry-mirrors": [A], **json.loads(LOCAL)}), answer=info())
    memory = Memory("i1")
    remembered(owning(host, Absent(), log_opts=None, registry_mirrors=None), memory)
    policy = replace(WANTED, restart_window=RestartWindow(2 * 60, 5 * 60))
    made = plan(host, desired(A, docker=policy))
    reload = Reload(
        UNIT, "registry-mirrors gained https://a.example", made.acts[0].attempt, Memory("i1", reloaded_at=NOW)
    )
    reason = "it waits for the restart window, which opens at 02:00"
    assert made == Plan("docker", (reload,), deferred=(Deferred(Restart(UNIT, WHY, memory), reason, 14 * 3600.0),))


def test_live_restore_is_on_before_the_restart() -> None:
    """Both change: a reload first, so that the containers survive the restart, which the next plan asks for."""
    both = settings(live_restore=True, log_opts={"max-size": "5m"})
    file = '{"live-restore": true, "log-opts": {"max-size": "5m"}}'
    host = owning(machine(file, answer=info(LiveRestoreEnabled=False)), Absent(), live_restore=None, log_opts=None)
    remembered(host, Memory("i1"))
    state = desired(docker=replace(both, restart_if=RestartIf.LIVE_RESTORE))
    first = plan(host, state)
    assert ([act.reason for act in first.acts], first.deferred) == (["live-restore changed"], ())
    host.answers[(SOCKET, "/info")] = info(LiveRestoreEnabled=True)
    assert acts(plan(host, state)) == [Restart]


def test_in_a_swarm_there_is_no_live_restore_to_wait_for() -> None:
    """Docker does not combine the two, so the restart is not put off for it."""
    both = settings(live_restore=True, log_opts={"max-size": "5m"})
    file = '{"live-restore": true, "log-opts": {"max-size": "5m"}}'
    answer = info(LiveRestoreEnabled=False, Swarm={"LocalNodeState": "active"})
    host = owning(machine(file, answer=answer), Absent(), live_restore=None, log_opts=None)
    assert acts(plan(remembered(host, Memory("i1")), desired(docker=both))) == [Restart]


def test_on_change_restart_never_reloads() -> None:
    """A reloadable key is brought by a restart, too, where the operator wants it so."""
    host = machine("{}", answer=info())
    made = plan(host, desired(A, docker=DockerSettings(on_change=OnChange.RESTART)))
    assert [act.reason for act in made.acts] == [f"registry-mirrors: docker.on_change is restart; {STOPS}"]


# --- reload ----------------------------------------------------------------------------------------------------------


def mirrored(answer: bytes | None, memory: Memory) -> FakeHost:
    """The file lists the mirror A, which is ours and changed after the daemon's start."""
    host = owning(machine(f'{{"registry-mirrors": ["{A}"]}}', answer=answer), Absent(), registry_mirrors=None)
    host.mtimes[PATH] = NOW - 60.0
    return remembered(host, memory)


def attempt() -> str:
    made = plan(mirrored(info(), Memory("i1")), desired(A))
    assert isinstance(made.acts[0], Reload)
    return made.acts[0].attempt


def test_a_crash_between_write_and_reload_forgets_nothing() -> None:
    """The file is written and claimed, the daemon was never told: the next start asks for the reload."""
    assert acts(plan(mirrored(info(), Memory("i1")), desired(A))) == [Reload]


@pytest.mark.parametrize("old", [(), (B,), (B, A), (A, B)])
def test_order_and_number_of_mirrors_matter(old: tuple[str, ...]) -> None:
    """/info is compared as a list, its slashes and repetitions aside."""
    host = mirrored(info(*old), Memory("i1"))
    assert acts(plan(host, desired(A))) == [Reload]
    host.answers[(SOCKET, "/info")] = info(A, A)
    assert acts(plan(host, desired(A))) == []


def test_a_reload_that_did_not_take_leads_to_a_restart() -> None:
    """converge recorded the attempt as failed: on this invocation it is not made again."""
    host = mirrored(info(), Memory("i1", failed_reload=attempt()))
    assert [act.reason for act in plan(host, desired(A)).acts] == [
        f"registry-mirrors: the reload did not take; {STOPS}"
    ]


def test_with_on_change_reload_it_leads_to_a_person() -> None:
    """The same, with restarts forbidden: deferred for good, and nothing is signalled again."""
    host = mirrored(info(), Memory("i1", failed_reload=attempt()))
    made = plan(host, desired(A, docker=DockerSettings(on_change=OnChange.RELOAD)))
    assert (acts(made), [deferred.retry_after_seconds for deferred in made.deferred]) == ([], [None])


def test_another_wish_is_another_attempt() -> None:
    """After a failure, a changed desired state is tried by reload again; so is a new invocation of Docker."""
    failed = Memory("i1", failed_reload=attempt())
    assert acts(plan(mirrored(info(), failed), desired(A, B))) == [Reload]
    assert acts(plan(mirrored(info(), replace(failed, invocation_id="i0")), desired(A))) == [Reload]


def test_what_no_restart_can_bring_is_a_conflict_not_a_loop() -> None:
    """The daemon has read this very file at its start and runs with something else: a person has to look."""
    host = mirrored(info(B), Memory("i1", loaded(registry_mirrors=f'["{A}"]'), failed_reload=attempt()))
    host.mtimes[PATH] = STARTED - 1.0
    reason = (
        "Docker has read registry-mirrors from this file and runs with something else: "
        "look for a flag in `systemctl cat docker` and for errors in `journalctl -u docker`"
    )
    assert plan(host, desired(A)) == Plan("docker", conflicts=(Conflict(PATH, reason),))


BLIND = settings(max_concurrent_downloads=10)
BLIND_FILE = '{"max-concurrent-downloads": 10}'


def blind(memory: Memory, events: bytes = b"", changed: float = NOW - 60.0) -> FakeHost:
    """A reloadable key that /info does not show, written and not yet known to be loaded."""
    host = owning(machine(BLIND_FILE, answer=info()), Absent(), max_concurrent_downloads=None)
    host.mtimes[PATH] = changed
    host.answers[(SOCKET, "/events")] = events
    return remembered(host, memory)


def event(at: float, action: str = "reload") -> bytes:
    return json.dumps({"Type": "daemon", "Action": action, "time": int(at), "timeNano": int(at * 1e9)}).encode() + b"\n"


def test_a_reload_event_confirms_what_info_does_not_show() -> None:
    """The plan then only remembers: what was read at the reload, and that nothing is outstanding."""
    host = blind(Memory("i1", reloaded_at=NOW - 1.0), event(NOW - 0.5))
    expected = Memory("i1", loaded(max_concurrent_downloads="10"), file_changed_at=NOW - 60.0)
    assert plan(host, desired(docker=BLIND)) == Plan("docker", remember=expected)


@pytest.mark.parametrize(
    "events",
    [
        b"",
        event(NOW - 5.0),
        event(NOW - 0.5, "die"),
        b"not JSON\n",
        b"[]\n",
        b'{"Type": "daemon", "Action": "reload"}\n',
    ],
)
def test_nothing_else_confirms_a_reload(events: bytes) -> None:
    """No event, an older one, another one, nonsense: the plan goes on asking for the reload."""
    made = plan(blind(Memory("i1", reloaded_at=NOW - 1.0), events), desired(docker=BLIND))
    assert acts(made) == [Reload]


def test_an_old_event_does_not_confirm_a_newer_file() -> None:
    """The agent was away since its signal, and the file changed after the reload: it is told again."""
    host = blind(Memory("i1", reloaded_at=NOW - 600.0), event(NOW - 599.0), changed=NOW - 300.0)
    assert acts(plan(host, desired(docker=BLIND))) == [Reload]
    host = blind(Memory("i1", reloaded_at=NOW - 600.0), event(NOW - 599.0), changed=NOW - 601.0)
    assert acts(plan(host, desired(docker=BLIND))) == []


def test_a_restart_waits_until_the_reload_is_remembered() -> None:
    """The plan that confirms a reload has no act, so that the wait for it ends and its Memory is stored."""
    host = owning(blind(Memory("i1", reloaded_at=NOW - 1.0), event(NOW - 0.5)), Absent(), log_opts=None)
    host.put(PATH, '{"max-concurrent-downloads": 10, "log-opts": {"max-size": "5m"}}')
    state = desired(docker=settings(max_concurrent_downloads=10, log_opts={"max-size": "5m"}))
    first = plan(host, state)
    assert (acts(first), first.remember is not None) == ([], True)
    assert first.remember is not None
    assert acts(plan(remembered(host, first.remember), state)) == [Restart]


def test_a_silent_docker_is_not_told_anything() -> None:
    """It runs and does not answer: nothing could be confirmed, so the act waits, whatever it is."""
    host = mirrored(None, Memory("i1"))
    made = plan(host, desired(A))
    deferred = Deferred(
        Reload(UNIT, "registry-mirrors gained https://a.example", made.deferred[0].act.attempt, Memory("i1")),
        "Docker runs but does not answer on /run/docker.sock",
        10.0,
    )
    assert made == Plan("docker", deferred=(deferred,))


def test_silence_does_not_confirm_a_reload() -> None:
    """A reload is under way and /info is gone: the plan goes on asking, or converge would take it for done."""
    assert acts(plan(mirrored(None, Memory("i1", reloaded_at=NOW - 1.0)), desired(A))) == [Reload]


@pytest.mark.parametrize("answer", [b"", b"null", b"[]", b"{}", b'{"RegistryConfig": null}', b"\xff"])
def test_nonsense_is_silence(answer: bytes) -> None:
    """An answer that is none."""
    assert acts(plan(mirrored(answer, Memory("i1")), desired(A))) == []


def test_an_authorization_plugin_given_by_flag_forbids_reloads() -> None:
    """Any SIGHUP would take the list of plugins from the file alone and switch authorization off without a word."""
    host = mirrored(info(), Memory("i1"))
    host.processes[812] = ("/usr/sbin/dockerd", "-H", "fd://", "--authorization-plugin=opa")
    why = "registry-mirrors: a reload would switch off the authorization plugin that a flag of dockerd names"
    assert [act.reason for act in plan(host, desired(A)).acts] == [f"{why}; {STOPS}"]


@pytest.mark.parametrize("words", [("--config-file", "/srv/d.json"), ("--config-file=/srv/d.json",)])
def test_a_docker_that_reads_another_file_is_a_conflict(words: tuple[str, ...]) -> None:
    """Our file would be written and reloaded in vain: nothing is touched, and the message says what to set."""
    host = machine("{}", answer=info())
    host.processes[812] = ("/usr/bin/dockerd", *words)
    reason = "the running Docker reads /srv/d.json (--config-file): set docker.daemon_json to it"
    assert plan(host, desired(A)) == Plan("docker", conflicts=(Conflict(PATH, reason),))


# --- what the running daemon has read --------------------------------------------------------------------------------


def test_drift_that_the_daemon_never_read_is_only_written() -> None:
    """Somebody edits a setting and does not restart Docker: the file is put right, and Docker has it still."""
    host = owning(machine('{"log-opts": {"max-size": "1m"}}', answer=info()), Absent(), log_opts=None)
    host.mtimes[PATH] = NOW - 5.0
    remembered(host, Memory("i1", loaded(log_opts='{"max-size":"5m"}')))
    made = plan(host, desired(docker=WANTED))
    assert ([type(action).__name__ for action in made.actions], made.remember) == (["WriteFile"], None)


@pytest.mark.parametrize(
    ("changed", "memory", "is_told"),
    [
        (STARTED - 1.0, Memory(), False),
        (STARTED + 1.0, Memory(), True),
        (STARTED - 0.005, Memory(), True),
        (STARTED + 1.0, Memory("i0", file_changed_at=STARTED + 1.0), False),
        (STARTED + 1.0, Memory("i0", loaded(log_opts='{"max-size":"5m"}')), True),
    ],
    ids=["older than the daemon", "newer", "within a tick", "the file we knew before the clock jumped", "newer, known"],
)
def test_first_sight_of_an_invocation(changed: float, memory: Memory, is_told: bool) -> None:
    """A daemon that we have not seen start has read the file if it has not changed since; else nobody knows, and an
    act that may not be needed is better than a value that is silently wrong."""
    host = remembered(owning(machine(LOCAL, answer=info()), Absent(), log_opts=None), memory)
    host.mtimes[PATH] = changed
    made = plan(host, desired(docker=WANTED))
    assert acts(made) == ([Restart] if is_told else [])
    assert made.remember is not None
    assert (made.remember.invocation_id, made.remember.file_changed_at) == ("i1", changed)


def test_a_key_that_becomes_ours_with_the_value_it_has_costs_nothing() -> None:
    """The operator names what stands there already: it is claimed, and neither written nor loaded anew."""
    made = plan(machine(LOCAL, answer=info()), desired(docker=WANTED))
    assert (made.actions, len(made.claims)) == ((), 1)


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({"log_driver": "local"}, info(LoggingDriver="local")),
        ({"log_driver": "json-file"}, info(LoggingDriver="json-file")),
        ({"debug": True}, info(Debug=True)),
        ({"labels": ["a=b"]}, info(Labels=["a=b"])),
        ({"labels": []}, info(Labels=None)),
        ({"live_restore": False}, info(LiveRestoreEnabled=False)),
    ],
)
def test_what_info_shows_need_not_be_remembered(values: dict[str, object], answer: bytes) -> None:
    """For these keys the daemon itself is asked, so that a lost memory costs no act."""
    listed = settings(**values)
    host = machine(json.dumps({item.key: json.loads(item.json) for item in listed.settings}), answer=answer)
    host.mtimes[PATH] = NOW
    assert acts(plan(host, desired(docker=listed))) == []


# --- a daemon that is neither up nor down ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unit",
    [
        DOWN,
        UnitState(),
        UnitState(ActiveState.FAILED, loaded=True),
        UnitState(ActiveState.ACTIVATING, True, "start", 812, "i1", STARTED),
        UnitState(ActiveState.DEACTIVATING, True, "stop-sigterm", 812, "i1", STARTED),
        UnitState(ActiveState.RELOADING, True, "reload", 812, "i1", STARTED),
        UnitState(ActiveState.ACTIVE, True, "exited", 0, "i1", STARTED),
    ],
    ids=lambda unit: unit.active.value,
)
def test_only_a_unit_that_is_up_is_acted_on(unit: UnitState) -> None:
    """Whatever else it is: the file is written, and that is all."""
    made = plan(machine("{}", unit=unit), desired(A, docker=WANTED))
    assert ([type(action).__name__ for action in made.actions], made.deferred) == (["WriteFile"], ())


def test_our_reload_is_waited_for_while_the_unit_says_reloading() -> None:
    """From Docker 29.3 on systemd shows it: not up for a moment, and nothing is confirmed yet."""
    host = mirrored(info(), Memory("i1", reloaded_at=NOW - 1.0))
    host.units[UNIT] = replace(UP, active=ActiveState.RELOADING, sub_state="reload")
    assert acts(plan(host, desired(A))) == [Reload]
    host.clock = Now(NOW + 60.0, 0)
    assert acts(plan(host, desired(A))) == []
