"""Which keys of daemon.json get which value, why, and what of it is ours.

A key under `settings`, and `registry-mirrors`, is ours whole; `insecure-registries` is a set (_docker_insecure).

A key that is given back stays claimed until the running daemon has let go of it, for a claim that is gone is an act
forgotten. Where a SIGHUP keeps the old value of an absent key, that takes two rounds: first the value that says
"nothing" aloud, then, when the daemon runs with that, the removal of the key, which needs no act.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.ledger import Entry
from agent.model import Setting
from agent.plan import KeyOriginal
from agent.runtimes._daemon_json import Document
from agent.runtimes._docker_fate import Fate, change_of, clearing_reason
from agent.runtimes._docker_insecure import InsecureSet, is_item
from agent.runtimes._docker_reload import CLEARING, INSECURE, MIRRORS, Running, agrees
from agent.runtimes._docker_wants import Wants
from agent.runtimes._json_text import same, strings_of

Owned = Mapping[str, str | None]
"""Ledger keys and what they held before us."""


def fates_of(document: Document, entry: Entry | None, wants: Wants, running: Running | None) -> tuple[Fate, ...]:
    """Every key that is ours or becomes ours, in the order in which new ones are added. `running` None: the daemon is
    down, so the file is all there is. Raises OddValueError."""
    owned = {key.key: key.json for key in entry.keys} if entry else {}
    wanted = {setting.key for setting in wants.settings}
    taken = [_taken(document, owned, setting) for setting in wants.settings]
    if wants.insecure or INSECURE in owned:
        insecure = InsecureSet(document.get(INSECURE), owned, wants.insecure).fate(_seen(INSECURE, wants, running))
        taken.insert(1 if MIRRORS in wanted else 0, insecure)
    others = [key for key in owned if key not in wanted and key != INSECURE and not is_item(key)]
    return (*taken, *(_returned(document, key, owned[key], _seen(key, wants, running)) for key in others))


def _seen(key: str, wants: Wants, running: Running | None) -> Running | None:
    """What a flag sets the daemon never had from the file, so there is nothing to wait for."""
    return None if key in wants.flagged else running


def _taken(document: Document, owned: Owned, setting: Setting) -> Fate:
    current = document.get(setting.key)
    claims = () if setting.key in owned else (KeyOriginal(setting.key, current),)
    if _says(setting, current):
        return Fate(setting.key, current, claims=claims)
    return Fate(setting.key, setting.json, change_of(setting.key, current, setting.json), claims)


def _says(setting: Setting, current: str | None) -> bool:
    """Whether the file says it already; for mirrors in whatever spelling Docker takes for the same."""
    if setting.key == MIRRORS and strings_of(current) is not None:
        return agrees(MIRRORS, setting.json, current)
    return same(current, setting.json)


def _returned(document: Document, key: str, original: str | None, running: Running | None) -> Fate:
    current = document.get(key)
    let_go = running is None or agrees(key, original, running.value(key))
    if original is None and not let_go and key in CLEARING:
        return Fate(key, CLEARING[key], clearing_reason(key, current))
    releases = (key,) if let_go else ()
    if same(current, original):
        return Fate(key, current, releases=releases)
    what = f"{key} removed" if original is None else f"{key} has its former value again"
    return Fate(key, original, f"{what}: it is no longer desired", releases=releases)
