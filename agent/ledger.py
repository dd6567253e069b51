"""The ledger: what we own, what stood there before, and what we must remember about running daemons.

A value with pure changes; the shell stores it as JSON, whole and durably, before the writes that rely on it
(claims) and after those that end them (releases). Owning is therefore never forgotten by a crash, and releasing
twice does no harm. Unknown fields are ignored and kept, so that an older agent reads a newer ledger and harms nothing
of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agent.errors import LedgerError, NewerLedgerError
from agent.model import Absent, Regular, Setting
from agent.plan import Claim, KeyOriginal, Memory, Release

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Original:
    """What stood at a path before us; `sha256` finds its bytes among the kept originals ("" : nothing stood there)."""

    sha256: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0

    @property
    def existed(self) -> bool:
        return bool(self.sha256)


@dataclass(frozen=True, slots=True)
class Entry:
    """One path we own, whole or (where `keys` is not empty) in part. `is_doubtful`: what was there when it was claimed
    may have been ours already, from before the ledger was lost, so that nobody knows what stood there before us."""

    path: str
    runtime: str
    original: Original = Original()
    keys: tuple[KeyOriginal, ...] = ()
    made_directories: tuple[str, ...] = ()
    is_doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Ledger:
    """`entries` by path, `memories` by runtime name. `lost` means that no readable ledger was found, or that one is
    still missing: then a file that carries our header counts as ours, without a history. `unknown` is what a later
    version has put beside what this one knows, at any level; it is stored again with what it belongs to."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    memories: Mapping[str, Memory] = field(default_factory=dict)
    lost: bool = False
    unknown: Mapping[str, Any] = field(default_factory=dict)

    def owned_by(self, runtime: str) -> tuple[Entry, ...]:
        """The entries of one runtime, by path."""
        return tuple(entry for _, entry in sorted(self.entries.items()) if entry.runtime == runtime)

    @property
    def contents(self) -> frozenset[str]:
        """The digests of all contents that may be needed again."""
        originals = {entry.original.sha256 for entry in self.entries.values()}
        tried = ({each.good, each.trial, each.expects, each.bad.partition("@")[0]} for each in self.memories.values())
        return frozenset(originals.union(*tried))

    def memory_of(self, runtime: str) -> Memory:
        return self.memories.get(runtime, Memory())

    def with_claims(self, runtime: str, claims: Iterable[Claim]) -> Ledger:
        """Own more. The first original of a path and of a key is kept: what we wrote ourselves is never an original."""
        entries = dict(self.entries)
        for claim in claims:
            claimed = _claimed(entries.get(claim.path), runtime, claim)
            doubts = claimed.is_doubtful or (self.lost and claim.is_doubtful)
            entries[claim.path] = replace(claimed, is_doubtful=doubts)
        return replace(self, entries=entries)

    def with_releases(self, releases: Iterable[Release]) -> Ledger:
        """Own less; a path goes with its last key."""
        entries = dict(self.entries)
        for release in releases:
            entry = entries.pop(release.path, None)
            if entry is None or not release.keys:
                continue
            kept = tuple(key for key in entry.keys if key.key not in release.keys)
            if kept:
                entries[release.path] = replace(entry, keys=kept)
        beside = {path: raw for path, raw in self.unknown.get("entries", {}).items() if path in entries}
        unknown = {**self.unknown, "entries": beside} if self.unknown else self.unknown
        return replace(self, entries=entries, unknown=unknown)

    def with_past(self, past: Ledger) -> Ledger:
        """With what an earlier ledger knew, which was missing for a while: its originals are the first ones. What it
        owned beside is ours where our header tells whether it still is; a key that was let go of since stays so."""
        entries = dict(self.entries)
        for path, then in past.entries.items():
            now = entries.get(path)
            if now is not None:
                entries[path] = _with_past(now, then)
            elif not then.keys:
                entries[path] = then
        return replace(self, entries=entries)

    def with_memory(self, runtime: str, memory: Memory) -> Ledger:
        return replace(self, memories={**self.memories, runtime: memory})

    def encode(self) -> bytes:
        """The stored form: sorted, one line per entry, so that two equal ledgers are the same bytes."""
        document = _document(self)
        if self.unknown:
            document = _joined(document, self.unknown)
        entries = ",\n".join(map(json.dumps, document.pop("entries")))
        memories = ",\n".join(
            f"{json.dumps(name)}: {json.dumps(raw)}" for name, raw in document.pop("memories").items()
        )
        rest = "".join(
            f",\n{json.dumps(name)}: {json.dumps(raw)}" for name, raw in document.items() if name != "format"
        )
        return f'{{"format": {FORMAT},\n"entries": [\n{entries}\n],\n"memories": {{\n{memories}\n}}{rest}}}\n'.encode()


def decode(data: bytes) -> Ledger:
    """Read the stored form back. Raises LedgerError if it is not one (the caller keeps a copy and starts anew)."""
    try:
        document = json.loads(data)
        if document["format"] > FORMAT:
            raise NewerLedgerError(f"the ledger is of a newer mirror-agent (format {int(document['format'])})")
        known = Ledger(
            entries={raw["path"]: _entry(raw) for raw in document["entries"]},
            memories={name: _memory(raw) for name, raw in document["memories"].items()},
        )
        return replace(known, unknown=_beyond(document, _document(known)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LedgerError(f"the ledger is damaged: {type(error).__name__}") from error


def original_of(state: Absent | Regular) -> Original:
    """The ledger's view of what was observed before a claim."""
    if isinstance(state, Absent):
        return Original()
    return Original(hashlib.sha256(state.content).hexdigest(), state.mode, state.uid, state.gid)


def _claimed(owned: Entry | None, runtime: str, claim: Claim) -> Entry:
    if owned is None:
        return Entry(claim.path, runtime, original_of(claim.original), claim.keys, claim.made_directories)
    known = {key.key for key in owned.keys}
    added = tuple(key for key in claim.keys if key.key not in known)
    directories = tuple(path for path in claim.made_directories if path not in owned.made_directories)
    return replace(owned, keys=owned.keys + added, made_directories=owned.made_directories + directories)


def _with_past(now: Entry, then: Entry) -> Entry:
    known = {key.key: key for key in then.keys}
    made = tuple(path for path in now.made_directories if path not in then.made_directories)
    return replace(
        now,
        original=then.original,
        keys=tuple(known.get(key.key, key) for key in now.keys),
        made_directories=then.made_directories + made,
        is_doubtful=then.is_doubtful,
    )


def _document(ledger: Ledger) -> dict[str, Any]:
    """What is stored, but for what this version does not know."""
    return {
        "format": FORMAT,
        "entries": [_raw(entry) for _, entry in sorted(ledger.entries.items())],
        "memories": {name: asdict(memory) for name, memory in sorted(ledger.memories.items())},
    }


def _raw(entry: Entry) -> dict[str, Any]:
    """As dataclasses.asdict, which copies everything on the way: with thousands of entries that is what takes long."""
    original = {name: getattr(entry.original, name) for name in ("sha256", "mode", "uid", "gid")}
    return {
        "path": entry.path,
        "runtime": entry.runtime,
        "original": original,
        "keys": [{"key": key.key, "json": key.json} for key in entry.keys],
        "made_directories": entry.made_directories,
        "is_doubtful": entry.is_doubtful,
    }


def _beyond(raw: Any, ours: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    """What `raw` says and `ours` does not, level by level; items of lists are found by their names."""
    there, here = _by_name(raw), _by_name(ours)
    found = {name: _beyond(value, here[name]) if name in here else value for name, value in there.items()}
    return {name: value for name, value in found.items() if value or name not in here}


def _joined(ours: Any, unknown: Mapping[str, Any]) -> Any:  # noqa: ANN401 -- JSON
    """`ours` with what was unknown. An item of a list that is ours no more takes what was unknown of it along."""
    if isinstance(ours, dict):
        known = {name: _joined(value, unknown[name]) if name in unknown else value for name, value in ours.items()}
        return {**known, **{name: value for name, value in unknown.items() if name not in ours}}
    return [_joined(item, unknown.get(_name_of(item), {})) for item in ours]


def _by_name(value: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    if isinstance(value, list | tuple):
        return {_name_of(item): item for item in value if isinstance(item, dict)}
    return value if isinstance(value, dict) else {}


def _name_of(item: dict[str, Any]) -> str:
    """An entry's path, a key's or a setting's name."""
    return str(item.get("path", item.get("key", "")))


def _entry(raw: dict[str, Any]) -> Entry:
    original = raw["original"]
    return Entry(
        path=_text(raw["path"]),
        runtime=_text(raw["runtime"]),
        original=Original(_text(original["sha256"]), int(original["mode"]), int(original["uid"]), int(original["gid"])),
        keys=tuple(KeyOriginal(_text(key["key"]), key["json"]) for key in raw["keys"]),
        made_directories=tuple(_text(path) for path in raw["made_directories"]),
        is_doubtful=raw.get("is_doubtful") is True,
    )


def _memory(raw: dict[str, Any]) -> Memory:
    return Memory(
        invocation_id=_text(raw["invocation_id"]),
        loaded=_settings(raw["loaded"]),
        reloaded_at=float(raw["reloaded_at"]),
        failed_reload=_text(raw["failed_reload"]),
        restarted_at=float(raw["restarted_at"]),
        file_changed_at=float(raw.get("file_changed_at", 0.0)),
        trial=_text(raw.get("trial", "")),
        good=_text(raw.get("good", "")),
        expects=_text(raw.get("expects", "")),
        is_restarting=raw.get("is_restarting") is True,
        bad=_text(raw.get("bad", "")),
        is_recovering=raw.get("is_recovering") is True,
        awaits_order=raw.get("awaits_order") is True,
        why=_text(raw.get("why", "")),
        effective=_settings(raw.get("effective", ())),
        refused=_settings(raw.get("refused", ())),
        restarts=tuple(float(at) for at in raw.get("restarts", ())),
        our_invocation=_text(raw.get("our_invocation", "")),
    )


def _settings(raw: Iterable[dict[str, Any]]) -> tuple[Setting, ...]:
    return tuple(Setting(_text(item["key"]), _text(item["json"])) for item in raw)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value
