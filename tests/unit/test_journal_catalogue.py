"""What `journalctl -x` explains: both languages, every kind of event, in the format that systemd compiles."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.events import Event, Kind, Level
from agent.journal import fields
from tests.catalogs import PACKAGING, entries

LANGUAGES = {"": "mirror-agent.catalog", "zh_CN": "mirror-agent.zh_CN.catalog"}
_FULL = Event(Kind.WROTE, "m", Level.INFO, *["x"] * 7)


@pytest.mark.parametrize("name", LANGUAGES.values())
def test_every_kind_of_event_is_explained(name: str) -> None:
    """One entry for each Kind and none for anything else."""
    assert sorted(entries(name)) == sorted(kind.value for kind in Kind)


@pytest.mark.parametrize("name", LANGUAGES.values())
def test_every_entry_is_whole(name: str) -> None:
    """A subject, who defined it, and two paragraphs at least: what happened, and what was done or can be."""
    for identifier, (headers, text) in entries(name).items():
        assert sorted(headers) == ["Defined-By", "Documentation", "Subject"], identifier
        assert headers["Defined-By"] == "mirror-agent"
        assert len(re.split(r"\n\s*\n", text)) >= 2, identifier


def test_both_languages_refer_to_the_same_fields_and_commands() -> None:
    """A translation leaves out no field of the event and no command to type."""
    english, chinese = (
        {key: re.findall(r"@\w+@|`[^`]+`|/etc/\S*yaml", text) for key, (_, text) in entries(name).items()}
        for name in LANGUAGES.values()
    )
    assert {key: sorted(words) for key, words in chinese.items()} == {
        key: sorted(words) for key, words in english.items()
    }


@pytest.mark.parametrize("name", LANGUAGES.values())
def test_only_fields_that_exist_are_referred_to(name: str) -> None:
    """@FIELD@ is replaced by journalctl; each one is a field that events carry."""
    known = {name for name, _ in fields(_FULL)}
    named = set(re.findall(r"@(\w+)@", (PACKAGING / name).read_text(encoding="utf-8")))
    assert named - known == set()


def test_the_translation_is_one() -> None:
    """Every subject and text of the Chinese catalogue is in Chinese."""
    chinese = re.compile(r"[\u4e00-\u9fff]")
    untranslated = [key for key, (head, text) in entries(LANGUAGES["zh_CN"]).items() if not chinese.search(text)]
    subjects = [key for key, (head, _) in entries(LANGUAGES["zh_CN"]).items() if not chinese.search(head["Subject"])]
    assert (untranslated, subjects) == ([], [])


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="journalctl is not installed")
def test_systemd_compiles_both(tmp_path: Path) -> None:
    """`journalctl --update-catalog` takes both files without a word and then knows every entry."""
    directory = tmp_path / "usr/lib/systemd/catalog"
    directory.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    for name in LANGUAGES.values():
        shutil.copy(PACKAGING / name, directory)
    journalctl = ["journalctl", f"--root={tmp_path}", "--no-pager"]
    compiled = subprocess.run([*journalctl, "--update-catalog"], capture_output=True, text=True, check=False)
    assert (compiled.returncode, compiled.stderr) == (0, "")
    listed = subprocess.run([*journalctl, "--list-catalog"], capture_output=True, text=True, check=False)
    subjects = {line.split(" ", 1)[0]: line.split(": ", 1)[1] for line in listed.stdout.splitlines()}
    english = {key: head["Subject"] for key, (head, _) in entries(LANGUAGES[""]).items()}
    assert subjects == english
