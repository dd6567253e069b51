"""Flags of dockerd that clash with daemon.json, wherever they hide, and units of Docker that fail, hang or lie."""

from collections.abc import Iterator

from tests.node.found_nodes import DROP_IN, options
from tests.node.hostile.case import DAEMON_JSON, MIRROR, Case, as_json
from tests.node.service import desired_state

_DEFAULTS = "/etc/default/docker"
_LOCAL = desired_state({"docker.io": [MIRROR]}, "{settings: {log-driver: local}}")
_DEBUG = desired_state({"docker.io": [MIRROR]}, "{settings: {debug: true}}")
_INSECURE = "version: 1\nregistries:\n  harbor.lan: {insecure: true}\n"
_OTHER = "--registry-mirror=https://flag.example"
_WAITS_AND_SEES = f"/bin/sh -c '! grep -q local {DAEMON_JSON}'"


def _by_drop_in(name: str, says: str, desired: str, *flags: str) -> Iterator[Case]:
    """Once loaded, once lying in wait for the next start."""
    files = {DROP_IN: options(*flags), "/etc/docker/other.json": "{}"}
    yield Case(f"{name}, loaded", says, desired, files, units=("docker",))
    yield Case(f"{name}, waiting", says, desired, files, setup="systemctl daemon-reload")


def _service(*lines: str) -> dict[str, str]:
    return {DROP_IN: "\n".join(("[Service]", *lines, ""))}


def cases() -> Iterator[Case]:
    yield from _by_drop_in("flag: mirror", r"options\.conf|registry-mirror", _DEBUG, _OTHER)
    yield from _by_drop_in("flag: mirror as two words", r"options\.conf|registry-mirror", _DEBUG, *_OTHER.split("="))
    yield from _by_drop_in("flag: insecure", r"insecure-registry", _INSECURE, "--insecure-registry=other.lan")
    yield from _by_drop_in("flag: log-driver", r"log-driver", _LOCAL, "--log-driver=json-file")
    yield from _by_drop_in(
        "flag: another daemon.json", r"--config-file|converged", _DEBUG, "--config-file=/etc/docker/other.json"
    )
    yield from _by_drop_in(
        "flag: many", r"log-driver", _LOCAL, "--log-opt", "max-size=5m", "--log-driver", "json-file", _OTHER
    )
    yield Case(
        "flag in /etc/default/docker", rf"{_DEFAULTS}|registry-mirror", _DEBUG,
        {_DEFAULTS: f'DOCKER_OPTS="{_OTHER}"\n'}, units=("docker",),
    )  # fmt: skip
    yield Case(
        "flag in /etc/default/docker, waiting", rf"{_DEFAULTS}|registry-mirror", _DEBUG,
        {_DEFAULTS: f'DOCKER_OPTS="{_OTHER}"\n'},
    )  # fmt: skip
    yield Case(
        "flag as kubespray sets it", r"registry-mirror", _DEBUG,
        _service(f'Environment="DOCKER_OPTS={_OTHER} --log-opt max-size=50m"'), units=("docker",),
    )  # fmt: skip
    yield Case("a second docker.service in /etc", units=("docker",), setup=_COPY_UNIT, cleanup=_REMOVE_UNIT)
    yield from _starts()
    yield from _states()


_COPY_UNIT = "cp /lib/systemd/system/docker.service /etc/systemd/system/docker.service"
_REMOVE_UNIT = "rm -f /etc/systemd/system/docker.service; systemctl daemon-reload"


def _starts() -> Iterator[Case]:
    """A change that needs a restart, and a start that does not go well."""
    yield Case(
        "a start that fails with ours", r"docker", _LOCAL, _service(f"ExecStartPre={_WAITS_AND_SEES}"),
        setup="systemctl daemon-reload", deadline_seconds=150, starts_again=False,
    )  # fmt: skip
    yield Case(
        "a start that hangs with ours", r"docker", _LOCAL,
        _service(f"ExecStartPre=/bin/sh -c 'if grep -q local {DAEMON_JSON}; then exec sleep 1000; fi'"),
        setup="systemctl daemon-reload", deadline_seconds=250, starts_again=False,
    )  # fmt: skip
    yield Case(
        "a start that is slow", r"docker", _LOCAL, _service("ExecStartPre=/bin/sleep 5"),
        setup="systemctl daemon-reload", deadline_seconds=60, starts_again=False,
    )  # fmt: skip
    yield Case(
        "a dockerd that reads another /etc/docker", r"docker", _DEBUG, _service("TemporaryFileSystem=/etc/docker"),
        units=("docker",), deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "a dockerd that reads another /etc/docker, and a restart", r"docker", _LOCAL,
        _service("TemporaryFileSystem=/etc/docker"), units=("docker",), deadline_seconds=120,
    )  # fmt: skip
    yield Case(
        "a wrapper that takes the flags away", r"docker", _DEBUG,
        {**_service("ExecStart=", "ExecStart=/usr/local/sbin/lies -H fd:// --config-file /etc/docker/daemon.json")},
        setup=f"printf '%s\\n' '#!/bin/sh' 'exec /usr/sbin/dockerd -H fd:// --config-file /root/empty.json' > {_LIES}; "
              f"echo '{{}}' > /root/empty.json; chmod 755 {_LIES}",
        units=("docker",), cleanup=f"rm -f {_LIES}", deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "start limit used up", r"restart", _LOCAL,
        setup="systemctl reset-failed docker; for each in 1 2 3; do systemctl restart docker; done",
        deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "no /bin/kill", r"reloaded", _DEBUG, setup="mv /usr/bin/kill /usr/bin/kill.away",
        cleanup="mv /usr/bin/kill.away /usr/bin/kill",
    )  # fmt: skip


_UNMASK = "systemctl unmask --runtime docker.service; systemctl daemon-reload"
_LIES = "/usr/local/sbin/lies"


def _states() -> Iterator[Case]:
    yield Case(
        "masked while it runs", r"docker", _LOCAL, setup="systemctl mask --runtime docker.service",
        heal=_UNMASK, cleanup=_UNMASK, starts_again=False, deadline_seconds=90,
    )  # fmt: skip
    yield Case("stopped", r"daemon\.json", _LOCAL, setup="systemctl stop docker.socket docker")
    yield Case(
        "stopped, with a broken daemon.json", r"daemon\.json", _LOCAL, {DAEMON_JSON: '{"debug": tru'},
        setup="systemctl stop docker.socket docker", starts_again=False,
    )  # fmt: skip
    yield Case(
        "failed before we came", r"docker|converged", _LOCAL, {DAEMON_JSON: as_json({"log-driver": "bogus"})},
        setup="systemctl restart docker; true", starts_again=False, reverts=False,
    )  # fmt: skip
    yield Case(
        "its socket file is gone",
        r"docker",
        _DEBUG,
        setup="rm -f /run/docker.sock",
        cleanup=_NEW_SOCKET,
        heal=_NEW_SOCKET,
    )
    yield Case(
        "frozen", r"converged|docker|containerd", _DEBUG, setup="systemctl kill -s STOP --kill-who=main docker",
        heal="systemctl kill -s CONT --kill-who=main docker", deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "frozen while the agent looks", r"converged", _DEBUG,
        midway="systemctl kill -s STOP --kill-who=main docker; systemctl reload mirror-agent",
        heal="systemctl kill -s CONT --kill-who=main docker", deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "killed while the agent looks", r"converged", _DEBUG, midway="systemctl kill -s KILL --kill-who=main docker",
        deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "restarted again and again by others", r"converged", _DEBUG,
        midway="for each in 1 2 3 4; do systemctl reset-failed docker; systemctl restart docker; done",
        deadline_seconds=90,
    )  # fmt: skip


_NEW_SOCKET = "systemctl stop docker.socket docker; systemctl reset-failed; systemctl start docker"
