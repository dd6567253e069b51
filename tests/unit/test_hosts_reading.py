"""Any hosts.toml is read as containerd reads it: held against the model of its reader, on our own files and others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import ClientPair, Header
from agent.render import Endpoint, HostsToml, hosts_toml
from agent.runtimes._hosts_reading import CAPABILITIES, Reading, api_root, read
from tests import containerd_reader

ENDPOINT = st.builds(
    Endpoint,
    url=st.builds(
        "{}://{}{}".format,
        st.sampled_from(["http", "https"]),
        st.sampled_from(["m.cn", "r.lan:5000", "10.0.0.1"]),
        st.sampled_from(["", "/v2", "/v2/hub", "/proxy"]),
    ),
    capabilities=st.sampled_from([("pull",), ("pull", "resolve"), CAPABILITIES]),
    skip_verify=st.booleans(),
    ca=st.sampled_from([(), ("/a.pem",), ("/a.pem", "/b.pem")]),
    client=st.sampled_from([(), (ClientPair("/c.pem", "/c.key"), ClientPair("/both.pem", ""))]),
    override_path=st.booleans(),
    dial_timeout=st.sampled_from(["", "3s"]),
    headers=st.sampled_from([(), (Header("X-A", ("1", "2")),)]),
)
MEANINGS = st.builds(
    HostsToml,
    server=ENDPOINT,
    hosts=st.lists(ENDPOINT, max_size=3, unique_by=lambda each: each.url).map(tuple),
)


@given(MEANINGS)
def test_what_we_write_is_read_back(meaning: HostsToml) -> None:
    """Rendering and reading are inverse, and nothing in our files is remarkable."""
    assert read(hosts_toml(meaning, "/x"), "/certs.d/r") == Reading(meaning)


@given(MEANINGS)
def test_the_requests_go_where_containerd_sends_them(meaning: HostsToml) -> None:
    """The root of the API at each endpoint is that of the model, in the same order."""
    found = read(hosts_toml(meaning, "/x"), "/d").meaning
    asked = containerd_reader.read(hosts_toml(meaning, "/x"), "r", "2.x")
    roots = [f"{each.scheme}://{each.host}{each.path}" for each in asked]
    assert [api_root(each) for each in (*found.hosts, found.server)] == roots


@pytest.mark.parametrize(
    ("path", "override", "root"),
    [
        ("", False, "/v2"),
        ("/", False, "/v2"),
        ("/v2", False, "/v2"),
        ("/v2/", False, "/v2"),
        ("/proxy", False, "/proxy/v2"),
        ("/v2/proxy", False, "/v2/proxy/v2"),
        ("/v2/proxy", True, "/v2/proxy"),
        ("", True, ""),
    ],
)
def test_the_path_of_a_host(path: str, override: bool, root: str) -> None:
    """As measured on containerd 1.4 to 2.2."""
    assert api_root(Endpoint(f"https://h{path}", override_path=override)) == f"https://h{root}"


BY_HAND = b"""\
server = "r.lan"
ca = "ca.pem"
[host."m.cn"]
  capabilities = ["Pull", "RESOLVE"]
  client = ["both.pem"]
  skip-verify = true
[host."https://b.cn"]
  client = [["c.pem", ""], ["d.pem", "../d.key"]]
[host."m.cn".header]
  X-A = "1"
"""


def test_a_file_by_hand() -> None:
    """Relative names lie beside the file, https is implied, no capabilities are all of them, typos do nothing."""
    server = Endpoint("https://r.lan", ca=("/d/r/ca.pem",))
    first = Endpoint(
        "https://m.cn",
        ("pull", "resolve"),
        client=(ClientPair("/d/r/both.pem", ""),),
        headers=(Header("X-A", ("1",)),),
    )
    pairs = (ClientPair("/d/r/c.pem", ""), ClientPair("/d/r/d.pem", "/d/d.key"))
    second = Endpoint("https://b.cn", CAPABILITIES, client=pairs)
    assert read(BY_HAND, "/d/r") == Reading(
        HostsToml(server, (first, second)),
        (
            'host."m.cn".skip-verify is no key that containerd knows; it has no effect',
            "m.cn is named again behind another host: containerd 2.x asks it twice",
        ),
    )


def test_what_only_some_versions_read() -> None:
    """Inline tables, referrers, and a file without hosts."""
    text = b'[host]\n"https://a.cn" = {capabilities = ["pull", "referrers"]}\n'
    assert read(text, "/d").remarks == (
        'host."https://a.cn".capabilities names referrers: containerd up to 2.1 ignores the whole file',
        "https://a.cn has no [host] table of its own: containerd 2.x does not see it",
    )
    assert read(b"# nothing\n", "/d").remarks == ("there is no [host] table: containerd up to 1.7.31 ignores the file",)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"server =", "not valid TOML"),
        (b"# \xff", "a byte that is no UTF-8"),
        (b"server = 1", "server has a value of the wrong type"),
        (b'host = "x"', "host must be a table"),
        (b'[host."a"]\ncapabilities = ["pul"]', "unknown capability pul"),
        (b'[host."a"]\nskip_verify = "true"', "skip_verify has a value of the wrong type"),
        (b'[host."a"]\nca = 1', "ca must be a text"),
        (b'[host."a"]\nclient = [["a", "b", "c"]]', "client must be"),
        (b'[host."a".header]\nX = 1', "X must be a text"),
        (b'[host."a"]\nheader = 1', "header must be a table"),
    ],
)
def test_what_containerd_ignores(text: bytes, why: str) -> None:
    """The whole file has no effect, and the reason says why."""
    with pytest.raises(ValueError, match=r".*") as caught:
        read(text, "/d")
    assert why in str(caught.value)


def test_a_password_in_a_url_is_not_repeated() -> None:
    """Not even where a remark names the host."""
    assert "secret" not in str(read(b'[host."https://u:secret@h"]\nx = 1\n', "/d").remarks)


def test_nesting_that_no_parser_follows_is_no_toml() -> None:
    """It is told like any other mistake, and does not end the agent."""
    with pytest.raises(ValueError, match="is not valid TOML"):
        read(b"a = " + b"[" * 3000 + b"]" * 3000, "/d")
