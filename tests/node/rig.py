"""What a node test works with: a node whose containerd reads certs.d, or one just as Debian ships it, and two mirrors
that tell themselves apart.

`reset` puts a used node back, fast (no restart where none is needed), so that one boot serves a whole run.
"""

import json
from dataclasses import dataclass

import pytest

from tests.node.machine import Node
from tests.node.pulls import cri_pull, docker_info, docker_mirrors, docker_pull
from tests.node.registry import Registry
from tests.node.waiting import wait_until

CERTS_D = "/etc/containerd/certs.d"
CONFIG_TOML = "/etc/containerd/config.toml"
DAEMON_JSON = "/etc/docker/daemon.json"
DESIRED_STATE = "/etc/mirror-agent.yaml"
HUB_IMAGE = "docker.io/library/hello:latest"
GHCR_IMAGE = "ghcr.io/org/app:latest"
RELOAD_DEADLINE_SECONDS = 10.0
needs_hosts_toml = pytest.mark.not_on("bullseye")
"""What is said of hosts.toml or config_path is nothing to a containerd before 1.5, which has neither."""
_CONFIG_PATH = f"""
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "{CERTS_D}"
"""


@dataclass(frozen=True, slots=True)
class Rig:
    """A node and two registries in it; both hold HUB_IMAGE and GHCR_IMAGE, each its own."""

    node: Node
    first: Registry
    second: Registry


def build_rig(node: Node) -> Rig:
    """Start the registries, fill them, and point containerd's CRI at certs.d (one restart of containerd)."""
    config = node.text(CONFIG_TOML)
    assert "config_path" not in config, config
    node.put(CONFIG_TOML, config.rstrip("\n") + "\n" + _CONFIG_PATH)
    node.run("systemctl restart containerd")
    return build_stock_rig(node)


def build_stock_rig(node: Node) -> Rig:
    """Start the registries and fill them; both runtimes stay as their packages set them up."""
    mirrors = [Registry(node, name, port).start() for name, port in (("first", 5001), ("second", 5002))]
    for mirror in mirrors:
        mirror.push("library/hello")
        mirror.push("org/app")
    node.run("cp -a /etc/docker /root/etc-docker; cp -a /etc/containerd /root/etc-containerd; systemctl start docker")
    return Rig(node, *mirrors)


_RESET = f"""
systemctl stop mirror-agent 2>/dev/null
for path in /etc/docker/daemon.json {CERTS_D} /etc/containerd /etc/docker; do
  while mountpoint -q "$path"; do umount "$path"; done
  chattr -R -f -i -a "$path"
done
systemctl stop mirror-agent-probe.timer mirror-agent-probe 2>/dev/null
rm -rf {DESIRED_STATE} /var/lib/mirror-agent /run/mirror-agent /etc/systemd/system/mirror-agent*.d
rm -rf /run/mirror-agent-probe /run/private/mirror-agent-probe
for name in docker containerd; do
  mkdir -p "/etc/$name"
  [ -f {CONFIG_TOML} ] && [ ! -L {CONFIG_TOML} ] && cmp -s /root/etc-containerd/config.toml {CONFIG_TOML} &&
    [ "$(stat -c %a:%u:%g {CONFIG_TOML})" = "$(stat -c %a:%u:%g /root/etc-containerd/config.toml)" ] &&
    keep=config.toml || keep=
  find "/etc/$name" -mindepth 1 ! -name "$keep" -delete
  cp -an "/root/etc-$name/." "/etc/$name/"
done
systemctl daemon-reload
systemctl reset-failed
[ -n "$keep" ] || systemctl restart containerd
[ $# = 0 ] || systemctl restart "$@"
systemctl start docker containerd
docker ps -aq | xargs -r docker rm -f >/dev/null
docker images -q | sort -u | xargs -r docker rmi -f >/dev/null
ctr -n k8s.io images ls -q | xargs -r ctr -n k8s.io images rm >/dev/null
true
"""


def reset(rig: Rig, *units: str) -> None:
    """Put the node back: agent stopped and forgotten, files as after boot, Docker with no mirror, no image anywhere.
    `units` are started anew with these files, because they run with others."""
    node = rig.node
    node.run(["bash", "-c", _RESET, "reset", *units])
    for registry in (rig.first, rig.second):
        registry.start()
    if docker_info(node)["LoggingDriver"] != "json-file":
        node.run("systemctl restart docker")
    if has_registry_settings(node):
        _clear_docker(node)


def has_registry_settings(node: Node) -> bool:
    """Whether the running dockerd has mirrors or insecure registries beyond loopback."""
    registry_config = docker_info(node)["RegistryConfig"]
    assert isinstance(registry_config, dict)
    named = [name for name, index in registry_config["IndexConfigs"].items() if not index["Secure"]]
    ranges = [block for block in registry_config["InsecureRegistryCIDRs"] if block not in ("127.0.0.0/8", "::1/128")]
    return bool(named or ranges or docker_mirrors(node))


def _clear_docker(node: Node) -> None:
    """A reload takes back what an explicit empty list replaces, and keeps what is merely absent: so, in two steps."""
    node.put(DAEMON_JSON, json.dumps({"registry-mirrors": [], "insecure-registries": [], "debug": False}))
    reload_docker(node)
    wait_until(lambda: not has_registry_settings(node), RELOAD_DEADLINE_SECONDS, "Docker without mirrors")
    node.run(["rm", DAEMON_JSON])


def reload_docker(node: Node) -> None:
    """SIGHUP to dockerd and to nothing else in its cgroup."""
    node.run("systemctl kill -s HUP --kill-who=main docker.service")


def assert_pulls_from(mirror: Registry) -> None:
    """What kubelet and `docker pull` get is what this mirror alone has."""
    node = mirror.node
    for image, repository in ((HUB_IMAGE, "library/hello"), (GHCR_IMAGE, "org/app")):
        pull = cri_pull(node, image)
        assert (pull.error, pull.image_id) == ("", mirror.pushed[repository].image_id)
    mark = mirror.mark()
    pull = docker_pull(node, HUB_IMAGE)
    assert (pull.error, bool(pull.image_id)) == ("", True)
    mirror.await_request("/v2/library/hello/manifests/", since=mark)
