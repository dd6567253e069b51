"""PEM texts for tests: of the right form, and of no use to anybody."""

import base64

_DER = base64.b64encode(b"\x30\x03\x02\x01\x01").decode()


def pem(kind: str, *lines: str) -> str:
    """One block; `lines` come before the body."""
    return "\n".join([f"-----BEGIN {kind}-----", *lines, _DER, f"-----END {kind}-----", ""])


CERTIFICATE = pem("CERTIFICATE")
KEY = pem("PRIVATE KEY")
EC_KEY = pem("EC PRIVATE KEY")
LOCKED_KEY = pem("ENCRYPTED PRIVATE KEY")
OLD_LOCKED_KEY = pem("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC,00", "")
