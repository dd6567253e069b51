"""`mirror-agent import`: a node as it is becomes a desired state, and applying that changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import adopt, desired, runtimes
from agent.cli import main
from agent.desired.build import default_server
from agent.found import Found, FoundRegistry
from agent.model import ActiveState, DesiredState, Registry, Regular, Setting, UnitState
from agent.node import Places, RealHost
from agent.outcome import Outcome
from agent.render import Endpoint, HostsToml, hosts_toml
from agent.runtimes._certs_dir import Trust
from agent.runtimes._hosts_adopt import Origin
from agent.runtimes._hosts_adopt import adopt as adopt_hosts
from agent.runtimes._hosts_reading import means_the_same, read
from agent.runtimes._hosts_toml import Recipe, meaning
from agent.runtimes._hosts_toml import text as file_text
from agent.runtimes.containerd import Containerd
from agent.runtimes.docker import Docker
from tests import containerd_reader, trees
from tests.fakes import FakeHost
from tests.unit.test_converge import OURS, foreign_machines, machine, run
from tests.unit.test_hosts_reading import ENDPOINT

BOTH = {
    "usr/bin/containerd": "",
    "usr/bin/dockerd": "",
    "etc/ca.pem": "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n",
}


def imported(root: Path) -> str:
    """What the command prints for a root, without its head."""
    host = RealHost(Places(root=str(root)))
    founds: list[Found] = []
    known: dict[str, FoundRegistry] = {}
    for runtime in runtimes.discover():
        founds.append(runtime.find(host, DesiredState(""), tuple(known.values())))
        known |= {each.entry.name: each for each in founds[-1].registries if not each.is_silent}
    return adopt.text(founds, "/etc/mirror-agent.yaml")


HOSTS = ("m.cn", "registry.lan:5000", "quay.io", "mirror.lan:8443")
PLAIN_MIRROR = st.builds("http://{}".format, st.sampled_from(HOSTS))
MIRROR = st.fixed_dictionaries(
    {"url": st.builds("https://{}{}".format, st.sampled_from(HOSTS), st.sampled_from(["/v2", "/v2/hub"]))},
    optional={
        "override_path": st.booleans(),
        "capabilities": st.lists(st.sampled_from(["pull", "resolve", "push"]), min_size=1, unique=True),
        "ca": st.just("/etc/ca.pem"),
        "skip_verify": st.booleans(),
        "header": st.just({"X-Node": ["true"]}),
        "dial_timeout": st.sampled_from(["3s", "30s", "1m30s"]),
    },
)
REGISTRY = st.fixed_dictionaries(
    {},
    optional={
        "mirrors": st.lists(
            MIRROR | PLAIN_MIRROR, max_size=3, unique_by=lambda each: each if isinstance(each, str) else each["url"]
        ),
        "insecure": st.booleans(),
        "fallback": st.booleans(),
        "server": st.sampled_from(["https://own.example", "http://own.example:8080"]),
        "plain_http": st.booleans(),
    },
)


@st.composite
def rich_yaml(draw: st.DrawFn) -> str:
    """A desired state with every word that a file can hold; rules between words are kept."""
    registries = draw(st.dictionaries(st.sampled_from(trees.REGISTRIES), REGISTRY, max_size=4))
    for name, entry in registries.items():
        if name in {"_default", "docker.io"} or entry.get("server", "").startswith("https"):
            entry.pop("plain_http", None)
        if name == "_default":
            entry.pop("insecure", None)
            entry.pop("server", None)
        if not entry.get("mirrors"):
            entry.pop("fallback", None)
    manage = {name: {"manage": draw(st.booleans())} for name in ("containerd", "docker")}
    return json.dumps({"version": 1, "registries": registries, **manage})


@settings(max_examples=120, deadline=None)
@given(foreign_machines, trees.desired_yaml() | rich_yaml())
def test_what_we_have_written_is_imported_as_it_was_meant(files: dict[str, str], yaml: str) -> None:
    """On any node that a desired state was applied to: import it, apply that, and not one file is touched. A header is
    not shown, whose file is closed; what names it waits for the file that it is to be put into."""
    with machine(files | BOTH) as root:
        if run(root, yaml)[0].outcome not in {Outcome.CHANGED, Outcome.UNCHANGED}:
            return
        if not RealHost(Places(root=str(root))).ledger().entries:
            return  # nothing of ours: the next test
        before = trees.snapshot(root, without=OURS)
        text = imported(root)
        result, events = run(root, text)
        assert trees.snapshot(root, without=OURS) == before, text
        ends = {Outcome.UNCHANGED, Outcome.CONFLICT} if "is not shown" in text else {Outcome.UNCHANGED}
        assert result.tally.is_empty, [each.message for each in events]
        assert result.outcome in ends, [each.message for each in events]


@settings(max_examples=60, deadline=None)
@given(foreign_machines)
def test_a_node_of_somebody_else_keeps_its_meaning(files: dict[str, str]) -> None:
    """Whatever stands there loads, is applied without a failure, and a second import says the same."""
    with machine(files | BOTH) as root:
        first = desired.load(imported(root).encode())
        result, _ = run(root, imported(root))
        assert result.outcome in {Outcome.CHANGED, Outcome.UNCHANGED, Outcome.CONFLICT}
        assert desired.load(imported(root).encode()).registries == first.registries


# --- hosts.toml ------------------------------------------------------------------------------------------------------

DEFAULTS = {"skip_verify": False, "dial_timeout": "30s"}


def asked(content: bytes, registry: str) -> list[containerd_reader.Asked]:
    """What containerd does with a file, with its own defaults filled in, and nothing about TLS over http."""
    found = containerd_reader.read(content, registry, "2.x")
    full = [
        replace(each, skip_verify=bool(each.skip_verify), dial_timeout=each.dial_timeout or "30s") for each in found
    ]
    return [replace(each, skip_verify=False, ca=(), client=()) if each.scheme == "http" else each for each in full]


NAMES = st.sampled_from(["docker.io", "r.lan:5000", "ghcr.io", "_default"])
WITH_PATH = ENDPOINT.filter(lambda each: not each.override_path or "/" in each.url[8:])
OTHERS = WITH_PATH.map(lambda each: replace(each, url=each.url.replace("r.lan:5000", "other.lan")))


@settings(max_examples=200, deadline=None)
@given(NAMES, OTHERS | st.none(), st.lists(OTHERS, max_size=3, unique_by=lambda each: each.url))
def test_a_hosts_toml_means_the_same_afterwards(name: str, server: object, hosts: list[object]) -> None:
    """containerd asks the same hosts, in the same order, for the same, with the same trust and headers."""
    content = hosts_toml(HostsToml(server or replace(hosts_server(), url=""), tuple(hosts)), "/x")  # type: ignore[arg-type]
    if server is not None and any(each.url == server.url for each in hosts):  # type: ignore[attr-defined]
        return
    found = adopt_hosts(read(content, "/d").meaning, Origin(name, "/d/hosts.toml"))
    (registry,) = desired.load(adopt.text([Found("containerd", True, True, (found,))], "/x").encode()).registries
    again = file_text(Recipe("/x", registry))
    assert asked(again, name) == asked(content, name), (content.decode(), again.decode())
    if not found.remarks:
        wanted = meaning(Recipe("/x", registry))
        assert means_the_same(Regular(content, 0o644, 0, 0), "/d", wanted, default_server(name))


@settings(max_examples=300, deadline=None)
@given(NAMES, st.data())
def test_only_what_means_the_same_is_left_as_it_is(name: str, data: st.DataObject) -> None:
    """Whatever counts as said already makes containerd ask the same hosts in the same way."""
    few = st.lists(OTHERS, min_size=1, max_size=2, unique_by=lambda each: each.url)
    one = HostsToml(
        replace(hosts_server(), url=data.draw(st.sampled_from(["", "https://o.lan"]))), tuple(data.draw(few))
    )
    hosts = data.draw(st.permutations(one.hosts))
    if data.draw(st.booleans()):
        hosts = [replace(data.draw(OTHERS), url=hosts[0].url), *hosts[1:]]
    other = replace(one, hosts=tuple(hosts))
    content = hosts_toml(one, "/x")
    if means_the_same(Regular(content, 0o644, 0, 0), "/d", other, default_server(name)):
        assert asked(content, name) == asked(hosts_toml(other, "/x"), name)


def hosts_server() -> Endpoint:
    """A server about which nothing is said."""
    return read(b"[host]\n", "/d").meaning.server


def adopted(text: str, name: str = "r.lan", *, trust: Trust | None = None, closed: bool = False) -> FoundRegistry:
    origin = Origin(name, "/d/hosts.toml", trust or Trust(), is_closed=closed)
    return adopt_hosts(read(text.encode(), "/d").meaning, origin)


def printed(found: FoundRegistry) -> list[str]:
    """The lines of one entry."""
    lines = adopt.text([Found("containerd", True, True, (found,))], "/x").splitlines()
    return [line for line in lines[lines.index("registries:") + 1 :] if line]


def test_the_last_mirror_as_server_is_no_fallback() -> None:
    """What capabilities are named for is a mirror, wherever it stands."""
    text = 'server = "https://m.cn"\ncapabilities = ["pull", "resolve"]\ndial_timeout = "3s"\n[host]\n'
    assert printed(adopted(text)) == [
        "  # from /d/hosts.toml",
        "  r.lan:",
        "    mirrors:",
        "      - https://m.cn",
        "    fallback: false",
    ]


def test_words_for_the_registry_itself() -> None:
    """insecure, plain_http, a server elsewhere; a CA for the registry itself makes it a mirror that is asked last."""
    assert printed(adopted('server = "https://r.lan"\nskip_verify = true\n[host]\n'))[1:] == [
        "  r.lan: {insecure: true}"
    ]
    assert printed(adopted('server = "http://r.lan"\n[host]\n'))[1:] == ["  r.lan: {plain_http: true}"]
    assert printed(adopted('server = "https://else.lan"\n[host]\n'))[1:] == ["  r.lan: {server: https://else.lan}"]
    assert printed(adopted('server = "https://r.lan"\nca = "ca.pem"\n[host]\n'))[1:] == [
        "  r.lan:",
        "    mirrors:",
        "      - url: https://r.lan",
        "        capabilities: [pull, resolve, push]",
        "        ca: [/d/ca.pem]",
        "        dial_timeout: 30s",
        "    fallback: false",
    ]


def test_certificates_beside_the_file_are_not_repeated() -> None:
    """They come back by themselves."""
    found = adopted('server = "https://r.lan"\nca = ["/d/ca.crt"]\n[host]\n', trust=Trust(ca=("/d/ca.crt",)))
    assert found.entry == Registry("r.lan", "https://r.lan")


def test_dockers_web_page_is_not_taken_for_its_registry() -> None:
    """The right endpoint is written, and it is said."""
    found = adopted('server = "https://docker.io"\n[host]\n', "docker.io")
    assert found.entry == Registry("docker.io", "https://registry-1.docker.io")
    assert found.remarks[0].startswith("server https://docker.io answers with a web page")


@pytest.mark.parametrize("closed", [True, False])
def test_a_secret_header_is_not_printed(closed: bool) -> None:
    """A value that may be one becomes a header_file, with what to put into it; an open, harmless one is kept."""
    text = '[host."https://m.cn"]\n[host."https://m.cn".header]\nAuthorization = "Basic c2VjcmV0"\nX-Node = "7"\n'
    lines = printed(adopted(text, closed=closed))
    assert "c2VjcmV0" not in "".join(lines)
    path = "/etc/mirror-agent.secrets/r.lan-0-Authorization"
    assert f"the header Authorization may be a secret and is not shown: put its one line into {path}" in " ".join(
        line.strip(" #") for line in lines
    )
    assert ('        header: {X-Node: ["7"]}' in lines) is not closed


def test_what_cannot_be_said_is_said_in_a_comment() -> None:
    """A URL with a password, TLS words on http, and no password in the text."""
    text = '[host."https://u:secret@m.cn"]\n[host."http://p.cn"]\nskip_verify = true\n'
    found = adopted(text)
    assert found.remarks == (
        "https://***@m.cn is left out: it must not hold a user or password: send them with header_file",
        "http://p.cn: what it says about TLS is left out, which makes containerd try https first",
    )
    assert "secret" not in "".join(printed(found))


# --- the text --------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.builds(
            FoundRegistry,
            st.builds(Registry, st.text(max_size=12), st.text(max_size=12), insecure=st.booleans()),
            st.tuples(st.text(max_size=20)),
            st.tuples(st.text(max_size=60)),
            st.booleans(),
        ),
        max_size=4,
    ),
    st.lists(st.builds(Setting, st.text(max_size=8), st.text(max_size=8).map(json.dumps)), max_size=2),
    st.text(max_size=60),
    st.text(max_size=20) | st.just("/etc/x.json"),
)
def test_the_text_always_loads(found: list[FoundRegistry], keys: list[Setting], remark: str, path: str) -> None:
    """Whatever names, paths and values were found: what cannot stand is a comment."""
    paths = (("daemon_json", path),)
    part = Found("docker", True, None, tuple(found), paths, tuple({key.key: key for key in keys}.values()), (remark,))
    desired.load(adopt.text([part], "/x", [remark]).encode())


LEGACY = """\
version = 2
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
  endpoint = ["https://m.cn/", "https://h.cn/v2/hub", "https://registry-1.docker.io"]
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."r.lan:5000"]
  endpoint = ["http://r.lan:5000"]
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."*"]
  endpoint = ["https://all.cn"]
[plugins."io.containerd.grpc.v1.cri".registry.configs."m.cn".tls]
  ca_file = "/m.pem"
[plugins."io.containerd.grpc.v1.cri".registry.configs."harbor.lan".tls]
  insecure_skip_verify = true
[plugins."io.containerd.grpc.v1.cri".registry.configs."harbor.lan".auth]
  username = "u"
  password = "secret"
"""
LEGACY_IMPORTED = """\
version: 1
registries:

  # from /etc/containerd/config.toml
  docker.io:
    mirrors:
      - url: https://m.cn
        ca: [/m.pem]
        dial_timeout: 30s
      - url: https://h.cn/v2/hub
        override_path: true
        dial_timeout: 30s

  # from /etc/containerd/config.toml
  "r.lan:5000": {plain_http: true}

  # from /etc/containerd/config.toml
  _default:
    mirrors:
      - url: https://all.cn
        dial_timeout: 30s

  # from /etc/containerd/config.toml
  harbor.lan:
    mirrors:
      - url: https://all.cn
        dial_timeout: 30s
    insecure: true

  # from /etc/rancher/k3s/registries.yaml
  # rewrite of image names is left out: only k3s and RKE2 know it
  # not in use: k3s does not run kubelet here
  # quay.io:
  #   mirrors:
  #     - url: https://q.cn
  #       dial_timeout: 30s

# /etc/containerd/config.toml: the credentials for harbor.lan stay there; a desired state holds none
"""
RANCHER = 'mirrors:\n  quay.io:\n    endpoint: ["https://q.cn"]\n    rewrite: {"^": "x/"}\n'


def test_legacy_tables_and_registries_yaml(tmp_path: Path) -> None:
    """The rules of the migration: paths override, the own endpoint is the server, TLS by host, credentials stay."""
    trees.lay(
        tmp_path,
        {
            "usr/bin/containerd": "",
            "etc/containerd/config.toml": LEGACY,
            "etc/rancher/k3s/registries.yaml": RANCHER,
        },
    )
    assert imported(tmp_path).partition("\n# and see")[2].partition("\n")[2] == LEGACY_IMPORTED


@pytest.mark.parametrize("is_up", [True, False])
def test_a_file_that_the_running_containerd_does_not_read_is_a_comment(is_up: bool) -> None:
    """Without config_path it is not how this node pulls; of one that does not run nobody can tell."""
    unit = UnitState(ActiveState.ACTIVE if is_up else ActiveState.INACTIVE, loaded=True, main_pid=7 if is_up else 0)
    host = FakeHost(units={"containerd.service": replace(unit, sub_state="running" if is_up else "dead")})
    host.put("/etc/containerd/certs.d/docker.io/hosts.toml", '[host."https://m.cn"]\n')
    found = Containerd().find(host, DesiredState(""), ())
    assert [each.is_silent for each in found.registries] == [is_up]
    assert found.manage is (None if is_up else True)


# --- Docker ----------------------------------------------------------------------------------------------------------

UP = UnitState(ActiveState.ACTIVE, loaded=True, sub_state="running", main_pid=7, invocation_id="i", started_at=1.0)
DAEMON = {
    "registry-mirrors": ["https://m.cn/", "ftp://x"],
    "insecure-registries": ["10.0.0.0/8", "harbor.lan", "http://r.lan:5000"],
    "data-root": "/data",
}


def docker(known: tuple[FoundRegistry, ...] = (), arguments: tuple[str, ...] = ()) -> Found:
    host = FakeHost(units={"docker.service": UP}, processes={7: ("/usr/bin/dockerd", *arguments)})
    host.put("/etc/docker/daemon.json", json.dumps(DAEMON))
    return Docker().find(host, DesiredState(""), known)


def entries(found: Found) -> dict[str, tuple[tuple[str, ...], bool, bool]]:
    """For each registry its mirrors, whether it is insecure, whether it is only a comment."""
    return {
        each.entry.name: (tuple(mirror.url for mirror in each.entry.mirrors), each.entry.insecure, each.is_silent)
        for each in found.registries
    }


def test_a_node_with_docker_alone() -> None:
    """Mirrors and insecure registries are taken over; what cannot be is named."""
    found = docker()
    assert (found.manage, entries(found)) == (
        True,
        {
            "docker.io": (("https://m.cn",), False, False),
            "harbor.lan": ((), True, False),
            "r.lan:5000": ((), True, False),
        },
    )
    assert found.remarks == (
        "/etc/docker/daemon.json: registry-mirrors: ftp://x is left out: it must begin with https:// or http://, not "
        "ftp://",
        "/etc/docker/daemon.json: insecure-registries: 10.0.0.0/8 stays: it is no registry that an image can name",
        "/etc/docker/daemon.json: not managed: data-root; what is listed under docker.settings is",
    )


def known(yaml: str) -> tuple[FoundRegistry, ...]:
    state = desired.load(f"version: 1\nregistries: {yaml}\n".encode())
    return tuple(FoundRegistry(each, ("/x",)) for each in state.registries)


def test_docker_beside_a_containerd_that_says_the_same() -> None:
    """One entry serves both; what only Docker has stays a comment, or containerd would get it."""
    found = docker(known("{docker.io: {mirrors: [https://m.cn]}, harbor.lan: {insecure: true}}"))
    assert (found.manage, entries(found)) == (True, {"r.lan:5000": ((), True, True)})


def test_docker_beside_a_containerd_that_says_something_else() -> None:
    """It is left alone, and why."""
    found = docker(known("{docker.io: {mirrors: [https://other.cn]}}"))
    assert found.manage is None
    assert found.remarks[-1] == (
        "Docker is left alone, for it differs: registry-mirrors is https://m.cn, and would be https://other.cn"
    )


def test_what_a_flag_says_is_not_taken_over() -> None:
    """Docker would not start with the key in its file as well."""
    found = docker(arguments=("--registry-mirror=https://flag.cn", "--config-file", "/etc/other.json"))
    assert (found.manage, entries(found), found.paths) == (None, {}, (("daemon_json", "/etc/other.json"),))
    assert found.remarks[0].startswith("dockerd has --registry-mirror as a flag: Docker does not start with")


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_head_tells_what_applying_would_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on a node as we leave it; else each step with its reason. Exit 0, and nothing is touched."""
    yaml = "version: 1\nregistries:\n  docker.io: {mirrors: [https://m.example]}\n"
    trees.lay(tmp_path, BOTH | {"etc/docker/x": "", "etc/containerd/x": "", "run/x": "", "var/lib/x": ""})
    run(tmp_path, yaml)
    before = trees.snapshot(tmp_path)
    assert main(["--root", str(tmp_path), "import"]) == 0
    assert "\n# Applying it changes no file and restarts nothing.\nversion: 1\n" in capsys.readouterr().out
    assert trees.snapshot(tmp_path) == before
    (tmp_path / "etc/docker/daemon.json").write_text('{"registry-mirrors": ["https://m.example/", "ftp://x"]}')
    main(["--root", str(tmp_path), "import"])
    assert "\n# Applying it would change:\n# - docker: " in capsys.readouterr().out
