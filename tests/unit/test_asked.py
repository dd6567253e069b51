"""What a program said is asked for once, and again when it may say something else."""

from pathlib import Path

from agent.asked import Asked
from agent.model import CommandResult, UnitState, UnitTies

HERE = CommandResult(0, "1\n", "")


def counting(directory: Path, first: str = "") -> tuple[str, str]:
    """A program that counts how often it was run, and a shell to run it; `first` is done before that."""
    script = directory / "script"
    script.write_text(f"{first}\necho x >> {directory}/runs; cat {directory}/runs | wc -l\n")
    return "/bin/sh", str(script)


def test_the_same_question_is_asked_once(tmp_path: Path) -> None:
    """Until one of the files that it names changes; `refresh` alone does not matter to a program's answer."""
    signatures = {"": 1}
    asked = Asked(lambda _: (signatures[""],), has_units=True)
    argv = counting(tmp_path)
    assert [asked.command(argv), asked.command(argv)] == [HERE, HERE]
    asked.refresh()
    assert asked.command(argv) == HERE
    signatures[""] = 2
    assert asked.command(argv) == CommandResult(0, "2\n", "")


def test_a_question_about_more_files_than_it_names(tmp_path: Path) -> None:
    """It is asked again when one of those changes, when there is one more, and when one is no longer among them."""
    signatures = {"/a": (1,), "/b": (1,)}
    asked = Asked(lambda path: signatures.get(path, (0,)), has_units=True)
    argv = counting(tmp_path)
    said = [asked.command(argv, files=files) for files in (["/a"], ["/a"], ["/a", "/b"], ["/b"], ["/b"])]
    signatures["/b"] = (2,)
    said.append(asked.command(argv, files=["/b"]))
    assert [each.stdout for each in said if each] == ["1\n", "1\n", "2\n", "3\n", "3\n", "4\n"]


def test_silence_is_no_answer_for_ever(tmp_path: Path) -> None:
    """What could not be run costs its time once in a look, and is tried again in the next one."""
    asked = Asked(lambda _: None, has_units=True)
    program = tmp_path / "program"
    assert [asked.command([str(program)]), asked.command([str(program)])] == [None, None]
    program.write_text("#!/bin/sh\necho 1\n")
    program.chmod(0o755)
    assert asked.command([str(program)]) is None
    asked.refresh()
    assert asked.command([str(program)]) == HERE


def test_nothing_is_asked_where_units_are_not_ours() -> None:
    """Below a root other than / nothing is run and nobody is asked."""
    asked = Asked(lambda _: None, has_units=False)
    assert asked.command(["/bin/true"]) is None
    assert (asked.unit("x.service"), asked.ties("x.service")) == (UnitState(), UnitTies())
    assert (asked.query("/run/x.sock", "/"), asked.arguments(1)) == (None, ())
