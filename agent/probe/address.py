"""Which addresses a probe may go to: a mirror must not lead it into the network behind the node."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from enum import Enum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
"""Where clouds answer a machine about itself outside of link-local: Alibaba, Oracle, AWS."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Kind(Enum):
    """Whose an address is."""

    PUBLIC = "a public address"
    PRIVATE = "a private address"
    LOOPBACK = "this machine itself"
    NEVER = "an address that no mirror has"


def kind_of(address: str) -> Kind:
    """Of a numeric address, with its zone or without. An IPv4 address inside an IPv6 one counts as that."""
    try:
        ip = _inner(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return Kind.NEVER
    if ip.is_loopback:
        return Kind.LOOPBACK
    if ip in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified or int(ip) == 0xFFFFFFFF:
        return Kind.NEVER
    return Kind.PUBLIC if ip.is_global else Kind.PRIVATE


def is_literal(host: str) -> bool:
    """Whether a host is written as an address."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def may_be_led_to(address: str, own: Iterable[Kind]) -> bool:
    """Whether a mirror whose own addresses are of these kinds may lead a probe there: to public ones, and to those of
    its own kind."""
    kind = kind_of(address)
    return kind is Kind.PUBLIC or (kind is not Kind.NEVER and kind in own)


def _inner(ip: Address) -> Address:
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return inner or ip
    return ip
