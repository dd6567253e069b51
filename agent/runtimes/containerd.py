"""containerd: one hosts.toml per registry below certs.d, which every pull reads anew, and once, config_path.

observe looks only at what the desired state and the ledger name, and lists certs.d once.
plan is made of parts that know one thing each: _hosts_toml (what a file must say), _hosts_tree (all of certs.d, also
for Docker), _certs_dir (which directory counts, and the certificates in it), _material (are the files that it names
usable), _hosts_file (from the file as it stands to the wanted one and back), _config_plan (config_path in config.toml,
and the one restart it takes), _legacy_plan (the old tables of config.toml, which config_path replaces). report adds
_containerd_config (does the running daemon read certs.d at all).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.host import HostReader
from agent.model import DesiredState, Manage, Registry, RuntimeReport
from agent.plan import FileAction, MakeDirectory, Plan, RemoveDirectory, RemoveFile, WriteFile
from agent.render import Memo
from agent.runtimes import Runtime
from agent.runtimes._certs_dir import trust_of
from agent.runtimes._config_file import ConfigFile, look_at_config
from agent.runtimes._config_plan import ConfigPlan, plan_config
from agent.runtimes._containerd_config import NAME, UNIT, Daemon, look_at_daemon
from agent.runtimes._containerd_report import Files, report
from agent.runtimes._hosts_file import Part
from agent.runtimes._hosts_toml import Recipe, registries_with_files, text
from agent.runtimes._hosts_tree import Reader, Task, Tree, look_at_tree, plan_tree
from agent.runtimes._legacy_decide import live_tables
from agent.runtimes._legacy_plan import Migration, checked, has_migrated, look_at_migration, with_migrated

if TYPE_CHECKING:
    from agent.found import Found, FoundRegistry
    from agent.image import Image
    from agent.proof import Bait, Proof
    from agent.route import Route


@dataclass(frozen=True, slots=True)
class ObservedContainerd:
    """What was seen of the daemon and of certs.d."""

    daemon: Daemon
    config: ConfigFile
    tree: Tree
    migration: Migration


class Containerd:
    """Implements agent.runtimes.Runtime. What was rendered for the last plan is remembered; nothing else is."""

    name = NAME
    owns: tuple[str, ...] = ("/etc/containerd",)
    unit: str | None = UNIT

    def __init__(self) -> None:
        self._texts: Memo[Recipe, bytes] = Memo(text)

    def observe(self, host: HostReader, desired: DesiredState) -> ObservedContainerd:
        daemon = look_at_daemon(host, desired)
        config = look_at_config(host, desired, daemon)
        migration = look_at_migration(config, desired) if _registries(desired) else Migration()
        registries = _registries(with_migrated(desired, migration))
        tree = look_at_tree(host, desired.containerd.certs_dir, _reader(desired), registries)
        return ObservedContainerd(daemon, config, tree, checked(migration, tree, config, _registries(desired)))

    def plan(self, desired: DesiredState, observed: ObservedContainerd) -> Plan:
        if desired.containerd.manage is Manage.AUTO and not observed.daemon.is_installed:
            return Plan(NAME)
        config = plan_config(observed.config, desired, observed.migration, wanted=bool(_registries(desired)))
        whole = with_migrated(desired, observed.migration) if config.migrates else desired
        named = frozenset(registry.name for registry in whole.registries)
        moved = observed.migration.names
        task = Task(_reader(desired), _registries(whole), named, desired.source, moved)
        return _assembled([*plan_tree(task, observed.tree, self._texts), config.part], config)

    def report(self, desired: DesiredState, observed: ObservedContainerd) -> RuntimeReport:
        directories = observed.tree.directories
        notes = {name: trust_of(directory).left_out for name, directory in directories.items()}
        paths = {name: directory.file for name, directory in directories.items()}
        is_done = has_migrated(observed.config)
        whole = with_migrated(desired, observed.migration) if is_done else desired
        plan = self.plan(desired, observed)
        pending = {each.registry for each in (*plan.file_actions, *plan.conflicts)}
        tables = live_tables(observed.config, observed.migration)
        return report(whole, observed.daemon, Files(paths, notes, frozenset(pending), tables))

    def proof(self, desired: DesiredState, observed: ObservedContainerd) -> Bait | Proof:
        from agent.runtimes import _containerd_proof

        return _containerd_proof.proof(desired, observed.daemon)

    def route(self, host: HostReader, desired: DesiredState, image: Image) -> Route:
        from agent.runtimes import _containerd_route

        return _containerd_route.route(host, desired, image)

    def find(self, host: HostReader, desired: DesiredState, known: tuple[FoundRegistry, ...]) -> Found:  # noqa: ARG002
        from agent.runtimes import _containerd_adopt

        return _containerd_adopt.find(host, desired)


def _reader(desired: DesiredState) -> Reader:
    return Reader(NAME, NAME, is_managed=desired.containerd.manage is not Manage.NEVER)


def _registries(desired: DesiredState) -> tuple[Registry, ...]:
    """Those whose file is wanted."""
    return () if desired.containerd.manage is Manage.NEVER else registries_with_files(desired)


def _assembled(parts: list[Part], config: ConfigPlan) -> Plan:
    """Everything in order; a directory that two parts make or remove is one action."""
    actions = {(type(action), action.path): action for part in parts for action in part.actions}
    return Plan(
        NAME,
        actions=(*sorted(actions.values(), key=_rank), *config.acts),
        claims=tuple(claim for part in parts for claim in part.claims),
        releases=tuple(release for part in parts for release in part.releases),
        conflicts=tuple(conflict for part in parts for conflict in part.conflicts),
        deferred=config.deferred,
        remember=config.remember,
        keeps=config.keeps,
    )


def _rank(action: FileAction) -> tuple[int, int]:
    """Directories, outermost first, writes, removals, directories innermost first."""
    depth = action.path.count("/")
    kind = (MakeDirectory, WriteFile, RemoveFile, RemoveDirectory).index(type(action))
    return kind, {MakeDirectory: depth, RemoveDirectory: -depth}.get(type(action), 0)


RUNTIME: Runtime[ObservedContainerd] = Containerd()
