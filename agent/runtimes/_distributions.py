"""Kubernetes distributions that bring a containerd of their own, and which of them kubelet here belongs to.

Their containerd is no unit: k3s, RKE2 and k0s start it themselves, MicroK8s does in its snap. It listens on a socket of
its own and reads a config.toml that the distribution writes at each start, so an edit there would be lost. Sources:
k3s pkg/agent/containerd, k0s pkg/component/worker/containerd, microk8s microk8s-resources/default-args.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from agent.host import HostReader
from agent.model import ActiveState, Regular, UnitState

_WANTED = "/etc/systemd/system/multi-user.target.wants"
_UNITS = "/etc/systemd/system"
_AT_REST = frozenset({ActiveState.INACTIVE, ActiveState.FAILED})
_ANOTHER_RUNTIME = re.compile(
    r"^[^#\n]*(--docker\b|--cri-socket|--container-runtime-endpoint)|^\s*(docker:\s*true|container-runtime-endpoint:)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Distribution:
    """`units` are those that may run kubelet, as patterns; `programs` and `config`, which it generates, tell that it is
    here; `source` is where a person says which mirrors its containerd shall ask; `settings` is its own configuration;
    with `has_registries` that source is a registries.yaml, else it decides about `config_path` alone."""

    title: str
    units: tuple[str, ...]
    programs: tuple[str, ...]
    config: str
    source: str
    socket: str
    settings: str = ""
    has_registries: bool = False


def _rancher(title: str, units: tuple[str, ...], programs: tuple[str, ...]) -> Distribution:
    name = title.lower()
    return Distribution(
        title,
        units,
        programs,
        config=f"/var/lib/rancher/{name}/agent/etc/containerd/config.toml",
        source=f"/etc/rancher/{name}/registries.yaml",
        socket="/run/k3s/containerd/containerd.sock",
        settings=f"/etc/rancher/{name}/config.yaml",
        has_registries=True,
    )


DISTRIBUTIONS = (
    _rancher("k3s", ("k3s.service", "k3s-*.service"), ("/usr/local/bin/k3s", "/usr/bin/k3s", "/opt/bin/k3s")),
    _rancher(
        "RKE2",
        ("rke2-server.service", "rke2-agent.service"),
        ("/usr/local/bin/rke2", "/usr/bin/rke2", "/opt/rke2/bin/rke2"),
    ),
    Distribution(
        "MicroK8s",
        ("snap.microk8s.daemon-containerd.service",),
        ("/snap/bin/microk8s",),
        config="/var/snap/microk8s/current/args/containerd.toml",
        source="/var/snap/microk8s/current/args/containerd-template.toml",
        socket="/var/snap/microk8s/common/run/containerd.sock",
    ),
    Distribution(
        "k0s",
        ("k0sworker.service", "k0scontroller.service"),
        ("/usr/local/bin/k0s", "/usr/bin/k0s"),
        config="/etc/k0s/containerd.toml",
        source="/etc/k0s/containerd.d/mirror-agent.toml",
        socket="/run/k0s/containerd.sock",
    ),
)


@dataclass(frozen=True, slots=True)
class Charge:
    """The distribution whose kubelet runs here, and the unit that does it ("" where units are not controlled)."""

    distribution: Distribution
    unit_name: str = ""
    unit: UnitState = UnitState()  # noqa: RUF009 -- frozen


def in_charge(host: HostReader) -> Charge | None:
    """Whose kubelet runs on this node, or will from its next boot on; None: nobody's who brings a containerd. A few
    looks for files on a node that has none of them."""
    for distribution in DISTRIBUTIONS:
        has_config = host.exists(distribution.config)
        if has_config or any(map(host.exists, distribution.programs)):
            charge = _charge(host, distribution, has_config=has_config)
            if charge is not None and not _uses_another(host, charge):
                return charge
    return None


def _charge(host: HostReader, distribution: Distribution, *, has_config: bool) -> Charge | None:
    """A program may lie there for nothing, and files outlive what made them: a unit must run, or be enabled. One that
    runs without the generated file has no kubelet (a server without an agent), or one with another runtime."""
    units = [(name, host.unit(name)) for name in _unit_names(host, distribution)]
    if all(unit.active is ActiveState.OFF for _, unit in units):
        return Charge(distribution)
    units = [(name, unit) for name, unit in units if unit.active is not ActiveState.OFF]
    moving = next(((name, unit) for name, unit in units if unit.active not in _AT_REST), None)
    if moving is not None:
        return Charge(distribution, *moving) if has_config or not moving[1].is_up else None
    enabled = next(((name, unit) for name, unit in units if host.exists(f"{_WANTED}/{name}")), None)
    return Charge(distribution, *enabled) if enabled is not None else None


def _unit_names(host: HostReader, distribution: Distribution) -> Iterator[str]:
    """The usual ones, and those of other names that are enabled (INSTALL_K3S_NAME)."""
    usual = [each for each in distribution.units if "*" not in each]
    usual += ["k3s-agent.service"] if distribution.title == "k3s" else []
    wanted = host.list_directory(_WANTED) or ()
    found = [each for each in wanted if any(fnmatchcase(each, pattern) for pattern in distribution.units)]
    yield from dict.fromkeys((*usual, *found))


def _uses_another(host: HostReader, charge: Charge) -> bool:
    """Whether its kubelet was told to use Docker, or a containerd that is not its own."""
    paths = [f"{_UNITS}/{charge.unit_name}"] if charge.unit_name else []
    paths += [charge.distribution.settings] if charge.distribution.settings else []
    states = (host.read(path) for path in paths)
    texts = (state.content.decode("utf-8", "replace") for state in states if isinstance(state, Regular))
    return any(_ANOTHER_RUNTIME.search(text) for text in texts)
