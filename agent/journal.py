"""Where events go: the journal with its native fields, or plain lines where a person or another supervisor reads.

Nothing here can hold up or end the caller: `emit` only puts the line into a bounded queue, and one thread sends. A
frozen journald, a closed pipe or a full disk therefore cost lines (counted and reported), never a cycle.
Secrets end here too: what was registered, and what looks like one, is replaced before it is queued.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from typing import Any

from agent.events import Event, Kind, Level

JOURNAL_SOCKET = "/run/systemd/journal/socket"
QUEUE_LINES = 1000
REPEAT_SECONDS = 600.0
_REMEMBERED = 256
_TEXT_CHARACTERS = 16 * 1024
_SEND_BUFFER_BYTES = 8 * 1024 * 1024
"""As systemd's own library asks for; the kernel gives what it allows, enough for any event of ours."""
_IDENTIFIER = "mirror-agent"

Sender = Callable[[Event], None]
"""Delivers one event, however long it takes. OSError: it was not taken."""

STATES = frozenset({
    Kind.CONFLICT, Kind.DEFERRED, Kind.FAILED, Kind.DEGRADED, Kind.WARNING, Kind.WATCH, Kind.BUG,
})  # fmt: skip
"""Kinds that tell how things stand: said again and again they say nothing new. The others tell what was done, here or
by a person (INVALID follows an edit, who makes the same mistake twice wants to hear it twice), and are always shown."""

_ENDS = frozenset({Kind.LOADED, Kind.RECOVERED, Kind.CONVERGED, Kind.REVERTED})
"""Kinds after which a state, should it come back, is news."""


class Journal:
    """Takes events from any thread and sends them from its own. `close` it before the process ends.

    The same state again and again is shown at once, then once in 10 minutes with a count; a changed one at once.
    """

    def __init__(
        self, sender: Sender, level: Level = Level.INFO, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sender = sender
        self._level = level
        self._clock = clock
        self._repeats = Repeats()
        self._redaction = Redaction()
        self._ready = threading.Condition()
        self._lines: deque[Event] = deque()
        self._dropped = 0
        self._closing = False
        self._thread = threading.Thread(target=self._send_lines, name="journal", daemon=True)
        self._thread.start()

    def emit(self, event: Event) -> None:
        """Queue the event. Returns at once; when the queue is full the event is counted and dropped."""
        if event.level.value > self._level.value:
            return
        with self._ready:
            shown = self._repeats.weigh(self._redaction.clean(event), self._clock())
            if shown is None:
                return
            if len(self._lines) >= QUEUE_LINES:
                self._dropped += 1
                return
            self._lines.append(shown)
            self._ready.notify()

    def hide(self, secrets: Iterable[str]) -> None:
        """Show these values in no later event (except those under 4 characters, which would blot out half of it)."""
        with self._ready:
            self._redaction.add(secrets)

    def close(self, timeout_seconds: float = 1.0) -> None:
        """Send what is queued, as far as that succeeds in time."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(timeout_seconds)

    # --- the sending thread -------------------------------------------------------------------------------------

    def _send_lines(self) -> None:
        while (event := self._next()) is not None:
            if not self._sent(event):
                self._count_dropped(1)
            elif lost := self._take_dropped():
                lines = "1 log line was" if lost == 1 else f"{lost} log lines were"
                report = f"{lines} dropped, because nobody took them"
                if not self._sent(Event(Kind.DROPPED, report, Level.WARNING)):
                    self._count_dropped(lost)

    def _next(self) -> Event | None:
        with self._ready:
            while not self._lines and not self._closing:
                self._ready.wait()
            return self._lines.popleft() if self._lines else None

    def _sent(self, event: Event) -> bool:
        try:
            self._sender(event)
        except Exception:  # noqa: BLE001 -- whatever is wrong with a line, the next one may pass
            return False
        return True

    def _count_dropped(self, lines: int) -> None:
        with self._ready:
            self._dropped += lines

    def _take_dropped(self) -> int:
        """How many were lost, once nothing is waiting any more: one report for one jam."""
        with self._ready:
            if self._lines:
                return 0
            lost, self._dropped = self._dropped, 0
        return lost


def open_journal(level: Level = Level.INFO) -> Journal:
    """The journal if stderr is connected to it, else plain lines on stderr, coloured on a terminal without NO_COLOR."""
    if _is_journal(2):
        return Journal(NativeSender(), level)
    colour = os.isatty(2) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Journal(line_sender(2, colour=colour), level)


def _is_journal(descriptor: int) -> bool:
    """Whether it is the very stream that systemd gave us (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


# --- senders ------------------------------------------------------------------------------------------------


class NativeSender:
    """To journald's socket, each event one datagram (systemd's NATIVE_JOURNAL_PROTOCOL). It blocks while journald does
    not read, which is why only our thread calls it; a journald that was restarted is found again.

    Not by systemd-python: its sendv holds the interpreter's lock while it blocks (seen with 235, and so in its
    JournalHandler), and with that a frozen journald would freeze every thread of ours.
    """

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def __call__(self, event: Event) -> None:
        self._socket.sendto(datagram(fields(event)), self._path)

    def close(self) -> None:
        self._socket.close()


def datagram(pairs: Iterable[tuple[str, bytes]]) -> bytes:
    """Fields as journald reads them: a value with a line break is preceded by its length instead of a `=`."""
    return b"".join(
        name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
        if b"\n" in value
        else name.encode() + b"=" + value + b"\n"
        for name, value in pairs
    )


def fields(event: Event) -> list[tuple[str, bytes]]:
    """The event as journal fields; those without a value are left out."""
    named = {
        "MESSAGE": event.message,
        "MESSAGE_ID": event.kind.value,
        "PRIORITY": str(event.level.value),
        "SYSLOG_IDENTIFIER": _IDENTIFIER,
        "MIRROR_AGENT_GENERATION": event.generation,
        "MIRROR_AGENT_RUNTIME": event.runtime,
        "MIRROR_AGENT_REGISTRY": event.registry,
        "MIRROR_AGENT_PATH": event.path,
        "MIRROR_AGENT_ACTION": event.action,
        "MIRROR_AGENT_REASON": event.reason,
        "MIRROR_AGENT_OUTCOME": event.outcome,
    }
    return [(name, value.encode("utf-8", "backslashreplace")) for name, value in named.items() if value]


_COLOURS = {Level.ERROR: "\x1b[31m", Level.WARNING: "\x1b[33m", Level.NOTICE: "\x1b[1m", Level.DEBUG: "\x1b[2m"}
_RESET, _DIM = "\x1b[0m", "\x1b[2m"


def line_sender(descriptor: int, *, colour: bool) -> Sender:
    """One readable line per event: local time and sentence."""

    def send(event: Event) -> None:
        data = line(event, time.localtime(), colour=colour).encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(descriptor, data) :]

    return send


def line(event: Event, at: time.struct_time, *, colour: bool) -> str:
    """`10:32:07  docker: wrote …`; further lines of a message stand under its first."""
    clock = time.strftime("%H:%M:%S", at)
    sentence = _harmless(event.message).replace("\n", "\n" + " " * (len(clock) + 2))
    if not colour:
        return f"{clock}  {sentence}\n"
    shade = _COLOURS.get(event.level, "")
    return f"{_DIM}{clock}{_RESET}  {shade}{sentence}{_RESET if shade else ''}\n"


def _harmless(text: str) -> str:
    """Control characters written out: what came from a file must not steer a terminal."""
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)


# --- repeats ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Seen:
    """When a state was shown last (by the clock of the journal), and how often it was not since."""

    shown_at: float
    hidden: int = 0


class Repeats:
    """Which states were shown when; remembers the latest 256."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Event, _Seen] = OrderedDict()

    def weigh(self, event: Event, now: float) -> Event | None:
        """The event as it is to be shown, None if it was said already."""
        if event.kind in _ENDS:
            self._forget(event.runtime)
        if event.kind not in STATES:
            return event
        if event.kind is Kind.WATCH and event not in self._seen:
            # Only one way of watching holds at a time: the one before would be news again.
            self._forget_kind(Kind.WATCH)
        seen = self._seen.setdefault(event, _Seen(now - REPEAT_SECONDS))
        self._seen.move_to_end(event)
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        if now - seen.shown_at < REPEAT_SECONDS:
            seen.hidden += 1
            return None
        again, seen.hidden, seen.shown_at = seen.hidden, 0, now
        return replace(event, message=f"{event.message} (said {again} times more since)") if again else event

    def _forget(self, runtime: str) -> None:
        for event in [event for event in self._seen if runtime in {"", event.runtime}]:
            del self._seen[event]

    def _forget_kind(self, kind: Kind) -> None:
        for event in [event for event in self._seen if event.kind is kind]:
            del self._seen[event]


# --- secrets ------------------------------------------------------------------------------------------------

_TEXTS = tuple(item.name for item in dataclass_fields(Event) if item.type in {"str", str})
_HIDDEN = "***"
_SHORTEST_SECRET = 4
_SECRETS_KEPT = 1000
_PATTERNS = (
    # https://user:password@host, also where the password holds a slash
    (("@",), re.compile(r"(\w://)[^\s/@\"']*@"), rf"\1{_HIDDEN}@"),
    (("@",), re.compile(r"(\w://)[^\s/:@\"']+:[^\s@\"']*@"), rf"\1{_HIDDEN}@"),
    (("auth",), re.compile(r"(?i)(\b(?:proxy-)?authorization[\"']?\s*[:=]\s*)[^\r\n]+"), rf"\1{_HIDDEN}"),
    (("basic", "bearer"), re.compile(r"(?i)\b(basic|bearer)\s+[a-z0-9+/=._~-]{8,}"), rf"\1 {_HIDDEN}"),
    (
        ("passw", "secret", "token", "auth"),
        re.compile(r"(?i)\b(password|passwd|secret|token|auth)(=|[\"']\s*:\s*[\"'])[^\s\"'&]+"),
        rf"\1\2{_HIDDEN}",
    ),
)
"""Words of which one is in every text that the pattern finds, the pattern, what is shown. Next to no text has any of
them, and to look for a word takes a tenth of the time."""


class Redaction:
    """Takes secrets out of every text of an event."""

    def __init__(self) -> None:
        self._secrets: OrderedDict[str, None] = OrderedDict()

    def add(self, secrets: Iterable[str]) -> None:
        for secret in secrets:
            if len(secret) >= _SHORTEST_SECRET:
                self._secrets[secret] = None
                self._secrets.move_to_end(secret)
        while len(self._secrets) > _SECRETS_KEPT:
            self._secrets.popitem(last=False)

    def clean(self, event: Event) -> Event:
        cleaned: dict[str, Any] = {name: self._text(getattr(event, name)) for name in _TEXTS}
        return replace(event, **cleaned)

    def _text(self, text: str) -> str:
        if not text:
            return text
        text = text[: 4 * _TEXT_CHARACTERS]
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        folded = text.casefold()
        for words, pattern, shown in _PATTERNS:
            if any(word in folded for word in words):
                text = pattern.sub(shown, text)
        # Cut at last: half a secret would not be recognised.
        return text[:_TEXT_CHARACTERS]
