"""Ways in which Docker does not take a change, and what must be so afterwards: building blocks for tests on nodes.

A `Hostile` is one such way. `Standing` is what a Docker that was up has to keep: that it is up, what it runs with, the
bytes of its file, and what others have in it.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.node.machine import Node
from tests.node.pulls import docker_info
from tests.node.rig import DAEMON_JSON
from tests.node.waiting import wait_until

DROP_IN = "/etc/systemd/system/docker.service.d/hostile.conf"
UP_DEADLINE_SECONDS = 60.0
_FOREIGN = {"dns": ["192.0.2.1"], "live-restore": True, "labels": ["of=somebody"]}
_IMAGE = "sleeps"
_MAKE_IMAGE = """
mkdir -p /root/rootfs/proc
cp -L --parents /bin/sh /bin/sleep $(ldd /bin/sh /bin/sleep | grep -o '/[^ ]*' | grep -v :) /root/rootfs/
tar -C /root/rootfs -c . | docker import - sleeps >/dev/null
"""


@dataclass(frozen=True, slots=True)
class Hostile:
    """`settings` (one flow mapping of the desired state) with which Docker goes wrong; `drop_in` is what somebody has
    put into its unit before; `shows` is a word that the conflict then names."""

    settings: str
    shows: str
    drop_in: str = ""


BAD_VALUES = {
    "a data-root that is a file": Hostile("{data-root: /etc/hostname}", "data-root"),
    "a data-root below a file": Hostile("{data-root: /etc/hostname/docker}", "data-root"),
    "a data-root that cannot be written": Hostile("{data-root: /proc/docker}", "data-root"),
    "a storage driver that the kernel lacks": Hostile("{storage-driver: zfs}", "storage-driver"),
    "a bridge that is not there": Hostile("{bridge: nobridge0}", "bridge"),
    "a bip that is none": Hostile("{bip: 300.1.1.1/99}", "bip"),
    "a pid file that cannot be made": Hostile("{pidfile: /proc/docker.pid}", "pidfile"),
    "a containerd that is not there": Hostile("{containerd: /nowhere.sock}", "containerd"),
    "an exec-root that is a file": Hostile("{exec-root: /etc/hostname}", "exec-root"),
}
"""Values of which only a start shows that they are bad: neither our own checks nor `dockerd --validate` know."""

HANGS = Hostile(
    "{log-opts: {max-size: 7m}}",
    "log-opts",
    f"[Service]\nExecStartPre=/bin/sh -c 'if grep -q 7m {DAEMON_JSON}; then sleep 100000; fi'\n",
)
"""Its start with the change never ends, and the packaged unit sets no limit."""

LIES = Hostile(
    "{log-driver: local}",
    "log-driver",
    "[Service]\n"
    f"ExecStartPre=/bin/sh -c 'cp -p {DAEMON_JSON} /run/real.json; sed -i s/local/json-file/ {DAEMON_JSON}'\n"
    f"ExecStartPost=/bin/sh -c 'mv /run/real.json {DAEMON_JSON}'\n",
)
"""It comes up, and has read something else than what the file says before and after its start."""


KILLS = "/run/mirror-agent/kills-once"
"""Where the agent and what it starts may write."""
_REAL, _WRAPPER = "/usr/local/bin/real-systemctl", "/usr/local/bin/killing-systemctl"
_KILLING = f"""#!/bin/sh
if [ "$1" = restart ] && [ -e {KILLS} ]; then
    rm {KILLS}
    kill -KILL "$PPID"
    exit 1
fi
exec {_REAL} "$@"
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a Docker that is up has and must keep."""

    file: bytes
    effective: dict[str, Any]
    container: str

    @classmethod
    def of(cls, node: Node) -> Standing:
        return cls(node.read(DAEMON_JSON), effective(node), container_pid(node))


def effective(node: Node) -> dict[str, Any]:
    """What the running Docker says it runs with."""
    info = docker_info(node)
    registries = info["RegistryConfig"]
    assert isinstance(registries, dict)
    named = sorted(name for name, index in registries["IndexConfigs"].items() if not index["Secure"])
    kept = ("DockerRootDir", "LiveRestoreEnabled", "LoggingDriver", "Labels", "Driver")
    return {**{key: info[key] for key in kept}, "Mirrors": registries["Mirrors"] or [], "Insecure": named}


def is_up(node: Node) -> bool:
    """Whether the unit is active and the socket answers."""
    return node.run(
        "systemctl is-active docker && curl -sf --unix-socket /run/docker.sock localhost/_ping", check=False
    ).ok


def container_pid(node: Node, name: str = "keeps") -> str:
    """The process of a container of Docker's, made on the first call; it has no restart policy."""
    if not node.run(["docker", "container", "inspect", name], check=False).ok:
        if not node.run(["docker", "image", "inspect", _IMAGE], check=False).ok:
            node.run(_MAKE_IMAGE)
        run_container(node, name)
    return node.run(["docker", "inspect", "-f", "{{.State.Running}} {{.State.Pid}}", name]).out.strip()


def run_container(node: Node, name: str, *options: str, command: str = "exec /bin/sleep 100000") -> None:
    """A container that needs nothing but its own files."""
    if not node.run(["docker", "image", "inspect", _IMAGE], check=False).ok:
        node.run(_MAKE_IMAGE)
    node.run(["docker", "run", "-d", "--network=none", "--name", name, *options, _IMAGE, "/bin/sh", "-c", command])


@contextmanager
def standing_docker(node: Node, hostile: Hostile) -> Iterator[Standing]:
    """A Docker with foreign keys, live-restore and a running container, for the time of the test."""
    content = json.dumps(_FOREIGN, indent=3) + "\n\n"
    node.put(DAEMON_JSON, content)
    if hostile.drop_in:
        node.put(DROP_IN, hostile.drop_in)
    node.run("systemctl daemon-reload; systemctl reset-failed docker; systemctl restart docker")
    try:
        yield Standing.of(node)
    finally:
        node.run("systemctl stop mirror-agent; docker ps -aq | xargs -r docker rm -f", check=False)
        node.run(f"rm -rf {DAEMON_JSON} {DROP_IN}; systemctl daemon-reload", check=False)
        node.run("systemctl reset-failed docker.service docker.socket; systemctl restart docker", check=False)


@contextmanager
def systemctl_that_kills(node: Node) -> Iterator[None]:
    """For the time of the test, the next order to restart Docker kills whoever gives it, instead. `try-restart`, with
    which a change is loaded, is not that order."""
    program = node.run("type -P systemctl").out.strip()
    node.run(f"cp -a {program} {_REAL}; mkdir -p {posixpath.dirname(KILLS)}; touch {KILLS}")
    node.put(_WRAPPER, _KILLING, 0o755)
    node.run(f"mount --bind {_WRAPPER} {program}")
    try:
        yield
    finally:
        node.run(f"umount {program}; rm -f {_REAL} {_WRAPPER} {KILLS}")


def await_standing(node: Node, before: Standing, deadline_seconds: float = UP_DEADLINE_SECONDS) -> None:
    """Wait until Docker is up again and everything is as it was."""

    def is_as_before() -> bool:
        return is_up(node) and Standing.of(node) == before

    wait_until(lambda: is_up(node), deadline_seconds, "Docker is up")
    wait_until(is_as_before, 10.0, f"everything is as before: {before} (now {Standing.of(node)})")


def conflicts(node: Node) -> str:
    """What the agent says it does not do for Docker, and why."""
    plans = json.loads(node.run(["/usr/bin/mirror-agent", "plan", "--json"], check=False).raw_out)["plans"]
    return "; ".join(each["reason"] for plan in plans if plan["runtime"] == "docker" for each in plan["conflicts"])
