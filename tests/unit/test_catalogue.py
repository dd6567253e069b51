"""The catalogue: every claim has a date and a source, and what is gone is not written to nodes."""

import re
import tomllib
from datetime import date
from importlib.resources import files

import pytest

from agent import catalogue
from agent.catalogue import Access, CatalogueEntry, MirrorKind, MirrorState
from agent.desired.names import canonical_registry
from agent.desired.urls import canonical_url

ENTRIES = catalogue.mirrors()
NAMES = [entry.host for entry in ENTRIES]


def earliest(text: str) -> date:
    """The first day that an ISO 8601 day, month or year may mean."""
    parts = [int(part) for part in text.split("-")]
    return date(*[*parts, 1, 1][:3])


AS_OF = earliest(catalogue.as_of())


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_mirror_has_dates_and_a_source(entry: CatalogueEntry) -> None:
    """`since` and `checked` parse, follow each other, and are not after the day of the data."""
    assert re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", entry.since)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", entry.checked)
    assert date(2013, 1, 1) < earliest(entry.since) <= earliest(entry.checked) <= AS_OF
    assert entry.source.startswith("https://")


@pytest.mark.parametrize("preset", catalogue.presets(), ids=lambda preset: preset.name)
def test_every_preset_has_dates_and_a_source(preset: catalogue.Preset) -> None:
    """The table and each of its rows."""
    assert earliest(preset.checked) <= AS_OF
    assert preset.source.startswith("https://")
    assert preset.rows
    for row in preset.rows:
        assert earliest(row.since) <= earliest(preset.checked)
        assert row.expand is (row.state in {MirrorState.USABLE, MirrorState.FROZEN})


def test_the_data_are_not_from_the_future() -> None:
    """as_of is a day that has been."""
    assert date(2026, 1, 1) < AS_OF < date(2026, 11, 25)


def test_hosts_and_urls_are_canonical() -> None:
    """What the catalogue names can be compared with what a desired state names."""
    for entry in ENTRIES:
        assert canonical_url(f"https://{entry.host.removeprefix('*.')}") == f"https://{entry.host.removeprefix('*.')}"
        for registry, url in entry.serves:
            assert canonical_registry(registry) == registry
            if not entry.host.startswith("*."):
                assert canonical_url(url) == url
    for preset in catalogue.presets():
        for row in preset.rows:
            assert canonical_registry(row.registry) == row.registry
            assert canonical_url(row.mirror) == row.mirror


def test_no_host_is_listed_twice() -> None:
    """One host, one state."""
    assert len(set(NAMES)) == len(NAMES)


def test_the_table_of_daocloud() -> None:
    """The hosts of August 2026, and the three of the older table with what became of them."""
    preset = catalogue.preset("daocloud")
    assert preset is not None
    assert [
        (row.registry, row.mirror.removeprefix("https://"), row.state.value, row.expand) for row in preset.rows
    ] == [
        ("docker.io", "docker.m.daocloud.io", "usable", True),
        ("registry.k8s.io", "k8s.m.daocloud.io", "usable", True),
        ("k8s.gcr.io", "k8s-gcr.m.daocloud.io", "frozen", True),
        ("gcr.io", "gcr.m.daocloud.io", "usable", True),
        ("ghcr.io", "ghcr.m.daocloud.io", "usable", True),
        ("quay.io", "quay.m.daocloud.io", "usable", True),
        ("mcr.microsoft.com", "mcr.m.daocloud.io", "usable", True),
        ("nvcr.io", "nvcr.m.daocloud.io", "usable", True),
        ("docker.elastic.co", "elastic.m.daocloud.io", "usable", True),
        ("dhi.io", "dhi.m.daocloud.io", "usable", True),
        ("registry.ollama.ai", "ollama.m.daocloud.io", "experimental", False),
        ("registry.jujucharms.com", "jujucharms.m.daocloud.io", "retired", False),
        ("rocks.canonical.com", "rocks-canonical.m.daocloud.io", "retired", False),
        ("cr.l5d.io", "l5d.m.daocloud.io", "retired", False),
    ]
    assert {row.registry: row.since for row in preset.rows if row.state is MirrorState.RETIRED} == {
        "registry.jujucharms.com": "2024-08-15",
        "rocks.canonical.com": "2024-08-15",
        "cr.l5d.io": "2024-09-04",
    }


@pytest.mark.parametrize(
    ("asked", "host", "state"),
    [
        ("https://uw9bnv9c.mirror.aliyuncs.com", "*.mirror.aliyuncs.com", MirrorState.RESTRICTED),
        ("uw9bnv9c.mirror.aliyuncs.com", "*.mirror.aliyuncs.com", MirrorState.RESTRICTED),
        ("https://MIRROR.CCS.tencentyun.com", "mirror.ccs.tencentyun.com", MirrorState.RESTRICTED),
        ("https://x.mirror.swr.myhuaweicloud.com", "*.mirror.swr.myhuaweicloud.com", MirrorState.RESTRICTED),
        ("https://gcr.azk8s.cn/v2/google_containers", "*.azk8s.cn", MirrorState.DEAD),
        ("http://hub-mirror.c.163.com", "hub-mirror.c.163.com", MirrorState.DEAD),
        ("https://docker.m.daocloud.io", "docker.m.daocloud.io", MirrorState.USABLE),
        ("https://m.daocloud.io/v2/quay.io", "m.daocloud.io", MirrorState.USABLE),
        ("https://docker.m.daocloud.io:8443", "docker.m.daocloud.io", MirrorState.USABLE),
        ("https://cr.l5d.io", None, None),
        ("https://mirror.aliyuncs.com", None, None),
        ("https://evil-azk8s.cn", None, None),
        ("https://harbor.example", None, None),
        ("http://[::1]:5000", None, None),
        ("", None, None),
    ],
)
def test_finding_a_mirror(asked: str, host: str | None, state: MirrorState | None) -> None:
    """By URL or host, whatever port or path; a name below a wildcard, and not the wildcard's own name."""
    entry = catalogue.find(asked)
    assert (entry.host if entry else None, entry.state if entry else None) == (host, state)


@pytest.mark.parametrize(
    "host",
    [
        "registry.docker-cn.com",
        "dockerhub.azk8s.cn",
        "docker.mirrors.ustc.edu.cn",
        "docker.mirrors.sjtug.sjtu.edu.cn",
        "docker.nju.edu.cn",
        "hub-mirror.c.163.com",
        "mirror.baidubce.com",
        "dockerproxy.com",
        "dockerpull.com",
        "dockerpull.org",
        "atomhub.openatom.cn",
        "docker.1panel.dev",
        "docker.rainbond.cc",
        "dhub.kubesre.xyz",
        "hub.geekery.cn",
        "docker.fxxk.dedyn.io",
        "docker.unsee.tech",
        "registry.dockermirror.com",
        "docker.zhai.cm",
        "hub.littlediary.cn",
        "docker.mybacc.com",
        "aicarbon.xyz",
        "a.ussh.net",
        "lispy.org",
        "docker.xiaogenban1993.com",
        "docker.xpg666.xyz",
        "hub.rat.dev",
        "666860.xyz",
        "docker.aityp.com",
        "huecker.io",
    ],
)
def test_the_dead_are_known(host: str) -> None:
    """Each mirror that tutorials still name is known to be gone."""
    entry = catalogue.find(host)
    assert entry is not None
    assert entry.state is MirrorState.DEAD


def test_kinds_and_access() -> None:
    """What is special about a mirror can be read from its entry."""
    prefix = catalogue.find("m.daocloud.io")
    assert prefix is not None
    assert prefix.kind is MirrorKind.ADD_PREFIX
    assert dict(prefix.serves)["ghcr.io"] == "https://m.daocloud.io/v2/ghcr.io"
    hub = catalogue.find("docker.m.daocloud.io")
    assert hub is not None
    assert (hub.kind, hub.access, hub.serves) == (
        MirrorKind.PREFIX_REPLACE,
        Access.ALLOWLIST,
        (("docker.io", "https://docker.m.daocloud.io"),),
    )
    assert any("403" in rule for rule in hub.rules)


def test_unknown_presets_are_none() -> None:
    """There is no preset by any other name."""
    assert catalogue.preset("aliyun") is None
    assert [preset.name for preset in catalogue.presets()] == ["daocloud"]


def test_every_state_is_explained_in_the_data() -> None:
    """The head of the file says what each word means that it uses."""
    text = files("agent").joinpath("data/catalogue.toml").read_text("utf-8")
    head = text.partition("as_of")[0]
    data = tomllib.loads(text)
    rows = [*data["mirror"], *(row for preset in data["preset"] for row in preset["row"])]
    for word in {row["state"] for row in rows} | {row.get("access", "open") for row in rows}:
        assert word in head
