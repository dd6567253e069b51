"""A change of daemon.json on trial: what is remembered of it, and how it is undone if Docker does not take it.

The protocol is that of _trial: first Memory says what is written and what stood there, then comes the file, then the
act. What is undone here is told key by key, for two reasons. Others write this file, too: what they have put into it
since the trial stays. And the values that failed are held back alone, while everything else goes on converging; they
are tried again when the desired state or somebody else's part of the file has changed.

The bytes of before are not all: where a SIGHUP keeps what is absent from the file, the daemon may have run with a value
that no file says. So what it ran with (Memory.effective) is written aloud, loaded and verified, and only then the file
is as it was, which takes no act.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.host import HostReader
from agent.model import JOURNALCTL, DesiredState, FileState, Regular
from agent.plan import (
    Conflict,
    Deferred,
    FileAction,
    Memory,
    Recover,
    Reload,
    RemoveFile,
    WriteFile,
)
from agent.runtimes import _daemon_json
from agent.runtimes._daemon_json import Document
from agent.runtimes._docker_acts import UNIT, Acts, Fault
from agent.runtimes._docker_fate import shown_url
from agent.runtimes._docker_held import GONE, HELD_BACK, mark
from agent.runtimes._docker_info import SOCKET
from agent.runtimes._docker_observed import ObservedDocker
from agent.runtimes._docker_reload import (
    INSECURE,
    MIRRORS,
    UNKNOWN,
    Running,
    names_of,
    settings_of,
    takes_reload,
)
from agent.runtimes._docker_wants import insecure_registries
from agent.runtimes._json_text import NotEditableError, list_of, same
from agent.runtimes._trial import ABSENT, Bench, digest_of, is_rollback, recover, setback

NOTHING = "null"
_LATENT = (MIRRORS, INSECURE)
"""Lists that a daemon may run with although its file says nothing of them, and that a restart would lose."""

_LOGGED_ERROR = re.compile(r'^time=\S+ level=(?:error|fatal|panic) msg="(.*)"')
_VALUES = re.compile(r" \(from flag: .*")
_LONGEST_SENTENCE = 300
_MAY_BE_SECRET = frozenset({"log-opts", "proxies", "http-proxy", "https-proxy", "storage-opts", "exec-opts"})
"""Keys with whose values dockerd's words are not repeated: `status` is for everybody."""
_SILENCE_SECONDS = 90.0
_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step back, or on: the part of a Plan that is about daemon.json while something is undone."""

    actions: tuple[FileAction, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    acts: Acts = Acts()  # noqa: RUF009 -- frozen
    memory: Memory | None = None
    keeps: tuple[bytes, ...] = field(default=(), repr=False)
    undoes: bool = False


def bench_of(observed: ObservedDocker, memory: Memory) -> Bench:
    """The trial as _trial sees it."""
    return Bench(UNIT, observed.unit, memory, observed.now, digest_of(observed.main.state), None)


# --- there -----------------------------------------------------------------------------------------------------------


def begun(
    observed: ObservedDocker, memory: Memory, content: bytes | None, running: Running | None
) -> tuple[Memory, tuple[bytes, ...]]:
    """The memory before the file becomes `content` (None: goes), and the bytes that must be at hand to go back: those
    of before, and those of the trial, to tell ours from what others add. Of several changes that the daemon has not
    come up with, what stood there before the first is what to go back to, with all that others have written since."""
    base = _base(observed, memory)
    good = digest_of_bytes(base)
    if _is_pending(memory) and digest_of_bytes(content) == good:
        return over(memory), ()
    known = {setting.key: setting.json for setting in memory.effective} if _is_pending(memory) else {}
    if running is not None:
        changed = _changed(_values(observed.main.state), values_of_bytes(content))
        known = {**_effective(running, (*changed, *_LATENT), observed.guard.flags), **known}
    after = replace(memory, trial=digest_of_bytes(content), good=good, effective=settings_of(known))
    return after, tuple(each for each in (base, content) if each is not None)


def _is_pending(memory: Memory) -> bool:
    return bool(memory.trial) and not is_rollback(memory)


def _base(observed: ObservedDocker, memory: Memory) -> bytes | None:
    """The file as it stands without what is on trial in it already."""
    state = observed.main.state
    standing = state.content if isinstance(state, Regular) else None
    is_lost = observed.good is None and memory.good != ABSENT
    if not _is_pending(memory) or memory.trial != observed.memory.trial or is_lost:
        return standing
    if digest_of(state) == memory.trial:
        return observed.good
    return _without(state, values_of_bytes(observed.good), _tried(observed, memory))


def _effective(running: Running, keys: Iterable[str], flags: Collection[str]) -> dict[str, str]:
    """What the daemon runs with, as far as that is known. What a flag sets, no file has to bring back."""
    values = {key: running.value(key) for key in keys if key not in flags}
    return {key: NOTHING if value is None else value for key, value in values.items() if value != UNKNOWN}


def over(memory: Memory) -> Memory:
    """The memory when the daemon has what was on trial, or what was there before."""
    return replace(
        memory, trial="", good="", effective=(), is_restarting=False, is_recovering=False, awaits_order=False
    )


def is_undoable(observed: ObservedDocker, memory: Memory) -> bool:
    """Whether what stands there is on trial, with something behind it to go back to."""
    return bool(memory.good) and memory.trial == digest_of(observed.main.state)


def is_silent(observed: ObservedDocker, memory: Memory) -> bool:
    """Whether a daemon that was started on the trial is up and does not answer."""
    return observed.info is None and is_undoable(observed, memory) and not memory.is_restarting


def silence(observed: ObservedDocker, memory: Memory) -> Deferred | None:
    """The wait for an answer of a daemon that was started on the trial; None when it has lasted too long."""
    waited = observed.now.unix_seconds - max(observed.unit.started_at, memory.restarted_at)
    if waited >= _SILENCE_SECONDS:
        return None
    look = Reload(UNIT, "what it has loaded is to be confirmed", "", memory)
    return Deferred(look, f"Docker runs but does not answer on {SOCKET}", _RETRY_SECONDS)


# --- back ------------------------------------------------------------------------------------------------------------


def undo(observed: ObservedDocker, desired: DesiredState, memory: Memory, fault: Fault) -> Step:
    """Put back what stood there before the trial, and hold back what failed."""
    path, state = observed.main.path, observed.main.state
    if memory.good != ABSENT and observed.good is None:
        text = f"{fault.value} this, and what stood there before is lost: mend it by hand"
        return Step(conflicts=(Conflict(path, text),), memory=memory)
    before, tried = values_of_bytes(observed.good), _tried(observed, memory)
    blamed = _blamed(before, tried, fault)
    content = observed.good if digest_of(state) == memory.trial else _without(state, before, tried)
    names = names_of(blamed) if blamed else "this"
    words = "" if _MAY_BE_SECRET & set(blamed) else observed.last_words
    why = f"{fault.value} {names}" + (f" ({words})" if words else "")
    refused = {key: tried.get(key, GONE) for key in blamed if key != INSECURE}
    if INSECURE in blamed:
        refused[INSECURE] = list_of(sorted(insecure_registries(desired)))
    memory = replace(
        memory,
        good=digest_of_bytes(content),
        refused=settings_of(refused),
        why=why,
        bad=f"{memory.trial}@{mark(desired, values_of_bytes(content), observed.main.entry, refused)}",
        is_restarting=memory.is_restarting or not observed.unit.is_up,
        reloaded_at=0.0,
        failed_reload="",
    )
    reason = f"{why}; what stood there before is put back"
    conflicts = (Conflict(path, f"{why}; {HELD_BACK}"),) if refused else ()
    standing = (state.content,) if isinstance(state, Regular) else ()
    keeps = (*standing, *((content,) if content is not None else ()))
    return Step(placed(path, state, content, reason), conflicts, Acts(), memory, keeps, undoes=True)


def recovering(recovery: Recover | Deferred) -> Step:
    """The start of a Docker that was up before our restart."""
    return Step(acts=Acts(deferred=(recovery,)) if isinstance(recovery, Deferred) else Acts((recovery,)))


def way_back(observed: ObservedDocker, desired: DesiredState) -> Step | None:
    """What a Docker needs that is down because of what was on trial; None for any other."""
    bench = bench_of(observed, put_back(observed.memory, digest_of(observed.main.state)))
    if setback(bench):
        return undo(observed, desired, bench.memory, Fault.START)
    if bench.is_failed and (step := last_resort(observed, bench.memory)):
        return step
    recovery = recover(bench)
    return recovering(recovery) if recovery else None


def last_resort(observed: ObservedDocker, memory: Memory) -> Step | None:
    """Docker does not come up without the trial, either, and others have changed the file since it last did: their
    changes that it had not read yet are taken back too, so that it is up. None if there are none, or nobody knows."""
    state, path = observed.main.state, observed.main.path
    loaded = {setting.key: setting.json for setting in memory.loaded}
    is_known = bool(memory.invocation_id) and UNKNOWN not in loaded.values()
    if not (is_rollback(memory) and memory.is_recovering and is_known) or digest_of(state) != memory.trial:
        return None
    file = _values(state)
    unread = [key for key in _changed(loaded, file) if not takes_reload(key, loaded.get(key), file.get(key))]
    if not unread or not isinstance(state, Regular):
        return None
    content = _taken_back(state.content, loaded, unread)
    reason = (
        f"Docker does not come up with {names_of(unread)} as others have changed it: it is as Docker last ran with it"
    )
    saved = f"{reason}; the file as it was is kept in /var/lib/mirror-agent/originals/{memory.trial}"
    memory = replace(memory, trial=digest_of_bytes(content), expects=memory.trial, is_recovering=False)
    keeps = (state.content, content)
    return Step(placed(path, state, content, saved), (), Acts(), memory, keeps, undoes=True)


def _taken_back(content: bytes, loaded: Mapping[str, str], keys: Iterable[str]) -> bytes:
    document = _daemon_json.parse(content)
    for key in keys:
        document = _as_before(document, key, loaded.get(key))
    return document.encode()


def last_words(host: HostReader, since: float) -> str:
    """Why dockerd did not come up, in its own words as the journal has them since then (Unix seconds), whichever of its
    attempts said it last: systemd may have begun the next one, which has said nothing yet. A plain line comes before
    those of its log; "" if it has said nothing."""
    match = (f"--since=@{since:.6f}", f"_SYSTEMD_UNIT={UNIT}")
    program = next(filter(host.exists, JOURNALCTL), "")
    argv = (program, "--quiet", "--output=cat", "--lines=200", *match)
    said = host.command(argv) if since > 0 and program else None
    lines = said.stdout.splitlines() if said is not None else []
    plain = [line for line in lines if line.strip() and not line.startswith("time=")]
    words = [found[1] for line in lines if (found := _LOGGED_ERROR.search(line))]
    last = (plain or words or [""])[-1]
    return shown_url(_VALUES.sub("", last).strip())[:_LONGEST_SENTENCE]


def _tried(observed: ObservedDocker, memory: Memory) -> dict[str, str]:
    """The values that were on trial; those of before, so that nothing counts as ours, if nobody knows."""
    state = observed.main.state
    if digest_of(state) == memory.trial:
        return _values(state)
    is_lost = observed.tried is None and memory.trial != ABSENT
    return values_of_bytes(observed.good if is_lost else observed.tried)


def _blamed(before: Mapping[str, str], tried: Mapping[str, str], fault: Fault) -> list[str]:
    """The keys that are held back. Those that a reload loads are checked at a reload as they are at a start: they are
    blamed for a start only if there are no others, and the others not for a reload."""
    changed = _changed(before, tried)
    reloadable = [key for key in changed if takes_reload(key, before.get(key), tried.get(key))]
    if fault is Fault.START:
        return [key for key in changed if key not in reloadable] or changed
    return (reloadable if fault is Fault.RELOAD else []) or changed


def put_back(memory: Memory, digest: str) -> Memory:
    """The memory once what stood there before stands there again: that is on trial now, with nothing behind it."""
    if memory.good and digest == memory.good and memory.bad.startswith(f"{memory.trial}@"):
        return replace(memory, trial=memory.good, good="")
    return memory


# --- inside ----------------------------------------------------------------------------------------------------------


def digest_of_bytes(content: bytes | None) -> str:
    return ABSENT if content is None else hashlib.sha256(content).hexdigest()


def values_of_bytes(content: bytes | None) -> dict[str, str]:
    try:
        return _daemon_json.parse(content or b"").values()
    except NotEditableError:
        return {}


def _values(state: FileState) -> dict[str, str]:
    return values_of_bytes(state.content if isinstance(state, Regular) else None)


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [key for key in dict.fromkeys([*after, *before]) if not same(before.get(key), after.get(key))]


def _without(state: FileState, before: Mapping[str, str], tried: Mapping[str, str]) -> bytes | None:
    """The file with what was on trial taken out of it; what others have changed since stays."""
    if not isinstance(state, Regular):
        return None
    try:
        document = _daemon_json.parse(state.content)
    except NotEditableError:
        return state.content
    for key in _changed(before, tried):
        if same(document.get(key), tried.get(key)):
            document = _as_before(document, key, before.get(key))
    return document.encode()


def _as_before(document: Document, key: str, value: str | None) -> Document:
    return document.without(key) if value is None else document.with_value(key, value)


def placed(path: str, state: FileState, content: bytes | None, reason: str) -> tuple[FileAction, ...]:
    if digest_of_bytes(content) == digest_of(state):
        return ()
    if content is None:
        return (RemoveFile(path, reason, state),)
    mode = state.mode if isinstance(state, Regular) else 0o644
    return (WriteFile(path, content, reason, state, mode, verbatim=True),)
