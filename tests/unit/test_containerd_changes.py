"""What is said about a file that is not what it must be: what differs, and nothing secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Header
from agent.render import Endpoint, HostsToml, hosts_toml
from agent.runtimes._hosts_changes import describe_change

SOURCE = "/etc/mirror-agent.yaml"


def ours(*urls: str, server: str = "https://ghcr.io", **options: object) -> bytes:
    """A file of ours with these mirrors, all with the same options."""
    hosts = tuple(Endpoint(url, ("pull", "resolve"), **options) for url in urls)  # type: ignore[arg-type]
    return hosts_toml(HostsToml(Endpoint(server), hosts), SOURCE)


A, B = "https://a.cn", "https://b.cn"
SECRET = Header("Authorization", ("Basic s3cret",))
OTHER_SECRET = Header("Authorization", ("Basic 0ther",))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (ours(A), ours(A, B), "mirrors of ghcr.io: + https://b.cn"),
        (ours(A, B), ours(B), "mirrors of ghcr.io: − https://a.cn"),
        (ours(A), ours(B), "mirrors of ghcr.io: + https://b.cn, − https://a.cn"),
        (ours(A, B), ours(B, A), "mirrors of ghcr.io: another order"),
        (ours(A), ours(A, server="http://ghcr.io"), "server of ghcr.io: https://ghcr.io → http://ghcr.io"),
        (ours(A, server=""), ours(A), "server of ghcr.io: none → https://ghcr.io"),
        (ours(A), ours(A, skip_verify=True, ca=("/x",)), "https://a.cn for ghcr.io: skip_verify, ca changed"),
        (ours(A, headers=(SECRET,)), ours(A, headers=(OTHER_SECRET,)), "https://a.cn for ghcr.io: header changed"),
        (ours(A) + b"# note\n", ours(A), "ghcr.io: the text of the file was changed, not what it means"),
        (ours(A).replace(b"/etc/", b"/old/"), ours(A), "ghcr.io: the first line says what is true now"),
        (ours(A)[:-3], ours(A), "ghcr.io: the file was damaged"),
        (b"", ours(A), "ghcr.io: the file was damaged"),
        (b"# Managed", ours(A), "ghcr.io: the file was damaged"),
        (b"\xff\xfe", ours(A), "ghcr.io: the file was replaced"),
        (b"server = 'https://x.cn'\n", ours(), "ghcr.io: somebody replaced the file; server of ghcr.io: https://x.cn → https://ghcr.io"),
        (ours(A).partition(b"\n")[2], ours(A), "ghcr.io: somebody replaced the file"),
        (ours() + b"skip_verify = true\n", ours(), "mirrors of ghcr.io: − another URL"),
    ],
)  # fmt: skip
def test_what_differs(before: bytes, after: bytes, said: str) -> None:
    """The sentence names mirrors gained and lost, another order, another server, and options by name."""
    assert describe_change("ghcr.io", before, after) == said


def test_root_options_are_the_registrys_own() -> None:
    """What stands at the root belongs to the registry itself."""
    before = hosts_toml(HostsToml(Endpoint("https://r.lan", skip_verify=True)), SOURCE)
    after = hosts_toml(HostsToml(Endpoint("https://r.lan", ca=("/x",))), SOURCE)
    assert describe_change("r.lan", before, after) == "r.lan itself: ca, skip_verify changed"


@pytest.mark.parametrize(
    "url", ["https://user:s3cret@a.cn", "https://a.cn/?token=s3cret", "s3cret", "https://a.cn/\ns3cret"]
)
def test_urls_of_others_are_not_repeated(url: str) -> None:
    """A URL that somebody else wrote may hold a password or a line feed."""
    said = describe_change("ghcr.io", f"[host.{_quoted(url)}]\n".encode(), ours(A, server=""))
    assert said == "ghcr.io: somebody replaced the file; mirrors of ghcr.io: + https://a.cn, − another URL"


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_content_is_described_in_one_line(content: bytes) -> None:
    """Whatever stands there, the sentence is one printable line."""
    assert describe_change("ghcr.io", content, ours(A)).isprintable()


@given(
    st.recursive(
        st.integers() | st.text(max_size=5).map(lambda text: text.replace("\\", "")),
        lambda inner: st.lists(inner, max_size=2),
        max_leaves=4,
    ),
    st.sampled_from(["host", "server", "ca", "strange key\x07"]),
)
def test_values_of_any_type_are_described(value: object, key: str) -> None:
    """A file of others need not have tables where containerd wants them."""
    content = f"{_quoted(key)} = {_toml(value)}\n".encode()
    assert describe_change("ghcr.io", content, ours(A)).isprintable()


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return str(value) if isinstance(value, int) else _quoted(str(value))


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(letter):08x}" for letter in text if not "\ud800" <= letter <= "\udfff") + '"'
