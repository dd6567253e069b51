"""`mirror-agent probe`: what is due is probed, what is not keeps its verdict, and what mirrors do costs no more."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise, repeat
from pathlib import Path

import pytest

from agent import cli
from agent.cli.rounds import checks_content
from agent.cli.verdicts import is_due
from agent.targets import Blind, ProbeTarget, Sample, decode_blind, decode_samples, encode_samples, encode_targets
from agent.verdict import Verdict
from tests.mirrors import Request, Serve, image_answers, make_authority, registry, response, saying, serving, taking

REPOSITORY = Path(__file__).parents[2]
HELLO = "docker.io/library/hello-world:latest"
LONG_SECONDS, SHORT_SECONDS = 20.0, 0.6
SLACK_SECONDS = 10.0
"""The promise is one second; a loaded build server may sleep longer than that between two instructions."""


class Place:
    """A root with targets.json and, later, verdicts.json."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._targets = root / "run/mirror-agent/targets.json"
        self.directory = root / "run/mirror-agent-probe"
        self._verdicts = self.directory / "verdicts.json"
        self._targets.parent.mkdir(parents=True)

    def want(self, *targets: ProbeTarget) -> None:
        self._targets.write_bytes(encode_targets(targets))

    def know(self, *samples: Sample) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._verdicts.write_bytes(encode_samples(samples))

    def probe(self) -> int:
        return cli.main(["--root", str(self.root), "probe"])

    def samples(self) -> tuple[Sample, ...]:
        return decode_samples(self._verdicts.read_bytes(), time.time())

    def blind(self) -> tuple[Blind, ...]:
        return decode_blind(self._verdicts.read_bytes(), time.time())

    def verdicts(self) -> dict[str, Verdict]:
        return {each.url: each.verdict for each in self.samples()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def target(url: str, due: float = 0.0, seconds: float = LONG_SECONDS) -> ProbeTarget:
    return ProbeTarget("docker.io", url, HELLO, timeout_seconds=seconds, due=due)


def sample(url: str, verdict: Verdict = Verdict.OK, at: float = 0.0) -> Sample:
    return Sample("docker.io", url, verdict, "as it was", at)


@pytest.fixture
def good() -> Iterator[str]:
    with serving(registry(image_answers())) as server:
        yield server.url


MISSING = "its CA file /etc/ssl/missing.pem cannot be read by the probe, which is not root (No such file or directory)"


# --- what is due ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("due", "at", "expected"),
    [
        (1000.0, None, True),
        (1004.0, None, True),
        (1006.0, None, False),
        (1000.0, 999.0, True),
        (1000.0, 1000.0, False),
        (0.0, 5.0, False),
    ],
)
def test_when_a_target_is_due(due: float, at: float | None, expected: bool) -> None:
    """At its time and five seconds before; not where a verdict from behind that time waits for the daemon."""
    last = None if at is None else sample("http://m", at=at)
    assert is_due(target("http://m", due), last, 1000.0) is expected


def test_content_is_asked_for_now_and_then() -> None:
    """Not first, unless the daemon wants it; always where the last verdict was bad; of those that are well once in
    three hours, each at a time of its own."""
    each = target("http://m")
    assert checks_content(each, None, 1e9) is False
    assert checks_content(replace(each, checks_content=True), sample(each.url, at=1e9), 1e9) is True
    assert checks_content(each, sample(each.url, Verdict.WRONG_CONTENT, 1e9), 1e9 + 600) is True
    day = [1e9 + 600 * step for step in range(145)]
    asked = {
        url: [at for last, at in pairwise(day) if checks_content(target(url), sample(url, at=last), at)]
        for url in ("http://m", "http://n", "http://o")
    }
    assert {len(times) for times in asked.values()} == {8}
    assert len({times[0] for times in asked.values()}) > 1


def test_what_is_due_is_probed_and_the_rest_is_kept(place: Place, good: str) -> None:
    """A new verdict for what is due, the old one for what is not, none for what is no longer listed."""
    now = time.time()
    kept, gone = sample("http://later.example", Verdict.HTML, now - 60), sample("http://gone.example", at=now - 60)
    place.know(sample(good, Verdict.REFUSED, now - 60), kept, gone)
    place.want(target(good, now - 1), target(kept.url, now + 600), target("http://new.example", now + 600))
    assert place.probe() == 0
    first, second = place.samples()
    assert (first.url, first.verdict, first.detail) == (good, Verdict.OK, "serves library/hello-world:latest")
    assert now <= first.at <= time.time()
    assert 0 < first.seconds < LONG_SECONDS
    assert second == kept
    assert (place.directory / "verdicts.json").stat().st_mode & 0o777 == 0o644


def test_once_is_enough(place: Place) -> None:
    """A daemon that reads nothing has nothing probed twice; one that wants it anew has."""
    with serving(registry(image_answers())) as server:
        place.want(target(server.url, time.time()))
        assert (place.probe(), place.probe()) == (0, 0)
        assert len(server.requests) == 2
        place.want(target(server.url, time.time()))
        assert place.probe() == 0
        assert len(server.requests) == 4


def test_what_is_due_within_the_slack_is_probed_once(place: Place) -> None:
    """And not over and over until its time has come."""
    with serving(registry(image_answers())) as server:
        place.want(target(server.url, time.time() + 4))
        assert place.probe() == 0
        assert len(server.requests) == 2


def test_what_becomes_due_meanwhile_is_probed_too(place: Place, good: str) -> None:
    """The targets are read again before it ends."""

    def serve(request: Request, connection: socket.socket) -> None:
        place.want(target(server.url), target(good))
        registry(image_answers())(request, connection)

    with serving(serve) as server:
        place.want(target(server.url))
        assert place.probe() == 0
        assert place.verdicts() == {server.url: Verdict.OK, good: Verdict.OK}


def test_bad_content_stays_bad(place: Place) -> None:
    """One whose head is well and whose content is not does not become well with the next probe of its head."""
    path = "/v2/library/hello-world/manifests/latest"
    answers = image_answers()
    bad = {**answers, ("HEAD", path): answers["GET", path], ("GET", path): response(500)}
    with serving(registry(bad)) as server:
        place.know(sample(server.url, Verdict.WRONG_CONTENT, time.time() - 600))
        for _ in range(2):
            place.want(target(server.url, time.time()))
            assert place.probe() == 0
            assert place.verdicts() == {server.url: Verdict.FAILING}


# --- nothing to do ----------------------------------------------------------------------------------------------------

_IDLE = """\
import sys
sys.path.insert(0, {repository!r})
from agent.cli import main
code = main(["--root", {root!r}, "probe"])
print(code, sorted({{"socket", "ssl", "agent.probe", "agent.files", "pydantic", "yaml", "tomlkit"}} & set(sys.modules)))
"""


LATER = target("http://m.example", 4e9)
BLIND = replace(target("https://n.example"), ca=("/etc/ssl/missing.pem",))


@pytest.mark.parametrize("targets", [None, (LATER,), (LATER, BLIND)])
def test_nothing_to_do_costs_next_to_nothing(place: Place, targets: tuple[ProbeTarget, ...] | None) -> None:
    """Without targets, or with none that is due and can be probed, neither network nor TLS nor any library is loaded;
    and nothing is written, once it is said what cannot be probed."""
    if targets is not None:
        place.want(*targets)
    before = {each: each.stat().st_mtime_ns for each in place.directory.glob("*")} if place.probe() == 0 else {}
    program = _IDLE.format(repository=str(REPOSITORY), root=str(place.root))
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0 []\n", "")
    assert {each: each.stat().st_mtime_ns for each in place.directory.glob("*")} == before
    assert bool(before) == (BLIND in (targets or ()))


# --- refusals and failures --------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="it is about root")
def test_root_does_not_probe_for_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    """On a systemd without DynamicUser= the unit would run it as root: it ends with a sentence."""
    assert cli.main(["probe"]) == 1
    assert "root does not talk to mirrors" in capsys.readouterr().err


def test_what_cannot_be_written_is_not_asked_for(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with a message before any request."""
    with serving(registry(image_answers())) as server:
        place.want(target(server.url))
        place.directory.write_text("in the way")
        assert place.probe() == 1
        assert "run/mirror-agent-probe" in capsys.readouterr().err
    assert server.requests == []


def test_targets_that_are_none(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """An expected failure, in one line."""
    (place.root / "run/mirror-agent/targets.json").write_text("[")
    assert place.probe() == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_verdicts_that_are_none_are_made_anew(place: Place, good: str) -> None:
    """Whatever a crash or a hand left there."""
    place.directory.mkdir()
    (place.directory / "verdicts.json").write_bytes(b"\xff{")
    place.want(target(good))
    assert (place.probe(), place.verdicts()) == (0, {good: Verdict.OK})


def test_a_ca_that_cannot_be_read_is_no_verdict(place: Place, good: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says nothing about the mirror: what is said is why, to the journal once until it has changed, and to the
    daemon whenever it has asked for it."""
    blind = replace(target("https://m.example"), ca=("/etc/ssl/missing.pem",))
    place.know(sample(blind.url, Verdict.OK, time.time() - 60))
    said = []
    for _ in range(3):
        place.want(blind, target(good, time.time()))
        assert place.probe() == 0
        said.append(capsys.readouterr().err)
        assert place.verdicts() == {good: Verdict.OK}
    assert said == [
        f"mirror-agent: https://m.example is not probed: {MISSING}\n",
        "",
        "",
    ]
    (told,) = place.blind()
    assert (told.key, told.why) == (blind.key, MISSING)


def test_what_cannot_be_looked_at_is_told_anew_when_it_is_due(place: Place) -> None:
    """Else the time stays at which it was found, so that the daemon counts it once."""
    blind = replace(target("https://m.example"), ca=("/etc/ssl/missing.pem",))
    ats = []
    for due in (0.0, 0.0, time.time() + 1.0, time.time() + 900.0):
        place.want(replace(blind, due=due))
        assert place.probe() == 0
        ats.append(place.blind()[0].at)
    assert (ats[0] == ats[1], ats[1] < ats[2], ats[2] == ats[3]) == (True, True, True)


def test_what_can_be_looked_at_again_is_due_at_once(place: Place, good: str) -> None:
    """However long the daemon would wait by itself."""
    target_of_good = replace(target(good), ca=("/etc/ssl/ca.pem",))
    place.want(target_of_good)
    assert (place.probe(), place.verdicts(), len(place.blind())) == (0, {}, 1)
    (place.root / "etc/ssl").mkdir(parents=True)
    (place.root / "etc/ssl/ca.pem").write_text("")
    place.want(replace(target_of_good, due=time.time() + 3000.0))
    assert (place.probe(), list(place.verdicts()), place.blind()) == (0, [good], ())


def test_the_ca_is_that_of_the_root(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Paths are meant below --root, as everywhere."""
    authority = make_authority(tmp_path_factory.mktemp("ca"))
    (place.root / "etc").mkdir()
    (place.root / "etc/ca.pem").write_bytes(Path(authority.path).read_bytes())
    with serving(registry(image_answers()), authority.server()) as server:
        place.want(replace(target(server.url), ca=("/etc/ca.pem",)))
        assert (place.probe(), place.verdicts()) == (0, {server.url: Verdict.OK})


def test_no_proxy_is_asked(place: Place, good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says."""
    with serving(saying(response(502))) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        place.want(target(good))
        assert (place.probe(), place.verdicts()) == (0, {good: Verdict.OK})
    assert proxy.requests == []


# --- hostile ----------------------------------------------------------------------------------------------------------


def flooding(head: bytes, part: bytes) -> Serve:
    def serve(_: Request, connection: socket.socket) -> None:
        connection.sendall(head)
        for each in repeat(part):
            connection.sendall(each)

    return serve


def dripping(head: bytes) -> Serve:
    def serve(_: Request, connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"1")
            time.sleep(0.02)

    return serve


def silent(_: object, connection: socket.socket) -> None:
    with connection:
        while connection.recv(4096):
            pass


OK = b"HTTP/1.1 200 OK\r\n"
HOSTILE: tuple[Serve, ...] = (
    dripping(b""),
    dripping(OK + b"\r\n"),
    flooding(OK, b"X: y\r\n" * 1000),
    flooding(OK + b"X: ", b"y" * 65536),
    flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    flooding(OK + b"Content-Type: text/html\r\n\r\n", b"x" * 65536),
    flooding(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1" * 65536),
    saying(response(307, {"Location": "/v2/again"})),
    saying(response(307, {"Location": "http://169.254.169.254/"})),
)


def run_by_itself(place: Place) -> subprocess.Popen[bytes]:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "agent", "--root", str(place.root), "probe"]
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL)


def test_hostile_mirrors_cost_neither_time_nor_memory(place: Place) -> None:
    """All kinds at once, beside a good one: each has its verdict, the process ends in time, and needs no more memory
    than one with good mirrors alone does."""
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(each)).url for each in (registry(image_answers()), *HOSTILE)]
        urls += [f"https://127.0.0.1:{stack.enter_context(taking(silent)).port}"]
        place.want(target(urls[0]))
        modest = used_by(place)
        place.want(*(target(url, time.time(), SHORT_SECONDS) for url in urls))
        began = time.monotonic()
        greedy = used_by(place)
        seconds = time.monotonic() - began
    found = place.verdicts()
    assert set(found) == set(urls)
    assert {verdict for url, verdict in found.items() if url != urls[0]} <= {
        Verdict.HANGING, Verdict.WRONG_CONTENT, Verdict.HTML,
    }  # fmt: skip
    assert seconds < len(urls) * SHORT_SECONDS + SLACK_SECONDS
    assert greedy - modest < 32 * 1024


def used_by(place: Place) -> int:
    """KiB of memory at most, of a run by itself."""
    with run_by_itself(place) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return int(used.ru_maxrss)


def test_a_kill_costs_what_was_not_finished(place: Place, good: str) -> None:
    """Killed while a mirror hangs, it has left the verdict of the one that did not; the next process goes on."""
    with taking(silent) as hanging:
        slow = f"http://127.0.0.1:{hanging.port}"
        place.want(target(slow, 1.0, 100.0), target(good, 2.0))
        with run_by_itself(place) as process:
            deadline = time.monotonic() + 60
            while not (place.directory / "verdicts.json").exists() or good not in place.verdicts():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert place.verdicts() == {good: Verdict.OK}
        place.want(target(slow, 1.0, SHORT_SECONDS), target(good, 2.0))
        assert place.probe() == 0
        assert place.verdicts() == {slow: Verdict.HANGING, good: Verdict.OK}


def test_a_termination_ends_it_at_once(place: Place) -> None:
    """`systemctl stop` does not wait for a mirror."""
    with taking(silent) as hanging:
        place.want(target(f"http://127.0.0.1:{hanging.port}", 0.0, 100.0))
        with run_by_itself(place) as process:
            deadline = time.monotonic() + 60
            while not (place.directory / "verdicts.json").exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == -signal.SIGTERM
