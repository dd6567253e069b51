"""How a running dockerd proves what it has: by /info, and for hosts.toml by a pull."""

from __future__ import annotations

from agent.model import DesiredState, Manage, RuntimeReport
from agent.proof import Bait, Proof, Via
from agent.runtimes._docker_certs import CERTS_D, Certs, reads_hosts_toml
from agent.runtimes._docker_info import SOCKET, Info

_NAME, _TITLE = "docker", "Docker"


def proof(desired: DesiredState, info: Info | None, certs: Certs, report: RuntimeReport) -> Bait | Proof:
    """A test where this Docker reads hosts.toml and has some to read; else its own word, which `report` has."""
    if desired.docker.manage is Manage.NEVER or info is None or report.live is None:
        return Proof(_NAME, _TITLE, None, report.sentence)
    if reads_hosts_toml(info) and certs.registries:
        return Bait(_NAME, _TITLE, CERTS_D, SOCKET, Via.DOCKER, "" if report.live else report.sentence)
    if not report.live:
        return Proof(_NAME, _TITLE, is_proved=False, sentence=report.sentence)
    return Proof(_NAME, _TITLE, is_proved=True, sentence="the running dockerd itself says what it has loaded (/info)")
