"""A ledger that is damaged, newer or gone: it is said, nothing that may be needed again is thrown away, and `revert`
does not claim what it cannot give."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cli import main
from agent.events import Event, Kind, Level
from agent.keeper import Keeper
from agent.node import Places, RealHost

CONFIG = "/etc/mirror-agent.yaml"
DESIRED = """\
version: 1
registries:
  docker.io: {mirrors: [https://hub.example]}
  old.io: {mirrors: [https://new.example]}
containerd: {manage: true}
docker: {manage: true}
"""
FOREIGN_HOSTS = '# by hand\nserver = "https://old.io"\n'
FOREIGN_JSON = '{ "registry-mirrors": ["https://theirs.example"], "debug": true }\n'

Spoil = Callable[[Path], None]


class Machine:
    """A node with a hosts.toml and a daemon.json of its operator; `start` is a life of the agent, with one cycle."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys
        self.state = root / "var/lib/mirror-agent"
        self.hosts = root / "etc/containerd/certs.d/old.io/hosts.toml"
        self.daemon_json = root / "etc/docker/daemon.json"
        self.hosts.parent.mkdir(parents=True)
        self.daemon_json.parent.mkdir(parents=True)
        self.hosts.write_text(FOREIGN_HOSTS)
        self.daemon_json.write_text(FOREIGN_JSON)
        config = root / "etc/mirror-agent.yaml"
        config.write_text(DESIRED)
        config.chmod(0o640)

    def start(self) -> list[Event]:
        events: list[Event] = []
        keeper = Keeper(RealHost(Places(root=str(self.root))), CONFIG, events.append, owner=os.geteuid())
        keeper.start()
        keeper.look(acts=True)
        keeper.publish()
        return events

    def said(self) -> list[str]:
        """What a start says about the ledger."""
        return [event.message for event in self.start() if event.kind is Kind.LEDGER]

    def call(self, *words: str) -> tuple[int, str]:
        code = main(["--root", str(self.root), *words])
        return code, self._capsys.readouterr().out

    @property
    def originals(self) -> set[str]:
        return {path.read_text() for path in (self.state / "originals").iterdir()}


@pytest.fixture
def machine(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Machine:
    for name in [name for name in os.environ if name.startswith("MIRROR_AGENT_")]:
        monkeypatch.delenv(name)
    return Machine(tmp_path, capsys)


def garbage(state: Path) -> None:
    """Neither the ledger nor its copy can be read."""
    (state / "ledger.json").write_text("garbage\n")
    (state / "ledger.copy.json").write_text("garbage\n")


def newer(state: Path) -> None:
    """A later version of the agent has been here."""
    for name in ("ledger.json", "ledger.copy.json"):
        document = json.loads((state / name).read_text())
        (state / name).write_text(json.dumps({**document, "format": 99}))


def gone(state: Path) -> None:
    (state / "ledger.json").unlink()
    (state / "ledger.copy.json").unlink()


DIGEST = hashlib.sha256(b"garbage\n").hexdigest()[:12]
KEPT = (
    "what stood here before mirror-agent is not known any more; nothing in /var/lib/mirror-agent/originals is removed"
    " as long as that file stands"
)
LOSSES = {
    garbage: f"the ledger was damaged, and is kept as ledger.damaged-{DIGEST}: {KEPT}",
    gone: f"the ledger is gone, which ledger.missing bears in mind: {KEPT}",
}


@pytest.mark.parametrize("spoil", LOSSES)
def test_a_lost_ledger_is_said_at_each_start_and_costs_no_original(machine: Machine, spoil: Spoil) -> None:
    """An ERROR of its own kind at each of three starts; no kept original goes; the node stays as desired meanwhile."""
    machine.start()
    desired = machine.hosts.read_text(), machine.daemon_json.read_text()
    spoil(machine.state)
    for _ in range(3):
        found = [(event.level, event.message) for event in machine.start() if event.kind is Kind.LEDGER]
        assert found == [(Level.ERROR, f"/var/lib/mirror-agent/ledger.json: {LOSSES[spoil]}")]
    assert machine.originals >= {FOREIGN_HOSTS, FOREIGN_JSON}
    assert (machine.hosts.read_text(), machine.daemon_json.read_text()) == desired


@pytest.mark.parametrize("spoil", LOSSES)
def test_status_shows_a_lost_ledger(machine: Machine, spoil: Spoil) -> None:
    """As a line of its own, and in JSON; what is live stays live."""
    machine.start()
    assert json.loads(machine.call("status", "--json")[1])["ledger"] == ""
    spoil(machine.state)
    machine.start()
    assert f"ledger      {LOSSES[spoil]}" in machine.call("status")[1].splitlines()
    assert json.loads(machine.call("status", "--json")[1])["ledger"] == LOSSES[spoil]
    assert json.loads((machine.root / "run/mirror-agent/status.json").read_text())["ledger"] == LOSSES[spoil]


@pytest.mark.parametrize("spoil", LOSSES)
def test_revert_says_what_it_cannot_give_back(machine: Machine, spoil: Spoil) -> None:
    """Exit 1, each file by name, where the kept originals are; and never that all is as it was before."""
    machine.start()
    spoil(machine.state)
    for _ in range(3):
        machine.start()
    code, out = machine.call("revert")
    lines = out.splitlines()
    assert code == 1
    assert [line for line in lines if "is not known" in line] == [
        "/etc/containerd/certs.d/docker.io/hosts.toml: what stood there before mirror-agent is not known; the file of"
        " mirror-agent was removed",
        "/etc/containerd/certs.d/old.io/hosts.toml: what stood there before mirror-agent is not known; the file of"
        " mirror-agent was removed",
        "/etc/docker/daemon.json: what stood there before mirror-agent is not known; what it found there then stays",
        LOSSES[spoil],
    ]
    assert lines[-1].startswith("not everything could be given back; the rest converged on what stood here before")
    assert machine.originals >= {FOREIGN_HOSTS, FOREIGN_JSON}


def strays(machine: Machine) -> list[str]:
    """The lines that must name the two files of the operator, the first kept first."""
    found = sorted((machine.state / "originals").iterdir(), key=lambda each: each.stat().st_mtime_ns)
    form = {FOREIGN_HOSTS: "a hosts.toml for old.io", FOREIGN_JSON: "Docker's daemon.json"}
    shown = [(each.name, form[text]) for each in found if (text := each.read_text()) in form]
    assert len(shown) == 2
    return [f"/var/lib/mirror-agent/originals/{name}: looks like {form}, kept since " for name, form in shown]


@pytest.mark.parametrize("spoil", LOSSES)
def test_what_was_kept_and_belongs_nowhere_any_more_is_named(machine: Machine, spoil: Spoil) -> None:
    """Each file by its path and by what it looks like, in `status`, as root and from the daemon, and at the end of
    `revert`; to scripts too. While nothing is lost there is none."""
    machine.start()
    assert json.loads(machine.call("status", "--json")[1])["strays"] == []
    spoil(machine.state)
    machine.start()
    expected = strays(machine)
    shown = [line for line in machine.call("status")[1].splitlines() if line.startswith("kept  ")]
    assert [
        line.removeprefix("kept        ")[: len(each)] for line, each in zip(shown, expected, strict=True)
    ] == expected
    published = json.loads((machine.root / "run/mirror-agent/status.json").read_text())["strays"]
    assert published == json.loads(machine.call("status", "--json")[1])["strays"]
    assert [f"{each['path']}: looks like {each['form']}, kept since " for each in published] == expected
    lines = machine.call("revert")[1].splitlines()
    place = lines.index("kept, and nobody knows where it stood; put back by hand what belongs there:")
    kept = [line.strip() for line in lines[place + 1 :] if line.startswith("  ")]
    assert {line.partition("kept since ")[0] + "kept since " for line in kept} >= set(expected)


def test_revert_answers_scripts_about_a_lost_ledger(machine: Machine) -> None:
    """The files whose past is not known, and why."""
    machine.start()
    garbage(machine.state)
    machine.start()
    code, out = machine.call("revert", "--json")
    answer = json.loads(out)
    assert (code, answer["ledger"]) == (1, LOSSES[garbage])
    assert answer["not_given_back"] == [
        "/etc/containerd/certs.d/docker.io/hosts.toml",
        "/etc/containerd/certs.d/old.io/hosts.toml",
        "/etc/docker/daemon.json",
    ]


@pytest.mark.parametrize("what", ["garbage\n", "", None])
def test_the_copy_takes_the_place_of_a_damaged_ledger(machine: Machine, what: str | None) -> None:
    """The ledger is kept twice, and the copy is never older: one that is damaged or gone costs nothing, is said once,
    and everything comes back byte for byte."""
    machine.start()
    if what is None:
        (machine.state / "ledger.json").unlink()
    else:
        (machine.state / "ledger.json").write_text(what)
    word = "gone" if what is None else "damaged"
    assert machine.said() == [
        f"/var/lib/mirror-agent/ledger.json: was {word}; its copy was whole and has taken its place: nothing is lost"
    ]
    assert machine.said() == []
    code, out = machine.call("revert")
    assert (code, machine.hosts.read_text(), machine.daemon_json.read_text()) == (0, FOREIGN_HOSTS, FOREIGN_JSON)
    assert "converged on what stood here before mirror-agent" in out


def test_a_newer_ledger_is_set_aside_and_taken_up_again(machine: Machine) -> None:
    """An older version goes on without it and harms nothing of it; whoever can read it, the newer version after the
    next upgrade, knows again what stood there, and all comes back byte for byte."""
    machine.start()
    whole = (machine.state / "ledger.json").read_bytes()
    newer(machine.state)
    aside = (machine.state / "ledger.json").read_bytes()
    for _ in range(3):
        assert [line.partition(", and is kept as ledger.newer-")[0] for line in machine.said()] == [
            "/var/lib/mirror-agent/ledger.json: the ledger is of a newer mirror-agent (format 99)"
        ]
    kept = next(machine.state.glob("ledger.newer-*"))
    assert kept.read_bytes() == aside
    kept.write_bytes(whole)  # what the newer version reads there
    assert machine.said() == [
        f"/var/lib/mirror-agent/{kept.name}: can be read: what stood here before mirror-agent is known again"
    ]
    assert (machine.said(), kept.exists()) == ([], False)
    code, _ = machine.call("revert")
    assert (code, machine.hosts.read_text(), machine.daemon_json.read_text()) == (0, FOREIGN_HOSTS, FOREIGN_JSON)


@pytest.mark.parametrize("command", ["plan", "status"])
def test_who_only_looks_moves_nothing(machine: Machine, command: str) -> None:
    """A damaged ledger is set aside by who holds the lock, not by a command that touches nothing."""
    machine.start()
    garbage(machine.state)
    before = {path: path.read_bytes() for path in machine.root.rglob("*") if path.is_file()}
    machine.call(command)
    assert {path: path.read_bytes() for path in machine.root.rglob("*") if path.is_file()} == before


def test_a_first_start_has_lost_nothing(machine: Machine) -> None:
    """Nor has one that was killed before it had anything: nothing is said, and all comes back."""
    assert machine.said() == []
    assert machine.said() == []
    assert machine.call("revert")[0] == 0
