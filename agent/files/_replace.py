"""Putting one file in the place of another: the only code that renames (DESIGN 4.1).

A file is *staged* beside its target, whole and checked, *flushed*, and only then *placed* there by one rename. Whatever
goes wrong before the rename leaves the old file as it was; after it, the file that came out is compared with what the
plan was made from, and put back if it is something else.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from agent.errors import HostError
from agent.files._contents import MAX_BYTES, NotRegularError, flaw_in, insist, open_regular, read_open, too_large
from agent.files._kernel import RENAME_EXCHANGE, RENAME_NOREPLACE, close, closing, frozen_by, renameat2
from agent.files._paths import Identity
from agent.files._reasons import changed, explained, frozen, reason_of
from agent.files._temps import create_temp, remove_temp, temp_name, write_all
from agent.model import Absent, Regular, Unusable
from agent.plan import WriteFile

_MOST_SWAPS = 100
"""Of a file and its replacement, while somebody else keeps replacing it too."""

_ACL = "system.posix_acl_access"

_NOT_OURS_TO_COPY = frozenset({"security.ima", "security.evm", "security.capability"})
"""Made by the kernel from the content, or cleared by it with every write."""

_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


_Fingerprint = tuple[int, int, int, int, int]
"""Device, inode, size and times: what changes with a file, seen without opening it."""


class Replacement:
    """One file on its way. Each step raises HostError or OSError; close it in any case, which removes what it left."""

    def __init__(self, order: WriteFile, name: str, directory: int) -> None:
        self.order = order
        self.directory = directory
        self.broken_links = 0
        self._name = name
        self._temp = temp_name(name)
        self._descriptor = -1
        self._leaves_temp = False
        self._fingerprint: _Fingerprint | None = None

    def close(self) -> None:
        """Forget the file: nothing of it stays but what was placed."""
        if self._leaves_temp:
            self._leaves_temp = False
            with suppress(OSError):  # the next write of this file, or the next start, sweeps it
                remove_temp(self.directory, self._temp)
        if self._descriptor >= 0:
            close(self._descriptor)
            self._descriptor = -1

    # --- staging -----------------------------------------------------------------------------------------------------

    def stage(self) -> None:
        """Write the whole file beside its target, as it will stand there."""
        before = self.order.replaces
        if isinstance(before, Unusable):
            raise HostError(self.order.path, before.reason)
        if len(self.order.content) > MAX_BYTES:
            raise HostError(self.order.path, f"refused to write it: it {too_large(MAX_BYTES)}")
        self._fingerprint = self._fingerprint_now()
        self._insist(self._name)
        remove_temp(self.directory, self._temp)
        owner = self.order.owner
        if isinstance(before, Regular):
            self._create_successor()
            owner = owner or (before.uid, before.gid)
        else:
            self._create()
        self._fill()
        self._finish(owner)

    def _create(self) -> None:
        self._descriptor = create_temp(self.directory, self._temp)
        self._leaves_temp = True

    def _create_successor(self) -> None:
        """Of an existing file, whose attributes it inherits."""
        with closing(self._open_old()) as old:
            if attribute := frozen_by(old):
                raise frozen(self.order.path, f"it is {attribute}")
            self.broken_links = os.fstat(old).st_nlink - 1
            self._create()
            self._keep_attributes(old)

    def _open_old(self) -> int:
        try:
            return open_regular(self.directory, self._name)
        except (FileNotFoundError, NotRegularError):
            raise changed(self.order.path) from None

    def _keep_attributes(self, old: int) -> None:
        """While the new file is still empty: an ACL opens it for a moment, and there must be nothing to see."""
        names = _attributes(old) - _NOT_OURS_TO_COPY
        inherited = _attributes(self._descriptor)
        if _ACL in inherited - names:
            os.removexattr(self._descriptor, _ACL)
        for name in sorted(names):
            self._keep_attribute(name, os.getxattr(old, name), given_by_kernel=name in inherited)
        os.fchmod(self._descriptor, 0o600)

    def _keep_attribute(self, name: str, value: bytes, *, given_by_kernel: bool) -> None:
        if given_by_kernel and os.getxattr(self._descriptor, name) == value:
            return
        try:
            os.setxattr(self._descriptor, name, value)
        except OSError as error:
            # A label that the kernel does not give to new files itself belongs to a security module that is off.
            is_idle_label = name.startswith("security.") and not given_by_kernel
            if error.errno != errno.EOPNOTSUPP and not is_idle_label:
                raise explained(self.order.path, error, f"cannot keep its attribute {name}") from error

    def _fill(self) -> None:
        content = self.order.content
        write_all(self._descriptor, content)
        if read_open(self._descriptor).content != content:
            raise HostError(self.order.path, "what was written does not read back the same")
        if not self.order.verbatim and (flaw := flaw_in(self.order.path, content)):
            raise HostError(self.order.path, f"refused to write it: {flaw}")

    def _finish(self, owner: tuple[int, int] | None) -> None:
        """Mode before owner: a file that belongs to somebody else can be changed no more without CAP_FOWNER."""
        os.fchmod(self._descriptor, self.order.mode)
        info = os.fstat(self._descriptor)
        if owner is not None and owner != (info.st_uid, info.st_gid):
            self._give_to(owner)

    def _give_to(self, owner: tuple[int, int]) -> None:
        try:
            os.fchown(self._descriptor, *owner)
        except OSError as error:
            who = f"{owner[0]}:{owner[1]}"
            reason = f"cannot keep its owner {who}: {reason_of(error)}"
            raise HostError(self.order.path, reason, "the service needs CAP_CHOWN for that") from error

    def flush(self) -> None:
        """Bring the staged file to the disk. If that fails it is thrown away: a second try could succeed and lie."""
        os.fsync(self._descriptor)

    # --- placing -----------------------------------------------------------------------------------------------------

    def place(self) -> None:
        """Rename it into its place, if what stands there is still what it was made to replace."""
        if self._fingerprint_now() != self._fingerprint:
            self._insist(self._name)
        if isinstance(self.order.replaces, Absent):
            self._appear()
        elif not self._exchange():
            self._rename()

    def _rename(self) -> None:
        """Where kernel or file system can do no better: a change between this look and the rename would be lost."""
        self._insist(self._name)
        os.rename(self._temp, self._name, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        self._leaves_temp = False

    def _appear(self) -> None:
        try:
            if renameat2(self.directory, self._temp, self._name, RENAME_NOREPLACE):
                self._leaves_temp = False
            else:
                self._appear_by_link()
        except FileExistsError:
            raise changed(self.order.path) from None

    def _appear_by_link(self) -> None:
        """Where the file system has no RENAME_NOREPLACE. The temp name goes when this is closed."""
        try:
            os.link(self._temp, self._name, src_dir_fd=self.directory, dst_dir_fd=self.directory, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self._rename()

    def _exchange(self) -> bool:
        """Swap old and new, look at what came out, and swap back if it is not what it was thought to be."""
        if not self._swap():
            return False
        try:
            self._insist(self._temp)
        except BaseException:
            self._swap_back()
            raise
        os.unlink(self._temp, dir_fd=self.directory)
        self._leaves_temp = False
        return True

    def _swap(self) -> bool:
        try:
            return renameat2(self.directory, self._temp, self._name, RENAME_EXCHANGE)
        except FileNotFoundError:
            raise changed(self.order.path) from None

    def _swap_back(self) -> None:
        """Put back what came out, unless it is outdated by then: of what others placed, the newest must stay."""
        self._leaves_temp = False  # while it is not ours
        placed = _identity_of(os.fstat(self._descriptor))
        for _ in range(_MOST_SWAPS):
            taken_out = self._identity_at(self._temp)
            if not self._swap() or self._identity_at(self._temp) == placed:
                break
            placed = taken_out
        self._leaves_temp = True

    def _identity_at(self, name: str) -> Identity:
        return _identity_of(os.stat(name, dir_fd=self.directory, follow_symlinks=False))

    def _fingerprint_now(self) -> _Fingerprint | None:
        try:
            info = os.stat(self._name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return (*_identity_of(info), info.st_size, info.st_mtime_ns, info.st_ctime_ns)

    def _insist(self, name: str) -> None:
        insist(self.directory, name, self.order.path, self.order.replaces)


def _identity_of(info: os.stat_result) -> Identity:
    return (info.st_dev, info.st_ino)


def _attributes(descriptor: int) -> set[str]:
    try:
        return set(os.listxattr(descriptor))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return set()
        raise


def replace_own(directory: int, name: str, content: bytes, mode: int, *, durable: bool) -> None:
    """Replace a file that nobody but us writes, without regard to what it was. Raises OSError."""
    temp = temp_name(name)
    remove_temp(directory, temp)
    try:
        _write_own(directory, temp, content, mode, durable=durable)
        os.rename(temp, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            remove_temp(directory, temp)
        raise
    if durable:
        os.fsync(directory)


def _write_own(directory: int, temp: str, content: bytes, mode: int, *, durable: bool) -> None:
    with closing(create_temp(directory, temp)) as descriptor:
        write_all(descriptor, content)
        os.fchmod(descriptor, mode)
        if durable:
            os.fsync(descriptor)
