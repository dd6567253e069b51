"""containerd's plan as a value: what is claimed, written, refused and given back, and from which reading."""

import hashlib
from dataclasses import replace

import pytest

from agent.ledger import Entry, Ledger, Original
from agent.model import (
    Absent,
    ContainerdSettings,
    DesiredState,
    HeaderFile,
    Manage,
    Mirror,
    Registry,
    Regular,
    UnitState,
    Unusable,
)
from agent.plan import Claim, Conflict, MakeDirectory, Plan, Release, RemoveDirectory, RemoveFile, WriteFile
from agent.render import Endpoint, HostsToml, hosts_toml
from agent.runtimes.containerd import RUNTIME
from tests.fakes import FakeHost

CERTS_D = "/etc/containerd/certs.d"
GHCR = f"{CERTS_D}/ghcr.io/hosts.toml"
SOURCE = "/etc/mirror-agent.yaml"
MIRROR = Mirror("https://m.cn")
DESIRED = DesiredState("0", SOURCE, (Registry("ghcr.io", "https://ghcr.io", (MIRROR,)),))
CONTENT = hosts_toml(
    HostsToml(Endpoint("https://ghcr.io"), (Endpoint("https://m.cn", ("pull", "resolve"), dial_timeout="3s"),)), SOURCE
)
OTHER = hosts_toml(HostsToml(Endpoint("https://ghcr.io")), SOURCE)
IN_USE = f'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "{CERTS_D}"\n'
FOREIGN = b'server = "https://by.hand"\n'
NEW = "ghcr.io is new in the desired state"
GONE = "ghcr.io is not in the desired state any more"


def node(state: Regular | Unusable | None = None, *owned: Entry) -> FakeHost:
    """A node with containerd, certs.d, and this at the registry's hosts.toml."""
    host = FakeHost(stored_ledger=Ledger({entry.path: entry for entry in owned}))
    host.put("/usr/bin/containerd", "")
    host.put("/etc/containerd/config.toml", IN_USE)
    host.mkdirs(CERTS_D)
    if state is not None:
        host.mkdirs(f"{CERTS_D}/ghcr.io")
        host.files[GHCR] = state
    return host


def plan(host: FakeHost, desired: DesiredState = DESIRED) -> Plan:
    return RUNTIME.plan(desired, RUNTIME.observe(host, desired))


def write(state: Regular | Absent, reason: str, content: bytes = CONTENT) -> WriteFile:
    return WriteFile(GHCR, content, reason, state, registry="ghcr.io")


def test_a_new_registry() -> None:
    """Claim with nothing before, then its directory, then the file."""
    assert plan(node()) == Plan(
        "containerd",
        actions=(MakeDirectory(f"{CERTS_D}/ghcr.io", NEW, registry="ghcr.io"), write(Absent(), NEW)),
        claims=(Claim(GHCR, Absent(), made_directories=(f"{CERTS_D}/ghcr.io",)),),
    )


def test_a_foreign_file() -> None:
    """The claim holds it as it stands; the write names it as what it replaces; the mode is ours, the owner stays."""
    state = Regular(FOREIGN, 0o600, 7, 8)
    assert plan(node(state)) == Plan(
        "containerd",
        actions=(write(state, f"{NEW}; what stood there is kept and comes back"),),
        claims=(Claim(GHCR, state),),
    )


def test_an_owned_file_that_is_right() -> None:
    """Nothing, whoever owns it."""
    assert plan(node(Regular(CONTENT, 0o644, 7, 8), Entry(GHCR, "containerd"))).is_empty


def test_an_owned_file_that_differs() -> None:
    """Only the write, with what differs as its reason."""
    state = Regular(OTHER)
    assert plan(node(state, Entry(GHCR, "containerd"))) == Plan(
        "containerd", actions=(write(state, "mirrors of ghcr.io: + https://m.cn"),)
    )


def test_a_file_of_ours_that_the_ledger_does_not_know() -> None:
    """It is claimed as if nothing had stood there, which is not certain: what we wrote is never somebody's original."""
    claim = Claim(GHCR, Absent(), made_directories=(f"{CERTS_D}/ghcr.io",), is_doubtful=True)
    assert plan(node(Regular(CONTENT))) == Plan("containerd", claims=(claim,))


@pytest.mark.parametrize("state", [Unusable("is a directory"), Unusable("is a FIFO"), Unusable("leads out of /etc")])
def test_what_must_not_be_overwritten(state: Unusable) -> None:
    """A conflict with the reason, owned or not, wanted or not."""
    text = f"{state.reason}, so the file for ghcr.io cannot be written: remove what stands there"
    conflict = Plan("containerd", conflicts=(Conflict(GHCR, text, "ghcr.io"),))
    assert (plan(node(state)), plan(node(state, Entry(GHCR, "containerd")))) == (conflict, conflict)
    text = f"{state.reason}, so what stood there before mirror-agent cannot be given back: remove what stands there"
    unwanted = Plan("containerd", conflicts=(Conflict(GHCR, text, "ghcr.io"),))
    assert plan(node(state, Entry(GHCR, "containerd")), DesiredState("1")) == unwanted


def test_removal() -> None:
    """The file, then the directory that we made and that is empty by then, then the release."""
    state = Regular(CONTENT)
    host = node(state, Entry(GHCR, "containerd", made_directories=(f"{CERTS_D}/ghcr.io",)))
    assert plan(host, DesiredState("1")) == Plan(
        "containerd",
        actions=(
            RemoveFile(GHCR, GONE, state, "ghcr.io"),
            RemoveDirectory(f"{CERTS_D}/ghcr.io", "it was made by mirror-agent and is empty now"),
        ),
        releases=(Release(GHCR),),
    )


def test_the_original_comes_back() -> None:
    """Content, mode and owner as they were, marked as not ours to check."""
    state = Regular(CONTENT)
    original = Original(hashlib.sha256(FOREIGN).hexdigest(), 0o600, 7, 8)
    host = node(state, Entry(GHCR, "containerd", original))
    host.keep_original(FOREIGN)
    given_back = replace(
        write(state, f"{GONE}; what stood there before comes back", FOREIGN), mode=0o600, owner=(7, 8), verbatim=True
    )
    assert plan(host, DesiredState("1")) == Plan("containerd", (given_back,), releases=(Release(GHCR),))


def test_a_secret_is_for_root_alone() -> None:
    """With a header file the mode is 0600, and an owner other than root is corrected."""
    registry = Registry("ghcr.io", "https://ghcr.io", (replace(MIRROR, header_files=(HeaderFile("X", "/token"),)),))
    host = node(Regular(OTHER, 0o644, 7, 7), Entry(GHCR, "containerd"))
    host.put("/token", "s3cret\n", 0o600)
    (action,) = plan(host, DesiredState("0", SOURCE, (registry,))).actions
    assert isinstance(action, WriteFile)
    assert (action.mode, action.owner, b"s3cret" in action.content) == (0o600, (0, 0), True)
    host.files[GHCR] = Regular(action.content, 0o600, 7, 7)
    (again,) = plan(host, DesiredState("0", SOURCE, (registry,))).actions
    assert again.reason == "ghcr.io: the file holds a secret and belonged to user 7"


@pytest.mark.parametrize(
    ("registry", "reason"),
    [
        (Registry("../x", "https://x", (MIRROR,)), "a registry of the desired state has a name that is none"),
        (
            Registry("ghcr.io", "https://ghcr.io", fallback=False, insecure=True),
            "ghcr.io has neither mirrors nor fallback: nothing is left to ask",
        ),
    ],
)
def test_a_state_that_was_not_checked(registry: Registry, reason: str) -> None:
    """What the desired state's own checks keep out is refused here too."""
    assert plan(node(), DesiredState("0", registries=(registry,))) == Plan(
        "containerd", conflicts=(Conflict(CERTS_D, reason, registry.name),)
    )


def test_entries_of_other_kinds_are_left_alone() -> None:
    """What else the ledger holds for containerd is neither a hosts.toml nor a config.toml with a key of ours."""
    host = node(None, Entry("/etc/containerd/config.toml", "containerd"), Entry(GHCR, "docker"))
    assert plan(host, DesiredState("1")).is_empty


def test_managed_without_being_installed() -> None:
    """`manage: true` writes for an image in which containerd comes later, `auto` waits until it is there; a unit that
    is loaded counts as there."""
    always = replace(DESIRED, containerd=ContainerdSettings(manage=Manage.ALWAYS))
    bare, known = FakeHost(), FakeHost(units={"containerd.service": UnitState(loaded=True)})
    made = [action.path for action in plan(bare, always).actions]
    assert made == ["/etc/containerd", CERTS_D, f"{CERTS_D}/ghcr.io", GHCR]
    assert plan(bare).is_empty
    assert [action.path for action in plan(known).actions] == made


def test_one_edit_among_many_renders_one_file() -> None:
    """The bytes of an unchanged registry are the very same object in the next plan: it was not rendered again."""
    many = tuple(Registry(f"r{n}.cn", f"https://r{n}.cn", (MIRROR,)) for n in range(50))
    edited = (*many[:-1], replace(many[-1], insecure=True))
    first, second = (
        {
            action.path: action.content
            for action in plan(node(), DesiredState("0", SOURCE, state)).actions
            if isinstance(action, WriteFile)
        }
        for state in (many, edited)
    )
    assert [path for path in first if first[path] is not second[path]] == [f"{CERTS_D}/r49.cn/hosts.toml"]
