"""Linux calls that Python's `os` lacks, each with a plain answer where kernel or file system does not know it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

_GET_FLAGS = 0x80006601 | struct.calcsize("l") << 16
"""FS_IOC_GETFLAGS. Where an architecture numbers it differently it answers ENOTTY, and nothing is known."""

_FLAG_NAMES = {0x10: "immutable (i)", 0x20: "append-only (a)"}

_F_SETSIG = 10

_OCTAL = re.compile(r"\\([0-7]{3})")
"""How mountinfo writes blanks and backslashes in a path (proc(5))."""

_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def _find_renameat2() -> Callable[..., int] | None:
    """From the C library: glibc has it since 2.28."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function


_renameat2 = _find_renameat2()


def close(descriptor: int) -> None:
    """Errors are of no account: what matters was flushed before, and the descriptor is gone in any case (close(2))."""
    try:  # noqa: SIM105 -- suppress() costs more than the call
        os.close(descriptor)
    except OSError:
        pass


class closing:  # noqa: N801 -- as contextlib's
    """Hold a descriptor for the length of a block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        close(self._descriptor)


def renameat2(directory: int, source: str, target: str, flags: int) -> bool:
    """Rename within one held directory, with RENAME_* flags (renameat2(2)).

    False: kernel, file system or C library does not know the flags, and nothing was done. Raises OSError otherwise.
    """
    if _renameat2 is None:
        return False
    if _renameat2(directory, os.fsencode(source), directory, os.fsencode(target), flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), source, None, target)


def frozen_by(descriptor: int) -> str:
    """The attribute (`chattr +i`, `+a`) that forbids changes in a directory or of a file; "" if there is none."""
    buffer = bytearray(struct.calcsize("l"))
    try:
        fcntl.ioctl(descriptor, _GET_FLAGS, buffer)
    except OSError:
        return ""
    (flags,) = struct.unpack_from("I", buffer)
    return " and ".join(name for bit, name in _FLAG_NAMES.items() if flags & bit)


def is_being_written(descriptor: int) -> bool:
    """Whether anybody holds this file open for writing (fcntl(2), F_SETLEASE: a read lease is refused then).

    False also where it cannot be told: a foreign owner without CAP_LEASE, a file system without leases.
    """
    try:
        fcntl.fcntl(
            descriptor, _F_SETSIG, signal.SIGURG
        )  # the default SIGIO would end the process; this one is ignored
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo: where it is mounted, and whether mount and file system are read-only."""

    point: str
    mount_is_read_only: bool
    system_is_read_only: bool


def mount_of(descriptor: int) -> Mount | None:
    """The mount that an open directory lies on, as this process's mount namespace has it; None without /proc."""
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:
            identifier = next(line.split()[1] for line in lines if line.startswith("mnt_id:"))
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            fields = next(line.split() for line in lines if line.startswith(identifier + " "))
    except (OSError, StopIteration):
        return None
    point = _OCTAL.sub(lambda escape: chr(int(escape[1], 8)), fields[4])
    return Mount(point, "ro" in fields[5].split(","), "ro" in fields[-1].split(","))
