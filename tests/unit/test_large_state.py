"""What the agent writes it can read: 20,000 registries are as good as one; what would be too large is not written."""

from pathlib import Path

import pytest

from agent.desired.models import MAX_REGISTRIES
from agent.errors import HostError
from agent.files import OWN_MAX_BYTES
from agent.ledger import Entry, Ledger, Original
from agent.node import Places, RealHost
from agent.store import Store
from agent.targets import (
    MAX_BYTES,
    MAX_DETAIL,
    ProbeTarget,
    Sample,
    decode_samples,
    decode_targets,
    encode_samples,
    encode_targets,
    fitting,
)
from agent.verdict import Verdict

STATE = "/var/lib/mirror-agent"


def entry(runtime: str, number: int) -> Entry:
    directory = f"/etc/{runtime}/certs.d/registry-{number:06}.example"
    return Entry(f"{directory}/hosts.toml", runtime, Original("a" * 64), made_directories=(directory,))


def test_a_ledger_of_the_most_registries_is_read_back(tmp_path: Path) -> None:
    """In both runtimes, as it was, with nothing to mend."""
    every = (entry(runtime, number) for runtime in ("containerd", "docker") for number in range(MAX_REGISTRIES))
    ledger = Ledger({each.path: each for each in every})
    Store(str(tmp_path), STATE).save_ledger(ledger)
    store = Store(str(tmp_path), STATE)
    assert (store.recover(), store.ledger() == ledger, store.loss) == ((), True, "")


def test_a_ledger_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    """The one before it stays; so nothing is written to a place that is not claimed."""
    store, small = Store(str(tmp_path), STATE), Ledger({entry("x", 1).path: entry("x", 1)})
    store.save_ledger(small)
    large = Entry("/" + "x" * OWN_MAX_BYTES, "x")
    with pytest.raises(HostError, match=r"ledger\.copy\.json: refused to write it: it is larger than 32 MiB"):
        store.save_ledger(Ledger({large.path: large}))
    assert (store.ledger(), Store(str(tmp_path), STATE).ledger()) == (small, small)


def test_a_large_file_of_our_own_can_be_removed(tmp_path: Path) -> None:
    """It goes as a small one does."""
    host = RealHost(Places(root=str(tmp_path)))
    host.publish("status.json", b"x" * (MAX_BYTES + 1))
    host.retract("status.json")
    host.retract("status.json")
    assert list((tmp_path / "run/mirror-agent").iterdir()) == []


def target(number: int, **more: object) -> ProbeTarget:
    registry = f"registry-{number:06}.example"
    url, image = f"https://mirror-{number:06}.example", f"{registry}/library/hello-world:latest"
    return ProbeTarget(registry, url, image, due=1_800_000_000.123456, **more)  # type: ignore[arg-type]


def test_what_fits_can_be_read_back_on_both_sides() -> None:
    """Two mirrors for each of 10,000 registries do; of more it is the first, whatever a probe says of them."""
    many = tuple(map(target, range(20_000)))
    assert fitting(many) == many
    assert decode_targets(encode_targets(many)) == many
    more = tuple(map(target, range(50_000)))
    first = fitting(more)
    assert (first == more[: len(first)], 20_000 < len(first) < 50_000) == (True, True)
    assert decode_targets(encode_targets(first)) == first
    said = "".join(map(chr, range(0x1F600, 0x1F600 + 64))) * 5
    samples = tuple(
        Sample(
            each.registry, each.url, Verdict.RATE_LIMITED, said[:MAX_DETAIL], 1_800_000_000.123456, 8_640.1234, 3600.0
        )
        for each in first
    )
    kept = decode_samples(encode_samples(samples), 1_900_000_000.0)
    assert ([each.key for each in kept], {each.detail for each in kept}) == ([each.key for each in samples], {""})
    assert decode_samples(encode_samples(samples[:100]), 1_900_000_000.0) == samples[:100]


def test_a_target_keeps_what_is_not_as_usual() -> None:
    """Every field, whether it is written or not."""
    unusual = target(1, override_path=True, ca=("/a", "/b"), skip_verify=True, is_partial=True, checks_content=True)
    assert decode_targets(encode_targets((unusual, target(2)))) == (unusual, target(2))
