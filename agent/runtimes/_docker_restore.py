"""The last part of the way back: a Docker that is up runs again with what it had before a change that was undone.

The file is as it was by then (_docker_trial). What a reload brings back is reloaded at once. What only a restart brings
back is a restart like any other, for Docker runs and containers with it: policy, window and ledger may put it off, and
meanwhile everything else goes on. Only a Docker that our restart has left without an answer is restarted as soon as the
ledger allows, as one that is down is started.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from agent.plan import Deferred, FileAction, Reload, Restart
from agent.runtimes import _daemon_json
from agent.runtimes._docker_acts import UNIT, Acts, Fault, Situation, cost_of, obstacle
from agent.runtimes._docker_info import insecure_name
from agent.runtimes._docker_observed import ObservedDocker
from agent.runtimes._docker_reload import CLEARING, INSECURE, UNKNOWN, Running, agrees, names_of, takes_reload
from agent.runtimes._docker_trial import NOTHING, Step, digest_of_bytes, placed, silence, values_of_bytes
from agent.runtimes._json_text import strings_of
from agent.runtimes._trial import ABSENT, digest_of, noted, wait_of


def restore(observed: ObservedDocker, situation: Situation) -> Step | None:
    """What is left to do until a daemon that is up runs again with what it had before a trial that was undone; None if
    that is all, if nothing that may be done helps, or if somebody else has taken the file over meanwhile."""
    memory, running = situation.memory, situation.running
    before = _bytes_of(observed, memory.trial)
    file = values_of_bytes(before)
    targets = {each.key: CLEARING.get(each.key) if each.json == NOTHING else each.json for each in memory.effective}
    wanted = {key: text for key, text in targets.items() if text is not None}
    aloud = {key: text for key, text in wanted.items() if key not in file or not _says(key, file[key], text)}
    spoken = _with(before, {key: text for key, text in aloud.items() if takes_reload(key, None, text)})
    standing = digest_of(observed.main.state)
    if standing not in {memory.trial, digest_of_bytes(spoken)} or (before is None and memory.trial != ABSENT):
        return None
    if running.info is None:
        return _unanswered(observed, situation, file)
    missing = {key: text for key, text in targets.items() if not _says(key, running.value(key), text)}
    read = running.loaded
    is_read = (key for key in missing if key in read and read[key] != file.get(key))
    needs_restart = any(not _reloads(key, running, missing[key]) for key in is_read)
    found = _restarting(observed, situation) if needs_restart else Step(memory=memory)
    if found.acts.acts:
        return found
    missing = {key: text for key, text in missing.items() if _reloads(key, running, text)}
    attempt = hashlib.sha256(f"{memory.invocation_id} {digest_of_bytes(spoken)}".encode()).hexdigest()[:16]
    if missing and not situation.loses_authorization and memory.failed_reload != attempt:
        reason = f"{names_of(missing)} as before the change that is taken back"
        after = replace(memory, reloaded_at=observed.now.unix_seconds, failed_reload="")
        acts = Acts((Reload(UNIT, reason, attempt, after),), found.acts.deferred)
        said = f"{names_of(aloud)} as Docker ran with it, so that it lets go of the new value" if aloud else ""
        return replace(found, actions=_placed(observed, spoken, said), acts=acts)
    if standing == memory.trial:
        return found if found.acts.deferred else None
    return replace(found, actions=_placed(observed, before, "Docker runs as before, so the file is as it was, too"))


def is_put_off(step: Step) -> bool:
    """Whether nothing is left but a restart that waits, so that everything else can go on."""
    waits = all(isinstance(deferred.act, Restart) for deferred in step.acts.deferred)
    return waits and not (step.actions or step.acts.acts)


def _unanswered(observed: ObservedDocker, situation: Situation, file: Mapping[str, str]) -> Step | None:
    """Docker is up and silent: it is waited for. One that our restart has left so is then started anew."""
    memory = situation.memory
    if waiting := silence(observed, memory):
        return Step(acts=Acts(deferred=(waiting,)), memory=memory)
    is_ours = memory.our_invocation == observed.unit.invocation_id and memory.why.startswith(Fault.SILENCE.value)
    if not is_ours or situation.running.loaded == file:
        return None
    restart = Restart(UNIT, "it does not answer, and is started anew with what stood there before", memory)
    reason, seconds = wait_of(memory, observed.now)
    if reason:
        return Step(acts=Acts(deferred=(Deferred(restart, reason, seconds),)), memory=memory)
    return Step(acts=Acts((replace(restart, before=noted(memory, observed.now)),)), memory=memory)


def _restarting(observed: ObservedDocker, situation: Situation) -> Step:
    """Back on the file of before by a restart, where nothing less helps, now or as soon as nothing is in its way. It
    need not wait for the restart of ours that has brought what is taken back. Nothing but that file may be read."""
    memory = situation.memory
    why = "what stood there before is put back, and only a restart brings Docker back to it"
    ends = situation.toll.sentence if situation.toll else ""
    restart = Restart(UNIT, f"{why}; {cost_of(situation)}", memory, ends)
    is_ours = memory.our_invocation == observed.unit.invocation_id
    free = replace(situation, memory=replace(memory, restarted_at=0.0, restarts=())) if is_ours else situation
    if found := obstacle(free):
        return Step(acts=Acts(deferred=(Deferred(restart, *found),)), memory=memory)
    actions = _placed(observed, _bytes_of(observed, memory.trial), "Docker is to read it as it was")
    return Step(actions, acts=Acts((replace(restart, before=noted(memory, observed.now)),)), memory=memory)


def _placed(observed: ObservedDocker, content: bytes | None, reason: str) -> tuple[FileAction, ...]:
    return placed(observed.main.path, observed.main.state, content, reason)


def _bytes_of(observed: ObservedDocker, digest: str) -> bytes | None:
    """The kept bytes that Memory names."""
    known = {observed.memory.good: observed.good, observed.memory.trial: observed.tried}
    return known.get(digest)


def _reloads(key: str, running: Running, wanted: str | None) -> bool:
    return takes_reload(key, running.value(key), wanted)


def _says(key: str, value: str | None, wanted: str | None) -> bool:
    """Whether two values of a key mean the same to Docker."""
    if key != INSECURE or value == UNKNOWN:
        return agrees(key, wanted, value)
    return {*map(insecure_name, strings_of(value) or ())} == {*map(insecure_name, strings_of(wanted) or ())}


def _with(content: bytes | None, values: Mapping[str, str]) -> bytes | None:
    if not values:
        return content
    document = _daemon_json.parse(content or b"")
    for key, text in values.items():
        document = document.with_value(key, text)
    return document.encode()
