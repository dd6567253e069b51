"""Whom a probe trusts: the machine's CA bundle and what the mirror's entry says, as Go's TLS does for containerd."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache

from agent.model import Mirror
from agent.probe.verdict import Found, Verdict

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Gentoo
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL, openEuler
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine
)
"""Where distributions keep their roots; Go reads the first that exists (crypto/x509/root_linux.go), and so do we."""


def context_for(mirror: Mirror, *, with_client: bool) -> ssl.SSLContext:
    """The rules for a connection; a client certificate is shown to the mirror's own host only. Raises Found."""
    bare = Mirror(mirror.url, ca=mirror.ca, client=mirror.client if with_client else (), skip_verify=mirror.skip_verify)
    return _context(Mirror("", ca=bare.ca, client=bare.client, skip_verify=bare.skip_verify))


@lru_cache(maxsize=32)
def _context(mirror: Mirror) -> ssl.SSLContext:
    """Made once for all mirrors with the same rules: reading a bundle takes some 20 ms."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if mirror.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _load_roots(context, mirror)
    for pair in reversed(mirror.client):  # of two that fit the last one loaded is shown, and Go shows the first
        try:
            context.load_cert_chain(pair.cert, pair.key or None, password=lambda: "")
        except (OSError, ValueError) as error:
            raise Found(Verdict.TLS, f"the client certificate {pair.cert} cannot be used: {reason(error)}") from error
    return context


def _load_roots(context: ssl.SSLContext, mirror: Mirror) -> None:
    # Go takes every certificate it is given for an anchor, not only those that have signed themselves.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    bundle = next((path for path in BUNDLES if os.path.exists(path)), "")
    for path in (bundle, *mirror.ca):
        try:
            context.load_verify_locations(path) if path else None
        except (OSError, ValueError) as error:
            raise Found(Verdict.TLS, f"the CA file {path} cannot be used: {reason(error)}") from error


def reason(error: Exception) -> str:
    """A TLS or file error in words, without the library's source lines."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        return _reason_of(error)
    return (error.strerror if isinstance(error, OSError) else "") or "it cannot be read"


def _reason_of(error: ssl.SSLError) -> str:
    word = error.reason or ""
    if word in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        return "no TLS is spoken on this port: write http:// if that is meant"
    if "CERTIFICATE_REQUIRED" in word or "HANDSHAKE_FAILURE" in word:
        return f"it refuses us, perhaps for want of a client certificate ({word.lower().replace('_', ' ')})"
    if isinstance(error, ssl.SSLEOFError):
        return "it ends the connection in the middle of it"
    return word.lower().replace("_", " ") or "TLS does not come about"
