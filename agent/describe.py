"""A plan in words and diffs: what `mirror-agent plan` prints and the golden plan.txt holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from agent.model import FileState, Regular
from agent.plan import (
    Action,
    Claim,
    Deferred,
    MakeDirectory,
    Plan,
    Recover,
    Reload,
    RemoveDirectory,
    RemoveFile,
    Restart,
    WriteFile,
)
from agent.redact import redact

CONTEXT_LINES = 3
NOWHERE = "/dev/null"


def lines(plan: Plan) -> tuple[str, ...]:
    """One line per thing, in the order in which they are done; what is refused comes last. Empty: nothing to do."""
    return tuple(line for line, _ in _things(plan))


def lines_with_diffs(plan: Plan) -> Iterator[tuple[str, str]]:
    """The same lines, each with the unified diff of the file it changes ("" for the rest), secrets hidden."""
    for line, action in _things(plan):
        yield line, diff(action) if isinstance(action, WriteFile | RemoveFile) else ""


def diff(action: WriteFile | RemoveFile) -> str:
    """What the action does to its file, as a unified diff without secrets. A change of a secret shows as a change of
    the hidden value; a change of nothing but mode or owner is an empty diff."""
    before = _text(action.replaces)
    after = action.content.decode("utf-8", "replace") if isinstance(action, WriteFile) else None
    if before == after:
        return ""
    header = [
        f"--- {NOWHERE if before is None else action.path}\n",
        f"+++ {NOWHERE if after is None else action.path}\n",
    ]
    return "".join([*header, *_hunks(_pairs(action.path, before), _pairs(action.path, after))])


def document(plan: Plan) -> dict[str, Any]:
    """The plan for scripts: the same lines and diffs, by what they are."""
    return {
        "runtime": plan.runtime,
        "steps": [{"step": line, "diff": shown} for line, shown in lines_with_diffs(plan)],
        "actions": [_fields(action) for action in plan.actions],
        "deferred": [
            {**_fields(d.act), "waits": d.reason, "retry_after": d.retry_after_seconds} for d in plan.deferred
        ],
        "conflicts": [{"path": c.path, "registry": c.registry, "reason": c.reason} for c in plan.conflicts],
    }


def verb(action: Action) -> str:  # noqa: PLR0911 -- one line for each kind of action
    """The one word for what the action does."""
    match action:
        case MakeDirectory():
            return "mkdir"
        case WriteFile():
            return "write"
        case RemoveFile():
            return "remove"
        case RemoveDirectory():
            return "rmdir"
        case Reload():
            return "reload"
        case Restart():
            return "restart"
        case Recover():
            return "start"
        case _:
            assert_never(action)


def _fields(action: Action) -> dict[str, str]:
    return {"action": verb(action), "target": _target(action), "reason": action.reason}


def _target(action: Action) -> str:
    return action.unit if isinstance(action, Reload | Restart | Recover) else action.path


def _things(plan: Plan) -> Iterator[tuple[str, Action | None]]:
    for claim in plan.claims:
        yield _claim(claim), None
    for action in plan.actions:
        yield _action(action), action
    for deferred in plan.deferred:
        yield _deferred(deferred), None
    for release in plan.releases:
        yield f"release {release.path}{_keys(release.keys)}", None
    for conflict in plan.conflicts:
        yield f"conflict {conflict.path}: {conflict.reason}", None


def _action(action: Action) -> str:
    return f"{verb(action)} {_target(action)}{_rights(action)}: {action.reason}"


def _rights(action: Action) -> str:
    if not isinstance(action, WriteFile):
        return ""
    owner = "" if action.owner is None else f" {action.owner[0]}:{action.owner[1]}"
    return f" ({action.mode:04o}{owner})"


def _claim(claim: Claim) -> str:
    kept = ", keeping what stands there" if isinstance(claim.original, Regular) else ""
    return f"claim {claim.path}{_keys(tuple(key.key for key in claim.keys))}{kept}"


def _deferred(deferred: Deferred) -> str:
    seconds = deferred.retry_after_seconds
    again = "" if seconds is None else f" (again in {seconds:g} s)"
    return f"defer {_action(deferred.act)}; {deferred.reason}{again}"


def _keys(keys: tuple[str, ...]) -> str:
    return f" ({', '.join(keys)})" if keys else ""


# --- diffs -----------------------------------------------------------------------------------------------------------

Pair = tuple[str, str]
"""A line as it is, which is compared, and as it may be shown."""


def _text(state: FileState) -> str | None:
    return state.content.decode("utf-8", "replace") if isinstance(state, Regular) else None


def _pairs(path: str, text: str | None) -> list[Pair]:
    if text is None:
        return []
    return list(zip(_split(text), _split(redact(path, text)), strict=True))


def _split(text: str) -> list[str]:
    """Lines by line feeds alone, as everybody else counts them."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _hunks(before: Sequence[Pair], after: Sequence[Pair]) -> Iterator[str]:
    import difflib  # not at the top: only `plan` shows differences

    matcher = difflib.SequenceMatcher(None, [real for real, _ in before], [real for real, _ in after], autojunk=False)
    for group in matcher.get_grouped_opcodes(CONTEXT_LINES):
        first, last = group[0], group[-1]
        yield f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@\n"
        for tag, start, end, new_start, new_end in group:
            if tag == "equal":
                yield from _marked(" ", before[start:end])
            else:
                yield from _marked("-", before[start:end])
                yield from _marked("+", after[new_start:new_end])


def _range(start: int, end: int) -> str:
    count = end - start
    if count == 1:
        return f"{start + 1}"
    return f"{start + 1 if count else start},{count}"


def _marked(mark: str, pairs: Sequence[Pair]) -> Iterator[str]:
    for _, shown in pairs:
        yield f"{mark}{shown}" if shown.endswith("\n") else f"{mark}{shown}\n\\ No newline at end of file\n"
