"""Giving back: what stood in daemon.json before us comes back, and the running Docker lets go of what was ours."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import converge
from agent.ledger import Ledger
from agent.model import Absent, ActiveState, DesiredState, DockerSettings, Manage, Regular, UnitState
from agent.plan import Conflict, Memory, Plan, Release, Reload, RemoveDirectory, RemoveFile, Restart, WriteFile
from agent.runtimes._daemon_json import parse
from tests.docker_plans import (
    DOWN,
    PATH,
    SOCKET,
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

NOTHING = desired()
AGAIN = "registry-mirrors has its former value again: it is no longer desired"
EXACT = Regular(b'{\n\t"registry-mirrors": [ "https://old.example" ],\n\t"big": 1e400\n}', 0o640, 1000, 1000)
OURS = f'{{\n\t"registry-mirrors": [ "{A}" ],\n\t"big": 1e400\n}}'


def run(host: FakeHost, state: DesiredState) -> None:
    converge.converge(state, host, lambda _: None, acts=True)


def taken(file: str | None = OURS, unit: UnitState = DOWN) -> FakeHost:
    """A machine on which registry-mirrors is ours and EXACT stood before."""
    return owning(machine(file, unit=unit), EXACT, registry_mirrors='["https://old.example"]')


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_original_comes_back_byte_for_byte() -> None:
    """Nothing of ours is left and the rest means what it meant: bytes, mode and owner of the kept original."""
    host = taken()
    reason = f"{AGAIN}; the file is as it was before mirror-agent"
    assert plan(host, NOTHING) == Plan(
        "docker",
        actions=(WriteFile(PATH, EXACT.content, reason, host.files[PATH], 0o640, (1000, 1000), verbatim=True),),
        releases=(Release(PATH),),
        remember=Memory(trial=digest(EXACT.content), good=digest(OURS)),
        keeps=(OURS.encode(), EXACT.content),
    )


@pytest.mark.parametrize(
    "file",
    [
        OURS.replace("1e400", "1e401"),
        OURS.replace('"big": 1e400', '"big": 1e400,\n\t"dns": ["1.1.1.1"]'),
        f'{{\n\t"big": 1e400,\n\t"registry-mirrors": [ "{A}" ]\n}}',
    ],
    ids=["another value", "another key", "another order"],
)
def test_what_others_did_meanwhile_stays(file: str) -> None:
    """The rest is not what it was: the key alone is given back, in its own spelling, and mode and owner stay."""
    host = taken(file)
    made = plan(host, NOTHING)
    content = file.replace(f'[ "{A}" ]', '[ "https://old.example" ]').encode()
    assert made.actions == (WriteFile(PATH, content, AGAIN, host.files[PATH]),)


def test_a_lost_original_costs_only_its_spelling() -> None:
    """The ledger still knows the value of the key."""
    host = taken()
    host.originals.clear()
    assert json.loads(text_of(plan(host, NOTHING)))["registry-mirrors"] == ["https://old.example"]


def test_one_key_is_given_back_while_others_stay_ours() -> None:
    """The former value returns in its former spelling; the ledger keeps the rest."""
    host = taken(OURS.replace('"big"', '"debug": true,\n\t"big"'))
    owning(host, EXACT, debug=None)
    made = plan(host, desired(docker=settings(debug=True)))
    assert '"registry-mirrors": [ "https://old.example" ]' in text_of(made)
    assert made.releases == (Release(PATH, ("registry-mirrors",)),)


def test_a_file_that_we_made_goes_with_its_directory() -> None:
    """Nothing stood there before, and nobody has put anything into it."""
    host = owning(machine('{"debug": true}', unit=DOWN), Absent(), ("/etc/docker",), debug=None)
    assert plan(host, NOTHING) == Plan(
        "docker",
        actions=(
            RemoveFile(PATH, "nothing is left in it, and it did not exist before mirror-agent", host.files[PATH]),
            RemoveDirectory("/etc/docker", "it was made for daemon.json, which is gone"),
        ),
        releases=(Release(PATH),),
        remember=Memory(trial=digest(None), good=digest('{"debug": true}')),
        keeps=(b'{"debug": true}',),
    )


def test_a_file_that_we_made_stays_if_others_use_it() -> None:
    """Our keys go, theirs stay."""
    host = owning(machine('{"debug": true, "dns": ["1.1.1.1"]}', unit=DOWN), Absent(), debug=None)
    assert text_of(plan(host, NOTHING)) == '{"dns": ["1.1.1.1"]}'


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_empty_file_is_not_brought_back(content: bytes) -> None:
    """Docker 20.10 does not start with one: an empty object stands there instead."""
    host = owning(machine('{\n    "debug": true\n}\n', unit=DOWN), Regular(content), debug=None)
    assert text_of(plan(host, NOTHING)) == "{}\n"


def test_a_file_that_is_gone_stays_gone() -> None:
    """Somebody deleted it; what we had brought needs no removal, and the ledger forgets it."""
    host = owning(machine(None, unit=DOWN), Absent(), debug=None)
    assert plan(host, NOTHING) == Plan("docker", releases=(Release(PATH),))


def test_what_cannot_be_read_is_not_given_back() -> None:
    """The claim stays until a person has mended the file."""
    host = owning(machine("{ broken", unit=DOWN), Absent(), debug=None)
    made = plan(host, NOTHING)
    assert (made.actions, made.releases, [type(each) for each in made.conflicts]) == ((), (), [Conflict])


@pytest.mark.parametrize("manage", [Manage.NEVER, Manage.AUTO, Manage.ALWAYS])
def test_not_managing_gives_back(manage: Manage) -> None:
    """manage: false gives back whatever is listed; the others do once nothing is."""
    state = desired(*((A,) if manage is Manage.NEVER else ()), docker=DockerSettings(manage=manage))
    assert plan(taken(), state).releases == (Release(PATH),)


def test_a_file_that_moves_is_given_back_at_its_old_place() -> None:
    """docker.daemon_json names another file: ours leaves the first one."""
    host = owning(machine('{"debug": true}', unit=DOWN), Absent(), debug=None)
    made = plan(host, desired(docker=replace(settings(debug=True), daemon_json="/etc/docker/other.json")))
    assert [(type(action).__name__, action.path) for action in made.file_actions] == [
        ("WriteFile", "/etc/docker/other.json"),
        ("RemoveFile", PATH),
    ]


def test_an_uninstalled_docker_keeps_nothing_from_being_desired() -> None:
    """The unit, dockerd and the file are gone: ledger and machine stay as they are until Docker is back."""
    host = owning(FakeHost(), Absent(), debug=None)
    assert plan(host, desired(A)) == Plan("docker")


# --- the running daemon ----------------------------------------------------------------------------------------------


def test_a_removal_takes_two_rounds() -> None:
    """A SIGHUP keeps the old mirrors if the key is just gone: first an empty list is loaded, then the key goes."""
    host = owning(machine(f'{{"registry-mirrors": ["{A}"]}}', answer=info(A)), Absent(), registry_mirrors=None)
    remembered(host, Memory("i1"))
    first = plan(host, NOTHING)
    assert (text_of(first), [act.reason for act in first.acts], first.releases) == (
        '{"registry-mirrors": []}',
        ["registry-mirrors lost https://a.example"],
        (),
    )
    host.put(PATH, '{"registry-mirrors": []}')
    host.answers[(SOCKET, "/info")] = info()
    second = plan(host, NOTHING)
    assert ([type(each) for each in second.actions], second.releases) == ([RemoveFile], (Release(PATH),))


@pytest.mark.parametrize(
    ("key", "value", "answer", "clearing"),
    [
        ("debug", True, info(Debug=True), False),
        ("live-restore", True, info(LiveRestoreEnabled=True), False),
        ("labels", ["a=b"], info(Labels=["a=b"]), []),
        ("shutdown-timeout", 60, info(), 15),
        ("allow-nondistributable-artifacts", ["x.lan"], info(), []),
    ],
)
def test_what_a_reload_keeps_is_cleared_aloud(key: str, value: object, answer: bytes, clearing: object) -> None:
    """Every key that a SIGHUP keeps when absent and that has a way to say nothing."""
    host = owning(machine(json.dumps({key: value}), answer=answer), Absent(), **{key: None})
    remembered(host, Memory("i1", loaded(**{key: json.dumps(value, separators=(",", ":"))})))
    made = plan(host, NOTHING)
    assert (json.loads(text_of(made)), acts(made), made.releases) == ({key: clearing}, [Reload], ())


@pytest.mark.parametrize(
    ("key", "value", "act"),
    [
        ("max-concurrent-downloads", 10, Reload),
        ("features", {"buildkit": True}, Reload),
        ("features", {"containerd-snapshotter": True}, Restart),
        ("authorization-plugins", ["opa"], Reload),
        ("default-runtime", "crun", Restart),
        ("runtimes", {"crun": {"path": "/usr/bin/crun"}}, Restart),
        ("log-opts", {"max-size": "5m"}, Restart),
    ],
)
def test_other_keys_just_go(key: str, value: object, act: type[Reload | Restart]) -> None:
    """A SIGHUP drops some absent keys; the rest needs a restart. The claim stays until the daemon has let go."""
    host = owning(machine(json.dumps({key: value, "dns": []}), answer=info()), Absent(), **{key: None})
    remembered(host, Memory("i1", loaded(**{key: json.dumps(value, separators=(",", ":"))})))
    made = plan(host, NOTHING)
    assert (json.loads(text_of(made)), acts(made), made.releases) == ({"dns": []}, [act], ())


def test_a_stopped_docker_needs_one_round() -> None:
    """There is nobody to let go of anything: the key goes at once."""
    host = owning(machine(f'{{"registry-mirrors": ["{A}"], "dns": []}}', unit=DOWN), Absent(), registry_mirrors=None)
    made = plan(host, NOTHING)
    assert (text_of(made), acts(made), made.releases) == ('{"dns": []}', [], (Release(PATH),))


def test_nothing_is_forgotten_while_docker_starts() -> None:
    """Whether it reads the old file or the new one is open: the claim stays until one can ask."""
    starting = UnitState(ActiveState.ACTIVATING, True, "start", 812, "i2")
    host = owning(machine('{"log-opts": {}, "dns": []}', unit=starting), Absent(), log_opts=None)
    made = plan(host, NOTHING)
    assert (text_of(made), acts(made), made.releases) == ('{"dns": []}', [], ())


def test_foreign_insecure_registries_outlive_ours() -> None:
    """One entry was there before us, one came meanwhile: both stay, in place; ours goes, and Docker is told."""
    file = '{"insecure-registries": ["old.lan", "ours.lan", "new.lan"]}'
    answer = info(insecure=("old.lan", "ours.lan", "new.lan"))
    keys = {"insecure-registries": '["old.lan"]', "insecure-registries[ours.lan]": None}
    keys["insecure-registries[old.lan]"] = '"old.lan"'
    host = remembered(
        owning(machine(file, answer=answer), Regular(b'{"insecure-registries": ["old.lan"]}'), **keys), Memory("i1")
    )
    made = plan(host, NOTHING)
    assert (text_of(made), [act.reason for act in made.acts], made.releases) == (
        '{"insecure-registries": ["old.lan", "new.lan"]}',
        ["insecure-registries lost ours.lan"],
        (),
    )
    host.put(PATH, text_of(made))
    host.answers[(SOCKET, "/info")] = info(insecure=("old.lan", "new.lan"))
    assert plan(host, NOTHING) == Plan("docker", releases=(Release(PATH),))


def test_a_set_that_was_null_is_null_again() -> None:
    """It is given back as it was written, and Docker lets go of ours with it (SIGHUP takes null for an empty list)."""
    before = b'{ "insecure-registries": null, "debug": true }'
    host = machine(before.decode(), answer=info())
    first = plan(host, desired(insecure=("ours.lan",)))
    host.stored_ledger = host.stored_ledger.with_claims("docker", first.claims)
    host.keep_original(before)
    host.put(PATH, text_of(first))
    host.answers[(SOCKET, "/info")] = info(insecure=("ours.lan",))
    back = plan(host, NOTHING)
    assert (text_of(back), [act.reason for act in back.acts]) == (
        before.decode(),
        ["insecure-registries lost ours.lan"],
    )


def test_an_insecure_registry_leaves_while_another_stays() -> None:
    """Only what is no longer desired is released."""
    keys = {f"insecure-registries[{host}]": None for host in ("a.lan", "b.lan")}
    host = owning(
        machine('{"insecure-registries": ["a.lan", "b.lan"]}', unit=DOWN), Absent(), insecure_registries=None, **keys
    )
    made = plan(host, desired(insecure=("b.lan",)))
    assert (text_of(made), made.releases) == (
        '{"insecure-registries": ["b.lan"]}',
        (Release(PATH, ("insecure-registries[a.lan]",)),),
    )


# --- there and back --------------------------------------------------------------------------------------------------

NUMBERS = ("1e5", "1.0", "123456789012345678901234567890", "-0")


@st.composite
def foreign_files(draw: st.DrawFn) -> bytes:
    """Objects as people and programs leave them, with and without keys that will be ours."""
    members = {
        key: draw(st.sampled_from((*NUMBERS, '"\\u0041\\/é"', "[1,  2]", '{ "x" :null }')))
        for key in draw(st.lists(st.sampled_from(("data-root", "dns", "ä", "bip")), unique=True))
    }
    if draw(st.booleans()):
        members["registry-mirrors"] = draw(st.sampled_from(("[]", '["https://old.example/"]', f'[ "{A}" ]', "null")))
    if draw(st.booleans()):
        members["insecure-registries"] = draw(
            st.sampled_from(("[]", "null", '[\n"x.lan"]', '["HTTP://Y.lan:5000", "z"]'))
        )
    if draw(st.booleans()):
        members["debug"] = draw(st.sampled_from(("true", "false", "null")))
    before, between, colon, after = draw(
        st.sampled_from(
            (("", ", ", ": ", ""), ("\n    ", ",\n    ", ": ", "\n"), ("", ",", ":", ""), ("\n\t", " ,\n", " : ", " "))
        )
    )
    order = draw(st.permutations(sorted(members)))
    body = between.join(f'"{key}"{colon}{members[key]}' for key in order)
    return ("{" + before + body + after + "}" + draw(st.sampled_from(("", "\n", "\r\n")))).encode()


states = st.builds(
    lambda mirrors, insecure, values: desired(*mirrors, insecure=tuple(insecure), docker=settings(**values)),
    st.lists(st.sampled_from((A, B)), unique=True),
    st.lists(st.sampled_from(("x.lan", "y.lan:5000", "w.lan")), unique=True),
    st.dictionaries(
        st.sampled_from(("debug", "log_opts", "labels")), st.sampled_from((True, [], {"tag": "b"})), max_size=2
    ),
)


@given(st.none() | foreign_files(), st.lists(states, min_size=1, max_size=3))
def test_whatever_was_desired_the_original_comes_back(content: bytes | None, wished: list[DesiredState]) -> None:
    """Through any desired states and back to none: the bytes, mode and owner of before, or no file; and after each
    state a second look finds nothing to do."""
    host = machine(None, unit=DOWN)
    before = Absent() if content is None else Regular(content, 0o640, 7, 8)
    if isinstance(before, Regular):
        host.files[PATH] = before
    for state in (*wished, NOTHING):
        run(host, state)
        assert plan(host, state).is_empty
    assert (host.read(PATH), host.stored_ledger.entries) == (before, Ledger().entries)


@given(foreign_files(), st.lists(states, min_size=1, max_size=2))
def test_foreign_members_keep_every_character(content: bytes, wished: list[DesiredState]) -> None:
    """Whatever is desired, each member that is not ours stands in the file exactly as it stood."""
    host = machine(None, unit=DOWN)
    host.files[PATH] = Regular(content)
    for state in wished:
        run(host, state)
    assert foreign_text(host.text(PATH)) == foreign_text(content.decode())


def foreign_text(text: str) -> dict[str, str]:
    document = parse(text.encode())
    keys = [member.key for member in document.members if member.key in {"data-root", "dns", "ä", "bip"}]
    return {key: str(document.raw(key)) for key in keys}


def test_reverting_a_running_docker_restarts_it_only_if_it_must() -> None:
    """Two keys, one of them for a restart: the file is as before at once, and the claim waits for the restart."""
    host = machine('{"log-opts": {"tag": "b"}, "debug": true}', answer=info(Debug=True))
    remembered(owning(host, Regular(b"{}"), log_opts=None, debug=None), Memory("i1", loaded(log_opts='{"tag":"b"}')))
    made = plan(host, NOTHING)
    assert (text_of(made), acts(made), made.releases) == ('{"debug": false}', [Restart], ())
