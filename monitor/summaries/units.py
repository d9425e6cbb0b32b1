"""Units that lie in several slices: a session that goes on is one unit, however many slices its records are in.

The mean of slice s is a sum over its units j with parts a_js. Means of two slices then have covariance
W sum_j a_js a_jt from the units they share, W being how units differ, and a window with slice weights w_s varies by
W sum_j A_j^2 with A_j = sum_s w_s a_js.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from monitor.model import Floats, Hashes, Ints
from monitor.summaries.counts import Counts


@dataclass(frozen=True, slots=True)
class UnitParts:
    """The units of one slice, and the part that each has in the slice's mean."""

    session: Hashes
    """The kept sessions, ascending."""
    parts: Floats
    """Shape of `session`."""
    loose: float
    """Records without a session, each a unit of its own."""
    each: float
    """The part of such a record."""

    @classmethod
    def of(cls, cells: Counts) -> UnitParts:
        """The units of one slice, as `Counts.project` weighs them."""
        kept, records = cells.session_records()
        if cells.sampled:  # records weigh the same
            n = max(cells.n, 1)
            return cls(kept, records / n, cells.loose, 1 / n)
        units = max(cells.units(), 1)
        part = (units - cells.loose) / units / max(len(kept), 1)
        return cls(kept, np.full(len(kept), part), cells.loose, 1 / units)


def shared_by_window(slices: Sequence[UnitParts | None], weights: Floats) -> tuple[float, float]:
    """What shared units add to sum A_j^2, and sum A_j^3 over all units, of a window with these slice weights.

    >>> two = UnitParts(np.array([7], np.uint64), np.array([0.5]), 1, 0.5)
    >>> shared_by_window([two, two], np.array([0.5, 0.5]))
    (0.125, 0.15625)
    """
    held = [(s, w) for s, w in zip(slices, weights.tolist(), strict=True) if s is not None and w > 0]
    alone = sum(s.loose * (w * s.each) ** 3 for s, w in held)
    if not any(len(s.session) for s, _ in held):
        return 0.0, alone
    _, row = np.unique(np.concatenate([s.session for s, _ in held]), return_inverse=True)
    parts = np.concatenate([s.parts * w for s, w in held])
    together = np.bincount(row, parts)
    return float((together**2).sum() - (parts**2).sum()), float((together**3).sum()) + alone


def shared_by_lag(number: Ints, units: Floats, slices: Sequence[UnitParts], lags: int) -> Floats:
    """Mean of sum_j a_js a_jt over pairs of slices 1, 2, ... apart, weighted by sqrt(n_s n_t); 0 at lag 0.

    Parameters
    ----------
    number, units : number and units n_s of each slice, ascending; shape (R,)
    lags : how many, 0 among them

    """
    mean = np.zeros(lags)
    if not any(len(s.session) for s in slices):
        return mean
    root = np.sqrt(units)
    _, column = np.unique(np.concatenate([s.session for s in slices]), return_inverse=True)
    row = np.repeat(np.arange(len(slices)), [len(s.session) for s in slices])
    values = np.concatenate([s.parts for s in slices]) * root[row]
    table = sparse.csr_array((values, (row, column)))
    products = (table @ table.T).tocoo()
    lag = number[products.col] - number[products.row]
    inside = (lag > 0) & (lag < lags)
    sums = np.bincount(lag[inside], products.data[inside], minlength=lags)
    for one in range(1, lags):
        at = np.minimum(np.searchsorted(number, number + one), len(number) - 1)
        weight = float((root * root[at])[number[at] == number + one].sum())
        mean[one] = sums[one] / weight if weight > 0 else 0.0
    return mean
