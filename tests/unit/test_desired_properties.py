"""Laws of reading: the spelling does not matter, only what is said; and what is added changes only what it names."""

import json
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.desired import lint, load
from agent.model import DesiredState
from tests.states import said

LABEL = st.from_regex("[a-z]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
HOST = st.builds("{}.{}.example".format, LABEL, LABEL)
PORT = st.integers(1, 65535).filter(lambda port: port not in {80, 443})
AUTHORITY = HOST | st.builds("{}:{}".format, HOST, PORT)
PATH = st.just("") | st.builds("/v2/{}".format, LABEL)
FILE = st.builds("/etc/{}/{}.pem".format, LABEL, LABEL)
URL = st.builds("https://{}{}".format, AUTHORITY, PATH)
CAPABILITIES = st.lists(st.sampled_from(["pull", "resolve", "push"]), min_size=1, unique=True)
HEADERS = st.dictionaries(st.builds("X-{}".format, LABEL), st.lists(LABEL, min_size=1, max_size=2), max_size=2)
TABLE = st.fixed_dictionaries(
    {"url": URL},
    optional={
        "capabilities": CAPABILITIES,
        "ca": FILE | st.lists(FILE, max_size=2),
        "client": st.lists(st.fixed_dictionaries({"cert": FILE}, optional={"key": FILE}), max_size=2),
        "skip_verify": st.booleans(),
        "header": HEADERS,
        "dial_timeout": st.sampled_from(["3s", "500ms", "1m30s"]),
    },
)


def address(mirror: str | dict[str, Any]) -> str:
    return mirror if isinstance(mirror, str) else mirror["url"]


REGISTRY = st.fixed_dictionaries(
    {"mirrors": st.lists(URL | TABLE, max_size=3, unique_by=address)},
    optional={"insecure": st.booleans(), "server": st.builds("https://{}".format, AUTHORITY)},
)
DOCUMENT = st.fixed_dictionaries(
    {"version": st.just(1), "registries": st.dictionaries(AUTHORITY, REGISTRY, max_size=4)},
    optional={
        "presets": st.sampled_from([[], ["daocloud"]]),
        "containerd": st.fixed_dictionaries(
            {},
            optional={"manage": st.sampled_from(["auto", True, False]), "restart": st.sampled_from(["allow", "never"])},
        ),
        "docker": st.fixed_dictionaries(
            {},
            optional={
                "settings": st.fixed_dictionaries({}, optional={"debug": st.booleans(), "labels": st.lists(LABEL)}),
                "on_change": st.sampled_from(["auto", "reload", "restart"]),
            },
        ),
    },
)


def said_by(state: DesiredState) -> tuple[object, ...]:
    """Everything but which bytes said it."""
    return state.registries, state.containerd, state.docker


@settings(max_examples=100, deadline=None)
@given(DOCUMENT, st.booleans())
def test_the_spelling_does_not_matter(document: dict[str, Any], flow: bool) -> None:
    """The same desired state as JSON and as YAML in block and flow style is the same state."""
    as_json = load(json.dumps(document).encode())
    as_yaml = load(yaml.safe_dump(document, sort_keys=False, default_flow_style=flow, allow_unicode=True).encode())
    assert said_by(as_yaml) == said_by(as_json)


@settings(max_examples=60, deadline=None)
@given(DOCUMENT)
def test_order_and_comments_do_not_matter(document: dict[str, Any]) -> None:
    """Sections in another order, comments and blank lines between: the registries keep their order and their words."""
    plain = yaml.safe_dump(document, sort_keys=False)
    turned = yaml.safe_dump(dict(reversed(document.items())), sort_keys=False)
    spaced = turned.replace("\n", " # 注释\n\n")
    assert said_by(load(spaced.encode())) == said_by(load(plain.encode()))


@settings(max_examples=60, deadline=None)
@given(DOCUMENT)
def test_what_is_loaded_can_be_written_and_loaded_again(document: dict[str, Any]) -> None:
    """The canonical names and URLs of a state, written down, say the same state."""
    state = load(yaml.safe_dump(document).encode())
    own = [registry for registry in state.registries if not registry.preset]
    again = {
        "version": 1,
        "presets": document.get("presets", []),
        "registries": {
            registry.name: {
                "server": registry.server,
                "insecure": registry.insecure,
                "mirrors": [
                    {
                        "url": mirror.url,
                        "capabilities": list(mirror.capabilities),
                        "ca": list(mirror.ca),
                        "client": [
                            {"cert": pair.cert, **({"key": pair.key} if pair.key else {})} for pair in mirror.client
                        ],
                        "skip_verify": mirror.skip_verify,
                        "header": {header.name: list(header.values) for header in mirror.headers},
                        "dial_timeout": mirror.dial_timeout,
                    }
                    for mirror in registry.mirrors
                ],
            }
            for registry in own
        },
    }
    assert load(yaml.safe_dump(again, sort_keys=False).encode()).registries == state.registries


@settings(max_examples=60, deadline=None)
@given(DOCUMENT, HOST, URL)
def test_one_more_registry_changes_nothing_else(document: dict[str, Any], name: str, url: str) -> None:
    """A registry added at the end is the only difference."""
    before = load(yaml.safe_dump(document, sort_keys=False).encode())
    added = {**document, "registries": {**document["registries"], name: {"mirrors": [url]}}}
    after = load(yaml.safe_dump(added, sort_keys=False).encode())
    assert [entry for entry in after.registries if entry.name != name] == [
        entry for entry in before.registries if entry.name != name
    ]
    assert (after.containerd, after.docker) == (before.containerd, before.docker)


@settings(max_examples=60, deadline=None)
@given(DOCUMENT)
def test_warnings_never_fail(document: dict[str, Any]) -> None:
    """Every valid state can be linted, and its warnings stand in the order of the text."""
    warnings = lint(yaml.safe_dump(document, sort_keys=False).encode())
    assert list(warnings) == sorted(warnings, key=lambda warning: (warning.line, warning.column))


@settings(max_examples=60, deadline=None)
@given(
    DOCUMENT, st.sampled_from(["registries", "containerd", "docker", "presets"]), st.sampled_from([None, 1, "x", True])
)
def test_a_wrong_section_is_found_whatever_stands_around_it(document: dict[str, Any], key: str, value: object) -> None:
    """The one problem names the section, and nothing of the rest."""
    (problem,) = said(yaml.safe_dump({**document, key: value}, sort_keys=False))
    assert f": {key}: " in problem
