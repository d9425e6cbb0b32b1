"""The reference: what normal looks like for each stream and segment, learned from its own first slices.

Comes in: closed slices. Goes out: for every signal one full summary and, for every window size, the slices that tell
how much windows differ when nothing changes. What is frozen never changes. Pure: the caller says how far time has come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Self

import msgspec
import numpy as np
import pydantic

from monitor.calibration import LAGS, ReferenceSlices, multinomial_within
from monitor.model import Floats, Ints, Scope, Signal
from monitor.settings import DAY, Duration, Moment, Settings
from monitor.summaries import SUMMARIES, AnySummary, Category, Counts, Numeric, Rate
from monitor.summaries.category import OTHER_KEY
from monitor.windows import SLICES, Contents, Slice, add_contents

BINS = 16
"""Quantile bins of a numeric signal."""
KEPT = 288
"""Slices of each size that a reference keeps."""
RUNS = 24
"""Runs of twelve slices that are kept where there are more than that."""
_TOGETHER = 32
"""Slices that are added to the total of a reference at once."""
SAMPLE = 2048
"""Units from which the covariance within slices is taken where units are sessions."""


class ReferenceSettings(Settings):
    """What windows are held against."""

    kind: Literal["learned"] = "learned"
    size: Duration | None = None
    """Length of the learning period of each stream, from its first slice; 24h unless `until` is given."""
    until: Moment | None = None
    """End of the learning period."""

    @pydantic.model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.size is not None and self.until is not None:
            raise ValueError("give size or until, not both")
        return self

    def end(self, begin: int, origin: int) -> int:
        """When a scope that was first seen at `begin` has learned; `origin` is when the first of all was seen.

        With `until`, a scope that misses more than half of the time before it learns for as long as the others did.
        """
        if self.until is None:
            return begin + (DAY if self.size is None else self.size)
        full = max(self.until - origin, 0)
        return self.until if self.until - begin >= full / 2 else begin + full


def kept_starts(begin: int, end: int, length: int) -> set[int]:
    """Starts of the slices of one length that a reference from `begin` to `end` keeps.

    All of them, or 24 runs of twelve, one in each of 24 equal parts at the offset frac(0.618 i) of its free room, so
    that no cycle is missed.

    >>> len(kept_starts(0, 3_600_000, 25_000)), len(kept_starts(0, 86_400_000, 25_000))
    (144, 288)
    """
    first, last = begin // length, end // length
    count = last - first
    if count <= KEPT:
        return {number * length for number in range(first, last)}
    part = count / RUNS
    begins = (first + math.floor(i * part + math.modf(0.618 * i)[0] * (part - SLICES)) for i in range(RUNS))
    return {(number + i) * length for number in begins for i in range(SLICES)}


@dataclass(frozen=True, eq=False)
class SeriesReference:
    """What normal looks like for one signal of one scope."""

    scope: Scope
    signal: Signal
    summary: AnySummary
    slices: Mapping[int, ReferenceSlices]
    """By window size."""

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
        reached = np.cumsum(summary.cells.counts) / max(summary.n, 1)
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
    """Window size -> least, mean and greatest number of records in a window."""
    series: Mapping[str, SeriesReference]

    def ends(self, size: int) -> int:
        """End of the last whole slice of a window size."""
        length = size // SLICES
        return self.end // length * length

    def dump(self) -> bytes:
        """Packed; versioned by its first entry."""
        kinds = {cls: kind for kind, cls in SUMMARIES.items()}
        series = [
            (s.signal, kinds[type(s.summary)], s.summary.dump(), [(z, _pack_slices(r)) for z, r in s.slices.items()])
            for s in self.series.values()
        ]
        return msgspec.msgpack.encode(
            (1, self.scope, self.begin, self.end, list(self.slices.items()), list(self.volume.items()), series)
        )

    @classmethod
    def load(cls, data: bytes) -> ScopeReference:
        """The inverse of `dump`. Raises ValueError for another version."""
        version, names, begin, end, slices, volume, packed = msgspec.msgpack.decode(data)
        if version != 1:
            raise ValueError(f"a reference of version {version}; this driftd reads version 1")
        scope, series = Scope(*names), {}
        for raw, kind, summary, sizes in packed:
            signal = msgspec.convert(raw, Signal)
            rows = {size: _unpack_slices(row) for size, row in sizes}
            series[signal.name] = SeriesReference(scope, signal, SUMMARIES[kind].load(summary), rows)
        return cls(scope, begin, end, dict(slices), {size: tuple(v) for size, v in volume}, series)


_ARRAYS: tuple[tuple[str, type[np.int64 | np.float64]], ...] = (
    ("number", np.int64),
    ("shares", np.float64),
    ("units", np.float64),
    ("seen", np.float64),
    ("within", np.float64),
    ("mean", np.float64),
    ("lag_weights", np.float64),
)


def _pack_slices(rows: ReferenceSlices) -> tuple[list[bytes], float, float]:
    return [getattr(rows, name).astype(kind).tobytes() for name, kind in _ARRAYS], rows.total, rows.inverse


def _unpack_slices(packed: tuple[list[bytes], float, float]) -> ReferenceSlices:
    arrays, total, inverse = packed
    number, shares, units, seen, within, mean, lags = (
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
    )


@dataclass(slots=True)
class Learning:
    """A scope whose reference is being learned."""

    scope: Scope
    begin: int
    end: int
    sizes: Sequence[int]
    total: Contents = field(default_factory=Contents)
    kept: dict[int, dict[int, Contents]] = field(default_factory=dict)
    """Window size -> start -> what the slice held."""
    _starts: dict[int, set[int]] = field(init=False)
    _fresh: list[Contents] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._starts = {size: kept_starts(self.begin, self.end, size // SLICES) for size in self.sizes}
        for size in self.sizes:
            self.kept.setdefault(size, {})

    def take(self, size: int, found: Slice) -> None:
        """Learn from a closed slice of one window size."""
        contents = found.scopes.get(self.scope)
        if contents is None or found.end > self.end or found.start < self.begin // (size // SLICES) * (size // SLICES):
            return
        if size == self.sizes[0]:
            self._fresh.append(contents)
            if len(self._fresh) >= _TOGETHER:
                self._fold()
        if found.start in self._starts[size]:
            self.kept[size][found.start] = contents

    def _fold(self) -> None:
        """Add what has come since to the total, many slices at a time."""
        if self._fresh:
            self.total, self._fresh = add_contents([self.total, *self._fresh]), []

    def freeze(self, signals: Mapping[str, Signal]) -> ScopeReference:
        """The finished reference."""
        self._fold()
        series: dict[str, SeriesReference] = {}
        for name, summary in self.total.summaries.items():
            if never_logged(name, summary):
                continue
            cells = coarse_cells(summary)
            rows = {size: self._slices(size, signals[name], cells) for size in self.sizes}
            series[name] = SeriesReference(self.scope, signals[name], summary, rows)
        counts = {size: max(self.end // (size // SLICES) - self.begin // (size // SLICES), 0) for size in self.sizes}
        volume = {size: self._volume(size) for size in self.sizes}
        return ScopeReference(self.scope, self.begin, self.end, counts, volume, series)

    def _volume(self, size: int) -> tuple[float, float, float]:
        """Least, mean and greatest number of records in twelve slices in a row."""
        length = size // SLICES
        starts = sorted(self._starts[size])
        held = self.kept[size]
        records = np.array([held[start].records if start in held else 0 for start in starts], np.float64)
        together = np.array(starts[SLICES - 1 :]) - np.array(starts[: len(starts) - SLICES + 1]) == length * (
            SLICES - 1
        )
        if not len(together):
            return 0.0, float(records.mean()) * SLICES if len(records) else 0.0, math.inf
        windows = np.convolve(records, np.ones(SLICES), "valid")[together]
        return float(windows.min()), float(records.mean()) * SLICES, float(windows.max())

    def _slices(self, size: int, signal: Signal, cells: Ints) -> ReferenceSlices:
        length, bins = size // SLICES, len(cells) + 1
        held = [
            (start, c.summaries[signal.name].cells)
            for start, c in sorted(self.kept[size].items())
            if signal.name in c.summaries
        ]
        projected = [found.project(lambda keys: place_keys(signal, cells, keys), bins) for _, found in held]
        shares = np.array([share for share, _, _ in projected]).reshape(-1, bins)
        units = np.array([n for _, n, _ in projected], np.float64)
        seen = np.array([k for _, _, k in projected], np.float64)
        number = np.array([start // length for start, _ in held], np.int64)
        count = max(self.end // length - self.begin // length, 1)
        # Slices that were not kept are like those that were: sums over all of them scale with their number.
        scale = count / max(min(count, len(self._starts[size])), 1)
        total = float(units.sum()) * scale
        whole = self.total.summaries[signal.name].cells
        if len(whole.session):  # the mean over units is known of the slices kept only
            mean, known = units @ shares / max(float(units.sum()), 1.0), float(units.sum())
        else:
            mean, known = whole.project(lambda keys: place_keys(signal, cells, keys), bins)[0], total
        scale = known / max(float(units.sum()), 1.0)
        lags = [_lag_sum(number, units, lag) * scale / max(known, 1.0) ** 2 for lag in range(LAGS)]
        inverse = float((units**2 / np.maximum(seen, 1)).sum()) * scale / max(known, 1.0) ** 2
        within = _within(signal, [found for _, found in held], cells, shares, units)
        return ReferenceSlices(number, shares, units, seen, within, mean, total, np.array(lags), inverse)

    def dump(self) -> bytes:
        """Packed, without the slices kept, which are stored as they come."""
        self._fold()
        return msgspec.msgpack.encode((self.scope, self.begin, self.end, self.total.dump()))

    def dump_kept(self, size: int, start: int) -> bytes:
        """One kept slice, packed."""
        return msgspec.msgpack.encode(self.kept[size][start].dump())

    @classmethod
    def load(cls, data: bytes, sizes: Sequence[int]) -> Learning:
        """The inverse of `dump`; the slices kept follow by `put_back`."""
        scope, begin, end, total = msgspec.msgpack.decode(data)
        return cls(Scope(*scope), begin, end, sizes, Contents.load(total))

    def put_back(self, size: int, start: int, data: bytes) -> None:
        """The inverse of `dump_kept`."""
        self.kept[size][start] = Contents.load(msgspec.msgpack.decode(data))


def _lag_sum(number: Ints, units: Floats, lag: int) -> float:
    """Sum of n_s n_(s+lag) over the slices kept."""
    if not len(number):
        return 0.0
    at = np.minimum(np.searchsorted(number, number + lag), len(number) - 1)
    return float((units * units[at] * (number[at] == number + lag)).sum())


def _within(signal: Signal, slices: Sequence[Counts], cells: Ints, shares: Floats, units: Floats) -> Floats:
    """Covariance of one unit's value within a slice, pooled over slices."""
    bins = len(cells) + 1
    if not any(len(found.session) for found in slices):
        return multinomial_within(shares, units)
    each = max(SAMPLE // max(len(slices), 1), 8)
    total, freedom = np.zeros((bins, bins)), 0
    for found in slices:
        values = _unit_values(signal, found, cells, each)
        if len(values) > 1:
            centred = values - values.mean(axis=0)
            total += centred.T @ centred
            freedom += len(values) - 1
    return total / max(freedom, 1)


def _unit_values(signal: Signal, found: Counts, cells: Ints, each: int) -> Floats:
    """Shares of the bins in at most about `each` units of a slice: its sessions of least hash and its loose records."""
    bins = len(cells) + 1

    def place(keys: Ints) -> Ints:
        return place_keys(signal, cells, keys)

    _, means = found.session_means(place, bins)
    loose = np.bincount(place(found.keys), found.counts, minlength=bins)
    loose = loose - np.bincount(place(found.inside_keys), found.inside_counts, minlength=bins)
    rows = np.repeat(np.arange(bins), np.rint(loose).astype(np.int64))
    wanted = each if not len(rows) else max(round(each * len(means) / (len(means) + len(rows))), 1)
    singles = (
        rows[np.linspace(0, len(rows) - 1, min(len(rows), max(each - wanted, 1))).astype(np.int64)]
        if len(rows)
        else rows
    )
    return np.concatenate([means[:wanted], np.eye(bins)[singles]])
