"""Whether numbers and categories of a window are distributed as in the reference.

`histogram_l2` compares 16 reference-quantile bins by the squared distance and, against its own tail, by G; `g_test`
compares categories by G alone. Both against the null of calibration, for all series of a window size in one pass. What
G cannot tell, values of a category that were rare in the reference or not in it, is left to the test of rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import special

from monitor.calibration import (
    NullTerms,
    g_statistic,
    ladder,
    needed_shift,
    null_terms,
    pool_bins,
    pool_small,
    pooled,
    stack_terms,
    tail,
)
from monitor.model import Flags, Floats, Ints, Kind
from monitor.readings.units import WindowUnits
from monitor.reference import SeriesReference
from monitor.summaries.counts import distinct_over
from monitor.summaries.numeric import GRID_CELLS, grid_values
from monitor.windows import SLICES, Slice

_DECILES: Floats = np.arange(1, 10) / 10
_NORMAL: Floats = special.ndtri(_DECILES)
_SHIFTS: dict[str, Ints] = {
    "log": np.array([1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 28, 35, 56, 90, 150]),
    "unit": np.array([2, 5, 10, 15, 20, 25, 30, 40, 60, 90, 130, 200, 300, 500, 800]),
}
"""Cells by which a reference is moved to learn which change a window would have shown."""
_MORE: Floats = np.geomspace(0.001, 0.5, 15)
"""Shares of the records by which more, or fewer, of a score that is mostly 0 are not."""
_WIDTH: dict[Kind, int] = {"numeric": 16, "category": 65}


@dataclass(frozen=True)
class Shape:
    """One series: its reference at one window size, and what follows from that alone."""

    reference: SeriesReference
    size: int
    _nulls: dict[int, _Pooled] = field(default_factory=dict)

    @property
    def sampled(self) -> bool:
        return self.reference.summary.cells.sampled

    @property
    def expected(self) -> Floats:
        """Share of each bin in the reference, units weighing the same. Shape (bins,)."""
        return self.reference.slices[self.size].mean

    @cached_property
    def dense(self) -> Floats:
        """Numeric: records of the reference in each cell of the grid."""
        cells, scale = self.reference.summary.cells, self.reference.signal.scale
        dense: Floats = np.bincount(cells.keys, cells.mass, minlength=GRID_CELLS[scale]).astype(np.float64)
        return dense

    @cached_property
    def deciles(self) -> Floats:
        of_reference: Floats = deciles(self.dense[None, :], self.reference.signal.scale)[0]
        return of_reference

    @cached_property
    def mean(self) -> float:
        return float(self.dense @ grid_values(self.reference.signal.scale)) / max(self.reference.n, 1)

    @cached_property
    def record_shares(self) -> Floats:
        """Share of each bin in the reference, records weighing the same. Shape (bins,)."""
        cells = self.reference.summary.cells
        placed = np.bincount(self.reference.place(cells.keys), cells.mass, minlength=self.reference.bins)
        return placed / max(self.reference.n, 1)

    def pooled(self, units: float) -> _Pooled:
        """The null for windows of about so many units, built once for each step of the ladder."""
        step = ladder(units)
        if step not in self._nulls:
            self._nulls[step] = _pool(self, step)
        return self._nulls[step]

    def shifted(self) -> tuple[Floats, Floats]:
        """Shares of the bins if all values moved by each of `_SHIFTS`, up and down, and the effect of each move.

        Of a score that is mostly 0, more or fewer are not. Shapes (2, shifts, bins) and (2, shifts); an effect of 0
        marks a move that is not possible.
        """
        signal, summary = self.reference.signal, self.reference.summary
        zeros = float(summary.cells.mass[summary.cells.keys == 0].sum()) / max(summary.n, 1)
        if signal.scale == "unit" and 0.5 < zeros < 1:
            return self._more_or_fewer(zeros)
        keys, counts, top = summary.cells.keys, summary.cells.mass, GRID_CELLS[signal.scale] - 1
        values, total = grid_values(signal.scale), max(summary.n, 1)
        shares, effects = [], []
        for sign in (1, -1):
            for shift in _SHIFTS[signal.scale].tolist():
                moved = np.clip(keys + sign * shift, 0, top)
                moved = np.where(keys == 0, 0, np.maximum(moved, 1))  # what is nothing stays nothing
                shares.append(np.bincount(self.reference.place(moved), counts, minlength=self.reference.bins) / total)
                change = float((values[moved] - values[keys]) @ counts) / total
                if signal.scale == "log":
                    effects.append(1.02**shift - 1)
                else:
                    possible = abs(change) > 0.5 * (1 - zeros) * shift / top  # else most lie at the end of the scale
                    effects.append(abs(change) if possible else 0.0)
        count = len(_SHIFTS[signal.scale])
        return np.array(shares).reshape(2, count, -1), np.array(effects).reshape(2, count)

    def _more_or_fewer(self, zeros: float) -> tuple[Floats, Floats]:
        """The same for a share of the records that leaves 0 for the other values as they are distributed, or comes."""
        cells = self.reference.summary.cells
        other = np.bincount(
            self.reference.place(cells.keys[cells.keys != 0]),
            cells.mass[cells.keys != 0],
            minlength=self.reference.bins,
        )
        other = other / other.sum()
        zero = np.zeros_like(other)
        zero[self.reference.place(np.zeros(1, np.int64))] = 1
        moves = np.stack([_MORE, -_MORE])
        possible = np.where((zeros - moves >= 0) & (1 - zeros + moves >= 0), np.abs(moves), 0)
        mean = self.mean / (1 - zeros)
        shares = (zeros - moves)[..., None] * zero + (1 - zeros + moves)[..., None] * other
        return shares, possible * mean


@dataclass(frozen=True, slots=True)
class _Pooled:
    """The null of one series with its bins pooled for one size of window."""

    labels: Ints
    plain: NullTerms
    """Terms for the squared distance."""
    scaled: NullTerms
    """Terms for the chi-square form, which G follows."""
    shift_plain: Floats
    """d'd of each possible move; infinite where not possible. Shape (shifts,), the smaller of up and down."""
    shift_scaled: Floats
    shift_effect: Floats
    in_other: float
    cells: int


def _pool(shape: Shape, units: int) -> _Pooled:
    expected, rows = shape.expected, shape.reference.slices[shape.size]
    numeric = shape.reference.signal.kind == "numeric"
    labels = pool_bins(expected, units) if numeric else pool_small(expected, units)
    cells = int(labels.max()) + 1
    mean = np.bincount(labels, expected, minlength=cells)
    weights = 1 / np.maximum(mean, 1e-12)
    if numeric:
        shares, effects = shape.shifted()
        whole, usual = np.zeros((*shares.shape[:2], cells)), np.zeros(cells)
        np.add.at(whole, np.s_[:, :, labels], shares)  # type: ignore[arg-type]  # the stubs know no slices here
        np.add.at(usual, labels, shape.record_shares)
        difference = whole - usual
        plain = np.where(effects > 0, (difference**2).sum(axis=2), np.inf)
        many = np.full(effects.size, float(units)), np.full(effects.size, max(rows.total, 1.0))
        g = g_statistic(whole.reshape(-1, cells), np.broadcast_to(usual, whole.shape).reshape(-1, cells), *many)
        scaled = np.where(effects > 0, g.reshape(effects.shape), np.inf)
        moves, effect = (plain.min(axis=0), scaled.min(axis=0)), effects.max(axis=0)
    else:
        effect = np.geomspace(0.005, 1, 15)
        moves = (np.full(15, np.inf), 4 * effect**2)  # least chi-square form at a total variation (Cauchy-Schwarz)
    return _Pooled(
        labels,
        null_terms(rows, labels, np.ones(cells)),
        null_terms(rows, labels, weights),
        np.where(np.isinf(moves[0]) & numeric, 0, moves[0]),
        np.where(np.isinf(moves[1]), 0, moves[1]),
        effect,
        float(mean[-1]) if not numeric else 0.0,
        cells,
    )


def deciles(dense: Floats, scale: str) -> Floats:
    """The nine deciles of counts on a grid, to the width of a cell. Shape (S, cells) -> (S, 9); NaN where empty."""
    running = np.cumsum(dense, axis=1)
    total = running[:, -1:]
    values = grid_values("log" if scale == "log" else "unit")
    at = np.stack([(running >= q * total).argmax(axis=1) for q in _DECILES], axis=1)
    return np.where(total > 0, values[at], np.nan)


def _least_positive(deciles_: Floats) -> Floats:
    """What stands in for deciles of 0 where something is divided by them; 1 where all are 0. Shape (S, 1)."""
    least = np.where(deciles_ > 0, deciles_, np.inf).min(axis=1)
    return np.where(np.isinf(least), 1.0, least)[:, None]


def _apart(found: Floats, usual: Floats, scale: str) -> Floats:
    """How far each decile moved; on a log scale in logarithms, 0 counting as the least positive one. Shape (S, 9)."""
    if scale == "unit":
        return found - usual
    floor = _least_positive(usual)
    here, there = (np.log(np.where(side > 0, side, floor)) for side in (found, usual))
    return np.asarray(here - there, np.float64)


def moved_part(change: Floats) -> list[str]:
    """What of each distribution moved, by how far its nine deciles did: its location, its spread, or one of its tails.

    A tail moved if the outermost decile did four times as far as the five in the middle; else the location if the
    deciles moved by more together than apart (least squares on normal quantiles), else the spread. '' where none moved.

    Parameters
    ----------
    change : shape (S, 9)

    >>> moved_part(np.array([np.full(9, 0.2), 0.2 * _NORMAL, np.where(np.arange(9) > 7, 0.5, 0.0), np.zeros(9)]))
    ['location', 'spread', 'upper tail', '']
    """
    together, apart = change.mean(axis=1), change @ _NORMAL / float(_NORMAL @ _NORMAL)
    middle = np.abs(change[:, 2:7]).max(axis=1)
    low, high = np.abs(change[:, 0]), np.abs(change[:, 8])
    tail = np.maximum(low, high) > 4 * middle
    names = np.where(np.abs(together) >= np.abs(apart) * _NORMAL[-1], "location", "spread")
    names = np.where(tail & (low < high), "upper tail", np.where(tail & (low >= high), "lower tail", names))
    still = ~(np.abs(change).max(axis=1) > 0)  # NaN where there is nothing
    return [str(name) for name in np.where(still, "", names)]


@dataclass(frozen=True, slots=True)
class Shapes:
    """What one pass over the series of a window found. Shape (S,) each."""

    p_value: Floats
    effect: Floats
    detectable: Floats
    """NaN where no change would have been seen."""
    value: Floats
    reference_value: Floats
    records: Ints
    units: Ints
    decile: Ints
    """Numeric, log: which decile moved most."""
    moved: list[str]
    """Numeric: what of the distribution moved, see `moved_part`; '' of categories."""
    in_other: Floats
    """Categories: share of the reference in the cell that joins all that is too rare to be compared by itself."""
    cells: Ints
    """Cells that were compared; of one alone nothing can be said."""


@dataclass(slots=True)
class ShapeTable:
    """All series of one kind at one window size, with the bins of their last twelve slices."""

    kind: Kind
    size: int
    series: list[Shape] = field(default_factory=list)
    shares: Floats = field(init=False)
    units: WindowUnits = field(default_factory=WindowUnits)
    _stacked: dict[tuple[int, ...], tuple[NullTerms, NullTerms]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shares = np.zeros((0, SLICES, _WIDTH[self.kind]))

    def join(self, reference: SeriesReference, window: Sequence[tuple[int, Slice]]) -> None:
        """Add a series, with the slices that its window holds already."""
        self.series.append(Shape(reference, self.size))
        self.shares = np.concatenate([self.shares, np.zeros((1, *self.shares.shape[1:]))])
        self.units.join()
        self._stacked.clear()
        for place, found in window:
            self._put(len(self.series) - 1, place, found)

    def push(self, found: Slice | None) -> None:
        """The next slice (None: without records)."""
        self.shares[:, :-1] = self.shares[:, 1:].copy()
        self.shares[:, -1] = 0
        self.units.push()
        if found is not None:
            for row in range(len(self.series)):
                self._put(row, SLICES - 1, found)

    def _put(self, row: int, place: int, found: Slice) -> None:
        reference = self.series[row].reference
        summary = found.summary(reference.scope, reference.signal.name)
        if summary is not None:
            share, units, seen = summary.cells.project(reference.place, reference.bins)
            self.shares[row, place, : len(share)] = share
            self.units.put(row, place, summary.cells, units=units, seen=seen)

    def read(self, window: Sequence[tuple[int, Slice]], threshold: Floats) -> Shapes:
        """Hold the present window of every series against its reference.

        Parameters
        ----------
        window : the slices of the window
        threshold : p-value at which each series decides, shape (S,)

        """
        counts = window_counts([shape.reference for shape in self.series], window)
        weight = self.units.weights
        total = weight.sum(axis=1)
        share = np.einsum("sw,swb->sb", weight, self.shares) / np.maximum(total, 1)[:, None]
        known = known_units(weight, self.units.seen, np.array([shape.sampled for shape in self.series], np.bool_))
        nulls = [shape.pooled(n) for shape, n in zip(self.series, known.tolist(), strict=True)]
        p_value, needed = self._test(share, total, known, nulls, threshold)
        value, reference_value, effect, decile, moved = self._effects(counts, share)
        return Shapes(
            p_value,
            effect,
            _detectable(nulls, needed, numeric=self.kind == "numeric"),
            value,
            reference_value,
            np.array([found.n for found in counts], np.int64),
            np.array([found.units for found in counts], np.int64),
            decile,
            moved,
            np.array([null.in_other for null in nulls]),
            np.array([null.cells for null in nulls], np.int64),
        )

    def _test(
        self, share: Floats, total: Floats, known: Floats, nulls: Sequence[_Pooled], threshold: Floats
    ) -> tuple[Floats, tuple[Floats, Floats]]:
        """P-values, and the d'Dd that a change needs to be flagged, plain and scaled."""
        width = share.shape[1]
        labels = np.stack([_padded(null.labels, width) for null in nulls])
        expected = np.stack([_widened(shape.expected, width) for shape in self.series])
        window, reference = pooled(share, labels, width), pooled(expected, labels, width)
        sizes = tuple(ladder(n) for n in known.tolist())
        if sizes not in self._stacked:
            if len(self._stacked) > 64:
                self._stacked.clear()
            stacks = (stack_terms([null.plain for null in nulls]), stack_terms([null.scaled for null in nulls]))
            self._stacked[sizes] = stacks
        plain, scaled = self.units.moments(*self._stacked[sizes])
        of_reference = np.array([shape.reference.slices[self.size].total for shape in self.series])
        g = g_statistic(window, reference, np.maximum(total, 1), np.maximum(of_reference, 1))
        p_scaled = tail(g, scaled)
        if self.kind == "category":
            return np.where(total > 0, p_scaled, 1.0), (np.zeros_like(p_scaled), needed_shift(threshold, scaled))
        p_plain = tail(((window - reference) ** 2).sum(axis=1), plain)
        worst = np.where(total > 0, np.maximum(p_plain, p_scaled), 1.0)
        return worst, (needed_shift(threshold, plain), needed_shift(threshold, scaled))

    def _effects(self, counts: Sequence[Gathered], share: Floats) -> tuple[Floats, Floats, Floats, Ints, list[str]]:
        """Value, reference value, effect, the decile that moved most, and what of the distribution moved."""
        count = len(self.series)
        value, reference_value = np.full(count, np.nan), np.full(count, np.nan)
        effect, decile, moved = np.zeros(count), np.zeros(count, np.int64), [""] * count
        if self.kind == "category":
            width = share.shape[1]
            expected = np.stack([_widened(shape.expected, width) for shape in self.series])
            return value, reference_value, np.abs(share - expected).sum(axis=1) / 2, decile, moved
        for scale in ("log", "unit"):
            rows = np.array([i for i, s in enumerate(self.series) if s.reference.signal.scale == scale], np.int64)
            if not len(rows):
                continue
            dense = dense_counts([counts[i] for i in rows], scale)
            n = dense.sum(axis=1)
            found, usual = deciles(dense, scale), np.stack([self.series[i].deciles for i in rows])
            for row, part in zip(rows.tolist(), moved_part(_apart(found, usual, scale)), strict=True):
                moved[row] = part
            if scale == "unit":
                value[rows] = np.where(n > 0, dense @ grid_values("unit") / np.maximum(n, 1), np.nan)
                reference_value[rows] = [self.series[i].mean for i in rows]
                effect[rows] = np.where(n > 0, value[rows] - reference_value[rows], 0)
            else:
                change = np.where(n[:, None] > 0, (found - usual) / np.maximum(usual, _least_positive(usual)), 0)
                decile[rows] = np.abs(change).argmax(axis=1)
                effect[rows] = change[np.arange(len(rows)), decile[rows]]
                value[rows], reference_value[rows] = found[:, 4], usual[:, 4]
        return value, reference_value, effect, decile, moved


@dataclass(frozen=True, slots=True)
class Gathered:
    """Records of one series in a window by cell; a cell may occur once a slice."""

    keys: Ints
    counts: Ints | Floats
    """Where records are a sample, weighted by what they stand for; the sum is `n`."""
    n: int
    units: int
    """Distinct sessions and records without one."""


def window_counts(references: Sequence[SeriesReference], window: Sequence[tuple[int, Slice]]) -> list[Gathered]:
    """The records of each series in a window."""
    return [_gathered(reference, window) for reference in references]


def _gathered(reference: SeriesReference, window: Sequence[tuple[int, Slice]]) -> Gathered:
    parts = []
    for _, found in window:
        summary = found.summary(reference.scope, reference.signal.name)
        if summary is not None:
            parts.append(summary.cells)
    if not parts:
        return Gathered(np.empty(0, np.int64), np.empty(0, np.int64), 0, 0)
    counts: Ints | Floats = np.concatenate([part.counts for part in parts])
    n = units = int(counts.sum())
    if any(part.sampled for part in parts):
        weighted = np.concatenate([part.weighted for part in parts])
        counts = np.asarray(weighted * (n / int(weighted.sum())), np.float64)
    if any(len(part.session) for part in parts):
        units = sum(part.loose for part in parts) + distinct_over(parts)
    return Gathered(np.concatenate([part.keys for part in parts]), counts, n, units)


def known_units(units: Floats, seen: Floats, sampled: Flags) -> Floats:
    """Units that a window is known by: all of them, or where it was sampled their effective number. Shape (S,)."""
    total = units.sum(axis=1)
    effective = total**2 / np.maximum((units**2 / np.maximum(seen, 1)).sum(axis=1), 1e-300)
    return np.asarray(np.where(sampled, effective, total), np.float64)


def dense_counts(counts: Sequence[Gathered], scale: str) -> Floats:
    """Records in every cell of a grid, one row a series."""
    cells = GRID_CELLS["log" if scale == "log" else "unit"]
    keys = np.concatenate([found.keys + row * cells for row, found in enumerate(counts)])
    weights = np.concatenate([found.counts for found in counts])
    dense: Floats = np.bincount(keys, weights, minlength=len(counts) * cells).astype(np.float64)
    return dense.reshape(len(counts), cells)


def _detectable(nulls: Sequence[_Pooled], needed: tuple[Floats, Floats], *, numeric: bool) -> Floats:
    """The smallest of the tabled changes that both statistics would have flagged, interpolated; NaN where none."""
    effect = np.stack([null.shift_effect for null in nulls])
    reach = np.stack([null.shift_scaled for null in nulls]) / np.maximum(needed[1], 1e-300)[:, None]
    if numeric:
        plain = np.stack([null.shift_plain for null in nulls]) / np.maximum(needed[0], 1e-300)[:, None]
        reach = np.minimum(reach, plain)
    reach = np.sqrt(np.maximum.accumulate(reach, axis=1))
    hit = reach >= 1
    at = hit.argmax(axis=1)
    row = np.arange(len(nulls))
    before = np.maximum(at - 1, 0)
    low_reach = np.where(at > 0, reach[row, before], 0)
    low_effect = np.where(at > 0, effect[row, before], 0)
    part = (1 - low_reach) / np.maximum(reach[row, at] - low_reach, 1e-300)
    found = low_effect + (effect[row, at] - low_effect) * np.clip(part, 0, 1)
    return np.where(hit.any(axis=1), found, np.nan)


def _padded(labels: Ints, width: int) -> Ints:
    return np.concatenate([labels, np.full(width - len(labels), labels[-1] if len(labels) else 0)])


def _widened(shares: Floats, width: int) -> Floats:
    return np.concatenate([shares, np.zeros(width - len(shares))])
