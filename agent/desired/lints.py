"""Warnings about a valid desired state: what will not work, works only for some, has no effect, or is a risk."""

from __future__ import annotations

from agent.desired.findings import Findings
from agent.desired.lint_mirrors import lint_registries
from agent.desired.lint_places import lint_places
from agent.desired.lint_runtimes import lint_open_secrets, lint_runtimes
from agent.desired.loading import read_document
from agent.errors import Problem


def lint(
    data: bytes,
    source: str = "/etc/mirror-agent.yaml",  # noqa: ARG001  as load()
    *,
    is_daemon_json_open: bool = False,
) -> tuple[Problem, ...]:
    """Warnings, in the order of the text; () if there are none. `is_daemon_json_open`: there is a daemon.json that
    everybody may read. Raises DesiredStateError for an invalid state."""
    document = read_document(data)
    findings = Findings()
    lint_registries(document, findings)
    lint_runtimes(document, findings)
    lint_places(document, findings)
    if is_daemon_json_open:
        lint_open_secrets(document, findings)
    return findings.sorted()
