"""What `probe` reads and what it leaves: the daemon's targets, and the verdicts over them in a directory of its own."""

from __future__ import annotations

import os
import time

from agent import image
from agent.cli.session import Session
from agent.errors import MirrorAgentError
from agent.targets import (
    MAX_BYTES,
    Blind,
    ProbeTarget,
    Sample,
    decode_blind,
    decode_samples,
    decode_targets,
    encode_samples,
)

_SLACK_SECONDS = 5.0
"""What is due so soon is done now: the daemon starts the probe when the first is due, and the next may follow soon."""
_SAID = "said"
_MODE = 0o644


class Verdicts:
    """The targets as the daemon last wrote them, with the newest verdict over each. Raises MirrorAgentError."""

    def __init__(self, session: Session, targets_path: str) -> None:
        self._session = session
        self._targets_path = targets_path
        found, now = self._found("verdicts.json"), time.time()
        self._samples = {each.key: each for each in decode_samples(found, now)}
        self._was_blind = {each.key: each for each in decode_blind(found, now)}
        self._targets: tuple[ProbeTarget, ...] = ()
        self._blind: dict[ProbeTarget, Blind] = {}
        self.look()

    def look(self) -> None:
        """Read the targets again; without the file there are none. Over what cannot be probed from here nothing can be
        said any more."""
        data = _read(self._targets_path)
        try:
            self._targets = decode_targets(data) if data else ()
        except ValueError as error:
            raise MirrorAgentError(
                f"{self._targets_path}: {error}; the daemon writes it anew when it starts"
            ) from error

        whys = {each: why for each in self._targets if (why := blindness(self._session, each))}
        self._blind = {target: self._noted(target, why) for target, why in whys.items()}
        for target in self._blind:
            self._samples.pop(target.key, None)

    def due(self) -> list[ProbeTarget]:
        """Those whose time has come, the longest overdue first; none for which a verdict has been given since then.
        What could not be looked at until now is due at once."""
        now = time.time()
        seen = [each for each in self._targets if each not in self._blind]
        new = {key for key in self._was_blind if key not in self._samples}
        found = [each for each in seen if each.key in new or is_due(each, self._samples.get(each.key), now)]
        return sorted(found, key=lambda each: each.due)

    def _noted(self, target: ProbeTarget, why: str) -> Blind:
        """As it was found before, until it is due to be looked at again."""
        now, known = time.time(), self._blind.get(target) or self._was_blind.get(target.key)
        if known is not None and known.why == why and not is_due(target, known, now):
            return known
        return Blind(target.registry, target.url, why, now)

    def of(self, target: ProbeTarget) -> Sample | None:
        """The last verdict over a target."""
        return self._samples.get(target.key)

    def all(self) -> tuple[Sample, ...]:
        """The last verdicts over what is listed, in its order."""
        keys = dict.fromkeys(each.key for each in self._targets)
        return tuple(self._samples[key] for key in keys if key in self._samples)

    def note(self, sample: Sample) -> None:
        """Keep a new verdict, and write them all. Raises HostError."""
        self._samples[sample.key] = sample
        self.write()

    def write(self) -> None:
        """Whole, for everybody to read; what is no longer listed goes. Raises HostError."""
        self._replace("verdicts.json", encode_samples(self.all(), tuple(self._blind.values())))

    def complain(self) -> None:
        """Say what cannot be probed, each once while it is so, however often the probe runs; and leave no verdict over
        it, but why. Raises HostError."""
        found = {each.key: each for each in self._blind.values()}
        if found != self._was_blind:
            self.write()
        lines = list(dict.fromkeys(f"{each.url} is not probed: {each.why}" for each in found.values()))
        said = self._found(_SAID).decode("utf-8", "replace").splitlines()
        if lines == said:
            return
        for line in lines:
            if line not in said:
                self._session.terminal.complain(f"mirror-agent: {line}")
        self._replace(_SAID, "".join(f"{line}\n" for line in lines).encode())

    def _found(self, name: str) -> bytes:
        return _read(f"{self._session.probe_directory}/{name}")

    def _replace(self, name: str, content: bytes) -> None:
        from agent.files import FileSystem

        settings = self._session.settings
        _make(self._session.probe_directory)
        place = FileSystem(settings.root, (settings.probe_dir,))
        place.replace_file(f"{settings.probe_dir}/{name}", content, _MODE, durable=False)


def is_due(target: ProbeTarget, sample: Sample | Blind | None, now: float) -> bool:
    """Whether its time has come. A verdict from behind that time is an answer already, which the daemon has not read
    yet: so a daemon that is not there has nothing probed for ever."""
    return target.due <= now + _SLACK_SECONDS and (sample is None or sample.at < target.due)


def blindness(session: Session, target: ProbeTarget) -> str:
    """Why a probe could say nothing about a target, "" if it can: a CA file that only root may read says nothing about
    the mirror, and neither would its verdict."""
    for path in target.ca:
        try:
            with open(session.here(path), "rb") as file:
                file.read(1)
        except OSError as error:
            remedy = "; a CA is no secret: let everybody read it" if isinstance(error, PermissionError) else ""
            return f"its CA file {path} cannot be read by the probe, which is not root ({error.strerror}){remedy}"
    try:
        image.parse(target.image)
    except image.BadReferenceError as error:
        return str(error)
    return ""


def _make(directory: str) -> None:
    """The service finds its directory; below another root there may be none."""
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise MirrorAgentError(f"{directory}: {error.strerror}; the probe's service makes it when it starts") from error


def _read(path: str) -> bytes:
    """Nothing if there is none; at most what the format allows, and one byte to tell that there is more."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise MirrorAgentError(f"{path} cannot be read: {error.strerror}") from error
