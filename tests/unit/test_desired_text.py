"""What a person sees: every problem at once, in place, with the nearest word, and never a secret (A13, H6)."""

import pytest

from agent.desired import format_problems
from agent.desired.models import (
    ClientModel,
    ContainerdModel,
    DesiredModel,
    DockerModel,
    HealthModel,
    MirrorModel,
    RegistryModel,
    Section,
)
from agent.errors import Problem
from tests.states import mirror, problems_of, said

SHOWN = """\
/etc/mirror-agent.yaml:4:5: registries.docker.io.mirror: unknown key, did you mean "mirrors"?
    4 |     mirror: [https://docker.m.daocloud.io]
      |     ^^^^^^
/etc/mirror-agent.yaml:7:15: registries.ghcr.io.mirrors[0]: "ghcr.m.daocloud.io" has no scheme, \
write "https://ghcr.m.daocloud.io"
    7 |     mirrors: [ghcr.m.daocloud.io]
      |               ^^^^^^^^^^^^^^^^^^"""


def shown(text: str, path: str = "x.yaml") -> list[str]:
    return format_problems(path, text.encode(), problems_of(text)).split("\n")


def test_the_example_of_the_design() -> None:
    """DESIGN 2.5 to the letter; the line is shown for each problem."""
    text = """\
version: 1
registries:
  docker.io:
    mirror: [https://docker.m.daocloud.io]

  ghcr.io:
    mirrors: [ghcr.m.daocloud.io]
"""
    assert format_problems("/etc/mirror-agent.yaml", text.encode(), problems_of(text)) == SHOWN


def test_all_problems_at_once_in_the_order_of_the_text() -> None:
    """Tags, repetitions, types, unknown keys, bad names, bad URLs, broken rules and bad settings all show."""
    text = """\
presets: [daocluod, daocloud, daocloud]
registries:
  Docker.io: {plain_http: true}
  docker.io:
    mirrors: [!x https://a.example, b.example, https://c.example, "https://c.example:443"]
    fallback: maybe
  h/p: {mirors: [], mirrors: *x}
  quay.io: {fallback: false}
  quay.io: {}
docker: {settings: {host: x, mtu: a}, on_chnage: auto}
version: "1"
nonsense: 1
"""
    assert said(text) == [
        '1:11: presets[0]: "daocluod" is no preset, did you mean "daocloud"?',
        "1:31: presets[2]: is there twice: the first is on line 1; keep one",
        "3:15: registries.Docker.io.plain_http: Docker Hub speaks https only: remove it",
        '4:3: registries.docker.io: is the same registry as on line 3 ("docker.io"): keep one',
        "5:15: registries.docker.io.mirrors[0]: tags (!name) are not used here: remove it",
        '5:37: registries.docker.io.mirrors[1]: "b.example" has no scheme, write "https://b.example"',
        "5:67: registries.docker.io.mirrors[3]: is the same mirror as on line 5: keep one",
        "6:15: registries.docker.io.fallback: must be true or false, not a string",
        "7:3: registries.h/p: a registry is named without a path: write host or host:port",
        '7:9: registries.h/p.mirors: unknown key, did you mean "mirrors"?',
        "7:30: registries.h/p.mirrors: aliases (*name) are not used here: write the value out",
        "8:23: registries.quay.io.fallback: leaves nothing to pull from: name mirrors, or remove fallback: false",
        "9:3: registries.quay.io: is there twice, on lines 8 and 9: keep one",
        '10:21: docker.settings.host: is a flag, which Docker ignores in daemon.json: the key is "hosts"',
        "10:35: docker.settings.mtu: must be a whole number, not a string; with another type Docker does not start",
        '10:39: docker.on_chnage: unknown key, did you mean "on_change"?',
        "11:10: version: must be the number 1: remove the quotes",
        "12:1: nonsense: unknown key; known here: version, presets, registries, containerd, docker, health, metrics",
    ]


PLACES: list[tuple[type[Section], str]] = [
    (DesiredModel, "version: 1\n{}: 1\n"),
    (RegistryModel, "version: 1\nregistries: {{a.example: {{{}: 1}}}}\n"),
    (MirrorModel, "version: 1\nregistries: {{a.example: {{mirrors: [{{{}: 1}}]}}}}\n"),
    (
        ClientModel,
        "version: 1\nregistries: {{a.example: {{mirrors: [{{url: https://m.example, client: [{{{}: 1}}]}}]}}}}\n",
    ),
    (ContainerdModel, "version: 1\ncontainerd: {{{}: 1}}\n"),
    (DockerModel, "version: 1\ndocker: {{{}: 1}}\n"),
    (HealthModel, "version: 1\nhealth: {{{}: 1}}\n"),
]


def misspelt(key: str) -> set[str]:
    """The key with one character left out, doubled, swapped, or replaced, and in other conventional spellings."""
    words = {key[:i] + key[i + 1 :] for i in range(len(key))}
    words |= {key[:i] + key[i] + key[i:] for i in range(len(key))}
    words |= {key[:i] + "q" + key[i + 1 :] for i in range(len(key))}
    words |= {key[:i] + key[i + 1] + key[i] + key[i + 2 :] for i in range(len(key) - 1)}
    return words | {key.upper(), key.title(), key.replace("_", "-")}


@pytest.mark.parametrize(
    ("text", "key", "known"),
    [(text, key, set(model.model_fields)) for model, text in PLACES for key in model.model_fields],
    ids=[f"{model.__name__}-{key}" for model, _ in PLACES for key in model.model_fields],
)
def test_every_key_misspelt_by_one_character(text: str, key: str, known: set[str]) -> None:
    """A13: each is an unknown key at its place; a misspelling of four letters or more finds the way back."""
    for word in misspelt(key) - known:
        lines = [line for line in said(text.format(word)) if ": unknown key" in line or "a key must" in line]
        assert len(lines) == (1 if word else 0)
        if len(word) > 3 and word.lower() not in {"servers"}:
            assert f'did you mean "{key}"?' in lines[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\nmirrors: []", "mirrors: unknown key here: it belongs under registries.NAME"),
        ("version: 1\ndocker: {certs_dir: /x}", "docker.certs_dir: unknown key here: it belongs under containerd"),
        (
            "version: 1\nregistries: {a.example: {skip_verify: true}}",
            "registries.a.example.skip_verify: unknown key here: it belongs in a mirror, beside its url",
        ),
        (
            "version: 1\nregistry-mirrors: []",
            "registry-mirrors: unknown key: mirrors are named under registries.docker.io.mirrors",
        ),
        (
            "version: 1\nregistries: {a.example: {endpoint: []}}",
            "registries.a.example.endpoint: unknown key: mirrors are named under registries.NAME.mirrors",
        ),
        (
            "version: 1\ndocker: {log-driver: x}",
            "docker.log-driver: unknown key: Docker's own settings go under docker.settings",
        ),
    ],
)
def test_keys_from_elsewhere(text: str, expected: str) -> None:
    """A key in the wrong place, or known from another program, is told where it belongs."""
    assert [line.partition(": ")[2] for line in said(text)] == [expected]


def test_wide_characters_do_not_move_the_underline() -> None:
    """Chinese and full-width letters take two columns on a terminal, combining marks none, a tab stays a tab."""
    assert shown('version: 1\ndocker: {"镜像": "e\u0301", manage: 也许}\n')[-3:] == [
        "x.yaml:2:30: docker.manage: must be auto, true or false",
        '    2 | docker: {"镜像": "e\u0301", manage: 也许}',
        "      |                               ^^^^",
    ]
    assert shown("version: 1\ndocker:\n  manage:\tfalsch # x\n")[-2:] == [
        "    3 |   manage:\tfalsch # x",
        "      |          \t^^^^^^",
    ]


def test_long_lines_are_cut_around_the_problem() -> None:
    """What is underlined is shown, with dots where the rest was; nothing is longer than a screen is wide."""
    text = "version: 1\npresets: [" + ", ".join(["daocloud"] + ["x" * 28 + f"{i:02}" for i in range(20)]) + "]\n"
    lines = shown(text)
    assert max(map(len, lines)) < 200
    for head, source, underline in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        assert "unknown preset" in head
        assert source[underline.index("^") : underline.rindex("^") + 1].startswith("x" * 28)


def test_without_a_line_there_is_only_the_message() -> None:
    """An empty file, an endless one, one in another encoding, a place that does not exist: no line is shown."""
    assert shown("") == [
        "x.yaml:1:1: the file says nothing: version: 1 is required; an empty file never means remove everything"
    ]
    assert format_problems("x", b"a\n", [Problem(9, 9, "", "m")]) == "x:9:9: m"
    assert format_problems("x", b"#" * 5_000_000, [Problem(1, 1, "k", "m", 3)]) == "x:1:1: k: m"
    assert format_problems("x", b"\xff\xfe\x00", [Problem(1, 1, "", "m", 9)]).startswith("x:1:1: m")
    assert format_problems("x", b"", []) == ""


def test_a_problem_behind_the_end_of_a_line_is_shown_there() -> None:
    """What is missing is underlined where it should be."""
    assert shown("version: 1\nx\n") == [
        "x.yaml:2:2: not valid YAML: a key without a colon: write key: value",
        "    2 | x",
        "      |  ^",
    ]


S = "Bearer q7mRZ+4Yt9/Kx0s3cr3tLw=="


@pytest.mark.parametrize(
    "text",
    [
        mirror(f"url: a, header: {{Authorization: [{S}]}}"),
        mirror(f"url: a, header: {{Authorization: {S}, X-Ä: {S}}}"),
        mirror(f"url: a, headre: {{Authorization: {S}}}"),
        mirror(f"url: a, header: {S}"),
        mirror(f"url: a, header: [{S}]"),
        mirror(f"url: a, header: {{X: {{{S}: {S}}}}}"),
        mirror(f"url: a, header: {{X: [[{S}]]}}"),
        mirror(f"url: a, header: {{{S}: x}}"),
        mirror(f"url: a, header: &a {{X: {S}}}"),
        mirror(f"url: a, header: {{X: !x {S}}}"),
        mirror(f"url: a, header: {{X: [a], X: [{S}]}}"),
        mirror(f"url: a, header: {{X: '{S}"),
        mirror(f"url: a, header: {{X: {S}"),
        mirror(f'url: a, header: {{X: "{S}\\q"}}'),
        mirror(f"url: a, Authorization: {S}"),
        mirror(f"url: a, password: {S}"),
        mirror(f"url: https://u:{S.split()[1]}@h.example"),
        mirror(f"url: u:{S.split()[1]}@h.example"),
        mirror(f"url: https://h.example/?token={S.split()[1]}"),
        mirror(f"url: https://h.example/#{S.split()[1]}"),
        mirror(f"url: {S}"),
        mirror(f"url: a # token: {S.split()[1]}"),
        mirror("url: a").replace("- {", f"- # header: {{X: {S.split()[1]}}}\n        {{"),
        f"version: 1\nregistries:\n  u:{S.split()[1]}@h.example: {{}}\n",
        f"version: 1\ndocker: {{settings: {{mtu: x, log-opts: {{splunk-token: [{S.split()[1]}]}}}}}}\n",
        f"version: 1\ndocker: {{settings: {{proxies: {{http-proxy: [http://u:{S.split()[1]}@p.lan]}}}}}}\n",
        f"header:\n  X: {S}\n y: 1\n",
        f"version: 1\ndocker: {{settings: {{log-opts: {{token: {S}}}, mtu: a}}}}\n",
        f"version: 1\nregistries:\n a.example:\n  mirrors:\n  - url: a\n    header:\n     X: |\n       {S}\n",
        f"version: 1\nregistries:\n  a.example:\n    mirrors:\n    - url: a\n      header:\n        X: {S}\n\t\n",
    ],
)
def test_secrets_are_neither_said_nor_shown(text: str) -> None:
    """Wherever a secret may stand, in whatever broken form: it is in no message, in no line, in no exception."""
    problems = problems_of(text)
    assert problems
    everything = format_problems("x", text.encode(), problems) + repr(problems)
    assert "s3cr3t" not in everything
    assert "q7mRZ" not in everything


def test_hidden_is_hidden_and_the_rest_is_shown() -> None:
    """The value is `***`, whatever its length; what stands around it keeps its place under the underline."""
    text = mirror(f"url: https://m.example, header: {{X: [{S}, 1.5]}}, skip_verfy: 1")
    assert shown(text) == [
        "x.yaml:5:80: registries.r.example.mirrors[0].header.X[1]: "
        "must be a string, and this is a decimal number: write it in quotes",
        "    5 |       - {url: https://m.example, header: ***, skip_verfy: 1}",
        "      |                                          ^^^",
        'x.yaml:5:87: registries.r.example.mirrors[0].skip_verfy: unknown key, did you mean "skip_verify"?',
        "    5 |       - {url: https://m.example, header: ***, skip_verfy: 1}",
        "      |                                               ^^^^^^^^^^",
    ]


def test_a_path_to_a_secret_is_no_secret() -> None:
    """header_file is shown: it says where the secret is, not what it is."""
    text = mirror("url: https://m.example, header_file: {Authorization: etc/secret}")
    assert shown(text)[1] == "    5 |       - {url: https://m.example, header_file: {Authorization: etc/secret}}"


def test_errors_carry_no_trace_of_the_input() -> None:
    """The exception has neither cause nor context: a traceback cannot show pydantic's input."""
    from agent.desired import load
    from agent.errors import DesiredStateError

    with pytest.raises(DesiredStateError) as caught:
        load(mirror(f"url: a, header: {{X: [{S}, 1]}}").encode())
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
