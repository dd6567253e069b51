"""When somebody else keeps changing what we keep putting back: back off, and restart nothing in a war, fast or slow.

A change by somebody else is put back at once. The fifth time within ten minutes the file is contended: it is put back
ever more rarely, after 2 s first and every 10 min in the end, until nobody else has changed it for ten minutes, or the
desired state is edited. Meanwhile its runtime is reloaded at most once for each time it is put back, and never
restarted; only a daemon that our own restart has ended is helped up whatever happens.

Whoever comes once an hour or once a night (cron, a configuration manager that pulls) is never so fast, and would cost a
restart each time. So what cost a restart to undo is counted for three days: from the third time on the file is still
put back at once, and the restart is deferred. That, too, ends with an edit of the desired state, or three days after
the last time.

Pure: the clock comes in as Unix seconds, so that a day of war can be tested in a moment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agent.model import FileState, Regular
from agent.plan import Act, Contention, Deferred, FileAction, Plan, Recover, Reload, RemoveFile, Restart, WriteFile
from agent.writers import writer_of

REVERTS = 5
WINDOW_SECONDS = 600.0
FIRST_WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 600.0
RESTARTS = 3
RESTARTS_WINDOW_SECONDS = 3 * 86400.0
"""Longer than two days, so that a nightly job counts as what it is."""

FORMAT = 1
_ABSENT = ""


@dataclass(frozen=True, slots=True)
class _Feud:
    """What has happened to one path. `reverts` are the times at which we put it back, within the window; `waits` counts
    the times since it is contended (0: it is not); `changed_at` is when it was last seen changed by somebody else.
    `restarts` are the times at which putting it back took a restart, or would have; `is_open` says that it was put back
    and is not known yet to take one; `is_costly` that a restart is held back because of it."""

    path: str
    runtime: str
    reverts: tuple[float, ...] = ()
    writer: str = ""
    waits: int = 0
    retry_at: float = 0.0
    changed_at: float = 0.0
    restarts: tuple[float, ...] = ()
    is_open: bool = False
    is_costly: bool = False

    @property
    def is_contended(self) -> bool:
        return self.waits > 0

    @property
    def takes_too_many_restarts(self) -> bool:
        return len(self.restarts) >= RESTARTS

    def reverted(self, writer: str, now: float) -> _Feud:
        """Once more; from the fifth time on it is contended, and each time after that doubles the wait."""
        reverts = (*(at for at in self.reverts if now - WINDOW_SECONDS < at <= now), now)[-REVERTS:]
        waits = self.waits + 1 if self.is_contended or len(reverts) >= REVERTS else 0
        wait = min(FIRST_WAIT_SECONDS * 2 ** min(waits - 1, 32), LONGEST_WAIT_SECONDS) if waits else 0.0
        known = replace(self, writer=writer or self.writer, changed_at=now)
        return replace(known, reverts=reverts, waits=waits, retry_at=now + wait)

    def is_waiting(self, now: float) -> bool:
        """Whether it is not to be put back yet; never for longer than the longest wait, whatever the clock does."""
        return now < self.retry_at <= now + LONGEST_WAIT_SECONDS

    def aged(self, now: float) -> _Feud:
        """Without the restarts that are long ago, and once they are too many only with the last of them; a clock that
        was set back forgets some."""
        since = now - RESTARTS_WINDOW_SECONDS
        known = tuple(at for at in self.restarts if at <= now)
        lasts = len(known) >= RESTARTS and known[-1] > since
        recent = known if lasts else tuple(at for at in known if at > since)
        return self if recent == self.restarts else replace(self, restarts=recent)

    def costly(self) -> Contention:
        until = self.restarts[-1] + RESTARTS_WINDOW_SECONDS
        return Contention(self.path, self.runtime, self.writer, until, is_held=False, takes_restarts=True)

    def contention(self, *, is_held: bool) -> Contention:
        until = self.retry_at if is_held else self.changed_at + WINDOW_SECONDS
        return Contention(self.path, self.runtime, self.writer, until, is_held=is_held)


@dataclass
class Feuds:
    """All of them, in one generation. `left` is what we left at a path, `content` are the runtimes that had nothing to
    write since this generation is in force: what they ask for afterwards is somebody else's change. `owing` are the
    runtimes that want a restart whatever others do."""

    generation: str = ""
    _feuds: dict[str, _Feud] = field(default_factory=dict)
    _left: dict[str, str] = field(default_factory=dict)
    _content: set[str] = field(default_factory=set)
    _owing: set[str] = field(default_factory=set)

    def begin(self, generation: str) -> None:
        """A new desired state is tried at once, whatever has been."""
        if generation != self.generation:
            self.generation = generation
            self._feuds.clear()
            self._left.clear()
            self._content.clear()
            self._owing.clear()

    @property
    def contended(self) -> frozenset[str]:
        """The paths that are contended: they wait, or hold back a restart."""
        return frozenset(path for path, feud in self._feuds.items() if feud.is_contended or feud.is_costly)

    @property
    def costly(self) -> frozenset[str]:
        """Those that hold back a restart."""
        return frozenset(path for path, feud in self._feuds.items() if feud.is_costly and not feud.is_contended)

    # --- what happens --------------------------------------------------------------------------------------------

    def done(self, runtime: str, action: WriteFile | RemoveFile, now: float, exists: Callable[[str], bool]) -> None:
        """We have written or removed, and so perhaps put back."""
        if self._is_foreign(runtime, action):
            self._count(runtime, action, now, exists)
        self._left[action.path] = _digest(action.content) if isinstance(action, WriteFile) else _ABSENT

    def crossed(self, runtime: str, action: FileAction, now: float, exists: Callable[[str], bool]) -> None:
        """Somebody else changed the file while we were about to."""
        if isinstance(action, WriteFile | RemoveFile):
            self._count(runtime, action, now, exists)

    def _count(self, runtime: str, action: WriteFile | RemoveFile, now: float, exists: Callable[[str], bool]) -> None:
        content = action.replaces.content if isinstance(action.replaces, Regular) else b""
        feud = (self._feuds.get(action.path) or _Feud(action.path, runtime)).aged(now)
        feud = feud.reverted(writer_of(action.path, content, exists), now)
        is_ours_to_pay = runtime in self._owing and not feud.takes_too_many_restarts
        is_known = runtime in self._content or action.path in self._left or bool(feud.restarts)
        self._feuds[action.path] = replace(feud, is_open=is_known and not action.registry and not is_ours_to_pay)

    def _is_foreign(self, runtime: str, action: WriteFile | RemoveFile) -> bool:
        """Whether what is to be replaced is not what we left there; what we write in several steps is our own."""
        left, found = self._left.get(action.path), _digest_of(action.replaces)
        if left is None:
            known = self._feuds.get(action.path)
            return runtime in self._content or (known is not None and (known.is_contended or bool(known.restarts)))
        is_same = isinstance(action, WriteFile) and _digest(action.content) == left
        return found != left or is_same

    # --- what it means for a plan --------------------------------------------------------------------------------

    def restrain(self, plan: Plan, now: float) -> Plan:
        """The plan without what has to wait, and with the contentions of its runtime."""
        if not plan.file_actions:
            self._content.add(plan.runtime)
        changed = {
            action.path
            for action in plan.file_actions
            if isinstance(action, WriteFile | RemoveFile) and self._is_foreign(plan.runtime, action)
        }
        self._age(plan.runtime, changed, now)
        if not any(action.path in changed and not action.registry for action in plan.file_actions):
            self._weigh(plan, now)
        contended = {path: feud for path, feud in self._feuds.items() if self._concerns(feud, plan.runtime)}
        if not contended:
            return self.without_costly_restarts(plan)
        held = frozenset(path for path, feud in contended.items() if path in changed and feud.is_waiting(now))
        if any(isinstance(act, Recover) for act in plan.acts):
            held = frozenset()
        contentions = tuple(feud.contention(is_held=path in held) for path, feud in sorted(contended.items()))
        return _without_acts(_without_files(replace(plan, contentions=contentions), held), is_held=bool(held))

    def _weigh(self, plan: Plan, now: float) -> None:
        """Whether what was put back takes a restart, now that nothing of others is left in the way."""
        wants_restart = any(isinstance(act, Restart) for act in _wanted(plan))
        is_decided = wants_restart or not (plan.acts or plan.file_actions)
        for path, feud in list(self._feuds.items()):
            if feud.runtime == plan.runtime and feud.is_open and is_decided:
                restarts = (*feud.restarts, now)[-RESTARTS:] if wants_restart else feud.restarts
                self._feuds[path] = replace(feud, restarts=restarts, is_open=False)
        if wants_restart:
            self._owing.add(plan.runtime)
        elif is_decided:
            self._owing.discard(plan.runtime)

    def without_costly_restarts(self, plan: Plan) -> Plan:
        """The plan without the restarts that others would make us make again and again."""
        restarts = [act for act in plan.acts if isinstance(act, Restart)]
        costly: dict[str, _Feud] = {}
        for path, feud in sorted(self._feuds.items()):
            if feud.runtime == plan.runtime:
                is_costly = bool(restarts) and feud.takes_too_many_restarts
                self._feuds[path] = replace(feud, is_costly=is_costly)
                costly |= {path: feud} if is_costly else {}
        if not costly:
            return plan
        reason = "; ".join(_sentence(feud) for feud in costly.values())
        actions = tuple(action for action in plan.actions if action not in restarts)
        deferred = (*plan.deferred, *(Deferred(act, reason, None) for act in restarts))
        contentions = tuple(feud.costly() for feud in costly.values())
        return replace(plan, actions=actions, deferred=deferred, contentions=contentions)

    @staticmethod
    def _concerns(feud: _Feud, runtime: str) -> bool:
        return feud.is_contended and feud.runtime == runtime

    def _age(self, runtime: str, changed: Iterable[str], now: float) -> None:
        """Note who is still at it, and forget what has been quiet for long."""
        for path in changed:
            if path in self._feuds:
                self._feuds[path] = replace(self._feuds[path], changed_at=now)
        for path, feud in [(path, feud.aged(now)) for path, feud in self._feuds.items() if feud.runtime == runtime]:
            self._feuds[path] = feud
            is_quiet = not now < feud.changed_at + WINDOW_SECONDS or feud.changed_at > now + WINDOW_SECONDS
            if is_quiet and (feud.restarts or feud.is_open):
                self._feuds[path] = replace(feud, reverts=(), waits=0, retry_at=0.0)
            elif is_quiet:
                del self._feuds[path]

    # --- memory --------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """What is contended and what has taken restarts, to be kept over a restart of the agent; b"" for nothing."""
        kept = [feud for _, feud in sorted(self._feuds.items()) if feud.is_contended or feud.restarts]
        if not kept:
            return b""
        feuds = [{**asdict(feud), "changed_at": 0.0, "is_open": False} for feud in kept]
        return json.dumps({"format": FORMAT, "generation": self.generation, "feuds": feuds}, indent=1).encode() + b"\n"


def decode(data: bytes, now: float) -> Feuds:
    """Read it back, as if each had been changed just now; nothing contended if it is not that."""
    try:
        raw = json.loads(data)
        feuds = [_feud(each, now) for each in raw["feuds"]]
        return Feuds(str(raw["generation"]), {feud.path: feud for feud in feuds})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Feuds()


def _feud(raw: dict[str, Any], now: float) -> _Feud:
    """A clock that has been set back must not make us wait longer than we ever would."""
    return _Feud(
        path=str(raw["path"]),
        runtime=str(raw["runtime"]),
        reverts=tuple(float(at) for at in raw["reverts"]),
        writer=str(raw["writer"]),
        waits=int(raw["waits"]),
        retry_at=min(float(raw["retry_at"]), now + LONGEST_WAIT_SECONDS),
        changed_at=now,
        restarts=tuple(float(at) for at in raw.get("restarts", ())),
        is_costly=raw.get("is_costly") is True,
    )


def _wanted(plan: Plan) -> tuple[Act, ...]:
    return (*plan.acts, *(deferred.act for deferred in plan.deferred))


def _sentence(feud: _Feud) -> str:
    """Who, what, and what a person can do."""
    by = f" ({feud.writer}, by its marks)" if feud.writer else ""
    days = f"{RESTARTS_WINDOW_SECONDS / 86400:.0f} days"
    return (
        f"somebody else{by} has changed {feud.path} {RESTARTS} times within {days}, and each time it takes a restart to"
        f" undo it: settle who writes it, then edit the desired state, or restart {feud.runtime} yourself"
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(state: FileState) -> str:
    return _digest(state.content) if isinstance(state, Regular) else _ABSENT


def _without_files(plan: Plan, held: frozenset[str]) -> Plan:
    """Without the writes and removals of `held`, the directories on the way to them, and what the ledger would hold of
    them. What is remembered about a daemon goes with its configuration file."""
    if not held:
        return plan
    kept = tuple(
        action
        for action in plan.actions
        if isinstance(action, Reload | Restart | Recover)
        or not any(path == action.path or path.startswith(f"{action.path}/") for path in held)
    )
    is_configuration = any(action.path in held and not action.registry for action in plan.file_actions)
    return replace(
        plan,
        actions=kept,
        claims=tuple(claim for claim in plan.claims if claim.path not in held),
        releases=tuple(release for release in plan.releases if release.path not in held),
        remember=None if is_configuration else plan.remember,
    )


def _without_acts(plan: Plan, *, is_held: bool) -> Plan:
    """No restart in a war, and no reload of what is not there; a daemon that we have ended is helped up."""
    paths = ", ".join(contention.path for contention in plan.contentions)
    reason = f"somebody else keeps changing {paths}"
    kept = tuple(
        action
        for action in plan.actions
        if not isinstance(action, Restart) and not (is_held and isinstance(action, Reload))
    )
    deferred = tuple(Deferred(act, reason, None) for act in plan.acts if isinstance(act, Restart))
    return replace(plan, actions=kept, deferred=(*plan.deferred, *deferred))
