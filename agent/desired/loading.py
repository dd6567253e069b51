"""Bytes → DesiredState, or every problem at once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agent.desired import build
from agent.desired.findings import Findings
from agent.desired.messages import report
from agent.desired.models import DesiredModel
from agent.desired.nodes import Kind, Mapping, Scalar, Sequence, plain_value
from agent.desired.presets import check_presets, expand
from agent.desired.registries import canonical_names
from agent.desired.settings import read_settings
from agent.desired.syntax import WIDE_COLON, wide_colon
from agent.desired.tree import read_tree
from agent.errors import DesiredStateError
from agent.model import DesiredState, Setting

_EMPTY = "the file says nothing: version: 1 is required; an empty file never means remove everything"


@dataclass(frozen=True, slots=True)
class Document:
    """A valid desired state with what it was read from: the tree for places, the models for what was said."""

    root: Mapping
    model: DesiredModel
    names: dict[str, str]
    settings: tuple[Setting, ...]


def load(data: bytes, source: str = "/etc/mirror-agent.yaml") -> DesiredState:
    """The desired state that the bytes of a file say. `source` is the path it was read from.

    Raises DesiredStateError with every problem, in the order of the text; a YAML syntax error stands alone.
    """
    document = read_document(data)
    own = tuple(build.registry(document.names[key], model) for key, model in document.model.registries.items())
    return DesiredState(
        generation=hashlib.sha256(data).hexdigest(),
        source=source,
        registries=own + expand(document.model.presets, {registry.name for registry in own}),
        containerd=build.containerd(document.model.containerd),
        docker=build.docker(document.model.docker, document.settings),
        health=build.health(document.model.health),
        metrics=build.metrics(document.model.metrics),
    )


def read_document(data: bytes) -> Document:
    """Read and validate. Raises DesiredStateError."""
    findings = Findings()
    root = read_tree(data, findings)
    document = None
    if isinstance(root, Mapping):
        document = _validated(root, findings)
    else:
        _no_mapping(root, findings)
    if document is None:
        raise DesiredStateError(findings.sorted())
    return document


def _no_mapping(root: Scalar | Sequence | None, findings: Findings) -> None:
    """Say what the text is instead, unless it is said already."""
    if findings:
        return
    if root is None or (isinstance(root, Scalar) and root.kind is Kind.NULL):
        findings.add(Scalar(1, 1, 1, "", plain=True), (), _EMPTY)
    elif isinstance(root, Scalar) and wide_colon(root.text.partition("\n")[0]):
        findings.add(root, (), WIDE_COLON)
    else:
        findings.add(root, (), 'the file must be "key: value" lines, beginning with version: 1')


def _validated(root: Mapping, findings: Findings) -> Document | None:
    names = canonical_names(root, findings)
    settings = read_settings(root, findings)
    model, errors = _validate(plain_value(root))
    report(root, errors, findings)
    check_presets(root, findings)
    return Document(root, model, names, settings) if model is not None and not findings else None


def _validate(value: object) -> tuple[DesiredModel | None, list[Any]]:
    """The model or pydantic's errors; its exception, which knows the input, goes no further."""
    try:
        return DesiredModel.model_validate(value), []
    except ValidationError as error:
        return None, list(error.errors(include_url=False, include_input=False))
