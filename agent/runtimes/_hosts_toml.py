"""What hosts.toml must say for a registry of the desired state.

- Mirrors become `[host]` tables in their order; the registry's own endpoint is `server`, tried last.
- `fallback: false`: the last mirror becomes `server` with its options as root keys, for containerd always adds the
  registry's own endpoint where `server` is left out (1.5 and later, whatever its documentation says).
- `server` is always written out, except for `_default`, which stands for many, and for a local registry
  (`localhost:5000`): containerd asks that by https, then by http, and only while nobody names an endpoint.
- `insecure` is `skip_verify` on the registry's own endpoint: https without verification. It does not mean http:
  only some versions fall back to it (1.6.32, 1.7.16 and later); a registry that speaks http says `plain_http`.
- Nothing about TLS is ever written for an http:// endpoint: it would make containerd try https first.
- A mirror on the registry's own host and port is the same TLS endpoint and gets the registry's trust.

Source: containerd remotes/docker/config/hosts.go @ v1.5 … v1.7, core/remotes/docker/config/hosts.go @ v2.0 … v2.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from agent.model import DEFAULT_REGISTRY, DOCKER_HUB, DesiredState, Header, Mirror, Registry
from agent.render import Endpoint, HostsToml, hosts_toml
from agent.runtimes._certs_dir import Trust

_LOCAL = re.compile(r"(localhost|127\.[0-9]+\.[0-9]+\.[0-9]+|\[::1\])(:[0-9]+)?")
_DEFAULT_CAPABILITIES = ("pull", "resolve")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that the text of one hosts.toml depends on. `secrets` are the values of the registry's header files,
    in the order in which its mirrors name them."""

    source: str
    registry: Registry
    trust: Trust = Trust()  # noqa: RUF009 -- frozen
    secrets: tuple[str, ...] = field(default=(), repr=False)


def registries_with_files(desired: DesiredState) -> tuple[Registry, ...]:
    """Those that need a hosts.toml. Once there is `_default`, every registry with an entry of its own does, or else
    `_default` would answer for it."""
    default = next((each for each in desired.registries if each.name == DEFAULT_REGISTRY), None)
    if default is not None and _needs_file(default):
        return desired.registries
    return tuple(filter(_needs_file, desired.registries))


def _needs_file(registry: Registry) -> bool:
    return bool(registry.mirrors) or registry.insecure or own_url(registry) != _default_url(registry.name)


def text(recipe: Recipe) -> bytes:
    """The content of the file."""
    return hosts_toml(meaning(recipe), recipe.source)


def meaning(recipe: Recipe) -> HostsToml:
    """The endpoints in the order in which they are to be asked."""
    mirrors = tuple(_mirrors(recipe))
    if recipe.registry.fallback:
        return HostsToml(_own_endpoint(recipe), mirrors)
    return HostsToml(mirrors[-1], mirrors[:-1])


def own_url(registry: Registry) -> str:
    """The registry's own endpoint; "" for `_default`, where it is each registry's own."""
    if registry.plain_http and not registry.server.startswith("http://"):
        return f"http://{registry.name}"
    return registry.server


def urls_in_order(registry: Registry) -> tuple[str, ...]:
    """Every endpoint that is asked, in order."""
    mirrors = tuple(mirror.url for mirror in registry.mirrors)
    return (*mirrors, own_url(registry)) if registry.fallback and own_url(registry) else mirrors


def _default_url(name: str) -> str:
    if name == DEFAULT_REGISTRY:
        return ""
    return "https://registry-1.docker.io" if name == DOCKER_HUB else f"https://{name}"


def _own_endpoint(recipe: Recipe) -> Endpoint:
    registry = recipe.registry
    url = own_url(registry)
    is_implied = bool(_LOCAL.fullmatch(registry.name)) and url == _default_url(registry.name)
    return _trusting(Endpoint("" if is_implied else url), recipe)


def _mirrors(recipe: Recipe) -> Iterator[Endpoint]:
    secrets = iter(recipe.secrets)
    own = _authority(own_url(recipe.registry))
    for mirror in recipe.registry.mirrors:
        endpoint = _endpoint(mirror, secrets)
        is_own = _authority(endpoint.url) in {own, recipe.registry.name}
        yield _trusting(endpoint, recipe) if is_own else endpoint


def _endpoint(mirror: Mirror, secrets: Iterator[str]) -> Endpoint:
    headers = (*mirror.headers, *(Header(file.name, (next(secrets),)) for file in mirror.header_files))
    endpoint = Endpoint(
        url=mirror.url,
        capabilities=mirror.capabilities or _DEFAULT_CAPABILITIES,
        override_path=mirror.override_path,
        dial_timeout=mirror.dial_timeout,
        headers=headers,
    )
    if _is_plain(mirror.url):
        return endpoint
    return replace(endpoint, skip_verify=mirror.skip_verify, ca=mirror.ca, client=mirror.client)


def _trusting(endpoint: Endpoint, recipe: Recipe) -> Endpoint:
    """The endpoint with what the desired state and the files beside hosts.toml say about the registry's own TLS."""
    if _is_plain(endpoint.url):
        return endpoint
    return replace(
        endpoint,
        skip_verify=endpoint.skip_verify or recipe.registry.insecure,
        ca=tuple(dict.fromkeys((*endpoint.ca, *recipe.trust.ca))),
        client=tuple(dict.fromkeys((*endpoint.client, *recipe.trust.client))),
    )


def _authority(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _is_plain(url: str) -> bool:
    return url.startswith("http://")
