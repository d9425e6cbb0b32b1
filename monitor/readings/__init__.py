"""Windows held against references: one reading for every signal, scope and window size at every step.

Comes in: closed slices and frozen references. Goes out: readings with verdicts. Pure: the caller says how far time has
come. The order of series is that of scopes and signals by name, so that readings do not depend on who was seen first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from monitor.calibration import FalseAlarmSettings, decided, thresholds
from monitor.clusters import Books
from monitor.distances import DISTANCES
from monitor.model import STRETCH, Kind, Reading, Scope, Signal, Verdict
from monitor.readings import shares, vectors
from monitor.readings.concentration import with_mostly
from monitor.readings.counted import along, counted, since
from monitor.readings.effects import dense_counts, effect_unit, window_counts
from monitor.readings.lacking import LEAST_REFERENCE_UNITS, LEAST_UNITS, lacking
from monitor.readings.matters import matters
from monitor.readings.origins import with_origin
from monitor.readings.shares import ShareTable
from monitor.readings.trends import Trend
from monitor.readings.vectors import VectorTable
from monitor.readings.verdicts import number, verdict_of
from monitor.readings.watched import Watched
from monitor.reference import PROMPT, Exchanges, ScopeReference, SeriesReference
from monitor.summaries import SUMMARIES, AnySummary, Numeric, Rate
from monitor.summaries.numeric import grid_values
from monitor.windows import SLICES, Contents, Slice, add_contents

LEAST_WINDOWS = 6
"""A reference is at least this many windows long."""

_TESTS: Mapping[Kind, str] = {"numeric": "quantile_e", "category": "value_e", "rate": "rate_e"}
Key = tuple[str, str, str]
"""Stream, segment ('' for none) and signal: what readings are ordered by."""


def key_of(scope: Scope, signal: str) -> Key:
    return scope.stream, scope.segment or "", signal


@dataclass(slots=True)
class Judge:
    """All series of one window size."""

    size: int
    own: Mapping[str, float]
    """What matters, where the owner set it."""
    parts: dict[tuple[Scope, str], ScopeReference] = field(default_factory=dict)
    """Scope and signal (volume among them) -> the reference that it is held against."""
    shares: ShareTable = field(init=False)
    vectors: VectorTable = field(init=False)

    def __post_init__(self) -> None:
        self.shares, self.vectors = ShareTable(self.size), VectorTable(self.size)

    def join(self, reference: ScopeReference, window: Sequence[tuple[int, Slice]]) -> None:
        """Begin to judge the signals of a reference that is long enough for this size of window."""
        self.parts |= {(reference.scope, name): reference for name in reference.signals}
        for series in reference.series.values():
            learned = reference.begin, reference.end
            if series.signal.kind == "vector":
                self.vectors.join(series, window, learned)
            else:
                self.shares.join(Watched(series, self.size, self._matters(series), learned), window)

    def _matters(self, series: SeriesReference) -> float:
        rate = series.summary.mean if isinstance(series.summary, Rate) else None
        return matters(series.signal, self.own, rate)

    def push(self, found: Slice | None) -> None:
        """The next slice of this size (None: it holds no records)."""
        self.shares.push(found)
        self.vectors.push(found)

    def dump(self) -> bytes:
        """The evidence, packed: what cannot be derived from references and slices."""
        return msgspec.msgpack.encode((self.shares.dump(), self.vectors.dump()))

    def restore(self, data: bytes) -> None:
        """Put the state of `dump` back, after the same references have joined. Raises ValueError where others have."""
        shares, vectors = msgspec.msgpack.decode(data)
        self.shares.restore(shares)
        self.vectors.restore(vectors)

    def read(
        self, now: int, window: Sequence[tuple[int, Slice]], budget: Mapping[bool, float], *, partial: bool
    ) -> list[Reading]:
        """Readings of every series whose window does not overlap its reference.

        Parameters
        ----------
        budget : error probability of each test: (is a segment's) -> p-value
        partial : the window is cut short by the end of the data; volume is not judged

        """
        found = [
            *self._shares(now, window, budget),
            *self._vectors(now, window, budget),
            *([] if partial else self._volumes(now, window)),
        ]
        kept = [r for r in found if self.parts[r.scope, r.signal].apart(self.size, now)]
        return sorted(kept, key=lambda reading: key_of(reading.scope, reading.signal))

    def _shares(self, now: int, window: Sequence[tuple[int, Slice]], budget: Mapping[bool, float]) -> Iterable[Reading]:
        table = self.shares
        if not table.series:
            return
        threshold = np.array([budget[watched.reference.scope.segment is not None] for watched in table.series])
        found = table.read(window, threshold)
        for row, watched in enumerate(table.series):
            series, units = watched.reference, int(found.units[row])
            drift, seen = bool(found.decided[row]), bool(found.detectable[row] <= watched.matters)
            known = float(found.known[row])
            verdict = verdict_of(units, known, drift=drift, seen=seen)
            unit = effect_unit(series.signal, int(found.effects.decile[row]))
            yield self._reading(
                now,
                series,
                _TESTS[series.signal.kind],
                verdict,
                value=number(found.effects.value[row]),
                reference_value=number(found.effects.reference_value[row]),
                effect=number(found.effects.effect[row]) if found.records[row] else None,
                ends=(found.effects.low[row], found.effects.high[row]) if found.records[row] else None,
                effect_unit=unit + STRETCH * bool(found.stretching[row]),
                p_value=float(found.p_value[row]) if found.records[row] else None,
                threshold=float(threshold[row]),
                tail="anytime",
                n=int(found.records[row]),
                units=units,
                detectable=number(found.detectable[row]) if found.records[row] else None,
                moved=found.effects.moved[row] if verdict == "drift" else "",
                since=int(found.since[row]),
                known=known,
            )

    def _vectors(
        self, now: int, window: Sequence[tuple[int, Slice]], budget: Mapping[bool, float]
    ) -> Iterable[Reading]:
        table = self.vectors
        if not table.series:
            return
        threshold = np.array([budget[s.scope.segment is not None] for s in table.series])
        found = table.read(window, threshold)
        least = np.array([self._matters(series) for series in table.series])
        drift = decided(found.p_value, threshold, found.effect, least)
        for row, series in enumerate(table.series):
            seen = bool(found.detectable[row] <= least[row])
            yield self._reading(
                now,
                series,
                "rff_mmd",
                verdict_of(int(found.units[row]), float(found.known[row]), drift=bool(drift[row]), seen=seen),
                value=number(found.value[row]) if found.records[row] else None,
                reference_value=number(found.reference_value[row]) if found.records[row] else None,
                effect=number(found.effect[row]) if found.records[row] else None,
                ends=(found.low[row], found.high[row]) if found.records[row] else None,
                effect_unit=effect_unit(series.signal),
                p_value=float(found.p_value[row]) if found.records[row] else None,
                threshold=float(threshold[row]),
                tail="widened" if found.widened[row] else "anytime",
                n=int(found.records[row]),
                units=int(found.units[row]),
                detectable=number(found.detectable[row]) if found.records[row] else None,
                since=int(found.since[row]),
                known=float(found.known[row]),
            )

    def _volumes(self, now: int, window: Sequence[tuple[int, Slice]]) -> Iterable[Reading]:
        """Volume: records in the window against the range of such windows in the reference."""
        factor = self.own.get("volume", matters(Signal("volume", "level"), {}))
        for (scope, signal), reference in self.parts.items():
            if signal != "volume":
                continue
            least, usual, most = reference.volume[self.size]
            if reference.cycle is not None:
                usual = reference.expected(now - self.size, now)
                least, most = least * usual, most * usual
            records = sum(found.scopes[scope].records for _, found in window if scope in found.scopes)
            known = math.isfinite(most) and usual >= LEAST_UNITS
            drift = known and (records > factor * most or records < least / factor)
            usual_silence = records == 0 and least == 0
            yield Reading(
                at=now,
                window=self.size,
                window_start=now - self.size,
                stream=scope.stream,
                segment=scope.segment,
                signal="volume",
                kind="level",
                test="range",
                value=records / SLICES,
                reference_value=usual / SLICES,
                effect=math.log((records + 0.5) / (usual + 0.5)) if known else None,
                effect_unit="log of the ratio to the reference's mean",
                p_value=None,
                threshold=factor,
                verdict="drift" if drift else "ok" if known or usual_silence else "insufficient",
                n=records,
                units=records,
                reference_n=round(usual / SLICES * reference.slices[self.size]),
                reference_slices=reference.slices[self.size],
                detectable=math.log(factor * most / usual) if known else None,
            )

    def _reading(
        self,
        now: int,
        series: SeriesReference,
        test: str,
        verdict: Verdict,
        *,
        value: float | None,
        reference_value: float | None,
        effect: float | None,
        effect_unit: str,
        p_value: float | None,
        threshold: float,
        tail: str,
        n: int,
        units: int,
        detectable: float | None,
        since: int,
        ends: tuple[float, float] | None,
        known: float,
        moved: str = "",
    ) -> Reading:
        lacks = ""
        if verdict == "insufficient":
            lacks = lacking(self.size, units, known, detectable, self._matters(series))
        return Reading(
            at=now,
            window=self.size,
            window_start=now - self.size,
            stream=series.scope.stream,
            segment=series.scope.segment,
            signal=series.signal.name,
            kind=series.signal.kind,
            test=test,
            value=value,
            reference_value=reference_value,
            effect=effect,
            effect_unit=effect_unit,
            p_value=p_value,
            threshold=threshold,
            verdict=verdict,
            n=n,
            units=units,
            reference_n=series.n,
            reference_slices=self.parts[series.scope, series.signal.name].slices[self.size],
            detectable=detectable,
            tail=tail,
            lacks=lacks,
            moved=moved,
            changed_at=now - since * (self.size // SLICES) if verdict == "drift" else None,
            effect_low=None if ends is None else number(ends[0]),
            effect_high=None if ends is None else number(ends[1]),
        )

    def trends(self, readings: Iterable[Reading], *, strongest: bool = False) -> dict[Key, Trend]:
        """How fast the series of some readings change, over all that is remembered or their strongest stretch."""
        asked = {key_of(reading.scope, reading.signal): reading.moved for reading in readings}
        keys = [key_of(w.reference.scope, w.reference.signal.name) for w in self.shares.series]
        rows = [row for row, key in enumerate(keys) if key in asked]
        found = self.shares.trends(rows, [asked[keys[row]] for row in rows], strongest=strongest)
        return {keys[row]: trend for row, trend in zip(rows, found, strict=True) if trend is not None}

    def usual(self, scope: Scope, signal: str, window: Sequence[tuple[int, Slice]]) -> AnySummary | None:
        """What a signal of a window is held against; with a cycle, of a category, at the same time of it."""
        part = self.parts.get((scope, signal))
        series = None if part is None else part.series.get(signal)
        mixes = [watched.mix(window) for watched in self.shares.series if watched.reference is series]
        if series is None or not mixes or mixes[0] is None:
            return None if series is None else series.summary
        return series.mixed(mixes[0])

    def distances(self, window: Sequence[tuple[int, Slice]], wanted: set[Key]) -> dict[Key, dict[str, float | None]]:
        """The descriptive distances of the wanted series, by their textbook definitions over records.

        They are from the whole reference, whatever the time of a cycle.
        """
        shapes = {watched.reference: watched.shape for watched in self.shares.series}
        chosen = [s for s in shapes if key_of(s.scope, s.signal.name) in wanted]
        result: dict[Key, dict[str, float | None]] = {}
        for reference, counts in zip(chosen, window_counts(chosen, window), strict=True):
            bins = np.bincount(reference.place(counts.keys), counts.counts, minlength=reference.bins)
            cells = reference.summary.cells
            usual = np.bincount(reference.place(cells.keys), cells.mass, minlength=reference.bins)
            found: dict[str, float | None] = {}
            for name, distance in DISTANCES.items():
                if reference.signal.kind not in distance.kinds:
                    continue
                if distance.cells == "grid":
                    scale = reference.signal.scale
                    here, there = dense_counts([counts], scale), shapes[reference].dense[None, :]
                    found[name] = number(distance(here, there, grid_values(scale))[0])
                else:
                    found[name] = number(float(distance(bins, usual)))
            result[key_of(reference.scope, reference.signal.name)] = found
        for row, reference in enumerate(self.vectors.series):
            key = key_of(reference.scope, reference.signal.name)
            if key in wanted:
                result[key] = {name: number(value) for name, value in self.vectors.distances(row, window).items()}
        return result

    def told(self, drift: Reading, window: Sequence[tuple[int, Slice]], books: Books) -> Reading:
        """A drift with where it comes from, where that is known: other prompts or answers, and who most of it is."""
        key = drift.scope, drift.signal
        if key not in self.parts or drift.kind == "level":
            return drift
        kept, series = self._exchanges(*key), self.parts[key].series[drift.signal]
        if series.season(self.size) is not None:
            return drift  # what it is held against are not the exchanges of the whole reference
        if drift.kind == "vector":
            direction = along(series, since(window, drift.changed_at))
            return drift if direction is None else with_mostly(drift, direction, window, self.parts, kept)
        watched = next(one for one in self.shares.series if one.reference is series)
        how = counted(watched, drift.moved)
        if how is None:
            return drift
        found = with_origin(drift, watched, how, window, kept=kept, book=books.get((drift.stream, PROMPT)))
        return with_mostly(found, how, window, self.parts, kept)

    def _exchanges(self, scope: Scope, signal: str) -> Exchanges | None:
        """Sampled exchanges of when a signal of a scope was learned: those of its stream, if that learned it then."""
        own, whole = self.parts.get((scope, signal)), self.parts.get((Scope(scope.stream), signal))
        if own is None or whole is None or own.end <= whole.begin or whole.end <= own.begin:
            return None
        return whole.exchanges


def without(data: bytes, gone: Collection[tuple[Scope, str]]) -> bytes:
    """What `Judge.dump` packed, less some series."""
    of_shares, of_vectors = msgspec.msgpack.decode(data)
    return msgspec.msgpack.encode((shares.without(of_shares, gone), vectors.without(of_vectors, gone)))


def with_trend(reading: Reading, trend: Trend | None) -> Reading:
    """A reading that says how fast its series changes."""
    if trend is None:
        return reading
    value, low, high = map(number, trend[:3])
    return msgspec.structs.replace(reading, trend=value, trend_low=low, trend_high=high, trend_unit=trend.unit)


def learning_readings(
    now: int, size: int, scopes: Iterable[Scope], window: Sequence[tuple[int, Slice]]
) -> list[Reading]:
    """What a scope without a reference measures: values, no test."""
    readings, kinds = [], {found: kind for kind, found in SUMMARIES.items()}
    for scope in scopes:
        parts = [found.scopes[scope] for _, found in window if scope in found.scopes]
        contents = add_contents(parts) if parts else Contents()
        for name, summary in contents.summaries.items():
            value = summary.quantile(0.5) if isinstance(summary, Numeric) and summary.scale == "log" else None
            if value is None and isinstance(summary, Numeric | Rate):
                value = summary.mean
            readings.append(
                Reading(
                    at=now,
                    window=size,
                    window_start=now - size,
                    stream=scope.stream,
                    segment=scope.segment,
                    signal=name,
                    kind=kinds[type(summary)],
                    test=None,
                    value=value,
                    reference_value=None,
                    effect=None,
                    effect_unit="",
                    p_value=None,
                    threshold=None,
                    verdict="learning",
                    n=summary.n,
                    units=summary.cells.units(),
                    reference_n=0,
                    reference_slices=0,
                    detectable=None,
                )
            )
    return readings


def budget_of(
    settings: FalseAlarmSettings,
    references: Iterable[ScopeReference],
    sizes: Sequence[int],
    second: Iterable[ScopeReference] = (),
    arms: Iterable[tuple[Scope, str, str]] = (),
) -> dict[int, dict[bool, float]]:
    """Thresholds of every window size: size -> (is a segment's) -> p-value.

    A series is alive, and has a part of the budget, if a reference of it is large enough to be judged by; those that
    are held against a `second` one too count twice, and a signal of `arms` (scope, baseline, signal) counts with
    those of segments.
    """
    tests = {
        (reference.scope, name, again)
        for again, held in ((False, references), (True, second))
        for reference in held
        for name, series in reference.series.items()
        if series.n >= LEAST_REFERENCE_UNITS
    }
    alive = Counter(scope for scope, _, _ in [*tests, *arms])
    by_length = thresholds(settings, alive, [size // SLICES for size in sizes])
    return {size: by_length[size // SLICES] for size in sizes}
