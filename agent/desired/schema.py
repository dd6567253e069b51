"""`python -m agent.desired.schema` prints what agent/data/mirror-agent.schema.json must hold."""

from __future__ import annotations

import json
import sys

from agent.desired.json_schema import json_schema


def schema_text() -> str:
    """The shipped file's content."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
