"""The null of a window: its moments, its tail, and the change that it would have shown. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from monitor.calibration.lags import LAGS
from monitor.calibration.terms import BOTH_SIDES, NullTerms
from monitor.model import Floats

SUPPORTED = 1e-6
"""Tail probabilities that simulation supports; readings below say so."""
_POWER = 1.2816
"""Normal quantile of the 90 % power that `detectable` stands for."""
_TWO_SIDED, _ABOVE = 1.96, 0.025
"""Normal quantile of a 95 % interval, and the probability beyond it."""


@dataclass(frozen=True, slots=True)
class NullMoments:
    """What one window's statistic is measured by. Shape (S,) each."""

    trace: Floats
    """tr(DC), its mean."""
    square: Floats
    """tr(DCDC), half of its variance."""
    lead: Floats
    """The greatest eigenvalue of DC."""
    rank: Floats
    """How many eigenvalues there are at most."""
    freedom: Floats
    """Degrees of freedom of the noise in `trace`."""


def null_moments(
    terms: NullTerms, units: Floats, seen: Floats, shared: Floats | None = None, cubes: Floats | None = None
) -> NullMoments:
    """The moments for windows of S series.

    Parameters
    ----------
    units, seen : n_s and k_s of each of the twelve slices, shape (S, 12)
    shared, cubes : what units in several slices add to sum A_j^2, and sum A_j^3, shape (S,); without them no unit does

    """
    units = np.where(seen > 0, units, 0)
    share = units / np.maximum(units.sum(axis=1, keepdims=True), 1)
    lags = [(share[:, : LAGS - lag] * share[:, lag:]).sum(axis=1) for lag in range(LAGS)]
    kernel = BOTH_SIDES * (np.stack(lags, axis=1) + terms.lag_weights)
    even = BOTH_SIDES * ((LAGS - np.arange(LAGS)) / LAGS**2 + terms.lag_weights)
    each = np.where(seen > 0, seen, 1)
    own = (share**2 / each).sum(axis=1) + terms.inverse + terms.shared
    most = own  # what is alike in a session lies in few directions: there all of W stays
    if shared is not None:
        own, most = own + terms.stays * shared, own + shared
    between = np.where(terms.within > 0, np.maximum((kernel * terms.between).sum(axis=1), 0), 0)
    usable = (terms.nominal > 0) & (between > 0)
    ratio = np.where(usable, between / np.where(usable, terms.nominal, 1), 0)
    like_within = between / np.maximum(terms.within, 1e-150)
    cross = np.where(usable, ratio * terms.cross, like_within * terms.within_square)
    square = np.where(usable, ratio**2 * terms.square, like_within**2 * terms.within_square)
    trace = own * terms.within + between
    total = most**2 * terms.within_square + 2 * most * cross + square
    total = np.clip(total, trace**2 / terms.rank, trace**2)
    along = ratio * np.maximum(terms.lead_between, 0)
    if np.any(terms.within_cube):  # many directions: by noise alone one seems greater than all together
        along = np.minimum(along, between)
    lead = most * terms.lead_within + along
    lead = np.asarray(np.clip(lead, total / np.maximum(trace, 1e-300), trace), np.float64)
    noise = terms.noise * (kernel.sum(axis=1) / even.sum(axis=1)) ** 2
    if np.any(terms.within_cube):
        cubes = (share**3 / each**2).sum(axis=1) if cubes is None else cubes
        third = terms.within_cube * (total / np.maximum(terms.within_square, 1e-300)) ** 1.5
        lead = raised_lead(trace, total, lead, third + terms.skew * cubes**2 / 2)
        noise = noise * _above_nothing((kernel * terms.between).sum(axis=1) / np.sqrt(np.maximum(noise, 1e-300)))
    return NullMoments(
        trace, total, np.asarray(lead), terms.rank, np.clip(2 * trace**2 / np.maximum(noise, 1e-300), 4, 1e6)
    )


def _above_nothing(z: Floats) -> Floats:
    """Variance of max(0, z + e), e standard normal: what is left of an estimate's noise where it counts from 0 on.

    >>> _above_nothing(np.array([-4.0, 0.0, 4.0])).round(3).tolist()
    [0.0, 0.341, 1.0]
    """
    density, below = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), special.ndtr(z)
    mean = density + z * below
    left: Floats = np.maximum((1 + z**2) * below + z * density - mean**2, 0)
    return left


def raised_lead(trace: Floats, square: Floats, lead: Floats, third: Floats) -> Floats:
    """The lead that gives lead X_1 + weight X_m an eighth of the third cumulant of at least `third`.

    The lead alone says too little of the tail where many eigenvalues fall off slowly.
    """

    def reached(lead: Floats) -> Floats:
        rest = np.maximum(trace - lead, 1e-12 * trace)
        return lead**3 + np.maximum(square - lead**2, 0) ** 2 / np.maximum(rest, 1e-300)

    low, high = lead, np.maximum(np.sqrt(square), lead)
    wanted = np.maximum(reached(low), third)
    for _ in range(40):
        middle = (low + high) / 2
        short = reached(middle) < wanted
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.asarray(low, np.float64)


def _weights(null: NullMoments) -> tuple[Floats, Floats, Floats]:
    """Lead, weight and m of the sum lead X_1 + weight X_m with these moments (no less than what the rank demands)."""
    trace = np.maximum(null.trace - null.lead, 0)
    square = np.maximum(null.square - null.lead**2, trace**2 / null.rank)
    some = trace > 1e-9 * null.trace
    weight = np.where(some, np.minimum(square / np.where(some, trace, 1), null.lead), null.lead)
    return null.lead, weight, np.where(some, trace / np.maximum(weight, 1e-300), 0)


def tail(statistic: Floats, null: NullMoments) -> Floats:
    """Probability of a statistic at least this large when nothing changed.

    Saddlepoint approximation (Lugannani and Rice 1980) to P(lead X_1 + weight X_m - statistic X_f/f > 0) for
    independent chi-squares with 1, m and f degrees of freedom.

    >>> null = NullMoments(np.array([4.0]), np.array([4.0]), np.array([1.0]), np.array([4.0]), np.array([1e6]))
    >>> [round(float(tail(np.array([x]), null)[0]), n) for x, n in ((9.488, 3), (37.33, 8))]  # chi-square(4)
    [0.05, 1.6e-07]
    """
    lead, weight, m = _weights(null)
    live = (lead > 0) & (statistic > null.trace * (1 + 1e-6))
    lead, weight = np.where(live, lead, 1.0), np.where(live, weight, 1.0)
    freedom, pull = null.freedom, np.where(live, statistic, 4.0) / null.freedom
    low, high = np.zeros_like(lead), 0.5 / lead
    for _ in range(44):
        theta = (low + high) / 2
        slope = lead / (1 - 2 * theta * lead) + m * weight / (1 - 2 * theta * weight)
        slope -= freedom * pull / (1 + 2 * theta * pull)
        low, high = np.where(slope < 0, theta, low), np.where(slope < 0, high, theta)
    theta = low
    a, b, c = 1 - 2 * theta * lead, 1 - 2 * theta * weight, 1 + 2 * theta * pull
    exponent = -(np.log(a) + m * np.log(b) + freedom * np.log(c)) / 2
    curve = 2 * ((lead / a) ** 2 + m * (weight / b) ** 2 + freedom * (pull / c) ** 2)
    w = np.sqrt(np.maximum(-2 * exponent, 1e-12))
    u = np.maximum(theta * np.sqrt(curve), 1e-12)
    beyond = special.ndtr(-w) + np.exp(-(w**2) / 2) / np.sqrt(2 * np.pi) * (1 / u - 1 / w)
    body = special.betainc(freedom / 2, 0.5, freedom / (freedom + statistic / np.maximum(null.trace, 1e-300)))
    return np.clip(np.where(live & (w > 0.05), beyond, np.maximum(body, 0.3)), 0, 1).astype(np.float64)


def critical(p_value: Floats, null: NullMoments) -> Floats:
    """The statistic whose tail is `p_value`, to about a tenth of it.

    Begins where a shifted F with the same three moments (Pearson, Biometrika 1959) has that tail, and takes two secant
    steps on the logarithm of the tail, which is nearly straight.
    """
    wanted = np.log(p_value)
    before = _shifted_f(p_value, null)
    missed = np.log(np.maximum(tail(before, null), 1e-300)) - wanted
    after = before + 2 * null.lead * missed  # no tail falls faster than that of its greatest term
    for _ in range(2):
        still = np.log(np.maximum(tail(after, null), 1e-300)) - wanted
        moved = np.where(
            np.abs(missed - still) > 1e-9, (after - before) / np.where(missed == still, 1, missed - still), 0
        )
        before, missed, after = after, still, after + np.clip(moved * still, -after / 2, after)
    return np.asarray(after, np.float64)


def _shifted_f(p_value: Floats, null: NullMoments) -> Floats:
    lead, weight, m = _weights(null)
    third = lead**3 + m * weight**3
    square = lead**2 + m * weight**2
    scale = third / np.maximum(square, 1e-150)
    a, b = null.freedom / 2, square**3 / np.maximum(third, 1e-150) ** 2 / 2
    y = special.betaincinv(a, b, p_value)
    beyond: Floats = null.trace - 2 * b * scale + 2 * b * scale * a * (1 - y) / (b * np.maximum(y, 1e-300))
    return beyond


def needed_shift(p_value: Floats, null: NullMoments) -> Floats:
    """The d'Dd of a true change that a window flags at `p_value` with 90 % power (normal approximation).

    A change of size v adds v to the mean of the statistic and at most 4 v times the lead to its variance.
    """
    beyond = critical(p_value, null) - null.trace
    slope = _POWER**2 * 4 * null.lead
    half = beyond + slope / 2
    inside = half**2 - (beyond**2 - _POWER**2 * 2 * null.square)
    return np.maximum(half + np.sqrt(np.maximum(inside, 0)), 0)


def shift_ends(statistic: Floats, null: NullMoments) -> tuple[Floats, Floats]:
    """The 95 % interval of the d'Dd of the true change behind a statistic (normal approximation), from 0 on.

    What a change adds to the mean and variance of the statistic is as in `needed_shift`; below stands the null's own
    tail, which is skew, above the deviation that it would be normal with.
    """
    beyond, slope = statistic - null.trace, _TWO_SIDED**2 * 4 * null.lead
    half = beyond + slope / 2
    least = critical(np.full_like(statistic, _ABOVE), null) - null.trace
    most = _TWO_SIDED**2 * 2 * null.square
    low = half - np.sqrt(np.maximum(half**2 - (beyond**2 - least**2), 0))
    high = half + np.sqrt(np.maximum(half**2 - (beyond**2 - most), 0))
    return np.where(beyond > least, np.maximum(low, 0), 0), np.maximum(high, 0)
