"""A directory of hosts.toml, one below a directory for each registry: what was seen of it, and what is to become of it.

containerd reads one such tree at each pull, and so does Docker 28 and later with the containerd image store. Who reads
it decides which registries are wanted in it; everything else is the same for both, and stands here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain

from agent.desired.build import default_server
from agent.host import HostReader
from agent.ledger import Entry, Ledger
from agent.model import Mirror, Registry, Regular
from agent.plan import Conflict, MakeDirectory, WriteFile
from agent.render import Memo, is_ours
from agent.runtimes._certs_dir import (
    HOSTS_TOML,
    CertsDir,
    Directory,
    Place,
    choose,
    is_registry_name,
    look_at_root,
    look_for,
    registry_of,
    trust_of,
)
from agent.runtimes._hosts_file import Part, Surplus, Wanted, empty_directories, give_back, plan_wanted
from agent.runtimes._hosts_reading import means_the_same
from agent.runtimes._hosts_toml import Recipe, meaning
from agent.runtimes._material import Material, examine

_MOVED = "was in an old table of config.toml"
_IN_THE_WAY = (Place.FILE, Place.DANGLING, Place.CLOSED)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads the tree: as the ledger calls it (`runtime`) and as people do (`title`). Where it is not managed, or
    `unread` says why nobody reads it, everything is to be given back."""

    runtime: str
    title: str
    is_managed: bool = True
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """What was seen. `directories` are those that count, by registry; `material` judges the files that the desired
    state names, by path; `entries` are the hosts.toml that we own; `surplus` are those of them that are not wanted."""

    root: CertsDir
    directories: Mapping[str, Directory] = field(default_factory=dict)
    material: Mapping[str, Material] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)
    surplus: tuple[Surplus, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """What the tree shall be: `registries` get a file each, `named` are all that the desired state knows; `source` is
    where that was read from; `moved` are registries that old tables of config.toml named instead."""

    reader: Reader
    registries: tuple[Registry, ...]
    named: frozenset[str]
    source: str
    moved: frozenset[str] = frozenset()


def look_at_tree(host: HostReader, path: str, reader: Reader, registries: tuple[Registry, ...]) -> Tree:
    """Look only at what the desired state and the ledger name; list the tree once."""
    root = look_at_root(host, path)
    directories = {each.name: choose(each.name, look_for(host, root, each.name)) for each in registries}
    wanted = {directory.file for directory in directories.values()}
    ledger = host.ledger()
    entries = entries_of(ledger, reader.runtime)
    unknown = _orphans(host, root, wanted | entries.keys(), reader.runtime) if ledger.lost else ()
    unwanted = (*(entry for path, entry in entries.items() if path not in wanted), *unknown)
    return Tree(
        root,
        directories,
        material={path: examine(host.read(path)) for path in sorted(set(_named_files(registries)))},
        entries=entries,
        surplus=tuple(_surplus(host, entry) for entry in unwanted),
    )


def entries_of(ledger: Ledger, runtime: str) -> dict[str, Entry]:
    """The hosts.toml of one runtime that we own, by path."""
    return {entry.path: entry for entry in ledger.owned_by(runtime) if entry.path.endswith(f"/{HOSTS_TOML}")}


def plan_tree(task: Task, tree: Tree, texts: Memo[Recipe, bytes]) -> list[Part]:
    """The parts of the plan: certs.d itself, a part for each registry, directories that are left empty."""
    parts = [*_wanted(task, tree, texts), *_given_back(task, tree)]
    refused = {conflict.registry for part in parts for conflict in part.conflicts}
    used = {found.path for name, found in tree.directories.items() if name not in refused}
    used |= {path for path in _parents(f"{tree.root.path}/") if used}
    return [*_root_part(tree.root, parts), *parts, empty_directories(tree.surplus, parts, used)]


# --- looking ---------------------------------------------------------------------------------------------------------


def _named_files(registries: Iterable[Registry]) -> Iterator[str]:
    for mirror in chain.from_iterable(registry.mirrors for registry in registries):
        yield from mirror.ca
        yield from (path for pair in mirror.client for path in (pair.cert, pair.key) if path)
        yield from (file.path for file in mirror.header_files)


def _surplus(host: HostReader, entry: Entry) -> Surplus:
    listings = {path: host.list_directory(path) for path in entry.made_directories}
    original = host.original(entry.original.sha256) if entry.original.existed else None
    names = {path: found for path, found in listings.items() if found is not None}
    return Surplus(entry, host.read(entry.path), original, names)


def _orphans(host: HostReader, root: CertsDir, known: set[str], runtime: str) -> tuple[Entry, ...]:
    """Without a ledger, what carries our header is ours; that nothing stood there before is the best guess. `known`
    are files of which there is more to say."""
    paths = {name: f"{root.path}/{name}/{HOSTS_TOML}" for name in sorted(root.names) if name.isprintable()}
    found = []
    for name, path in paths.items():
        state = host.read(path) if path not in known else None
        if isinstance(state, Regular) and is_ours(state.content):
            directory = f"{root.path}/{name}"
            is_alone = host.list_directory(directory) == (HOSTS_TOML,)
            made = (directory,) if is_alone else ()
            found.append(Entry(path, runtime, made_directories=made, is_doubtful=True))
    return tuple(found)


# --- what is wanted --------------------------------------------------------------------------------------------------


def _wanted(task: Task, tree: Tree, texts: Memo[Recipe, bytes]) -> Iterator[Part]:
    """A part for each registry that needs a file: its conflicts if it has any, else its file."""
    conflicts = [tuple(conflicts_of(registry, tree)) for registry in task.registries]
    yield from (Part(conflicts=found) for found in conflicts if found)
    possible = [registry for registry, found in zip(task.registries, conflicts, strict=True) if not found]
    recipes = [_recipe(task.source, tree, registry) for registry in possible]
    made = _MadeDirectories.of(tree)
    for recipe, content in zip(recipes, texts.round(recipes), strict=True):
        wanted = _wanted_file(recipe, tree, content, made)
        is_moved = recipe.registry.name in task.moved
        yield plan_wanted(replace(wanted, news=_MOVED) if is_moved else wanted, task.reader.title)


def _recipe(source: str, tree: Tree, registry: Registry) -> Recipe:
    files = chain.from_iterable(mirror.header_files for mirror in registry.mirrors)
    secrets = tuple(tree.material[file.path].header for file in files)
    return Recipe(source, registry, trust_of(tree.directories[registry.name]), secrets)


@dataclass(frozen=True, slots=True)
class _MadeDirectories:
    """Those that we made (`known`) or are about to make: `above` are certs.d and its parents among them."""

    known: frozenset[str]
    above: tuple[str, ...]

    @classmethod
    def of(cls, tree: Tree) -> _MadeDirectories:
        known = frozenset(chain.from_iterable(entry.made_directories for entry in tree.entries.values()))
        ours = {*tree.root.missing, *known}
        return cls(known, tuple(path for path in _parents(f"{tree.root.path}/") if path in ours))

    def to(self, directory: Directory) -> tuple[str, ...]:
        is_ours = directory.place is Place.MISSING or directory.path in self.known
        return (*self.above, directory.path) if is_ours else self.above


def _wanted_file(recipe: Recipe, tree: Tree, content: bytes, made: _MadeDirectories) -> Wanted:
    registry = recipe.registry
    directory = tree.directories[registry.name]
    entry = tree.entries.get(directory.file)
    return Wanted(
        registry=registry.name,
        directory=directory,
        content=content,
        is_secret=any(mirror.headers or mirror.header_files for mirror in registry.mirrors),
        entry=entry,
        made_directories=made.to(directory),
        is_said=not recipe.secrets and _is_said(directory, entry, recipe),
        because=registry.difference,
    )


def _is_said(directory: Directory, entry: Entry | None, recipe: Recipe) -> bool:
    """Whether the file that stood there before us says it. It is left as it is then, so that taking over a node that
    has it all changes nothing there."""
    state = directory.hosts_toml
    if not isinstance(state, Regular) or is_ours(state.content):
        return False
    if entry is not None and entry.original.sha256 != sha256(state.content).hexdigest():
        return False
    return means_the_same(state, directory.path, meaning(recipe), default_server(recipe.registry.name))


def _parents(path: str) -> Iterator[str]:
    """Every directory above a path but the root, outermost first."""
    return (path[:end] for end, letter in enumerate(path) if letter == "/" and end > 0)


def conflicts_of(registry: Registry, tree: Tree) -> Iterator[Conflict]:
    """What keeps a registry's file from being written: every reason, each with the path that it is about."""
    name = registry.name
    if not is_registry_name(name):
        yield Conflict(tree.root.path, "a registry of the desired state has a name that is none", name)
        return
    if not registry.fallback and not registry.mirrors:
        yield Conflict(tree.root.path, f"{name} has neither mirrors nor fallback: nothing is left to ask", name)
    if tree.root.obstacle is not None:
        path, place = tree.root.obstacle
        yield Conflict(path, f"{place.value}: remove it, then the file for {name} can be written", name)
    directory = tree.directories[name]
    if directory.place in _IN_THE_WAY:
        consequence = "every pull fails" if directory.place is Place.FILE else "nothing can be written there"
        yield Conflict(directory.path, f"{directory.place.value}, so {consequence} for {name}: remove it", name)
    for mirror in registry.mirrors:
        yield from _material_conflicts(name, mirror, tree.material)


def _material_conflicts(name: str, mirror: Mirror, material: Mapping[str, Material]) -> Iterator[Conflict]:
    """Files that a mirror needs and that cannot serve: containerd would fail every pull of the registry."""
    for path in mirror.ca:
        yield from _unusable(name, mirror, (path, "ca"), material[path].certificate_problem)
    for pair in mirror.client:
        problem = material[pair.cert].certificate_problem
        yield from _unusable(name, mirror, (pair.cert, "client certificate"), problem)
        if pair.key or not problem:
            key = pair.key or pair.cert
            yield from _unusable(name, mirror, (key, "client key"), material[key].key_problem)
    for file in mirror.header_files:
        yield from _unusable(name, mirror, (file.path, f"header {file.name}"), material[file.path].header_problem)


def _unusable(name: str, mirror: Mirror, what: tuple[str, str], problem: str) -> Iterator[Conflict]:
    path, role = what
    if problem:
        reason = f"{problem}; {name} needs it as the {role} of {mirror.url}: put it right, or take it out there"
        yield Conflict(path, reason, name)


# --- what is not wanted any more -------------------------------------------------------------------------------------


def _given_back(task: Task, tree: Tree) -> Iterator[Part]:
    """A part for each file that is ours and not wanted."""
    title = task.reader.title
    for surplus in tree.surplus:
        parent, _, directory = surplus.entry.path.removesuffix(f"/{HOSTS_TOML}").rpartition("/")
        registry = registry_of(directory)
        if not task.reader.is_managed:
            reason = f"{title} is not managed any more"
        elif task.reader.unread:
            reason = task.reader.unread
        elif parent != tree.root.path:
            reason = f"certs_dir is {tree.root.path} now"
        elif registry in tree.directories:
            reason = f"{title} looks into another directory for {registry}"
        elif registry in task.named:
            reason = f"{registry} needs nothing of {title} any more"
        else:
            reason = f"{registry} is not in the desired state any more"
        yield give_back(surplus, registry, reason)


def _root_part(root: CertsDir, parts: Iterable[Part]) -> Iterator[Part]:
    """certs.d itself and what is missing above it, if anything is written there."""
    if any(path.startswith(f"{root.path}/") for part in parts for path in _written(part)):
        yield Part(tuple(MakeDirectory(path, "it does not exist yet") for path in root.missing))


def _written(part: Part) -> Iterator[str]:
    return (action.path for action in part.actions if isinstance(action, WriteFile))
