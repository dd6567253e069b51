"""The metrics file on a machine: when it is written, where it goes, and that nothing depends on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import exposition
from agent.errors import StaleNamespaceError
from agent.events import Event, Kind
from agent.exposition import SIGN_OF_LIFE_SECONDS
from agent.keeper import Keeper
from agent.metrics import HEADER
from agent.model import Now
from agent.node import Places, RealHost
from agent.status import decode
from agent.targets import Sample, encode_samples
from agent.verdict import Verdict
from tests.exposition_format import parse

CONFIG = "/etc/mirror-agent.yaml"
STATE = """\
version: 1
containerd: {{manage: true}}
registries: {{ghcr.io: {{mirrors: ["https://{mirror}"]}}}}
metrics: {{directory: {directory}}}
"""
DIRECTORY = "/var/lib/prometheus/node-exporter"
FILE = f"{DIRECTORY}/mirror-agent.prom"
START = 1_800_000_000.0


class Clockwork(RealHost):
    """Time goes on when it is told to, and a directory can be one that the service manager has not bound for us."""

    seconds = START
    is_fenced = False

    def expose(self, path: str, content: bytes) -> None:
        if self.is_fenced:
            raise StaleNamespaceError(path, "read-only file system (EROFS)")
        super().expose(path, content)

    def now(self) -> Now:
        return Now(self.seconds, 12 * 60)


class Machine:
    """A root with a desired state that asks for metrics; `start` again is a new process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self.inside(DIRECTORY).mkdir(parents=True)
        self.inside("/etc/containerd").mkdir(parents=True)
        self.inside("/usr/bin").mkdir(parents=True)
        self.inside("/usr/bin/containerd").touch()
        self.edit()
        self.start()

    def start(self) -> None:
        self.host = Clockwork(Places(root=str(self.root)))
        self.keeper = Keeper(self.host, CONFIG, self.events.append, owner=os.geteuid())
        self.keeper.start()

    def edit(self, directory: str = DIRECTORY, mirror: str = "m.example") -> None:
        text = STATE.format(directory=directory, mirror=mirror)
        path = self.inside(CONFIG)
        path.write_text(text if directory else text.rpartition("metrics:")[0])
        path.chmod(0o640)

    def inside(self, path: str) -> Path:
        return self.root / path[1:]

    def cycle(self) -> None:
        self.keeper.look(acts=True)
        self.keeper.publish()

    def later(self, seconds: float) -> None:
        self.host.seconds += seconds
        self.cycle()

    def value(self, name: str, directory: str = DIRECTORY) -> list[float]:
        """The values of one metric's series."""
        found = parse(self.inside(f"{directory}/mirror-agent.prom").read_bytes())
        return list(found[name].series.values()) if name in found else []

    def stamp(self) -> tuple[int, int]:
        info = self.inside(FILE).stat()
        return info.st_ino, info.st_mtime_ns

    def complaints(self) -> list[str]:
        found = [each.message for each in self.events if each.kind in {Kind.FAILED, Kind.RECOVERED}]
        self.events.clear()
        return found

    def error(self) -> str:
        """What status.json says about metrics."""
        status = decode(self.inside("/run/mirror-agent/status.json").read_bytes())
        assert status is not None
        return status.metrics_error


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_first_cycle_is_told(machine: Machine) -> None:
    """For everybody to read, whole, with what the cycle did, and no temporary file beside it."""
    machine.cycle()
    assert machine.inside(FILE).stat().st_mode & 0o7777 == 0o644
    assert os.listdir(machine.inside(DIRECTORY)) == ["mirror-agent.prom"]
    assert machine.value("mirror_agent_files_written_total") == [2]
    assert machine.value("mirror_agent_converged") == [1]
    assert machine.value("mirror_agent_last_converge_timestamp_seconds") == [START]


def test_an_idle_node_writes_nothing(machine: Machine) -> None:
    """Looks that find nothing to do leave the file as it is, within the interval of the sign of life."""
    machine.cycle()
    before = machine.stamp()
    machine.later(SIGN_OF_LIFE_SECONDS / 2)
    machine.later(1)
    assert machine.stamp() == before


@pytest.mark.parametrize("seconds", [SIGN_OF_LIFE_SECONDS, 30 * SIGN_OF_LIFE_SECONDS, -SIGN_OF_LIFE_SECONDS])
def test_the_age_of_the_file_is_a_sign_of_life(machine: Machine, seconds: float) -> None:
    """Written again with the same bytes when its last time is long ago, or in the future because the clock was set."""
    machine.cycle()
    before, content = machine.stamp(), machine.inside(FILE).read_bytes()
    machine.later(seconds)
    assert machine.stamp() != before
    assert machine.inside(FILE).read_bytes() == content


def test_drift_is_counted(machine: Machine) -> None:
    """Somebody else's change that was put right, and when."""
    machine.cycle()
    machine.inside("/etc/containerd/certs.d/ghcr.io/hosts.toml").unlink()
    machine.later(60)
    assert machine.value("mirror_agent_drift_repaired_total") == [1]
    assert machine.value("mirror_agent_files_written_total") == [3]
    assert machine.value("mirror_agent_last_converge_timestamp_seconds") == [START + 60]


def test_an_edit_is_no_drift(machine: Machine) -> None:
    """It has a new generation."""
    machine.cycle()
    machine.edit(mirror="other.example")
    machine.cycle()
    assert machine.value("mirror_agent_drift_repaired_total") == [0]
    assert machine.value("mirror_agent_files_written_total") == [3]


def test_an_invalid_edit_is_told(machine: Machine) -> None:
    """The metrics stay where the state in force wants them."""
    machine.cycle()
    machine.inside(CONFIG).write_text("nonsense: true\n")
    machine.cycle()
    assert machine.value("mirror_agent_desired_state_valid") == [0]


def test_mirrors_are_told_with_the_next_publish(machine: Machine) -> None:
    """What the probes found, as `status` has it; one that only turns something away is up."""
    path = machine.inside(CONFIG)
    path.write_text(path.read_text() + "health: {enabled: true}\n")
    machine.cycle()
    assert (machine.value("mirror_agent_mirror_up"), machine.value("mirror_agent_mirror_in_use")) == ([], [1])
    verdicts = machine.inside("/run/mirror-agent-probe/verdicts.json")
    verdicts.parent.mkdir()
    for verdict, is_up in ((Verdict.HANGING, 0), (Verdict.DENIED, 1), (Verdict.OK, 1)):
        machine.host.seconds += 60.0
        sample = Sample("ghcr.io", "https://m.example", verdict, "was so", machine.host.seconds, 0.25)
        verdicts.write_bytes(encode_samples((sample,)))
        machine.cycle()
        assert machine.value("mirror_agent_mirror_up") == [is_up]
    assert machine.value("mirror_agent_mirror_latency_seconds") == [0.25]


def test_a_failover_is_counted(machine: Machine) -> None:
    """Each mirror that is taken out."""
    machine.keeper.exposition.failed_over(1)
    machine.keeper.exposition.failed_over(1)
    machine.cycle()
    assert machine.value("mirror_agent_failovers_total") == [2]


def test_a_file_that_somebody_removed_comes_back(machine: Machine) -> None:
    """With the next publish."""
    machine.cycle()
    machine.inside(FILE).unlink()
    machine.cycle()
    assert machine.value("mirror_agent_converged") == [1]


@pytest.mark.parametrize("directory", ["/var/lib/node_exporter", ""])
def test_the_file_moves_with_the_desired_state(machine: Machine, directory: str) -> None:
    """When the desired state names another directory, or none, ours is gone from the old one, and only ours."""
    machine.inside("/var/lib/node_exporter").mkdir()
    machine.cycle()
    machine.inside(f"{DIRECTORY}/other.prom").write_text("x 1\n")
    machine.edit(directory)
    machine.cycle()
    assert os.listdir(machine.inside(DIRECTORY)) == ["other.prom"]
    assert os.listdir(machine.inside("/var/lib/node_exporter")) == (["mirror-agent.prom"] if directory else [])
    assert machine.complaints() == []


def test_the_file_goes_although_the_agent_was_killed_meanwhile(machine: Machine) -> None:
    """Where it was is remembered in the state directory, not by a process."""
    machine.cycle()
    machine.edit("")
    machine.start()
    machine.cycle()
    assert os.listdir(machine.inside(DIRECTORY)) == []


def test_a_file_of_somebody_else_stays(machine: Machine) -> None:
    """Ours begins with our line; another one of this name is not removed."""
    machine.cycle()
    machine.inside(FILE).write_text("up 1\n")
    machine.edit("")
    machine.cycle()
    assert machine.inside(FILE).read_text() == "up 1\n"


def test_a_link_in_its_place_is_replaced_and_not_followed(machine: Machine) -> None:
    """Whoever may write in that directory cannot make us write elsewhere."""
    victim = machine.inside("/etc/victim")
    victim.write_text("mine\n")
    machine.inside(FILE).symlink_to("/etc/victim")
    machine.cycle()
    assert victim.read_text() == "mine\n"
    assert not machine.inside(FILE).is_symlink()
    assert machine.inside(FILE).read_text().startswith(HEADER)


def test_a_missing_directory_is_said_once(machine: Machine) -> None:
    """A warning and a line in status; everything else converges; when it is there, the metrics come, which is said."""
    machine.inside(DIRECTORY).rmdir()
    machine.cycle()
    error = f"{FILE}: no such directory (ENOENT); {DIRECTORY} is missing"
    assert machine.complaints() == [f"metrics: {error}; everything else goes on"]
    assert machine.inside("/etc/containerd/certs.d/ghcr.io/hosts.toml").exists()
    machine.cycle()
    assert (machine.complaints(), machine.error()) == ([], error)
    machine.inside(DIRECTORY).mkdir()
    machine.cycle()
    assert (machine.complaints(), machine.error()) == ([f"metrics: {FILE} is written again"], "")
    assert machine.value("mirror_agent_converged") == [1]


def test_a_directory_that_cannot_be_written_is_said_once(machine: Machine) -> None:
    """Here a directory stands where the file should be: no try leaves anything behind."""
    machine.inside(FILE).mkdir()
    machine.cycle()
    machine.cycle()
    (complaint,) = machine.complaints()
    assert complaint.startswith(f"metrics: {FILE}: is a directory (EISDIR)")
    assert os.listdir(machine.inside(DIRECTORY)) == ["mirror-agent.prom"]


def test_a_directory_that_only_a_new_process_can_write(machine: Machine) -> None:
    """node_exporter was installed after the agent: the loop is told, as for a runtime's directory."""
    machine.host.is_fenced = True
    machine.cycle()
    fenced = machine.keeper.exposition.is_stale
    machine.host.is_fenced = False
    machine.cycle()
    assert (fenced, machine.keeper.exposition.is_stale) == (True, False)


def test_the_status_is_live_without_metrics(machine: Machine) -> None:
    """Mirrors are what the agent is for."""
    machine.inside(DIRECTORY).rmdir()
    machine.cycle()
    assert machine.error() != ""
    assert machine.keeper.status.is_live


def test_nothing_stays_of_an_agent_that_has_stopped(machine: Machine) -> None:
    """What it said would soon be untrue; a new one writes it again."""
    machine.cycle()
    machine.keeper.close()
    assert os.listdir(machine.inside(DIRECTORY)) == []
    machine.start()
    machine.cycle()
    assert machine.value("mirror_agent_converged") == [1]
    assert machine.complaints() == []


def test_revert_removes_what_a_killed_agent_has_left(machine: Machine) -> None:
    """Nothing of the agent stays."""
    machine.cycle()
    exposition.forget(machine.host)
    exposition.forget(machine.host)
    assert os.listdir(machine.inside(DIRECTORY)) == []


def test_without_a_directory_nothing_is_kept(machine: Machine) -> None:
    """A node that wants no metrics has no trace of them."""
    machine.edit("")
    machine.start()
    machine.cycle()
    machine.keeper.close()
    assert not machine.inside("/var/lib/mirror-agent/metrics-directory").exists()
    assert os.listdir(machine.inside(DIRECTORY)) == []
