"""Every golden case: the plan it makes, the tree it leaves, and that a second look finds nothing to do."""

import tomllib

import pytest

from agent import converge, runtimes
from agent.events import Event
from tests import golden


@pytest.mark.parametrize("case", golden.all_cases(), ids=str)
def test_case(case: golden.Case, update_golden: bool) -> None:
    """The desired state turns before/ into after/ by exactly the plan of plan.txt, and then wants nothing more."""
    host, desired = golden.host_of(case), golden.desired_of(case)
    runtime = next(item for item in runtimes.discover() if item.name == case.runtime)
    plan = runtime.plan(desired, runtime.observe(host, desired))
    events: list[Event] = []
    converge.converge(desired, host, events.append, acts=True)
    again = runtime.plan(desired, runtime.observe(host, desired))
    if update_golden:
        golden.write_golden(case, golden.plan_text(plan), golden.tree_of(host, case))
    assert golden.plan_text(plan) == (case.path / "plan.txt").read_text()
    assert golden.tree_of(host, case) == golden.read_tree(case.path / "after")
    assert (again.actions, again.claims, again.releases) == ((), (), ())
    assert again.conflicts == plan.conflicts


def test_real_files_say_whose_they_are() -> None:
    """Thirty files and more that tools and distributions write for containerd are here, with their sources."""
    real = [case for case in golden.all_cases() if case.name.startswith(("real-", "kubelet-"))]
    scripts = {case.name: tomllib.loads((case.path / "host.toml").read_text()) for case in real}
    assert [name for name, script in scripts.items() if not script.get("source")] == []
    assert sum(case.runtime == "containerd" for case in real) >= 30


def test_the_cases_are_found() -> None:
    """Cases are discovered, so that the test above cannot pass by running nothing."""
    assert "containerd" in {case.runtime for case in golden.all_cases()}
