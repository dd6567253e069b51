"""From values to the text of managed files, so that every reader of the file reads the same.

hosts.toml is read by containerd 1.5 to 2.3 through three TOML libraries and several rules of their own; what is
written here is what all of them read alike (containerd remotes/docker/config/hosts.go @ v1.5 … v1.7,
core/remotes/docker/config/hosts.go @ v2.0 … v2.3): ASCII header line, root keys before tables, one real
`[host."URL"]` table per endpoint with its header table right below it, always a `[host]` table (a file without one is
an error up to 1.7.31), and capabilities always spelt out for a mirror (left out they would include push).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from typing import Generic, TypeVar

from agent.model import ClientPair, Header

HEADER_START = "# Managed by mirror-agent "
"""How the first line of every hosts.toml of ours begins, in every version of the agent."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint as hosts.toml says it. `url` is "" for a server that is left out; empty fields are not written."""

    url: str
    capabilities: tuple[str, ...] = ()
    skip_verify: bool = False
    ca: tuple[str, ...] = ()
    client: tuple[ClientPair, ...] = ()
    override_path: bool = False
    dial_timeout: str = ""
    headers: tuple[Header, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class HostsToml:
    """What one hosts.toml means: `hosts` are asked in order, then `server`."""

    server: Endpoint
    hosts: tuple[Endpoint, ...] = ()


def header_line(source: str) -> str:
    """Who manages the file and from where; constant, and one line of ASCII whatever the path holds."""
    path = source.encode("unicode_escape").decode("ascii")
    return f"{HEADER_START}from {path}: edit that file, changes made here are undone."


def is_ours(content: bytes) -> bool:
    """Whether the content carries our header."""
    return content.startswith(HEADER_START.encode())


def is_debris(content: bytes) -> bool:
    """Whether the content is nothing but what is left of our header: an empty or cut file."""
    return len(content) < len(HEADER_START) and HEADER_START.encode().startswith(content)


def hosts_toml(meaning: HostsToml, source: str) -> bytes:
    """The text of a hosts.toml. Raises ValueError if two hosts have the same URL (containerd rejects such a file).

    It is rendered in blocks, a comment or table each: what many endpoints share is rendered once for all of them. It
    takes so little of TOML that no library is loaded for it, which every node would pay for.
    """
    urls = [host.url for host in meaning.hosts]
    if len(set(urls)) != len(urls):
        raise ValueError("two hosts with the same URL")
    hosts = chain.from_iterable(_tables(("host", host.url), host) for host in meaning.hosts)
    first = f"{header_line(source)}\n"
    return "\n".join([first, *_root(meaning.server), *(hosts if urls else ["[host]\n"])]).encode()


def _root(server: Endpoint) -> Iterator[str]:
    """What is said about the registry's own endpoint, and its headers."""
    url = f"server = {_string(server.url)}\n" if server.url else ""
    if text := url + _options(_without_names(server)):
        yield text
    if server.headers:
        yield _header_table((), server.headers)


def _tables(path: tuple[str, ...], endpoint: Endpoint) -> Iterator[str]:
    """The table of an endpoint, and that of its headers."""
    yield f"[{_dotted(path)}]\n{_options(_without_names(endpoint))}"
    if endpoint.headers:
        yield _header_table(path, endpoint.headers)


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(_key(name) for name in path)


def _without_names(endpoint: Endpoint) -> Endpoint:
    """Many mirrors differ in nothing but their URL. Headers may be secrets, which are not to be remembered."""
    return replace(endpoint, url="", headers=())


@lru_cache(maxsize=256)
def _options(endpoint: Endpoint) -> str:
    """The lines that say how an endpoint is asked."""
    return "".join(f"{key} = {value}\n" for key, value in _keys(endpoint))


def _keys(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    if endpoint.capabilities:
        yield "capabilities", _strings(endpoint.capabilities)
    if endpoint.skip_verify:
        yield "skip_verify", "true"
    if endpoint.ca:
        yield "ca", _strings(endpoint.ca)
    if endpoint.client:
        yield "client", f"[{', '.join(_strings(_pair(pair)) for pair in endpoint.client)}]"
    if endpoint.override_path:
        yield "override_path", "true"
    if endpoint.dial_timeout:
        yield "dial_timeout", _string(endpoint.dial_timeout)


def _pair(pair: ClientPair) -> tuple[str, str]:
    """Certificate and key. One file with both is named twice: containerd makes an empty name absolute, which is then
    the directory of hosts.toml, and fails every pull."""
    return pair.cert, pair.key or pair.cert


def _header_table(path: tuple[str, ...], headers: tuple[Header, ...]) -> str:
    values: dict[str, list[str]] = {}
    for header in headers:
        values.setdefault(header.name, []).extend(header.values)
    lines = "".join(f"{_key(name)} = {_strings(texts)}\n" for name, texts in values.items())
    return f"[{_dotted((*path, 'header'))}]\n{lines}"


def _strings(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_string, texts))}]"


def _string(text: str) -> str:
    """TOML's basic string: JSON's, but for DEL, which TOML wants escaped, and for no pairs of surrogates."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _string(name)


KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Memo(Generic[KeyT, ValueT]):
    """Remembers one round of results: what was asked for in the last round is not made again, what was not is
    forgotten. Rendering is by far the dearest step of a plan, and most edits touch one registry among many."""

    def __init__(self, make: Callable[[KeyT], ValueT]) -> None:
        self._make = make
        self._known: dict[KeyT, ValueT] = {}

    def round(self, keys: Iterable[KeyT]) -> tuple[ValueT, ...]:
        """The value of each key, in their order; none is None. A key is looked up once: its hash takes longest here."""
        values: list[ValueT] = []
        now: dict[KeyT, ValueT] = {}
        for key in keys:
            known = self._known.get(key)
            now[key] = value = self._make(key) if known is None else known
            values.append(value)
        self._known = now
        return tuple(values)
