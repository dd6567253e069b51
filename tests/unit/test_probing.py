"""`mirror-agent mirrors --probe` as a person and a script see it, against servers on loopback."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import desired
from agent.cli import main
from agent.cli.probing import KNOWN, OWN, known
from agent.model import DesiredState, Mirror, Registry
from agent.probe.pace import crowded
from tests.mirrors import Server, image_answers, make_authority, registry, response, saying, serving

HELLO = "docker.io/library/hello-world:latest"


class Console:
    """A root with a desired state, and the command line on it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys
        (root / "etc").mkdir()

    def desire(self, text: str) -> None:
        path = self.root / "etc/mirror-agent.yaml"
        path.write_text(f"version: 1\n{text}")
        path.chmod(0o640)

    def call(self, *words: str) -> tuple[int, str, str]:
        code = main(["--root", str(self.root), "mirrors", *words])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def document(self, *words: str) -> Any:
        return json.loads(self.call(*words, "--json")[1])

    def verdicts(self, *words: str) -> dict[str, str]:
        """By mirror, in the order of the answer."""
        return {each["mirror"]: each["verdict"] for each in self.document(*words)["probes"]}


@pytest.fixture
def console(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Console:
    for name in [name for name in os.environ if name.startswith("MIRROR_AGENT_")]:
        monkeypatch.delenv(name)
    return Console(tmp_path, capsys)


@pytest.fixture
def good() -> Iterator[Server]:
    with serving(registry(image_answers())) as server:
        yield server


@pytest.fixture
def denying() -> Iterator[Server]:
    with serving(saying(response(403))) as server:
        yield server


def test_a_table_by_speed_and_what_to_paste(console: Console, good: Server, denying: Server) -> None:
    """What works first, with its time; the rest with what is wrong and what to do; then YAML that is valid."""
    code, out, err = console.call("--probe", denying.url, good.url)
    title, heading, first, second, *rest = out.splitlines()
    assert (code, err) == (0, "")
    assert title == f"docker.io, probed with {HELLO}"
    assert heading.split() == ["MIRROR", "VERDICT", "TIME", "FROM", "WHAT"]
    assert first.split()[:2] == [good.url, "ok"]
    assert first.endswith(" ms  command line  serves library/hello-world:latest")
    assert second.split()[:3] == [denying.url, "denied", "-"]
    assert "answers 403 for library/hello-world:latest; no outage: " in second
    yaml = "\n".join(rest[rest.index("registries:") :])
    state = desired.load(f"version: 1\n{yaml}\n".encode())
    assert state.registries == (Registry("docker.io", "https://registry-1.docker.io", (Mirror(good.url),)),)


def test_none_that_works(console: Console, denying: Server) -> None:
    """Exit 1, no YAML."""
    code, out, _ = console.call("--probe", denying.url)
    assert (code, out.splitlines()[-1]) == (1, "None of them works from here.")
    answer = console.document("--probe", denying.url)
    assert (answer["yaml"], answer["probes"][0]["verdict"]) == ("", "denied")


def test_the_answer_for_scripts(console: Console, good: Server) -> None:
    """One object for each probe."""
    (found,) = console.document("--probe", good.url)["probes"]
    assert 0 < found.pop("seconds") < 10
    assert found.pop("digest").startswith("sha256:")
    assert found == {
        "registry": "docker.io",
        "mirror": good.url,
        "from": "command line",
        "image": HELLO,
        "verdict": "ok",
        "detail": "serves library/hello-world:latest",
        "retry_seconds": 0,
        "advice": "",
        "known": "",
        "requests": 2,
    }


def test_a_mirror_of_the_desired_state_is_probed_as_it_says(console: Console) -> None:
    """With its CA and its header file, both below --root; and pasted with them, the header's value left in its file."""
    (console.root / "etc/ssl").mkdir()
    authority = make_authority(console.root / "etc/ssl")
    (console.root / "etc/key").write_text("s3cret\n")
    (console.root / "etc/key").chmod(0o600)
    with serving(registry(image_answers("org/app")), authority.server()) as server:
        options = "ca: /etc/ssl/ca.pem, header_file: {X-Key: /etc/key}"
        console.desire(f"registries:\n  ghcr.io: {{mirrors: [{{url: '{server.url}', {options}}}], fallback: false}}\n")
        code, out, err = console.call("--probe", server.url, "--image", "ghcr.io/org/app")
    assert (code, err) == (0, "")
    assert [each.headers["x-key"] for each in server.requests] == ["s3cret", "s3cret"]
    assert server.asked()[1] == "HEAD /v2/org/app/manifests/latest?ns=ghcr.io"
    assert "s3cret" not in out
    assert out.endswith(
        f"""\
registries:
  ghcr.io:
    mirrors:
      - url: {server.url}
        ca: [/etc/ssl/ca.pem]
        header_file: {{X-Key: /etc/key}}
    fallback: false
"""
    )


def test_without_a_url_the_desired_state_comes_first() -> None:
    """Then what the catalogue knows for the registry, once each: nothing dead, no wildcard, no added prefix."""
    mirror = Mirror("https://docker.1ms.run")
    entry = Registry("docker.io", "https://registry-1.docker.io", (mirror,), fallback=False)
    other = Registry("ghcr.io", "https://ghcr.io", (Mirror("https://own.example"),))
    found = known("", DesiredState("", registries=(entry, other)))
    assert [(each.mirror.url, each.origin) for each in found[:2]] == [
        ("https://docker.1ms.run", OWN),
        ("https://own.example", OWN),
    ]
    urls = [each.mirror.url for each in found]
    assert len(set(urls)) == len(urls) > 10
    assert {each.registry.name for each in found[2:]} == {"docker.io"}
    assert {each.registry for each in found[2:]} == {entry}
    assert {"https://docker.m.daocloud.io", "https://mirror.gcr.io"} <= set(urls)
    assert [url for url in urls if "*" in url or "/v2/" in url or "163.com" in url] == []


def test_the_default_entry_stands_in(console: Console, good: Server) -> None:
    """For a registry without an entry `_default` is what containerd asks."""
    console.desire(f"registries: {{_default: {{mirrors: ['{good.url}']}}}}\n")
    own = [each for each in known("quay.io", _loaded(console)) if each.origin == OWN]
    assert [each.mirror.url for each in own] == [good.url]
    assert {each.origin for each in known("ghcr.io", DesiredState(""))} == {KNOWN}


def _loaded(console: Console) -> DesiredState:
    return desired.load((console.root / "etc/mirror-agent.yaml").read_bytes())


def test_options_reach_the_probe(console: Console, good: Server) -> None:
    """--content reads the blobs; --timeout is the deadline."""
    (found,) = console.document("--probe", good.url, "--content")["probes"]
    assert (found["verdict"], found["requests"]) == ("ok", 5)
    with serving(lambda _, connection: connection.recv(1)) as silent:
        (found,) = console.document("--probe", silent.url, "--timeout", "0.5")["probes"]
    assert (found["verdict"], 0.4 < found["seconds"] < 8) == ("hanging", True)


def test_what_the_catalogue_knows_is_said(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a mirror that does not work from here; and that many of one operator take their time."""
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    tencent = "https://mirror.ccs.tencentyun.com"
    code, out, _ = console.call("--probe", tencent)
    assert (code, "unreachable" in out, "(known: only from Tencent Cloud's own network)" in out) == (1, True, True)
    many = [f"https://{name}.x.example" for name in "abcd"]
    assert console.call("--probe", *many)[2] == ""
    assert crowded([*(url.removeprefix("https://") for url in many), "e.x.example", "y.example"]) == {"x.example": 5}


def nowhere(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--probe", "m.example"], 2, 'write "https://m.example"'),
        (["--probe", "https://user:word@m.example"], 2, "must not hold a user or password"),
        (["ghcr.io", "--probe", "--image", "quay.io/a/b"], 2, "is an image of quay.io, not of ghcr.io"),
        (["nowhere.example", "--probe"], 1, "no mirror of nowhere.example is known"),
        (["--probe", "--image", "Bad Image"], 1, "names no image"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(console: Console, words: list[str], code: int, says: str) -> None:
    """Said before anything is asked, without a secret."""
    found, out, err = console.call(*words)
    assert (found, out) == (code, "")
    assert says in err
    assert "word@" not in err


@pytest.mark.parametrize("seconds", ["0", "1000", "nan", "-1", "x"])
def test_a_deadline_within_reason(console: Console, seconds: str) -> None:
    """Neither nothing nor for ever: wrong usage."""
    with pytest.raises(SystemExit) as ended:
        console.call("--probe", "http://127.0.0.1:1", "--timeout", seconds)
    assert ended.value.code == 2


def test_progress_on_a_terminal(console: Console, good: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line on standard error that is gone at the end; in a pipe there is none."""

    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Tty()
    monkeypatch.setattr(sys, "stderr", shown)
    code = console.call("--probe", good.url)[0]
    parts = shown.getvalue().split("\r\x1b[K")
    host = good.url.removeprefix("http://")
    assert (code, parts) == (0, ["", "probing …", f"1 of 1 probed, 1 ok; {host}: ok", ""])
