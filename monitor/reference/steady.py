"""Whether a learning period was steady: its halves held against each other. Pure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from monitor.calibration import (
    LAGS,
    NullTerms,
    ReferenceSlices,
    null_moments,
    null_terms,
    stack_terms,
    tail,
    vector_terms,
)
from monitor.model import Floats, Signal
from monitor.reference.units import lag_sum
from monitor.windows import SLICES

UNSTEADY = 1e-6
"""The probability of what the halves of a learning period differ by, below which they differ."""
_UNSTEADY_SHARE = 0.05
"""The least share of records that lies in other bins in the other half; of rates see `_halves_differ`."""
_UNSTEADY_VECTORS = 0.02
"""The least share of records that must have been replaced."""
Powers = tuple[float, float, float]
"""tr(WW), tr(WWW) and the mean of (x'y)^3."""


def halves(rows: ReferenceSlices) -> tuple[ReferenceSlices, Floats] | None:
    """How the halves of a reference differ, and the reference that this difference is to be held against.

    Slices are centred on the mean of their own half, so that what the halves differ by is no part of how much slices
    differ; the weights are those of a difference of two halves. None where there are too few slices to tell.
    """
    live = np.flatnonzero(rows.seen > 0)
    if len(live) < 4 * LAGS:
        return None
    shares, means = rows.shares.copy(), []
    lags, inverse = np.zeros(LAGS), 0.0
    for half in np.array_split(live, 2):
        n, total = rows.units[half], float(rows.units[half].sum())
        means.append(n @ rows.shares[half] / total)
        shares[half] += rows.mean - means[-1]
        lags += np.array([lag_sum(rows.number[half], n, lag) for lag in range(LAGS)]) / total**2
        inverse += float((n**2 / rows.seen[half]).sum()) / total**2
    return replace(rows, shares=shares, lag_weights=lags, inverse=inverse), means[1] - means[0]


def _by_chance(terms: NullTerms, squared: float) -> tuple[float, float]:
    """The probability of a difference of two halves at least this large, and what is expected of its square."""
    nothing = np.zeros((1, SLICES))  # the weights of both halves are in the terms
    moments = null_moments(stack_terms([terms]), nothing, nothing)
    return float(tail(np.array([squared]), moments)[0]), float(moments.trace[0])


def halves_differ(signal: Signal, rows: ReferenceSlices) -> bool:
    """Whether a distribution over bins was not the same in both halves; of rates by half a point and by a quarter."""
    found = halves(rows)
    if found is None:
        return False
    centred, moved = found
    least = _UNSTEADY_SHARE
    if signal.kind == "rate":
        least = max(0.005, float(rows.mean.min()) / 4)
    if float(np.abs(moved).sum()) / 2 < least:
        return False
    bins = len(rows.mean)
    probability, _ = _by_chance(null_terms(centred, np.arange(bins), np.ones(bins)), float((moved**2).sum()))
    return probability < UNSTEADY


def vectors_differ(rows: ReferenceSlices, powers: Powers, far: float) -> bool:
    """Whether vectors were not the same in both halves, by the share of records that must have been replaced."""
    found = halves(rows)
    if found is None or not far:
        return False
    centred, moved = found
    squared = float((moved**2).sum())
    if np.sqrt(squared) / far < _UNSTEADY_VECTORS:
        return False
    probability, expected = _by_chance(vector_terms(centred, powers), squared)
    return probability < UNSTEADY and np.sqrt(max(squared - expected, 0)) / far >= _UNSTEADY_VECTORS
