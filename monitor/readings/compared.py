"""One signal of two arms: by which shares it is watched, and what a window shows of it in both. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from monitor.model import Flags, Floats, Signal
from monitor.readings.arm_units import Known, common_place, records_of, units_by_bin
from monitor.readings.effects import (
    Gathered,
    Shape,
    category_effects,
    decile_ends,
    effect_unit,
    numeric_effects,
    rate_effects,
)
from monitor.readings.intervals import Uncertain, Z
from monitor.readings.pairs import Pair
from monitor.readings.watched import quantile_bins, value_bins
from monitor.reference import SeriesReference
from monitor.windows import Slice

Window = Sequence[tuple[int, Slice]]


@dataclass(frozen=True)
class Compared:
    """One signal of a pair."""

    pair: Pair
    usual: SeriesReference
    """The first records of both arms: they say where the bins lie."""

    @property
    def signal(self) -> Signal:
        return self.usual.signal

    @cached_property
    def shape(self) -> Shape:
        return Shape(self.usual)

    @cached_property
    def yes(self) -> Flags:
        """Which bins make up each share, of two complementary ones the last. Shape (shares, bins)."""
        kind = self.signal.kind
        if kind == "rate":
            return np.array([[False, True]])
        if kind == "numeric":
            return quantile_bins(self.shape.record_shares)
        yes = value_bins(self.shape.record_shares, self.usual.n)
        return yes[-1:] if len(yes) == 2 else yes

    @cached_property
    def moves(self) -> Floats:
        """By how much each share changes if all values of a number move up, then down. Shape (shares, moves)."""
        shares, _ = self.shape.shifted()
        return np.concatenate((shares - self.shape.record_shares) @ self.yes.T).T

    @cached_property
    def effects(self) -> Floats:
        """The effect of each of `moves`; 0 marks one that is not possible."""
        return self.shape.shifted()[1].ravel()

    def sums(self, found: Slice, known: Known) -> Floats | None:
        """Of a slice yes and units of the arm, yes and units of the baseline, shape (shares, 4); None if one has none.

        Parameters
        ----------
        known : sessions of the slices before

        """
        held = [found.summary(scope, self.signal.name) for scope in self.pair.scopes]
        parts = [part for part in held if part is not None]
        if len(parts) < 2:
            return None
        place = common_place(parts, self.usual.place)
        arms = units_by_bin([part.cells for part in parts], place, self.usual.bins, known)
        columns = [column for units in arms for column in (self.yes @ units, np.full(len(self.yes), units.sum()))]
        return np.stack(columns, axis=1)

    def common(self, window: Window) -> Window:
        """The slices of a window that hold the signal of both."""
        name, scopes = self.signal.name, self.pair.scopes
        return [part for part in window if all(part[1].summary(scope, name) is not None for scope in scopes)]

    def beside(self, window: Window) -> tuple[Shape, Gathered]:
        """The records of the baseline, as what the arm's are held against, and those of the arm."""
        arm, baseline = (
            records_of(self.signal, [part for part in parts if part is not None])
            for parts in ([found.summary(scope, self.signal.name) for _, found in window] for scope in self.pair.scopes)
        )
        cells = arm.cells
        shape = Shape(SeriesReference(self.pair.scopes[1], self.signal, baseline, {}))
        return shape, Gathered(cells.keys, cells.mass, arm.n, arm.n, arm.n)


class Shown(NamedTuple):
    """What a window shows of one signal of two arms."""

    value: float
    baseline: float
    effect: float
    """Not a number without records of both."""
    low: float
    """Ends of the 95 % interval of `effect`."""
    high: float
    unit: str
    moved: str
    n: int
    """Records of the arm."""
    baseline_n: int
    slices: int
    """That hold both."""


def shown_in(series: Sequence[Compared], windows: Sequence[Window], units: Floats, z: float = Z) -> list[Shown]:
    """What the window of each series shows, slices that do not hold both arms left out.

    Parameters
    ----------
    units : independent units of arm and baseline in each window, shape (S, 2)
    z : normal quantile of the intervals

    """
    common = [one.common(window) for one, window in zip(series, windows, strict=True)]
    sides = [one.beside(window) for one, window in zip(series, common, strict=True)]
    found: dict[int, Shown] = {}
    for kind in sorted({one.signal.kind for one in series}):
        rows = [row for row, one in enumerate(series) if one.signal.kind == kind]
        shapes, arms = [sides[row][0] for row in rows], [sides[row][1] for row in rows]
        known = [_uncertain(shape, units[row], z) for shape, row in zip(shapes, rows, strict=True)]
        if kind == "category":
            yes = [value_bins(shape.record_shares, shape.reference.n) for shape in shapes]
            effects = category_effects(shapes, yes, arms, known)
        else:
            effects = (numeric_effects if kind == "numeric" else rate_effects)(shapes, arms, known)
        for at, row in enumerate(rows):
            effect = float(effects.effect[at]) if arms[at].n else float("nan")
            found[row] = Shown(
                float(effects.value[at]),
                float(effects.reference_value[at]),
                effect,
                float(effects.low[at]),
                float(effects.high[at]),
                effect_unit(series[row].signal, int(effects.decile[at])),
                str(effects.moved[at]),
                arms[at].n,
                shapes[at].reference.n,
                len(common[row]),
            )
    return [found[row] for row in range(len(series))]


def _uncertain(shape: Shape, units: Floats, z: float) -> Uncertain:
    """How well shares of an arm and of its baseline are known by their units alone."""
    here, there = (1 / np.maximum(units, 1)).reshape(2, 1)
    signal, ends = shape.reference.signal, np.empty((0, 2))
    if signal.kind == "numeric" and signal.scale == "log":
        ends = decile_ends(shape, np.array([0.5]), there)
    elif signal.kind == "numeric":
        here, there = here * (shape.spread_of_bins or 1.0), there * (shape.spread_of_bins or 1.0)
    return Uncertain(np.array([0.5]), here, there, z, ends)
