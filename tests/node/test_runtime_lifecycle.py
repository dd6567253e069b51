"""Runtimes that stop, start, go, come back and are upgraded while the agent runs: noticed, converged, never started by
us and never restarted for nothing."""

import json
from collections.abc import Iterator

import pytest

from agent.events import Kind
from tests.node.machine import Node
from tests.node.pulls import cri_pull, docker_mirrors
from tests.node.rig import DAEMON_JSON, GHCR_IMAGE, Rig, needs_hosts_toml
from tests.node.service import RESYNC_DEADLINE_SECONDS, Service, desired_state, hosts_path, starts_of
from tests.node.waiting import wait_until

pytestmark = needs_hosts_toml
TROUBLE = (Kind.FAILED, Kind.BUG, Kind.CONTENDED)
ACTS = (Kind.RESTARTED, Kind.RELOADED)
# A package made anew from what is installed, maintainer scripts included: what apt would fetch, without a network.
_REPACK = """
set -e
name=$1 tree=/root/repacked/$1
mkdir -p "$tree/DEBIAN"
dpkg-query -W -f '${db:Status-Abbrev}' "$name" | grep -q ^ii
dpkg-query -s "$name" | grep -vE '^(Status|Conffiles| /etc/)' > "$tree/DEBIAN/control"
for part in preinst postinst prerm postrm conffiles; do
  for file in /var/lib/dpkg/info/"$name".$part /var/lib/dpkg/info/"$name":*.$part; do
    if [ -e "$file" ]; then cp "$file" "$tree/DEBIAN/$part"; fi
  done
done
dpkg -L "$name" | while read -r path; do
  if [ -d "$path" ]; then continue; fi
  if [ -L "$path" ] || [ -f "$path" ]; then mkdir -p "$tree${path%/*}"; cp -a "$path" "$tree$path"; fi
done
dpkg-deb --root-owner-group -Znone -b "$tree" "/root/repacked/$name.deb" >/dev/null
rm -r "$tree"
"""


@pytest.fixture
def runtimes(rig: Rig) -> Iterator[Rig]:
    """The rig; whatever a test did to the units is undone."""
    yield rig
    rig.node.run("systemctl unmask -q docker docker.socket containerd; systemctl reset-failed", check=False)
    rig.node.run("systemctl start containerd docker.socket docker")


def is_up(node: Node, unit: str) -> bool:
    return node.run(["systemctl", "is-active", "-q", unit], check=False).ok


def test_a_stopped_docker_is_not_started_and_has_it_when_it_is(runtimes: Rig, service: Service) -> None:
    """Stopped by an operator, edited meanwhile: the file is ready, the daemon stays down until the operator starts it,
    and then it has the mirrors without any act of ours."""
    node = runtimes.node
    service.start_with(desired_state({"docker.io": [runtimes.first.url]}))
    node.run("systemctl stop docker.socket docker")
    cursor = node.cursor()
    service.desire(desired_state({"docker.io": [runtimes.second.url]}))
    wait_until(lambda: runtimes.second.url in node.text(DAEMON_JSON), 10, "the file")
    service.await_nothing_pending()
    assert (is_up(node, "docker"), service.cli("status").rc) == (False, 0)
    node.run("systemctl start docker")
    service.await_docker(runtimes.second.url)
    wait_until(lambda: service.cli("status").rc == 0, RESYNC_DEADLINE_SECONDS, "status to be live")
    assert service.count(*ACTS, *TROUBLE, after=cursor) == {}
    assert starts_of(node, "docker.service", cursor) == 1


def test_a_masked_docker_that_runs_is_told_what_a_reload_can_tell(runtimes: Rig, service: Service) -> None:
    """It keeps its process; what needs a restart waits, is visible, and breaks nothing; unmasked, it is done."""
    node = runtimes.node
    service.start_with(desired_state({"docker.io": [runtimes.first.url]}))
    life = node.life("docker")
    node.run("systemctl mask docker.service")
    cursor = node.cursor()
    service.desire(desired_state({"docker.io": [runtimes.second.url]}))
    service.await_docker(runtimes.second.url)
    service.await_nothing_pending()
    assert node.life("docker") == life
    service.desire(desired_state({"docker.io": [runtimes.second.url]}, docker="{settings: {log-driver: local}}"))
    wait_until(lambda: '"local"' in node.text(DAEMON_JSON), 10, "the setting in the file")
    said = service.await_event(Kind.DEFERRED, after=cursor)
    assert "docker.service is masked" in str(said["MESSAGE"])
    assert service.cli("status").rc == 3
    assert (is_up(node, "docker"), node.life("docker"), docker_mirrors(node)) == (
        True,
        life,
        [f"{runtimes.second.url}/"],
    )
    node.run("systemctl unmask docker.service")
    wait_until(lambda: service.cli("status").rc == 0, 2 * RESYNC_DEADLINE_SECONDS, "the restart after the unmask")
    assert service.count(*TROUBLE, after=cursor) == {}
    assert starts_of(node, "docker.service", cursor) == 1


def test_a_stopped_containerd_is_not_started_and_has_it_when_it_is(runtimes: Rig, service: Service) -> None:
    """As with Docker; containerd reads hosts.toml with each pull."""
    node = runtimes.node
    service.start_with(desired_state({"ghcr.io": [runtimes.first.url]}))
    node.run("systemctl stop docker.socket docker containerd")
    cursor = node.cursor()
    service.desire(desired_state({"ghcr.io": [runtimes.second.url]}))
    service.await_mirror("ghcr.io", runtimes.second.url)
    service.await_nothing_pending()
    assert (is_up(node, "containerd"), service.cli("status").rc) == (False, 0)
    node.run("systemctl start containerd docker")
    assert cri_pull(node, GHCR_IMAGE).image_id == runtimes.second.pushed["org/app"].image_id
    wait_until(lambda: service.cli("status").rc == 0, RESYNC_DEADLINE_SECONDS, "status to be live")
    assert service.count(*ACTS, *TROUBLE, after=cursor) == {}
    assert starts_of(node, "containerd.service", cursor) == 1


@pytest.mark.parametrize(("unit", "program"), [("docker", "/usr/sbin/dockerd"), ("containerd", "/usr/bin/containerd")])
def test_an_upgraded_runtime_is_not_restarted_again(runtimes: Rig, service: Service, unit: str, program: str) -> None:
    """Another file in place of the program, and the restart that its package makes: nothing is left to do for us."""
    node = runtimes.node
    service.start_with(desired_state({"docker.io": [runtimes.first.url]}))
    cursor = node.cursor()
    node.run(f"cp -a $(readlink -f {program}) /root/new; mv /root/new $(readlink -f {program})")
    node.run(["systemctl", "restart", unit])
    service.await_docker(runtimes.first.url)
    service.pass_barrier(desired_state({"docker.io": [runtimes.first.url]}))
    wait_until(lambda: service.cli("status").rc == 0, RESYNC_DEADLINE_SECONDS, "status to be live")
    assert service.count(*ACTS, *TROUBLE, after=cursor) == {}
    assert starts_of(node, f"{unit}.service", cursor) == 1


def test_removed_and_reinstalled_runtimes_are_converged_again(fresh_rig: Rig, fresh_service: Service) -> None:
    """Both packages removed while the agent runs, containerd back first, Docker later: each has its mirrors within a
    resync, and nothing was started or restarted by us."""
    rig, service, node = fresh_rig, fresh_service, fresh_rig.node
    for name in ("containerd", "docker.io"):
        node.run(["bash", "-c", _REPACK, "repack", name], timeout_seconds=120)
    service.start_with(desired_state({"docker.io": [rig.first.url], "ghcr.io": [rig.first.url]}))
    pid, cursor = service.pid(), node.cursor()
    node.run("DEBIAN_FRONTEND=noninteractive apt-get remove -y -q containerd docker.io", timeout_seconds=120)
    assert not node.run("command -v containerd dockerd", check=False).ok
    service.desire(desired_state({"docker.io": [rig.second.url], "ghcr.io": [rig.second.url]}))
    service.await_nothing_pending()
    assert (service.cli("status").rc, service.cli("plan").rc) == (0, 0)
    install = "DEBIAN_FRONTEND=noninteractive dpkg --force-confold --force-depends -i /root/repacked/{}.deb"
    node.run(install.format("containerd"), timeout_seconds=120)
    wait_until(lambda: is_up(node, "containerd"), 30, "containerd, started by its package")
    service.await_mirror("ghcr.io", rig.second.url, RESYNC_DEADLINE_SECONDS)
    assert cri_pull(node, GHCR_IMAGE).image_id == rig.second.pushed["org/app"].image_id
    node.run(install.format("docker.io"), timeout_seconds=120)
    wait_until(lambda: is_up(node, "docker"), 30, "Docker, started by its package")
    service.await_docker(rig.second.url, deadline_seconds=RESYNC_DEADLINE_SECONDS)
    wait_until(lambda: service.cli("status").rc == 0, RESYNC_DEADLINE_SECONDS, "status to be live")
    assert service.count(Kind.RESTARTED, *TROUBLE, after=cursor) == {}
    assert (service.pid(), service.restarts()) == (pid, 0)
    assert json.loads(node.text(DAEMON_JSON))["registry-mirrors"] == [rig.second.url]
    assert node.exists(hosts_path("docker.io"))
