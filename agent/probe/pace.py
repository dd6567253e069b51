"""How fast one operator's hosts may be asked: DaoCloud published 20 requests a minute for one address, and a probe must
not be what a rate limit falls for. Pure: times in, times out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.probe.address import is_literal

REQUESTS_A_MINUTE = 20
REQUESTS_A_PROBE = 5
"""What is set aside for a probe before it begins: GET /v2/, HEAD, token, HEAD, and one redirect."""
PROBES_A_MINUTE = REQUESTS_A_MINUTE // REQUESTS_A_PROBE
_MINUTE_SECONDS = 60.0


def site_of(host: str) -> str:
    """What hosts of one operator share: the last two labels of a name. "" for a number or a bare name, which nobody
    guards but the operator of this node."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if is_literal(name.strip("[]")) or "." not in name:
        return ""
    return ".".join(name.lower().split(".")[-2:])


def crowded(hosts: Iterable[str]) -> dict[str, int]:
    """The sites with more probes than a minute has room for, and how many."""
    counts = Counter(site for host in hosts if (site := site_of(host)))
    return {site: count for site, count in counts.items() if count > PROBES_A_MINUTE}


@dataclass
class Pace:
    """Probes of each site within the last minute."""

    _begun: dict[str, list[float]] = field(default_factory=dict)

    def earliest(self, site: str, now: float) -> float:
        """When the next probe of a site may begin, `now` at the earliest."""
        recent = [at for at in self._begun.get(site, []) if at > now - _MINUTE_SECONDS]
        if not site or len(recent) < PROBES_A_MINUTE:
            return now
        return recent[-PROBES_A_MINUTE] + _MINUTE_SECONDS

    def begin(self, site: str, now: float) -> None:
        """Note that one begins."""
        self._begun.setdefault(site, []).append(now)
