"""What Prometheus and Alertmanager are given: rules that parse, name what is exported, and fire when they should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.promql import METRICS, PROGRAMS, faults, needs_prometheus, promtool

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "config" / "prometheus"
ALERTMANAGER = ROOT / "config" / "alertmanager" / "alertmanager.yml"


def read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


RULES = [
    rule
    for path in sorted((PROMETHEUS / "rules").iterdir())
    for group in read(path)["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = frozenset(rule["record"] for rule in RULES if "record" in rule)


@needs_prometheus
def test_the_programs_that_read_them_find_no_fault() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", *sorted((PROMETHEUS / "rules").iterdir()))
    done = subprocess.run(["amtool", "check-config", ALERTMANAGER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_rules_say_what_their_tests_say() -> None:
    promtool("test", "rules", *sorted((PROMETHEUS / "tests").iterdir()))


@needs_prometheus
@pytest.mark.parametrize(
    ("name", "expr"),
    [
        ("DriftdBudgetOverspent", "driftd_false_alarm_budget_spent_ratio > 2"),
        ("DriftdSilentStream", "driftd_alerts == 1"),
        ("stream_verdict:driftd_drift_verdict:sum", "sum by (stream) (driftd_drift_verdict)"),
    ],
)
def test_a_rule_that_is_wrong_is_found(name: str, expr: str, tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "rules").iterdir():
        content = read(path)
        for rule in (rule for group in content["groups"] for rule in group["rules"]):
            if name in rule.values():
                rule["expr"] = expr
        YAML(typ="safe", pure=True).dump(content, path)
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", tmp_path / "tests" / "drift.yaml")


def test_every_rule_has_a_test_in_which_it_speaks() -> None:
    expected = [
        sample["labels"]
        for path in (PROMETHEUS / "tests").iterdir()
        for test in read(path)["tests"]
        for query in test.get("promql_expr_test", [])
        for sample in query["exp_samples"]
    ]
    fired = {name for text in expected for name in re.findall(r'alertname="(\w+)", alertstate="firing"', text)}
    assert fired == set(ALERTS)
    assert {text.split("{")[0] for text in expected} >= RECORDED


@pytest.mark.parametrize("rule", RULES, ids=[rule.get("alert") or rule["record"] for rule in RULES])
def test_rules_ask_for_what_is_there(rule: dict[str, Any]) -> None:
    assert list(faults(rule["expr"], RECORDED)) == []


@pytest.mark.parametrize(
    ("expr", "fault"),
    [
        ("driftd_commit_blokked == 1", "no metric driftd_commit_blokked"),
        ('sum(driftd_alerts{status="firing"})', "driftd_alerts has no label status"),
        ('driftd_alerts{state="resolved"}', "state is never resolved"),
        ("sum without (partitions) (driftd_consumer_lag_records)", "nothing has label partitions"),
        ("up * on (pod) driftd_build_info", "nothing has label pod"),
        ("rate(driftd_scoring_seconds[5m])", "no metric driftd_scoring_seconds"),
    ],
)
def test_faults_of_queries_are_found(expr: str, fault: str) -> None:
    assert list(faults(expr)) == [fault]


@pytest.mark.parametrize("rule", ALERTS.values(), ids=list(ALERTS))
def test_every_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Driftd([A-Z][a-z]+)+", rule["alert"])
    inherited = "severity" in METRICS["driftd_alerts"] and rule["expr"].startswith("driftd_alerts{")
    assert inherited or rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description"}
    known = {label for labels in METRICS.values() for label in labels} | {"instance", "job"}
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= known


def test_the_health_of_the_monitor_is_watched() -> None:
    assert set(ALERTS) >= {
        "DriftdLagging", "DriftdCommitStale", "DriftdScorerFailures", "DriftdAbsent", "DriftdDown",
        "DriftdSourceTrouble", "DriftdSilentStream", "DriftdAlert",
    }  # fmt: skip


def test_alertmanager_speaks_of_alerts_that_exist() -> None:
    config = read(ALERTMANAGER)
    matchers = [
        each for rule in config["inhibit_rules"] for each in (*rule["source_matchers"], *rule["target_matchers"])
    ]
    named = [name for each in matchers for name in re.findall(r"Driftd\w+", each)]
    assert set(named) <= set(ALERTS)
    receivers = {one["name"] for one in config["receivers"]}
    assert {config["route"]["receiver"], *(route["receiver"] for route in config["route"]["routes"])} == receivers


def test_what_the_checks_need_is_installed_where_they_must_run() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for program, package in PROGRAMS.items():
        assert f"[{program}]={package}" in script
