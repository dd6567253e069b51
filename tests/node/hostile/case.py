"""One hostile configuration, and what must hold whatever it is.

A runtime that was up before the agent came is up afterwards and comes up again at its next start; nothing of others is
lost; the agent lives, has met no bug, and has said what is wrong.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent import desired
from agent.events import Kind
from tests.node.install import UNIT
from tests.node.machine import Node
from tests.node.rig import CONFIG_TOML, DAEMON_JSON, Rig, reset
from tests.node.service import Service, desired_state
from tests.node.waiting import wait_until

MIRROR = "http://127.0.0.1:5001"
GOOD = desired_state({"docker.io": [MIRROR], "ghcr.io": [MIRROR]})
TREES = ("/etc/containerd", "/etc/docker")
DROP_INS = "/etc/systemd/system/docker.service.d", "/etc/systemd/system/containerd.service.d"
STATUS = "/run/mirror-agent/status.json"
DEADLINE_SECONDS = 40.0
"""For a runtime to be up again, and for the agent to have looked."""
READ_ONLY = "mount --bind {0} {0}; mount -o remount,bind,ro {0}"
FULL = "mount -t tmpfs -o size=16k full {0}; dd if=/dev/zero of={0}/filler bs=1k 2>/dev/null; true"

_UP = r"""
systemctl is-active -q docker && [ "$(curl -s -m 5 --unix-socket /run/docker.sock http://localhost/_ping)" = OK ] &&
  echo docker
for version in v1 v1alpha2; do
  printf '\0\0\0\0\0' | curl -s -m 5 --http2-prior-knowledge --unix-socket /run/containerd/containerd.sock \
    -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @- -D - -o /dev/null \
    http://localhost/runtime.$version.RuntimeService/Version 2>/dev/null | grep -qi '^grpc-status: 0' &&
    echo cri && break
done
true
"""
_RESTORE = f"""
systemctl stop mirror-agent
systemctl kill -s CONT --kill-who=main docker containerd
for name in docker.service docker.socket containerd.service; do
  [ -L /etc/systemd/system/$name ] && rm -f /etc/systemd/system/$name
done
rm -rf {" ".join(DROP_INS)} /run/systemd/system/docker.service.d
systemctl daemon-reload
systemctl is-active -q docker || systemctl kill -s KILL docker
systemctl is-active -q containerd || systemctl kill -s KILL containerd
true
"""


@dataclass(frozen=True, slots=True)
class Case:
    """`files` and then `setup` make the node what it is, before the agent comes with the `desired` state; `units` are
    started anew with that, and once more when it is gone. `midway` is what happens while the agent runs, `heal` what
    somebody does in the end, `cleanup` what takes back what neither of them has.

    `says` is searched for in the agent's journal: that it has converged, where nothing else is named and no conflict
    is expected. `conflict` must be found in one of its conflicts ("runtime: path:
    reason"), on a suite of `conflicts_on` that of the suite ("": none is expected there). With `or_runs` it may also be
    that the runtimes take it: then nothing is left to do. With `heard_late` nothing is heard before it is healed.

    `keeps` are texts that must stay in daemon.json, `untouched` are files that must be what they were while the agent
    runs. `starts_again` False: what others have left there, or take away, stops the next start of a runtime.
    `is_invalid`: no good desired state. `reverts` False: the case itself changes the trees, so that they are not as
    before. `is_stale`: what is mounted changes under the agent, so that it may have to start itself anew (exit code
    75).
    """

    name: str
    says: str = ""
    conflict: str = ""
    conflicts_on: Mapping[str, str] = field(default_factory=dict)
    or_runs: bool = False
    heard_late: bool = False
    desired: str = GOOD
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    setup: str = ""
    units: tuple[str, ...] = ()
    midway: str = ""
    heal: str = ""
    cleanup: str = ""
    keeps: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    starts_again: bool = True
    is_invalid: bool = False
    reverts: bool = True
    is_stale: bool = False
    not_on: tuple[str, ...] = ()
    deadline_seconds: float = DEADLINE_SECONDS


def up(node: Node) -> set[str]:
    """Which of them answers: Docker to a ping, the CRI to Version."""
    return set(node.run(_UP, timeout_seconds=40).out.split())


def run(rig: Rig, service: Service, case: Case) -> None:
    """Lay it, let the agent come, and look at everything."""
    node = rig.node
    for path, content in case.files.items():
        node.put(path, content)
    if case.setup:
        node.run(case.setup)
    _load(node, case)
    before, trees, foreign, cursor = up(node), node.tree(*TREES), foreign_of(node, case), node.cursor()
    service.desire(case.desired)
    service.start()
    _await_look(service, case, cursor)
    if case.midway:
        node.run(case.midway)
    node.run(["systemctl", "reload", UNIT], check=False)
    if not case.heard_late:
        _assert_said(service, case, cursor)
    kept = node.tree(*case.untouched) if case.untouched else {}
    assert kept == {path: entry for path, entry in trees.items() if path in kept}
    if case.heal:
        node.run(case.heal)
    if case.heard_late:
        _assert_said(service, case, cursor)
    wait_until(lambda: before <= up(node), case.deadline_seconds, f"{before} to be up")
    restarted = _assert_unharmed(service, case, cursor)
    assert foreign.items() <= foreign_of(node, case).items(), foreign_of(node, case)
    _assert_starts_again(node, case, before)
    service.stop()
    reverted = service.cli("revert")
    # What only a restart of Docker loads is given back with one, and the next is a minute away.
    if case.reverts and "docker" not in restarted:
        left = node.tree(*TREES)
        changed = {
            path: (trees.get(path), left.get(path)) for path in trees | left if trees.get(path) != left.get(path)
        }
        assert changed == {}, f"{changed}\n{reverted.out}{reverted.err}"
    if case.reverts:
        assert foreign.items() <= foreign_of(node, case).items(), reverted.out
    assert before <= up(node), "after revert"


def restore(rig: Rig, case: Case) -> None:
    """The node as it was before, whatever the case and the agent have made of it."""
    node = rig.node
    node.run(_RESTORE + case.cleanup + "\ntrue", check=False)
    others = [path for path in case.files if not path.startswith(TREES)]
    if others:
        node.run(["rm", "-f", *others])
    reset(rig, *(("docker", "containerd") if others else case.units))
    wait_until(lambda: up(node) == {"docker", "cri"}, DEADLINE_SECONDS, "both to be up again")


def _load(node: Node, case: Case) -> None:
    if case.units:
        node.run(f"systemctl daemon-reload; systemctl reset-failed; systemctl restart {' '.join(case.units)}")


def _await_look(service: Service, case: Case, cursor: str) -> None:
    if case.is_invalid:
        found = lambda: service.events(Kind.INVALID, cursor) or service.events(Kind.MISSING, cursor)  # noqa: E731
        wait_until(found, case.deadline_seconds, "a word about the desired state")
        return
    generation = hashlib.sha256(case.desired.encode()).hexdigest()
    wait_until(lambda: generation in service.node.text(STATUS), case.deadline_seconds, "a look with acts")


def _assert_said(service: Service, case: Case, cursor: str) -> None:
    """What it has to say, and the conflict that is expected; or nothing is left to do, where that may be."""

    expected = case.conflicts_on.get(service.node.suite, case.conflict)
    says = case.says or ("loaded" if expected else "converged")

    def has_said() -> bool:
        return bool(re.search(says, "\n".join(service.node.messages(UNIT, after=cursor))))

    wait_until(has_said, case.deadline_seconds, f"the agent to say {says}")
    if expected:
        wait_until(lambda: _has(expected, service, case, cursor), case.deadline_seconds, f"a conflict with {expected}")


def _has(expected: str, service: Service, case: Case, cursor: str) -> bool:
    events = service.events(Kind.CONFLICT, cursor)
    if any(re.search(expected, str(entry["MESSAGE"])) for entry in events):
        return True
    return case.or_runs and service.cli("plan").rc == 0


def foreign_of(node: Node, case: Case) -> dict[str, object]:
    """What others have in the two files, as far as they can be read: every key of daemon.json that the desired state
    does not name, and config.toml without its registry tables."""
    return {**_foreign_json(node, case), **_foreign_toml(node)}


def _foreign_json(node: Node, case: Case) -> dict[str, object]:
    try:
        document = json.loads(_text(node, DAEMON_JSON))
    except (ValueError, RecursionError):
        return {}
    values = document if isinstance(document, dict) else {}
    state = None if case.is_invalid else desired.load(case.desired.encode(), "hostile")
    named = {setting.key for setting in state.docker.settings} if state else set()
    ours = named | {"registry-mirrors", "insecure-registries"}
    return {f"daemon.json {key}": value for key, value in values.items() if key not in ours}


def _foreign_toml(node: Node) -> dict[str, object]:
    try:
        document = tomllib.loads(_text(node, CONFIG_TOML))
    except (ValueError, RecursionError):
        return {}
    leaves = _leaves(document, "")
    return {f"config.toml {key}": value for key, value in leaves if ".registry." not in key or ".auth." in key}


def _text(node: Node, path: str) -> str:
    """Of a regular file, "" for anything else: to read a FIFO takes for ever, and a device does not end."""
    return node.run(f"[ -f {path} ] && cat {path}", check=False).raw_out.decode()


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Every value that is no table, by its path."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{path}.{key}")


def _assert_unharmed(service: Service, case: Case, cursor: str) -> set[str]:
    """The agent is alive, and has restarted a runtime no more than once and once back. Gives back which."""
    node = service.node
    # It tells systemd itself when the reload begins, which may be after `systemctl reload` has returned.
    wait_until(lambda: node.show(UNIT, "ActiveState")["ActiveState"] == "active", case.deadline_seconds, "the agent")
    assert service.restarts() <= case.is_stale
    assert service.events(Kind.BUG, cursor) == []
    restarts = [str(entry.get("MIRROR_AGENT_RUNTIME")) for entry in service.events(Kind.RESTARTED, cursor)]
    # Each is told twice: when it begins and when the unit is up.
    assert max((restarts.count(name) for name in restarts), default=0) <= 4, restarts
    text = node.text(DAEMON_JSON) if case.keeps else ""
    assert [kept for kept in case.keeps if kept not in text] == [], text
    return set(restarts)


def _assert_starts_again(node: Node, case: Case, before: set[str]) -> None:
    if case.starts_again and not case.is_invalid:
        node.run("systemctl reset-failed; systemctl restart containerd docker")
        wait_until(lambda: before <= up(node), case.deadline_seconds, f"{before} to be up after their next start")


def as_json(value: object) -> str:
    """A daemon.json."""
    return json.dumps(value, indent=1) + "\n"


__all__ = [
    "CONFIG_TOML",
    "DAEMON_JSON",
    "FULL",
    "GOOD",
    "MIRROR",
    "READ_ONLY",
    "Case",
    "as_json",
    "restore",
    "run",
]
