"""`make boot`: what the agent adds to a boot, on real nodes.

Seconds until multi-user.target, power cycles with the unit enabled and without in turn, each time with a desired state
that the node has not seen, so that there is something to write before the runtimes start. Figures, not a test.
"""

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.node import rootfs
from tests.node.install import UNIT
from tests.node.machine import Node
from tests.node.nspawn import require_host
from tests.node.rig import build_stock_rig
from tests.node.service import Service, desired_state

ROUNDS = 7


@dataclass
class Boots:
    """Seconds of every boot of one node: to multi-user.target without the agent and with it, and its own start."""

    without: list[float] = field(default_factory=list)
    with_it: list[float] = field(default_factory=list)
    own_start: list[float] = field(default_factory=list)

    def line(self, suite: str) -> str:
        """Medians and what they come to."""
        without, with_it, own = (statistics.median(each) for each in (self.without, self.with_it, self.own_start))
        spread = max(self.without) - min(self.without)
        return f"{suite:10}{without:10.2f}{spread:10.2f}{with_it:10.2f}{with_it - without:10.2f}{own:12.2f}"


HEAD = f"{'':10}{'without':>10}{'(spread)':>10}{'with':>10}{'more':>10}{'own start':>12}"


def stamp(node: Node, unit: str, name: str) -> float:
    """A time of the unit's, in seconds since the kernel started."""
    return int(node.show(unit, f"{name}Monotonic")[f"{name}Monotonic"]) / 1e6


def seconds_to_multi_user(node: Node) -> float:
    """How long the last boot took."""
    userspace = int(node.run("systemctl show -p UserspaceTimestampMonotonic --value").out) / 1e6
    return stamp(node, "multi-user.target", "ActiveEnterTimestamp") - userspace


def measure(suite: str) -> Boots:
    """One node, switched off and on again and again."""
    boots = Boots()
    with Node(suite, name="boot") as node:
        service = Service.install(build_stock_rig(node))
        for desired in _desired_states():
            node.run(["systemctl", "disable", UNIT])
            node.reboot()
            boots.without.append(seconds_to_multi_user(node))
            service.desire(desired)
            node.run(["systemctl", "enable", UNIT])
            node.reboot()
            boots.with_it.append(seconds_to_multi_user(node))
            began, ready = (stamp(node, UNIT, name) for name in ("InactiveExitTimestamp", "ActiveEnterTimestamp"))
            boots.own_start.append(ready - began)
    return boots


def _desired_states() -> Iterator[str]:
    for number in range(ROUNDS):
        url = f"http://127.0.0.1:{5001 + number}"
        yield desired_state({"docker.io": [url], "ghcr.io": [url]})


def main() -> None:
    """One node after the other: each boot gets the whole machine."""
    parser = argparse.ArgumentParser(prog="make boot", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="suite", help=f"of {' '.join(rootfs.SUITES)} (default: all)")
    suites = parser.parse_args().suites or rootfs.SUITES
    require_host()
    print(HEAD, flush=True)
    for suite in suites:
        rootfs.ensure(suite)
        print(measure(suite).line(suite), flush=True)


if __name__ == "__main__":
    main()
