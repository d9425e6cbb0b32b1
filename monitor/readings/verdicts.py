"""What evidence comes to, of whatever table: that of a series, its verdict, and when a decision is over. Pure."""

from __future__ import annotations

import math

import numpy as np

from monitor.model import Flags, Floats, Ints, Verdict
from monitor.readings.lacking import LEAST_REFERENCE_UNITS, LEAST_UNITS
from monitor.windows import SLICES


def verdict_of(units: int, reference_units: float, *, drift: bool, seen: bool) -> Verdict:
    """What is said of a window.

    Parameters
    ----------
    units, reference_units : in the window, and those that say what is usual
    seen : whether a change that matters would have shown

    >>> verdict_of(30, 1000, drift=True, seen=True), verdict_of(300, 1000, drift=False, seen=False)
    ('insufficient', 'insufficient')
    """
    if units < LEAST_UNITS or reference_units < LEAST_REFERENCE_UNITS:
        return "insufficient"
    if drift:
        return "drift"
    return "ok" if seen else "insufficient"


def number(value: float | np.float64) -> float | None:
    """JSON knows no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


def mean_log(of_shares: Floats, first: Ints) -> Floats:
    """Log of the mean e-value over the shares of each series, which is an e-value; -inf where it has none.

    Parameters
    ----------
    first : of each series its first share, and at the end how many there are

    >>> mean_log(np.log([1.0, 3.0, 5.0]), np.array([0, 2, 2, 3])).round(3).tolist()  # means 2, none and 5
    [0.693, -inf, 1.609]
    """
    counts = np.diff(first)
    found, some = np.full(len(counts), -np.inf), counts > 0
    begins, counts = first[:-1][some], counts[some]
    if len(begins):
        most = np.maximum.reduceat(of_shares, begins)
        shift = np.where(np.isfinite(most), most, 0.0)
        sums = np.add.reduceat(np.exp(of_shares - np.repeat(shift, counts)), begins)
        found[some] = np.where(sums > 0, shift + np.log(np.maximum(sums, 1e-300) / counts), -np.inf)
    return found


def followed(decided: Flags, quiet: Flags, calm: Ints) -> tuple[Flags, Ints, list[int]]:
    """Decisions that stand, the slices for which each has been calm, and the series that were so for a whole window.

    Of these the decision is over, and the evidence is to begin anew.

    Parameters
    ----------
    quiet : whether the window shows nothing that matters, or nothing at all
    calm : slices for which that was so before

    >>> drifting, calm, over = followed(np.array([True, True]), np.array([True, False]), np.array([11, 11]))
    >>> drifting.tolist(), calm.tolist(), over
    ([False, True], [0, 0], [0])
    """
    calm = np.where(decided & quiet, calm + 1, 0)
    over = calm >= SLICES
    return decided & ~over, np.where(over, 0, calm), np.flatnonzero(over).tolist()
