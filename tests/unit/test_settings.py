"""Settings: flags win over variables, variables over defaults, and what is wrong is named."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import settings
from agent.settings import Settings, UsageError


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "ROOT", "STATE_DIR", "RUN_DIR", "PROBE_DIR", "LOG_LEVEL", "COLOR", "DEBUG"):
        monkeypatch.delenv(f"MIRROR_AGENT_{name}", raising=False)


def test_nothing_given_means_the_packaged_places() -> None:
    """Without flags and variables everything lies where the package puts it."""
    assert settings.load({}) == Settings(
        config="/etc/mirror-agent.yaml",
        root="/",
        state_dir="/var/lib/mirror-agent",
        run_dir="/run/mirror-agent",
        probe_dir="/run/mirror-agent-probe",
        log_level="info",
        color="auto",
        debug=False,
    )


def test_flags_win_over_variables_and_variables_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag beats its variable; a variable without a flag beats the default; an empty one counts as not set."""
    monkeypatch.setenv("MIRROR_AGENT_CONFIG", "/srv/a.yaml")
    monkeypatch.setenv("MIRROR_AGENT_COLOR", "never")
    monkeypatch.setenv("MIRROR_AGENT_DEBUG", "true")
    monkeypatch.setenv("MIRROR_AGENT_RUN_DIR", "")
    loaded = settings.load({"color": "always"})
    assert loaded == Settings(config="/srv/a.yaml", color="always", debug=True)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("COLOR", "blue", ["MIRROR_AGENT_COLOR", "'blue'", "must be 'auto', 'always' or 'never'"]),
        ("LOG_LEVEL", "loud", ["MIRROR_AGENT_LOG_LEVEL", "'loud'", "'debug'"]),
        ("DEBUG", "maybe", ["MIRROR_AGENT_DEBUG", "'maybe'", "must be true or false"]),
        ("CONFGI", "/x", ["MIRROR_AGENT_CONFGI", "unknown variable", "did you mean MIRROR_AGENT_CONFIG?"]),
        ("ZZZZZZZ", "1", ["MIRROR_AGENT_ZZZZZZZ", "unknown variable", "known are MIRROR_AGENT_CONFIG, "]),
    ],
)
def test_a_wrong_variable_is_named_with_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: list[str]
) -> None:
    """An unknown variable or value is a usage error that says which and what is known."""
    monkeypatch.setenv(f"MIRROR_AGENT_{name}", value)
    with pytest.raises(UsageError) as caught:
        settings.load({})
    assert [word for word in words if word not in str(caught.value)] == []


def test_the_variables_of_the_tests_are_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What steers the tests of a checkout does not disturb the program they run."""
    monkeypatch.setenv("MIRROR_AGENT_NODE_TESTS", "required")
    monkeypatch.setenv("MIRROR_AGENT_SOAK", "1")
    assert settings.load({}) == Settings()


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the running system a path is meant from where the caller stands, and so is a root."""
    monkeypatch.chdir(tmp_path)
    assert settings.load({"config": "a.yaml"}).config == f"{tmp_path}/a.yaml"
    (tmp_path / "image").mkdir()
    assert settings.load({"root": "image"}).root == f"{tmp_path}/image"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"root": "/nowhere"}, "--root /nowhere: no such directory"),
        (
            {"root": "/tmp", "config": "a.yaml"},
            "--config a.yaml: below --root /tmp this must be absolute, as it is seen there",
        ),
        (
            {"root": "/tmp", "run_dir": "run"},
            "--run-dir run: below --root /tmp this must be absolute, as it is seen there",
        ),
    ],
)
def test_a_place_that_cannot_be_meant_is_refused(flags: dict[str, Any], message: str) -> None:
    """A root that is not there, and a relative path below a root, are usage errors."""
    with pytest.raises(UsageError) as caught:
        settings.load(flags)
    assert str(caught.value) == message


def test_without_variables_pydantic_is_not_imported() -> None:
    """What a unit starts pays nothing for a convenience it does not use."""
    code = "import sys; from agent import settings; settings.load({}); sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={}, check=False).returncode == 0
