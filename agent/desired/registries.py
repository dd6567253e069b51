"""Rules that need a registry's name: canonical spelling, repetition, what `_default` and Docker Hub cannot have."""

from __future__ import annotations

from agent.desired.findings import Findings
from agent.desired.names import canonical_registry
from agent.desired.nodes import Kind, Mapping, Node, Scalar, Sequence
from agent.desired.urls import canonical_url
from agent.model import DEFAULT_REGISTRY, DOCKER_HUB

_NOT_FOR_DEFAULT = {
    "server": "_default stands for many registries, each with its own endpoint: name the endpoint under mirrors",
    "insecure": "would turn verification off for every registry: name the registries that need it",
    "plain_http": "would ask every registry without encryption: name the registries that need it",
}


def canonical_names(root: Node, findings: Findings) -> dict[str, str]:
    """For each key under `registries`, the registry's canonical name; what is wrong goes to the findings."""
    registries = root.get("registries") if isinstance(root, Mapping) else None
    names: dict[str, str] = {}
    if not isinstance(registries, Mapping):
        return names
    first: dict[str, Scalar] = {}
    for key, entry in registries.entries.items():
        try:
            name = canonical_registry(key)
        except ValueError as error:
            findings.add(entry.key, ("registries", key), str(error))
            continue
        earlier = first.setdefault(name, entry.key)
        if earlier is not entry.key:
            message = f'is the same registry as on line {earlier.line} ("{name}"): keep one'
            findings.add(entry.key, ("registries", key), message)
        _rules(name, key, entry.value, findings)
        _repeated_mirrors(key, entry.value, findings)
        names[key] = name
    return names


def _rules(name: str, key: str, node: Node, findings: Findings) -> None:
    if not isinstance(node, Mapping):
        return
    if name == DEFAULT_REGISTRY:
        for field, message in _NOT_FOR_DEFAULT.items():
            if field in node.entries and not _is_false(node.entries[field].value):
                findings.add(node.entries[field].key, ("registries", key, field), message)
    if name == DOCKER_HUB and "plain_http" in node.entries and not _is_false(node.entries["plain_http"].value):
        message = "Docker Hub speaks https only: remove it"
        findings.add(node.entries["plain_http"].key, ("registries", key, "plain_http"), message)


def _repeated_mirrors(key: str, node: Node, findings: Findings) -> None:
    """Two spellings of one URL are one mirror; containerd drops a file that names a host twice."""
    mirrors = node.get("mirrors") if isinstance(node, Mapping) else None
    first: dict[str, Scalar] = {}
    for index, item in enumerate(mirrors.items if isinstance(mirrors, Sequence) else ()):
        place = item.get("url") if isinstance(item, Mapping) else item
        url = _url(place)
        if isinstance(place, Scalar) and url:
            earlier = first.setdefault(url, place)
            if earlier is not place:
                message = f"is the same mirror as on line {earlier.line}: keep one"
                findings.add(place, ("registries", key, "mirrors", index), message)


def _url(node: Node | None) -> str:
    """The canonical URL of a scalar, "" if it is none."""
    if not isinstance(node, Scalar) or node.broken:
        return ""
    try:
        return canonical_url(node.text)
    except ValueError:
        return ""


def _is_false(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind is Kind.BOOLEAN and node.text[0] in "fF"
