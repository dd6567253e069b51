"""Reading TOML that others wrote."""

from __future__ import annotations

import tomllib
from typing import Any


def loads(text: str) -> dict[str, Any]:
    """The document. Raises ValueError for what is no TOML, and for nesting that is too deep to be read as well."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
