"""A plan in words and diffs: every part is there, the diff is a true one, and no secret is in it."""

import re

from hypothesis import given
from hypothesis import strategies as st

from agent import describe
from agent.model import Absent, Regular
from agent.plan import (
    Claim,
    Conflict,
    Deferred,
    KeyOriginal,
    MakeDirectory,
    Memory,
    Plan,
    Release,
    Reload,
    RemoveDirectory,
    RemoveFile,
    Restart,
    WriteFile,
)

DIRECTORY = "/etc/containerd/certs.d/ghcr.io"
DAEMON_JSON = "/etc/docker/daemon.json"
OLD = Regular(b'{\n  "debug": true\n}\n', 0o600)
NEW = WriteFile(f"{DIRECTORY}/hosts.toml", b'server = "https://ghcr.io"\n', "ghcr.io is new", Absent())
CHANGED = WriteFile(DAEMON_JSON, b'{\n  "debug": false\n}\n', "debug changed", OLD, 0o600, (0, 5))
FULL = Plan(
    runtime="docker",
    actions=(
        MakeDirectory(DIRECTORY, "ghcr.io is new"),
        NEW,
        CHANGED,
        RemoveFile("/etc/docker/x", "no longer desired", Regular(b"a\n")),
        RemoveDirectory("/etc/docker/y", "no longer needed"),
        Reload("docker.service", "mirrors changed", "abc", Memory()),
        Restart("docker.service", "log-driver changed", Memory()),
    ),
    claims=(
        Claim(NEW.path, Absent()),
        Claim(DAEMON_JSON, OLD, (KeyOriginal("debug", "true"), KeyOriginal("x", None))),
    ),
    releases=(Release("/etc/docker/x"), Release(DAEMON_JSON, ("labels",))),
    conflicts=(Conflict("/etc/docker/z", "is a directory, move it away"),),
    deferred=(Deferred(Restart("docker.service", "mtu changed", Memory()), "restarted 20 s ago", 40.0),),
)


def test_every_part_of_a_plan_has_its_line() -> None:
    """Claims, actions in order, what waits, releases, and last what is refused; each with its reason."""
    assert describe.lines(FULL) == (
        f"claim {DIRECTORY}/hosts.toml",
        f"claim {DAEMON_JSON} (debug, x), keeping what stands there",
        f"mkdir {DIRECTORY}: ghcr.io is new",
        f"write {DIRECTORY}/hosts.toml (0644): ghcr.io is new",
        f"write {DAEMON_JSON} (0600 0:5): debug changed",
        "remove /etc/docker/x: no longer desired",
        "rmdir /etc/docker/y: no longer needed",
        "reload docker.service: mirrors changed",
        "restart docker.service: log-driver changed",
        "defer restart docker.service: mtu changed; restarted 20 s ago (again in 40 s)",
        "release /etc/docker/x",
        f"release {DAEMON_JSON} (labels)",
        "conflict /etc/docker/z: is a directory, move it away",
    )


def test_an_empty_plan_has_no_line() -> None:
    """Converged means silence."""
    assert describe.lines(Plan("docker")) == ()


def test_a_new_a_changed_and_a_removed_file_as_diffs() -> None:
    """Unified diffs that `patch` understands: /dev/null stands for no file."""
    shown = [text for _, text in describe.lines_with_diffs(FULL) if text]
    assert shown == [
        f'--- /dev/null\n+++ {DIRECTORY}/hosts.toml\n@@ -0,0 +1 @@\n+server = "https://ghcr.io"\n',
        f'--- {DAEMON_JSON}\n+++ {DAEMON_JSON}\n@@ -1,3 +1,3 @@\n {{\n-  "debug": true\n+  "debug": false\n }}\n',
        "--- /etc/docker/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n",
    ]


def test_a_missing_newline_at_the_end_is_said() -> None:
    """As diff says it."""
    action = WriteFile("/x", b"a\n", "r", Regular(b"a"))
    assert describe.diff(action).splitlines()[3:] == ["-a", "\\ No newline at end of file", "+a"]


def test_a_change_of_mode_alone_has_no_diff() -> None:
    """The line says the mode; there is no content to compare."""
    assert describe.diff(WriteFile("/x", b"a\n", "r", Regular(b"a\n", 0o644), 0o600)) == ""


def test_a_changed_secret_is_seen_to_change_and_not_seen() -> None:
    """Old and new value are hidden, and the change is still there."""
    old, new = (f'[host."https://m".header]\nX-Key = ["{secret}"]\n'.encode() for secret in ("c4n4ry-1", "c4n4ry-2"))
    shown = describe.diff(WriteFile("/a/hosts.toml", new, "r", Regular(old)))
    assert "c4n4ry" not in shown
    assert shown.splitlines()[-2:] == ['-X-Key = "***"', '+X-Key = "***"']


def test_the_document_says_the_same_to_a_script() -> None:
    """The same lines and diffs, and every action with its target and reason."""
    document = describe.document(FULL)
    assert [step["step"] for step in document["steps"]] == list(describe.lines(FULL))
    assert document["actions"][1] == {"action": "write", "target": NEW.path, "reason": "ghcr.io is new"}
    assert document["deferred"] == [
        {
            "action": "restart",
            "target": "docker.service",
            "reason": "mtu changed",
            "waits": "restarted 20 s ago",
            "retry_after": 40.0,
        }
    ]
    assert document["conflicts"] == [
        {"path": "/etc/docker/z", "registry": "", "reason": "is a directory, move it away"}
    ]


LINES = st.lists(st.sampled_from(["a", "b", "c", "d\r", " ", "\x0b", ""]), max_size=12)


@given(LINES, LINES, st.booleans(), st.booleans())
def test_a_diff_leads_from_the_old_text_to_the_new(
    before: list[str], after: list[str], old_ends: bool, new_ends: bool
) -> None:
    """Applied to the old text, as `patch` would, it gives the new one: whatever the lines are, whatever their ends."""
    old, new = ("\n".join(lines) + ("\n" if ends else "") for lines, ends in ((before, old_ends), (after, new_ends)))
    shown = describe.diff(WriteFile("/x", new.encode(), "r", Regular(old.encode())))
    assert patched(old, shown) == new


def patched(text: str, shown: str) -> str:
    """What `patch` makes of the text."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    result: list[str] = []
    position, was_added = 0, False
    for line in shown.split("\n")[2:-1]:
        if header := re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+\S+ @@", line):
            start = int(header[1]) - (0 if header[2] == "0" else 1)
            result += lines[position:start]
            position = start
        elif not line.startswith("\\"):
            was_added = line[0] in "+ "
            position += line[0] in "- "
            result += [line[1:] + "\n"] if was_added else []
        elif was_added:
            result[-1] = result[-1].removesuffix("\n")
    return "".join(result + lines[position:])
