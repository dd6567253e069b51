"""Directories: made with an exact mode in one step, removed only when empty, swept of what our writes left."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from agent.files._kernel import RENAME_NOREPLACE, closing, renameat2
from agent.files._temps import is_temp_name, remove_temp, temp_name

_NOT_AN_EMPTY_DIRECTORY = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR)

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make(parent: int, name: str, mode: int) -> None:
    """Make a directory that appears with its mode, whatever the umask. The caller flushes its parent. Raises
    FileExistsError and other OSErrors."""
    temp = temp_name(name)
    remove_temp(parent, temp)
    os.mkdir(temp, 0o700, dir_fd=parent)
    try:
        _set_mode(parent, temp, mode)
        if not renameat2(parent, temp, name, RENAME_NOREPLACE):
            os.rename(temp, name, src_dir_fd=parent, dst_dir_fd=parent)  # onto nothing, or an empty directory
    except BaseException:
        with suppress(OSError):
            os.rmdir(temp, dir_fd=parent)
        raise


def remove_if_empty(parent: int, name: str) -> None:
    """Left-over temps of ours do not count. A link, a file, nothing, somebody else's content: nothing happens."""
    try:
        with closing(os.open(name, _OPEN, dir_fd=parent)) as directory:
            sweep(directory)
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno in _NOT_AN_EMPTY_DIRECTORY:
            return
        raise
    os.fsync(parent)


def sweep(directory: int) -> int:
    """Remove every left-over temp of ours; how many there were."""
    return sum(remove_temp(directory, name) for name in os.listdir(directory) if is_temp_name(name))


def names(parent: int, name: str) -> tuple[str, ...]:
    """What a directory holds, sorted, without left-over temps of ours."""
    with closing(os.open(name, _OPEN, dir_fd=parent)) as directory:
        return tuple(sorted(entry for entry in os.listdir(directory) if not is_temp_name(entry)))


def _set_mode(parent: int, name: str, mode: int) -> None:
    with closing(os.open(name, _OPEN, dir_fd=parent)) as directory:
        os.fchmod(directory, mode)
