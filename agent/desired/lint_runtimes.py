"""Lints of what the runtimes make of a desired state: keys without effect, and what Docker cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from agent import catalogue
from agent.catalogue import MirrorState
from agent.desired.daemon_keys import DAEMON_KEYS
from agent.desired.findings import Findings, quoted
from agent.desired.loading import Document
from agent.desired.messages import near
from agent.desired.nodes import Path
from agent.desired.urls import path_of
from agent.model import DEFAULT_REGISTRY, DOCKER_HUB
from agent.redact import holds_secret

_NOT_HUB = "Docker before 28, and later without the containerd image store, mirrors only docker.io; it asks {} directly"


def lint_runtimes(document: Document, findings: Findings) -> None:
    """containerd, Docker and presets."""
    for path, message in (
        *_without_effect(document),
        *_docker_hub_only(document),
        *_docker_hub(document),
        *_docker_settings(document),
        *_presets(document),
    ):
        findings.at(document.root, path, message)


def lint_open_secrets(document: Document, findings: Findings) -> None:
    """Settings that hold a secret, where daemon.json is there and everybody may read it."""
    path = document.model.docker.daemon_json
    if document.model.docker.manage is False:
        return
    for setting in document.settings:
        if holds_secret(path, f'{{"{setting.key}":{setting.json}}}'):
            message = f"holds a secret, and everybody may read {path}: chmod 0600 {path}"
            findings.at(document.root, ("docker", "settings", setting.key), message)


def _without_effect(document: Document) -> Iterator[tuple[Path, str]]:
    """Keys that nothing reads as long as another key is as it is."""
    model = document.model
    for section in ("containerd", "docker"):
        part = getattr(model, section)
        if part.manage is False:
            for key in sorted(part.model_fields_set - {"manage"}):
                yield (section, key), f"has no effect: {section}.manage is false"
    if model.docker.manage is not False and model.docker.on_change == "reload":
        for key in sorted(model.docker.model_fields_set & {"restart_if", "restart_window"}):
            yield ("docker", key), "has no effect: with on_change: reload Docker is never restarted"
    if model.containerd.manage is False and model.docker.manage is False:
        yield ("docker", "manage"), "neither containerd nor Docker is managed: this file has no effect"


def _uses_docker(document: Document) -> bool:
    return "docker" in document.model.model_fields_set and document.model.docker.manage is not False


def _docker_hub_only(document: Document) -> Iterator[tuple[Path, str]]:
    if not _uses_docker(document):
        return
    mirrored = [
        (key, name)
        for key, name in document.names.items()
        if name not in {DOCKER_HUB, DEFAULT_REGISTRY} and document.model.registries[key].mirrors
    ]
    if mirrored:
        names = [name for _, name in mirrored]
        text = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield ("registries", mirrored[0][0]), _NOT_HUB.format(text)


def _docker_hub(document: Document) -> Iterator[tuple[Path, str]]:
    """What registry-mirrors of daemon.json cannot say."""
    key = next((key for key, name in document.names.items() if name == DOCKER_HUB), None)
    if key is None or not _uses_docker(document):
        return
    registry = document.model.registries[key]
    if not registry.fallback:
        yield ("registries", key, "fallback"), "Docker asks Docker Hub last whatever this says; containerd does not"
    for index, mirror in enumerate(registry.mirrors):
        if path_of(mirror.url):
            message = "Docker before 24.0.8 refuses a mirror with a path, and later ones do not agree on what it means"
            yield ("registries", key, "mirrors", index), message


def _docker_settings(document: Document) -> Iterator[tuple[Path, str]]:
    for setting in document.settings:
        path: Path = ("docker", "settings", setting.key)
        if setting.key not in DAEMON_KEYS:
            hint = near(setting.key, list(DAEMON_KEYS))
            what = f"{quoted(setting.key)} is no key of daemon.json that is known here"
            yield path, f"{what}, {hint}" if hint else f"{what}: Docker does not start with a key that it does not know"
        elif setting.key == "hosts":
            yield path, "Docker's packaged unit sets -H, and with hosts in daemon.json too Docker does not start"


def _presets(document: Document) -> Iterator[tuple[Path, str]]:
    own = set(document.names.values())
    for index, name in enumerate(document.model.presets):
        preset = catalogue.preset(name)
        rows = [row for row in preset.rows if row.expand] if preset else []
        if rows and own.issuperset(row.registry for row in rows):
            yield ("presets", index), "has no effect: every registry of this preset has an entry below"
        for row in rows:
            if row.state not in {MirrorState.USABLE, MirrorState.FROZEN} and row.registry not in own:
                yield ("presets", index), f"{row.registry}: {row.mirror} is {row.state.value} since {row.since}"
