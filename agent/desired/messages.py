"""What pydantic found, in the words of the desired state: which type would be right, which key is near."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from typing import Any

from pydantic import BaseModel

from agent.desired.findings import Findings, path_in, quoted, walk
from agent.desired.models import (
    ClashError,
    ClientModel,
    ContainerdModel,
    DesiredModel,
    DockerModel,
    HealthModel,
    MetricsModel,
    MirrorModel,
    RegistryModel,
)
from agent.desired.nodes import Kind, Node, Path, Scalar, Sequence
from agent.desired.secrets import speaks_of_secrets

_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("at the top of the file", DesiredModel),
    ("under registries.NAME", RegistryModel),
    ("in a mirror, beside its url", MirrorModel),
    ("in an entry of client", ClientModel),
    ("under containerd", ContainerdModel),
    ("under docker", DockerModel),
    ("under health", HealthModel),
    ("under metrics", MetricsModel),
)

_MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    (): DesiredModel,
    ("registries", "NAME"): RegistryModel,
    ("registries", "NAME", "mirrors", "#"): MirrorModel,
    ("registries", "NAME", "mirrors", "#", "client", "#"): ClientModel,
    ("containerd",): ContainerdModel,
    ("docker",): DockerModel,
    ("health",): HealthModel,
    ("metrics",): MetricsModel,
}

# Words that people know from elsewhere, and what they are called here.
_ELSEWHERE = {
    "registry-mirrors": "mirrors are named under registries.docker.io.mirrors",
    "insecure-registries": "write registries.NAME.insecure: true for each of them",
    "insecure_registries": "write registries.NAME.insecure: true for each of them",
    "endpoint": "mirrors are named under registries.NAME.mirrors",
    "endpoints": "mirrors are named under registries.NAME.mirrors",
    "rewrite": "no containerd but that of k3s rewrites names; use a path in the URL and override_path: true",
    "auth": "credentials are sent with header_file",
    "username": "credentials are sent with header_file",
    "password": "credentials are sent with header_file",
    "tls": "write ca, client or skip_verify in the mirror, or insecure: true for the registry",
    "log-driver": "Docker's own settings go under docker.settings",
    "log-opts": "Docker's own settings go under docker.settings",
    "config_path": "the directory is containerd.certs_dir; config_path is set to it",
    "<<": "merge keys are not used here: write the keys out",
}


def report(root: Node, errors: list[Any], findings: Findings) -> None:
    """Add pydantic's errors, each at its place in the text."""
    for error in errors:
        location, kind, context = error["loc"], error["type"], error.get("ctx", {})
        path = path_in(root, location)
        if kind == "extra_forbidden":
            findings.at_key(root, path, _unknown_key(path))
        elif kind == "missing":
            findings.at_key(root, path, _missing(str(location[-1])))
        elif isinstance(context.get("error"), ClashError):
            _clashes(root, path, context["error"], findings)
        elif "[key]" in location[-1:]:
            findings.at_key(root, path, str(context.get("error", "is no valid key")))
        elif not walk(root, path)[0].broken:
            findings.at(root, path, _wrong_value(walk(root, path)[0], path, kind, context))


def near(word: str, known: list[str]) -> str:
    """`did you mean "x"?` for the nearest known word, "" if none is near. Cost is bounded by the word's length."""
    import difflib  # not at the top: only a mistake needs it

    spellings = {_plain(each): each for each in known}
    matches = difflib.get_close_matches(_plain(word[:60]), spellings, n=1, cutoff=0.6)
    return f'did you mean "{spellings[matches[0]]}"?' if matches else ""


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def _section_at(path: Path) -> type[BaseModel] | None:
    """The model whose keys stand directly under a path."""
    pattern = tuple("#" if isinstance(step, int) else step for step in path)
    if pattern[:1] == ("registries",) and len(pattern) > 1:
        pattern = ("registries", "NAME", *pattern[2:])
    return _MODELS.get(pattern)


def _unknown_key(path: Path) -> str:
    key = str(path[-1])
    if key.startswith("\u3000"):
        return "unknown key: it begins with a full-width blank, indent with plain ones"
    section = _section_at(path[:-1])
    known = list(section.model_fields) if section else []
    if key in _ELSEWHERE:
        return f"unknown key: {_ELSEWHERE[key]}"
    hint = near(key, known)
    if hint:
        return f"unknown key, {hint}"
    for where, other in _SECTIONS:
        if key in other.model_fields:
            return f"unknown key here: it belongs {where}"
    return f"unknown key; known here: {', '.join(known)}"


def _missing(field: str) -> str:
    if field == "version":
        return 'version is missing: the file must say "version: 1"'
    return f"{field} is missing"


def _clashes(root: Node, path: Path, error: ClashError, findings: Findings) -> None:
    for clash in error.clashes:
        where = (*path, *clash.path)
        if not walk(root, where)[0].broken:
            _, key = walk(root, (*path, *clash.first))
            line = (key or walk(root, (*path, *clash.first))[0]).line
            findings.at(root, where, clash.message.replace("{line}", str(line)))


_BEYOND_LIMITS = {
    "too_long": "has more than {max_length:,} entries, which is the limit",
    "too_short": "is an empty list: write at least one, or remove the key",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}


def _wrong_value(node: Node, path: Path, kind: str, context: MappingType[str, Any]) -> str:
    if isinstance(node, Scalar) and node.kind is Kind.NULL:
        return "is empty: write a value, or remove the key"
    if path == ("version",):
        return _wrong_version(node)
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return _wrong_word(node, str(context["expected"]))
    return _BEYOND_LIMITS[kind].format(**context) if kind in _BEYOND_LIMITS else wrong_type(node, path, kind)


def _wrong_word(node: Node, expected: str) -> str:
    words = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    right = f"must be {', '.join(words[:-1])} or {words[-1]}"
    if not isinstance(node, Scalar):
        return f"{right}, not {_what(node)}"
    if node.text in words:
        return f"{right}; {node.text} is written without quotes" if not node.plain else f"{right}, in quotes"
    boolean = _BOOLEAN_WORDS.get(node.text.lower())
    if boolean in words:
        return f"{right}; {node.text} is a string in YAML 1.2: write {boolean}"
    hint = near(node.text, words)
    return f"{right}, {hint}" if hint else right


def _wrong_version(node: Node) -> str:
    if isinstance(node, Scalar) and node.text == "1":
        return "must be the number 1: remove the quotes"
    if isinstance(node, Scalar) and node.kind is Kind.INTEGER and len(node.text) < 6:
        return f"must be 1: this mirror-agent does not know version {node.text}"
    return "must be the number 1"


_RIGHT = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
}
# What is meant, where the type alone does not say it: by the last step of the path ("#" for an entry of a list).
_MEANT = {
    ("mirrors", "#"): "a URL, or a mapping with url",
    ("client", "#"): "a mapping with cert and key",
    ("ca",): "a path, or a list of paths",
    ("dial_timeout",): 'a duration as in "3s"',
    ("interval",): 'a duration as in "10m"',
    ("timeout",): 'a duration as in "10s"',
    ("restart_window",): 'two times of day as in "02:00-05:00"',
    ("registries", "NAME"): "a mapping with mirrors, or {}",
}
_DURATIONS = frozenset({("dial_timeout",), ("interval",), ("timeout",)})
_BOOLEAN_WORDS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def wrong_type(node: Node, path: Path, kind: str) -> str:
    """What would be right where a value has the wrong type; `kind` is pydantic's name for the mistake."""
    right = f"must be {_right(path, kind)}"
    if not isinstance(node, Scalar):
        return f"{right}, not {_what(node)}"
    secret = may_be_secret(path)
    if path[-1:] in _DURATIONS and node.kind is Kind.INTEGER:
        return f'must be a duration: write "{node.text[:12]}s"'
    if kind == "string_type":
        word = "this" if secret or len(node.text) > 40 else node.text
        return f"{right}, and {word} is {node.kind.value}: write it in quotes"
    if kind == "bool_type":
        return _wrong_boolean(right, node)
    return _without_colon(node, path) or f"{right}{_instead(node, path, kind)}"


def _instead(node: Scalar, path: Path, kind: str) -> str:
    """The value in its right form where there is only one, else what it is."""
    text, secret = node.text, may_be_secret(path)
    one = node.kind is Kind.STRING and not secret and len(text) < 80 and quoted(text) != "this value"
    if one and kind == "list_type":
        return f": write [{text}]"
    if one and _is_registry(path) and "://" in text:
        return f": write {{mirrors: [{text}]}}"
    return f", not {_what(node)}"


def _is_registry(path: Path) -> bool:
    return len(path) == 2 and path[0] == "registries"


def _without_colon(node: Scalar, path: Path) -> str:
    """`mirrors` on a line of its own is read as the registry's value, "" if that is not what happened."""
    word = node.text.partition(" ")[0]
    is_key = _is_registry(path) and node.plain and word in RegistryModel.model_fields
    return f'a colon is missing behind {word}: write "{word}:"' if is_key else ""


def may_be_secret(path: Path) -> bool:
    """Whether a key on the way speaks of secrets, so that no value below it is repeated."""
    return any(isinstance(step, str) and speaks_of_secrets(step) for step in path)


def _right(path: Path, kind: str) -> str:
    steps = tuple("#" if isinstance(step, int) else step for step in path)
    if len(steps) == 2 and steps[0] == "registries":
        steps = ("registries", "NAME")
    if "header" in steps[-2:-1]:
        return "a string, or a list of strings"
    return _MEANT.get(steps[-2:]) or _MEANT.get(steps[-1:]) or _RIGHT.get(kind, "another kind of value")


def _wrong_boolean(right: str, node: Scalar) -> str:
    word = node.text.lower()
    if word in {"true", "false"}:
        return f"{right}, without quotes"
    if word in _BOOLEAN_WORDS:
        return f"{right}; {node.text} is a string in YAML 1.2: write {_BOOLEAN_WORDS[word]}"
    return f"{right}, not {node.kind.value}"


def _what(node: Node) -> str:
    if isinstance(node, Scalar):
        return node.kind.value
    return "a list" if isinstance(node, Sequence) else "a mapping"
