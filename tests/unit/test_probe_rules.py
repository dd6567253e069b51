"""The rules of a probe, without a network: addresses, challenges, tokens, pace, where a path leads, sentences."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import catalogue, image
from agent.image import parse
from agent.model import Mirror
from agent.probe import Finding, Target, Verdict
from agent.probe.address import Kind, kind_of, may_be_led_to
from agent.probe.challenge import Challenge, challenges, is_web_address, scopes, token_in, token_url
from agent.probe.judge import Answer, of_manifest_head, of_ping, parts, visible
from agent.probe.pace import REQUESTS_A_MINUTE, REQUESTS_A_PROBE, Pace, site_of
from agent.wire import Head


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", Kind.PUBLIC),
        ("2001:4860:4860::8888", Kind.PUBLIC),
        ("10.1.2.3", Kind.PRIVATE),
        ("172.16.0.1", Kind.PRIVATE),
        ("192.168.1.1", Kind.PRIVATE),
        ("100.64.0.1", Kind.PRIVATE),
        ("fd12::1", Kind.PRIVATE),
        ("::ffff:10.0.0.1", Kind.PRIVATE),
        ("127.8.9.1", Kind.LOOPBACK),
        ("::1", Kind.LOOPBACK),
        ("::ffff:127.0.0.1", Kind.LOOPBACK),
        ("64:ff9b::7f00:1", Kind.LOOPBACK),
        ("2002:7f00:1::", Kind.LOOPBACK),
        ("169.254.169.254", Kind.NEVER),
        ("::ffff:169.254.169.254", Kind.NEVER),
        ("fe80::1%eth0", Kind.NEVER),
        ("100.100.100.200", Kind.NEVER),
        ("fd00:ec2::254", Kind.NEVER),
        ("224.0.0.1", Kind.NEVER),
        ("ff02::1", Kind.NEVER),
        ("0.0.0.0", Kind.NEVER),
        ("::", Kind.NEVER),
        ("255.255.255.255", Kind.NEVER),
        ("", Kind.NEVER),
        ("mirror.example", Kind.NEVER),
    ],
)
def test_whose_an_address_is(address: str, kind: Kind) -> None:
    """Also where an IPv4 address hides in an IPv6 one."""
    assert kind_of(address) is kind


@given(st.ip_addresses(), st.sets(st.sampled_from([Kind.PUBLIC, Kind.PRIVATE, Kind.LOOPBACK])))
def test_a_mirror_leads_to_public_addresses_or_its_like(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, own: set[Kind]
) -> None:
    """Never to link-local, multicast or nowhere; inside only where it is itself."""
    allowed = may_be_led_to(str(ip), own)
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        assert not allowed
    if allowed and not ip.is_global:
        assert kind_of(str(ip)) in {*own, Kind.PUBLIC}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('Bearer realm="https://t/a",service="s"', Challenge("bearer", {"realm": "https://t/a", "service": "s"})),
        ("bearer Realm=https://t.example", Challenge("bearer", {"realm": "https://t.example"})),
        (r'Basic realm="a \"b\", c"', Challenge("basic", {"realm": 'a "b", c'})),
        ("Negotiate", Challenge("negotiate", {})),
        ('Bearer service=s, realm="never ends', Challenge("bearer", {"service": "s"})),
    ],
)  # fmt: skip
def test_a_challenge_is_read(value: str, expected: Challenge) -> None:
    """Quoted, bare, with commas and quotes inside; of a broken one what can be read."""
    assert challenges([value]) == (expected,)


@given(st.lists(st.text()))
def test_no_challenge_breaks_the_reader(values: list[str]) -> None:
    """Whatever a mirror says: a token server's URL that can be asked, or ValueError."""
    for challenge in challenges(values):
        try:
            url = token_url(parse("nginx"), challenge)
        except ValueError:
            continue
        assert is_web_address(url) or len(url) > 4000


def test_the_scopes_are_containerds() -> None:
    """Sorted, each once, the image's own among them."""
    challenge = Challenge("bearer", {"scope": "repository:quay.io/a/b:pull repository:a/b:pull"})
    assert scopes(parse("quay.io/a/b"), challenge) == ("repository:a/b:pull", "repository:quay.io/a/b:pull")
    assert scopes(parse("quay.io/a/b"), Challenge("bearer", {})) == ("repository:a/b:pull",)


@given(st.binary())
def test_a_token_can_be_sent(body: bytes) -> None:
    """One line of visible ASCII, or none."""
    token = token_in(body)
    assert token == "" or (token.isascii() and token.isprintable() and " " not in token)


@pytest.mark.parametrize(
    "url", ["", "//x/", "http:///x", "ftp://x/", "http://a b/", "http://x/\r\nX: y", "http://u@x/"]
)
def test_what_is_no_address_to_ask(url: str) -> None:
    """No scheme, no host, a user, or a line end that would begin a header."""
    assert not is_web_address(url)


@pytest.mark.parametrize(
    ("mirror", "ping", "manifest"),
    [
        (Mirror("https://m.example"), "/v2/", "/v2/a/b/manifests/t?ns=quay.io"),
        (Mirror("https://m.example/proxy"), "/proxy/v2/", "/proxy/v2/a/b/manifests/t?ns=quay.io"),
        (Mirror("https://m.example/v2/hub", override_path=True), "/v2/", "/v2/hub/a/b/manifests/t?ns=quay.io"),
        (Mirror("https://m.example/api", override_path=True), "", "/api/a/b/manifests/t?ns=quay.io"),
    ],
)
def test_where_a_mirror_is_asked(mirror: Mirror, ping: str, manifest: str) -> None:
    """As containerd makes the path of a host's URL, with and without override_path."""
    target = Target(mirror, parse("quay.io/a/b:t"))
    assert (target.ping_url, target.manifest_url) == (
        ping and f"https://m.example{ping}",
        f"https://m.example{manifest}",
    )


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("docker.m.daocloud.io", "daocloud.io"),
        ("ghcr.m.DaoCloud.io:443", "daocloud.io"),
        ("127.0.0.1:5000", ""),
        ("[::1]:5000", ""),
        ("registry:5000", ""),
    ],
)
def test_what_belongs_together(host: str, site: str) -> None:
    """Hosts below one domain; numbers and bare names have no operator who counts."""
    assert site_of(host) == site


@given(st.lists(st.floats(0, 30), max_size=40))
def test_no_minute_has_too_many_requests(waits: list[float]) -> None:
    """However probes of one site are asked for: in any 60 seconds there are no more than 20 requests' worth."""
    pace, now, begun = Pace(), 1000.0, []
    for wait in waits:
        now = pace.earliest("x.example", now + wait)
        pace.begin("x.example", now)
        begun.append(now)
    for first in begun:
        in_a_minute = sum(first <= at < first + 60 for at in begun)
        assert in_a_minute * REQUESTS_A_PROBE <= REQUESTS_A_MINUTE


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 8), st.booleans()), max_size=40))
def test_what_was_not_needed_is_free_again(probes: list[tuple[float, int, bool]]) -> None:
    """In any 60 seconds no more requests than the pace allows, by what was made, however little each probe needed of
    the 5 or 8 that were set aside for it; and it never waits for more than a minute."""
    pace, now, made = Pace(10), 1000.0, []
    for seconds, needed, checks in probes:
        most = 8 if checks else 5
        begins = pace.earliest("x.example", now, most)
        assert now <= begins <= now + 60
        pace.begin("x.example", begins, most)
        now = begins + seconds
        pace.end("x.example", (begins, most), now, min(needed, most))
        made.append((now, min(needed, most)))
    for first, _ in made:
        assert sum(count for at, count in made if first <= at < first + 60) <= 10


def test_a_local_mirror_is_not_paced() -> None:
    """Nothing is counted where there is no site."""
    pace = Pace()
    for _ in range(100):
        assert pace.earliest("", 5.0) == 5.0
        pace.begin("", 5.0)


@given(
    st.integers(200, 599),
    st.dictionaries(st.sampled_from(["content-type", "docker-content-digest", "retry-after"]), st.tuples(st.text())),
    st.binary(),
)
def test_every_answer_has_a_finding(status: int, headers: dict[str, tuple[str, ...]], body: bytes) -> None:
    """Whatever it is: never an exception, never "ok" without a manifest's type."""
    answer = Answer(Head(status, headers), body)
    finding = of_manifest_head(answer, parse("nginx"))
    assert finding.verdict is not Verdict.OK or (status == 200 and "manifest" in answer.media_type + "index")
    assert isinstance(of_ping(answer), Finding | None)
    assert isinstance(parts(body), tuple)


@given(st.text())
def test_a_foreign_text_steers_no_terminal(text: str) -> None:
    """One short line of printable characters."""
    assert visible(text).isprintable()
    assert len(visible(text)) <= 61


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_says_what_to_do(verdict: Verdict) -> None:
    """But for the one where there is nothing to be done."""
    assert bool(verdict.advice) is (verdict is not Verdict.OK)
    assert Finding(verdict, "seen").sentence.startswith("seen")


def test_every_registry_of_a_preset_has_an_image_to_probe_with() -> None:
    """A whole reference of that very registry; only dhi.io, where everything wants a login, has none."""
    rows = [row for preset in catalogue.presets() for row in preset.rows if row.expand]
    found = {row.registry: catalogue.probe_image(row.registry) for row in rows}
    assert [name for name, reference in found.items() if not reference] == ["dhi.io"]
    assert all(image.parse(reference).registry == name for name, reference in found.items() if reference)
