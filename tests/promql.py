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

from monitor import metrics

PROGRAMS = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}
"""Program: its Debian package."""
needs_prometheus = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)) and os.environ.get("CI") != "true",
    reason=f"needs {' and '.join(PROGRAMS)}: apt install {' '.join(PROGRAMS.values())}",
)

METRICS: dict[str, tuple[str, ...]] = {
    **{f"driftd_{name}": tuple(metric.labels) for name, metric in metrics.METRICS.items()},
    "process_cpu_seconds_total": (),
    "process_resident_memory_bytes": (),
    "process_start_time_seconds": (),
    "up": (),
    "ALERTS": ("alertname", "alertstate", "severity"),
}
"""Name: labels of its own, of all that rules and dashboards may ask for."""
HISTOGRAMS = {f"driftd_{name}" for name, metric in metrics.METRICS.items() if metric.kind == "histogram"}
VALUES = {
    "verdict": metrics.VERDICTS,
    "state": ("pending", "firing", "ruling", "learning"),
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
