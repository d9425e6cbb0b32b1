"""Slices that lie apart: how far they are looked at, and which they are. Pure."""

from __future__ import annotations

import numpy as np

from monitor.model import Ints

LAGS = 12
"""Lags 0 .. 11 of slice means are estimated: a window is twelve slices."""


def lag_pairs(number: Ints, lag: int) -> tuple[Ints, Ints]:
    """Places of the slices, given their numbers, that lie `lag` apart.

    >>> [part.tolist() for part in lag_pairs(np.array([3, 4, 7, 8]), 1)]
    [[0, 2], [1, 3]]
    """
    at = np.searchsorted(number, number + lag)
    first = np.flatnonzero((at < len(number)) & (number[np.minimum(at, len(number) - 1)] == number + lag))
    return first, at[first]
