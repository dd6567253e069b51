"""What a node can do: disks, clocks, its own memory lost, services that the agent leans on gone."""

import json
from collections.abc import Iterator

from tests.node.hostile.case import FULL, MIRROR, READ_ONLY, Case
from tests.node.service import desired_state

_LOCAL = desired_state({"docker.io": [MIRROR]}, "{settings: {log-driver: local}}")
_LEDGER = "/var/lib/mirror-agent/ledger.json"
_STATE = "mkdir -p -m 700 /var/lib/mirror-agent; "


def cases() -> Iterator[Case]:
    for name, text in (
        ("broken", '{"version": 1, "entr'),
        ("empty", ""),
        ("from the future", json.dumps({"version": 99, "entries": {}})),
        ("of wrong types", json.dumps({"version": 1, "entries": [1], "memory": "x"})),
    ):
        yield Case(f"ledger {name}", setup=f"{_STATE} printf '{text}' > {_LEDGER}")
    yield Case("state directory goes away", r"converged", midway="rm -rf /var/lib/mirror-agent", reverts=False)
    for path in ("/etc/docker", "/etc/containerd"):
        yield Case(
            f"{path} is read-only", r"EROFS", setup=READ_ONLY.format(path),
            heal=f"umount -l {path}",
            cleanup=f"umount -l {path}", reverts=False, is_stale=True,
        )  # fmt: skip
        yield Case(
            f"{path} is immutable", r"EPERM", setup=f"chattr +i {path}", heal=f"chattr -i {path}",
            cleanup=f"chattr -i {path}",
        )  # fmt: skip
        yield Case(
            f"{path} goes and comes back", r"converged", reverts=False, is_stale=True,
            midway=f"mv {path} {path}.away; sleep 0.2; mv {path}.away {path}",
        )  # fmt: skip
    yield Case(
        "/etc/docker is full", r"ENOSPC", setup=FULL.format("/etc/docker"),
        heal="umount -l /etc/docker", cleanup="umount -l /etc/docker", reverts=False, is_stale=True,
    )  # fmt: skip
    yield Case("files from the future", r"converged", files={"/etc/docker/daemon.json": '{"debug": true}\n'},
               setup="touch -d 2040-01-01 /etc/docker/daemon.json /etc/containerd/config.toml")  # fmt: skip
    yield Case("files from the past", r"converged", files={"/etc/docker/daemon.json": '{"debug": true}\n'},
               setup="touch -d 1970-01-02 /etc/docker/daemon.json /etc/containerd/config.toml")  # fmt: skip
    yield Case("journald frozen", r"loaded", desired=_LOCAL, heard_late=True,
               setup=_JOURNALD.format("STOP"), heal=_JOURNALD.format("CONT"),
               cleanup=_JOURNALD.format("CONT"), deadline_seconds=90)  # fmt: skip
    yield Case("D-Bus stopped", r"converged", desired=_LOCAL, setup="systemctl stop dbus.socket dbus", heal=_DBUS,
               cleanup=_DBUS, deadline_seconds=90)  # fmt: skip
    yield from _desired_states()
    yield Case(
        "many edits", r"converged", deadline_seconds=90,
        midway="for n in $(seq 60); do printf 'version: 1\\nregistries:\\n  docker.io: {mirrors: [http://127.0.0.1:%s]}'"
               " $((6000 + n)) > /etc/mirror-agent.yaml; done; sleep 0.1",
    )  # fmt: skip
    yield Case(
        "a storm beside the files", r"converged", deadline_seconds=90, reverts=False,
        midway="for n in $(seq 3000); do : > /etc/docker/storm-$((n % 50)); done; rm -f /etc/docker/storm-*",
    )  # fmt: skip


_JOURNALD = "systemctl kill -s {} --kill-who=main systemd-journald"
_DBUS = "systemctl start dbus.socket dbus"


def _desired_states() -> Iterator[Case]:
    """What is no desired state at all."""
    for name, text in (
        ("empty", ""),
        ("aliases", "version: 1\nregistries: &a {docker.io: {mirrors: [https://m.example]}}\nx: *a\n"),
        ("nested too deep", "version: 1\nregistries: " + "[" * 3000 + "]" * 3000 + "\n"),
        ("a traversal", "version: 1\nregistries:\n  ../../etc: {mirrors: [https://m.example]}\n"),
    ):
        yield Case(f"desired state: {name}", r"Nothing was changed", desired=text, is_invalid=True)
