"""What a restart of dockerd without live-restore costs: the running containers that nothing starts again afterwards.

Asked only when a restart is wanted, and bounded: one list, then one look at each container until time or number is
used up. Source: moby daemon/daemon.go restore, restartmanager (containers come back by their restart policy alone;
`on-failure` only after an exit code other than 0, which one that ends well on SIGTERM does not have; tried on 26.1.5).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.host import HostReader
from agent.model import UnitTies
from agent.runtimes._docker_info import SOCKET, Info

_COMES_BACK = frozenset({"always", "unless-stopped"})
_SPARES = frozenset({"process", "none"})
"""KillMode= that leaves the other processes of a unit alone (systemd.kill(5))."""
_MADE_AGAIN = ("com.docker.swarm.task.id", "io.kubernetes.pod.uid")
"""Labels of containers that a scheduler replaces whatever their policy says."""

_SECONDS = 2.0
_AT_MOST = 200
_SHOWN = 5
_ID = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True)
class Toll:
    """`ended` are the names of the containers that a restart ends for good, `doubtful` of those that it so ends if they
    end well on SIGTERM; `unseen` is how many were not looked at."""

    ended: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    unseen: int = 0

    @property
    def is_free(self) -> bool:
        """Whether every container is known to come back."""
        return not (self.ended or self.doubtful or self.unseen)

    @property
    def sentence(self) -> str:
        """By name, as far as that can be read; "" if nothing is lost."""
        parts = [f"it ends {_listed(self.ended)} for good"] if self.ended else []
        parts += [f"it may end {_listed(self.doubtful)} for good (on-failure)"] if self.doubtful else []
        parts += [f"what becomes of {self.unseen} more containers is not known"] if self.unseen else []
        return "; ".join(parts)


def survives(info: Info, ties: UnitTies, arguments: Sequence[str]) -> bool:
    """Whether containers outlive a restart: with live-restore, and if systemd does not end them with dockerd.

    They are processes of docker.service where dockerd runs a containerd of its own; told of another one, as the
    packages do, it runs none, and no KillMode reaches them (tried on 20.10.24 with `control-group` and `mixed`).
    """
    uses_another = any(word.startswith("--containerd") for word in arguments)
    return info.live_restore and (uses_another or ties.kill_mode in _SPARES)


def look_at_toll(host: HostReader) -> Toll | None:
    """Ask Docker, which must be up. None if it does not say which containers run."""
    running = _json(host.query(SOCKET, "/containers/json"))
    if not isinstance(running, list):
        return None
    rows = [row for row in running if isinstance(row, dict) and not _is_made_again(row)]
    found: list[tuple[str, str]] = []
    began = host.now().unix_seconds
    for seen, row in enumerate(rows):
        if seen >= _AT_MOST or not 0 <= host.now().unix_seconds - began < _SECONDS:
            return _toll(found, len(rows) - seen)
        container = str(row.get("Id", ""))
        answer = host.query(SOCKET, f"/containers/{container}/json") if _ID.fullmatch(container) else None
        found.append((_name(row), _policy(_json(answer))))
    return _toll(found, 0)


def _toll(found: Sequence[tuple[str, str]], unseen: int) -> Toll:
    doubtful = sorted(name for name, policy in found if policy == "on-failure")
    ended = sorted(name for name, policy in found if policy not in {*_COMES_BACK, "on-failure"})
    return Toll(tuple(ended), tuple(doubtful), unseen)


def _policy(inspected: object) -> str:
    """The restart policy. One that is gone again, or does not say, has none: rather one name too many."""
    config = inspected.get("HostConfig") if isinstance(inspected, dict) else None
    policy = config.get("RestartPolicy") if isinstance(config, dict) else None
    name = policy.get("Name") if isinstance(policy, dict) else ""
    return name if isinstance(name, str) else ""


def _is_made_again(row: dict[str, Any]) -> bool:
    labels = row.get("Labels")
    return isinstance(labels, dict) and any(label in labels for label in _MADE_AGAIN)


def _name(row: dict[str, Any]) -> str:
    names = row.get("Names")
    first = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    return first.removeprefix("/") or str(row.get("Id", "?"))[:12]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _json(data: bytes | None) -> object:
    try:
        return json.loads(data or b"")
    except (ValueError, RecursionError):
        return None
