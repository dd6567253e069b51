"""The rounds of `probe`: what is due is probed, verdict by verdict, until nothing is due any more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from zlib import crc32

from agent import image
from agent.cli.session import Session
from agent.cli.verdicts import Verdicts
from agent.model import Mirror
from agent.probe import Limits, Pace, Result, Target, Verdict, probe
from agent.probe.pace import UNASKED_REQUESTS_A_MINUTE, site_of_url
from agent.targets import ProbeTarget, Sample

_AT_ONCE = 4
MOST_SECONDS = 600.0
"""What has not begun by then stays due, for the next start; the unit's own limit is beyond that."""
_CONTENT_SECONDS = 3 * 3600.0
"""A mirror that works is asked for its heads only, and once in this time for what it serves."""


def go(session: Session, verdicts: Verdicts) -> None:
    """Probe what is due, and what becomes due meanwhile. Raises MirrorAgentError where verdicts cannot be written: then
    nobody is asked for anything."""
    verdicts.write()
    pace, end, done = _pace(verdicts), time.monotonic() + MOST_SECONDS, set[ProbeTarget]()
    while time.monotonic() < end and (due := [each for each in verdicts.due() if each not in done]):
        done.update(due)
        _round(session, verdicts, due, (pace, end))
        verdicts.look()
        verdicts.complain()


def _pace(verdicts: Verdicts) -> Pace:
    """What the last run asked within a minute counts."""
    pace, ago = Pace(UNASKED_REQUESTS_A_MINUTE), time.time() - time.monotonic()
    for sample in verdicts.all():
        pace.begin(site_of_url(sample.url), sample.at - ago)
    return pace


def _round(session: Session, verdicts: Verdicts, due: Sequence[ProbeTarget], until: tuple[Pace, float]) -> None:
    """Each verdict is written as it comes, so that whatever happens to the next costs none that was there."""
    pace, end = until
    wanted = {id(target): (target, each) for each in due for target in [_target(session, verdicts, each)]}
    for result in probe([target for target, _ in wanted.values()], Limits(at_once=_AT_ONCE), pace):
        verdicts.note(_sample(wanted[id(result.target)][1], result))
        if time.monotonic() >= end:
            return


def _target(session: Session, verdicts: Verdicts, wanted: ProbeTarget) -> Target:
    mirror = Mirror(
        wanted.url,
        override_path=wanted.override_path,
        ca=tuple(session.here(path) for path in wanted.ca),
        skip_verify=wanted.skip_verify,
    )
    content = checks_content(wanted, verdicts.of(wanted), time.time())
    return Target(mirror, image.parse(wanted.image), checks_content=content, timeout_seconds=wanted.timeout_seconds)


def checks_content(target: ProbeTarget, last: Sample | None, now: float) -> bool:
    """The first probe is short, so that a new list is soon known; the daemon says when it wants more. One that was not
    well must show that it serves what is right, else bad content would be found and forgotten by turns. Each of the
    others has a time of its own."""
    if target.checks_content:
        return True
    if last is None or last.verdict is not Verdict.OK:
        return last is not None
    shift = crc32("\n".join(target.key).encode())
    return (now + shift) // _CONTENT_SECONDS != (last.at + shift) // _CONTENT_SECONDS


def _sample(target: ProbeTarget, result: Result) -> Sample:
    finding = result.finding
    return Sample(
        target.registry,
        target.url,
        finding.verdict,
        finding.detail,
        time.time(),
        round(result.seconds, 4),
        float(finding.retry_seconds),
    )
