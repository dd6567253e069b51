"""`presets`: entries of the built-in catalogue for registries that the operator does not name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from agent.desired.build import default_server
from agent.desired.findings import Findings, quoted
from agent.desired.messages import near
from agent.desired.nodes import Kind, Mapping, Node, Scalar, Sequence
from agent.model import Mirror, Registry

if TYPE_CHECKING:
    from agent.catalogue import Preset


def expand(presets: Iterable[str], named: set[str]) -> tuple[Registry, ...]:
    """The registries of the presets, in order, without those in `named`; the first preset that knows one wins."""
    registries: dict[str, Registry] = {}
    for name in presets:
        preset = _preset(name)
        for row in preset.rows if preset else ():
            if row.expand and row.registry not in named:
                entry = Registry(row.registry, default_server(row.registry), (Mirror(row.mirror),), preset=name)
                registries.setdefault(row.registry, entry)
    return tuple(registries.values())


def check_presets(root: Node, findings: Findings) -> None:
    """Every name under `presets` must be one of the catalogue's, once."""
    node = root.get("presets") if isinstance(root, Mapping) else None
    if not isinstance(node, Sequence):
        return
    first: dict[str, Scalar] = {}
    for index, item in enumerate(node.items):
        if not isinstance(item, Scalar) or item.broken or item.kind is not Kind.STRING:
            continue
        earlier = first.setdefault(item.text, item)
        if earlier is not item:
            findings.add(item, ("presets", index), f"is there twice: the first is on line {earlier.line}; keep one")
        elif _preset(item.text) is None:
            findings.add(item, ("presets", index), _unknown(item.text))


def _preset(name: str) -> Preset | None:
    from agent import catalogue  # not at the top: many desired states name none

    return catalogue.preset(name)


def _unknown(name: str) -> str:
    from agent import catalogue

    known = [preset.name for preset in catalogue.presets()]
    hint = near(name, known)
    return f"{quoted(name)} is no preset, {hint}" if hint else f"unknown preset; known are: {', '.join(known)}"
