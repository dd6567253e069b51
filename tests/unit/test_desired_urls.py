"""URLs of mirrors and servers: one spelling, and nothing on which a runtime stops (A16, A17; Docker's own rules)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.desired.urls import canonical_server, canonical_url
from tests.states import mirror, said


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("https://docker.m.daocloud.io", "https://docker.m.daocloud.io"),
        ("https://docker.m.daocloud.io/", "https://docker.m.daocloud.io"),
        ("HTTPS://Docker.M.DaoCloud.IO", "https://docker.m.daocloud.io"),
        ("https://h.example:443", "https://h.example"),
        ("http://h.example:80/", "http://h.example"),
        ("http://h.example:443", "http://h.example:443"),
        ("https://h.example:8443", "https://h.example:8443"),
        ("https://h.example.", "https://h.example"),
        ("http://mirror", "http://mirror"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("http://127.0.0.1:30020", "http://127.0.0.1:30020"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("https://[2001:DB8:0::1]:443", "https://[2001:db8::1]"),
        ("https://中文.example", "https://xn--fiq228c.example"),
        ("https://h.example/v2/proxy", "https://h.example/v2/proxy"),
        ("https://h.example/v2/proxy/", "https://h.example/v2/proxy"),
        ("https://h.example/V2/Proxy_1~x.y:z+", "https://h.example/V2/Proxy_1~x.y:z+"),
    ],
)
def test_one_spelling(written: str, canonical: str) -> None:
    """Scheme and host in lower case, no default port, no trailing slash; the path keeps its case."""
    assert canonical_url(written) == canonical


SCHEME = "has no scheme: write a URL as in https://docker.m.daocloud.io"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "is empty: write a URL as in https://docker.m.daocloud.io"),
        ("ghcr.m.daocloud.io", '"ghcr.m.daocloud.io" has no scheme, write "https://ghcr.m.daocloud.io"'),
        ("//h.example", '"//h.example" has no scheme, write "https://h.example"'),
        ("h.example:5000", '"h.example:5000" has no scheme, write "https://h.example:5000"'),
        ("127.0.0.1:5000", '"127.0.0.1:5000" has no scheme, write "https://127.0.0.1:5000"'),
        ("http:h.example", '"http:h.example" has no scheme, write "https://h.example"'),
        ("http:/h.example/p", '"http:/h.example/p" has no scheme, write "https://h.example/p"'),
        ("host", SCHEME),
        ("http", SCHEME),
        ("http://", "the host name is missing"),
        ("https:///path", "the host name is missing"),
        ("https://:5000", "the host name is missing"),
        (" https://h.example", "contains a blank: remove it"),
        ("https://h.example，https://i.example", 'has a full-width "，" in it: write the ASCII character'),
        ("“https://h.example”", 'has a full-width "“" in it: write the ASCII character'),
        ("https：//h.example", 'has a full-width "：" in it: write the ASCII character'),
        ("https://h.example ", "contains a blank: remove it"),
        ("https://h example", "contains a blank: remove it"),
        ("https://h.example\u3000", "contains a blank: remove it"),
        ("ftp://h.example", "must begin with https:// or http://, not ftp://"),
        ("unix:///run/x.sock", "must begin with https:// or http://, not unix://"),
        ("https://user:s3cret@h.example", "must not hold a user or password: send them with header_file"),
        ("https://user@h.example", "must not hold a user or password: send them with header_file"),
        ("https://@h.example", "must not hold a user or password: send them with header_file"),
        ("user:s3cret@h.example", "is not a URL: write https://host, without user, query or fragment"),
        ("https://h.example?token=s3cret", "must have neither query (?) nor fragment (#)"),
        ("https://h.example/p?token=s3cret", "must have neither query (?) nor fragment (#)"),
        ("https://h.example#s3cret", "must have neither query (?) nor fragment (#)"),
        ("https://h.example?", "must have neither query (?) nor fragment (#)"),
        ("https://h.example/#", "must have neither query (?) nor fragment (#)"),
        ("h.example?token=s3cret", "is not a URL: write https://host, without user, query or fragment"),
        ("https://h.example:", "a port is a number from 1 to 65535 without leading zeros"),
        ("https://h.example:0", "a port is a number from 1 to 65535 without leading zeros"),
        ("https://h.example:99999", "a port is a number from 1 to 65535 without leading zeros"),
        ("https://h.example:abc", "a port is a number from 1 to 65535 without leading zeros"),
        ("https://h.example:0443", "a port is a number from 1 to 65535 without leading zeros"),
        ("https://::1:5000", 'an IPv6 address needs brackets, as in "[2001:db8::1]:5000"'),
        ("https://-h", 'a part of the host name begins or ends with "-"'),
        ("https://h;x", 'a host name has letters, digits, "-" and dots only'),
        ("https://h_1.example", 'a host name has letters, digits, "-" and dots only'),
        ("https://h%20.example", 'a host name has letters, digits, "-" and dots only'),
        ("https://h.example//", 'has an empty part in its path ("//"): remove it'),
        ("https://h.example//p", 'has an empty part in its path ("//"): remove it'),
        ("https://h.example/a//b", 'has an empty part in its path ("//"): remove it'),
        ("https://h.example/../etc", 'must not have "." or ".." in its path'),
        ("https://h.example/a/.", 'must not have "." or ".." in its path'),
        ("https://h.example/a/..", 'must not have "." or ".." in its path'),
        ("https://h.example/%2e%2e", "has a character in its path that no registry uses"),
        ("https://h.example/a\\b", "has a character in its path that no registry uses"),
        ("https://h.example/ä", "has a character in its path that no registry uses"),
        ("https://h.example\\@evil", "is not a URL: write https://host, without user, query or fragment"),
        ("https://h.example\\evil", "is not a URL: write one as in https://docker.m.daocloud.io"),
        ("https://" + "h" * 2000, "is longer than 2000 characters"),
        ("https://" + "a." * 130 + "io", "the host name has 262 characters, 253 are possible"),
    ],
)
def test_what_is_no_url_here(written: str, message: str) -> None:
    """Each is refused with what would be right, and what may be a secret is never repeated."""
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        canonical_url(written)
    assert "s3cret" not in str(caught.value)


@given(
    st.text(max_size=300)
    | st.from_regex(r"(https?|HTTP|ftp)?(://|:/|//)?[\[\]a-zA-Z0-9.:/_%@ä?#~+-]{0,40}", fullmatch=True)
)
def test_canonical_urls_stay(text: str) -> None:
    """Whatever the text: a ValueError, or a URL that is its own canonical form, plain ASCII without surprises."""
    try:
        url = canonical_url(text)
    except ValueError:
        return
    assert canonical_url(url) == url
    assert url.isascii()
    assert url.startswith(("https://", "http://"))
    assert not set(url) & set("@?#\\ \"'%\0\n")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("https://docker.io", "answers with a web page"),
        ("https://Docker.IO/", "answers with a web page"),
        ("https://hub.docker.com", "answers with a web page"),
        ("https://h.example/v2", "must have no path"),
    ],
)
def test_what_is_no_server(written: str, message: str) -> None:
    """A server is the registry's endpoint and nothing below it; docker.io is a web page, on which pulls fail."""
    with pytest.raises(ValueError, match=message):
        canonical_server(written)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            "url: https://m.example, override_path: true",
            "5:49: registries.r.example.mirrors[0].override_path: needs a path in the URL, "
            "as in https://m.example/v2/PROJECT; without one even /v2 would be left out",
        ),
        ("url: https://m.example/v2/p, override_path: true", None),
        (
            "url: http://m.example, ca: /x",
            "5:37: registries.r.example.mirrors[0].ca: says something about TLS, but the URL is http://: "
            "remove it, or write https://",
        ),
        (
            "url: http://m.example, client: [{cert: /x}]",
            "5:33: registries.r.example.mirrors[0].client: says something about TLS, but the URL is http://: "
            "remove it, or write https://",
        ),
        (
            "url: http://m.example, skip_verify: true",
            "5:46: registries.r.example.mirrors[0].skip_verify: says something about TLS, but the URL is http://: "
            "remove it, or write https://",
        ),
        ("url: http://m.example, skip_verify: false, ca: [], client: []", None),
        (
            "url: https://m.example, capabilities: [pull, pull]",
            "5:55: registries.r.example.mirrors[0].capabilities[1]: is there twice: keep one",
        ),
        (
            "url: https://m.example, capabilities: [referrers]",
            "5:49: registries.r.example.mirrors[0].capabilities[0]: must be pull, resolve or push",
        ),
        (
            "url: https://m.example, header: {X-A: a, x-a: b}",
            "5:56: registries.r.example.mirrors[0].header.x-a: is the same header as on line 5: keep one",
        ),
        (
            "url: https://m.example, header: {X-A: a}, header_file: {x-a: /b}",
            "5:71: registries.r.example.mirrors[0].header_file.x-a: is the same header as on line 5: keep one",
        ),
        ("ca: /x", "5:9: registries.r.example.mirrors[0]: url is missing"),
        ("", "5:9: registries.r.example.mirrors[0]: url is missing"),
    ],
)
def test_rules_between_the_words_of_a_mirror(fields: str, expected: str | None) -> None:
    """What cannot work together is refused at the word that is too much."""
    assert said(mirror(fields)) == ([expected] if expected else [])


def test_two_spellings_of_one_mirror() -> None:
    """containerd drops a file that names a host twice: the second is a problem, though other words of it differ."""
    text = """\
version: 1
registries:
  a.example:
    mirrors:
      - https://m.example
      - {url: "HTTPS://M.example:443/", skip_verify: true}
      - https://m.example/v2/x
  b.example: {mirrors: [https://m.example]}
"""
    assert said(text) == ["6:15: registries.a.example.mirrors[1]: is the same mirror as on line 5: keep one"]


def test_the_number_of_mirrors_has_a_limit() -> None:
    """64 for one registry."""
    urls = ", ".join(f"https://m{i}.example" for i in range(65))
    assert said(f"version: 1\nregistries: {{a.example: {{mirrors: [{urls}]}}}}") == [
        "2:26: registries.a.example.mirrors: has more than 64 entries, which is the limit"
    ]
