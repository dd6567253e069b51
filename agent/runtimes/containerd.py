"""containerd: one hosts.toml per registry below certs.d, which every pull reads anew, and once, config_path.

observe looks only at what the desired state and the ledger name, and lists certs.d once.
Where kubelet pulls through the containerd of k3s, RKE2, MicroK8s or k0s (_distributions, _kubelet), none of this is
ours to do, but for a certs.d of theirs that the desired state names; what is to be done there is said (_kubelet_words).
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
from agent.runtimes._config_decide import is_rendered
from agent.runtimes._config_file import ConfigFile, look_at_config
from agent.runtimes._config_plan import ConfigPlan, plan_config
from agent.runtimes._containerd_config import NAME, UNIT, Daemon, look_at_daemon
from agent.runtimes._hosts_file import Part
from agent.runtimes._hosts_toml import Recipe, registries_with_files, text
from agent.runtimes._hosts_tree import Reader, Task, Tree, look_at_tree, plan_tree
from agent.runtimes._kubelet import Kubelet, is_left_alone, look_at_kubelet
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
    kubelet: Kubelet | None = None


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
        kubelet = look_at_kubelet(host, desired)
        reader = _reader(desired, kubelet, config)
        wanted = _registries(desired, reader)
        migration = look_at_migration(config, desired) if wanted and _is_ours(kubelet, desired) else Migration()
        registries = _registries(with_migrated(desired, migration), reader)
        tree = look_at_tree(host, desired.containerd.certs_dir, reader, registries)
        migration = checked(migration, tree, config, wanted)
        return ObservedContainerd(daemon, config, tree, migration, kubelet)

    def plan(self, desired: DesiredState, observed: ObservedContainerd) -> Plan:
        kubelet = observed.kubelet
        if desired.containerd.manage is Manage.AUTO and not observed.daemon.is_installed and kubelet is None:
            return Plan(NAME)
        reader = _reader(desired, kubelet, observed.config)
        wanted = bool(_registries(desired, _reader(desired))) and _is_ours(kubelet, desired)
        config = plan_config(observed.config, desired, observed.migration, wanted=wanted)
        whole = with_migrated(desired, observed.migration) if config.migrates else desired
        named = frozenset(registry.name for registry in whole.registries)
        task = Task(reader, _registries(whole, reader), named, desired.source, observed.migration.names)
        parts = [*plan_tree(task, observed.tree, self._texts), config.part]
        return _assembled(parts if kubelet is None else [*parts, _told(kubelet, desired)], config)

    def report(self, desired: DesiredState, observed: ObservedContainerd) -> RuntimeReport:
        from agent.runtimes._containerd_report import Files, report

        kubelet, certs_dir = observed.kubelet, desired.containerd.certs_dir
        verdict = None
        if kubelet is not None:
            from agent.runtimes import _kubelet_words

            if not kubelet.reads(certs_dir):
                return _kubelet_words.report(kubelet, desired, observed.daemon)
            verdict = _kubelet_words.reads_ours(kubelet, certs_dir)
        directories = observed.tree.directories
        notes = {name: trust_of(directory).left_out for name, directory in directories.items()}
        paths = {name: directory.file for name, directory in directories.items()}
        is_done = has_migrated(observed.config)
        whole = with_migrated(desired, observed.migration) if is_done else desired
        plan = self.plan(desired, observed)
        tables = live_tables(observed.config, observed.migration)
        daemon = observed.daemon if kubelet is None else Daemon()
        return report(whole, daemon, Files(paths, notes, plan, tables, verdict))

    def proof(self, desired: DesiredState, observed: ObservedContainerd) -> Bait | Proof:
        from agent.runtimes import _containerd_proof

        return _containerd_proof.proof(desired, observed.daemon, observed.kubelet)

    def route(self, host: HostReader, desired: DesiredState, image: Image) -> Route:
        from agent.runtimes import _containerd_route

        return _containerd_route.route(host, desired, image)

    def find(self, host: HostReader, desired: DesiredState, known: tuple[FoundRegistry, ...]) -> Found:  # noqa: ARG002
        from agent.runtimes import _containerd_adopt

        return _containerd_adopt.find(host, desired)


def _reader(desired: DesiredState, kubelet: Kubelet | None = None, config: ConfigFile | None = None) -> Reader:
    unread = ""
    if kubelet is not None and is_left_alone(kubelet, desired):
        unread = kubelet.whose
    elif config is not None and is_rendered(config):
        unread = f"{config.path} is rendered by another program"
    return Reader(NAME, NAME, is_managed=desired.containerd.manage is not Manage.NEVER, unread=unread)


def _registries(desired: DesiredState, reader: Reader) -> tuple[Registry, ...]:
    """Those whose file is wanted."""
    return registries_with_files(desired) if reader.is_managed and not reader.unread else ()


def _told(kubelet: Kubelet, desired: DesiredState) -> Part:
    """What a person has to do, for it is not ours to do."""
    from agent.runtimes import _kubelet_words  # not at the top: few nodes have such a kubelet

    return Part(conflicts=_kubelet_words.conflicts(kubelet, desired))


def _is_ours(kubelet: Kubelet | None, desired: DesiredState) -> bool:
    """Whether config.toml of containerd.service is what decides here."""
    return kubelet is None or desired.containerd.manage is Manage.ALWAYS


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
        undoes=config.undoes,
    )


def _rank(action: FileAction) -> tuple[int, int]:
    """Directories, outermost first, writes, removals, directories innermost first."""
    depth = action.path.count("/")
    kind = (MakeDirectory, WriteFile, RemoveFile, RemoveDirectory).index(type(action))
    return kind, {MakeDirectory: depth, RemoveDirectory: -depth}.get(type(action), 0)


RUNTIME: Runtime[ObservedContainerd] = Containerd()
