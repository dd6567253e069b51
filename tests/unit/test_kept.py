"""Small files of our own: written when they say something new, with one line for what hinders it."""

from agent.errors import HostError
from agent.events import Event, Kind, Level
from agent.kept import Kept


class Disk:
    """Takes bytes, or says why not."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reason = ""

    def put(self, content: bytes) -> None:
        """What a Kept calls."""
        if self.reason:
            raise HostError("/var/lib/x", self.reason)
        self.written.append(content)


def test_what_stands_there_already_is_not_written() -> None:
    """Neither what was found nor what was brought."""
    disk, said = Disk(), list[Event]()
    kept = Kept(disk.put, said.append, b"a")
    for content in (b"a", b"b", b"b", b"a"):
        kept.bring(content)
    assert (disk.written, said) == ([b"b", b"a"], [])


def test_a_failure_is_said_once_and_tried_again() -> None:
    """While the disk is full it is one line; as soon as it is not, the file is what it should be, and the next failure
    is said again."""
    disk, said = Disk(), list[Event]()
    kept = Kept(disk.put, said.append)
    disk.reason = "no space left on device (ENOSPC)"
    for content in (b"a", b"a", b"b"):
        kept.bring(content, "7f3a91c")
    disk.reason = ""
    kept.bring(b"b")
    disk.reason = "no space left on device (ENOSPC)"
    kept.bring(b"c", "7f3a91c")
    line = Event(Kind.FAILED, f"/var/lib/x: {disk.reason}", Level.WARNING, "7f3a91c", path="/var/lib/x")
    assert (disk.written, said, kept.content) == ([b"b"], [line, line], b"b")
