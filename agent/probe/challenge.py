"""The token flow: what a 401 asks for, and the question to the token server that containerd makes of it.

Source: containerd remotes/docker/auth/parse.go, scope.go, auth/fetch.go @ v1.7 (without credentials: GET).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from agent.image import Image

_WORD = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*({_WORD})(?:\s+|$)")
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*(?:,|$)')
_MOST_TOKEN_BYTES = 16 * 1024
_VISIBLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a 401 offers; scheme and names in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Those in WWW-Authenticate headers, one in each; what cannot be read is left out."""
    found = []
    for value in values:
        if scheme := _SCHEME.match(value):
            parameters = {name.lower(): quoted or bare for name, quoted, bare in _parameters(value[scheme.end() :])}
            found.append(Challenge(scheme[1].lower(), parameters))
    return tuple(found)


def _parameters(text: str) -> Iterable[tuple[str, str, str]]:
    place = 0
    while match := _PARAMETER.match(text, place):
        yield match[1], re.sub(r"\\(.)", r"\1", match[2] or ""), match[3] or ""
        place = match.end()


def scopes(image: Image, challenge: Challenge) -> tuple[str, ...]:
    """What containerd asks for: the image's own repository and what the challenge names, sorted, each once."""
    named = challenge.parameters.get("scope", "").split(" ")
    return tuple(sorted({f"repository:{image.repository}:pull", *named} - {""}))


def token_url(image: Image, challenge: Challenge) -> str:
    """The question to the token server. Raises ValueError if its address is none."""
    realm = challenge.parameters.get("realm", "")
    if not is_web_address(realm):
        raise ValueError("the address of its token server is none")
    service = challenge.parameters.get("service", "")
    query = urlencode(
        [*([("service", service)] if service else []), *(("scope", each) for each in scopes(image, challenge))]
    )
    plain = realm.partition("#")[0]
    return f"{plain}{'&' if '?' in plain else '?'}{query}"


def is_web_address(url: str) -> bool:
    """Whether it is an absolute http or https URL that can be asked as it stands: visible ASCII, a host, no user."""
    if len(url) > 4000 or not _VISIBLE.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        )
    except ValueError:
        return False


def token_in(body: bytes) -> str:
    """The token of a token server's answer, "" if there is none that could be sent."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    token = document.get("token") or document.get("access_token")
    usable = isinstance(token, str) and len(token) <= _MOST_TOKEN_BYTES and _VISIBLE.fullmatch(token)
    return str(token) if usable else ""
