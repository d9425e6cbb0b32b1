"""What queries of driftd's metrics may name, and the programs that Prometheus brings to check them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import promql_parser
import pytest

PROGRAMS = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}
"""Program: its Debian package."""
needs_prometheus = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)) and os.environ.get("CI") != "true",
    reason=f"needs {' and '.join(PROGRAMS)}: apt install {' '.join(PROGRAMS.values())}",
)

_SERIES = ("stream", "segment", "window")
_SIGNAL = (*_SERIES, "signal")
METRICS: dict[str, tuple[str, ...]] = {
    "driftd_records_total": (),
    "driftd_records_dropped_total": ("reason",),
    "driftd_alert_firings_total": ("rule", "severity"),
    "driftd_scorer_failures_total": ("scorer",),
    "driftd_commits_total": (),
    "driftd_scoring_seconds": ("scorer",),
    "driftd_commit_seconds": (),
    "driftd_consumer_lag_records": ("partition",),
    "driftd_source_trouble": ("source",),
    "driftd_watermark_timestamp_seconds": (),
    "driftd_last_commit_timestamp_seconds": (),
    "driftd_commit_blocked": (),
    "driftd_last_reload_successful": (),
    "driftd_last_reload_timestamp_seconds": (),
    "driftd_store_bytes": (),
    "driftd_build_info": ("version",),
    "driftd_window_records": _SERIES,
    "driftd_signal_mean": _SIGNAL,
    "driftd_signal_rate_ratio": _SIGNAL,
    "driftd_signal_quantile_value": (*_SIGNAL, "q"),
    "driftd_signal_coverage_ratio": _SIGNAL,
    "driftd_drift_distance": (*_SIGNAL, "distance"),
    "driftd_drift_pvalue": _SIGNAL,
    "driftd_drift_threshold_pvalue": _SIGNAL,
    "driftd_drift_effect": _SIGNAL,
    "driftd_drift_verdict": (*_SIGNAL, "verdict"),
    "driftd_detectable_change": _SIGNAL,
    "driftd_false_alarm_budget_spent_ratio": (),
    "driftd_alerts": ("rule", "severity", "state", "stream", "segment"),
    "driftd_reference_info": ("stream", "segment", "kind", "fingerprint"),
    "driftd_reference_end_timestamp_seconds": ("stream", "segment"),
    "driftd_stream_last_record_timestamp_seconds": ("stream",),
    "driftd_series_limited": (),
    "driftd_series": (),
    "process_cpu_seconds_total": (),
    "process_resident_memory_bytes": (),
    "process_start_time_seconds": (),
    "up": (),
    "ALERTS": ("alertname", "alertstate", "severity"),
}
"""Name: labels of its own, of all that rules and dashboards may ask for."""
HISTOGRAMS = {"driftd_scoring_seconds", "driftd_commit_seconds"}
VALUES = {
    "verdict": ("ok", "drift", "insufficient", "learning"),
    "state": ("pending", "firing"),
    "alertstate": ("pending", "firing"),
}
"""All values of labels that have few."""
OF_TARGETS = frozenset({"job", "instance"})
"""Labels that Prometheus adds to whatever it scrapes."""


def samples() -> dict[str, frozenset[str]]:
    """Names of samples, as queries know them, with all their labels."""
    found = {}
    for name, labels in METRICS.items():
        if name in HISTOGRAMS:
            found[f"{name}_bucket"] = OF_TARGETS | {*labels, "le"}
            found[f"{name}_sum"] = found[f"{name}_count"] = OF_TARGETS | {*labels}
        else:
            found[name] = OF_TARGETS | {*labels}
    return found


def faults(expr: str, recorded: frozenset[str] = frozenset()) -> Iterator[str]:
    """What a query names that is never there: metrics, labels of theirs, values of those."""
    nodes, held = list[promql_parser.Expr](), set[str]()
    promql_parser.walk(promql_parser.parse(expr), nodes.append)
    known = samples() | dict.fromkeys(recorded, frozenset().union(*samples().values()))
    for node in nodes:
        if isinstance(node, promql_parser.VectorSelector):
            held |= known.get(node.name or "", frozenset())
            yield from _faults_of_selector(node, known)
    for node in nodes:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            yield from (f"nothing has label {label}" for label in node.modifier.labels if label not in held)
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
            yield from (f"nothing has label {label}" for label in node.modifier.matching.labels if label not in held)


def _faults_of_selector(node: promql_parser.VectorSelector, known: dict[str, frozenset[str]]) -> Iterator[str]:
    if node.name not in known:
        yield f"no metric {node.name}"
        return
    for matcher in node.matchers.matchers:
        few = VALUES.get(matcher.name)
        if matcher.name not in known[node.name]:
            yield f"{node.name} has no label {matcher.name}"
        if few and not any(re.fullmatch(matcher.value, value) for value in few):
            yield f"{matcher.name} is never {matcher.value}"


def promtool(*words: str | Path) -> None:
    """`promtool`, which must find no fault."""
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
