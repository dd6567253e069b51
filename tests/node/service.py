"""The installed agent in a node, as an operator handles it: a file, a unit, a command, a journal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from agent.events import Kind
from tests.node.install import INSTALLED, UNIT, install
from tests.node.machine import Node, Result
from tests.node.pulls import docker_mirrors
from tests.node.rig import CERTS_D, DESIRED_STATE, Rig
from tests.node.waiting import wait_until

CONVERGE_DEADLINE_SECONDS = 10.0
# A fault that goes away without an event is noticed by the next resync: 60 s and its jitter.
RESYNC_DEADLINE_SECONDS = 80.0
READS_OLD_TABLES = frozenset({"bullseye"})
"""Suites whose containerd reads no hosts.toml."""
_RESTARTED = ("the last restart was less than a minute ago", "it was restarted twice in the last ten minutes")
_BARRIER = "barrier.example"
UNIT_STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"


def desired_state(registries: Mapping[str, Sequence[str]], docker: str = "", indent: int = 2) -> str:
    """A desired state: mirrors by registry, and the text of the docker section (one flow mapping)."""
    space = " " * indent
    head = ["version: 1", *([f"docker: {docker}"] if docker else []), "registries:" + ("" if registries else " {}")]
    entries = [f"{space}{name}: {{mirrors: [{', '.join(mirrors)}]}}" for name, mirrors in registries.items()]
    return "\n".join([*head, *entries, ""])


def hosts_path(registry: str) -> str:
    """Where containerd reads the registry's mirrors."""
    return f"{CERTS_D}/{registry}/hosts.toml"


def starts_of(node: Node, unit: str, after: str) -> int:
    """How often systemd began to start the unit since the cursor, by its own journal entries."""
    return len(node.journal(f"MESSAGE_ID={UNIT_STARTING}", f"UNIT={unit}", after=after))


@dataclass(frozen=True, slots=True)
class Service:
    """mirror-agent.service of one node."""

    node: Node

    @classmethod
    def install(cls, rig: Rig) -> Self:
        """Install once per node; later calls find it there."""
        if not rig.node.exists(INSTALLED):
            install(rig.node)
        return cls(rig.node)

    # -- what an operator does -----------------------------------------------------------------------------------

    def desire(self, text: str) -> None:
        """Write the desired state in one piece (a rename), as a careful operator does."""
        self.node.put(DESIRED_STATE, text, 0o640)

    def start(self) -> None:
        """Start the unit; it is READY when this returns."""
        self.node.run(["systemctl", "start", UNIT])

    def stop(self) -> None:
        self.node.run(["systemctl", "stop", UNIT], check=False)

    def start_with(self, text: str) -> None:
        """Start with this desired state, and wait until the daemon itself has nothing left to do, which may be because
        a person must do something."""
        cursor = self.node.cursor()
        self.desire(text)
        self.start()
        ends = (Kind.CONVERGED, Kind.UNRESOLVED)
        wait_until(
            lambda: [event for kind in ends for event in self.events(kind, cursor)],
            CONVERGE_DEADLINE_SECONDS,
            "the end of the first cycle in the journal",
        )
        self.await_nothing_pending()

    def cli(self, *arguments: str) -> Result:
        """Run `mirror-agent …`; any exit code."""
        return self.node.run(["/usr/bin/mirror-agent", *arguments], check=False)

    # -- what an operator sees -----------------------------------------------------------------------------------

    def pid(self) -> str:
        return self.node.show(UNIT, "MainPID")["MainPID"]

    def restarts(self) -> int:
        """How often systemd restarted the unit by itself."""
        return int(self.node.show(UNIT, "NRestarts")["NRestarts"])

    def events(self, kind: Kind, after: str = "") -> list[dict[str, Any]]:
        """The journal's entries of one kind, by MESSAGE_ID."""
        return self.node.journal(f"MESSAGE_ID={kind.value}", "_SYSTEMD_UNIT=" + UNIT, after=after)

    def count(self, *kinds: Kind, after: str, runtime: str = "") -> dict[str, int]:
        """How many entries of each kind since the cursor, about one runtime if it is named; kinds without one are left
        out."""

        def concerns(entry: dict[str, Any]) -> bool:
            return not runtime or entry.get("MIRROR_AGENT_RUNTIME") == runtime

        found = {kind.name: sum(map(concerns, self.events(kind, after))) for kind in kinds}
        return {name: number for name, number in found.items() if number}

    def await_event(
        self, kind: Kind, after: str = "", deadline_seconds: float = CONVERGE_DEADLINE_SECONDS
    ) -> dict[str, Any]:
        """The first entry of that kind after the cursor."""
        found = wait_until(lambda: self.events(kind, after), deadline_seconds, f"a journal entry of kind {kind.name}")
        return found[0]

    def status(self) -> dict[str, Any]:
        """`mirror-agent status --json`."""
        found: dict[str, Any] = json.loads(self.cli("status", "--json").raw_out)
        return found

    # -- waiting -------------------------------------------------------------------------------------------------

    def await_mirror(self, registry: str, url: str, deadline_seconds: float = CONVERGE_DEADLINE_SECONDS) -> None:
        """Wait until the registry's hosts.toml names the mirror."""
        path = hosts_path(registry)
        wait_until(lambda: f'"{url}"' in self.node.text(path), deadline_seconds, f"{url} in {path}")

    def await_docker(self, *urls: str, deadline_seconds: float = CONVERGE_DEADLINE_SECONDS) -> None:
        """Wait until the running dockerd has exactly these mirrors, in this order."""
        expected = [f"{url}/" for url in urls]
        wait_until(lambda: docker_mirrors(self.node) == expected, deadline_seconds, f"{expected} in dockerd")

    def await_nothing_pending(self, deadline_seconds: float = CONVERGE_DEADLINE_SECONDS) -> None:
        """Wait until `mirror-agent plan` finds nothing to write and no act to do. Where containerd reads its mirrors
        only when it starts, its next restart may still be ahead: there is one a minute, and two in ten."""

        wait_until(lambda: self.cli("plan").rc == 0 or self._waits_for_a_restart(), deadline_seconds, "an empty plan")

    def is_live(self) -> bool:
        """Whether `mirror-agent status` says that all of it is in use, or will be after that restart of containerd."""
        return self.cli("status").rc == 0 or self._waits_for_a_restart()

    def _waits_for_a_restart(self) -> bool:
        if self.node.suite not in READS_OLD_TABLES:
            return False
        plans = json.loads(self.cli("plan", "--json").raw_out)["plans"]
        waiting = [deferred["waits"] for plan in plans for deferred in plan["deferred"]]
        return not any(plan["actions"] for plan in plans) and all(why in _RESTARTED for why in waiting)

    def pass_barrier(self, text: str) -> None:
        """Make one more edit (a registry nobody pulls from) and wait for its file, then until nothing is pending.

        The agent looks at everything in each cycle, so whatever it makes of the state before this, it has done by then.
        `text` is the desired state in force; it must end with the registries.
        """
        self.desire(f"{text}  {_BARRIER}: {{mirrors: [http://127.0.0.1:5001]}}\n")
        self.await_mirror(_BARRIER, "http://127.0.0.1:5001")
        self.await_nothing_pending()
