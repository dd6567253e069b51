"""Flags of dockerd and the keys of daemon.json that they stand for.

A key that is given both ways stops dockerd at its next start and makes it refuse every reload; the mere presence of
the key is enough, also as `[]`, and only `runtimes` is exempt. Source: moby daemon/config/config.go
findConfigurationConflicts, cmd/dockerd/config.go, measured on 20.10.24 and 28.5.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

RUNNING = "the command line of the running dockerd"

_PLURALS = (
    "allow-nondistributable-artifact authorization-plugin cdi-spec-dir default-address-pool default-network-opt "
    "default-ulimit dns-opt exec-opt feature host host-gateway-ip label log-opt node-generic-resource storage-opt"
)
_KEYS: Mapping[str, str] = {
    **{name: f"{name}s" for name in _PLURALS.split()},
    "registry-mirror": "registry-mirrors",
    "insecure-registry": "insecure-registries",
    "graph": "data-root",
    "http-proxy": "proxies",
    "https-proxy": "proxies",
    "no-proxy": "proxies",
}
_SHORT: Mapping[str, str] = {
    "D": "debug",
    "G": "group",
    "H": "hosts",
    "b": "bridge",
    "g": "data-root",
    "l": "log-level",
    "p": "pidfile",
    "s": "storage-driver",
}
FLAG_NAMES = frozenset(_KEYS)
"""Flags whose name is not that of their key."""

_EXEMPT = frozenset({"add-runtime", "config-file", "help", "validate", "version"})


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command line, and where it was found: a file, or RUNNING."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag as it is written, without its value, and where it is set."""

    name: str
    source: str


def flags_by_key(words: Iterable[Word]) -> dict[str, Flag]:
    """The keys of daemon.json that flags set. A flag that a file sets is told with the file, which is where a person
    can change it."""
    found: dict[str, Flag] = {}
    for word in words:
        key, name = _key_of(word.text)
        if key and (key not in found or found[key].source == RUNNING):
            found[key] = Flag(name, word.source)
    return found


def config_file(words: Sequence[str]) -> str:
    """The file that `--config-file` names, "" if it is not there."""
    parts = [part for word in words for part in word.split("=", 1)]
    return next((after for word, after in pairwise(parts) if word == "--config-file"), "")


def without_config_file(words: Sequence[str]) -> tuple[str, ...]:
    """The other arguments."""
    return tuple(_others(words))


def _others(words: Sequence[str]) -> Iterator[str]:
    is_value = False
    for word in words:
        if not is_value and not word.startswith("--config-file="):
            is_value = word == "--config-file"
            if not is_value:
                yield word
        else:
            is_value = False


def _key_of(word: str) -> tuple[str, str]:
    """The key and the flag; "" and "" for a word that sets no key."""
    if word.startswith("--"):
        name = word[2:].partition("=")[0]
        return ("", "") if name in _EXEMPT or not name else (_KEYS.get(name, name), f"--{name}")
    if word.startswith("-") and word[1:2] in _SHORT:
        return _SHORT[word[1]], word[:2]
    return "", ""
