"""Validated models → the frozen values of agent.model, with presets expanded."""

from __future__ import annotations

from agent.desired.models import ContainerdModel, DockerModel, HealthModel, MetricsModel, MirrorModel, RegistryModel
from agent.desired.values import CAPABILITIES, clock_window, probe_image, seconds_of
from agent.model import (
    DEFAULT_REGISTRY,
    DOCKER_HUB,
    ClientPair,
    ContainerdSettings,
    DockerSettings,
    Header,
    HeaderFile,
    HealthSettings,
    Manage,
    MetricsSettings,
    Mirror,
    OnChange,
    Order,
    Registry,
    RestartIf,
    RestartWindow,
    Setting,
)

_MANAGE: dict[object, Manage] = {"auto": Manage.AUTO, True: Manage.ALWAYS, False: Manage.NEVER}


def registry(name: str, model: RegistryModel) -> Registry:
    """The entry of one registry, by its canonical name."""
    return Registry(
        name=name,
        server=model.server or default_server(name, plain_http=model.plain_http),
        mirrors=tuple(mirror(each) for each in model.mirrors),
        fallback=model.fallback,
        insecure=model.insecure,
        plain_http=model.plain_http,
    )


def default_server(name: str, *, plain_http: bool = False) -> str:
    """The endpoint of a registry that names none itself."""
    if name == DEFAULT_REGISTRY:
        return ""
    if name == DOCKER_HUB:
        return "https://registry-1.docker.io"
    return f"{'http' if plain_http else 'https'}://{name}"


def mirror(model: MirrorModel) -> Mirror:
    """One mirror; its capabilities in canonical order."""
    return Mirror(
        url=model.url,
        override_path=model.override_path,
        capabilities=tuple(name for name in CAPABILITIES if name in model.capabilities),
        ca=tuple(model.ca),
        client=tuple(ClientPair(pair.cert, pair.key) for pair in model.client),
        skip_verify=model.skip_verify,
        headers=tuple(Header(name, tuple(values)) for name, values in model.header.items()),
        header_files=tuple(HeaderFile(name, path) for name, path in model.header_file.items()),
        dial_timeout=model.dial_timeout,
    )


def containerd(model: ContainerdModel) -> ContainerdSettings:
    """containerd's part."""
    return ContainerdSettings(
        manage=_MANAGE[model.manage],
        config=model.config,
        certs_dir=model.certs_dir,
        may_restart=model.restart == "allow",
    )


def docker(model: DockerModel, settings: tuple[Setting, ...]) -> DockerSettings:
    """Docker's part."""
    window = RestartWindow(*clock_window(model.restart_window)) if model.restart_window else None
    return DockerSettings(
        manage=_MANAGE[model.manage],
        daemon_json=model.daemon_json,
        settings=settings,
        on_change=OnChange(model.on_change),
        restart_if=RestartIf(model.restart_if),
        restart_window=window,
    )


def health(model: HealthModel) -> HealthSettings:
    """Probing and failover."""
    return HealthSettings(
        enabled=model.enabled,
        interval_seconds=seconds_of(model.interval),
        timeout_seconds=seconds_of(model.timeout),
        unhealthy_after=model.unhealthy_after,
        healthy_after=model.healthy_after,
        order=Order(model.order),
        images=tuple((name, probe_image(name, text)) for name, text in model.images.items()),
    )


def metrics(model: MetricsModel) -> MetricsSettings:
    """Where metrics go."""
    return MetricsSettings(directory=model.directory)
