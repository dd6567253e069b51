"""What `status` says about containerd: is certs.d in use, and where each registry is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.model import DEFAULT_REGISTRY, DesiredState, Manage, Registry, RegistryReport, RuntimeReport
from agent.plan import Plan, RemoveFile, WriteFile
from agent.runtimes._config_toml import Version
from agent.runtimes._containerd_config import Daemon, Verdict, judge
from agent.runtimes._hosts_toml import own_url
from agent.runtimes._legacy_tables import left_out, needs_tables

_OVERRIDE_PATH_SINCE: Version = (1, 6, 0)
_DEFAULT_SINCE_1_6: Version = (1, 6, 17)


@dataclass(frozen=True, slots=True)
class Files:
    """Of each registry: `paths` are the files, `notes` tell of certificates beside them that cannot be used; `plan` is
    what they still need. `verdict` is given where another containerd reads them, or this one
    reads `tables` in place of them."""

    paths: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plan: Plan = Plan("containerd")  # noqa: RUF009 -- frozen
    tables: Verdict | None = None
    verdict: Verdict | None = None


def report(desired: DesiredState, daemon: Daemon, files: Files) -> RuntimeReport:
    """The daemon's own verdict, and a row for each registry."""
    managed = desired.containerd.manage is not Manage.NEVER
    installed = daemon.is_installed or files.verdict is not None
    concerned = desired.containerd.manage is Manage.ALWAYS or (managed and installed)
    verdict = files.verdict or files.tables or judge(daemon, desired.containerd.certs_dir)
    rows = tuple(_row(registry, daemon, files, is_live=verdict.is_live) for registry in desired.registries)
    return RuntimeReport(
        name="containerd",
        title="containerd",
        installed=installed,
        version=daemon.version_text,
        live=_is_live(verdict, files.plan) if managed else None,
        sentence=_sentence(verdict, files.plan) if managed else "not managed (containerd.manage is false)",
        registries=rows if concerned else (),
    )


def _is_live(verdict: Verdict, plan: Plan) -> bool | None:
    """What the daemon reads is worth no more than what stands there."""
    return False if verdict.is_live and (_open_files(plan) or plan.conflicts) else verdict.is_live


def _open_files(plan: Plan) -> int:
    return sum(isinstance(action, WriteFile | RemoveFile) for action in plan.file_actions)


def _sentence(verdict: Verdict, plan: Plan) -> str:
    if not verdict.is_live or _is_live(verdict, plan):
        return verdict.sentence
    if plan.conflicts:
        return f"needs you: {plan.conflicts[0].path}: {plan.conflicts[0].reason}"
    count = _open_files(plan)
    return f"{verdict.sentence}; {count} {'file is' if count == 1 else 'files are'} to be put right"


def _row(registry: Registry, daemon: Daemon, files: Files, *, is_live: bool | None) -> RegistryReport:
    path = daemon.config_path if files.tables else files.paths.get(registry.name, "")
    state = files.plan.state_of(registry.name, path)
    return RegistryReport(
        name=registry.name,
        hosts=tuple(hosts_of(registry)),
        path=path,
        note="; ".join((*_version_notes(registry, daemon.version), *files.notes.get(registry.name, ()))),
        live=None if is_live is None else is_live and not state and _is_read(registry, daemon.version),
        state=state,
    )


def hosts_of(registry: Registry) -> Iterator[str]:
    """The mirrors as URLs; the registry itself without a scheme, which tells the two apart."""
    yield from (mirror.url for mirror in registry.mirrors)
    if not registry.fallback:
        return
    if registry.name == DEFAULT_REGISTRY:
        yield "each registry itself"
    else:
        scheme, _, rest = own_url(registry).partition("://")
        yield f"{rest} over http" if scheme == "http" else rest


def _version_notes(registry: Registry, version: Version | None) -> Iterator[str]:
    """What this version of containerd does not read."""
    if version is None:
        return
    if needs_tables(version):
        yield from left_out(registry, version)
        return
    text = ".".join(map(str, version))
    if not _is_read(registry, version):
        yield f"containerd {text} does not read _default (1.6.17 does)"
    if version < _OVERRIDE_PATH_SINCE and any(mirror.override_path for mirror in registry.mirrors):
        yield f"containerd {text} does not read override_path (1.6 does)"


def _is_read(registry: Registry, version: Version | None) -> bool:
    """`_default` is no name that an older containerd looks for; its old tables have a word for it."""
    is_old = version is not None and version < _DEFAULT_SINCE_1_6 and not needs_tables(version)
    return not (registry.name == DEFAULT_REGISTRY and is_old)
