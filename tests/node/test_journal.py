"""The journal as scripts and people read it: native fields, one line per action, explanations, silence, no secrets."""

import hashlib

import pytest

from agent.events import Kind
from tests.node.rig import DESIRED_STATE, Rig
from tests.node.service import Service, desired_state, hosts_path

_TOKEN = "canary-4f1c2a"


def test_a_write_carries_its_fields(rig: Rig, service: Service) -> None:
    """A written file has MESSAGE_ID, generation, runtime, registry, path, action and reason as native fields."""
    text = desired_state({"ghcr.io": [rig.first.url]})
    cursor = rig.node.cursor()
    service.start_with(text)
    entry = service.await_event(Kind.WROTE, after=cursor)
    fields = {name.removeprefix("MIRROR_AGENT_"): entry[name] for name in entry if name.startswith("MIRROR_AGENT_")}
    generation = hashlib.sha256(text.encode()).hexdigest()
    assert generation.startswith(str(fields.pop("GENERATION")))
    assert fields.pop("REASON")
    assert fields.pop("ACTION")
    assert fields.pop("OUTCOME", "changed") == "changed"
    assert fields == {"RUNTIME": "containerd", "REGISTRY": "ghcr.io", "PATH": hosts_path("ghcr.io")}
    assert (entry["PRIORITY"], entry["_SYSTEMD_UNIT"]) == ("6", "mirror-agent.service")


def test_a_cycle_tells_its_story_in_order(rig: Rig, service: Service) -> None:
    """Loaded, wrote, reloaded, converged: one line per action and one for the cycle."""
    cursor = rig.node.cursor()
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    service.await_event(Kind.CONVERGED, after=cursor)
    told = [entry.get("MESSAGE_ID") for entry in rig.node.journal("_SYSTEMD_UNIT=mirror-agent.service", after=cursor)]
    order = [Kind.LOADED, Kind.WROTE, Kind.RELOADED, Kind.CONVERGED]
    assert [kind for kind in order if kind.value in told] == order
    assert sorted(told.index(kind.value) for kind in order) == [told.index(kind.value) for kind in order]


def test_the_catalogue_explains_an_entry(rig: Rig, service: Service) -> None:
    """`journalctl -x` shows the explanation of the packaged catalogue below the line."""
    cursor = rig.node.cursor()
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    query = f"journalctl --no-pager -q --after-cursor='{cursor}' MESSAGE_ID={Kind.WROTE.value}"
    plain, explained = rig.node.run(query).out, rig.node.run(query + " -x").out
    assert plain
    # systemd marks them with "--", and in a UTF-8 locale with blocks.
    assert [line for line in explained.splitlines() if line[2:].startswith(" Subject: ")] != []


@pytest.mark.usefixtures("service")
def test_every_kind_of_event_is_in_the_catalogue(rig: Rig) -> None:
    """Each MESSAGE_ID that the agent can write has an entry, in the installed catalogue of the node."""
    known = rig.node.run("journalctl --list-catalog --no-pager", check=False).out
    assert [kind.name for kind in Kind if kind.value not in known] == []


def test_a_cycle_with_nothing_to_do_is_silent(rig: Rig, service: Service) -> None:
    """A reload that finds everything converged writes no line above debug."""
    cursor = rig.node.cursor()
    service.start_with(desired_state({"docker.io": [rig.first.url]}))
    service.await_event(Kind.CONVERGED, after=cursor)
    cursor = rig.node.cursor()
    rig.node.run("systemctl reload mirror-agent")
    rig.node.run(["touch", DESIRED_STATE])
    service.await_nothing_pending()
    said = rig.node.journal("_SYSTEMD_UNIT=mirror-agent.service", "-p", "info", after=cursor)
    assert [entry["MESSAGE"] for entry in said] == []


def test_a_secret_header_is_in_no_line_and_in_no_readable_file(rig: Rig, service: Service) -> None:
    """The value of a header_file reaches hosts.toml, which is then 0600, and nothing else: no journal, no status."""
    node = rig.node
    node.put("/etc/mirror-token", f"Bearer {_TOKEN}\n", 0o600)
    cursor = node.cursor()
    service.start_with(
        "version: 1\nregistries:\n  ghcr.io:\n    mirrors:\n"
        f"      - url: {rig.first.url}\n        header_file: {{Authorization: /etc/mirror-token}}\n"
    )
    path = hosts_path("ghcr.io")
    assert _TOKEN in node.text(path)
    assert node.tree(path)[path][1] == "600"
    shown = "".join(service.cli(*words).out for words in (("status",), ("status", "--json"), ("plan",), ("check",)))
    journal = node.run(f"journalctl --no-pager -o json --all --after-cursor='{cursor}'").out
    assert _TOKEN not in shown + journal
    readable = node.run(f"grep -rl {_TOKEN} /etc /run /var/lib/mirror-agent --exclude-dir=udev", check=False).out
    modes = {found: node.tree(found)[found][1] for found in readable.split()}
    assert {mode for mode in modes.values() if mode != "600"} == set(), modes
