"""What the old tables of config.toml must say where containerd reads no hosts.toml: before 1.5.

`mirrors.<registry>.endpoint` are URLs, used as they stand but that `/v2` stands for an empty path; the registry's own
endpoint follows unless one of them has its name. TLS belongs to host:port, whichever registry leads there.
Source: containerd/cri pkg/server/image_pull.go registryHosts, registryEndpoints, pkg/config @ v1.3, v1.4.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.desired.build import default_server
from agent.model import DEFAULT_REGISTRY, Mirror, Registry
from agent.render import Endpoint
from agent.runtimes._config_toml import Version
from agent.runtimes._hosts_reading import api_root
from agent.runtimes._hosts_toml import own_url
from agent.runtimes._legacy_edit import MIRRORS, TLS

_HOSTS_TOML_SINCE: Version = (1, 5, 0)
_EVERYTHING = {"pull", "resolve"}


@dataclass(frozen=True, slots=True)
class Tables:
    """`values` are the keys as the ledger names them, with their JSON; `kept` those that stay as they are for now."""

    values: tuple[tuple[str, str], ...] = ()
    kept: frozenset[str] = frozenset()


def needs_tables(version: Version | None) -> bool:
    """Whether this containerd reads the old tables alone."""
    return version is not None and version < _HOSTS_TOML_SINCE


def tables_for(registries: Iterable[Registry], held_up: frozenset[str]) -> Tables:
    """The keys for these registries; those of the registries `held_up` are not touched."""
    values: dict[str, str] = {}
    kept: set[str] = set()
    for registry in registries:
        keys = dict(_keys(registry))
        if registry.name in held_up:
            kept |= keys.keys()
        else:
            for key, value in keys.items():
                values.setdefault(key, value)
    return Tables(tuple((key, value) for key, value in values.items() if key not in kept), frozenset(kept))


def left_out(registry: Registry, version: Version | None) -> Iterator[str]:
    """What the desired state says of a registry and this containerd cannot do, each a sentence."""
    if not needs_tables(version):
        return
    title = f"containerd {'.'.join(map(str, version or ()))}"
    if registry.name == DEFAULT_REGISTRY:
        yield f"{title} does not use it for docker.io"
    yield from without_words(registry, title)


def without_words(registry: Registry, title: str) -> Iterator[str]:
    """What these tables have no words for, whoever reads them (`title`)."""
    if not registry.fallback and not _asks_itself(registry):
        yield f"{title} cannot leave out the registry itself (fallback: false)"
    own = own_url(registry)
    if registry.name != DEFAULT_REGISTRY and own != default_server(registry.name) and not _asks_itself(registry):
        yield f"{title} asks {default_server(registry.name)} too, after {own}"
    for mirror in registry.mirrors:
        yield from (f"{title} {problem}" for problem in _unsaid(mirror))


# --- inside ----------------------------------------------------------------------------------------------------------


def _keys(registry: Registry) -> Iterator[tuple[str, str]]:
    name = "*" if registry.name == DEFAULT_REGISTRY else registry.name
    yield f"{MIRRORS}{name}", _json({"endpoint": _endpoints(registry)})
    for mirror in registry.mirrors:
        if tls := _tls(mirror, registry):
            yield f"{TLS}{_host(mirror.url)}", _json(tls)
    if registry.insecure and own_url(registry).startswith("https://"):
        yield f"{TLS}{_host(own_url(registry))}", _json({"insecure_skip_verify": True})


def _endpoints(registry: Registry) -> list[str]:
    """The registry's own endpoint is named only where it is not the one that containerd adds."""
    urls = [_url(mirror) for mirror in registry.mirrors]
    own = own_url(registry)
    if registry.fallback and own != default_server(registry.name):
        urls.append(own)
    return list(dict.fromkeys(urls))


def _url(mirror: Mirror) -> str:
    """The path as it is used, which hosts.toml completes by `/v2`."""
    path = mirror.url.partition("://")[2].partition("/")[2]
    return api_root(Endpoint(mirror.url, override_path=mirror.override_path)) if path else mirror.url


def _asks_itself(registry: Registry) -> bool:
    """Whether an endpoint has the registry's name: then containerd adds none."""
    return any(_host(url) == registry.name for url in _endpoints(registry))


def _tls(mirror: Mirror, registry: Registry) -> dict[str, object]:
    if not mirror.url.startswith("https://"):
        return {}
    tls: dict[str, object] = {}
    if mirror.skip_verify or (registry.insecure and _host(mirror.url) == registry.name):
        tls["insecure_skip_verify"] = True
    if mirror.ca:
        tls["ca_file"] = mirror.ca[0]
    if mirror.client:
        tls["cert_file"], tls["key_file"] = mirror.client[0].cert, mirror.client[0].key or mirror.client[0].cert
    return tls


def _unsaid(mirror: Mirror) -> Iterator[str]:
    if set(mirror.capabilities) != _EVERYTHING:
        yield f"pulls and resolves through {mirror.url}: it knows no capabilities"
    if mirror.headers or mirror.header_files:
        yield f"sends no headers to {mirror.url}"
    if len(mirror.ca) > 1:
        yield f"reads one ca for {mirror.url}, the first"
    if len(mirror.client) > 1:
        yield f"reads one client certificate for {mirror.url}, the first"
    if mirror.override_path and not mirror.url.partition("://")[2].partition("/")[2]:
        yield f"asks {mirror.url}/v2 all the same (override_path)"


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
