"""certs.d as others have left it: everything that can stand where a directory or a hosts.toml should be."""

from collections.abc import Iterator
from dataclasses import replace

from tests.node.found_nodes import WITH_CERTS_D
from tests.node.hostile.case import CONFIG_TOML, FULL, READ_ONLY, Case
from tests.node.rig import CERTS_D

_DIRECTORY = f"{CERTS_D}/docker.io"
_FILE = f"{_DIRECTORY}/hosts.toml"
_NOT_WRITTEN = rf"^containerd: {_FILE}: .*so the file for docker\.io cannot be written"
_NO_TOML = rf"^containerd: {_FILE}: is not valid TOML, so containerd ignores it"

_INSTEAD_OF_THE_FILE = {
    "a directory": f"mkdir -p {_FILE}/x",
    "a FIFO": f"mkfifo {_FILE}",
    "a dangling link": f"ln -s nowhere {_FILE}",
    "a link to itself": f"ln -s hosts.toml {_FILE}",
    "a link to a device": f"ln -s /dev/zero {_FILE}",
    "a link to a file elsewhere": f"echo 'server = \"https://x\"' > /root/h; ln -s /root/h {_FILE}",
    "a socket": f"python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"{_FILE}\")'",
}
_INSTEAD_OF_THE_DIRECTORY = {
    "a file": f"rmdir {_DIRECTORY}; echo x > {_DIRECTORY}",
    "a dangling link": f"rmdir {_DIRECTORY}; ln -s /nowhere {_DIRECTORY}",
    "a link elsewhere": f"rmdir {_DIRECTORY}; mkdir -p /root/elsewhere; ln -s /root/elsewhere {_DIRECTORY}",
    "a link up": f"rmdir {_DIRECTORY}; ln -s .. {_DIRECTORY}",
}
_INSTEAD = {
    "a file": rf"^containerd: {_DIRECTORY}: is not a directory",
    "a dangling link": rf"^containerd: {_DIRECTORY}: is a link to nothing",
    "a link elsewhere": rf"^containerd: {_DIRECTORY}",
    "a link up": "",
}
_UNUSABLE = {
    **dict.fromkeys(("no TOML", "no UTF-8", "a host twice", "brackets"), _NO_TOML),
    "10 MB": _NOT_WRITTEN,
}
_CONTENTS: dict[str, str | bytes] = {
    "no TOML": 'server = "https://x\n',
    "no UTF-8": b'# \xff\nserver = "https://x.example"\n',
    "empty": "",
    "10 MB": "# " + "x" * 10_000_000 + "\n[host]\n",
    "wrong types": "server = 5\nhost = 7\n",
    "a forged header": "# Managed by mirror-agent from /etc/mirror-agent.yaml: edit that file\nrm -rf /\n",
    "a host twice": '[host."https://a"]\n[host."https://a"]\n',
    "brackets": "a = " + "[" * 3000 + "]" * 3000 + "\n",
}


def cases() -> Iterator[Case]:
    config = {CONFIG_TOML: WITH_CERTS_D}
    for name, setup in _INSTEAD_OF_THE_FILE.items():
        yield Case(
            f"hosts.toml is {name}", conflict=_NOT_WRITTEN, files=config, setup=f"mkdir -p {_DIRECTORY}; {setup}",
            units=("containerd",), untouched=(_FILE,),
        )  # fmt: skip
    for name, setup in _INSTEAD_OF_THE_DIRECTORY.items():
        yield Case(
            f"docker.io is {name}",
            conflict=_INSTEAD[name],
            files=config,
            setup=f"mkdir -p {_DIRECTORY}; {setup}",
            units=("containerd",),
        )
    for name, content in _CONTENTS.items():
        # What carries our header is ours from another life, and goes with us.
        reverts = "forged" not in name
        files = {**config, _FILE: content}
        case = Case(f"hosts.toml: {name}", conflict=_UNUSABLE.get(name, ""), files=files, units=("containerd",))
        yield replace(case, reverts=reverts)
    yield from _trees()


def _trees() -> Iterator[Case]:
    config = {CONFIG_TOML: WITH_CERTS_D}
    for name, setup in (
        ("a file", f"echo x > {CERTS_D}"),
        ("a dangling link", f"ln -s /nowhere {CERTS_D}"),
        ("a link elsewhere", f"mkdir -p /root/certs.d; ln -s /root/certs.d {CERTS_D}"),
    ):
        conflict = _INSTEAD[name].replace(_DIRECTORY, CERTS_D)
        yield Case(f"certs.d is {name}", conflict=conflict, files=config, setup=setup, units=("containerd",))
    for name, says, setup, heal in (
        ("certs.d is immutable", "EPERM", f"mkdir {CERTS_D}; chattr +i {CERTS_D}", f"chattr -i {CERTS_D}"),
        ("certs.d is read-only", "EROFS", f"mkdir {CERTS_D}; {READ_ONLY.format(CERTS_D)}", f"umount -l {CERTS_D}"),
        ("certs.d is full", "ENOSPC", f"mkdir {CERTS_D}; {FULL.format(CERTS_D)}", f"umount -l {CERTS_D}"),
    ):
        yield Case(
            name, rf"{CERTS_D}.*{says}", files=config, setup=setup, heal=heal, cleanup=heal, units=("containerd",),
            reverts=not heal.startswith("umount"),
        )  # fmt: skip
    yield Case(
        "both spellings of a port", r"converged", files={
            **config, f"{CERTS_D}/r.lan_5000_/hosts.toml": "[host]\n", f"{CERTS_D}/r.lan:5000/hosts.toml": "[host]\n",
        }, units=("containerd",), untouched=(f"{CERTS_D}/r.lan_5000_/hosts.toml", f"{CERTS_D}/r.lan:5000/hosts.toml"),
    )  # fmt: skip
    yield Case(
        "names that are none", r"converged", files=config, units=("containerd",),
        setup=f"mkdir {CERTS_D}; cd {CERTS_D}; mkdir UPPER 'a b' .hidden \"$(printf 'new\\nline')\" _default",
    )  # fmt: skip
    yield Case(
        "certificates beside it", r"wrote certs\.d/docker\.io/hosts\.toml", files={
            **config, f"{_DIRECTORY}/ca.crt": "no certificate\n", f"{_DIRECTORY}/client.cert": "none\n",
        }, units=("containerd",), untouched=(f"{_DIRECTORY}/ca.crt", f"{_DIRECTORY}/client.cert"),
    )  # fmt: skip
    many = {f"{CERTS_D}/r{number}.example/hosts.toml": "[host]\n" for number in range(30)}
    yield Case("many of others", r"converged", files={**config, **many}, units=("containerd",), untouched=tuple(many))
