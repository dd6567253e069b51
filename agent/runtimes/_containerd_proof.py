"""How a running containerd can be put to the test: which directory it should read, and where its CRI answers."""

from __future__ import annotations

from agent.model import DesiredState, Manage
from agent.proof import Bait, Proof, Via
from agent.runtimes._containerd_config import FIRST_WITH_HOSTS_TOML, NAME, Daemon, judge, socket_of
from agent.runtimes._kubelet import Kubelet


def proof(desired: DesiredState, daemon: Daemon, kubelet: Kubelet | None = None) -> Bait | Proof:
    """A test, or why there is none."""
    certs_dir = desired.containerd.certs_dir
    if desired.containerd.manage is Manage.NEVER:
        return _none("not managed (containerd.manage is false)")
    if kubelet is not None:
        return _of_kubelet(kubelet, certs_dir)
    verdict = judge(daemon, certs_dir)
    if not daemon.is_installed or not daemon.unit.is_up:
        return _none(verdict.sentence)
    if daemon.version is not None and daemon.version < FIRST_WITH_HOSTS_TOML:
        return _none(f"containerd {daemon.version_text} reads no hosts.toml, so a pull cannot prove anything")
    if verdict.is_live is None:
        return _none(verdict.sentence)
    cause = "" if verdict.is_live else verdict.sentence
    return Bait(NAME, NAME, certs_dir, socket_of(daemon), Via.CRI, cause)


def _of_kubelet(kubelet: Kubelet, certs_dir: str) -> Bait | Proof:
    if not kubelet.reads(certs_dir):
        return _none(f"{kubelet.whose}, for which mirror-agent writes nothing")
    if not kubelet.charge.unit.is_up:
        return _none(f"{kubelet.title} is not running")
    return Bait(NAME, NAME, certs_dir, kubelet.distribution.socket, Via.CRI, "")


def _none(sentence: str) -> Proof:
    return Proof(NAME, NAME, None, sentence)
