"""In what two hosts.toml differ, as a person would say it. Never quotes a value that could be a secret."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

from agent.render import is_debris, is_ours

_SHOWABLE_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~/-]*)?")
_ROOT_NAMES = {"server", "host"}

Document = dict[str, Any]


def parse(content: bytes) -> Document | None:
    """The file as a document; None if containerd cannot read it either, and then ignores it."""
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError):
        return None


def describe_change(registry: str, before: bytes, after: bytes) -> str:
    """What happens to a file of ours: `before` is what stands there, `after` what belongs there."""
    old, new = parse(before), parse(after)
    if old is None or new is None or is_debris(before):
        return f"{registry}: the file was {'damaged' if is_ours(before) or is_debris(before) else 'replaced'}"
    differences = "; ".join(_differences(registry, old, new))
    if not is_ours(before):
        return f"{registry}: somebody replaced the file" + (f"; {differences}" if differences else "")
    return differences or _same_meaning(registry, before, after)


def _same_meaning(registry: str, before: bytes, after: bytes) -> str:
    if before.partition(b"\n")[2] == after.partition(b"\n")[2]:
        return f"{registry}: the first line says what is true now"
    return f"{registry}: the text of the file was changed, not what it means"


def _differences(registry: str, old: Document, new: Document) -> Iterator[str]:
    if mirrors := _mirrors(list(_hosts(old)), list(_hosts(new))):
        yield f"mirrors of {registry}: {mirrors}"
    if old.get("server") != new.get("server"):
        yield f"server of {registry}: {_shown(old.get('server'))} → {_shown(new.get('server'))}"
    if options := _options(_without(old, _ROOT_NAMES), _without(new, _ROOT_NAMES)):
        yield f"{registry} itself: {options}"
    for url, table in _hosts(new).items():
        if url in _hosts(old) and (options := _options(_hosts(old)[url], table)):
            yield f"{_shown(url)} for {registry}: {options}"


def _mirrors(old: list[str], new: list[str]) -> str:
    gained = [f"+ {_shown(url)}" for url in new if url not in old]
    lost = [f"− {_shown(url)}" for url in old if url not in new]
    if gained or lost:
        return ", ".join([*gained, *lost])
    return "another order" if old != new else ""


def _options(old: object, new: object) -> str:
    """The names of the options that differ."""
    before, after = (table if isinstance(table, dict) else {} for table in (old, new))
    names = [name for name in {**after, **before} if before.get(name) != after.get(name)]
    return f"{', '.join(_word(name) for name in names)} changed" if names else ""


def _hosts(document: Document) -> Document:
    hosts = document.get("host")
    return hosts if isinstance(hosts, dict) else {}


def _without(document: Document, names: set[str]) -> Document:
    return {name: value for name, value in document.items() if name not in names}


def _shown(url: object) -> str:
    """A URL that somebody else may have written: nothing but a plain one is repeated."""
    if url is None:
        return "none"
    return url if isinstance(url, str) and _SHOWABLE_URL.fullmatch(url) else "another URL"


def _word(name: str) -> str:
    return name if re.fullmatch(r"[a-z_]{1,40}", name) else "another key"
