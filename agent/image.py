"""Image references in the one form into which containerd's CRI and Docker bring them before they ask anybody.

Source: distribution/reference normalize.go, regexp.go @ v0.6 (what both of them use).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.errors import MirrorAgentError
from agent.model import DOCKER_HUB

_ALIAS_OF_HUB = "index.docker.io"
_OFFICIAL = "library/"
_LATEST = "latest"
_LONGEST_NAME = 255
_LABEL = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PART = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(f"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"[a-f0-9]{64}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LONGEST_SHOWN = 80


class BadReferenceError(MirrorAgentError):
    """A text that names no image; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Image:
    """A normalised reference. `registry` is the name by which a runtime looks for mirrors; `digest` wins over `tag`
    ("" with a digest alone)."""

    registry: str
    repository: str
    tag: str = _LATEST
    digest: str = ""

    @property
    def reference(self) -> str:
        """What stands behind `manifests/`."""
        return self.digest or self.tag

    @property
    def suffix(self) -> str:
        """What stands behind the name, as people write it."""
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """The whole reference."""
        return f"{self.registry}/{self.repository}{self.suffix}"


def parse(text: str) -> Image:
    """The image that a reference names. Raises BadReferenceError."""
    _refuse_what_is_none(text)
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _bad(text, "what stands behind @ must be a digest, as in @sha256: with 64 characters of 0-9 and a-f")
    if digest.startswith("sha256:") and not _SHA256.fullmatch(digest):
        raise _bad(text, "a sha256 digest has exactly 64 characters of 0-9 and a-f")
    name, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        raise _bad(text, "a tag has letters, digits, and _ . - behind the first, at most 128")
    registry, repository = _split_registry(name)
    if not _DOMAIN.fullmatch(registry):
        raise _bad(text, f'"{_cut(registry)}" is no registry: a registry is host or host:port')
    if not _PATH.fullmatch(repository):
        raise _bad(text, _path_fault(repository))
    if len(registry) + 1 + len(repository) > _LONGEST_NAME:
        raise _bad(text, f"the name has more than {_LONGEST_NAME} characters")
    if tag is None:
        tag = "" if digest else _LATEST
    return Image(registry, repository, tag, digest)


def _refuse_what_is_none(text: str) -> None:
    if not text:
        raise BadReferenceError("an image is named as in nginx, ghcr.io/owner/name:tag or name@sha256:…")
    if text != text.strip() or not text.isprintable() or " " in text:
        raise _bad(text, "it contains a blank or a character that cannot be seen")
    if scheme := _SCHEME.match(text):
        raise _bad(text, f'an image is named without a scheme: leave "{scheme[0]}" out')
    if _ID.fullmatch(text):
        raise _bad(text, "64 hexadecimal characters are the id of an image on this machine, not the name of one")


def _split_tag(text: str) -> tuple[str, str | None]:
    """The colon of a tag stands behind the last slash; a port's stands before it."""
    name, colon, tag = text.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (text, None)


def _split_registry(name: str) -> tuple[str, str]:
    """The first part is a registry if it has a dot, a colon or a capital letter, or is `localhost`."""
    first, slash, rest = name.partition("/")
    is_registry = slash and (set(first) & set(".:") or first == "localhost" or first.lower() != first)
    registry, repository = (first, rest) if is_registry else (DOCKER_HUB, name)
    registry = DOCKER_HUB if registry == _ALIAS_OF_HUB else registry
    if registry == DOCKER_HUB and repository and "/" not in repository:
        repository = _OFFICIAL + repository
    return registry, repository


def _path_fault(repository: str) -> str:
    if not repository or "//" in repository or repository.endswith("/"):
        return "a part of the name is empty"
    if repository.lower() != repository:
        return "the name of a repository has no capital letters"
    return 'the name of a repository has a-z, 0-9, "/", and between them single . or _, or -'


def _bad(text: str, why: str) -> BadReferenceError:
    return BadReferenceError(f'"{_cut(text)}" names no image: {why}')


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
