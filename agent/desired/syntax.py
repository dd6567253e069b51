"""What libyaml's syntax errors mean, in words that say what to do. None of them quotes the text."""

from __future__ import annotations

import re

import yaml

_NEWLINE = re.compile("\r\n|\r|\n")

# What libyaml (or PyYAML's own scanner) says, by a part of it, and what an operator can do. First match counts.
_ADVICE = (
    (
        "mapping values are not allowed",
        'a ": " is not expected here: check the indentation, or put the value in quotes',
    ),
    ("did not find expected '-' indicator", "this line does not fit the list above it: check the indentation"),
    ("expected <block end>", "this line does not fit what is above it: check the indentation"),
    ("did not find expected key", "this line does not fit what is above it: check the indentation"),
    ("did not find expected ',' or", "a flow list or mapping is not closed, or a comma is missing"),
    ("expected ',' or", "a flow list or mapping is not closed, or a comma is missing"),
    ("did not find expected node content", "a value is missing, or a flow list or mapping is not closed"),
    ("expected the node content", "a value is missing, or a flow list or mapping is not closed"),
    ("could not find expected ':'", "a key without a colon: write key: value"),
    ("unexpected end of stream", "a quote is not closed"),
    (
        "unknown escape character",
        "an unknown escape in double quotes: use single quotes, or write \\\\ for a backslash",
    ),
    ("invalid Unicode character", "an escape that is no character"),
    ("did not find expected hexdecimal number", "an escape that is not finished"),
    ("escape sequence of", "an escape that is not finished"),
    ("did not find expected <document start>", "text after the end of the document: remove it or indent it"),
    ("expected '<document start>'", "text after the end of the document: remove it or indent it"),
    ("block sequence entries are not allowed", 'a "- " is not expected here: check the indentation'),
    ("block collections are not allowed", 'a "- " is not expected here: check the indentation'),
    ("mapping keys are not allowed", 'a "? " is not expected here'),
    ("found a tab", "a tab cannot indent YAML: use spaces"),
    ("directive", "directives (%YAML, %TAG) are not used here, remove the line"),
    ("undefined tag handle", "tags (!name) are not used here: remove it"),
    ("anchor", "anchors and aliases (&name, *name) are not used here: write the value out"),
    ("alias", "anchors and aliases (&name, *name) are not used here: write the value out"),
)


WIDE_COLON = '"：" is a full-width colon, a letter like others to YAML: write ": "'
_WIDE_COLON = re.compile(r"[^#：]*[A-Za-z0-9_\"']：")
_LINES_BACK = 2
"""What a full-width colon spoils is found on its line or on one of the next two."""


def wide_colon(line: str) -> int:
    """The column (from 1) of a full-width colon behind a key, 0 if there is none before a comment."""
    match = _WIDE_COLON.match(line)
    return match.end() if match else 0


def explain(error: yaml.YAMLError, text: str) -> tuple[int, int, str]:
    """Line, column (from 1, inside the text) and sentence for what the parser refused."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = _NEWLINE.split(text)
    line, column = _inside(lines, line, column)
    for number in range(line, max(0, line - 1 - _LINES_BACK), -1):
        if wide := wide_colon(lines[number - 1]):
            return number, wide, f"not valid YAML: {WIDE_COLON}"
    character = lines[line - 1][column - 1 : column]
    return line, column, "not valid YAML: " + _advice(error, character)


def _advice(error: yaml.YAMLError, character: str) -> str:
    problem = " ".join(str(part) for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part)
    if "cannot start any token" in problem:
        return _token_advice(character)
    return next((advice for part, advice in _ADVICE if part in problem), "it cannot be read from here on")


def _token_advice(character: str) -> str:
    if character == "\t":
        return "a tab cannot indent YAML: use spaces"
    return "a value cannot begin with this character: put it in quotes"


def _inside(lines: list[str], line: int, column: int) -> tuple[int, int]:
    """The nearest place that exists; what is missing at the end is missing after the last line that says something."""
    if line > len(lines) or (line == len(lines) and not lines[-1]):
        line = max((number for number, content in enumerate(lines, 1) if content.strip()), default=1)
        column = len(lines[line - 1]) + 1
    return line, max(1, min(column, len(lines[line - 1]) + 1))
