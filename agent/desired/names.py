"""Registry names and hosts in one canonical spelling, so that two spellings of one registry are one registry.

Sources: distribution/reference (a registry is host[:port] with a dot, a port, or `localhost`), RFC 1123 (host names),
RFC 3490 (`encodings.idna`), RFC 5952 (IPv6), containerd `remotes/docker/config/hosts.go` (`_default`).
Every function raises ValueError with a message that says what would be right and never quotes a secret.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata

from agent.desired.findings import quoted
from agent.model import DEFAULT_REGISTRY

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_HOST_AND_PORT = re.compile(rf"((?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?)(?::([1-9][0-9]{{0,3}}))?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+-]*:/+|https?:(?=[^0-9])|//", re.IGNORECASE)
_PORT = re.compile("[1-9][0-9]{0,4}")
_MAX_HOST = 253
# Letters that IDNA 2003 (Python's codec) maps away and IDNA 2008 (today's registries) keeps: never guess.
_DEVIATIONS = frozenset("ßς\u200c\u200d")


def canonical_registry(name: str) -> str:
    """A registry as image references name it: `docker.io`, `registry.lan:5000`, `[::1]:5000`, or `_default`."""
    if name == DEFAULT_REGISTRY:
        return name
    if _HOST_AND_PORT.fullmatch(name) and len(name) <= _MAX_HOST:
        return name
    _refuse_more_than_a_name(name)
    host, port = split_authority(name)
    host = canonical_host(host)
    if port is None and "." not in host and host != "localhost" and not host.startswith("["):
        raise ValueError(
            f"image references take {quoted(host)} for a folder of Docker Hub, not for a registry: "
            f'a registry has a dot or a port, as in "{host}:5000"'
        )
    return authority(host, port)


def authority(host: str, port: int | None) -> str:
    """host[:port]."""
    return host if port is None else f"{host}:{port}"


def split_authority(text: str) -> tuple[str, int | None]:
    """Host as written (IPv6 with its brackets) and port."""
    if text.startswith("["):
        inside, closed, rest = text.partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError('an IPv6 address is written like "[2001:db8::1]:5000"')
        return inside + closed, _port(rest[1:]) if rest else None
    host, colon, port = text.partition(":")
    if ":" in port:
        raise ValueError('an IPv6 address needs brackets, as in "[2001:db8::1]:5000"')
    return host, _port(port) if colon else None


def canonical_host(host: str) -> str:
    """A host name in lower case and A-labels without the final dot, an IPv4 address, or an IPv6 one in brackets."""
    if not host:
        raise ValueError("the host name is missing")
    if host.startswith("["):
        return _ipv6(host[1:-1])
    if len(host) > _MAX_HOST:
        raise ValueError(f"the host name has {len(host)} characters, {_MAX_HOST} are possible")
    name = host.lower() if host.isascii() else _a_labels(host)
    name = name.removesuffix(".")
    if len(name) > _MAX_HOST or not _HOST.fullmatch(name):
        raise ValueError(_host_fault(name))
    if name.rpartition(".")[2].isdigit() or re.fullmatch(r"0x[0-9a-f]*", name.rpartition(".")[2]):
        return _ipv4(name)
    return name


def _refuse_more_than_a_name(name: str) -> None:
    if not name:
        raise ValueError("a registry needs a name, as in docker.io")
    if name == "*":
        raise ValueError('"*" names no registry: the entry for all others is called _default')
    if "@" in name:
        raise ValueError("a registry is named without user and password: write host or host:port")
    scheme = _SCHEME.match(name)
    bare = name[scheme.end() :] if scheme else name
    if scheme or "/" in bare:
        raise ValueError(_name_hint(bare, "a scheme" if scheme else "a path"))


def _name_hint(bare: str, what: str) -> str:
    try:
        return f'a registry is named without {what}: write "{canonical_registry(bare.partition("/")[0])}"'
    except ValueError:
        return f"a registry is named without {what}: write host or host:port"


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ValueError("a port is a number from 1 to 65535 without leading zeros")
    return int(text)


def _host_fault(name: str) -> str:
    if len(name) > _MAX_HOST:
        return f"the host name has {len(name)} characters, {_MAX_HOST} are possible"
    labels = name.split(".")
    if "" in labels:
        return "the host name has an empty part: two dots, or a dot in front"
    if any(len(label) > 63 for label in labels):
        return "a part of the host name has more than 63 characters"
    if any(label.startswith("-") or label.endswith("-") for label in labels):
        return 'a part of the host name begins or ends with "-"'
    return 'a host name has letters, digits, "-" and dots only'


def _ipv4(name: str) -> str:
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        raise ValueError("this looks like an IPv4 address and is none: four numbers from 0 to 255") from None


def _ipv6(text: str) -> str:
    if "%" in text:
        raise ValueError("an IPv6 address with a zone (%) means another host on every node: leave the zone out")
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError('not an IPv6 address: it is written like "[2001:db8::1]:5000"') from None
    if address.ipv4_mapped is not None:
        raise ValueError(f'an IPv4 address in IPv6 dress: write "{address.ipv4_mapped}"')
    return f"[{address.compressed}]"


def _a_labels(host: str) -> str:
    """A name with other than ASCII letters in its xn-- form."""
    folded = unicodedata.normalize("NFKC", host.replace("\u3002", ".").replace("\uff61", "."))
    if folded.lower() != unicodedata.normalize("NFC", host).lower():
        raise ValueError(_width_hint(folded))
    if not _DEVIATIONS.isdisjoint(folded.lower()):
        raise ValueError("the name has a letter that IDNA standards treat differently: write its xn-- form")
    try:
        return folded.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError("the name cannot be written in DNS: write its xn-- form if it has one") from None


def _width_hint(folded: str) -> str:
    base = "the name has full-width or look-alike characters"
    return f'{base}: write "{folded.lower()}"' if folded.replace(".", "").replace("-", "").isalnum() else base
