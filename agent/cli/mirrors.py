"""`mirror-agent mirrors`: the built-in catalogue."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.cli.session import FAILED, FINE, Session
from agent.cli.terminal import Paint, table

if TYPE_CHECKING:
    from agent.catalogue import CatalogueEntry

NAME = "mirrors"
SUMMARY = "the catalogue: what each known mirror serves, its kind, its state with a date"
DESCRIPTION = """\
The catalogue that presets and warnings come from, as of its date. It is data shipped with the program: nothing is asked
over the network. Exit code 0; 1 if no mirror is known for REGISTRY.
"""

_STYLES = {"usable": "good", "restricted": "warn", "frozen": "warn", "experimental": "warn"}
_HEADINGS = ("REGISTRY", "MIRROR", "STATE", "SINCE", "KIND", "ACCESS", "NOTE")


@dataclass(frozen=True, slots=True)
class Offer:
    """One mirror for one registry."""

    registry: str
    url: str
    entry: CatalogueEntry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """REGISTRY, if only its mirrors are of interest."""
    parser.add_argument("registry", metavar="REGISTRY", nargs="?", default="", help="only mirrors of this registry")


def run(session: Session) -> int:
    """Print the catalogue, or the part of one registry."""
    from agent import catalogue

    every = offers(catalogue.mirrors())
    wanted = session.options.registry.lower()
    chosen = [offer for offer in every if wanted in {"", offer.registry}]
    if session.json:
        session.write_json({"as_of": catalogue.as_of(), "mirrors": [_document(offer) for offer in chosen]})
    elif chosen:
        width = None if wanted else session.terminal.width
        session.terminal.write("\n".join(lines(chosen, catalogue.as_of(), session.terminal.paint, width)))
    else:
        known = ", ".join(dict.fromkeys(offer.registry for offer in every))
        session.terminal.complain(f"mirror-agent: no mirror of {wanted} is known; there are some of: {known}")
    return FINE if chosen else FAILED


def offers(entries: Sequence[CatalogueEntry]) -> list[Offer]:
    """Every mirror of every registry: registries in the order of the catalogue, what works first."""
    found = [Offer(registry, url, entry) for entry in entries for registry, url in entry.serves]
    order = {registry: place for place, registry in enumerate(dict.fromkeys(offer.registry for offer in found))}
    states = {state: place for place, state in enumerate(("usable", "restricted", "frozen", "experimental"))}
    return sorted(found, key=lambda offer: (order[offer.registry], states.get(offer.entry.state.value, len(states))))


def lines(chosen: Sequence[Offer], as_of: str, paint: Paint, width: int | None) -> list[str]:
    """A table, what its operators ask of everybody, and how old all of it is. Rows are cut to `width` columns."""
    heading, *rows = (_cut(row, width) for row in table([_HEADINGS, *map(_cells, chosen)]))
    styles = [_STYLES.get(offer.entry.state.value, "dim") for offer in chosen]
    rules = dict.fromkeys(f"{o.entry.operator or o.entry.host}: {rule}" for o in chosen for rule in o.entry.rules)
    return [
        paint("strong", heading),
        *(paint(style, row) for style, row in zip(styles, rows, strict=True)),
        *(["", *rules] if rules else []),
        "",
        f"As of {as_of}: what others wrote down on the dates given. Mirrors come and go; nothing was tried here.",
    ]


def _cut(row: str, width: int | None) -> str:
    return row if width is None or len(row) <= width else row[: width - 1] + "…"


def _cells(offer: Offer) -> tuple[str, ...]:
    entry = offer.entry
    access = "" if entry.state.value in {"dead", "retired"} else entry.access.value
    return (offer.registry, offer.url, entry.state.value, entry.since, entry.kind.value, access, entry.note)


def _document(offer: Offer) -> dict[str, object]:
    entry = offer.entry
    return {
        "registry": offer.registry,
        "mirror": offer.url,
        "kind": entry.kind.value,
        "access": entry.access.value,
        "state": entry.state.value,
        "since": entry.since,
        "checked": entry.checked,
        "source": entry.source,
        "operator": entry.operator,
        "rules": list(entry.rules),
        "note": entry.note,
    }
