"""Docker's part of `import`: daemon.json and dockerd's flags. One entry serves both runtimes, so what another runtime
says is kept as it is; where Docker's own would change with it, Docker is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from agent.desired.build import default_server
from agent.desired.names import canonical_registry
from agent.desired.urls import canonical_url
from agent.found import Found, FoundRegistry
from agent.host import HostReader
from agent.ledger import Entry
from agent.model import DOCKER_HUB, DesiredState, DockerSettings, Mirror, Registry, Setting, UnitState
from agent.redact import redact
from agent.runtimes._daemon_json import Document
from agent.runtimes._docker_file import look_at
from agent.runtimes._docker_info import insecure_name
from agent.runtimes._docker_insecure import is_item
from agent.runtimes._docker_reload import INSECURE, MIRRORS
from agent.runtimes._docker_wants import hub_mirrors, insecure_registries, wants_of
from agent.runtimes._json_text import NotEditableError, strings_of

NAME = "docker"
_FLAGS = {"--registry-mirror": MIRRORS, "--insecure-registry": INSECURE}
_CONFIG_FILE = "--config-file"

Known = tuple[FoundRegistry, ...]


@dataclass(frozen=True, slots=True)
class _File:
    """A daemon.json: the mirrors in canonical spelling, the insecure registries as they stand, and what is ours."""

    path: str
    mirrors: tuple[str, ...]
    insecure: tuple[str, ...]
    entry: Entry | None
    is_managed_node: bool

    def owns(self, key: str) -> bool:
        return self.entry is not None and any(each.key == key for each in self.entry.keys)

    def is_item_taken(self, name: str) -> bool:
        """The same for one insecure registry."""
        return self.is_taken(f"{INSECURE}[{name[1:-1] if name.endswith(']') else name}]")

    def is_taken(self, key: str) -> bool:
        """Whether a key or entry belongs to the desired state: on a node that we manage, only what is ours."""
        return self.owns(key) if self.entry is not None else not self.is_managed_node


def find(host: HostReader, desired: DesiredState, unit: UnitState, known: Known) -> Found:
    """Docker's own entries, amended ones of others, and whether Docker can be managed along with them."""
    arguments = host.arguments(unit.main_pid) if unit.is_up else ()
    path = next(iter(_values(arguments, _CONFIG_FILE)), desired.docker.daemon_json)
    usual = DockerSettings()
    paths = (("daemon_json", path),) if path != usual.daemon_json else ()
    view = look_at(host, path)
    flags = [
        f"dockerd has {flag} as a flag: {_flag_advice(key)}" for flag, key in _FLAGS.items() if _values(arguments, flag)
    ]
    try:
        document = view.document
    except NotEditableError as error:
        return Found(NAME, installed=True, paths=paths, remarks=(*flags, f"{path} cannot be read: {error}"))
    remarks = list(flags)
    file = _file(path, document, view.entry, remarks, is_managed_node=bool(host.ledger().entries))
    settings = _settings(document, file)
    remarks += _foreign(document, file)
    part = _Part(file, known, tuple(remarks)).found()
    manage = None if flags and part.manage else part.manage
    return replace(part, manage=manage or (True if settings else None), settings=settings, paths=paths)


def _flag_advice(key: str) -> str:
    return f"Docker does not start with {key} in daemon.json as well, so it is not taken over; remove the flag first"


def _values(arguments: tuple[str, ...], flag: str) -> tuple[str, ...]:
    found = []
    for word, following in zip(arguments, (*arguments[1:], ""), strict=False):
        name, equals, value = word.partition("=")
        if name == flag:
            found.append(value if equals else following)
    return tuple(found)


def _file(path: str, document: Document, entry: Entry | None, remarks: list[str], *, is_managed_node: bool) -> _File:
    mirrors = []
    for text in strings_of(document.get(MIRRORS)) or ():
        try:
            mirrors.append(canonical_url(text))
        except ValueError as error:
            remarks.append(f"{path}: {MIRRORS}: {redact('', text)} is left out: it {error}")
    insecure = strings_of(document.get(INSECURE)) or ()
    return _File(path, tuple(dict.fromkeys(mirrors)), insecure, entry, is_managed_node)


def _settings(document: Document, file: _File) -> tuple[Setting, ...]:
    """The keys that are ours; all others stay foreign."""
    keys = [each.key for each in file.entry.keys] if file.entry else []
    names = [key for key in keys if key not in {MIRRORS, INSECURE} and not is_item(key)]
    values = {key: document.get(key) for key in names}
    return tuple(Setting(key, value) for key, value in values.items() if value is not None)


def _foreign(document: Document, file: _File) -> Iterator[str]:
    for text in file.insecure:
        name = _registry(text)
        if not name:
            yield f"{file.path}: {INSECURE}: {redact('', text)} stays: it is no registry that an image can name"
        elif not file.is_item_taken(name):
            yield f"{file.path}: {INSECURE}: {name} is not managed by mirror-agent and stays as it is"
    if file.mirrors and not file.is_taken(MIRRORS):
        yield f"{file.path}: {MIRRORS} is not managed by mirror-agent and stays as it is: {', '.join(file.mirrors)}"
    others = [key for key in document.values() if key not in {MIRRORS, INSECURE} and not file.owns(key)]
    if others:
        yield f"{file.path}: not managed: {', '.join(others)}; what is listed under docker.settings is"


@dataclass(frozen=True, slots=True)
class _Part:
    """One daemon.json beside the registries that other runtimes know."""

    file: _File
    known: Known
    remarks: tuple[str, ...]

    def found(self) -> Found:
        """Amend what is known, add what only Docker has, and see whether Docker then stays as it is."""
        entries = {each.entry.name: self._amended(each) for each in self.known}
        own = [each for each in self._own() if each.entry.name not in entries]
        silent = bool(self.known)
        entries |= {each.entry.name: each if not silent or self._is_ours(each) else _silenced(each) for each in own}
        state = DesiredState("", registries=tuple(each.entry for each in entries.values() if not each.is_silent))
        differences = tuple(self._differences(state))
        changed = tuple(each for each in entries.values() if each not in self.known)
        if differences and self.file.entry is None:
            told = tuple(f"Docker is left alone, for it differs: {each}" for each in differences)
            silenced = tuple(each for each in changed if each.is_silent)
            return Found(NAME, installed=True, registries=silenced, remarks=(*self.remarks, *told))
        manage = None if wants_of(state).is_empty and not changed else True
        remarks = (*self.remarks, *differences)
        return Found(NAME, installed=True, manage=manage, registries=changed, remarks=remarks)

    def _amended(self, known: FoundRegistry) -> FoundRegistry:
        """The same for containerd, in the words that are right for Docker too."""
        entry = known.entry
        listed = insecure_name(entry.name) in self._listed()
        if entry.plain_http and not listed:
            return replace(known, entry=replace(entry, plain_http=False))
        says_nothing = not entry.insecure and not entry.plain_http and entry.name != DOCKER_HUB
        if listed and says_nothing and self.file.is_item_taken(entry.name):
            return replace(known, entry=_listed_as_insecure(entry))
        return known

    def _listed(self) -> frozenset[str]:
        return frozenset(map(insecure_name, self.file.insecure))

    def _own(self) -> Iterator[FoundRegistry]:
        source = (self.file.path,)
        if self.file.mirrors and self.file.is_taken(MIRRORS):
            mirrors = tuple(Mirror(url) for url in self.file.mirrors)
            yield FoundRegistry(Registry(DOCKER_HUB, default_server(DOCKER_HUB), mirrors), source)
        for text in self.file.insecure:
            name = _registry(text)
            if name and self.file.is_item_taken(name):
                yield FoundRegistry(Registry(name, default_server(name), insecure=True), source)

    def _is_ours(self, found: FoundRegistry) -> bool:
        key = MIRRORS if found.entry.name == DOCKER_HUB else f"{INSECURE}[{found.entry.name}]"
        return self.file.owns(key)

    def _differences(self, state: DesiredState) -> Iterator[str]:
        """What would change in daemon.json."""
        wanted = hub_mirrors(state)
        if wanted and wanted != self.file.mirrors:
            yield f"{MIRRORS} is {', '.join(self.file.mirrors) or 'not set'}, and would be {', '.join(wanted)}"
        missing = [host for host in insecure_registries(state) if insecure_name(host) not in self._listed()]
        if missing:
            yield f"{INSECURE} does not list {', '.join(missing)}"


def _silenced(found: FoundRegistry) -> FoundRegistry:
    why = "only Docker has this; as an entry containerd would get it too"
    return replace(found, is_silent=True, remarks=(*found.remarks, why))


def _listed_as_insecure(entry: Registry) -> Registry:
    """The entry with the word that lists it for Docker and changes nothing for containerd, if there is one."""
    if entry.server.startswith("http://"):
        return replace(entry, plain_http=True)
    if not _verifies(entry):
        return replace(entry, insecure=True)
    return entry if entry.fallback else replace(entry, plain_http=True, server=f"http://{entry.name}")


def _verifies(entry: Registry) -> bool:
    """Whether `insecure` would change anything for containerd: it asks the registry's own host over https."""
    asked = [mirror.url for mirror in entry.mirrors if _host(mirror.url) in {entry.name, _host(entry.server)}]
    return any(url.startswith("https://") for url in (*asked, *([entry.server] if entry.fallback else ())))


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _registry(text: str) -> str:
    """The registry that an entry of insecure-registries is about; "" for a network or what no image can name."""
    try:
        name = insecure_name(text)
        return canonical_registry(f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name)
    except ValueError:
        return ""
