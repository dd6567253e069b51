"""Certificates, keys and header files that the desired state names: are they what containerd needs them to be?

A missing or unreadable file named in hosts.toml makes every pull of that registry fail, with no fallback (containerd
remotes/docker/config/hosts.go, 1.4 to 2.3), so they are judged before a line is written. What counts is Go's reading:
x509.CertPool.AppendCertsFromPEM for a CA, tls.X509KeyPair for a client pair.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.model import Absent, FileState, Regular

_BEGIN = b"-----BEGIN "
_DASHES = b"-----"
_DER_SEQUENCE = b"\x30"


@dataclass(frozen=True, slots=True)
class Material:
    """What one file can serve as. Each `*_problem` is "" if it can, else the reason as the end of a sentence whose
    subject is the path. `header` is the one line of a header file, a secret."""

    certificate_problem: str
    key_problem: str
    header_problem: str
    header: str = field(default="", repr=False)


def examine(state: FileState) -> Material:
    """Judge a file once for every use it may have."""
    if not isinstance(state, Regular):
        reason = "is missing" if isinstance(state, Absent) else state.reason
        return Material(reason, reason, reason)
    header, header_problem = _header(state)
    return Material(_certificate_problem(state.content), _key_problem(state.content), header_problem, header)


def _certificate_problem(content: bytes) -> str:
    if any(block.kind == b"CERTIFICATE" and block.is_der for block in _pem_blocks(content)):
        return ""
    return "holds no certificate in PEM form"


def _key_problem(content: bytes) -> str:
    for block in _pem_blocks(content) if b"PRIVATE KEY-----" in content else ():
        if block.kind == b"ENCRYPTED PRIVATE KEY" or block.is_encrypted:
            return "holds a private key with a passphrase, which containerd cannot ask for"
        if block.kind.endswith(b"PRIVATE KEY") and block.is_der:
            return ""
    return "holds no private key in PEM form"


@dataclass(frozen=True, slots=True)
class _Block:
    """One PEM block: what its first line calls it, and the lines up to its last."""

    kind: bytes
    lines: tuple[bytes, ...] = field(repr=False)

    @property
    def is_encrypted(self) -> bool:
        return any(line.startswith(b"Proc-Type:") and b"ENCRYPTED" in line for line in self.lines)

    @property
    def is_der(self) -> bool:
        try:
            body = base64.b64decode(b"".join(line for line in self.lines if b":" not in line), validate=True)
        except binascii.Error:
            return False
        return body.startswith(_DER_SEQUENCE)


def _pem_blocks(content: bytes) -> Iterator[_Block]:
    """The whole PEM blocks, one pass over the lines."""
    kind = b""
    lines: list[bytes] = []
    for raw in io.BytesIO(content):
        line = raw.strip()
        if line.startswith(_BEGIN) and line.endswith(_DASHES):
            kind, lines = line[len(_BEGIN) : -len(_DASHES)], []
        elif kind and line == b"-----END " + kind + _DASHES:
            yield _Block(kind, tuple(lines))
            kind = b""
        elif kind:
            lines.append(line)


def _header(state: Regular) -> tuple[str, str]:
    """The header's value, or what is wrong with the file. Never quotes the content."""
    if state.uid != 0:
        return "", "holds a secret and does not belong to root"
    if state.mode & 0o077:
        return "", f"holds a secret and is open to others than root (mode {state.mode:04o}, 0600 is right)"
    text = state.content.decode("ascii", "replace").strip()
    if not text:
        return "", "is empty"
    if not (text.isascii() and text.isprintable()):
        return "", "does not hold one line of printable ASCII text"
    return text, ""
