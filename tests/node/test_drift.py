"""Somebody else's hands in the managed files: ours is repaired, theirs is kept to the byte."""

import json

import pytest

from agent.events import Kind
from tests.node.pulls import docker_mirrors
from tests.node.rig import CERTS_D, DAEMON_JSON, Rig
from tests.node.service import CONVERGE_DEADLINE_SECONDS, Service, desired_state, hosts_path
from tests.node.waiting import wait_until

REPAIR_DEADLINE_SECONDS = 5.0
_MUTATIONS = {
    "edit": "sed -i s/127.0.0.1:5001/127.0.0.1:9/ {path}",
    "delete": "rm {path}",
    "chmod": "chmod 0600 {path}",
    "replace": "sed s/5001/9/ {path} > /etc/elsewhere; mv /etc/elsewhere {path}",
    "truncate": ": > {path}",
}
_FOREIGN_JSON = """{
    "labels": [ "site=a",   "rack=7" ],
    "max-concurrent-downloads": 10,
    "debug" : false,
    "registry-mirrors": ["https://old.example"],
    "shutdown-timeout":20
}
"""
_FOREIGN_LINES = ('"labels": [ "site=a",   "rack=7" ]', '"debug" : false', '"shutdown-timeout":20')
_FOREIGN_TOML = '# mine\nserver = "https://quay.io"\n\n[host."https://quay.example"]\n'


@pytest.mark.parametrize(
    ("path", "mutation"),
    [
        pytest.param(path, mutation, id=f"{path.rpartition('/')[2]}-{mutation}")
        for path in (hosts_path("docker.io"), DAEMON_JSON)
        for mutation in _MUTATIONS
        if (path, mutation) != (DAEMON_JSON, "chmod")
    ],
)
def test_drift_is_repaired(rig: Rig, service: Service, path: str, mutation: str) -> None:
    """Whatever is done to a managed file, within seconds it is as before: bytes, mode and owner; Docker lives on."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    before, life, cursor = rig.node.tree(path), rig.node.life("docker"), rig.node.cursor()
    assert before[path][1] == "644"
    rig.node.run(_MUTATIONS[mutation].format(path=path))
    wait_until(lambda: rig.node.tree(path) == before, REPAIR_DEADLINE_SECONDS, f"{path} to be as before")
    service.await_nothing_pending()
    assert (docker_mirrors(rig.node), rig.node.life("docker")) == ([rig.first.url + "/"], life)
    service.await_event(Kind.DRIFT, after=cursor)
    assert path in [entry["MIRROR_AGENT_PATH"] for entry in service.events(Kind.WROTE, cursor)]


def test_the_mode_of_daemon_json_is_the_operators(rig: Rig, service: Service) -> None:
    """Only keys are ours in daemon.json: a mode that somebody gave it stays, through repairs too."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    rig.node.run(f"chmod 0600 {DAEMON_JSON}; sed -i s/5001/9/ {DAEMON_JSON}")
    wait_until(lambda: rig.first.url in rig.node.text(DAEMON_JSON), REPAIR_DEADLINE_SECONDS, "the mirror again")
    assert rig.node.tree(DAEMON_JSON)[DAEMON_JSON][1] == "600"


def test_foreign_registries_keep_their_bytes_inode_and_mtime(rig: Rig, service: Service) -> None:
    """A registry that the desired state does not name is not even touched, whatever the agent writes beside it."""
    rig.node.put(hosts_path("quay.io"), _FOREIGN_TOML)
    rig.node.put(f"{CERTS_D}/registry.lan:5000/ca.crt", "not ours\n", 0o600)
    foreign = (f"{CERTS_D}/quay.io", f"{CERTS_D}/registry.lan:5000")
    before = rig.node.identity(*foreign)
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    service.desire(desired_state({"docker.io": [rig.second.url], "ghcr.io": [rig.second.url]}))
    service.await_mirror("ghcr.io", rig.second.url)
    service.desire(desired_state({}))
    wait_until(lambda: not rig.node.exists(hosts_path("ghcr.io")), REPAIR_DEADLINE_SECONDS, "ghcr.io to be taken back")
    service.await_nothing_pending()
    assert rig.node.identity(*foreign) == before


def test_foreign_keys_of_daemon_json_keep_their_text(rig: Rig, service: Service) -> None:
    """Foreign keys stay as they were typed, in their order; when ours goes, the file is again what it was."""
    rig.node.put(DAEMON_JSON, _FOREIGN_JSON, 0o640)
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    during = rig.node.text(DAEMON_JSON)
    assert [line for line in _FOREIGN_LINES if line not in during] == []
    assert list(json.loads(during)) == list(json.loads(_FOREIGN_JSON))
    assert json.loads(during) == {**json.loads(_FOREIGN_JSON), "registry-mirrors": [rig.first.url]}
    service.desire(desired_state({}))
    wait_until(lambda: "old.example" in rig.node.text(DAEMON_JSON), REPAIR_DEADLINE_SECONDS, "the old mirror")
    service.await_docker("https://old.example")
    found = rig.node.tree(DAEMON_JSON)[DAEMON_JSON]
    assert found == ("-", "640", 0, 0, _FOREIGN_JSON)


def test_a_foreign_key_added_later_is_kept(rig: Rig, service: Service) -> None:
    """Another tool rewrites daemon.json with a key of its own and without ours: both are there afterwards."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    rig.node.run(f"echo '{{\"debug\": true}}' > {DAEMON_JSON}")
    expected = {"debug": True, "registry-mirrors": [rig.first.url]}

    def merged() -> bool:
        text = rig.node.text(DAEMON_JSON)
        return bool(text) and json.loads(text) == expected

    wait_until(merged, REPAIR_DEADLINE_SECONDS, "both keys in daemon.json")


def test_certs_d_comes_back_when_it_is_deleted(rig: Rig, service: Service) -> None:
    """The whole certs.d deleted: every managed file is there again, with the modes it had."""
    service.start_with(desired_state({"docker.io": [rig.first.url], "ghcr.io": [rig.second.url]}))
    before = rig.node.tree(CERTS_D)
    _take_away(rig, CERTS_D)
    wait_until(lambda: rig.node.tree(CERTS_D) == before, REPAIR_DEADLINE_SECONDS, "certs.d to be as before")
    _take_away(rig, CERTS_D)
    wait_until(lambda: rig.node.tree(CERTS_D) == before, REPAIR_DEADLINE_SECONDS, "certs.d once more")


def _take_away(rig: Rig, directory: str) -> None:
    """Delete it although it is repaired meanwhile, from the first file on that goes."""
    rig.node.run(f"for attempt in $(seq 200); do rm -rf {directory} 2>/dev/null && exit 0; done; exit 1")


@pytest.mark.parametrize("directory", ["/etc/docker", "/etc/containerd"])
def test_a_reinstalled_runtimes_directory_is_converged_again(rig: Rig, service: Service, directory: str) -> None:
    """Deleted and recreated, the directory is read-only for the running unit: it asks systemd for a
    restart (exit 75), once, and writes there."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    path = DAEMON_JSON if directory == "/etc/docker" else hosts_path("docker.io")
    content = rig.node.read(path)
    _take_away(rig, directory)
    rig.node.run(f"mkdir -p {directory}")
    wait_until(lambda: rig.node.text(path).encode() == content, 3 * CONVERGE_DEADLINE_SECONDS, f"{path} again")
    wait_until(lambda: service.restarts() == 1, CONVERGE_DEADLINE_SECONDS, "one restart by systemd")
    # Files come before READY=1, so what was awaited above may be there a moment earlier.
    wait_until(
        lambda: rig.node.show("mirror-agent", "ActiveState")["ActiveState"] == "active",
        CONVERGE_DEADLINE_SECONDS,
        "the restarted service to be up",
    )
