"""What runtimes say in the journal about mirrors that they had trouble with. Pure: lines in, mirrors out.

It is a hint to look at a mirror before its interval is over, and never a verdict: a line may be somebody's own fault,
or somebody's invention.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from agent import image
from agent.model import DEFAULT_REGISTRY, DOCKER_HUB
from agent.targets import ProbeTarget

_PASSED_OVER = "trying next host"
"""containerd, and Docker with containerd's image store: a mirror did not serve it (since 1.4:
remotes/docker/resolver.go, fetcher.go @ v1.7)."""
_HOST = re.compile(r'"?([^\s"]+)')
_FAILED = re.compile(r'PullImage "([^"]+)" failed')
"""containerd: a pull ended where it should have gone on (pkg/cri/server/instrumented_service.go @ v1.7)."""
_FAILED_LINE = re.compile(r'\bmsg="PullImage \\"([^\\"]+)\\" failed" error="(.*)')
_DOCKER_WENT_ON = re.compile(r"Attempting next endpoint for pull after error\b(?:.*?\bhttps?://([^/\s\"\\]+)/)?")
"""Docker's own image store (distribution/pull.go @ 20.10 to 28); not every error names the mirror."""
_NOBODYS_FAULT = re.compile(
    "not found|manifest unknown|name unknown|403 Forbidden|401 Unauthorized|HTTP 40[134] |unauthorized"
    "|authorization failed|denied|no basic auth credentials"
)
"""An image that does not exist, or not for everybody, says nothing about a mirror."""
_WRONG_CONTENT = re.compile("unexpected (?:media type|commit digest)|failed size validation")
"""This does, although containerd calls a web page "not found" too."""


def troubles(lines: Iterable[str], targets: Iterable[ProbeTarget]) -> set[tuple[str, str]]:
    """The targets, by their keys, that these lines cast doubt on."""
    known = tuple(targets)
    names = {target.registry for target in known}
    hosts, registries = set[str](), set[str]()
    for line in lines:
        host, registry = _of_json(line) if line.startswith("{") else _of_text(line)
        hosts.add(host)
        registries.add(registry if registry in names or not registry else DEFAULT_REGISTRY)
    return {each.key for each in known if each.registry in registries or _host(each) in hosts}


def _of_text(line: str) -> tuple[str, str]:
    """The mirror that a line names and the registry of which it complains; "" for neither."""
    _, passed_over, rest = line.partition(f'msg="{_PASSED_OVER}')
    if passed_over:
        _, named, host = rest.rpartition(" host=")
        found = _HOST.match(host)
        return (found[1] if named and found else ""), ""
    if found := _FAILED_LINE.search(line):
        return "", _registry(found[1], found[2])
    if found := _DOCKER_WENT_ON.search(line):
        return (found[1], "") if found[1] else ("", "" if _says_nothing(line) else DOCKER_HUB)
    return "", ""


def _of_json(line: str) -> tuple[str, str]:
    """The same, of a daemon that logs in JSON."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return "", ""
    message, host, why = (str(said.get(name, "")) for name in ("msg", "host", "error"))
    if message.startswith(_PASSED_OVER):
        return host, ""
    if found := _FAILED.fullmatch(message):
        return "", _registry(found[1], why)
    return _of_text(message) if _DOCKER_WENT_ON.match(message) else ("", "")


def _says_nothing(why: str) -> bool:
    return bool(_NOBODYS_FAULT.search(why)) and not _WRONG_CONTENT.search(why)


def _registry(name: str, why: str) -> str:
    if _says_nothing(why):
        return ""
    try:
        return image.parse(name).registry
    except image.BadReferenceError:
        return ""


def _host(target: ProbeTarget) -> str:
    return target.url.partition("://")[2].partition("/")[0]
