"""Requests of a probe and their answers: one connection each, redirects as far as they may lead, bounded in all."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from urllib.parse import SplitResult, urljoin, urlsplit

from agent import __version__
from agent.model import Mirror
from agent.probe._transport import Progress, Stage, connect, led_addresses, own_addresses, secure
from agent.probe._trust import context_for, reason
from agent.probe.address import Kind, kind_of
from agent.probe.challenge import is_web_address
from agent.probe.judge import Answer
from agent.probe.verdict import Found, Verdict
from agent.wire import CutOffError, Deadlined, Head, NothingError, TooLongError, read_body, read_head, read_start

_MOST_REDIRECTS = 5
_MOST_INTERIM = 8
_MOST_HEAD_BYTES = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
SMALL_BYTES = 64 * 1024
"""The most of a body that is only looked at."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. The answer's body is read whole if it has at most `max_whole_bytes`, and else is a finding; without
    that number it is only looked at, and cut off behind SMALL_BYTES."""

    method: str
    url: str
    headers: Mapping[str, str]
    max_whole_bytes: int = 0


class Exchange:
    """Asks on behalf of one mirror. Raises Found for whatever is no answer, TimeoutError behind the deadline."""

    def __init__(self, mirror: Mirror, progress: Progress) -> None:
        self._mirror = mirror
        self._progress = progress
        self._home = urlsplit(mirror.url)
        self._own_addresses: list[str] = []

    def ask(self, request: Request) -> Answer:
        """The answer, after redirects. The request's headers go to its own host only, the mirror's to the mirror's."""
        url, headers = request.url, request.headers
        for _ in range(_MOST_REDIRECTS):
            parts = urlsplit(url)
            answer = self._ask_once(replace(request, url=url, headers=headers), parts)
            if answer.status not in _REDIRECTS:
                return answer
            url = self._next(url, answer)
            if urlsplit(url).netloc != parts.netloc:
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
        raise Found(Verdict.WRONG_CONTENT, f"redirects more than {_MOST_REDIRECTS} times")

    def _next(self, url: str, answer: Answer) -> str:
        location = answer.head.value("location")
        try:
            following = urljoin(url, location)
        except ValueError:
            following = ""
        if not location or not is_web_address(following):
            raise Found(Verdict.WRONG_CONTENT, f"answers {answer.status} and leads nowhere: no http or https address")
        if url.startswith("https:") and following.startswith("http:"):
            raise Found(Verdict.WRONG_CONTENT, "redirects from https to http: not followed")
        return following

    def _ask_once(self, request: Request, parts: SplitResult) -> Answer:
        is_home = self._is_home(parts)
        self._progress.place = "" if is_home else str(parts.hostname)
        self._progress.requests += 1
        with self._connected(parts, is_home=is_home) as connection:
            self._progress.hold(connection)
            self._progress.stage = Stage.ANSWER
            try:
                connection.settimeout(self._progress.left())
                connection.sendall(self._bytes_of(request, parts, is_home=is_home))
                return self._answer(connection, request)
            except TimeoutError:
                raise
            except (OSError, ValueError) as error:
                self._progress.left()
                raise self._found(error) from error
            finally:
                self._progress.hold(None)

    def _is_home(self, parts: SplitResult) -> bool:
        return (parts.scheme, parts.netloc) == (self._home.scheme, self._home.netloc)

    def _connected(self, parts: SplitResult, *, is_home: bool) -> socket.socket:
        host, is_secure = str(parts.hostname), parts.scheme == "https"
        port = parts.port or (443 if is_secure else 80)
        addresses = self._addresses(host, port, is_home=is_home)
        context = context_for(self._mirror, with_client=is_home) if is_secure else None
        connection = connect(addresses, port, self._progress)
        self._progress.hold(connection)
        return secure(connection, host, context, self._progress) if context else connection

    def _addresses(self, host: str, port: int, *, is_home: bool) -> list[str]:
        if not is_home:
            return led_addresses(host, port, self._own_kinds(), self._progress)
        self._own_addresses = self._own_addresses or own_addresses(host, port, self._progress)
        return self._own_addresses

    def _own_kinds(self) -> frozenset[Kind]:
        return frozenset(map(kind_of, self._own_addresses)) - {Kind.NEVER}

    def _bytes_of(self, request: Request, parts: SplitResult, *, is_home: bool) -> bytes:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        own = {each.name: ", ".join(each.values) for each in self._mirror.headers} if is_home else {}
        usual = {"Host": parts.netloc, "User-Agent": f"mirror-agent/{__version__}", "Connection": "close"}
        lines = [f"{name}: {value}" for name, value in {**usual, **own, **request.headers}.items()]
        return "\r\n".join([f"{request.method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")

    def _answer(self, connection: socket.socket, request: Request) -> Answer:
        most = _MOST_HEAD_BYTES + 2 * max(request.max_whole_bytes, SMALL_BYTES)
        with BufferedReader(Deadlined(connection, self._progress.deadline, most)) as reader:
            head = self._final_head(reader)
            if request.method == "HEAD" or head.status in {204, 304}:
                return Answer(head)
            if request.max_whole_bytes and head.status == 200:
                return Answer(head, read_body(reader, head, request.max_whole_bytes))
            return Answer(head, read_start(reader, head, SMALL_BYTES))

    def _final_head(self, reader: BufferedReader[Deadlined]) -> Head:
        for _ in range(_MOST_INTERIM):
            head = read_head(reader)
            if head.status >= 200:
                return head
        raise TooLongError("interim answers (1xx) without end")

    def _found(self, error: Exception) -> Found:
        at = self._progress.at
        if isinstance(error, ssl.SSLError):
            return Found(Verdict.TLS, at(reason(error)))
        if isinstance(error, OSError | NothingError):
            return Found(Verdict.REFUSED, at("takes the connection and closes it without an answer"))
        if isinstance(error, CutOffError):
            return Found(Verdict.WRONG_CONTENT, at(f"its answer is incomplete: {error}"))
        if isinstance(error, TooLongError):
            return Found(Verdict.WRONG_CONTENT, at(f"its answer has no end in sight: {error}"))
        return Found(Verdict.WRONG_CONTENT, at("what it answers is not HTTP"))
