"""The JSON Schema for editors, and the file that is installed."""

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from agent.desired import load
from agent.desired.json_schema import json_schema
from agent.desired.models import DesiredModel
from agent.desired.schema import schema_text
from agent.model import ContainerdSettings, DockerSettings
from tests.states import MODELS, said

PACKAGED = Path(__file__).parents[2] / "packaging" / "mirror-agent.yaml"


def test_the_shipped_schema_is_that_of_the_models() -> None:
    """`python -m agent.desired.schema > agent/data/mirror-agent.schema.json` was run after the last change."""
    assert files("agent").joinpath("data/mirror-agent.schema.json").read_text("utf-8") == schema_text()


def test_the_schema_knows_every_field_and_no_other() -> None:
    """Every mapping is closed, every key described, and the keys are those that load takes."""
    schema = json_schema()
    for model in MODELS:
        part = schema if model is DesiredModel else schema["$defs"][model.__name__]
        assert set(part["properties"]) == set(model.model_fields)
        assert part["additionalProperties"] is False
        for name, field in part["properties"].items():
            assert "description" in field or "$ref" in field, name


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("properties.version.const", 1),
        ("properties.presets.items.enum", ["daocloud"]),
        ("required", ["version"]),
        ("$defs.DockerModel.properties.on_change.enum", ["auto", "restart", "reload"]),
        ("$defs.ContainerdModel.properties.manage.enum", ["auto", True, False]),
        ("$defs.MirrorModel.properties.dial_timeout.default", "3s"),
        ("$defs.MirrorModel.required", ["url"]),
        ("$defs.RegistryModel.properties.mirrors.items.anyOf", [{"type": "string"}, {"$ref": "#/$defs/MirrorModel"}]),
        ("$defs.HealthModel.properties.enabled.default", False),
        ("$defs.HealthModel.properties.unhealthy_after.maximum", 100),
    ],
)
def test_the_schema_says_what_is_meant(path: str, expected: object) -> None:
    """What an editor offers is what load takes."""
    value: Any = json_schema()
    for step in path.split("."):
        value = value[step]
    assert value == expected


def test_schema_text_is_json() -> None:
    """It parses, and ends with a line break."""
    assert json.loads(schema_text()) == json_schema()
    assert schema_text().endswith("}\n")


EXAMPLE = re.compile(r"^#(?=[^ #\n]|  +)")


@cache
def lines() -> tuple[str, ...]:
    return tuple(PACKAGED.read_text("utf-8").split("\n"))


def is_example(line: str) -> bool:
    """A line that becomes YAML when its "#" goes: prose has one blank after it."""
    return bool(EXAMPLE.match(line)) and not line.startswith("#!")


def examples() -> list[str]:
    """Every block of examples, made whole: below `registries:` or `docker:` with that line in front."""
    blocks: list[str] = []
    section = ""
    block: list[str] = []
    for line in (*lines(), ""):
        if is_example(line):
            text = line[1:]
            if not block and text.startswith(" "):
                block.append(section)
            elif not text.startswith(" "):
                section = text
            block.append(text)
        elif block:
            if block != [section] or not section.endswith(":"):
                blocks.append("\n".join(block))
            block = []
    return blocks


def test_as_shipped_it_does_nothing() -> None:
    """No registry, no setting, every default: installing the package changes nothing."""
    state = load(PACKAGED.read_bytes())
    assert (state.registries, state.containerd, state.docker) == ((), ContainerdSettings(), DockerSettings())
    assert [line for line in lines() if line and not line.startswith("#")] == ["version: 1"]


@pytest.mark.parametrize("example", examples())
def test_every_example_is_valid(example: str) -> None:
    """Each block alone, its "#" taken away."""
    assert said(f"version: 1\n{example}\n") == []


def test_all_examples_together_are_valid() -> None:
    """Somebody who takes every "#" away gets a valid file."""
    everything = "\n".join(line[1:] if is_example(line) else line for line in lines())
    assert said(everything) == []
    assert len(load(everything.encode()).registries) == 14


def test_the_examples_show_every_field() -> None:
    """Each key of the schema is used once at least."""
    shown = "\n".join(line[1:] for line in lines() if is_example(line)) + "\nversion:"
    for model in MODELS:
        for name in model.model_fields:
            assert re.search(rf"[\s{{]{name}:", "\n" + shown), name


def test_the_file_speaks_two_languages_and_short_lines() -> None:
    """Each paragraph is there in English and in Chinese, and fits a screen."""
    prose = [line for line in lines() if line.startswith("# ") and not is_example(line)]
    chinese = [line for line in prose if re.search("[\u4e00-\u9fff]", line)]
    assert 0.4 < len(chinese) / len(prose) < 0.6
    assert max(map(len, lines())) <= 120
