"""Bad daemon.json by others, laid beside a Docker that runs on what it had before."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.node.hostile.case import DAEMON_JSON, GOOD, MIRROR, Case, as_json
from tests.node.service import desired_state

_SETTING_ONLY = desired_state({}, "{settings: {debug: true}}")
_INSECURE = f"version: 1\nregistries:\n  docker.io: {{mirrors: [{MIRROR}]}}\n  harbor.lan: {{insecure: true}}\n"
_SOME = '{\n  "debug": true,\n  "log-driver": "json-file"\n}\n'

_BEFORE_23 = ("bullseye", "bookworm")
"""Suites whose Docker is 20.10, which has no --validate."""
_LEFT = "mirror-agent leaves the file alone until it is mended"
_NO_ACT = "Docker is neither reloaded nor restarted until it is mended"
_REFUSED = r"`dockerd --validate` refuses the file"

# No JSON object, or not to be edited without a loss: nothing of it is touched, and Docker lives on what it has.
_NOT_EDITABLE: dict[str, str | bytes] = {
    "truncated": '{"debug": true, "log-dri',
    "comments": '{\n  // by hand\n  "debug": true\n}\n',
    "trailing comma": '{"debug": true,}\n',
    "curly quotes": '{"debug": true, “log-driver”: "local"}\n',
    "two objects": '{"debug": true}\n{"debug": false}\n',
    "NUL": b'{"debug": true}\x00',
    "NaN": '{"mtu": NaN}\n',
    "no UTF-8": b'{"labels": ["a=\xff"]}\n',
    "UTF-16": '{"debug": true}'.encode("utf-16"),
    "duplicate keys": '{"debug": true, "debug": false}\n',
    "HTML": "<!doctype html><title>404</title>\n",
    "nested too deep": "[" * 5000 + "]" * 5000,
    "huge": '{"labels": [' + ", ".join(f'"a{number}=b"' for number in range(400_000)) + "]}",
}
_WHY = {
    "truncated": "does not end",
    "comments": "comments are not JSON",
    "trailing comma": "a comma before a closing bracket",
    "curly quotes": 'only "straight quotes" are JSON',
    "two objects": "text after the end of the object",
    "NUL": "text after the end of the object",
    "NaN": "NaN and Infinity are not JSON",
    "no UTF-8": "this is not UTF-8",
    "UTF-16": "the file is UTF-16",
    "duplicate keys": '"debug" is there twice',
    "HTML": "the file must be one JSON object",
    "nested too deep": "the file must be one JSON object",
    "huge": "is larger than 4 MiB",
}
_UNKNOWN_TO_20 = {"odd numbers": "x-big", "unknown keys": "this", "wrong case": "Registry-Mirrors"}
"""Keys that Docker 20.10 does not know, by our own table; later ones are asked."""
# Valid JSON: ours goes in beside it, and not one letter of it is lost.
_EDITABLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "odd numbers": ('{"mtu": 1500, "x-big": 123456789012345678901234567890, "x-f": 1.50e1}\n', ("1.50e1",)),
    "escapes": ('{"labels": ["a=\\u00e9\\u4e2d", "b=é"]}\n', ("a=\\u00e9\\u4e2d", "b=é")),
    "one line, no newline": ('{"debug":true,"log-driver":"json-file"}', ('"log-driver":"json-file"',)),
    "tabs and CRLF": ('{\r\n\t"debug": true,\r\n\t"dns": [\r\n\t\t"1.1.1.1"\r\n\t]\r\n}\r\n', ('"1.1.1.1"',)),
    "our keys, others' values": (
        '{"registry-mirrors": ["https://old.example"], "dns": ["9.9.9.9"]}\n', ('"9.9.9.9"',),
    ),
    "nvidia": ('{\n    "runtimes": {\n        "nvidia": {\n            "args": [],\n            "path": "nvidia"\n'
               '        }\n    }\n}', ('"path": "nvidia"',)),
    "unknown keys": ('{"nobody-knows": {"this": [1, 2]}}\n', ('"nobody-knows": {"this": [1, 2]}',)),
    "wrong case": ('{"Registry-Mirrors": ["https://x.example"]}\n', ('"Registry-Mirrors"',)),
}  # fmt: skip
_BAD_MIRRORS = ("ftp://x", "", "https://u:p@x", "https://x?q", 5)
_BAD_INSECURE = ("h/path", "", "ftp://x", "h:99999", "10.0.0.0/99", 5)


def cases() -> Iterator[Case]:
    for name, content in _NOT_EDITABLE.items():
        yield _left_alone(f"daemon.json: {name}", content, _WHY[name])
    for name, (content, keeps) in _EDITABLE.items():
        files = {DAEMON_JSON: content}
        starts = not any(word in name for word in ("unknown", "wrong case", "odd", "nvidia"))
        case = Case(f"daemon.json: {name}", r"wrote daemon\.json", files=files, keeps=keeps, starts_again=starts)
        if name in _UNKNOWN_TO_20:
            ours = rf"daemon\.json: {_UNKNOWN_TO_20[name]}: Docker 20\.10 does not know this key.*{_NO_ACT}"
            case = replace(case, conflict=_REFUSED, conflicts_on=dict.fromkeys(_BEFORE_23, ours))
        yield case
    for name, content in (("empty", ""), ("blank", " \n"), ("null", "null\n"), ("BOM", b"\xef\xbb\xbf{}\n")):
        # Docker 20.10 does not start with a file that says nothing at all, so that one does not come back as it was.
        reverts = bool(content.strip())
        case = Case(f"daemon.json: {name}", r"wrote daemon\.json", files={DAEMON_JSON: content})
        yield replace(case, starts_again=False, reverts=reverts)
    yield from _bad_lists()
    yield from _wrong_types()
    yield from _no_files()


def _left_alone(name: str, content: str | bytes, why: str) -> Case:
    conflict = rf"^docker: {DAEMON_JSON}: .*{why}.*{_LEFT}"
    files = {DAEMON_JSON: content}
    return Case(name, conflict=conflict, files=files, untouched=(DAEMON_JSON,), starts_again=False)


def _bad_lists() -> Iterator[Case]:
    """What of the two lists is others' is a bomb for the next start; with ours in its place it is none any more."""
    for value in _BAD_MIRRORS:
        files = {DAEMON_JSON: as_json({"registry-mirrors": [value], "dns": ["9.9.9.9"]})}
        # What a Docker that can be asked would not start with does not come back.
        name = f"mirrors of others, replaced: {value}"
        case = Case(name, r"wrote daemon\.json", files=files, keeps=('"9.9.9.9"',))
        yield replace(case, reverts=False)
    for value in _BAD_MIRRORS[:2]:
        files = {DAEMON_JSON: as_json({"registry-mirrors": [value]})}
        case = Case(f"mirrors of others, kept: {value}", desired=_SETTING_ONLY, files=files)
        case = replace(case, conflict=rf'daemon\.json: registry-mirrors: "{value}" .*{_NO_ACT}')
        yield replace(case, starts_again=False, keeps=(as_json([value])[4:-3].strip(),))
    for value in _BAD_INSECURE:
        files = {DAEMON_JSON: as_json({"insecure-registries": [value]})}
        name = f"insecure of others: {value}"
        why = rf" must be a list of texts.*{_LEFT}" if value == 5 else rf': "{value}" .*{_NO_ACT}'
        case = Case(name, desired=_INSECURE, files=files, starts_again=False)
        yield replace(case, conflict=rf"daemon\.json: insecure-registries{why}")


def _wrong_types() -> Iterator[Case]:
    for key, value in (
        ("registry-mirrors", "https://x.example"),
        ("insecure-registries", "harbor.lan"),
        ("insecure-registries", {"a": 1}),
        ("log-opts", ["max-size=5m"]),
        ("debug", "yes"),
        ("features", True),
    ):
        files = {DAEMON_JSON: as_json({key: value})}
        case = Case(f"wrong type: {key} {value}", desired=_INSECURE, files=files, starts_again=False)
        yield replace(case, reverts=key != "registry-mirrors", **_of_type(key))
    files = {DAEMON_JSON: as_json({"hosts": ["tcp://127.0.0.1:2375"]})}
    hosts = Case("hosts of others beside -H", files=files, starts_again=False)
    yield replace(hosts, conflict=rf"daemon\.json: .*hosts.*{_NO_ACT}")
    files = {DAEMON_JSON: as_json({"log-driver": "bogus"})}
    driver = Case("log-driver of others", files=files, starts_again=False)
    yield replace(driver, conflict=rf'daemon\.json: log-driver: "bogus" is no log driver.*{_NO_ACT}')


def _of_type(key: str) -> dict[str, Any]:
    """Mirrors are ours and replaced whole. Others' types are dockerd's to judge: before 23 by the reload that it does
    not take."""
    if key == "registry-mirrors":
        return {"says": r"wrote daemon\.json"}
    if key == "insecure-registries":
        return {"conflict": rf"daemon\.json: insecure-registries must be a list of texts.*{_LEFT}"}
    refused = r"daemon\.json: Docker did not take a reload with"
    return {"conflict": _REFUSED, "conflicts_on": dict.fromkeys(_BEFORE_23, refused), "deadline_seconds": 90.0}


def _no_files() -> Iterator[Case]:
    """Something else where the file should be; Docker runs, and goes on running."""
    path = DAEMON_JSON
    for name, why, setup in (
        ("a directory", "is a directory", f"mkdir -p {path}/x"),
        ("a FIFO", "is a FIFO", f"mkfifo {path}"),
        ("a dangling link", "link", f"ln -s /nowhere/daemon.json {path}"),
        ("a link to itself", "link loop", f"ln -s daemon.json {path}"),
        ("a link to a device", "leads outside", f"ln -s /dev/zero {path}"),
        (
            "a link to a file elsewhere",
            "EACCES|leads outside",
            f"echo '{{}}' > /root/daemon.json; ln -s /root/daemon.json {path}",
        ),
        ("a socket", "is a socket", f"python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"{path}\")'"),
    ):
        case = Case(f"daemon.json is {name}", setup=setup, untouched=(path,), starts_again=False)
        yield replace(case, conflict=rf"^docker: {path}: .*({why}).*{_LEFT}")
    for name, setup, cleanup in (
        ("immutable", f"chattr +i {path}", f"chattr -i {path}"),
        ("append-only", f"chattr +a {path}", f"chattr -a {path}"),
        ("bind-mounted", f"cp {path} /root/mounted; mount --bind /root/mounted {path}", f"umount -l {path}"),
    ):
        # What the kernel refuses is no conflict but a failure, which is told with the file.
        case = Case(
            f"daemon.json is {name}", rf"{path}: .*(EPERM|EBUSY)", files={path: _SOME}, setup=setup, cleanup=cleanup
        )
        case = replace(case, untouched=(path,), heal=cleanup, desired=GOOD, reverts=name != "bind-mounted")
        yield case
    # The service has no capability to read what root may not.
    closed = rf"^docker: {path}: permission denied \(EACCES\).*{_LEFT}"
    for name, conflict, setup in (
        ("of mode 000", closed, f"chmod 000 {path}"),
        ("of another user", closed, f"chown 1000:1000 {path}; chmod 600 {path}"),
        ("a hard link", "", f"ln {path} /root/second-name-$$"),
    ):
        case = Case(f"daemon.json is {name}", conflict=conflict, files={path: _SOME}, setup=setup)
        yield replace(case, keeps=('"log-driver": "json-file"',))
