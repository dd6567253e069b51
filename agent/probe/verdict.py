"""What a probe comes to: a verdict, with what was seen."""

from __future__ import annotations

from dataclasses import dataclass

from agent.verdict import Verdict

__all__ = ["Finding", "Found", "Verdict", "given"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, what was seen (without a mirror's name, at the start of a sentence), and the image's digest where the
    mirror named it. `retry_seconds` is what a rate limit asks for, 0 where it says nothing."""

    verdict: Verdict
    detail: str
    digest: str = ""
    retry_seconds: int = 0

    @property
    def sentence(self) -> str:
        """What was seen and what to do."""
        return "; ".join(part for part in (self.detail, self.verdict.advice) if part)


class Found(Exception):  # noqa: N818 -- not an error of ours: the end of a probe, wherever it comes
    """Ends a probe with its finding."""

    def __init__(self, verdict: Verdict, detail: str) -> None:
        super().__init__(detail)
        self.finding = Finding(verdict, detail)


def given(finding: Finding) -> Found:
    """The end with a finding that was made already."""
    found = Found(finding.verdict, finding.detail)
    found.finding = finding
    return found
