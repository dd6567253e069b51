"""When Docker is restarted, how often, and everything that must not restart or even touch it."""

import json

import pytest

from agent.events import Kind
from tests.node.pulls import docker_mirrors
from tests.node.rig import DAEMON_JSON, Rig
from tests.node.service import CONVERGE_DEADLINE_SECONDS, Service, desired_state, hosts_path, starts_of
from tests.node.waiting import wait_until

_ACTS = (Kind.RELOADED, Kind.RESTARTED)
_LOG_OPTS = "{settings: {log-driver: json-file, log-opts: {max-size: 500m}}}"


def logging_driver(rig: Rig) -> object:
    """As the running Docker says; "" while it does not answer, as during its restart."""
    answer = rig.node.run("curl -sf --unix-socket /run/docker.sock http://localhost/info", check=False)
    return json.loads(answer.raw_out)["LoggingDriver"] if answer.ok else ""


def test_a_new_log_driver_restarts_docker_exactly_once(rig: Rig, service: Service) -> None:
    """log-driver is not reloadable: one restart, containerd untouched, and afterwards nothing is pending."""
    mirrors = {"docker.io": [rig.first.url]}
    service.start_with(desired_state(mirrors))
    containerd, cursor = rig.node.life("containerd"), rig.node.cursor()
    wanted = desired_state(mirrors, "{settings: {log-driver: local, log-opts: {max-size: 5m}}}")
    service.desire(wanted)
    wait_until(lambda: logging_driver(rig) == "local", CONVERGE_DEADLINE_SECONDS, "the log driver in /info")
    service.await_nothing_pending()
    service.pass_barrier(wanted)
    assert starts_of(rig.node, "docker.service", cursor) == 1
    assert service.count(Kind.FAILED, Kind.RELOADED, after=cursor) == {}
    assert (rig.node.life("containerd"), docker_mirrors(rig.node)) == (containerd, [rig.first.url + "/"])


def test_a_second_restart_waits(rig: Rig, service: Service) -> None:
    """Within 60 s of a restart another one is deferred and said so; the file is right, Docker stays up."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}, "{settings: {log-driver: local}}"))
    wait_until(lambda: logging_driver(rig) == "local", CONVERGE_DEADLINE_SECONDS, "the first restart")
    cursor, life = rig.node.cursor(), rig.node.life("docker")
    service.desire(desired_state({"docker.io": [rig.first.url]}, "{settings: {log-driver: journald}}"))
    service.await_event(Kind.DEFERRED, after=cursor)
    assert json.loads(rig.node.read(DAEMON_JSON))["log-driver"] == "journald"
    assert (rig.node.life("docker"), service.cli("plan").rc) == (life, 3)


def test_on_change_reload_never_restarts(rig: Rig, service: Service) -> None:
    """With `on_change: reload` a change that needs a restart is written and deferred; Docker keeps its process."""
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    cursor, life = rig.node.cursor(), rig.node.life("docker")
    service.desire(desired_state({"docker.io": [rig.first.url]}, "{on_change: reload, settings: {log-driver: local}}"))
    service.await_event(Kind.DEFERRED, after=cursor)
    assert json.loads(rig.node.read(DAEMON_JSON))["log-driver"] == "local"
    assert (rig.node.life("docker"), starts_of(rig.node, "docker.service", cursor)) == (life, 0)


def test_reformatting_the_desired_state_does_nothing(rig: Rig, service: Service) -> None:
    """Comments, blank lines, indentation and the order of keys are not a change: 0 writes (inode, mtime), 0 acts."""
    mirrors = {"docker.io": [rig.first.url], "ghcr.io": [rig.second.url]}
    service.start_with(desired_state(mirrors, _LOG_OPTS))
    paths = (DAEMON_JSON, hosts_path("docker.io"), hosts_path("ghcr.io"))
    before, lives, cursor = rig.node.identity(*paths), service_lives(rig), rig.node.cursor()
    backwards = dict(reversed(mirrors.items()))
    service.desire("# the same, said differently\n\n" + desired_state(backwards, _LOG_OPTS, indent=7) + "\n# end\n")
    service.await_event(Kind.LOADED, after=cursor)
    service.pass_barrier(desired_state(mirrors, _LOG_OPTS))
    assert (rig.node.identity(*paths), service_lives(rig)) == (before, lives)
    assert service.count(*_ACTS, after=cursor, runtime="docker") == {}


def test_reformatting_daemon_json_does_nothing(rig: Rig, service: Service) -> None:
    """Somebody re-indents daemon.json: the values are the same, so the agent neither writes it nor acts."""
    state = desired_state({"docker.io": [rig.first.url]}, _LOG_OPTS)
    service.start_with(state)
    ours = json.loads(rig.node.read(DAEMON_JSON))
    rig.node.put(DAEMON_JSON, json.dumps(dict(sorted(ours.items(), reverse=True)), indent=9) + "\n\n")
    before, lives, cursor = rig.node.identity(DAEMON_JSON), service_lives(rig), rig.node.cursor()
    service.pass_barrier(state)
    assert (rig.node.identity(DAEMON_JSON), service_lives(rig)) == (before, lives)
    assert service.count(*_ACTS, after=cursor, runtime="docker") == {}


def service_lives(rig: Rig) -> list[tuple[str, str]]:
    return [rig.node.life(unit) for unit in ("containerd", "docker", "mirror-agent")]


@pytest.mark.parametrize("stopped", ["docker.service docker.socket", "docker.service"])
def test_a_stopped_docker_stays_stopped(rig: Rig, service: Service, stopped: str) -> None:
    """With the unit inactive only files are written; docker.socket is not connected to, for that would start it."""
    node = rig.node
    node.run(f"systemctl stop docker.socket docker.service; systemctl start docker.socket; systemctl stop {stopped}")
    cursor = node.cursor()
    state = desired_state({"docker.io": [rig.first.url]}, "{settings: {log-driver: local}}")
    service.start_with(state)
    service.cli("status")
    service.pass_barrier(state)
    assert json.loads(node.read(DAEMON_JSON))["registry-mirrors"] == [rig.first.url]
    assert node.show("docker.service", "ActiveState")["ActiveState"] == "inactive"
    assert (starts_of(node, "docker.service", cursor), service.count(*_ACTS, after=cursor, runtime="docker")) == (0, {})


def test_reload_works_without_bin_kill(rig: Rig, service: Service) -> None:
    """A node without procps has no /bin/kill, so the unit's own ExecReload fails; the agent's reload does not."""
    node = rig.node
    program = node.run("type -P kill").out.strip()
    node.run(["mv", program, f"{program}.away"])
    try:
        assert node.run("systemctl reload docker", check=False).rc == 1
        life = node.life("docker")
        service.start_with(desired_state({"docker.io": [rig.first.url]}))
        service.await_docker(rig.first.url)
        assert node.life("docker") == life
    finally:
        node.run(["mv", f"{program}.away", program])
