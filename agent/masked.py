"""Acts on a masked unit wait: systemd would refuse to start it, so a restart could only fail."""

from __future__ import annotations

from dataclasses import replace

from agent.host import HostReader
from agent.plan import Deferred, Plan, Reload

RETRY_SECONDS = 60.0
"""An unmask moves no file, so it is asked about again."""

_REASON = "{unit} is masked, so systemd would not start it again: systemctl unmask {unit}"


def without_masked(plan: Plan, host: HostReader) -> Plan:
    """The plan, in which restarts of masked units are deferred; for those that wait already, that is what they wait for
    first: what systemd tells of a masked unit (KillMode) is not what will hold after the unmask."""
    waiting = [deferred.act for deferred in plan.deferred]
    masked = [act for act in (*plan.acts, *waiting) if not isinstance(act, Reload) and host.unit(act.unit).is_masked]
    if not masked:
        return plan
    kept = (deferred for deferred in plan.deferred if deferred.act not in masked)
    deferred = (Deferred(act, _REASON.format(unit=act.unit), RETRY_SECONDS) for act in masked)
    actions = tuple(action for action in plan.actions if action not in masked)
    return replace(plan, actions=actions, deferred=(*kept, *deferred))
