"""A strict reader of Prometheus' text format: what it takes is valid by the specification, and by what node_exporter's
textfile collector asks besides. Source: https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_VALUE = r"[+-]?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|Inf)|NaN"
_LABEL = re.compile(r'(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)="(?P<value>(?:[^"\\\n]|\\[\\"n])*)"(?P<end>,(?!})|(?=}))')
_SAMPLE = re.compile(rf"({_NAME})(\{{.*\}})? ({_VALUE})")
_HELP = re.compile(rf"# HELP ({_NAME}) ((?:[^\\]|\\\\|\\n)+)")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge)")
_ESCAPE = re.compile(r"\\(.)")

Labels = tuple[tuple[str, str], ...]


@dataclass
class Parsed:
    """One metric of a file."""

    kind: str = ""
    help: str = ""
    series: dict[Labels, float] = field(default_factory=dict)


def parse(data: bytes) -> dict[str, Parsed]:
    """Every metric by its name, in the order of the file. Raises ValueError that says what is wrong."""
    text = data.decode("utf-8")
    if not text.endswith("\n") or text.endswith("\n\n"):
        raise ValueError("it must end with one newline")
    found: dict[str, Parsed] = {}
    for line in text.removesuffix("\n").split("\n"):
        _take(line, found)
    if empty := [name for name, metric in found.items() if not (metric.kind and metric.help and metric.series)]:
        raise ValueError(f"without HELP, TYPE or series: {empty}")
    return found


def _take(line: str, found: dict[str, Parsed]) -> None:
    if told := _HELP.fullmatch(line):
        _new(told[1], found).help = _unescaped(told[2])
    elif told := _TYPE.fullmatch(line):
        if told[1] != next(reversed(found), "") or found[told[1]].kind or found[told[1]].series:
            raise ValueError(f"TYPE is not between HELP and the first series: {line}")
        found[told[1]].kind = told[2]
    elif told := _SAMPLE.fullmatch(line):
        _add(told[1], _labels(told[2] or "{}"), float(told[3]), found)
    elif not line.startswith("# ") or re.match("# (HELP|TYPE)", line):
        raise ValueError(f"not a line of the format: {line}")


def _new(name: str, found: dict[str, Parsed]) -> Parsed:
    if name in found:
        raise ValueError(f"a second HELP of {name}")
    return found.setdefault(name, Parsed())


def _add(name: str, labels: Labels, value: float, found: dict[str, Parsed]) -> None:
    if name != next(reversed(found), "") or not found[name].kind:
        raise ValueError(f"a series of {name} that does not follow its TYPE")
    if labels in found[name].series:
        raise ValueError(f"a series twice: {name}{labels}")
    found[name].series[labels] = value


def _labels(text: str) -> Labels:
    """Of `{a="x",b="y"}`."""
    place, labels = 1, []
    while text[place] != "}":
        pair = _LABEL.match(text, place)
        if pair is None:
            raise ValueError(f"not a label at {place}: {text}")
        labels.append((pair["name"], _unescaped(pair["value"])))
        place = pair.end()
    if place != len(text) - 1:
        raise ValueError(f"something after the labels: {text}")
    if len({name for name, _ in labels}) != len(labels):
        raise ValueError(f"a label twice: {text}")
    return tuple(labels)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], text)
