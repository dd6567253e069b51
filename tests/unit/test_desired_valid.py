"""What a valid desired state becomes."""

import hashlib

import pytest

from agent.desired import load
from agent.model import (
    ClientPair,
    ContainerdSettings,
    DesiredState,
    DockerSettings,
    Header,
    HeaderFile,
    Manage,
    Mirror,
    OnChange,
    Registry,
    RestartIf,
    RestartWindow,
    Setting,
)
from tests.states import DESIGN, mirror


def only_mirror(fields: str) -> Mirror:
    return load(mirror(fields).encode()).registries[0].mirrors[0]


def registry(name: str, fields: str) -> Registry:
    return load(f"version: 1\nregistries: {{{name!r}: {{{fields}}}}}".encode()).registries[0]


def test_the_example_of_the_design_means_what_it_says() -> None:
    """Every field of DESIGN 2.2 arrives in its place."""
    expected = DesiredState(
        generation=hashlib.sha256(DESIGN.encode()).hexdigest(),
        source="/x.yaml",
        registries=(
            Registry(
                "docker.io",
                "https://registry-1.docker.io",
                (
                    Mirror("https://uw9bnv9c.mirror.aliyuncs.com"),
                    Mirror(
                        "https://harbor.example.cn/v2/dockerhub-proxy",
                        override_path=True,
                        capabilities=("pull", "resolve"),
                        ca=("/etc/ssl/certs/harbor.pem",),
                        client=(ClientPair("/etc/ssl/node.pem", "/etc/ssl/node.key"),),
                        skip_verify=False,
                        headers=(Header("X-Node", ("a",)),),
                        dial_timeout="3s",
                    ),
                ),
            ),
            Registry("ghcr.io", "https://ghcr.io", (Mirror("https://ghcr.m.daocloud.io"),)),
            Registry("harbor-local.kubernets.cn", "https://harbor-local.kubernets.cn", insecure=True),
            Registry("registry.lan:5000", "http://registry.lan:5000", plain_http=True),
            Registry("_default", "", (Mirror("http://127.0.0.1:30020"),)),
        ),
        containerd=ContainerdSettings(),
        docker=DockerSettings(
            settings=(
                Setting("log-driver", '"json-file"'),
                Setting("log-opts", '{"max-size":"500m","max-file":"3"}'),
            ),
            restart_window=RestartWindow(120, 300),
        ),
    )
    assert load(DESIGN.encode(), "/x.yaml") == expected


def test_version_alone_is_enough() -> None:
    """The smallest desired state manages nothing."""
    data = b"version: 1\n"
    assert load(data) == DesiredState(hashlib.sha256(data).hexdigest(), "/etc/mirror-agent.yaml")


def test_the_generation_is_that_of_the_bytes() -> None:
    """Another comment is another generation, though everything else is equal."""
    assert load(b"version: 1\n").generation != load(b"version: 1 # x\n").generation


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfversion: 1\n",
        b"version: 1\r\n",
        b"---\nversion: 1\n...\n",
        b"version: 1",
        b"\n\n# \xe4\xb8\xad\xe6\x96\x87\nversion: 1",
        b'{"version": 1}',
        b'"version" : 1',
        b"? version\n: 1",
    ],
)
def test_other_spellings_of_the_same(data: bytes) -> None:
    """A byte order mark, line ends of Windows, JSON and other forms of YAML make no difference."""
    assert load(data).registries == ()


def test_presets_come_after_the_operators_entries_and_never_over_them() -> None:
    """A registry that the operator names keeps his words; the rest of the preset follows in its order."""
    state = load(b"version: 1\npresets: [daocloud]\nregistries:\n  GHCR.io: {mirrors: [https://mine.example]}\n")
    assert state.registries[0] == Registry("ghcr.io", "https://ghcr.io", (Mirror("https://mine.example"),))
    assert [(entry.name, entry.preset, entry.mirrors[0].url) for entry in state.registries[1:]] == [
        ("docker.io", "daocloud", "https://docker.m.daocloud.io"),
        ("registry.k8s.io", "daocloud", "https://k8s.m.daocloud.io"),
        ("k8s.gcr.io", "daocloud", "https://k8s-gcr.m.daocloud.io"),
        ("gcr.io", "daocloud", "https://gcr.m.daocloud.io"),
        ("quay.io", "daocloud", "https://quay.m.daocloud.io"),
        ("mcr.microsoft.com", "daocloud", "https://mcr.m.daocloud.io"),
        ("nvcr.io", "daocloud", "https://nvcr.m.daocloud.io"),
        ("docker.elastic.co", "daocloud", "https://elastic.m.daocloud.io"),
        ("dhi.io", "daocloud", "https://dhi.m.daocloud.io"),
    ]


def test_a_preset_knows_docker_hubs_endpoint() -> None:
    """Docker Hub's server is never docker.io, on which pulls fail."""
    assert load(b"version: 1\npresets: [daocloud]").registries[0].server == "https://registry-1.docker.io"


@pytest.mark.parametrize(
    ("name", "fields", "server"),
    [
        ("docker.io", "", "https://registry-1.docker.io"),
        ("ghcr.io", "", "https://ghcr.io"),
        ("Registry.LAN:5000", "", "https://registry.lan:5000"),
        ("registry.lan:5000", "plain_http: true", "http://registry.lan:5000"),
        ("registry.lan:5000", "plain_http: true, server: http://other.lan:80/", "http://other.lan"),
        ("quay.io", "server: HTTPS://Quay.IO.:443/", "https://quay.io"),
        ("_default", "mirrors: [https://m.example]", ""),
        ("[0:0:0::1]:5000", "", "https://[::1]:5000"),
    ],
)
def test_every_registry_has_a_server(name: str, fields: str, server: str) -> None:
    """Named or not, in one spelling; only _default has none."""
    assert registry(name, fields).server == server


def test_flags_of_a_registry() -> None:
    """fallback, insecure and plain_http arrive as they are."""
    assert registry("a.example", "mirrors: [https://m.example], fallback: false, insecure: true, plain_http: true") == (
        Registry(
            "a.example",
            "http://a.example",
            (Mirror("https://m.example"),),
            fallback=False,
            insecure=True,
            plain_http=True,
        )
    )


def test_an_entry_without_mirrors_is_an_entry() -> None:
    """`{}` names a registry that is asked directly, whatever _default or a preset says."""
    assert registry("ghcr.io", "") == Registry("ghcr.io", "https://ghcr.io")
    assert registry("ghcr.io", "mirrors: []") == Registry("ghcr.io", "https://ghcr.io")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("ca: [/a.pem, /b.pem]", Mirror("https://m.example", ca=("/a.pem", "/b.pem"))),
        ("ca: []", Mirror("https://m.example")),
        ("client: [{cert: /both.pem}]", Mirror("https://m.example", client=(ClientPair("/both.pem", ""),))),
        ("capabilities: [push, pull]", Mirror("https://m.example", capabilities=("pull", "push"))),
        ("capabilities: [resolve]", Mirror("https://m.example", capabilities=("resolve",))),
        ("header: {X-A: b}", Mirror("https://m.example", headers=(Header("X-A", ("b",)),))),
        ("header: {X-A: [b, c d]}", Mirror("https://m.example", headers=(Header("X-A", ("b", "c d")),))),
        (
            "header_file: {Authorization: /etc/secret}",
            Mirror("https://m.example", header_files=(HeaderFile("Authorization", "/etc/secret"),)),
        ),
        ("skip_verify: true", Mirror("https://m.example", skip_verify=True)),
        ("dial_timeout: 1m0.5s", Mirror("https://m.example", dial_timeout="1m0.5s")),
    ],
)
def test_words_of_a_mirror(fields: str, expected: Mirror) -> None:
    """Each arrives, capabilities in one order."""
    assert only_mirror(f"url: https://m.example, {fields}") == expected


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("containerd: {manage: true}", ContainerdSettings(manage=Manage.ALWAYS)),
        ("containerd: {manage: false, restart: never}", ContainerdSettings(manage=Manage.NEVER, may_restart=False)),
        ("containerd: {config: /a.toml, certs_dir: /b}", ContainerdSettings(config="/a.toml", certs_dir="/b")),
    ],
)
def test_containerd(section: str, expected: ContainerdSettings) -> None:
    """Its words arrive; `true` and `false` are booleans, not strings."""
    assert load(f"version: 1\n{section}".encode()).containerd == expected


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("docker: {manage: false}", DockerSettings(manage=Manage.NEVER)),
        (
            "docker: {on_change: reload, restart_if: live-restore}",
            DockerSettings(on_change=OnChange.RELOAD, restart_if=RestartIf.LIVE_RESTORE),
        ),
        (
            "docker: {on_change: restart, restart_if: idle}",
            DockerSettings(on_change=OnChange.RESTART, restart_if=RestartIf.IDLE),
        ),
        ("docker: {restart_window: 22:00-04:30}", DockerSettings(restart_window=RestartWindow(1320, 270))),
        ("docker: {daemon_json: /srv/daemon.json}", DockerSettings(daemon_json="/srv/daemon.json")),
    ],
)
def test_docker(section: str, expected: DockerSettings) -> None:
    """Its words arrive; a window may span midnight and needs no quotes in YAML 1.2."""
    assert load(f"version: 1\n{section}".encode()).docker == expected
