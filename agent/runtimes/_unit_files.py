"""How a unit will be started next: its command line from the unit's files, with the file of every word.

Read from the files and not asked of systemd, so that the file can be named, a change is noticed by watching, and a
machine that is not running can be judged too. Source: systemd.unit(5) (search path, drop-ins), systemd.exec(5)
(Environment=, EnvironmentFile=), systemd.service(5) (command lines).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.host import HostReader
from agent.model import Regular
from agent.runtimes._docker_flags import Word

_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PREFIXES = "-@:+!|"


@dataclass(slots=True)
class _Service:
    """What the files say so far: each value with the file that holds it."""

    commands: list[Word] = field(default_factory=list)
    variables: dict[str, Word] = field(default_factory=dict)
    environment_files: list[str] = field(default_factory=list)

    def take(self, name: str, value: str, path: str) -> None:
        """One assignment; an empty one forgets those before it."""
        if name == "ExecStart":
            self.commands = [*self.commands, Word(value, path)] if value else []
        elif name == "EnvironmentFile":
            self.environment_files = [*self.environment_files, value.removeprefix("-")] if value else []
        elif name == "Environment":
            pairs = (word.partition("=") for word in _split(value))
            found = {key: Word(text, path) for key, _, text in pairs}
            self.variables = {**self.variables, **found} if value else {}


def next_start(host: HostReader, unit: str) -> tuple[Word, ...]:
    """The command line of the unit's next start, without the program; () if no file tells it."""
    service = _read(host, unit)
    for path in service.environment_files:
        for name, value in _lines(_text(host, path)):
            service.variables[name] = Word(value, path)
    return tuple(word for command in service.commands[:1] for word in _words(command, service.variables))


def next_program(host: HostReader, unit: str) -> str:
    """The program of the unit's next start, "" if no file tells its path."""
    commands = _read(host, unit).commands
    words = _split(commands[0].text) if commands else []
    program = words[0].lstrip(_PREFIXES) if words else ""
    return program if program.startswith("/") else ""


def _read(host: HostReader, unit: str) -> _Service:
    service = _Service()
    for path in _files(host, unit):
        for name, value in _assignments(_text(host, path)):
            service.take(name, value, path)
    return service


def _files(host: HostReader, unit: str) -> Iterator[str]:
    """The unit's file, then its drop-ins by name; of two with one name the first directory's counts."""
    listings = {path: host.list_directory(path) or () for path in _DIRECTORIES}
    yield from [f"{path}/{unit}" for path, names in listings.items() if unit in names][:1]
    found: dict[str, str] = {}
    for path, names in listings.items():
        directory = f"{path}/{unit}.d"
        inside = (host.list_directory(directory) or ()) if f"{unit}.d" in names else ()
        for name in inside:
            if name.endswith(".conf"):
                found.setdefault(name, f"{directory}/{name}")
    yield from (found[name] for name in sorted(found))


def _text(host: HostReader, path: str) -> str:
    state = host.read(path)
    return state.content.decode("utf-8", "replace") if isinstance(state, Regular) else ""


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """The assignments of [Service]."""
    section = ""
    for line in _logical_lines(text):
        if line.startswith("["):
            section = line
        elif section == "[Service]":
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """The assignments of an environment file."""
    for line in _logical_lines(text):
        name, equals, value = line.partition("=")
        if equals:
            yield name.strip(), " ".join(_split(value))


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments, those that end with a backslash joined with the next."""
    kept = ""
    for line in text.splitlines():
        if line.lstrip().startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            kept += line[:-1] + " "
            continue
        if whole := (kept + line).strip():
            yield whole
        kept = ""
    if kept.strip():
        yield kept.strip()


def _words(command: Word, variables: dict[str, Word]) -> Iterator[Word]:
    """The words after the program. `$NAME` as a word of its own is many words, `${NAME}` is a part of one."""
    program, *words = _split(command.text) or [""]
    skipped = 1 if "@" in program[: len(program) - len(program.lstrip(_PREFIXES))] else 0
    for word in words[skipped:]:
        variable = variables.get(word[1:]) if word.startswith("$") else None
        if variable is not None:
            yield from (Word(part, variable.source) for part in _split(variable.text))
        elif not re.fullmatch(r"\$\w+", word):
            yield from _substituted(Word(word, command.source), variables)


def _substituted(word: Word, variables: dict[str, Word]) -> Iterator[Word]:
    nothing = Word("", word.source)
    text = _VARIABLE.sub(lambda match: variables.get(match[1], nothing).text, word.text)
    whole = _VARIABLE.fullmatch(word.text)
    yield Word(text, variables.get(whole[1], nothing).source if whole else word.source)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
