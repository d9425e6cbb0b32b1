"""Whether a learning period was steady, and if not, what course it took. Pure.

Its first part is held against its last, cut where they differ most; `monitor.reference.course` looks for trends and
cycles.
"""

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
from monitor.reference.course import Span, course
from monitor.reference.units import lag_sum
from monitor.windows import SLICES

UNSTEADY = 1e-6
"""The probability of what the parts of a learning period differ by, below which they differ."""
_UNSTEADY_SHARE = 0.05
"""The least share of records that lies in other bins in the other part; of rates see `bins_course`."""
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


def bins_course(signal: Signal, rows: ReferenceSlices, span: Span) -> str:
    """How a distribution over bins was not steady, "" where it was; of rates by half a point and by a quarter."""
    least = _UNSTEADY_SHARE
    if signal.kind == "rate":
        least = max(0.005, float(rows.mean.min()) / 4)

    def matters(moved: Floats) -> bool:
        return float(np.abs(moved).sum()) / 2 >= least

    found, stepped = cut(rows), False
    if found is not None and matters(found[1]):
        centred, moved = found
        bins = len(rows.mean)
        terms = null_terms(centred, np.arange(bins), np.ones(bins))
        stepped = _by_chance(terms, float((moved**2).sum()))[0] < UNSTEADY
    return course(rows, span, level=UNSTEADY, matters=matters, stepped=stepped)


def vectors_course(rows: ReferenceSlices, powers: Powers, far: float, span: Span) -> str:
    """How vectors were not steady, "" where they were, by the share of records that must have been replaced."""
    if not far:
        return ""

    def matters(moved: Floats, expected: float = 0.0) -> bool:
        return bool(np.sqrt(max(float((moved**2).sum()) - expected, 0)) / far >= _UNSTEADY_VECTORS)

    found, stepped = cut(rows), False
    if found is not None and matters(found[1]):
        centred, moved = found
        probability, expected = _by_chance(vector_terms(centred, powers), float((moved**2).sum()))
        stepped = probability < UNSTEADY and matters(moved, expected)
    return course(rows, span, level=UNSTEADY, matters=matters, stepped=stepped)
