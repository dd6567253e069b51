"""The JSON Schema of the desired state, for editors: made from the models, so that it cannot say something else."""

from __future__ import annotations

from typing import Any

from agent import catalogue
from agent.desired.models import DesiredModel


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). It knows shapes and words; rules between fields are checked by `load` alone."""
    made = _tidied(DesiredModel.model_json_schema())
    made["properties"]["presets"]["items"]["enum"] = [preset.name for preset in catalogue.presets()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mirror-agent desired state",
        **{key: value for key, value in made.items() if key != "$defs"},
        "$defs": dict(sorted(made["$defs"].items())),
    }


def _tidied(schema: dict[str, Any]) -> dict[str, Any]:
    """Without the titles that pydantic makes from names, and without defaults that only mean "not said"."""
    return {
        key: _tidied_value(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value == "")
    }


def _tidied_value(value: object) -> object:
    if isinstance(value, dict):
        return _tidied(value)
    return [_tidied_value(item) for item in value] if isinstance(value, list) else value
