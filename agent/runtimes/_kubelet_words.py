"""What is said about a kubelet that pulls through its distribution's own containerd: in `plan`, `status`, `explain`."""

from __future__ import annotations

from collections.abc import Iterator

from agent.host import HostReader
from agent.image import Image
from agent.model import ActiveState, DesiredState, Registry, RegistryReport, RuntimeReport
from agent.plan import Conflict
from agent.route import Route
from agent.runtimes import _distributions
from agent.runtimes._certs_route import Way, built_in, steps, way
from agent.runtimes._config_toml import read_config
from agent.runtimes._containerd_config import Daemon, Verdict
from agent.runtimes._containerd_report import hosts_of
from agent.runtimes._hosts_toml import Recipe, meaning
from agent.runtimes._kubelet import Kubelet, has, look_at, same_directory, unsaid
from agent.runtimes._legacy_tables import without_words
from agent.runtimes._rancher import said_in_yaml

_NAMED_AT_MOST = 3
_REWRITES = "the containerd of {} rewrites the image's name first (rewrite), so another path is asked than shown"


def conflicts(kubelet: Kubelet, desired: DesiredState) -> tuple[Conflict, ...]:
    """What a person has to write, and where; () where its containerd asks as desired, or will when it starts."""
    if kubelet.reads(desired.containerd.certs_dir) or not (missing := unsaid(kubelet, desired)):
        return ()
    return (next(_conflicts(kubelet, desired, missing)),)


def _conflicts(kubelet: Kubelet, desired: DesiredState, missing: tuple[Registry, ...]) -> Iterator[Conflict]:
    source = kubelet.distribution.source
    start = f"{kubelet.whose}, which mirror-agent leaves alone"
    if kubelet.says is None:
        yield Conflict(source, f"{start}, and this is not valid YAML: mend it, then {kubelet.restart}")
    if kubelet.distribution.has_registries:
        yield Conflict(source, f"{start}, so {_as_desired(missing)}: {_how(missing[0], kubelet)}")
    if kubelet.certs_dir:
        how = "name that here as containerd.certs_dir; `mirror-agent check` then says how the service may write there"
        yield Conflict(desired.source, f"{kubelet.whose}, which looks into {kubelet.certs_dir}: {how}")
    yield Conflict(source, f"{kubelet.whose}, which is told to look nowhere for hosts.toml: {_how_to_look(kubelet)}")


def _as_desired(missing: tuple[Registry, ...]) -> str:
    names = [registry.name for registry in missing]
    shown = names[:_NAMED_AT_MOST] + ([f"{len(names) - _NAMED_AT_MOST} more"] if len(names) > _NAMED_AT_MOST else [])
    text = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"{text} {'is' if len(names) == 1 else 'are'} not asked as desired"


def _how(registry: Registry, kubelet: Kubelet) -> str:
    return (
        f"say it here, as in {said_in_yaml((registry,))}, then {kubelet.restart}; `mirror-agent import` reads this "
        "file, and containerd.manage: false says that all is well as it is"
    )


def _how_to_look(kubelet: Kubelet) -> str:
    if kubelet.title == "MicroK8s":
        path = 'config_path = "${SNAP_DATA}/args/certs.d"'
        return f"put {path} in place of its mirrors tables in this file, then {kubelet.restart}"
    text = kubelet.config.content.decode("utf-8", "replace") if hasattr(kubelet.config, "content") else ""
    try:
        config = read_config(text, None)
    except ValueError:
        config = read_config("version = 3", None)
    lines = f'version = {config.file_version}, {config.heading} and config_path = "/etc/containerd/certs.d"'
    return f"write {lines} to this file, which {kubelet.title} takes up by itself"


# --- status ----------------------------------------------------------------------------------------------------------


def report(kubelet: Kubelet, desired: DesiredState, daemon: Daemon) -> RuntimeReport:
    """The row of containerd where kubelet uses another one; what serves Docker beside it is told in the sentence."""
    verdict = judge(kubelet, desired)
    beside = "; containerd.service is for Docker, which reads no mirrors there" if daemon.is_installed else ""
    is_up = kubelet.charge.unit.is_up
    rows = tuple(
        RegistryReport(
            registry.name,
            tuple(hosts_of(registry)),
            kubelet.distribution.source,
            "; ".join(_notes(kubelet, registry)),
            has(kubelet, registry) if is_up else None,
        )
        for registry in desired.registries
    )
    return RuntimeReport(
        "containerd",
        "containerd",
        installed=True,
        version="",
        live=verdict.is_live,
        sentence=f"{verdict.sentence}{beside}",
        registries=rows,
    )


def judge(kubelet: Kubelet, desired: DesiredState) -> Verdict:
    """Whether its containerd asks every registry as desired, and what to do if not."""
    source, unit = kubelet.distribution.source, kubelet.charge.unit
    missing = unsaid(kubelet, desired)
    if missing:
        sentence = f"{kubelet.whose}, and {_as_desired(missing)}: see {conflicts(kubelet, desired)[0].path}"
    elif not kubelet.distribution.has_registries:
        sentence = f"{kubelet.whose}, which reads {kubelet.certs_dir or 'no hosts.toml'}"
    else:
        sentence = f"{kubelet.whose}, and {source} says what is desired"
    if unit.active is ActiveState.OFF:
        return Verdict(None, sentence)
    if not unit.is_up:
        return Verdict(None, f"{kubelet.title} is not running; {sentence}")
    if not missing and not all(has(kubelet, registry) for registry in desired.registries):
        return Verdict(is_live=False, sentence=f"{kubelet.whose}, which has not read {source} yet: {kubelet.restart}")
    return Verdict(is_live=not missing, sentence=sentence)


def reads_ours(kubelet: Kubelet, certs_dir: str) -> Verdict:
    """Where it reads the directory in which our files are: at each pull, so that nothing has to be restarted."""
    sentence = f"{kubelet.whose}, which reads {certs_dir}; nothing to restart"
    if kubelet.charge.unit.active is ActiveState.OFF:
        return Verdict(None, sentence)
    if not kubelet.charge.unit.is_up:
        return Verdict(None, f"{kubelet.title} is not running; {sentence}")
    return Verdict(is_live=True, sentence=sentence)


def _notes(kubelet: Kubelet, registry: Registry) -> Iterator[str]:
    """What registries.yaml has no words for."""
    if kubelet.distribution.has_registries:
        yield from without_words(registry, kubelet.title)


# --- explain ---------------------------------------------------------------------------------------------------------


def route(host: HostReader, image: Image) -> Route | None:
    """The way through kubelet's own containerd; None where it has none."""
    charge = _distributions.in_charge(host)
    if charge is None:
        return None
    kubelet = look_at(host, charge, ())
    found = _way(host, kubelet, image)
    said = tuple(_REWRITES.format(kubelet.title) if ".rewrite is no key" in each else each for each in found.remarks)
    return Route(
        "containerd", "containerd", "", installed=True, file=found.file, steps=found.steps,
        remarks=(_who_decides(kubelet), *said),
    )  # fmt: skip


def _who_decides(kubelet: Kubelet) -> str:
    source = kubelet.distribution.source
    if kubelet.distribution.has_registries:
        return f"{kubelet.whose}: {source} decides, which {kubelet.title} reads when it starts"
    if not kubelet.certs_dir:
        return f"{kubelet.whose}: {kubelet.distribution.config} decides, and it names no directory of hosts.toml"
    return f"{kubelet.whose}: the files in {same_directory(kubelet.certs_dir)} decide"


def _way(host: HostReader, kubelet: Kubelet, image: Image) -> Way:
    from agent.runtimes._containerd_adopt import registry_table
    from agent.runtimes._legacy_adopt import read_tables

    if kubelet.certs_dir:
        return way(host, kubelet.certs_dir, image)
    path = kubelet.distribution.config
    table = registry_table(Daemon(config_path=path, config=kubelet.config))
    entries = {each.entry.name: each.entry for each in read_tables(table, path).registries}
    entry = entries.get(image.registry) or entries.get("_default")
    return Way(tuple(steps(meaning(Recipe("", entry)), image)), path) if entry else built_in(image)
