"""Windows held against references: one reading for every signal, scope and window size at every step.

Comes in: closed slices and frozen references. Goes out: readings with verdicts. Pure: the caller says how far time has
come. The order of series is that of scopes and signals by name, so that readings do not depend on who was seen first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from monitor.calibration import SUPPORTED, FalseAlarmSettings, decided, thresholds
from monitor.distances import DISTANCES
from monitor.model import Floats, Reading, Scope, Signal, Verdict
from monitor.readings.lacking import LEAST_REFERENCE_UNITS, LEAST_UNITS, lacking
from monitor.readings.matters import matters
from monitor.readings.rates import RateTable, share_of_rare, share_of_yes
from monitor.readings.shapes import ShapeTable, dense_counts, window_counts
from monitor.readings.vectors import VectorTable
from monitor.reference import ScopeReference, SeriesReference
from monitor.summaries import SUMMARIES, Numeric, Rate
from monitor.summaries.numeric import grid_values
from monitor.windows import SLICES, Contents, Slice, add_contents

LEAST_WINDOWS = 6
"""A reference is at least this many windows long."""

_UNITS_OF_EFFECT = {
    "rate": "difference of rates",
    "stretch": "difference of rates in the strongest stretch",
    "rare rate": "difference of the share of rare values",
    "rare stretch": "difference of the share of rare values in the strongest stretch",
    "category": "total variation",
    "vector": "share of records replaced, at least",
}
_MOST_IN_OTHER = 0.5
"""A category with more of its reference in cells too rare to be compared by themselves says nothing by the others."""
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
    numeric: ShapeTable = field(init=False)
    category: ShapeTable = field(init=False)
    rates: RateTable = field(init=False)
    vectors: VectorTable = field(init=False)

    def __post_init__(self) -> None:
        self.numeric, self.category = ShapeTable("numeric", self.size), ShapeTable("category", self.size)
        self.rates, self.vectors = RateTable(self.size), VectorTable(self.size)

    def join(self, reference: ScopeReference, window: Sequence[tuple[int, Slice]]) -> None:
        """Begin to judge the signals of a reference that is long enough for this size of window."""
        self.parts |= {(reference.scope, name): reference for name in reference.signals}
        for series in reference.series.values():
            if series.signal.kind == "numeric":
                self.numeric.join(series, window)
            elif series.signal.kind == "category":
                self.category.join(series, window)
                rare = share_of_rare(series, self.size)
                self.rates.join(rare, self._matters(series), (reference.begin, reference.end))
            elif series.signal.kind == "vector":
                self.vectors.join(series, window)
            else:
                self.rates.join(share_of_yes(series), self._matters(series), (reference.begin, reference.end))

    def _matters(self, series: SeriesReference) -> float:
        rate = series.summary.mean if isinstance(series.summary, Rate) else None
        return matters(series.signal, self.own, rate)

    def push(self, now: int, found: Slice | None) -> None:
        """A slice of this size ended at `now` (None: it holds no records)."""
        self.numeric.push(found)
        self.category.push(found)
        self.vectors.push(found)
        self.rates.push(now // (self.size // SLICES) - 1, found)

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
            *self._numeric(now, window, budget),
            *self._vectors(now, window, budget),
            *self._categories_and_rates(now, window, budget),
            *([] if partial else self._volumes(now, window)),
        ]
        kept = [r for r in found if self.parts[r.scope, r.signal].apart(self.size, now)]
        return sorted(kept, key=lambda reading: key_of(reading.scope, reading.signal))

    def _shapes(
        self, table: ShapeTable, now: int, window: Sequence[tuple[int, Slice]], threshold: Floats
    ) -> Iterable[tuple[Reading, bool]]:
        """Readings, and whether there was more than one cell to compare."""
        if not table.series:
            return
        found = table.read(window, threshold)
        least = np.array([self._matters(s.reference) for s in table.series])
        drift = decided(found.p_value, threshold, found.effect, least)
        telling = (found.cells > 1) & (found.in_other <= _MOST_IN_OTHER)
        for row, shape in enumerate(table.series):
            seen = bool(found.detectable[row] <= least[row]) and bool(telling[row])
            verdict = _verdict(
                int(found.units[row]), shape.reference.known(self.size), drift=bool(drift[row]), seen=seen
            )
            reading = self._reading(
                now,
                shape.reference,
                "g_test" if table.kind == "category" else "histogram_l2",
                verdict,
                value=_number(found.value[row]),
                reference_value=_number(found.reference_value[row]),
                effect=_number(found.effect[row]) if found.records[row] else None,
                effect_unit=_effect_unit(shape.reference.signal, int(found.decile[row])),
                p_value=float(found.p_value[row]) if found.records[row] else None,
                threshold=float(threshold[row]),
                tail="simulated" if found.p_value[row] >= SUPPORTED else "extrapolated",
                n=int(found.records[row]),
                units=int(found.units[row]),
                detectable=_number(found.detectable[row]) if found.records[row] else None,
                moved=found.moved[row] if verdict == "drift" else "",
            )
            yield reading, bool(found.cells[row] > 1)

    def _numeric(
        self, now: int, window: Sequence[tuple[int, Slice]], budget: Mapping[bool, float]
    ) -> Iterable[Reading]:
        threshold = np.array([budget[shape.reference.scope.segment is not None] for shape in self.numeric.series])
        return (reading for reading, _ in self._shapes(self.numeric, now, window, threshold))

    def _categories_and_rates(
        self, now: int, window: Sequence[tuple[int, Slice]], budget: Mapping[bool, float]
    ) -> Iterable[Reading]:
        """A category has two tests, each with half of its threshold: G, and a rate of the values that G cannot tell."""
        rates = {key_of(reading.scope, reading.signal): reading for reading in self._rates(now, window, budget)}
        threshold = np.array([budget[shape.reference.scope.segment is not None] / 2 for shape in self.category.series])
        for by_g, compared in self._shapes(self.category, now, window, threshold):
            by_rate = rates.pop(key_of(by_g.scope, by_g.signal))
            g_tells = by_g.verdict == "drift" or ((compared or not by_g.n) and by_rate.verdict != "drift")
            yield by_g if g_tells else by_rate
        yield from rates.values()

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
            tail = "simulated" if found.p_value[row] >= SUPPORTED else "extrapolated"
            yield self._reading(
                now,
                series,
                "rff_mmd",
                _verdict(int(found.units[row]), series.known(self.size), drift=bool(drift[row]), seen=seen),
                value=_number(found.value[row]) if found.records[row] else None,
                reference_value=_number(found.reference_value[row]) if found.records[row] else None,
                effect=_number(found.effect[row]) if found.records[row] else None,
                effect_unit=_UNITS_OF_EFFECT["vector"],
                p_value=float(found.p_value[row]) if found.records[row] else None,
                threshold=float(threshold[row]),
                tail="widened" if found.widened[row] else tail,
                n=int(found.records[row]),
                units=int(found.units[row]),
                detectable=_number(found.detectable[row]) if found.records[row] else None,
            )

    def _rates(self, now: int, window: Sequence[tuple[int, Slice]], budget: Mapping[bool, float]) -> Iterable[Reading]:
        if not self.rates.series:
            return
        tests = [2 if share.reference.signal.kind == "category" else 1 for share in self.rates.series]
        spent = [budget[share.reference.scope.segment is not None] for share in self.rates.series]
        found = self.rates.read(window, np.array(spent) / np.array(tests))
        for row, (share, least) in enumerate(zip(self.rates.series, self.rates.matters, strict=True)):
            series = share.reference
            unit = "stretch" if found.stretching[row] else "rate"
            verdict = _verdict(
                int(found.units[row]),
                series.known(self.size),
                drift=bool(found.decided[row]),
                seen=bool(found.detectable[row] <= least),
            )
            yield self._reading(
                now,
                series,
                "rate_e",
                verdict,
                value=_number(found.value[row]),
                reference_value=_number(found.reference_value[row]),
                effect=_number(found.effect[row]),
                effect_unit=_UNITS_OF_EFFECT[unit if series.signal.kind == "rate" else f"rare {unit}"],
                p_value=float(found.p_value[row]),
                threshold=float(found.threshold[row]),
                tail="anytime",
                n=int(found.records[row]),
                units=int(found.units[row]),
                detectable=_number(found.detectable[row]),
            )

    def _volumes(self, now: int, window: Sequence[tuple[int, Slice]]) -> Iterable[Reading]:
        """Volume: records in the window against the range of such windows in the reference."""
        factor = self.own.get("volume", matters(Signal("volume", "level"), {}))
        for (scope, signal), reference in self.parts.items():
            if signal != "volume":
                continue
            least, usual, most = reference.volume[self.size]
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
        moved: str = "",
    ) -> Reading:
        lacks = ""
        if verdict == "insufficient":
            lacks = lacking(self.size, units, series.known(self.size), detectable, self._matters(series))
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
        )

    def distances(self, window: Sequence[tuple[int, Slice]], wanted: set[Key]) -> dict[Key, dict[str, float | None]]:
        """The descriptive distances of the wanted series, by their textbook definitions over records."""
        shapes = {s.reference: s for s in (*self.numeric.series, *self.category.series)}
        series = [*shapes, *(s.reference for s in self.rates.series if s.reference.signal.kind == "rate")]
        chosen = [s for s in series if key_of(s.scope, s.signal.name) in wanted]
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
                    found[name] = _number(distance(here, there, grid_values(scale))[0])
                else:
                    found[name] = _number(float(distance(bins, usual)))
            result[key_of(reference.scope, reference.signal.name)] = found
        for row, reference in enumerate(self.vectors.series):
            key = key_of(reference.scope, reference.signal.name)
            if key in wanted:
                result[key] = {name: _number(value) for name, value in self.vectors.distances(row, window).items()}
        return result


def _verdict(units: int, reference_units: float, *, drift: bool, seen: bool) -> Verdict:
    if units < LEAST_UNITS or reference_units < LEAST_REFERENCE_UNITS:
        return "insufficient"
    if drift:
        return "drift"
    return "ok" if seen else "insufficient"


def _effect_unit(signal: Signal, decile: int) -> str:
    if signal.kind == "category":
        return _UNITS_OF_EFFECT["category"]
    return "difference of means" if signal.scale == "unit" else f"relative change of the 0.{decile + 1} quantile"


def _number(value: float | np.float64) -> float | None:
    """JSON knows no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


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
) -> dict[int, dict[bool, float]]:
    """Thresholds of every window size: size -> (is a segment's) -> p-value.

    A series is alive, and has a part of the budget, if a reference of it is large enough to be judged by; those that
    are held against a `second` one too count twice.
    """
    tests = {
        (reference.scope, name, again)
        for again, held in ((False, references), (True, second))
        for reference in held
        for name, series in reference.series.items()
        if series.n >= LEAST_REFERENCE_UNITS
    }
    alive = Counter(scope for scope, _, _ in tests)
    by_length = thresholds(settings, alive, [size // SLICES for size in sizes])
    return {size: by_length[size // SLICES] for size in sizes}
