"""daemon.json as text: single members of a JSON object are set and removed, and every other character stays.

Foreign members keep place, order, number text, whitespace and escapes, because what we do not touch is never parsed
into values and printed anew. Values travel as JSON text, so that `1e5` stays `1e5`; `None` stands for "the key is not
there".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from agent.runtimes._json_text import Member, NotEditableError, compact, fault_at, inline, outline, pretty

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_DEFAULT_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Document:
    """An object in its text. `open_end` is just after its opening brace, `close` at the closing one."""

    text: str
    members: tuple[Member, ...]
    open_end: int
    close: int

    def get(self, key: str) -> str | None:
        """The value as compact JSON text."""
        raw = self.raw(key)
        return None if raw is None else compact(raw)

    def raw(self, key: str) -> str | None:
        """The value exactly as it stands in the text."""
        member = self._find(key)
        return None if member is None else self.text[member.value_start : member.end]

    def values(self) -> dict[str, str]:
        """Every member as compact JSON text, in order."""
        return {member.key: compact(self.text[member.value_start : member.end]) for member in self.members}

    def with_value(self, key: str, json_text: str) -> Document:
        """Set a member, rendered in the style of the text: in its place if it is there, else after the last one."""
        before = self.raw(key)
        if before is not None and before[0] in "[{" and "\n" not in before and compact(before) not in {"[]", "{}"}:
            return self.with_raw(key, inline(json_text, self._colon()))
        return self.with_raw(key, self._render(json_text))

    def with_raw(self, key: str, raw: str) -> Document:
        """Set a member to this very text."""
        member = self._find(key)
        if member is None:
            return self._inserted(key, raw, len(self.members))
        return _parse(self.text[: member.value_start] + raw + self.text[member.end :])

    def with_new(self, key: str, json_text: str, *, before: str) -> Document:
        """Add a member in front of another one."""
        index = next(index for index, member in enumerate(self.members) if member.key == before)
        return self._inserted(key, self._render(json_text), index)

    def without(self, key: str) -> Document:
        """Remove a member, with its comma and its line. Not there: nothing."""
        member = self._find(key)
        if member is None:
            return self
        index = self.members.index(member)
        if index > 0:
            return self._cut(self.members[index - 1].end, member.end)
        if len(self.members) == 1:
            return self._cut(self.open_end, self.close)
        return self._cut(member.start, self.members[1].start)

    def encode(self) -> bytes:
        """The bytes of the file, without a byte order mark (Docker 20.10 stops at one)."""
        return self.text.encode()

    def _find(self, key: str) -> Member | None:
        return next((member for member in self.members if member.key == key), None)

    def _cut(self, start: int, end: int) -> Document:
        return _parse(self.text[:start] + self.text[end:])

    def _inserted(self, key: str, raw: str, index: int) -> Document:
        """A new member at this place among the members."""
        line = json.dumps(key, ensure_ascii=False) + self._colon() + raw
        if not self.members:
            return self._with_first(line)
        if index == 0:
            start = self.members[0].start
            return _parse(f"{self.text[:start]}{line},{self._separator()}{self.text[start:]}")
        end = self.members[index - 1].end
        return _parse(f"{self.text[:end]},{self._separator()}{line}{self.text[end:]}")

    def _with_first(self, line: str) -> Document:
        inner = self.text[self.open_end : self.close]
        newline = self._newline()
        tail = newline + inner.rpartition("\n")[2] if "\n" in inner else newline
        return _parse(self.text[: self.open_end] + newline + _DEFAULT_INDENT + line + tail + self.text[self.close :])

    # --- style ---------------------------------------------------------------------------------------------------

    def _render(self, json_text: str) -> str:
        indent = self._indent()
        if indent is None:
            return inline(json_text, self._colon())
        return pretty(json_text, self._newline() + indent, indent or _DEFAULT_INDENT)

    def _indent(self) -> str | None:
        """What stands before a member on its line; None if the object stands on one line."""
        if not self.members:
            return _DEFAULT_INDENT
        gap = self._last_gap()
        return gap.rpartition("\n")[2] if "\n" in gap else None

    def _separator(self) -> str:
        """What goes between a comma and the next member."""
        indent = self._indent()
        if indent is not None:
            return self._newline() + indent
        if len(self.members) == 1:
            return "" if self._colon() == ":" else " "
        return self._last_gap()

    def _last_gap(self) -> str:
        """The blank text before the last member, from its comma or the opening brace on."""
        start = self.open_end
        if len(self.members) > 1:
            start = self.text.index(",", self.members[-2].end) + 1
        return self.text[start : self.members[-1].start]

    def _newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def _colon(self) -> str:
        if not self.members:
            return ": "
        colon = self.text[self.members[-1].key_end : self.members[-1].value_start]
        return ": " if "\n" in colon else colon


def parse(data: bytes) -> Document:
    """Read a daemon.json. A missing, empty or `null` file holds no settings: it reads as an empty object, which is
    what must be written in its place (Docker 20.10 does not start with an empty file).

    Raises NotEditableError for everything that is not strictly one JSON object.
    """
    text = _decode(data)
    if text.strip(" \t\r\n") in {"", "null"}:
        text = "{\n}\n"
    return _parse(text)


def _decode(data: bytes) -> str:
    if data.startswith(_UTF16):
        raise NotEditableError("the file is UTF-16, which Docker 20.10 cannot read: save it as UTF-8")
    data = data.removeprefix(_BOM)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        raise fault_at(before, len(before), "this is not UTF-8: save the file as UTF-8") from None


@lru_cache(maxsize=4)
def _parse(text: str) -> Document:
    """Every question about a file reads it, some ten times in a look; the file as it stands and as it is to be are
    read once each."""
    found = outline(text)
    return Document(text, found.members, found.open_end, found.close)
