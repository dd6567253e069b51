"""From the tables `mirrors` and `configs` (containerd's config.toml, registries.yaml of k3s and RKE2) to registries.

Rules: containerd pkg/cri/server/image_pull.go registryHosts, registryEndpoints @ v1.4 … v2.3. An endpoint's path is
used as it stands; the registry's own endpoint is asked last unless an endpoint has its name; TLS belongs to host:port.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from agent.desired.build import default_server
from agent.desired.names import canonical_registry
from agent.found import FoundRegistry
from agent.model import DEFAULT_REGISTRY, ClientPair
from agent.redact import redact
from agent.render import Endpoint, HostsToml
from agent.runtimes._hosts_adopt import Origin, adopt

Table = dict[str, Any]
_LOOPBACK = ("localhost", "127.", "[::1]")


@dataclass(frozen=True, slots=True)
class Legacy:
    """The registries, and what of the tables is no registry's."""

    registries: tuple[FoundRegistry, ...] = ()
    remarks: tuple[str, ...] = ()


def read_tables(registry: Table, path: str, *, every_host: bool = False) -> Legacy:
    """Every registry that has mirrors, or TLS of its own. With `every_host` a host that has TLS is a registry even if
    it is a mirror too: images may name both."""
    mirrors, configs = _table(registry, "mirrors"), _table(registry, "configs")
    found: list[FoundRegistry] = []
    remarks = list(_of_configs(configs, path))
    for name in dict.fromkeys((*mirrors, *(host for host in configs if _table(_table(configs, host), "tls")))):
        entry = _table(mirrors, name if name in mirrors else "*")
        is_mirror = any(_names_host(_endpoints(_table(mirrors, each)), name) for each in mirrors)
        if name not in mirrors and is_mirror and not every_host:
            continue
        try:
            canonical = DEFAULT_REGISTRY if name == "*" else canonical_registry(name)
        except ValueError as error:
            remarks.append(f"{path}: {redact('', name)}: {error}")
            continue
        said = () if not entry.get("rewrite") else ("rewrite of image names is left out: only k3s and RKE2 know it",)
        found.append(adopt(_meaning(canonical, _endpoints(entry), configs), Origin(canonical, path), said))
    return Legacy(tuple(found), tuple(remarks))


def _table(parent: Table, key: str) -> Table:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _endpoints(entry: Table) -> list[str]:
    value = entry.get("endpoint", entry.get("endpoints"))
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _names_host(endpoints: list[str], host: str) -> bool:
    return any(_host(_with_scheme(each)) == host for each in endpoints)


def _meaning(name: str, endpoints: list[str], configs: Table) -> HostsToml:
    hosts = [_endpoint(url, configs) for url in endpoints]
    is_own = [_host(host.url) == name for host in hosts]
    own = Endpoint("", **_own_tls(name, configs))
    if hosts and hosts[-1] == Endpoint(default_server(name), ("pull", "resolve")) and not any(is_own):
        hosts.pop()
    if not any(is_own):
        server = replace(own, url="" if not (own.ca or own.client or own.skip_verify) else f"https://{name}")
        return HostsToml(server, tuple(hosts))
    last = hosts[-1]
    server = replace(last, capabilities=()) if is_own[-1] and not last.override_path else last
    return HostsToml(server, tuple(hosts[:-1]))


def _own_tls(name: str, configs: Table) -> Table:
    return {} if name == DEFAULT_REGISTRY else _tls(configs, name)


def _endpoint(text: str, configs: Table) -> Endpoint:
    url = _with_scheme(text)
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    path = path.rstrip("/")
    has_path = path not in {"", "v2"}
    bare = f"{scheme}://{host}/{path}" if has_path else f"{scheme}://{host}"
    tls = {} if scheme == "http" else _tls(configs, host)
    return Endpoint(bare, ("pull", "resolve"), override_path=has_path, **tls)


def _with_scheme(text: str) -> str:
    if "://" in text:
        return text
    return f"{'http' if text.startswith(_LOOPBACK) else 'https'}://{text}"


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _tls(configs: Table, host: str) -> Table:
    tls = _table(_table(configs, host), "tls")
    ca, cert, key = (_path(tls, name) for name in ("ca_file", "cert_file", "key_file"))
    return {
        "skip_verify": tls.get("insecure_skip_verify") is True,
        "ca": (ca,) if ca else (),
        "client": (ClientPair(cert, key),) if cert else (),
    }


def _path(tls: Table, key: str) -> str:
    value = tls.get(key)
    return value if isinstance(value, str) else ""


def _of_configs(configs: Table, path: str) -> Iterator[str]:
    for host, entry in configs.items():
        if isinstance(entry, dict) and entry.get("auth"):
            yield f"{path}: the credentials for {redact('', host)} stay there; a desired state holds none"
