"""Waiting for something to become true in a node, with a deadline and a name for what is awaited."""

import time
from collections.abc import Callable
from typing import TypeVar

POLL_SECONDS = 0.05
_T = TypeVar("_T")


class NodeError(AssertionError):
    """A node did not do what the harness needs; an assertion error, so that pytest shows it as a failed test."""


def wait_until(predicate: Callable[[], _T], deadline_seconds: float, what: str) -> _T:
    """Poll until `predicate` gives something true, and give it back. NodeError, naming `what`, after the deadline."""
    ends = time.monotonic() + deadline_seconds
    while True:
        found = predicate()
        if found:
            return found
        if time.monotonic() > ends:
            raise NodeError(f"waited {deadline_seconds:g} s in vain for {what} (last seen: {found!r})")
        time.sleep(POLL_SECONDS)
