"""Between what is wanted and what is written: nothing of ours may stop the next start of dockerd.

A wanted value that would is refused: its key keeps the value that it has from us, so that a mistake changes nothing,
and every other key converges. A key that a flag sets is given back. What others have put into the file is theirs; with
something in it that would stop Docker, Docker is neither reloaded nor restarted because of us.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from agent.model import Setting
from agent.runtimes._docker_checks import Engine, faults_of, insecure_problem, unknown_key_problem, unknown_keys
from agent.runtimes._docker_flags import Flag
from agent.runtimes._docker_reload import INSECURE
from agent.runtimes._docker_wants import Wants

_BOTH = "and with the key in both places Docker does not start"
NO_ACT = "Docker is neither reloaded nor restarted until it is mended"


@dataclass(frozen=True, slots=True)
class Admitted:
    """What may be written, and a sentence for each thing that may not."""

    wants: Wants
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guard:
    """One daemon.json as it stands (`current`: its values as compact JSON texts; `owned`: the ledger's keys in it), the
    flags of dockerd, and what kind of Docker it is."""

    current: Mapping[str, str]
    owned: Collection[str]
    flags: Mapping[str, Flag]
    engine: Engine

    def admit(self, wants: Wants) -> Admitted:
        """The wants without what would stop dockerd."""
        flagged = [*(setting.key for setting in wants.settings), *((INSECURE,) if wants.insecure else ())]
        refused = [_by_flag(key, self.flags[key]) for key in flagged if key in self.flags]
        free = tuple(setting for setting in wants.settings if setting.key not in self.flags)
        faults = self._faults(free)
        bad = {host: problem for host in wants.insecure if (problem := insecure_problem(host))}
        settings = (self.standing(setting) if setting.key in faults else setting for setting in free)
        admitted = Wants(
            settings=tuple(setting for setting in settings if setting is not None),
            insecure=() if INSECURE in self.flags else tuple(host for host in wants.insecure if host not in bad),
            flagged=frozenset(self.flags),
        )
        refused += [f"{key}: {reason}" for key, reason in faults.items()]
        return Admitted(admitted, (*refused, *(f'{INSECURE}: "{host}" {problem}' for host, problem in bad.items())))

    def stoppers(self, values: Mapping[str, str]) -> Iterator[str]:
        """What in the file as it will be stops the next start of dockerd, and with that every act of ours."""
        for fault in faults_of(values, self.engine):
            if fault.key != "log-driver" or self.engine.log_drivers is not None:
                yield f"{fault.key}: {fault.reason}; {NO_ACT}"
        for unknown in unknown_keys(values, self.engine.version):
            yield f"{unknown.key}: {unknown.reason}; {NO_ACT}"
        for key in values:
            if key in self.flags:
                yield f"{_by_flag(key, self.flags[key])}; {NO_ACT}"

    def _faults(self, settings: tuple[Setting, ...]) -> dict[str, str]:
        values = {**self.current, **{setting.key: setting.json for setting in settings}}
        wanted = {setting.key for setting in settings} - ({"log-opts"} if "log-driver" in self.flags else set())
        unknown = {key: unknown_key_problem(key, self.engine.version) for key in sorted(wanted)}
        found = {fault.key: fault.reason for fault in faults_of(values, self.engine) if fault.key in wanted}
        return {**found, **{key: problem for key, problem in unknown.items() if problem}}

    def standing(self, setting: Setting) -> Setting | None:
        """What stays of a setting that is refused: the value that it has from us, None for nothing of ours."""
        current = self.current.get(setting.key)
        is_sound = setting.key not in {fault.key for fault in faults_of(self.current, self.engine)}
        is_known = not unknown_key_problem(setting.key, self.engine.version)
        is_good = is_sound and is_known and setting.key in self.owned
        return replace(setting, json=current) if current and is_good else None


def _by_flag(key: str, flag: Flag) -> str:
    return f"{key} is set by {flag.name} in {flag.source}, {_BOTH}: take the flag out there, or leave the key to it"
