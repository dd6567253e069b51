"""Bad desired states: mirrors, registries and settings that no runtime takes, or takes and dies of."""

from collections.abc import Iterator
from dataclasses import replace

from tests.node.hostile.case import MIRROR, Case
from tests.node.service import desired_state

# docker.md names each of these as an error of dockerd's start; none may get past the desired state.
_BAD_MIRRORS = {
    "no scheme": "m.example",
    "empty": '""',
    "user": "https://u:p@m.example",
    "query": '"https://m.example?q"',
    "blank": '"https://m.ex ample"',
    "port too big": "https://m.example:99999",
}
_BAD_INSECURE = ('"*.example.com"', '"h:99999"', '"h/path"')

# Docker would not start with any of these. What can be known beforehand is refused; the rest is tried and taken back.
_BAD_SETTINGS = {
    "unknown key": "{debugg: true}",
    "log-driver": "{log-driver: bogus}",
    "log-opts": "{log-opts: {max-sise: 5m}}",
    "log-opts of none": "{log-driver: none, log-opts: {max-size: 5m}}",
    "log-driver without its daemon": "{log-driver: fluentd, log-opts: {fluentd-address: 'nonsense://x'}}",
    "data-root is a file": "{data-root: /etc/hostname}",
    "data-root is read-only": "{data-root: /proc/docker}",
    "storage-driver": "{storage-driver: bogus}",
    "default-runtime": "{default-runtime: bogus}",
    "runtimes": "{runtimes: {bad name: {path: /nowhere}}}",
    "exec-opts": "{exec-opts: [native.cgroupdriver=bogus]}",
    "bip": "{bip: nonsense}",
    "bridge": "{bridge: br-nowhere}",
    "default-address-pools": "{default-address-pools: [{base: nonsense, size: 24}]}",
    "hosts": "{hosts: ['unix:///run/docker.sock']}",
    "tls files": "{tls: true, tlscacert: /nowhere/ca.pem, tlscert: /nowhere/c.pem, tlskey: /nowhere/k.pem}",
    "authorization-plugins": "{authorization-plugins: [nowhere]}",
    "default-ulimits": "{default-ulimits: {nofile: {Name: nofile, Hard: 1, Soft: 100}}}",
    "dns": "{dns: [nonsense]}",
    "log-level": "{log-level: bogus}",
    "group": "{group: nosuchgroup}",
    "userns-remap": "{userns-remap: nosuchuser}",
    "pidfile is a directory": "{pidfile: /etc}",
    "exec-root is a file": "{exec-root: /etc/hostname}",
    "seccomp-profile": "{seccomp-profile: /nowhere.json}",
    "containerd": "{containerd: /nowhere.sock}",
    "max-concurrent-downloads": "{max-concurrent-downloads: -1}",
    "labels": "{labels: [nonsense]}",
    "default-ipc-mode": "{default-ipc-mode: bogus}",
    "ip": "{ip: 1.2.3.4.5}",
    "init-path": "{init: true, init-path: /nowhere}",
    "metrics-addr": "{metrics-addr: nonsense}",
    "features": "{features: {containerd-snapshotter: true}}",
    "live-restore": "{live-restore: 'yes'}",
    "debug": "{debug: 1}",
    "registry-mirrors": "{registry-mirrors: ['ftp://x']}",
}
_KNOWN = {
    "unknown key": r"debugg",
    "log-driver": r'log-driver: "bogus" is no log driver that this Docker has',
    "log-opts": r'log-opts: "max-sise" is an option that the log driver json-file does not know',
    "storage-driver": r'storage-driver: "bogus" is no storage driver that this Docker has',
    "hosts": r"hosts",
    "bip": r"bip",
    "bridge": r"bridge",
    "data-root is a file": r"data-root",
    "data-root is read-only": r"data-root",
    "containerd": r"containerd",
}
"""What no Docker takes: a conflict names it on each suite. With the others either that, or Docker runs with it."""


_WITH_CA = "version: 1\nregistries:\n  ghcr.io:\n    mirrors:\n      - {{url: https://m.example, ca: {}}}\n"


def cases() -> Iterator[Case]:
    for name, url in _BAD_MIRRORS.items():
        text = f"version: 1\nregistries:\n  docker.io:\n    mirrors: [{url}]\n"
        yield Case(f"mirror: {name}", r":4:\d+: registries\.docker\.io\.mirrors", desired=text, is_invalid=True)
    for name in _BAD_INSECURE:
        text = f"version: 1\nregistries:\n  {name}: {{insecure: true}}\n"
        yield Case(f"insecure: {name}", r":3:\d+: registries", desired=text, is_invalid=True)
    for name, settings in _BAD_SETTINGS.items():
        text = desired_state({"docker.io": [MIRROR]}, f"{{settings: {settings}}}")
        is_invalid = name in _REFUSED_BY_CHECK
        case = Case(f"setting: {name}", desired=text, is_invalid=is_invalid, deadline_seconds=200)
        key = settings[1:].partition(":")[0]
        named = rf"^docker: /etc/docker/daemon\.json: .*{_KNOWN.get(name, key)}"
        if is_invalid:
            yield replace(case, says=rf"mirror-agent\.yaml:\d+:\d+: docker\.settings\.{key}: ")
        else:
            yield replace(case, conflict=named, or_runs=name not in _KNOWN)
    yield Case(
        "mirror with a path", r"converged", desired=desired_state({"docker.io": [f"{MIRROR}/hub"], "ghcr.io": [MIRROR]})
    )
    yield Case(
        "300 mirrors",
        desired=desired_state({"docker.io": [f"http://127.0.0.1:{p}" for p in range(6000, 6030)]}),
    )
    yield Case(
        "dead mirrors", desired=desired_state({"docker.io": ["http://127.0.0.1:1"], "ghcr.io": ["http://10.255.255.1"]})
    )
    yield Case(
        "certificates that do not exist", r"/nowhere\.pem",
        desired=_WITH_CA.format("/nowhere.pem"),
    )  # fmt: skip
    yield Case(
        "a certificate that is none", r"/etc/hostname",
        desired=_WITH_CA.format("/etc/hostname"),
    )  # fmt: skip


_REFUSED_BY_CHECK = frozenset({"live-restore", "debug", "registry-mirrors"})
