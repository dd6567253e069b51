"""YAML text → tree, from libyaml's events.

PyYAML's C loader composes by recursion and dies by SIGSEGV on deep nesting, its pure loader is slow; the event stream
of libyaml is fast and flat. The tree is built here without recursion, with limits on size, depth and nodes.
Refused with a place and a way out: anchors, aliases, tags, directives, several documents, repeated keys, keys that
are not strings, control characters, anything but UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from agent.desired.findings import Findings, quoted
from agent.desired.nodes import Entry, Kind, Mapping, Node, Path, Scalar, Sequence
from agent.desired.syntax import explain

MAX_BYTES = 4 * 1024 * 1024
"""The largest file that is read: 10,000 registries with two mirrors each are 1.4 MB."""

MAX_DEPTH = 32
MAX_NODES = 300_000

LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Only its events are used: libyaml's where PyYAML was built with it, else the slower pure ones."""
_SEVERAL_LINES = 1_000_000
"""The width of a scalar that goes on on further lines; whoever prints it cuts it at the end of the line."""

# C0 and C1 controls, DEL, NEL, line and paragraph separator, surrogates, directions, BOM and non-characters.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")


class TooMuch(Exception):  # noqa: N818  a signal to stop reading, not an error of its own
    """A limit was passed; the problem is reported already."""


@dataclass(slots=True)
class _Frame:
    """A collection being filled. `node` is None where a whole subtree is read over (a key that is a collection)."""

    node: Mapping | Sequence | None
    key: Scalar | None = None
    dropped_key: bool = False


@dataclass(slots=True)
class _Builder:
    """The tree as far as the events have come: `frames` are the mappings and sequences that are still open."""

    findings: Findings
    frames: list[_Frame] = field(default_factory=list)
    root: Node | None = None
    documents: int = 0
    nodes: int = 0

    def document(self, event: yaml.DocumentStartEvent) -> None:
        self.documents += 1
        place = _mark(event)
        if self.documents > 1:
            self.findings.add(place, (), "a second document begins here: one file is one desired state, remove the ---")
            raise TooMuch
        if event.version or event.tags:
            self.findings.add(place, (), "directives (%YAML, %TAG) are not used here, remove the line")

    def scalar(self, event: yaml.ScalarEvent) -> None:
        node = Scalar(*_extent(event), event.value, plain=not event.style)
        if event.anchor is not None or event.tag is not None:
            self.decorated(event, node)
        if not node.text.isprintable() and _CONTROL.search(node.text) and not node.broken:
            node.broken = True
            self.findings.add(node, self.path_of_next(), _control_message(node.text))
        self.attach(node)

    def mapping(self, event: yaml.MappingStartEvent) -> None:
        self.opened(event, Mapping(*_place(event)))

    def sequence(self, event: yaml.SequenceStartEvent) -> None:
        self.opened(event, Sequence(*_place(event)))

    def closed(self, event: yaml.Event) -> None:  # noqa: ARG002  all events are taken alike
        self.frames.pop()

    def opened(self, event: yaml.CollectionStartEvent, node: Mapping | Sequence) -> None:
        if event.anchor is not None or event.tag is not None:
            self.decorated(event, node)
        kept = self.attach(node)
        self.frames.append(_Frame(node if kept else None))
        if len(self.frames) > MAX_DEPTH:
            self.findings.add(_mark(event), (), f"nested deeper than {MAX_DEPTH} levels: nothing here needs that")
            raise TooMuch

    def alias(self, event: yaml.AliasEvent) -> None:
        node = Scalar(*_extent(event), "", plain=False, broken=True)
        self.findings.add(node, self.path_of_next(), "aliases (*name) are not used here: write the value out")
        self.attach(node)

    def decorated(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, node: Node) -> None:
        """Refuse anchors and tags; the value below them is still looked at, a tagged scalar is not."""
        if event.anchor is not None:
            self.findings.add(_mark(event), self.path_of_next(), "anchors (&name) are not used here: remove it")
        if event.tag is not None:
            self.findings.add(_mark(event), self.path_of_next(), "tags (!name) are not used here: remove it")
            node.broken = isinstance(node, Scalar)

    def attach(self, node: Node) -> bool:
        """Put the node where the innermost collection wants one. False if it is only read over."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.findings.add(node, (), f"more than {MAX_NODES:,} values: this is not a desired state")
            raise TooMuch
        if not self.frames:
            self.root = node
            return True
        frame = self.frames[-1]
        parent = frame.node
        if isinstance(parent, Mapping):
            is_key = frame.key is None and not frame.dropped_key
            return self.key(frame, node) if is_key else self.value(frame, parent, node)
        if parent is None:
            return False
        parent.items.append(node)
        return True

    def key(self, frame: _Frame, node: Node) -> bool:
        """A key: only strings are. The value of any other is read over."""
        if not isinstance(node, Scalar):
            self.findings.add(node, self.path(), "a key must be one word, not a list or mapping")
        elif node.kind is not Kind.STRING and not node.broken:
            self.findings.add(node, self.path(), _key_message(node))
        elif not node.broken:
            frame.key = node
            return True
        frame.dropped_key = True
        return False

    def value(self, frame: _Frame, mapping: Mapping, node: Node) -> bool:
        """The value of the key before it; that of a repeated key is reported and read over."""
        key, frame.key = frame.key, None
        frame.dropped_key = False
        if key is None:
            return False
        first = mapping.entries.get(key.text)
        if first is not None:
            lines = f"lines {first.key.line} and {key.line}" if first.key.line != key.line else f"line {key.line}"
            self.findings.add(key, (*self.path(), key.text), f"is there twice, on {lines}: keep one")
            return False
        mapping.entries[key.text] = Entry(key, node)
        return True

    def path(self) -> Path:
        """The path of the innermost collection."""
        steps: list[str | int] = []
        for frame, inner in zip(self.frames, self.frames[1:], strict=False):
            if isinstance(frame.node, Mapping):
                steps.append(_last_key(frame.node, inner.node))
            elif isinstance(frame.node, Sequence):
                steps.append(len(frame.node.items) - 1)
        return tuple(step for step in steps if step != "")

    def path_of_next(self) -> Path:
        """The path that a node not yet attached will have."""
        if not self.frames:
            return ()
        frame = self.frames[-1]
        if isinstance(frame.node, Sequence):
            return (*self.path(), len(frame.node.items))
        if frame.key is not None:
            return (*self.path(), frame.key.text)
        return self.path()


_TAKES: dict[type, Callable[[_Builder, Any], None]] = {
    yaml.ScalarEvent: _Builder.scalar,
    yaml.AliasEvent: _Builder.alias,
    yaml.MappingStartEvent: _Builder.mapping,
    yaml.SequenceStartEvent: _Builder.sequence,
    yaml.MappingEndEvent: _Builder.closed,
    yaml.SequenceEndEvent: _Builder.closed,
    yaml.DocumentStartEvent: _Builder.document,
}


def read_tree(data: bytes, findings: Findings) -> Node | None:
    """The tree of a desired state, or None with at least one finding. Never raises for what the bytes hold."""
    text = decode(data, findings)
    return None if text is None else parse(text, findings, LOADER)


def decode(data: bytes, findings: Findings) -> str | None:
    """Bytes → text: UTF-8 without control characters, one byte order mark tolerated; None with a finding."""
    if len(data) > MAX_BYTES:
        size = f"{len(data):,} bytes, the limit is {MAX_BYTES:,}"
        findings.add(_START, (), f"the file is too large: {size}")
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or (data[:4].count(0) >= 2 and len(data) >= 4):
        findings.add(_START, (), "the file is UTF-16 or UTF-32: save it as UTF-8")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        findings.add(_offset(before, len(before)), (), f"the file is not UTF-8 (byte {error.start}): save it as UTF-8")
        return None
    text = text.removeprefix("\ufeff")
    return None if _has_forbidden(text, findings) else text


def parse(text: str, findings: Findings, loader_type: type) -> Node | None:
    """Text → tree with the events of a PyYAML loader (`yaml.CSafeLoader` or, slower, `yaml.SafeLoader`)."""
    builder = _Builder(findings)
    try:
        for event in events(text, loader_type):
            take = _TAKES.get(type(event))
            if take is not None:
                take(builder, event)
    except TooMuch:
        return None
    except yaml.YAMLError as error:
        line, column, message = explain(error, text)
        findings.add(Scalar(line, column, 1, "", plain=True), (), message)
        return None
    return builder.root


def events(text: str, loader_type: type = LOADER) -> Iterator[yaml.Event]:
    """The events of a text, one by one. Raises yaml.YAMLError where it cannot be read on."""
    loader = loader_type(text)
    try:
        event = None
        while not isinstance(event, yaml.StreamEndEvent):
            event = loader.get_event()
            yield event
    finally:
        loader.dispose()


_START = Scalar(1, 1, 1, "", plain=True)
_FORBIDDEN_RAW = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_NEWLINE = re.compile("\r\n|\r|\n")
_RAW_LIMIT = 20


def _has_forbidden(text: str, findings: Findings) -> bool:
    """Whether raw control characters stand in the text. They are refused here, so that a line is what editors show."""
    found = False
    for count, match in enumerate(_FORBIDDEN_RAW.finditer(text)):
        found = True
        if count >= _RAW_LIMIT:
            break
        message = f"the character U+{ord(match.group()):04X} must not be in this file: remove it"
        findings.add(_offset(text, match.start()), (), message)
    return found


def _offset(text: str, offset: int) -> Scalar:
    """The place of an offset in the text."""
    line, start = 1, 0
    for match in _NEWLINE.finditer(text, 0, offset):
        line, start = line + 1, match.end()
    return Scalar(line, offset - start + 1, 1, "", plain=True)


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _extent(event: yaml.Event) -> tuple[int, int, int]:
    """Line, column and width of an event; its width is _SEVERAL_LINES if it ends on another line."""
    start, end = event.start_mark, event.end_mark
    if start is None or end is None:
        return 1, 1, 1
    width = end.column - start.column if start.line == end.line else _SEVERAL_LINES
    return start.line + 1, start.column + 1, width


def _mark(event: yaml.Event) -> Scalar:
    """The first character of an event, as a place."""
    line, column = _place(event)
    return Scalar(line, column, 1, "", plain=True)


def _last_key(mapping: Mapping, node: Mapping | Sequence | None) -> str:
    """The key whose value is being read: the last one, unless the value was not kept."""
    if node is None or not mapping.entries:
        return ""
    return next(reversed(mapping.entries))


def _control_message(text: str) -> str:
    match = _CONTROL.search(text)
    character = match.group() if match else ""
    if character in {"\n", "\r"}:
        return "contains a line break: write it on one line"
    return f"contains the character U+{ord(character):04X}, which has no place here"


def _key_message(node: Scalar) -> str:
    if node.kind is Kind.NULL:
        return "a key is missing before the colon"
    return f"a key must be a string, and {quoted(node.text)} is {node.kind.value}: write it in quotes"
