"""`insecure-registries` of daemon.json, a set in which foreign entries stay.

The ledger holds the key's former value under its name, and under `insecure-registries[HOST]` the former text of each
entry that we want, None if we brought it. So what others add stays, and what was there before us stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from agent.plan import KeyOriginal
from agent.runtimes._docker_fate import Fate, OddValueError, change_of, clearing_reason
from agent.runtimes._docker_info import insecure_name
from agent.runtimes._docker_reload import CLEARING, INSECURE, Running
from agent.runtimes._json_text import texts_of, value_of

_PREFIX = f"{INSECURE}["
_NULL = "null"
"""To Docker an empty list, at a reload too; it is given back as it was written."""


def is_item(key: str) -> bool:
    """Whether a ledger key stands for one entry of the set."""
    return key.startswith(_PREFIX)


@dataclass(frozen=True, slots=True)
class InsecureSet:
    """The key's value in the file, the ledger's keys, and the hosts that must be in the set."""

    current: str | None
    owned: Mapping[str, str | None]
    wanted: tuple[str, ...]

    def fate(self, running: Running | None) -> Fate:
        """What becomes of the key. Raises OddValueError if the value is no list of texts."""
        texts = self._texts()
        merged = self._merged(texts)
        must_not = _names(self._ours_to_drop()) - _names(value_of(text) for text in merged)
        fate = Fate(INSECURE, self._value(texts, merged), must=_names(self.wanted), must_not=must_not)
        is_loaded = running is None or fate.is_loaded(running)
        if fate.value is None and not is_loaded:
            return replace(fate, value=CLEARING[INSECURE], reason=clearing_reason(INSECURE, self.current))
        reason = "" if fate.value == self.current else self._reason(fate.value)
        releases = tuple(self._to_release()) if is_loaded else ()
        return replace(fate, reason=reason, claims=self._claims(texts), releases=releases)

    def _texts(self) -> tuple[str, ...]:
        texts = texts_of(self.current)
        if texts is None:
            raise OddValueError(f"{INSECURE} must be a list of texts: Docker does not start with anything else")
        return texts

    def _merged(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        """The entries to be, as JSON texts: what others have there, then ours, sorted: the same whatever came before.
        Where only the order would change, nothing does."""
        ours = {host for host in self._owned_hosts() if self.owned[_item(host)] is None}
        kept = tuple(text for text in texts if value_of(text) not in ours)
        present = _names(value_of(text) for text in kept)
        added = (json.dumps(host) for host in sorted(self.wanted) if insecure_name(host) not in present)
        merged = (*kept, *added)
        return texts if sorted(merged) == sorted(texts) else merged

    def _value(self, texts: tuple[str, ...], merged: tuple[str, ...]) -> str | None:
        before_us = self.owned.get(INSECURE)
        if not merged and not self.wanted and before_us in {None, _NULL}:
            return before_us
        return self.current if merged == texts else f"[{','.join(merged)}]"

    def _reason(self, value: str | None) -> str:
        if value is None and not self._texts():
            return f"{INSECURE} removed: it is no longer desired"
        return change_of(INSECURE, self.current, value)

    def _owned_hosts(self) -> list[str]:
        return [key[len(_PREFIX) : -1] for key in self.owned if is_item(key)]

    def _dropped(self) -> list[str]:
        return [host for host in self._owned_hosts() if host not in self.wanted]

    def _ours_to_drop(self) -> set[str]:
        return {host for host in self._dropped() if self.owned[_item(host)] is None}

    def _to_release(self) -> list[str]:
        return [*map(_item, self._dropped()), *(() if self.wanted else (INSECURE,))]

    def _claims(self, texts: tuple[str, ...]) -> tuple[KeyOriginal, ...]:
        former = {insecure_name(value_of(text)): text for text in texts}
        whole = () if INSECURE in self.owned else (KeyOriginal(INSECURE, self.current),)
        new = [host for host in self.wanted if _item(host) not in self.owned]
        return (*whole, *(KeyOriginal(_item(host), former.get(insecure_name(host))) for host in new))


def _item(host: str) -> str:
    return f"{_PREFIX}{host}]"


def _names(entries: Iterable[str]) -> frozenset[str]:
    return frozenset(map(insecure_name, entries))
