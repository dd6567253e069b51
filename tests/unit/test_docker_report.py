"""What `status` says about Docker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.model import (
    Absent,
    ActiveState,
    ClientPair,
    DesiredState,
    DockerSettings,
    Header,
    Manage,
    Mirror,
    Registry,
    RegistryReport,
    RuntimeReport,
    UnitState,
)
from agent.plan import Memory
from agent.runtimes.docker import RUNTIME
from tests.docker_plans import (
    DOWN,
    NOW,
    PATH,
    STARTED,
    UNIT,
    UP,
    A,
    B,
    desired,
    info,
    loaded,
    machine,
    owning,
    remembered,
    settings,
)
from tests.fakes import FakeHost

HUB = RegistryReport("docker.io", (A, "Docker Hub"), PATH, live=True)


def report(host: FakeHost, state: DesiredState) -> RuntimeReport:
    return RUNTIME.report(state, RUNTIME.observe(host, state))


def rows(host: FakeHost, *registries: Registry) -> tuple[RegistryReport, ...]:
    return report(host, replace(desired(), registries=registries)).registries


def converged(answer: bytes | None, unit: UnitState = UP) -> FakeHost:
    """The file has the mirror A, and it is ours."""
    host = owning(
        machine(f'{{"registry-mirrors": ["{A}"]}}', unit=unit, answer=answer), Absent(), registry_mirrors=None
    )
    return remembered(host, Memory("i1", loaded(registry_mirrors=f'["{A}"]')))


UNMANAGED = DockerSettings(Manage.NEVER)


def test_live() -> None:
    """The running daemon has what is desired."""
    expected = RuntimeReport(
        "docker", "Docker", True, "26.1.5", True, "the running daemon has it, nothing to reload", (HUB,)
    )
    assert report(converged(info(A)), desired(A)) == expected


def test_live_since_our_restart() -> None:
    """A recent restart of ours is worth a word."""
    host = remembered(converged(info(A)), Memory("i1", restarted_at=NOW - 12.0))
    host.units[UNIT] = replace(UP, started_at=NOW - 11.0)
    assert report(host, desired(A)).sentence == "live since its restart 12 s ago"


@pytest.mark.parametrize(
    ("host", "state", "live", "sentence"),
    [
        (FakeHost(), desired(A), None, "not installed"),
        (converged(info(A)), desired(A, docker=UNMANAGED), None, "not managed (docker.manage is false)"),
        (converged(None, DOWN), desired(A), None, "not running; the file is ready"),
        (machine("{}", DOWN), desired(A), None, "not running; the file is to be written"),
        (converged(None, UnitState()), desired(A), None, "units are not controlled here; the file is ready"),
        (
            converged(None, UnitState(ActiveState.ACTIVATING, True, "start")),
            desired(A),
            None,
            "activating; the file is ready",
        ),
        (converged(None), desired(A), None, "running, but it does not answer on /run/docker.sock"),
        (converged(info()), desired(A), False, "reload to come: registry-mirrors gained https://a.example"),
        (machine("{,}", answer=info()), desired(A), False, "needs you: line 1, column 2: there is a comma before a "
         "closing bracket: remove it; mirror-agent leaves the file alone until it is mended"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_sentences(host: FakeHost, state: DesiredState, live: bool | None, sentence: str) -> None:
    """One short sentence for each way to be; live is None where nobody can tell."""
    shown = report(host, state)
    assert (shown.live, shown.sentence) == (live, sentence)


def test_a_restart_that_waits_says_for_what() -> None:
    """What waits, what it costs, and for what it waits."""
    host = remembered(owning(machine('{"log-opts": {}}', answer=info()), Absent(), log_opts=None), Memory("i1"))
    host.put(PATH, '{"log-opts": {"max-size": "1m"}}')
    remembered(host, Memory("i1", restarted_at=NOW - 1.0))
    shown = report(host, desired(docker=settings(log_opts={"max-size": "1m"})))
    assert (shown.live, shown.sentence) == (
        False,
        "restart pending, because the last restart was less than a minute ago: log-opts: Docker takes the change only "
        "at a restart; containers stop, and those with a restart policy come back",
    )


def test_drift_in_the_file_alone_leaves_the_daemon_live() -> None:
    """The daemon has it; the file is about to be put right."""
    host = converged(info(A))
    host.put(PATH, "{}")
    host.mtimes[PATH] = STARTED + 5.0
    shown = report(host, desired(A))
    assert (shown.live, shown.sentence) == (True, "live; the file is to be put right")


INEXPRESSIBLE = {
    Mirror(f"{A}/v2/hub", override_path=True): "Docker cannot replace the path of its requests (override_path)",
    Mirror(f"{A}/hub"): "Docker reads a mirror with a path differently from version to version",
    Mirror(A, ca=("/ca.pem",)): "Docker has no certificates per mirror (ca, client)",
    Mirror(A, client=(ClientPair("/c", "/k"),)): "Docker has no certificates per mirror (ca, client)",
    Mirror(A, headers=(Header("X", ("s3cret",)),)): "Docker sends no headers of its own to a mirror",
    Mirror(A, capabilities=("pull",)): "Docker asks every mirror to resolve and to pull",
    Mirror(A, skip_verify=True): "for skip_verify Docker wants its host under registries with insecure: true",
}


@pytest.mark.parametrize("mirror", INEXPRESSIBLE, ids=INEXPRESSIBLE.get)
def test_a_mirror_that_docker_cannot_use_is_left_out_and_named(mirror: Mirror) -> None:
    """It is not in registry-mirrors, and the row says why; what can be used is."""
    reason = INEXPRESSIBLE[mirror]
    alone = rows(converged(info()), Registry("docker.io", "", (mirror,)))
    assert alone == (
        RegistryReport(
            "docker.io",
            ("Docker Hub",),
            PATH,
            f"{mirror.url} is left out: {reason}; no mirror is left that Docker can use",
        ),
    )
    beside = rows(converged(info()), Registry("docker.io", "", (mirror, Mirror(B))))
    assert beside[0].hosts == (B, "Docker Hub")


def test_skip_verify_works_through_insecure_registries() -> None:
    """Its host is among the insecure ones, which is how Docker says it."""
    hub = Registry("docker.io", "", (Mirror("https://m.lan:8443", skip_verify=True),))
    shown = rows(converged(info()), hub, Registry("m.lan:8443", "https://m.lan:8443", insecure=True))
    gained = (
        "registry-mirrors gained https://m.lan:8443 and lost https://a.example; insecure-registries gained m.lan:8443"
    )
    state = f"to be written: {gained}"
    assert shown == (
        RegistryReport("docker.io", ("https://m.lan:8443", "Docker Hub"), PATH, live=False, state=state),
        RegistryReport("m.lan:8443", ("m.lan:8443",), PATH, "listed as insecure", live=False, state=state),
    )


def test_what_docker_does_to_docker_hub_in_any_case() -> None:
    """It falls back, and it verifies."""
    shown = rows(converged(info()), Registry("docker.io", "", (Mirror(A),), fallback=False, insecure=True))
    assert shown[0].note == "Docker always falls back to Docker Hub; Docker verifies Docker Hub in any case"


@pytest.mark.parametrize(
    ("mirror", "note"),
    [
        (Mirror("https://ghcr.m.daocloud.io"), "not possible in Docker 26; pull ghcr.m.daocloud.io/NAME instead"),
        (Mirror("http://127.0.0.1:30020"), "not possible in Docker 26; pull 127.0.0.1:30020/NAME instead"),
        (Mirror("https://h.cn/v2/ghcr", override_path=True), "not possible in Docker 26; pull h.cn/ghcr/NAME instead"),
        (Mirror("https://h.cn/v2", override_path=True), "not possible in Docker 26; pull h.cn/NAME instead"),
        (Mirror("https://h.cn/ghcr"), "not possible in Docker 26"),
    ],
)
def test_other_registries_get_the_name_to_pull(mirror: Mirror, note: str) -> None:
    """Docker has no mirrors for them: the row says under which name the mirror serves the image."""
    assert rows(converged(info()), Registry("ghcr.io", "https://ghcr.io", (mirror,))) == (
        RegistryReport("ghcr.io", (), "", note),
    )


@pytest.mark.parametrize(
    ("mirrors", "expected"),
    [
        (
            (Mirror("http://10.0.0.1:5000"),),
            RegistryReport(
                "10.0.0.1:5000",
                ("10.0.0.1:5000",),
                note="Docker asks it by https: for http write plain_http: true in place of the mirror",
            ),
        ),
        ((Mirror("https://10.0.0.1:5000"),), RegistryReport("10.0.0.1:5000", ("10.0.0.1:5000",))),
        (
            (Mirror("http://10.0.0.1:5000"), Mirror("https://m.cn")),
            RegistryReport("10.0.0.1:5000", (), note="not possible in Docker 26; pull m.cn/NAME instead"),
        ),
    ],
)
def test_a_registry_that_is_its_own_mirror(mirrors: tuple[Mirror, ...], expected: RegistryReport) -> None:
    """Docker asks it anyway, so there is no other name to pull; by http only if it is told so."""
    assert rows(converged(info()), Registry("10.0.0.1:5000", "https://10.0.0.1:5000", mirrors)) == (expected,)


def test_each_registry_says_whether_the_daemon_has_it() -> None:
    """One that Docker has loaded, beside one that it has not."""
    lan = Registry("r.lan:5000", "http://r.lan:5000", plain_http=True)
    hub = Registry("docker.io", "https://registry-1.docker.io", (Mirror(A),))
    assert [row.live for row in rows(converged(info(A)), hub, lan)] == [True, False]
    assert [row.live for row in rows(converged(None), hub, lan)] == [None, None]


def test_the_default_of_containerd_is_no_docker_matter() -> None:
    """`_default` has no name to pull."""
    shown = rows(converged(info()), Registry("_default", "", (Mirror(A),)))
    assert shown == (RegistryReport("_default", (), "", "not possible in Docker 26"),)


def test_docker_28_with_the_containerd_store_mirrors_every_registry() -> None:
    """Nothing to be excused: the mirror is asked first, from a file of its own."""
    store = {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]], "ServerVersion": "28.5.2"}
    (shown,) = rows(converged(info(**store)), Registry("ghcr.io", "https://ghcr.io", (Mirror("https://g.example"),)))
    assert (shown.note, shown.hosts[0]) == ("", "https://g.example")


@pytest.mark.parametrize(
    ("facts", "mirror", "note"),
    [
        ({"ServerVersion": "24.0.9"}, A, "in Docker 24 `docker build` takes a change up only at a restart"),
        (
            {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]},
            "http://m.lan:5000",
            "Docker 26 asks http://m.lan:5000 by https unless its host is insecure under registries",
        ),
        ({}, "http://m.lan:5000", ""),
        ({"ServerVersion": "28.5.2"}, A, ""),
    ],
)
def test_what_a_version_does_differently(facts: dict[str, object], mirror: str, note: str) -> None:
    """BuildKit up to 24 and the containerd image store up to 27, where they surprise people."""
    assert rows(converged(info(**facts)), Registry("docker.io", "", (Mirror(mirror),)))[0].note == note


@pytest.mark.parametrize("name", ["[2001:db8::1]", "[2001:db8::1]:5000"])
def test_ipv6_registries_as_docker_writes_them(name: str) -> None:
    """Without a port Docker wants no brackets."""
    state = replace(desired(), registries=(Registry(name, f"https://{name}", insecure=True),))
    host = machine("{}", unit=DOWN)
    made = RUNTIME.plan(state, RUNTIME.observe(host, state))
    assert (
        made.claims[0].keys[1].key
        == f"insecure-registries[{name.removeprefix('[').replace(']', '', 1) if ':5000' not in name else name}]"
    )
