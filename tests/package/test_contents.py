"""The tree that both packages carry: what it needs, what it weighs, and that nothing in it is left to chance."""

import ast
import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.package.conftest import PythonRun
from tests.package.elf import GLIBC_FLOOR, is_elf, needs
from tests.packages import REPOSITORY, Packages, built

MEGABYTE = 1_000_000
PRIVATE = "usr/lib/mirror-agent"
LIBRARY = f"{PRIVATE}/lib/python3.14"
UNCHECKED_HASH = 0b01


def files(tree: Path) -> list[Path]:
    return [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()]


# --- what it needs from the system ------------------------------------------------------------------------------------


def test_it_needs_glibc_2_17_and_nothing_newer(tree: Path, packages: Packages) -> None:
    """Every program and library is for this machine, has no symbol above GLIBC_2.17, and needs only libraries that
    every system has."""
    found = {str(path.relative_to(tree)): needs(path) for path in files(tree) if is_elf(path)}
    assert len(found) >= 4
    assert {name: one for name, one in found.items() if not one.are_met_on(packages.machine)} == {}
    newest = max(one.glibc for one in found.values())
    print(f"{len(found)} ELF files, newest symbol GLIBC_{'.'.join(map(str, newest))}")
    assert f"{PRIVATE}/bin/python3.14" in found


def test_the_gate_sees_what_is_too_new(tree: Path, packages: Packages) -> None:
    """A program of the build machine is refused, and so is each single excess, and another machine."""
    name = shutil.which("ls")
    assert name
    assert needs(Path(name)).glibc > GLIBC_FLOOR
    good = needs(tree / PRIVATE / "bin" / "python3.14")
    assert good.are_met_on(packages.machine)
    bad = [
        replace(good, glibc=(2, 18)),
        replace(good, systemd=(246,)),
        replace(good, libraries=good.libraries | {"libssl.so.3"}),
        replace(good, search_paths=("/usr/lib/mirror-agent/lib",)),
        replace(good, machine="Intel 80386"),
    ]
    assert [one.are_met_on(packages.machine) for one in (needs(Path(name)), *bad)] == [False] * 6


def test_the_program_is_position_independent_and_sealed(tree: Path) -> None:
    """Address space randomisation reaches it; its tables are read-only once it runs; its stack is not executable."""
    program = tree / PRIVATE / "bin" / "python3.14"
    shown = subprocess.run(["readelf", "-hldW", program], capture_output=True, text=True, check=True).stdout
    assert re.search(r"Type:\s+DYN", shown)
    assert "GNU_RELRO" in shown
    assert re.search(r"BIND_NOW|FLAGS.*NOW", shown)
    assert re.search(r"GNU_STACK\s+\S+ \S+ \S+ \S+ \S+\s+RW ", shown)


# --- what it weighs ---------------------------------------------------------------------------------------------------


def test_it_is_small(tree: Path, packages: Packages) -> None:
    """Each package at most 15 MB, installed at most 50 MB."""
    installed = sum(path.stat().st_size for path in files(tree))
    sizes = {path.name: path.stat().st_size for path in (packages.deb, packages.rpm)}
    print(f"{sizes}, installed {installed}")
    assert max(sizes.values()) <= 15 * MEGABYTE
    assert installed <= 50 * MEGABYTE


# --- that it is whole -------------------------------------------------------------------------------------------------


def test_everything_that_is_imported_is_there(private_python: PythonRun) -> None:
    """The interpreter has all modules that its build might have left out, and every module of the agent loads."""
    smoke = private_python(str(REPOSITORY / "packaging" / "runtime" / "smoke.py"))
    assert (smoke.returncode, smoke.stderr) == (0, ""), smoke.stderr
    script = (
        "import pkgutil, importlib, agent\n"
        "names = [m.name for m in pkgutil.walk_packages(agent.__path__, 'agent.') if m.name != 'agent.__main__']\n"
        "for name in names: importlib.import_module(name)\n"
        "print(len(names))"
    )
    walked = private_python("-c", script)
    assert walked.returncode == 0, walked.stderr
    assert int(walked.stdout) > 30


_SYSTEM_MODULES = {"os", "signal", "socket", "fcntl", "select", "time", "resource"}


def test_the_agent_asks_nothing_of_a_newer_glibc(private_python: PythonRun) -> None:
    """What it takes from the library's modules is there: os.memfd_create, say, needs glibc 2.27 and is not."""
    used = {
        (found.value.id, found.attr)
        for path in (REPOSITORY / "agent").rglob("*.py")
        for found in ast.walk(ast.parse(path.read_text()))
        if isinstance(found, ast.Attribute) and isinstance(found.value, ast.Name) and found.value.id in _SYSTEM_MODULES
    }
    script = (
        "import importlib, json, sys\n"
        "print([n for n in json.loads(sys.argv[1]) if not hasattr(importlib.import_module(n[0]), n[1])])"
    )
    asked = [*sorted(used), ["os", "memfd_create"]]
    assert len(asked) > 30
    assert private_python("-c", script, json.dumps(asked)).stdout.strip() == "[['os', 'memfd_create']]"


def test_as_shipped_it_changes_nothing(private_python: PythonRun, tree: Path, tmp_path: Path) -> None:
    """The conffile is valid, and planning with it finds nothing to do."""
    (tmp_path / "etc").mkdir()
    shutil.copy(tree / "etc" / "mirror-agent.yaml", tmp_path / "etc")
    done = [private_python("-m", "agent", "--root", str(tmp_path), act) for act in ("check", "plan")]
    assert [one.returncode for one in done] == [0, 0], [one.stdout + one.stderr for one in done]


def test_it_applies_a_desired_state(private_python: PythonRun, tmp_path: Path) -> None:
    """From YAML to the files of both runtimes, with the packaged interpreter on its machine."""
    for directory in ("etc/containerd", "etc/docker"):
        (tmp_path / directory).mkdir(parents=True)
    config = tmp_path / "etc" / "mirror-agent.yaml"
    config.write_text(
        "version: 1\ncontainerd: {manage: true}\ndocker: {manage: true}\n"
        "registries: {docker.io: {mirrors: [https://m.example]}}\n"
    )
    config.chmod(0o640)
    done = private_python("-m", "agent", "--root", str(tmp_path), "apply")
    assert done.returncode == 0, done.stdout + done.stderr
    hosts = (tmp_path / "etc/containerd/certs.d/docker.io/hosts.toml").read_text()
    assert '[host."https://m.example"]' in hosts
    assert json.loads((tmp_path / "etc/docker/daemon.json").read_text()) == {"registry-mirrors": ["https://m.example"]}


def test_openssl_is_left_to_what_needs_it(private_python: PythonRun) -> None:
    """The agent's process never maps it: it is in a module of its own, which `ssl` alone loads."""
    script = (
        "import agent.daemon, sys\n"
        "from agent.runtimes import discover\n"
        "discover()\n"
        "print(sorted({'ssl', '_ssl', '_hashlib'} & set(sys.modules)))\n"
        "import ssl\n"
        "print(ssl.OPENSSL_VERSION.split()[0], ssl._ssl.__file__.rsplit('/', 1)[1])"
    )
    assert private_python("-c", script).stdout.splitlines() == ["[]", "OpenSSL _ssl.so"]


def test_every_module_has_its_bytecode(tree: Path) -> None:
    """Made from just this source, and taken without a look at times: nothing is compiled on a node."""
    sources = [path for path in files(tree / LIBRARY) if path.suffix == ".py"]
    wrong = [str(path) for path in sources if not _is_compiled(path)]
    assert wrong == []
    compiled = {path.stem.partition(".")[0] for path in files(tree / LIBRARY) if path.suffix == ".pyc"}
    assert compiled <= {path.stem for path in sources}


def _is_compiled(source: Path) -> bool:
    cached = source.parent / "__pycache__" / f"{source.stem}.cpython-314.pyc"
    if not cached.is_file():
        return False
    _, flags, digest = struct.unpack("<4sL8s", cached.read_bytes()[:16])
    expected: bytes = importlib.util.source_hash(source.read_bytes())
    # The digest is salted with the magic number of the version that made it, so only its own can compare it.
    return flags == UNCHECKED_HASH and len(digest) == len(expected)


def test_bytecode_and_source_agree(private_python: PythonRun, tree: Path) -> None:
    """The digest in each file of bytecode is that of the source beside it."""
    script = (
        "import pathlib, sys, importlib.util as u\n"
        "top = pathlib.Path(sys.argv[1])\n"
        "bad = [str(p) for p in top.rglob('*.py')\n"
        "       if pathlib.Path(u.cache_from_source(p)).read_bytes()[8:16] != u.source_hash(p.read_bytes())]\n"
        "print(bad)"
    )
    assert private_python("-c", script, str(tree / LIBRARY)).stdout.strip() == "[]"


# --- that nothing of the build is in it -------------------------------------------------------------------------------

_MAY_BE_EMPTY = {"__init__.py", "py.typed", "REQUESTED"}


def test_no_file_is_empty_by_accident(tree: Path) -> None:
    """Empty are only files that mean something by being there."""
    assert [str(path) for path in files(tree) if path.stat().st_size == 0 and path.name not in _MAY_BE_EMPTY] == []


def test_no_path_of_the_build_is_in_it(tree: Path) -> None:
    """Neither the checkout, nor a cache, nor a home or temporary directory of whoever built it."""
    traces = [str(REPOSITORY).encode(), b"mirror-agent-runtime", b"/ziglang/", b"/build-", b"wheels.lock", b"/tmp/pip-"]
    found = {
        (str(path.relative_to(tree)), trace)
        for path in files(tree)
        for content in [path.read_bytes()]
        for trace in traces
        if trace in content
    }
    assert found == set()


def test_owners_and_modes_are_plain(packages: Packages) -> None:
    """All root's; nobody else may write; nothing runs with its owner's rights; the desired state is for root alone."""
    listing = subprocess.run(["dpkg-deb", "-c", packages.deb], capture_output=True, text=True, check=True).stdout
    entries = {line.split()[5]: line.split()[:2] for line in listing.splitlines()}
    assert {owner for _, owner in entries.values()} == {"root/root"}
    assert {mode for mode, _ in entries.values()} == {"drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--", "-rw-r-----"}
    assert [name for name, (mode, _) in entries.items() if mode == "-rw-r-----"] == ["./etc/mirror-agent.yaml"]
    programs = [name for name, (mode, _) in entries.items() if mode == "-rwxr-xr-x"]
    assert programs == ["./usr/bin/mirror-agent", f"./{PRIVATE}/bin/python3.14"]


def test_the_unit_is_the_repositorys(tree: Path) -> None:
    """The same units for checkout, .deb and .rpm: what is tested is what is shipped."""
    for unit in (REPOSITORY / "systemd").iterdir():
        assert (tree / "lib/systemd/system" / unit.name).read_bytes() == unit.read_bytes()


# --- the two formats --------------------------------------------------------------------------------------------------


def rpm_query(packages: Packages, *arguments: str) -> list[str]:
    # Its own empty database: rpm on Debian has none, and says so.
    command = ["rpm", "--dbpath", "/nonexistent", "-qp", *arguments, str(packages.rpm)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def test_both_packages_carry_the_same(tree: Path, packages: Packages) -> None:
    """File by file the same digests; only where units and zsh's functions lie, and each format's own papers, differ."""
    rpm = {}
    for line in rpm_query(packages, "--dump"):
        name, _, _, digest, mode, *_ = line.split()
        if stat.S_ISREG(int(mode, 8)):
            rpm[
                name.replace("/usr/lib/systemd/system/", "/lib/systemd/system/").replace(
                    "site-functions", "vendor-completions"
                )
            ] = digest
    deb = {f"/{path.relative_to(tree)}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files(tree)}
    differing = {name for name in deb.keys() | rpm.keys() if deb.get(name) != rpm.get(name)}
    assert differing == {
        "/usr/share/doc/mirror-agent/changelog.gz",
        "/usr/share/doc/mirror-agent/copyright",
        "/usr/share/lintian/overrides/mirror-agent",
        "/usr/lib/systemd/system-preset/50-mirror-agent.preset",
    }


def test_the_rpm_asks_for_what_every_distribution_has(packages: Packages) -> None:
    """Its requirements are names common to all; it offers nothing but itself."""
    plain = {line for line in rpm_query(packages, "--requires") if not line.startswith("rpmlib(")}
    assert plain == {
        "/bin/sh", "glibc >= 2.17", "systemd", "systemd >= 219",
        "libgcc_s.so.1()(64bit)", "libsystemd.so.0(LIBSYSTEMD_209)(64bit)",
    }  # fmt: skip
    offered = {line.partition(" ")[0] for line in rpm_query(packages, "--provides")}
    assert offered <= {"mirror-agent", "mirror-agent(x86-64)", "mirror-agent(aarch-64)", "config(mirror-agent)"}
    assert rpm_query(packages, "-c") == ["/etc/mirror-agent.yaml"]
    assert rpm_query(packages, "--qf", "%{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO}") == ["xz 8"]


def test_the_deb_can_be_read_by_debian_11(packages: Packages) -> None:
    """Its parts are xz, which dpkg 1.20 reads; zstd is not."""
    members = subprocess.run(["ar", "t", packages.deb], capture_output=True, text=True, check=True).stdout.split()
    assert members == ["debian-binary", "control.tar.xz", "data.tar.xz"]


@pytest.mark.slow
def test_the_same_commit_gives_the_same_bytes(
    packages: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built again, elsewhere and under another umask, both packages are the same byte for byte."""
    monkeypatch.setenv("MIRROR_AGENT_NODE_CACHE", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    again = built(packages.architecture)
    assert again.deb != packages.deb
    assert again.deb.read_bytes() == packages.deb.read_bytes()
    assert again.rpm.read_bytes() == packages.rpm.read_bytes()


# --- the judges -------------------------------------------------------------------------------------------------------


def test_lintian_has_nothing_to_say(packages: Packages) -> None:
    """Every tag is either mended or overridden, with its reason beside it."""
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed; run packaging/setup.sh package")
    done = subprocess.run(
        ["lintian", "--allow-root", "--tag-display-limit", "0", str(packages.deb)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout == ""


def test_rpmlint_has_nothing_to_say(packages: Packages) -> None:
    """As with lintian; the filters and their reasons are in packaging/rpm/rpmlint.toml."""
    if shutil.which("rpmlint") is None:
        pytest.skip("rpmlint is not installed; run packaging/setup.sh package")
    config = REPOSITORY / "packaging" / "rpm" / "rpmlint.toml"
    done = subprocess.run(
        ["rpmlint", "-c", str(config), str(packages.rpm)], capture_output=True, text=True, timeout=300, check=False
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("mirror-agent")]
    assert "packages and 0 specfiles checked" in done.stdout
    assert said == []


@pytest.mark.skipif(
    os.environ.get("MIRROR_AGENT_SOAK") != "1", reason="a quarter of an hour; MIRROR_AGENT_SOAK=1 runs it"
)
def test_the_private_python_is_reproducible(
    packages: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built again into another cache, the runtime is the same tree, byte for byte and mode for mode."""
    script = REPOSITORY / "packaging" / "runtime" / "build.sh"

    def runtime() -> Path:
        done = subprocess.run([script, packages.machine], stdout=subprocess.PIPE, text=True, check=True)
        return Path(done.stdout.strip())

    first = runtime()
    monkeypatch.setenv("MIRROR_AGENT_RUNTIME_CACHE", str(tmp_path))
    for kept in ("sources", *(path.name for path in first.parent.glob("zig-*"))):
        (tmp_path / kept).symlink_to(first.parent / kept)
    again = runtime()
    assert again != first
    assert _as_it_is(again) == _as_it_is(first)


def _as_it_is(top: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(top)): (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files(top)
    }
