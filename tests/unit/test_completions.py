"""What bash and zsh complete is what the parser takes: commands, options, their values, files and registries."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent import catalogue
from tests.command_line import all_options, commands, program, takes_value

ROOT = Path(__file__).resolve().parents[2]
BASH = ROOT / "packaging" / "completions" / "mirror-agent.bash"
ZSH = ROOT / "packaging" / "completions" / "_mirror-agent"
_COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_mirror_agent "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
COMMANDS = commands()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a file, a directory and the program."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "new.yaml").write_text("version: 1\n")
    script = tmp_path / "mirror-agent"
    script.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -m agent "$@"\n')
    script.chmod(0o755)
    return tmp_path


def completed(place: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words, which may be "" or half typed."""
    command = ["bash", "--norc", "-c", _COMPLETE, "bash", str(BASH), f"{place}/mirror-agent", *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_offers_every_command(place: Path) -> None:
    """All of them, in the order of the help; and those that begin as typed."""
    assert completed(place, "") == list(COMMANDS)
    assert completed(place, "re") == ["revert"]
    assert completed(place, "zz") == []


def test_bash_offers_every_option(place: Path) -> None:
    """Before the command those of the program, behind it those of the command; none else, none missing."""
    assert sorted(completed(place, "-")) == sorted(program().options)
    for name, words in COMMANDS.items():
        assert sorted(completed(place, name, "--")) == sorted(words.options), name


def test_bash_offers_the_words_that_an_option_takes(place: Path) -> None:
    """For each option with a fixed set of words exactly that set, also behind `=`, which readline splits off."""
    chosen = {name: list(each.choices) for name, each in all_options().items() if each.choices}
    assert chosen != {}
    for name, words in chosen.items():
        assert completed(place, "status", name, "") == words
        assert completed(place, "status", name, "=") == words
        assert completed(place, "status", name, "=", words[0][:2]) == [words[0]]


def test_bash_offers_directories_and_files_where_they_belong(place: Path) -> None:
    """An option that takes a DIR completes directories only, one that takes a FILE everything, others nothing."""
    offered = {
        str(each.metavar): sorted(completed(place, name, ""))
        for name, each in all_options().items()
        if takes_value(each) and not each.choices
    }
    files = {"DIR": ["etc"], "FILE": ["etc", "mirror-agent", "new.yaml"]}
    assert offered == {**files, "URL": [], "IMAGE": [], "SECONDS": []}


@pytest.mark.parametrize(
    "before", [[], ["--json"], ["--root", "/"], ["--root", "=", "/"], ["--color", "never", "--debug"]]
)
def test_bash_finds_the_command_behind_options(before: list[str], place: Path) -> None:
    """The value of an option is not taken for the command."""
    assert completed(place, *before, "") == list(COMMANDS)
    assert completed(place, *before, "check", "ne") == ["new.yaml"]


def test_bash_completes_one_argument_and_no_second(place: Path) -> None:
    """Files for FILE; nothing behind it, and nothing for commands that take no argument."""
    assert completed(place, "check", "n") == ["new.yaml"]
    assert completed(place, "check", "new.yaml", "") == []
    without = [name for name, words in COMMANDS.items() if not words.positionals]
    assert {name: completed(place, name, "") for name in without} == {name: [] for name in without}


def test_bash_completes_registries_of_the_catalogue(place: Path) -> None:
    """The program itself is asked, so a newer catalogue completes newer registries."""
    known = {registry for entry in catalogue.mirrors() for registry, _ in entry.serves}
    assert set(completed(place, "mirrors", "")) == known
    assert completed(place, "mirrors", "ghc") == ["ghcr.io"]


def test_zsh_names_every_command_and_option() -> None:
    """The same sets, with `=` behind the options that take a value, and the words that they take."""
    text = ZSH.read_text("utf-8")
    listed = re.search(r"commands=\(\n(.*?)\n  \)", text, re.DOTALL)
    assert listed is not None
    assert re.findall(r"^    '([a-z]+):", listed[1], re.MULTILINE) == list(COMMANDS)
    named = {name: equals == "=" for name, equals in re.findall(r"(?<![\w-])(--[a-z-]+)(=?)", text) if name != "--"}
    assert named == {name: takes_value(each) for name, each in all_options().items()}
    for name, each in all_options().items():
        if each.choices:
            assert f"'{name}=" in text
            assert f":({' '.join(each.choices)})'" in text


def test_zsh_completes_the_arguments_that_there_are() -> None:
    """Each command with an argument has a line of its own."""
    text = ZSH.read_text("utf-8")
    own = re.findall(r"^        ([a-z]+)\) _arguments \$common '1:", text, re.MULTILINE)
    assert sorted(own) == sorted(name for name, words in COMMANDS.items() if words.positionals)


@pytest.mark.parametrize(("shell", "file"), [("bash", BASH), ("zsh", ZSH)])
def test_the_shell_can_read_it(shell: str, file: Path) -> None:
    """`bash -n` and `zsh -n` find nothing."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
