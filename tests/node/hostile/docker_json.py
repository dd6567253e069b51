"""Bad daemon.json by others, laid beside a Docker that runs on what it had before."""

from collections.abc import Iterator
from dataclasses import replace

from tests.node.hostile.case import DAEMON_JSON, GOOD, MIRROR, NO_BIND_MOUNTS, Case, as_json
from tests.node.service import desired_state

_SETTING_ONLY = desired_state({}, "{settings: {debug: true}}")
_INSECURE = f"version: 1\nregistries:\n  docker.io: {{mirrors: [{MIRROR}]}}\n  harbor.lan: {{insecure: true}}\n"
_SOME = '{\n  "debug": true,\n  "log-driver": "json-file"\n}\n'

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
        yield _left_alone(f"daemon.json: {name}", content)
    for name, (content, keeps) in _EDITABLE.items():
        files = {DAEMON_JSON: content}
        starts = not any(word in name for word in ("unknown", "wrong case", "odd", "nvidia"))
        yield Case(f"daemon.json: {name}", r"daemon\.json", files=files, keeps=keeps, starts_again=starts)
    for name, content in (("empty", ""), ("blank", " \n"), ("null", "null\n"), ("BOM", b"\xef\xbb\xbf{}\n")):
        # Docker 20.10 does not start with a file that says nothing at all, so that one does not come back as it was.
        reverts = bool(content.strip())
        case = Case(f"daemon.json: {name}", r"daemon\.json|converged", files={DAEMON_JSON: content})
        yield replace(case, starts_again=False, reverts=reverts)
    yield from _bad_lists()
    yield from _wrong_types()
    yield from _no_files()


def _left_alone(name: str, content: str | bytes) -> Case:
    files = {DAEMON_JSON: content}
    return Case(name, r"daemon\.json", files=files, untouched=(DAEMON_JSON,), starts_again=False)


def _bad_lists() -> Iterator[Case]:
    """What of the two lists is others' is a bomb for the next start; with ours in its place it is none any more."""
    for value in _BAD_MIRRORS:
        files = {DAEMON_JSON: as_json({"registry-mirrors": [value], "dns": ["9.9.9.9"]})}
        # What a Docker that can be asked would not start with does not come back.
        case = Case(f"mirrors of others, replaced: {value}", r"daemon\.json", files=files, keeps=('"9.9.9.9"',))
        yield replace(case, reverts=False)
    for value in _BAD_MIRRORS[:2]:
        files = {DAEMON_JSON: as_json({"registry-mirrors": [value]})}
        case = Case(f"mirrors of others, kept: {value}", r"registry-mirrors|converged", _SETTING_ONLY, files)
        yield replace(case, starts_again=False, keeps=(as_json([value])[4:-3].strip(),))
    for value in _BAD_INSECURE:
        files = {DAEMON_JSON: as_json({"insecure-registries": [value]})}
        yield Case(f"insecure of others: {value}", r"insecure|daemon\.json", _INSECURE, files, starts_again=False)


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
        case = Case(f"wrong type: {key} {value}", r"daemon\.json", _INSECURE, files, starts_again=False)
        yield replace(case, reverts=key != "registry-mirrors")
    files = {DAEMON_JSON: as_json({"hosts": ["tcp://127.0.0.1:2375"]})}
    yield Case("hosts of others beside -H", r"hosts|daemon\.json", files=files, starts_again=False)
    files = {DAEMON_JSON: as_json({"log-driver": "bogus"})}
    yield Case("log-driver of others", r"log-driver", files=files, starts_again=False)


def _no_files() -> Iterator[Case]:
    """Something else where the file should be; Docker runs, and goes on running."""
    said, path = r"daemon\.json", DAEMON_JSON
    for name, setup in (
        ("a directory", f"mkdir -p {path}/x"),
        ("a FIFO", f"mkfifo {path}"),
        ("a dangling link", f"ln -s /nowhere/daemon.json {path}"),
        ("a link to itself", f"ln -s daemon.json {path}"),
        ("a link to a device", f"ln -s /dev/zero {path}"),
        ("a link to a file elsewhere", f"echo '{{}}' > /root/daemon.json; ln -s /root/daemon.json {path}"),
        ("a socket", f"python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"{path}\")'"),
    ):
        yield Case(f"daemon.json is {name}", said, setup=setup, untouched=(path,), starts_again=False)
    for name, setup, cleanup in (
        ("immutable", f"chattr +i {path}", f"chattr -i {path}"),
        ("append-only", f"chattr +a {path}", f"chattr -a {path}"),
        ("bind-mounted", f"cp {path} /root/mounted; mount --bind /root/mounted {path}", f"umount -l {path}"),
    ):
        case = Case(f"daemon.json is {name}", said, files={path: _SOME}, setup=setup, cleanup=cleanup)
        case = replace(case, untouched=(path,), heal=cleanup, desired=GOOD, reverts=name != "bind-mounted")
        yield replace(case, not_on=NO_BIND_MOUNTS if name == "bind-mounted" else ())
    for name, setup in (
        ("of mode 000", f"chmod 000 {path}"),
        ("of another user", f"chown 1000:1000 {path}; chmod 600 {path}"),
        ("a hard link", f"ln {path} /root/second-name-$$"),
    ):
        yield Case(
            f"daemon.json is {name}", said, files={path: _SOME}, setup=setup, keeps=('"log-driver": "json-file"',)
        )
