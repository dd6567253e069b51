"""`status --prove` on real nodes: a pull that stays on the machine says whether the running daemon reads certs.d."""

import json

import pytest

from agent.prove import MARK, PREFIX
from tests.node.pulls import docker_info
from tests.node.rig import CERTS_D, DAEMON_JSON, Rig, needs_hosts_toml
from tests.node.service import Service, desired_state

CONFIG = "/etc/containerd/config.toml"
KEPT = "/root/etc-containerd/config.toml"
DOCKER_CERTS_D = "/etc/docker/certs.d"


def proof_of(service: Service, runtime: str) -> tuple[int, bool | None, str]:
    """Exit code, and what came of it for one runtime."""
    done = service.cli("status", "--prove", "--json")
    found = next(each for each in json.loads(done.raw_out)["proofs"] if each["runtime"] == runtime)
    return done.rc, found["proved"], found["sentence"]


@needs_hosts_toml
def test_a_running_containerd_that_reads_certs_d_proves_it(rig: Rig, service: Service) -> None:
    """Exit 0 and a sentence; nothing is left in certs.d, no image, and neither the agent nor containerd has done or
    changed anything."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    before, life, pid = rig.node.identity(CERTS_D), rig.node.life("containerd"), service.pid()
    shown = service.cli("status", "--prove")
    assert shown.rc == 0, shown.out
    assert f"proved      containerd: asked to pull, the running containerd went where {CERTS_D} says" in shown.out
    assert "proved      Docker: the running dockerd itself says what it has loaded (/info)" in shown.out
    after = rig.node.identity(CERTS_D)
    assert [(path, found) for path, found in after.items() if path != CERTS_D and before[path] != found] == []
    assert sorted(after) == sorted(before)
    assert (rig.node.life("containerd"), service.pid()) == (life, pid)
    assert rig.node.run("ctr -n k8s.io images ls -q").out == ""
    service.await_nothing_pending()


@needs_hosts_toml
def test_without_the_proof_the_cause_is_named(rig: Rig, service: Service) -> None:
    """config_path not set, set and not loaded yet, another directory, CRI off, containerd stopped: the
    sentence says which; exit 3 where containerd should have read it (Docker proves its own part all the time)."""
    node = rig.node
    service.desire(desired_state({"docker.io": [rig.first.url]}) + "containerd: {restart: never}\n")
    service.cli("apply")
    said: dict[str, tuple[int, bool | None, str]] = {}
    try:
        node.run(f"sed -i /config_path/d {CONFIG} && systemctl restart containerd")
        said["unset"] = proof_of(service, "containerd")
        node.run(f"cp -a {KEPT} {CONFIG}; touch {CONFIG}")
        said["pending"] = proof_of(service, "containerd")
        node.run(f"sed -i s,{CERTS_D},/etc/containerd/elsewhere, {CONFIG} && systemctl restart containerd")
        said["elsewhere"] = proof_of(service, "containerd")
        node.run(f"{{ echo 'disabled_plugins = [\"io.containerd.grpc.v1.cri\"]'; cat {KEPT}; }} > {CONFIG}")
        node.run("systemctl restart containerd")
        said["off"] = proof_of(service, "containerd")
        node.run(f"cp -a {KEPT} {CONFIG}; touch -d '2020-01-01' {CONFIG}")
        said["dead"] = proof_of(service, "containerd")
        node.run("systemctl stop containerd")
        said["stopped"] = proof_of(service, "containerd")
    finally:
        node.run(f"cp -a {KEPT} {CONFIG}; systemctl restart containerd docker")
    words = {
        "unset": (False, "config_path is not set"),
        "pending": (False, "restart pending"),
        "elsewhere": (False, "/etc/containerd/elsewhere"),
        "off": (None, "CRI is off"),
        "dead": (False, "off or did not load"),
        "stopped": (None, "not running"),
    }
    assert {name: (proved, words[name][1] in sentence) for name, (_, proved, sentence) in said.items()} == {
        name: (proved, True) for name, (proved, _) in words.items()
    }, said
    assert {name: rc for name, (rc, proved, _) in said.items() if proved is False} == dict.fromkeys(
        ("unset", "pending", "elsewhere", "dead"), 3
    )
    assert [name for name in node.tree(CERTS_D) if PREFIX in name] == []


@needs_hosts_toml
def test_what_a_killed_command_left_goes_with_the_next(rig: Rig, service: Service) -> None:
    """Killed at once or told to stop: the file is gone then, or with the next run; what is not ours to remove stays."""
    node = rig.node
    service.desire(desired_state({"docker.io": [rig.first.url]}))
    service.cli("apply")
    left, foreign = f"{CERTS_D}/{PREFIX}0123456789abcdef.invalid", f"{CERTS_D}/{PREFIX}mine.invalid"
    node.put(f"{left}/hosts.toml", f"{MARK}\n")
    node.put(f"{left}/.hosts.toml.mirror-agent", "half a li")
    node.put(f"{foreign}/hosts.toml", "# mine\n")
    assert service.cli("status", "--prove").rc == 0
    assert [node.exists(left), node.exists(f"{foreign}/hosts.toml")] == [False, True]


@pytest.mark.only_on("forky")
def test_docker_28_proves_that_it_reads_its_certs_d(fresh_rig: Rig, fresh_service: Service) -> None:
    """With the containerd image store dockerd is asked to pull, and comes to the listener; nothing is left behind."""
    rig, service, node = fresh_rig, fresh_service, fresh_rig.node
    node.put(DAEMON_JSON, json.dumps({"features": {"containerd-snapshotter": True}}))
    node.run("systemctl restart docker")
    assert "io.containerd.snapshotter.v1" in str(docker_info(node)["DriverStatus"])
    service.start_with(desired_state({"ghcr.io": [rig.second.url]}))
    assert proof_of(service, "docker") == (
        0,
        True,
        f"asked to pull, the running Docker went where {DOCKER_CERTS_D} says",
    )
    assert [name for name in node.tree(DOCKER_CERTS_D) if PREFIX in name] == []
