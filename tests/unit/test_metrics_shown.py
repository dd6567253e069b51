"""The Grafana dashboard and the alert rules: they ask for what the agent writes, and show all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.exposition import FILE, SIGN_OF_LIFE_SECONDS
from agent.metrics import FAMILIES
from agent.runtimes import discover
from agent.schedule import RESYNC_JITTER, RESYNC_SECONDS
from tests.manual import MAN, lists

REPOSITORY = Path(__file__).parents[2]
METRICS = REPOSITORY / "packaging" / "metrics"
LABELS = {family.name: {*family.labels, "job", "instance"} for family in FAMILIES}
OTHERS = {"up": {"job", "instance"}, "node_textfile_mtime_seconds": {"job", "instance", "file"}}
"""Of Prometheus and of node_exporter."""

_WORDS = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SELECTED = re.compile(r"\b([a-z_]+)(?:\{([^}]*)\})?")
_AGGREGATED = re.compile(r"\b(?:by|without|on) \(([^)]*)\)")
_PAGES = ("mirror-agent.8", "zh_CN/mirror-agent.8")


def dashboard() -> dict[str, Any]:
    found = json.loads((METRICS / "grafana-dashboard.json").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((METRICS / "prometheus-rules.yaml").read_text("utf-8"))["groups"]
    assert group["name"] == "mirror-agent"
    return list(group["rules"])


def expressions() -> dict[str, str]:
    """Every expression, by where it stands."""
    shown = {f"{panel['title']} {each['refId']}": each["expr"] for panel in panels() for each in panel["targets"]}
    return shown | {rule["alert"]: rule["expr"] for rule in rules()}


def named(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics of an expression, each with the labels by which it is selected."""
    for name, selector in _SELECTED.findall(expression):
        if name in LABELS or name in OTHERS or name.startswith(("mirror_agent", "node_")):
            yield name, set(re.findall(r"([a-z_]+)(?:=~?|!=|!~)", re.sub(r'"[^"]*"', '""', selector)))


def test_every_metric_that_is_asked_for_is_written() -> None:
    """With labels that it has: a panel or a rule with a misspelt name would be empty for ever, unnoticed."""
    known = LABELS | OTHERS
    unknown = {
        (place, name)
        for place, expression in expressions().items()
        for name, labels in named(expression)
        if not labels <= known.get(name, set())
    }
    assert unknown == set()


def test_every_label_that_is_grouped_by_is_there() -> None:
    """All metrics of one expression have the labels by which it is put together."""
    for place, expression in expressions().items():
        names = [name for name, _ in named(expression)]
        for group in _AGGREGATED.findall(expression):
            wanted = set(_WORDS.findall(group))
            assert [(place, name) for name in names if not wanted <= (LABELS | OTHERS)[name]] == []


def test_every_metric_is_shown() -> None:
    """In the dashboard: what nobody can look at need not be written."""
    asked = {name for panel in panels() for each in panel["targets"] for name, _ in named(each["expr"])}
    assert [family.name for family in FAMILIES if family.name not in asked] == []


def test_counters_are_shown_as_what_they_grow_by() -> None:
    """A counter starts anew with each start of the agent, so its value alone says little."""
    counters = [family.name for family in FAMILIES if family.kind == "counter"]
    for place, expression in expressions().items():
        for name in counters:
            assert (place, expression.count(f"{name}")) == (
                place,
                len(re.findall(rf"increase\({name}[{{\[]", expression)),
            )


@pytest.mark.parametrize("page", _PAGES)
def test_every_metric_is_in_the_manual(page: str) -> None:
    """In the order of the file, with its labels."""
    tags = [f"{each.name}{{{','.join(each.labels)}}}" if each.labels else each.name for each in FAMILIES]
    assert list(lists(page)["metrics"]) == tags


@pytest.mark.parametrize("page", _PAGES)
def test_the_manual_says_where_the_files_are(page: str) -> None:
    """Both, as packages install them."""
    text = (MAN / page).read_text("utf-8").replace("\\-", "-")
    assert [path.name for path in METRICS.iterdir() if f"/usr/share/mirror-agent/{path.name}" not in text] == []


def test_the_packages_carry_them() -> None:
    """Both formats are made from one tree."""
    tree = (REPOSITORY / "packaging/tree.sh").read_text()
    assert "place 644 /usr/share/mirror-agent/ agent/data/mirror-agent.schema.json packaging/metrics/*\n" in tree


# --- the dashboard -----------------------------------------------------------------------------------------------


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """It has no identity of the Grafana it was made in: the data source is a variable, and Grafana 9 is enough."""
    found = dashboard()
    assert (found["id"], found["uid"], found["schemaVersion"]) == (None, "mirror-agent", 37)
    names = [variable["name"] for variable in found["templating"]["list"]]
    assert (names, found["templating"]["list"][0]["type"]) == (["datasource", "job", "instance"], "datasource")
    sources = [each["datasource"] for panel in panels() for each in (panel, *panel["targets"])]
    sources += [variable["datasource"] for variable in found["templating"]["list"][1:]]
    assert [each for each in sources if each != {"type": "prometheus", "uid": "${datasource}"}] == []


def test_every_panel_has_its_place_and_says_what_it_shows() -> None:
    """No two lie on one another, none leaves the 24 columns, each has a title and a sentence."""
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)
    assert [panel["title"] for panel in panels() if not panel["description"].endswith(".")] == []


def test_every_panel_keeps_to_the_chosen_nodes() -> None:
    """Each metric is selected by the two variables."""
    missing = [
        (panel["title"], name)
        for panel in panels()
        for each in panel["targets"]
        for name, labels in named(each["expr"])
        if not {"job", "instance"} <= labels
    ]
    assert missing == []


# --- the rules ---------------------------------------------------------------------------------------------------


def test_every_rule_is_told_in_both_languages() -> None:
    """A summary that names the node in English and in Chinese, a description that says where to look, a severity."""
    for rule in rules():
        told = rule["annotations"]
        assert set(told) == {"summary", "summary_zh", "description"}
        assert told["summary"].startswith("{{ $labels.instance }}: ")
        assert told["summary_zh"].startswith("{{ $labels.instance }}：")
        assert re.search("[\u4e00-\u9fff]", told["summary_zh"])
        assert "`" in told["description"]
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        variables = re.findall(r"\$labels\.([a-z]+)", told["summary"])
        assert set(variables) == set(re.findall(r"\$labels\.([a-z]+)", told["summary_zh"]))


def test_what_is_alerted_on() -> None:
    """One rule for each thing that an operator wants to be told."""
    assert [rule["alert"].removeprefix("MirrorAgent") for rule in rules()] == [
        "NotConverged",
        "NotLive",
        "Pending",
        "DesiredStateInvalid",
        "MirrorDown",
        "AllMirrorsDown",
        "RestartedDocker",
        "Drift",
        "Stale",
        "Absent",
    ]


def test_a_living_agent_is_never_called_stale() -> None:
    """The limit leaves room for two deep looks, each the tenth resync at its latest, after the interval of the file."""
    (rule,) = [rule for rule in rules() if rule["alert"] == "MirrorAgentStale"]
    (limit,) = re.findall(r"> (\d+)$", rule["expr"])
    deep_look = 10 * RESYNC_SECONDS * (1 + RESYNC_JITTER)
    assert int(limit) > SIGN_OF_LIFE_SECONDS + 2 * deep_look
    (pattern,) = re.findall('file=~"([^"]*)"', rule["expr"])
    for path in (FILE, f"/var/lib/prometheus/node-exporter/{FILE}"):
        assert re.fullmatch(pattern.replace("\\\\", "\\"), path)
    assert not re.fullmatch(pattern.replace("\\\\", "\\"), f"other-{FILE}")


def test_runtimes_that_rules_name_exist() -> None:
    """By the names that the metrics have."""
    named_runtimes = {name for rule in rules() for name in re.findall('runtime="([a-z]+)"', rule["expr"])}
    assert named_runtimes <= {runtime.name for runtime in discover()}
