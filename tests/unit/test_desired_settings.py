"""docker.settings: exact JSON, and nothing on which Docker would not start or which it ignores."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.desired import load
from agent.desired.daemon_keys import DAEMON_KEYS, JsonType
from agent.model import Setting
from tests.states import said


def settings(text: str) -> tuple[Setting, ...]:
    return load(f"version: 1\ndocker: {{settings: {text}}}".encode()).docker.settings


def wrong(text: str) -> list[str]:
    """The problems without their place."""
    return [problem.partition(": ")[2] for problem in said(f"version: 1\ndocker: {{settings: {text}}}")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("json-file", '"json-file"'),
        ("true", "true"),
        ("on", '"on"'),
        ("3", "3"),
        ("-1", "-1"),
        ("9223372036854775807", "9223372036854775807"),
        ("1.5", "1.5"),
        ("0.1", "0.1"),
        ("1.10", "1.1"),
        ("1e3", "1000.0"),
        ('"3"', '"3"'),
        ("日志", '"日志"'),
        ('"a\\"b\\\\c"', '"a\\"b\\\\c"'),
        ("[]", "[]"),
        ("{}", "{}"),
        ("[1, a, [true], {b: c}]", '[1,"a",[true],{"b":"c"}]'),
        ("{z: 1, a: {y: 2, b: 3}}", '{"z":1,"a":{"y":2,"b":3}}'),
        ("22:22", '"22:22"'),
        ("2026-11-24", '"2026-11-24"'),
    ],
)
def test_values_become_compact_json(value: str, text: str) -> None:
    """Every JSON type but null, in the order of the text, without escapes that JSON does not need."""
    assert settings(f"{{x-any: {value}}}") == (Setting("x-any", text),)


def test_the_order_of_the_text_is_kept() -> None:
    """Keys come as they were written."""
    assert [item.key for item in settings("{z: 1, a: 2, m: 3}")] == ["z", "a", "m"]


ODD = "is a number that is read differently by different programs"
INEXACT = "is a number that JSON cannot keep exactly: write it in quotes, or shorter"
START = "; with another type Docker does not start"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a: }", "docker.settings.a: is empty: to give a key up, remove it"),
        ("{a: ~}", "docker.settings.a: is empty: to give a key up, remove it"),
        ("{a: [~]}", "docker.settings.a[0]: is empty: to give a key up, remove it"),
        ("{a: {b: null}}", "docker.settings.a.b: is empty: to give a key up, remove it"),
        ("{a: .nan}", f"docker.settings.a: {INEXACT}"),
        ("{a: -.inf}", f"docker.settings.a: {INEXACT}"),
        ("{a: 1e999}", f"docker.settings.a: {INEXACT}"),
        ("{a: 1.00000000000000000001}", f"docker.settings.a: {INEXACT}"),
        ("{a: 0.1e-400}", f"docker.settings.a: {INEXACT}"),
        ("{a: 0644}", f'docker.settings.a: {ODD}: write 644, or "0644" if text is meant'),
        ("{a: 0o644}", f'docker.settings.a: {ODD}: write 420, or "0o644" if text is meant'),
        ("{a: 0x1F}", f'docker.settings.a: {ODD}: write 31, or "0x1F" if text is meant'),
        ("{a: +1}", f'docker.settings.a: {ODD}: write 1, or "+1" if text is meant'),
        (
            "{a: 9223372036854775808}",
            "docker.settings.a: is a number that is too large: write it in quotes if text is meant",
        ),
        (
            "{registry-mirrors: []}",
            "docker.settings.registry-mirrors: is made from registries.docker.io.mirrors: name them there",
        ),
        (
            "{insecure-registries: []}",
            "docker.settings.insecure-registries: is made from the registries with insecure: true: "
            "name them under registries",
        ),
        (
            "{Registry-Mirrors: []}",
            "docker.settings.Registry-Mirrors: is made from registries.docker.io.mirrors: name them there",
        ),
        (
            "{registry-mirror: x}",
            "docker.settings.registry-mirror: is a flag, which Docker ignores in daemon.json: "
            "name registries.docker.io.mirrors",
        ),
        (
            "{insecure-registry: x}",
            "docker.settings.insecure-registry: is a flag, which Docker ignores in daemon.json: "
            "write registries.NAME.insecure: true",
        ),
        ("{host: x}", 'docker.settings.host: is a flag, which Docker ignores in daemon.json: the key is "hosts"'),
        ("{help: true}", "docker.settings.help: is a flag, which Docker ignores in daemon.json: remove it"),
        ("{version: true}", "docker.settings.version: is a flag, which Docker ignores in daemon.json: remove it"),
        (
            "{log-opts: {max-file: 3}}",
            f"docker.settings.log-opts.max-file: must be a string, and 3 is a number: write it in quotes{START}",
        ),
        ("{debug: on}", f"docker.settings.debug: must be true or false; on is a string in YAML 1.2: write true{START}"),
        ('{debug: "true"}', f"docker.settings.debug: must be true or false, without quotes{START}"),
        ("{mtu: 1500.0}", f"docker.settings.mtu: must be a whole number, not a decimal number{START}"),
        ('{mtu: "1500"}', f"docker.settings.mtu: must be a whole number, not a string{START}"),
        ("{dns: 1.1.1.1}", f"docker.settings.dns: must be a list: write [1.1.1.1]{START}"),
        ("{dns: [1]}", f"docker.settings.dns[0]: must be a string, and 1 is a number: write it in quotes{START}"),
        ("{features: {buildkit: yes}}", None),
        ("{runtimes: []}", f"docker.settings.runtimes: must be a mapping (key: value), not a list{START}"),
        ("{log-driver: [a]}", f"docker.settings.log-driver: must be a string, not a list{START}"),
        ("{default-shm-size: true}", None),
    ],
)
def test_what_docker_would_not_take(text: str, expected: str | None) -> None:
    """One problem each, at the very value."""
    problems = wrong(text)
    assert len(problems) == 1
    assert expected is None or problems == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "{default-shm-size: 64M}",
        "{default-shm-size: 67108864}",
        "{features: {containerd-snapshotter: true}}",
        "{default-address-pools: [{base: 10.0.0.0/8, size: 24}]}",
        "{builder: {gc: {enabled: true}}, runtimes: {x: {path: /x}}}",
        "{live-restore: true, log-level: warn, exec-opts: [native.cgroupdriver=systemd], max-concurrent-downloads: 3}",
        "{proxies: {http-proxy: http://p.lan:3128}}",
        "{some-key-of-docker-30: 1}",
    ],
)
def test_what_docker_takes(text: str) -> None:
    """The right types pass, and so does a key that a later Docker may bring."""
    assert wrong(text) == []


@pytest.mark.parametrize("value", ["0123456789", "1.00000000000000000001", "[0x123456789]", "123456789"])
def test_a_secret_number_is_not_repeated(value: str) -> None:
    """A token that is a number by mistake is not in the message."""
    (problem,) = wrong(f"{{log-opts: {{splunk-token: {value}}}}}")[:1]
    assert "123456789" not in problem
    assert "quotes" in problem or "must be a string" in problem


_EXAMPLES = {
    JsonType.STRING: "a",
    JsonType.BOOLEAN: "true",
    JsonType.INTEGER: "1",
    JsonType.LIST: "[]",
    JsonType.MAPPING: "{}",
    JsonType.STRINGS: "[a]",
    JsonType.STRING_MAP: "{a: b}",
    JsonType.BOOLEAN_MAP: "{a: true}",
    JsonType.SIZE: "64M",
}


@pytest.mark.parametrize("key", sorted(DAEMON_KEYS))
def test_every_known_key_takes_its_own_type_only(key: str) -> None:
    """An example of its own type passes; those of all others are refused."""
    own = DAEMON_KEYS[key]
    passing = {kind for kind, example in _EXAMPLES.items() if wrong(f"{{{key}: {example}}}") == []}
    compatible = {
        JsonType.STRING: {JsonType.STRING, JsonType.SIZE},
        JsonType.SIZE: {JsonType.STRING, JsonType.SIZE, JsonType.INTEGER},
        JsonType.LIST: {JsonType.LIST, JsonType.STRINGS},
        JsonType.STRINGS: {JsonType.LIST, JsonType.STRINGS},
        JsonType.MAPPING: {JsonType.MAPPING, JsonType.STRING_MAP, JsonType.BOOLEAN_MAP},
        JsonType.STRING_MAP: {JsonType.MAPPING, JsonType.STRING_MAP},
        JsonType.BOOLEAN_MAP: {JsonType.MAPPING, JsonType.BOOLEAN_MAP},
    }
    assert passing == compatible.get(own, {own})


JSON = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.decimals(-1000, 1000, places=3).map(float)
    | st.text(st.characters(categories=("L", "N", "P", "S")), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
def test_json_comes_out_as_it_went_in(value: object) -> None:
    """Every JSON value, written as YAML (of which JSON is a part), is the same value afterwards."""
    written = json.dumps(value, ensure_ascii=False)
    (item,) = settings(f'{{"x-any": {written}}}')
    assert json.loads(item.json, parse_float=Decimal) == json.loads(written, parse_float=Decimal)
