"""How each runtime can be put to the test, and when there is nothing to test."""

from dataclasses import replace

import pytest

from agent.model import (
    ActiveState,
    CommandResult,
    ContainerdSettings,
    DesiredState,
    DockerSettings,
    Manage,
    Mirror,
    Registry,
    Regular,
    RuntimeReport,
    UnitState,
)
from agent.proof import Bait, Proof, Via
from agent.runtimes._containerd_config import Daemon
from agent.runtimes._containerd_proof import proof as containerd_proof
from agent.runtimes._docker_certs import Certs
from agent.runtimes._docker_info import Info
from agent.runtimes._docker_proof import proof as docker_proof

HUB = Registry("docker.io", "https://registry-1.docker.io", (Mirror("https://m.example"),))
DESIRED = DesiredState("g", registries=(HUB,))
CERTS_D = "/etc/containerd/certs.d"
UP = UnitState(ActiveState.ACTIVE, True, "running", 600, "i1", 2_000.0)
SETS = f'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "{CERTS_D}"\n'
DAEMON = Daemon(
    unit=UP,
    program="/usr/bin/containerd",
    version_output="containerd github.com/containerd/containerd 1.7.24~ds1 abc",
    config_path="/etc/containerd/config.toml",
    config=Regular(SETS.encode()),
    config_written_at=1_000.0,
    dump=CommandResult(0, SETS, ""),
)
BAIT = Bait("containerd", "containerd", CERTS_D, "/run/containerd/containerd.sock", Via.CRI)


def with_config(text: str, **fields: object) -> Daemon:
    return replace(DAEMON, config=Regular(text.encode()), dump=CommandResult(0, text, ""), **fields)  # type: ignore[arg-type]


def test_containerd_is_tested_in_the_directory_that_is_desired() -> None:
    """At the default socket; with nothing known to be wrong."""
    assert containerd_proof(DESIRED, DAEMON) == BAIT
    moved = replace(DESIRED, containerd=ContainerdSettings(certs_dir="/srv/certs.d"))
    found = containerd_proof(moved, DAEMON)
    assert isinstance(found, Bait)
    assert (found.directory, found.cause) == (
        "/srv/certs.d",
        f"containerd reads {CERTS_D}: name that as containerd.certs_dir, "
        'or set config_path = "/srv/certs.d" in its place',
    )


@pytest.mark.parametrize(
    ("arguments", "config", "path"),
    [
        ((), '[grpc]\naddress = "/run/other.sock"\n', "/run/other.sock"),
        (("/usr/bin/containerd", "--address", "/run/a.sock"), '[grpc]\naddress = "/run/other.sock"\n', "/run/a.sock"),
        (("/usr/bin/containerd", "-a=/run/a.sock"), "", "/run/a.sock"),
        ((), "[grpc]\naddress = 5\n", BAIT.socket),
        ((), "grpc = 5\n", BAIT.socket),
    ],
)
def test_its_socket_is_where_it_listens(arguments: tuple[str, ...], config: str, path: str) -> None:
    """Its flag, then its configuration, then the default."""
    lines = config + SETS.partition("\n")[2] if config.startswith("grpc") else SETS + config
    found = containerd_proof(DESIRED, with_config(lines, arguments=arguments))
    assert isinstance(found, Bait)
    assert found.socket == path


def test_what_is_known_to_be_wrong_goes_along() -> None:
    """It is tested all the same: the test is what counts."""
    found = containerd_proof(DESIRED, replace(DAEMON, config_written_at=3_000.0))
    assert isinstance(found, Bait)
    assert found.cause.startswith("restart pending")


@pytest.mark.parametrize(
    ("desired", "daemon", "sentence"),
    [
        (
            replace(DESIRED, containerd=ContainerdSettings(manage=Manage.NEVER)),
            DAEMON,
            "not managed (containerd.manage is false)",
        ),
        (DESIRED, Daemon(), "not installed"),
        (DESIRED, replace(DAEMON, unit=UnitState(ActiveState.INACTIVE, True)), "not running"),
        (
            DESIRED,
            replace(DAEMON, version_output="containerd containerd.io 1.4.13~ds1 abc"),
            "containerd 1.4.13 reads no hosts.toml, so a pull cannot prove anything",
        ),
        (
            DESIRED,
            with_config('disabled_plugins = ["cri"]\n'),
            "CRI is off in its configuration: only Docker uses this containerd, nothing is needed here",
        ),
    ],
)
def test_where_containerd_has_nothing_to_prove(desired: DesiredState, daemon: Daemon, sentence: str) -> None:
    """Nothing is asked of a containerd that is not up, not ours, too old, or not used by kubelet."""
    assert containerd_proof(desired, daemon) == Proof("containerd", "containerd", None, sentence)


LIVE = RuntimeReport("docker", "Docker", True, "26.1.5", True, "the running daemon has it")
OLD, NEW = Info("26.1.5", containerd_store=True), Info("28.5.2", containerd_store=True)
CERTS = Certs(registries=(HUB,))
SAYS = "the running dockerd itself says what it has loaded (/info)"


@pytest.mark.parametrize(
    ("info", "certs", "report", "expected"),
    [
        (OLD, CERTS, LIVE, Proof("docker", "Docker", True, SAYS)),
        (OLD, CERTS, replace(LIVE, live=False, sentence="waits"), Proof("docker", "Docker", False, "waits")),
        (Info("28.5.2"), CERTS, LIVE, Proof("docker", "Docker", True, SAYS)),
        (NEW, Certs(), LIVE, Proof("docker", "Docker", True, SAYS)),
        (NEW, CERTS, LIVE, Bait("docker", "Docker", "/etc/docker/certs.d", "/run/docker.sock", Via.DOCKER)),
        (
            NEW,
            CERTS,
            replace(LIVE, live=False, sentence="waits"),
            Bait("docker", "Docker", "/etc/docker/certs.d", "/run/docker.sock", Via.DOCKER, "waits"),
        ),
        (None, CERTS, replace(LIVE, live=None, sentence="not running"), Proof("docker", "Docker", None, "not running")),
    ],
)
def test_docker_says_itself_what_it_has_and_is_tested_where_it_reads_files(
    info: Info | None, certs: Certs, report: RuntimeReport, expected: Bait | Proof
) -> None:
    """/info is the proof of daemon.json; a pull is the one of hosts.toml, where this Docker reads any."""
    assert docker_proof(DESIRED, info, certs, report) == expected


def test_a_docker_that_is_not_managed_has_nothing_to_prove() -> None:
    """Even if it runs."""
    desired = replace(DESIRED, docker=DockerSettings(manage=Manage.NEVER))
    report = replace(LIVE, live=None, sentence="not managed (docker.manage is false)")
    assert docker_proof(desired, NEW, CERTS, report) == Proof("docker", "Docker", None, report.sentence)
