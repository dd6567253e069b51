"""YAML as it is read here: strict where it is ambiguous, safe where it is hostile (faults A1 to A12)."""

import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType

import pytest
import yaml

from agent.desired import load
from agent.desired.findings import Findings
from agent.desired.nodes import Kind, Mapping, Node, Scalar, Sequence, kind_of, plain_value
from agent.desired.tree import MAX_BYTES, MAX_DEPTH, MAX_NODES, parse
from tests.states import DESIGN, problems_of, said

LOADERS = [pytest.param(yaml.CSafeLoader, id="libyaml"), pytest.param(yaml.SafeLoader, id="pure")]
EMPTY = "1:1: the file says nothing: version: 1 is required; an empty file never means remove everything"


def tree(text: str, loader: type) -> tuple[Node | None, list[str]]:
    findings = Findings()
    root = parse(text, findings, loader)
    return root, [f"{p.line}:{p.column}: {p.message}" for p in findings.sorted()]


@pytest.mark.parametrize("loader", LOADERS)
def test_every_node_knows_its_place(loader: type) -> None:
    """Lines and columns count from 1, in characters, and mean the same with both parsers."""
    root, findings = tree('# 注\nä: [1, "b c"]\n中文:\n  d: >-\n    e\n', loader)
    assert findings == []
    assert isinstance(root, Mapping)
    places = {key: (e.key.line, e.key.column, e.value.line, e.value.column) for key, e in root.entries.items()}
    assert places == {"ä": (2, 1, 2, 4), "中文": (3, 1, 4, 3)}
    listed = root.get("ä")
    assert isinstance(listed, Sequence)
    assert [(item.line, item.column, item.width) for item in listed.items] == [(2, 5, 1), (2, 8, 5)]


@pytest.mark.parametrize("loader", LOADERS)
def test_both_parsers_make_the_same_tree(loader: type) -> None:
    """The example of the design is read alike by libyaml and by PyYAML's own parser."""
    root, findings = tree(DESIGN, loader)
    assert findings == []
    assert root is not None
    assert plain_value(root) == yaml.safe_load(DESIGN)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((word, Kind.NULL) for word in ("", "~", "null", "Null", "NULL")),
        *((word, Kind.BOOLEAN) for word in ("true", "True", "TRUE", "false", "False", "FALSE")),
        *((word, Kind.INTEGER) for word in ("0", "1", "-1", "12345678901234567890")),
        *((word, Kind.ODD_INTEGER) for word in ("+1", "0644", "-01", "0o644", "0x1F", "00")),
        *((word, Kind.FLOAT) for word in ("1.10", "1.", ".5", "1e3", "-1.5E-3", ".inf", "-.INF", "+.inf", ".nan")),
        *(
            (word, Kind.STRING)
            for word in ("yes", "No", "ON", "off", "y", "22:22", "2026-11-24", "1_000", "0b1", "0o8")
        ),
        *((word, Kind.STRING) for word in ("nULL", "1.2.3", "1,5", "1e", "0x", "-", "+", ".", "3s", "tRUE", "=", "<<")),
    ],
)
def test_plain_words_are_of_yaml_1_2(text: str, kind: Kind) -> None:
    """The core schema decides: on, NO, 22:22 and dates are strings."""
    assert kind_of(text) is kind


@pytest.mark.parametrize("text", ['"1"', "'true'", '"~"', "|\n  1", ">-\n  null"])
def test_quotes_make_strings(text: str) -> None:
    """What is quoted, or a block, is a string whatever it says."""
    root, _ = tree(text, yaml.CSafeLoader)
    assert isinstance(root, Scalar)
    assert root.kind is Kind.STRING


BOMB = "a: &a [x]\n" + "".join(f"k{i}: &k{i} [{', '.join(['*a'] * 9)}]\n" for i in range(9))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\ncontainerd: &x {}\n", "2:13: containerd: anchors (&name) are not used here: remove it"),
        ("version: 1\npresets: [*x]\n", "2:11: presets[0]: aliases (*name) are not used here: write the value out"),
        ("version: 1\npresets: &x [*x]\n", "2:10: presets: anchors (&name) are not used here: remove it"),
        ("version: !!int 1\n", "1:10: version: tags (!name) are not used here: remove it"),
        ("version: 1\ndocker: !x {}\n", "2:9: docker: tags (!name) are not used here: remove it"),
        ("%YAML 1.2\n---\nversion: 1\n", "1:1: directives (%YAML, %TAG) are not used here, remove the line"),
        ("%TAG ! x:\n---\nversion: 1\n", "1:1: directives (%YAML, %TAG) are not used here, remove the line"),
        (
            "version: 1\n---\nversion: 1\n",
            "2:1: a second document begins here: one file is one desired state, remove the ---",
        ),
        ("version: 1\n1: x\n", '2:1: a key must be a string, and "1" is a number: write it in quotes'),
        ("version: 1\ntrue: x\n", '2:1: a key must be a string, and "true" is a boolean: write it in quotes'),
        ("version: 1\nnull: x\n", "2:1: a key is missing before the colon"),
        ("version: 1\n? [a]\n: x\n", "2:3: a key must be one word, not a list or mapping"),
        ("version: 1\n? {a: b}\n: x\n", "2:3: a key must be one word, not a list or mapping"),
        (
            "version: 1\ndocker: {<<: {}}\n",
            "2:10: docker.<<: unknown key: merge keys are not used here: write the keys out",
        ),
        (
            "version: 1\nversion: 1\n",
            "2:1: version: is there twice, on lines 1 and 2: keep one",
        ),
        (
            'version: 1\ndocker: {manage: true, "manage": true}\n',
            "2:24: docker.manage: is there twice, on line 2: keep one",
        ),
        (
            'version: 1\npresets: ["a\\0b"]\n',
            "2:11: presets[0]: contains the character U+0000, which has no place here",
        ),
        ('version: 1\npresets: ["a\\e"]\n', "2:11: presets[0]: contains the character U+001B, which has no place here"),
        ('version: 1\npresets: ["a\\nb"]\n', "2:11: presets[0]: contains a line break: write it on one line"),
        (
            "version: 1\npresets: [a\u202eb]\n",
            "2:11: presets[0]: contains the character U+202E, which has no place here",
        ),
        (
            'version: 1\npresets: ["a\\uFEFF"]\n',
            "2:11: presets[0]: contains the character U+FEFF, which has no place here",
        ),
        ("version: 1\n# \x85\n", "2:3: the character U+0085 must not be in this file: remove it"),
        ("version: 1\n# \u2028\n", "2:3: the character U+2028 must not be in this file: remove it"),
        ("version: 1\n\x00\n", "2:1: the character U+0000 must not be in this file: remove it"),
        ("version: 1\x7f\n", "1:11: the character U+007F must not be in this file: remove it"),
        ("", EMPTY),
        ("\n\n", EMPTY),
        ("# version: 1\n", EMPTY),
        ("---\n", EMPTY),
        ("null\n", EMPTY),
        ("~\n", EMPTY),
        ("- version: 1\n", '1:1: the file must be "key: value" lines, beginning with version: 1'),
        ("version 1\n", '1:1: the file must be "key: value" lines, beginning with version: 1'),
        ("{}\n", '1:1: version is missing: the file must say "version: 1"'),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    """Each is one problem, at its place, with a way out."""
    assert expected in said(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\n\tdocker: {}\n", "2:1: not valid YAML: a tab cannot indent YAML: use spaces"),
        (
            "version: 1\ndocker: {manage: true\n",
            "2:22: not valid YAML: a flow list or mapping is not closed, or a comma is missing",
        ),
        (
            "version: 1\na: b: c\n",
            '2:5: not valid YAML: a ": " is not expected here: check the indentation, or put the value in quotes',
        ),
        (
            "version: 1\nregistries:\n  a.b: {}\n c.d: {}\n",
            "4:2: not valid YAML: this line does not fit what is above it: check the indentation",
        ),
        (
            "version: 1\npresets: [a]]\n",
            "2:13: not valid YAML: this line does not fit what is above it: check the indentation",
        ),
        ('version: 1\npresets: ["a]\n', "2:14: not valid YAML: a quote is not closed"),
        (
            "version: 1\npresets: @x\n",
            "2:10: not valid YAML: a value cannot begin with this character: put it in quotes",
        ),
        ("version: 1\ndocker:\n  manage\n", None),
        ("version: 1\nx\n", "2:2: not valid YAML: a key without a colon: write key: value"),
        ("version: 1\n...\nx: 1\n", None),
        (
            "version: 1\nregistries：\n  a.b: {}\n",
            '2:11: not valid YAML: "：" is a full-width colon, a letter like others to YAML: write ": "',
        ),
        (
            "version: 1\nregistries:\n  a.b: {mirrors：[]}\n",
            '3:16: not valid YAML: "：" is a full-width colon, a letter like others to YAML: write ": "',
        ),
        ("version：1\n", '1:1: "：" is a full-width colon, a letter like others to YAML: write ": "'),
        ("version: 1\npresets: [a # 注：]\n", None),
    ],
)
def test_syntax_errors_stand_alone(text: str, expected: str | None) -> None:
    """Where the text cannot be read, one problem says where and what to do; its place is inside the text."""
    lines = said(text)
    assert len(lines) == 1
    assert expected is None or lines == [expected]


@pytest.mark.parametrize(
    "text", ["[", "{", '"', "a: [", "- - [x", "a:\n  - b\n c", "? ", "&", "*", "!", "%", "|\n\x20", "@"]
)
@pytest.mark.parametrize("loader", LOADERS)
def test_the_place_of_a_syntax_error_exists(text: str, loader: type) -> None:
    """Whatever is wrong, line and column point into the text or just behind a line of it."""
    findings = Findings()
    parse(text, findings, loader)
    lines = text.split("\n")
    for problem in findings.sorted():
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("version: 1\n".encode("utf-16"), "1:1: the file is UTF-16 or UTF-32: save it as UTF-8"),
        ("version: 1\n".encode("utf-16-be"), "1:1: the file is UTF-16 or UTF-32: save it as UTF-8"),
        ("version: 1\n".encode("utf-16-le"), "1:1: the file is UTF-16 or UTF-32: save it as UTF-8"),
        ("version: 1\n".encode("utf-32"), "1:1: the file is UTF-16 or UTF-32: save it as UTF-8"),
        ("version: 1\n# café\n".encode("latin-1"), "2:6: the file is not UTF-8 (byte 16): save it as UTF-8"),
        ("version: 1 # 中".encode("gbk"), "1:14: the file is not UTF-8 (byte 13): save it as UTF-8"),
        (b"version: 1\n# \xed\xa0\x80\n", "2:3: the file is not UTF-8 (byte 13): save it as UTF-8"),
        (b"\xef\xbb\xbf\xef\xbb\xbfversion: 1", "1:1: the character U+FEFF must not be in this file: remove it"),
    ],
)
def test_only_utf_8(data: bytes, expected: str) -> None:
    """Other encodings are named, not guessed."""
    assert said(data) == [expected]


@pytest.mark.parametrize("escape", ['"\\ud800"', '"\\uDFFF"'])
def test_lone_surrogates_are_refused_by_both_parsers(escape: str) -> None:
    """libyaml refuses them as syntax, the pure parser lets them pass: then they are refused here."""
    for loader in (yaml.CSafeLoader, yaml.SafeLoader):
        _, findings = tree(f"a: {escape}\n", loader)
        assert len(findings) == 1
        assert findings[0].startswith("1:")


def test_an_alias_bomb_costs_nothing() -> None:
    """Aliases are refused one by one and never followed: a second, generous as it is, is far more than needed."""
    started = time.perf_counter()
    lines = said("version: 1\n" + BOMB)
    assert time.perf_counter() - started < 1
    assert len([line for line in lines if "aliases" in line]) == 81


def mirror_with(field: str) -> str:
    return f"version: 1\nregistries: {{a.b: {{mirrors: [{{url: https://m.b, {field}}}]}}}}"


HOSTILE: dict[str, Callable[[], str]] = {
    "brackets": lambda: "[" * 2_000_000,
    "dashes": lambda: "- " * 1_000_000,
    "question marks": lambda: "? " * 1_000_000,
    "colons": lambda: "a: " * 1_000_000,
    "values": lambda: "version: 1\npresets: [" + "a," * 310_000 + "]",
    "keys": lambda: "version: 1\n" + "".join(f"k{i}: 1\n" for i in range(155_000)),
    "same keys": lambda: "version: 1\n" + "a: 1\n" * 160_000,
    "one word": lambda: "version: 1\npresets: " + "x" * 4_000_000,
    "one number": lambda: "version: " + "9" * 4_000_000,
    "one float": lambda: "version: 0." + "9" * 4_000_000,
    "one setting": lambda: "version: 1\ndocker: {settings: {a: " + "9" * 4_000_000 + "}}",
    "one name": lambda: "version: 1\nregistries: {" + "a" * 900 + ".b: {}}",
    "one url": lambda: "version: 1\nregistries: {a.b: {mirrors: [https://" + "a." * 1_000_000 + "]}}",
    "one unicode name": lambda: "version: 1\nregistries: {" + "ä" * 900 + ".b: {}}",
    "durations": lambda: mirror_with("dial_timeout: " + "1s" * 1_000_000),
    "blank lines": lambda: "version: 1\npresets: '" + "\n" * 4_000_000 + "'",
    "wrong registries": lambda: "version: 1\nregistries:\n" + "".join(f"  -{i}-: 1\n" for i in range(30_000)),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_texts_are_refused_in_time(name: str) -> None:
    """Depth, size, repetition and long words cost seconds at most on a slow machine, and are problems, not crashes."""
    text = HOSTILE[name]()
    started = time.perf_counter()
    assert said(text)
    assert time.perf_counter() - started < 20


def test_deep_nesting_does_not_kill_the_process() -> None:
    """50,000 levels, at which PyYAML's own C composer dies by a signal, are a problem like any other."""
    program = (
        "import sys\n"
        "from agent.desired import format_problems, load\n"
        "from agent.errors import DesiredStateError\n"
        "for text in ('[' * 50_000, '{a: ' * 50_000, '- ' * 50_000, 'x: ' + '[' * 50_000 + ']' * 50_000):\n"
        "    try:\n"
        "        load(text.encode())\n"
        "    except DesiredStateError as error:\n"
        "        format_problems('x', text.encode(), error.problems)\n"
        "        print(error.problems[0].message)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"nested deeper than {MAX_DEPTH} levels: nothing here needs that"] * 4


def test_limits_are_exact() -> None:
    """The deepest, the largest and the fullest text that is read, and one more of each."""
    assert not any("nested" in line for line in said("[" * MAX_DEPTH + "]" * MAX_DEPTH))
    assert any("nested" in line for line in said("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)))
    padding = b"version: 1\n" + b"#" * (MAX_BYTES - 11)
    assert problems_of(padding) == ()
    assert said(padding + b"#") == [f"1:1: the file is too large: {MAX_BYTES + 1:,} bytes, the limit is {MAX_BYTES:,}"]
    full = "version: 1\npresets: [" + "a," * (MAX_NODES - 5) + "]"
    assert not any("values" in line for line in said(full))
    assert any(f"more than {MAX_NODES:,} values" in line for line in said(full.replace("[", "[b,")))


def test_many_problems_are_counted_not_listed() -> None:
    """A thousand problems are listed, the rest is a number."""
    lines = said("version: 1\n" + "".join(f"k{i}: 1\n" for i in range(1_500)))
    assert len(lines) == 1_001
    assert lines[-1].endswith("500 more problems are not listed")


def test_the_unsafe_loader_is_nowhere_used() -> None:
    """Nothing in the package composes YAML by PyYAML's recursion, or constructs objects from it."""
    import agent.desired.tree as module

    source = module.__file__ or ""
    with open(source, encoding="utf-8") as file:
        text = file.read()
    assert "yaml.load(" not in text
    assert "yaml.compose(" not in text


def calls(registries: int) -> int:
    """How many calls, of Python's functions and of C's, reading a valid state takes."""
    mirrors = "mirrors: [https://a.example, {url: https://b.example/v2/p, override_path: true}]"
    text = "version: 1\nregistries:\n" + "".join(f"  r{i}.example: {{{mirrors}}}\n" for i in range(registries))
    data, count = text.encode(), 0

    def counted(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    assert len(load(data).registries) == registries
    sys.setprofile(counted)
    try:
        load(data)
    finally:
        sys.setprofile(None)
    return count


def test_the_cost_grows_with_the_size_and_no_faster() -> None:
    """Ten times the registries take ten times the calls (`make bench` has the times); the first reading has loaded what
    is loaded once."""
    few, many = calls(200), calls(2_000)
    assert 9 * few < many < 10.1 * few
