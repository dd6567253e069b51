"""Docker's /etc/docker/certs.d: mirrors for every registry, where Docker reads hosts.toml there.

That is Docker 28.0 and later with the containerd image store. Each pull reads the file anew, so there is neither a
reload nor a restart. A file with at least one `[host]` wins over registry-mirrors, one with only `server` loses to them
(and with that `fallback: false`), so Docker Hub's only mirror is named in both places. registry-mirrors stay: where
the store changes they count again. Source: moby daemon/hosts.go @ 28.0.0 (absent in 27.5.1), measured on 28.5.2, and
on 26.1.5 and 28.5.2 with the other store, which ignore the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.host import HostReader
from agent.model import DOCKER_HUB, DesiredState, Manage, Registry
from agent.render import Memo
from agent.runtimes._certs_dir import Directory, choose, look_at_root, look_for, trust_of
from agent.runtimes._docker_checks import version_of
from agent.runtimes._docker_info import Info
from agent.runtimes._hosts_file import Part
from agent.runtimes._hosts_toml import Recipe, registries_with_files
from agent.runtimes._hosts_tree import Reader, Task, Tree, entries_of, look_at_tree, plan_tree

CERTS_D = "/etc/docker/certs.d"
_RUNTIME = "docker"
_SINCE = (28, 0, 0)


@dataclass(frozen=True, slots=True)
class Certs:
    """What was seen. `registries` are those whose file is wanted; `reads` says whether Docker reads any; `hub` is
    Docker Hub's directory, whose certificates matter to the containerd image store in any version; `tree` None:
    nothing is known, so all stays as it is."""

    registries: tuple[Registry, ...] = ()
    reads: bool = True
    tree: Tree | None = None
    hub: Directory | None = None

    def file_of(self, registry: str) -> str:
        """The hosts.toml that this Docker reads for a registry of the desired state, "" if it reads none."""
        names = {each.name for each in self.registries}
        return self.tree.directories[registry].file if self.tree and registry in names else ""

    def notes_of(self, registry: str) -> tuple[str, ...]:
        """What is wrong with certificates beside the registry's hosts.toml."""
        return trust_of(self.tree.directories[registry]).left_out if self.tree and self.file_of(registry) else ()

    @property
    def stray(self) -> tuple[str, ...]:
        """Certificates with which every pull from Docker Hub fails."""
        found = trust_of(self.hub).left_out if self.hub and not self.file_of(DOCKER_HUB) else ()
        return tuple(f"{each}, so every pull from Docker Hub fails: remove it" for each in found)


def reads_hosts_toml(info: Info) -> bool:
    """Whether this Docker reads hosts.toml below CERTS_D at a pull."""
    return info.containerd_store and (version_of(info.version) or (0, 0, 0)) >= _SINCE


def look_at_certs(host: HostReader, desired: DesiredState, info: Info | None) -> Certs:
    """Where Docker does not answer, files of ours say that it does read them: at a boot they are ready before it."""
    is_managed = desired.docker.manage is not Manage.NEVER
    is_ours = bool(entries_of(host.ledger(), _RUNTIME))
    reads = is_ours if info is None else reads_hosts_toml(info)
    hub = _hub_directory(host) if info is not None and info.containerd_store else None
    if info is None and is_managed and not is_ours:
        return Certs()
    registries = tuple(map(_as_docker_reads, registries_with_files(desired))) if reads and is_managed else ()
    return Certs(registries, reads, look_at_tree(host, CERTS_D, _reader(desired, reads=reads), registries), hub)


def plan_certs(desired: DesiredState, certs: Certs, texts: Memo[Recipe, bytes]) -> list[Part]:
    """The parts of the plan below CERTS_D."""
    if certs.tree is None:
        return []
    named = frozenset(registry.name for registry in desired.registries)
    return plan_tree(
        Task(_reader(desired, reads=certs.reads), certs.registries, named, desired.source), certs.tree, texts
    )


def _reader(desired: DesiredState, *, reads: bool) -> Reader:
    unread = "" if reads else "this Docker does not read it"
    return Reader(_RUNTIME, "Docker", is_managed=desired.docker.manage is not Manage.NEVER, unread=unread)


def _as_docker_reads(registry: Registry) -> Registry:
    """A file without `[host]` would lose to registry-mirrors, and Docker Hub would be asked after all."""
    if registry.name == DOCKER_HUB and not registry.fallback and len(registry.mirrors) == 1:
        return replace(registry, mirrors=registry.mirrors * 2)
    return registry


def _hub_directory(host: HostReader) -> Directory:
    return choose(DOCKER_HUB, look_for(host, look_at_root(host, CERTS_D), DOCKER_HUB))
