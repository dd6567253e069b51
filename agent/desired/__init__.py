"""The desired state: what an operator writes, checked whole, as a frozen value."""

from agent.desired.json_schema import json_schema
from agent.desired.lints import lint
from agent.desired.loading import load
from agent.desired.text import format_problems

__all__ = ["format_problems", "json_schema", "lint", "load"]
