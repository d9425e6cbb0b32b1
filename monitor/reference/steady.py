"""Whether a learning period was steady: its first part held against its last, cut where they differ most. Pure."""

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
"""The probability of what the parts of a learning period differ by, below which they differ."""
_UNSTEADY_SHARE = 0.05
"""The least share of records that lies in other bins in the other part; of rates see `bins_differ`."""
_UNSTEADY_VECTORS = 0.02
"""The least share of records that must have been replaced."""
Powers = tuple[float, float, float]
"""tr(WW), tr(WWW) and the mean of (x'y)^3."""


_CUTS = 8
"""A learning period is cut at one of the ends of its eighths but the last."""


def cut(rows: ReferenceSlices) -> tuple[ReferenceSlices, Floats] | None:
    """How the two parts of a reference differ, and the reference that this difference is to be held against.

    It is cut at that eighth where the parts differ most for their sizes. Slices are centred on the mean of their own
    part, so that what the parts differ by is no part of how much slices differ; the weights are those of a difference
    of two parts. None where there are too few slices to tell.
    """
    live = np.flatnonzero(rows.seen > 0)
    if len(live) < 4 * LAGS:
        return None
    running = np.cumsum(rows.units[live])
    sums = np.cumsum(rows.units[live, None] * rows.shares[live], axis=0)
    ends = np.array([len(live) * i // _CUTS for i in range(1, _CUTS)])
    before, after = running[ends - 1], running[-1] - running[ends - 1]
    gaps = sums[ends - 1] / before[:, None] - (sums[-1] - sums[ends - 1]) / after[:, None]
    end = int(ends[((gaps**2).sum(axis=1) / (1 / before + 1 / after)).argmax()])
    shares, means = rows.shares.copy(), []
    lags, inverse = np.zeros(LAGS), 0.0
    for part in (live[:end], live[end:]):
        n, total = rows.units[part], float(rows.units[part].sum())
        means.append(n @ rows.shares[part] / total)
        shares[part] += rows.mean - means[-1]
        lags += np.array([lag_sum(rows.number[part], n, lag) for lag in range(LAGS)]) / total**2
        inverse += float((n**2 / rows.seen[part]).sum()) / total**2
    return replace(rows, shares=shares, lag_weights=lags, inverse=inverse), means[1] - means[0]


def _by_chance(terms: NullTerms, squared: float) -> tuple[float, float]:
    """The probability that some cut makes a difference at least this large, and what is expected of its square."""
    nothing = np.zeros((1, SLICES))  # the weights of both parts are in the terms
    moments = null_moments(stack_terms([terms]), nothing, nothing)
    return float(tail(np.array([squared]), moments)[0]) * (_CUTS - 1), float(moments.trace[0])


def bins_differ(signal: Signal, rows: ReferenceSlices) -> bool:
    """Whether a distribution over bins was not the same in both parts; of rates by half a point and by a quarter."""
    found = cut(rows)
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
    """Whether vectors were not the same in both parts, by the share of records that must have been replaced."""
    found = cut(rows)
    if found is None or not far:
        return False
    centred, moved = found
    squared = float((moved**2).sum())
    if np.sqrt(squared) / far < _UNSTEADY_VECTORS:
        return False
    probability, expected = _by_chance(vector_terms(centred, powers), squared)
    return probability < UNSTEADY and bool(np.sqrt(max(squared - expected, 0)) / far >= _UNSTEADY_VECTORS)
