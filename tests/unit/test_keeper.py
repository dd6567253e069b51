"""The keeper: which desired state is in force, and what is said about it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from agent.events import Event, Kind, Level
from agent.keeper import Keeper
from agent.model import Now
from agent.node import Places, RealHost
from agent.status import decode

CONFIG = "/etc/mirror-agent.yaml"
TWO_REGISTRIES = """\
version: 1
registries:
  docker.io: {mirrors: [https://docker.m.daocloud.io]}
  ghcr.io: {mirrors: [https://ghcr.m.daocloud.io]}
"""


class StillHost(RealHost):
    """Time stands still, however slow the machine is that runs this."""

    def now(self) -> Now:
        return Now(1_800_000_000.0, 12 * 60)


class Machine:
    """A root with a desired state, and a keeper on it; `start` again is a restart of the agent."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "etc").mkdir()
        self.events: list[Event] = []
        self.start()

    def start(self) -> None:
        self.host = StillHost(Places(root=str(self.root)))
        self.keeper = Keeper(self.host, CONFIG, self.events.append, owner=os.geteuid())

    def edit(self, text: str, mode: int = 0o640) -> None:
        path = self.root / "etc/mirror-agent.yaml"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    def said(self, *kinds: Kind) -> list[str]:
        found = [event.message for event in self.events if event.kind in kinds]
        self.events.clear()
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_good_state_is_loaded_once(machine: Machine) -> None:
    """One line says which state is in force; a second look at the same bytes says nothing."""
    machine.edit(TWO_REGISTRIES)
    machine.keeper.start()
    machine.keeper.look(acts=True)
    assert machine.said(Kind.LOADED) == ["desired state f961be9 loaded from /etc/mirror-agent.yaml: 2 registries"]
    machine.keeper.look(acts=True)
    assert machine.events == []


def test_an_invalid_edit_keeps_the_last_good_state(machine: Machine) -> None:
    """Every problem is named with its place, the state in force does not change, and it is said that it stays."""
    machine.edit(TWO_REGISTRIES)
    machine.keeper.start()
    machine.said()
    good = machine.keeper.state
    machine.edit("version: 1\nregistries:\n  docker.io:\n    mirror: [https://docker.m.daocloud.io]\n")
    machine.keeper.look(acts=True)
    assert machine.keeper.state == good
    assert machine.said(Kind.INVALID) == [
        '/etc/mirror-agent.yaml:4:5: registries.docker.io.mirror: unknown key, did you mean "mirrors"?',
        "Nothing was changed; the state f961be9 stays in force.",
    ]
    machine.keeper.look(acts=True)
    assert machine.events == []


@pytest.mark.parametrize("text", ["", "version: 1\nregistries: [", "\N{REPLACEMENT CHARACTER}\x00"])
def test_a_truncated_file_never_means_remove_everything(machine: Machine, text: str) -> None:
    """Editors truncate first: an empty or half file is invalid and changes nothing."""
    machine.edit(TWO_REGISTRIES)
    machine.keeper.start()
    good = machine.keeper.state
    machine.edit(text)
    machine.keeper.look(acts=True)
    assert machine.keeper.state == good


def test_the_last_good_state_survives_a_restart_of_the_agent(machine: Machine) -> None:
    """A boot with a broken file still repairs drift: the last good state lies beside the ledger."""
    machine.edit(TWO_REGISTRIES)
    machine.keeper.start()
    machine.keeper.look(acts=True)
    good = machine.keeper.state
    machine.edit("nonsense: true\n")
    machine.start()
    machine.keeper.start()
    assert machine.keeper.state == good
    assert "the last good state f961be9 is kept in force until /etc/mirror-agent.yaml is mended" in machine.said(
        Kind.LOADED
    )


def test_no_file_is_waited_for(machine: Machine) -> None:
    """Without a desired state nothing is managed; when it appears it is loaded."""
    machine.keeper.start()
    assert machine.keeper.look(acts=True) is None
    assert machine.said(Kind.MISSING) == [
        '/etc/mirror-agent.yaml: no such file; write one: the line "version: 1" is enough to begin with',
        "Nothing was changed; nothing is managed.",
    ]
    machine.edit("version: 1\n")
    assert machine.keeper.look(acts=True) is not None


def test_a_file_that_others_may_write_is_refused(machine: Machine) -> None:
    """A root process obeys this file, so nobody else may be able to write it; the message says how to mend it."""
    machine.edit(TWO_REGISTRIES, mode=0o666)
    machine.keeper.start()
    assert machine.keeper.state is None
    assert machine.said(Kind.INVALID)[0] == (
        "/etc/mirror-agent.yaml: can be written by others than its owner (mode 0666); "
        "run: chmod go-w /etc/mirror-agent.yaml"
    )


def test_status_is_published_once_per_change(machine: Machine) -> None:
    """status.json says which state is in force and why it was looked at, and is not rewritten for nothing."""
    machine.edit(TWO_REGISTRIES)
    machine.keeper.start()
    machine.keeper.look(acts=True)
    machine.keeper.publish()
    path = machine.root / "run/mirror-agent/status.json"
    status = decode(path.read_bytes())
    assert status is not None
    assert (status.short_generation, status.cause) == ("f961be9", "after the start of mirror-agent")
    before = path.stat().st_ino
    machine.keeper.look(acts=True)
    machine.keeper.publish()
    assert path.stat().st_ino == before


def test_a_file_in_its_writers_hands_is_not_complained_about(machine: Machine) -> None:
    """`install` removes the file before it writes the new one: what is seen in between is doubted, not said. What is
    still so at the settled look is said then."""
    machine.edit(TWO_REGISTRIES)
    machine.keeper.start()
    machine.keeper.look(acts=True)
    machine.said()
    for text in ("", "version: 1\nregistr"):
        machine.edit(text)
        machine.keeper.look(acts=False)
        assert (machine.keeper.doubts, machine.events) == (True, [])
    machine.edit("version: 1\n")
    machine.keeper.look(acts=False)
    assert (machine.keeper.doubts, len(machine.said(Kind.LOADED))) == (False, 1)
    machine.edit("version: 1\nregistr")
    machine.keeper.look(acts=False)
    machine.keeper.look(acts=True)
    assert len(machine.said(Kind.INVALID)) == 2


def test_the_journal_is_told_what_to_hide(machine: Machine) -> None:
    """Header values, inline or from a file, are hidden before anything could quote them."""
    token = machine.root / "etc/token"
    token.write_text("Bearer from-a-file\n")
    token.chmod(0o600)
    machine.edit(
        "version: 1\nregistries:\n  ghcr.io:\n    mirrors:\n"
        "      - {url: 'https://m.example', header: {X-Key: [inline]}, header_file: {Authorization: /etc/token}}\n"
    )
    hidden: list[str] = []
    Keeper(machine.host, CONFIG, machine.events.append, os.geteuid(), hidden.extend).start()
    assert hidden == ["inline", "Bearer from-a-file"]


BROKEN = "version: 1\nregistries:\n  docker.io:\n    mirror: [https://docker.m.daocloud.io]\n"


def test_the_same_mistake_in_another_text_is_said_again(machine: Machine) -> None:
    """Who saves a file and is told nothing takes it for good: only the same bytes are not complained about twice."""
    machine.edit(BROKEN)
    machine.keeper.start()
    first = machine.said(Kind.INVALID)
    machine.keeper.look(acts=True)
    assert machine.events == []
    machine.edit(BROKEN + "  # an edit\n")
    machine.keeper.look(acts=False)
    assert (machine.keeper.doubts, machine.events) == (True, [])
    machine.keeper.look(acts=True)
    assert (len(first), machine.said(Kind.INVALID)) == (2, first)


def test_a_start_with_an_invalid_file_does_not_contradict_itself(machine: Machine) -> None:
    """The last good state is in force before anything is said of the file."""
    machine.edit(TWO_REGISTRIES)
    machine.keeper.start()
    machine.keeper.look(acts=True)
    machine.edit(BROKEN)
    machine.start()
    machine.events.clear()
    machine.keeper.start()
    assert machine.said(Kind.INVALID, Kind.LOADED) == [
        '/etc/mirror-agent.yaml:4:5: registries.docker.io.mirror: unknown key, did you mean "mirrors"?',
        "Nothing was changed; the state f961be9 stays in force.",
        "the last good state f961be9 is kept in force until /etc/mirror-agent.yaml is mended",
    ]


TWO_FILES = TWO_REGISTRIES + "containerd: {manage: true}\n"


def test_a_conflict_is_not_called_converged(machine: Machine) -> None:
    """The last line of the cycle says that somebody is needed, in a kind of its own; once it is put right, and only
    then, it says converged."""
    machine.edit(TWO_FILES)
    obstacle = machine.root / "etc/containerd/certs.d/docker.io"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("")
    machine.keeper.start()
    machine.keeper.look(acts=True)
    ends = [event for event in machine.events if event.kind in {Kind.UNRESOLVED, Kind.CONVERGED, Kind.DRIFT}]
    short = machine.keeper.state.short_generation if machine.keeper.state else ""
    assert [(event.kind, event.level, event.outcome, event.message) for event in ends] == [
        (Kind.UNRESOLVED, Level.WARNING, "conflict", f"{short}: 1 file written, but 1 conflict needs you")
    ]
    machine.events.clear()
    machine.keeper.look(acts=True)
    assert machine.events == []
    obstacle.unlink()
    machine.keeper.look(acts=True)
    (message,) = machine.said(Kind.UNRESOLVED, Kind.CONVERGED, Kind.DRIFT)
    assert message.startswith(f"converged {short} in ")
    assert message.endswith(": 1 file written, 0 reloads, 0 restarts")


def test_a_start_that_finds_a_conflict_says_so(machine: Machine) -> None:
    """With nothing to write: neither "converged" nor silence."""
    machine.edit(TWO_FILES)
    machine.keeper.start()
    machine.keeper.look(acts=True)
    found = machine.root / "etc/containerd/certs.d/docker.io"
    shutil.rmtree(found)
    found.write_text("")
    machine.start()
    machine.events.clear()
    machine.keeper.start()
    machine.keeper.look(acts=True)
    assert [line.partition(": ")[2] for line in machine.said(Kind.UNRESOLVED, Kind.CONVERGED, Kind.DRIFT)] == [
        "nothing to change, but 1 conflict needs you"
    ]


HUB_FILE = "etc/containerd/certs.d/docker.io/hosts.toml"


def fight(machine: Machine, times: int) -> None:
    """Somebody empties a managed file again and again; each time it is looked at."""
    for _ in range(times):
        (machine.root / HUB_FILE).write_text("# Ansible managed\n")
        machine.keeper.look(acts=True)


def at_war(machine: Machine) -> None:
    (machine.root / "etc/containerd").mkdir()
    machine.edit(TWO_REGISTRIES + "containerd: {manage: true}\n")
    machine.keeper.start()
    machine.keeper.look(acts=True)
    fight(machine, 5)


def test_a_contended_file_is_said_once_and_shown(machine: Machine) -> None:
    """After the fifth change it is contended: one line in the journal, one entry in status.json, and it waits while the
    other registries do not."""
    at_war(machine)
    assert machine.said(Kind.CONTENDED) == [
        f"containerd: /{HUB_FILE} is contended: somebody else (Ansible, by its marks) has changed it 5 times within"
        " 10 min; it is put back ever more rarely from now on, and no restart is made meanwhile"
    ]
    (machine.root / "etc/containerd/certs.d/ghcr.io/hosts.toml").unlink()
    fight(machine, 1)
    machine.keeper.publish()
    assert machine.said(Kind.CONTENDED, Kind.CALM, Kind.DEGRADED) == []
    assert (machine.root / HUB_FILE).read_text() == "# Ansible managed\n"
    assert (machine.root / "etc/containerd/certs.d/ghcr.io/hosts.toml").exists()
    status = decode((machine.root / "run/mirror-agent/status.json").read_bytes())
    assert status is not None
    assert [(each.path, each.writer, each.is_held) for each in status.contentions] == [
        (f"/{HUB_FILE}", "Ansible", True)
    ]
    assert (status.outcome, status.is_live) == ("contended", False)


def test_a_war_is_remembered_over_a_restart_and_ended_by_an_edit(machine: Machine) -> None:
    """The next agent holds back too, and does not say it again; an edit of the desired state is tried at once."""
    at_war(machine)
    machine.said()
    machine.start()
    machine.keeper.start()
    fight(machine, 1)
    assert (machine.root / HUB_FILE).read_text() == "# Ansible managed\n"
    assert machine.said(Kind.CONTENDED, Kind.CALM) == []
    machine.edit("# edited\n" + TWO_REGISTRIES + "containerd: {manage: true}\n")
    machine.keeper.look(acts=True)
    assert (machine.root / HUB_FILE).read_text() != "# Ansible managed\n"
    assert machine.said(Kind.CALM) == [f"/{HUB_FILE} is no longer contended: the desired state is new"]
    machine.start()
    machine.keeper.start()
    machine.keeper.look(acts=True)
    assert machine.said(Kind.CONTENDED, Kind.CALM) == []
