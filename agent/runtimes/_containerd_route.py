"""Which hosts containerd's CRI asks for an image, as its configuration and certs.d stand."""

from __future__ import annotations

from agent.host import HostReader
from agent.image import Image
from agent.model import DEFAULT_REGISTRY, DesiredState
from agent.route import Route
from agent.runtimes import _kubelet_words
from agent.runtimes._certs_route import Way, built_in, steps, way
from agent.runtimes._config_toml import Version
from agent.runtimes._containerd_adopt import registry_table
from agent.runtimes._containerd_config import Daemon, judge, judge_config, look_at_daemon
from agent.runtimes._hosts_toml import Recipe, meaning
from agent.runtimes._legacy_adopt import read_tables

_DEFAULT_SINCE: Version = (1, 6, 17)


def route(host: HostReader, desired: DesiredState, image: Image) -> Route:
    """The way as it is now: where containerd does not read certs.d, by what runs or by the configuration of one that
    does not, that of the old tables or the built-in one, and why."""
    if found_elsewhere := _kubelet_words.route(host, image):
        return found_elsewhere
    daemon = look_at_daemon(host, desired)
    certs_dir = desired.containerd.certs_dir
    if daemon.is_installed and (reason := _unused(daemon, certs_dir)):
        why = f"containerd does not look into {certs_dir} yet: {reason}"
        found = _legacy(daemon, image, why) or built_in(image, why)
    else:
        found = way(host, certs_dir, image, reads_default=_reads_default(daemon))
    return Route(
        runtime="containerd",
        title="containerd",
        version=daemon.version_text,
        installed=daemon.is_installed,
        file=found.file,
        steps=found.steps,
        remarks=found.remarks,
    )


def _unused(daemon: Daemon, certs_dir: str) -> str:
    """Why certs.d is not read, "" if it is."""
    verdict = judge(daemon, certs_dir)
    if verdict.is_live is None:
        verdict = judge_config(daemon, certs_dir)
    return "" if verdict.is_live else verdict.sentence


def _legacy(daemon: Daemon, image: Image, why: str) -> Way | None:
    """The way of the tables in config.toml, which hold where config_path is not set; the name before `*`."""
    table = registry_table(daemon)
    entries = {each.entry.name: each.entry for each in read_tables(table, daemon.config_path).registries}
    entry = entries.get(image.registry) or entries.get(DEFAULT_REGISTRY)
    if entry is None or table.get("config_path"):
        return None
    return Way(tuple(steps(meaning(Recipe("", entry)), image)), daemon.config_path, (why,))


def _reads_default(daemon: Daemon) -> bool:
    return daemon.version is None or daemon.version >= _DEFAULT_SINCE
