"""What a person sees of mirrors: a table below the runtimes of `status`, as their probes found them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agent.cli.terminal import Paint, plain, table
from agent.cli.wording import HEAD_COLUMNS, age, moment, wrapped

if TYPE_CHECKING:
    from agent.status import MirrorStatus

_INDENT = 6


def mirror_lines(mirrors: Sequence[MirrorStatus], now: float, paint: Paint, width: int | None = None) -> Iterator[str]:
    """One line for each mirror: its verdict and since when, its speed, what was done, and what a person can do. Nothing
    where none are probed."""
    if not mirrors:
        return
    latest = max(mirror.probed_at for mirror in mirrors)
    told = f"probed as a runtime pulls, last {age(now - latest)}" if latest else "not probed yet"
    yield paint("strong", "mirrors".ljust(HEAD_COLUMNS)) + f"  {told}"
    for mirror, head in zip(mirrors, table([_cells(mirror, now) for mirror in mirrors]), strict=True):
        style = _style(mirror)
        lines = [f"  {head}"]
        if style != "good":
            parts = (f"not probed: {mirror.unprobed}",) if mirror.unprobed else (mirror.detail, mirror.advice)
            sentence = "; ".join(part for part in parts if part)
            lines += wrapped(" " * _INDENT + plain(sentence), width, indent=_INDENT)
        yield from (line if style == "good" else paint(style, line) for line in lines)


def _cells(mirror: MirrorStatus, now: float) -> tuple[str, ...]:
    """Registry, URL, the verdict and since when, how fast it is, what was done, when it was last fine."""
    speed = f"{mirror.seconds * 1000:.0f} ms" if mirror.seconds else "-"
    return (
        plain(mirror.registry),
        plain(mirror.url),
        _verdict(mirror, now),
        speed,
        _done(mirror, now),
        _ok(mirror, now),
    )


def _verdict(mirror: MirrorStatus, now: float) -> str:
    if mirror.unprobed:
        return "not probed"
    return f"{mirror.verdict} since {moment(mirror.since, now)}" if mirror.verdict else "-"


def _done(mirror: MirrorStatus, now: float) -> str:
    return f"out since {moment(mirror.moved_at, now)}" if mirror.is_out else "asked"


def _ok(mirror: MirrorStatus, now: float) -> str:
    if mirror.verdict in {"", "ok"}:
        return ""
    return f"last ok {age(now - mirror.last_ok)}" if mirror.last_ok else "never ok"


def _style(mirror: MirrorStatus) -> str:
    if mirror.is_out:
        return "bad"
    return "good" if mirror.verdict in {"", "ok"} and not mirror.unprobed else "warn"
