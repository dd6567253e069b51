"""The old tables of config.toml move to hosts.toml in the write that sets config_path, and all of it comes back."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import adopt, converge, desired
from agent.errors import HostError
from agent.events import Event
from agent.model import ContainerdSettings, DesiredState, Manage, Mirror, Registry, Regular
from agent.outcome import Outcome
from agent.plan import WriteFile
from agent.runtimes.containerd import RUNTIME
from tests.containerd_unit import CONFIG, UNIT, ContainerdHost, KilledError

CERTS_D = "/etc/containerd/certs.d"
TABLE = 'plugins."io.containerd.grpc.v1.cri".registry'
LEGACY = f"""\
version = 2
# Hub is slow from here.
[{TABLE}.mirrors."docker.io"]
  endpoint = ["https://a.lan", "https://b.lan/hub"]
[{TABLE}.mirrors."ghcr.io"]
  endpoint = ["https://old.lan"]
[{TABLE}.configs."r.lan:5000".tls]
  insecure_skip_verify = true
[{TABLE}.configs."r.lan:5000".auth]
  username = "u"
  password = "p"

[grpc]
  uid = 0
"""
MOVED = f"""\
version = 2
# Hub is slow from here.
[{TABLE}]
config_path = "{CERTS_D}"

[{TABLE}.configs."r.lan:5000".auth]
  username = "u"
  password = "p"

[grpc]
  uid = 0
"""
HUB = f"{CERTS_D}/docker.io/hosts.toml"
LAN = f"{CERTS_D}/r.lan_5000_/hosts.toml"
DESIRED = DesiredState("1", registries=(Registry("ghcr.io", "https://ghcr.io", (Mirror("https://m.cn"),)),))
NOBODY = DesiredState("2", containerd=ContainerdSettings(manage=Manage.NEVER))


def machine(config: str = LEGACY, **fields: object) -> ContainerdHost:
    """A node whose containerd runs on this file."""
    host = ContainerdHost(**fields)  # type: ignore[arg-type]
    host.put(CONFIG, config)
    words, host.refuses = host.refuses, ()
    host.start()
    host.refuses = words
    host.log.clear()
    return host


def cycle(host: ContainerdHost, wanted: DesiredState = DESIRED) -> Outcome:
    """One converge; then a restart would be allowed again."""
    events: list[Event] = []
    result = converge.converge(wanted, host, events.append, acts=True)
    host.clock = replace(host.clock, unix_seconds=host.clock.unix_seconds + 700)
    return result.runtimes[0].outcome


def text(host: ContainerdHost, path: str) -> str:
    state = host.files.get(path)
    return state.content.decode() if isinstance(state, Regular) else ""


def test_one_write_one_restart_and_then_nothing() -> None:
    """The files of the registries stand before config.toml is touched; credentials and every other line stay; what the
    desired state names is as it says."""
    host = machine()
    assert cycle(host) is Outcome.CHANGED
    written = [each for each in host.log if not each.startswith("mkdir")]
    assert written[-2:] == [f"write {CONFIG}", f"restart {UNIT}"]
    assert set(written[:-2]) == {f"write {path}" for path in (HUB, LAN, f"{CERTS_D}/ghcr.io/hosts.toml")}
    assert (host.config, host.loaded) == (MOVED, MOVED)
    assert "https://m.cn" in text(host, f"{CERTS_D}/ghcr.io/hosts.toml")
    assert [line for line in text(host, HUB).splitlines() if line.startswith(("[", "override"))] == [
        '[host."https://a.lan"]',
        '[host."https://b.lan/hub"]',
        "override_path = true",
    ]
    assert 'server = "https://r.lan:5000"\nskip_verify = true\n' in text(host, LAN)
    host.log.clear()
    assert (cycle(host), host.log) == (Outcome.UNCHANGED, [])


def test_it_comes_back_byte_for_byte() -> None:
    """config.toml of before us, no hosts.toml, an empty ledger, one restart."""
    host = machine()
    host.files[CONFIG] = Regular(LEGACY.encode(), 0o600, 7, 8)
    cycle(host)
    host.log.clear()
    cycle(host, NOBODY)
    assert host.files[CONFIG] == Regular(LEGACY.encode(), 0o600, 7, 8)
    assert [each for each in host.log if UNIT in each] == [f"restart {UNIT}"]
    assert (text(host, HUB), text(host, LAN), host.stored_ledger.entries, host.loaded) == ("", "", {}, LEGACY)


def test_moved_files_are_repaired() -> None:
    """They are ours like the others, and are made from the ledger: config.toml has nothing of it any more."""
    host = machine()
    cycle(host)
    right = text(host, HUB)
    host.put(HUB, "# somebody\n")
    del host.files[LAN]
    host.log.clear()
    assert cycle(host) is Outcome.CHANGED
    assert (text(host, HUB), sorted(host.log)) == (right, [f"write {HUB}", f"write {LAN}"])


def test_what_others_add_meanwhile_stays() -> None:
    """Only our keys go back then: config_path away, the tables in."""
    host = machine()
    cycle(host)
    host.put(CONFIG, host.config + "\n[debug]\nlevel = 'info'\n")
    cycle(host, NOBODY)
    table = f'[{TABLE}.mirrors."docker.io"]\n  endpoint = ["https://a.lan", "https://b.lan/hub"]\n'
    assert "config_path" not in host.config
    assert "level = 'info'" in host.config
    assert table.replace("[plugins.", '["plugins".') in host.config or table in host.config


def test_tables_that_come_back_are_taken_out_again() -> None:
    """Somebody's tool writes its mirrors beside our config_path, with which the CRI would not start any more."""
    host = machine()
    cycle(host)
    right = text(host, HUB)
    host.put(CONFIG, host.config + f'\n[{TABLE}.mirrors."quay.io"]\n  endpoint = ["https://q.lan"]\n')
    host.start()
    assert cycle(host) is Outcome.CHANGED
    assert "mirrors" not in host.loaded
    assert "https://q.lan" in text(host, f"{CERTS_D}/quay.io/hosts.toml")
    assert text(host, HUB) == right
    host.log.clear()
    assert (cycle(host), host.log) == (Outcome.UNCHANGED, [])


def test_a_cri_that_is_down_for_it_comes_up() -> None:
    """config_path and mirrors, both by somebody: the mirrors move, and do not come back to stop it when we go."""
    both = LEGACY.replace("[grpc]", f'[{TABLE}]\nconfig_path = "{CERTS_D}"\n[grpc]')
    host = machine(both)
    assert "error" in host.command(["ctr", "plugins", "ls"]).stdout  # type: ignore[union-attr]
    assert cycle(host) is Outcome.CHANGED
    assert "ok" in host.command(["ctr", "plugins", "ls"]).stdout  # type: ignore[union-attr]
    assert "https://a.lan" in text(host, HUB)
    host.log.clear()
    assert (cycle(host), host.log) == (Outcome.UNCHANGED, [])
    mended = host.config
    cycle(host, NOBODY)
    assert (host.config, host.loaded, host.stored_ledger.entries) == (mended, mended, {})


@pytest.mark.parametrize(
    "fault", [{"rejects": ("config_path",)}, {"refuses": ("config_path",)}, {"breaks_cri": ("config_path",)}]
)
def test_it_goes_back_to_what_it_was(fault: dict[str, object]) -> None:
    """Whatever fails, the old tables are in force again after one cycle, and it is not tried again."""
    host = machine(**fault)
    cycle(host)
    assert (host.config, host.loaded, host.is_up) == (LEGACY, LEGACY, True)
    host.log.clear()
    assert (cycle(host), cycle(host), host.log) == (Outcome.CONFLICT, Outcome.CONFLICT, [])


@pytest.mark.parametrize("fault", [{}, {"breaks_cri": ("config_path",)}])
@pytest.mark.parametrize("lives", range(26))
def test_killed_at_any_step(fault: dict[str, object], lives: int) -> None:
    """The next starts of the agent end in a containerd that is up on a good file, with a file for each registry that
    had a table; everything can be given back."""
    host = machine(lives=lives, **fault)
    with suppress(KilledError):
        cycle(host)
    host.lives = None
    for _ in range(3):
        cycle(host)
    good = LEGACY if fault else MOVED
    assert (host.config, host.loaded, host.is_up) == (good, good, True)
    assert fault or "https://a.lan" in text(host, HUB)
    for _ in range(2):
        cycle(host, NOBODY)
    assert (host.config, host.loaded, host.is_up, host.stored_ledger.entries) == (LEGACY, LEGACY, True, {})
    assert text(host, HUB) == ""


def test_no_file_no_move() -> None:
    """A hosts.toml that cannot be written leaves config.toml and containerd alone."""

    class Full(ContainerdHost):
        def write_files(self, actions: Sequence[WriteFile]) -> tuple[HostError | None, ...]:
            results = [HostError(each.path, "disk full") if each.path == LAN else None for each in actions]
            done = [each for each in actions if each.path != LAN]
            assert super().write_files(done) == tuple(None for _ in done)
            return tuple(results)

    host = machine()
    host.__class__ = Full
    assert cycle(host) is Outcome.FAILED
    assert (host.config, host.starts) == (LEGACY, 1)
    host.__class__ = ContainerdHost
    cycle(host)
    assert (host.config, host.loaded) == (MOVED, MOVED)


def test_a_stopped_containerd_is_waited_for() -> None:
    """What can be moved depends on the version, which only a running containerd tells."""
    host = machine()
    host.units[UNIT] = replace(host.units[UNIT], active=type(host.units[UNIT].active).INACTIVE, main_pid=0)
    cycle(host)
    assert (host.config, host.starts) == (LEGACY, 1)


@pytest.mark.parametrize("moves", [False, True])
def test_import_describes_the_node(moves: bool) -> None:
    """Before and after the move: what import prints, loaded, leaves nothing to do that was not to be done before."""
    host = machine()
    if moves:
        cycle(host)
    found = RUNTIME.find(host, DESIRED, ())
    wanted = desired.load(adopt.text([found], "/etc/mirror-agent.yaml").encode())
    assert {each.name for each in wanted.registries} >= {"docker.io", "ghcr.io", "r.lan:5000"}
    plan = RUNTIME.plan(wanted, RUNTIME.observe(host, wanted))
    assert plan.changes_nothing is moves


def test_status_names_what_was_moved() -> None:
    """As long as the file is ours they are registries like the others."""
    host = machine()
    before = RUNTIME.report(DESIRED, RUNTIME.observe(host, DESIRED))
    cycle(host)
    after = RUNTIME.report(DESIRED, RUNTIME.observe(host, DESIRED))
    assert [each.name for each in before.registries] == ["ghcr.io"]
    assert [each.name for each in after.registries] == ["ghcr.io", "docker.io", "r.lan:5000"]
    assert (before.live, after.live) == (False, True)


# --- any file --------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["docker.io", "quay.io", "ghcr.io", "r.lan:5000", "*", "harbor"])
URLS = st.sampled_from(["https://a.lan", "http://b.lan:5000/", "https://c.lan/v2/x", "d.lan", "https://r.lan:5000"])
HOSTS = st.sampled_from(["a.lan", "r.lan:5000", "c.lan", "quay.io"])
NOISE = st.sampled_from(["", "\n", "# a comment\n", "\n\n# two\n\n", "\t\n"])


@st.composite
def config(draw: st.DrawFn) -> str:
    """A config.toml of version 1 or 2 with old tables in several layouts."""
    version = draw(st.sampled_from([1, 2]))
    cri = "plugins.cri.registry" if version == 1 else TABLE
    parts = ["version = 2\n"] if version == 2 else []
    if draw(st.booleans()):
        parts.append(f"[{cri}]\n" + draw(st.sampled_from(["", '  config_path = ""\n'])))
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        urls = ", ".join(f'"{url}"' for url in draw(st.lists(URLS, unique=True, max_size=3)))
        parts.append(f'{draw(NOISE)}[{cri}.mirrors."{name}"]\n{draw(NOISE)}  endpoint = [{urls}]\n')
    for host in draw(st.lists(HOSTS, unique=True, max_size=3)):
        if draw(st.booleans()):
            parts.append(f'{draw(NOISE)}[{cri}.configs."{host}".auth]\n  username = "u"\n')
        parts.append(f'{draw(NOISE)}  [{cri}.configs."{host}".tls]\n    insecure_skip_verify = true\n')
    tail = draw(st.sampled_from(["", "\n[grpc]\n  uid = 0", "[metrics]\n"]))
    return "".join(parts) + tail


@given(config())
def test_any_file_comes_back(before: str) -> None:
    """Whatever the tables are: a second cycle has nothing to do, containerd is up with a CRI that runs, and giving back
    ends in the very bytes."""
    host = machine(before)
    outcomes = [cycle(host), cycle(host)]
    host.log.clear()
    assert outcomes[1] in {Outcome.UNCHANGED, Outcome.CONFLICT}
    assert (cycle(host), host.log) == (outcomes[1], [])
    assert host.is_up
    assert "ok" in host.command(["ctr", "plugins", "ls"]).stdout  # type: ignore[union-attr]
    cycle(host, NOBODY)
    assert (host.config, host.loaded, host.stored_ledger.entries) == (before, before, {})
