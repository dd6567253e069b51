"""How fast one operator's hosts may be asked: DaoCloud published 20 requests a minute for one address, and a probe must
not be what a rate limit falls for. Pure: times in, times out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.probe.address import is_literal

REQUESTS_A_MINUTE = 20
UNASKED_REQUESTS_A_MINUTE = 10
"""For probes that nobody waits for: pulls, and other nodes behind the same address, need the rest."""
REQUESTS_A_PROBE = 5
"""What is set aside for a probe before it begins: GET /v2/, HEAD, token, HEAD, and one redirect."""
REQUESTS_FOR_CONTENT = 3
"""And for its content: the manifest, the one that an index leads to, a blob."""
PROBES_A_MINUTE = REQUESTS_A_MINUTE // REQUESTS_A_PROBE
_MINUTE_SECONDS = 60.0


def site_of(host: str) -> str:
    """What hosts of one operator share: the last two labels of a name. "" for a number or a bare name, which nobody
    guards but the operator of this node."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if is_literal(name.strip("[]")) or "." not in name:
        return ""
    return ".".join(name.lower().split(".")[-2:])


def site_of_url(url: str) -> str:
    """The same, of a mirror's URL."""
    return site_of(url.partition("://")[2].partition("/")[0])


def crowded(hosts: Iterable[str]) -> dict[str, int]:
    """The sites with more probes than a minute is sure to have room for, and how many."""
    counts = Counter(site for host in hosts if (site := site_of(host)))
    return {site: count for site, count in counts.items() if count > PROBES_A_MINUTE}


@dataclass
class Pace:
    """Requests to each site within the last minute: those set aside for probes that run, and those that were made."""

    requests_a_minute: int = REQUESTS_A_MINUTE
    _taken: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def earliest(self, site: str, now: float, requests: int = REQUESTS_A_PROBE) -> float:
        """When a probe with so many requests may begin at a site, `now` at the earliest."""
        recent = sorted((at, count) for at, count in self._taken.get(site, []) if at > now - _MINUTE_SECONDS)
        room = self.requests_a_minute - sum(count for _, count in recent)
        if not site or requests <= room:
            return now
        for at, count in recent:
            room += count
            if requests <= room:
                return at + _MINUTE_SECONDS
        return recent[-1][0] + _MINUTE_SECONDS if recent else now

    def begin(self, site: str, now: float, requests: int = REQUESTS_A_PROBE) -> None:
        """Note that a probe begins, for which so many requests are set aside."""
        kept = [each for each in self._taken.get(site, []) if each[0] > now - _MINUTE_SECONDS]
        self._taken[site] = [*kept, (now, requests)]

    def end(self, site: str, began: tuple[float, int], now: float, requests: int) -> None:
        """Note what a probe needed. `began`: when, and what was set aside for it."""
        taken = self._taken.get(site, [])
        if began in taken:
            taken.remove(began)
            taken.append((now, requests))
