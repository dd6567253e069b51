"""Lints of where files lie: what the packaged unit may not write, and what it cannot see."""

from __future__ import annotations

from collections.abc import Iterator

from agent.desired.findings import Findings, path_in
from agent.desired.loading import Document
from agent.desired.models import MirrorModel
from agent.desired.nodes import Path

WRITABLE = ("/etc/containerd", "/etc/docker")
METRICS = ("/var/lib/prometheus/node-exporter", "/var/lib/node_exporter")
"""ReadWritePaths= of systemd/mirror-agent.service: what the runtimes read, and where distributions have node_exporter's
text files."""

HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 -- names, nothing is made there
"""What ProtectHome= and PrivateTmp= of systemd/mirror-agent.service put out of sight."""


def lint_places(document: Document, findings: Findings) -> None:
    """Every path that the desired state names."""
    model = document.model
    for path, directory in _directories(document):
        if not _is_below(directory, WRITABLE):
            findings.at(document.root, path, _unwritable("", directory, WRITABLE))
    _lint_metrics(document, findings)
    for key, registry in model.registries.items():
        for index, mirror in enumerate(registry.mirrors):
            for below, place in _files_of(mirror):
                if _is_below(place, HIDDEN):
                    path = path_in(document.root, ("registries", key, "mirrors", index, *below))
                    findings.at(document.root, path, _hidden(place))


def _lint_metrics(document: Document, findings: Findings) -> None:
    directory = document.model.metrics.directory
    if not directory:
        return
    if _is_below(directory, HIDDEN):
        hidden = next(each for each in HIDDEN if _is_below(directory, (each,)))
        said = f"nobody else sees what mirror-agent.service writes in {hidden}: use {METRICS[0]} or {METRICS[1]}"
        findings.at(document.root, ("metrics", "directory"), said)
    elif not _is_below(directory, (*METRICS, *WRITABLE)):
        findings.at(document.root, ("metrics", "directory"), _unwritable(" metrics", directory, METRICS))


def _directories(document: Document) -> Iterator[tuple[Path, str]]:
    """Where something will be written, each with the key that says so."""
    containerd, docker = document.model.containerd, document.model.docker
    if containerd.manage is not False:
        yield ("containerd", "config"), containerd.config.rpartition("/")[0]
        yield ("containerd", "certs_dir"), containerd.certs_dir
    if docker.manage is not False:
        yield ("docker", "daemon_json"), docker.daemon_json.rpartition("/")[0]


def _files_of(mirror: MirrorModel) -> Iterator[tuple[Path, str]]:
    for index, place in enumerate(mirror.ca):
        yield ("ca", index), place
    for index, client in enumerate(mirror.client):
        yield ("client", index, "cert"), client.cert
        yield ("client", index, "key"), client.key
    for name, place in mirror.header_file.items():
        yield ("header_file", name), place


def _is_below(place: str, directories: tuple[str, ...]) -> bool:
    return any(f"{place}/".startswith(f"{directory}/") for directory in directories)


def _unwritable(what: str, directory: str, writable: tuple[str, ...]) -> str:
    limits = f"mirror-agent.service may write{what} only in {' and '.join(writable)}"
    return f"{limits}: add ReadWritePaths={directory or '/'} by `systemctl edit mirror-agent`"


def _hidden(place: str) -> str:
    directory = next(each for each in HIDDEN if _is_below(place, (each,)))
    return f"mirror-agent.service cannot see what is in {directory}: keep the file below /etc"
