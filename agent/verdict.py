"""The words for how a mirror is: what a probe finds, and what each means for a runtime and for a person."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """How a mirror is, in one word. What each makes a runtime do: facts measured on containerd 1.4 to 2.3 and Docker
    20.10 to 28; `denied`, `rate-limited`, `login-required` and `missing` are no outages."""

    OK = "ok"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    HANGING = "hanging"
    HTML = "html"
    DENIED = "denied"
    RATE_LIMITED = "rate-limited"
    LOGIN_REQUIRED = "login-required"
    MISSING = "missing"
    FAILING = "failing"
    WRONG_CONTENT = "wrong-content"
    STALE = "stale"

    @property
    def advice(self) -> str:
        """What to do, "" where there is nothing to be done."""
        return _ADVICE[self]

    @property
    def is_outage(self) -> bool:
        """Whether a runtime gains by not asking the mirror at all. What only turns some images, some people or some
        moments away is asked in one short request and passed over; that is no reason to take it out."""
        return self in _OUTAGES


_OUTAGES = frozenset(
    {
        Verdict.REFUSED,
        Verdict.UNREACHABLE,
        Verdict.TLS,
        Verdict.HANGING,
        Verdict.HTML,
        Verdict.FAILING,
        Verdict.WRONG_CONTENT,
    }
)

_ADVICE = {
    Verdict.OK: "",
    Verdict.REFUSED: "check host and port, or take it out",
    Verdict.UNREACHABLE: "check its name, the route and the firewall, or take it out",
    Verdict.TLS: "runtimes pass it over; if the host is the right one, name its CA with ca",
    Verdict.HANGING: "pulls can hang on it for ever: take it out",
    Verdict.HTML: "a login page on the way, or no registry: open it in a browser, or take it out",
    Verdict.DENIED: "no outage: it serves listed images or certain networks only; ask its operator, or another mirror",
    Verdict.RATE_LIMITED: "it works, but not for so many requests from one address: wait, and spread the load",
    Verdict.LOGIN_REQUIRED: "send its token with header_file, or use another mirror",
    Verdict.MISSING: "it may mirror another registry, or not this image: try one you need with --image",
    Verdict.FAILING: "runtimes pass it over; only its operator can mend it",
    Verdict.WRONG_CONTENT: "pulls fail on it instead of going on to the next: take it out",
    Verdict.STALE: "its tags lag behind: pull by digest, or say capabilities: [pull] for it",
}
