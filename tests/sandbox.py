"""Faults of a machine, made for one function in a forked child: mounts of its own, fewer rights, tight limits.

Nothing of it outlives the child. What needs root or a kernel that lets us is skipped with the reason.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash import in_child

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")

CAP_CHOWN = 0
IMMUTABLE = 0x10
APPEND_ONLY = 0x20

_READ_ONLY = 1
_REMOUNT = 32
_BIND = 4096
_PRIVATE = 1 << 18
_RECURSIVE = 16384
_NEW_MOUNTS = 0x20000

_GET_FLAGS = 0x80006601 | struct.calcsize("l") << 16
_SET_FLAGS = 0x40006602 | struct.calcsize("l") << 16

_libc = ctypes.CDLL(None, use_errno=True)


def with_own_mounts(function: Callable[[], Any]) -> Any:
    """What the function returns where it may mount what it likes: nobody else sees it, and it ends with it."""
    reason = in_child(own_mounts)
    if reason:
        pytest.skip(f"cannot mount here: {reason}")

    def mounting() -> Any:
        assert not own_mounts()
        return function()

    return in_child(mounting)


def own_mounts() -> str:
    """From here on this process and its children mount for themselves. Returns why they cannot, "" if they can."""
    try:
        _call("unshare", _NEW_MOUNTS)
        _call("mount", b"none", b"/", None, _RECURSIVE | _PRIVATE, None)
    except OSError as error:
        return str(error.strerror)
    return ""


def mount_memory(path: Path, options: str) -> None:
    """A file system in memory, with options such as `size=64k`."""
    _call("mount", b"tmpfs", os.fsencode(path), b"tmpfs", 0, options.encode())


def mount_ext4(device: str, path: Path, options: str) -> None:
    """The file system on a block device."""
    _call("mount", device.encode(), os.fsencode(path), b"ext4", 0, options.encode())


def unmount(path: Path) -> None:
    """What was mounted last at a place."""
    _call("umount", os.fsencode(path))


def bind(source: Path, target: Path, *, read_only: bool = False) -> None:
    """The same file or directory at a second place; `read_only` there, while its file system stays writable."""
    _call("mount", os.fsencode(source), os.fsencode(target), None, _BIND, None)
    if read_only:
        _call("mount", None, os.fsencode(target), None, _BIND | _REMOUNT | _READ_ONLY, None)


def remount(path: Path, *, read_only: bool, options: str = "") -> None:
    """Make a whole file system read-only, as after a disk error, or writable again, or larger."""
    flags = _REMOUNT | (_READ_ONLY if read_only else 0)
    _call("mount", None, os.fsencode(path), None, flags, options.encode() or None)


def drop_capability(number: int) -> None:
    """Go on without one capability, as root in a service with a small CapabilityBoundingSet=."""
    header = struct.pack("Ii", 0x20080522, 0)
    data = ctypes.create_string_buffer(24)
    _call("capget", header, data)
    words = list(struct.unpack("6I", data.raw))
    words[0] &= ~(1 << number)
    _call("capset", header, struct.pack("6I", *words))


def refuse_system_call(number: int, code: int) -> None:
    """From here on, for this process, a system call fails with an errno, as under a seccomp filter or an old kernel."""
    load_number, if_equal, give = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | code
    program = [(load_number, 0, 0, 0), (if_equal, 0, 1, number), (give, 0, 0, refuse), (give, 0, 0, allow)]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(filters)))
    _call("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    _call("prctl", 22, 2, header, 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def system_call_number(name: str) -> int:
    """Of renameat2, linkat, fchown; skips on machines that are not tabulated."""
    numbers = {
        "x86_64": {"renameat2": 316, "linkat": 265, "fchown": 93},
        "aarch64": {"renameat2": 276, "linkat": 37, "fchown": 55},
    }.get(os.uname().machine)
    if numbers is None:
        pytest.skip(f"system call numbers of {os.uname().machine} are not known here")
    return numbers[name]


def set_attributes(path: Path, flags: int) -> None:
    """What `chattr` sets: IMMUTABLE, APPEND_ONLY, 0. Skips where the file system has none."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        word = bytearray(struct.calcsize("l"))
        fcntl.ioctl(descriptor, _GET_FLAGS, word)
        kept = struct.unpack_from("I", word)[0] & ~(IMMUTABLE | APPEND_ONLY)
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("I", kept | flags).ljust(len(word), b"\0"))
    except OSError as error:
        pytest.skip(f"no inode attributes here: {error.strerror}")
    finally:
        os.close(descriptor)


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """An ACL as the kernel stores it in `system.posix_acl_*`, from (tag, permissions, id); id -1 where it has none."""
    words = [struct.pack("<HHi", tag, permissions, identifier) for tag, permissions, identifier in entries]
    return struct.pack("<I", 2) + b"".join(words)


def set_attribute(path: Path, name: str, value: bytes) -> None:
    """An extended attribute. Skips where the file system keeps none."""
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip(f"no {name} here: {error.strerror}")


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
