"""What programs and libraries need from the system they run on, as binutils reads it."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

GLIBC_FLOOR = (2, 17)
SYSTEM_LIBRARIES = frozenset({
    "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1",
    "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libgcc_s.so.1", "libsystemd.so.0",
})  # fmt: skip
# By readelf's names.
MACHINES = {"x86_64": "Advanced Micro Devices X86-64", "aarch64": "AArch64"}


@dataclass(frozen=True, slots=True)
class Needs:
    """The machine that a file is for, the newest glibc and libsystemd that it has a symbol of, the libraries it names,
    and where else it looks for them."""

    machine: str
    glibc: tuple[int, ...]
    systemd: tuple[int, ...]
    libraries: frozenset[str]
    search_paths: tuple[str, ...]

    def are_met_on(self, machine: str) -> bool:
        """By each system of that machine that is supported: glibc 2.17, libsystemd 209, libgcc_s."""
        return (
            self.machine == MACHINES[machine]
            and self.glibc <= GLIBC_FLOOR
            and self.systemd <= (209,)
            and self.libraries <= SYSTEM_LIBRARIES
            and not self.search_paths
        )


def needs(path: Path) -> Needs:
    """What the ELF file at `path` needs."""
    header = _readelf("-hW", path)
    versions = _readelf("-VW", path)
    dynamic = _readelf("-dW", path)
    return Needs(
        machine="".join(re.findall(r"Machine:\s+(.+)", header)),
        glibc=_newest(r"\bGLIBC_([0-9.]+)", versions),
        systemd=_newest(r"\bLIBSYSTEMD_([0-9]+)", versions),
        libraries=frozenset(re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)),
        search_paths=tuple(re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", dynamic)),
    )


def is_elf(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(4) == b"\x7fELF"


def _newest(pattern: str, text: str) -> tuple[int, ...]:
    return max((tuple(map(int, found.split("."))) for found in re.findall(pattern, text)), default=(0,))


def _readelf(option: str, path: Path) -> str:
    return subprocess.run(["readelf", option, str(path)], capture_output=True, text=True, check=True, timeout=60).stdout
