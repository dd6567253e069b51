"""The commands, called as a person calls them, on roots of their own: whole texts and exit codes."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.status import Status, encode

DOCKER_ONLY = """\
version: 1
registries:
  docker.io: {mirrors: [https://m.example]}
containerd: {manage: false}
docker:
  manage: true
  settings: {log-driver: json-file}
"""
SANDBOX = Path(__file__).resolve().parents[2] / "packaging" / "sandbox"
GENERATION = hashlib.sha256(DOCKER_ONLY.encode()).hexdigest()[:7]
FOREIGN = '{ "data-root" : "/data" }\n'
MERGED = '{ "data-root" : "/data", "registry-mirrors" : ["https://m.example"], "log-driver" : "json-file" }\n'
REASON = "registry-mirrors gained https://m.example; log-driver added"


class Machine:
    """A root with Docker's directory, and the command line on it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys
        (root / "etc/docker").mkdir(parents=True)
        self.config = root / "etc/mirror-agent.yaml"
        self.daemon_json = root / "etc/docker/daemon.json"
        self.desire(DOCKER_ONLY)
        self.daemon_json.write_text(FOREIGN)

    def desire(self, text: str) -> None:
        self.config.write_text(text)
        self.config.chmod(0o640)

    def call(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        code = main(["--root", str(self.root), *words])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def document(self, *words: str) -> Any:
        """The answer for scripts."""
        return json.loads(self.call(*words, "--json")[1])

    def tree(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def machine(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Machine:
    for name in [name for name in os.environ if name.startswith("MIRROR_AGENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TZ", "UTC")
    return Machine(tmp_path, capsys)


def text_until(text: str, mark: str) -> str:
    return text[: text.index(mark)]


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_says_what_is_valid(machine: Machine) -> None:
    """One line: which file, its generation, how much is in it."""
    assert machine.call("check") == (0, f"/etc/mirror-agent.yaml is valid: {GENERATION}, 1 registry\n", "")


INVALID = """\
version: 1
registries:
  docker.io:
    mirror: [https://docker.m.daocloud.io]
  ghcr.io:
    mirrors:
      - ghcr.m.daocloud.io
"""
PROBLEMS = """\
/etc/mirror-agent.yaml:4:5: registries.docker.io.mirror: unknown key, did you mean "mirrors"?
    4 |     mirror: [https://docker.m.daocloud.io]
      |     ^^^^^^
/etc/mirror-agent.yaml:7:9: registries.ghcr.io.mirrors[0]: "ghcr.m.daocloud.io" has no scheme, \
write "https://ghcr.m.daocloud.io"
    7 |       - ghcr.m.daocloud.io
      |         ^^^^^^^^^^^^^^^^^^
"""


def test_check_lists_every_problem_with_its_line(machine: Machine) -> None:
    """All at once, each underlined; and the last line says that nothing happened."""
    machine.desire(INVALID)
    assert machine.call("check") == (1, f"{PROBLEMS}2 problems. Nothing was changed.\n", "")


def test_check_says_what_stays_in_force(machine: Machine) -> None:
    """Where a daemon has published a state, the last line names it and since when."""
    machine.desire(INVALID)
    publish(machine, Status(generation="7f3a91c" + "0" * 57, loaded_at=1.0))
    last = machine.call("check")[1].splitlines()[-1]
    assert last == "2 problems. Nothing was changed; the state of 1970-01-01 00:00 (7f3a91c) stays in force."


def publish(machine: Machine, status: Status) -> None:
    run = machine.root / "run/mirror-agent"
    run.mkdir(parents=True, exist_ok=True)
    (run / "status.json").write_bytes(encode(status))


def test_check_says_that_a_state_manages_nothing(machine: Machine) -> None:
    """The file as it is shipped is valid, and nobody should take that for "all is set up"."""
    machine.desire("version: 1\n")
    assert machine.call("check")[1].endswith(", 0 registries, so nothing is managed\n")


def test_check_takes_any_file(machine: Machine, tmp_path: Path) -> None:
    """A file that is to become the desired state, by its own name, outside of --root."""
    other = tmp_path / "new.yaml"
    other.write_text("version: 1\nregistries: {}\n")
    code, out, _ = machine.call("check", str(other))
    assert (code, out.partition(": ")[0], out.rpartition(", ")[2]) == (
        0,
        f"{other} is valid",
        "so nothing is managed\n",
    )


def test_check_reads_standard_input(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` for what another program makes."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"version: 2\n")))
    code, out, _ = machine.call("check", "-")
    assert code == 1
    assert out.startswith("standard input:1:10: version: ")


def test_check_warns_and_does_not_fail(machine: Machine) -> None:
    """A mirror known to be dead is a warning: it may come back, and the file is valid."""
    machine.desire("version: 1\nregistries:\n  docker.io: {mirrors: [https://hub-mirror.c.163.com]}\n")
    code, out, _ = machine.call("check")
    assert code == 0
    assert "registries.docker.io.mirrors[0]: warning: " in out
    assert out.splitlines()[-1].endswith("1 registry, 1 warning")


def test_check_warns_of_a_secret_that_everybody_may_read(machine: Machine) -> None:
    """daemon.json is there with a mode that its owner gave it: the warning names the setting and what to run."""
    machine.desire(
        "version: 1\ndocker:\n  manage: true\n  settings:\n    log-driver: splunk\n    log-opts: {splunk-token: 4f9e}\n"
    )
    machine.daemon_json.chmod(0o644)
    code, out, _ = machine.call("check")
    assert (code, out.splitlines()[0]) == (
        0,
        "/etc/mirror-agent.yaml:6:5: docker.settings.log-opts: warning: holds a secret, and everybody may read"
        " /etc/docker/daemon.json: chmod 0600 /etc/docker/daemon.json",
    )
    machine.daemon_json.chmod(0o600)
    assert machine.call("check")[1].count("\n") == 1


def test_check_answers_scripts(machine: Machine) -> None:
    """Problems with line, column and key path; or the generation."""
    assert machine.document("check")["generation"].startswith(GENERATION)
    machine.desire(INVALID)
    answer = machine.document("check")
    assert (answer["valid"], answer["generation"], answer["warnings"]) == (False, "", [])
    assert [(p["line"], p["column"], p["key_path"]) for p in answer["problems"]] == [
        (4, 5, "registries.docker.io.mirror"),
        (7, 9, "registries.ghcr.io.mirrors[0]"),
    ]


@pytest.mark.parametrize("command", ["check", "plan", "apply"])
def test_without_a_desired_state_the_message_says_how_to_begin(machine: Machine, command: str) -> None:
    """No traceback, no guess: exit 1, and what the smallest file is."""
    machine.config.unlink()
    code, out, err = machine.call(command)
    assert (code, out) == (1, "")
    assert err == (
        'mirror-agent: /etc/mirror-agent.yaml: no such file; write one: the line "version: 1" is enough to begin with\n'
    )


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_an_invalid_desired_state_changes_nothing(machine: Machine, command: str) -> None:
    """The same problems as `check` lists, on standard error, and every file as it was."""
    machine.desire(INVALID)
    before = machine.tree()
    assert machine.call(command) == (1, "", f"{PROBLEMS}2 problems. Nothing was changed.\n")
    assert machine.tree() == before


# --- plan ------------------------------------------------------------------------------------------------------------


def test_plan_shows_steps_and_diffs_and_touches_nothing(machine: Machine) -> None:
    """Exit 3, the reason of each step, a unified diff; and not one file or directory more than before."""
    before = sorted(machine.root.rglob("*"))
    code, out, err = machine.call("plan")
    assert (code, err) == (3, "")
    assert out == (
        "docker: claim /etc/docker/daemon.json (registry-mirrors, log-driver), keeping what stands there\n"
        f"docker: write /etc/docker/daemon.json (0644): {REASON}\n"
        "--- /etc/docker/daemon.json\n"
        "+++ /etc/docker/daemon.json\n"
        "@@ -1 +1 @@\n"
        f"-{FOREIGN}"
        f"+{MERGED}"
        "1 change of a file. Nothing was touched; mirror-agent apply does it.\n"
    )
    assert sorted(machine.root.rglob("*")) == before


def test_plan_is_silent_when_there_is_nothing_to_do(machine: Machine) -> None:
    """Exit 0 and one sentence."""
    machine.call("apply")
    assert machine.call("plan") == (0, "Nothing to do: everything is as /etc/mirror-agent.yaml wants it.\n", "")


def test_plan_counts_what_the_ledger_learns_as_nothing(machine: Machine) -> None:
    """daemon.json has it all already, by somebody else: exit code 0, and the claim is told."""
    machine.daemon_json.write_text(MERGED)
    code, out, _ = machine.call("plan")
    assert (code, out.splitlines()[-1].partition(":")[0]) == (0, "Nothing to change")


def test_plan_says_what_stays_for_a_runtime_that_is_gone(machine: Machine) -> None:
    """manage: auto, and its program was removed: the files wait for it, which is no change; revert takes them back."""
    program = machine.root / "usr/bin/containerd"
    program.parent.mkdir(parents=True)
    program.write_text("")
    machine.desire("version: 1\nregistries:\n  ghcr.io: {mirrors: [https://m.example]}\ndocker: {manage: false}\n")
    machine.call("apply")
    program.unlink()
    file = machine.root / "etc/containerd/certs.d/ghcr.io/hosts.toml"
    code, out, _ = machine.call("plan")
    assert (code, file.exists()) == (0, True)
    assert out.splitlines()[0] == (
        "containerd: it is not installed any more, so what was written for it stays as it is, for when it is back:"
        " /etc/containerd/certs.d/ghcr.io/hosts.toml, /etc/containerd/config.toml"
    )
    assert (machine.call("revert")[0], file.exists()) == (0, False)


def test_plan_shows_a_conflict(machine: Machine) -> None:
    """A file that cannot be parsed is not overwritten: exit 3, and what a person has to do."""
    machine.daemon_json.write_text("{")
    code, out, _ = machine.call("plan")
    assert code == 3
    assert out.startswith("docker: conflict /etc/docker/daemon.json: ")
    assert out.endswith("\n1 conflict for you to resolve. Nothing was touched.\n")


def test_the_sandbox_of_make_run_converges(machine: Machine) -> None:
    """Its sample beside a daemon.json of somebody else: what a newcomer sees first has nothing to complain about."""
    machine.desire((SANDBOX / "mirror-agent.yaml").read_text("utf-8"))
    machine.daemon_json.write_bytes((SANDBOX / "daemon.json").read_bytes())
    assert machine.call("plan")[1].endswith(" changes of files. Nothing was touched; mirror-agent apply does it.\n")
    code, out, err = machine.call("apply")
    assert (code, err) == (0, "")
    assert "conflict" not in out
    assert machine.call("status")[0] == 0


def test_plan_hides_secrets(machine: Machine) -> None:
    """A setting that is named like a secret is shown as changed, its value is not."""
    machine.desire(DOCKER_ONLY.replace("log-driver: json-file", "some-token: c4n4ry"))
    for words in (["plan"], ["plan", "--json"], ["apply"], ["status"], ["status", "--json"], ["revert"]):
        _, out, err = machine.call(*words)
        assert "c4n4ry" not in out + err, words


def test_plan_answers_scripts(machine: Machine) -> None:
    """The steps with their reasons, and the generation they lead to."""
    answer = machine.document("plan")
    assert answer["generation"].startswith(GENERATION)
    steps = {plan["runtime"]: plan["actions"] for plan in answer["plans"]}
    assert steps["docker"] == [{"action": "write", "target": "/etc/docker/daemon.json", "reason": REASON}]


def test_colours_only_where_they_are_wanted(machine: Machine) -> None:
    """A pipe gets plain text; --color always paints, and without its codes it is the same text."""
    plain = machine.call("plan")[1]
    painted = machine.call("plan", "--color", "always")[1]
    assert "\x1b" not in plain
    assert "\x1b[32m+{" in painted


# --- apply, status, revert ------------------------------------------------------------------------------------------


def test_apply_says_what_it_did_and_does_it_once(machine: Machine) -> None:
    """One line for each action with its reason, one for the cycle; the second time there is nothing to change."""
    code, out, err = machine.call("apply")
    assert (code, err, machine.daemon_json.read_text()) == (0, "", MERGED)
    wrote, converged = out.splitlines()
    assert wrote == f"docker: wrote daemon.json: {REASON}"
    assert text_until(converged, " in ") == f"converged {GENERATION}"
    assert converged.endswith(" ms: 1 file written, 0 reloads, 0 restarts")
    before = machine.tree()
    assert machine.call("apply")[1].endswith(" ms: nothing to change\n")
    assert machine.tree() == before


def test_apply_fails_where_it_must_not_guess(machine: Machine) -> None:
    """A conflict is exit 1 and named, and the file stays as it is."""
    machine.daemon_json.write_text("{")
    code, out, _ = machine.call("apply")
    assert (code, machine.daemon_json.read_text()) == (1, "{")
    assert "docker: conflict: /etc/docker/daemon.json: " in out
    assert out.splitlines()[-1].startswith(f"not converged (conflict) {GENERATION} in ")


def test_apply_answers_scripts(machine: Machine) -> None:
    """One JSON document and nothing beside it."""
    answer = machine.document("apply")
    assert (answer["outcome"], answer["generation"][:7]) == ("changed", GENERATION)
    assert {part["runtime"]: part["outcome"] for part in answer["runtimes"]}["docker"] == "changed"


def test_apply_and_revert_tell_scripts_what_they_did(machine: Machine) -> None:
    """How much, and each action with its path and reason; a second call has done nothing."""
    answer = machine.document("apply")
    assert answer["done"] == {"written": 1, "removed": 0, "reloads": 0, "restarts": 0}
    write = {"runtime": "docker", "action": "write", "path": "/etc/docker/daemon.json", "registry": ""}
    assert answer["actions"] == [{**write, "reason": REASON}]
    again = machine.document("apply")
    assert (sum(again["done"].values()), again["actions"]) == (0, [])
    reverted = machine.document("revert")
    assert (reverted["done"]["written"], [each["path"] for each in reverted["actions"]]) == (1, [write["path"]])


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_scripts_are_told_of_an_invalid_file_as_by_check(machine: Machine, command: str) -> None:
    """The same document on standard output, and exit 1."""
    machine.desire(INVALID)
    code, out, err = machine.call(command, "--json")
    assert (code, json.loads(out), err) == (1, machine.document("check"), "")


def test_status_tells_what_is_pending_what_is_live_and_what_has_drifted(machine: Machine) -> None:
    """Exit 3 before the first apply, 0 after it, 3 again when somebody meddles; the missing steps are named."""
    code, out, _ = machine.call("status")
    assert (code, out.split()[:2]) == (3, ["pending", GENERATION])
    assert f"pending     docker: write /etc/docker/daemon.json (0644): {REASON}\n" in out
    machine.call("apply")
    code, out, _ = machine.call("status")
    assert (code, out.split()[0]) == (0, "converged")
    assert "docker.io  https://m.example, then Docker Hub" in out
    machine.daemon_json.write_text(FOREIGN)
    code, out, _ = machine.call("status")
    assert (code, out.split()[0]) == (3, "drifted")
    assert f"drift       docker: write /etc/docker/daemon.json (0644): {REASON}\n" in out


def test_status_does_not_blame_the_file_for_the_state_directory(machine: Machine) -> None:
    """Without a ledger nothing can be looked at: that is what is said, with its path, and not of the desired state."""
    machine.call("apply")
    ledger = machine.root / "var/lib/mirror-agent/ledger.json"
    ledger.unlink()
    ledger.mkdir()
    code, out, _ = machine.call("status")
    lines = out.splitlines()
    assert (code, lines[0]) == (3, "failed      nothing can be looked at or changed")
    assert [line for line in lines if line.startswith("last error")] == [
        "last error  0 s ago: /var/lib/mirror-agent/ledger.json: is a directory"
    ]
    assert [line for line in lines if line.startswith("invalid")] == []


def test_status_shows_what_a_registry_still_waits_for(machine: Machine) -> None:
    """A host that is wanted and not in force is not shown as if it were: the row says what it waits for, or why."""
    text = "version: 1\nregistries:\n  ghcr.io: {{mirrors: [https://{}.example]}}\ncontainerd: {{manage: true}}\n"
    machine.desire(text.format("a"))
    machine.call("apply")
    row = "  ghcr.io  https://{}.example, then ghcr.io"
    assert row.format("a") in machine.call("status")[1].splitlines()
    machine.desire(text.format("b"))
    waits = "to be written: mirrors of ghcr.io: + https://b.example, \N{MINUS SIGN} https://a.example"
    assert f"{row.format('b')}; {waits}" in machine.call("status")[1].splitlines()
    assert machine.document("status")["runtimes"][0]["registries"][0]["state"] == waits
    directory = machine.root / "etc/containerd/certs.d/ghcr.io"
    (directory / "hosts.toml").unlink()
    directory.rmdir()
    directory.write_text("")
    refused = f"{row.format('b')}; refused: /etc/containerd/certs.d/ghcr.io: "
    assert [line for line in machine.call("status")[1].splitlines() if line.startswith(refused)]


def test_status_shows_an_invalid_file_and_what_is_in_force(machine: Machine) -> None:
    """Exit 3: the problems are there, and nothing pretends that the broken file rules."""
    machine.call("apply")
    machine.desire(INVALID)
    code, out, _ = machine.call("status")
    assert (code, out.split()[0]) == (3, "invalid")
    assert "invalid     /etc/mirror-agent.yaml:4:5: registries.docker.io.mirror: unknown key" in out


def test_status_answers_scripts(machine: Machine) -> None:
    """The answer first, then the whole state."""
    assert machine.document("status")["live"] is False
    machine.call("apply")
    answer = machine.document("status")
    assert (answer["live"], answer["version"], answer["missing"], answer["fresh"]) == (True, 1, [], True)
    assert answer["generation"].startswith(GENERATION)


def test_status_takes_from_the_daemon_what_only_it_knows(machine: Machine) -> None:
    """When and why it converged is in what the daemon published; the rest is looked at afresh."""
    machine.call("apply")
    generation = machine.document("status")["generation"]
    publish(machine, Status(generation=generation, converged_at=1.0, cause="after an edit of /etc/mirror-agent.yaml"))
    headline = machine.call("status")[1].splitlines()[0]
    assert headline.startswith(f"converged   {GENERATION}, ")
    assert headline.endswith(" days ago, after an edit of /etc/mirror-agent.yaml")


def test_revert_gives_back_every_byte(machine: Machine) -> None:
    """After apply and revert the file is as it was; a second revert finds nothing to do."""
    machine.call("apply")
    code, out, err = machine.call("revert")
    assert (code, err, machine.daemon_json.read_text()) == (0, "", FOREIGN)
    assert out.splitlines()[-1].startswith("converged on what stood here before mirror-agent in ")
    assert machine.call("revert")[1].endswith(" ms: nothing to change\n")


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_revert_needs_no_valid_desired_state(machine: Machine, spoil: Callable[[Path], None]) -> None:
    """Who wants everything back may have thrown the file away, or broken it."""
    machine.call("apply")
    spoil(machine.config)
    assert machine.call("revert")[0] == 0
    assert machine.daemon_json.read_text() == FOREIGN


def test_after_revert_no_state_is_in_force(machine: Machine) -> None:
    """What the daemon had published is taken back too, or `check` would name a state that is gone."""
    publish(machine, Status(generation="7f3a91c"))
    machine.call("apply")
    machine.call("revert")
    machine.desire(INVALID)
    assert machine.call("check")[1].endswith("2 problems. Nothing was changed.\n")
    assert machine.call("status")[1].startswith("inert       there is no valid desired state, so nothing is managed\n")


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("apply", 'and converges by itself; "systemctl reload mirror-agent" makes it look now'),
        ("revert", "and would undo it; first run: systemctl stop mirror-agent"),
    ],
)
def test_the_daemon_is_not_disturbed(machine: Machine, command: str, advice: str) -> None:
    """While another process holds the lock: exit 1, its name and number, what to do; nothing is touched."""
    lock = machine.root / "run/mirror-agent/lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("mirror-agent run (pid 4711)\n")
        held.flush()
        before = machine.tree()
        code, out, err = machine.call(command)
        assert machine.tree() == before
    assert (code, out) == (1, "")
    assert "mirror-agent run (pid 4711) holds " in err
    assert err.endswith(f"{advice}\n")


@pytest.mark.parametrize("command", ["apply", "revert"])
def test_another_command_is_waited_for(machine: Machine, command: str) -> None:
    """It is no daemon that converges by itself, nor one to stop."""
    lock = machine.root / "run/mirror-agent/lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("mirror-agent apply (pid 4711)\n")
        held.flush()
        said = machine.call(command)
    assert said == (
        1,
        "",
        f"mirror-agent: mirror-agent apply (pid 4711) holds {lock}; try again when it is done\n",
    )


# --- mirrors --------------------------------------------------------------------------------------------------------


def test_mirrors_is_a_dated_table(machine: Machine) -> None:
    """A heading, one line for each mirror and registry, and how old the knowledge is."""
    code, out, _ = machine.call("mirrors")
    lines = out.splitlines()
    assert (code, lines[0].split()[:4]) == (0, ["REGISTRY", "MIRROR", "STATE", "SINCE"])
    assert any(line.split()[:3] == ["ghcr.io", "https://ghcr.m.daocloud.io", "usable"] for line in lines)
    assert lines[-1].startswith("As of 20")


def test_mirrors_of_one_registry(machine: Machine) -> None:
    """Only its own; what works comes first."""
    answer = machine.document("mirrors", "quay.io")["mirrors"]
    assert {offer["registry"] for offer in answer} == {"quay.io"}
    states = [offer["state"] for offer in answer]
    assert states.index("usable") == 0
    assert all(offer["source"] and offer["since"] and offer["checked"] for offer in answer)


def test_mirrors_of_an_unknown_registry(machine: Machine) -> None:
    """Exit 1, and which registries are known."""
    code, out, err = machine.call("mirrors", "nowhere.example")
    assert (code, out) == (1, "")
    assert err.startswith("mirror-agent: no mirror of nowhere.example is known; there are some of: docker.io, ")


def test_a_rule_is_said_once(machine: Machine) -> None:
    """Two mirrors of one operator, one of which says more about the same rule."""
    lines = machine.call("mirrors", "cr.l5d.io")[1].splitlines()
    assert len([line for line in lines if line.startswith("DaoCloud: only images on the allowlist")]) == 1
