"""hosts.toml as text: what every containerd from 1.5 on reads alike, and what is recognised as ours."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import ClientPair, Header
from agent.render import HEADER_START, Endpoint, HostsToml, Memo, header_line, hosts_toml, is_debris, is_ours
from tests.containerd_reader import DIALECTS, Asked, read

SOURCE = "/etc/mirror-agent.yaml"

PATHS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).map(lambda text: f"/{text}")
URLS = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["a.example.cn", "10.0.0.1", "[2001:db8::1]", "xn--fiqs8s.cn"]),
    st.sampled_from(["", ":5000"]),
    st.sampled_from(["", "/v2/hub", "/proxy"]),
)
ENDPOINTS = st.builds(
    Endpoint,
    url=URLS,
    capabilities=st.lists(st.sampled_from(["pull", "resolve", "push"]), min_size=1, unique=True).map(tuple),
    skip_verify=st.booleans(),
    ca=st.lists(PATHS, max_size=2).map(tuple),
    client=st.lists(st.builds(ClientPair, PATHS, st.just("") | PATHS), max_size=2).map(tuple),
    override_path=st.booleans(),
    dial_timeout=st.sampled_from(["3s", "1m30s"]),
    headers=st.lists(
        st.builds(
            Header,
            st.sampled_from(["X-Node", "X.Dotted", "Authorization", "!#$%&'*+-.^_`|~"]),
            st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126)), min_size=1, max_size=2).map(tuple),
        ),
        unique_by=lambda header: header.name,
        max_size=3,
    ).map(tuple),
)


def asked(endpoint: Endpoint) -> Asked:
    """What containerd must make of an endpoint."""
    scheme, _, rest = endpoint.url.partition("://")
    host, slash, path = rest.partition("/")
    return Asked(
        scheme=scheme,
        host=host,
        path=slash + path + ("" if endpoint.override_path else "/v2"),
        capabilities=frozenset(endpoint.capabilities),
        skip_verify=True if endpoint.skip_verify else None,
        ca=endpoint.ca,
        client=tuple((pair.cert, pair.key or pair.cert) for pair in endpoint.client),
        header=tuple(sorted((header.name, header.values) for header in endpoint.headers)),
        dial_timeout=endpoint.dial_timeout,
    )


@pytest.mark.parametrize("dialect", DIALECTS)
@given(server=ENDPOINTS, hosts=st.lists(ENDPOINTS, max_size=4, unique_by=lambda endpoint: endpoint.url))
def test_containerd_reads_what_was_meant(dialect: str, server: Endpoint, hosts: list[Endpoint]) -> None:
    """Whatever the endpoints hold, both dialects ask exactly them, in their order, with their options."""
    content = hosts_toml(HostsToml(server, tuple(hosts)), SOURCE)
    assert read(content, "docker.io", dialect) == [asked(endpoint) for endpoint in (*hosts, server)]


@given(server=ENDPOINTS, hosts=st.lists(ENDPOINTS, max_size=3, unique_by=lambda endpoint: endpoint.url))
def test_the_text_is_plain(server: Endpoint, hosts: list[Endpoint]) -> None:
    """The header is the first line, lines end in LF only, there is no BOM, and the file ends with one."""
    text = hosts_toml(HostsToml(server, tuple(hosts)), SOURCE)
    assert text.startswith(f"{header_line(SOURCE)}\n\nserver = ".encode())
    assert (b"\r" in text, text.endswith(b"\n"), text.endswith(b"\n\n")) == (False, True, False)


def test_without_hosts_there_is_still_a_host_table() -> None:
    """A file without `[host]` is an error for containerd up to 1.7.31."""
    assert hosts_toml(HostsToml(Endpoint("https://ghcr.io", skip_verify=True)), SOURCE).decode() == (
        f'{header_line(SOURCE)}\n\nserver = "https://ghcr.io"\nskip_verify = true\n\n[host]\n'
    )


def test_a_server_left_out_is_left_out() -> None:
    """With an empty URL there is no `server` key, so that containerd asks each registry itself."""
    assert tomllib.loads(hosts_toml(HostsToml(Endpoint("")), SOURCE).decode()) == {"host": {}}


def test_the_same_host_twice_is_refused() -> None:
    """containerd ignores a file that names a host twice."""
    with pytest.raises(ValueError, match="same URL"):
        hosts_toml(HostsToml(Endpoint(""), (Endpoint("https://a"), Endpoint("https://a"))), SOURCE)


def test_headers_of_one_name_are_one_key() -> None:
    """Two values of one header become one list, since a key cannot stand twice."""
    endpoint = Endpoint("https://a", headers=(Header("X-A", ("1",)), Header("X-A", ("2",))))
    document = tomllib.loads(hosts_toml(HostsToml(Endpoint(""), (endpoint,)), SOURCE).decode())
    assert document["host"]["https://a"]["header"] == {"X-A": ["1", "2"]}


@given(st.text(st.characters(exclude_categories=[])))
def test_the_header_is_one_line_of_ascii(source: str) -> None:
    """A path with line feeds, other letters or undecodable bytes cannot break out of the comment."""
    line = header_line(source)
    assert line.isascii()
    assert line.isprintable()
    assert is_ours(line.encode())


def test_what_is_ours() -> None:
    """Only the header makes a file ours; a beginning of it is debris, and so is an empty file."""
    contents = [b"", b"# Managed", HEADER_START.encode(), b"# Managed by somebody", b"server = 'x'\n"]
    assert [(is_ours(content), is_debris(content)) for content in contents] == [
        (False, True),
        (False, True),
        (True, False),
        (False, False),
        (False, False),
    ]


def test_secrets_stay_out_of_the_representation() -> None:
    """A header's value does not show where an endpoint is printed."""
    assert "s3cret" not in repr(Endpoint("https://a", headers=(Header("Authorization", ("s3cret",)),)))


def test_the_memo_makes_only_what_the_last_round_had_not() -> None:
    """A key of the last round is not made again; one that was left out for a round is."""
    made: list[str] = []
    memo = Memo[str, str](lambda key: made.append(key) or key.upper())  # type: ignore[func-returns-value]
    rounds = [memo.round(keys) for keys in (["a", "b"], ["b", "c", "b"], ["a"])]
    assert (rounds, made) == ([("A", "B"), ("B", "C", "B"), ("A",)], ["a", "b", "c", "a"])
