"""The ledger's stored form: nothing that it knows gets lost, and a line is an entry."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from agent.ledger import Entry, Ledger, Original, decode
from agent.model import Absent, Setting
from agent.plan import Claim, KeyOriginal, Memory, Release

ENTRIES = (
    Entry("/etc/a/hosts.toml", "containerd", Original("ab", 0o600, 1, 2), made_directories=("/etc/a", "/etc")),
    Entry('/etc/"b\n.json', "docker", keys=(KeyOriginal("log-driver", '"syslog"'), KeyOriginal("é", None))),
)
LEDGER = Ledger(
    entries={entry.path: entry for entry in ENTRIES},
    memories={"docker": Memory("1f", (Setting("debug", "true"),), 1.5, "x", 2.5), "containerd": Memory(trial="y")},
)


def test_what_is_stored_is_read_back() -> None:
    """Entries and memories, with every character that a path can hold; and an empty ledger."""
    assert decode(LEDGER.encode()) == LEDGER
    assert decode(Ledger().encode()) == Ledger()


def test_an_entry_is_one_line_with_all_its_fields() -> None:
    """In the order of the paths, so that two equal ledgers are the same bytes and a person can read what changed."""
    lines = [line.rstrip(b",") for line in LEDGER.encode().splitlines() if b'"path"' in line]
    assert [json.loads(line) for line in lines] == [
        json.loads(json.dumps(asdict(entry))) for entry in sorted(ENTRIES, key=lambda entry: entry.path)
    ]


def test_what_a_later_version_has_added_is_kept() -> None:
    """Unknown fields of every level survive what an older version changes; those of an entry go with it."""
    document = json.loads(LEDGER.encode())
    later = {"since": {"version": "9"}, "note": None}
    document |= later
    for raw in (*document["entries"], *(entry["original"] for entry in document["entries"])):
        raw.update(later)
    for key in document["entries"][0]["keys"]:
        key.update(later)
    document["memories"]["docker"] |= later
    document["memories"]["docker"]["loaded"][0] |= later
    document["memories"]["podman"] = {**document["memories"]["docker"]}

    known = decode(json.dumps(document).encode())
    assert json.loads(known.encode()) == {**document, "memories": dict(sorted(document["memories"].items()))}
    changed = known.with_releases([Release(ENTRIES[0].path, "gone")]).with_claims("x", [Claim("/new", Absent())])
    after = json.loads(changed.encode())
    assert [entry for entry in after["entries"] if entry["path"] != "/new"] == [document["entries"][0]]
    assert [entry for entry in after["entries"] if entry["path"] == "/new"] == [
        json.loads(json.dumps(asdict(Entry("/new", "x"))))
    ]
    assert after["since"] == later["since"]
    assert decode(changed.encode()) == changed


def test_a_ledger_of_the_first_version_is_read() -> None:
    """tests/unit/ledger-0.1.0.json was written by 0.1.0 and is never changed: every later version reads it as it was
    meant."""
    known = decode((Path(__file__).parent / "ledger-0.1.0.json").read_bytes())
    assert (known, known.unknown) == (LEDGER, {})
