"""What the slices of a reference say of one signal, and how units differ within a slice. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from monitor.calibration.lags import LAGS
from monitor.calibration.season import Season
from monitor.model import Floats, Ints


@dataclass(frozen=True, slots=True)
class ReferenceSlices:
    """What the slices of a reference say of one signal in r bins; R slices are kept."""

    number: Ints
    """Slice numbers, ascending; gaps part the runs. Shape (R,)."""
    shares: Floats
    """Mean over units of the share in each bin; with a season, less what is usual at its time, plus the mean of all.
    Shape (R, r)."""
    units: Floats
    """Units in all, n_s. Shape (R,)."""
    seen: Floats
    """Units whose values are in the mean, k_s. Shape (R,)."""
    within: Floats
    """W: covariance of one unit's value within a slice. Shape (r, r)."""
    mean: Floats
    """Shares over the whole reference. Shape (r,)."""
    total: float
    """Units of the whole reference, kept slices or not."""
    lag_weights: Floats
    """sum w_s w_(s+l) over the whole reference at lags 0 .. 11. Shape (LAGS,)."""
    inverse: float
    """sum w_s^2/k_s over the whole reference."""
    shared: Floats = field(default_factory=lambda: np.zeros(LAGS))
    """sum over units of a_js a_jt for slices that lag apart (summaries.units), 0 at lag 0. Shape (LAGS,)."""
    stays: float = 0.0
    """The part of W that stays the same from slice to slice in a unit that lies in both."""
    fewer: float = 1.0
    """Of a sample, sum m_j over sum m_j^2 for the m_j records of each unit, on average over slices."""
    season: Season | None = None
    """What is usual at each time of a cycle, where the reference knows one."""


def multinomial_within(shares: Floats, units: Floats) -> Floats:
    """W where every unit lies in one bin: the pooled, unbiased covariance of an indicator within slices.

    Parameters
    ----------
    shares : (R, r)
    units : (R,)

    """
    weight = np.where(units > 1, units / np.maximum(units - 1, 1), 0) * units
    total = max(float(units[units > 1].sum()), 1.0)
    centre = (weight @ shares) / total
    return np.diag(centre) - (shares * weight[:, None]).T @ shares / total


def like_reference(effective: float, records: int, stays: float, fewer: float) -> float:
    """Units of a sample, counted in units of the reference's sample.

    The mean of units of m_j records varies by b + w (sum m_j)/(sum m_j^2), b being how units differ and w how records
    of one do. More traffic leaves fewer records of each unit in a sample, so that its mean varies by more. Where there
    are more of each than in the reference, as much less is made of it as `fewer` tells little of w.

    Parameters
    ----------
    effective : (sum m_j)^2/(sum m_j^2)
    records : sum m_j
    stays, fewer : of the reference

    >>> round(like_reference(100.0, 100, 0.25, 0.2), 2)  # one record of each, not five: each varies by 4 times as much
    25.0
    """
    beyond = effective / max(records, 1) / fewer - 1
    return effective / (1 + (1 - stays) * beyond * (1.0 if beyond > 0 else 1 - fewer))


def vector_within(
    rows: Floats, of: Ints, sizes: Ints, *, means: Floats, seen: Floats, agreement: Floats
) -> tuple[Floats, tuple[float, float, float]]:
    """W of means over records that come in units; tr(WW), tr(WWW) without the bias of estimates, mean of (x_i'x_j)^3.

    A slice's mean of M records varies by sum m_j^2 (x_j - x)(x_j - x)'/M^2, x_j being the mean of the m_j records of a
    unit; W is that by the effective number of units M^2/sum m_j^2. Its trace follows from the lengths of the means
    alone. Its shape comes from some units of each slice, drawn by their records (hence one more m_j as their weight),
    and the others from units that are not the same, for pairs those of different slices; cubes weigh by m_j^3.

    Parameters
    ----------
    rows : means of some units, shape (n, p)
    of, sizes : slice and records of each, shape (n,)
    means : of all records of each slice, shape (R, p)
    seen : effective number of units of each slice, shape (R,)
    agreement : mean squared length of x_j in each slice, weighted by m_j^2; shape (R,)

    """
    weight = np.where(seen > 1 + 1e-6, seen**2 / np.maximum(seen - 1, 1e-6), 0)
    spread = np.maximum(agreement - (means**2).sum(axis=1), 0)
    trace = float(weight @ spread) / max(float(seen[weight > 0].sum()), 1e-300)
    centred = (rows - means[of]) * np.sqrt(sizes)[:, None]
    shape = centred.T @ centred
    size = float(np.trace(shape))
    if len(rows) < 2 or size <= 0 or trace <= 0:
        return np.zeros_like(shape), (0.0, 0.0, 0.0)
    apart = of[:, None] != of
    weights, products = (sizes[:, None] * sizes)[apart].astype(np.float64), (centred @ centred.T)[apart]
    pairs = max(float(weights.sum()), 1.0)
    squares = float((products**2).sum()) / pairs
    cubes = float((products**3 * np.sqrt(weights)).sum()) / max(float((weights**2).sum()), 1.0)
    scale, own = trace * float(sizes.sum()) / size, (centred**2).sum(axis=1)
    # Of the trace of the cube, what comes of one unit twice or thrice is left out.
    twice = 3 * float(own @ ((centred @ shape) * centred).sum(axis=1)) - 2 * float((own**3).sum())
    triples = max(float(sizes.sum()) ** 3, 1.0)
    cube = max(float((shape @ shape * shape).sum()) - twice, 0) / triples
    return shape * (trace / size), (squares * scale**2, cube * scale**3, cubes * scale**3)
