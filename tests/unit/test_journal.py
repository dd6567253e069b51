"""The journal as a sink: it never holds up or ends its caller, repeats nothing, betrays nothing, and can be read."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events import Event, Kind, Level
from agent.journal import (
    QUEUE_LINES,
    STATES,
    Journal,
    NativeSender,
    Redaction,
    Repeats,
    datagram,
    fields,
    line,
    line_sender,
)
from agent.libraries import bridge_libraries

WROTE = Event(Kind.WROTE, "containerd: wrote certs.d/ghcr.io/hosts.toml: ghcr.io is new in the desired state")
FAILED = Event(Kind.FAILED, "/etc/docker/daemon.json: read-only file system (EROFS)", Level.ERROR, runtime="docker")
FLOOD = 100_000
TEN_THIRTY_TWO = time.struct_time((2026, 11, 24, 10, 32, 7, 1, 328, 0))


def shown(events: list[Event], level: Level = Level.DEBUG) -> list[Event]:
    """What a journal that is read sends of these events."""
    sent: list[Event] = []
    sink = Journal(sent.append, level)
    for event in events:
        sink.emit(event)
    sink.close(10)
    return sent


# --- a journald that does not read -----------------------------------------------------------------------------------


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[tuple[Callable[[Event], None], socket.socket]]:
    """The native sender and journald's end of its socket, which nobody reads yet."""
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        sender = NativeSender(path)
        yield sender, listening
        sender.close()


def drain(listening: socket.socket, messages: list[str], seconds: float) -> None:
    """Read as journald does, until nothing comes for a while."""
    listening.settimeout(seconds)
    try:
        while True:
            messages.append(listening.recv(65536).decode().split("\n")[0].removeprefix("MESSAGE="))
    except TimeoutError:
        return


def test_a_frozen_journald_holds_nobody_up(frozen: tuple[Callable[[Event], None], socket.socket]) -> None:
    """100,000 events are taken at once although none is read; later, order and number of the lost are exact."""
    send, listening = frozen
    sink = Journal(send)
    began = time.monotonic()
    for number in range(FLOOD):
        sink.emit(replace(WROTE, message=f"line {number}"))
    assert time.monotonic() - began < 20.0
    messages: list[str] = []
    drain(listening, messages, 0.5)
    sink.close(5)
    numbers = [int(message[5:]) for message in messages if message.startswith("line ")]
    reports = [message for message in messages if not message.startswith("line ")]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert QUEUE_LINES <= len(numbers) < FLOOD / 2
    assert reports == [f"{FLOOD - len(numbers)} log lines were dropped, because nobody took them"]


def test_an_event_is_taken_in_no_time_while_journald_is_frozen(
    frozen: tuple[Callable[[Event], None], socket.socket],
) -> None:
    """No single emit takes long: no lock is held while the sender is stuck."""
    sink = Journal(frozen[0])
    longest = 0.0
    for number in range(3 * QUEUE_LINES):
        began = time.monotonic()
        sink.emit(replace(WROTE, message=f"line {number}"))
        longest = max(longest, time.monotonic() - began)
    assert longest < 1.0
    began = time.monotonic()
    sink.close(0.2)
    assert time.monotonic() - began < 2.0


def test_a_process_ends_although_its_journal_is_stuck() -> None:
    """The sending thread is in a system call that never returns; the process exits with its own code all the same."""
    script = (
        "import socket, sys, time\n"
        "from agent.events import Event, Kind\n"
        "from agent.journal import Journal, fields\n"
        "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "sink = Journal(lambda event: b.sendall(b'x' * 60000))\n"
        "for n in range(2000): sink.emit(Event(Kind.WROTE, f'line {n}'))\n"
        "time.sleep(0.2)\n"
        "sink.close(0.2)\n"
        "sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=os.getcwd(), timeout=20, check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


def test_a_line_that_cannot_be_sent_is_counted() -> None:
    """EPIPE, ENOBUFS, whatever: the line is dropped, the next one goes, and the loss is reported when none waits."""
    sent: list[Event] = []

    def send(event: Event) -> None:
        if "cursed" in event.message:
            raise BrokenPipeError
        sent.append(event)

    sink = Journal(send)
    for word in ("one", "cursed", "cursed too", "two", "three"):
        sink.emit(replace(WROTE, message=word))
    sink.close(10)
    report = Event(Kind.DROPPED, "2 log lines were dropped, because nobody took them", Level.WARNING)
    assert sent == [*(replace(WROTE, message=word) for word in ("one", "two", "three")), report]


def test_a_closed_pipe_ends_nothing() -> None:
    """stderr into a pipe whose reader has gone: lines are lost, the sender and the process are not."""
    reading, writing = os.pipe()
    os.close(reading)
    sink = Journal(line_sender(writing, colour=False))
    for number in range(10):
        sink.emit(replace(WROTE, message=str(number)))
    sink.close(10)
    os.close(writing)
    sink.emit(WROTE)


def test_a_full_pipe_holds_nobody_up() -> None:
    """A reader of stderr that has stopped reading blocks the sending thread, not the caller."""
    reading, writing = os.pipe()
    sink = Journal(line_sender(writing, colour=False))
    began = time.monotonic()
    for number in range(5000):
        sink.emit(replace(WROTE, message=f"{number} " + "x" * 100))
    sink.close(0.1)
    assert time.monotonic() - began < 10.0
    os.close(reading)
    sink.close(10)
    os.close(writing)


def test_many_threads_lose_nothing() -> None:
    """Four threads of 200 lines each: every line once, each thread's in its order."""
    sent: list[Event] = []
    sink = Journal(sent.append)

    def work(name: str) -> None:
        for number in range(200):
            sink.emit(replace(WROTE, message=str(number), runtime=name))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close(10)
    told = {name: [event.message for event in sent if event.runtime == name] for name in "abcd"}
    assert told == {name: [str(number) for number in range(200)] for name in "abcd"}


@pytest.mark.parametrize("level", list(Level))
def test_the_level_is_a_ceiling(level: Level) -> None:
    """Events above the level are not sent: INFO hides DEBUG, ERROR hides all but errors."""
    events = [replace(WROTE, level=each) for each in Level]
    assert shown(events, level) == [event for event in events if event.level.value <= level.value]


# --- repeats ---------------------------------------------------------------------------------------------------------


def repeated(*events: tuple[float, Event]) -> list[str | None]:
    """What is shown of each event, said at its second."""
    repeats = Repeats()
    weighed = [repeats.weigh(event, second) for second, event in events]
    return [event and event.message for event in weighed]


def test_a_state_said_again_is_shown_once_in_ten_minutes() -> None:
    """At once, then not, then with a count of what was held back, then from the start."""
    said = repeated(*((second, FAILED) for second in (0.0, 1.0, 2.0, 599.0, 600.0, 601.0, 1200.0, 9999.0)))
    counted = [FAILED.message + f" (said {times} times more since)" for times in (3, 1)]
    assert said == [FAILED.message, None, None, None, counted[0], None, counted[1], FAILED.message]


def test_a_changed_state_is_shown_at_once() -> None:
    """Another message, another path, another generation: each is news, and the old one is still known."""
    others = [replace(FAILED, message="other"), replace(FAILED, path="/x"), replace(FAILED, generation="7f3a91c")]
    said = repeated((0.0, FAILED), *((1.0, other) for other in others), (2.0, FAILED), (2.0, others[0]))
    assert said == [FAILED.message, "other", FAILED.message, FAILED.message, None, None]


def test_a_state_that_comes_back_after_a_recovery_is_news() -> None:
    """Once things were well for that runtime, the same failure is shown at once; other runtimes keep silence."""
    containerd = replace(FAILED, runtime="containerd")
    recovered = Event(Kind.RECOVERED, "what had failed works again", runtime="docker")
    said = repeated((0.0, FAILED), (0.0, containerd), (1.0, recovered), (2.0, FAILED), (2.0, containerd))
    assert said == [FAILED.message, FAILED.message, recovered.message, FAILED.message, None]


def test_a_recovery_of_everything_clears_everything() -> None:
    """An event of no particular runtime (a new desired state, a converged cycle) ends the silence about all."""
    for kind in (Kind.LOADED, Kind.RECOVERED, Kind.CONVERGED, Kind.REVERTED):
        end = Event(kind, "all is well")
        assert repeated((0.0, FAILED), (1.0, end), (2.0, FAILED)) == [FAILED.message, "all is well", FAILED.message]


def test_a_way_of_watching_that_comes_back_is_news() -> None:
    """From events to polling and back is three lines; the same twice in a row is one."""
    events, polling = Event(Kind.WATCH, "inotify events"), Event(Kind.WATCH, "polling")
    said = repeated(*((float(second), event) for second, event in enumerate([events, events, polling, events, events])))
    assert said == ["inotify events", None, "polling", "inotify events", None]


@pytest.mark.parametrize("kind", sorted(set(Kind) - STATES, key=lambda kind: kind.name))
def test_what_was_done_is_always_shown(kind: Kind) -> None:
    """Two writes are two lines, however alike."""
    event = Event(kind, "once more")
    assert repeated((0.0, event), (0.0, event), (0.0, event)) == ["once more"] * 3


def test_the_memory_for_repeats_is_bounded() -> None:
    """100,000 different states: the latest are remembered, the oldest forgotten, nothing grows."""
    repeats = Repeats()
    for number in range(FLOOD):
        repeats.weigh(replace(FAILED, message=str(number)), 0.0)
    latest, oldest = (replace(FAILED, message=str(number)) for number in (FLOOD - 1, 0))
    assert (repeats.weigh(latest, 1.0), repeats.weigh(oldest, 1.0)) == (None, oldest)
    assert len(vars(repeats)["_seen"]) <= 256


def test_the_journal_holds_back_repeats() -> None:
    """Of the same failure a thousand times one line is sent."""
    assert shown([FAILED] * 1000 + [WROTE, FAILED]) == [FAILED, WROTE]


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("GET https://user:pass@host/v2/ failed", "GET https://***@host/v2/ failed"),
        ("https://user:pa/ss@host/v2/", "https://***@host/v2/"),
        ("https://token@host", "https://***@host"),
        ("two: http://a:b@c and http://d:e@f", "two: http://***@c and http://***@f"),
        ("https://host:5000/v2/ is fine", "https://host:5000/v2/ is fine"),
        ("ghcr.io/app@sha256:0123 is fine", "ghcr.io/app@sha256:0123 is fine"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: ***"),
        ('header = {"Authorization" = "Bearer x"}', 'header = {"Authorization" = ***'),
        ("proxy-authorization=abc def", "proxy-authorization=***"),
        ("sent Bearer eyJhbGciOi.abc-_def twice", "sent Bearer *** twice"),
        ("bearer of bad news", "bearer of bad news"),
        ("?token=abcdef&x=1", "?token=***&x=1"),
        ('{"auth": "dXNlcjpwYXNz"}', '{"auth": "***"}'),
        ("password=hunter22 and more", "password=*** and more"),
        ("found unexpected token: }", "found unexpected token: }"),
        ("AUTHORIZATION: x; PASSWD=hunter22", "AUTHORIZATION: ***"),
        (
            "BASIC dXNlcjpwYXNz, then Secret=a and TOKEN=b and Passwd=c",
            "BASIC ***, then Secret=*** and TOKEN=*** and Passwd=***",
        ),
    ],
)
def test_what_looks_like_a_secret_is_not_shown(text: str, clean: str) -> None:
    """Userinfo of a URL, authorization headers, tokens and passwords; what only looks a little like one stays."""
    assert Redaction().clean(Event(Kind.FAILED, text)) == Event(Kind.FAILED, clean)


def test_a_registered_secret_is_in_no_field() -> None:
    """From the moment it is registered a value is replaced wherever it stands; very short ones are not."""
    sent: list[Event] = []
    sink = Journal(sent.append)
    sink.hide(["canary-4f1c2a", "abc", ""])
    sink.emit(Event(Kind.WROTE, "a canary-4f1c2a b abc", Level.INFO, *["x canary-4f1c2a"] * 7))
    sink.close(10)
    assert [astuple(event)[1:] for event in sent] == [("a *** b abc", Level.INFO, *["x ***"] * 7)]


@given(
    before=st.text(),
    secret=st.text(alphabet=st.characters(blacklist_characters="*"), min_size=4),
    after=st.text(),
)
def test_no_surrounding_brings_a_secret_back(before: str, secret: str, after: str) -> None:
    """Whatever stands around it, the value is not in what is shown."""
    redaction = Redaction()
    redaction.add([secret])
    assert secret not in redaction.clean(Event(Kind.FAILED, before + secret + after)).message


def test_a_secret_at_the_cut_is_not_half_shown() -> None:
    """A long text is cut after it was cleaned, so that no part of a secret is left at its end."""
    redaction = Redaction()
    redaction.add(["canary-4f1c2a"])
    for padding in range(16 * 1024 - 20, 16 * 1024 + 5):
        message = redaction.clean(Event(Kind.FAILED, "x" * padding + "canary-4f1c2a")).message
        assert "canary" not in message
        assert len(message) <= 16 * 1024


# --- what it looks like ----------------------------------------------------------------------------------------------


def test_every_value_becomes_a_native_field() -> None:
    """All fields with a value, under their journal names; the empty ones are left out."""
    event = Event(Kind.WROTE, "m", Level.NOTICE, "gen", "docker", "ghcr.io", "/p", "write", "why", "changed")
    assert fields(event) == [
        ("MESSAGE", b"m"),
        ("MESSAGE_ID", b"80000667533d4314a6a03f10f4e1c9a9"),
        ("PRIORITY", b"5"),
        ("SYSLOG_IDENTIFIER", b"mirror-agent"),
        ("MIRROR_AGENT_GENERATION", b"gen"),
        ("MIRROR_AGENT_RUNTIME", b"docker"),
        ("MIRROR_AGENT_REGISTRY", b"ghcr.io"),
        ("MIRROR_AGENT_PATH", b"/p"),
        ("MIRROR_AGENT_ACTION", b"write"),
        ("MIRROR_AGENT_REASON", b"why"),
        ("MIRROR_AGENT_OUTCOME", b"changed"),
    ]
    names = [name for name, _ in fields(Event(Kind.WROTE, "m"))]
    assert names == ["MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER"]


def test_what_is_not_unicode_can_be_sent() -> None:
    """A lone surrogate, as from a file name that is not UTF-8, is written out."""
    assert fields(Event(Kind.WROTE, "a\udcffb"))[0] == ("MESSAGE", b"a\\udcffb")


def test_a_datagram_is_what_journald_reads() -> None:
    """NAME=value by lines; a value with a line break goes with its length, so that it cannot forge a field."""
    pairs = [("MESSAGE", b"one\nPRIORITY=0"), ("PRIORITY", b"6")]
    assert datagram(pairs) == b"MESSAGE\n\x0e\0\0\0\0\0\0\0one\nPRIORITY=0\nPRIORITY=6\n"


def test_the_longest_event_fits_into_a_datagram(frozen: tuple[Callable[[Event], None], socket.socket]) -> None:
    """Every text at its greatest length (4 bytes a character) is taken by the socket as the kernel sizes it."""
    send, listening = frozen
    longest = Redaction().clean(Event(Kind.FAILED, *["\U0001f433" * 20_000], Level.ERROR, *["\U0001f433" * 20_000] * 7))
    send(longest)
    listening.settimeout(5)
    assert len(listening.recv(16 * 1024 * 1024)) > 8 * 4 * 16 * 1024


def test_a_journald_that_is_not_there_costs_lines_only(tmp_path: Path) -> None:
    """No socket, then one: what came before is counted as lost, what comes after arrives."""
    path = tmp_path / "journal"
    sender = NativeSender(str(path))
    sink = Journal(sender)
    sink.emit(replace(WROTE, message="lost"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        time.sleep(0.1)
        listening.bind(str(path))
        sink.emit(replace(WROTE, message="arrives"))
        messages: list[str] = []
        drain(listening, messages, 0.3)
    sink.close(5)
    sender.close()
    assert messages == ["arrives", "1 log line was dropped, because nobody took them"]


@pytest.mark.parametrize(
    ("event", "plain", "coloured"),
    [
        (WROTE, f"10:32:07  {WROTE.message}\n", f"\x1b[2m10:32:07\x1b[0m  {WROTE.message}\n"),
        (FAILED, f"10:32:07  {FAILED.message}\n", f"\x1b[2m10:32:07\x1b[0m  \x1b[31m{FAILED.message}\x1b[0m\n"),
        (
            Event(Kind.WROTE, "first\nsecond"),
            "10:32:07  first\n          second\n",
            "\x1b[2m10:32:07\x1b[0m  first\n          second\n",
        ),
        (
            Event(Kind.INVALID, "\x1b]0;owned\x07\r\x9b31m"),
            "10:32:07  \\x1b]0;owned\\x07\\x0d\\x9b31m\n",
            "\x1b[2m10:32:07\x1b[0m  \\x1b]0;owned\\x07\\x0d\\x9b31m\n",
        ),
    ],
)
def test_a_line_for_people(event: Event, plain: str, coloured: str) -> None:
    """Time and sentence, further lines below; colour says how bad it is; control characters are written out."""
    assert line(event, TEN_THIRTY_TWO, colour=False) == plain
    assert line(event, TEN_THIRTY_TWO, colour=True) == coloured


_OPEN = """
import os, sys
from agent.events import Event, Kind
from agent.journal import open_journal
if sys.argv[1] == "own":
    found = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
sink = open_journal()
sink.emit(Event(Kind.WROTE, "hello"))
sink.close(10)
"""


@pytest.mark.parametrize(
    ("stream", "lines"), [("own", 0), ("1:2", 1), ("", 1)], ids=["the journal", "another stream", "no journal"]
)
def test_stderr_decides_where_it_goes(stream: str, lines: int, tmp_path: Path) -> None:
    """Native only if JOURNAL_STREAM names the very file that stderr is: a redirected stderr gets plain lines."""
    environment = {**os.environ, "JOURNAL_STREAM": stream}
    target = tmp_path / "stderr"
    with target.open("w") as stderr:
        command = [sys.executable, "-c", _OPEN, stream]
        subprocess.run(command, stderr=stderr, env=environment, cwd=os.getcwd(), timeout=30, check=True)
    found = target.read_text().splitlines()
    assert [text[8:] for text in found] == ["  hello"] * lines


# --- libraries -------------------------------------------------------------------------------------------------------


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    handlers, raising = logging.root.handlers[:], logging.raiseExceptions
    yield
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers
    logging.raiseExceptions = raising


@pytest.mark.usefixtures("logging_as_before")
def test_what_libraries_warn_about_becomes_an_event() -> None:
    """logging from WARNING up, and warnings; watchdog's are about watching, others are for us to mend."""
    heard: list[Event] = []
    bridge_libraries(heard.append)
    logging.getLogger("watchdog.observers").warning("Inotify queue %s", "overflowed")
    logging.getLogger("watchdog.observers").info("nothing")
    logging.getLogger("other").error("broken")
    logging.getLogger("other").error("bad %d arguments", "x")
    with warnings.catch_warnings(record=False):
        warnings.simplefilter("always")
        logging.getLogger("py.warnings").warning("a warning")
    assert heard == [
        Event(Kind.WATCH, "watchdog.observers: Inotify queue overflowed", Level.WARNING),
        Event(Kind.BUG, "other: broken", Level.ERROR),
        Event(Kind.BUG, "py.warnings: a warning", Level.WARNING),
    ]
