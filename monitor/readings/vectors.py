"""Whether vectors of a window are distributed as in the reference: `rff_mmd`.

The statistic is the squared distance of mean features from the reference's: the maximum mean discrepancy (Gretton et
al., JMLR 13, 2012) of the kernel that the features stand for. Its null is that of calibration, whose tail is believed
down to what simulation supports and no further. What decides is evidence over time: p-values of blocks of four or of
twelve slices that do not overlap become e-values k p^(k - 1) (Vovk and Wang, Annals of Statistics 2021), which are
multiplied, and summed over starts as in an e-detector (evidence). Blocks share their reference; each is held against
one as uncertain as if _TOGETHER of them drew their own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import msgspec
import numpy as np

from monitor.calibration import (
    BOTH_SIDES,
    FEW_SLICES,
    LAGS,
    SUPPORTED,
    NullMoments,
    NullTerms,
    Season,
    like_reference,
    needed_shift,
    shift_ends,
    stack_terms,
    tail,
)
from monitor.distances import DISTANCES
from monitor.model import Flags, Floats, Ints, Scope
from monitor.readings.effects import window_counts
from monitor.readings.packing import packed_names, packed_rows, rows_but
from monitor.readings.units import WindowUnits
from monitor.reference import SeriesReference
from monitor.summaries import Vector
from monitor.summaries.vector import FEATURES, farthest
from monitor.windows import SLICES, Slice

BLOCKS = (4, SLICES)
"""Slices to a block, either with the same weight at every step."""
_TOGETHER = 3
_POWER = 0.2
"""Of the p-value in its e-value, k."""
_MOST = 1e12
"""Evidence counts up to this, beyond what any threshold asks for, so that it is gone soon after the change is."""
_TELLS = 20.0
"""Evidence above which a block counts to the stretch that changed."""
GOING_ON: Floats = np.array([np.mean([length > age for length in BLOCKS]) for age in range(SLICES, -1, -1)])
"""Part of the chains that ended so many slices ago, the last of them now, whose next block has not ended."""


def e_value(p_value: Floats) -> Floats:
    """Evidence of a p-value, on average at most 1 where nothing changed.

    >>> e_value(np.array([1.0, 0.01, 1e-6, 1e-9])).round(1).tolist()  # below what is supported nothing is added
    [0.2, 8.0, 12619.1, 12619.1]
    """
    found: Floats = _POWER * np.maximum(p_value, SUPPORTED) ** (_POWER - 1)
    return found


def cautious(terms: NullTerms) -> NullTerms:
    """The null of a block that goes with others.

    The covariance of several differences from one reference is at most that of independent ones from references that
    are as many times as uncertain.
    """
    of_reference = {name: _TOGETHER * getattr(terms, name) for name in ("lag_weights", "inverse", "shared")}
    return replace(terms, **of_reference)


def smallest_shift(block: NullMoments, threshold: Floats) -> Floats:
    """The shift of mean features that a window shows with 90 % power: its shorter blocks pass together. Shape (S,).

    Parameters
    ----------
    block : cautious moments of such a block
    threshold : p-value at which each series decides

    """
    blocks = SLICES // BLOCKS[0]
    each = np.exp(np.log(len(BLOCKS) ** blocks / threshold) / blocks)  # evidence that each block must bring
    wanted = np.maximum((_POWER / each) ** (1 / (1 - _POWER)), SUPPORTED)
    return np.sqrt(needed_shift(wanted, block))


@dataclass(frozen=True, slots=True)
class Embedded:
    """What one pass over the vectors of a window found. Shape (S,) each."""

    p_value: Floats
    effect: Floats
    """Share of the records that must have been replaced, at least; NaN where no record is there to tell."""
    low: Floats
    """The 95 % interval of that."""
    high: Floats
    detectable: Floats
    """The same for the smallest change that would have been seen."""
    value: Floats
    """Distance of the mean features."""
    reference_value: Floats
    """The distance that is expected when nothing changes."""
    records: Ints
    units: Ints
    since: Ints
    """Slices in the strongest chain of blocks."""
    widened: Flags
    """Whether the reference had too few slices to say exactly how much they differ."""
    known: Floats
    """Units of the reference that say what is usual."""


@dataclass(frozen=True, slots=True)
class _Seasons:
    """What the seasons of some series say of a typical phase; nothing of series without one. Shape (S,) but one."""

    typical: Floats
    """One over the units by which it is known."""
    lag_weights: Floats
    """Of one side. Shape (S, LAGS)."""
    phases: Floats
    phase_slices: Floats

    @classmethod
    def of(cls, seasons: Sequence[Season | None]) -> Self | None:
        """None where no series has one."""
        if all(season is None for season in seasons):
            return None
        rows = [
            (0.0, np.zeros(LAGS), 1.0, 1.0)
            if season is None
            else (season.typical, season.lag_weights / BOTH_SIDES, float(season.cycle.phases), season.phase_slices)
            for season in seasons
        ]
        return cls(*(np.array(column) for column in zip(*rows, strict=True)))


@dataclass(slots=True)
class VectorTable:
    """All vector series of one window size, with the mean features of their last twelve slices."""

    size: int
    series: list[SeriesReference] = field(default_factory=list)
    features: Floats = field(default_factory=lambda: np.zeros((0, SLICES, FEATURES)))
    usual: Floats = field(default_factory=lambda: np.zeros((0, FEATURES)))
    """Mean features of the references; 0 where there is a cycle: there `features` are less what is usual then."""
    vagueness: Floats = field(default_factory=lambda: np.zeros((0, SLICES)))
    """Where there is a cycle, how much less what is usual in a slice is known than that of a typical phase."""
    units: WindowUnits = field(default_factory=WindowUnits)
    far: Floats = field(default_factory=lambda: np.zeros((0, SLICES)))
    """Greatest squared distance of a kept unit's records from the reference's mean."""
    ended: Floats = field(default_factory=lambda: np.zeros((0, SLICES + 1)))
    """Evidence of all chains of blocks that ended with each of the last slices, the newest last."""
    lengths: Ints = field(default_factory=lambda: np.zeros((0, SLICES + 1), np.int64))
    """Slices in the strongest of those chains."""
    apart: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Slices since the last one of the time in which each reference was learned."""
    learned: list[tuple[int, int]] = field(default_factory=list)
    """Begin and end of each reference."""
    _stacked: NullTerms | None = None
    _seasons: _Seasons | None = None

    def join(
        self, reference: SeriesReference, window: Sequence[tuple[int, Slice]], learned: tuple[int, int] = (0, 0)
    ) -> None:
        """Add a series, with the slices that its window holds already; those from which it was learned do not count."""
        usual = np.zeros(FEATURES)
        if isinstance(reference.summary, Vector) and reference.season(self.size) is None:
            usual = reference.summary.embedding
        alone, held = VectorTable(self.size), dict(window)
        alone.series, alone.learned, alone.usual = [reference], [learned], usual[None, :]
        alone.features, alone.far = np.zeros((1, SLICES, FEATURES)), np.zeros((1, SLICES))
        alone.vagueness = np.zeros((1, SLICES))
        alone.ended, alone.apart = np.zeros((1, SLICES + 1)), np.zeros(1, np.int64)
        alone.lengths = np.zeros((1, SLICES + 1), np.int64)
        alone.units.join()
        for place in range(min(held, default=SLICES), SLICES):
            alone.push(held.get(place))
        self.series += alone.series
        self.learned += alone.learned
        for name in ("usual", "features", "vagueness", "far", "ended", "lengths", "apart"):
            setattr(self, name, np.concatenate([getattr(self, name), getattr(alone, name)]))
        self.units.add(alone.units)
        self._stacked = None

    def push(self, found: Slice | None) -> None:
        """The next slice (None: without records)."""
        if not self.series:
            return
        for array in (self.features, self.vagueness, self.far, self.ended, self.lengths):
            array[:, :-1] = array[:, 1:].copy()
            array[:, -1] = 0
        self.units.push()
        self.apart += 1
        if found is not None:
            for row, (begin, end) in enumerate(self.learned):
                self._put(row, found)
                if begin < found.end and found.start < end:
                    self.apart[row] = 0
        self._weigh()

    def _put(self, row: int, found: Slice) -> None:
        summary, season = _vector(self.series[row], found), self.series[row].season(self.size)
        if summary is None or not summary.n:
            return
        cells, usual, times = summary.cells, self.usual[row], 1.0
        terms = self.series[row].vectors[self.size].terms
        seen = like_reference(cells.effective, cells.n, float(terms.stays), float(terms.fewer))
        if season is not None:
            weights = season.weights(found.start, found.end - found.start)
            if not weights.any():
                return
            usual, self.vagueness[row, -1] = weights @ season.mean, season.vagueness(weights)
            times = _spread(season, usual)
        self.features[row, -1] = summary.embedding if season is None else summary.embedding - usual
        self.units.put(row, cells, units=cells.population, seen=seen / times)
        self.far[row, -1] = farthest(summary.units, usual)

    def read(self, window: Sequence[tuple[int, Slice]], threshold: Floats) -> Embedded:
        """Hold the present window of every series against its reference.

        Parameters
        ----------
        window : the slices of the window
        threshold : p-value at which each series decides, shape (S,)

        """
        terms = self._terms()
        squared = self._squared(SLICES)
        moments = self.units.moments(terms)
        known = np.array([reference.known(self.size) for reference in self.series])
        if self._seasons is not None:
            known = np.minimum(known, 1 / np.maximum(self._seasons.typical * self._of_phases(SLICES), 1e-300))
        far = np.sqrt(self.far.max(axis=1))
        far = np.where(far > 0, far, np.nan)
        counts = window_counts(self.series, window)
        p_values = self.p_values()
        low, high = shift_ends(squared, moments)
        return Embedded(
            p_values,
            np.sqrt(np.maximum(squared - moments.trace, 0)) / far,
            np.sqrt(low) / far,
            np.sqrt(high) / far,
            smallest_shift(self.units.moments(cautious(self._terms(BLOCKS[0])), BLOCKS[0]), threshold) / far,
            np.sqrt(squared),
            np.sqrt(moments.trace),
            np.array([found.n for found in counts], np.int64),
            np.array([found.units for found in counts], np.int64),
            self.since() if bool((p_values <= threshold).any()) else np.zeros(len(self.series), np.int64),
            np.array([reference.vectors[self.size].slices < FEW_SLICES for reference in self.series], np.bool_),
            known,
        )

    def _terms(self, last: int = SLICES) -> NullTerms:
        """Terms for the last slices; with a cycle the reference's part is that of the phases which they lie in."""
        if self._stacked is None:
            self._stacked = stack_terms([reference.vectors[self.size].terms for reference in self.series])
            self._seasons = _Seasons.of([reference.season(self.size) for reference in self.series])
        terms, seasons = self._stacked, self._seasons
        if seasons is None:
            return terms
        part = self._of_phases(last)
        inverse = np.maximum(terms.inverse, seasons.typical * part)
        times = inverse / np.maximum(terms.inverse, 1e-300)
        weights = np.maximum(terms.lag_weights, seasons.lag_weights * part[:, None])
        return replace(terms, inverse=inverse, lag_weights=weights, shared=terms.shared * times)

    def _of_phases(self, last: int) -> Floats:
        """How much less what is usual in the last slices is known than that of a typical phase; 0 without a cycle."""
        assert self._seasons is not None
        weights = self.units.weights(last)
        total, squares = np.maximum(weights.sum(axis=1), 1e-300), np.maximum((weights**2).sum(axis=1), 1e-300)
        covered = np.clip(total**2 / squares / self._seasons.phase_slices, 1, self._seasons.phases)
        vague: Floats = (weights * self.vagueness).sum(axis=1) / total / covered
        return vague

    def _squared(self, last: int) -> Floats:
        """Squared distance of the mean features of the last slices from the reference's; 0 where there are none."""
        weights = self.units.weights(last)
        total = weights.sum(axis=1)
        mean = np.einsum("sw,swf->sf", weights, self.features) / np.maximum(total, 1e-300)[:, None]
        return np.where(total > 0, ((mean - self.usual) ** 2).sum(axis=1), 0)

    def _weigh(self) -> None:
        """Evidence of the chains that end with the newest slice."""
        newest = np.zeros(len(self.series))
        for length in BLOCKS:
            p_value = self._p_values(cautious(self._terms(length)), length)
            counts = (self.units.weights(length).sum(axis=1) > 0) & (self.apart >= length)
            before = self.ended[:, SLICES - length]
            chains = np.where(counts, (1 + before) * e_value(p_value), 0) / len(BLOCKS)
            longer = length + np.where(before > _TELLS, self.lengths[:, SLICES - length], 0)
            self.lengths[:, -1] = np.where(chains > newest, longer, self.lengths[:, -1])  # of two blocks: the stronger
            newest += chains
        self.ended[:, -1] = np.minimum(newest, _MOST)

    def window_p_values(self) -> Floats:
        """Of the last twelve slices alone, however far their tail is extrapolated. Shape (S,)."""
        return self._p_values(self._terms(), SLICES)

    def _p_values(self, terms: NullTerms, last: int) -> Floats:
        return tail(self._squared(last), self.units.moments(terms, last))

    def p_values(self) -> Floats:
        """One over the evidence of all chains, those that wait for their next block to end among them, at most 1."""
        return 1 / np.maximum(self.ended @ GOING_ON, 1)

    def since(self) -> Ints:
        """The slices that are likeliest to hold all of a change. Shape (S,).

        Within the window those whose statistic is farthest beyond its mean, in standard deviations; if these are all
        of the window, those of the strongest chain.
        """
        beyond = np.zeros((len(self.series), SLICES))
        for last in range(1, SLICES + 1):
            null, squared = self.units.moments(self._terms(last), last), self._squared(last)
            spread = np.sqrt(np.maximum(2 * null.square, 1e-300))
            beyond[:, last - 1] = np.where(squared > 0, (squared - null.trace) / spread, 0)
        inside = beyond.argmax(axis=1) + 1
        place = (self.ended * GOING_ON).argmax(axis=1)
        chain = self.lengths[np.arange(len(place)), place] + SLICES - place
        reaches_back = (inside == SLICES) & (chain >= 2 * SLICES)  # its first block may hold much from before
        return np.asarray(np.where(reaches_back, chain, inside), np.int64)

    def dump(self) -> bytes:
        """What cannot be derived from references and slices, packed."""
        columns = (self.ended, self.lengths, self.apart)
        return msgspec.msgpack.encode((self._names(), *(column.tobytes() for column in columns)))

    def restore(self, data: bytes) -> None:
        """Put the state of `dump` back, after the same series have joined. Raises ValueError where others have."""
        names, ended, lengths, apart = msgspec.msgpack.decode(data)
        if names != self._names():
            raise ValueError("evidence of other series than the references hold")
        self.ended = np.frombuffer(ended, np.float64).reshape(len(names), SLICES + 1).copy()
        self.lengths = np.frombuffer(lengths, np.int64).reshape(len(names), SLICES + 1).copy()
        self.apart = np.frombuffer(apart, np.int64).copy()

    def _names(self) -> list[list[str | None]]:
        return packed_names(self.series)

    def distances(self, row: int, window: Sequence[tuple[int, Slice]]) -> dict[str, float]:
        """The descriptive distances of one series, over records."""
        of_window = [_vector(self.series[row], found) for _, found in window]
        here = Vector.merged([Vector.empty(self.series[row].signal), *(part for part in of_window if part)])
        there = self.series[row].summary
        assert isinstance(there, Vector)
        sides: dict[str, tuple[Floats, Floats]] = {
            "features": (here.embedding, there.embedding),
            "moments": (here.projected, there.projected),
            "centroid": (here.centroid, there.centroid),
        }
        rows = (distance for distance in DISTANCES.values() if "vector" in distance.kinds)
        return {distance.name: float(distance(*sides[distance.cells])) for distance in rows}


def _spread(season: Season, usual: Floats) -> float:
    """How much vectors differ where these features are usual, against all phases: one less their squared length."""
    squares: Floats = 1 - (season.mean**2).sum(axis=1)
    whole = float(season.units @ squares) / max(float(season.units.sum()), 1e-300)
    return max(1 - float(usual @ usual), 1e-3) / max(whole, 1e-3)


def _vector(reference: SeriesReference, found: Slice) -> Vector | None:
    summary = found.summary(reference.scope, reference.signal.name)
    return summary if isinstance(summary, Vector) else None


def without(data: bytes, gone: Collection[tuple[Scope, str]]) -> bytes:
    """What `VectorTable.dump` packed, less some series."""
    names, *columns = msgspec.msgpack.decode(data)
    kept = rows_but(names, gone)
    rows = [packed_rows(column, len(names), kept) for column in columns]
    return msgspec.msgpack.encode(([names[row] for row in kept], *rows))
