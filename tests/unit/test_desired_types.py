"""Every field with every kind of YAML value: only what is meant passes; for the rest it is said what is right (A10)."""

import itertools

import pytest

from tests.states import said

# What a value is in YAML, and an example.
VALUES = {
    "null": "",
    "tilde": "~",
    "boolean": "true",
    "string boolean": '"true"',
    "on": "on",
    "zero": "0",
    "one": "1",
    "integer": "22",
    "odd integer": "0644",
    "hexadecimal": "0x1F",
    "float": "1.10",
    "infinity": ".inf",
    "nan": ".nan",
    "sexagesimal": "22:22",
    "date": "2026-11-24",
    "word": "word",
    "path": "/etc/x",
    "url": "https://m.example",
    "list": "[word]",
    "path list": "[/etc/x]",
    "empty list": "[]",
    "mapping": "{word.x: word}",
    "empty mapping": "{}",
    "list of lists": "[[word]]",
    "number list": "[1]",
    "null list": "[~]",
}
_MIRROR = "version: 1\nregistries: {{r.example: {{mirrors: [{{url: https://m.example, {}: {}}}]}}}}"
_REGISTRY = "version: 1\nregistries: {{r.example: {{mirrors: [https://m.example], {}: {}}}}}"
_SECTION = "version: 1\n{}: {}"

# The field, a text with a place for its value, and the values that are right.
FIELDS = {
    "version": ("{}: {}", {"one"}),
    "presets": (_SECTION, {"empty list"}),
    "registries": (_SECTION, {"empty mapping"}),
    "containerd": (_SECTION, {"empty mapping"}),
    "docker": (_SECTION, {"empty mapping"}),
    "health": (_SECTION, {"empty mapping"}),
    "metrics": (_SECTION, {"empty mapping"}),
    "mirrors": ("version: 1\nregistries: {{r.example: {{{}: {}}}}}", {"empty list"}),
    "server": (_REGISTRY, {"url"}),
    "fallback": (_REGISTRY, {"boolean"}),
    "insecure": (_REGISTRY, {"boolean"}),
    "plain_http": (_REGISTRY, {"boolean"}),
    "override_path": (
        "version: 1\nregistries: {{r.example: {{mirrors: [{{url: https://m.example/v2/p, {}: {}}}]}}}}",
        {"boolean"},
    ),
    "capabilities": (_MIRROR, set()),
    "ca": (_MIRROR, {"path", "path list", "empty list"}),
    "client": (_MIRROR, {"empty list"}),
    "cert": (
        "version: 1\nregistries: {{r.example: {{mirrors: [{{url: https://m.example, client: [{{{}: {}}}]}}]}}}}",
        {"path"},
    ),
    "skip_verify": (_MIRROR, {"boolean"}),
    "header": (_MIRROR, {"mapping", "empty mapping"}),
    "header_file": (_MIRROR, {"empty mapping"}),
    "dial_timeout": (_MIRROR, set()),
    "containerd.manage": ("version: 1\ncontainerd: {{manage: {1}}}", {"boolean"}),
    "containerd.config": ("version: 1\ncontainerd: {{config: {1}}}", {"path"}),
    "containerd.certs_dir": ("version: 1\ncontainerd: {{certs_dir: {1}}}", {"path"}),
    "containerd.restart": ("version: 1\ncontainerd: {{restart: {1}}}", set()),
    "docker.manage": ("version: 1\ndocker: {{manage: {1}}}", {"boolean"}),
    "docker.daemon_json": ("version: 1\ndocker: {{daemon_json: {1}}}", {"path"}),
    "docker.settings": ("version: 1\ndocker: {{settings: {1}}}", {"mapping", "empty mapping"}),
    "docker.on_change": ("version: 1\ndocker: {{on_change: {1}}}", set()),
    "docker.restart_if": ("version: 1\ndocker: {{restart_if: {1}}}", set()),
    "docker.restart_window": ("version: 1\ndocker: {{restart_window: {1}}}", set()),
    "health.enabled": ("version: 1\nhealth: {{enabled: {1}}}", {"boolean"}),
    "health.interval": ("version: 1\nhealth: {{interval: {1}}}", set()),
    "health.timeout": ("version: 1\nhealth: {{timeout: {1}}}", set()),
    "health.unhealthy_after": ("version: 1\nhealth: {{unhealthy_after: {1}}}", {"one", "integer"}),
    "health.healthy_after": ("version: 1\nhealth: {{healthy_after: {1}}}", {"one", "integer"}),
    "health.order": ("version: 1\nhealth: {{order: {1}}}", set()),
    "health.images": ("version: 1\nhealth: {{images: {1}}}", {"empty mapping", "mapping"}),
    "metrics.directory": ("version: 1\nmetrics: {{directory: {1}}}", {"path"}),
}


@pytest.mark.parametrize(("field", "value"), list(itertools.product(FIELDS, VALUES)))
def test_a_field_takes_only_its_own_type(field: str, value: str) -> None:
    """Right values pass; a wrong one is exactly one problem, at the field or below, that says what is right."""
    template, right = FIELDS[field]
    problems = said(template.format(field.rpartition(".")[2], VALUES[value]))
    if value in right:
        assert problems == []
    else:
        assert len(problems) == 1
        assert field.rpartition(".")[2] in problems[0]
        assert any(
            word in problems[0]
            for word in (
                "must",
                "write",
                "is empty",
                "is an empty",
                "is no ",
                "is not ",
                "unknown",
                "missing",
                "dot or a port",
            )
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('version: "1"', "1:10: version: must be the number 1: remove the quotes"),
        ("version: 1.0", "1:10: version: must be the number 1"),
        ("version: 01", "1:10: version: must be the number 1"),
        ("version: true", "1:10: version: must be the number 1"),
        ("version: 2", "1:10: version: must be 1: this mirror-agent does not know version 2"),
        ("version:", "1:1: version: is empty: write a value, or remove the key"),
        ("version: 1\ncontainerd:", "2:1: containerd: is empty: write a value, or remove the key"),
        ("version: 1\npresets: daocloud", "2:10: presets: must be a list: write [daocloud]"),
        ("version: 1\nregistries: []", "2:1: registries: must be a mapping (key: value), not a list"),
        (
            _REGISTRY.format("fallback", "no"),
            "2:66: registries.r.example.fallback: must be true or false; no is a string in YAML 1.2: write false",
        ),
        (
            _REGISTRY.format("fallback", '"false"'),
            "2:66: registries.r.example.fallback: must be true or false, without quotes",
        ),
        (_REGISTRY.format("fallback", "0"), "2:66: registries.r.example.fallback: must be true or false, not a number"),
        (
            "version: 1\nregistries: {r.example: {mirrors: https://m.example}}",
            "2:35: registries.r.example.mirrors: must be a list: write [https://m.example]",
        ),
        (
            "version: 1\nregistries: {r.example: {mirrors: [1.10]}}",
            "2:36: registries.r.example.mirrors[0]: must be a URL, or a mapping with url, not a decimal number",
        ),
        (
            "version: 1\nregistries: {r.example: [https://m.example]}",
            "2:14: registries.r.example: must be a mapping with mirrors, or {}, not a list",
        ),
        (
            "version: 1\nregistries: {r.example: https://m.example}",
            "2:25: registries.r.example: must be a mapping with mirrors, or {}: write {mirrors: [https://m.example]}",
        ),
        (
            "version: 1\nregistries:\n  r.example:\n    mirrors\n      - https://m.example",
            '4:5: registries.r.example: a colon is missing behind mirrors: write "mirrors:"',
        ),
        (
            _MIRROR.format("dial_timeout", "3"),
            '2:75: registries.r.example.mirrors[0].dial_timeout: must be a duration: write "3s"',
        ),
        (
            _MIRROR.format("ca", "1.10"),
            "2:65: registries.r.example.mirrors[0].ca: must be a path, or a list of paths, not a decimal number",
        ),
        (
            _MIRROR.format("header", "{X-Rack: 7}"),
            "2:78: registries.r.example.mirrors[0].header.X-Rack: must be a string, or a list of strings, not a number",
        ),
        (
            _MIRROR.format("header", "{X-Rack: [1.10]}"),
            "2:79: registries.r.example.mirrors[0].header.X-Rack[0]: "
            "must be a string, and this is a decimal number: write it in quotes",
        ),
        (
            "version: 1\ncontainerd: {config: 1.10}",
            "2:22: containerd.config: must be a string, and 1.10 is a decimal number: write it in quotes",
        ),
        (
            'version: 1\ndocker: {manage: "true"}',
            "2:18: docker.manage: must be auto, true or false; true is written without quotes",
        ),
        (
            "version: 1\ndocker: {manage: yes}",
            "2:18: docker.manage: must be auto, true or false; yes is a string in YAML 1.2: write true",
        ),
        (
            "version: 1\ndocker: {on_change: realod}",
            '2:21: docker.on_change: must be auto, restart or reload, did you mean "reload"?',
        ),
        (
            "version: 1\ndocker: {restart_if: {}}",
            "2:10: docker.restart_if: must be always, live-restore or idle, not a mapping",
        ),
        (
            "version: 1\nhealth: {interval: 5s}",
            "2:20: health.interval: must be at least 30s and at most 24h",
        ),
        (
            "version: 1\nhealth: {interval: 5}",
            '2:20: health.interval: must be a duration: write "5s"',
        ),
        (
            "version: 1\nhealth: {timeout: 5m}",
            "2:19: health.timeout: must be at least 1s and at most 1m",
        ),
        (
            "version: 1\nhealth: {unhealthy_after: 0}",
            "2:27: health.unhealthy_after: must be at least 1",
        ),
        (
            "version: 1\nhealth: {images: {ghcr.io: 'https://ghcr.io/a'}}",
            '2:28: health.images.ghcr.io: is no image of ghcr.io: "ghcr.io/https://ghcr.io/a" names no image: '
            "a part of the name is empty",
        ),
        (
            "version: 1\nhealth: {images: {docker.io: Nginx}}",
            '2:30: health.images.docker.io: is no image of docker.io: "docker.io/Nginx" names no image: '
            "the name of a repository has no capital letters",
        ),
        (
            "version: 1\nmetrics: {directory: ../x}",
            "2:22: metrics.directory: must be an absolute path, beginning with /",
        ),
        (
            _MIRROR.format("capabilities", "[]"),
            "2:61: registries.r.example.mirrors[0].capabilities: "
            "is an empty list: write at least one, or remove the key",
        ),
        (
            "version: 1\nregistries: {r.example: }",
            "2:14: registries.r.example: is empty: write a value, or remove the key",
        ),
    ],
)
def test_what_would_be_right(text: str, expected: str) -> None:
    """The sentence for each common mistake."""
    assert said(text) == [expected]
