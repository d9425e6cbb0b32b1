"""How fast a share changes: the slope of a straight line through what the evidence remembers of it.

The evidence keeps sums since starts four to an octave of age; the differences of neighbouring starts are the means of
stretches that do not overlap, the longer the further back. The line is that of least squares weighted by what the null
says of each mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monitor.evidence import SUMS, Evidence, students
from monitor.model import Flags, Floats, Ints, Reading
from monitor.readings.intervals import Z
from monitor.settings import DAY

LEAST_SLICES = 24
"""Slices of evidence from which on there is a slope."""
_LONGEST = 48
"""Slices over which swings are taken to go on like each other."""


class Trend(NamedTuple):
    """Change a day with its 95 % interval."""

    value: float
    low: float
    high: float
    unit: str

    @property
    def words(self) -> str:
        """As it is told to a person; '' of one without a clear direction.

        >>> Trend(0.008, 0.005, 0.011, "difference of rates a day").words
        'rising, difference of rates a day +0.008 (+0.005 to +0.011, 95 %)'
        >>> Trend(0.008, -0.005, 0.021, "difference of rates a day").words
        ''
        """
        if self.low <= 0 <= self.high:
            return ""
        way = "rising" if self.value > 0 else "falling"
        return f"{way}, {self.unit} {self.value:+.2g} ({self.low:+.2g} to {self.high:+.2g}, 95 %)"


def goes_on(trend: Trend, reading: Reading) -> bool:
    """Whether a line through the strongest stretch makes up the effect: of a ramp it does twice over, of a step not."""
    if reading.changed_at is None or reading.effect is None:
        return False
    moved = reading.effect
    if reading.kind == "category":
        moved = (reading.value or 0.0) - (reading.reference_value or 0.0)
    over = trend.value * (reading.at - reading.changed_at) / DAY
    return over * moved > 0 and abs(over) >= abs(moved)


class Slopes(NamedTuple):
    """Change of shares per slice with its 95 % interval; NaN where less is remembered. Shape (P,) each."""

    slope: Floats
    low: Floats
    high: Floats


def slopes(evidence: Evidence, rows: Ints, last: Ints | None = None) -> Slopes:
    """Of the shares at `rows`, over all that is remembered or the `last` slices, shape (P,), where a start lies so.

    A mean of k units in d slices has the variance a/k + b/d: a of a unit, as units go on from slice to slice, and b of
    what slices differ by beyond that, as much as it adds to a mean of up to 48 slices, so that what it shares from
    stretch to stretch is in it.
    """
    births = evidence.births[rows]
    order = np.argsort(np.where(births < 0, np.iinfo(np.int64).max, births), axis=1)
    begins = np.take_along_axis(births, order, axis=1)
    sums = np.take_along_axis(evidence.sums[rows], order[..., None], axis=1)
    now = evidence.step_number[rows][:, None]
    live = (begins >= 0) & (True if last is None else now - begins <= last[:, None])
    begins = np.where(begins >= 0, begins, now)
    sums = np.where(live[..., None], sums, 0)
    ends = np.concatenate([begins[:, 1:], now], axis=1)
    length = np.where(live, ends - begins, 0)
    whole = length.sum(axis=1)
    of_stretch = sums - np.concatenate([sums[:, 1:], np.zeros((len(rows), 1, SUMS))], axis=1)
    yes, units, inverse, _ = np.moveaxis(of_stretch, 2, 0)
    some = live & (units > 0) & (inverse > 0)
    known = np.where(some, units**2 / np.where(some, inverse, 1), 1.0)
    rate = np.where(some, yes / np.where(some, units, 1), 0.0)
    beyond = rate - _usual(evidence, rows, order, some, units)
    by_unit, by_slice, freedom = evidence.nulls.per_slice(rows, np.clip(whole, 1, _LONGEST))
    of_units, of_slices = by_unit[:, None] / known, by_slice[:, None] / np.maximum(length, 1)
    weight = np.where(some, 1 / (of_units + of_slices), 0.0)
    total = np.maximum(weight.sum(axis=1), 1e-300)
    middle = (begins + ends) / 2
    apart = middle - ((weight * middle).sum(axis=1) / total)[:, None]
    spread = (weight * apart**2).sum(axis=1)
    enough = (whole >= LEAST_SLICES) & (some.sum(axis=1) > 2) & (spread > 0)
    pull = weight * apart / np.where(enough, spread, 1)[:, None]
    slope, usual = (pull * beyond).sum(axis=1), (weight * rate).sum(axis=1) / total
    many = np.where(some, known, 0).sum(axis=1)
    usual = (usual * many + 0.5) / (many + 1)  # a share that was never seen, or always, is not known for sure
    variance, swing = 1 / np.where(enough, spread, 1), (pull**2 * of_slices).sum(axis=1)
    freedom = freedom * (variance / np.maximum(swing, 1e-9 * variance)) ** 2
    error = Z * students(freedom) * np.sqrt(np.maximum(usual * (1 - usual), 0) * variance)
    return Slopes(*(np.where(enough, end, np.nan) for end in (slope, slope - error, slope + error)))


def _usual(evidence: Evidence, rows: Ints, order: Ints, some: Flags, units: Floats) -> Floats:
    """What is usual of each stretch at its time of a cycle, which is no trend; 0 where there is no cycle."""
    if evidence.mix is None:
        return np.zeros_like(units)
    sums = np.take_along_axis(evidence.mix[rows, :, 0], order, axis=1)
    of_stretch = sums - np.concatenate([sums[:, 1:], np.zeros((len(rows), 1))], axis=1)
    return np.where(some, of_stretch / np.where(some, units, 1), 0.0)
