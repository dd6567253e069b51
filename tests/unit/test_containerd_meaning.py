"""What hosts.toml must make containerd do for each word of the desired state, told by a model of its reader."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import ClientPair, DesiredState, Header, HeaderFile, Mirror, Registry
from agent.runtimes._certs_dir import Trust
from agent.runtimes._hosts_toml import Recipe, registries_with_files, text, urls_in_order
from tests.containerd_reader import ALL, DIALECTS, Asked, read

PULL = frozenset({"pull", "resolve"})
NONE = Trust()
TRUST = Trust(ca=("/certs/ca.crt",), client=(ClientPair("/certs/n.cert", "/certs/n.key"),))
HUB = Asked("https", "registry-1.docker.io", "/v2")


def mirror(host: str, scheme: str = "https", path: str = "/v2") -> Asked:
    """A mirror with nothing but defaults, as containerd asks it."""
    return Asked(scheme, host, path, PULL, dial_timeout="3s")


def asked(registry: Registry, trust: Trust = NONE, secrets: tuple[str, ...] = ()) -> list[Asked]:
    """The endpoints of a registry, the same in every dialect."""
    content = text(Recipe("/etc/mirror-agent.yaml", registry, trust, secrets))
    first, second = (read(content, registry.name, dialect) for dialect in DIALECTS)
    assert first == second
    return first


def test_mirrors_come_first_and_cannot_be_pushed_to() -> None:
    """In their order, for pull and resolve; the registry itself comes last and takes pushes."""
    hub = Registry("docker.io", "https://registry-1.docker.io", (Mirror("https://a.cn"), Mirror("http://b.lan:5000")))
    assert asked(hub) == [mirror("a.cn"), mirror("b.lan:5000", "http"), HUB]


def test_every_option_of_a_mirror() -> None:
    """TLS, path, headers in files and in the text, timeout and capabilities arrive where they belong."""
    full = Mirror(
        "https://h.cn/v2/hub",
        override_path=True,
        capabilities=("pull",),
        ca=("/a.pem", "/b.pem"),
        client=(ClientPair("/c.pem", "/c.key"), ClientPair("/both.pem", "")),
        skip_verify=True,
        headers=(Header("X-A", ("1", "2")),),
        header_files=(HeaderFile("Authorization", "/token"),),
        dial_timeout="500ms",
    )
    hub = Registry("docker.io", "https://registry-1.docker.io", (full, Mirror("https://b.cn")))
    expected = Asked(
        "https",
        "h.cn",
        "/v2/hub",
        frozenset({"pull"}),
        skip_verify=True,
        ca=("/a.pem", "/b.pem"),
        client=(("/c.pem", "/c.key"), ("/both.pem", "/both.pem")),
        header=(("Authorization", ("Basic x",)), ("X-A", ("1", "2"))),
        dial_timeout="500ms",
    )
    assert asked(hub, secrets=("Basic x",)) == [expected, mirror("b.cn"), HUB]


def test_header_files_of_several_mirrors_do_not_mix() -> None:
    """Each secret goes to the mirror that names its file, and to nobody else."""
    mirrors = tuple(
        Mirror(f"https://{n}.cn", header_files=(HeaderFile("X", f"/{n}"), HeaderFile("Y", f"/{n}2"))) for n in "ab"
    )
    found = asked(Registry("r.cn", "https://r.cn", mirrors), secrets=("a1", "a2", "b1", "b2"))
    assert [each.header for each in found] == [
        (("X", ("a1",)), ("Y", ("a2",))),
        (("X", ("b1",)), ("Y", ("b2",))),
        (),
    ]


def test_without_fallback_the_registry_is_never_asked() -> None:
    """The last mirror takes the place of the registry, with its own options, and is asked once."""
    last = Mirror("https://c.cn", ca=("/c.pem",), headers=(Header("X", ("1",)),), skip_verify=True)
    hub = Registry("docker.io", "https://registry-1.docker.io", (Mirror("https://a.cn"), last), fallback=False)
    expected = replace(mirror("c.cn"), ca=("/c.pem",), header=(("X", ("1",)),), skip_verify=True)
    assert asked(hub) == [mirror("a.cn"), expected]
    assert asked(replace(hub, mirrors=(last,))) == [expected]


@pytest.mark.parametrize("name", ["docker.io", "quay.io"])
def test_default_leaves_every_registry_its_own_endpoint(name: str) -> None:
    """`_default` names no server, so that each registry is asked itself after the mirrors."""
    content = text(Recipe("/x", Registry("_default", "", (Mirror("http://127.0.0.1:30020"),))))
    own = HUB if name == "docker.io" else Asked("https", name, "/v2")
    assert [read(content, name, dialect) for dialect in DIALECTS] == [[mirror("127.0.0.1:30020", "http"), own]] * 2


def test_insecure_is_https_without_verification() -> None:
    """Of the registry's own endpoint and of a mirror on the same host and port, and of no other."""
    mirrors = (Mirror("https://r.lan:5000/cache"), Mirror("https://m.cn"), Mirror("http://r.lan:5000"))
    found = asked(Registry("r.lan:5000", "https://r.lan:5000", mirrors, insecure=True))
    assert [(each.host, each.path, each.skip_verify) for each in found] == [
        ("r.lan:5000", "/cache/v2", True),
        ("m.cn", "/v2", None),
        ("r.lan:5000", "/v2", None),
        ("r.lan:5000", "/v2", True),
    ]


@pytest.mark.parametrize("server", ["https://r.lan:5000", "http://r.lan:5000"])
def test_plain_http_says_nothing_about_tls(server: str) -> None:
    """Not even with insecure, and not of certificates beside the file: it would make containerd try https first."""
    registry = Registry("r.lan:5000", server, plain_http=True, insecure=True)
    assert asked(registry, TRUST) == [Asked("http", "r.lan:5000", "/v2")]


def test_certificates_beside_the_file_stay_in_force() -> None:
    """For the registry itself and for a mirror on its host, after the mirror's own; not for other mirrors."""
    mirrors = (Mirror("https://r.lan/proxy", ca=("/own.pem",)), Mirror("https://m.cn"))
    found = asked(Registry("r.lan", "https://r.lan", mirrors), TRUST)
    pair = ("/certs/n.cert", "/certs/n.key")
    assert [(each.ca, each.client) for each in found] == [
        (("/own.pem", "/certs/ca.crt"), (pair,)),
        ((), ()),
        (("/certs/ca.crt",), (pair,)),
    ]


def test_certificates_are_not_given_to_mirrors_without_fallback() -> None:
    """Where the registry is never asked, its client certificate goes to nobody."""
    registry = Registry("r.lan", "https://r.lan", (Mirror("https://m.cn"),), fallback=False)
    assert asked(registry, TRUST) == [mirror("m.cn")]


@pytest.mark.parametrize("name", ["localhost:5000", "127.0.0.1:5000", "[::1]:5000"])
def test_a_local_registry_keeps_containerds_own_way(name: str) -> None:
    """containerd asks it by https, then http, but only while no server is named."""
    content = text(Recipe("/x", Registry(name, f"https://{name}", (Mirror("https://m.cn"),))))
    assert b"server" not in content
    assert b"server" in text(Recipe("/x", Registry(name, f"http://{name}", plain_http=True)))


def named(*registries: Registry) -> list[str]:
    """Those of them that get a file."""
    return [registry.name for registry in registries_with_files(DesiredState("0", registries=registries))]


PLAIN = Registry("ghcr.io", "https://ghcr.io")
HUB_ONLY = Registry("docker.io", "https://registry-1.docker.io")


@pytest.mark.parametrize(
    "registry",
    [
        replace(PLAIN, mirrors=(Mirror("https://m.cn"),)),
        replace(PLAIN, insecure=True),
        replace(PLAIN, plain_http=True),
        replace(PLAIN, server="https://mirror.ghcr.io"),
        replace(HUB_ONLY, server="https://docker.io.cn"),
    ],
)
def test_what_needs_a_file(registry: Registry) -> None:
    """Mirrors, insecure, plain_http, or a server of its own."""
    assert named(registry) == [registry.name]


def test_what_needs_none() -> None:
    """An entry that only repeats what containerd does anyway."""
    assert named(PLAIN, HUB_ONLY, Registry("_default", "")) == []


def test_beside_default_every_entry_needs_a_file() -> None:
    """Or else `_default` would answer for a registry that has an entry of its own."""
    default = Registry("_default", "", (Mirror("https://m.cn"),))
    assert named(default, PLAIN) == ["_default", "ghcr.io"]
    assert asked(PLAIN) == [Asked("https", "ghcr.io", "/v2", ALL)]


MIRRORS = st.builds(
    Mirror,
    url=st.builds(
        "{}://{}{}".format,
        st.sampled_from(["http", "https"]),
        st.sampled_from(["m.cn", "r.lan:5000", "10.0.0.1"]),
        st.sampled_from(["", "/v2/hub"]),
    ),
    skip_verify=st.booleans(),
    ca=st.just(()) | st.just(("/ca.pem",)),
)
STATES = st.builds(
    Registry,
    name=st.sampled_from(["docker.io", "r.lan:5000", "_default", "localhost:5000"]),
    server=st.just(""),
    mirrors=st.lists(MIRRORS, min_size=1, max_size=4, unique_by=lambda each: each.url).map(tuple),
    fallback=st.booleans(),
    insecure=st.booleans(),
).map(
    lambda each: replace(
        each, server={"docker.io": HUB_ONLY.server, "_default": ""}.get(each.name, f"https://{each.name}")
    )
)


@given(STATES, st.just(NONE) | st.just(TRUST))
def test_the_endpoints_are_those_of_the_desired_state(registry: Registry, trust: Trust) -> None:
    """For any registry: the mirrors in order, then the registry itself unless fallback is off; no TLS words on http."""
    found = asked(registry, trust)
    wanted = [url.partition("://") for url in urls_in_order(registry)]
    shown = [(each.scheme, each.host + each.path.removesuffix("/v2")) for each in found]
    last = [("https", "_default")] if registry.name == "_default" and registry.fallback else []
    assert shown == [(scheme, rest.removesuffix("/v2")) for scheme, _, rest in wanted] + last
    assert all(each.skip_verify is None and not each.ca and not each.client for each in found if each.scheme == "http")
