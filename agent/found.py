"""What a runtime says about a node as it is, in the words of a desired state: the values that `import` is made of."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model import Registry, Setting


@dataclass(frozen=True, slots=True)
class FoundRegistry:
    """A registry as it is reached now. `sources` are the files that say so; `remarks` what could not be said in a
    desired state, and why. `is_silent` tells that it has to stay a comment: taking it over would change another
    runtime."""

    entry: Registry
    sources: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """One runtime's part. `manage` None: nothing of it belongs to the desired state, which must then leave it alone.
    `paths` are keys of its section that differ from their defaults."""

    runtime: str
    installed: bool
    manage: bool | None = None
    registries: tuple[FoundRegistry, ...] = ()
    paths: tuple[tuple[str, str], ...] = ()
    settings: tuple[Setting, ...] = ()
    remarks: tuple[str, ...] = ()
