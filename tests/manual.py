"""Manual pages as values: the lists below a `check:` comment, and the examples. Source: man(7) as the pages use it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

MAN = Path(__file__).resolve().parents[1] / "packaging" / "man"
_LIST = re.compile(r'^\.\\" check: ([^\n]+)\n(.*?)(?=^\.(?:SH|SS|PP|\\" check:)|\Z)', re.MULTILINE | re.DOTALL)
_EXAMPLE = re.compile(r"^\.EX\n(.*?)^\.EE$", re.MULTILINE | re.DOTALL)
_FONT = re.compile(r"\\f[BIRP]")
_MACRO = re.compile(r"\.(B|I|BR|BI|IR|RI|RB)(?: |$)")
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"|(\S+)')


def lists(page: str) -> dict[str, dict[str, str]]:
    """{name of the list: {tag of the entry: its text}}, in the order of the page; the tag as a reader sees it."""
    return {name: dict(_entries(body)) for name, body in _LIST.findall(_source(page))}


def bold_words(page: str, name: str, tag: str) -> set[str]:
    """What stands out in an entry: the words set in bold or italics."""
    for found, body in _LIST.findall(_source(page)):
        for each, text in _raw_entries(body) if found == name else ():
            if each == tag:
                return set(_standing_out(text))
    return set()


def words_of(page: str, name: str) -> list[str]:
    """What is set in bold in a paragraph below a `check:`, each word once."""
    bodies = (body for found, body in _LIST.findall(_source(page)) if found == name)
    return list(dict.fromkeys(word for body in bodies for word in _standing_out(body) if "/" not in word))


def examples(page: str) -> list[str]:
    """The text of each example, as a reader copies it."""
    return [_shown(body) for body in _EXAMPLE.findall(_source(page))]


def skeleton(page: str) -> list[str]:
    """The macros in their order without what they say: two translations of one page have the same."""
    lines = _source(page).splitlines()
    return [line.split(" ")[0] for line in lines if re.match(r"\.(SH|SS|TP|IP|EX|EE|RS|RE)\b", line)]


def _source(page: str) -> str:
    return (MAN / page).read_text("utf-8")


def _entries(body: str) -> Iterator[tuple[str, str]]:
    for tag, text in _raw_entries(body):
        yield tag, " ".join(_line(line) for line in text.splitlines())


def _raw_entries(body: str) -> Iterator[tuple[str, str]]:
    for entry in re.split(r"^\.TP(?: \d+)?\n", body, flags=re.MULTILINE)[1:]:
        tag, _, text = entry.partition("\n")
        yield _line(tag), text


def _line(line: str) -> str:
    """One line as it is printed: a font macro's arguments without blanks between, but for .B and .I."""
    macro = _MACRO.match(line)
    if macro is None:
        return _shown(line)
    arguments = [quoted.replace('""', '"') or word for quoted, word in _ARGUMENT.findall(line[macro.end() :])]
    return _shown((" " if len(macro[1]) == 1 else "").join(arguments))


def _standing_out(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from (_shown(word) for word in re.findall(r"\\f[BI](.*?)\\f[RP]", line))
        if macro := _MACRO.match(line):
            arguments = [quoted or word for quoted, word in _ARGUMENT.findall(line[macro.end() :])]
            fonts = macro[1] * len(arguments)
            whole = [_line(line)] if len(macro[1]) == 1 else []
            yield from (_shown(each).strip() for each, font in zip(arguments, fonts, strict=False) if font in "BI")
            yield from whole


def _shown(text: str) -> str:
    for escape, character in ((r"\-", "-"), (r"\(aq", "'"), (r"\(dq", '"'), (r"\:", ""), (r"\e", "\\")):
        text = text.replace(escape, character)
    return _FONT.sub("", text)
