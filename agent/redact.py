"""Takes secrets out of text that people will see: header values, credentials among settings, passwords in URLs.

Works on the text, not on a parsed tree, because the text may be anybody's; when in doubt it hides more. The number of
lines stays the same, so that a diff of the originals can be shown with the lines of the redacted ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

HIDDEN = "***"

_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|credential|^auths?$|auth(orization)?$|api[-_]?key|private[-_]?key|cookie",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?<=://)[^\s/@\"']+@")
_JSON_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|[][{},:]|[^\s"\[\]{},:]+')
_TOML_TABLE = re.compile(r"^\s*\[")
_TOML_KEY = re.compile(r"""^(\s*(?:[\w.-]|"(?:\\.|[^"\\])*"|'[^']*')+\s*=\s*)(.*)$""")
_TOML_INNER_KEY = re.compile(r"""((?:[\w.-]|"(?:\\.|[^"\\])*"|'[^']*')+)\s*=""")
_TOML_WORD = re.compile(r"""[\w-]+|"(?:\\.|[^"\\])*"|'[^']*'""")


def redact(path: str, text: str) -> str:
    """The text of the file at `path` (its ending says how to read it) with every secret replaced by `***`."""
    if path.endswith(".json"):
        text = _redact_json(text)
    elif path.endswith(".toml"):
        text = "\n".join(_redact_toml(text.split("\n")))
    return _USERINFO.sub(HIDDEN + "@", text)


def holds_secret(path: str, text: str) -> bool:
    """Whether there is anything in the text that is not to be shown."""
    return redact(path, text) != text


def is_secret(key: str) -> bool:
    """Whether a key's name says that its value is one."""
    return _SECRET_KEY.search(key) is not None


@dataclass
class _JsonWalk:
    """Where in a document the walk is: for each open bracket whether it lies below a secret key, and the last key."""

    hidden: list[bool] = field(default_factory=lambda: [False])
    key: str = ""
    is_value: bool = False

    def shown(self, word: str) -> str:
        """The word as it may be shown."""
        hides = self.hidden[-1] or (self.is_value and is_secret(self.key))
        if word in "[]{},:":
            self._move(word, hides=hides)
            return word
        if not self.is_value and word.startswith('"'):
            self.key = word[1:-1]
        return f'"{HIDDEN}"' if hides else word

    def _move(self, mark: str, *, hides: bool) -> None:
        self.is_value = mark == ":"
        if mark in "[{":
            self.hidden.append(hides)
        elif mark in "]}" and len(self.hidden) > 1:
            self.hidden.pop()


def _redact_json(text: str) -> str:
    walk = _JsonWalk()
    return _JSON_TOKEN.sub(lambda match: walk.shown(match.group()), text)


def _redact_toml(lines: list[str]) -> Iterator[str]:
    """A value is hidden in a `header` table and under a secret key, with the lines that continue it."""
    in_headers = hides = False
    for line in lines:
        if _TOML_TABLE.match(line):
            in_headers, hides = _is_secret_path(line), False
            yield line
        elif entry := _TOML_KEY.match(line):
            hides = in_headers or _is_secret_path(entry.group(1)) or _holds_secret(entry.group(2))
            yield f'{entry.group(1)}"{HIDDEN}"' if hides else line
        else:
            yield HIDDEN if hides and line.strip() else line


def _holds_secret(value: str) -> bool:
    """Whether a value is an inline table, or a list of them, with a secret somewhere in it."""
    return value.lstrip().startswith(("{", "[")) and any(map(_is_secret_path, _TOML_INNER_KEY.findall(value)))


def _is_secret_path(text: str) -> bool:
    """Whether the dotted name of a table or key is that of a header, or its last word that of a secret."""
    words = [word.strip("\"'") for word in _TOML_WORD.findall(text) if "://" not in word]
    return "header" in words or is_secret(words[-1] if words else "")
