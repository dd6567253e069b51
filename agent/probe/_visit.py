"""The visit of one mirror: the requests of a pull, up to the point where a runtime would turn away."""

from __future__ import annotations

from agent.image import Image
from agent.probe import judge
from agent.probe._exchange import SMALL_BYTES, Exchange, Request
from agent.probe._transport import Progress
from agent.probe.challenge import Challenge, challenges, token_in, token_url
from agent.probe.judge import Answer, Part
from agent.probe.target import Target
from agent.probe.verdict import Finding, Found, Verdict, given

_ACCEPT = {"Accept": ", ".join((*judge.MANIFEST_TYPES, "*/*"))}
_MOST_MANIFEST_BYTES = 1024 * 1024


def visit(target: Target, progress: Progress) -> Finding:
    """The finding. Raises nothing but what is a bug."""
    try:
        return _in_time(_Visit(target, Exchange(target.mirror, progress)).made(), progress)
    except Found as end:
        return end.finding
    except TimeoutError:
        return progress.overdue()


def _in_time(finding: Finding, progress: Progress) -> Finding:
    """A read that is woken late finds data instead of the deadline; nobody is fine behind it. Raises TimeoutError."""
    if finding.verdict is Verdict.OK:
        progress.left()
    return finding


class _Visit:
    """A visit in progress: what it asks, and the token that it was given."""

    def __init__(self, target: Target, exchange: Exchange) -> None:
        self._target = target
        self._exchange = exchange
        self._token = ""

    def made(self) -> Finding:
        """GET /v2/, HEAD of the manifest with the token flow in between, and where it is wanted what it leads to."""
        target = self._target
        if target.ping_url and (finding := judge.of_ping(self._ask("GET", target.ping_url))):
            return finding
        answer = self._ask("HEAD", target.manifest_url)
        if answer.status == 401:
            self._token = self._fetched_token(answer)
            answer = self._ask("HEAD", target.manifest_url)
        finding = judge.of_manifest_head(answer, target.image)
        if finding.verdict is Verdict.OK and target.checks_content:
            return self._content(finding)
        return finding

    def _content(self, head: Finding) -> Finding:
        """The manifest by its bytes; of an index the first manifest too; then the smallest blob, if it is small."""
        image = self._target.image
        answer = self._ask_whole(self._target.manifest_url)
        finding = judge.of_manifest(answer, head, image)
        parts = judge.parts(answer.body)
        if finding.verdict is Verdict.OK and parts[0].is_manifest:
            inner = Image(image.registry, image.repository, "", parts[0].digest)
            answer = self._ask_whole(self._target.url_of("manifests", inner.digest))
            refuted = judge.of_manifest(answer, Finding(Verdict.OK, "", inner.digest), inner)
            finding = finding if refuted.verdict is Verdict.OK else refuted
            parts = judge.parts(answer.body)
        blobs = [part for part in parts if not part.is_manifest and part.size <= SMALL_BYTES]
        if finding.verdict is not Verdict.OK or not blobs:
            return finding
        return self._of_blob(min(blobs, key=lambda part: part.size)) or finding

    def _of_blob(self, part: Part) -> Finding | None:
        """By a range, as a pull that goes on where it was cut off."""
        headers = {**self._headers(), "Range": f"bytes=0-{part.size - 1}"}
        return judge.of_blob(
            self._exchange.ask(Request("GET", self._target.url_of("blobs", part.digest), headers)), part
        )

    def _ask_whole(self, url: str) -> Answer:
        return self._exchange.ask(Request("GET", url, self._headers(), _MOST_MANIFEST_BYTES))

    def _ask(self, method: str, url: str) -> Answer:
        return self._exchange.ask(Request(method, url, self._headers()))

    def _headers(self) -> dict[str, str]:
        return {**_ACCEPT, **({"Authorization": f"Bearer {self._token}"} if self._token else {})}

    def _fetched_token(self, answer: Answer) -> str:
        """What the token server gives to anybody. Raises Found where it gives nothing."""
        offered = challenges(answer.head.values("www-authenticate"))
        bearer = next((each for each in offered if each.scheme == "bearer"), None)
        if bearer is None:
            ways = ", ".join(each.scheme for each in offered) or "nothing that is known"
            raise Found(Verdict.LOGIN_REQUIRED, f"wants a login ({judge.visible(ways)}) for {self._target.image.name}")
        reply = self._exchange.ask(Request("GET", self._token_url(bearer), {}))
        if refusal := judge.of_refusal(reply, "a token, at its token server"):
            raise given(refusal)
        token = token_in(reply.body)
        if not token:
            verdict = Verdict.HTML if reply.is_page else Verdict.WRONG_CONTENT
            raise Found(verdict, "its token server answers with something else than a token")
        return token

    def _token_url(self, bearer: Challenge) -> str:
        try:
            return token_url(self._target.image, bearer)
        except ValueError as error:
            raise Found(Verdict.WRONG_CONTENT, str(error)) from error
