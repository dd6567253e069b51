"""From what a hosts.toml means back to the words of a desired state: the inverse of _hosts_toml.

Exact wherever the desired state has words for it. What it has none for is said in a remark.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.desired.urls import canonical_server, canonical_url, is_plain
from agent.desired.values import header_name, header_value
from agent.found import FoundRegistry
from agent.model import DEFAULT_REGISTRY, DOCKER_HUB, Header, HeaderFile, Mirror, Registry
from agent.redact import is_secret, redact
from agent.render import Endpoint, HostsToml
from agent.runtimes._certs_dir import Trust
from agent.runtimes._hosts_reading import DIAL_TIMEOUT

SECRETS = "/etc/mirror-agent.secrets"
_ALL = ("pull", "resolve", "push")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a meaning was read. `trust` is what lies beside the file; `is_closed`: others than its owner may not read
    it, so that its headers are secrets."""

    registry: str
    path: str
    trust: Trust = Trust()  # noqa: RUF009 -- frozen
    is_closed: bool = False


def adopt(meaning: HostsToml, origin: Origin, remarks: tuple[str, ...] = ()) -> FoundRegistry:
    """The entry that makes containerd ask the same hosts in the same way."""
    said = list(remarks)
    own = _own_url(meaning, origin, said)
    mirrors = [_mirror(endpoint, origin, said) for endpoint in meaning.hosts]
    entry = Registry(origin.registry, _default_server(origin.registry))
    if own is None:
        last = _mirror(meaning.server, origin, said)
        entry = replace(entry, fallback=last is None)
        mirrors.append(last)
    else:
        plain = own == f"http://{origin.registry}"
        entry = replace(entry, server=own, plain_http=plain, insecure=meaning.server.skip_verify and not is_plain(own))
    kept = {mirror.url: mirror for mirror in reversed([each for each in mirrors if each])}
    in_order = tuple(kept[url] for url in dict.fromkeys(each.url for each in mirrors if each))
    entry = replace(entry, mirrors=tuple(_without_own(mirror, entry) for mirror in in_order))
    return FoundRegistry(entry, (origin.path,), tuple(said))


def _default_server(name: str) -> str:
    if name == DEFAULT_REGISTRY:
        return ""
    return "https://registry-1.docker.io" if name == DOCKER_HUB else f"https://{name}"


def _own_url(meaning: HostsToml, origin: Origin, said: list[str]) -> str | None:
    """The registry's own endpoint as `server` can say it; None if what is asked last must be said as a mirror."""
    server = _without_trust(meaning.server, origin)
    has_more = server.ca or server.client or server.headers or server.dial_timeout or server.override_path
    if not server.url:
        if server.ca or server.client or server.headers:
            said.append("certificates or headers for a registry whose endpoint is not named are left out: name server")
        return _default_server(origin.registry)
    try:
        url = canonical_server(server.url)
    except ValueError as error:
        if redact("", server.url) == server.url and "web page" in str(error):
            said.append(f"server {server.url} {error}: that is written instead")
            return _default_server(origin.registry)
        return None
    if has_more or server.capabilities not in {(), _ALL} or origin.registry == DEFAULT_REGISTRY:
        return None
    return url


def _without_trust(endpoint: Endpoint, origin: Origin) -> Endpoint:
    """The certificates beside the file come back by themselves."""
    return replace(
        endpoint,
        ca=tuple(path for path in endpoint.ca if path not in origin.trust.ca),
        client=tuple(pair for pair in endpoint.client if pair not in origin.trust.client),
    )


def _without_own(mirror: Mirror, entry: Registry) -> Mirror:
    """`insecure` holds for a mirror on the registry's own host already."""
    return replace(mirror, skip_verify=False) if entry.insecure and _is_own(mirror.url, entry.name) else mirror


def _is_own(url: str, registry: str) -> bool:
    return url.partition("://")[2].partition("/")[0] == registry


def _mirror(endpoint: Endpoint, origin: Origin, said: list[str]) -> Mirror | None:
    try:
        url = canonical_url(endpoint.url)
    except ValueError as error:
        said.append(f"{redact('', endpoint.url)} is left out: it {error}")
        return None
    if _is_own(url, origin.registry):
        endpoint = _without_trust(endpoint, origin)
    if is_plain(url) and (endpoint.skip_verify or endpoint.ca or endpoint.client):
        said.append(f"{url}: what it says about TLS is left out, which makes containerd try https first")
        endpoint = replace(endpoint, skip_verify=False, ca=(), client=())
    open_headers, secret_headers = _headers(url, endpoint, origin, said)
    return Mirror(
        url=url,
        override_path=endpoint.override_path,
        capabilities=endpoint.capabilities or _ALL,
        ca=endpoint.ca,
        client=endpoint.client,
        skip_verify=endpoint.skip_verify,
        headers=open_headers,
        header_files=secret_headers,
        dial_timeout=endpoint.dial_timeout or DIAL_TIMEOUT,
    )


def _headers(
    url: str, endpoint: Endpoint, origin: Origin, said: list[str]
) -> tuple[tuple[Header, ...], tuple[HeaderFile, ...]]:
    shown: list[Header] = []
    files: list[HeaderFile] = []
    for header in endpoint.headers:
        if not _is_usable(header):
            said.append(f"{url}: a header is left out: a desired state cannot hold its name or value")
        elif not (origin.is_closed or is_secret(header.name)):
            shown.append(header)
        elif len(header.values) > 1:
            said.append(f"{url}: the header {header.name} is left out: it is a secret with more than one value")
        else:
            path = f"{SECRETS}/{origin.registry}-{len(files)}-{header.name}"
            files.append(HeaderFile(header.name, path))
            said.append(f"{url}: the header {header.name} may be a secret and is not shown: {_how(path, origin.path)}")
    return tuple(shown), tuple(files)


def _how(path: str, source: str) -> str:
    return f"put its one line into {path} (root, mode 0600), from {source}; until then nothing is changed there"


def _is_usable(header: Header) -> bool:
    try:
        header_name(header.name)
        return all(header_value(value) for value in header.values) and bool(header.values)
    except ValueError:
        return False
