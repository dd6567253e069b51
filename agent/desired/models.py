"""The schema of the desired state: strict pydantic models, and the rules between their fields.

pydantic stays here: what leaves this package are the frozen dataclasses of agent.model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from agent.desired.names import canonical_registry
from agent.desired.nodes import MOST_ENTRIES, Path
from agent.desired.urls import canonical_server, canonical_url, is_plain, path_of
from agent.desired.values import (
    CAPABILITIES,
    absolute_path,
    capability,
    certs_directory,
    go_duration,
    header_name,
    header_value,
    probe_image,
    probe_interval,
    probe_timeout,
    window_text,
)

MAX_REGISTRIES = MOST_ENTRIES - 1
MAX_MIRRORS = 64
MAX_FEW = 64
MAX_STREAK = 100
"""Of everything else that may be listed. Every list has its limit here, for nothing must be left out without a word."""


@dataclass(frozen=True, slots=True)
class Clash:
    """A broken rule between fields: where (below the model) and why. `first` is the other place, `{line}` its line."""

    path: Path
    message: str
    first: Path = ()


class ClashError(ValueError):
    """Every broken rule of one model."""

    def __init__(self, clashes: list[Clash]) -> None:
        self.clashes = tuple(clashes)
        super().__init__("; ".join(clash.message for clash in clashes))


def _one(value: int) -> int:
    if value != 1:
        raise ValueError("must be 1")
    return value


def _manage(value: object) -> object:
    if value == "auto" or isinstance(value, bool):
        return value
    raise PydanticCustomError("literal_error", "", {"expected": "'auto', 'true' or 'false'"})


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _url_alone(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


Url = Annotated[str, AfterValidator(canonical_url), WithJsonSchema({"type": "string", "pattern": "^https?://"})]
Server = Annotated[str, AfterValidator(canonical_server), WithJsonSchema({"type": "string", "pattern": "^https?://"})]
FilePath = Annotated[str, AfterValidator(absolute_path), WithJsonSchema({"type": "string", "pattern": "^/"})]
Manage = Annotated[Literal["auto"] | bool, BeforeValidator(_manage), WithJsonSchema({"enum": ["auto", True, False]})]
RegistryName = Annotated[str, AfterValidator(canonical_registry)]
HeaderName = Annotated[str, AfterValidator(header_name)]
HeaderValues = Annotated[list[Annotated[str, AfterValidator(header_value)]], Field(min_length=1, max_length=MAX_FEW)]
_DURATION = {"type": "string", "pattern": r"^([0-9.]+(ns|us|ms|s|m|h))+$"}
_STRINGS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


class Section(BaseModel):
    """A mapping of the desired state: no other keys, no conversions, and no input in errors (it may be secret)."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)


def _path_rule(mirror: MirrorModel) -> Iterator[Clash]:
    if mirror.override_path and not path_of(mirror.url):
        message = f"needs a path in the URL, as in {mirror.url}/v2/PROJECT; without one even /v2 would be left out"
        yield Clash(("override_path",), message)


def _tls_rules(mirror: MirrorModel) -> Iterator[Clash]:
    """TLS words on an http:// mirror make containerd try https first. Source: containerd hosts.go, resolver.go."""
    if not is_plain(mirror.url):
        return
    for name, given in (("ca", mirror.ca), ("client", mirror.client), ("skip_verify", mirror.skip_verify)):
        if given:
            yield Clash((name,), "says something about TLS, but the URL is http://: remove it, or write https://")


def _capability_rules(mirror: MirrorModel) -> Iterator[Clash]:
    for index, name in enumerate(mirror.capabilities):
        if name in mirror.capabilities[:index]:
            yield Clash(("capabilities", index), "is there twice: keep one")


def _header_rules(mirror: MirrorModel) -> Iterator[Clash]:
    """Header names do not differ by case."""
    seen: dict[str, Path] = {}
    for section, names in (("header", mirror.header), ("header_file", mirror.header_file)):
        for name in names:
            first = seen.setdefault(name.lower(), (section, name))
            if first != (section, name):
                yield Clash((section, name), "is the same header as on line {line}: keep one", first)


def _endpoint_rules(registry: RegistryModel) -> Iterator[Clash]:
    if not registry.fallback and not registry.mirrors:
        yield Clash(("fallback",), "leaves nothing to pull from: name mirrors, or remove fallback: false")
    if registry.plain_http and registry.server and not is_plain(registry.server):
        yield Clash(("server",), "is https, but plain_http says that the registry speaks http: keep one of the two")


class ClientModel(Section):
    """A client certificate and its key."""

    cert: FilePath = Field(description="PEM file with the client certificate")
    key: FilePath = Field(default="", description="PEM file with its key; left out if it is in the same file")


class MirrorModel(Section):
    """An endpoint that is tried before the registry itself."""

    url: Url = Field(description="where the mirror is, as in https://docker.m.daocloud.io")
    override_path: bool = Field(default=False, description="the URL's path is the whole API path; no /v2 is appended")
    capabilities: list[Annotated[str, AfterValidator(capability), WithJsonSchema({"enum": list(CAPABILITIES)})]] = (
        Field(
            default_factory=lambda: ["pull", "resolve"],
            min_length=1,
            max_length=MAX_FEW,
            description="what the mirror is asked for",
        )
    )
    ca: Annotated[list[FilePath], BeforeValidator(_one_or_many), WithJsonSchema(_STRINGS)] = Field(
        default_factory=list,
        max_length=MAX_FEW,
        description="PEM file, or files, of the CAs that are trusted besides the system's",
    )
    client: list[ClientModel] = Field(default_factory=list, max_length=MAX_FEW, description="client certificates")
    skip_verify: bool = Field(default=False, description="do not verify the mirror's certificate")
    header: dict[HeaderName, Annotated[HeaderValues, BeforeValidator(_one_or_many), WithJsonSchema(_STRINGS)]] = Field(
        default_factory=dict,
        max_length=MAX_FEW,
        description="HTTP headers sent to the mirror; secrets go into header_file",
    )
    header_file: dict[HeaderName, FilePath] = Field(
        default_factory=dict, max_length=MAX_FEW, description="HTTP headers whose value is read from a root-owned file"
    )
    dial_timeout: Annotated[str, AfterValidator(go_duration), WithJsonSchema(_DURATION)] = Field(
        default="3s", description="how long a connection may take (containerd 2.0.7, 2.1 and later)"
    )

    @property
    def path_is_api(self) -> bool:
        """Whether the URL's path is that of a project below /v2, as of Harbor or Artifactory."""
        return path_of(self.url).startswith("/v2/")

    @model_validator(mode="after")
    def _rules(self) -> Self:
        clashes = [*_path_rule(self), *_tls_rules(self), *_capability_rules(self), *_header_rules(self)]
        if clashes:
            raise ClashError(clashes)
        return self


class RegistryModel(Section):
    """How one registry is reached."""

    mirrors: list[Annotated[MirrorModel, BeforeValidator(_url_alone, json_schema_input_type=str | MirrorModel)]] = (
        Field(default_factory=list, max_length=MAX_MIRRORS, description="tried in this order, then the registry itself")
    )
    server: Server = Field(default="", description="the registry's own endpoint, where it is not https://NAME")
    fallback: bool = Field(default=True, description="false: mirrors only, the registry itself is never asked")
    insecure: bool = Field(default=False, description="do not verify the registry's certificate")
    plain_http: bool = Field(default=False, description="the registry speaks http, not https")

    @model_validator(mode="after")
    def _rules(self) -> Self:
        clashes = list(_endpoint_rules(self))
        if clashes:
            raise ClashError(clashes)
        return self


class ContainerdModel(Section):
    """How containerd is looked after."""

    manage: Manage = Field(default="auto", description="auto: if it is installed")
    config: FilePath = Field(default="/etc/containerd/config.toml", description="containerd's configuration file")
    certs_dir: Annotated[
        str, AfterValidator(certs_directory), WithJsonSchema({"type": "string", "pattern": "^/[^:]*$"})
    ] = Field(default="/etc/containerd/certs.d", description="the directory of the hosts.toml files")
    restart: Literal["allow", "never"] = Field(default="allow", description="only needed when config.toml changed")


class DockerModel(Section):
    """How Docker is looked after."""

    manage: Manage = Field(default="auto", description="auto: if it is installed")
    daemon_json: FilePath = Field(default="/etc/docker/daemon.json", description="Docker's configuration file")
    settings: dict[str, Any] = Field(default_factory=dict, description="merged into daemon.json as they stand")
    on_change: Literal["auto", "restart", "reload"] = Field(
        default="auto", description="auto: reload if that suffices, else restart"
    )
    restart_if: Literal["always", "live-restore", "idle"] = Field(
        default="always", description="live-restore: only if containers survive it; idle: only if none would end"
    )
    restart_window: Annotated[
        str,
        AfterValidator(window_text),
        WithJsonSchema({"type": "string", "pattern": r"^[0-2][0-9]:[0-5][0-9]\s*-\s*[0-2][0-9]:[0-5][0-9]$"}),
    ] = Field(default="", description="a daily span of local time in which a restart may happen, as in 02:00-05:00")


class HealthModel(Section):
    """Probing of mirrors, and failover to those that work."""

    enabled: bool = Field(default=False, description="probe mirrors, and leave out those that fail until they work")
    interval: Annotated[str, AfterValidator(probe_interval), WithJsonSchema(_DURATION)] = Field(
        default="10m", description="how often a mirror that works is probed, from 30s to 24h"
    )
    timeout: Annotated[str, AfterValidator(probe_timeout), WithJsonSchema(_DURATION)] = Field(
        default="10s", description="what a probe may take in all, from 1s to 1m"
    )
    unhealthy_after: Annotated[int, Field(ge=1, le=MAX_STREAK)] = Field(
        default=3, description="a mirror is out after so many failed probes in a row"
    )
    healthy_after: Annotated[int, Field(ge=1, le=MAX_STREAK)] = Field(
        default=3, description="a mirror is in again after so many good probes in a row"
    )
    order: Literal["listed", "fastest"] = Field(
        default="listed", description="fastest: mirrors that work are asked in the order of their speed"
    )
    images: dict[RegistryName, str] = Field(
        default_factory=dict,
        max_length=MAX_FEW,
        description="by registry, the image that its mirrors are probed with",
    )

    @model_validator(mode="after")
    def _rules(self) -> Self:
        clashes = [Clash(("images", name), why) for name, text in self.images.items() if (why := _no_image(name, text))]
        if clashes:
            raise ClashError(clashes)
        return self


def _no_image(registry: str, text: str) -> str:
    try:
        probe_image(registry, text)
    except ValueError as error:
        return str(error)
    return ""


class MetricsModel(Section):
    """Metrics for node_exporter."""

    directory: FilePath = Field(
        default="",
        description="where mirror-agent.prom is written: the directory of node_exporter's textfile collector",
    )


class DesiredModel(Section):
    """The desired state of mirror-agent: one file says how registries are reached on this node."""

    version: Annotated[int, AfterValidator(_one), WithJsonSchema({"const": 1})] = Field(
        description="the version of this file's format"
    )
    presets: list[str] = Field(
        default_factory=list,
        max_length=MAX_FEW,
        description="tables of the built-in catalogue, for registries not named here",
    )
    registries: dict[str, RegistryModel] = Field(
        default_factory=dict, max_length=MAX_REGISTRIES, description="by name as in image references, or _default"
    )
    containerd: ContainerdModel = Field(default_factory=ContainerdModel)
    docker: DockerModel = Field(default_factory=DockerModel)
    health: HealthModel = Field(default_factory=HealthModel)
    metrics: MetricsModel = Field(default_factory=MetricsModel)
