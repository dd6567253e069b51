"""What becomes of one key of daemon.json, and the words for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.plan import KeyOriginal
from agent.runtimes._docker_reload import CLEARING, INSECURE, MIRRORS, Running, agrees
from agent.runtimes._json_text import same, strings_of


class OddValueError(ValueError):
    """A value that Docker itself would not accept stands where ours must be merged; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Fate:
    """`value` is what the file shall hold for the key (None: no such key) and `reason` why it changes, "" if it does
    not. `claims` become ours; `releases` are ledger keys that we own no longer once the file holds that.

    For `insecure-registries` the running daemon must have all of `must` and none of `must_not` (in the spelling of
    insecure_name); any other key it must have as it is.
    """

    key: str
    value: str | None
    reason: str = ""
    claims: tuple[KeyOriginal, ...] = ()
    releases: tuple[str, ...] = ()
    must: frozenset[str] = frozenset()
    must_not: frozenset[str] = frozenset()

    def is_loaded(self, running: Running) -> bool:
        """Whether the daemon runs with it."""
        if self.key != INSECURE:
            return agrees(self.key, self.value, running.value(self.key))
        have = running.insecure()
        return have is not None and self.must <= have and not self.must_not & have

    def difference(self, running: Running) -> str:
        """What loading it changes in the running daemon, in words."""
        if self.key != INSECURE:
            return change_of(self.key, running.value(self.key) or None, self.value)
        have = running.insecure() or frozenset()
        return _gains_and_losses(self.key, sorted(self.must - have), sorted(self.must_not & have))


def change_of(key: str, before: str | None, after: str | None) -> str:
    """A change of one key in words. Values can hold secrets, so only those of registry lists are named."""
    if key in {MIRRORS, INSECURE}:
        old, new = _bare(before), _bare(after)
        return _gains_and_losses(key, [url for url in new if url not in old], [url for url in old if url not in new])
    if before is None:
        return f"{key} added"
    return f"{key} removed" if after is None else f"{key} changed"


def clearing_reason(key: str, current: str | None) -> str:
    """Why a key that is to go is written once more, "" if it says nothing already."""
    if same(current, CLEARING[key]):
        return ""
    return f"{key} says {CLEARING[key]} before it goes, so that the running Docker lets go of the old value"


def _bare(value: str | None) -> list[str]:
    return [url.removesuffix("/") for url in strings_of(value) or ()]


def _gains_and_losses(key: str, gained: Sequence[str], lost: Sequence[str]) -> str:
    parts = [f"gained {_shown(gained)}"] if gained else []
    parts += [f"lost {_shown(lost)}"] if lost else []
    return f"{key} {' and '.join(parts)}" if parts else f"{key}: order changed"


def shown_url(text: str) -> str:
    """For people: a password that somebody put into a URL is not for them."""
    return re.sub(r"//[^/@]*@", "//***@", text)


def _shown(entries: Sequence[str]) -> str:
    return ", ".join(map(shown_url, entries))
