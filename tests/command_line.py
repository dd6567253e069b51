"""The command line as its parser has it, for comparison with what others say about it: completions, manual pages."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.cli.arguments import new_parser


@dataclass(frozen=True)
class Words:
    """What one parser takes: `options` by their longest spelling, `positionals` as `FILE` or `[FILE]`."""

    options: Mapping[str, argparse.Action]
    positionals: tuple[str, ...]


def program() -> Words:
    """The options before a command, `--version` among them."""
    return _words(new_parser())


def commands() -> dict[str, Words]:
    """Each command in the order of the help."""
    return {name: _words(parser) for name, parser in _subparsers(new_parser())}


def all_options() -> dict[str, argparse.Action]:
    """Those of the program and of every command."""
    return {
        **program().options,
        **{name: each for words in commands().values() for name, each in words.options.items()},
    }


def takes_value(action: argparse.Action) -> bool:
    """Whether a value follows the option."""
    return action.nargs != 0


def _words(parser: argparse.ArgumentParser) -> Words:
    actions = [each for each in parser._actions if not isinstance(each, argparse._SubParsersAction)]
    return Words(
        {max(each.option_strings, key=len): each for each in actions if each.option_strings},
        tuple(_shown(each) for each in actions if not each.option_strings),
    )


def _shown(positional: argparse.Action) -> str:
    return f"[{positional.metavar}]" if positional.nargs == "?" else str(positional.metavar)


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()
