"""What a commit left, for whoever looks at a running daemon from another thread: metrics and the HTTP interface.

A snapshot is never changed: it shares closed slices, readings and alerts with the engine, which never changes those
either. What a window comes to is worked out when somebody asks, not with each commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from monitor.engine import Engine
from monitor.model import Alert, Kind, Reading, Scope
from monitor.readings import Key
from monitor.summaries import SUMMARIES, AnySummary, Numeric, Rate, merged
from monitor.windows import SLICES, Slice

QUANTILES = (0.5, 0.9, 0.95, 0.99)
"""Those that are shown of a number."""
_KINDS: Mapping[type, Kind] = {summary: kind for kind, summary in SUMMARIES.items()}


@dataclass(frozen=True, slots=True)
class Held:
    """A reference that windows are held against, or that is being learned."""

    scope: Scope
    kind: str
    begin: int
    end: int
    learning: bool
    signals: Sequence[str]
    """Those it is for."""


@dataclass(frozen=True, slots=True)
class WindowSignal:
    """One signal in the newest window of one size; volume as a signal of which only `records` is known."""

    scope: Scope
    signal: str
    kind: Kind
    window: int
    end: int
    records: int
    """Exchanges in the window."""
    n: int
    """Observations."""
    mean: float | None = None
    """Of a number."""
    rate: float | None = None
    quantiles: Mapping[float, float] = field(default_factory=dict)
    """Of a number."""

    @property
    def coverage(self) -> float | None:
        """Observations to a record, 1 at most: less where a signal is measured on a sample, or is missing."""
        return min(self.n / self.records, 1.0) if self.records else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state that one commit wrote."""

    committed: float | None
    """When, in seconds of the wall clock; None of what an earlier process left."""
    watermark: int | None
    counts: Mapping[str, int]
    """Fate -> records, adding up to the records read."""
    remarks: Mapping[str, int]
    """What scorers remarked -> records."""
    readings: Sequence[Reading]
    """The latest of each series, window and pair of arms."""
    distances: Mapping[tuple[int, Key], Mapping[str, float | None]]
    """Window size and series -> distances, as of the last reading that was due."""
    alerts: Sequence[Alert]
    references: Sequence[Held]
    windows: Mapping[int, tuple[int, Sequence[Slice]]]
    """Size -> end of the newest window, and its slices that hold records."""
    last: Mapping[str, int]
    """Stream -> end of the last slice of it that held records, as far as slices are kept."""
    spent: float | None
    """Of the false-alarm budget, the part that is spent."""

    def measured(self) -> Iterator[WindowSignal]:
        """Every signal of every scope in the newest window of each size; of each scope volume first."""
        for size, (end, slices) in self.windows.items():
            records: dict[Scope, int] = {}
            parts: dict[tuple[Scope, str], list[AnySummary]] = {}
            for found in slices:
                for scope, contents in found.scopes.items():
                    records[scope] = records.get(scope, 0) + contents.records
                    for name, summary in contents.summaries.items():
                        parts.setdefault((scope, name), []).append(summary)
            for scope, count in records.items():
                yield WindowSignal(scope, "volume", "level", size, end, count, count)
            for (scope, name), summaries in parts.items():
                about = (scope, name, _KINDS[type(summaries[0])], size, end, records[scope])
                yield _measured(WindowSignal(*about, sum(part.n for part in summaries)), summaries)


def snapshot(engine: Engine, counts: Mapping[str, int], watermark: int | None, committed: float | None) -> Snapshot:
    """What is to be seen of an engine now.

    Parameters
    ----------
    counts : fate -> records
    watermark, committed : as in Snapshot

    """
    windows = {} if engine.now is None else {size: _window(engine, size, engine.now) for size in engine.plan.sizes}
    last: dict[str, int] = {}
    for _, found in engine.rings.held():
        for scope in found.scopes:
            last[scope.stream] = max(last.get(scope.stream, 0), found.end)
    return Snapshot(
        committed=committed,
        watermark=watermark,
        counts=dict(counts),
        remarks=dict(engine.slices.remarks),
        readings=list(engine.latest.values()),
        distances=dict(engine.described),
        alerts=list(engine.alerts.values()),
        references=list(_references(engine)),
        windows=windows,
        last=last,
        spent=engine.spending.ratio(engine.plan.false_alarms),
    )


def _window(engine: Engine, size: int, now: int) -> tuple[int, Sequence[Slice]]:
    length = size // SLICES
    end = now // length * length
    return end, [found for _, found in engine.rings.window(size, end)]


def _references(engine: Engine) -> Iterator[Held]:
    baselines, kind = engine.baselines, engine.plan.reference.kind
    for part in baselines.references:
        ruling = baselines.ruling(part)
        if ruling.series:
            yield Held(part.scope, kind, ruling.begin, ruling.end, learning=False, signals=sorted(ruling.series))
    for part, found in baselines.learning.items():
        signals = sorted(found.only or ())
        yield Held(part.scope, kind, found.begin, found.end, learning=True, signals=signals)


def _measured(found: WindowSignal, parts: list[AnySummary]) -> WindowSignal:
    """With what can be said in a number; categories and vectors have none."""
    if found.kind not in {"numeric", "rate"}:
        return found  # and is not added up, which costs more than all else here
    summary = merged(parts)
    if isinstance(summary, Numeric):
        quantiles = {q: value for q in QUANTILES if (value := summary.quantile(q)) is not None}
        return replace(found, mean=summary.mean, quantiles=quantiles)
    return replace(found, rate=summary.mean if isinstance(summary, Rate) else None)
