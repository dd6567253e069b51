"""Registry names: one spelling for one registry, and nothing that is no registry (A14, A15, A18, A21)."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.desired.names import canonical_registry
from tests.states import said


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("docker.io", "docker.io"),
        ("Docker.IO", "docker.io"),
        ("docker.io.", "docker.io"),
        ("ghcr.io:443", "ghcr.io:443"),
        ("Registry.LAN:5000", "registry.lan:5000"),
        ("registry.lan.:5000", "registry.lan:5000"),
        ("localhost", "localhost"),
        ("LocalHost:5000", "localhost:5000"),
        ("registry:5000", "registry:5000"),
        ("_default", "_default"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]:5000", "[::1]:5000"),
        ("[0:0:0:0:0:0:0:1]", "[::1]"),
        ("[2001:DB8::0:1]:443", "[2001:db8::1]:443"),
        ("中文.example", "xn--fiq228c.example"),
        ("BÜCHER.example:5000", "xn--bcher-kva.example:5000"),
        ("镜像.中国", "xn--o1q148n.xn--fiqs8s"),
        ("xn--FIQ228C.example", "xn--fiq228c.example"),
        ("a-b.c-d.e", "a-b.c-d.e"),
        ("1.2.3.example", "1.2.3.example"),
        ("x" * 63 + ".example", "x" * 63 + ".example"),
        ("a.example:1", "a.example:1"),
        ("a.example:65535", "a.example:65535"),
    ],
)
def test_one_spelling(written: str, canonical: str) -> None:
    """Case, final dot, IDN and IPv6 are brought to one form; a port stays what it is, for containerd looks by name."""
    assert canonical_registry(written) == canonical


DOTTED = "image references take"
WORDS = 'a host name has letters, digits, "-" and dots only'
PORT = "a port is a number from 1 to 65535 without leading zeros"
BRACKETS = 'an IPv6 address needs brackets, as in "[2001:db8::1]:5000"'
IPV6 = 'not an IPv6 address: it is written like "[2001:db8::1]:5000"'
IPV4 = "this looks like an IPv4 address and is none: four numbers from 0 to 255"
EMPTY = "the host name has an empty part: two dots, or a dot in front"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "a registry needs a name, as in docker.io"),
        ("*", '"*" names no registry: the entry for all others is called _default'),
        ("https://ghcr.io", 'a registry is named without a scheme: write "ghcr.io"'),
        ("HTTP://GHCR.io/", 'a registry is named without a scheme: write "ghcr.io"'),
        ("//ghcr.io", 'a registry is named without a scheme: write "ghcr.io"'),
        ("http:/ghcr.io", 'a registry is named without a scheme: write "ghcr.io"'),
        ("ftp://10.1.2.3/8", 'a registry is named without a scheme: write "10.1.2.3"'),
        ("ghcr.io/", 'a registry is named without a path: write "ghcr.io"'),
        ("ghcr.io/v2", 'a registry is named without a path: write "ghcr.io"'),
        ("10.0.0.0/8", 'a registry is named without a path: write "10.0.0.0"'),
        ("h/path", "a registry is named without a path: write host or host:port"),
        ("/etc/passwd", "a registry is named without a path: write host or host:port"),
        ("../../etc", "a registry is named without a path: write host or host:port"),
        ("user:secret@ghcr.io", "a registry is named without user and password: write host or host:port"),
        ("ghcr", DOTTED),
        ("docker", DOTTED),
        ("_DEFAULT", WORDS),
        ("..", EMPTY),
        (".", EMPTY),
        (".ghcr.io", EMPTY),
        ("ghcr..io", EMPTY),
        ("-h.example", 'a part of the host name begins or ends with "-"'),
        ("h-.example", 'a part of the host name begins or ends with "-"'),
        ("-h", 'a part of the host name begins or ends with "-"'),
        ("h_1.example", WORDS),
        ("*.example.com", WORDS),
        ("a,b.example", WORDS),
        ("a b.example", WORDS),
        (" ghcr.io", WORDS),
        ("ghcr.io ", WORDS),
        ("ghcr.io\\x", WORDS),
        ('docker.io"]x=1', WORDS),
        ("docker.io%00", WORDS),
        ("ghcr.io?x", WORDS),
        ("ghcr.io#x", WORDS),
        ("x" * 64 + ".example", "a part of the host name has more than 63 characters"),
        ("a." * 127 + "io", "the host name has 256 characters, 253 are possible"),
        ("ä." * 127 + "io", "the host name has 256 characters, 253 are possible"),
        ("ghcr.io:", PORT),
        ("ghcr.io:0", PORT),
        ("ghcr.io:080", PORT),
        ("ghcr.io:65536", PORT),
        ("ghcr.io:99999", PORT),
        ("ghcr.io:abc", PORT),
        ("ghcr.io:-1", PORT),
        ("ghcr.io:٥٠", PORT),
        ("ghcr.io:5000:1", BRACKETS),
        ("::1", BRACKETS),
        ("::1:5000", BRACKETS),
        ("[::1", 'an IPv6 address is written like "[2001:db8::1]:5000"'),
        ("[::1]x", 'an IPv6 address is written like "[2001:db8::1]:5000"'),
        ("[::1]:", PORT),
        ("[]", IPV6),
        ("[1.2.3.4]", IPV6),
        ("[fe80::1%eth0]", "an IPv6 address with a zone (%) means another host on every node: leave the zone out"),
        ("[::ffff:10.0.0.1]", 'an IPv4 address in IPv6 dress: write "10.0.0.1"'),
        ("256.1.1.1", IPV4),
        ("010.0.0.1", IPV4),
        ("1.2.3", IPV4),
        ("1.2.3.4.5", IPV4),
        ("example.0x7f", IPV4),
        ("ｄｏｃｋｅｒ.io", 'the name has full-width or look-alike characters: write "docker.io"'),
        ("镜像。中国", 'the name has full-width or look-alike characters: write "镜像.中国"'),
        ("straße.example", "the name has a letter that IDNA standards treat differently: write its xn-- form"),
        ("a\u200db.example", "the name has a letter that IDNA standards treat differently: write its xn-- form"),
        ("אa.example", "the name cannot be written in DNS: write its xn-- form if it has one"),
    ],
)
def test_what_is_no_registry(written: str, message: str) -> None:
    """Each is refused with what would be right, and a password is never repeated."""
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        canonical_registry(written)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=300) | st.from_regex(r"[\[\]a-zA-Z0-9.:/_%@ä。*-]{0,40}", fullmatch=True))
def test_canonical_names_are_safe_and_stay(text: str) -> None:
    """Whatever the text: a ValueError, or a name that is its own canonical form and safe as a directory."""
    try:
        name = canonical_registry(text)
    except ValueError:
        return
    assert canonical_registry(name) == name
    assert name.isascii()
    assert not set(name) & set("/\\@ \"'%\0\n")
    assert name not in {"", ".", ".."}
    assert not name.startswith((".", "-"))
    assert len(name) <= 260


def test_a_hundred_thousand_names() -> None:
    """A14: whatever a registry is called, what passes is one path component and nothing that a path walker knows."""
    rng = random.Random(14)
    usual = ["a", "b1", ".io", ".c", "d.", ":5000", "[::1]", "10.0.0.1", "-x"]
    nasty = ["..", ".", "/", "\\", "-", "_", ":", "[", "]", "::1", "Ä", "xn--", "%2f", "\0", "@", "\n", "。", "x" * 64]
    passed = 0
    for _ in range(100_000):
        text = "".join(rng.choice(usual if rng.random() < 0.8 else nasty) for _ in range(rng.randrange(1, 6)))
        try:
            name = canonical_registry(text)
        except ValueError:
            continue
        passed += 1
        assert re.fullmatch(r"(_default|[a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]+)?", name), text
        assert not name.startswith((".", "-")), text
    assert passed > 2_000


@pytest.mark.parametrize(
    ("first", "second", "canonical"),
    [
        ("ghcr.io", "GHCR.io", "ghcr.io"),
        ("ghcr.io", "ghcr.io.", "ghcr.io"),
        ("中文.example", "xn--fiq228c.example", "xn--fiq228c.example"),
        ('"[::1]:5000"', '"[0::1]:5000"', "[::1]:5000"),
    ],
)
def test_two_spellings_of_one_registry(first: str, second: str, canonical: str) -> None:
    """The second is the problem, and names the line of the first."""
    written = second.strip('"')
    assert said(f"version: 1\nregistries:\n  {first}: {{}}\n  {second}: {{}}\n") == [
        f'4:3: registries.{written}: is the same registry as on line 3 ("{canonical}"): keep one'
    ]


def test_a_port_makes_another_registry() -> None:
    """containerd looks for ghcr.io:443 in another directory than for ghcr.io."""
    assert said("version: 1\nregistries:\n  ghcr.io: {}\n  ghcr.io:443: {}\n") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "_default: {insecure: true}",
            "2:25: registries._default.insecure: would turn verification off for every registry: "
            "name the registries that need it",
        ),
        (
            "_default: {plain_http: true}",
            "2:25: registries._default.plain_http: would ask every registry without encryption: "
            "name the registries that need it",
        ),
        (
            "_default: {server: https://m.example}",
            "2:25: registries._default.server: _default stands for many registries, each with its own endpoint: "
            "name the endpoint under mirrors",
        ),
        ("_default: {insecure: false, plain_http: false}", None),
        (
            "docker.io: {plain_http: true}",
            "2:26: registries.docker.io.plain_http: Docker Hub speaks https only: remove it",
        ),
        (
            "a.example: {fallback: false}",
            "2:36: registries.a.example.fallback: leaves nothing to pull from: name mirrors, or remove fallback: false",
        ),
        (
            "a.example: {plain_http: true, server: https://a.example}",
            "2:52: registries.a.example.server: is https, but plain_http says that the registry speaks http: "
            "keep one of the two",
        ),
        ("a.example: {insecure: true, plain_http: true}", None),
    ],
)
def test_rules_between_the_words_of_a_registry(text: str, expected: str | None) -> None:
    """What cannot be meant together is refused at the word that is too much."""
    assert said(f"version: 1\nregistries: {{{text}}}\n") == ([expected] if expected else [])


def test_the_number_of_registries_has_a_limit() -> None:
    """20,000 are possible, one more is not."""
    names = "".join(f"  r{i}.example: {{}}\n" for i in range(20_001))
    assert said("version: 1\nregistries:\n" + names) == [
        "2:1: registries: has more than 20,000 entries, which is the limit"
    ]
