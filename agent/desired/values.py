"""Small values: paths, durations, windows, headers. Each function returns the canonical form or raises ValueError."""

from __future__ import annotations

import re
from fractions import Fraction

_MAX_PATH = 4095
_TERM = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})(ns|us|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_TERM.pattern})+")
_SECONDS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_MAX_DURATION = 600
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_RESERVED_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
CAPABILITIES = ("pull", "resolve", "push")
"""Every capability that all versions of containerd know, in canonical order."""


def absolute_path(text: str) -> str:
    """An absolute path in its shortest spelling."""
    if not text.startswith("/"):
        raise ValueError("must be an absolute path, beginning with /")
    if len(text.encode("utf-8", "replace")) > _MAX_PATH:
        raise ValueError(f"is longer than {_MAX_PATH} bytes")
    parts = text[1:].split("/")
    if ".." in parts or "." in parts:
        raise ValueError('must not have "." or ".." in it: write the path that is meant')
    if "" in parts:
        raise ValueError("must name a file or directory without double or trailing slashes")
    return text


def certs_directory(text: str) -> str:
    """One directory: containerd splits at colons, and 2.1 and later ignore a list of directories as a whole."""
    path = absolute_path(text)
    if ":" in path:
        raise ValueError("must be one directory: containerd 2.1 and later ignore a list with colons as a whole")
    return path


def go_duration(text: str) -> str:
    """A positive Go duration of at most ten minutes (`3s`, `1m30s`), kept as written. Source: Go time.ParseDuration."""
    if len(text) > 64 or not _DURATION.fullmatch(text):
        raise ValueError("must be a duration as in 3s, 500ms or 1m30s")
    if not 0 < _total(text) <= _MAX_DURATION:
        raise ValueError("must be more than 0 and at most 10m")
    return text


def probe_interval(text: str) -> str:
    """How often a mirror may be probed, as written: not so often that it takes the probe for an attack."""
    if not 30 <= seconds_of(text) <= 86_400:
        raise ValueError("must be at least 30s and at most 24h")
    return text


def probe_timeout(text: str) -> str:
    """What a probe may take, as written."""
    if not 1 <= seconds_of(text) <= 60:
        raise ValueError("must be at least 1s and at most 1m")
    return text


def seconds_of(text: str) -> float:
    """A Go duration in seconds."""
    if len(text) > 64 or not _DURATION.fullmatch(text):
        raise ValueError("must be a duration as in 10m, 30s or 1h30m")
    return float(_total(text))


def probe_image(registry: str, text: str) -> str:
    """The whole reference of an image of a registry, which is named with or without that registry."""
    from agent.image import BadReferenceError, parse  # not at the top: few desired states name one

    try:
        image = parse(text if text.startswith(f"{registry}/") else f"{registry}/{text}")
    except BadReferenceError as error:
        raise ValueError(f"is no image of {registry}: {error}") from error
    if image.registry != registry:
        raise ValueError(f"is an image of {image.registry}, and must be one of {registry}")
    return image.name


def clock_window(text: str) -> tuple[int, int]:
    """`02:00-05:00` as minutes after midnight."""
    start, dash, end = text.partition("-")
    first, last = _CLOCK.fullmatch(start.strip()), _CLOCK.fullmatch(end.strip())
    if not dash or first is None or last is None:
        raise ValueError('must be two times of day as in "02:00-05:00"')
    minutes = (int(first[1]) * 60 + int(first[2]), int(last[1]) * 60 + int(last[2]))
    if minutes[0] == minutes[1]:
        raise ValueError("begins and ends at the same minute: write a span, or remove it to allow restarts at any time")
    return minutes


def window_text(text: str) -> str:
    """A clock_window, as written."""
    clock_window(text)
    return text


def header_name(text: str) -> str:
    """An HTTP header that may be set. Source: RFC 9110 5.1; the reserved ones belong to the connection."""
    if not _HEADER_NAME.fullmatch(text):
        raise ValueError("is not the name of an HTTP header: letters, digits and - are usual")
    if text.lower() in _RESERVED_HEADERS:
        raise ValueError("is set by the runtime itself: remove it")
    return text


def header_value(text: str) -> str:
    """An HTTP header's value: visible ASCII and blanks between."""
    if not text or text != text.strip() or not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII without blanks at its ends")
    return text


def capability(text: str) -> str:
    """A capability that every containerd knows; another word makes it drop the whole file."""
    if text not in CAPABILITIES:
        raise ValueError("must be pull, resolve or push")
    return text


def _total(text: str) -> Fraction:
    return sum((_number(value) * _SECONDS[unit] for value, unit in _TERM.findall(text)), Fraction(0))


def _number(text: str) -> Fraction:
    whole, _, part = text.partition(".")
    return Fraction(int(whole or "0")) + (Fraction(int(part), 10 ** len(part)) if part else 0)
