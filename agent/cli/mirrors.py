"""`mirror-agent mirrors`: the built-in catalogue, and probes of mirrors."""

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
SUMMARY = "the catalogue: what each known mirror serves, its state with a date; --probe tries them"
DESCRIPTION = """\
The catalogue that presets and warnings come from, as of its date. It is data shipped with the program: nothing is asked
over the network. Exit code 0; 1 if no mirror is known for REGISTRY.

With --probe mirrors are tried from here, as containerd pulls: name, connection, TLS, token, the manifest of an image, a
handful of requests each. It shows them by speed, with what is wrong and what to do, and the YAML to paste. Exit code 0
if one of them works, else 1.

  mirror-agent mirrors --probe                       the desired state's own, and those known for Docker Hub
  mirror-agent mirrors ghcr.io --probe               those of one registry
  mirror-agent mirrors --probe https://m.example     this one; --image ghcr.io/owner/name chooses registry and image
"""

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.2, 120.0
_STYLES = {"usable": "good", "restricted": "warn", "frozen": "warn", "experimental": "warn"}
_HEADINGS = ("REGISTRY", "MIRROR", "STATE", "SINCE", "KIND", "ACCESS", "NOTE")


@dataclass(frozen=True, slots=True)
class Offer:
    """One mirror for one registry."""

    registry: str
    url: str
    entry: CatalogueEntry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """REGISTRY, if only its mirrors are of interest; what is to be probed, and how."""
    parser.add_argument("registry", metavar="REGISTRY", nargs="?", default="", help="only mirrors of this registry")
    parser.add_argument("--probe", metavar="URL", nargs="*", help="try these mirrors; without URL the known ones")
    parser.add_argument("--image", metavar="IMAGE", default="", help="probe with this image, of its registry")
    parser.add_argument("--content", action="store_true", help="probe also what manifests and blobs hold")
    parser.add_argument("--timeout", metavar="SECONDS", type=_seconds, default=10.0, help="for each probe in all (10)")


def _seconds(text: str) -> float:
    """Long enough for the other side of the world, short enough to be waited for."""
    seconds = float(text)
    if not _SHORTEST_SECONDS <= seconds <= _LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"must be between {_SHORTEST_SECONDS} and {_LONGEST_SECONDS}")
    return seconds


def run(session: Session) -> int:
    """Print the catalogue, or the part of one registry; or probe. Raises UsageError."""
    if session.options.probe is not None:
        from agent.cli import probing

        return probing.run(session)
    return _show(session)


def _show(session: Session) -> int:
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
    rules = _rules(chosen)
    return [
        paint("strong", heading),
        *(paint(style, row) for style, row in zip(styles, rows, strict=True)),
        *(["", *rules] if rules else []),
        "",
        f"As of {as_of}: what others wrote down on the dates given. Mirrors come and go; nothing was tried here.",
    ]


def _rules(chosen: Sequence[Offer]) -> list[str]:
    """Each once, in the words that say most."""
    said = dict.fromkeys(f"{o.entry.operator or o.entry.host}: {rule}" for o in chosen for rule in o.entry.rules)
    return [rule for rule in said if not any(other.startswith(rule) and other != rule for other in said)]


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
