"""`mirror-agent explain`: the hosts of an image, in order, with the request that each of them gets."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.catalogue import MirrorKind
from agent.cli import main
from agent.image import parse
from agent.model import ActiveState, DesiredState, Mirror, UnitState
from agent.route import ALL_CAPABILITIES, Step, manifest_url, names_of_mirrors, other_names, trap
from agent.runtimes.containerd import Containerd
from agent.runtimes.docker import Docker
from tests import trees
from tests.fakes import FakeHost

SHA = "sha256:" + "0" * 64
HUB = "https://registry-1.docker.io/v2/library/nginx/manifests/latest"
UP = UnitState(ActiveState.ACTIVE, loaded=True, sub_state="running", main_pid=7, invocation_id="i", started_at=1.0)
CONFIG = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
BOTH = {"usr/bin/containerd": "", "usr/bin/dockerd": "", "etc/containerd/config.toml": CONFIG}
FILES = BOTH | {
    "etc/containerd/certs.d/docker.io/hosts.toml": (
        'server = "https://registry-1.docker.io"\n'
        '[host."https://docker.m.daocloud.io"]\n'
        'capabilities = ["pull", "resolve"]\n'
        '[host."https://hub-mirror.c.163.com"]\n'
        'capabilities = ["pull"]\n'
        '[host."https://u:secret@h.example/v2/hub"]\n'
        "override_path = true\n"
    ),
    "etc/docker/daemon.json": '{"registry-mirrors": ["https://docker.m.daocloud.io/"]}\n',
}


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(files: dict[str, str], *words: str) -> tuple[int, str, str]:
        trees.lay(tmp_path, files)
        code = main(["--root", str(tmp_path), "explain", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_hosts_of_a_tag(call: Callable[..., tuple[int, str, str]]) -> None:
    """Each request as it is sent, what passes a host over, what is known against it; no password."""
    code, out, _ = call(FILES, "nginx")
    assert code == 0
    assert out.splitlines() == [
        "docker.io/library/nginx:latest",
        "containerd  /etc/containerd/certs.d/docker.io/hosts.toml",
        "  1  https://docker.m.daocloud.io/v2/library/nginx/manifests/latest?ns=docker.io  pull, resolve",
        "  2  https://hub-mirror.c.163.com/v2/library/nginx/manifests/latest?ns=docker.io  pull",
        "     passed over for a tag, which needs pull and resolve; still asked for what the tag leads to",
        "     dead since 2024-06-13 (https://github.com/RubyMetric/chsrc/issues/35)",
        "  3  https://***@h.example/v2/hub/library/nginx/manifests/latest?ns=docker.io     pull, resolve, push",
        f"  4  {HUB}               pull, resolve, push",
        "Docker      /etc/docker/daemon.json",
        "  1  https://docker.m.daocloud.io/v2/library/nginx/manifests/latest  pull, resolve",
        f"  2  {HUB}  pull, resolve, push",
        "     Docker was not asked: this is what its file says",
    ]


def test_a_digest_is_asked_of_a_mirror_that_only_pulls(call: Callable[..., tuple[int, str, str]]) -> None:
    """By digest nothing has to be resolved."""
    document = json.loads(call(FILES, f"nginx@{SHA}", "--json")[1])
    steps = document["runtimes"][0]["steps"]
    assert [step["is_asked"] for step in steps] == [True] * 4
    assert steps[1]["url"] == f"https://hub-mirror.c.163.com/v2/library/nginx/manifests/{SHA}?ns=docker.io"


def test_where_docker_cannot_mirror(call: Callable[..., tuple[int, str, str]]) -> None:
    """The names to pull instead, with the trap of an added prefix for this very image; own mirrors first."""
    own = "version: 1\nregistries:\n  registry.k8s.io: {mirrors: [https://k.example]}\n"
    code, out, _ = call(BOTH | {"etc/mirror-agent.yaml": own}, "registry.k8s.io/pause:3.9")
    assert code == 0
    assert out.splitlines()[4:] == [
        "  1  https://registry.k8s.io/v2/pause/manifests/3.9  pull, resolve, push",
        "     Docker cannot mirror registry.k8s.io: its mirrors are for Docker Hub alone",
        "Docker cannot mirror registry.k8s.io; names to pull instead:",
        "  k.example/pause:3.9                      another host; from the desired state",
        "  k8s.m.daocloud.io/pause:3.9              another host; DaoCloud",
        "  k8s.registry.cyou/pause:3.9              another host",
        "  m.daocloud.io/registry.k8s.io/pause:3.9  prefix added; DaoCloud, only what its allowlist names",
        "  An added prefix belongs into the name, not into a mirror's URL: its token server reads only the first of "
        "containerd's scopes, repository:pause:pull, and refuses this image.",
    ]


def test_what_names_no_image(call: Callable[..., tuple[int, str, str]]) -> None:
    """Exit 1 and one line."""
    assert call({}, "Nginx") == (
        1,
        "",
        'mirror-agent: "Nginx" names no image: the name of a repository has no capital letters\n',
    )


def test_a_runtime_that_is_not_there(call: Callable[..., tuple[int, str, str]]) -> None:
    """It is said, and nothing else of it."""
    out = call({}, "nginx")[1]
    assert out.splitlines()[1:] == ["containerd  not installed", "Docker      not installed"]


# --- containerd's directories ----------------------------------------------------------------------------------------

MIRROR = '[host."https://m.cn"]\ncapabilities = ["pull", "resolve"]\n'
CERTS = "/etc/containerd/certs.d"
NOT_YET = f"containerd does not look into {CERTS} yet:"


def containerd(image: str, files: dict[str, str], **units: UnitState) -> tuple[str, list[str], tuple[str, ...]]:
    """The file, the URLs and the remarks of containerd's way."""
    host = FakeHost(units={f"{name}.service": unit for name, unit in units.items()})
    host.put("/usr/bin/containerd", "")
    host.put("/etc/containerd/config.toml", CONFIG)
    for path, text in files.items():
        host.put(path, text)
    found = Containerd().route(host, DesiredState(""), parse(image))
    return found.file, [step.url for step in found.steps], found.remarks


def test_default_serves_registries_without_a_directory() -> None:
    """With the registry's name in the query; an own directory, even an empty one, hides it."""
    files = {f"{CERTS}/_default/hosts.toml": MIRROR}
    assert containerd("quay.io/a/b", files) == (
        f"{CERTS}/_default/hosts.toml",
        ["https://m.cn/v2/a/b/manifests/latest?ns=quay.io", "https://quay.io/v2/a/b/manifests/latest"],
        (),
    )
    assert containerd("quay.io/a/b", files | {f"{CERTS}/quay.io/x": ""}) == (
        "",
        ["https://quay.io/v2/a/b/manifests/latest"],
        (f"{CERTS}/quay.io has no hosts.toml: the registry itself is asked",),
    )


def test_a_port_in_either_spelling() -> None:
    """`host_port_` before `host:port`."""
    files = {f"{CERTS}/r.lan:5000/hosts.toml": MIRROR}
    assert containerd("r.lan:5000/a", files)[0] == f"{CERTS}/r.lan:5000/hosts.toml"
    files[f"{CERTS}/r.lan_5000_/hosts.toml"] = MIRROR
    assert containerd("r.lan:5000/a", files)[0] == f"{CERTS}/r.lan_5000_/hosts.toml"


def test_a_file_that_containerd_ignores() -> None:
    """The registry itself is asked, and the remark says why."""
    file, urls, remarks = containerd("quay.io/a/b", {f"{CERTS}/quay.io/hosts.toml": '[host."a"]\ncapabilities = ["x"]'})
    assert (file, urls) == ("", ["https://quay.io/v2/a/b/manifests/latest"])
    assert remarks == (f"{CERTS}/quay.io/hosts.toml is ignored: unknown capability x; the registry itself is asked",)


def test_what_breaks_every_pull() -> None:
    """A file where a directory belongs: nobody is asked."""
    assert containerd("quay.io/a/b", {f"{CERTS}/quay.io": ""}) == (
        f"{CERTS}/quay.io",
        [],
        (f"{CERTS}/quay.io is not a directory: every pull of quay.io fails until it is removed",),
    )


def test_a_containerd_that_does_not_read_the_directory() -> None:
    """Its built-in way, and what to do."""
    files = {f"{CERTS}/docker.io/hosts.toml": MIRROR}
    config = {"/etc/containerd/config.toml": "version = 2\n"}
    file, urls, remarks = containerd("nginx", files | config, containerd=UP)
    assert (file, urls) == ("", [HUB])
    assert remarks[0].startswith(f"{NOT_YET} config_path is not set")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("version = 2\n", "config_path is not set"),
        (f'disabled_plugins = ["cri"]\n{CONFIG}', "CRI is off in its configuration: only Docker uses this containerd"),
        ("version = ", "/etc/containerd/config.toml cannot be read as TOML"),
    ],
)
def test_a_containerd_that_cannot_be_asked_is_judged_by_its_configuration(config: str, why: str) -> None:
    """Not running, or below a root other than /: what its file says is what it will do."""
    files = {f"{CERTS}/docker.io/hosts.toml": MIRROR, "/etc/containerd/config.toml": config}
    file, urls, remarks = containerd("nginx", files)
    assert (file, urls) == ("", [HUB])
    assert remarks[0].startswith(f"{NOT_YET} {why}")


def test_the_tables_of_an_old_config_toml_hold_without_config_path() -> None:
    """The endpoints of the registry's own table, else of `*`, then the registry itself; the file is config.toml."""
    table = 'plugins."io.containerd.grpc.v1.cri".registry.mirrors'
    text = f'version = 2\n[{table}."docker.io"]\nendpoint = ["https://m.cn"]\n[{table}."*"]\nendpoint = ["http://a.cn/p"]\n'
    files = {"/etc/containerd/config.toml": text}
    file, urls, remarks = containerd("nginx", files, containerd=UP)
    assert (file, urls) == (
        "/etc/containerd/config.toml",
        ["https://m.cn/v2/library/nginx/manifests/latest?ns=docker.io", HUB],
    )
    assert remarks[0].startswith(f"{NOT_YET} config_path is not set")
    assert containerd("nginx", files)[:2] == (file, urls)
    assert containerd("quay.io/a/b", files, containerd=UP)[1] == [
        "http://a.cn/p/a/b/manifests/latest?ns=quay.io",
        "https://quay.io/v2/a/b/manifests/latest",
    ]


# --- Docker ----------------------------------------------------------------------------------------------------------

C8D = [["driver-type", "io.containerd.snapshotter.v1"]]
DOCKER_CERTS = "/etc/docker/certs.d"


def docker(image: str, version: str, mirrors: list[str], files: dict[str, str] | None = None) -> list[str]:
    """The file and the URLs of the way of a running Docker with the containerd image store."""
    answer = {"ServerVersion": version, "RegistryConfig": {"Mirrors": mirrors}, "DriverStatus": C8D}
    host = FakeHost(units={"docker.service": UP}, answers={("/run/docker.sock", "/info"): json.dumps(answer).encode()})
    for path, text in (files or {}).items():
        host.put(path, text)
    found = Docker().route(host, DesiredState(""), parse(image))
    return [found.file, *(step.url for step in found.steps)]


def test_hosts_toml_of_docker_28_wins() -> None:
    """With the containerd image store, for every registry; without hosts in it registry-mirrors hold for Docker Hub."""
    files = {f"{DOCKER_CERTS}/_default/hosts.toml": MIRROR}
    assert docker("ghcr.io/a/b", "28.5.2", [], files) == [
        f"{DOCKER_CERTS}/_default/hosts.toml",
        "https://m.cn/v2/a/b/manifests/latest?ns=ghcr.io",
        "https://ghcr.io/v2/a/b/manifests/latest",
    ]
    assert docker("nginx", "28.5.2", ["https://other.cn/"], files)[0] == f"{DOCKER_CERTS}/_default/hosts.toml"
    assert docker("nginx", "28.5.2", ["https://other.cn/"])[0] == "/etc/docker/daemon.json"
    assert docker("nginx", "26.1.5", ["https://other.cn/"], files)[0] == "/etc/docker/daemon.json"


def test_a_path_of_a_mirror_means_another_url_from_version_to_version() -> None:
    """The containerd image store of Docker 26 asks /v2/PATH, that of 28 PATH/v2."""
    assert docker("nginx", "26.1.5", ["https://m.cn/p/"])[1] == (
        "https://m.cn/v2/p/library/nginx/manifests/latest?ns=docker.io"
    )
    assert docker("nginx", "28.5.2", ["https://m.cn/p/"])[1] == (
        "https://m.cn/p/v2/library/nginx/manifests/latest?ns=docker.io"
    )


# --- names and traps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "first"),
    [
        ("registry.k8s.io/pause", "repository:pause:pull, and refuses"),
        ("registry.k8s.io/etcd", "repository:etcd:pull, and refuses"),
        ("registry.k8s.io/sig-storage/csi", "repository:registry.k8s.io/sig-storage/csi:pull"),
        ("nginx", "repository:docker.io/library/nginx:pull"),
        ("bitnami/redis", "repository:bitnami/redis:pull, and refuses"),
        ("nvcr.io/nvidia/cuda", "repository:nvcr.io/nvidia/cuda:pull"),
        ("quay.io/coreos/etcd", "repository:coreos/etcd:pull, and refuses"),
    ],
)
def test_the_trap_of_an_added_prefix_depends_on_the_image(image: str, first: str) -> None:
    """The scope that sorts first is the one that such a token server sees."""
    assert first in trap(parse(image))


def test_the_registry_is_named_to_everybody_but_itself() -> None:
    """`ns` goes to mirrors; docker.io and registry-1.docker.io are one."""
    image = parse("nginx")
    assert manifest_url("https://registry-1.docker.io/v2", image, ns=True) == HUB
    assert manifest_url("https://m.cn/v2", image, ns=True).endswith("?ns=docker.io")
    assert manifest_url("https://m.cn/v2", image, ns=False).endswith("/latest")


def test_names_of_own_mirrors() -> None:
    """A bare host, and a project below /v2; a path that is put before /v2 has no name."""
    mirrors = (
        Mirror("https://m.cn"),
        Mirror("https://h.cn/v2/hub", override_path=True),
        Mirror("https://h.cn/v2", override_path=True),
        Mirror("https://p.cn/proxy"),
    )
    names = [name.text for name in names_of_mirrors(parse("nginx:1"), mirrors)]
    assert names == ["m.cn/library/nginx:1", "h.cn/hub/library/nginx:1", "h.cn/library/nginx:1"]


def test_no_dead_mirror_is_recommended() -> None:
    """Only what lives; and a name with the prefix added comes last."""
    names = other_names(parse("nginx"))
    assert not [name for name in names if "163.com" in name.text or "*" in name.text]
    assert [name.kind for name in names[-1:]] == [MirrorKind.ADD_PREFIX]
    assert names[0].text == "docker.m.daocloud.io/library/nginx:latest"


def test_a_step_allows_everything_unless_it_is_said() -> None:
    """The registry itself is asked for everything."""
    assert Step("x").capabilities == ALL_CAPABILITIES
