"""Numbers: counts on a fixed grid, exact sums, extremes. Any two can be added; nothing depends on a reference.

Two grids. `log`: cells of ratio 1.02 from 1e-9 to 1e12, a relative error of at most 1 % (the mapping of DDSketch,
Masson et al., VLDB 2019), and cell 0 for zero and below. `unit`: 1,001 cells of width 0.001 around 0, 0.001, ..., 1.
Sums are kept in fixed point (whole part, and a fraction in units of 2**-30), so that adding them is exact in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from monitor.model import Floats, Hashes, Ints, Scale, Signal
from monitor.summaries.counts import STEP_BITS, Counts, count_groups, in_steps, merge_counts, pack, unpack

_LOG_RATIO = float(np.log(1.02))
_LOWEST, _HIGHEST = 1e-9, 1e12
_FIRST = int(np.floor(np.log(_LOWEST) / _LOG_RATIO))
_LOG_CELLS = int(np.floor(np.log(_HIGHEST) / _LOG_RATIO)) - _FIRST + 2
_UNIT_CELLS = 1001
_FRACTION_BITS = 30
_FRACTION = 1 << _FRACTION_BITS

GRID_CELLS: dict[Scale, int] = {"log": _LOG_CELLS, "unit": _UNIT_CELLS}
"""Cells of each grid; keys run from 0."""


def grid_keys(values: Floats, scale: Scale) -> Ints:
    """The cell of each value. Values outside the grid are counted in its end cells.

    >>> grid_keys(np.array([0.0, 0.25, 1.0]), "unit").tolist()
    [0, 250, 1000]
    """
    if scale == "unit":
        return np.rint(np.clip(values, 0, 1) * (_UNIT_CELLS - 1)).astype(np.int64)
    positive = np.clip(values, _LOWEST, _HIGHEST)
    keys = np.floor(np.log(positive) / _LOG_RATIO).astype(np.int64) - _FIRST + 1
    return np.where(values < _LOWEST, 0, keys)


def grid_values(scale: Scale) -> Floats:
    """A value for each cell of a grid: its middle (on the log grid the geometric one, 0 for cell 0).

    >>> round(float(grid_values("log")[grid_keys(np.array([120.0]), "log")[0]]), -1)
    120.0
    """
    if scale == "unit":
        return np.linspace(0, 1, _UNIT_CELLS)
    values: Floats = np.exp((np.arange(_LOG_CELLS) - 1 + _FIRST + 0.5) * _LOG_RATIO)
    values[0] = 0.0
    return values


@dataclass(frozen=True, slots=True, eq=False)
class Numeric:
    """Observations of a numeric signal in one slice of one scope."""

    scale: Scale
    cells: Counts
    whole: int = 0
    """Whole part of the sum over the records that these stand for; `fraction` (below 2**30) is the rest in units of
    2**-30."""
    fraction: int = 0
    low: float = np.inf
    high: float = -np.inf

    @classmethod
    def empty(cls, signal: Signal) -> Self:
        return cls(signal.scale, Counts())

    @classmethod
    def grouped(
        cls,
        signal: Signal,
        values: Floats,
        groups: Ints,
        number: int,
        session: Hashes,
        *,
        weight: Floats | None = None,
    ) -> list[Self]:
        """One summary for each group 0 .. `number` - 1 of the records."""
        seen = ~np.isnan(values)
        values, groups, session = values[seen], groups[seen], session[seen]
        cells = count_groups(grid_keys(values, signal.scale), groups, number, session, weight)
        whole = np.floor(np.clip(values, -(2.0**36), 2.0**36))
        part = np.rint(np.clip(values - whole, 0, 1) * _FRACTION).astype(np.int64)
        sums = np.zeros((2, number), np.int64)
        np.add.at(sums[0], groups, whole.astype(np.int64))
        np.add.at(sums[1], groups, part)
        totals = [(a << _FRACTION_BITS) + b for a, b in sums.T.tolist()]
        if weight is not None:
            totals = [total * steps >> STEP_BITS for total, steps in zip(totals, in_steps(weight), strict=True)]
        low, high = np.full(number, np.inf), np.full(number, -np.inf)
        np.minimum.at(low, groups, values)
        np.maximum.at(high, groups, values)
        return [
            cls(
                signal.scale,
                cells[g],
                total >> _FRACTION_BITS,
                total & (_FRACTION - 1),
                float(low[g]),
                float(high[g]),
            )
            for g, total in enumerate(totals)
        ]

    @property
    def n(self) -> int:
        return self.cells.n

    @property
    def sum(self) -> float:
        return self.whole + self.fraction / _FRACTION

    @property
    def mean(self) -> float | None:
        return self.sum / self.cells.population if self.n else None

    def merge(self, other: Self) -> Self:
        return self.merged([self, other])

    @classmethod
    def merged(cls, parts: list[Self]) -> Self:
        """The sum of one or more summaries. Raises ValueError where their grids differ."""
        if len({part.scale for part in parts}) > 1:
            raise ValueError("cannot add numeric summaries of different scales")
        fraction = sum(part.fraction for part in parts)
        return cls(
            parts[0].scale,
            merge_counts([part.cells for part in parts]),
            sum(part.whole for part in parts) + (fraction >> _FRACTION_BITS),
            fraction & (_FRACTION - 1),
            min(part.low for part in parts),
            max(part.high for part in parts),
        )

    def quantile(self, q: float) -> float | None:
        """The value below or at which a share `q` of the observations lies, to the width of a cell."""
        if not self.n:
            return None
        running = np.cumsum(self.cells.mass)
        reached = running >= min(q * self.n, running[-1])
        return float(np.clip(grid_values(self.scale)[self.cells.keys[reached.argmax()]], self.low, self.high))

    def dump(self) -> bytes:
        sums = (self.scale, self.whole, self.fraction, self.low, self.high)
        return pack("numeric", (sums, self.cells.arrays()))

    @classmethod
    def load(cls, data: bytes) -> Self:
        (scale, *sums), arrays = unpack("numeric", data)
        return cls(scale, Counts.of_arrays(arrays), *sums)
