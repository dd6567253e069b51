"""The newcomer's path: the three lines of the README, as they stand, on a node that has never heard of us."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.conftest import bootable
from tests.node.machine import Node
from tests.node.registry import Registry
from tests.node.service import Service
from tests.node.waiting import wait_until
from tests.packages import Packages

REPOSITORY = Path(__file__).resolve().parents[2]
# The mirror of the preset, played by a registry of the node.
MIRROR = "docker.m.daocloud.io"


@pytest.fixture
def fresh(suite: str) -> Iterator[Node]:
    """A node of its own, with both runtimes as their packages set them up."""
    with bootable(suite, "newcomer") as node:
        yield node


def typed(readme: str) -> list[str]:
    """The lines under "Install" in a README, without the remarks behind them."""
    found = re.search(r"\n\n((?:    sudo .+\n){3})", (REPOSITORY / readme).read_text())
    assert found, readme
    return [line.partition("  #")[0].strip() for line in found[1].splitlines()]


def test_both_readmes_say_the_same() -> None:
    """The commands do not depend on the language."""
    assert typed("README.md") == typed("README.zh-CN.md")


def test_three_lines_from_a_fresh_node_to_a_pull_through_a_mirror(fresh: Node, packages: Packages) -> None:
    """Install, take a comment sign away, pull: the image comes from the mirror, with nothing typed but what stands in
    the README, and without any other network."""
    registry = play_mirror(fresh)
    fresh.put(f"/root/{packages.deb.name}", packages.deb.read_bytes())
    # root's node has no sudo.
    fresh.put("/usr/local/bin/sudo", '#!/bin/sh\nexec "$@"\n', 0o755)
    install, edit, pull = typed("README.md")
    assert packages.deb.name in install
    fresh.run(f"cd /root && {install}", environment={"DEBIAN_FRONTEND": "noninteractive"}, timeout_seconds=180)
    fresh.run(f"cd /root && {edit}")
    # Who types the third line takes a moment.
    Service(fresh).await_docker(f"https://{MIRROR}")
    mark = registry.mark()
    fresh.run(pull, timeout_seconds=60)
    assert registry.await_request("/v2/library/hello-world/manifests/", since=mark)


def play_mirror(node: Node) -> Registry:
    """A registry of the node that answers for MIRROR on port 443, with a certificate that the node trusts."""
    plain = Registry(node, "newcomer", 5003).start()
    plain.push("library/hello-world")
    plain.stop()
    key, certificate = "/etc/test-registries/mirror.key", f"/usr/local/share/ca-certificates/{MIRROR}.crt"
    node.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -keyout {key} -out {certificate}"
        f" -subj /CN={MIRROR} -addext subjectAltName=DNS:{MIRROR} && update-ca-certificates"
    )
    config = node.text("/etc/test-registries/newcomer.yml").replace(
        'addr: "127.0.0.1:5003"', f'addr: "127.0.0.1:443", tls: {{certificate: {certificate}, key: {key}}}'
    )
    node.put("/etc/test-registries/newcomer.yml", config)
    node.put("/etc/hosts", f"127.0.0.1 localhost {MIRROR}\n")
    node.run(f"systemctl start {plain.unit} && systemctl restart docker")  # Go reads the roots once
    wait_until(lambda: node.run(f"curl -sf https://{MIRROR}/v2/", check=False).ok, 15, "an answer of the mirror")
    return plain
