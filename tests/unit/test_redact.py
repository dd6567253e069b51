"""Secrets in text: found by their place, hidden with everything that belongs to them, in any layout."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.redact import is_secret, redact

CANARY = "c4n4ry"


@pytest.mark.parametrize(
    "text",
    [
        '[host."https://m.example"]\ncapabilities = ["pull"]\n[host."https://m.example".header]\nX-Key = ["c4n4ry"]\n',
        "[host.'https://m.example'.header]\n  Authorization = [\n    'Basic c4n4ry',\n    # c4n4ry\n  ]\n",
        '[host."https://m.example"]\n  header = {X-Key = ["c4n4ry"]}\n  skip_verify = true\n',
        'header."X-Key" = "c4n4ry"\n',
        '[plugins."io.containerd.grpc.v1.cri".registry.configs."r.example".auth]\npassword = "c4n4ry"\n',
        'server = "https://user:c4n4ry@r.example"\n',
        'configs = { "r.example" = { tls = {}, auth = { username = "u", password = "c4n4ry" } } }\n',
    ],
)
def test_no_secret_of_a_toml_file_is_shown(text: str) -> None:
    """Header tables in each spelling, credentials by name, passwords in URLs; the lines stay as many."""
    shown = redact("/etc/containerd/certs.d/x/hosts.toml", text)
    assert CANARY not in shown
    assert len(shown.splitlines()) == len(text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        '{"api-token": "c4n4ry"}',
        '{"a": {"registry-password" :\n"c4n4ry"}}',
        '{"auths": {"r.example": {"x": ["c4n4ry", {"c4n4ry": 1}]}}, "debug": true}',
        '{"secret": ["a", "c4n\\u0034ry", "c4n4ry"]',
        '{"proxies": {"http-proxy": "http://u:c4n4ry@p.example:3128"}}',
        '{"password": c4n4ry',
    ],
)
def test_no_secret_of_a_json_file_is_shown(text: str) -> None:
    """By the key's name, at any depth, also in a file that is no JSON."""
    shown = redact("/etc/docker/daemon.json", text)
    assert CANARY not in shown
    assert "0034" not in shown
    assert len(shown.splitlines()) == len(text.splitlines())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "/a/hosts.toml",
            '# by mirror-agent\nserver = "https://r.example"\n\n[host."https://token.example"]\n  ca = "/x"\n',
        ),
        ("/a/daemon.json", '{ "log-opts":{"max-size" : "500m"},\n\t"authorization-plugins": ["a"], "n": 1.50 }\n'),
        ("/a/hosts.toml", '[host."https://a".header]\n[host."https://b"]\ndial_timeout = "3s"\n'),
    ],
)
def test_what_is_no_secret_is_shown_as_it_stands(path: str, text: str) -> None:
    """Comments, layout and values without a secret name stay byte for byte."""
    assert redact(path, text) == text


def test_the_values_of_a_hidden_key_are_replaced_in_place() -> None:
    """What surrounds a secret stays readable."""
    assert redact("/a.json", '{"a": 1, "token": ["x", 2], "b": "y"}') == ('{"a": 1, "token": ["***", "***"], "b": "y"}')


@given(
    st.recursive(
        st.text(max_size=8) | st.integers() | st.booleans() | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=12,
    ),
    st.sampled_from([None, 1]),
)
def test_valid_json_stays_valid_json(value: object, indent: int | None) -> None:
    """Whatever the document, the redacted text still parses, and equals it where no key names a secret."""
    shown = json.loads(redact("/a.json", json.dumps(value, indent=indent)))
    if "@" not in json.dumps(value) and not any(map(is_secret, _keys(value))):
        assert shown == value


@given(st.text(), st.sampled_from(["/a.json", "/a.toml", "/a"]))
def test_no_text_makes_it_fail(text: str, path: str) -> None:
    """Anything at all can be shown, in as many lines as it has."""
    assert redact(path, text).count("\n") == text.count("\n")


def _keys(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for inner in value.values() for key in _keys(inner))]
    return [key for inner in value for key in _keys(inner)] if isinstance(value, list) else []
