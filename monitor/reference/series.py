"""The frozen reference of a stream or segment, signal by signal, and its packed form. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from monitor.calibration import LEAST_PERIODS, Cycle, NullTerms, ReferenceSlices, Season
from monitor.model import Floats, Ints, Scope, Signal
from monitor.reference.exchanges import Exchanges
from monitor.reference.phases import PhaseCounts
from monitor.summaries import SUMMARIES, AnySummary, Category, Counts, Numeric, Rate
from monitor.summaries.category import OTHER_KEY
from monitor.windows import SLICES

_ARRAYS: tuple[tuple[str, type[np.int64 | np.float64]], ...] = (
    ("number", np.int64),
    ("shares", np.float64),
    ("units", np.float64),
    ("seen", np.float64),
    ("within", np.float64),
    ("mean", np.float64),
    ("lag_weights", np.float64),
    ("shared", np.float64),
)
_FORMAT = 9
"""Version of the packed form of a reference."""
KEPT = 288
"""Slices of each size that a reference keeps."""
BINS = 16
"""Quantile bins of a numeric signal."""


@dataclass(frozen=True, eq=False)
class SeriesReference:
    """What normal looks like for one signal of one scope."""

    scope: Scope
    signal: Signal
    summary: AnySummary
    slices: Mapping[int, ReferenceSlices]
    """By window size, those of a `further` one among them; vectors have `vectors` in their place."""
    vectors: Mapping[int, VectorNull] = field(default_factory=dict)
    unsteady: str = ""
    """What course the signal took in the learning period, "a step", "a trend" or "a cycle of about 6h", by more than
    chance and by more than matters; "" where it was steady."""
    by_phase: PhaseCounts | None = None
    """Where there is a cycle, how records lie in each phase; None of vectors."""

    def season(self, size: int) -> Season | None:
        """What is usual at each time of a cycle, for slices of windows of one size."""
        return self.vectors[size].season if size in self.vectors else self.slices[size].season

    def coarser(self, size: int) -> list[tuple[int, ReferenceSlices]]:
        """Slices of longer windows, and how many times as long they are: as many as are needed to have all time."""
        found: list[tuple[int, ReferenceSlices]] = []
        rows = self.slices[size]
        for longer, more in sorted(self.slices.items()):
            if longer > size and _in_runs(rows) and len(more.number):
                found.append((longer // size, more))
                rows = more
        return found

    def mixed(self, weights: Floats) -> AnySummary:
        """The summary, of categories that of phases with these weights."""
        if self.by_phase is None or not isinstance(self.summary, Category):
            return self.summary
        keys, parts = self.by_phase.mixed(weights)
        names = {key: name for key, name in self.summary.names.items() if key in keys}
        known = np.where(np.isin(keys, list(names)), keys, OTHER_KEY)
        distinct, row = np.unique(known, return_inverse=True)
        counts = np.rint(np.bincount(row, parts) * self.n).astype(np.int64)
        return Category(Counts(distinct[counts > 0], counts[counts > 0]), names)

    def known(self, size: int) -> float:
        """Units that the reference is known by; of samples their effective number."""
        if size in self.vectors:
            return self.vectors[size].known
        rows = self.slices[size]
        return min(rows.total, 1 / rows.inverse) if self.summary.cells.sampled and rows.inverse else rows.total

    @property
    def n(self) -> int:
        return self.summary.n

    @cached_property
    def cells(self) -> Ints:
        """Upper keys of the quantile bins but the last (numeric), the known values (category), or 0 (rate)."""
        return coarse_cells(self.summary)

    def place(self, keys: Ints) -> Ints:
        """The bin of each key."""
        return place_keys(self.signal, self.cells, keys)

    @property
    def bins(self) -> int:
        return len(self.cells) + 1


@dataclass(frozen=True, slots=True)
class VectorNull:
    """What the slices of a reference say of one vector signal: all that a window needs to be held against it."""

    terms: NullTerms
    known: float
    """Effective number of records of the reference."""
    slices: int
    """Slices that the terms come from."""
    season: Season | None = None

    def dump(self) -> tuple[Any, ...]:
        scalars = [float(getattr(self.terms, name)) for name in _SCALARS]
        season = () if self.season is None else (self.season.dump(),)
        arrays = self.terms.between.tobytes(), self.terms.lag_weights.tobytes()
        return scalars, *arrays, self.known, self.slices, *season

    @classmethod
    def load(cls, packed: Sequence[Any]) -> VectorNull:
        scalars, between, lag_weights, known, slices, *season = packed
        values = {name: np.asarray(value) for name, value in zip(_SCALARS, scalars, strict=True)}
        arrays = {"between": np.frombuffer(between), "lag_weights": np.frombuffer(lag_weights)}
        return cls(NullTerms(**values, **arrays), known, slices, *map(Season.load, season))


_SCALARS = tuple(f.name for f in fields(NullTerms) if f.name not in {"between", "lag_weights"})


def never_logged(name: str, summary: AnySummary) -> bool:
    """Whether a signal says of every record of a reference that a field is missing.

    Such a field is not part of this log; a series that watched for its absence would only spend budget.

    >>> from monitor.summaries import Counts
    >>> always = Rate(Counts(np.array([1]), np.array([300])))
    >>> never_logged("cost_missing", always), never_logged("error", always)
    (True, False)
    """
    return name.endswith("_missing") and isinstance(summary, Rate) and summary.successes == summary.n


def coarse_cells(summary: AnySummary) -> Ints:
    """What separates the bins of a signal, given its summary over the whole reference."""
    if isinstance(summary, Numeric):
        reached = np.cumsum(summary.cells.mass) / max(summary.n, 1)
        cuts = np.searchsorted(reached, np.arange(1, BINS) / BINS - 1e-12)
        edges: Ints = (
            np.unique(summary.cells.keys[np.minimum(cuts, len(reached) - 1)]) if summary.n else np.empty(0, int)
        )
        return edges[:-1] if len(edges) and edges[-1] == summary.cells.keys[-1] else edges
    if isinstance(summary, Category):
        known: Ints = summary.cells.keys[summary.cells.keys != OTHER_KEY]
        return known
    return np.zeros(1, np.int64)


def place_keys(signal: Signal, cells: Ints, keys: Ints) -> Ints:
    """The bin of each key: by upper edge, or for categories by equality, the last bin being all others."""
    at = np.searchsorted(cells, keys)
    if signal.kind != "category" or not len(cells):
        return at.astype(np.int64)
    hit = cells[np.minimum(at, len(cells) - 1)] == keys
    return np.where(hit, at, len(cells)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class ScopeReference:
    """The frozen reference of one stream or segment."""

    scope: Scope
    begin: int
    end: int
    slices: Mapping[int, int]
    """Window size -> whole slices of it."""
    volume: Mapping[int, tuple[float, float, float]]
    """Window size -> least, mean and greatest number of records in a window; with a cycle the least and the greatest
    are parts of what is usual at their time."""
    series: Mapping[str, SeriesReference]
    exchanges: Exchanges | None = None
    """Of a stream, where its slices were sampled."""
    cycle: Cycle | None = None
    traffic: Sequence[float] = ()
    """Records a millisecond in each phase of the cycle."""

    @property
    def too_short(self) -> bool:
        """Whether so little was learned that nothing is known of the cycle."""
        return self.cycle is not None and self.end - self.begin < LEAST_PERIODS * self.cycle.period

    def expected(self, begin: int, end: int) -> float:
        """Records that are usual between two times, where there is a cycle."""
        return 0.0 if self.cycle is None else float(self.cycle.time_in(begin, end) @ np.array(self.traffic))

    @property
    def unsteady(self) -> dict[str, str]:
        """Signals that were not the same throughout the learning period, and what course each took."""
        return {name: series.unsteady for name, series in self.series.items() if series.unsteady}

    def ends(self, size: int) -> int:
        """End of the last whole slice of a window size."""
        length = size // SLICES
        return self.end // length * length

    def begins(self, size: int) -> int:
        """Start of the first slice of a window size."""
        length = size // SLICES
        return self.begin // length * length

    def apart(self, size: int, now: int) -> bool:
        """Whether the window of `size` that ends at `now` lies wholly behind the reference or before it."""
        return now - size >= self.ends(size) or now <= self.begins(size)

    @property
    def signals(self) -> list[str]:
        """What it says something of: signals, and volume."""
        return [*self.series, *(["volume"] if self.volume else [])]

    def without(self, signals: Collection[str]) -> ScopeReference:
        """What is left of it for those that are held against another one for some signals."""
        left = {name: series for name, series in self.series.items() if name not in signals}
        return replace(self, volume={} if "volume" in signals else self.volume, series=left)

    def dump(self) -> bytes:
        """Packed; versioned by its first entry."""
        kinds = {cls: kind for kind, cls in SUMMARIES.items()}
        series = [
            (
                s.signal,
                kinds[type(s.summary)],
                s.summary.dump(),
                [(size, _pack_slices(rows)) for size, rows in s.slices.items()],
                [(size, null.dump()) for size, null in s.vectors.items()],
                s.unsteady,
                *(() if s.by_phase is None else (s.by_phase.dump(),)),
            )
            for s in self.series.values()
        ]
        slices, volume = list(self.slices.items()), list(self.volume.items())
        exchanges = None if self.exchanges is None else self.exchanges.dump()
        season = () if self.cycle is None else (self.cycle, list(self.traffic))
        return msgspec.msgpack.encode(
            (_FORMAT, self.scope, self.begin, self.end, slices, volume, series, exchanges, *season)
        )

    @classmethod
    def load(cls, data: bytes) -> ScopeReference:
        """The inverse of `dump`. Raises ValueError for another version."""
        version, *rest = msgspec.msgpack.decode(data)
        if version != _FORMAT:
            raise ValueError(f"a reference of version {version}; this driftd reads version {_FORMAT}")
        names, begin, end, slices, volume, packed, exchanges, *season = rest
        scope, series = Scope(*names), {}
        for raw, kind, summary, sizes, nulls, unsteady, *by_phase in packed:
            signal = msgspec.convert(raw, Signal)
            rows = {size: _unpack_slices(row) for size, row in sizes}
            vectors = {size: VectorNull.load(null) for size, null in nulls}
            whole = SUMMARIES[kind].load(summary)
            counts = map(PhaseCounts.load, by_phase)
            series[signal.name] = SeriesReference(scope, signal, whole, rows, vectors, unsteady, *counts)
        sampled = None if exchanges is None else Exchanges.load(exchanges)
        cycle, traffic = (Cycle(*season[0]), season[1]) if season else (None, ())
        sizes = {size: tuple(v) for size, v in volume}
        return cls(scope, begin, end, dict(slices), sizes, series, sampled, cycle, traffic)


def mismatch(reference: ScopeReference, signals: Mapping[str, Signal]) -> list[str]:
    """Why windows of `signals` cannot be held against a reference, one sentence a signal; empty where they can.

    >>> from monitor.summaries import Counts
    >>> error = SeriesReference(Scope("bot"), Signal("error", "rate"), Rate(Counts()), {})
    >>> reference = ScopeReference(Scope("bot"), 0, 1, {}, {}, {"error": error})
    >>> mismatch(reference, {"error": Signal("error", "category")})
    ['error: of kind rate in the reference, of kind category now']
    """
    return differing({name: series.signal for name, series in reference.series.items()}, signals)


def differing(signals: Mapping[str, Signal], measured: Mapping[str, Signal]) -> list[str]:
    """The same of the signals of a reference."""
    problems = []
    for name, then in signals.items():
        now = measured.get(name)
        if now is None:
            problems.append(f"{name}: the reference has it, nothing measures it now")
        elif then.kind != now.kind:
            problems.append(f"{name}: of kind {then.kind} in the reference, of kind {now.kind} now")
        elif then.kind == "vector" and then.size != now.size:
            problems.append(f"{name}: the reference has vectors of {then.size} entries, the model now makes {now.size}")
        elif then.fingerprint != now.fingerprint and now.kind == "vector":
            problems.append(
                f"{name}: the reference was made with another embedding model or other settings of it, "
                f"{then.fingerprint or 'an unnamed one'}, not with {now.fingerprint or 'an unnamed one'}"
            )
        elif then.fingerprint != now.fingerprint:
            problems.append(
                f"{name}: measured by {then.fingerprint or 'the default'} in the reference, "
                f"by {now.fingerprint or 'the default'} now"
            )
        elif (then.scale, then.sample) != (now.scale, now.sample):
            problems.append(f"{name}: the reference measured it on another scale or on another part of the records")
    return problems


def _in_runs(rows: ReferenceSlices) -> bool:
    """Whether not all slices were kept."""
    return len(rows.number) > 0 and int(rows.number[-1] - rows.number[0]) >= KEPT


def _pack_slices(rows: ReferenceSlices) -> tuple[Any, ...]:
    arrays = [getattr(rows, name).astype(kind).tobytes() for name, kind in _ARRAYS]
    season = () if rows.season is None else (rows.season.dump(),)
    return arrays, rows.total, rows.inverse, rows.stays, rows.fewer, *season


def _unpack_slices(packed: Sequence[Any]) -> ReferenceSlices:
    arrays, total, inverse, stays, fewer, *season = packed
    number, shares, units, seen, within, mean, lags, shared = (
        np.frombuffer(data, kind) for data, (_, kind) in zip(arrays, _ARRAYS, strict=True)
    )
    bins = len(mean)
    return ReferenceSlices(
        number.astype(np.int64),
        shares.reshape(-1, bins).astype(np.float64),
        units.astype(np.float64),
        seen.astype(np.float64),
        within.reshape(bins, bins).astype(np.float64),
        mean.astype(np.float64),
        total,
        lags.astype(np.float64),
        inverse,
        shared.astype(np.float64),
        stays,
        fewer,
        *map(Season.load, season),
    )
