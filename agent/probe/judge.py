"""Verdicts over answers: what a runtime would make of them. Pure: an answer in, a finding out, None for "go on"."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from agent.image import Image
from agent.probe.verdict import Finding, Verdict
from agent.wire import Head

MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
"""What containerd and Docker take (remotes/docker/resolver.go @ v1.7); of the older schema 1 they take nothing."""

_OUTDATED = "application/vnd.docker.distribution.manifest.v1+"
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_SHOWN = 60
_DAY_SECONDS = 86400


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its head, and as much of a body as was asked for."""

    head: Head
    body: bytes = field(default=b"", repr=False)

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def media_type(self) -> str:
        """Without its parameters, in lower case."""
        return self.head.value("content-type").partition(";")[0].strip().lower()

    @property
    def is_page(self) -> bool:
        """Whether it is a web page: by its type, or by how it begins."""
        start = self.body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        return self.media_type in {"text/html", "application/xhtml+xml"} or start.startswith((b"<!doctype", b"<html"))


@dataclass(frozen=True, slots=True)
class Part:
    """What a manifest leads to: another manifest, or a blob, of so many bytes."""

    digest: str
    size: int
    is_manifest: bool


def of_ping(answer: Answer) -> Finding | None:
    """Of GET /v2/: a web page says that this is no registry; whatever else is for the manifest to show."""
    if answer.status == 200 and answer.is_page:
        return Finding(Verdict.HTML, "answers /v2/ with a web page")
    return of_limit(answer)


def of_limit(answer: Answer) -> Finding | None:
    """A rate limit, whatever was asked."""
    if answer.status != 429:
        return None
    text = answer.head.value("retry-after")
    seconds = min(int(text), _DAY_SECONDS) if text.isdecimal() and len(text) < 9 else 0
    return Finding(
        Verdict.RATE_LIMITED,
        f"answers 429, too many requests{f', and asks for {seconds} s of rest' if seconds else ''}",
        retry_seconds=seconds,
    )


def of_refusal(answer: Answer, what: str) -> Finding | None:
    """Of any status but 200 and 206, for `what` was asked for ("library/nginx:latest", "its token server")."""
    status = answer.status
    if status in {200, 206}:
        return None
    if limit := of_limit(answer):
        return limit
    seen = f"answers {status} for {what}{_said(answer)}"
    if status in {403, 451}:
        return Finding(Verdict.DENIED, seen)
    if status in {401, 407}:
        return Finding(Verdict.LOGIN_REQUIRED, seen)
    if status in {404, 410}:
        return Finding(Verdict.MISSING, seen)
    return Finding(Verdict.FAILING, seen)


def of_manifest_head(answer: Answer, image: Image) -> Finding:
    """Of HEAD on a manifest: what it is, and whether it is the one that was asked for."""
    name = f"{image.repository}{image.suffix}"
    if refusal := of_refusal(answer, name):
        return refusal
    if answer.is_page:
        return Finding(Verdict.HTML, f"answers with a web page for {name}")
    if answer.media_type not in MANIFEST_TYPES:
        return Finding(Verdict.WRONG_CONTENT, f"answers with {_kind(answer)} for {name}, which is no manifest")
    digest = answer.head.value("docker-content-digest")
    if digest and not _SHA256.fullmatch(digest):
        return Finding(Verdict.WRONG_CONTENT, f"answers for {name} with a digest that is none")
    return _of_digest(digest, image) or Finding(Verdict.OK, f"serves {name}", digest)


def _of_digest(digest: str, image: Image) -> Finding | None:
    """A tag may have moved; a digest cannot."""
    if not image.digest or not digest or digest == image.digest:
        return None
    if image.tag:
        seen = f"has {_short(digest)} as {image.repository}:{image.tag}, not {_short(image.digest)}"
        return Finding(Verdict.STALE, seen, digest)
    return Finding(Verdict.WRONG_CONTENT, f"answers for {_short(image.digest)} with {_short(digest)}", digest)


def of_manifest(answer: Answer, head: Finding, image: Image) -> Finding:
    """Of GET on the manifest whose head was found good (`head`): do its bytes have that digest, are they one?"""
    what = f"the manifest of {image.repository}"
    if refusal := of_refusal(answer, what):
        return refusal
    if answer.is_page:
        return Finding(Verdict.HTML, f"answers with a web page for {what}")
    digest = digest_of(answer.body)
    if head.digest and digest != head.digest:
        return Finding(Verdict.WRONG_CONTENT, f"{what} is not what its digest says", head.digest)
    if not parts(answer.body):
        return Finding(Verdict.WRONG_CONTENT, f"{what} names nothing to pull", digest)
    return _of_digest(digest, image) or replace(head, digest=digest)


def of_blob(answer: Answer, part: Part) -> Finding | None:
    """Of a GET on a blob by a range that is all of it: has it the bytes of its digest?"""
    if refusal := of_refusal(answer, f"the blob {_short(part.digest)}"):
        return refusal
    if answer.is_page:
        return Finding(Verdict.HTML, f"answers with a web page for the blob {_short(part.digest)}")
    if digest_of(answer.body) != part.digest:
        return Finding(Verdict.WRONG_CONTENT, f"the blob {_short(part.digest)} is not what its digest says")
    return None


def parts(manifest: bytes) -> tuple[Part, ...]:
    """What a manifest or an index leads to; empty for what is neither."""
    try:
        document = json.loads(manifest)
    except (ValueError, RecursionError):
        return ()
    return tuple(_parts(document)) if isinstance(document, dict) else ()


def _parts(document: dict[str, Any]) -> Iterator[Part]:
    for key in ("manifests", "config", "layers"):
        found = document.get(key)
        for each in found if isinstance(found, list) else [found]:
            digest, size = (each.get("digest"), each.get("size")) if isinstance(each, dict) else (None, None)
            if isinstance(digest, str) and _SHA256.fullmatch(digest) and isinstance(size, int) and size > 0:
                yield Part(digest, size, key == "manifests")


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _kind(answer: Answer) -> str:
    if answer.media_type.startswith(_OUTDATED):
        return "a manifest of the outdated schema 1"
    return visible(answer.media_type) if answer.media_type else "something without a type"


def _said(answer: Answer) -> str:
    """The registry's own words for a refusal, where it has any."""
    try:
        message = json.loads(answer.body)["errors"][0]["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return f' ("{visible(message)}")' if isinstance(message, str) and message.strip() else ""


def visible(text: str) -> str:
    """A foreign text, cut, on one line and without what steers a terminal."""
    clean = "".join(character if character.isprintable() else " " for character in text).strip()
    return clean if len(clean) <= _SHOWN else f"{clean[:_SHOWN]}…"


def _short(digest: str) -> str:
    return digest[:19]
