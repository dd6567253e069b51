"""What a SIGHUP does to dockerd, key by key, and what a running dockerd therefore has.

Source: moby daemon/reload.go, reload_unix.go @ 20.10.24, 23.0.0, 25.0.0, 26.1.5, 28.5.2; measured on 20.10.5, 20.10.24,
26.1.5, 28.5.2. Everything not in the table waits for a restart; a SIGHUP accepts nonsense in it without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from agent.model import Setting
from agent.runtimes._docker_info import Info, insecure_name
from agent.runtimes._json_text import compact, list_of, same, strings_of, value_of

MIRRORS = "registry-mirrors"
INSECURE = "insecure-registries"
LIVE_RESTORE = "live-restore"

UNKNOWN = ""
"""Stands for a value of the running daemon that nobody knows. It equals nothing, so it asks for an act."""


class WhenAbsent(Enum):
    """What a SIGHUP does for a key that the file no longer has."""

    KEEPS = "the old value stays"
    DROPS = "the built-in default or nothing takes its place"
    NEEDS_TEXT = "the old value stays, also over an empty one"


_RELOADABLE: Mapping[str, WhenAbsent] = {
    MIRRORS: WhenAbsent.KEEPS,
    INSECURE: WhenAbsent.KEEPS,
    "labels": WhenAbsent.KEEPS,
    "debug": WhenAbsent.KEEPS,
    LIVE_RESTORE: WhenAbsent.KEEPS,
    "shutdown-timeout": WhenAbsent.KEEPS,
    "runtimes": WhenAbsent.KEEPS,
    "default-shm-size": WhenAbsent.KEEPS,
    "allow-nondistributable-artifacts": WhenAbsent.KEEPS,
    "max-concurrent-downloads": WhenAbsent.DROPS,
    "max-concurrent-uploads": WhenAbsent.DROPS,
    "max-download-attempts": WhenAbsent.DROPS,
    "features": WhenAbsent.DROPS,
    "authorization-plugins": WhenAbsent.DROPS,
    "network-diagnostic-port": WhenAbsent.DROPS,
    "default-runtime": WhenAbsent.NEEDS_TEXT,
    "default-ipc-mode": WhenAbsent.NEEDS_TEXT,
    "default-cgroupns-mode": WhenAbsent.NEEDS_TEXT,
}

CLEARING: Mapping[str, str] = {
    MIRRORS: "[]",
    INSECURE: "[]",
    "labels": "[]",
    "allow-nondistributable-artifacts": "[]",
    "debug": "false",
    LIVE_RESTORE: "false",
    "shutdown-timeout": "15",
}
"""Keys that a SIGHUP keeps when they are absent, with the value that says "nothing" aloud: it is written first, and
the key removed once the daemon has let go."""

_DEFAULTS: Mapping[str, str] = {**CLEARING, "log-driver": '"json-file"'}
_EMPTY: tuple[object, ...] = (None, [], {}, "")
_IMAGE_STORE = "containerd-snapshotter"


@dataclass(frozen=True, slots=True)
class Running:
    """A dockerd that is up. `loaded` is what it has read from its file as far as we know (UNKNOWN where we do not),
    `info` what it says itself, None if it does not answer."""

    info: Info | None
    loaded: Mapping[str, str] = field(default_factory=dict)

    def value(self, key: str) -> str | None:
        """The value it runs with: what it says itself, else what it has read."""
        return self._visible().get(key, self.loaded.get(key))

    def sees(self, key: str) -> bool:
        """Whether the daemon itself tells this key."""
        return key in self._visible()

    def insecure(self) -> frozenset[str] | None:
        """The insecure registries it runs with, in the spelling of insecure_name; None if nobody knows."""
        value = self.value(INSECURE)
        entries = None if value == UNKNOWN else strings_of(value)
        return None if entries is None else frozenset(map(insecure_name, entries))

    def _visible(self) -> dict[str, str]:
        if self.info is None:
            return {}
        lists = {MIRRORS: list_of(self.info.mirrors), INSECURE: list_of(sorted(self.info.insecure))}
        return {**lists, **dict(self.info.settings)}


def agrees(key: str, wanted: str | None, running: str | None) -> bool:
    """Whether a daemon that runs with `running` has what the file says with `wanted`."""
    if running == UNKNOWN:
        return False
    if key == MIRRORS:
        return mirror_urls(wanted) == mirror_urls(running)
    return same(_effective(key, wanted), _effective(key, running))


def mirror_urls(value: str | None) -> tuple[str, ...] | None:
    """Mirrors as Docker takes them: one slash at the end ignored, repetitions dropped, order kept."""
    urls = strings_of(value)
    return None if urls is None else tuple(dict.fromkeys(url.removesuffix("/") for url in urls))


def takes_reload(key: str, running: str | None, wanted: str | None) -> bool:
    """Whether a SIGHUP brings a running daemon from one value to the other."""
    when_absent = _RELOADABLE.get(key)
    if when_absent is None:
        return False
    if key == "features" and _image_store(running) != _image_store(wanted):
        return False
    if wanted is None:
        return when_absent is WhenAbsent.DROPS
    return when_absent is not WhenAbsent.NEEDS_TEXT or not _is_empty(wanted)


def after_reload(loaded: Mapping[str, str], file: Mapping[str, str]) -> dict[str, str]:
    """What a daemon has read once a SIGHUP made it read this file."""
    after = dict(loaded)
    for key in [*loaded, *file]:
        wanted = file.get(key)
        if not takes_reload(key, loaded.get(key), wanted):
            continue
        if wanted is None:
            after.pop(key, None)
        else:
            after[key] = wanted
    return after


def settings_of(values: Mapping[str, str]) -> tuple[Setting, ...]:
    """Values as Memory keeps them, sorted, so that equal ones are equal."""
    return tuple(Setting(key, values[key]) for key in sorted(values))


def names_of(keys: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = keys
    return f"{', '.join(first)} and {last}" if first else last


def _effective(key: str, value: str | None) -> str | None:
    """An empty value says the same as none, and where none means something known, that."""
    return _DEFAULTS.get(key) if value is None or _is_empty(value) else compact(value)


def _is_empty(value: str) -> bool:
    return value_of(value) in _EMPTY


def _image_store(features: str | None) -> object:
    """What `features` says about the image store, which only a restart can change."""
    if features is None or features == UNKNOWN:
        return features
    value = value_of(features)
    return value.get(_IMAGE_STORE) if isinstance(value, dict) else None
