"""An independent, small model of how containerd reads a hosts.toml: which endpoints it asks, in which order, and how.

Two dialects, as measured on real versions: "1.x" (1.5 to 1.7.31: a file without a `host` table is an error, hosts by
line of their table) and "2.x" (hosts by a scan over the table headers, where one that comes back is a host again).
Knows nothing of the code under test.
"""

from __future__ import annotations

import posixpath
import tomllib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ALL = frozenset({"pull", "resolve", "push"})
DIALECTS = ("1.x", "2.x")


@dataclass(frozen=True)
class Asked:
    """One endpoint, as containerd goes on to use it."""

    scheme: str
    host: str
    path: str
    capabilities: frozenset[str] = ALL
    skip_verify: bool | None = None
    ca: tuple[str, ...] = ()
    client: tuple[tuple[str, str], ...] = ()
    header: tuple[tuple[str, tuple[str, ...]], ...] = ()
    dial_timeout: str = ""


class Rejected(Exception):  # noqa: N818 -- containerd's word for it is a log line
    """containerd ignores the file and asks the registry itself."""


def read(content: bytes, registry: str, dialect: str) -> list[Asked]:
    """The endpoints in the order in which they are asked."""
    document = tomllib.loads(content.decode())
    tables = document.get("host")
    if dialect == "1.x" and not isinstance(tables, dict):
        raise Rejected("invalid `host` tree")
    asked = [_asked(url, tables[url]) for url in _order(content.decode(), dialect)]
    server = document.get("server", "")
    if server:
        return [*asked, _asked(server, document)]
    host = "registry-1.docker.io" if registry == "docker.io" else registry
    return [*asked, _asked(f"https://{host}", {**document, "capabilities": []})]


def _order(text: str, dialect: str) -> list[str]:
    found: list[str] = []
    for line in text.splitlines():
        if line.startswith("["):
            parts = _parts(tomllib.loads(line))
            if parts[0] == "host" and len(parts) > 1 and parts[1] not in (found[-1:] if dialect == "2.x" else found):
                found.append(parts[1])
    return found


def _parts(document: dict[str, Any]) -> list[str]:
    parts = []
    while document:
        name, document = next(iter(document.items()))
        parts.append(name)
    return parts


def _asked(url: str, table: dict[str, Any]) -> Asked:
    split = urlsplit(url if url.startswith("http") else f"https://{url}")
    capabilities = frozenset(name.lower() for name in table.get("capabilities", []))
    if not capabilities <= ALL:
        raise Rejected("unknown capability")
    pairs = table.get("client", [])
    return Asked(
        scheme=split.scheme,
        host=split.netloc,
        path=_path(split.path, table.get("override_path", False)),
        capabilities=capabilities or ALL,
        skip_verify=table.get("skip_verify"),
        ca=tuple(_absolute(path) for path in table.get("ca", [])),
        client=tuple((_absolute(cert), _absolute(key)) for cert, key in pairs),
        header=tuple(sorted((name, tuple(values)) for name, values in table.get("header", {}).items())),
        dial_timeout=table.get("dial_timeout", ""),
    )


def _path(path: str, override: bool) -> str:
    clean = posixpath.normpath(path) if path else ""
    return clean if override or clean.endswith("/v2") else f"{'' if clean == '/' else clean}/v2"


def _absolute(path: str) -> str:
    """containerd makes every name absolute, an empty one too, which is then a directory."""
    assert path.startswith("/"), f"a name that containerd would look for beside hosts.toml: {path!r}"
    return path
