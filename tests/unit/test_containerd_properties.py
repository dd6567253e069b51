"""containerd over random machines: one cycle converges, the next does nothing, others keep theirs, all comes back."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from agent import converge
from agent.events import Event
from agent.ledger import Ledger
from agent.model import (
    ClientPair,
    ContainerdSettings,
    DesiredState,
    FileState,
    HeaderFile,
    Manage,
    Mirror,
    Registry,
    Regular,
    Unusable,
)
from agent.plan import MakeDirectory, Plan, RemoveDirectory, RemoveFile, WriteFile
from agent.runtimes.containerd import RUNTIME
from tests.fakes import FakeHost
from tests.pem import CERTIFICATE, KEY

CERTS_D = "/etc/containerd/certs.d"
CONFIG = "/etc/containerd/config.toml"
NAMES = ("docker.io", "ghcr.io", "r.lan:5000", "_default", "[::1]:5000", "localhost:5000")
DIRECTORIES = ("docker.io", "quay.io", "r.lan:5000", "r.lan_5000_", "_default", "[::1]_5000_", "localhost_5000_")
BY_HAND = b'# by hand\nserver = "https://by.hand"\n[host."https://hand.cn"]\n'
NO_TOML = b"server = https://by.hand\n"
MATERIAL = {"/ca.pem": CERTIFICATE.encode(), "/key.pem": KEY.encode(), "/junk.pem": b"junk", "/token": b"Basic x\n"}


@dataclass(frozen=True)
class Machine:
    """What stands on the node before, below certs.d and beside it."""

    files: tuple[tuple[str, FileState], ...]
    directories: tuple[str, ...]
    ledger_lost: bool

    def host(self) -> FakeHost:
        host = FakeHost(stored_ledger=Ledger(lost=self.ledger_lost))
        host.put("/usr/bin/containerd", "")
        for path, content in MATERIAL.items():
            host.put(path, content, 0o600)
        for path, state in self.files:
            host.files[path] = state
            host.mkdirs(path.rpartition("/")[0])
        for path in self.directories:
            host.mkdirs(path)
        return host


HOSTS_TOMLS = st.sampled_from([BY_HAND, NO_TOML, b""]).flatmap(
    lambda content: st.builds(Regular, st.just(content), st.sampled_from([0o644, 0o600]), st.sampled_from([0, 7]))
) | st.just(Unusable("is a link to nothing"))
BESIDE = {
    "ca.crt": st.just(Regular(CERTIFICATE.encode())),
    "junk.crt": st.just(Regular(b"junk")),
    "n.cert": st.just(Regular(CERTIFICATE.encode())),
    "n.key": st.just(Regular(KEY.encode())),
    "notes": st.just(Regular(b"mine")),
    "hosts.toml": HOSTS_TOMLS,
}
TREES = st.dictionaries(
    st.sampled_from(DIRECTORIES), st.fixed_dictionaries({}, optional=BESIDE), max_size=len(DIRECTORIES)
)
MACHINES = st.builds(
    lambda tree, lost, has_root: Machine(
        tuple((f"{CERTS_D}/{name}/{file}", state) for name, files in tree.items() for file, state in files.items()),
        tuple(f"{CERTS_D}/{name}" for name in tree) + ((CERTS_D,) if has_root else ()),
        lost,
    ),
    TREES,
    st.booleans(),
    st.booleans(),
)

MIRRORS = st.builds(
    Mirror,
    url=st.sampled_from(["https://a.cn", "http://b.lan:5000", "https://r.lan:5000/proxy", "https://c.cn/v2/x"]),
    ca=st.sampled_from([(), ("/ca.pem",), ("/junk.pem",), ("/missing.pem",)]),
    client=st.sampled_from([(), (ClientPair("/ca.pem", "/key.pem"),), (ClientPair("/ca.pem", ""),)]),
    header_files=st.sampled_from([(), (HeaderFile("Authorization", "/token"),)]),
)
REGISTRIES = st.builds(
    Registry,
    name=st.sampled_from(NAMES),
    server=st.just(""),
    mirrors=st.lists(MIRRORS, min_size=1, max_size=3, unique_by=lambda mirror: mirror.url).map(tuple),
    fallback=st.booleans(),
    insecure=st.booleans(),
).map(lambda each: replace(each, server="" if each.name == "_default" else f"https://{each.name}"))
STATES = st.builds(
    DesiredState,
    generation=st.just("0"),
    registries=st.lists(REGISTRIES, max_size=4, unique_by=lambda registry: registry.name).map(tuple),
)
NOBODY = DesiredState("1", containerd=ContainerdSettings(manage=Manage.NEVER))


def look(host: FakeHost, desired: DesiredState) -> Plan:
    return RUNTIME.plan(desired, RUNTIME.observe(host, desired))


def cycle(host: FakeHost, desired: DesiredState) -> list[Event]:
    events: list[Event] = []
    converge.converge(desired, host, events.append, acts=True)
    return events


def tree(host: FakeHost) -> tuple[dict[str, FileState], set[str]]:
    return dict(host.files), set(host.directories)


@given(MACHINES, STATES)
def test_one_cycle_converges(machine: Machine, desired: DesiredState) -> None:
    """After one cycle nothing is left to do but what a person must resolve, and a second cycle changes nothing."""
    host = machine.host()
    cycle(host, desired)
    left = look(host, desired)
    assert (left.actions, left.claims, left.releases) == ((), (), ())
    host.log.clear()
    assert (cycle(host, desired), host.log) == ([], [])


@given(MACHINES, STATES)
def test_nothing_of_others_is_touched(machine: Machine, desired: DesiredState) -> None:
    """Every file but the hosts.toml of a named registry keeps content, mode and owner, and no directory goes."""
    host = machine.host()
    files, directories = tree(host)
    cycle(host, desired)
    ours = set(host.stored_ledger.entries)
    assert {path: host.files.get(path) for path in files if path not in ours} == {
        path: state for path, state in files.items() if path not in ours
    }
    assert directories <= host.directories


@given(MACHINES, STATES, STATES)
def test_everything_comes_back(machine: Machine, first: DesiredState, second: DesiredState) -> None:
    """Whatever was desired in between, giving up the runtime leaves the machine as it stood: bytes, modes, owners,
    directories."""
    host = machine.host()
    before = tree(host)
    for desired in (first, second, NOBODY):
        cycle(host, desired)
    assert tree(host) == before
    assert host.stored_ledger.entries == {}


@given(MACHINES, STATES, STATES, st.integers(0, 30))
def test_an_interruption_anywhere_is_made_good(
    machine: Machine, first: DesiredState, second: DesiredState, steps: int
) -> None:
    """Killed after any number of steps of any change, the next cycle finishes it, and everything still comes back."""
    host = machine.host()
    before = tree(host)
    cycle(host, first)
    _apply(host, look(host, second), steps)
    cycle(host, second)
    left = look(host, second)
    assert (left.actions, left.claims, left.releases) == ((), (), ())
    cycle(host, NOBODY)
    assert tree(host) == before


def _apply(host: FakeHost, plan: Plan, steps: int) -> None:
    """The claims and the first steps of a plan, as converge would do them."""
    for claim in plan.claims:
        if isinstance(claim.original, Regular):
            host.keep_original(claim.original.content)
    host.save_ledger(host.stored_ledger.with_claims(plan.runtime, plan.claims))
    for action in plan.file_actions[:steps]:
        match action:
            case MakeDirectory():
                host.make_directory(action.path, action.mode)
            case WriteFile():
                assert host.write_files([action]) == (None,)
            case RemoveFile():
                host.remove_file(action)
            case RemoveDirectory():
                host.remove_directory(action.path)


@given(MACHINES, STATES, st.data())
def test_drift_of_any_kind_is_put_right(machine: Machine, desired: DesiredState, data: st.DataObject) -> None:
    """A hosts.toml of ours that was changed, cut, emptied, opened to others or removed has its content and mode again
    one cycle later (an owner that somebody gave it is kept while the file is there)."""
    host = machine.host()
    cycle(host, desired)
    wanted = contents(host)
    for path in sorted(host.stored_ledger.entries.keys() - {CONFIG}):
        _spoil(host, path, data.draw(st.sampled_from(["cut", "empty", "replace", "mode", "remove", "leave"])))
    cycle(host, desired)
    assert contents(host) == wanted


def contents(host: FakeHost) -> dict[str, FileState]:
    """Every file without its owner."""
    return {p: replace(s, uid=0, gid=0) if isinstance(s, Regular) else s for p, s in host.files.items()}


def _spoil(host: FakeHost, path: str, how: str) -> None:
    state = host.files.get(path)
    if not isinstance(state, Regular):
        return
    match how:
        case "cut":
            host.files[path] = replace(state, content=state.content[: len(state.content) // 2])
        case "empty":
            host.files[path] = replace(state, content=b"")
        case "replace":
            host.files[path] = replace(state, content=BY_HAND)
        case "mode":
            host.files[path] = replace(state, mode=0o666)
        case "remove":
            del host.files[path]


ANY_NAME = st.text(max_size=12) | st.sampled_from(
    ["r.lan:1", "[::1]", "", ".", "..", "../../etc", "a/../../b", "/etc/passwd", "x\0y", "~"]
)


@given(MACHINES, ANY_NAME)
def test_no_name_leads_out_of_certs_d(machine: Machine, name: str) -> None:
    """Even if the desired state were not checked: every path that is written, made or removed lies below certs.d,
    but for config.toml."""
    host = machine.host()
    plan = look(host, DesiredState("0", registries=(Registry(name, f"https://{name}", (Mirror("https://a.cn"),)),)))
    allowed = {CERTS_D, "/etc/containerd", CONFIG}
    assert [path for path in _touched(plan) if not path.startswith(f"{CERTS_D}/") and path not in allowed] == []
    assert all(".." not in path.split("/") for path in _touched(plan))


def _touched(plan: Plan) -> Iterator[str]:
    yield from (action.path for action in plan.file_actions)
    yield from (claim.path for claim in plan.claims)
