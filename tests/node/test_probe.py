"""`mirror-agent mirrors --probe` on a node, against a real registry."""

import json

import pytest

from tests.node.rig import Rig
from tests.node.service import Service, desired_state

_DEAD = "http://127.0.0.1:5009"
_IMAGE = "library/hello"


@pytest.mark.only_on("trixie")
def test_a_registry_is_ok_and_a_dead_port_is_refused(rig: Rig, service: Service) -> None:
    """As installed: the digest is that of the image that was pushed, blobs included, for a handful of requests; and a
    mirror that the desired state names is probed as its own."""
    mark = rig.first.mark()
    shown = service.cli("mirrors", "--probe", rig.first.url, _DEAD, "--image", _IMAGE, "--content", "--json")
    assert shown.rc == 0, shown.err
    found = {each["mirror"]: each for each in json.loads(shown.out)["probes"]}
    assert {url: each["verdict"] for url, each in found.items()} == {rig.first.url: "ok", _DEAD: "refused"}
    assert found[rig.first.url]["digest"] == rig.first.pushed[_IMAGE].manifest_digest
    rig.first.await_request("/blobs/", since=mark)
    asked = [request.split("/v2/")[1] for request in rig.first.requests(mark)]
    assert asked[:2] == ["library/hello/manifests/latest?ns=docker.io"] * 2
    assert len(asked) == 3

    service.desire(desired_state({"docker.io": [rig.second.url, _DEAD]}))
    table = service.cli("mirrors", "--probe", rig.second.url, _DEAD, "--image", _IMAGE)
    assert table.rc == 0, table.err
    lines = [line.split() for line in table.out.splitlines()]
    assert [line[:2] for line in lines[2:4]] == [[rig.second.url, "ok"], [_DEAD, "refused"]]
    assert [line.count("desired") for line in lines[2:4]] == [1, 1]
    assert table.out.rstrip().endswith(f"- {rig.second.url}")
