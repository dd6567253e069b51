"""Fixtures of the node tests: one booted node per suite, put back to its first state before every test.

    pytest tests/node                          bookworm and trixie
    pytest tests/node --suite forky            any of rootfs.SUITES, repeatable
    pytest tests/node -n 2 --dist loadgroup    one worker per suite

MIRROR_AGENT_NODE_TESTS=required turns every skip into a failure.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import rootfs
from tests.node.install import from_package, runs_on
from tests.node.machine import Node
from tests.node.nspawn import require_host
from tests.node.packaged import left_over, newer_source, purge
from tests.node.rig import Rig, build_rig, build_stock_rig, reset
from tests.node.service import Service
from tests.packages import REPOSITORY, Packages, built

DEFAULT_SUITES = ("bookworm", "trixie")
_HERE = Path(__file__).parent
_JOURNAL = pytest.StashKey[tuple[Node, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--suite", action="append", default=None, choices=rootfs.SUITES,
        help=f"Debian suite to boot as a node, repeatable (default: {' '.join(DEFAULT_SUITES)})",
    )  # fmt: skip
    parser.addoption("--node-journals", type=Path, default=None, help="where the journals of failed tests go")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "not_on(suite, ...): the node test says nothing about these Debian suites")
    config.addinivalue_line("markers", "only_on(suite, ...): the node test needs one of these Debian suites")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """The life of the packages is tested where nodes get the agent from them."""
    return True if collection_path.name.startswith("test_package") and not from_package() else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that uses a node runs once per chosen suite; those with the agent need one it runs on."""
    if "suite" not in metafunc.fixturenames:
        return
    left_out = {suite for mark in metafunc.definition.iter_markers("not_on") for suite in mark.args}
    if not metafunc.module.__name__.rpartition(".")[2].startswith(("test_harness", "test_package")):
        left_out |= {suite for suite in rootfs.SUITES if not runs_on(suite)}
    only = [suite for mark in metafunc.definition.iter_markers("only_on") for suite in mark.args]
    asked_for = metafunc.config.getoption("suite", default=None)
    chosen = dict.fromkeys(asked_for or only or DEFAULT_SUITES)
    left_out |= set(chosen) - set(only) if only else set()
    metafunc.parametrize("suite", [suite for suite in chosen if suite not in left_out], scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    grouped = config.pluginmanager.hasplugin("xdist")
    for item in items:
        if _HERE not in item.path.parents or not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        suite = item.callspec.params.get("suite")
        if isinstance(suite, str):
            item.add_marker(pytest.mark.node)
            if grouped:
                item.add_marker(pytest.mark.xdist_group(f"node-{suite}"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Required nodes do not skip; a failed test leaves its node's journal behind."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and item.get_closest_marker("node") and os.environ.get("MIRROR_AGENT_NODE_TESTS") == "required":
        report.outcome = "failed"
        report.longrepr = f"MIRROR_AGENT_NODE_TESTS=required, but: {call.excinfo.value if call.excinfo else 'skipped'}"
    if report.failed and _JOURNAL in item.stash:
        node, cursor = item.stash[_JOURNAL]
        directory = item.config.getoption("node_journals", default=None) or Path("/var/tmp/mirror-agent-journals")
        saved = node.save_journal(directory / item.name.replace("/", "_"), after=cursor)
        report.sections.append((f"the node's journal, saved as {saved}", _tail(saved)))


def _tail(path: Path, lines: int = 60) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.is_file() else "(none)"


@pytest.fixture(scope="session")
def shared_rig(suite: str) -> Iterator[Rig]:
    """One booted node of the suite, with its registries; skipped where nodes cannot be booted."""
    with bootable(suite, "shared") as node:
        yield build_rig(node)


@pytest.fixture
def rig(shared_rig: Rig, request: pytest.FixtureRequest) -> Rig:
    """The suite's node as it was after boot: no desired state, no managed file, no image, Docker with no mirror."""
    reset(shared_rig)
    watch_journal(request, shared_rig)
    return shared_rig


@pytest.fixture(scope="session")
def shared_stock_rig(suite: str) -> Iterator[Rig]:
    """One booted node of the suite whose runtimes are as their packages set them up."""
    with bootable(suite, "stock") as node:
        yield build_stock_rig(node)


@pytest.fixture
def stock_rig(shared_stock_rig: Rig, request: pytest.FixtureRequest) -> Rig:
    """The suite's stock node: no config_path, no daemon.json, nothing of ours."""
    reset(shared_stock_rig)
    watch_journal(request, shared_stock_rig)
    return shared_stock_rig


def watch_journal(request: pytest.FixtureRequest, rig: Rig) -> None:
    """Keep the node's journal from here on if the test fails."""
    request.node.stash[_JOURNAL] = (rig.node, rig.node.cursor())


@pytest.fixture
def stock_service(stock_rig: Rig) -> Iterator[Service]:
    """The agent on the stock node, stopped and without a desired state."""
    installed = _installed(stock_rig)
    yield installed
    installed.stop()


@pytest.fixture
def fresh_rig(suite: str, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A node of its own, for a test that leaves it unusable."""
    with bootable(suite, "fresh") as node:
        built = build_rig(node)
        request.node.stash[_JOURNAL] = (node, "")
        yield built


@pytest.fixture
def node(rig: Rig) -> Node:
    """The node of `rig`."""
    return rig.node


@pytest.fixture
def service(rig: Rig) -> Iterator[Service]:
    """The installed agent, stopped and without a desired state."""
    installed = _installed(rig)
    yield installed
    installed.stop()


@pytest.fixture
def fresh_service(fresh_rig: Rig) -> Service:
    """The agent on a node of its own."""
    return _installed(fresh_rig)


@pytest.fixture(scope="session")
def packages() -> Packages:
    """The packages of this checkout."""
    return _built(REPOSITORY)


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Those of a version that is newer than this checkout's, and differs from it."""
    return _built(newer_source(tmp_path_factory.mktemp("newer")))


def _built(source: Path) -> Packages:
    try:
        return built(source=source)
    except rootfs.CannotBuildError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def bare(rig: Rig) -> Iterator[Rig]:
    """The suite's node without the agent, before and after."""
    purge(rig.node)
    assert left_over(rig.node) == ""
    yield rig
    purge(rig.node)


def _installed(rig: Rig) -> Service:
    try:
        return Service.install(rig)
    except rootfs.CannotBuildError as missing:
        pytest.skip(str(missing))


def bootable(suite: str, name: str, *packages: str) -> Node:
    """A node of the suite that has these packages, too, to be booted; the test is skipped where that cannot be."""
    try:
        require_host()
        rootfs.ensure(suite, *packages)
    except rootfs.CannotBuildError as missing:
        pytest.skip(str(missing))
    return Node(suite, name=name, packages=packages)
