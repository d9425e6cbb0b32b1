"""What a window shows of a signal beside its reference: values, how far they moved, and what a move would look like.

Numbers by deciles or by their mean, categories by total variation, rates by their difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

from monitor.model import RELATIVE, Flags, Floats, Ints, Kind, Signal
from monitor.readings.intervals import Z_DECILES, Uncertain, of_differences, of_ratios, of_total_variation, share_bounds
from monitor.reference import SeriesReference
from monitor.summaries import Category
from monitor.summaries.counts import distinct_over
from monitor.summaries.numeric import GRID_CELLS, grid_values
from monitor.windows import Slice

_DECILES: Floats = np.arange(1, 10) / 10
_NORMAL: Floats = special.ndtri(_DECILES)
_SHIFTS: dict[str, Ints] = {
    "log": np.array([1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 28, 35, 56, 90, 150]),
    "unit": np.array([2, 5, 10, 15, 20, 25, 30, 40, 60, 90, 130, 200, 300, 500, 800]),
}
"""Cells by which a reference is moved to learn which change a window would have shown."""
_MORE: Floats = np.geomspace(0.001, 0.5, 15)
"""Shares of the records by which more, or fewer, of a score that is mostly 0 are not."""


@dataclass(frozen=True)
class Shape:
    """What the effect of one number or category is measured by, from its reference alone."""

    reference: SeriesReference
    mix: Floats | None = None
    """Weights of the phases of a cycle that are meant; None for the whole reference."""

    @cached_property
    def cells(self) -> tuple[Ints, Floats | Ints]:
        """Cells that hold records of the reference, and how many of its `n` each does."""
        if self.mix is None or self.reference.by_phase is None:
            cells = self.reference.summary.cells
            return cells.keys, cells.mass
        keys, parts = self.reference.by_phase.mixed(self.mix)
        return keys, parts * (self.reference.n / max(float(parts.sum()), 1e-300))

    @cached_property
    def dense(self) -> Floats:
        """Numeric: records of the reference in each cell of the grid."""
        (keys, mass), scale = self.cells, self.reference.signal.scale
        dense: Floats = np.bincount(keys, mass, minlength=GRID_CELLS[scale]).astype(np.float64)
        return dense

    @cached_property
    def deciles(self) -> Floats:
        of_reference: Floats = deciles(self.dense[None, :], self.reference.signal.scale)[0]
        return of_reference

    @cached_property
    def mean(self) -> float:
        return float(self.dense @ grid_values(self.reference.signal.scale)) / max(self.reference.n, 1)

    def slope(self, share: float) -> float | None:
        """How fast the quantile at a share grows with it, on a log scale in parts of it; None where it does not."""
        near = min(0.05, share / 2, (1 - share) / 2)
        scale = self.reference.signal.scale
        running = np.broadcast_to(np.cumsum(self.dense), (2, len(self.dense)))
        low, high = _quantiles(running, np.array([share - near, share + near]), grid_values(scale)).tolist()
        if low >= high or (scale == "log" and low <= 0):
            return None
        return float(np.log(high / low) if scale == "log" else high - low) / (2 * near)

    @cached_property
    def bin_means(self) -> Floats:
        """Mean of the values in each bin, 0 in one without any. Shape (bins,)."""
        bins = self.reference.place(np.arange(len(self.dense)))
        records = np.bincount(bins, self.dense, minlength=self.reference.bins)
        values = np.bincount(bins, self.dense * grid_values(self.reference.signal.scale), self.reference.bins)
        return values / np.maximum(records, 1)

    @cached_property
    def spread(self) -> float:
        """Variance of scores over what it would be if all were 0 or 1; 0 where they are all alike."""
        return _spread(self.dense / max(self.reference.n, 1), grid_values(self.reference.signal.scale))

    @cached_property
    def spread_of_bins(self) -> float:
        """The same of the means of bins."""
        return _spread(self.record_shares, self.bin_means)

    @cached_property
    def record_shares(self) -> Floats:
        """Share of each bin in the reference, records weighing the same. Shape (bins,)."""
        keys, mass = self.cells
        placed = np.bincount(self.reference.place(keys), mass, minlength=self.reference.bins)
        return placed / max(self.reference.n, 1)

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


def _spread(weights: Floats, values: Floats) -> float:
    mean = float(weights @ values)
    most = mean * (1 - mean)
    return float(weights @ (values - mean) ** 2) / most if most > 0 else 0.0


def deciles(dense: Floats, scale: str) -> Floats:
    """The nine deciles of counts on a grid, to the width of a cell. Shape (S, cells) -> (S, 9); NaN where empty."""
    return _deciles(np.cumsum(dense, axis=1), grid_values("log" if scale == "log" else "unit"))


def _deciles(running: Floats, values: Floats) -> Floats:
    found = np.stack([_quantiles(running, np.full(len(running), q), values) for q in _DECILES], axis=1)
    return np.where(running[:, -1:] > 0, found, np.nan)


def _quantiles(running: Floats, shares: Floats, values: Floats) -> Floats:
    """The value at or below which `shares` of the records of each row lie, given their running sums. Shape (S,)."""
    found: Floats = values[(running >= (shares * running[:, -1])[:, None]).argmax(axis=1)]
    return found


def decile_ends(shape: Shape, rate: Floats, variance: Floats) -> Floats:
    """The interval of each decile of a reference on the log grid, above 0 as what it is a divisor of. Shape (9, 2).

    Parameters
    ----------
    rate, variance : of some shares of its units, and over rate (1 - rate)

    """
    low, high = share_bounds(_DECILES, np.interp(_DECILES, rate, variance))
    running = np.broadcast_to(np.cumsum(shape.dense), (len(_DECILES), len(shape.dense)))
    ends = _between(running, low, high, grid_values("log"))
    return np.maximum(np.stack(ends, axis=1), _least_positive(shape.deciles[None]))


def _between(running: Floats, low: Floats, high: Floats, values: Floats) -> tuple[Floats, Floats]:
    """The quantiles at two shares; infinite where the higher one is that of all records."""
    return _quantiles(running, low, values), np.where(high < 1, _quantiles(running, high, values), np.inf)


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
class Gathered:
    """Records of one series in a window by cell; a cell may occur once a slice."""

    keys: Ints
    counts: Ints | Floats
    """Where records are a sample, weighted by what they stand for; the sum is `n`."""
    n: int
    units: int
    """Distinct sessions and records without one."""
    known: float
    """Independent units that would tell as much: of a sample their effective number (Kish), else `units`."""


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
        return Gathered(np.empty(0, np.int64), np.empty(0, np.int64), 0, 0, 0.0)
    counts: Ints | Floats = np.concatenate([part.counts for part in parts])
    n = units = int(counts.sum())
    known = 0.0
    if any(part.sampled for part in parts):
        population = sum(part.population for part in parts)
        known = population**2 / sum(part.population**2 / part.effective for part in parts if part.n)
        weighted = np.concatenate([part.weighted for part in parts])
        counts = np.asarray(weighted * (n / int(weighted.sum())), np.float64)
    if any(len(part.session) for part in parts):
        units = sum(part.loose for part in parts) + distinct_over(parts)
    return Gathered(np.concatenate([part.keys for part in parts]), counts, n, units, known or float(units))


def dense_counts(counts: Sequence[Gathered], scale: str) -> Floats:
    """Records in every cell of a grid, one row a series."""
    cells = GRID_CELLS["log" if scale == "log" else "unit"]
    keys = np.concatenate([found.keys + row * cells for row, found in enumerate(counts)])
    weights = np.concatenate([found.counts for found in counts])
    dense: Floats = np.bincount(keys, weights, minlength=len(counts) * cells).astype(np.float64)
    return dense.reshape(len(counts), cells)


_UNITS: Mapping[Kind, str] = {
    "rate": "difference of rates",
    "category": "total variation",
    "vector": "share of records replaced, at least",
}


def effect_unit(signal: Signal, decile: int = 4) -> str:
    """What an effect is in; of a number on a log scale of the decile that moved most, counted from 0."""
    if signal.kind != "numeric":
        return _UNITS[signal.kind]
    return "difference of means" if signal.scale == "unit" else f"{RELATIVE}the 0.{decile + 1} quantile"


@dataclass(frozen=True, slots=True)
class Effects:
    """What some windows show of some series. Shape (S,) each."""

    value: Floats
    reference_value: Floats
    effect: Floats
    """0 where there are no records."""
    decile: Ints
    """Numbers on a log scale: which decile moved most."""
    moved: NDArray[np.object_]
    """Numbers: what of the distribution moved, see `moved_part`; categories: the value whose share moved most."""
    low: Floats
    """Ends of the 95 % interval of `effect`, which may be infinite."""
    high: Floats

    def put(self, rows: Ints, part: Effects) -> None:
        """Put the effects of some series in their places."""
        for of in fields(Effects):
            getattr(self, of.name)[rows] = getattr(part, of.name)


def no_effects(count: int) -> Effects:
    """Those of windows that hold nothing."""
    value, usual, low, high = np.full((4, count), np.nan)
    names = np.full(count, "", np.object_)
    return Effects(value, usual, np.zeros(count), np.zeros(count, np.int64), names, low, high)


def numeric_effects(shapes: Sequence[Shape], counts: Sequence[Gathered], known: Sequence[Uncertain]) -> Effects:
    """Numbers: by the decile that moved most, in parts of it, or of scores by the mean."""
    count = len(shapes)
    found = no_effects(count)
    for scale, effects in (("log", _amount_effects), ("unit", _score_effects)):
        rows = np.array([i for i, s in enumerate(shapes) if s.reference.signal.scale == scale], np.int64)
        if len(rows):
            mine = rows.tolist()
            dense = dense_counts([counts[i] for i in mine], scale)
            found.put(rows, effects([shapes[i] for i in mine], dense, [known[i] for i in mine]))
    return found


def _amount_effects(shapes: Sequence[Shape], dense: Floats, known: Sequence[Uncertain]) -> Effects:
    running, values = np.cumsum(dense, axis=1), grid_values("log")
    found, usual = _deciles(running, values), np.stack([shape.deciles for shape in shapes])
    divisor, some = np.maximum(usual, _least_positive(usual)), running[:, -1] > 0
    change = np.where(some[:, None], (found - usual) / divisor, 0)
    decile = np.abs(change).argmax(axis=1)
    at, q = (np.arange(len(shapes)), decile), _DECILES[decile]
    variance = np.array([np.interp(share, one.rate, one.here) for share, one in zip(q, known, strict=True)])
    low, high = share_bounds(q, variance, np.array([max(one.z, Z_DECILES) for one in known]))
    ends = np.stack([one.ends[place] for one, place in zip(known, decile.tolist(), strict=True)])
    ratios = of_ratios(np.where(some, found[at], 1), *_between(running, low, high, values), divisor[at], ends)
    least, most = (ratio - usual[at] / divisor[at] for ratio in ratios)
    moved = np.array(moved_part(_apart(found, usual, "log")), np.object_)
    return Effects(found[:, 4], usual[:, 4], change[at], decile, moved, least, most)


def _score_effects(shapes: Sequence[Shape], dense: Floats, known: Sequence[Uncertain]) -> Effects:
    running, values = np.cumsum(dense, axis=1), grid_values("unit")
    n = running[:, -1]
    value = np.where(n > 0, dense @ values / np.maximum(n, 1), np.nan)
    usual = np.array([shape.mean for shape in shapes])
    # The null knows how means of bins vary; how values do, and now, is in the counts.
    most, squares = value * (1 - value), dense @ values**2 / np.maximum(n, 1)
    before = np.array([shape.spread for shape in shapes])
    now = np.where(most > 0, np.maximum(squares - value**2, 0) / np.where(most > 0, most, 1), before)
    of_bins, z = np.array([shape.spread_of_bins or 1.0 for shape in shapes]), np.array([one.z for one in known])
    here, there = np.array([(one.here[0], one.there[0]) for one in known]).T / of_bins
    low, high = of_differences(value, usual, here * now, there * before, z)
    apart = _apart(_deciles(running, values), np.stack([shape.deciles for shape in shapes]), "unit")
    moved, nothing = np.array(moved_part(apart), np.object_), np.zeros(len(shapes), np.int64)
    return Effects(value, usual, np.where(n > 0, value - usual, 0), nothing, moved, low, high)


def rate_effects(shapes: Sequence[Shape], counts: Sequence[Gathered], known: Sequence[Uncertain]) -> Effects:
    """Rates: by their difference."""
    n = np.array([found.n for found in counts], np.float64)
    yes = np.array([float(found.counts[found.keys > 0].sum()) for found in counts])
    usual = np.array([float(shape.record_shares[1]) for shape in shapes])
    value = np.where(n > 0, yes / np.maximum(n, 1), np.nan)
    here, there = (np.array([getattr(one, name)[0] for one in known]) for name in ("here", "there"))
    low, high = of_differences(value, usual, here, there, np.array([one.z for one in known]))
    nothing, names = np.zeros(len(shapes), np.int64), np.full(len(shapes), "", np.object_)
    return Effects(value, usual, np.where(n > 0, value - usual, 0), nothing, names, low, high)


def category_effects(
    shapes: Sequence[Shape], cells: Sequence[Flags], counts: Sequence[Gathered], known: Sequence[Uncertain]
) -> Effects:
    """Categories: by total variation between the values that are watched and all others as one.

    Parameters
    ----------
    cells : which bins make up each of those, shape (values, bins)

    """
    result = no_effects(len(shapes))
    some, sides = [row for row, found in enumerate(counts) if found.n], []
    for row in some:
        reference, yes, found = shapes[row].reference, cells[row], counts[row]
        here = yes @ np.bincount(reference.place(found.keys), found.counts, minlength=reference.bins) / found.n
        there = yes @ shapes[row].record_shares
        sides.append((here, there))
        most = int(np.abs(here - there).argmax())
        result.effect[row] = np.abs(here - there).sum() / 2
        result.value[row], result.reference_value[row] = here[most], there[most]
        if here[most] != there[most]:
            result.moved[row] = named_value(reference, yes[most])
    if some:
        result.low[some], result.high[some] = of_total_variation(sides, [known[row] for row in some])
    return result


def category_names(reference: SeriesReference, cells: Flags) -> list[str]:
    """What `moved` calls each of the values that are watched."""
    return [named_value(reference, yes) for yes in cells]


def named_value(reference: SeriesReference, yes: Flags) -> str:
    """Of bins that are one value its name, else that they are all rare ones."""
    bins = np.flatnonzero(yes)
    summary = reference.summary
    if len(bins) != 1 or bins[0] >= len(reference.cells) or not isinstance(summary, Category):
        return "rare values"
    return summary.names[int(reference.cells[bins[0]])]
