"""The hidden names under which new files wait beside their targets, and old ones go."""

from __future__ import annotations

import hashlib
import os

_SUFFIX = ".mirror-agent"
_LONGEST_NAME = 200
"""In bytes; file systems end at 255, and the temp's name is longer than the target's."""

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def temp_name(name: str) -> str:
    """Always the same for one target, so that the next write finds what a crash left.

    It ends in nothing that containerd or Docker read (`.crt`, `.cert`, `.key`, `.toml`, `.json`).
    """
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}{_SUFFIX}"


def is_temp_name(name: str) -> bool:
    return name.startswith(".") and name.endswith(_SUFFIX)


def create_temp(directory: int, temp: str) -> int:
    """A new, empty file that only we can read from its first byte on."""
    return os.open(temp, _CREATE, 0o600, dir_fd=directory)


def remove_temp(directory: int, temp: str) -> bool:
    """Remove what an earlier run left under a temp name; whether there was something."""
    try:
        os.unlink(temp, dir_fd=directory)
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        os.rmdir(temp, dir_fd=directory)
    return True


def write_all(descriptor: int, content: bytes) -> None:
    """Write from the start of the file, however little the kernel takes at a time."""
    view = memoryview(content)
    offset = 0
    while offset < len(content):
        offset += os.pwrite(descriptor, view[offset:], offset)
