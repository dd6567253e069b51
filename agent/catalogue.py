"""The built-in catalogue of public mirrors and presets: dated data, read once, when first asked for.

The data are in agent/data/catalogue.toml; every row has dates and a source. A state is what somebody wrote down on
`checked`, not what is true today: mirrors live for weeks.
"""

from __future__ import annotations

import pkgutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from agent.model import DOCKER_HUB


class MirrorKind(Enum):
    """How a mirror is addressed."""

    PREFIX_REPLACE = "prefix-replace"
    ADD_PREFIX = "add-prefix"


class Access(Enum):
    """Who gets what from a mirror."""

    OPEN = "open"
    ALLOWLIST = "allowlist"
    LOGIN = "login"
    INTERNAL = "internal"
    PAID = "paid"


class MirrorState(Enum):
    """How a mirror was when somebody last wrote it down."""

    USABLE = "usable"
    RESTRICTED = "restricted"
    FROZEN = "frozen"
    EXPERIMENTAL = "experimental"
    RETIRED = "retired"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A mirror host (`*.` in front: every name below) and what is known about it.

    `serves` pairs each registry with the URL to write for it. `since` is an ISO 8601 day, month or year: the first on
    which the state is on record; `checked` the day of the newest source.
    """

    host: str
    kind: MirrorKind
    access: Access
    state: MirrorState
    since: str
    checked: str
    source: str
    operator: str = ""
    serves: tuple[tuple[str, str], ...] = ()
    rules: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class PresetRow:
    """One registry of a preset. `expand` False: listed for the record, never written to a node."""

    registry: str
    mirror: str
    state: MirrorState
    since: str
    expand: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Preset:
    """A named table of registries and their mirrors, as its operator published it on `checked`."""

    name: str
    operator: str
    title: str
    checked: str
    source: str
    rules: tuple[str, ...]
    rows: tuple[PresetRow, ...]


def presets() -> tuple[Preset, ...]:
    """Every preset, in the order of the data."""
    return tuple(_preset(raw) for raw in _data()["preset"])


@cache
def preset(name: str) -> Preset | None:
    """The preset of that name, None if there is none."""
    return next((each for each in presets() if each.name == name), None)


@cache
def mirrors() -> tuple[CatalogueEntry, ...]:
    """Every mirror host: those of the presets first, then the others in the order of the data."""
    of_presets = (_preset_entry(raw, row) for raw in _data()["preset"] for row in raw["row"])
    others = (_entry(raw, host) for raw in _data()["mirror"] for host in raw["hosts"])
    return (*of_presets, *others)


def find(url_or_host: str) -> CatalogueEntry | None:
    """What is known about a mirror, by canonical URL or host; its exact name before a `*.` above it."""
    host = url_or_host.partition("://")[2] or url_or_host
    host = host.partition("/")[0].partition(":")[0].lower()
    known = _by_host()
    labels = host.split(".")
    wider = ("*." + ".".join(labels[count:]) for count in range(1, len(labels)))
    return next((known[name] for name in (host, *wider) if name in known), None)


def probe_image(registry: str) -> str:
    """A small public image of a registry that its mirrors' allowlists name, as a whole reference; "" if none is
    known."""
    found = (raw for raw in _data()["probe"] if raw["registry"] == registry)
    return next((f"{raw['registry']}/{raw['image']}" for raw in found), "")


def as_of() -> str:
    """The day of the newest source in the catalogue."""
    return str(_data()["as_of"])


@cache
def _data() -> Mapping[str, Any]:
    # importlib.resources would do the same with 1.5 MB of zipfile, tempfile and shutil.
    data = pkgutil.get_data("agent", "data/catalogue.toml") or b""
    return tomllib.loads(data.decode())


@cache
def _by_host() -> Mapping[str, CatalogueEntry]:
    return {entry.host: entry for entry in mirrors()}


def _preset(raw: Mapping[str, Any]) -> Preset:
    return Preset(
        name=raw["name"],
        operator=raw["operator"],
        title=raw["title"],
        checked=str(raw["checked"]),
        source=raw["source"],
        rules=tuple(raw["rules"]),
        rows=tuple(_row(row) for row in raw["row"]),
    )


def _row(raw: Mapping[str, Any]) -> PresetRow:
    return PresetRow(
        registry=raw["registry"],
        mirror=raw["mirror"],
        state=MirrorState(raw["state"]),
        since=raw["since"],
        expand=raw.get("expand", True),
        note=raw.get("note", ""),
    )


def _preset_entry(raw: Mapping[str, Any], row: Mapping[str, Any]) -> CatalogueEntry:
    """A preset's row as a mirror of its own."""
    return CatalogueEntry(
        host=row["mirror"].removeprefix("https://"),
        kind=MirrorKind.PREFIX_REPLACE,
        access=Access(row["access"]),
        state=MirrorState(row["state"]),
        since=row["since"],
        checked=str(raw["checked"]),
        source=raw["source"],
        operator=raw["operator"],
        serves=((row["registry"], row["mirror"]),),
        rules=tuple(raw["rules"]),
        note=row.get("note", ""),
    )


def _entry(raw: Mapping[str, Any], host: str) -> CatalogueEntry:
    kind = MirrorKind(raw.get("kind", "prefix-replace"))
    return CatalogueEntry(
        host=host,
        kind=kind,
        access=Access(raw.get("access", "open")),
        state=MirrorState(raw["state"]),
        since=raw["since"],
        checked=str(raw["checked"]),
        source=raw["source"],
        operator=raw.get("operator", ""),
        serves=tuple((registry, _url(kind, host, registry)) for registry in raw.get("serves", [DOCKER_HUB])),
        rules=tuple(raw.get("rules", ())),
        note=raw.get("note", ""),
    )


def _url(kind: MirrorKind, host: str, registry: str) -> str:
    """The URL to write for a registry; an added prefix is a path that needs override_path."""
    return f"https://{host}/v2/{registry}" if kind is MirrorKind.ADD_PREFIX else f"https://{host}"
