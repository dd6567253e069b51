"""What this process leaves out, and how it starts: memory and time that every node would pay for nothing.

Only for a process of our own, from `main`: whoever imports the package as a library keeps his interpreter as it is.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import types

GARBAGE_THRESHOLD = 10_000
"""Objects between two collections, instead of Python's 700: modules that are loaded, and cycles that run, make next to
no garbage that only a collection finds."""


def begin() -> None:
    """To be called before the first command is imported. It looks for no garbage from then on."""
    gc.disable()
    _leave_out_openssl()
    _leave_out_plugins()
    _leave_out_compressors()


def collect_garbage() -> None:
    """For who stays. Every other command has ended before there is any to speak of, and saves the search for it: a
    twentieth of its time."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    gc.enable()


def _leave_out_openssl() -> None:
    """pydantic imports `secrets`, and that all of libcrypto: 3.4 MB for a function that is never called. hashlib then
    takes the interpreter's own SHA-256, except on Fedora and RHEL, whose Python has none."""
    if any(importlib.util.find_spec(name) for name in ("_sha2", "_sha256")):
        sys.modules.setdefault("_hashlib", None)  # type: ignore[arg-type]  # the import system's "there is none"


def _leave_out_plugins() -> None:
    """pydantic looks through every installed package for plugins to load: time, and code that a process of root should
    not run unasked. This is its documented switch; no child inherits it (agent.programs.ENVIRONMENT). The module that
    reads the switch loads importlib.metadata and zipfile first, 1 MB, so one that answers the same stands in for it."""
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    loader = types.ModuleType("pydantic.plugin._loader")
    loader.get_plugins = tuple  # type: ignore[attr-defined]
    sys.modules.setdefault(loader.__name__, loader)


def _leave_out_compressors() -> None:
    """watchdog imports ctypes.util, that shutil, and that every compressor there is, for archives that nobody makes:
    0.4 MB. shutil does without those that a Python was built without."""
    for name in ("bz2", "lzma"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # as above
