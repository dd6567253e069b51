"""What would stop the next start of dockerd, held against what was measured on 20.10.24, 26.1.5 and 28.5.2."""

from __future__ import annotations

import pytest

from agent.runtimes._docker_checks import (
    Engine,
    Fault,
    faults_of,
    insecure_problem,
    mirror_problem,
    unknown_keys,
    version_of,
)

OLD, MIDDLE, NEW = (20, 10, 24), (26, 1, 5), (28, 5, 2)
ALL = (OLD, MIDDLE, NEW)

STARTS = {
    "http://h": ALL,
    "https://h": ALL,
    "https://h:5000/": ALL,
    "HTTP://H": ALL,
    "https://h/p": (MIDDLE, NEW),
    "https://h/v2/": (MIDDLE, NEW),
    "https://h//": (MIDDLE, NEW),
    "https://h?": ALL,
    "https://h#": ALL,
    "https://h?q": (),
    "https://h#f": (),
    "https://u:p@h": (),
    "https://u@h": (),
    "host": (),
    "//host": (),
    "": (),
    "host:5000": (),
    "127.0.0.1:5000": (),
    " https://h": (),
    "https://h h": (),
    "https://h\x01": (),
    "ftp://h": (),
    "https://%20h": (),
    "https://h:abc": (),
    "https://h/%zz": (),
    "http://": ALL,
    "http:h": (OLD, MIDDLE),
    "http://h:99999": ALL,
    "http://h:": ALL,
    "http://-h": ALL,
    "http://h;x": ALL,
    "http://::1:5000": ALL,
    "http://[::1]:5000": ALL,
    "http://[::1": (),
    "http://[::1]x": (),
    "http://b\u00fccher.example": ALL,
}


@pytest.mark.parametrize(
    ("values", "unknown"),
    [
        ({"debug": "true", "log-opts": '{"x": "y"}', "registry-mirror": "[]", "help": "true"}, []),
        ({"Registry-Mirrors": "[]", "x": "{}"}, ["Registry-Mirrors"]),
        ({"x": '{"debug": true, "y": 1}', "proxies": '{"http-proxy": ""}'}, ["y", "http-proxy"]),
    ],
)
def test_keys_that_20_10_does_not_know(values: dict[str, str], unknown: list[str]) -> None:
    """Names of flags are known to it, and of an object that it does not know it takes what is in there. Later versions
    are asked themselves."""
    assert [fault.key for fault in unknown_keys(values, OLD)] == unknown
    assert list(unknown_keys(values, MIDDLE)) == []


@pytest.mark.parametrize("url", STARTS)
def test_mirrors(url: str) -> None:
    """A mirror is faulted on exactly the versions that do not start with it."""
    assert tuple(version for version in ALL if not mirror_problem(url, version)) == STARTS[url]


@pytest.mark.parametrize(
    ("version", "starts"), [((24, 0, 7), False), ((23, 0, 9), False), ((24, 0, 8), True), ((25, 0, 0), True)]
)
def test_a_path_is_a_matter_of_the_patch_release(version: tuple[int, int, int], *, starts: bool) -> None:
    """Docker takes a mirror with a path from 24.0.8 on."""
    assert (mirror_problem("https://h/p", version) == "") is starts


@pytest.mark.parametrize(
    "entry",
    [
        *("host", "h.example:5000", "10.1.2.3", "10.1.2.3:5000", "::1", "[::1]:5000", "10.1.2.3/8", "fd00::/8"),
        *("Mixed.Case:5000", "http://h:5000", "HTTPS://h", "http://10.0.0.0/8", "h:0", "docker.io"),
    ],
)
def test_insecure_registries_that_docker_takes(entry: str) -> None:
    """Hosts, addresses and networks, also with http:// or https:// in front."""
    assert insecure_problem(entry) == ""


@pytest.mark.parametrize(
    "entry",
    [
        *("h:5000/", "h/path", "", " h", "h_1", "*.example.com", "a,b", "u@h", "h:", "h:abc", "10.0.0.0/33"),
        *("10.0.0/8", "10.0.0.0/255.0.0.0", "h:99999", "ftp://x", "-h", "h-", "http://h/", "http://http://h"),
    ],
)
def test_insecure_registries_with_which_docker_does_not_start(entry: str) -> None:
    """The same in every version."""
    assert insecure_problem(entry) != ""


def test_a_fault_names_key_and_entry() -> None:
    """Every bad entry of both lists is told, with what would be right, and without a password."""
    values = {
        "registry-mirrors": '["https://ok.example","https://u:hunter2@x",null]',
        "insecure-registries": '["a.example/x"]',
    }
    assert faults_of(values, Engine(MIDDLE)) == (
        Fault(
            "registry-mirrors",
            '"https://***@x" has a user name in it, and with that Docker does not start: write it as https://HOST or '
            "https://HOST:PORT",
        ),
        Fault(
            "registry-mirrors",
            "an entry is no text, and with that Docker does not start: write it as https://HOST or https://HOST:PORT",
        ),
        Fault(
            "insecure-registries",
            '"a.example/x" is no host, host:port or network: no path, no wildcard, no blank is allowed, and with that '
            "Docker does not start: write it as HOST, HOST:PORT or a network",
        ),
    )


def faulty(engine: Engine, **values: str) -> list[str]:
    return [fault.key for fault in faults_of({key.replace("_", "-"): v for key, v in values.items()}, engine)]


def test_log_drivers() -> None:
    """A built-in driver, a plugin by its full name, and what the running Docker lists; nothing else."""
    listed = Engine(NEW, frozenset({"json-file", "loki"}))
    assert faulty(Engine(NEW), log_driver='"bogus"') == ["log-driver"]
    assert faulty(Engine(NEW), log_driver='"loki"') == ["log-driver"]
    assert faulty(listed, log_driver='"loki"') == []
    assert [faulty(Engine(NEW), log_driver=f'"{name}"') for name in ("local", "none", "", "a/b:c")] == [[], [], [], []]


def test_log_opts() -> None:
    """An option that the two file drivers do not know stops Docker; what other drivers know is not judged."""
    assert faulty(Engine(NEW), log_opts='{"max-sise":"5m"}') == ["log-opts"]
    assert faulty(Engine(NEW), log_driver='"local"', log_opts='{"tag":"x"}') == ["log-opts"]
    assert faulty(Engine(NEW), log_opts='{"max-size":"5m","mode":"non-blocking","cache-disabled":"true"}') == []
    assert faulty(Engine(NEW), log_driver='"splunk"', log_opts='{"splunk-url":"x"}') == []


def test_storage_drivers() -> None:
    """Names that no version or no longer this version has; with the containerd image store the names are open. Where
    Docker's version is not known (an image, a sandbox) the newest is meant, and drivers of today are right."""
    assert faulty(Engine(NEW), storage_driver='"bogus"') == ["storage-driver"]
    assert [faulty(Engine(version), storage_driver='"aufs"') for version in ALL] == [
        [],
        ["storage-driver"],
        ["storage-driver"],
    ]
    assert faulty(Engine(NEW), storage_driver='"overlay2"') == []
    assert faulty(Engine(), storage_driver='"overlay2"') == []
    assert faulty(Engine(), storage_driver='"aufs"') == ["storage-driver"]
    assert faulty(Engine(NEW, containerd_store=True), storage_driver='"stargz"') == []
    assert faulty(Engine(NEW), storage_driver='"stargz"', features='{"containerd-snapshotter":true}') == []


def test_versions() -> None:
    """Docker's own way of writing versions, with and without a patch level."""
    said = ("Docker version 26.1.5+dfsg1, build a72d7cd", "20.10.24", "29.0", "dev")
    assert list(map(version_of, said)) == [(26, 1, 5), (20, 10, 24), (29, 0, 0), None]
