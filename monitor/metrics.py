"""Prometheus metrics: every name, from the last snapshot and from counters of the process.

A scrape shows one snapshot, whole: what it does not hold any more is not shown any more. Values without a number (a
p-value where nothing was tested) are left out, never NaN.
"""

from __future__ import annotations

import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from monitor import __version__
from monitor.engine import Step
from monitor.model import Reading, Records, Scope, Scores
from monitor.readings import key_of
from monitor.scoring import RAISED, B_contra, BatchScorer, score, scorer_name
from monitor.settings import format_duration
from monitor.snapshot import Snapshot, WindowSignal

VERDICTS = ("ok", "drift", "insufficient", "learning")
_PASSING = {"counted", "held", "waiting"}
"""Fates of records that are not dropped: counted, or not decided yet."""
_WHERE = ("stream", "segment", "signal", "window")
_SCORING = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_COMMIT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)


M = TypeVar("M", Counter, Gauge, Histogram)


class Metric(NamedTuple):
    """What one name means; the name in front of it is given without `driftd_`."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Sequence[str] = ()


METRICS: Mapping[str, Metric] = {
    # Of the process.
    "build_info": Metric("gauge", "1, with the version of driftd.", ["version"]),
    "scoring_seconds": Metric("histogram", "Time that a scorer took for a batch or a sample.", ["scorer"]),
    "commit_seconds": Metric("histogram", "Time that a commit took to write."),
    "commits_total": Metric("counter", "Commits of this process."),
    "commit_blocked": Metric("gauge", "1 while the store cannot be written and nothing further is read."),
    "last_commit_timestamp_seconds": Metric("gauge", "When the last commit was written."),
    "alert_firings_total": Metric("counter", "Alerts that began to fire in this process.", ["rule", "severity"]),
    "consumer_lag_records": Metric("gauge", "Messages that are there and not read yet.", ["partition"]),
    "source_trouble": Metric("gauge", "1 while a source cannot be read.", ["source"]),
    "store_bytes": Metric("gauge", "What the store holds."),
    "last_reload_successful": Metric("gauge", "1 where the last configuration that was read is in use."),
    "last_reload_timestamp_seconds": Metric("gauge", "When the configuration in use was read."),
    # Of the last snapshot.
    "records_total": Metric("counter", "Records read, whatever became of them."),
    "records_dropped_total": Metric("counter", "Records that count for nothing, by why.", ["reason"]),
    "scorer_failures_total": Metric("counter", "Records that a scorer failed on and did not measure.", ["scorer"]),
    "watermark_timestamp_seconds": Metric("gauge", "Event time before which everything is judged."),
    "false_alarm_budget_spent_ratio": Metric("gauge", "Error probability of the tests made over what is allowed."),
    "stream_last_record_timestamp_seconds": Metric("gauge", "End of the last slice with records.", ["stream"]),
    "series": Metric("gauge", "Series of windows, readings and references that are shown."),
    "series_limited": Metric("gauge", "1 where there are more series than are shown."),
    "alerts": Metric(
        "gauge", "1 for each alert that is pending or firing.", ["rule", "severity", "state", "stream", "segment"]
    ),
    "reference_info": Metric(
        "gauge", "1 for what windows are held against.", ["stream", "segment", "kind", "state", "begin"]
    ),
    "reference_end_timestamp_seconds": Metric("gauge", "End of the newest reference.", ["stream", "segment"]),
    "drift_verdict": Metric(
        "gauge",
        "1 for the verdict on a signal of a window, 0 for the others.",
        [*_WHERE, "against", "verdict"],
    ),
    "drift_pvalue": Metric("gauge", "p-value of the test that decides.", [*_WHERE, "against"]),
    "drift_threshold_pvalue": Metric("gauge", "p-value at which it is drift.", [*_WHERE, "against"]),
    "drift_effect": Metric("gauge", "How far the window is from the reference.", [*_WHERE, "against"]),
    "detectable_change": Metric("gauge", "Least effect that the window would show.", [*_WHERE, "against"]),
    "window_records": Metric("gauge", "Exchanges in the window.", ["stream", "segment", "window"]),
    "signal_mean": Metric("gauge", "Mean of a number in the window.", _WHERE),
    "signal_rate_ratio": Metric("gauge", "Share of the records in the window for which it holds.", _WHERE),
    "signal_quantile_value": Metric("gauge", "Quantile of a number in the window.", [*_WHERE, "q"]),
    "signal_coverage_ratio": Metric("gauge", "Observations to an exchange of the window, 1 at most.", _WHERE),
    "drift_distance": Metric("gauge", "Distance to the reference by its textbook definition.", [*_WHERE, "distance"]),
}
"""Every metric but those that the client library adds (`process_*`, `python_info`)."""
_ORDER = {name: place for place, name in enumerate(METRICS)}


class Sample(NamedTuple):
    """A value of one name."""

    name: str
    labels: Sequence[str]
    value: float


@dataclass(slots=True)
class Metrics:
    """What a scrape shows. Any thread may ask; the loop's tells."""

    cap: int
    """Series of streams and segments that are shown at most."""
    rules: Sequence[tuple[str, str]] = ()
    """Name and severity of the rules, of which firings are counted from 0 on."""
    scorers: Sequence[str] = ()
    """Names of the scorers, of which failures are counted from 0 on."""
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _scoring: Histogram = field(init=False)
    _commit: Histogram = field(init=False)
    _commits: Counter = field(init=False)
    _firings: Counter = field(init=False)
    _lag: Gauge = field(init=False)
    _trouble: Gauge = field(init=False)
    _plain: Mapping[str, Gauge] = field(init=False)
    _snapshot: _OfSnapshot = field(init=False)

    def __post_init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a further series for each counter, which nobody looks at
        self._scoring = self._made(Histogram, "scoring_seconds", buckets=_SCORING)
        self._commit = self._made(Histogram, "commit_seconds", buckets=_COMMIT)
        self._commits = self._made(Counter, "commits_total")
        self._firings = self._made(Counter, "alert_firings_total")
        self._lag, self._trouble = self._made(Gauge, "consumer_lag_records"), self._made(Gauge, "source_trouble")
        names = ("commit_blocked", "store_bytes", "last_reload_successful", "last_reload_timestamp_seconds")
        self._plain = {name: self._made(Gauge, name) for name in names}
        self._made(Gauge, "build_info").labels(__version__).set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        for rule in self.rules:
            self._firings.labels(*rule)
        self._snapshot = _OfSnapshot(self.cap, self.scorers)
        self.registry.register(self._snapshot)
        self.reloaded(successful=True, at=time.time())

    def _made(self, kind: Callable[..., M], name: str, **more: object) -> M:
        metric = METRICS[name]
        return kind(f"driftd_{name}", metric.help, metric.labels, registry=self.registry, **more)

    # ---- what the loop tells ----------------------------------------------------------------------------------------

    def show(self, snapshot: Snapshot, store_bytes: float) -> None:
        """Show what the store holds now, and in how many bytes."""
        self._snapshot.snapshot = snapshot
        self._plain["store_bytes"].set(store_bytes)

    def committed(self, seconds: float) -> None:
        """A commit was written, and took so long."""
        self._commits.inc()
        self._commit.observe(seconds)

    def stepped(self, step: Step) -> None:
        """Event time moved on."""
        for change in step.changes:
            if change.state == "firing" and change.reason != "joined":
                about = {"stream": change.stream[:40], "segment": (change.segment or "")[:40]}
                self._firings.labels(change.rule, change.severity).inc(exemplar=about)

    def sources(self, lag: Mapping[str, int], trouble: Mapping[str, bool]) -> None:
        """How far behind the sources are, by partition, and which cannot be read now."""
        for gauge, values in ((self._lag, lag), (self._trouble, trouble)):
            gone = {labels for (labels,) in gauge._metrics} - values.keys()  # noqa: SLF001  there is no other way to ask
            for name in gone:
                gauge.remove(name)
            for name, value in values.items():
                gauge.labels(name).set(value)

    def blocked(self, blocked: bool) -> None:  # noqa: FBT001  it is all that is said
        """Whether the store cannot be written now."""
        self._plain["commit_blocked"].set(blocked)

    def reloaded(self, *, successful: bool, at: float) -> None:
        """A configuration was read, and is in use or was refused."""
        self._plain["last_reload_successful"].set(successful)
        if successful:
            self._plain["last_reload_timestamp_seconds"].set(at)

    def score(self, scorer: BatchScorer[B_contra], batch: B_contra, /) -> Scores:
        """`monitor.scoring.score`, timed; the exemplar is where the batch begins."""
        begun = time.perf_counter()
        try:
            return score(scorer, batch)
        finally:
            place = {}
            if isinstance(batch, Records) and len(batch):
                place = {"partition": batch.partition[-80:], "offset": str(int(batch.offsets[0]))}
            self._scoring.labels(scorer_name(scorer)).observe(time.perf_counter() - begun, place)

    # ---- what a scrape gets -----------------------------------------------------------------------------------------

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics in the format that is asked for (OpenMetrics or text), and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class _OfSnapshot(Collector):
    """Families made from one snapshot; those of windows are worked out once a snapshot."""

    def __init__(self, cap: int, scorers: Sequence[str]) -> None:
        self.snapshot: Snapshot | None = None
        self._cap, self._scorers, self._lock = cap, scorers, threading.Lock()
        self._known: tuple[Snapshot, list[Sample]] | None = None

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()  # names are checked by a test, not by asking before there is a snapshot

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        if (snapshot := self.snapshot) is None:
            return
        with self._lock:
            if self._known is None or self._known[0] is not snapshot:
                self._known = snapshot, self._capped(snapshot)
            samples = self._known[1]
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for sample in samples:
            family = families.get(sample.name) or families.setdefault(sample.name, _family(sample.name))
            family.add_metric(sample.labels, sample.value)
        yield from families.values()

    def _capped(self, snapshot: Snapshot) -> list[Sample]:
        """What is always shown, and of what grows with streams and segments so much as may be."""
        growing = sorted(_of_scopes(snapshot), key=_rank)
        shown = growing[: self._cap]
        limits = [
            Sample("series", [], len(shown)),
            Sample("series_limited", [], float(len(growing) > len(shown))),
        ]
        return [*_of_all(snapshot, self._scorers), *limits, *shown]


def _family(name: str) -> CounterMetricFamily | GaugeMetricFamily:
    metric = METRICS[name]
    made = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return made(f"driftd_{name}", metric.help, labels=metric.labels)


def _of_all(snapshot: Snapshot, scorers: Sequence[str]) -> Iterator[Sample]:
    """What does not grow with streams and segments."""
    if snapshot.committed is not None:
        yield Sample("last_commit_timestamp_seconds", [], snapshot.committed)
    yield Sample("records_total", [], sum(snapshot.counts.values()))
    for reason, count in snapshot.counts.items():
        if reason not in _PASSING:
            yield Sample("records_dropped_total", [reason], count)
    raised = {name.removesuffix(RAISED): count for name, count in snapshot.remarks.items() if name.endswith(RAISED)}
    for scorer, count in (dict.fromkeys(scorers, 0) | raised).items():
        yield Sample("scorer_failures_total", [scorer], count)
    if snapshot.watermark is not None:
        yield Sample("watermark_timestamp_seconds", [], snapshot.watermark / 1000)
    if snapshot.spent is not None:
        yield Sample("false_alarm_budget_spent_ratio", [], snapshot.spent)


def _rank(sample: Sample) -> tuple[bool, int]:
    """Where there are too many, whole streams are shown before segments, and first what METRICS names first."""
    names = METRICS[sample.name].labels
    return "segment" in names and bool(sample.labels[names.index("segment")]), _ORDER[sample.name]


def _of_scopes(snapshot: Snapshot) -> Iterator[Sample]:
    """What grows with streams and segments."""
    for alert in snapshot.alerts:
        labels = [alert.rule, alert.severity, alert.state, alert.stream, alert.segment or ""]
        yield Sample("alerts", labels, 1)
    for stream, end in snapshot.last.items():
        yield Sample("stream_last_record_timestamp_seconds", [stream], end / 1000)
    yield from _of_references(snapshot)
    for reading in snapshot.readings:
        yield from _of_reading(reading)
        if not reading.baseline:
            key = reading.window, key_of(reading.scope, reading.signal)
            for distance, size in snapshot.distances.get(key, {}).items():
                if size is not None:
                    yield Sample("drift_distance", [*_where(reading), distance], size)
    for found in snapshot.measured():
        yield from _of_window(found)


def _of_references(snapshot: Snapshot) -> Iterator[Sample]:
    ends: dict[Scope, int] = {}
    number = Counts[tuple[Scope, str, int]]()
    for held in snapshot.references:
        state, scope = "learning" if held.learning else "ruling", held.scope
        if not number[scope, state, held.begin]:
            labels = [scope.stream, scope.segment or "", held.kind, state, str(held.begin // 1000)]
            yield Sample("reference_info", labels, 1)
        number[scope, state, held.begin] += 1
        if not held.learning:
            ends[scope] = max(ends.get(scope, 0), held.end)
    for scope, end in ends.items():
        yield Sample("reference_end_timestamp_seconds", [scope.stream, scope.segment or ""], end / 1000)


def _where(reading: Reading) -> list[str]:
    return [reading.stream, reading.segment or "", reading.signal, format_duration(reading.window)]


def _of_reading(reading: Reading) -> Iterator[Sample]:
    labels = [*_where(reading), reading.baseline]
    for verdict in VERDICTS:
        yield Sample("drift_verdict", [*labels, verdict], float(reading.verdict == verdict))
    values = {
        "drift_pvalue": reading.p_value,
        "drift_threshold_pvalue": None if reading.p_value is None else reading.threshold,
        "drift_effect": reading.effect,
        "detectable_change": reading.detectable,
    }
    for name, value in values.items():
        if value is not None:
            yield Sample(name, labels, value)


def _of_window(found: WindowSignal) -> Iterator[Sample]:
    where = [found.scope.stream, found.scope.segment or "", found.signal, format_duration(found.window)]
    if found.kind == "level":
        yield Sample("window_records", [where[0], where[1], where[3]], found.records)
        return
    values = {
        "signal_mean": found.mean,
        "signal_rate_ratio": found.rate,
        "signal_coverage_ratio": found.coverage,
    }
    for name, value in values.items():
        if value is not None:
            yield Sample(name, where, value)
    for q, value in found.quantiles.items():
        yield Sample("signal_quantile_value", [*where, f"{q:g}"], value)
