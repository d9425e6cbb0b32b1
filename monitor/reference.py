"""The reference: what normal looks like for each stream and segment, learned from its own first slices.

Comes in: closed slices. Goes out: for every signal one full summary and, for every window size, the slices that tell
how much windows differ when nothing changes. What is frozen never changes. Pure: the caller says how far time has come.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
import numpy as np
import pydantic

from monitor.calibration import (
    LAGS,
    NullTerms,
    ReferenceSlices,
    multinomial_within,
    null_moments,
    null_terms,
    stack_terms,
    tail,
    vector_terms,
    vector_within,
)
from monitor.model import Floats, Ints, Scope, Signal
from monitor.settings import DAY, Duration, Moment, Settings
from monitor.summaries import SUMMARIES, AnySummary, Category, Counts, Numeric, Rate, Vector
from monitor.summaries.category import OTHER_KEY
from monitor.summaries.units import UnitParts, shared_by_lag
from monitor.summaries.vector import FEATURES, ROWS, farthest
from monitor.windows import SLICES, Contents, Slice, add_contents

BINS = 16
"""Quantile bins of a numeric signal."""
KEPT = 288
"""Slices of each size that a reference keeps."""
RUNS = 24
"""Runs of twelve slices that are kept where there are more than that."""
BLOCKS = 8
"""Equal blocks of a rolling reference; each keeps its own part of the runs."""
_TOGETHER = 32
"""Slices that are added to the total of a reference at once."""
SAMPLE = 2048
"""Units from which the covariance within slices is taken where units are sessions."""
Powers = tuple[float, float, float]
"""tr(WW), tr(WWW) and the mean of (x'y)^3."""
VECTORS = 1152
"""Units from which the covariance within slices is taken of vectors, where 288 slices are kept."""
UNSTEADY = 1e-6
"""The probability of what the halves of a learning period differ by, below which they differ."""
_UNSTEADY_SHARE = 0.05
"""The least share of records that lies in other bins in the other half; of rates see `_halves_differ`."""
_UNSTEADY_VECTORS = 0.02
"""The least share of records that must have been replaced."""


_KEYS = {"learned": ("size", "until"), "file": ("path",), "rolling": ("size", "gap")}
"""Kind of reference -> the keys that go with it."""


class ReferenceSettings(Settings):
    """What windows are held against."""

    kind: Literal["learned", "file", "rolling"] = "learned"
    """`learned`: the first part of each stream. `file`: what `driftd reference build` made. `rolling`: the last part
    before the window, and the first part beside it."""
    size: Duration | None = None
    """Length of the learning period of each stream, from its first slice; 24h unless `until` is given. Of `rolling`
    the length of both references."""
    until: Moment | None = None
    """End of the learning period."""
    path: Path | None = None
    """The file; a relative path is looked for beside the configuration."""
    gap: Duration | None = None
    """Least time between a rolling reference and a window; without it, the longest of the windows."""

    @pydantic.model_validator(mode="after")
    def _fitting(self) -> Self:
        for name in ("size", "until", "path", "gap"):
            if getattr(self, name) is not None and name not in _KEYS[self.kind]:
                kinds = " or ".join(f"`kind: {kind}`" for kind, keys in _KEYS.items() if name in keys)
                raise ValueError(f"`{name}` goes with {kinds}, not with `kind: {self.kind}`")
        if self.size is not None and self.until is not None:
            raise ValueError("give size or until, not both")
        if self.kind == "file" and self.path is None:
            raise ValueError("`kind: file` needs a `path`, of a file that `driftd reference build` made")
        if self.kind == "rolling" and self.size is None:
            raise ValueError("`kind: rolling` needs a `size`, as in `size: 7d`")
        return self

    def end(self, begin: int, origin: int) -> int:
        """When a scope that was first seen at `begin` has learned; `origin` is when the first of all was seen.

        With `until`, a scope that misses more than half of the time before it learns for as long as the others did.
        """
        if self.until is None:
            return begin + (DAY if self.size is None else self.size)
        full = max(self.until - origin, 0)
        return self.until if self.until - begin >= full / 2 else begin + full


def kept_starts(begin: int, end: int, length: int, *, runs: int = RUNS, turn: int = 0) -> set[int]:
    """Starts of the slices of one length that a reference from `begin` to `end` keeps.

    All of them, or 24 runs of twelve, one in each of 24 equal parts at the offset frac(0.618 i) of its free room, so
    that no cycle is missed. A part of a reference keeps fewer `runs`, i going on from `turn`.

    >>> len(kept_starts(0, 3_600_000, 25_000)), len(kept_starts(0, 86_400_000, 25_000))
    (144, 288)
    """
    first, last = begin // length, end // length
    count = last - first
    if count <= runs * SLICES:
        return {number * length for number in range(first, last)}
    part = count / runs
    offsets = (math.modf(0.618 * (turn + i))[0] * (part - SLICES) for i in range(runs))
    begins = (first + math.floor(i * part + offset) for i, offset in enumerate(offsets))
    return {(number + i) * length for number in begins for i in range(SLICES)}


@dataclass(frozen=True, eq=False)
class SeriesReference:
    """What normal looks like for one signal of one scope."""

    scope: Scope
    signal: Signal
    summary: AnySummary
    slices: Mapping[int, ReferenceSlices]
    """By window size; vectors have `vectors` in their place."""
    vectors: Mapping[int, VectorNull] = field(default_factory=dict)
    unsteady: bool = False
    """Whether the halves of the learning period differ by more than chance and by more than matters."""

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

    def dump(self) -> tuple[list[float], bytes, bytes, float, int]:
        scalars = [float(getattr(self.terms, name)) for name in _SCALARS]
        return scalars, self.terms.between.tobytes(), self.terms.lag_weights.tobytes(), self.known, self.slices

    @classmethod
    def load(cls, packed: Sequence[Any]) -> VectorNull:
        scalars, between, lag_weights, known, slices = packed
        values = {name: np.asarray(value) for name, value in zip(_SCALARS, scalars, strict=True)}
        arrays = {"between": np.frombuffer(between), "lag_weights": np.frombuffer(lag_weights)}
        return cls(NullTerms(**values, **arrays), known, slices)


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
    """Window size -> least, mean and greatest number of records in a window."""
    series: Mapping[str, SeriesReference]

    @property
    def unsteady(self) -> list[str]:
        """Signals that were not the same in both halves of the learning period."""
        return [name for name, series in self.series.items() if series.unsteady]

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
            )
            for s in self.series.values()
        ]
        return msgspec.msgpack.encode(
            (3, self.scope, self.begin, self.end, list(self.slices.items()), list(self.volume.items()), series)
        )

    @classmethod
    def load(cls, data: bytes) -> ScopeReference:
        """The inverse of `dump`. Raises ValueError for another version."""
        version, names, begin, end, slices, volume, packed = msgspec.msgpack.decode(data)
        if version != 3:
            raise ValueError(f"a reference of version {version}; this driftd reads version 3")
        scope, series = Scope(*names), {}
        for raw, kind, summary, sizes, nulls, unsteady in packed:
            signal = msgspec.convert(raw, Signal)
            rows = {size: _unpack_slices(row) for size, row in sizes}
            vectors = {size: VectorNull.load(null) for size, null in nulls}
            whole = SUMMARIES[kind].load(summary)
            series[signal.name] = SeriesReference(scope, signal, whole, rows, vectors, unsteady)
        return cls(scope, begin, end, dict(slices), {size: tuple(v) for size, v in volume}, series)


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
        elif then.fingerprint != now.fingerprint:
            problems.append(
                f"{name}: the reference was made with another embedding model, {then.fingerprint or 'an unnamed one'}, "
                f"not with {now.fingerprint or 'an unnamed one'}"
            )
        elif (then.scale, then.sample) != (now.scale, now.sample):
            problems.append(f"{name}: the reference measured it on another scale or on another part of the records")
    return problems


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


def _pack_slices(rows: ReferenceSlices) -> tuple[list[bytes], float, float]:
    return [getattr(rows, name).astype(kind).tobytes() for name, kind in _ARRAYS], rows.total, rows.inverse


def _unpack_slices(packed: tuple[list[bytes], float, float]) -> ReferenceSlices:
    arrays, total, inverse = packed
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
    block: int = 0
    """Length of a block of a rolling reference, of which this is one or all; 0 for any other."""
    only: frozenset[str] | None = None
    """The signals that are learned, `volume` among them; None for all."""
    _starts: dict[int, set[int]] = field(init=False)
    _fresh: list[Contents] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._starts = {size: self._kept_starts(size // SLICES) for size in self.sizes}
        for size in self.sizes:
            self.kept.setdefault(size, {})

    def _kept_starts(self, length: int) -> set[int]:
        if not self.block:
            return kept_starts(self.begin, self.end, length)
        # A run's place in its part goes on from block to block: blocks may be as long as a cycle.
        runs, blocks = RUNS // BLOCKS, range(self.begin, self.end, self.block)
        turns = {begin: begin // self.block * runs for begin in blocks}
        return set().union(*(kept_starts(b, b + self.block, length, runs=runs, turn=turns[b]) for b in blocks))

    def take(self, size: int, found: Slice) -> None:
        """Learn from a closed slice of one window size."""
        contents = found.scopes.get(self.scope)
        if contents is None or found.end > self.end or found.start < self.begin // (size // SLICES) * (size // SLICES):
            return
        if self.only is not None:
            wanted = {name: part for name, part in contents.summaries.items() if name in self.only}
            contents = Contents(contents.records, wanted)
        if size == self.sizes[0]:
            self._fresh.append(contents)
            if len(self._fresh) >= _TOGETHER:
                self._fold()
        if found.start in self._starts[size]:
            self.kept[size][found.start] = self._slim(size, contents)

    def _slim(self, size: int, contents: Contents) -> Contents:
        """What is kept of a slice: of vectors only what tells how slices differ."""
        blocks = BLOCKS * self.block / (self.end - self.begin) if self.block else 1
        rows = min(math.ceil(VECTORS / max(len(self._starts[size]) * blocks, 1)), ROWS)
        parts = {n: s.slim(rows) if isinstance(s, Vector) else s for n, s in contents.summaries.items()}
        return Contents(contents.records, parts)

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
            series[name] = self._series(signals[name], summary)
        counts = {size: max(self.end // (size // SLICES) - self.begin // (size // SLICES), 0) for size in self.sizes}
        counted = self.only is None or "volume" in self.only
        volume = {size: self._volume(size) for size in self.sizes} if counted else {}
        return ScopeReference(self.scope, self.begin, self.end, counts, volume, series)

    def _series(self, signal: Signal, summary: AnySummary) -> SeriesReference:
        if isinstance(summary, Vector):
            held = {size: self._vectors(size, signal) for size in self.sizes}
            nulls = {size: vector_null(rows, powers) for size, (rows, powers, _) in held.items()}
            rows, powers, far = held[self.sizes[0]]
            unsteady = _vectors_differ(rows, powers, far)
            return SeriesReference(self.scope, signal, summary, {}, nulls, unsteady)
        cells = coarse_cells(summary)
        slices = {size: self._slices(size, signal, cells) for size in self.sizes}
        unsteady = _halves_differ(signal, slices[self.sizes[0]])
        return SeriesReference(self.scope, signal, summary, slices, unsteady=unsteady)

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

    def _held(self, size: int, name: str) -> list[tuple[int, AnySummary]]:
        """The slices kept that hold a signal, by number."""
        length = size // SLICES
        kept = sorted(self.kept[size].items())
        return [(start // length, c.summaries[name]) for start, c in kept if name in c.summaries]

    def _slices(self, size: int, signal: Signal, cells: Ints) -> ReferenceSlices:
        bins = len(cells) + 1
        held = [(number, found.cells) for number, found in self._held(size, signal.name)]
        projected = [found.project(lambda keys: place_keys(signal, cells, keys), bins) for _, found in held]
        shares = np.array([share for share, _, _ in projected]).reshape(-1, bins)
        units = np.array([n for _, n, _ in projected], np.float64)
        seen = np.array([k for _, _, k in projected], np.float64)
        number = np.array([number for number, _ in held], np.int64)
        whole, mean = self.total.summaries[signal.name].cells, None
        if whole.sampled or not len(whole.session):
            mean = whole.project(lambda keys: place_keys(signal, cells, keys), bins)[0]
        slices = [found for _, found in held]
        if whole.sampled:
            within = _within_samples(signal, slices, cells, shares, seen)
        else:
            within = _within(signal, slices, cells, shares, units)
        shared = shared_by_lag(number, units, [UnitParts.of(found) for found in slices], LAGS)
        rows = self._rows(size, number, shares=shares, units=units, seen=seen, within=within, mean=mean)
        return replace(rows, shared=shared)

    def _vectors(self, size: int, signal: Signal) -> tuple[ReferenceSlices, Powers, float]:
        """Features in the place of shares, what `vector_within` says of W, and how far the farthest unit is."""
        held = [(number, v) for number, v in self._held(size, signal.name) if isinstance(v, Vector)]
        whole = self.total.summaries[signal.name]
        assert isinstance(whole, Vector)
        shares = np.array([v.embedding for _, v in held]).reshape(-1, FEATURES)
        units = np.array([v.cells.population for _, v in held], np.float64)
        seen = np.array([v.cells.effective for _, v in held], np.float64)
        number = np.array([number for number, _ in held], np.int64)
        rows = np.concatenate([np.empty((0, FEATURES)), *(v.units for _, v in held)])
        sizes = np.concatenate([np.empty(0, np.int64), *(v.sizes for _, v in held)])
        of = np.repeat(np.arange(len(held)), [len(v.rows) for _, v in held])
        agreement = np.array([v.agreement for _, v in held], np.float64)
        within, powers = vector_within(rows, of, sizes, means=shares, seen=seen, agreement=agreement)
        mean = whole.embedding
        far = float(np.sqrt(farthest(rows, mean)))
        shared = shared_by_lag(number, units, [UnitParts.of(v.cells) for _, v in held], LAGS)
        slices = self._rows(size, number, shares=shares, units=units, seen=seen, within=within, mean=mean)
        return replace(slices, shared=shared), powers, far

    def _rows(
        self,
        size: int,
        number: Ints,
        *,
        shares: Floats,
        units: Floats,
        seen: Floats,
        within: Floats,
        mean: Floats | None,
    ) -> ReferenceSlices:
        """The rows of slices with what follows from them for the whole; `mean` None: known of the slices kept only."""
        length = size // SLICES
        count = max(self.end // length - self.begin // length, 1)
        # Slices that were not kept are like those that were: sums over all of them scale with their number.
        scale = count / max(min(count, len(self._starts[size])), 1)
        total = known = float(units.sum()) * scale
        if mean is None:
            mean, known = units @ shares / max(float(units.sum()), 1.0), float(units.sum())
        scale = known / max(float(units.sum()), 1.0)
        lags = [_lag_sum(number, units, lag) * scale / max(known, 1.0) ** 2 for lag in range(LAGS)]
        inverse = float((units**2 / np.maximum(seen, 1)).sum()) * scale / max(known, 1.0) ** 2
        return ReferenceSlices(number, shares, units, seen, within, mean, total, np.array(lags), inverse)

    def dump(self) -> bytes:
        """Packed, without the slices kept, which are stored as they come."""
        self._fold()
        only = None if self.only is None else sorted(self.only)
        return msgspec.msgpack.encode((self.scope, self.begin, self.end, self.total.dump(), self.block, only))

    @property
    def names(self) -> set[str]:
        """Signals of which something was learned."""
        self._fold()
        return set(self.total.summaries)

    def dump_whole(self) -> bytes:
        """Packed, with the slices kept."""
        kept = [(size, start, c.dump()) for size, held in self.kept.items() for start, c in held.items()]
        return msgspec.msgpack.encode((self.dump(), kept))

    @classmethod
    def load_whole(cls, data: bytes, sizes: Sequence[int]) -> Learning:
        """The inverse of `dump_whole`."""
        packed, kept = msgspec.msgpack.decode(data)
        learning = cls.load(packed, sizes)
        for size, start, contents in kept:
            learning.kept[size][start] = Contents.load(contents)
        return learning

    def dump_kept(self, size: int, start: int) -> bytes:
        """One kept slice, packed."""
        return msgspec.msgpack.encode(self.kept[size][start].dump())

    @classmethod
    def load(cls, data: bytes, sizes: Sequence[int]) -> Learning:
        """The inverse of `dump`; the slices kept follow by `put_back`."""
        scope, begin, end, total, block, only = msgspec.msgpack.decode(data)
        wanted = None if only is None else frozenset(only)
        return cls(Scope(*scope), begin, end, sizes, Contents.load(total), block=block, only=wanted)

    @classmethod
    def joined(cls, parts: Sequence[Learning], begin: int, end: int) -> Learning:
        """Blocks of one scope as the rolling reference from `begin` to `end`; those that are not there were empty."""
        first = parts[0]
        for part in parts:
            part._fold()  # noqa: SLF001  its own kind
        kept = {
            size: {start: found for part in parts for start, found in part.kept[size].items()} for size in first.sizes
        }
        total = add_contents([part.total for part in parts])
        return cls(first.scope, begin, end, first.sizes, total, kept, first.block)

    def put_back(self, size: int, start: int, data: bytes) -> None:
        """The inverse of `dump_kept`."""
        self.kept[size][start] = Contents.load(msgspec.msgpack.decode(data))


def vector_null(rows: ReferenceSlices, powers: Powers) -> VectorNull:
    """What windows of one size are held against."""
    live = int((rows.seen > 0).sum())
    known = 1 / rows.inverse if rows.inverse else 0.0
    if not live:
        nothing = {f.name: np.zeros(LAGS if f.name in {"between", "lag_weights"} else ()) for f in fields(NullTerms)}
        return VectorNull(NullTerms(**nothing), known, live)
    return VectorNull(vector_terms(rows, powers), known, live)


# ---- whether a learning period was steady ---------------------------------------------------------------------------


def halves(rows: ReferenceSlices) -> tuple[ReferenceSlices, Floats] | None:
    """How the halves of a reference differ, and the reference that this difference is to be held against.

    Slices are centred on the mean of their own half, so that what the halves differ by is no part of how much slices
    differ; the weights are those of a difference of two halves. None where there are too few slices to tell.
    """
    live = np.flatnonzero(rows.seen > 0)
    if len(live) < 4 * LAGS:
        return None
    shares, means = rows.shares.copy(), []
    lags, inverse = np.zeros(LAGS), 0.0
    for half in np.array_split(live, 2):
        n, total = rows.units[half], float(rows.units[half].sum())
        means.append(n @ rows.shares[half] / total)
        shares[half] += rows.mean - means[-1]
        lags += np.array([_lag_sum(rows.number[half], n, lag) for lag in range(LAGS)]) / total**2
        inverse += float((n**2 / rows.seen[half]).sum()) / total**2
    return replace(rows, shares=shares, lag_weights=lags, inverse=inverse), means[1] - means[0]


def _by_chance(terms: NullTerms, squared: float) -> tuple[float, float]:
    """The probability of a difference of two halves at least this large, and what is expected of its square."""
    nothing = np.zeros((1, SLICES))  # the weights of both halves are in the terms
    moments = null_moments(stack_terms([terms]), nothing, nothing)
    return float(tail(np.array([squared]), moments)[0]), float(moments.trace[0])


def _halves_differ(signal: Signal, rows: ReferenceSlices) -> bool:
    """Whether a distribution over bins was not the same in both halves; of rates by half a point and by a quarter."""
    found = halves(rows)
    if found is None:
        return False
    centred, moved = found
    least = _UNSTEADY_SHARE
    if signal.kind == "rate":
        least = max(0.005, float(rows.mean.min()) / 4)
    if float(np.abs(moved).sum()) / 2 < least:
        return False
    bins = len(rows.mean)
    probability, _ = _by_chance(null_terms(centred, np.arange(bins), np.ones(bins)), float((moved**2).sum()))
    return probability < UNSTEADY


def _vectors_differ(rows: ReferenceSlices, powers: Powers, far: float) -> bool:
    """Whether vectors were not the same in both halves, by the share of records that must have been replaced."""
    found = halves(rows)
    if found is None or not far:
        return False
    centred, moved = found
    squared = float((moved**2).sum())
    if np.sqrt(squared) / far < _UNSTEADY_VECTORS:
        return False
    probability, expected = _by_chance(vector_terms(centred, powers), squared)
    return probability < UNSTEADY and np.sqrt(max(squared - expected, 0)) / far >= _UNSTEADY_VECTORS


# ---- how units differ -----------------------------------------------------------------------------------------------


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


def _within_samples(signal: Signal, slices: Sequence[Counts], cells: Ints, shares: Floats, seen: Floats) -> Floats:
    """The same of samples, whose means are over records: W as in `vector_within`, here from all units of a slice."""
    if not any(len(found.session) for found in slices):
        return multinomial_within(shares, seen)
    bins = len(cells) + 1
    total, weight = np.zeros((bins, bins)), 0.0
    for found, mean, known in zip(slices, shares, seen.tolist(), strict=True):
        if known <= 1 + 1e-6:
            continue
        means, records, loose = _units_of(signal, found, cells)
        apart = (means - mean) * records[:, None]
        alone = np.eye(bins) - mean
        spread = apart.T @ apart + alone.T @ (alone * loose[:, None])
        total += spread * known / (known - 1) / float((records**2).sum() + loose.sum()) * known
        weight += known
    return total / max(weight, 1.0)


def _units_of(signal: Signal, found: Counts, cells: Ints) -> tuple[Floats, Floats, Floats]:
    """Shares of the bins in each session, records of each session, and the records without one in each bin."""
    bins = len(cells) + 1

    def place(keys: Ints) -> Ints:
        return place_keys(signal, cells, keys)

    _, means = found.session_means(place, bins)
    records = np.bincount(np.unique(found.session, return_inverse=True)[1], found.session_counts)
    loose = np.bincount(place(found.keys), found.counts, minlength=bins)
    loose = loose - np.bincount(place(found.inside_keys), found.inside_counts, minlength=bins)
    return means, records.astype(np.float64), loose.astype(np.float64)


def _unit_values(signal: Signal, found: Counts, cells: Ints, each: int) -> Floats:
    """Shares of the bins in at most about `each` units of a slice: its sessions of least hash and its loose records."""
    bins = len(cells) + 1
    means, _, loose = _units_of(signal, found, cells)
    rows = np.repeat(np.arange(bins), np.rint(loose).astype(np.int64))
    wanted = each if not len(rows) else max(round(each * len(means) / (len(means) + len(rows))), 1)
    singles = (
        rows[np.linspace(0, len(rows) - 1, min(len(rows), max(each - wanted, 1))).astype(np.int64)]
        if len(rows)
        else rows
    )
    return np.concatenate([means[:wanted], np.eye(bins)[singles]])
