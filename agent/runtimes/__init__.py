"""The container runtimes we keep converged: one public module each, found by `discover`.

A third runtime is one new file here (plus helpers beside it, named with a leading underscore) and its golden cases.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agent.host import HostReader
from agent.model import DesiredState, RuntimeReport
from agent.plan import Plan

if TYPE_CHECKING:
    from agent.found import Found, FoundRegistry
    from agent.image import Image
    from agent.proof import Bait, Proof
    from agent.route import Route

ObservedT = TypeVar("ObservedT")


class Runtime(Protocol[ObservedT]):
    """What each runtime module binds as its constant `RUNTIME`."""

    @property
    def name(self) -> str:
        """The word in YAML, ledger and journal: `containerd`, `docker`."""
        ...

    @property
    def owns(self) -> tuple[str, ...]:
        """The directories under which it may write; the unit file must make them writable."""
        ...

    @property
    def unit(self) -> str | None:
        """Its systemd unit, None if it has none."""
        ...

    def observe(self, host: HostReader, desired: DesiredState) -> ObservedT:
        """Look at everything the plan needs, and only look. Never raises for absent software.

        `desired` says where to look: paths it may move (certs_dir, daemon_json) and files it refers to (CAs, headers).
        """
        ...

    def plan(self, desired: DesiredState, observed: ObservedT) -> Plan:
        """Pure. The way from observed to desired; each action with its reason; a Conflict instead of a guess."""
        ...

    def report(self, desired: DesiredState, observed: ObservedT) -> RuntimeReport:
        """Pure. What `status` shows."""
        ...

    def proof(self, desired: DesiredState, observed: ObservedT) -> Bait | Proof:
        """Pure. How `status --prove` can put the running daemon to the test; the Proof itself where the daemon has told
        already, or cannot be tested."""
        ...

    def route(self, host: HostReader, desired: DesiredState, image: Image) -> Route:
        """Which hosts are asked for an image, as the machine stands, whoever wrote it; only looks. `desired` says where
        to look."""
        ...

    def find(self, host: HostReader, desired: DesiredState, known: tuple[FoundRegistry, ...]) -> Found:
        """What of this runtime a desired state can say, for `import`; only looks. `desired` says where to look, `known`
        is what the runtimes before this one have found: one entry serves them all."""
        ...


@cache
def discover() -> tuple[Runtime[Any], ...]:
    """Every runtime in this package, by name. Raises AttributeError for a public module that binds no RUNTIME."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return tuple(importlib.import_module(f"{__name__}.{name}").RUNTIME for name in names)
