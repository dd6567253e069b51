"""Plans that must not stop Docker's next start: what is refused, what converges all the same, what is given back."""

from __future__ import annotations

import json

import pytest

from agent.model import Absent, CommandResult, DockerSettings, Manage
from agent.plan import Conflict, Memory, Release, Restart
from tests.docker_plans import (
    DOWN,
    PATH,
    STOPS,
    A,
    B,
    acts,
    desired,
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

UNIT_FILE = "/usr/lib/systemd/system/docker.service"
FLAGGED = "registry-mirrors is set by --registry-mirror in {}, and with the key in both places Docker does not start"
ADVICE = "take the flag out there, or leave the key to it"
NO_ACT = "Docker is neither reloaded nor restarted until it is mended"
BAD_ENTRY = (
    'insecure-registries: "a.example/x" is no host, host:port or network: no path, no wildcard, no blank is allowed, '
    f"and with that Docker does not start: write it as HOST, HOST:PORT or a network; {NO_ACT}"
)
BOGUS = (
    'log-driver: "bogus" is no log driver that this Docker has, and with that it does not start: use one of awslogs, '
    "fluentd, gcplogs, gelf, journald, json-file, local, logentries, none, splunk, syslog, or a plugin of "
    "`docker plugin ls`"
)


def reasons(made: list[Conflict] | tuple[Conflict, ...]) -> list[str]:
    return [conflict.reason for conflict in made]


def flagged(host: FakeHost, *words: str) -> FakeHost:
    host.processes[812] = ("/usr/bin/dockerd", "-H", "fd://", *words)
    return host


def test_a_key_that_a_flag_sets_is_not_written() -> None:
    """The flag and where it was found are named; the other keys converge."""
    host = flagged(machine("{}", answer=info(A)), f"--registry-mirror={A}")
    made = plan(host, desired(B, docker=settings(debug=True)))
    assert json.loads(text_of(made)) == {"debug": True}
    assert reasons(made.conflicts) == [f"{FLAGGED.format('the command line of the running dockerd')}: {ADVICE}"]
    assert len(made.acts) == 1


def test_the_file_that_sets_the_flag_is_named() -> None:
    """Also when Docker is down, and when the running one does not have the flag yet."""
    for unit_is_up in (True, False):
        host = flagged(machine("{}", answer=info())) if unit_is_up else machine("{}", unit=DOWN)
        host.put(UNIT_FILE, "[Service]\nEnvironmentFile=-/etc/default/docker\nExecStart=/usr/bin/dockerd $DOCKER_OPTS")
        host.put("/etc/default/docker", "DOCKER_OPTS=--registry-mirror=https://x.example")
        made = plan(host, desired(A))
        assert (made.actions, reasons(made.conflicts)) == ((), [f"{FLAGGED.format('/etc/default/docker')}: {ADVICE}"])


def test_what_we_wrote_before_the_flag_came_is_given_back() -> None:
    """No explicit empty list on the way: its mere presence would stop Docker, too."""
    host = flagged(machine(json.dumps({"registry-mirrors": [B], "dns": []}), answer=info(A)), f"--registry-mirror={A}")
    owning(host, Absent(), registry_mirrors=None)
    made = plan(host, desired(B))
    assert json.loads(text_of(made)) == {"dns": []}
    assert made.releases == (Release(PATH),)
    assert acts(made) == []


def test_insecure_registries_of_a_flag() -> None:
    """The set is not merged with the flag's either."""
    host = flagged(machine("{}", answer=info()), "--insecure-registry", "x.lan")
    made = plan(host, desired(A, insecure=("y.lan",)))
    assert json.loads(text_of(made)) == {"registry-mirrors": [A]}
    assert [reason.partition(" in ")[0] for reason in reasons(made.conflicts)] == [
        "insecure-registries is set by --insecure-registry"
    ]


def test_somebody_elses_key_beside_a_flag_keeps_docker_untouched() -> None:
    """The file holds a foreign key that a flag sets too: ours is written, and nobody is told to load it."""
    host = flagged(machine('{"hosts": ["fd://"]}', answer=info()), "-H", "fd://")
    made = plan(host, desired(A))
    assert "registry-mirrors" in json.loads(text_of(made))
    assert acts(made) == []
    assert [reason[:47] for reason in reasons(made.conflicts)] == ["hosts is set by -H in the command line of the r"]


@pytest.mark.parametrize("values", [settings(debug=True), settings(log_opts={"max-size": "5m"})])
def test_a_foreign_bad_entry_means_no_act(values: DockerSettings) -> None:
    """A bad insecure registry that somebody wrote: neither reload nor restart because of us, and it is named."""
    host = machine('{"insecure-registries": ["a.example/x"]}', answer=info())
    made = plan(host, desired(docker=values))
    assert (acts(made), made.deferred, made.conflicts) == ([], (), (Conflict(PATH, BAD_ENTRY),))
    assert len(made.actions) == 1


def test_a_foreign_mirror_is_judged_by_the_version() -> None:
    """A path in a mirror stops 20.10 and not 26.1."""
    for version, count in (("20.10.24", 1), ("26.1.5", 0)):
        answer = info("https://old.example").replace(b"26.1.5", version.encode())
        host = machine('{"registry-mirrors": ["https://old.example/p"]}', answer=answer)
        made = plan(host, desired(docker=settings(log_opts={"tag": "x"})))
        assert (len(made.conflicts), len(acts(made))) == (count, 1 - count)


def test_the_installed_program_tells_the_version_of_a_stopped_docker() -> None:
    """`dockerd --version`, where /info cannot be asked."""
    host = machine('{"registry-mirrors": ["https://old.example/p"]}', unit=DOWN)
    host.put("/usr/sbin/dockerd", b"")
    assert plan(host, desired(docker=settings(debug=True))).conflicts == ()
    host.commands[("/usr/sbin/dockerd", "--version")] = CommandResult(0, "Docker version 20.10.24+dfsg1, build 5d6", "")
    assert len(plan(host, desired(docker=settings(debug=True))).conflicts) == 1


def test_with_nothing_of_ours_a_bad_file_is_not_our_business() -> None:
    """No key is desired and none is ours: the empty plan."""
    host = machine('{"insecure-registries": ["a.example/x"]}', answer=info())
    assert plan(host, desired()).is_empty


def test_a_bad_setting_is_refused_and_the_rest_converges() -> None:
    """A log driver that does not exist is not written."""
    made = plan(machine("{}", answer=info()), desired(A, docker=settings(log_driver="bogus")))
    assert json.loads(text_of(made)) == {"registry-mirrors": [A]}
    assert reasons(made.conflicts) == [BOGUS]


def test_a_mistake_keeps_the_last_good_value() -> None:
    """A setting of ours that becomes bad stays as it is: no give-back, no restart."""
    host = owning(machine('{"log-driver": "local"}', answer=info(LoggingDriver="local")), Absent(), log_driver=None)
    remembered(host, Memory("i1", loaded(log_driver='"local"')))
    made = plan(host, desired(docker=settings(log_driver="bogus")))
    assert (made.actions, made.releases, reasons(made.conflicts)) == ((), (), [BOGUS])


def test_a_bad_value_of_ours_is_given_back() -> None:
    """What an upgrade of Docker has made bad must not stay in the file."""
    host = owning(machine('{"log-driver": "bogus"}', unit=DOWN), Absent(), log_driver=None)
    made = plan(host, desired(A, docker=settings(log_driver="bogus")))
    assert json.loads(text_of(made)) == {"registry-mirrors": [A]}


def test_a_log_plugin_that_the_running_docker_has_is_fine() -> None:
    """/info lists the plugins by the names that daemon.json takes; where it cannot be asked, others' are not judged."""
    answer = info(Plugins={"Log": ["json-file", "loki"]})
    state = desired(docker=settings(log_driver="loki"))
    assert plan(machine("{}", answer=answer), state).conflicts == ()
    assert plan(machine('{"log-driver": "loki"}', unit=DOWN), desired(A)).conflicts == ()


def test_a_restart_says_which_images_it_hides() -> None:
    """Another storage driver or data-root: what lay in the old one is out of sight."""
    made = plan(machine("{}", answer=info()), desired(docker=settings(data_root="/d", storage_driver="vfs")))
    assert [act.reason for act in made.acts if isinstance(act, Restart)] == [
        "data-root and storage-driver: Docker takes the change only at a restart; images and containers under the old "
        f"data-root and storage-driver are out of Docker's sight afterwards; {STOPS}"
    ]


def test_giving_back_is_possible_beside_others_mistakes() -> None:
    """manage: false takes our keys out of a file that would stop Docker, and tells nobody to load it."""
    host = machine('{"insecure-registries": ["a.example/x"], "debug": true}', answer=info(Debug=True))
    owning(host, Absent(), debug=None)
    made = plan(host, desired(docker=DockerSettings(manage=Manage.NEVER)))
    assert acts(made) == []
    assert made.conflicts == (Conflict(PATH, BAD_ENTRY),)


# --- dockerd's own verdict ---------------------------------------------------------------------------------------

VALIDATE = ("/usr/bin/dockerd", "--validate", "--config-file=/dev/stdin", "-H", "fd://")
FINE = CommandResult(0, "", "configuration OK\n")


def validating(host: FakeHost, *bad_keys: str) -> FakeHost:
    """A dockerd that does not know these keys."""

    def judge(content: bytes) -> CommandResult:
        unknown = [key for key in json.loads(content) if key in bad_keys]
        said = "unable to configure the Docker daemon with file /dev/stdin: the following directives don't match any"
        return CommandResult(1, "", f"{said} configuration option: {', '.join(unknown)}\n") if unknown else FINE

    host.commands[VALIDATE] = judge
    return flagged(host)


def refuses(key: str) -> str:
    return f"the following directives don't match any configuration option: {key}"


def test_a_setting_that_dockerd_refuses_is_left_out_alone() -> None:
    """Each by its name with dockerd's sentence; the mirrors and the other settings are written."""
    host = validating(machine('{"dns": []}', answer=info()), "debugg", "dnss")
    made = plan(host, desired(A, docker=settings(debugg=True, dnss=[], log_level="warn")))
    assert json.loads(text_of(made)) == {"dns": [], "registry-mirrors": [A], "log-level": "warn"}
    assert reasons(made.conflicts) == [
        f"{key}: `dockerd --validate` refuses it: {refuses(key)}" for key in ("debugg", "dnss")
    ]


def test_a_setting_that_dockerd_refuses_keeps_its_value() -> None:
    """What it has from us, or from others, stays; it is neither a change nor a claim."""
    host = validating(machine('{"debug": true, "dns": []}', answer=info(Debug=True)))
    owning(host, Absent(), debug=None)
    said = "unable to configure the Docker daemon with file /dev/stdin: invalid"

    def judge(content: bytes) -> CommandResult:
        values = json.loads(content)
        is_bad = values.get("debug") is False or values.get("dns") == ["x"]
        return CommandResult(1, "", f"{said}\n") if is_bad else FINE

    host.commands[VALIDATE] = judge
    made = plan(host, desired(A, docker=settings(debug=False, dns=["x"])))
    assert json.loads(text_of(made)) == {"debug": True, "dns": [], "registry-mirrors": [A]}
    assert reasons(made.conflicts) == [f"{key}: `dockerd --validate` refuses it: invalid" for key in ("debug", "dns")]


def test_a_setting_may_need_a_later_one() -> None:
    """They are tried one by one, and once more with those that were taken."""
    host = validating(machine("{}", answer=info()), "debugg")
    judge = host.commands[VALIDATE]
    said = "unable to configure the Docker daemon with file /dev/stdin: needs tlskey"

    def judge_pairs(content: bytes) -> CommandResult:
        values = json.loads(content)
        is_half = "tlscert" in values and "tlskey" not in values
        return CommandResult(1, "", f"{said}\n") if is_half else judge(content)  # type: ignore[operator]

    host.commands[VALIDATE] = judge_pairs
    made = plan(host, desired(A, docker=settings(debugg=True, tlscert="/c.pem", tlskey="/k.pem")))
    assert json.loads(text_of(made)) == {"registry-mirrors": [A], "tlscert": "/c.pem", "tlskey": "/k.pem"}
    assert reasons(made.conflicts) == [f"debugg: `dockerd --validate` refuses it: {refuses('debugg')}"]


def test_a_file_that_dockerd_refuses_is_never_written() -> None:
    """It is not one of the settings, and the file as it stands is fine: nothing is written, nothing is claimed, nobody
    is told."""
    host = validating(machine('{"dns": []}', answer=info()), "insecure-registries")
    made = plan(host, desired(A, docker=settings(debug=True), insecure=("b.example",)))
    said = f"`dockerd --validate` refuses the file with what is desired: {refuses('insecure-registries')}"
    assert (made.actions, made.claims, made.deferred) == ((), (), ())
    assert reasons(made.conflicts) == [f"{said}; nothing of it is written until that is mended"]


def test_what_dockerd_takes_is_written() -> None:
    """The same dockerd, another desired state."""
    host = validating(machine('{"dns": []}', answer=info()), "debugg")
    made = plan(host, desired(A, docker=settings(debug=True)))
    assert (made.conflicts, len(made.actions)) == ((), 2)


def test_what_others_wrote_and_dockerd_refuses_is_theirs() -> None:
    """Ours is written beside it, since it is not to blame, and Docker is not touched."""
    host = validating(machine('{"dnss": []}', answer=info()), "dnss")
    made = plan(host, desired(A))
    assert (len(made.actions), acts(made)) == (1, [])
    assert reasons(made.conflicts) == [f"`dockerd --validate` refuses the file: {refuses('dnss')}; {NO_ACT}"]


def test_a_key_of_ours_that_dockerd_no_longer_takes_is_given_back() -> None:
    """The file as it stands is refused, and without ours it is not."""
    host = validating(machine('{"debugg": true}', answer=info()), "debugg")
    owning(host, Absent(), debugg=None).mtimes[PATH] += 3600.0
    made = plan(host, desired(A, docker=settings(debugg=True)))
    said = f"`dockerd --validate` refuses the file with what is desired: {refuses('debugg')}"
    assert json.loads(text_of(made)) == {}
    assert reasons(made.conflicts) == [f"{said}; what stood there before comes back"]


@pytest.mark.parametrize(
    "result",
    [
        CommandResult(125, "", "Status: unknown flag: --validate\nSee 'dockerd --help'., Code: 125\n"),
        CommandResult(1, "", "failed to start daemon: Devices cgroup isn't mounted\n"),
        CommandResult(-31, "", ""),
    ],
)
def test_a_dockerd_that_cannot_tell_says_nothing(result: CommandResult) -> None:
    """20.10 does not know the flag, and a sandbox may stop it: only a refusal of the file counts."""
    host = flagged(machine("{}", answer=info()))
    host.commands[VALIDATE] = result
    made = plan(host, desired(A))
    assert (made.conflicts, len(made.actions)) == ((), 2)


def test_a_converged_docker_costs_no_process() -> None:
    """The daemon has started with the file as it is: nothing is asked."""
    host = owning(
        flagged(machine(json.dumps({"registry-mirrors": [A]}), answer=info(A))), Absent(), registry_mirrors=None
    )
    remembered(host, Memory("i1", loaded(registry_mirrors=f'["{A}"]')))
    host.commands[VALIDATE] = lambda _: pytest.fail("asked about a file that the daemon runs with")
    assert plan(host, desired(A)).is_empty


def test_a_key_that_an_old_docker_does_not_know_is_refused() -> None:
    """20.10 has no --validate: a typo, or a key that came later, is not written there; 23 and later are asked."""
    answer = info().replace(b"26.1.5", b"20.10.24")
    made = plan(machine("{}", answer=answer), desired(A, docker=settings(debugg=True, proxies={"no-proxy": "x"})))
    said = "Docker 20.10 does not know this key, and with it does not start: take it out"
    assert json.loads(text_of(made)) == {"registry-mirrors": [A]}
    assert reasons(made.conflicts) == [f"debugg: {said}", f"proxies: {said}"]
    assert plan(machine("{}", answer=info()), desired(A, docker=settings(debugg=True))).conflicts == ()
