"""What Docker's plans do to daemon.json, compared whole: what is written, what is claimed, what is left alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.model import Absent, DockerSettings, Manage, Regular, UnitState
from agent.plan import Claim, Conflict, KeyOriginal, MakeDirectory, Memory, Plan, Reload, WriteFile
from tests.docker_plans import (
    DOWN,
    NOW,
    PATH,
    SOCKET,
    STARTED,
    STOPS,
    UNIT,
    UP,
    A,
    B,
    acts,
    desired,
    digest,
    info,
    loaded,
    machine,
    owning,
    plan,
    remembered,
    settings,
    text_of,
)
from tests.fakes import FakeHost


@pytest.mark.parametrize("file", [None, "", "{}", '{"debug": true}', "{ this is not JSON"])
def test_with_nothing_desired_nothing_is_done(file: str | None) -> None:
    """No key is ours: no action, no claim, no empty object, no memory, not even a conflict about a broken file."""
    assert plan(machine(file, answer=info()), desired()) == Plan("docker")


def test_a_machine_without_docker_is_left_alone() -> None:
    """manage: auto, and neither a unit nor dockerd nor daemon.json: no plan."""
    assert plan(FakeHost(), desired(A)) == Plan("docker")


def test_an_absent_docker_is_prepared_on_request() -> None:
    """manage: true: the directory and the file are made, and both are remembered as ours."""
    made = plan(FakeHost(), desired(A, docker=DockerSettings(manage=Manage.ALWAYS)))
    content = b'{\n    "registry-mirrors": [\n        "https://a.example"\n    ]\n}\n'
    assert made == Plan(
        "docker",
        actions=(
            MakeDirectory("/etc/docker", "/etc/docker/daemon.json is to stand in it"),
            WriteFile(PATH, content, "registry-mirrors gained https://a.example", Absent()),
        ),
        claims=(Claim(PATH, Absent(), (KeyOriginal("registry-mirrors", None),), ("/etc/docker",)),),
    )


def test_a_running_docker_is_reloaded() -> None:
    """One plan writes and reloads; it remembers what the daemon had read, and converge will store when it signalled."""
    host = machine('{"data-root": "/data"}\n', answer=info())
    before = host.files[PATH]
    made = plan(host, desired(A, B))
    said = "registry-mirrors gained https://a.example, https://b.example"
    content = b'{"data-root": "/data", "registry-mirrors": ["https://a.example", "https://b.example"]}\n'
    assert isinstance(before, Regular)
    memory = Memory(
        "i1",
        loaded(data_root='"/data"'),
        file_changed_at=STARTED - 60.0,
        trial=digest(content),
        good=digest(before.content),
        effective=loaded(insecure_registries="[]", registry_mirrors="[]"),
    )
    assert made == Plan(
        "docker",
        actions=(
            WriteFile(PATH, content, said, before),
            Reload(UNIT, said, made.acts[0].attempt, replace(memory, reloaded_at=NOW)),
        ),
        claims=(Claim(PATH, before, (KeyOriginal("registry-mirrors", None),)),),
        remember=memory,
        keeps=(before.content, content),
    )


def test_a_stopped_docker_gets_its_file_and_no_act() -> None:
    """The unit is not up: files only, on trial for its next start; /info is not asked, for asking could start it."""
    host = machine("{}", unit=DOWN)
    host.answers[(SOCKET, "/info")] = lambda: pytest.fail("asked a stopped Docker")
    made = plan(host, desired(A, docker=settings(log_driver="local")))
    remembers = Memory(trial=digest(text_of(made)), good=digest("{}"))
    assert (acts(made), made.deferred, made.remember) == ([], (), remembers)
    assert json.loads(text_of(made)) == {"registry-mirrors": [A], "log-driver": "local"}


def test_a_docker_that_has_everything_needs_nothing() -> None:
    """File, ledger, /info and memory agree: the empty plan."""
    host = owning(machine(json.dumps({"registry-mirrors": [A]}), answer=info(A)), Absent(), registry_mirrors=None)
    remembered(host, Memory("i1", loaded(registry_mirrors=f'["{A}"]')))
    assert plan(host, desired(A)) == Plan("docker")


def test_reformatting_is_no_change() -> None:
    """Keys in another order, other blanks, other escapes: the same values, so nothing is written and nobody told."""
    values = settings(log_opts={"max-size": "5m", "max-file": "3"}, debug=True)
    file = '{"debug":true,\n\n"log-opts" : {"max-file":"\\u0033","max-size":"5m"}}'
    host = owning(machine(file, answer=info(Debug=True)), Absent(), log_opts=None, debug=None)
    remembered(host, Memory("i1", loaded(debug="true", log_opts='{"max-size":"5m","max-file":"3"}')))
    assert plan(host, desired(docker=values)) == Plan("docker")


def test_a_slash_at_the_end_of_a_mirror_is_no_change() -> None:
    """Docker takes both for the same, so a file that others wrote keeps its spelling; the order is a change."""
    file = f'{{"registry-mirrors": ["{A}/", "{B}"]}}'
    host = machine(file, answer=info(A, B))
    assert plan(host, desired(A, B)).changes_nothing
    assert not plan(host, desired(B, A)).changes_nothing


def test_a_number_is_its_text() -> None:
    """Docker refuses 10.0 where it wants a whole number: it is put right, although Python calls them equal."""
    host = machine('{"max-concurrent-downloads": 10.0}', unit=DOWN)
    assert text_of(plan(host, desired(docker=settings(max_concurrent_downloads=10)))) == (
        '{"max-concurrent-downloads": 10}'
    )


BROKEN = {
    '{"debug": true,}': "line 1, column 15: there is a comma before a closing bracket: remove it",
    '{"a": 1, "a": 2}': 'line 1, column 10: "a" is there twice: remove one',
    '{"insecure-registries": "x"}': (
        "insecure-registries must be a list of texts: Docker does not start with anything else"
    ),
}


@pytest.mark.parametrize("file", BROKEN)
@pytest.mark.parametrize("unit", [UP, DOWN])
def test_a_broken_file_is_a_conflict_and_nothing_else(file: str, unit: UnitState) -> None:
    """A file that cannot be read is neither written nor made Docker's by a reload or a restart."""
    host = machine(file, unit=unit, answer=info())
    reason = f"{BROKEN[file]}; mirror-agent leaves the file alone until it is mended"
    assert plan(host, desired(A, insecure=("x.lan",))) == Plan("docker", conflicts=(Conflict(PATH, reason),))


def test_a_directory_in_the_way_is_a_conflict() -> None:
    """What is no regular file is not replaced."""
    host = machine(None, unit=DOWN)
    host.mkdirs(PATH)
    reason = "is a directory; mirror-agent leaves the file alone until it is mended"
    assert plan(host, desired(A)) == Plan("docker", conflicts=(Conflict(PATH, reason),))


def test_foreign_insecure_registries_stay() -> None:
    """A set: entries of others keep place and spelling, ours come after them, sorted; what is listed already, in
    whatever spelling, is not listed again."""
    host = machine('{"insecure-registries": ["\\u0078.lan", "http://REG.lan:5000", "10.1.0.0/8"]}', unit=DOWN)
    made = plan(host, desired(insecure=("z.lan", "reg.lan:5000", "b.lan")))
    assert text_of(made) == (
        '{"insecure-registries": ["\\u0078.lan", "http://REG.lan:5000", "10.1.0.0/8", "b.lan", "z.lan"]}'
    )
    assert made.claims[0].keys == (
        KeyOriginal("insecure-registries", '["\\u0078.lan","http://REG.lan:5000","10.1.0.0/8"]'),
        KeyOriginal("insecure-registries[z.lan]", None),
        KeyOriginal("insecure-registries[reg.lan:5000]", '"http://REG.lan:5000"'),
        KeyOriginal("insecure-registries[b.lan]", None),
    )


def test_secret_values_are_in_no_reason() -> None:
    """A proxy's password is written to the file and named nowhere else."""
    host = machine('{"registry-mirrors": ["https://u:hunter2@old.example"]}', answer=info())
    made = plan(host, desired(A, docker=settings(proxies={"http-proxy": "http://u:hunter2@p"})))
    assert "hunter2" in text_of(made)
    assert [action.reason for action in made.actions] == [
        "registry-mirrors gained https://a.example and lost https://***@old.example; proxies added",
        f"proxies: Docker takes the change only at a restart; {STOPS}",
    ]


SECRET = {"log-driver": "splunk", "log-opts": {"splunk-token": "4f9e"}}


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        (SECRET, 0o600),
        ({"proxies": {"http-proxy": "http://me:pw@proxy.lan:3128"}}, 0o600),
        ({"proxies": {"http-proxy": "http://proxy.lan:3128"}}, 0o644),
        ({"log-opts": {"max-size": "10m"}}, 0o644),
    ],
)
def test_a_file_of_ours_with_a_secret_is_for_root_alone(values: dict[str, object], mode: int) -> None:
    """A daemon.json that we make: tokens and passwords in it are nobody else's to read."""
    made = plan(machine(None, DOWN), desired(docker=settings(**values)))
    assert [action.mode for action in made.actions if isinstance(action, WriteFile)] == [mode]


def test_a_file_that_we_made_is_closed_when_it_gets_a_secret() -> None:
    """The mode goes with the write that brings the secret; what somebody else made keeps its mode, which is said."""
    ours = owning(machine('{"debug": true}\n', DOWN), Absent(), debug=None)
    theirs = machine('{"debug": true}\n', DOWN)
    state = desired(docker=settings(debug=True, **SECRET))
    said = "log-driver added; log-opts added"
    hint = f"{said}; it holds a secret now, and others may read it (0644): chmod 0600 {PATH}"
    writes = [[each for each in plan(host, state).actions if isinstance(each, WriteFile)] for host in (ours, theirs)]
    assert [(each.mode, each.reason) for each in (*writes[0], *writes[1])] == [(0o600, said), (0o644, hint)]
