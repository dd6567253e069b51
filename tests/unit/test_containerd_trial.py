"""What a restart of containerd is judged by, and when none is made: its CRI, its own check, its unit, the clock."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from agent.model import CommandResult, ContainerdSettings, Cri, UnitTies
from agent.outcome import Outcome
from agent.plan import Restart
from tests.containerd_unit import CONFIG, CTR, SOCKET, UNIT, ContainerdHost
from tests.unit.test_containerd_bringup import (
    BLOCK,
    DEBIAN,
    DESIRED,
    NOBODY,
    RESTART,
    WRITE,
    cycle,
    later,
    live,
    machine,
    outcome,
)

THERE = ("certs.d",)


def waits(host: ContainerdHost) -> list[tuple[str, float | None]]:
    """One cycle; why acts wait, and until when."""
    return [(each.reason, each.retry_after_seconds) for each in cycle(host)[0].runtimes[0].deferred]


def acts(host: ContainerdHost) -> list[str]:
    """Writes of config.toml and acts so far; forgotten then."""
    found = [each for each in host.log if CONFIG in each or UNIT in each]
    host.log.clear()
    return found


def trial(host: ContainerdHost) -> str:
    return host.stored_ledger.memory_of("containerd").trial


# --- the CRI ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [CTR, SOCKET])
def test_a_cri_that_is_gone_is_seen_without_ctr(gone: str) -> None:
    """Nobody needs ctr to notice that the CRI is not there; without a socket nothing is changed at all."""
    host = machine(breaks_cri=THERE)
    del host.files[gone]
    outcome(host)
    assert acts(host) == ([WRITE, RESTART, WRITE, RESTART] if gone == CTR else [])
    assert (host.config, host.loaded) == (DEBIAN, DEBIAN)


def test_a_cri_that_hangs_gets_its_file_back() -> None:
    """Its plugin says ok, nobody answers: on trial, looked at again within seconds, and after a minute and a half the
    old file is back and the CRI answers on it. The same is not tried again."""
    host = machine(hangs_cri=THERE)
    assert waits(host) == [("its CRI does not answer yet", 2.0)]
    assert (acts(host), host.loaded, live(host)) == ([WRITE, RESTART], DEBIAN + BLOCK, True)
    later(host, 80.0)
    assert (waits(host), acts(host)) == ([("its CRI does not answer yet", 2.0)], [])
    later(host, 10.0)
    assert outcome(host) is Outcome.CONFLICT
    assert (acts(host), host.config, host.loaded, trial(host)) == ([WRITE, RESTART], DEBIAN, DEBIAN, "")
    later(host)
    assert (outcome(host), acts(host)) == (Outcome.CONFLICT, [])


def test_a_cri_that_takes_its_time_is_waited_for() -> None:
    """The trial ends when it answers: nothing is put back, nothing is restarted again."""
    host = machine(hangs_cri=THERE)
    outcome(host)
    later(host, 30.0)
    host.hangs_cri = ()
    acts(host)
    assert (outcome(host), acts(host), trial(host)) == (Outcome.UNCHANGED, [], "")
    assert (host.loaded, live(host)) == (DEBIAN + BLOCK, True)


def test_the_agent_is_killed_while_it_waits_for_the_cri() -> None:
    """What is on trial is in the ledger: a new agent goes on waiting, and goes back by the same clock."""
    host = machine(hangs_cri=THERE)
    outcome(host)
    host = replace(host)
    later(host)
    acts(host)
    outcome(host)
    assert (acts(host), host.loaded) == ([WRITE, RESTART], DEBIAN)


@pytest.mark.parametrize("state", [Cri.SILENT, Cri.MISSING])
def test_nothing_is_changed_below_a_cri_that_is_not_well(state: Cri, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could tell afterwards what the change has done: one that is silent is asked again, one that is not there
    is a matter for a person."""
    host = machine()
    monkeypatch.setattr(ContainerdHost, "cri", lambda *_: state)
    result = cycle(host)[0].runtimes[0]
    assert acts(host) == []
    found = [each.reason for each in (*result.deferred, *result.conflicts)]
    assert (
        found
        == {
            Cri.SILENT: ["its CRI does not answer, so that nobody could tell whether it does after a change"],
            Cri.MISSING: ["containerd has no CRI, so nothing is changed here until that is well"],
        }[state]
    )
    monkeypatch.undo()
    outcome(host)
    assert (acts(host), live(host)) == ([WRITE, RESTART], True)


@pytest.mark.parametrize("plugin", ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"])
def test_a_containerd_that_is_to_have_no_cri_is_not_judged_by_it(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody takes CRI out while our change is on trial: nobody asks it, and nothing is put back."""
    host = machine(hangs_cri=THERE)
    outcome(host)
    host.put(CONFIG, f'disabled_plugins = ["{plugin}"]\n{host.config}')
    host.start()
    later(host)
    acts(host)
    monkeypatch.setattr(ContainerdHost, "cri", lambda *_: pytest.fail("the CRI was asked"))
    outcome(host)
    assert acts(host) == []
    outcome(host, NOBODY)
    assert (acts(host), host.config, trial(host)) == (
        [WRITE, RESTART],
        f'disabled_plugins = ["{plugin}"]\n{DEBIAN}',
        "",
    )


def test_the_cri_is_asked_where_it_listens() -> None:
    """--address of the running containerd, else grpc.address of its configuration, else the default; and nobody is
    asked while nothing is on trial."""
    asked: list[str] = []

    class Listening(ContainerdHost):
        def cri(self, socket: str) -> Cri:
            asked.append(socket)
            return Cri.READY

    def sockets(config: str, *arguments: str) -> set[str]:
        host = machine(config)
        host.__class__ = Listening
        pid = host.units[UNIT].main_pid
        host.processes[pid] = (*host.processes[pid], *arguments)
        asked.clear()
        outcome(host)
        found = set(asked)
        asked.clear()
        outcome(host)
        assert asked == []
        return found

    grpc = '[grpc]\naddress = "/run/b.sock"\n'
    assert sockets(DEBIAN) == {SOCKET}
    assert sockets(DEBIAN + grpc) == {"/run/b.sock"}
    assert sockets(DEBIAN + grpc, "--address", "/run/c.sock") >= {"/run/c.sock"}


# --- no restart for nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1200.0, 90.0])
def test_a_file_rewritten_without_config_path_costs_no_restart(every: float) -> None:
    """Somebody lays it anew, again and again, and leaves containerd alone, which still looks where it did: the file is
    put back, checked, and that is all."""
    host = machine()
    outcome(host)
    later(host)
    acts(host)
    for _ in range(24):
        host.put(CONFIG, DEBIAN)
        outcome(host)
        later(host, every)
        outcome(host)
        assert (acts(host), host.config, trial(host), live(host)) == ([WRITE], DEBIAN + BLOCK, "", True)


def test_what_is_put_back_without_a_restart_is_checked() -> None:
    """What containerd would not start with does not stay, and containerd is not restarted because of it."""
    host = machine()
    outcome(host)
    later(host)
    acts(host)
    host.rejects = ("certs.d",)
    host.put(CONFIG, DEBIAN + "# of others\n")
    outcome(host)
    assert (acts(host), host.config) == ([WRITE, WRITE], DEBIAN + "# of others\n")
    assert (host.loaded, trial(host)) == (DEBIAN + BLOCK, "")


def test_a_restart_by_others_in_between_is_seen() -> None:
    """Who rewrites the file and restarts containerd has a containerd without certs.d: that takes a restart."""
    host = machine()
    outcome(host)
    later(host)
    acts(host)
    host.put(CONFIG, DEBIAN)
    host.start()
    outcome(host)
    assert (acts(host), host.loaded) == ([WRITE, RESTART], DEBIAN + BLOCK)


# --- when a restart waits --------------------------------------------------------------------------------------------


def test_two_restarts_in_ten_minutes() -> None:
    """The third waits until the first is ten minutes old."""
    host = machine()
    for _ in range(2):
        outcome(host)
        later(host, 100.0)
        host.put(CONFIG, DEBIAN)
        host.start()
    acts(host)
    ((reason, seconds),) = waits(host)
    assert (reason, acts(host)) == ("it was restarted twice in the last ten minutes", [WRITE])
    later(host, seconds or 0.0)
    outcome(host)
    assert (acts(host), live(host)) == ([RESTART], True)


@pytest.mark.parametrize("mode", ["control-group", "mixed", "none", ""])
def test_a_unit_that_takes_its_containers_along_is_not_restarted(mode: str) -> None:
    """The file is right, the restart waits with one sentence that says what to do, and is made once the unit lets
    containers live."""
    host = machine()
    host.unit_ties[UNIT] = UnitTies(mode)
    assert waits(host) == [
        (
            f"its unit has KillMode={mode or 'unknown'}, with which systemd ends what runs the containers, too: set "
            "KillMode=process (systemctl edit containerd), or restart it when it suits you",
            60.0,
        )
    ]
    assert (acts(host), host.config, host.loaded) == ([WRITE], DEBIAN + BLOCK, DEBIAN)
    host.unit_ties[UNIT] = UnitTies("process")
    outcome(host)
    assert (acts(host), live(host)) == ([RESTART], True)


def test_a_masked_unit_waits_for_the_unmask_and_for_nothing_else() -> None:
    """systemd has no KillMode for it but its default, which is not held against it, nor said."""
    host = machine()
    unmasked = host.units[UNIT]
    host.units[UNIT] = replace(unmasked, is_masked=True)
    host.unit_ties[UNIT] = UnitTies()
    (deferred,) = cycle(host)[0].runtimes[0].deferred
    said = "containerd.service is masked, so systemd would not start it again: systemctl unmask containerd.service"
    assert (deferred.reason, deferred.retry_after_seconds) == (said, 60.0)
    assert isinstance(deferred.act, Restart)
    assert deferred.act.reason == "only a start reads config.toml"
    host.units[UNIT] = unmasked
    host.unit_ties[UNIT] = UnitTies("process")
    outcome(host)
    assert (acts(host), live(host)) == ([WRITE, RESTART], True)


def test_what_goes_along_is_named() -> None:
    """The services that systemd restarts with it stand in the reason, which plan prints and the journal repeats."""
    host = machine()
    host.unit_ties[UNIT] = UnitTies("process", ("docker.service", "kubelet.service"))
    _, events = cycle(host)
    (restarting,) = [each.message for each in events if each.message.startswith("containerd: restarting")]
    assert restarting.endswith("containers keep running; systemd restarts docker.service, kubelet.service with it")


def test_a_way_back_waits_for_nothing() -> None:
    """A containerd that is up without a CRI because of us is restarted on its old file, whatever that takes along."""
    host = machine(breaks_cri=THERE)
    host.unit_ties[UNIT] = UnitTies("control-group")
    outcome(host)
    host.start()
    acts(host)
    outcome(host)
    assert (acts(host), host.loaded) == ([WRITE, RESTART], DEBIAN)


def test_ties_are_asked_for_only_when_a_restart_is_in_sight() -> None:
    """Once all is well nobody asks systemd about it any more."""
    asked: list[str] = []

    class Tied(ContainerdHost):
        def ties(self, name: str) -> UnitTies:
            asked.append(name)
            return UnitTies("process")

    host = machine()
    host.__class__ = Tied
    outcome(host)
    assert set(asked) == {UNIT}
    asked.clear()
    outcome(host)
    assert asked == []
    later(host)
    outcome(host, NOBODY)
    assert set(asked) == {UNIT}


# --- its own check ---------------------------------------------------------------------------------------------------


def silent_dump(host: ContainerdHost, until: Callable[[], bool]) -> None:
    """containerd config dump gives no answer as long as this holds."""
    command = host.command

    def silenced(argv: Sequence[str], *_: object, **__: object) -> CommandResult | None:
        return None if argv[-1] == "dump" and until() else command(argv)

    host.command = silenced  # type: ignore[method-assign]


def test_without_an_answer_nothing_is_written() -> None:
    """containerd is up and its own check gives no answer: nothing that could not be checked is written, and it is
    asked again."""
    host = machine()
    answers: list[bool] = []
    silent_dump(host, lambda: not answers)
    assert waits(host) == [("containerd config dump gives no answer, so that a change could not be checked", 10.0)]
    assert (acts(host), host.config) == ([], DEBIAN)
    answers.append(True)
    outcome(host)
    assert (acts(host), live(host)) == ([WRITE, RESTART], True)


def test_what_is_written_is_not_loaded_unchecked() -> None:
    """The check fell silent after the write: no restart until it has said that the file is right."""
    host = machine()
    answers: list[bool] = []
    silent_dump(host, lambda: not answers and "certs.d" in host.config)
    assert waits(host) == [("containerd config dump does not say whether it is right", 2.0)]
    assert (acts(host), host.config) == ([WRITE], DEBIAN + BLOCK)
    answers.append(True)
    outcome(host)
    assert (acts(host), live(host)) == ([RESTART], True)


def test_never_is_said_before_anything_else() -> None:
    """What the operator decided comes before what the unit looks like."""
    host = machine()
    host.unit_ties[UNIT] = UnitTies("control-group")
    desired = replace(DESIRED, containerd=ContainerdSettings(may_restart=False))
    (deferred,) = cycle(host, desired)[0].runtimes[0].deferred
    assert deferred.reason == "containerd.restart is never: restart it when it suits you"
