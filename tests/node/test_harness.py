"""The nodes themselves: what every other node test takes for granted, and what systemd offers on each suite."""

import re

import pytest

from tests.node.machine import Node
from tests.node.pulls import cri_pull, cri_remove, docker_mirrors, docker_pull, docker_remove
from tests.node.rig import CERTS_D, DAEMON_JSON, GHCR_IMAGE, HUB_IMAGE, Rig, needs_hosts_toml, reload_docker
from tests.node.waiting import wait_until

_VERSIONS = {"bullseye": "247", "bookworm": "252", "trixie": "257", "forky": "262"}
# containerd 1.4 does not know the setting.
_INVOCATION_LINK = "/run/systemd/units/invocation:docker.service"


def hosts_toml(url: str) -> str:
    return f'[host."{url}"]\n  capabilities = ["pull", "resolve"]\n'


def test_a_node_boots_with_both_runtimes(node: Node, suite: str) -> None:
    """A node runs the suite's systemd as init, with containerd and Docker active and no unit failed."""
    version = node.run("systemctl --version").out.split()[1]
    up = node.run("systemctl is-active containerd docker").out.split()
    failed = node.run("systemctl --failed --no-legend").out
    assert (version, up, failed) == (_VERSIONS[suite], ["active", "active"], "")


def test_a_reboot_keeps_the_disk_and_nothing_else(suite: str, fresh_rig: Rig) -> None:
    """Files under /etc survive a reboot, those under /run do not, and every unit has a new life."""
    node = fresh_rig.node
    node.put("/etc/kept", suite)
    node.put("/run/lost", suite)
    before = node.life("docker")[1]
    node.reboot()
    assert (node.text("/etc/kept"), node.exists("/run/lost"), node.life("docker")[1] != before) == (suite, False, True)


def test_nothing_beyond_loopback_is_reachable(node: Node) -> None:
    """A node has no route out, so no test can depend on, or disturb, anything outside."""
    assert node.run("ip route show default; ip -6 route show default").out == ""


@needs_hosts_toml
def test_kubelets_pull_goes_through_the_mirror(rig: Rig) -> None:
    """With config_path set, a hosts.toml written by hand sends the next CRI pull to the mirror; no restart."""
    rig.node.put(f"{CERTS_D}/docker.io/hosts.toml", hosts_toml(rig.first.url))
    before, mark = rig.node.life("containerd"), rig.first.mark()
    pull = cri_pull(rig.node, HUB_IMAGE)
    assert (pull.error, pull.image_id) == ("", rig.first.pushed["library/hello"].image_id)
    rig.first.await_request("HEAD /v2/library/hello/manifests/latest?ns=docker.io", since=mark)
    assert rig.node.life("containerd") == before


@needs_hosts_toml
def test_an_image_tells_which_mirror_served_it(rig: Rig) -> None:
    """After the mirror in hosts.toml changed, a repeated pull of the same name gives the other registry's image."""
    served = []
    for mirror in (rig.first, rig.second):
        rig.node.put(f"{CERTS_D}/ghcr.io/hosts.toml", hosts_toml(mirror.url))
        served.append(cri_pull(rig.node, GHCR_IMAGE).image_id)
        cri_remove(rig.node, GHCR_IMAGE)
    assert served == [mirror.pushed["org/app"].image_id for mirror in (rig.first, rig.second)]


def test_without_a_mirror_both_pulls_fail_with_the_runtimes_words(rig: Rig) -> None:
    """Upstream is unreachable in a node: a pull that works can only have come through a mirror."""
    for pull in (cri_pull(rig.node, HUB_IMAGE), docker_pull(rig.node, "hello")):
        assert not pull.ok
        assert "registry-1.docker.io" in pull.error, pull


def test_docker_pull_goes_through_the_mirror_after_a_reload(rig: Rig) -> None:
    """registry-mirrors written by hand and SIGHUP to the main process: `docker pull` uses the mirror, same process."""
    before = rig.node.life("docker")
    rig.node.put(DAEMON_JSON, f'{{"registry-mirrors": ["{rig.first.url}"]}}')
    reload_docker(rig.node)
    wait_until(lambda: docker_mirrors(rig.node) == [rig.first.url + "/"], 5, "the mirror in /info")
    mark = rig.first.mark()
    pull = docker_pull(rig.node, "hello")
    assert (pull.error, pull.image_id) == ("", rig.first.pushed["library/hello"].image_id)
    rig.first.await_request("/v2/library/hello/manifests/", since=mark)
    docker_remove(rig.node, "hello")
    assert rig.node.life("docker") == before


@needs_hosts_toml
def test_a_dead_mirror_is_refused_and_comes_back(rig: Rig) -> None:
    """A stopped registry refuses connections, so the next host serves; started again it serves, its images kept."""
    rig.node.put(f"{CERTS_D}/docker.io/hosts.toml", hosts_toml(rig.first.url) + hosts_toml(rig.second.url))
    rig.first.stop()
    assert cri_pull(rig.node, HUB_IMAGE).image_id == rig.second.pushed["library/hello"].image_id
    cri_remove(rig.node, HUB_IMAGE)
    rig.first.start()
    assert cri_pull(rig.node, HUB_IMAGE).image_id == rig.first.pushed["library/hello"].image_id


def test_the_reset_gives_a_clean_node(rig: Rig) -> None:
    """Whatever ran before: Docker has no mirror, no image, no daemon.json; certs.d and the desired state are absent."""
    images = rig.node.run("docker images -q; ctr -n k8s.io images list -q").out
    left = [path for path in (DAEMON_JSON, CERTS_D, "/etc/mirror-agent.yaml") if rig.node.exists(path)]
    assert (docker_mirrors(rig.node), images, left) == ([], "", [])


@pytest.mark.parametrize("unit", ["docker.service", "containerd.service"])
def test_the_invocation_is_a_link_that_changes_with_a_restart(node: Node, unit: str) -> None:
    """/run/systemd/units/invocation:UNIT is a link to the InvocationID; a restart changes it, a stop removes it."""
    link = f"/run/systemd/units/invocation:{unit}"
    seen = []
    for _ in range(2):
        node.run(["systemctl", "reset-failed", unit])
        node.run(["systemctl", "restart", unit])
        seen.append((node.run(["readlink", link]).out.strip(), node.life(unit)[1]))
    assert seen[0][0] == seen[0][1]
    assert seen[1][0] == seen[1][1]
    assert seen[0] != seen[1]
    node.run("systemctl stop docker.socket docker.service")
    lingers = node.exists(_INVOCATION_LINK)
    node.run("systemctl start docker.service")
    assert not lingers


def test_start_times_are_plain_numbers_in_the_monotonic_properties(node: Node, suite: str) -> None:
    """The …Monotonic properties are microseconds on every systemd; `--timestamp=` knows only `pretty` before 248."""
    shown = node.show("docker", "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    assert all(re.fullmatch(r"[1-9]\d+", value) for value in shown.values()), shown
    unix = node.run("systemctl show docker -p ExecMainStartTimestamp --timestamp=unix", check=False)
    assert unix.ok is (suite != "bullseye"), unix
    assert re.fullmatch(r"ExecMainStartTimestamp=@\d+\n", unix.out) or suite == "bullseye", unix
