"""`make failover`: what a dead first mirror costs a pull, without the agent's failover and with it, on real nodes.

Seconds of a CRI pull and of a `docker pull` of a one-layer image; the second mirror is good. "Without" is the list as
desired; "with" is what failover made of it once its verdict was in. Figures, not a test.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum

from tests.node import rootfs
from tests.node.faults import Fault, FaultyMirror, black_hole
from tests.node.machine import Node
from tests.node.nspawn import require_host
from tests.node.pulls import Pull, cri_pull, docker_info, docker_pull
from tests.node.rig import DAEMON_JSON, Rig, build_rig
from tests.node.service import CONVERGE_DEADLINE_SECONDS, Service, hosts_path
from tests.node.waiting import NodeError, wait_until

STORE = "+store"
"""After a suite: its Docker keeps its images in containerd, and takes mirrors from files of its own (28 and later)."""
SUITES = ("bookworm", "trixie", "forky", f"forky{STORE}")
CAP_SECONDS = 150
VERDICT_DEADLINE_SECONDS = 240.0
START_DEADLINE_SECONDS = 30.0
QUICK_PULLS = 3
HEALTHY = "healthy"


class Way(Enum):
    """A way of dying: how it is called, and what a server does for it (None: no server, or another means)."""

    REFUSED = ("connection refused", None)
    DENIED = ("403", Fault.DENIED)
    MISSING = ("404", Fault.MISSING)
    FAILING = ("500", Fault.FAILING)
    HTML = ("a web page with 200", Fault.HTML)
    TLS = ("TLS to a plain port", None)
    CORRUPT = ("manifests good, blobs corrupt", Fault.CORRUPT)
    HOLE = ("black hole", None)
    LATE = ("each answer 5 s late", Fault.LATE)
    SILENT = ("accepts, never answers", Fault.SILENT)

    @property
    def words(self) -> str:
        return self.value[0]

    @property
    def fault(self) -> Fault | None:
        return self.value[1]

    @property
    def registry(self) -> str:
        """A registry of its own for containerd, so that slow pulls can run side by side."""
        return f"{self.name.lower()}.test"

    @property
    def is_slow(self) -> bool:
        return self in {Way.HOLE, Way.LATE, Way.SILENT}


_DOCKER_HUB = "/etc/docker/certs.d/docker.io/hosts.toml"
_NO_OUTAGES = frozenset({Way.DENIED, Way.MISSING})
"""One short request, and the next mirror is asked: these stay."""


@dataclass
class Bench:
    """One node with a mirror for each way of dying, and what was measured on it: seconds by column and row."""

    rig: Rig
    service: Service
    urls: Mapping[Way, str]
    has_store: bool = False
    figures: dict[tuple[str, str], str] = field(default_factory=dict)
    verdicts: dict[Way, float] = field(default_factory=dict)
    _pushed: int = 0

    @property
    def node(self) -> Node:
        return self.rig.node

    def image(self, registry: str) -> str:
        """An image that nothing on the node has yet."""
        self._pushed += 1
        repository = f"library/x{self._pushed}"
        self.rig.first.push(repository)
        return f"{registry}/{repository}:latest"

    def desire(self, hub: Way | None, settings: str) -> None:
        """All the registries for containerd, and for Docker Docker Hub with one way of dying."""
        good = self.rig.first.url
        lists = {way.registry: [self.urls[way], good] for way in Way} | {f"{HEALTHY}.test": [good]}
        lists["docker.io"] = [self.urls[hub], good] if hub else [good]
        entries = [f"  {name}: {{mirrors: [{', '.join(urls)}]}}" for name, urls in lists.items()]
        self.service.desire("\n".join(["version: 1", settings, "registries:", *entries, ""]))

    def await_docker(self, *urls: str, deadline_seconds: float = CONVERGE_DEADLINE_SECONDS) -> None:
        """Wait until Docker takes images of Docker Hub from these mirrors, in this order."""
        if not self.has_store:
            self.service.await_docker(*urls, deadline_seconds=deadline_seconds)
            return
        expected = [f'[host."{url}"]' for url in urls]

        def has_them() -> bool:
            lines = self.node.text(_DOCKER_HUB).splitlines() if self.node.exists(_DOCKER_HUB) else []
            return [line for line in lines if line.startswith('[host."')] == expected

        wait_until(has_them, deadline_seconds, f"{expected} in {_DOCKER_HUB}")

    def note(self, column: str, row: str, pulls: list[Pull]) -> None:
        seconds = statistics.median(pull.seconds for pull in pulls)
        if seconds >= CAP_SECONDS - 1:
            shown = f"> {CAP_SECONDS}"
        else:
            shown = f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.2f}"
        self.figures[column, row] = (
            shown if all(pull.ok for pull in pulls) else f"{shown} fails".replace("> 150 f", "> 150, f")
        )


def measure(bench: Bench) -> None:
    """Both halves of the table."""
    without_failover(bench)
    with_failover(bench)


def without_failover(bench: Bench) -> None:
    """The list as desired. What waits for minutes waits side by side."""
    bench.desire(None, "")
    bench.service.start()
    healthy = f"{HEALTHY}.test"
    wait_until(lambda: mirrors_of(bench, healthy) == 1, START_DEADLINE_SECONDS, "the first files")
    bench.note("cri without", HEALTHY, cri_pulls(bench, healthy))
    bench.note("docker without", HEALTHY, docker_pulls(bench))
    for way in Way:
        if not way.is_slow:
            bench.note("cri without", way.name, cri_pulls(bench, way.registry, once=True))
    slow = [way for way in Way if way.is_slow]
    images = {way: bench.image(way.registry) for way in slow}
    with ThreadPoolExecutor(len(slow)) as pool:
        waiting: dict[Way, Future[Pull]] = {
            way: pool.submit(cri_pull, bench.node, images[way], CAP_SECONDS) for way in slow
        }
        for way in Way:
            bench.desire(way, "")
            bench.await_docker(bench.urls[way], bench.rig.first.url)
            bench.note("docker without", way.name, docker_pulls(bench, once=True))
        for way, pull in waiting.items():
            bench.note("cri without", way.name, [pull.result()])


def with_failover(bench: Bench) -> None:
    """First the registries of containerd, with the settings as they are by default; then Docker Hub, way by way."""
    known = {way: bench.image(way.registry) for way in Way}
    hub = bench.image("docker.io")
    images = ", ".join(f"{way.registry}: '{image}'" for way, image in known.items()) + f", docker.io: '{hub}'"
    bench.desire(None, f"health: {{enabled: true, images: {{{images}}}}}")
    began = time.monotonic()

    def all_are_out() -> bool:
        for way in set(Way) - _NO_OUTAGES - set(bench.verdicts):
            if mirrors_of(bench, way.registry) == 1:
                bench.verdicts[way] = time.monotonic() - began
        return _NO_OUTAGES | set(bench.verdicts) == set(Way)

    wait_until(all_are_out, VERDICT_DEADLINE_SECONDS, "a verdict about each of them")
    bench.note("cri with", HEALTHY, cri_pulls(bench, f"{HEALTHY}.test"))
    for way in Way:
        bench.note("cri with", way.name, cri_pulls(bench, way.registry))
    bench.note("docker with", HEALTHY, docker_pulls(bench))
    for way in Way:
        bench.desire(way, f"health: {{enabled: true, unhealthy_after: 1, images: {{{images}}}}}")
        stays = way in _NO_OUTAGES
        urls = (bench.urls[way], bench.rig.first.url) if stays else (bench.rig.first.url,)
        bench.await_docker(bench.urls[way], bench.rig.first.url)
        bench.await_docker(*urls, deadline_seconds=VERDICT_DEADLINE_SECONDS)
        bench.note("docker with", way.name, docker_pulls(bench))


def mirrors_of(bench: Bench, registry: str) -> int:
    """How many mirrors its hosts.toml has."""
    return bench.node.text(hosts_path(registry)).count('[host."')


def cri_pulls(bench: Bench, registry: str, *, once: bool = False) -> list[Pull]:
    return [cri_pull(bench.node, bench.image(registry), CAP_SECONDS) for _ in range(1 if once else QUICK_PULLS)]


def docker_pulls(bench: Bench, *, once: bool = False) -> list[Pull]:
    return [docker_pull(bench.node, bench.image("docker.io"), CAP_SECONDS) for _ in range(1 if once else QUICK_PULLS)]


@contextmanager
def benched(name: str) -> Iterator[Bench]:
    """A node of the suite with a mirror for each way of dying."""
    suite, has_store = name.removesuffix(STORE), name.endswith(STORE)
    with Node(suite, name="failover") as node, ExitStack() as stack:
        rig = build_rig(node)
        if has_store:
            node.put(DAEMON_JSON, '{"features": {"containerd-snapshotter": true}}')
            node.run("systemctl restart docker")
        service = Service.install(rig)
        urls = {way: f"http://127.0.0.1:{port}" for port, way in enumerate(Way, 5010)}
        urls[Way.TLS] = f"https://127.0.0.1:{rig.second.port}"
        for way, url in urls.items():
            port = int(url.rpartition(":")[2])
            if way.fault:
                FaultyMirror(node, port, rig.first).start(way.fault)
            if way is Way.HOLE:
                stack.enter_context(black_hole(node, port))
        yield Bench(rig, service, urls, has_store)


def versions(node: Node) -> str:
    """What runs there."""
    containerd = node.run("containerd --version").out.split()[2].removeprefix("v").partition("~")[0]
    return f"containerd {containerd} / Docker {docker_info(node)['ServerVersion']}"


def run(suite: str, report: Callable[[str], None]) -> None:
    """The table of one node."""
    try:
        with benched(suite) as bench:
            title = f"{suite}: {versions(bench.node)}"
            measure(bench)
            report("\n".join(lines(title, bench)))
    except NodeError as error:
        report(f"{suite}: {error}")


def lines(title: str, bench: Bench) -> Iterator[str]:
    """Rows for each way of dying, the healthy list first."""
    columns = ("cri without", "cri with", "docker without", "docker with")
    yield title
    yield "".join(
        word.ljust(width) for word, width in zip(("first mirror", *columns, "out after"), _WIDTHS, strict=True)
    )
    for name, words in ((HEALTHY, "(healthy list)"), *((way.name, way.words) for way in Way)):
        after = next((f"{seconds:.0f} s" for way, seconds in bench.verdicts.items() if way.name == name), "-")
        cells = (words, *(bench.figures[column, name] for column in columns), after)
        yield "".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


_WIDTHS = (32, 14, 12, 16, 14, 10)


def main() -> None:
    """The nodes run side by side: they mostly wait."""
    parser = argparse.ArgumentParser(prog="make failover", description=__doc__)
    parser.add_argument(
        "suites",
        nargs="*",
        metavar="suite",
        help=f"of {' '.join(rootfs.SUITES)}, forky{STORE} (default: {' '.join(SUITES)})",
    )
    suites = parser.parse_args().suites or SUITES
    require_host()
    for suite in suites:
        rootfs.ensure(suite.removesuffix(STORE))
    tables: list[str] = []
    threads = [threading.Thread(target=run, args=(suite, tables.append)) for suite in suites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("\n\n".join(sorted(tables)))


if __name__ == "__main__":
    main()
