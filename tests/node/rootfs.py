"""Root file systems for test nodes: plain Debian of one suite with containerd and Docker, built once and cached.

The cache lies outside the repository (`$MIRROR_AGENT_NODE_CACHE`, by default /var/cache/mirror-agent-nodes). An entry
is named after the suite and the digest of its recipe. It is built in a temporary directory beside its final name and
renamed at the end, so an entry that exists is complete, and two builders of one entry wait for each other.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SUITES = ("bullseye", "bookworm", "trixie", "forky")
DEFAULT_CACHE = Path("/var/cache/mirror-agent-nodes")
BUILD_TIMEOUT_SECONDS = 900

_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "containerd", "docker.io", "docker-registry", "python3", "python3-systemd",
    "ca-certificates", "iproute2", "iptables", "curl", "procps", "strace", "openssl", "util-linux", "e2fsprogs",
    "vim", "nano",
)  # fmt: skip
# What later suites keep in packages of their own.
_SEPARATE = {"trixie": ("docker-cli",), "forky": ("docker-cli", "mount")}
# Timers and services that only cost a booting node time, or that would sit on a test's port.
_MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
    "fstrim.timer", "man-db.timer", "systemd-modules-load.service", "systemd-timesyncd.service",
    "console-getty.service", "docker-registry.service",
)  # fmt: skip
_CODE_NAMES = frozenset(
    (*SUITES, "buster", "duke", "sid", "oldoldstable", "oldstable", "stable", "testing", "unstable"),
)


class CannotBuildError(Exception):
    """This host cannot build or boot nodes; the message says what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one root file system is made of. Two equal recipes give one cache entry."""

    suite: str
    packages: tuple[str, ...]
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """The cache entry's name: the suite and a digest of everything that goes in."""
        text = "\n".join((self.suite, *self.packages, "--", *self.options))
        return f"{self.suite}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def recipe(suite: str, *more: str) -> Recipe:
    """The recipe of a node of `suite` (one of SUITES) that has `more` packages."""
    if suite not in SUITES:
        raise CannotBuildError(f"no recipe for the suite {suite!r}; known are {', '.join(SUITES)}")
    extra = _SEPARATE.get(suite, ())
    links = " ".join(f'"$1/etc/systemd/system/{unit}"' for unit in _MASKED)
    options = (
        "--variant=apt",
        # A mirror frozen at a date serves release files that have run out; the signature is still checked.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--customize-hook=for unit in {links}; do ln -sf /dev/null $unit; done",
        # A fixed machine id: no first-boot work, and the journal directory is known.
        '--customize-hook=echo 6d6972726f722d6167656e742d746573 > "$1/etc/machine-id"',
        '--customize-hook=echo 127.0.0.1 localhost > "$1/etc/hosts"; : > "$1/etc/resolv.conf"',
        '--customize-hook=rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*',
    )
    return Recipe(suite, (*_PACKAGES, *extra, *more), options)


def cache_root() -> Path:
    """Where root file systems and Python packages for nodes are kept."""
    return Path(os.environ.get("MIRROR_AGENT_NODE_CACHE") or DEFAULT_CACHE)


def ensure(suite: str, *more: str) -> Path:
    """The directory of a complete root file system of `suite` (with `more` packages), built now if it is missing.

    Raises CannotBuildError when the host lacks a tool or a mirror, or when the build fails.
    """
    wanted = recipe(suite, *more)
    return build_once(cache_root() / wanted.name, lambda target: _bootstrap(wanted, target))


def build_once(final: Path, build: Callable[[Path], None]) -> Path:
    """`final`, made by `build(directory to make)` if it is not there yet; atomic, and one builder at a time."""
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with _locked(final.with_name(final.name + ".lock")):
        if final.is_dir():
            return final
        holder = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        try:
            build(holder / "tree")
            (holder / "tree").rename(final)
        finally:
            shutil.rmtree(holder, ignore_errors=True)
    return final


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _bootstrap(wanted: Recipe, target: Path) -> None:
    tool = shutil.which("mmdebstrap")
    if tool is None:
        raise CannotBuildError("mmdebstrap is not installed; install it with: apt-get install mmdebstrap")
    command = [
        tool, "--quiet", "--mode=root", *wanted.options, f"--include={','.join(wanted.packages)}",
        wanted.suite, str(target), debian_mirror(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_SECONDS, check=False)
    if done.returncode != 0:
        raise CannotBuildError(f"mmdebstrap {wanted.suite} failed with {done.returncode}:\n{done.stderr[-4000:]}")


def debian_mirror() -> str:
    """The Debian mirror this host's own apt uses, or `$MIRROR_AGENT_NODE_MIRROR`."""
    chosen = os.environ.get("MIRROR_AGENT_NODE_MIRROR")
    if chosen:
        return chosen
    for found in apt_sources(Path("/etc/apt")):
        return found
    raise CannotBuildError("no Debian mirror in /etc/apt/sources.list*; name one in MIRROR_AGENT_NODE_MIRROR")


def apt_sources(directory: Path) -> Iterator[str]:
    """URIs of the enabled binary sources of Debian proper (component main, no -security or -updates alone)."""
    drop_ins = directory / "sources.list.d"
    for path in (directory / "sources.list", *sorted(drop_ins.glob("*.list"))):
        if path.is_file():
            yield from _one_line_sources(path.read_text())
    for path in sorted(drop_ins.glob("*.sources")):
        yield from _deb822_sources(path.read_text())


def _one_line_sources(text: str) -> Iterator[str]:
    for line in text.splitlines():
        words = _without_options(line.partition("#")[0]).split()
        if len(words) >= 4 and words[0] == "deb" and _is_debian(words[2:3], words[3:]):
            yield words[1]


def _without_options(line: str) -> str:
    """`deb [signed-by=… arch=…] URI …` without its bracket."""
    before, bracket, rest = line.partition("[")
    return before + rest.partition("]")[2] if bracket else line


def _deb822_sources(text: str) -> Iterator[str]:
    for stanza in text.split("\n\n"):
        fields = _fields(stanza)
        usable = fields.get("enabled", ["yes"]) != ["no"] and "deb" in fields.get("types", [])
        if usable and fields.get("uris") and _is_debian(fields.get("suites", []), fields.get("components", [])):
            yield fields["uris"][0]


def _fields(stanza: str) -> dict[str, list[str]]:
    """One deb822 stanza as lower-case names and lists of words; continuation lines belong to the field above."""
    fields: dict[str, list[str]] = {}
    words: list[str] = []
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t"):
            words.extend(line.split())
            continue
        name, colon, value = line.partition(":")
        if colon:
            words = fields.setdefault(name.strip().lower(), [])
            words.extend(value.split())
    return fields


def _is_debian(suites: Sequence[str], components: Sequence[str]) -> bool:
    return "main" in components and any(suite in _CODE_NAMES for suite in suites)
