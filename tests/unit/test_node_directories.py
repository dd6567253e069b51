"""Which directories the loop watches: those of every file that was looked at, and those that were listed."""

from pathlib import Path

from agent.node import Places, RealHost


def test_directories_of_files_and_listings(tmp_path: Path) -> None:
    """A file that is not there yet counts by its directory, a listed directory by itself, links by both ends."""
    (tmp_path / "etc/real").mkdir(parents=True)
    (tmp_path / "etc/link").symlink_to("real")
    host = RealHost(Places(root=str(tmp_path)))
    host.begin()
    host.read("/etc/a/absent")
    host.list_directory("/etc/link")
    assert host.directories() == {f"{tmp_path}/etc/{name}" for name in ("a", "link", "real")}


def test_a_new_cycle_starts_with_nothing(tmp_path: Path) -> None:
    """What the last cycle listed and this one does not is watched no more."""
    host = RealHost(Places(root=str(tmp_path)))
    host.list_directory("/etc")
    host.begin()
    assert host.directories() == frozenset()
