"""containerd older than 1.5 reads no hosts.toml: the old tables of config.toml say what the desired state says."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent import adopt, converge, desired
from agent.events import Event
from agent.model import ContainerdSettings, DesiredState, Manage, RegistryReport, RuntimeReport
from agent.outcome import Outcome
from agent.runtimes._containerd_config import look_at_daemon
from agent.runtimes.containerd import RUNTIME
from tests.containerd_unit import CONFIG, DOWN, UNIT, ContainerdHost, KilledError
from tests.unit.test_legacy_migration import NOBODY, config, cycle, text

TABLE = 'plugins."io.containerd.grpc.v1.cri".registry'
DEBIAN = 'version = 2\n\n[plugins]\n  [plugins."io.containerd.internal.v1.opt"]\n    path = "/opt"\n'


def state(registries: str, generation: str = "1") -> DesiredState:
    """A desired state in one line."""
    return replace(desired.load(f"version: 1\nregistries: {registries}\n".encode()), generation=generation)


MIRRORED = state("{docker.io: {mirrors: [https://a.lan]}, ghcr.io: {mirrors: [https://g.lan]}}")
WRITTEN = f"""{DEBIAN}
[{TABLE}.mirrors."docker.io"]
  endpoint = ["https://a.lan"]

[{TABLE}.mirrors."ghcr.io"]
  endpoint = ["https://g.lan"]
"""


def machine(before: str = DEBIAN, **fields: object) -> ContainerdHost:
    """A node with Debian 11's containerd, running on this file."""
    host = ContainerdHost(version="1.4.13", **fields)  # type: ignore[arg-type]
    host.put(CONFIG, before)
    words, host.refuses = host.refuses, ()
    host.start()
    host.refuses = words
    host.log.clear()
    return host


def acts(host: ContainerdHost) -> list[str]:
    return [each for each in host.log if UNIT in each or CONFIG in each]


def status(host: ContainerdHost, wanted: DesiredState = MIRRORED) -> RuntimeReport:
    return RUNTIME.report(wanted, RUNTIME.observe(host, wanted))


def notes(registries: str) -> list[str]:
    """What `status` adds to the registries of a desired state."""
    return [row.note for row in status(machine(), state(registries)).registries]


def test_tables_are_written_and_read() -> None:
    """One write, one restart, live; every byte before them stays; then nothing for ever."""
    host = machine()
    assert status(host).live is False
    assert cycle(host, MIRRORED) is Outcome.CHANGED
    assert acts(host) == [f"write {CONFIG}", f"restart {UNIT}"]
    assert (host.config, host.loaded) == (WRITTEN, WRITTEN)
    found = status(host)
    assert (found.live, found.sentence) == (True, f"registry.mirrors in {CONFIG} are in use, nothing to restart")
    assert found.registries[0] == RegistryReport(
        "docker.io", ("https://a.lan", "registry-1.docker.io"), CONFIG, live=True
    )
    host.log.clear()
    assert (cycle(host, MIRRORED), host.log) == (Outcome.UNCHANGED, [])


def test_each_change_is_one_restart() -> None:
    """A mirror changes, a registry goes, one comes: in place, with one restart; the rest of the file stays."""
    host = machine()
    cycle(host, MIRRORED)
    host.put(CONFIG, host.config + "\n[grpc]\n  uid = 0   # root\n")
    host.log.clear()
    assert (cycle(host, MIRRORED), host.log) == (Outcome.UNCHANGED, [])
    cycle(host, state("{ghcr.io: {mirrors: [https://new.lan]}, quay.io: {mirrors: [https://q.lan]}}", "2"))
    assert acts(host) == [f"write {CONFIG}", f"restart {UNIT}"]
    assert host.loaded == (
        f'{DEBIAN}\n[{TABLE}.mirrors."ghcr.io"]\n  endpoint = ["https://new.lan"]\n\n[grpc]\n  uid = 0   # root\n'
        f'\n[{TABLE}.mirrors."quay.io"]\n  endpoint = ["https://q.lan"]\n'
    )
    cycle(host, NOBODY)
    assert host.config == f"{DEBIAN}\n[grpc]\n  uid = 0   # root\n"
    assert host.stored_ledger.entries == {}


def test_a_second_restart_waits_a_minute() -> None:
    """status says so meanwhile."""
    host = machine()
    events: list[Event] = []
    converge.converge(MIRRORED, host, events.append, acts=True)
    wanted = state("{ghcr.io: {mirrors: [https://new.lan]}}", "2")
    result = converge.converge(wanted, host, events.append, acts=True)
    assert [0 < (each.retry_after_seconds or 0) <= 60 for each in result.runtimes[0].deferred] == [True]
    assert status(host, wanted).sentence.startswith("restart pending")
    host.clock = replace(host.clock, unix_seconds=host.clock.unix_seconds + 100)
    cycle(host, wanted)
    assert (status(host, wanted).live, host.starts) == (True, 3)


def test_never_means_never() -> None:
    """The file is right, the restart is the operator's; once it has happened the tables are live."""
    host = machine()
    wanted = replace(MIRRORED, containerd=ContainerdSettings(may_restart=False))
    cycle(host, wanted)
    assert (host.starts, status(host, wanted).live) == (1, False)
    host.start()
    cycle(host, wanted)
    assert (host.starts, status(host, wanted).live) == (2, True)


def test_a_stopped_containerd_starts_with_the_tables() -> None:
    """As at boot: they are there before its start, which is then the only one."""
    host = machine()
    cycle(host, MIRRORED)
    host.units[UNIT] = DOWN
    wanted = state("{ghcr.io: {mirrors: [https://new.lan]}}", "2")
    cycle(host, wanted)
    assert ("https://new.lan" in host.config, host.starts) == (True, 2)
    host.start()
    cycle(host, wanted)
    assert (host.starts, status(host, wanted).live) == (3, True)


def test_the_program_of_the_unit_is_asked() -> None:
    """Not another containerd that lies about: at rest the unit's files tell which will be started."""
    host = machine()
    host.units[UNIT] = DOWN
    host.put("/usr/lib/systemd/system/containerd.service", "[Service]\nExecStart=-/opt/bin/containerd -l info\n")
    host.put("/opt/bin/containerd", "")
    host.log.clear()
    assert look_at_daemon(host, MIRRORED).program == "/opt/bin/containerd"


@pytest.mark.parametrize("fault", [{"rejects": ("a.lan",)}, {"refuses": ("a.lan",)}, {"breaks_cri": ("a.lan",)}])
def test_it_goes_back_to_what_it_was(fault: dict[str, object]) -> None:
    """Whatever fails, the old bytes are back and containerd is up on them; it is not tried again."""
    host = machine(**fault)
    cycle(host, MIRRORED)
    assert (host.config, host.loaded, host.is_up) == (DEBIAN, DEBIAN, True)
    host.log.clear()
    assert (cycle(host, MIRRORED), cycle(host, MIRRORED), host.log) == (Outcome.CONFLICT, Outcome.CONFLICT, [])


@pytest.mark.parametrize("lives", range(20))
def test_killed_at_any_step(lives: int) -> None:
    """The next starts of the agent end in a containerd that runs on the tables; all of it can be given back."""
    host = machine(lives=lives)
    with suppress(KilledError):
        cycle(host, MIRRORED)
    host.lives = None
    for _ in range(3):
        cycle(host, MIRRORED)
        host.pause(2.0)
    assert (host.config, host.loaded, host.is_up) == (WRITTEN, WRITTEN, True)
    for _ in range(2):
        cycle(host, NOBODY)
    assert (host.config, host.loaded, host.stored_ledger.entries) == (DEBIAN, DEBIAN, {})


def test_no_config_at_all() -> None:
    """The file is made for the tables alone, and goes with them."""
    host = machine()
    del host.files[CONFIG]
    host.start()
    cycle(host, MIRRORED)
    assert host.loaded.startswith("version = 2\n\n[plugins.")
    cycle(host, NOBODY)
    assert (CONFIG in host.files, host.loaded) == (False, "")


def test_what_somebody_else_wrote_comes_back() -> None:
    """A table of theirs for a registry that we are to mirror: ours while it is named, then theirs again."""
    theirs = f'version = 2\n[{TABLE}.mirrors."docker.io"]   # Hub\n  endpoint = ["https://old.lan"]\n'
    host = machine(theirs)
    cycle(host, MIRRORED)
    assert 'endpoint = ["https://a.lan"]' in host.loaded
    cycle(host, state("{ghcr.io: {mirrors: [https://g.lan]}}", "2"))
    assert theirs in host.loaded
    cycle(host, NOBODY)
    assert host.config == theirs


def test_after_an_upgrade_certs_d_takes_over() -> None:
    """containerd 1.7 in the place of 1.4: our tables go in the write that sets config_path, with one restart; what
    stood there before us and the desired state does not name moves to hosts.toml."""
    theirs = f'{DEBIAN}\n[{TABLE}.mirrors."quay.io"]\n  endpoint = ["https://q.lan"]\n'
    host = machine(theirs)
    cycle(host, MIRRORED)
    host.version = "1.7.24"
    host.start()
    host.log.clear()
    assert cycle(host, MIRRORED) is Outcome.CHANGED
    assert [each for each in acts(host) if UNIT in each] == [f"restart {UNIT}"]
    assert "mirrors" not in host.loaded
    assert "https://q.lan" in text(host, "/etc/containerd/certs.d/quay.io/hosts.toml")
    assert "https://a.lan" in text(host, "/etc/containerd/certs.d/docker.io/hosts.toml")
    assert status(host).live is True
    host.log.clear()
    assert (cycle(host, MIRRORED), host.log) == (Outcome.UNCHANGED, [])
    cycle(host, NOBODY)
    assert (host.config, host.stored_ledger.entries) == (theirs, {})


def test_what_the_tables_cannot_say_is_said() -> None:
    """Per registry, in `status`; what they can say has no note."""
    title = "containerd 1.4.13"
    url = "https://a.lan"
    assert notes("{docker.io: {mirrors: [https://a.lan]}}") == [""]
    assert notes("{docker.io: {fallback: false, mirrors: [https://a.lan]}}") == [
        f"{title} cannot leave out the registry itself (fallback: false)"
    ]
    assert notes("{docker.io: {mirrors: [{url: https://a.lan, capabilities: [pull], header: {X: [a]}}]}}") == [
        f"{title} pulls and resolves through {url}: it knows no capabilities; {title} sends no headers to {url}"
    ]
    assert notes("{_default: {mirrors: [https://a.lan]}}") == [f"{title} does not use it for docker.io"]
    assert notes("{r.lan: {server: 'https://s.lan'}}") == [f"{title} asks https://r.lan too, after https://s.lan"]
    assert notes("{r.lan: {plain_http: true}}") == [""]


def test_import_is_a_no_op() -> None:
    """What import prints of such a node, loaded, leaves nothing to do."""
    host = machine()
    cycle(host, MIRRORED)
    found = RUNTIME.find(host, MIRRORED, ())
    wanted = desired.load(adopt.text([found], "/etc/mirror-agent.yaml").encode())
    assert {each.name for each in wanted.registries} == {"docker.io", "ghcr.io"}
    assert RUNTIME.plan(wanted, RUNTIME.observe(host, wanted)).changes_nothing


def test_hostile_tables_are_left_alone() -> None:
    """A file that cannot be edited: one sentence, nothing touched."""
    host = machine('version = 2\nplugins = "none"\n')
    assert cycle(host, MIRRORED) is Outcome.CONFLICT
    assert (host.config, host.starts) == ('version = 2\nplugins = "none"\n', 1)


REGISTRIES = st.dictionaries(
    st.sampled_from(["docker.io", "ghcr.io", "quay.io", '"r.lan:5000"', "_default"]),
    st.sampled_from(["[https://a.lan]", "[https://b.lan, 'http://10.0.0.1:5000']", "[https://c.lan/v2]"]),
    max_size=3,
)


_NO_FINAL_NEWLINE = """\
[plugins.cri.registry.mirrors."quay.io"]
  endpoint = []
[plugins.cri.registry.mirrors."ghcr.io"]
  endpoint = ["https://a.lan"]

[grpc]
  uid = 0"""


@example(_NO_FINAL_NEWLINE, [{"docker.io": "[https://a.lan]"}, {"ghcr.io": "[https://a.lan]"}])
@given(config(), st.lists(REGISTRIES, min_size=1, max_size=3))
def test_any_file_comes_back(before: str, wishes: list[dict[str, str]]) -> None:
    """Whatever tables stood there and whatever was desired in between: each desired state settles in one cycle, and
    giving back ends in the very bytes."""
    host = machine(before)
    for number, wish in enumerate(wishes):
        flow = ", ".join(f"{name}: {{mirrors: {mirrors}}}" for name, mirrors in wish.items())
        wanted = state(f"{{{flow}}}", str(number))
        cycle(host, wanted)
        host.log.clear()
        assert (cycle(host, wanted), acts(host), host.loaded) == (Outcome.UNCHANGED, [], host.config)
        assert status(host, wanted).live is not False or not wish
    cycle(host, NOBODY)
    assert (host.config, host.loaded, host.stored_ledger.entries) == (before, before, {})
    assert NOBODY.containerd.manage is Manage.NEVER
