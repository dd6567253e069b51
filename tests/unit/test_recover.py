"""A restart that fails: what undoes it still happens in the same cycle, nothing else does, and nothing is forgotten."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import pytest

from agent.converge import _Cycle
from agent.errors import HostError
from agent.events import Event, Kind
from agent.host import HostReader
from agent.ledger import Ledger, decode
from agent.model import DesiredState, Regular, RuntimeReport, Setting
from agent.outcome import Outcome
from agent.plan import Claim, Deferred, Memory, Plan, Recover, Restart, WriteFile
from agent.turns import run
from tests.fakes import FakeHost

UNIT = "x.service"
PATH = "/etc/x"
OLD, NEW = Regular(b"old"), Regular(b"new")
RESTART = Restart(UNIT, "x changed", Memory(is_restarting=True))
RECOVER = Recover(UNIT, "it did not come up", Memory(bad="new"))


@dataclass
class Scripted:
    """A runtime whose plans are told beforehand; the last one is told for ever."""

    script: list[Plan]
    name: str = "x"
    owns: tuple[str, ...] = ("/etc",)
    unit: str | None = UNIT
    asked: int = field(default=0)

    def observe(self, host: HostReader, desired: DesiredState) -> None:
        """Nothing to see."""

    def plan(self, desired: DesiredState, observed: None) -> Plan:  # noqa: ARG002 -- it is told beforehand
        self.asked += 1
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def report(self, desired: DesiredState, observed: None) -> RuntimeReport:
        raise NotImplementedError


def raising(text: str) -> Callable[[], None]:
    def fail() -> None:
        raise HostError(UNIT, text)

    return fail


def cycle(host: FakeHost, *script: Plan) -> tuple[Outcome, tuple[str, ...], list[Event]]:
    events: list[Event] = []
    running = _Cycle(Scripted(list(script)), DesiredState("0"), host, events.append)
    run([running], host, acts=True)
    result = running.result()
    return result.outcome, result.errors, events


def host() -> FakeHost:
    found = FakeHost()
    found.put(PATH, NEW.content)
    return found


BACK = Plan("x", (WriteFile(PATH, OLD.content, "it goes back", NEW),), remember=Memory(bad="new"))
DONE = Plan("x")


def test_a_failed_restart_is_undone_in_the_same_cycle() -> None:
    """The old bytes are written and the unit is started, in this order; the cycle still counts as failed."""
    node = host()
    node.on_restart = raising("did not come up")
    outcome, errors, events = cycle(node, Plan("x", (RESTART,)), BACK, Plan("x", (RECOVER,)), DONE)
    assert node.log == [f"restart {UNIT}", f"write {PATH}", f"start {UNIT}"]
    assert (outcome, errors) == (Outcome.FAILED, (f"{UNIT}: did not come up",))
    assert [event.kind for event in events if event.kind is not Kind.WROTE] == [
        Kind.RESTARTED,
        Kind.FAILED,
        Kind.RESTARTED,
        Kind.RESTARTED,
    ]


@pytest.mark.parametrize("act", [RESTART, RECOVER])
def test_no_other_act_follows_a_failed_one(act: Restart | Recover) -> None:
    """A restart that failed is not tried again in the same cycle, and a start that failed is not either."""
    node = host()
    node.on_restart = node.on_recover = raising("no")
    outcome, errors, _ = cycle(node, Plan("x", (act,)))
    assert len(node.log) == 1
    assert (outcome, errors) == (Outcome.FAILED, (f"{UNIT}: no",))


def test_the_intent_is_stored_before_the_unit_is_touched() -> None:
    """Whoever is killed in the middle finds in the ledger what was under way."""
    node, seen = host(), list[Memory]()
    node.on_restart = node.on_recover = lambda: seen.append(node.stored_ledger.memory_of("x"))
    cycle(node, Plan("x", (RESTART,)), Plan("x", (RECOVER,)), DONE)
    assert seen == [RESTART.before, RECOVER.before]


def test_what_may_be_needed_again_is_kept_before_the_first_write() -> None:
    """Also for a file that is owned already, whose first original is another one."""
    node = host()
    node.failures[PATH] = "no space (ENOSPC)"
    plan = Plan("x", BACK.actions, claims=(Claim(PATH, Regular(b"first")),), keeps=(b"second",))
    cycle(node, plan)
    assert sorted(node.originals.values()) == [b"first", b"second"]


def test_it_is_noted_when_systemd_has_taken_the_order() -> None:
    """Before that the note says that it is awaited; after a start that has failed it says that it has, and no more."""
    node, notes = host(), list[Memory]()
    recover = replace(RECOVER, before=Memory(bad="new", awaits_order=True))
    node.on_recover = lambda: notes.append(node.stored_ledger.memory_of("x"))
    cycle(node, Plan("x", (recover,)), DONE)
    assert (notes, node.stored_ledger.memory_of("x")) == ([recover.before], Memory(bad="new"))
    node.on_recover = raising("systemd does not start it")
    cycle(node, Plan("x", (recover,)), DONE)
    assert node.stored_ledger.memory_of("x") == replace(recover.before, is_recovering=True)


def test_the_memory_of_a_trial_survives_the_ledger() -> None:
    """Every field comes back from the stored form, and a ledger of before has none of them."""
    values = (Setting("a", "1"),)
    memory = Memory("i", values, 1.0, "f", 2.0, 3.0, "t", "g", "e", is_restarting=True, bad="b")
    memory = replace(
        memory, is_recovering=True, why="w", effective=values, refused=values, restarts=(1.0, 2.0), our_invocation="j"
    )
    memory = replace(memory, awaits_order=True)
    assert {field.name for field in fields(Memory) if getattr(memory, field.name) == field.default} == set()
    ledger = Ledger().with_memory("x", memory)
    assert decode(ledger.encode()) == ledger
    assert Plan("x", deferred=(Deferred(RECOVER, "later", None),)).is_empty is False
