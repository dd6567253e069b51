"""A change with which Docker does not come up or does not run: what was before is back, and Docker is up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import converge
from agent.model import JOURNALCTL, ActiveState, DesiredState, OnChange, UnitState
from agent.outcome import CycleResult, Outcome, RuntimeResult
from agent.runtimes.docker import RUNTIME
from tests.docker_plans import A, B, desired, settings
from tests.dockerd import UNIT, Crash, DockerHost, Values

WRITE, RELOAD, RESTART, START = "write /etc/docker/daemon.json", f"reload {UNIT}", f"restart {UNIT}", f"start {UNIT}"
BEFORE: Values = {"dns": ["1.1.1.1"], "log-opts": {"max-size": "9m"}}
BAD = desired(docker=settings(data_root="/a-file", log_opts={"max-size": "5m"}))
AGAIN = "Docker stays as it was, and this is tried again after an edit of this file or of the desired state"


def is_bad(values: Values) -> bool:
    return values.get("data-root") == "/a-file"


FAULTS: dict[str, dict[str, Any]] = {
    "fails": {"fails": is_bad},
    "hangs": {"hangs": is_bad},
    "lies": {"ignores": frozenset({"labels"})},
    "dies at the reload": {
        "fails": lambda values: "authorization-plugins" in values,
        "dies_at_reload": lambda values: "authorization-plugins" in values,
    },
    "refuses the reload": {"refuses_reloads": True},
}
WANTED = {
    "fails": BAD,
    "hangs": BAD,
    "lies": desired(docker=settings(data_root="/data", labels=["a=b"])),
    "dies at the reload": desired(docker=settings(authorization_plugins=["opa"])),
    "refuses the reload": desired(A, insecure=("x.lan",)),
}


def machine(file: Values = BEFORE, **faults: Any) -> DockerHost:
    """A node whose Docker runs on this file, before anything goes wrong."""
    host = DockerHost()
    host.edit(file)
    host.start()
    host.tick(100.0)
    for name, fault in faults.items():
        setattr(host, name, fault)
    return host


def cycle(host: DockerHost, state: DesiredState) -> RuntimeResult:
    return whole_cycle(host, state).runtimes[1]


def whole_cycle(host: DockerHost, state: DesiredState) -> CycleResult:
    return converge.converge(state, host, lambda _: None, acts=True)


def content(host: DockerHost) -> str:
    return host.text("/etc/docker/daemon.json")


def without_empty(host: DockerHost) -> Values:
    """What Docker runs with; an empty list is none."""
    return {key: value for key, value in host.running.items() if value != []}


LOGS = {
    "fails": [WRITE, RESTART, WRITE, START],
    "hangs": [WRITE, RESTART, WRITE, START],
    "lies": [WRITE, RESTART, WRITE, RESTART],
    "dies at the reload": [WRITE, RELOAD, WRITE, START],
    "refuses the reload": [WRITE, RELOAD, WRITE],
}
SAID = {
    "fails": "Docker did not come up with log-opts and data-root",
    "hangs": "Docker did not come up with log-opts and data-root",
    "lies": "Docker came up without data-root and labels",
    "dies at the reload": "Docker did not come up with authorization-plugins",
    "refuses the reload": "Docker did not take a reload with registry-mirrors and insecure-registries",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_goes_back_to_what_it_was(fault: str) -> None:
    """In one cycle the bytes of before are back and Docker runs as before; the same is not tried again, which is a
    conflict with a reason, until the desired state is edited."""
    host = machine(**FAULTS[fault])
    before, running = content(host), host.running
    cycle(host, WANTED[fault])
    assert host.log == LOGS[fault]
    assert (content(host), host.running, host.is_up) == (before, running, True)
    host.tick(700.0)
    host.log.clear()
    again = cycle(host, WANTED[fault])
    assert (host.log, [conflict.reason for conflict in again.conflicts]) == ([], [f"{SAID[fault]}; {AGAIN}"])
    assert (again.outcome, host.stored_ledger.entries) == (Outcome.CONFLICT, {})
    for name, value in DockerHost().__dict__.items():
        if name in FAULTS[fault]:
            setattr(host, name, value)
    assert cycle(host, replace(WANTED[fault], generation="1" * 64)).outcome is Outcome.CHANGED


@pytest.mark.parametrize("program", JOURNALCTL)
@pytest.mark.parametrize("again", [False, True])
def test_the_conflict_tells_what_dockerd_said(again: bool, program: str) -> None:
    """The last attempt's own words, whether or not systemd has begun one more by then, which has said nothing yet; of
    failures before this restart nothing."""
    host = machine(fails=is_bad, again=again)
    host.put(program, b"")
    host.said.append((host.clock.unix_seconds - 1.0, "failed to start daemon: something else"))
    state = desired(docker=settings(data_root="/a-file"))
    cycle(host, state)
    reasons = [conflict.reason for conflict in cycle(host, state).conflicts]
    said = "failed to start daemon: bad values (attempt 2)"
    assert reasons == [f"Docker did not come up with data-root ({said}); {AGAIN}"]


def test_what_did_not_fail_goes_on_converging() -> None:
    """The mirrors that came with a bad data-root are loaded by a reload, and later ones as well."""
    host = machine(fails=is_bad)
    state = desired(A, docker=settings(data_root="/a-file"))
    cycle(host, state)
    assert (cycle(host, state).outcome, host.running) == (Outcome.CONFLICT, {**BEFORE, "registry-mirrors": [A]})
    cycle(host, replace(desired(A, B, docker=settings(data_root="/a-file"))))
    assert (host.running, host.starts) == ({**BEFORE, "registry-mirrors": [A, B]}, 3)


def test_the_value_that_worked_stays() -> None:
    """A setting of ours that worked is replaced by one that does not: the old one is kept, and stays ours."""
    host = machine(fails=is_bad)
    cycle(host, desired(docker=settings(data_root="/data")))
    host.tick(700.0)
    cycle(host, BAD)
    assert (host.file()["data-root"], host.running["data-root"], host.is_up) == ("/data", "/data", True)
    host.tick(700.0)
    cycle(host, replace(desired(), generation="1" * 64))
    assert (host.file(), host.running) == (BEFORE, BEFORE)


def test_what_only_the_daemon_knew_comes_back() -> None:
    """A mirror was taken out of the file without a restart, so Docker still has it. It is lost with the failed start,
    and Docker gets it back, while the file says nothing of it again."""
    host = machine({"dns": ["1.1.1.1"], "registry-mirrors": [B]}, fails=is_bad)
    host.edit({"registry-mirrors": None})
    before, running = content(host), host.running
    for _ in range(2):
        cycle(host, desired(docker=settings(data_root="/a-file")))
    assert (content(host), without_empty(host)) == (before, running)


def test_a_reload_that_was_taken_in_part_is_undone() -> None:
    """Docker 20.10 applies insecure registries before it stops at a bad mirror: it lets go of them, and the file, which
    never listed any, is as it was."""
    host = machine(refuses_reloads=True)
    before, running = content(host), dict(host.running)
    real_reload = host._reload

    def partly() -> None:
        if "registry-mirrors" in host.file():
            host.running["insecure-registries"] = host.file()["insecure-registries"]
        else:
            host.refuses_reloads = False
            real_reload()

    host._reload = partly  # type: ignore[method-assign]
    for _ in range(2):
        cycle(host, desired(A, insecure=("x.lan",)))
    assert (content(host), without_empty(host), host.log.count(RELOAD)) == (before, running, 2)


def test_what_others_write_meanwhile_stays() -> None:
    """Somebody adds a key while Docker fails: only ours goes."""
    host = machine(fails=is_bad)
    host.on_restart = lambda: host.edit({"bip": "10.0.0.1/24"})
    cycle(host, BAD)
    assert (host.file(), host.is_up) == ({**BEFORE, "bip": "10.0.0.1/24"}, True)


def test_an_edit_of_the_file_tries_again() -> None:
    """What others have in the file has changed: what failed may work now."""
    host = machine(fails=is_bad)
    cycle(host, BAD)
    host.fails = lambda _: False
    host.tick(700.0)
    host.edit({"bip": "10.0.0.1/24"})
    cycle(host, BAD)
    assert (host.running["data-root"], host.running["bip"]) == ("/a-file", "10.0.0.1/24")


def test_somebody_elses_restart_with_the_trial_is_mended_too() -> None:
    """The restart is left to the operator, who makes it; Docker does not come up, and is up again."""
    host = machine(fails=is_bad)
    state = replace(BAD, docker=replace(BAD.docker, on_change=OnChange.RELOAD))
    cycle(host, state)
    assert host.is_up
    host.start()
    assert not host.is_up
    cycle(host, state)
    assert (host.file(), host.running) == (BEFORE, BEFORE)


@pytest.mark.parametrize("fault", ["fails", "hangs"])
def test_a_docker_that_somebody_stopped_is_not_started(fault: str) -> None:
    """The change waits in the file, the operator stops Docker: that is how it stays."""
    host = machine(**FAULTS[fault])
    converge.converge(BAD, host, lambda _: None, acts=False)
    host.stop()
    for _ in range(3):
        cycle(host, BAD)
        host.tick(700.0)
    assert (host.units[UNIT].active, host.starts, host.wrong_acts) == (ActiveState.INACTIVE, 1, [])


def test_a_docker_that_had_failed_before_is_left_alone() -> None:
    """It failed on what others wrote: our settings are laid down, and nothing is started."""
    host = machine({"bip": "nonsense"})
    host.fails = lambda values: values.get("bip") == "nonsense"
    host.start()
    cycle(host, desired(A))
    assert (host.units[UNIT].active, host.log) == (ActiveState.FAILED, [WRITE])


def test_a_crash_as_it_runs_is_not_blamed_on_the_change() -> None:
    """The change waits for its restart as dockerd dies of something else: it has not read the change yet."""
    host = machine()
    converge.converge(BAD, host, lambda _: None, acts=False)
    host.units[UNIT] = UnitState(ActiveState.ACTIVATING, True, "auto-restart", 0, host.units[UNIT].invocation_id)
    cycle(host, BAD)
    assert is_bad(host.file())


def test_a_docker_that_fails_on_both_is_not_started_for_ever() -> None:
    """It does not come up with what it had before, either: one more start in ten minutes, and it is said."""
    host = machine()
    host.on_restart = lambda: setattr(host, "fails", lambda _: True)
    cycle(host, BAD)
    for _ in range(9):
        host.tick(60.0)
        result = cycle(host, BAD)
    assert (host.log.count(START), [deferred.act.unit for deferred in result.deferred]) == (1, [UNIT])
    host.tick(100.0)
    cycle(host, BAD)
    assert host.log.count(START) == 2
    host.fails = lambda _: False
    host.tick(700.0)
    cycle(host, BAD)
    assert (host.file(), host.running, host.is_up) == (BEFORE, BEFORE, True)


def test_what_others_left_unread_does_not_keep_docker_down() -> None:
    """Somebody has put a value into the file with which Docker does not start, and has not restarted it; then a change
    of ours needs a restart. Ours is taken back first, then theirs, which is kept aside; Docker is up, and has ours."""
    host = machine(fails=lambda values: values.get("bip") == "nonsense")
    cycle(host, desired(A))
    host.edit({"bip": "nonsense"})
    theirs = content(host).encode()
    state = desired(A, docker=settings(log_driver="local"))
    cycle(host, state)
    cycle(host, state)
    assert (host.is_up, "bip" in host.file(), theirs in host.originals.values()) == (True, False, True)
    for _ in range(3):
        host.tick(700.0)
        cycle(host, state)
    assert host.running == {**BEFORE, "registry-mirrors": [A], "log-driver": "local"}


def test_a_start_on_what_was_before_gets_the_time_it_wants() -> None:
    """Docker needs long for its many containers: it is not killed again for that."""
    host = machine(hangs=lambda _: False)
    host.on_restart = lambda: setattr(host, "hangs", lambda _: True)
    cycle(host, BAD)
    for _ in range(5):
        host.tick(400.0)
        cycle(host, BAD)
    assert (host.log.count(RESTART), host.log.count(START), host.file()) == (1, 1, BEFORE)


def test_a_docker_that_comes_up_silent_goes_back() -> None:
    """It runs, and nothing answers on the socket for a minute and a half."""
    host = machine()
    host.on_restart = lambda: setattr(host, "deaf", True)
    cycle(host, BAD)
    assert is_bad(host.file())
    host.tick(100.0)
    host.on_restart = lambda: setattr(host, "deaf", False)
    converge.converge(BAD, host, lambda _: None, acts=False)
    assert host.file() == BEFORE
    cycle(host, BAD)
    assert host.is_up


def test_the_way_back_keeps_to_the_policy_too() -> None:
    """Restarts are the operator's (on_change: reload): his brings something else than the file says, which is put back,
    and the next restart is his again."""
    host = machine(ignores=frozenset({"labels"}))
    docker = replace(WANTED["lies"].docker, on_change=OnChange.RELOAD)
    state = replace(WANTED["lies"], docker=docker)
    host.put("/etc/docker/daemon.json", '{"dns": ["1.1.1.1"], "log-opts": {"max-size": "9m"}}')
    cycle(host, replace(state, docker=replace(docker, settings=docker.settings[:1])))
    host.ignores = frozenset({"labels", "debug"})
    cycle(host, state)
    host.start()
    for _ in range(3):
        cycle(host, state)
        host.tick(700.0)
    assert RESTART not in host.log
    assert (host.file(), host.is_up) == (BEFORE, True)


# --- not even ordered -----------------------------------------------------------------------------------------------

TAKEN = desired(docker=settings(log_driver="local"))
REFUSAL = "systemd does not try-restart it: transaction is destructive"


def test_a_restart_that_systemd_did_not_take_is_none() -> None:
    """It fails and is said; nothing of it is remembered or counted, and the next look makes it without a wait."""
    host = machine(takes_no_orders=REFUSAL)
    result = cycle(host, TAKEN)
    memory = host.stored_ledger.memory_of("docker")
    assert (result.outcome, result.errors, result.tally.restarts) == (Outcome.FAILED, (f"{UNIT}: {REFUSAL}",), 0)
    assert (memory.is_restarting, memory.restarted_at, memory.restarts) == (False, 0.0, ())
    host.takes_no_orders = ""
    cycle(host, TAKEN)
    assert (host.log, host.running["log-driver"]) == ([WRITE, RESTART], "local")


def test_what_fails_after_a_restart_that_was_none_is_not_blamed_on_us() -> None:
    """Docker dies of something else an hour later, and has never read the change: the change stays, and Docker is left
    to systemd."""
    host = machine(takes_no_orders=REFUSAL)
    cycle(host, TAKEN)
    host.tick(3600.0)
    at = host.clock.unix_seconds
    host.units[UNIT] = replace(host.units[UNIT], active=ActiveState.FAILED, sub_state="failed", at_rest_since=at)
    host.log.clear()
    cycle(host, TAKEN)
    assert (host.log, host.file()["log-driver"]) == ([], "local")


def test_killed_around_a_restart_that_was_none() -> None:
    """Before each change, with a systemd that takes no order: later it takes it, and Docker has what is desired."""
    for changes in range(30):
        host = machine(takes_no_orders=REFUSAL)
        if not killed_after(changes, host, TAKEN):
            break
        host.takes_no_orders = ""
        for _ in range(3):
            looks(host, TAKEN)
            host.tick(100.0)
        assert (host.running["log-driver"], host.log.count(RESTART), host.wrong_acts) == ("local", 1, []), changes
    assert changes > 4


def test_a_start_that_systemd_did_not_take_is_tried_again() -> None:
    """The failure is forgotten by then, so Docker looks stopped: it is not taken for that."""
    host = machine(fails=is_bad)
    host.on_restart = lambda: setattr(host, "takes_no_orders", REFUSAL)
    cycle(host, BAD)
    assert (host.is_up, host.file()) == (False, BEFORE)
    host.takes_no_orders = ""
    host.tick(700.0)
    cycle(host, BAD)
    assert (host.is_up, host.running, host.wrong_acts) == (True, BEFORE, [])


# --- killed ----------------------------------------------------------------------------------------------------------


def looks(host: DockerHost, state: DesiredState) -> None:
    """The next start of the agent, and the looks within seconds that it asks for."""
    for _ in range(6):
        soon = [each for each in cycle(host, state).deferred if each.retry_after_seconds == 2.0]
        if not soon:
            return
        host.tick(2.0)


def killed_after(changes: int, host: DockerHost, state: DesiredState) -> bool:
    """The agent works until it is killed before its n-th change; whether that was before its end."""
    host.crash_after = changes
    with contextlib.suppress(Crash):
        cycle(host, state)
        host.crash_after = None
        return False
    return True


@pytest.mark.parametrize("is_collected", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_killed_at_every_step_docker_is_up_in_the_end(fault: str, *, is_collected: bool) -> None:
    """Before each change of ledger, kept bytes, file or daemon: the next starts of the agent end in a Docker that is up
    and runs as before, on the bytes of before, and no stopped daemon was started; also where systemd forgets all of a
    unit that is inactive."""
    for changes in range(60):
        host = machine(**FAULTS[fault], is_collected=is_collected)
        before, running = content(host), host.running
        if not killed_after(changes, host, WANTED[fault]):
            break
        for number in range(4):
            looks(host, WANTED[fault])
            assert host.is_up or (fault == "hangs" and number == 0), changes
            host.tick(100.0)
        host.tick(700.0)
        cycle(host, WANTED[fault])
        assert (content(host), host.running, host.starts <= 4) == (before, running, True), changes
        wrong = [act for act in host.wrong_acts if "within 60 s" not in act]
        assert (wrong, RUNTIME.observe(host, WANTED[fault]).memory.trial) == ([], ""), changes
    assert changes > 8


def test_killed_again_and_again() -> None:
    """Killed in the middle of what the last kill left, too."""
    for first in range(16):
        for second in range(12):
            host = machine(fails=is_bad)
            before = content(host)
            killed_after(first, host, BAD)
            killed_after(second, host, BAD)
            for _ in range(3):
                cycle(host, BAD)
                host.tick(100.0)
            host.tick(700.0)
            cycle(host, BAD)
            assert (content(host), host.running, host.is_up) == (before, BEFORE, True), (first, second)


def killed_when(active: ActiveState, fault: str, *, has_job: bool = False, is_collected: bool = False) -> DockerHost:
    """A machine whose agent was killed when it had brought Docker into this state."""
    for changes in range(60):
        host = machine(**{fault: is_bad, "is_collected": is_collected})
        is_killed = killed_after(changes, host, BAD)
        if is_killed and (host.units[UNIT].active, bool(host.job)) == (active, has_job):
            return host
    raise AssertionError(active)


def test_a_start_that_outlives_the_agent_is_watched() -> None:
    """Killed as Docker starts with the change: it is looked at again within seconds, not with the next resync, and when
    it has failed by then, it is up with what it had before."""
    host = killed_when(ActiveState.ACTIVATING, "hangs")
    (waiting,) = cycle(host, BAD).deferred
    assert (waiting.reason, waiting.retry_after_seconds) == ("it is activating", 2.0)
    host.units[UNIT] = replace(host.units[UNIT], active=ActiveState.FAILED, at_rest_since=host.clock.unix_seconds)
    cycle(host, BAD)
    assert (host.is_up, host.file(), host.running) == (True, BEFORE, BEFORE)


@pytest.mark.parametrize("active", [ActiveState.ACTIVE, ActiveState.DEACTIVATING, ActiveState.INACTIVE])
def test_a_restart_that_is_not_finished_yet_is_watched(active: ActiveState) -> None:
    """Killed when systemd had been told, the old Docker still there, on its way out or gone: nothing is done to it, and
    it is looked at again within seconds, when the start has failed."""
    host = killed_when(active, "fails", has_job=True)
    host.log.clear()
    (waiting,) = cycle(host, BAD).deferred
    assert (host.log, waiting.retry_after_seconds) == ([], 2.0)
    looks(host, BAD)
    assert (host.log, host.is_up, host.file(), host.running) == ([WRITE, START], True, BEFORE, BEFORE)


def test_a_docker_whose_failure_was_forgotten_is_started() -> None:
    """Killed between the two steps of a start, systemd has forgotten the failure: Docker looks stopped, and is not. One
    that somebody has stopped since is left alone."""
    host, stopped = (killed_when(ActiveState.INACTIVE, "fails") for _ in range(2))
    cycle(host, BAD)
    assert (host.is_up, host.file(), host.running) == (True, BEFORE, BEFORE)
    stopped.stop()
    cycle(stopped, BAD)
    assert (stopped.units[UNIT].active, stopped.file()) == (ActiveState.INACTIVE, BEFORE)


def test_a_docker_that_is_stopped_in_its_start_stays_so() -> None:
    """Killed when systemd had taken the order to start it, and that was noted; then somebody stops it, and systemd
    forgets all about it."""
    for changes in range(40):
        host = machine(fails=is_bad, is_collected=True)
        if not killed_after(changes, host, BAD):
            break
        if START in host.log and host.job and not host.stored_ledger.memory_of("docker").awaits_order:
            host.tick(0.3)
            host.stop()
            cycle(host, BAD)
            assert (host.is_up, host.wrong_acts) == (False, []), changes
    assert changes > 8


def test_a_docker_that_is_not_started_at_boot_stays_so() -> None:
    """Killed between the two steps of a start, and the machine is started anew: Docker is down because it is not
    enabled."""
    host = killed_when(ActiveState.INACTIVE, "fails", is_collected=True)
    host.clock = replace(host.clock, unix_seconds=host.clock.unix_seconds + 60.0)
    host.clock = replace(host.clock, booted_at=host.clock.unix_seconds - 5.0)
    cycle(host, BAD)
    assert (host.is_up, host.file()) == (False, BEFORE)


HARMLESS: dict[str, Callable[[DockerHost], object]] = {
    "nothing": lambda _: None,
    "somebody restarts Docker": lambda host: host.start(),
    "somebody edits the file": lambda host: host.edit({"bip": "10.0.0.1/24"}),
    "ten minutes pass": lambda host: host.tick(601.0),
}


@pytest.mark.parametrize("event", HARMLESS)
def test_killed_while_others_act(event: str) -> None:
    """Between the kill and the next start of the agent something happens: Docker is up in the end, on a file without
    what failed."""
    for changes in range(20):
        host = machine(fails=is_bad)
        killed_after(changes, host, BAD)
        HARMLESS[event](host)
        for _ in range(6):
            cycle(host, BAD)
            host.tick(601.0)
        assert (is_bad(host.file()), host.is_up) == (False, True), changes
        assert {key: host.file().get(key) for key in BEFORE} == BEFORE, changes


# --- stories ---------------------------------------------------------------------------------------------------------

WORKING: Values = {"log-driver": "local", "log-opts": {"max-size": "5m"}, "labels": ["a=b"], "debug": True}


@st.composite
def wishes(draw: st.DrawFn) -> DesiredState:
    """A desired state of which Docker takes all, or all but one value."""
    listed = draw(st.lists(st.sampled_from(sorted(WORKING)), unique=True, max_size=3))
    values = {key.replace("-", "_"): WORKING[key] for key in listed}
    values |= {"data_root": draw(st.sampled_from(["/a-file", "/data"]))} if draw(st.booleans()) else {}
    mirrors = draw(st.lists(st.sampled_from([A, B]), unique=True))
    hosts = tuple(draw(st.lists(st.sampled_from(["x.lan", "y.lan"]), unique=True)))
    state = desired(*mirrors, docker=settings(**values), insecure=hosts)
    return replace(state, generation=draw(st.sampled_from("0123456789")) * 64)


STEPS = st.one_of(
    st.tuples(st.just("desire"), wishes()),
    st.tuples(st.just("desire"), wishes()),
    st.tuples(st.just("kill"), st.integers(0, 25)),
    st.tuples(st.just("kill"), st.integers(0, 25)),
    st.tuples(st.just("wait"), st.sampled_from([5.0, 100.0, 700.0])),
    st.tuples(st.just("somebody edits"), st.sampled_from(["10.0.0.1/24", "10.0.1.1/24"])),
    st.tuples(st.just("somebody restarts"), st.none()),
)


@hypothesis.settings(max_examples=60, deadline=None)
@given(st.sampled_from(["fails", "hangs"]), st.lists(STEPS, min_size=1, max_size=12))
def test_whatever_happens_docker_is_up_in_the_end(fault: str, story: list[tuple[str, Any]]) -> None:
    """Good and bad wishes, kills between any two changes, edits and restarts by others: soon after, Docker is up on a
    file without what fails, with every foreign key, and runs with what its file says; another look does nothing."""
    host, state, foreign = machine(BEFORE, **{fault: is_bad}), desired(), {"dns": BEFORE["dns"]}
    for kind, argument in story:
        if kind == "desire":
            state = argument
            cycle(host, state)
        elif kind == "kill":
            killed_after(argument, host, state)
            host.crash_after = None
        elif kind == "wait":
            host.tick(argument)
        elif kind == "somebody edits":
            host.edit({"bip": argument})
            foreign["bip"] = argument
        else:
            host.start()
    for _ in range(8):
        cycle(host, state)
        host.tick(601.0)
    assert (host.is_up, is_bad(host.file())) == (True, False)
    assert {key: host.file().get(key) for key in foreign} == foreign
    ours = {key for entry in host.stored_ledger.entries.values() for key in (each.key for each in entry.keys)}
    assert {key: host.running.get(key) for key in ours & WORKING.keys()} == {
        key: host.file().get(key) for key in ours & WORKING.keys()
    }
    host.log.clear()
    cycle(host, state)
    assert (host.log, [act for act in host.wrong_acts if "within 60 s" not in act]) == ([], [])
