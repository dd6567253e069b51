"""Reading what Docker says: /info, /events, and the spellings of insecure registries."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtimes._docker_info import Info, insecure_name, parse_info, parse_reloads, reloads_target

V20 = """{"ServerVersion": "20.10.24+dfsg1", "Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]],
"RegistryConfig": {"AllowNondistributableArtifactsCIDRs": [], "InsecureRegistryCIDRs": ["127.0.0.0/8"],
"IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true}}, "Mirrors": []},
"LiveRestoreEnabled": false, "ContainersRunning": 2, "LoggingDriver": "json-file", "Labels": [], "Debug": false,
"Swarm": {"LocalNodeState": "inactive"}}"""
V28 = """{"ServerVersion": "28.5.2+dfsg4", "Driver": "overlayfs",
"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
"RegistryConfig": {"InsecureRegistryCIDRs": ["::1/128", "10.0.0.0/8", "127.0.0.0/8"],
"IndexConfigs": {"docker.io": {"Secure": true}, "Reg.lan:5000": {"Secure": false}},
"Mirrors": ["https://b.example/", "https://a.example/p/"]},
"LiveRestoreEnabled": true, "ContainersRunning": 0, "LoggingDriver": "local", "Labels": null, "Debug": true,
"Swarm": {"LocalNodeState": "active"}}"""


def test_docker_20_10() -> None:
    """Empty lists, the graph driver's store, no swarm."""
    assert parse_info(V20.encode()) == Info(
        version="20.10.24",
        settings=(("debug", "false"), ("live-restore", "false"), ("log-driver", '"json-file"'), ("labels", "[]")),
        running_containers=2,
    )


def test_docker_28() -> None:
    """Slashes taken off, order kept, loopback left out, null lists, the containerd image store, a swarm."""
    info = parse_info(V28.encode())
    assert info == Info(
        version="28.5.2",
        mirrors=("https://b.example", "https://a.example/p"),
        insecure=frozenset({"10.0.0.0/8", "reg.lan:5000"}),
        settings=(("debug", "true"), ("live-restore", "true"), ("log-driver", '"local"'), ("labels", "[]")),
        live_restore=True,
        containerd_store=True,
        in_swarm=True,
    )
    assert info.major == 28


@pytest.mark.parametrize("version", [None, 7, "", "dev", "library-import"])
def test_a_version_that_is_none(version: object) -> None:
    """A self-built Docker: no version, major 0, everything else as usual."""
    info = parse_info(json.dumps({"ServerVersion": version, "RegistryConfig": {}}).encode())
    assert (info, info and info.major) == (Info(version=""), 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
FIELDS = (
    "ServerVersion",
    "DriverStatus",
    "LiveRestoreEnabled",
    "ContainersRunning",
    "LoggingDriver",
    "Labels",
    "Swarm",
)
REGISTRY_FIELDS = ("Mirrors", "IndexConfigs", "InsecureRegistryCIDRs")


@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON),
    st.dictionaries(st.sampled_from(REGISTRY_FIELDS), JSON) | JSON,
)
def test_odd_answers_are_read_without_complaint(document: dict[str, object], registries: object) -> None:
    """Whatever stands in a field: an Info without it, or none where the registry configuration is no object."""
    info = parse_info(json.dumps({**document, "RegistryConfig": registries}).encode())
    assert (info is not None) == isinstance(registries, dict)


@given(st.binary(max_size=40) | st.just(b"[" * 100_000))
def test_any_bytes_are_an_answer_or_none(body: bytes) -> None:
    """Nothing is raised, and nothing is confirmed by noise."""
    assert (parse_info(body), parse_reloads(body)) == (None, ())


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("Reg.LAN:5000", "reg.lan:5000"),
        ("http://reg.lan:5000", "reg.lan:5000"),
        ("HTTPS://reg.lan", "reg.lan"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("http://10.1.2.3/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3"),
        ("2001:DB8::1/32", "2001:db8::/32"),
        ("::1", "::1"),
        ("h/p", "h/p"),
    ],
)
def test_one_name_for_every_spelling(entry: str, name: str) -> None:
    """As Docker takes it: scheme off, networks by their own address; and case does not tell hosts apart."""
    assert insecure_name(entry) == name


def test_reloads_are_read_from_the_stream_of_events() -> None:
    """One JSON object a line; nanoseconds where there are some, else seconds; other events do not count."""
    lines = [
        {"Type": "daemon", "Action": "reload", "time": 5, "timeNano": 5_250_000_000},
        {"Type": "daemon", "Action": "reload", "time": 7},
        {"Type": "container", "Action": "reload", "time": 8},
        {"Type": "daemon", "Action": "die", "time": 9},
    ]
    assert parse_reloads("\n".join(map(json.dumps, lines)).encode()) == (5.25, 7.0)
    assert parse_reloads(None) == ()


def test_the_question_for_reloads() -> None:
    """A span that ends now, so that Docker answers at once; the filter is JSON, percent-encoded."""
    assert reloads_target(1.5, 2.25) == (
        "/events?since=1.500000&until=2.250000"
        "&filters=%7B%22type%22%3A%5B%22daemon%22%5D%2C%22event%22%3A%5B%22reload%22%5D%7D"
    )
