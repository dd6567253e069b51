"""The journal catalogues of packaging/, as values. Source: systemd's journal catalog format."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGING = Path(__file__).resolve().parents[1] / "packaging"
_ENTRY = re.compile(r"^-- ([0-9a-f]{32})\n", re.MULTILINE)


def entries(name: str) -> dict[str, tuple[dict[str, str], str]]:
    """{MESSAGE_ID: (headers, text)} of a catalogue file; an identifier that stands there twice is an error."""
    parts = _ENTRY.split((PACKAGING / name).read_text(encoding="utf-8"))
    identifiers, bodies = parts[1::2], parts[2::2]
    assert sorted(identifiers) == sorted(set(identifiers))
    found = {}
    for identifier, body in zip(identifiers, bodies, strict=True):
        head, _, text = body.partition("\n\n")
        found[identifier] = (dict(line.split(": ", 1) for line in head.splitlines()), text.strip())
    return found
