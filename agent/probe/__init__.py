"""Probing mirrors as a runtime pulls from them. It opens network sockets, and nothing else in the program does: neither
the daemon nor anything that it uses can import it (pyproject.toml).

Pure are `verdict`, `target`, `address`, `challenge`, `judge` and `pace`; the network is in the modules with a leading
underscore.
"""

from __future__ import annotations

from agent.probe._crowd import Limits, Result, probe
from agent.probe.pace import Pace
from agent.probe.target import Target
from agent.probe.verdict import Finding, Verdict

__all__ = ["Finding", "Limits", "Pace", "Result", "Target", "Verdict", "probe"]
