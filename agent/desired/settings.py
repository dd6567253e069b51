"""docker.settings: what is merged into daemon.json as it stands, as exact JSON text.

Refused here: what Docker would refuse at its next start or ignore without a word. Source: moby daemon/config.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from math import inf, isfinite

from agent.desired.daemon_keys import DAEMON_KEYS, JsonType
from agent.desired.findings import Findings
from agent.desired.messages import may_be_secret, wrong_type
from agent.desired.nodes import Kind, Mapping, Node, Path, Scalar, Sequence, children
from agent.model import Setting

_OUTER = {
    JsonType.STRINGS: JsonType.LIST,
    JsonType.STRING_MAP: JsonType.MAPPING,
    JsonType.BOOLEAN_MAP: JsonType.MAPPING,
}
_INNER = {
    JsonType.STRINGS: JsonType.STRING,
    JsonType.STRING_MAP: JsonType.STRING,
    JsonType.BOOLEAN_MAP: JsonType.BOOLEAN,
}
_SCALARS = {
    JsonType.STRING: {Kind.STRING},
    JsonType.BOOLEAN: {Kind.BOOLEAN},
    JsonType.INTEGER: {Kind.INTEGER},
    JsonType.SIZE: {Kind.STRING, Kind.INTEGER},
}
_NAMED_FLOAT = re.compile("[iInN]")
_PATH: Path = ("docker", "settings")
_NAMED_ELSEWHERE = {
    "registry-mirrors": "is made from registries.docker.io.mirrors: name them there",
    "insecure-registries": "is made from the registries with insecure: true: name them under registries",
}
_FLAGS = {
    "registry-mirror": "is a flag, which Docker ignores in daemon.json: name registries.docker.io.mirrors",
    "insecure-registry": "is a flag, which Docker ignores in daemon.json: write registries.NAME.insecure: true",
    "host": 'is a flag, which Docker ignores in daemon.json: the key is "hosts"',
    "help": "is a flag, which Docker ignores in daemon.json: remove it",
    "version": "is a flag, which Docker ignores in daemon.json: remove it",
}


def read_settings(root: Node, findings: Findings) -> tuple[Setting, ...]:
    """The settings in the order of the text; what is wrong goes to the findings."""
    docker = root.get("docker") if isinstance(root, Mapping) else None
    node = docker.get("settings") if isinstance(docker, Mapping) else None
    if not isinstance(node, Mapping):
        return ()
    settings = []
    for key, entry in node.entries.items():
        message = _NAMED_ELSEWHERE.get(key.lower()) or _FLAGS.get(key.lower())
        if message:
            findings.add(entry.key, (*_PATH, key), message)
            continue
        value = _json(entry.value, (*_PATH, key), root, findings)
        settings.append(Setting(key, json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)))
        _check_type(key, entry.value, root, findings)
    return tuple(settings)


def _check_type(key: str, node: Node, root: Node, findings: Findings) -> None:
    """Say so if Docker wants another type for this key."""
    expected = DAEMON_KEYS.get(key)
    path = (*_PATH, key)
    if expected is None or node.broken:
        return
    outer = _OUTER.get(expected, expected)
    if not _has_type(node, outer):
        _wrong(node, path, outer, root, findings)
        return
    inner = _INNER.get(expected)
    for step, child in children(node):
        if inner is not None and not child.broken and not _has_type(child, inner):
            _wrong(child, (*path, step), inner, root, findings)


def _wrong(node: Node, path: Path, expected: JsonType, root: Node, findings: Findings) -> None:
    if isinstance(node, Scalar) and node.kind in {Kind.NULL, Kind.ODD_INTEGER}:
        return  # said already
    kind = "string_type" if expected is JsonType.SIZE else expected.value
    findings.at(root, path, f"{wrong_type(node, path, kind)}; with another type Docker does not start")


def _has_type(node: Node, expected: JsonType) -> bool:
    match expected:
        case JsonType.LIST:
            return isinstance(node, Sequence)
        case JsonType.MAPPING:
            return isinstance(node, Mapping)
        case _:
            return isinstance(node, Scalar) and node.kind in _SCALARS[expected]


def _json(node: Node, path: Path, root: Node, findings: Findings) -> object:
    if node.broken:
        return None
    if isinstance(node, Mapping):
        return {key: _json(entry.value, (*path, key), root, findings) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [_json(item, (*path, index), root, findings) for index, item in enumerate(node.items)]
    try:
        return _scalar(node)
    except ValueError as error:
        findings.at(root, path, "must be in quotes" if may_be_secret(path) else str(error))
        return None


def _scalar(node: Scalar) -> object:
    match node.kind:
        case Kind.STRING:
            return node.text
        case Kind.BOOLEAN:
            return node.text[0] in "tT"
        case Kind.INTEGER if len(node.text) <= 20 and -(2**63) <= int(node.text) < 2**63:
            return int(node.text)
        case Kind.FLOAT:
            return _exact_float(node.text)
        case Kind.NULL:
            raise ValueError("is empty: to give a key up, remove it")
        case _:
            raise ValueError(_odd_number(node.text))


def _exact_float(text: str) -> float:
    """A decimal number that JSON text keeps as it is written."""
    number = float(text) if len(text) <= 40 and not _NAMED_FLOAT.search(text) else inf
    if not isfinite(number) or Decimal(repr(number)) != Decimal(text):
        raise ValueError("is a number that JSON cannot keep exactly: write it in quotes, or shorter")
    return number


def _odd_number(text: str) -> str:
    base = "is a number that is read differently by different programs"
    if text[:2] in {"0o", "0x"} and len(text) <= 15:
        return f'{base}: write {int(text, 0)}, or "{text}" if text is meant'
    if len(text) > 15:
        return "is a number that is too large: write it in quotes if text is meant"
    return f'{base}: write {int(text)}, or "{text}" if text is meant'
