"""What the agent and the probe tell each other through two small files in /run: which mirrors are to be probed, and
what came of it.

The agent, which is root and opens no network socket, writes targets.json for everybody to read, so nothing secret may
come in: a mirror that takes headers or a client certificate is probed without them. The probe, which has the network
and nothing else, writes verdicts.json; it deals with hostile mirrors, so the agent reads that as it would read
something from a stranger: bounded, and anything that is not as it should be is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from agent.verdict import Verdict

_Row = TypeVar("_Row")

FORMAT = 1
MAX_BYTES = 4 * 1024 * 1024
"""Of either file: what a stranger may cost us to read. `fitting` tells what goes in."""
MAX_DETAIL = 300
_FRAME, _LEAST_SAMPLE = 100, 145
"""What is around the rows, and in one of verdicts.json beside registry, URL and detail."""
MAX_URL = 4096
MAX_SECONDS = 86_400.0
"""The longest latency and the longest rest that anybody is believed."""


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A mirror of a registry and how it is probed: by which image, with which deadline in all, and not before `due`
    (Unix seconds). `is_partial`: it gets headers or a certificate from runtimes that a probe does not have.
    `checks_content`: what it serves is looked at too, not only what it says it has."""

    registry: str
    url: str
    image: str
    override_path: bool = False
    ca: tuple[str, ...] = ()
    skip_verify: bool = False
    timeout_seconds: float = 10.0
    due: float = 0.0
    is_partial: bool = False
    checks_content: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.registry, self.url


@dataclass(frozen=True, slots=True)
class Sample:
    """One verdict over one mirror of a registry, made at `at` (Unix seconds). `seconds` is what a pull waits before its
    first byte, `retry_seconds` how long a rate limit asks to be left alone (0: it says nothing)."""

    registry: str
    url: str
    verdict: Verdict
    detail: str
    at: float
    seconds: float = 0.0
    retry_seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """The mirror it is about."""
        return self.registry, self.url


@dataclass(frozen=True, slots=True)
class Blind:
    """A mirror that the probe cannot look at from where it is, and why, as found at `at` (Unix seconds)."""

    registry: str
    url: str
    why: str
    at: float

    @property
    def key(self) -> tuple[str, str]:
        """The mirror it is about."""
        return self.registry, self.url


def encode_targets(targets: tuple[ProbeTarget, ...]) -> bytes:
    """targets.json."""
    return _encoded("targets", [_row(target) for target in targets])


def fitting(targets: tuple[ProbeTarget, ...]) -> tuple[ProbeTarget, ...]:
    """As many of them, from the first, as both files can hold: some 20,000."""
    size, sizes = (
        0,
        (max(len(_line(_row(each))), _LEAST_SAMPLE + len(each.registry) + len(each.url)) for each in targets),
    )
    for count, each in enumerate(sizes):
        size += each + 2
        if size > MAX_BYTES - _FRAME:
            return targets[:count]
    return targets


def decode_targets(data: bytes) -> tuple[ProbeTarget, ...]:
    """Read it back. Raises ValueError if it is not that: its writer is the agent, so anything odd is a bug."""
    try:
        return tuple(ProbeTarget(**{**raw, "ca": tuple(raw.get("ca", ()))}) for raw in _rows(data, "targets"))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the targets of this version: {error}") from error


def encode_samples(samples: tuple[Sample, ...], blind: tuple[Blind, ...] = ()) -> bytes:
    """verdicts.json; where it would be too large, without details."""
    rows = [{**asdict(sample), "verdict": sample.verdict.value} for sample in samples]
    unseen = [asdict(each) for each in blind]
    data = _encoded("verdicts", rows, blind=unseen)
    if len(data) <= MAX_BYTES:
        return data
    return _encoded("verdicts", [{**row, "detail": ""} for row in rows], blind=[{**row, "why": ""} for row in unseen])


def decode_samples(data: bytes, now: float) -> tuple[Sample, ...]:
    """What of a stranger's file can be believed: nothing of what is not a verdict in form, or comes from the future."""
    return tuple(sample for sample in _believed(data, "verdicts", _sample) if sample.at <= now)


def decode_blind(data: bytes, now: float) -> tuple[Blind, ...]:
    """What of the same file can be believed about mirrors that nobody can look at."""
    return tuple(each for each in _believed(data, "blind", _blind) if each.at <= now)


def _row(target: ProbeTarget) -> dict[str, Any]:
    """Without what is as it is by default, which leaves room for twice as many."""
    return {each.name: value for each in fields(ProbeTarget) if (value := getattr(target, each.name)) != each.default}


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":"))


def _encoded(name: str, rows: list[dict[str, Any]], **more: list[dict[str, Any]]) -> bytes:
    tables = ((each, ",\n".join(map(_line, table))) for each, table in {name: rows, **more}.items())
    return (
        f'{{"format": {FORMAT}'.encode()
        + "".join(f', "{each}": [\n{text}\n]' for each, text in tables).encode()
        + b"}\n"
    )


def _rows(data: bytes, name: str) -> list[Any]:
    if len(data) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES:,} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    rows = document.get(name) if isinstance(document, dict) and document.get("format") == FORMAT else None
    if not isinstance(rows, list):
        raise ValueError(f"no {name} of format {FORMAT}")  # noqa: TRY004
    return rows


def _believed(data: bytes, name: str, form: Callable[[dict[str, Any]], _Row]) -> Iterator[_Row]:
    """The rows of a stranger's file that have this form; none if it is no such file."""
    try:
        rows = _rows(data, name)
    except ValueError:
        return
    for row in rows:
        try:
            yield form(row)
        except (KeyError, TypeError, ValueError):
            continue


def _blind(row: dict[str, Any]) -> Blind:
    registry, url, why = _texts(row, "why")
    return Blind(registry, url, _visible(why) or "the probe cannot look at it", _number(row["at"], math.inf))


def _texts(row: dict[str, Any], name: str) -> tuple[str, str, str]:
    """Which mirror, and what is said of it."""
    registry, url, words = row["registry"], row["url"], row[name]
    if not (isinstance(registry, str) and isinstance(url, str) and isinstance(words, str)):
        raise TypeError("not text")
    if len(registry) > MAX_URL or len(url) > MAX_URL:
        raise ValueError("too long")
    return registry, url, words


def _sample(row: dict[str, Any]) -> Sample:
    registry, url, detail = _texts(row, "detail")
    return Sample(
        registry=registry,
        url=url,
        verdict=Verdict(row["verdict"]),
        detail=_visible(detail),
        at=_number(row["at"], math.inf),
        seconds=_number(row["seconds"], MAX_SECONDS),
        retry_seconds=_number(row["retry_seconds"], MAX_SECONDS),
    )


def _number(value: object, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError("not a number of seconds")
    return min(float(value), most)


def _visible(text: str) -> str:
    """On one line, without what steers a terminal, and not for ever."""
    clean = "".join(character if character.isprintable() else " " for character in text[: 4 * MAX_DETAIL])
    return clean.strip()[:MAX_DETAIL]
