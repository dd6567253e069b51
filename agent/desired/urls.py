"""URLs of mirrors and servers in one canonical spelling: lower case, no default port, no trailing slash.

Stricter than Docker and containerd where they differ (facts: each accepts forms on which the other stops): http or
https, a valid host, a plain path, and neither user, query nor fragment. Raises ValueError with what would be right;
what may be a secret (anything with userinfo, a query, a fragment) is never quoted.
"""

from __future__ import annotations

import re

from agent.desired.findings import quoted
from agent.desired.names import authority, canonical_host, split_authority

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#\\]*)(?P<path>/[^?#]*)?(?P<rest>[?#].*)?")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~:+-]+)*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ALREADY = re.compile(
    rf"https?://(?:{_LABEL}\.){{1,6}}[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?(?:/[a-z0-9][a-z0-9._-]{{0,60}}){{0,6}}"
)
_WIDE = re.compile("[，；：、“”‘’（）【】]")
_MAX_LENGTH = 2000
_WRONG_SERVERS = frozenset({"docker.io", "hub.docker.com", "www.docker.com", "docker.com"})


def canonical_url(text: str) -> str:
    """The endpoint of a mirror."""
    if len(text) <= 250 and _ALREADY.fullmatch(text):
        return text
    if not text:
        raise ValueError("is empty: write a URL as in https://docker.m.daocloud.io")
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"is longer than {_MAX_LENGTH} characters")
    if text != text.strip() or " " in text or "\u3000" in text:
        raise ValueError("contains a blank: remove it")
    if wide := _WIDE.search(text):
        raise ValueError(f'has a full-width "{wide[0]}" in it: write the ASCII character')
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError(_no_scheme(text))
    scheme = match["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise ValueError(f"must begin with https:// or http://, not {scheme}://")
    if match["rest"] is not None:
        raise ValueError("must have neither query (?) nor fragment (#)")
    return f"{scheme}://{_authority(match['authority'], scheme)}{_path(match['path'] or '')}"


def canonical_server(text: str) -> str:
    """The registry's own endpoint."""
    url = canonical_url(text)
    if host_of(url) in _WRONG_SERVERS:
        raise ValueError(
            'answers with a web page, on which pulls fail: Docker Hub\'s endpoint is "https://registry-1.docker.io"'
        )
    if path_of(url):
        raise ValueError("must have no path: containerd and Docker ask /v2 of the host")
    return url


def host_of(url: str) -> str:
    """host[:port] of a canonical URL."""
    return url.partition("://")[2].partition("/")[0]


def path_of(url: str) -> str:
    """The path of a canonical URL, "" or beginning with a slash."""
    _, slash, path = url.partition("://")[2].partition("/")
    return slash + path


def is_plain(url: str) -> bool:
    """Whether a canonical URL is http."""
    return url.startswith("http://")


def _authority(text: str, scheme: str) -> str:
    if "@" in text:
        raise ValueError("must not hold a user or password: send them with header_file")
    host, port = split_authority(text)
    return authority(canonical_host(host), None if port == _DEFAULT_PORTS[scheme] else port)


def _path(path: str) -> str:
    """The path without its trailing slash."""
    path = path.removesuffix("/")
    if _PATH.fullmatch(path) and not re.search(r"/\.\.?(?:/|$)", path):
        return path
    if "//" in path or path == "/":
        raise ValueError('has an empty part in its path ("//"): remove it')
    if re.search(r"/\.\.?(?:/|$)", path):
        raise ValueError('must not have "." or ".." in its path')
    raise ValueError("has a character in its path that no registry uses: letters, digits, and . _ ~ : + - are possible")


def _no_scheme(text: str) -> str:
    bare = re.sub(r"^(?:https?:)?/{0,2}", "", text, flags=re.IGNORECASE)
    if "@" in bare or "?" in bare or "#" in bare:
        return "is not a URL: write https://host, without user, query or fragment"
    if "://" in bare or "\\" in bare:
        return "is not a URL: write one as in https://docker.m.daocloud.io"
    try:
        right = canonical_url(f"https://{bare}")
    except ValueError:
        return "has no scheme: write a URL as in https://docker.m.daocloud.io"
    if quoted(text) == "this value" or not re.search("[.:]", host_of(right)):
        return "has no scheme: write a URL as in https://docker.m.daocloud.io"
    return f'{quoted(text)} has no scheme, write "{right}"'
