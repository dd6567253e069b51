"""Dying, failing and being disturbed at a system call: what proves that any call may be the last.

A function is watched through Python's own profile and audit hooks, so that nothing is patched and every call into the
kernel counts, whoever makes it: this project, the standard library, a dependency, in any thread.

In a forked child, so that what the function changes in memory is lost, and what it changes on disk stays:

    count_calls(f)               how many system calls f makes; list_calls(f) are their names
    count_writes(f)              how many of them touch a file system; list_writes(f) are their names
    run_killed_at(k, f)          f, killed with SIGKILL just before its k-th call
    run_killed_after(s, f)       f, killed at an arbitrary instant s seconds after it began
    in_child(f)                  f, unwatched: for what would spoil this process, or a long loop over the next two

In this process:

    run_failing_at(k, e, f)      f, whose k-th call fails with errno e instead of being made
    run_interleaved({k: g}, f)   f, with g done by somebody else just before the k-th call
"""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, TypeVar

import pytest

_MODULES = {"posix", "fcntl", "_io", "_socket", "socket", "_posixsubprocess", "select"}
"""Whose functions and methods are system calls, as good as all of them."""

_PURE = {"fspath", "strerror", "getpid", "_path_normpath", "_path_splitroot", "_path_splitroot_ex", "WIFEXITED"}

_BY_CTYPES = {("_kernel.py", "renameat2")}
"""Calls that Python's hooks do not see, by the functions that make them."""

_WRITES = {
    "rename", "replace", "renameat2", "link", "symlink", "unlink", "remove", "rmdir", "mkdir", "mkfifo", "mknod",
    "chmod", "fchmod", "lchmod", "chown", "fchown", "lchown", "setxattr", "removexattr", "utime", "truncate",
    "ftruncate", "fsync", "fdatasync", "sync", "posix_fallocate", "copy_file_range", "sendfile",
}  # fmt: skip

_OPENED_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

Function = Callable[[], object]
Result = TypeVar("Result")


def count_calls(function: Function) -> int:
    """How many system calls the function makes. What it raises is raised here, as an AssertionError."""
    return len(list_calls(function))


def list_calls(function: Function) -> list[str]:
    """Their names, in order."""

    def listing() -> list[str]:
        found: list[str] = []
        with _watching(found.append):
            function()
        return found

    found: list[str] = in_child(listing)
    return found


def count_writes(function: Function) -> int:
    """How many calls that touch a file system the function makes: 0 for one that only looks."""
    return len(list_writes(function))


def list_writes(function: Function) -> list[str]:
    """Those calls, each with the name of what it opened, where it is an open."""

    def listing() -> list[str]:
        found: list[str] = []
        sys.addaudithook(lambda event, arguments: found.extend(_opened_to_write(event, arguments)))
        with _watching(lambda name: found.append(name) if name in _WRITES else None):
            function()
        return list(found)

    found: list[str] = in_child(listing)
    return found


def _opened_to_write(event: str, arguments: tuple[Any, ...]) -> list[str]:
    if event != "open" or not isinstance(arguments[2], int) or not arguments[2] & _OPENED_TO_WRITE:
        return []
    return [f"open {arguments[0]}"]


def run_killed_at(call: int, function: Function) -> bool:
    """Run it until just before its system call number `call`, from 1. False: it came to its end before that."""

    def dying() -> None:
        counter = itertools.count(1)

        def count(_name: str) -> None:
            if next(counter) == call:
                os.kill(os.getpid(), signal.SIGKILL)

        with _watching(count):
            function()

    return in_child(dying) is KILLED


def run_killed_after(seconds: float, function: Function) -> bool:
    """Run it until an arbitrary instant, within a system call too. False: it came to its end before that."""

    def dying() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process as SIGKILL does: nothing is cleaned up
        signal.setitimer(signal.ITIMER_REAL, seconds)
        function()
        signal.setitimer(signal.ITIMER_REAL, 0)

    return in_child(dying) is KILLED


def run_failing_at(call: int, code: int, function: Callable[[], Result]) -> Result:
    """What the function returns if its system call number `call`, from 1, fails with errno `code`, once."""
    counter = itertools.count(1)

    def count(_name: str) -> None:
        if next(counter) == call:
            raise OSError(code, os.strerror(code))

    with _watching(count):
        return function()


def run_interleaved(others: Mapping[int, Function], function: Callable[[], Result]) -> Result:
    """What the function returns while somebody else acts just before some of its system calls, by their numbers.

    What the others do counts for nothing. Actions for calls that are never made are done at the end; one that would
    have to wait (BlockingIOError) is tried anew before the next call.
    """
    counter = itertools.count(1)
    left = dict(others)

    def count(_name: str) -> None:
        call = next(counter)
        action = left.pop(call, None)
        try:
            if action is not None:
                action()
        except BlockingIOError:
            left[call + 1] = action if call + 1 not in left else partial(_both, action, left[call + 1])

    with _watching(count):
        result = function()
    for call in sorted(left):
        left[call]()
    return result


def _both(first: Function, second: Function) -> None:
    first()
    second()


# --- watching --------------------------------------------------------------------------------------------------------


@contextmanager
def _watching(seen: Callable[[str], object]) -> Iterator[None]:
    """Call `seen` with the name of every system call within, just before it is made, in every thread."""

    def hook(frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            name = argument.__name__
            if _home(argument) in _MODULES and name not in _PURE:
                seen(name)
        elif event == "call":
            code = frame.f_code
            if (os.path.basename(code.co_filename), code.co_name) in _BY_CTYPES:
                seen(code.co_name)

    threading.setprofile(hook)
    sys.setprofile(hook)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _home(builtin: Any) -> str | None:
    """The module a built-in function comes from, or the type that it is a method of."""
    home: str | None = builtin.__module__
    return home or type(builtin.__self__).__module__


# --- the child -------------------------------------------------------------------------------------------------------

KILLED = object()


def in_child(function: Callable[[], Any]) -> Any:
    """What the function returns in a forked child; KILLED if that died by a signal.

    What the function raises is raised here, as an AssertionError with its traceback; a skip as a skip.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads that a test runner may have; the child starts anew
        child = os.fork()
    if child == 0:
        _live(function, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return KILLED
    end, value = pickle.loads(answer)
    if end == "skipped":
        pytest.skip(value)
    if end == "raised":
        raise AssertionError(f"in the child:\n{value}")
    return value


def _live(function: Callable[[], Any], writing: int) -> None:
    """The child's whole life. It must never return to what the parent was doing."""
    gc.freeze()  # what the parent has is not looked through here, page by copied page
    try:
        answer = ("returned", function())
    except pytest.skip.Exception as skipped:
        answer = ("skipped", skipped.msg)
    except BaseException:  # noqa: BLE001 -- it is raised again in the parent
        answer = ("raised", traceback.format_exc())
    try:
        with open(writing, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
    finally:
        os._exit(0)
