"""Which part of what is wanted dockerd itself would start with (`dockerd --validate`), before anything is written.

A setting that it refuses is left out alone: a mistake in one keeps neither the mirrors nor the other settings waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from agent.host import HostReader
from agent.model import Setting
from agent.runtimes._docker_file import FilePlan
from agent.runtimes._docker_observed import ObservedDocker, main_file
from agent.runtimes._docker_validate import Validator, Verdicts
from agent.runtimes._docker_wants import Wants

DAEMONS = ("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd")
"""Where the program is looked for."""

_MOST_SETTINGS_ASKED_ONE_BY_ONE = 12
"""Each costs a process, some 0.1 s, in every look until the mistake is mended."""

Refusal = Callable[[bytes | None], str]
"""Why dockerd would not start with this content, "" if it would."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be written (None: nothing), and why that is not all."""

    wants: Wants | None
    refused: tuple[str, ...] = ()


def verdicts_of(host: HostReader, observed: ObservedDocker, wants: Wants) -> Verdicts:
    """Ask dockerd about the file that is to be written, and about one that the running daemon has not started with.
    If it refuses it: also about the file as it stands, and about as much of ours as it may take."""
    if wants.is_empty and observed.main.entry is None:
        return Verdicts()
    wants = observed.guard.admit(wants).wants
    wanted, standing = _wanted(observed, wants), _standing(observed)
    changed_at, started_at = observed.file_changed_at or 0.0, observed.unit.started_at
    if wanted == standing and not (observed.unit.is_up and changed_at > started_at):
        return Verdicts()
    running = observed.arguments[0] if observed.arguments else ""
    program = running if running.startswith("/") else next(filter(host.exists, DAEMONS), "")
    validator = Validator(host, program, observed.flags)
    said: dict[bytes, str] = {}

    def refusal(content: bytes | None) -> str:
        if content is None:
            return ""
        if content not in said:
            said[content] = validator.refusal(content)
        return said[content]

    _choose(observed, wants, refusal)
    return Verdicts(said)


def choose(observed: ObservedDocker, wants: Wants) -> Choice:
    """What dockerd itself would start with: all of it; else, where the file as it stands is good, as many of the
    settings as it takes; else what is there without anything of ours. Where even then it would not start, others have
    to mend it, and ours may be written as well."""
    return _choose(observed, wants, observed.verdicts.refusal)


# --- inside ----------------------------------------------------------------------------------------------------------


def _choose(observed: ObservedDocker, wants: Wants, refusal: Refusal) -> Choice:
    why = refusal(_wanted(observed, wants))
    if not why:
        return Choice(wants)
    said = f"`dockerd --validate` refuses the file with what is desired: {why}"
    if not refusal(_standing(observed)):
        part, refused = _sound_part(observed, wants, refusal)
        if part is not None:
            return Choice(part, tuple(f"{key}: `dockerd --validate` refuses it: {why}" for key, why in refused.items()))
        return Choice(None, (f"{said}; nothing of it is written until that is mended",))
    nothing = Wants(flagged=wants.flagged)
    if not refusal(_wanted(observed, nothing)):
        return Choice(nothing, (f"{said}; what stood there before comes back",))
    return Choice(wants)


def _sound_part(observed: ObservedDocker, wants: Wants, refusal: Refusal) -> tuple[Wants | None, Mapping[str, str]]:
    """The wants with as many of the settings as dockerd takes together, each of the others as it stands, and what it
    says of those; None if it is not the settings that it refuses, or there are too many to ask about."""
    guard = observed.guard
    standing = {setting.key: guard.standing(setting) for setting in wants.settings}
    news = [setting for setting in wants.settings if standing[setting.key] != setting]
    if len(news) > _MOST_SETTINGS_ASKED_ONE_BY_ONE or refusal(_wanted(observed, _with(wants, standing))):
        return None, {}
    refused: dict[str, str] = {}
    for setting in (*news, *news):  # twice: a setting can need one that comes after it
        if standing[setting.key] == setting:
            continue
        attempt = {**standing, setting.key: setting}
        if why := refusal(_wanted(observed, _with(wants, attempt))):
            refused[setting.key] = why
        else:
            standing = attempt
            refused.pop(setting.key, None)
    return (_with(wants, standing), refused) if refused else (None, {})


def _with(wants: Wants, settings: Mapping[str, Setting | None]) -> Wants:
    return replace(wants, settings=tuple(setting for setting in settings.values() if setting is not None))


def _wanted(observed: ObservedDocker, wants: Wants) -> bytes | None:
    """The file as it is to be."""
    return main_file(observed, wants).content(observed.main)


def _standing(observed: ObservedDocker) -> bytes | None:
    """The file as it stands."""
    return FilePlan().content(observed.main)
