"""What Docker did not take, and is not tried again for now: each value stays as it is in the file, the rest converges.

It is tried again when the desired state changes, or what others have in the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from agent.ledger import Entry
from agent.model import DesiredState, Manage, Setting
from agent.plan import KeyOriginal, Release
from agent.runtimes._docker_info import insecure_name
from agent.runtimes._docker_observed import ObservedDocker, values_of
from agent.runtimes._docker_reload import INSECURE, MIRRORS
from agent.runtimes._docker_wants import Wants
from agent.runtimes._json_text import list_of, same, strings_of

GONE = ""
"""Stands in Memory.refused for "without this key"."""

HELD_BACK = "Docker stays as it was, and this is tried again after an edit of this file or of the desired state"


def hold_back(observed: ObservedDocker, desired: DesiredState, wants: Wants) -> tuple[Wants, tuple[str, ...]]:
    """The wants without the values that Docker did not take, each as it stands in the file, and why."""
    memory = observed.memory
    refused = {setting.key: setting.json for setting in memory.refused}
    file, entry = values_of(observed.main), observed.main.entry
    if desired.docker.manage is Manage.NEVER or not refused:
        return wants, ()
    if memory.bad.partition("@")[2] != mark(desired, file, entry, refused):
        return wants, ()
    owned = {key.key for key in entry.keys} if entry else set()
    held = [key for key in refused if key in owned & file.keys()]
    settings = [each for each in wants.settings if not same(refused.get(each.key), each.json)]
    left = {each.key for each in settings}
    settings += [Setting(key, file[key]) for key in held if key != INSECURE and key not in left]
    insecure = wants.insecure
    if same(refused.get(INSECURE), list_of(sorted(insecure))):
        listed = set(map(insecure_name, strings_of(file.get(INSECURE)) or ()))
        insecure = tuple(host for host in insecure if insecure_name(host) in listed)
    ordered = [each for key in _order(wants, held) for each in settings if each.key == key]
    admitted = replace(wants, settings=tuple(ordered), insecure=insecure)
    return (admitted, ()) if admitted == wants else (admitted, (f"{memory.why}; {HELD_BACK}",))


def let_go(observed: ObservedDocker) -> tuple[ObservedDocker, tuple[Release, ...]]:
    """Without the claims that came with what was undone: what stands there now is what stood there before us. They are
    not "given back", which would tell the running daemon to let go of what it has."""
    view, refused = observed.main, {setting.key for setting in observed.memory.refused}
    if view.entry is None:
        return observed, ()
    file = values_of(view)
    gone = tuple(key for key in view.entry.keys if key.key.partition("[")[0] in refused and _stands(key, file))
    if not gone:
        return observed, ()
    keys = tuple(key for key in view.entry.keys if key not in gone)
    entry = replace(view.entry, keys=keys) if keys else None
    views = (replace(view, entry=entry), *observed.views[1:])
    return replace(observed, views=views), (Release(view.path, tuple(key.key for key in gone)),)


def _stands(key: KeyOriginal, file: Mapping[str, str]) -> bool:
    name, is_item, item = key.key.partition("[")
    if not is_item:
        return same(key.json, file.get(name))
    listed = map(insecure_name, strings_of(file.get(name)) or ())
    return (insecure_name(item.removesuffix("]")) in listed) == (key.json is not None)


def _order(wants: Wants, held: Iterable[str]) -> list[str]:
    """Keys in the order of the wants, then those that are only held."""
    return list(dict.fromkeys([*(setting.key for setting in wants.settings), *held]))


def mark(desired: DesiredState, file: Mapping[str, str], entry: Entry | None, refused: Collection[str]) -> str:
    """What must change before the refused is tried again: the desired state, or what others have in the file. What we
    change in it ourselves does not count."""
    ours = {key.key for key in entry.keys} if entry else set()
    ours |= {INSECURE, MIRRORS, *(setting.key for setting in desired.docker.settings)}
    foreign = {key: value for key, value in file.items() if key in refused or key not in ours}
    digest = hashlib.sha256(json.dumps(sorted(foreign.items())).encode()).hexdigest()[:16]
    return f"{desired.generation}@{digest}"
