"""Taking a file away without losing what somebody else has put there meanwhile."""

from __future__ import annotations

import errno
import os

from agent.files._contents import insist
from agent.files._kernel import RENAME_NOREPLACE, renameat2
from agent.files._reasons import changed
from agent.files._temps import remove_temp, temp_name
from agent.model import Regular


def link_at(directory: int, name: str) -> str:
    """Where a link leads; "" for anything else, and for nothing."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOENT}:
            return ""
        raise


class Removal:
    """Of one entry: a file with the expected content, or a link (the link itself goes) to where it leads now.

    It moves to its temp name first, where nobody changes it by its own name any more, and is looked at there.
    """

    def __init__(self, directory: int, name: str, path: str) -> None:
        self._directory = directory
        self._name = name
        self._temp = temp_name(name)
        self._path = path
        self._link = link_at(directory, name)

    def carry_out(self, expected: Regular) -> None:
        """Raises ConcurrentChangeError: what somebody else has changed stays where it is. And OSError."""
        self._insist(self._name, expected)
        remove_temp(self._directory, self._temp)
        try:
            moved = renameat2(self._directory, self._name, self._temp, RENAME_NOREPLACE)
        except FileNotFoundError:
            raise changed(self._path) from None
        if moved:
            self._finish(expected)
        else:
            os.unlink(self._name, dir_fd=self._directory)
        os.fsync(self._directory)

    def _finish(self, expected: Regular) -> None:
        try:
            self._insist(self._temp, expected)
            os.unlink(self._temp, dir_fd=self._directory)
        except BaseException:
            self._put_back()
            raise

    def _insist(self, name: str, expected: Regular) -> None:
        if not self._link:
            insist(self._directory, name, self._path, expected)
        elif link_at(self._directory, name) != self._link:
            raise changed(self._path)

    def _put_back(self) -> None:
        """Unless somebody has made a new one meanwhile: then the newest stays."""
        try:
            renameat2(self._directory, self._temp, self._name, RENAME_NOREPLACE)
        except FileExistsError:
            remove_temp(self._directory, self._temp)
