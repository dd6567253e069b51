"""The ledger's stored form: nothing that it knows gets lost, and a line is an entry."""

from __future__ import annotations

import json
from dataclasses import asdict

from agent.ledger import Entry, Ledger, Original, decode
from agent.model import Setting
from agent.plan import KeyOriginal, Memory

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
