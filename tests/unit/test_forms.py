"""What a kept file looks like, told without a word of it that may be secret."""

import pytest

from agent.forms import form_of


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b'{"log-driver": "local"}', "Docker's daemon.json"),
        (b"{}", "Docker's daemon.json"),
        (b"version = 2\n", "containerd's config.toml"),
        (b"[plugins.cri.registry]\n", "containerd's config.toml"),
        (b'server = "https://user:secret@r.example:5000/v2"\n', "a hosts.toml for r.example:5000"),
        (b'server = "https://r.example"\n', "a hosts.toml for r.example"),
        (b'server = "secret"\n', "a hosts.toml"),
        (b'[host."https://m.example"]\n', "a hosts.toml"),
        (b"[]", ""),
        (b"[" * 100_000, ""),
        (b"a = " + b"[" * 100_000, ""),
        (b"x = 1\n", ""),
        (b"", ""),
        (b"\xff", ""),
        (b"-----BEGIN CERTIFICATE-----\n", ""),
    ],
)
def test_forms(content: bytes, form: str) -> None:
    """The three files that are ours to change, by their own keys; nothing of anything else."""
    assert form_of(content) == form
