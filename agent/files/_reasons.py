"""What the kernel says, in words: an OSError becomes a HostError with a reason and, where there is one, a way out."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from agent.errors import ConcurrentChangeError, HostError, StaleNamespaceError
from agent.files._kernel import frozen_by, mount_of

_WORDS = {
    errno.ENOENT: "no such directory",
    errno.EAGAIN: "another program holds a lock on its directory",
    errno.ELOOP: "too many symbolic links",
    errno.EDQUOT: "disk quota exceeded",
}

_HINTS = {
    errno.ENOSPC: "free space or inodes there (df -h, df -i)",
    errno.EDQUOT: "raise the quota or free space there",
    errno.EBUSY: "the file itself is a mount point: mount its directory instead, or unmount it",
    errno.EIO: "the disk or its file system fails: see journalctl -k",
    errno.EFBIG: "a file size limit is set for this process (LimitFSIZE=, ulimit -f)",
    errno.EMFILE: "raise LimitNOFILE= of the service",
    errno.ENFILE: "raise fs.file-max of the machine",
    errno.EPERM: "lsattr -d shows attributes that forbid it, chattr removes them",
    errno.EROFS: "findmnt -T shows the mount",
}


def reason_of(error: OSError) -> str:
    """`no space left on device (ENOSPC)`."""
    code = error.errno or 0
    words = _WORDS.get(code) or os.strerror(code).lower()
    return f"{words} ({errno.errorcode.get(code, code)})"


def explained(path: str, error: OSError, doing: str = "") -> HostError:
    """The failure of an operation on `path`; `doing` says which step, where the errno alone would mislead."""
    reason = f"{doing}: {reason_of(error)}" if doing else reason_of(error)
    told = HostError(path, reason, _HINTS.get(error.errno or 0, ""))
    told.__cause__ = error
    return told


def explained_in(path: str, error: OSError, directory: int, bound: Sequence[str]) -> HostError:
    """As `explained`, for an operation in a held directory, which may know more.

    `bound` are the directories that the service manager binds writable for us; () where it has no part in it.
    """
    if error.errno == errno.EROFS and _is_stale(directory, bound):
        reason = "read-only file system (EROFS): the directory is newer than this service's view of the machine"
        return StaleNamespaceError(path, reason, "a restart of the service binds the new directory")
    if error.errno == errno.EPERM and (attribute := frozen_by(directory)):
        return frozen(path, f"its directory is {attribute}")
    return explained(path, error)


def refuse_frozen(path: str, directory: int) -> None:
    """Where an attribute lets us make a file and never remove it again (`chattr +a`), do not begin."""
    if attribute := frozen_by(directory):
        raise frozen(path, f"its directory is {attribute}")


def frozen(path: str, what: str) -> HostError:
    """An attribute that a person has set, and that we never remove."""
    return HostError(path, f"operation not permitted (EPERM): {what}", "lsattr -d shows it, chattr -i -a removes it")


def changed(path: str) -> ConcurrentChangeError:
    """What stands there is not what the plan was made from."""
    return ConcurrentChangeError(path, "changed by somebody else")


def _is_stale(directory: int, bound: Sequence[str]) -> bool:
    """systemd's ProtectSystem= makes the mount read-only, not its file system, and ReadWritePaths= gives each of our
    directories a writable mount of its own: one that lies on a read-only mount from further up came later."""
    mount = mount_of(directory)
    if mount is None or not bound or "INVOCATION_ID" not in os.environ:
        return False
    owns_mount = any(f"{mount.point}/".startswith(f"{path}/") for path in bound)
    return mount.mount_is_read_only and not mount.system_is_read_only and not owns_mount
