"""Mutants of valid desired states: each is either valid or refused with places and words; never anything else.

The mutants differ from a valid text in bytes, tokens, types or structure, one to four times. They are made from a
seed, so that a failure can be repeated; the failing text is in the assertion.
"""

import random
import re
import time
from collections.abc import Callable, Iterator

import pytest

from agent.desired import format_problems, lint, load
from agent.desired.names import canonical_registry
from agent.desired.urls import canonical_url
from agent.errors import DesiredStateError, Problem
from agent.model import DesiredState
from tests.states import DESIGN

SECRET = "q7mRZ+4Yt9/Kx0s3cr3tLw=="
FRAGMENTS = tuple(SECRET[start : start + 16] for start in range(len(SECRET) - 15))
STATES = (
    f"""\
version: 1
registries:
  docker.io:
    mirrors:
    - https://a.example
    - url: https://harbor.example:8443/v2/hub
      override_path: true
      header: {{Authorization: Bearer {SECRET}}}
""",
    f"""\
version: 1
registries:
  中文.example:
    fallback: false
    mirrors:
      - url: http://10.0.0.1:5000
        capabilities: [pull]
        header:
          X-Token:
            - "{SECRET}"
""",
    f"""\
version: 1
docker:
  settings: {{debug: true, log-opts: {{splunk-token: "{SECRET}"}}, mtu: 1500}}
  restart_window: 22:00-04:00
""",
    """\
version: 1
presets: [daocloud]
containerd: {manage: false}
registries:
  "[::1]:5000": {insecure: true, mirrors: []}
  a.example: {server: https://b.example, mirrors: [{url: https://c.example, header_file: {X-B: /etc/b}}]}
""",
    '{"version": 1, "presets": [], "registries": {"a.b:1": {"plain_http": true}}, "health": {"enabled": false}}\n',
    DESIGN,
)
WEIGHTS = (4, 4, 4, 4, 3, 1)
WORDS = [
    *("null", "~", "true", "no", "1", "0644", "0x1F", "1.10", ".inf", ".nan", "22:22", "2026-11-24", '"x"', "''", "[]"),
    *(
        "{}",
        "[[]]",
        "{a: b}",
        "&a",
        "*a",
        "!x",
        "!!str",
        "<<",
        "? ",
        "- ",
        ": ",
        ", ",
        "|",
        ">-",
        "---",
        "...",
        "%YAML",
    ),
    *(
        "#",
        "\t",
        "\r\n",
        "\n",
        "\n\n",
        "  ",
        '"',
        "'",
        "\\",
        '"\\ud800"',
        '"\\0"',
        "https://",
        "http://u:p@h",
        "@",
        "?",
    ),
    *(
        "version",
        "registries",
        "mirrors",
        "url",
        "docker",
        "settings",
        "_default",
        "docker.io",
        "..",
        "/",
        "a/b",
        "[::1]",
    ),
    *(
        "header",
        "client",
        "ca",
        "server",
        "manage",
        "x" * 300,
        "9" * 5000,
        "[" * 40,
        "{a: " * 40,
        "ä。",
        "\u202e",
        "\x85",
    ),
    *(
        "\u2028",
        "\ufeff",
        "\x00",
        "\x7f",
        "😀",
        "xn--",
        "%",
        "registry-mirrors",
        "1e999",
        "0o8",
        "999999999999999999999",
    ),
]
TOKEN = re.compile(r"[\w./+-]+|\s+|.", re.DOTALL)
Mutation = Callable[[random.Random, str], str]


def bytes_changed(rng: random.Random, text: str) -> str:
    """A byte is flipped, left out, put in, or a stretch is repeated or cut off; surrogates keep what is no UTF-8."""
    data = bytearray(text.encode("utf-8", "surrogateescape"))
    at = rng.randrange(len(data) + 1)
    match rng.randrange(5):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            del data[at : at + rng.randrange(1, 6)]
        case 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 4)))
        case 3:
            data[at:at] = data[at : at + rng.randrange(1, 60)]
        case _:
            del data[at:]
    return data.decode("utf-8", "surrogateescape")


def tokens_changed(rng: random.Random, text: str) -> str:
    """A token is left out, repeated, replaced by a nasty one, or changes places with another."""
    tokens = TOKEN.findall(text)
    if not tokens:
        return rng.choice(WORDS)
    at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
    match rng.randrange(5):
        case 0:
            del tokens[at]
        case 1:
            tokens[at] *= 2
        case 2:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        case 3:
            tokens.insert(at, rng.choice(WORDS))
        case _:
            tokens[at] = rng.choice(WORDS)
    return "".join(tokens)


def types_changed(rng: random.Random, text: str) -> str:
    """What stands behind a colon or a dash becomes something else."""
    places = list(re.finditer(r"(?:: |- )([^\n,{}\[\]]*)", text))
    if not places:
        return text
    place = rng.choice(places)
    return text[: place.start(1)] + rng.choice(WORDS) + text[place.end(1) :]


def structure_changed(rng: random.Random, text: str) -> str:
    """Lines are moved, repeated, indented otherwise, left out, or brought in from another state."""
    lines = text.split("\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            lines[at] = " " * rng.randrange(8) + lines[at].lstrip()
        case 1:
            lines[at], lines[other] = lines[other], lines[at]
        case 2:
            lines[at:at] = lines[other : other + rng.randrange(1, 5)]
        case 3:
            del lines[at : at + rng.randrange(1, 4)]
        case _:
            foreign = rng.choice(STATES).split("\n")
            start = rng.randrange(len(foreign))
            lines[at:at] = foreign[start : start + rng.randrange(1, 6)]
    return "\n".join(lines)


MUTATIONS: tuple[Mutation, ...] = (bytes_changed, tokens_changed, types_changed, structure_changed)


def mutants(seed: int, count: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(count):
        text = rng.choices(STATES, WEIGHTS)[0]
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
            text = rng.choice(MUTATIONS)(rng, text)
        yield text.encode("utf-8", "surrogateescape")


def check(data: bytes) -> bool:
    """Whether the mutant is valid; fails if it is anything but valid or refused."""
    outcome = outcome_of(data)
    if isinstance(outcome, DesiredState):
        check_state(data, outcome)
        return True
    check_problems(data, outcome.problems)
    assert not leaked(str(outcome))
    return False


def outcome_of(data: bytes) -> DesiredState | DesiredStateError:
    """One of the two; every other exception goes on."""
    try:
        return load(data)
    except DesiredStateError as error:
        return error


def check_state(data: bytes, state: DesiredState) -> None:
    """What is valid is canonical and has warnings at most."""
    names = [registry.name for registry in state.registries]
    assert len(set(names)) == len(names)
    for registry in state.registries:
        assert canonical_registry(registry.name) == registry.name
        for mirror in registry.mirrors:
            assert canonical_url(mirror.url) == mirror.url
    warnings = lint(data)
    if warnings:
        check_problems(data, warnings)
        assert not leaked(format_problems("x", data, warnings))


def check_problems(data: bytes, problems: tuple[Problem, ...]) -> None:
    """There is one at least, in the order of the text, inside the text, in one line of words, without a secret."""
    assert problems
    assert list(problems) == sorted(problems, key=lambda problem: (problem.line, problem.column))
    lines = re.split("\r\n|\r|\n", data.decode("utf-8", "replace").removeprefix("\ufeff"))
    for problem in problems:
        assert 1 <= problem.line <= len(lines), problem
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1, problem
        assert problem.width >= 1
        assert problem.message
        assert (problem.key_path + problem.message).isprintable(), problem
        assert len(problem.message) < 1000
        assert not leaked(problem.key_path + problem.message)


def leaked(text: str) -> bool:
    return any(fragment in text for fragment in FRAGMENTS)


def run(seed: int, count: int, shown_every: int) -> tuple[int, float]:
    """How many of the mutants were valid, and how many were looked at in a second."""
    started = time.perf_counter()
    valid = 0
    for number, data in enumerate(mutants(seed, count)):
        try:
            valid += check(data)
            if number % shown_every == 0:
                shown_safely(data)
        except Exception as error:
            raise AssertionError(f"mutant {number} of seed {seed}: {data!r}") from error
    return valid, count / (time.perf_counter() - started)


def shown_safely(data: bytes) -> None:
    """The text that people see holds no secret either."""
    outcome = outcome_of(data)
    if isinstance(outcome, DesiredStateError):
        assert not leaked(format_problems("x", data, outcome.problems))


def test_two_thousand_mutants() -> None:
    """A fresh look at each change of the code: both outcomes occur, and nothing else."""
    valid, _ = run(seed=1, count=2_000, shown_every=1)
    assert 100 < valid < 1_900


@pytest.mark.slow
def test_a_hundred_thousand_mutants(record_property: Callable[[str, object], None]) -> None:
    """The whole field, in one process and under a minute."""
    valid, rate = run(seed=20261124, count=100_000, shown_every=10)
    record_property("mutants a second", round(rate))
    record_property("valid", valid)
    assert 5_000 < valid < 95_000
