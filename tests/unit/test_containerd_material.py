"""Which files containerd can use as a CA, a client certificate, a key or a header, judged before they are named."""

import time

import pytest

from agent.model import Absent, FileState, Regular, Unusable
from agent.runtimes._material import Material, examine
from tests.pem import CERTIFICATE, EC_KEY, KEY, LOCKED_KEY, OLD_LOCKED_KEY, pem

NO_CERTIFICATE = "holds no certificate in PEM form"
NO_KEY = "holds no private key in PEM form"
LOCKED = "holds a private key with a passphrase, which containerd cannot ask for"


def problems(text: str) -> tuple[str, str]:
    """Of the file as a certificate, and as a key."""
    material = examine(Regular(text.encode()))
    return material.certificate_problem, material.key_problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CERTIFICATE, ("", NO_KEY)),
        (f"# the CA of the rack\n\n{CERTIFICATE}", ("", NO_KEY)),
        (CERTIFICATE.replace("\n", "\r\n"), ("", NO_KEY)),
        (pem("TRUSTED CERTIFICATE") + CERTIFICATE, ("", NO_KEY)),
        (KEY, (NO_CERTIFICATE, "")),
        (EC_KEY, (NO_CERTIFICATE, "")),
        (pem("EC PARAMETERS") + EC_KEY, (NO_CERTIFICATE, "")),
        (CERTIFICATE + KEY, ("", "")),
        (KEY + CERTIFICATE, ("", "")),
        (LOCKED_KEY, (NO_CERTIFICATE, LOCKED)),
        (OLD_LOCKED_KEY, (NO_CERTIFICATE, LOCKED)),
        ("", (NO_CERTIFICATE, NO_KEY)),
        (CERTIFICATE[:-30], (NO_CERTIFICATE, NO_KEY)),
        (CERTIFICATE.replace("MAMC", "M*MC"), (NO_CERTIFICATE, NO_KEY)),
        (pem("CERTIFICATE").replace("MAMCAQE=", "aGVsbG8="), (NO_CERTIFICATE, NO_KEY)),
        ("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", (NO_CERTIFICATE, NO_KEY)),
        ("<html>404</html>", (NO_CERTIFICATE, NO_KEY)),
    ],
)
def test_certificates_and_keys(text: str, expected: tuple[str, str]) -> None:
    """A file serves as a CA if one certificate in it decodes, as a key if its first private key needs no passphrase."""
    assert problems(text) == expected


@pytest.mark.parametrize(
    ("state", "problem"),
    [(Absent(), "is missing"), (Unusable("is a directory"), "is a directory"), (Unusable("is a FIFO"), "is a FIFO")],
)
def test_what_is_no_file_serves_as_nothing(state: FileState, problem: str) -> None:
    """The reason is the same for every use."""
    assert examine(state) == Material(problem, problem, problem)


def header(content: bytes, mode: int = 0o600, uid: int = 0) -> tuple[str, str]:
    """The value of a header file and its problem."""
    material = examine(Regular(content, mode, uid))
    return material.header, material.header_problem


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (header(b"Basic abc=\n"), ("Basic abc=", "")),
        (header(b"  Bearer x y \r\n"), ("Bearer x y", "")),
        (header(b"x", mode=0o400), ("x", "")),
        (header(b"x", mode=0o640), ("", "holds a secret and is open to others than root (mode 0640, 0600 is right)")),
        (header(b"x", uid=1000), ("", "holds a secret and does not belong to root")),
        (header(b" \n"), ("", "is empty")),
        (header(b"a\nb\n"), ("", "does not hold one line of printable ASCII text")),
        (header(b"a\x00b"), ("", "does not hold one line of printable ASCII text")),
        (header("é".encode()), ("", "does not hold one line of printable ASCII text")),
    ],
)
def test_header_files(found: tuple[str, str], expected: tuple[str, str]) -> None:
    """Only a file of root that nobody else can read, with one line, gives a header; no problem quotes it."""
    assert found == expected


def test_a_secret_stays_out_of_the_representation() -> None:
    """What is printed in a failed test or a bug report holds no header value."""
    assert "s3cret" not in repr(examine(Regular(b"s3cret", 0o600)))


def test_hostile_files_cost_no_more_than_their_size() -> None:
    """4 MiB of block beginnings without an end are judged in one pass: well under 10 s even on a busy machine."""
    content = b"-----BEGIN CERTIFICATE-----\nAAAA\n" * 120_000 + b"PRIVATE KEY-----"
    started = time.process_time()
    assert examine(Regular(content)).key_problem == NO_KEY
    assert time.process_time() - started < 10
