"""Nodes as one finds them: what others have set up for their runtimes, as files and the restarts that load them."""

import contextlib
import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.node.machine import Node
from tests.node.rig import CERTS_D, CONFIG_TOML, DAEMON_JSON

DROP_IN = "/etc/systemd/system/docker.service.d/options.conf"
CRI = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
WITH_CERTS_D = f'{CRI}  config_path = "{CERTS_D}"\n'


@dataclass(frozen=True, slots=True)
class Found:
    """A node that others have set up. `files` by path; `units` are those that read them at their start."""

    files: Mapping[str, str] = field(default_factory=dict)
    units: tuple[str, ...] = ()


def options(*flags: str) -> str:
    """A drop-in that starts dockerd with more flags than the package's unit does."""
    line = " ".join(("/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock", *flags))
    return f"[Service]\nExecStart=\nExecStart={line}\n"


def lay(node: Node, found: Found) -> None:
    """Write the files and start the units anew."""
    for path, text in found.files.items():
        node.put(path, text)
    _load(node, found)


@contextlib.contextmanager
def laid(node: Node, found: Found) -> Iterator[None]:
    """As `lay`; on leaving, the files are removed and the units start without them."""
    lay(node, found)
    try:
        yield
    finally:
        node.run("systemctl stop mirror-agent", check=False)
        for path in found.files:
            node.run(["rm", "-f", path])
        _load(node, found)


def _load(node: Node, found: Found) -> None:
    if found.units:
        node.run(f"systemctl daemon-reload; systemctl reset-failed; systemctl restart {' '.join(found.units)}")


def hosts(server: str, *mirrors: str, more: str = "") -> str:
    """A hosts.toml as people write it."""
    tables = "".join(f'\n[host."{url}"]\n  capabilities = ["pull", "resolve"]\n{more}' for url in mirrors)
    return (f'server = "{server}"\n' if server else "") + (tables or "[host]\n")


_DAEMON = {
    "log-driver": "json-file",
    "registry-mirrors": ["http://127.0.0.1:5001", "https://mirror.example.cn/"],
    "insecure-registries": ["registry.lan:5000", "10.0.0.0/8"],
    "log-opts": {"max-size": "10m"},
}
_TREE = {
    f"{CERTS_D}/docker.io/hosts.toml": hosts("https://registry-1.docker.io", "https://a.example", "http://127.0.0.1:5001"),
    f"{CERTS_D}/ghcr.io/hosts.toml": hosts("", "https://b.example/v2/ghcr", more="  override_path = true\n"),
    f"{CERTS_D}/registry.lan_5000_/hosts.toml": hosts("http://registry.lan:5000"),
    f"{CERTS_D}/_default/hosts.toml": hosts("", "http://127.0.0.1:30020"),
}  # fmt: skip
_BOTH = ("containerd", "docker")

FOUND: Mapping[str, Found] = {
    "stock": Found(),
    "config_path alone": Found({CONFIG_TOML: WITH_CERTS_D}, ("containerd",)),
    "daemon.json": Found({DAEMON_JSON: json.dumps(_DAEMON, indent=3)}, ("docker",)),
    "daemon.json without registries": Found({DAEMON_JSON: '{"debug": true}'}, ("docker",)),
    "hosts.toml": Found({CONFIG_TOML: WITH_CERTS_D, **_TREE}, ("containerd",)),
    "hosts.toml without config_path": Found(_TREE),
    "hosts.toml elsewhere": Found(
        {
            CONFIG_TOML: f'{CRI}  config_path = "/etc/containerd/cert.d"\n',
            **{path.replace(CERTS_D, "/etc/containerd/cert.d"): text for path, text in _TREE.items()},
        },
        ("containerd",),
    ),
    "both, the same": Found(
        {
            CONFIG_TOML: WITH_CERTS_D,
            f"{CERTS_D}/docker.io/hosts.toml": hosts("https://registry-1.docker.io", "http://127.0.0.1:5001"),
            f"{CERTS_D}/registry.lan_5000_/hosts.toml": hosts("http://registry.lan:5000"),
            DAEMON_JSON: json.dumps(
                {"registry-mirrors": ["http://127.0.0.1:5001"], "insecure-registries": ["registry.lan:5000"]}
            ),
        },
        _BOTH,
    ),
    "both, differing": Found(
        {CONFIG_TOML: WITH_CERTS_D, **_TREE, DAEMON_JSON: json.dumps(_DAEMON)},
        _BOTH,
    ),
    "flags": Found(
        {DROP_IN: options("--registry-mirror=http://127.0.0.1:5001", "--insecure-registry", "registry.lan:5000")},
        ("docker",),
    ),
    "flags and hosts.toml": Found(
        {DROP_IN: options("--registry-mirror=http://127.0.0.1:5001"), CONFIG_TOML: WITH_CERTS_D, **_TREE},
        _BOTH,
    ),
    "another daemon.json": Found(
        {
            DROP_IN: options("--config-file=/etc/docker/other.json"),
            "/etc/docker/other.json": json.dumps(_DAEMON),
        },
        ("docker",),
    ),
    "docker's certs.d": Found({"/etc/docker/certs.d/ghcr.io/hosts.toml": hosts("", "https://b.example")}),
    "k3s": Found(
        {"/etc/rancher/k3s/registries.yaml": 'mirrors:\n  quay.io:\n    endpoint: ["https://q.example"]\n'},
    ),
}  # fmt: skip


def directories_of(found: Found) -> tuple[str, ...]:
    """Where its files lie."""
    return tuple(dict.fromkeys(posixpath.dirname(path) for path in found.files))
