"""Warnings about valid states: what will not work, works only for some, has no effect, or is a risk (A20)."""

from pathlib import Path

import pytest

from agent.desired import lint
from agent.desired.lint_mirrors import is_private
from agent.desired.lint_places import METRICS, WRITABLE
from agent.errors import DesiredStateError
from tests.states import warned


def about(text: str) -> list[str]:
    """The warnings without their places."""
    return [line.partition(": ")[2] for line in warned("version: 1\n" + text)]


def of_mirror(name: str, fields: str) -> list[str]:
    return about(f"registries: {{{name}: {{mirrors: [{fields}]}}}}\n")


def test_nothing_to_say_about_a_good_state() -> None:
    """The preset, private registries and good mirrors of one's own are no reason to warn."""
    assert about("presets: [daocloud]\n") == []
    assert (
        about(
            "registries:\n"
            "  docker.io: {mirrors: [https://docker.m.daocloud.io, https://docker.1ms.run, https://mine.example]}\n"
            "  ghcr.io: {mirrors: [https://ghcr.m.daocloud.io, http://10.0.0.5:5000, http://cache.lan]}\n"
            "  k8s.gcr.io: {mirrors: [{url: https://harbor.example/v2/k8s, override_path: true}]}\n"
            "  harbor.lan: {insecure: true}\n"
            "  registry.lan:5000: {plain_http: true}\n"
            "docker: {manage: false}\n"
        )
        == []
    )


def test_an_invalid_state_is_an_error_here_too() -> None:
    """There is nothing to warn about where nothing is valid."""
    with pytest.raises(DesiredStateError):
        lint(b"version: 2\n", "x")


def test_warnings_have_places() -> None:
    """A warning points at the very word, and names the path as an operator writes it."""
    assert warned(
        "version: 1\nregistries:\n  docker.io:\n    mirrors:\n      - https://docker.nju.edu.cn\n"
        "      - url: https://hub-mirror.c.163.com\n"
    ) == [
        "5:9: registries.docker.io.mirrors[0]: docker.nju.edu.cn is dead since 2024-06-07 "
        "(https://github.com/RubyMetric/chsrc src/recipe/ware/Docker/README.md): remove it",
        "6:14: registries.docker.io.mirrors[1].url: hub-mirror.c.163.com is dead since 2024-06-13 "
        "(https://github.com/RubyMetric/chsrc/issues/35): remove it",
    ]


@pytest.mark.parametrize(
    ("name", "url", "part"),
    [
        (
            "docker.io",
            "https://uw9bnv9c.mirror.aliyuncs.com",
            "is restricted since 2024-07-02: only from Alibaba Cloud",
        ),
        ("docker.io", "https://mirror.ccs.tencentyun.com", "is restricted since 2025-03-05: only from Tencent Cloud"),
        ("docker.io", "https://abc.mirror.swr.myhuaweicloud.com", "only for users of Huawei Cloud"),
        (
            "docker.io",
            "https://docker.mirrors.ustc.edu.cn",
            "is dead since 2024-06-06: 403 off campus since 2022-08-24",
        ),
        ("docker.io", "https://dockerhub.azk8s.cn", "is dead since 2020-04-03"),
        ("gcr.io", "https://gcr.azk8s.cn", "is dead since 2020-04-03"),
        ("docker.io", "https://registry.docker-cn.com", "is dead since 2019-05: timing out by May 2019"),
        ("docker.io", "http://hub-mirror.c.163.com", "is dead since 2024-06-13"),
        ("cr.l5d.io", "https://l5d.m.daocloud.io", "is retired since 2024-09-04: taken out of the table"),
        (
            "registry.ollama.ai",
            "https://ollama.m.daocloud.io",
            "is experimental since 2025-02-12: serves models to ollama",
        ),
        ("k8s.gcr.io", "https://k8s-gcr.m.daocloud.io", "is frozen since 2023-04"),
        (
            "docker.io",
            "https://ghcr.m.daocloud.io",
            "mirrors ghcr.io, not docker.io: write https://docker.m.daocloud.io",
        ),
        ("quay.io", "https://docker.m.daocloud.io", "mirrors docker.io, not quay.io: write https://quay.m.daocloud.io"),
        ("a.example", "https://docker.m.daocloud.io", "mirrors docker.io, not a.example"),
        ("_default", "https://k8s.m.daocloud.io", "one _default cannot serve every registry with it"),
        ("ghcr.io", "https://m.daocloud.io", "wants the registry in front of the image's name"),
        ("ghcr.io", "https://m.daocloud.io/v2/ghcr.io", "write https://ghcr.m.daocloud.io"),
    ],
)
def test_what_the_catalogue_knows(name: str, url: str, part: str) -> None:
    """Dead, restricted, retired and misplaced mirrors are named with date and reason."""
    assert any(part in line for line in of_mirror(name, url))


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("ghcr.io", "https://GHCR.io/", "[0]: is the registry itself, which is asked last anyway: remove it"),
        (
            "docker.io",
            "https://registry-1.docker.io",
            "[0]: is the registry itself, which is asked last anyway: remove it",
        ),
        ("docker.io", "https://index.docker.io", "[0]: is the registry itself, which is asked last anyway: remove it"),
        (
            "ghcr.io",
            "http://m.example.com",
            "[0]: is http over a public network: whoever is on the way can replace images; write https:// if it can",
        ),
        (
            "ghcr.io",
            "{url: https://m.example, skip_verify: true}",
            "[0].skip_verify: whoever is on the way can pretend to be this mirror: name its CA with ca instead",
        ),
        (
            "ghcr.io",
            "{url: https://m.example, capabilities: [pull]}",
            "[0].capabilities: containerd skips a mirror without resolve for tags: "
            "say [pull, resolve], unless you pull by digest",
        ),
        (
            "ghcr.io",
            "{url: https://m.example, capabilities: [resolve]}",
            "[0].capabilities: containerd asks a mirror for tags only with pull and resolve together: "
            "say [pull, resolve]",
        ),
        (
            "ghcr.io",
            "{url: https://m.example, capabilities: [pull, resolve, push]}",
            "[0].capabilities: containerd pushes to the first host that has push: images would go to this mirror",
        ),
        (
            "ghcr.io",
            "{url: https://m.example, header: {Authorization: x}}",
            "[0].header.Authorization: may be a secret, and this file is not the place for it: use header_file",
        ),
        (
            "ghcr.io",
            "{url: https://m.example, header: {X-Api-Key: x}}",
            "[0].header.X-Api-Key: may be a secret, and this file is not the place for it: use header_file",
        ),
        (
            "ghcr.io",
            "https://harbor.example/v2/proxy",
            "[0]: containerd asks /v2/proxy/v2 there: for a path below /v2 say override_path: true",
        ),
    ],
)
def test_risks_and_mistakes_of_a_mirror(name: str, fields: str, expected: str) -> None:
    """Each is one warning at the word that is meant."""
    assert of_mirror(name, fields) == [f"registries.{name}.mirrors{expected}"]


NOT_HUB = "Docker before 28, and later without the containerd image store, mirrors only docker.io; it asks "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "registries: {index.docker.io: {}}",
            "registries.index.docker.io: containerd and Docker call it docker.io, this entry is never used: "
            "name docker.io",
        ),
        (
            "registries: {registry-1.docker.io: {}}",
            "registries.registry-1.docker.io: images of Docker Hub are called docker.io/…, "
            "this entry serves only names that say so: name docker.io",
        ),
        (
            "registries: {ghcr.io:443: {}}",
            "registries.ghcr.io:443: serves only image names that say :443; without the port it is another registry",
        ),
        (
            "registries: {docker.io: {insecure: true}}",
            "registries.docker.io.insecure: Docker never skips verification for Docker Hub, "
            "and containerd should not: remove it",
        ),
        (
            "registries: {quay.io: {insecure: true}}",
            "registries.quay.io.insecure: quay.io is public: whoever is on the way can replace its images; remove it",
        ),
        (
            "registries: {a.example: {server: http://a.example}}",
            "registries.a.example.server: is http: say plain_http: true instead, so that Docker knows it too",
        ),
        (
            "registries: {_default: {mirrors: [https://m.example]}}",
            "registries._default: serves registries without an entry of their own in containerd 1.6.17, 1.7.0 and "
            "later, and in Docker 28 and later with the containerd image store; older ones do not know it",
        ),
        (
            "containerd: {manage: false, certs_dir: /x}",
            "containerd.certs_dir: has no effect: containerd.manage is false",
        ),
        ("docker: {manage: false, settings: {}}", "docker.settings: has no effect: docker.manage is false"),
        (
            "docker: {on_change: reload, restart_window: 02:00-05:00}",
            "docker.restart_window: has no effect: with on_change: reload Docker is never restarted",
        ),
        (
            "containerd: {manage: false}\ndocker: {manage: false}",
            "docker.manage: neither containerd nor Docker is managed: this file has no effect",
        ),
        (
            "docker: {}\nregistries: {ghcr.io: {mirrors: [https://m.example]}}",
            f"registries.ghcr.io: {NOT_HUB}ghcr.io directly",
        ),
        (
            "docker: {}\nregistries: {"
            + ", ".join(f"r{i}.example: {{mirrors: [https://m.example]}}" for i in range(5))
            + "}",
            f"registries.r0.example: {NOT_HUB}r0.example, r1.example, r2.example and 2 more directly",
        ),
        (
            "docker: {}\nregistries: {docker.io: {mirrors: [https://m.example], fallback: false}}",
            "registries.docker.io.fallback: Docker asks Docker Hub last whatever this says; containerd does not",
        ),
        (
            "docker: {}\nregistries: {docker.io: {mirrors: [https://m.example/p]}}",
            "registries.docker.io.mirrors[0]: Docker before 24.0.8 refuses a mirror with a path, "
            "and later ones do not agree on what it means",
        ),
        (
            "docker: {settings: {log_driver: x}}",
            'docker.settings.log_driver: "log_driver" is no key of daemon.json that is known here, '
            'did you mean "log-driver"?',
        ),
        (
            "docker: {settings: {zzzzz: x}}",
            'docker.settings.zzzzz: "zzzzz" is no key of daemon.json that is known here: '
            "Docker does not start with a key that it does not know",
        ),
        (
            "docker: {settings: {hosts: [a]}}",
            "docker.settings.hosts: Docker's packaged unit sets -H, and with hosts in daemon.json too "
            "Docker does not start",
        ),
    ],
)
def test_registries_and_runtimes(text: str, expected: str) -> None:
    """Each is one warning."""
    assert about(text + "\n") == [expected]


def test_a_preset_that_adds_nothing() -> None:
    """Every registry of the preset has an entry of its own: the preset is a word without effect."""
    names = (
        "docker.io registry.k8s.io k8s.gcr.io gcr.io ghcr.io quay.io mcr.microsoft.com nvcr.io docker.elastic.co dhi.io"
    )
    entries = ", ".join(f"{name}: {{}}" for name in names.split())
    assert about(f"presets: [daocloud]\nregistries: {{{entries}}}\n") == [
        "presets[0]: has no effect: every registry of this preset has an entry below"
    ]


@pytest.mark.parametrize(
    ("authority", "private"),
    [
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("10.1.2.3", True),
        ("192.168.0.1:80", True),
        ("[::1]:5000", True),
        ("[fd00::1]", True),
        ("mirror:5000", True),
        ("cache.lan", True),
        ("x.svc", True),
        ("8.8.8.8", False),
        ("m.example.com:5000", False),
        ("[2a00::1]:5000", False),
        ("local.example.com", False),
    ],
)
def test_private_networks(authority: str, private: bool) -> None:
    """By address or by name."""
    assert is_private(authority) is private


def test_what_the_unit_may_not_write() -> None:
    """A path outside of the unit's ReadWritePaths= needs a drop-in, and the warning says which line; the defaults and
    what lies below them need none."""
    advice = "may write only in /etc/containerd and /etc/docker: add ReadWritePaths={} by `systemctl edit mirror-agent`"
    moved = (
        "containerd: {config: /srv/c.toml, certs_dir: /etc/containerd/other.d}\ndocker: {daemon_json: /opt/d/d.json}\n"
    )
    assert about(moved) == [
        f"containerd.config: mirror-agent.service {advice.format('/srv')}",
        f"docker.daemon_json: mirror-agent.service {advice.format('/opt/d')}",
    ]


@pytest.mark.parametrize(
    ("directory", "sentences"),
    [
        ("/var/lib/prometheus/node-exporter", []),
        ("/var/lib/node_exporter/textfile_collector", []),
        (
            "/srv/metrics",
            [
                "may write metrics only in /var/lib/prometheus/node-exporter and /var/lib/node_exporter:"
                " add ReadWritePaths=/srv/metrics by `systemctl edit mirror-agent`"
            ],
        ),
    ],
)
def test_where_the_unit_may_write_metrics(directory: str, sentences: list[str]) -> None:
    """The directories of the distributions need nothing, another one needs the drop-in that is named."""
    expected = [f"metrics.directory: mirror-agent.service {sentence}" for sentence in sentences]
    assert about(f"metrics: {{directory: {directory}}}\n") == expected


def test_metrics_that_nobody_would_see() -> None:
    """The unit has a /tmp of its own."""
    said = "nobody else sees what mirror-agent.service writes in /tmp: use {} or {}".format(*METRICS)
    assert about("metrics: {directory: /tmp/metrics}\n") == [f"metrics.directory: {said}"]


def test_what_the_unit_cannot_see() -> None:
    """A certificate, key or header file in a home or a temporary directory is invisible to the unit, wherever named."""
    fields = (
        "{url: https://mine.example, ca: /home/a/ca.pem, client: [{cert: /root/c.pem, key: /etc/ssl/k.pem}], "
        "header_file: {X-A: /tmp/a, X-B: /etc/b}}"
    )
    said = "mirror-agent.service cannot see what is in {}: keep the file below /etc"
    place = "registries.harbor.lan.mirrors[0]"
    assert of_mirror("harbor.lan", fields) == [
        f"{place}.ca: {said.format('/home')}",
        f"{place}.client[0].cert: {said.format('/root')}",
        f"{place}.header_file.X-A: {said.format('/tmp')}",
    ]


def test_the_unit_says_what_the_warnings_say() -> None:
    """ReadWritePaths=, ProtectHome= and PrivateTmp= of the shipped unit are what the warnings are made from."""
    unit = (Path(__file__).parents[2] / "systemd/mirror-agent.service").read_text().splitlines()
    assert f"ReadWritePaths={' '.join(f'-{place}' for place in (*WRITABLE, *METRICS))}" in unit
    assert {"ProtectHome=yes", "PrivateTmp=yes"} <= set(unit)
