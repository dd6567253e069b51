"""In which directory containerd looks for a registry, and what is carried over from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import HostError
from agent.model import ClientPair, DesiredState, Mirror, Registry, Unusable
from agent.runtimes._certs_dir import (
    CertsDir,
    Directory,
    Place,
    Trust,
    choose,
    directory_names,
    is_registry_name,
    look_at_root,
    look_for,
    new_name,
    registry_of,
    trust_of,
)
from agent.runtimes.containerd import RUNTIME
from tests.fakes import FakeHost
from tests.pem import CERTIFICATE, KEY, LOCKED_KEY

CERTS_D = "/etc/containerd/certs.d"


@pytest.mark.parametrize(
    ("registry", "names", "new"),
    [
        ("docker.io", ("docker.io",), "docker.io"),
        ("registry.lan:5000", ("registry.lan_5000_", "registry.lan:5000"), "registry.lan_5000_"),
        ("[::1]:7000", ("[::1]_7000_", "[::1]:7000"), "[::1]_7000_"),
        ("[2001:db8::1]", ("[2001:db8:_1]_", "[2001:db8::1]"), "[2001:db8::1]"),
        ("_default", ("_default",), "_default"),
    ],
)
def test_names(registry: str, names: tuple[str, ...], new: str) -> None:
    """containerd's own order of names; a new directory gets the one that every version reads, as readable as can be."""
    assert (directory_names(registry), new_name(registry)) == (names, new)


HOSTS = st.from_regex(r"[a-z][a-z0-9-]{0,8}(\.[a-z0-9]{1,5}){0,2}|\[[0-9a-f]{1,4}::[0-9a-f]{1,4}\]", fullmatch=True)
REGISTRIES = st.builds(lambda host, port: f"{host}{port}", HOSTS, st.just("") | st.integers(1, 65535).map(":{}".format))


@given(REGISTRIES | st.just("_default"))
def test_a_directory_name_leads_back_to_its_registry(registry: str) -> None:
    """So that what is given back can be called by the name that a person knows."""
    assert is_registry_name(registry)
    assert {registry_of(name) for name in directory_names(registry)} == {registry}


@given(
    st.text()
    | st.sampled_from(["", ".", "..", "../x", "a/b", "/etc", "a\0b", "A.io", "x:", ":5000", "[::1", "a..", "a b"])
)
def test_what_is_called_a_registry_is_one_name_below_certs_d(name: str) -> None:
    """No name with a slash, of dots alone, or that could not be a registry passes."""
    assert not is_registry_name(name) or ("/" not in name and name.strip(".") != "" and name.isprintable())


def look(host: FakeHost, registry: str) -> Directory:
    return choose(registry, look_for(host, look_at_root(host, CERTS_D), registry))


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ([], "registry.lan_5000_"),
        (["registry.lan_5000_"], "registry.lan_5000_"),
        (["registry.lan:5000"], "registry.lan:5000"),
        (["registry.lan:5000", "registry.lan_5000_"], "registry.lan_5000_"),
        (["registry.lan", "_default"], "registry.lan_5000_"),
    ],
)
def test_the_directory_that_counts(there: list[str], chosen: str) -> None:
    """The first that exists, as containerd takes it; the underscore form where there is none."""
    host = FakeHost()
    for name in there:
        host.mkdirs(f"{CERTS_D}/{name}")
    assert look(host, "registry.lan:5000").path == f"{CERTS_D}/{chosen}"


def test_a_file_in_its_place_counts_a_dangling_link_does_not() -> None:
    """containerd fails on a file where the directory should be, and passes over a link to nothing."""
    host = FakeHost()
    host.put(f"{CERTS_D}/a.lan_1_", "")
    host.mkdirs(f"{CERTS_D}/a.lan:1")
    dangling = FakeHostWithDanglingLink()
    dangling.mkdirs(f"{CERTS_D}/a.lan:1")
    assert (look(host, "a.lan:1").place, look(dangling, "a.lan:1").path) == (Place.FILE, f"{CERTS_D}/a.lan:1")


WITH_CERTS_D = f'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "{CERTS_D}"\n'


class FakeHostWithClosedDirectory(FakeHost):
    """A directory of certs.d, or certs.d itself, that is a link to where the sandbox lets nobody look."""

    closed = ""

    def list_directory(self, path: str) -> tuple[str, ...] | None:
        if path == self.closed:
            raise HostError(path, "permission denied (EACCES)")
        return super().list_directory(path)


@pytest.mark.parametrize("in_use", ["version = 2\n", WITH_CERTS_D])
@pytest.mark.parametrize("closed", ["/etc/containerd/certs.d", "/etc/containerd/certs.d/docker.io"])
def test_a_directory_into_which_we_may_not_look(closed: str, in_use: str) -> None:
    """A conflict of the registries that it concerns, with its path; the others get their files."""
    host = FakeHostWithClosedDirectory()
    for name in ("/etc/containerd/certs.d/docker.io", "/usr/bin"):
        host.mkdirs(name)
    host.put("/etc/containerd/config.toml", in_use)
    host.put("/usr/bin/containerd", "")
    host.closed = closed
    names = ("docker.io", "ghcr.io")
    registries = tuple(Registry(name, f"https://{name}", (Mirror("https://m.cn"),)) for name in names)
    desired = DesiredState("1", registries=registries)
    plan = RUNTIME.plan(desired, RUNTIME.observe(host, desired))
    assert {conflict.path for conflict in plan.conflicts} == {closed}
    written = {action.registry for action in plan.file_actions if action.registry}
    assert written == ({"ghcr.io"} if closed.endswith("docker.io") else set())


class FakeHostWithDanglingLink(FakeHost):
    """`a.lan_1_` is listed and does not exist."""

    def list_directory(self, path: str) -> tuple[str, ...] | None:
        names = super().list_directory(path)
        return names if names is None or path != CERTS_D else tuple(sorted({*names, "a.lan_1_"}))


@pytest.mark.parametrize(
    ("directories", "files", "expected"),
    [
        ([CERTS_D], [], CertsDir(CERTS_D)),
        (["/etc/containerd"], [], CertsDir(CERTS_D, missing=(CERTS_D,))),
        ([], [], CertsDir(CERTS_D, missing=("/etc/containerd", CERTS_D))),
        ([], [CERTS_D], CertsDir(CERTS_D, missing=(CERTS_D,), obstacle=(CERTS_D, Place.FILE))),
        (
            [],
            ["/etc/containerd"],
            CertsDir(CERTS_D, missing=("/etc/containerd", CERTS_D), obstacle=("/etc/containerd", Place.FILE)),
        ),
    ],
)
def test_the_way_to_certs_d(directories: list[str], files: list[str], expected: CertsDir) -> None:
    """What is missing, outermost first, and what stands in the way."""
    host = FakeHost()
    for path in directories:
        host.mkdirs(path)
    for path in files:
        host.put(path, "")
    assert look_at_root(host, CERTS_D) == expected


def trust(files: dict[str, str]) -> Trust:
    host = FakeHost()
    for name, text in files.items():
        host.put(f"{CERTS_D}/r.lan/{name}", text)
    return trust_of(look(host, "r.lan"))


def test_certificates_are_carried_over_by_name() -> None:
    """Every *.crt is a CA, every *.cert with its key a client pair, in the order of their names."""
    files = {
        "z.crt": CERTIFICATE,
        "a.crt": CERTIFICATE,
        "n.cert": CERTIFICATE,
        "n.key": KEY,
        "both.cert": CERTIFICATE + KEY,
    }
    here = f"{CERTS_D}/r.lan"
    assert trust(files) == Trust(
        ca=(f"{here}/a.crt", f"{here}/z.crt"),
        client=(ClientPair(f"{here}/both.cert", ""), ClientPair(f"{here}/n.cert", f"{here}/n.key")),
    )


def test_what_containerd_could_not_use_is_left_out_and_named() -> None:
    """One of them in the file would make every pull fail; without a hosts.toml it does so already."""
    files = {
        "junk.crt": "junk",
        "alone.cert": CERTIFICATE,
        "l.cert": CERTIFICATE,
        "l.key": LOCKED_KEY,
        "bad.cert": "junk",
        "a\nb.crt": CERTIFICATE,
        "x.key": KEY,
        "ca.pem": "not looked at",
    }
    here = f"{CERTS_D}/r.lan"
    assert trust(files) == Trust(
        left_out=(
            f"{here}/a\\nb.crt has a name that no configuration file can hold",
            f"{here}/alone.cert has no alone.key beside it",
            f"{here}/bad.cert holds no certificate in PEM form",
            f"{here}/junk.crt holds no certificate in PEM form",
            f"{here}/l.cert has a key that holds a private key with a passphrase, which containerd cannot ask for",
        )
    )


def test_directories_called_like_certificates_are_passed_over() -> None:
    """containerd looks at files only; what is unusable for another reason is named."""
    host = FakeHost()
    host.mkdirs(f"{CERTS_D}/r.lan/old.crt")
    host.files[f"{CERTS_D}/r.lan/link.crt"] = Unusable("is a link to nothing")
    assert trust_of(look(host, "r.lan")) == Trust(left_out=(f"{CERTS_D}/r.lan/link.crt is a link to nothing",))
