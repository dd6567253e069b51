"""What a config.toml imports, as containerd finds it: file after file, with what those import themselves.

A name is a pattern if it has a `*` in it; one that is relative is below the directory of the file that names it; each
file is read once (containerd cmd/containerd/server/config LoadConfig, resolveImports @ v1.5 … v2.3).
"""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterator

from agent.host import HostReader
from agent.model import Absent, FileState, Regular
from agent.runtimes._config_toml import imports_of

_MOST_FILES = 200
"""Nobody has so many; more than that is a mistake, and would be read again and again."""


def imported_files(host: HostReader, importing: str, config: FileState) -> Iterator[tuple[str, FileState]]:
    """The imported files, in containerd's order."""
    ahead, seen = [(importing, config)], {importing}
    while ahead:
        parent, state = ahead.pop(0)
        for pattern in _patterns(state):
            for path in _matches(host, posixpath.normpath(posixpath.join(posixpath.dirname(parent), pattern))):
                if path not in seen and len(seen) <= _MOST_FILES:
                    seen.add(path)
                    ahead.append((path, host.read(path)))
                    yield ahead[-1]


def _patterns(config: FileState) -> tuple[str, ...]:
    if isinstance(config, Absent) or not isinstance(config, Regular):
        return ()
    try:
        return imports_of(config.content.decode())
    except ValueError:
        return ()


def _matches(host: HostReader, pattern: str) -> list[str]:
    """The path itself, or what a pattern finds, step by step."""
    if "*" not in pattern:
        return [pattern]
    found = [""]
    for part in pattern.split("/")[1:]:
        if "*" in part:
            found = [f"{above}/{name}" for above in found for name in _names(host, above or "/", part)]
        else:
            found = [f"{above}/{part}" for above in found]
    return [path for path in found if host.exists(path)]


def _names(host: HostReader, directory: str, pattern: str) -> list[str]:
    return [name for name in host.list_directory(directory) or () if fnmatch.fnmatchcase(name, pattern)]
