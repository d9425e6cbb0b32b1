"""Dashboards: every query parses, names what is exported and finds it; every panel can be read."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.promql import METRICS, VALUES, faults, needs_prometheus, promtool, samples

FOLDER = Path(__file__).parent.parent / "dashboards"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
each = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=list(DASHBOARDS))

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"none", "short", "s", "bytes", "percentunit", "cps"}
KINDS = {"stat", "table", "timeseries", "state-timeline"}
COLUMNS = 24
EXAMPLES = {
    **VALUES,
    "segment": ["", "tenant=acme"],
    "signal": ["cost", "error"],
    "window": ["5m", "1h"],
    "alertname": ["DriftdAlert"],
    "le": ["0.1", "+Inf"],
}
"""Values of labels where they matter to a query."""


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def variables(dashboard: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def templates(dashboard: dict[str, Any]) -> list[str]:
    """The queries as they stand: of panels, and of the marks in time."""
    targets = [target["expr"] for panel in panels(dashboard) for target in panel.get("targets", [])]
    return [*targets, *(mark["expr"] for mark in dashboard["annotations"]["list"] if "expr" in mark)]


def queries(dashboard: dict[str, Any]) -> list[str]:
    """The queries that are sent where nobody has chosen anything yet."""
    chosen = {
        name: variable["allValue"] if variable.get("includeAll") else variable["current"].get("value", "")
        for name, variable in variables(dashboard).items()
    }
    chosen["__rate_interval"] = "5m"
    return [re.sub(r"\$(\w+)", lambda found: chosen[found[1]], template) for template in templates(dashboard)]


@needs_prometheus
@each
def test_every_query_parses(dashboard: dict[str, Any], tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries(dashboard))]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", path)


@each
def test_queries_ask_for_what_is_there(dashboard: dict[str, Any]) -> None:
    assert [fault for query in queries(dashboard) for fault in faults(query)] == []
    for variable in variables(dashboard).values():
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found, variable["name"]
            template, label = found.groups()
            assert list(faults(re.sub(r"\$\w+", ".*", template))) == []
            assert label in samples()[template.split("{")[0]]


@needs_prometheus
@each
def test_every_query_finds_what_is_exported(dashboard: dict[str, Any], tmp_path: Path) -> None:
    names = samples()
    series = []
    for name, labels in names.items():
        own = sorted(labels - {"job", "instance"})
        for values in itertools.product(*(EXAMPLES.get(label, ["x"]) for label in own)):
            held = {"job": "driftd", "instance": "i", **dict(zip(own, values, strict=True))}
            text = ", ".join(f'{label}="{value}"' for label, value in held.items() if value)
            counts = name.endswith(("_total", "_bucket", "_sum", "_count"))
            series.append({"series": f"{name}{{{text}}}", "values": "0+30x60" if counts else "1x60"})
    tests = [
        {"expr": f"count({query}) > bool 0", "eval_time": "40m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for query in queries(dashboard)
    ]
    path = tmp_path / "tests.yaml"
    path.write_text(json.dumps({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}]}))
    promtool("test", "rules", path)


@each
def test_queries_keep_to_what_was_chosen(dashboard: dict[str, Any]) -> None:
    known = {*variables(dashboard), "__rate_interval"}
    chosen = {"job", "instance", "stream", "segment", "signal", "window"}
    for template in templates(dashboard):
        assert set(re.findall(r"\$(\w+)", template)) <= known
        for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", template):
            asked = {label for label in chosen if f'{label}=~"${label}"' in matchers}
            if name == "ALERTS":
                assert "job" in asked
            elif "segment" in asked:
                assert 'segment=~"$scope"' in matchers
                assert asked == chosen & samples()[name], template
            else:  # what counts alerts and series counts those of segments too
                assert asked == chosen & samples()[name] - {"segment", "signal", "window"}, template
        for counter in re.findall(r"(\w+_(?:total|bucket|sum|count))\{", template):
            assert re.search(rf"(rate|increase)\({counter}\{{[^}}]*\}}\[(\$__rate_interval|15m|1h)\]\)", template)


@each
def test_panels_can_be_read(dashboard: dict[str, Any]) -> None:
    identities = [panel["id"] for panel in panels(dashboard)]
    assert len(set(identities)) == len(identities)
    taken: set[tuple[int, int]] = set()
    for panel in panels(dashboard):
        place = panel["gridPos"]
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert cells
        assert max(x for x, _ in cells) < COLUMNS, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["type"] in KINDS
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["datasource"] == SOURCE
        assert panel["targets"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
        assert all(target["datasource"] == SOURCE for target in panel["targets"])


@each
def test_dashboards_belong_to_no_server(dashboard: dict[str, Any]) -> None:
    assert dashboard["id"] is None
    assert re.fullmatch(r"driftd-[a-z-]{1,33}", dashboard["uid"])
    assert dashboard["editable"] is False
    first = dashboard["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    for variable in variables(dashboard).values():
        if variable["type"] == "query":
            assert variable["datasource"] == SOURCE
            assert variable["refresh"] == 2  # when the time range changes
            assert variable["current"]["value"] == ["$__all"]
    marks = [mark["datasource"] for mark in dashboard["annotations"]["list"] if not mark.get("builtIn")]
    assert marks == [SOURCE] * len(marks)
    assert len({one["uid"] for one in DASHBOARDS.values()}) == len(DASHBOARDS)


def test_the_overview_can_be_asked_by_stream_segment_signal_and_window() -> None:
    assert {"stream", "segment", "signal", "window"} <= set(variables(DASHBOARDS["overview"]))


def test_the_overview_shows_all_that_is_exported() -> None:
    shown = {name for query in queries(DASHBOARDS["overview"]) for name in re.findall(r"\b[a-zA-Z_]\w+\b", query)}
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} | shown
    assert set(METRICS) - bases == {"driftd_commits_total"}


def test_what_is_provisioned_is_where_grafana_looks() -> None:
    (source,) = YAML(typ="safe").load(FOLDER / "provisioning" / "datasources" / "prometheus.yaml")["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    (provider,) = YAML(typ="safe").load(FOLDER / "provisioning" / "dashboards" / "driftd.yaml")["providers"]
    compose = YAML(typ="safe").load(FOLDER.parent / "config" / "compose.yaml")
    assert f"../dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]
    assert "../dashboards/provisioning:/etc/grafana/provisioning:ro" in compose["services"]["grafana"]["volumes"]
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/overview.json"
