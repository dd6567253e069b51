"""Where a desired state comes from: the file, checked for who may write it, and what may be wrong with it as a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from agent import desired
from agent.errors import WHOLE_FILE, DesiredStateError, HostError, Problem
from agent.host import HostReader
from agent.model import Absent, DesiredState, Regular, Unusable


@dataclass(frozen=True, slots=True)
class Source:
    """A desired state's bytes as they were found, before anybody looked into them."""

    path: str
    data: bytes


def read(host: HostReader, path: str, owner: int) -> Source:
    """The file's bytes. Raises HostError if there is no such file, DesiredStateError if others than root (uid 0) and
    `owner` could have written it: a root process obeys it."""
    match host.read(path):
        case Absent():
            raise HostError(path, "no such file", 'write one: the line "version: 1" is enough to begin with')
        case Unusable(reason):
            raise HostError(path, reason)
        case Regular() as file:
            _check_writers(path, file, owner)
            return Source(path, file.content)


def load(source: Source) -> DesiredState:
    """The desired state of those bytes. Raises DesiredStateError with every problem."""
    return desired.load(source.data, source.path)


def warnings(source: Source, state: DesiredState, host: HostReader) -> tuple[Problem, ...]:
    """What is doubtful about a valid desired state, on this machine."""
    file = host.read(state.docker.daemon_json)
    is_open = isinstance(file, Regular) and bool(file.mode & 0o044)
    return desired.lint(source.data, source.path, is_daemon_json_open=is_open)


def writable(state: DesiredState) -> tuple[str, ...]:
    """The directories that the desired state has us write in."""
    config, daemon_json = state.containerd.config, state.docker.daemon_json
    return (state.containerd.certs_dir, os.path.dirname(config), os.path.dirname(daemon_json))


def secrets(state: DesiredState, host: HostReader) -> Iterator[str]:
    """Every value that may be secret: those of headers, written in the desired state or in files of their own."""
    for mirror in (mirror for registry in state.registries for mirror in registry.mirrors):
        for header in mirror.headers:
            yield from header.values
        for file in mirror.header_files:
            found = host.read(file.path)
            if isinstance(found, Regular):
                yield found.content.decode("utf-8", "replace").strip()


def _check_writers(path: str, file: Regular, owner: int) -> None:
    if file.uid not in {0, owner}:
        raise _refusal(f"belongs to user {file.uid}; run: chown root {path}")
    if file.mode & 0o022:
        raise _refusal(f"can be written by others than its owner (mode {file.mode:04o}); run: chmod go-w {path}")


def _refusal(message: str) -> DesiredStateError:
    return DesiredStateError((Problem(1, 1, WHOLE_FILE, message),))
