"""What a scrape shows: one snapshot, whole, under names that Prometheus' own linter passes."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from monitor.metrics import METRICS, Metrics
from monitor.model import Records, Scores, Signal
from monitor.scorers.operational import Operational
from monitor.snapshot import Snapshot
from tests.promql import needs_prometheus
from tests.replay.logs import START, config, lines, make_log, write
from tests.watched import COMMITTED, Watched

CAP = 100_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Ten minutes, of which six are learned and the last two are changed."""
    folder = tmp_path_factory.mktemp("run")
    log = write(folder / "log.jsonl", [*lines(make_log(3, 2_600)), b"no record"])
    return Watched(config(), folder / "out", log)


def scraped(snapshot: Snapshot, cap: int = CAP) -> list[Sample]:
    metrics = Metrics(cap)
    metrics.show(snapshot, 1e6)
    return samples(metrics)


def samples(metrics: Metrics) -> list[Sample]:
    body, content_type = metrics.exposition("text/plain")
    assert content_type.startswith("text/plain")
    return [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]


def values(found: Sequence[Sample], name: str, **labels: str) -> list[float]:
    return [s.value for s in found if s.name == f"driftd_{name}" and labels.items() <= s.labels.items()]


def test_what_is_shown_is_what_was_read(run: Watched) -> None:
    shown, snapshot = scraped(run.snapshot), run.snapshot
    assert values(shown, "records_total") == [sum(snapshot.counts.values())]
    assert values(shown, "records_dropped_total", reason="unparseable") == [1]
    assert values(shown, "last_commit_timestamp_seconds") == [COMMITTED]
    assert snapshot.watermark is not None
    assert values(shown, "watermark_timestamp_seconds") == [snapshot.watermark / 1000]
    drifts = [r for r in snapshot.readings if r.verdict == "drift"]
    assert drifts
    for reading in snapshot.readings:
        where = {"stream": reading.stream, "segment": reading.segment or "", "signal": reading.signal, "window": "1m"}
        assert values(shown, "drift_verdict", verdict=reading.verdict, **where) == [1]
        assert sum(values(shown, "drift_verdict", **where)) == 1
        assert values(shown, "drift_pvalue", **where) == [p for p in [reading.p_value] if p is not None]
        assert values(shown, "detectable_change", **where) == [d for d in [reading.detectable] if d is not None]
    assert len(values(shown, "alerts", state="firing")) == len(snapshot.alerts) > 0


def test_windows_are_those_of_the_log(run: Watched) -> None:
    end, _ = run.snapshot.windows[60_000]
    rows = [
        row
        for row in make_log(3, 2_600)
        if end - 60_000 <= row["ts"] < end and row.get("model") == "bot-0" and "latency_seconds" in row
    ]
    shown = scraped(run.snapshot)
    where = {"stream": "bot-0", "segment": "", "window": "1m"}
    latency = np.array([row["latency_seconds"] for row in rows])
    assert values(shown, "window_records", **where) == [len(rows)]
    assert values(shown, "signal_mean", signal="latency_seconds", **where) == pytest.approx([latency.mean()])
    (p90,) = values(shown, "signal_quantile_value", signal="latency_seconds", q="0.9", **where)
    assert p90 == pytest.approx(np.quantile(latency, 0.9, method="inverted_cdf"), rel=0.011)
    refused = np.mean([row["response"] == "I cannot help with that." for row in rows])
    assert values(shown, "signal_rate_ratio", signal="response_refusal", **where) == pytest.approx([refused])
    assert values(shown, "signal_coverage_ratio", signal="latency_seconds", **where) == [1]


def test_what_a_snapshot_does_not_hold_any_more_is_not_shown_any_more(run: Watched) -> None:
    metrics = Metrics(CAP)
    metrics.show(run.snapshot, 0)
    assert values(samples(metrics), "alerts")
    metrics.show(replace(run.snapshot, alerts=[], readings=run.snapshot.readings[:1]), 0)
    shown = samples(metrics)
    assert not values(shown, "alerts")
    assert len(values(shown, "drift_verdict")) == 4


def test_a_scrape_shows_one_snapshot_though_another_one_comes_meanwhile(run: Watched) -> None:
    metrics = Metrics(CAP)
    metrics.show(run.snapshot, 0)
    families = iter(metrics.registry.collect())
    seen = [next(families)]
    while not seen[-1].name.startswith("driftd_records"):
        seen.append(next(families))
    metrics.show(replace(run.snapshot, watermark=START, alerts=[]), 0)
    seen += families
    names = {family.name for family in seen if family.samples}
    assert "driftd_alerts" in names
    (watermark,) = (f.samples[0].value for f in seen if f.name == "driftd_watermark_timestamp_seconds")
    assert watermark != START / 1000


def test_many_scrapes_at_once_are_whole(run: Watched) -> None:
    metrics = Metrics(CAP)
    metrics.show(run.snapshot, 0)
    expected, found = len(scraped(run.snapshot)), list[int]()
    threads = [threading.Thread(target=lambda: found.append(len(samples(metrics)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_where_there_are_too_many_series_whole_streams_are_shown_first(run: Watched) -> None:
    everything = scraped(run.snapshot)
    whole = [s for s in everything if s.labels.get("stream") and not s.labels.get("segment")]
    assert values(everything, "series_limited") == [0]
    shown = scraped(run.snapshot, len(whole))
    assert values(shown, "series_limited") == [1]
    assert values(shown, "series") == [len(whole)]
    assert [s for s in shown if s.labels.get("stream")] == [s for s in everything if s in whole]
    (all_series,) = values(everything, "series")
    assert len([s for s in everything if s.labels.get("stream")]) == all_series


def test_every_name_is_in_the_table_and_every_name_of_the_table_is_shown(run: Watched) -> None:
    metrics = told(run)
    families = list(text_string_to_metric_families(metrics.exposition("")[0].decode()))
    found = {
        sample.name.removeprefix("driftd_"): family.type
        for family in families
        for sample in family.samples
        if sample.name.startswith("driftd_")
    }
    histograms = {name for name, metric in METRICS.items() if metric.kind == "histogram"}
    parts = {f"{name}_{part}": "histogram" for name in histograms for part in ("bucket", "sum", "count")}
    assert found == {name: m.kind for name, m in METRICS.items() if name not in histograms} | parts
    for family in families:
        keys = [(s.name, frozenset(s.labels.items())) for s in family.samples]
        assert len(set(keys)) == len(keys), family.name


def told(run: Watched) -> Metrics:
    """Metrics that have been told all that there is to be told."""
    metrics = Metrics(CAP)
    metrics.show(replace(run.snapshot, remarks={"text_raised": 2}), 1e6)
    metrics.committed(0.01)
    metrics.sources({"t-0": 5}, {"kafka t": False})
    for step in run.steps:
        metrics.stepped(step)
    metrics.score(Operational(), records(3))
    return metrics


def records(count: int) -> Records:
    from monitor.decoding import make_decoder
    from monitor.model import Position, Raw

    messages = [json.dumps({"id": str(i), "ts": START + i, "latency_seconds": 1}).encode() for i in range(count)]
    return make_decoder("native").decode(Raw("t-0", messages, list(range(7, 7 + count)), [], Position(99)))[0]


def test_openmetrics_says_which_batch_was_slow(run: Watched) -> None:
    body, content_type = told(run).exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    found = [
        s
        for f in openmetrics.text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
        for s in f.samples
        if s.exemplar
    ]
    exemplars = {s.name: s.exemplar.labels for s in found if s.exemplar}
    assert exemplars["driftd_scoring_seconds_bucket"] == {"partition": "t-0", "offset": "7"}
    assert exemplars["driftd_alert_firings_total"]["stream"].startswith("bot-")


class Broken:
    """Fails on one record."""

    signals: Sequence[Signal] = [Signal("broken", "numeric", "unit")]

    def score(self, batch: Records) -> Scores:
        if 8 in batch.offsets:
            raise RuntimeError
        return Scores({"broken": np.zeros(len(batch))})


def test_a_scorer_that_fails_is_counted_and_timed_once_a_batch() -> None:
    metrics = Metrics(CAP)
    found = metrics.score(Broken(), records(3))
    assert found.remarks["broken_raised"].tolist() == [False, True, False]
    assert values(samples(metrics), "scoring_seconds_count", scorer="broken") == [1]


def test_what_never_happened_is_counted_from_nothing_on(run: Watched) -> None:
    metrics = Metrics(CAP, [("AnyDrift", "warning")], ["text"])
    metrics.show(run.snapshot, 0)
    assert values(samples(metrics), "alert_firings_total", rule="AnyDrift", severity="warning") == [0]
    assert values(samples(metrics), "scorer_failures_total", scorer="text") == [0]


def test_partitions_that_are_gone_are_shown_no_more() -> None:
    metrics = Metrics(CAP)
    metrics.sources({"t-0": 5, "t-1": 0}, {"kafka t": True})
    metrics.sources({"t-1": 7}, {"kafka t": False})
    assert values(samples(metrics), "consumer_lag_records") == [7]
    assert values(samples(metrics), "source_trouble", source="kafka t") == [0]


def test_alerts_that_begin_to_fire_are_counted(run: Watched) -> None:
    firings = [c for s in run.steps for c in s.changes if c.state == "firing" and c.reason != "joined"]
    assert sum(values(samples(told(run)), "alert_firings_total")) == len(firings) > 0


@needs_prometheus
def test_prometheus_own_linter_finds_nothing(run: Watched) -> None:
    body, _ = told(run).exposition("text/plain")
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("learning")
    return Watched(config(), folder / "out", write(folder / "log.jsonl", lines(make_log(3, 900)))).snapshot


def test_what_is_learned_and_what_rules_is_told_apart(run: Watched, learning: Snapshot) -> None:
    assert set(values(scraped(learning), "drift_verdict", verdict="learning")) == {1}
    states = {s.labels["state"] for s in scraped(learning) if s.name == "driftd_reference_info"}
    assert states == {"learning"}
    ruling = [s for s in scraped(run.snapshot) if s.name == "driftd_reference_info"]
    assert {s.labels["state"] for s in ruling} == {"ruling"}
    ends = values(scraped(run.snapshot), "reference_end_timestamp_seconds", stream="bot-0", segment="")
    assert ends == [START / 1000 + 360]
