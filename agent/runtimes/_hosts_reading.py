"""What a hosts.toml, by whomever, makes containerd do: the endpoints in their order, and what in it has no effect.

Reads what containerd 1.5 to 2.3 read; where the versions differ the remarks say so. Source: containerd
remotes/docker/config/hosts.go @ v1.5 … v1.7, core/remotes/docker/config/hosts.go @ v2.0 … v2.3 (parseHostsFile).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agent.model import ClientPair, Header, Regular
from agent.redact import redact
from agent.render import Endpoint, HostsToml
from agent.runtimes import _toml

CAPABILITIES = ("pull", "resolve", "push")
DIAL_TIMEOUT = "30s"
"""containerd's own, where a file names none (net.Dialer in remotes/docker/config/hosts.go)."""

ValueT = TypeVar("ValueT")
_KEYS = frozenset({"capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"})
_FIRST_OF_2_2 = "referrers"


@dataclass(frozen=True, slots=True)
class Reading:
    """A hosts.toml that containerd accepts. `server.url` is "" where none is named; capabilities are spelt out for
    every host, for left out they are all; on the server () stands for all."""

    meaning: HostsToml
    remarks: tuple[str, ...] = ()


def read(content: bytes, directory: str) -> Reading:
    """Read a file that lies in `directory`. Raises ValueError, with the reason, if containerd ignores all of it."""
    try:
        text = content.decode()
        document = _toml.loads(text)
    except ValueError as error:
        raise ValueError(f"it is not valid TOML ({_first_line(error)})") from None
    tables = document.get("host", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError("host must be a table of tables")
    server = _typed(document, "server", "")
    own = _endpoint(_with_scheme(server) if server else "", document, directory)
    hosts = tuple(_host(url, table, directory) for url, table in tables.items())
    return Reading(HostsToml(own, hosts), tuple(redact("", remark) for remark in _remarks(document, text)))


def api_root(endpoint: Endpoint) -> str:
    """The URL below which an endpoint is asked."""
    from agent import route  # not at the top: the rest of it is for `explain`

    return route.api_root(endpoint.url, override_path=endpoint.override_path)


def means_the_same(state: Regular, directory: str, wanted: HostsToml, server: str) -> bool:
    """Whether a file that somebody wrote makes every containerd do what `wanted` does: the same hosts in the same way
    and order, and nothing in it that some versions read otherwise. `server` is what is asked last if no file names
    one."""
    try:
        reading = read(state.content, directory)
    except ValueError:
        return False
    return not reading.remarks and _normal(reading.meaning, server) == _normal(wanted, server)


def _normal(meaning: HostsToml, server: str) -> HostsToml:
    own = _normal_endpoint(replace(meaning.server, url=meaning.server.url or server))
    is_unlimited = set(own.capabilities) == set(CAPABILITIES)
    hosts = tuple(map(_normal_endpoint, meaning.hosts))
    return HostsToml(replace(own, capabilities=()) if is_unlimited else own, hosts)


def _normal_endpoint(endpoint: Endpoint) -> Endpoint:
    capabilities = tuple(each for each in CAPABILITIES if each in endpoint.capabilities)
    timeout = endpoint.dial_timeout or DIAL_TIMEOUT
    url = api_root(endpoint) if endpoint.url else ""
    return replace(endpoint, url=url, override_path=False, capabilities=capabilities, dial_timeout=timeout)


def _host(url: str, table: dict[str, Any], directory: str) -> Endpoint:
    endpoint = _endpoint(_with_scheme(url), table, directory)
    return endpoint if endpoint.capabilities else replace(endpoint, capabilities=CAPABILITIES)


def _with_scheme(url: str) -> str:
    return url if url.startswith("http") else f"https://{url}"


def _endpoint(url: str, table: dict[str, Any], directory: str) -> Endpoint:
    return Endpoint(
        url=url,
        capabilities=_capabilities(table.get("capabilities", [])),
        skip_verify=_typed(table, "skip_verify", default=False),
        ca=tuple(_absolute(path, directory) for path in _texts(table, "ca")),
        client=tuple(_pairs(table.get("client", []), directory)),
        override_path=_typed(table, "override_path", default=False),
        dial_timeout=_typed(table, "dial_timeout", default=""),
        headers=tuple(Header(name, _texts(table["header"], name)) for name in _headers(table)),
    )


def _headers(table: dict[str, Any]) -> dict[str, Any]:
    headers = table.get("header", {})
    if not isinstance(headers, dict):
        raise ValueError("header must be a table")  # noqa: TRY004 -- the file is wrong, not the caller
    return headers


def _capabilities(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("capabilities must be a list of texts")
    words = {each.lower() for each in value} - {_FIRST_OF_2_2}
    if unknown := sorted(words - set(CAPABILITIES)):
        raise ValueError(f"unknown capability {unknown[0]}")
    return tuple(each for each in CAPABILITIES if each in words)


def _typed(table: dict[str, Any], key: str, default: ValueT) -> ValueT:
    value = table.get(key, default)
    if not isinstance(value, type(default)):
        raise ValueError(f"{key} has a value of the wrong type")  # noqa: TRY004 -- the file is wrong
    return value


def _texts(table: dict[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise ValueError(f"{key} must be a text or a list of texts")
    return tuple(texts)


def _pairs(value: object, directory: str) -> Iterator[ClientPair]:
    """A text or a list of texts: certificate and key in one file; a list of lists: pairs of them."""
    for item in [value] if isinstance(value, str) else value if isinstance(value, list) else [None]:
        words = [item] if isinstance(item, str) else item
        if not isinstance(words, list) or not 0 < len(words) <= 2 or not all(isinstance(word, str) for word in words):
            raise ValueError("client must be a text, a list of texts, or a list of pairs")
        cert, key = words[0], "".join(words[1:])
        same = key in {"", cert}
        yield ClientPair(_absolute(cert, directory), "" if same else _absolute(key, directory))


def _absolute(path: str, directory: str) -> str:
    return posixpath.normpath(posixpath.join(directory, path))


def _remarks(document: dict[str, Any], text: str) -> Iterator[str]:
    """What is in the file and has no effect, or not on every version."""
    tables = document.get("host", {})
    for where, table in (("", document), *((f'host."{url}".', table) for url, table in tables.items())):
        known = _KEYS | {"server", "host"} if not where else _KEYS
        for key in table:
            if key not in known:
                yield f"{where}{key} is no key that containerd knows; it has no effect"
        if any(str(word).lower() == _FIRST_OF_2_2 for word in table.get("capabilities", [])):
            yield f"{where}capabilities names referrers: containerd up to 2.1 ignores the whole file"
    headers = list(_headers_in_order(text))
    for url in tables:
        if url not in headers:
            yield f"{url} has no [host] table of its own: containerd 2.x does not see it"
        elif headers.count(url) > 1:
            yield f"{url} is named again behind another host: containerd 2.x asks it twice"
    if "host" not in document:
        yield "there is no [host] table: containerd up to 1.7.31 ignores the file"


def _headers_in_order(text: str) -> Iterator[str]:
    """The hosts as containerd 2.x finds them: a scan over the headers of tables."""
    previous = ""
    for line in text.splitlines():
        if line.lstrip().startswith("[") and (url := _host_of_header(line)) != previous:
            previous = url
            if url:
                yield url


def _host_of_header(line: str) -> str:
    try:
        found = _toml.loads(line.strip()).get("host")
    except ValueError:
        return ""
    return next(iter(found), "") if isinstance(found, dict) else ""


def _first_line(error: ValueError) -> str:
    return str(error).splitlines()[0] if not isinstance(error, UnicodeDecodeError) else "a byte that is no UTF-8"
