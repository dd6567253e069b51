"""Flags of dockerd that clash with daemon.json, wherever they hide, and units of Docker that fail, hang or lie."""

from collections.abc import Iterator
from dataclasses import replace

from tests.node.found_nodes import DROP_IN, options
from tests.node.hostile.case import DAEMON_JSON, MIRROR, Case, as_json
from tests.node.service import desired_state

_DEFAULTS = "/etc/default/docker"
_LOCAL = desired_state({"docker.io": [MIRROR]}, "{settings: {log-driver: local}}")
_DEBUG = desired_state({"docker.io": [MIRROR]}, "{settings: {debug: true}}")
_INSECURE = "version: 1\nregistries:\n  harbor.lan: {insecure: true}\n"
_OTHER = "--registry-mirror=https://flag.example"
_WAITS_AND_SEES = f"/bin/sh -c '! grep -q local {DAEMON_JSON}'"


def _by_flag(key: str, flag: str, source: str = DROP_IN) -> str:
    return rf"^docker: {DAEMON_JSON}: {key} is set by {flag} in {source}, "


def _by_drop_in(name: str, conflict: str, desired: str, *flags: str) -> Iterator[Case]:
    """Once loaded, once lying in wait for the next start."""
    files = {DROP_IN: options(*flags), "/etc/docker/other.json": "{}"}
    case = Case(f"{name}, loaded", conflict=conflict, desired=desired, files=files, units=("docker",))
    yield case
    # Which file the next dockerd will read is not told of one that runs.
    waits = "" if name == "flag: another daemon.json" else conflict
    yield replace(case, name=f"{name}, waiting", conflict=waits, units=(), setup="systemctl daemon-reload")


def _service(*lines: str) -> dict[str, str]:
    return {DROP_IN: "\n".join(("[Service]", *lines, ""))}


def cases() -> Iterator[Case]:
    mirrors, driver = _by_flag("registry-mirrors", "--registry-mirror"), _by_flag("log-driver", "--log-driver")
    yield from _by_drop_in("flag: mirror", mirrors, _DEBUG, _OTHER)
    yield from _by_drop_in("flag: mirror as two words", mirrors, _DEBUG, *_OTHER.split("="))
    insecure = _by_flag("insecure-registries", "--insecure-registry")
    yield from _by_drop_in("flag: insecure", insecure, _INSECURE, "--insecure-registry=other.lan")
    yield from _by_drop_in("flag: log-driver", driver, _LOCAL, "--log-driver=json-file")
    another = r"the running Docker reads /etc/docker/other\.json \(--config-file\)"
    yield from _by_drop_in("flag: another daemon.json", another, _DEBUG, "--config-file=/etc/docker/other.json")
    yield from _by_drop_in(
        "flag: many", driver, _LOCAL, "--log-opt", "max-size=5m", "--log-driver", "json-file", _OTHER
    )
    defaults = _by_flag("registry-mirrors", "--registry-mirror", _DEFAULTS)
    yield Case(
        "flag in /etc/default/docker", conflict=defaults, desired=_DEBUG,
        files={_DEFAULTS: f'DOCKER_OPTS="{_OTHER}"\n'}, units=("docker",),
    )  # fmt: skip
    yield Case(
        "flag in /etc/default/docker, waiting", conflict=defaults, desired=_DEBUG,
        files={_DEFAULTS: f'DOCKER_OPTS="{_OTHER}"\n'},
    )  # fmt: skip
    yield Case(
        "flag as kubespray sets it", conflict=mirrors, desired=_DEBUG,
        files=_service(f'Environment="DOCKER_OPTS={_OTHER} --log-opt max-size=50m"'), units=("docker",),
    )  # fmt: skip
    yield Case("a second docker.service in /etc", units=("docker",), setup=_COPY_UNIT, cleanup=_REMOVE_UNIT)
    yield from _starts()
    yield from _states()


_COPY_UNIT = "cp /lib/systemd/system/docker.service /etc/systemd/system/docker.service"
_REMOVE_UNIT = "rm -f /etc/systemd/system/docker.service; systemctl daemon-reload"


def _starts() -> Iterator[Case]:
    """A change that needs a restart, and a start that does not go well."""
    yield Case(
        "a start that fails with ours", conflict=_NOT_UP, desired=_LOCAL,
        files=_service(f"ExecStartPre={_WAITS_AND_SEES}"),
        setup="systemctl daemon-reload", deadline_seconds=150, starts_again=False,
    )  # fmt: skip
    yield Case(
        "a start that hangs with ours", conflict=_NOT_UP, desired=_LOCAL,
        files=_service(f"ExecStartPre=/bin/sh -c 'if grep -q local {DAEMON_JSON}; then exec sleep 1000; fi'"),
        setup="systemctl daemon-reload", deadline_seconds=250, starts_again=False,
    )  # fmt: skip
    yield Case(
        "a start that is slow", _RESTARTED, desired=_LOCAL, files=_service("ExecStartPre=/bin/sleep 5"),
        setup="systemctl daemon-reload", deadline_seconds=60, starts_again=False,
    )  # fmt: skip
    yield Case(
        "a dockerd that reads another /etc/docker", conflict=_LIED, desired=_DEBUG,
        files=_service("TemporaryFileSystem=/etc/docker"),
        units=("docker",), deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "a dockerd that reads another /etc/docker, and a restart", conflict=_LIED, desired=_LOCAL,
        files=_service("TemporaryFileSystem=/etc/docker"), units=("docker",), deadline_seconds=120,
    )  # fmt: skip
    yield Case(
        "a wrapper that takes the flags away",
        conflict=r"the running Docker reads /root/empty\.json \(--config-file\)", desired=_DEBUG,
        files=_service("ExecStart=", "ExecStart=/usr/local/sbin/lies -H fd:// --config-file /etc/docker/daemon.json"),
        setup=f"printf '%s\\n' '#!/bin/sh' 'exec /usr/sbin/dockerd -H fd:// --config-file /root/empty.json' > {_LIES}; "
              f"echo '{{}}' > /root/empty.json; chmod 755 {_LIES}",
        units=("docker",), cleanup=f"rm -f {_LIES}", deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "start limit used up", _RESTARTED, desired=_LOCAL,
        setup="systemctl reset-failed docker; for each in 1 2 3; do systemctl restart docker; done",
        deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "no /bin/kill", r"docker: reloaded, and the daemon confirms it", desired=_DEBUG,
        setup="mv /bin/kill /bin/kill.away",
        cleanup="mv /bin/kill.away /bin/kill",
    )  # fmt: skip


_NOT_UP = r"Docker did not come up with log-driver"
_LIED = r"Docker (did not take a reload with|came up without|did not come up with) "
_RESTARTED = r"docker: docker\.service is up again after its restart"
_SILENT = r"Docker runs but does not answer on /run/docker\.sock"
_UNMASK = "systemctl unmask --runtime docker.service; systemctl daemon-reload"
_LIES = "/usr/local/sbin/lies"


def _states() -> Iterator[Case]:
    yield Case(
        "masked while it runs", r"docker: restart pending, because docker\.service is masked", desired=_LOCAL,
        setup="systemctl mask --runtime docker.service",
        heal=_UNMASK, cleanup=_UNMASK, starts_again=False, deadline_seconds=90,
    )  # fmt: skip
    yield Case("stopped", r"wrote daemon\.json", desired=_LOCAL, setup="systemctl stop docker.socket docker")
    yield Case(
        "stopped, with a broken daemon.json", conflict=r"daemon\.json: .* leaves the file alone until it is mended",
        desired=_LOCAL, files={DAEMON_JSON: '{"debug": tru'},
        setup="systemctl stop docker.socket docker", starts_again=False,
    )  # fmt: skip
    yield Case(
        "failed before we came", r"wrote daemon\.json", desired=_LOCAL,
        files={DAEMON_JSON: as_json({"log-driver": "bogus"})},
        setup="systemctl restart docker; true", starts_again=False, reverts=False,
    )  # fmt: skip
    yield Case(
        "its socket file is gone",
        _SILENT,
        desired=_DEBUG,
        setup="rm -f /run/docker.sock",
        cleanup=_NEW_SOCKET,
        heal=_NEW_SOCKET,
    )
    yield Case(
        "frozen", _SILENT, desired=_DEBUG, setup="systemctl kill -s STOP --kill-who=main docker",
        heal="systemctl kill -s CONT --kill-who=main docker", deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "frozen while the agent looks", desired=_DEBUG,
        midway="systemctl kill -s STOP --kill-who=main docker; systemctl reload mirror-agent",
        heal="systemctl kill -s CONT --kill-who=main docker", deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "killed while the agent looks", desired=_DEBUG, midway="systemctl kill -s KILL --kill-who=main docker",
        deadline_seconds=90,
    )  # fmt: skip
    yield Case(
        "restarted again and again by others", desired=_DEBUG,
        midway="for each in 1 2 3 4; do systemctl reset-failed docker; systemctl restart docker; done",
        deadline_seconds=90,
    )  # fmt: skip


_NEW_SOCKET = "systemctl stop docker.socket docker; systemctl reset-failed; systemctl start docker"
