"""daemon.json as text: what is set, what stays to the last character, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtimes._daemon_json import Document, parse
from agent.runtimes._json_text import NotEditableError, compact, inline, pretty, same, strings_of, texts_of, value_of

# --- random JSON texts, spelled in ways that no serializer would choose --------------------------------------------

NUMBERS = ("0", "-0", "1", "1.0", "1e5", "1E+5", "0.10", "123456789012345678901234567890", "-1.5e-300")
blanks = st.sampled_from(["", " ", "  ", "\n", "\n  ", "\t", "\r\n    "])


@st.composite
def strings(draw: st.DrawFn) -> str:
    """A JSON string with escapes that need not be there and characters that need none."""
    parts = ["a", "\\u0041", "é", "\\/", '\\"', "\\\\", "😀", "{", "]", ",", ":", "//", "\\n", "\\ud83d\\ude00", " "]
    return '"' + "".join(draw(st.lists(st.sampled_from(parts), max_size=4))) + '"'


scalars = st.sampled_from((*NUMBERS, "true", "false", "null")) | strings()


@st.composite
def containers(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    gap = draw(blanks)
    if draw(st.booleans()):
        return f"[{gap}{f'{gap},{gap}'.join(draw(st.lists(inner, max_size=3)))}{gap}]"
    keys = draw(st.lists(st.sampled_from(['"x"', '"y\\u0020"', '"z"']), unique=True, max_size=3))
    return "{" + gap + f"{gap},{gap}".join(f"{key}{gap}:{gap}{draw(inner)}" for key in keys) + gap + "}"


values = st.recursive(scalars, containers, max_leaves=6)
KEYS = ("data-root", "log-opts", "a\\u0062c", "é", "")


@st.composite
def objects(draw: st.DrawFn, least: int = 0) -> str:
    """An object in a random layout, each member spelled on its own."""
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True, min_size=least, max_size=4))
    members = [f'"{key}"{draw(blanks)}:{draw(blanks)}{draw(values)}{draw(blanks)}' for key in keys]
    body = ",".join(draw(blanks) + member for member in members)
    return draw(blanks) + "{" + body + ("" if members else draw(blanks)) + "}" + draw(blanks)


NEW_VALUES = ("[]", "{}", '["https://a"]', '{"max-size":"5m","n":{"m":[1e5]}}', "true", "1.0", '"x"')
new_values = st.sampled_from(NEW_VALUES)


def spelled(document: Document, key: str) -> str:
    """A member as it stands in the text, key and all."""
    member = next(member for member in document.members if member.key == key)
    return document.text[member.start : member.end]


@given(objects(), new_values)
def test_foreign_members_keep_every_character(text: str, value: str) -> None:
    """A key that is added leaves each foreign member's text and their order as they were, and means what was asked."""
    before = parse(text.encode())
    after = before.with_value("ours", value)
    keys = [member.key for member in before.members]
    assert [member.key for member in after.members] == [*keys, "ours"]
    assert [spelled(after, key) for key in keys] == [spelled(before, key) for key in keys]
    assert after.get("ours") == value


@given(objects(least=1), new_values)
def test_adding_and_removing_leaves_no_trace(text: str, value: str) -> None:
    """Add, then remove: the same bytes, whatever the layout; at the end and in front of any member."""
    before = parse(text.encode())
    assert before.with_value("ours", value).without("ours") == before
    for member in before.members:
        assert before.with_new("ours", value, before=member.key).without("ours") == before


@given(objects(least=1), new_values)
def test_setting_a_member_touches_its_value_alone(text: str, value: str) -> None:
    """The text before and after the value's place stays."""
    before = parse(text.encode())
    for member in before.members:
        after = before.with_value(member.key, value)
        head, tail = before.text[: member.value_start], before.text[member.end :]
        assert after.text.startswith(head)
        assert after.text.endswith(tail)
        assert compact(after.text[len(head) : len(after.text) - len(tail)]) == value


@given(values)
def test_printing_keeps_every_token(value: str) -> None:
    """Compact, inline and pretty text hold the same tokens: numbers and escapes as they were written."""
    tokens = compact(value)
    assert (compact(inline(value)), compact(pretty(value, "\n  ", "  "))) == (tokens, tokens)
    assert same(value, tokens)


@given(objects())
def test_the_reader_agrees_with_the_standard_library(text: str) -> None:
    """Keys in order and values mean what json.loads says."""
    expected: dict[str, Any] = json.loads(text)
    assert {key: json.loads(value) for key, value in parse(text.encode()).values().items()} == expected
    assert [member.key for member in parse(text.encode()).members] == list(expected)


LAYOUTS = {
    "four spaces": '{\n    "a": 1\n}\n',
    "two spaces": '{\n  "a": {\n    "b": 1\n  }\n}\n',
    "tabs": '{\n\t"a": 1\n}',
    "windows": '{\r\n  "a": 1\r\n}\r\n',
    "one line": '{"a": 1}',
    "one line, padded": '{ "a": 1, "c": 2 }\n',
    "compact": '{"a":1,"c":[1,2]}',
    "blank lines": '{\n\n  "a": 1,\n\n  "c": 2\n\n}\n',
    "no indentation": '{\n"a": 1\n}\n',
    "comma first": '{\n    "a": 1\n  , "c": 2\n}\n',
    "space before colon": '{\n  "a" : 1\n}\n',
}
ADDED = {
    "four spaces": '{\n    "a": 1,\n    "k": [\n        "x"\n    ]\n}\n',
    "two spaces": '{\n  "a": {\n    "b": 1\n  },\n  "k": [\n    "x"\n  ]\n}\n',
    "tabs": '{\n\t"a": 1,\n\t"k": [\n\t\t"x"\n\t]\n}',
    "windows": '{\r\n  "a": 1,\r\n  "k": [\r\n    "x"\r\n  ]\r\n}\r\n',
    "one line": '{"a": 1, "k": ["x"]}',
    "one line, padded": '{ "a": 1, "c": 2, "k": ["x"] }\n',
    "compact": '{"a":1,"c":[1,2],"k":["x"]}',
    "blank lines": '{\n\n  "a": 1,\n\n  "c": 2,\n  "k": [\n    "x"\n  ]\n\n}\n',
    "no indentation": '{\n"a": 1,\n"k": [\n    "x"\n]\n}\n',
    "comma first": '{\n    "a": 1\n  , "c": 2, "k": ["x"]\n}\n',
    "space before colon": '{\n  "a" : 1,\n  "k" : [\n    "x"\n  ]\n}\n',
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_new_member_looks_like_its_neighbours(layout: str) -> None:
    """Indentation, line ends and blanks are taken from what is there, and go again without a trace."""
    before = parse(LAYOUTS[layout].encode())
    after = before.with_value("k", '["x"]')
    assert (after.text, after.without("k").text) == (ADDED[layout], LAYOUTS[layout])


@pytest.mark.parametrize("data", [b"", b" \n", b"null", b"null\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf{\n}\n"])
def test_a_file_without_settings_becomes_an_object(data: bytes) -> None:
    """Empty, null, and a byte order mark (on which Docker 20.10 stops) read as an empty object, written as one."""
    assert parse(data).with_value("debug", "true").encode() == b'{\n    "debug": true\n}\n'


def test_an_empty_object_opens_up_and_closes_again() -> None:
    """`{}` gets its first member on a line of its own, and is `{}` again without it."""
    opened = parse(b"{}\n").with_value("debug", "true")
    assert (opened.text, opened.without("debug").text) == ('{\n    "debug": true\n}\n', "{}\n")


def test_a_list_on_one_line_stays_on_one_line() -> None:
    """Where the former value stood on one line, the new one does; an empty one sets no example."""
    before = parse(b'{\n  "a": ["x"],\n  "b": []\n}\n')
    after = before.with_value("a", '["y","z"]').with_value("b", '["y"]')
    assert after.text == '{\n  "a": ["y", "z"],\n  "b": [\n    "y"\n  ]\n}\n'


def test_removing_what_is_not_there_does_nothing() -> None:
    """No member of that name: the same document."""
    document = parse(b'{"a": 1}')
    assert document.without("b") == document


REFUSED = {
    b'{"a": 1,}': "line 1, column 8: there is a comma before a closing bracket: remove it",
    b'{\n "a": [1,\n ]}': "line 2, column 9: there is a comma before a closing bracket: remove it",
    b"// x\n{}": "line 1, column 1: comments are not JSON: remove it",
    b'{\n  "a": 1, # x\n  "b": 2\n}': "line 2, column 11: comments are not JSON: remove it",
    b'{"a": 1} x': "line 1, column 10: there is text after the end of the object, which Docker 23 and later refuse",
    b'{"a": 1}{}': "line 1, column 9: there is text after the end of the object",
    b'{"a": 1}\0': "line 1, column 9: there is text after the end of the object",
    b'{"a": 1, "a": 2}': 'line 1, column 10: "a" is there twice: remove one',
    b'{"\\u0061": 1, "a": 2}': 'line 1, column 15: "a" is there twice: remove one',
    b'{"o": {"a": 1, "a": 2}}': 'line 1, column 7: in "o", "a" is there twice: remove one',
    b'{"a": NaN}': "line 1, column 7: NaN and Infinity are not JSON: write a number",
    b'{"a": ["NaN", -Infinity]}': "line 1, column 15: NaN and Infinity are not JSON: write a number",
    b"[1]": "line 1, column 1: the file must be one JSON object, beginning with {",
    b'"x"': "line 1, column 1: the file must be one JSON object, beginning with {",
    b'{\n "a": "\xff"}': "line 2, column 8: this is not UTF-8: save the file as UTF-8",
    b"\xff\xfe{\0}\0": "the file is UTF-16, which Docker 20.10 cannot read: save it as UTF-8",
    b'{"a': "line 1, column 2: the text in quotes that begins here does not end",
    b'{"a": "x': "line 1, column 7: the text in quotes that begins here does not end",
    b'{"a":': "line 1, column 6: the text ends too early: a bracket or a quote is missing",
    b"{": "line 1, column 2: the text ends too early: a bracket or a quote is missing",
    b"{'a': 1}": 'line 1, column 2: only "straight quotes" are JSON: replace this one',
    "{“a”: 1}".encode(): 'line 1, column 2: only "straight quotes" are JSON: replace this one',
    "{\u00a0}".encode(): "line 1, column 2: this is a no-break space: replace it by a plain one",
    b"{a: 1}": 'line 1, column 2: a key in "straight quotes" must stand here',
    b'{"a" 1}': 'line 1, column 6: a ":" is missing here',
    b'{"a": 1 "b": 2}': 'line 1, column 9: a "," is missing here',
    b'{"a": 01}': 'line 1, column 8: a "," is missing here',
    b'{"a": "\n"}': "line 1, column 8: a line break or control character in a text must be escaped",
    b'{"a": tru}': "line 1, column 7: this is not valid JSON",
    b'{"a": ' + b"[" * 101 + b"]" * 101 + b"}": 'line 1, column 7: "a" is nested more than 100 levels deep',
    b'{"a": ' + b"[" * 200_000: 'line 1, column 7: "a" is nested more than 100 levels deep',
}


@pytest.mark.parametrize("data", REFUSED, ids=lambda data: repr(data[:20]))
def test_what_is_not_strictly_json_is_refused_with_its_place(data: bytes) -> None:
    """Comments, trailing commas and text, repeated keys, odd numbers, encodings, depth: where, and what to do."""
    with pytest.raises(NotEditableError) as caught:
        parse(data)
    assert REFUSED[data] in str(caught.value)


@given(st.binary(max_size=60) | objects().map(str.encode).flatmap(lambda data: st.just(data[: len(data) // 2])))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing else than NotEditableError comes out of whatever somebody leaves there."""
    try:
        document = parse(data)
    except NotEditableError:
        return
    assert parse(document.encode()) == document


def test_a_refusal_quotes_no_value() -> None:
    """Values can be secrets (proxies with passwords): the message has places and keys only."""
    with pytest.raises(NotEditableError) as caught:
        parse(b'{"proxies": {"http-proxy": "http://u:hunter2@p", "http-proxy": "http://u:hunter2@p"}}')
    assert "hunter2" not in str(caught.value)


def test_a_million_members_are_read_in_time() -> None:
    """Reading is linear: a 4 MiB file of small members costs seconds at worst, not hours."""
    count = 200_000
    document = parse(("{" + ",".join(f'"{index}":1' for index in range(count)) + "}").encode())
    assert len(document.members) == count


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', True),
        ('"\\u0041"', '"A"', True),
        ("1", "1.0", False),
        ("100000", "1e5", False),
        ("[1, 2]", "[2, 1]", False),
        ("1", '"1"', False),
        (None, "null", False),
        (None, None, True),
    ],
)
def test_same_means_the_same_to_docker(left: str | None, right: str | None, expected: bool) -> None:
    """Blanks, escapes and the order of keys are spelling; numbers are not, and no key is not null."""
    assert same(left, right) is expected


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (None, ()),
        ("null", ()),
        ("[]", ()),
        ('["a", "\\u0062"]', ('"a"', '"\\u0062"')),
        ('["a, b]"]', ('"a, b]"',)),
        ("[1]", None),
        ("{}", None),
        ('"a"', None),
    ],
)
def test_texts_of_a_list(value: str | None, texts: tuple[str, ...] | None) -> None:
    """The items in their own spelling; None for what is no list of texts."""
    assert texts_of(value) == texts
    assert strings_of(value) == (None if texts is None else tuple(value_of(text) for text in texts))
