"""config_path and the one restart it takes: there, back, and back again when containerd does not come up with it."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from agent import converge
from agent.events import Event
from agent.ledger import Ledger
from agent.model import CommandResult, ContainerdSettings, DesiredState, Manage, Mirror, Registry, Regular, Unusable
from agent.outcome import CycleResult, Outcome
from agent.runtimes.containerd import RUNTIME
from tests.containerd_unit import CONFIG, DOWN, UNIT, ContainerdHost, KilledError

CERTS_D = "/etc/containerd/certs.d"
DEBIAN = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
"""
BLOCK = f"""
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{CERTS_D}"
"""
DESIRED = DesiredState("1", registries=(Registry("ghcr.io", "https://ghcr.io", (Mirror("https://m.cn"),)),))
NOBODY = DesiredState("2", containerd=ContainerdSettings(manage=Manage.NEVER))
HOSTS = f"write {CERTS_D}/ghcr.io/hosts.toml"
WRITE, RESTART, START = f"write {CONFIG}", f"restart {UNIT}", f"start {UNIT}"


def machine(config: str | None = DEBIAN, **fields: object) -> ContainerdHost:
    """A node whose containerd runs on this file."""
    host = ContainerdHost(**fields)  # type: ignore[arg-type]
    if config is not None:
        host.put(CONFIG, config)
    words, host.refuses = host.refuses, ()
    host.start()
    host.refuses = words
    host.log.clear()
    return host


def cycle(host: ContainerdHost, desired: DesiredState = DESIRED) -> tuple[CycleResult, list[Event]]:
    events: list[Event] = []
    return converge.converge(desired, host, events.append, acts=True), events


def outcome(host: ContainerdHost, desired: DesiredState = DESIRED) -> Outcome:
    return cycle(host, desired)[0].runtimes[0].outcome


def live(host: ContainerdHost) -> bool | None:
    return RUNTIME.report(DESIRED, RUNTIME.observe(host, DESIRED)).live


def later(host: ContainerdHost, seconds: float = 700.0) -> None:
    host.clock = replace(host.clock, unix_seconds=host.clock.unix_seconds + seconds)


def test_as_debian_ships_it() -> None:
    """config_path is appended, every byte before it stays, containerd is restarted once, and that is all for ever."""
    host = machine()
    assert outcome(host) is Outcome.CHANGED
    assert [each for each in host.log if not each.startswith(("mkdir", HOSTS))] == [WRITE, RESTART]
    assert (host.loaded, host.config, live(host)) == (DEBIAN + BLOCK, DEBIAN + BLOCK, True)
    host.log.clear()
    assert (outcome(host), host.log) == (Outcome.UNCHANGED, [])


def test_no_config_at_all() -> None:
    """The file is made with the one table, so that containerd keeps its defaults, and goes when it is given back."""
    host = machine(None)
    outcome(host)
    assert host.loaded == "version = 2\n" + "\n" + BLOCK.lstrip("\n")
    later(host)
    outcome(host, NOBODY)
    assert (CONFIG in host.files, host.loaded, host.starts) == (False, "", 3)


def test_given_back_with_one_restart() -> None:
    """The bytes of before, the mode of before, a restart; the ledger is empty."""
    host = machine()
    host.files[CONFIG] = Regular(DEBIAN.encode(), 0o600, 7, 8)
    outcome(host)
    later(host)
    host.log.clear()
    outcome(host, NOBODY)
    assert host.files[CONFIG] == Regular(DEBIAN.encode(), 0o600, 7, 8)
    assert [each for each in host.log if UNIT in each] == [RESTART]
    assert (host.loaded, host.stored_ledger.entries) == (DEBIAN, {})
    host.log.clear()
    assert (outcome(host, NOBODY), host.log) == (Outcome.UNCHANGED, [])


def test_what_others_add_meanwhile_stays() -> None:
    """Somebody appends to the file: no restart for that, and only our key goes when it is given back."""
    host = machine()
    outcome(host)
    host.put(CONFIG, host.config + "\n[debug]\nlevel = 'info'\n")
    host.log.clear()
    assert (outcome(host), host.log) == (Outcome.UNCHANGED, [])
    later(host)
    outcome(host, NOBODY)
    assert host.config == DEBIAN + "\n[debug]\nlevel = 'info'\n"


def test_never_means_never() -> None:
    """The file is right, the restart is deferred without a date, and status does not say live."""
    host = machine()
    desired = replace(DESIRED, containerd=ContainerdSettings(may_restart=False))
    result, _ = cycle(host, desired)
    assert [deferred.retry_after_seconds for deferred in result.runtimes[0].deferred] == [None]
    assert (host.config, host.starts, live(host)) == (DEBIAN + BLOCK, 1, False)
    host.start()
    outcome(host, desired)
    assert (live(host), host.stored_ledger.memory_of("containerd").trial) == (True, "")


def test_a_second_restart_waits_a_minute() -> None:
    """Somebody takes config_path out again at once: it is put back at once, the restart waits."""
    host = machine()
    outcome(host)
    host.put(CONFIG, DEBIAN)
    host.start()
    result, _ = cycle(host)
    assert (host.config, host.starts) == (DEBIAN + BLOCK, 3)
    assert [0 < (each.retry_after_seconds or 0) <= 60 for each in result.runtimes[0].deferred] == [True]
    later(host)
    outcome(host)
    assert (host.loaded, host.starts) == (DEBIAN + BLOCK, 4)


def test_a_version_that_containerd_does_not_read() -> None:
    """1.7 rejects the whole file, and says less about it."""
    host = machine("version = 3\n", rejects=("version = 3",))
    result, _ = cycle(host)
    said = "is of version 3, which containerd 1.7.24 does not read: mend it"
    assert [conflict.reason for conflict in result.runtimes[0].conflicts] == [said]


@pytest.mark.parametrize(
    ("imported", "said"),
    [
        (None, "imports /x.toml, which is not there to be read, so that containerd would not start again: mend that"),
        ("no toml [", "imports /x.toml, which cannot be read as TOML: mend that"),
        ("", "containerd itself rejects it (containerd config dump), so it is left as it is: mend it"),
    ],
)
def test_a_configuration_that_containerd_cannot_load(imported: str | None, said: str) -> None:
    """It is left as it is, and the import is named if it is to blame."""
    host = machine('version = 2\nimports = ["/x.toml"]\n', rejects=("imports",))
    if imported is not None:
        host.put("/x.toml", imported)
    result, _ = cycle(host)
    assert [conflict.reason for conflict in result.runtimes[0].conflicts] == [said]
    assert host.starts == 1


def test_a_config_toml_that_root_may_not_read() -> None:
    """The service has no capability to read it all the same: the advice is to let it."""
    host = machine()
    host.files[CONFIG] = Unusable("permission denied (EACCES)")
    result, _ = cycle(host)
    said = "permission denied (EACCES), so config_path cannot be set: let root read it"
    assert [conflict.reason for conflict in result.runtimes[0].conflicts] == [said]


def test_a_stopped_containerd_is_never_started() -> None:
    """Before its first start the file is made right: that start needs no other."""
    host = machine()
    host.units[UNIT] = DOWN
    outcome(host)
    assert (host.config, host.starts) == (DEBIAN + BLOCK, 1)
    host.start()
    outcome(host)
    assert (host.loaded, host.starts, live(host)) == (DEBIAN + BLOCK, 2, True)


@pytest.mark.parametrize(
    ("fault", "log"),
    [
        ({"rejects": ("config_path",)}, [WRITE, WRITE]),
        ({"refuses": ("config_path",)}, [WRITE, RESTART, WRITE, START]),
        ({"breaks_cri": ("config_path",)}, [WRITE, RESTART, WRITE, RESTART]),
    ],
    ids=["rejected", "does-not-start", "cri-does-not-start"],
)
def test_it_goes_back_to_what_it_was(fault: dict[str, object], log: list[str]) -> None:
    """Containerd's own check, its start, its CRI plugin: whichever fails, the old bytes are back, containerd is up on
    them after one cycle, and the same is not tried again until something is edited."""
    host = machine(**fault)
    outcome(host)
    assert [each for each in host.log if not each.startswith(("mkdir", HOSTS))] == log
    assert (host.config, host.loaded, host.is_up) == (DEBIAN, DEBIAN, True)
    later(host)
    host.log.clear()
    assert (outcome(host), outcome(host), host.log) == (Outcome.CONFLICT, Outcome.CONFLICT, [])
    host.rejects = host.refuses = host.breaks_cri = ()
    assert outcome(host, replace(DESIRED, generation="3")) is Outcome.CHANGED
    assert (host.loaded, host.config) == (DEBIAN + BLOCK, DEBIAN + BLOCK)


def test_an_edit_of_the_file_tries_again_too() -> None:
    """What did not work was that content, not this one."""
    host = machine(refuses=("config_path",))
    outcome(host)
    host.refuses = ()
    later(host)
    host.put(CONFIG, "# mended\n" + DEBIAN)
    outcome(host)
    assert host.loaded == "# mended\n" + DEBIAN + BLOCK


def test_a_failed_unit_is_left_in_peace() -> None:
    """It failed before we came: nothing is edited below it and nothing is started."""
    host = machine("version = 2\n# broken\n", refuses=("broken",))
    host.start()
    host.log.clear()
    outcome(host)
    assert [each for each in host.log if CONFIG in each or UNIT in each] == []


def test_more_than_config_path_would_change() -> None:
    """What containerd merges differs in something else: the file is put back before any restart."""
    host = machine()
    seen: list[str] = []

    class Merging(ContainerdHost):
        def command(self, argv: Sequence[str], *_: object, **__: object) -> CommandResult | None:
            found = super().command(argv)
            if argv[-1] == "dump" and "config_path" in self.config and found is not None:
                seen.append("merged")
                return replace(found, stdout=found.stdout + "\n[other]\nx = 1\n")
            return found

    host.__class__ = Merging
    outcome(host)
    assert (host.config, host.starts, bool(seen)) == (DEBIAN, 1, True)


@pytest.mark.parametrize("order", ["", "is taken"])
def test_a_restart_that_systemd_did_not_take_is_none(order: str) -> None:
    """It is said and not remembered: what is done is as if it had not been tried, and the next look tries it."""
    host = machine(takes_no_orders="transaction is destructive")
    assert outcome(host) is Outcome.FAILED
    memory = host.stored_ledger.memory_of("containerd")
    assert (memory.is_restarting, memory.restarted_at, memory.restarts, host.config) == (False, 0.0, (), DEBIAN + BLOCK)
    host.takes_no_orders = "" if order else "still not"
    outcome(host)
    assert (host.starts, host.loaded == DEBIAN + BLOCK) == ((2, True) if order else (1, False))


@pytest.mark.parametrize("fault", [{}, {"refuses": ("config_path",)}, {"breaks_cri": ("config_path",)}])
@pytest.mark.parametrize("lives", range(30))
def test_killed_at_any_step_containerd_is_up_in_the_end(fault: dict[str, object], lives: int) -> None:
    """Bring-up, or a bring-up that goes wrong, killed after each step: the next starts of the agent end in a containerd
    that is up on a good file; it is restarted at most once more, and everything can be given back."""
    host = machine(lives=lives, **fault)
    killed = False
    try:
        outcome(host)
    except KilledError:
        killed = True
    host.lives = None
    for _ in range(3):
        outcome(host)
        later(host)
    good = DEBIAN if fault else DEBIAN + BLOCK
    assert (host.config, host.loaded, host.is_up) == (good, good, True), killed
    assert host.starts <= 4
    outcome(host, NOBODY)
    later(host)
    outcome(host, NOBODY)
    assert (host.config, host.loaded, host.is_up, host.stored_ledger.entries) == (DEBIAN, DEBIAN, True, {})


@pytest.mark.parametrize("lives", range(18))
def test_giving_back_killed_at_any_step(lives: int) -> None:
    """The same for the way back."""
    host = machine()
    outcome(host)
    later(host)
    host.lives = lives
    with suppress(KilledError):
        outcome(host, NOBODY)
    host.lives = None
    for _ in range(3):
        outcome(host, NOBODY)
        later(host)
    assert (host.config, host.loaded, host.is_up, host.stored_ledger.entries) == (DEBIAN, DEBIAN, True, {})


def test_a_lost_ledger_costs_no_restart() -> None:
    """The file says what is wanted and the daemon has read it: nothing to do, nothing owned."""
    host = machine()
    outcome(host)
    host.stored_ledger = Ledger(lost=True)
    host.log.clear()
    outcome(host)
    assert [each for each in host.log if CONFIG in each or UNIT in each] == []


def test_the_digests_are_those_of_the_bytes() -> None:
    """Memory names contents by SHA-256, so that the kept originals find them."""
    host = machine(refuses=("config_path",))
    host.on_restart = lambda: seen.append(host.stored_ledger.memory_of("containerd"))
    seen: list[object] = []
    outcome(host)
    memory = seen[0]
    assert (memory.trial, memory.good, memory.is_restarting) == (  # type: ignore[attr-defined]
        hashlib.sha256((DEBIAN + BLOCK).encode()).hexdigest(),
        hashlib.sha256(DEBIAN.encode()).hexdigest(),
        True,
    )
