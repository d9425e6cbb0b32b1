"""A stream or segment that learns its reference, slice by slice. Pure: the caller says how far time has come."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import msgspec
import numpy as np

from monitor.calibration import LAGS, Cycle, NullTerms, ReferenceSlices, Season, season_of, vector_terms, vector_within
from monitor.clusters import Codebook
from monitor.model import Floats, Ints, Scope, Signal
from monitor.reference.course import Span
from monitor.reference.exchanges import EXCHANGES, Exchanges, add_exchanges
from monitor.reference.phases import PhaseCounts, PhaseSums
from monitor.reference.series import (
    ScopeReference,
    SeriesReference,
    VectorNull,
    coarse_cells,
    never_logged,
    place_keys,
)
from monitor.reference.steady import Powers, bins_course, vectors_course
from monitor.reference.units import lag_sum, part_that_stays, sampled_within, unit_within
from monitor.summaries import AnySummary, Vector
from monitor.summaries.units import UnitParts, shared_by_lag
from monitor.summaries.vector import FEATURES, ROWS, farthest
from monitor.windows import SLICES, Contents, Slice, add_contents, further

RUNS = 24
"""Runs of twelve slices that are kept where there are more than that."""
BLOCKS = 8
"""Equal blocks of a rolling reference; each keeps its own part of the runs."""
_TOGETHER = 32
"""Slices that are added to the total of a reference at once."""
_LEAST_RECORDS = 40
"""Records that are usual in a window, below which it says nothing of how much volume varies about what is usual."""
VECTORS = 1152
"""Units from which the covariance within slices is taken of vectors, where 288 slices are kept."""


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


@dataclass(slots=True)
class Learning:
    """A scope whose reference is being learned."""

    scope: Scope
    begin: int
    end: int
    sizes: Sequence[int]
    """Of windows that will be judged. Where not all slices of the longest are kept, some `further` ones are."""
    total: Contents = field(default_factory=Contents)
    kept: dict[int, dict[int, Contents]] = field(default_factory=dict)
    """Window size -> start -> what the slice held."""
    block: int = 0
    """Length of a block of a rolling reference, of which this is one or all; 0 for any other."""
    only: frozenset[str] | None = None
    """The signals that are learned, `volume` among them; None for all."""
    exchanges: Exchanges | None = None
    """Of a stream; a segment uses its part of its stream's."""
    added: int = 0
    """Slices whose exchanges were added to these."""
    cycle: Cycle | None = None
    """What is usual follows it."""
    phases: dict[int, PhaseSums] = field(default_factory=dict)
    """Window size -> what was held in each phase of the cycle; of a size that is not there the finest says the same."""
    _starts: dict[int, set[int]] = field(init=False)
    """Of each size of which slices are kept where these begin."""
    _fresh: list[Contents] = field(default_factory=list)

    def __post_init__(self) -> None:
        length, starts = self.sizes[-1] // SLICES, {size: self._kept_starts(size // SLICES) for size in self.sizes}
        if len(starts[self.sizes[-1]]) < self.end // length - self.begin // length:
            longer = further(self.sizes)
            starts[longer] = self._kept_starts(longer // SLICES)
        self._starts = starts
        for size in starts:
            self.kept.setdefault(size, {})
        if self.cycle is not None:
            self.phases.setdefault(self.sizes[0], PhaseSums(self.cycle))

    def _kept_starts(self, length: int) -> set[int]:
        if not self.block:
            return kept_starts(self.begin, self.end, length)
        # A run's place in its part goes on from block to block: blocks may be as long as a cycle.
        runs, blocks = RUNS // BLOCKS, range(self.begin, self.end, self.block)
        turns = {begin: begin // self.block * runs for begin in blocks}
        return set().union(*(kept_starts(b, b + self.block, length, runs=runs, turn=turns[b]) for b in blocks))

    def take(self, size: int, found: Slice, book: Codebook | None = None) -> None:
        """Learn from a closed slice of one window size.

        Parameters
        ----------
        book : what the clusters of the stream's prompts are, once they are made

        """
        contents = found.scopes.get(self.scope)
        length = size // SLICES
        first = self.begin if size not in self.sizes else self.begin // length * length
        if contents is None or size not in self._starts or found.end > self.end or found.start < first:
            return
        if self.only is not None:
            wanted = {name: part for name, part in contents.summaries.items() if name in self.only}
            contents = Contents(contents.records, wanted)
        if size == self.sizes[0]:
            self._fresh.append(contents)
            if len(self._fresh) >= _TOGETHER:
                self._fold()
            if self.scope.segment is None:
                self._add_exchanges(Exchanges.of(found, self.scope.stream), book)
        if found.start in self._starts[size]:
            self.kept[size][found.start] = self._slim(size, contents)
        if self.cycle is not None:
            self._take_phase(size, found, contents)

    def _take_phase(self, size: int, found: Slice, contents: Contents) -> None:
        if size in self.phases:
            self.phases[size].take(found.start, found.end - found.start, contents)
        elif any(len(s.cells.session) for s in contents.summaries.values() if not s.cells.sampled):
            # From here on units of longer slices are not those of shorter ones. Up to here, with this slice, they were.
            self.phases[size] = self.phases[self.sizes[0]].without_vectors()

    def _add_exchanges(self, new: Exchanges | None, book: Codebook | None) -> None:
        if new is None:
            return
        at_most = EXCHANGES // BLOCKS if self.block else EXCHANGES
        parts = [new] if self.exchanges is None else [self.exchanges, new]
        self.exchanges = add_exchanges([part.placed(book) for part in parts]).least(at_most)
        self.added += 1

    def _slim(self, size: int, contents: Contents) -> Contents:
        """What is kept of a slice: of vectors only what tells how slices differ."""
        blocks = BLOCKS * self.block / (self.end - self.begin) if self.block else 1
        rows = min(math.ceil(VECTORS / max(len(self._starts[size]) * blocks, 1)), ROWS)
        judged = size in self.sizes
        parts = {
            name: summary.slim(rows) if isinstance(summary, Vector) else summary
            for name, summary in contents.summaries.items()
            if judged or not isinstance(summary, Vector)
        }
        return Contents(contents.records, parts)

    def _fold(self) -> None:
        """Add what has come since to the total, many slices at a time."""
        if self._fresh:
            self.total, self._fresh = add_contents([self.total, *self._fresh]), []

    def forget(self, signals: Collection[str]) -> None:
        """Drop what was learned of some signals."""
        self._fold()
        self.total = self.total.without(signals)
        self.kept = {
            size: {start: contents.without(signals) for start, contents in held.items()}
            for size, held in self.kept.items()
        }
        self.only = None if self.only is None else self.only.difference(signals)
        self.exchanges = None if self.exchanges is None else self.exchanges.without(signals)
        for sums in self.phases.values():
            sums.forget(signals)

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
        traffic = self._traffic()
        volume = {size: self._volume(size, traffic) for size in self.sizes} if counted else {}
        return ScopeReference(
            self.scope, self.begin, self.end, counts, volume, series, self.exchanges, self.cycle, traffic.tolist()
        )

    def _traffic(self) -> Floats:
        """Records a millisecond in each phase of the cycle."""
        if self.cycle is None:
            return np.zeros(0)
        length = self.sizes[0] // SLICES
        time = self.cycle.time_in(self.begin // length * length, max(self.end // length * length, self.begin))
        records = [contents.records for contents in self.phases[self.sizes[0]].sums()]
        return np.array(records) / np.maximum(time, 1)

    @property
    def _span(self) -> Span:
        """What the finest slices stand for."""
        length = self.sizes[0] // SLICES
        return Span(length, max(self.end // length - self.begin // length, 0))

    def _series(self, signal: Signal, summary: AnySummary) -> SeriesReference:
        if isinstance(summary, Vector):
            held = {size: self._vectors(size, signal) for size in self.sizes}
            nulls = {size: vector_null(rows, powers) for size, (rows, powers, _) in held.items()}
            rows, powers, far = held[self.sizes[0]]
            unsteady = vectors_course(rows, powers, far, self._span)
            return SeriesReference(self.scope, signal, summary, {}, nulls, unsteady)
        cells = coarse_cells(summary)
        slices = {size: self._slices(size, signal, cells) for size in self._starts}
        unsteady = bins_course(signal, slices[self.sizes[0]], self._span)
        by_phase = None if self.cycle is None else self._by_phase(signal, sampled=summary.cells.sampled)
        return SeriesReference(self.scope, signal, summary, slices, unsteady=unsteady, by_phase=by_phase)

    def _by_phase(self, signal: Signal, *, sampled: bool) -> PhaseCounts:
        held = (contents.summaries.get(signal.name) for contents in self.phases[self.sizes[0]].sums())
        return PhaseCounts.of([None if part is None else part.cells for part in held], sampled=sampled)

    def _season(
        self, size: int, signal: Signal, rows: tuple[Ints, Floats, Floats, Floats], mean: Callable[[AnySummary], Floats]
    ) -> Season | None:
        """What is usual of a signal in each phase, `mean` being that of one.

        Parameters
        ----------
        rows : number, shares, units and seen of the slices kept

        """
        if self.cycle is None:
            return None
        coarse = size in self.phases and signal.kind != "vector"
        held = [c.summaries.get(signal.name) for c in self.phases[size if coarse else self.sizes[0]].sums()]
        number, shares, units, seen = rows
        of_phase, inverse = np.zeros((len(held), shares.shape[1])), np.zeros(len(held))
        for phase, part in enumerate(held):
            if part is not None and part.n:
                of_phase[phase], inverse[phase] = mean(part), 1 / part.cells.effective
        in_phase = np.array([0.0 if part is None else part.cells.population for part in held])
        length = size // SLICES
        return season_of(
            self.cycle,
            (of_phase, in_phase, inverse),
            number=number,
            shares=shares,
            units=units,
            seen=seen,
            span=(self.begin // length, max(self.end // length, self.begin // length + 1), length),
        )

    def _volume(self, size: int, traffic: Floats) -> tuple[float, float, float]:
        """Least, mean and greatest number of records in twelve slices in a row.

        With a cycle the least and greatest are parts of what is usual at their time.
        """
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
        if self.cycle is not None:
            begins = np.array(starts[: len(starts) - SLICES + 1])[together].tolist()
            usual = np.array([self.cycle.time_in(begin, begin + size) @ traffic for begin in begins])
            windows = (windows / np.maximum(usual, 1e-300))[usual >= _LEAST_RECORDS]
            if not len(windows):
                return 0.0, float(records.mean()) * SLICES, math.inf
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

        def mean_of(part: AnySummary) -> Floats:
            return part.cells.project(lambda keys: place_keys(signal, cells, keys), bins)[0]

        season = self._season(size, signal, (number, shares, units, seen), mean_of)
        if season is not None:
            mean = season.units @ season.mean / max(float(season.units.sum()), 1e-300)
        elif whole.sampled or not len(whole.session):
            mean = mean_of(self.total.summaries[signal.name])
        slices = [found for _, found in held]
        if whole.sampled:
            within = sampled_within(signal, slices, cells, shares, seen)
        else:
            within = unit_within(signal, slices, cells, shares, units)
        shared = shared_by_lag(number, units, [UnitParts.of(found) for found in slices], LAGS)
        stays, fewer = part_that_stays(slices, shares, seen, float(np.trace(within)))
        shares = about_season(season, mean, number, shares, size // SLICES)
        rows = self._rows(size, number, shares=shares, units=units, seen=seen, within=within, mean=mean)
        return replace(rows, shared=shared, stays=stays, fewer=fewer, season=season)

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
        stays, fewer = part_that_stays([v.cells for _, v in held], shares, seen, float(np.trace(within)))
        season = self._season(size, signal, (number, shares, units, seen), _embedding)
        shares = about_season(season, mean, number, shares, size // SLICES)
        slices = self._rows(size, number, shares=shares, units=units, seen=seen, within=within, mean=mean)
        return replace(slices, shared=shared, stays=stays, fewer=fewer, season=season), powers, far

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
        lags = [lag_sum(number, units, lag) * scale / max(known, 1.0) ** 2 for lag in range(LAGS)]
        inverse = float((units**2 / np.maximum(seen, 1)).sum()) * scale / max(known, 1.0) ** 2
        return ReferenceSlices(number, shares, units, seen, within, mean, total, np.array(lags), inverse)

    def dump(self) -> bytes:
        """Packed, without slices kept and exchanges, which are stored as they come."""
        self._fold()
        only = None if self.only is None else sorted(self.only)
        phases = [(size, found.dump()) for size, found in self.phases.items()]
        season = () if self.cycle is None else (self.cycle, phases)
        return msgspec.msgpack.encode((self.scope, self.begin, self.end, self.total.dump(), self.block, only, *season))

    @property
    def names(self) -> set[str]:
        """Signals of which something was learned."""
        self._fold()
        return set(self.total.summaries)

    def dump_whole(self) -> bytes:
        """Packed, with slices kept and exchanges."""
        kept = [(size, start, c.dump()) for size, held in self.kept.items() for start, c in held.items()]
        return msgspec.msgpack.encode((self.dump(), kept, None if self.exchanges is None else self.exchanges.dump()))

    @classmethod
    def load_whole(cls, data: bytes, sizes: Sequence[int]) -> Learning:
        """The inverse of `dump_whole`."""
        packed, kept, exchanges = msgspec.msgpack.decode(data)
        learning = cls.load(packed, sizes)
        learning.exchanges = None if exchanges is None else Exchanges.load(exchanges)
        for size, start, contents in kept:
            learning.kept[size][start] = Contents.load(contents)
        return learning

    def dump_kept(self, size: int, start: int) -> bytes:
        """One kept slice, packed."""
        return msgspec.msgpack.encode(self.kept[size][start].dump())

    def dump_exchanges(self) -> bytes:
        """The exchanges, packed."""
        assert self.exchanges is not None
        return msgspec.msgpack.encode(self.exchanges.dump())

    @classmethod
    def load(cls, data: bytes, sizes: Sequence[int]) -> Learning:
        """The inverse of `dump`; the slices kept follow by `put_back`, exchanges and sums of phases by their own."""
        scope, begin, end, total, block, only, *season = msgspec.msgpack.decode(data)
        wanted = None if only is None else frozenset(only)
        learning = cls(Scope(*scope), begin, end, sizes, Contents.load(total), block=block, only=wanted)
        if season:
            learning.cycle = cycle = Cycle(*season[0])
            learning.phases = {size: PhaseSums.load(cycle, packed) for size, packed in season[1]}
        return learning

    @classmethod
    def joined(cls, parts: Sequence[Learning], begin: int, end: int, book: Codebook | None = None) -> Learning:
        """Blocks of one scope as the rolling reference from `begin` to `end`; those that are not there were empty."""
        first = parts[0]
        for part in parts:
            part._fold()  # noqa: SLF001  its own kind
        kept = {
            size: {start: found for part in parts for start, found in part.kept[size].items()} for size in first.kept
        }
        total = add_contents([part.total for part in parts])
        found = [part.exchanges.placed(book) for part in parts if part.exchanges is not None]
        exchanges = add_exchanges(found).least(EXCHANGES) if found else None
        return cls(first.scope, begin, end, first.sizes, total, kept, first.block, exchanges=exchanges)

    def put_back(self, size: int, start: int, data: bytes) -> None:
        """The inverse of `dump_kept`."""
        self.kept[size][start] = Contents.load(msgspec.msgpack.decode(data))

    def put_exchanges(self, added: int, data: bytes) -> None:
        """The inverse of `dump_exchanges`, after so many slices had `added` to them."""
        self.exchanges, self.added = Exchanges.load(msgspec.msgpack.decode(data)), added


def about_season(season: Season | None, mean: Floats | None, number: Ints, shares: Floats, length: int) -> Floats:
    """Means of slices, less what is usual at their time, plus the mean of all."""
    return shares if season is None or mean is None else shares - season.usual(number, length) + mean


def _embedding(part: AnySummary) -> Floats:
    assert isinstance(part, Vector)
    return part.embedding


def vector_null(rows: ReferenceSlices, powers: Powers) -> VectorNull:
    """What windows of one size are held against."""
    live = int((rows.seen > 0).sum())
    known = 1 / rows.inverse if rows.inverse else 0.0
    if not live:
        nothing = {f.name: np.zeros(LAGS if f.name in {"between", "lag_weights"} else ()) for f in fields(NullTerms)}
        return VectorNull(NullTerms(**nothing), known, live, rows.season)
    return VectorNull(vector_terms(rows, powers), known, live, rows.season)
