"""The manual pages, in both languages: what they list is what the program has, and their examples work."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agent import cli
from agent.cli import session
from agent.cli.arguments import parse
from agent.daemon import EXIT_STALE_NAMESPACE
from agent.desired.daemon_keys import DAEMON_KEYS
from agent.desired.json_schema import json_schema
from agent.desired.models import DesiredModel
from agent.events import Event, Kind, Level
from agent.journal import fields
from agent.runtimes._docker_reload import INSECURE, MIRRORS, takes_reload
from agent.settings import Settings, variable
from tests.catalogs import entries
from tests.command_line import all_options, commands, takes_value
from tests.manual import MAN, bold_words, examples, lists, skeleton, words_of
from tests.states import MODELS, said

PROGRAM = {"mirror-agent.8": "mirror-agent.catalog", "zh_CN/mirror-agent.8": "mirror-agent.zh_CN.catalog"}
FILE = ("mirror-agent.yaml.5", "zh_CN/mirror-agent.yaml.5")
KEYS = [(page, model, name) for page in FILE for model in MODELS for name in model.model_fields]


@pytest.mark.parametrize("page", PROGRAM)
def test_every_command_with_its_argument(page: str) -> None:
    """In the order of the help, each as it is typed."""
    expected = [" ".join([name, *words.positionals]) for name, words in commands().items()]
    assert list(lists(page)["commands"]) == expected


@pytest.mark.parametrize("page", PROGRAM)
def test_every_option_with_its_value(page: str) -> None:
    """All that the parser takes, those too that --help is silent about; `--color WHEN` where a value follows."""
    tags = [tag.split(", ")[-1].split(" ") for tag in lists(page)["options"]]
    named = {name: bool(value) for name, *value in tags}
    assert named == {name: takes_value(each) for name, each in all_options().items()}
    assert len(tags) == len(named)


@pytest.mark.parametrize("page", PROGRAM)
def test_every_word_that_an_option_takes(page: str) -> None:
    """`--log-level` names its levels, `--color` its words; directories and files have their defaults."""
    options = {tag.split(", ")[-1].split(" ")[0]: text for tag, text in lists(page)["options"].items()}
    for name, each in all_options().items():
        assert [word for word in each.choices or () if word not in options[name]] == []
    for name in ("config", "state_dir", "run_dir", "probe_dir"):
        assert getattr(Settings(), name) in options["--" + name.replace("_", "-")]


@pytest.mark.parametrize("page", PROGRAM)
def test_every_variable_and_exit_code(page: str) -> None:
    """The variables of agent.settings, the codes of the command line and of `run`."""
    assert sorted(lists(page)["variables"]) == sorted(map(variable, Settings.__dataclass_fields__))
    codes = {session.FINE, session.FAILED, session.USAGE, session.NOT_LIVE, session.BUG}
    codes |= {EXIT_STALE_NAMESPACE, cli.INTERRUPTED, cli.PIPE_CLOSED}
    assert list(lists(page)["exit codes"]) == [str(code) for code in sorted(codes)]


@pytest.mark.parametrize("page", PROGRAM)
def test_every_field_of_the_journal(page: str) -> None:
    """Those that are ours, in the order in which events have them."""
    sent = [name for name, _ in fields(Event(Kind.WROTE, "m", Level.INFO, *["x"] * 7))]
    assert list(lists(page)["fields"]) == [name for name in sent if name.startswith("MIRROR_AGENT_")]


@pytest.mark.parametrize(("page", "catalog"), PROGRAM.items())
def test_every_kind_of_event(page: str, catalog: str) -> None:
    """Each MESSAGE_ID with the subject that `journalctl -x` shows for it."""
    subjects = {identifier: headers["Subject"] for identifier, (headers, _) in entries(catalog).items()}
    assert lists(page)["messages"] == subjects


@pytest.mark.parametrize("page", PROGRAM)
def test_every_example_is_a_command_that_is_taken(page: str) -> None:
    """Each call of mirror-agent in the examples passes the parser."""
    lines = [line for example in examples(page) for line in example.splitlines()]
    calls = [line.removeprefix("# mirror-agent ") for line in lines if line.startswith("# mirror-agent ")]
    assert len(calls) >= len(commands()) - 2
    for call in calls:
        words = shlex.split(call)
        end = next((place for place, word in enumerate(words) if word in {"|", ">", "&&"}), len(words))
        parse(words[:end])


@pytest.mark.parametrize("page", PROGRAM)
def test_every_key_that_a_reload_loads(page: str) -> None:
    """Those of daemon.json for which the plan asks for a reload and not for a restart."""
    keys = {key for key in (MIRRORS, INSECURE, *DAEMON_KEYS) if takes_reload(key, None, '{"x":true}')}
    assert set(words_of(page, "reloadable")) == {*keys, "daemon.json"}


@pytest.mark.parametrize("page", FILE)
def test_every_key_of_the_desired_state(page: str) -> None:
    """One list for each model, one entry for each of its keys, in the same order."""
    expected = {model.__name__: list(model.model_fields) for model in MODELS}
    assert {name: list(each) for name, each in lists(page).items()} == expected


def schema_of(model: type[BaseModel], name: str) -> dict[str, Any]:
    """What the JSON Schema says of one key."""
    schema = json_schema()
    found = (schema if model is DesiredModel else schema["$defs"][model.__name__])["properties"][name]
    assert isinstance(found, dict)
    return found


def in_words(value: object) -> str:
    """A value as the pages write it."""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(("page", "model", "name"), KEYS)
def test_every_word_that_a_key_takes_stands_out(page: str, model: type[BaseModel], name: str) -> None:
    """Those of the JSON Schema, in bold, in the entry of the key."""
    field = schema_of(model, name)
    words = [*field.get("enum", ()), *field.get("items", {}).get("enum", ())]
    words += [field["const"]] if "const" in field else []
    assert {in_words(word) for word in words} - bold_words(page, model.__name__, name) == set()


@pytest.mark.parametrize(("page", "model", "name"), KEYS)
def test_the_default_of_a_key(page: str, model: type[BaseModel], name: str) -> None:
    """An entry ends with the default of the JSON Schema, in the same words."""
    default = schema_of(model, name).get("default") or model.model_fields[name].get_default(call_default_factory=True)
    if not isinstance(default, str | list | bool) or default in ("", []):
        return
    written = re.search(r"(?:Default: |默认： ?)(.*?)[.。]$", lists(page)[model.__name__][name])
    assert written is not None
    assert written[1] == in_words(default)


@pytest.mark.parametrize("page", FILE)
def test_a_key_that_must_be_there_says_so(page: str) -> None:
    """`Required.` in the entries of those that have no default, and in no other."""
    word = "必填" if page.startswith("zh") else "Required"
    required = {(each.__name__, name) for each in MODELS for name, f in each.model_fields.items() if f.is_required()}
    said_so = {(section, key) for section, keys in lists(page).items() for key, text in keys.items() if word in text}
    assert said_so == required


@pytest.mark.parametrize("page", FILE)
def test_every_example_is_a_valid_desired_state(page: str) -> None:
    """Copied as it stands, each passes `check`."""
    found = examples(page)
    assert len(found) >= 8
    assert {text: said(text) for text in found} == {text: [] for text in found}


@pytest.mark.parametrize("page", ["mirror-agent.8", "mirror-agent.yaml.5"])
def test_the_translation_has_every_section_entry_and_example(page: str) -> None:
    """The Chinese page is built as the English one, and its examples are the same letter by letter."""
    assert skeleton(f"zh_CN/{page}") == skeleton(page)
    assert examples(f"zh_CN/{page}") == examples(page)


@pytest.mark.parametrize("page", [*PROGRAM, *FILE])
def test_the_formatters_have_nothing_to_say(page: str) -> None:
    """mandoc finds nothing to warn of, nor does groff; in Chinese its 80 bytes a line are no measure."""
    quiet = ["mandoc", "-Tlint", f"-W{'warning' if page.startswith('zh') else 'style'}", str(MAN / page)]
    groff = ["groff", "-man", "-Tutf8", "-Kutf8", "-wmac", str(MAN / page)]
    tools = [command for command in (quiet, groff) if shutil.which(command[0])]
    if not tools:
        pytest.skip("neither mandoc nor groff is installed")
    for command in tools:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        shown = done.stdout if command[0] == "mandoc" else ""
        assert (done.returncode, shown, done.stderr) == (0, "", "")


def test_the_unit_names_both_pages() -> None:
    """`systemctl help mirror-agent` opens them."""
    unit = (Path(__file__).resolve().parents[2] / "systemd/mirror-agent.service").read_text("utf-8")
    assert "\nDocumentation=man:mirror-agent(8) man:mirror-agent.yaml(5)\n" in unit
