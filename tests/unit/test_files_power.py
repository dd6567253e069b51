"""Power cuts on a real ext4: after each one every file is old or new, and what was reported done is there."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.errors import HostError
from agent.files import FileSystem
from agent.model import FileState, Regular
from agent.plan import RemoveFile, WriteFile
from tests import crash, sandbox
from tests.disk import quick_directory
from tests.sandbox import needs_root

CUTS = 200
NAMES = ("a.json", "b.json", "c.json")

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN: from here on nothing reaches the disk, as if the power were gone."""

_FLUSH_JOURNAL, _DROP_JOURNAL = 1, 2


@pytest.fixture
def disk() -> Iterator[str]:
    """A small disk with an empty ext4 on it."""
    tools = [shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin:/bin") for tool in ("mkfs.ext4", "losetup")]
    if None in tools:
        pytest.skip("needs mkfs.ext4 and losetup")
    make, attach = tools
    with quick_directory() as directory:
        image = directory / "image"
        image.write_bytes(b"")
        os.truncate(image, 8 << 20)
        subprocess.run([str(make), "-q", "-N", "64", "-b", "1024", "-m", "0", str(image)], check=True)
        attached = subprocess.run(
            [str(attach), "-f", "--show", str(image)], capture_output=True, text=True, check=False
        )
        if attached.returncode:
            pytest.skip(f"no loop device: {attached.stderr.strip()}")
        yield attached.stdout.strip()
        subprocess.run([str(attach), "-d", attached.stdout.strip()], check=True)


class Machine:
    """A directory on the disk. `possible`: what may stand in each file after a cut, the last that was reported done
    and everything tried since."""

    def __init__(self, disk: str, where: Path) -> None:
        self._disk = disk
        self.where = where
        self.files = FileSystem(str(where), ["/docker"])
        self.possible: dict[str, set[bytes | None]] = {name: {None} for name in NAMES}
        self._version = 0

    def switch_on(self) -> None:
        """noauto_da_alloc: without the heuristics by which ext4 repairs careless programs."""
        sandbox.mount_ext4(self._disk, self.where, "noauto_da_alloc")
        (self.where / "docker").mkdir(exist_ok=True)

    def switch_off(self) -> None:
        sandbox.unmount(self.where)

    def cut(self, how: int) -> None:
        descriptor = os.open(self.where, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", how))
        finally:
            os.close(descriptor)

    def found(self) -> dict[str, bytes | None]:
        contents = {name: self.where / "docker" / name for name in NAMES}
        return {name: path.read_bytes() if path.exists() else None for name, path in contents.items()}

    def next_content(self) -> bytes:
        self._version += 1
        return b'{"version": %d, "padding": "%s"}' % (self._version, b"x" * (self._version * 977 % 5_000))

    def write(self, *names: str) -> None:
        content = self.next_content()
        for name in names:
            self.possible[name].add(content)
        orders = [WriteFile(f"/docker/{name}", content, "", self.state(name)) for name in names]
        for name, error in zip(names, self.files.write_files(orders), strict=True):
            assert error is None or errno.errorcode[errno.EIO] in str(error), error
            if error is None:
                self.possible[name] = {content}

    def remove(self, name: str) -> None:
        state = self.state(name)
        if isinstance(state, Regular):
            self.possible[name].add(None)
            self.files.remove_file(RemoveFile(f"/docker/{name}", "", state))
            self.possible[name] = {None}

    def state(self, name: str) -> FileState:
        return self.files.read(f"/docker/{name}")


def work(machine: Machine) -> None:
    """Everything that can be done to files, until the power goes."""
    try:
        machine.write("a.json")
        machine.write("b.json", "c.json")
        machine.remove("a.json")
        machine.write("a.json", "b.json")
    except HostError as error:
        if "EIO" not in str(error):
            raise


def cut_again(machine: Machine, program: Callable[[Machine], None], cuts: int) -> Iterator[int]:
    """Run the program with a cut at a random call, and switch on again; the number of each cut."""
    dice = random.Random(2026)
    machine.switch_on()
    calls = crash.count_calls(partial(program, machine))
    program(machine)
    for number in range(cuts):
        how = (_FLUSH_JOURNAL, _DROP_JOURNAL)[number % 2]
        call = dice.randint(1, calls)
        crash.run_interleaved({call: partial(machine.cut, how)}, partial(program, machine))
        machine.switch_off()
        machine.switch_on()
        yield number


@needs_root
@pytest.mark.slow
def test_power_cuts(disk: str, tmp_path: Path) -> None:
    """200 cuts at random calls, with the journal flushed or not: old or new each time, and never less than reported.

    What was left over of a write is swept, and the next one succeeds.
    """

    def cuts() -> tuple[int, int]:
        machine = Machine(disk, tmp_path)
        old, left_over = 0, 0
        for number in cut_again(machine, work, CUTS):
            for name, content in machine.found().items():
                assert content in machine.possible[name], (number, name)
                old += len(machine.possible[name]) > 1
                machine.possible[name] = {content}
            left_over += machine.files.sweep("/docker")
        return old, left_over

    undecided, left_over = sandbox.with_own_mounts(cuts)
    assert undecided > CUTS / 2
    assert left_over > CUTS / 20


def work_carelessly(machine: Machine) -> None:
    """As too many programs do: temp and rename, but nothing is flushed."""
    target = machine.where / "docker" / NAMES[0]
    try:
        for _ in range(10):
            temp = target.with_suffix(".tmp")
            temp.write_bytes(machine.next_content())
            temp.rename(target)
    except OSError as error:
        if error.errno != errno.EIO:
            raise


@needs_root
def test_the_cuts_show_what_a_careless_program_loses(disk: str, tmp_path: Path) -> None:
    """The same cuts leave an empty or missing file behind a program that does not flush: what is proved can fail."""

    def cuts() -> set[bytes | None]:
        machine = Machine(disk, tmp_path)
        return {machine.found()[NAMES[0]] for _ in cut_again(machine, work_carelessly, 20)}

    assert sandbox.with_own_mounts(cuts) & {b"", None}
