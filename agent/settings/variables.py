"""The MIRROR_AGENT_* variables, read and checked by pydantic-settings."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent.settings import PREFIX, Color, LogLevel, UsageError, variable


class Variables(BaseSettings):
    """One optional field for each field of Settings. An empty variable counts as not set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=None, env_ignore_empty=True, extra="ignore")

    config: str | None = None
    root: str | None = None
    state_dir: str | None = None
    run_dir: str | None = None
    probe_dir: str | None = None
    log_level: LogLevel | None = None
    color: Color | None = None
    debug: bool | None = None


def read() -> dict[str, Any]:
    """The settings that the environment gives. Raises UsageError that names every wrong variable."""
    try:
        return Variables().model_dump(exclude_none=True)
    except ValidationError as error:
        wrong = (f"{variable(str(e['loc'][0]))}: {e['input']!r}: must be {_right(e)}" for e in error.errors())
        raise UsageError("; ".join(wrong)) from error


def _right(error: ErrorDetails) -> str:
    """What a variable takes: every field is a path, a word of several, or a switch."""
    return str(error.get("ctx", {}).get("expected", "true or false"))
