"""containerd's part of `import`: hosts.toml trees, the old tables of config.toml, registries.yaml of k3s and RKE2."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from agent.desired.names import canonical_registry
from agent.found import Found, FoundRegistry
from agent.host import HostReader
from agent.model import DEFAULT_REGISTRY, Absent, ContainerdSettings, DesiredState, Mirror, Registry, Regular
from agent.render import is_ours
from agent.runtimes import _toml
from agent.runtimes._certs_dir import (
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
from agent.runtimes._containerd_config import Daemon, look_at_daemon
from agent.runtimes._distributions import DISTRIBUTIONS, Charge, Distribution, in_charge
from agent.runtimes._hosts_adopt import Origin, adopt
from agent.runtimes._hosts_reading import read
from agent.runtimes._kubelet import is_generated, look_at
from agent.runtimes._legacy_adopt import Legacy, read_tables
from agent.runtimes._legacy_edit import is_legacy
from agent.runtimes._legacy_tables import needs_tables
from agent.runtimes._rancher import registries_yaml

NAME = "containerd"
_PLUGINS = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "cri")


@dataclass
class _Findings:
    """What is found while looking; in the order of looking."""

    registries: list[FoundRegistry] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def take(self, legacy: Legacy) -> None:
        """Those of the tables that nothing before has named."""
        self.remarks += legacy.remarks
        for each in legacy.registries:
            self.add(each)

    def add(self, found: FoundRegistry) -> None:
        """The first that names a registry counts, and of another that is silent at least its reason is told."""
        if found.entry.name not in {each.entry.name for each in self.registries}:
            self.registries.append(found)
        elif found.is_silent:
            self.remarks.append(f"{' and '.join(found.sources)}: {found.remarks[-1]}")


def find(host: HostReader, desired: DesiredState) -> Found:
    """The registries that this node's containerd reaches in another way than the built-in one."""
    charge = in_charge(host)
    if charge is not None:
        return _find_kubelet(host, desired, charge)
    daemon = look_at_daemon(host, desired)
    registry = registry_table(daemon)
    config_path = registry.get("config_path")
    certs_dir = _certs_dir(config_path if isinstance(config_path, str) else "", desired.containerd.certs_dir)
    found = _Findings()
    legacy = read_tables(registry, daemon.config_path)
    root, why_unused = look_at_root(host, certs_dir), _why_unused(daemon, config_path, legacy)
    if _tables_are_ours(host, daemon):
        _look_through(host, root, found, "")
        found.take(legacy)
    else:
        if not config_path:
            found.take(legacy)
        _look_through(host, root, found, why_unused)
    if config_path and legacy.registries:
        found.remarks.append(f"{daemon.config_path}: mirrors beside config_path keep containerd's CRI from starting")
    for each in DISTRIBUTIONS:
        found.take(_left_behind(host, each))
    return _found(found, tuple(_paths(daemon, certs_dir)), installed=daemon.is_installed)


def _found(found: _Findings, paths: tuple[tuple[str, str], ...], *, installed: bool) -> Found:
    return Found(
        NAME,
        installed,
        manage=True if any(not each.is_silent for each in found.registries) else None,
        registries=tuple(found.registries),
        paths=paths,
        remarks=tuple(found.remarks),
    )


def _tables_are_ours(host: HostReader, daemon: Daemon) -> bool:
    """Whether we wrote the old tables: then our hosts.toml, which say the same, say it in more words."""
    entry = host.ledger().entries.get(daemon.config_path)
    return needs_tables(daemon.version) and entry is not None and any(is_legacy(key) for key in entry.keys)


def _why_unused(daemon: Daemon, config_path: object, legacy: Legacy) -> str:
    """Why containerd does not read certs.d, "" if it does or if nobody knows."""
    if config_path or not (legacy.registries or daemon.unit.is_up):
        return ""
    return "config_path is not set" + (", and the mirrors tables are" if legacy.registries else "")


def _paths(daemon: Daemon, certs_dir: str) -> Iterator[tuple[str, str]]:
    usual = ContainerdSettings()
    if daemon.config_path != usual.config:
        yield "config", daemon.config_path
    if certs_dir != usual.certs_dir:
        yield "certs_dir", certs_dir


def registry_table(daemon: Daemon) -> dict[str, Any]:
    """The CRI's `registry` table, as the daemon merges it where it was asked for that."""
    text = daemon.config.content if isinstance(daemon.config, Regular) else b""
    if daemon.dump is not None and daemon.dump.returncode == 0:
        text = daemon.dump.stdout.encode()
    try:
        plugins = _toml.loads(text.decode()).get("plugins", {})
    except ValueError:
        return {}
    for name in _PLUGINS:
        table = plugins.get(name) if isinstance(plugins, dict) else None
        if isinstance(table, dict) and isinstance(table.get("registry"), dict):
            return dict(table["registry"])
    return {}


def _certs_dir(config_path: str, usual: str) -> str:
    """The first directory that containerd is told to read."""
    first = posixpath.normpath(config_path.partition(":")[0]) if config_path.startswith("/") else ""
    return first or usual


# --- certs.d ---------------------------------------------------------------------------------------------------------


def _look_through(host: HostReader, root: CertsDir, found: _Findings, unused: str) -> None:
    """Every directory of certs.d. Where some files are ours the others are somebody's who wants them so: they stay as
    they are, and so they are no part of the desired state; nor are those that containerd does not read."""
    directories = list(_directories(host, root, found))
    ours = {directory.path for _, directory in directories if _is_ours(host, directory)}
    others_only = bool(host.ledger().entries) and not ours
    for registry, directory in directories:
        if directory.path not in ours and (ours or others_only):
            found.remarks.append(f"{directory.file} is not managed by mirror-agent and stays as it is")
        else:
            _adopt_file(registry, directory, found, unused)


def _is_ours(host: HostReader, directory: Directory) -> bool:
    state = directory.hosts_toml
    return isinstance(state, Regular) and (is_ours(state.content) or directory.file in host.ledger().entries)


def _directories(host: HostReader, root: CertsDir, found: _Findings) -> Iterator[tuple[str, Directory]]:
    """Each registry's directory that counts, if a hosts.toml is in it."""
    seen = set()
    for name in sorted(root.names):
        registry = _canonical(registry_of(name))
        if registry is None:
            found.remarks.append(f"{root.path}/{name} is left alone: no image names such a registry")
            continue
        if registry in seen:
            continue
        seen.add(registry)
        directory = choose(registry, look_for(host, root, registry))
        if directory.place is Place.DIRECTORY and not isinstance(directory.hosts_toml, Absent):
            yield registry, directory
        elif directory.certificates:
            found.remarks.append(
                f"{directory.path}: the certificates in it stay in force, with or without mirror-agent"
            )


def _canonical(name: str) -> str | None:
    """The registry; None where an image cannot name it, or not in this spelling."""
    try:
        found = canonical_registry(name)
    except ValueError:
        return None
    return found if found == name and (found == DEFAULT_REGISTRY or is_registry_name(found)) else None


def _adopt_file(registry: str, directory: Directory, found: _Findings, unused: str) -> None:
    state = directory.hosts_toml
    if not isinstance(state, Regular):
        found.remarks.append(f"{directory.file} cannot be read")
    elif not state.content:
        found.remarks.append(f"{directory.file} is empty and has no effect")
    else:
        try:
            reading = read(state.content, directory.path)
        except ValueError as error:
            found.remarks.append(f"{directory.file} has no effect, containerd ignores it: {error}")
            return
        origin = Origin(registry, directory.file, trust_of(directory), is_closed=not state.mode & 0o044)
        adopted = adopt(reading.meaning, origin, reading.remarks)
        found.add(_silenced(adopted, f"not in use: {unused}") if unused else adopted)


def _silenced(found: FoundRegistry, why: str) -> FoundRegistry:
    return replace(found, is_silent=True, remarks=(*found.remarks, why))


# --- k3s, RKE2, MicroK8s, k0s ----------------------------------------------------------------------------------------


def _find_kubelet(host: HostReader, desired: DesiredState, charge: Charge) -> Found:
    """What the containerd of a distribution asks: it is what this node's kubelet pulls through. What stands in
    /etc/containerd beside it is read by nobody else than Docker's containerd, which pulls nothing for itself."""
    kubelet, found = look_at(host, charge, ()), _Findings()
    paths: tuple[tuple[str, str], ...] = ()
    if kubelet.distribution.has_registries:
        legacy = registries_yaml(host, kubelet.distribution.source)
        found.take(_usable(legacy) if legacy else Legacy(remarks=(f"{kubelet.distribution.source} is not valid YAML",)))
        _take_what_lasts(host, kubelet.certs_dir, found)
    elif kubelet.certs_dir:
        _look_through(host, look_at_root(host, kubelet.certs_dir), found, "")
        paths = (("certs_dir", kubelet.certs_dir),)
    else:
        table = registry_table(Daemon(config_path=kubelet.distribution.config, config=kubelet.config))
        found.take(read_tables(table, kubelet.distribution.config))
    if kubelet.certs_dir == desired.containerd.certs_dir == ContainerdSettings().certs_dir:
        paths = ()
    is_ours = "" if kubelet.reads(kubelet.certs_dir) else ", which mirror-agent does not configure"
    found.remarks.append(f"{kubelet.whose}{is_ours}: this is what that one asks")
    return _found(found, paths, installed=True)


def _take_what_lasts(host: HostReader, certs_dir: str, found: _Findings) -> None:
    """The hosts.toml that somebody has put beside those that k3s makes; it leaves them there."""
    directories = _directories(host, look_at_root(host, certs_dir), found) if certs_dir else ()
    for registry, directory in directories:
        if not is_generated(directory.hosts_toml):
            _adopt_file(registry, directory, found, "")


def _usable(legacy: Legacy) -> Legacy:
    """Entries to go on with: without the timeout that registries.yaml has no word for, and without a `*` that is there
    for the registry inside the cluster alone."""
    entries = [
        replace(each.entry, mirrors=tuple(map(_without_timeout, each.entry.mirrors))) for each in legacy.registries
    ]
    registries = [replace(each, entry=entry) for each, entry in zip(legacy.registries, entries, strict=True)]
    return replace(legacy, registries=tuple(each for each in registries if not _is_bare_default(each.entry)))


def _without_timeout(mirror: Mirror) -> Mirror:
    return replace(mirror, dial_timeout=Mirror("").dial_timeout)


def _is_bare_default(entry: Registry) -> bool:
    return entry.name == DEFAULT_REGISTRY and not entry.mirrors


def _left_behind(host: HostReader, distribution: Distribution) -> Legacy:
    """The registries.yaml of a distribution that runs no kubelet here: nobody reads it, so it is told and no more."""
    legacy = registries_yaml(host, distribution.source) if distribution.has_registries else Legacy()
    if legacy is None:
        return Legacy(remarks=(f"{distribution.source} is not valid YAML",))
    why = f"not in use: {distribution.title} does not run kubelet here"
    return replace(legacy, registries=tuple(_silenced(each, why) for each in legacy.registries))
