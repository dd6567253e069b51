"""What holds for every test: node tests come last, and a run ends with one line per kind of test and its seconds."""

from collections import defaultdict
from collections.abc import Container
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, however busy the machine is.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

_HERE = Path(__file__).parent
_KINDS = ("unit and case", "slow", "node")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden trees of tests/cases anew")
    parser.addoption("--quick", action="store_true", help="leave out what is marked slow: thousands of rounds")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written instead of only compared."""
    return bool(request.config.getoption("--update-golden"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Seconds first, minutes last: what fails fast is seen fast."""
    if config.getoption("--quick"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
    items.sort(key=lambda item: _KINDS.index(_kind(item.path.relative_to(_HERE).parts[0], item.keywords)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long each kind of test took from its first to its last, and how many there were."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            spans[_kind(Path(report.nodeid).parts[1], report.keywords)].append((report.start, report.stop))
    for kind, times in spans.items():
        seconds = max(stop for _, stop in times) - min(start for start, _ in times)
        terminalreporter.write_line(f"{kind} tests: {len(times)} in {seconds:.1f} s")


def _kind(directory: str, keywords: Container[str]) -> str:
    if directory == "node":
        return "node"
    return "slow" if "slow" in keywords else "unit and case"
