"""A running container of each runtime, from one tiny root file system: what must live through everything."""

from tests.node.machine import Node

_ROOTFS = "/root/rootfs"
_NAME = "keeps"
_MAKE_ROOTFS = f"""
mkdir -p {_ROOTFS}/proc
cp -L --parents /bin/sleep $(ldd /bin/sleep | grep -o '/[^ ]*') {_ROOTFS}/
"""
_START = f"""
set -e
[ -d {_ROOTFS} ] || {{ {_MAKE_ROOTFS} }}
# By default later versions ask for CPU shares, for which a node has no controller; 1.4 does not know the option.
shares=$(ctr run --help | grep -q cpu-shares && echo "--cpu-shares 0" || true)
ctr run -d --null-io $shares --rootfs {_ROOTFS} {_NAME} /bin/sleep 100000
tar -C {_ROOTFS} -c . | docker import - {_NAME} >/dev/null
docker run -d --name {_NAME} --network none {_NAME} /bin/sleep 100000 >/dev/null
"""
_STOP = f"""
ctr task kill -s KILL {_NAME}; ctr task rm -f {_NAME}; ctr container rm {_NAME}
docker rm -f {_NAME}; docker image rm -f {_NAME}
"""


def start_containers(node: Node) -> None:
    """Start one that containerd looks after, and one of Docker's."""
    node.run(_START)


def stop_containers(node: Node) -> None:
    """End them, and forget their images."""
    node.run(_STOP, check=False)


def pids_of_containers(node: Node) -> dict[str, str]:
    """The process of each that runs, by the name of its runtime."""
    listed = node.run(f'ctr task ls | awk \'$1 == "{_NAME}" && $3 == "RUNNING" {{print $2}}\'').out.strip()
    shown = node.run(["docker", "inspect", "-f", "{{.State.Pid}}", _NAME], check=False).out.strip()
    return {name: pid for name, pid in (("containerd", listed), ("docker", shown)) if pid not in ("", "0")}
