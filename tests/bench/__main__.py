"""`make bench`: prints the figures. Exit code 0 whatever they are: a shared machine proves nothing by being slow."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence

from agent.cli.terminal import table
from tests.bench import figures
from tests.bench.machine import PACKAGED, new_root


def main() -> None:
    """Measure one thing after the other on one root."""
    options = _arguments()
    python = PACKAGED or f"Python {platform.python_version()}"
    print(f"{options.registries} registries, {python}, {os.cpu_count()} cores, load", *_load())
    with new_root(options.registries) as root:
        print(f"files {'by their real paths, as on a node' if root.is_real else 'below --root, which is slower'}")
        _show(figures.edits(root, options.rounds))
        _show(figures.nothing_to_do(root))
        _show(figures.starts(root, max(3, options.rounds // 5)))
        _show(figures.idle(root, options.idle_seconds))
    if options.thousands:
        with new_root(options.thousands) as root:
            _show(figures.thousands(root))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--registries", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=100, help="edits; starts are a fifth of it (default: 100)")
    parser.add_argument("--thousands", type=int, default=10_000, help="registries of the last part; 0 leaves it out")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    return parser.parse_args()


def _load() -> list[str]:
    return [f"{load:.1f}" for load in os.getloadavg()]


def _show(rows: Sequence[figures.Row]) -> None:
    marks = {None: "", True: "holds", False: "MISSED"}
    print(
        "\n".join(
            table([(row.what.ljust(52), row.figure.ljust(26), row.target.ljust(28), marks[row.holds]) for row in rows])
        )
    )


if __name__ == "__main__":
    main()
