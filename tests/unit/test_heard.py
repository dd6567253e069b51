"""Which mirrors runtimes complain of in the journal: the lines of each version, and no others."""

from __future__ import annotations

import pytest

from agent.heard import troubles
from agent.targets import ProbeTarget

HUB_A, HUB_B = ("docker.io", "https://a.example"), ("docker.io", "http://b.example:5000/v2/hub")
GHCR_A, OTHER = ("ghcr.io", "https://a.example"), ("_default", "https://c.example")
TARGETS = tuple(
    ProbeTarget(registry, url, "docker.io/library/x:latest") for registry, url in (HUB_A, HUB_B, GHCR_A, OTHER)
)


@pytest.mark.parametrize(
    ("line", "doubtful"),
    [
        ('time="x" level=info msg="trying next host" error="dial tcp: timeout" host=a.example', {HUB_A, GHCR_A}),
        (
            'time="x" level=info msg="trying next host - response was http.StatusNotFound" host="b.example:5000"',
            {HUB_B},
        ),
        (
            'time="x" level=info msg="trying next host after status: 500 x" error="no" host="c.example"',
            {OTHER},
        ),
        ('{"error":"no","host":"b.example:5000","level":"info","msg":"trying next host","time":"x"}', {HUB_B}),
        ('time="x" level=info msg="PullImage" image="docker.io/library/x" host=a.example', set()),
        ("host=a.example", set()),
    ],
)
def test_mirrors_that_were_passed_over(line: str, doubtful: set[tuple[str, str]]) -> None:
    """By their host, for whatever registry they stand."""
    assert troubles([line], TARGETS) == doubtful


@pytest.mark.parametrize(
    ("why", "doubtful"),
    [
        (r"Get \"https://a.example/v2/\": dial tcp 192.0.2.1:443: i/o timeout", {HUB_A, GHCR_A}),
        ("Get https://a.example/v2/: net/http: request canceled while waiting for connection", {HUB_A, GHCR_A}),
        (r"Get \"https://registry-1.docker.io/v2/\": net/http: TLS handshake timeout", set()),
        ("received unexpected HTTP status: 500 Internal Server Error", {HUB_A, HUB_B}),
        ("manifest invalid: manifest invalid", {HUB_A, HUB_B}),
        ("manifest unknown: manifest unknown", set()),
        ("error parsing HTTP 403 response body: no error details found in HTTP response body", set()),
        ("unauthorized: authentication required", set()),
    ],
)
def test_mirrors_that_docker_went_on_from(why: str, doubtful: set[tuple[str, str]]) -> None:
    """Its errors name the mirror or do not; then all of Docker Hub's are in doubt, unless it is the image's fault."""
    line = f'time="x" level=info msg="Attempting next endpoint for pull after error: {why}"'
    assert troubles([line], TARGETS) == doubtful


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "{}",
        "[" * 99_999,
        "{" * 99_999,
        '{"msg": 1, "host": null}',
        '{"msg":"trying next host","host":["a.example"]}',
        r'error="no msg=\"trying next host\" host=a.example"',
        'msg="trying next host ' * 50_000,
        'x msg="PullImage ' * 50_000,
        "Attempting next endpoint for pull after error http://" * 20_000,
    ],
)
def test_no_line_is_too_odd(line: str) -> None:
    """Mirrors have their words in there: what is no line of a runtime says nothing, and takes no time."""
    assert troubles([line], TARGETS) <= {HUB_A, HUB_B}


def failed(image: str, why: str) -> str:
    return rf'time="x" level=error msg="PullImage \"{image}\" failed" error="{why}"'


@pytest.mark.parametrize(
    ("line", "doubtful"),
    [
        (failed("docker.io/library/x:1", "failed to copy: unexpected commit digest sha256:1"), {HUB_A, HUB_B}),
        (failed("ghcr.io/o/x@sha256:" + "0" * 64, "unexpected media type text/html"), {GHCR_A}),
        (
            failed("ghcr.io/o/x", "code = NotFound desc = unexpected media type text/html for sha256:1: not found"),
            {GHCR_A},
        ),
        (failed("quay.io/o/x", "context deadline exceeded"), {OTHER}),
        (failed("x", "unexpected EOF"), {HUB_A, HUB_B}),
        (failed("docker.io/library/typo", "docker.io/library/typo: not found"), set()),
        (failed("docker.io/library/x", "unexpected status from HEAD request: 403 Forbidden"), set()),
        (failed("docker.io/me/x", "pull access denied, insufficient_scope: authorization failed"), set()),
        (failed("NO NAME", "unexpected EOF"), set()),
        (
            r'{"error":"unexpected EOF","level":"error","msg":"PullImage \"ghcr.io/o/x:1\" failed","time":"x"}',
            {GHCR_A},
        ),
    ],
)
def test_pulls_that_failed(line: str, doubtful: set[tuple[str, str]]) -> None:
    """A pull that ends with wrong bytes names no mirror, so all of its registry's are in doubt; one of an image that
    does not exist, or not for everybody, says nothing about them."""
    assert troubles([line], TARGETS) == doubtful


def test_many_lines() -> None:
    """What each of them says counts; without lines nobody is in doubt."""
    lines = [
        "trying next host",
        *(failed("ghcr.io/o/x", "unexpected EOF") for _ in range(3)),
        "",
        'msg="trying next host" host=c.example',
    ]
    assert (troubles(lines, TARGETS), troubles([], TARGETS), troubles(lines, ())) == ({GHCR_A, OTHER}, set(), set())
