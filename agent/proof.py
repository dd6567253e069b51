"""What proves that a running daemon reads what we write: values that runtimes return and `status --prove` shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Via(Enum):
    """How a daemon is asked to pull: kubelet's way (gRPC), or Docker's (HTTP)."""

    CRI = "cri"
    DOCKER = "docker"


@dataclass(frozen=True, slots=True)
class Bait:
    """A runtime that can be put to the test: a registry that cannot exist gets a hosts.toml below `directory` for a
    moment, and the daemon at `socket` is asked to pull from it. `cause` is what is known to be wrong, "" if nothing."""

    runtime: str
    title: str
    directory: str
    socket: str
    via: Via
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """What it came to, in one sentence. `is_proved` None: there is nothing to prove, or no way to."""

    runtime: str
    title: str
    is_proved: bool | None
    sentence: str
