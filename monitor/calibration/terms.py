"""Sums over a reference from which the null of any window follows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from scipy import linalg

from monitor.calibration.lags import LAGS, lag_pairs
from monitor.calibration.within import ReferenceSlices
from monitor.model import Floats, Ints

FEW_SLICES = 70
"""Slices of a reference below which the null of vectors is widened."""
_NARROW = 128
"""Bins above which matrices are too large for what is good enough for few."""
_NOTHING = 1e-12
"""Variance below which a signal is a constant with rounding errors."""
_CLEARLY = 2 * np.sqrt(2)
"""Two standard errors of tr(Gamma_l^2) over P pairs of slices that do not correlate, in units of tr(Gamma_0^2)/P."""
BOTH_SIDES: Floats = np.array([1.0, *([2.0] * (LAGS - 1))])
"""A lag counts once for each direction."""


@dataclass(frozen=True, slots=True)
class NullTerms:
    """Sums over a reference from which tr(DC) and tr(DCDC) of any window follow. One series, or many stacked."""

    within: Floats
    """tr(DW)."""
    within_square: Floats
    """tr(DWDW)."""
    between: Floats
    """tr(D B_l) at lags 0 .. 11. Shape (..., LAGS)."""
    nominal: Floats
    """tr(D C_B) for a window of equal slices, C_B being the part of C that B makes."""
    cross: Floats
    """tr(DW D C_B) of the same."""
    square: Floats
    """tr(D C_B D C_B) of the same."""
    noise: Floats
    """Variance of the estimate of tr(D C_B) of the same."""
    lead_within: Floats
    """v'DWv in the direction v in which C_B is greatest."""
    lead_between: Floats
    """v'D C_B v of the same, measured on slices that v does not come from."""
    rank: Floats
    """Free dimensions of d."""
    lag_weights: Floats
    inverse: Floats
    within_cube: Floats = field(default_factory=lambda: np.zeros(()))
    """tr(DWDWDW); 0 where the lead tells enough of the skewness."""
    skew: Floats = field(default_factory=lambda: np.zeros(()))
    """Mean of (x'Dy)^3 over independent units: what makes windows of few units skewer than normal means would be."""
    stays: Floats = field(default_factory=lambda: np.zeros(()))
    """The part of W that stays the same from slice to slice in a unit that lies in both."""
    shared: Floats = field(default_factory=lambda: np.zeros(()))
    """What units in several slices of the reference add to `inverse`."""
    fewer: Floats = field(default_factory=lambda: np.ones(()))
    """As in ReferenceSlices."""


def stack_terms(terms: Sequence[NullTerms]) -> NullTerms:
    """Terms of many series as one, series first."""
    return NullTerms(*(np.stack([getattr(term, f.name) for term in terms]) for f in fields(NullTerms)))


def null_terms(slices: ReferenceSlices, labels: Ints, metric: Floats) -> NullTerms:
    """The terms of one series for bins pooled by `labels`.

    Parameters
    ----------
    labels : pooled bin of each of the r bins
    metric : diagonal of D, one weight a pooled bin

    """
    root = np.sqrt(metric)
    onto = np.zeros((len(labels), len(metric)))
    onto[np.arange(len(labels)), labels] = root[labels]
    within = onto.T @ slices.within @ onto
    if np.trace(within) < _NOTHING:
        within = np.zeros_like(within)
    x = (slices.shares[slices.seen > 0] - slices.mean) @ onto
    return _terms(slices, x, within, float((within * within).sum()), float(max(len(metric) - 1, 1)))


def vector_terms(slices: ReferenceSlices, powers: tuple[float, float, float]) -> NullTerms:
    """The terms of one series of vectors for the squared distance of mean features, D = I.

    With fewer than FEW_SLICES slices the mean of the statistic is widened, the more the fewer there are.

    Parameters
    ----------
    slices : features in the place of shares
    powers : what `vector_within` says beside W, which would be too large if taken from it

    """
    x = slices.shares[slices.seen > 0] - slices.mean
    square, cube, skew = powers
    terms = _terms(slices, x, slices.within, square, float(len(slices.mean)))
    terms = replace(terms, within_cube=np.asarray(cube), skew=np.asarray(skew))
    if len(x) >= FEW_SLICES:
        return terms
    wider = 1 + 0.5 * np.sqrt(1 / max(len(x), 1) - 1 / FEW_SLICES)
    return replace(terms, within=terms.within * wider, between=terms.between * wider)


def _terms(slices: ReferenceSlices, x: Floats, within: Floats, square: float, rank: float) -> NullTerms:
    """The terms from residuals `x` of the slices that were seen and from W, both in the metric D."""
    live = slices.seen > 0
    trace = float(np.trace(within))
    number, units = slices.number[live], slices.units[live]
    u = x * np.sqrt(units)[:, None]
    inverse_seen = float((units / slices.seen[live]).sum() / units.sum())
    pairs, weight, between = _lag_products(number, units, u)
    between[0] -= trace * inverse_seen
    kernel = BOTH_SIDES * ((LAGS - np.arange(LAGS)) / LAGS**2 + slices.lag_weights)
    if slices.season is None:
        between -= trace * slices.stays * slices.shared
        shrink = _shrinkage(between, slices, trace)
        between += shrink * trace
        of_residuals, own = kernel, shrink * kernel.sum() - kernel[0] * inverse_seen
    else:
        between = slices.season.given_back(between, trace) - trace * slices.stays * slices.shared
        of_residuals = slices.season.for_residuals(kernel)
        own = -of_residuals[0] * inverse_seen - float(of_residuals @ slices.season.own)
    own -= float(kernel @ slices.shared)
    link = _link(pairs, weight, of_residuals, len(u))
    y = link @ u
    across = _across(u, within, y)
    lead_within, lead_between = _lead(u, link, within, own)
    return NullTerms(
        within=np.asarray(trace),
        within_square=np.asarray(square),
        between=between,
        nominal=np.asarray(float(kernel @ between)),
        cross=np.asarray(across + own * square),
        square=np.asarray(_product_square(u, y) + 2 * own * across + own**2 * square),
        noise=np.asarray(_noise(u, pairs, link)),
        lead_within=np.asarray(lead_within),
        lead_between=np.asarray(lead_between),
        rank=np.asarray(rank),
        lag_weights=slices.lag_weights,
        inverse=np.asarray(slices.inverse),
        stays=np.asarray(slices.stays),
        shared=np.asarray(slices.stays * float(BOTH_SIDES * slices.lag_weights @ slices.shared)),
        fewer=np.asarray(slices.fewer),
    )


def _lag_products(number: Ints, units: Floats, u: Floats) -> tuple[list[tuple[Ints, Ints]], Floats, Floats]:
    """Per lag: the pairs of slices that far apart, their total weight, and the mean product u_s'u_(s+l)."""
    pairs, weight, product = [], np.zeros(LAGS), np.zeros(LAGS)
    for lag in range(LAGS):
        first, second = lag_pairs(number, lag)
        weight[lag] = np.sqrt(units[first] * units[second]).sum()
        if weight[lag] > 0:
            product[lag] = np.einsum("sb,sb->", u[first], u[second]) / weight[lag]
        pairs.append((first, second))
    return pairs, weight, product


def _link(pairs: Sequence[tuple[Ints, Ints]], weight: Floats, kernel: Floats, count: int) -> Floats:
    """The R x R matrix K with sum over lags of kernel_l B_l = sum over s, t of K_st u_s u_t'."""
    link = np.zeros((count, count))
    for lag, (first, second) in enumerate(pairs):
        if weight[lag] > 0:
            link[first, second] += kernel[lag] / weight[lag]
    return link


def _shrinkage(between: Floats, slices: ReferenceSlices, trace: float) -> float:
    """Residuals about the reference's own mean are too small by that mean's variance, here as a multiple of W."""
    if trace <= 0:  # a constant: nothing differs between units
        return 0.0
    share = BOTH_SIDES * slices.lag_weights
    variance = slices.inverse + float(share @ (between / trace + slices.stays * slices.shared))
    return max(variance, 0.0) / max(1 - float(share.sum()), 0.25)


def _product_square(u: Floats, y: Floats) -> float:
    """tr(U^2) of U = sum of the symmetric parts of u_s y_s', without the products of a slice with itself."""
    cross = u @ y.T
    products = (u @ u.T) * (y @ y.T) + cross * cross.T
    return float(products.sum() - np.trace(products)) / 2


def _noise(u: Floats, pairs: Sequence[tuple[Ints, Ints]], link: Floats) -> float:
    """Variance of tr(U): 2 tr(K G K G) for Gaussian slices, G holding the root of tr(Gamma_l^2) at each lag.

    tr(Gamma_l^2), Gamma_l the autocovariance of the u_s, leaves out the products of a slice with itself, and counts
    where it is beyond two standard errors of none.
    """
    gram, reach, spread = u @ u.T, np.zeros((len(u), len(u))), 0.0
    for first, second in pairs:
        if len(first) > 1:
            product = gram[np.ix_(first, first)] * gram[np.ix_(second, second)]
            square = float(product.sum() - np.trace(product)) / (len(first) * (len(first) - 1))
            spread = max(spread, square)  # the first lag is 0
            if square > _CLEARLY * spread / len(first):
                reach[first, second] = reach[second, first] = np.sqrt(square)
    both = (link + link.T) / 2 @ reach
    return 2 * float((both * both.T).sum())


def _lead(u: Floats, link: Floats, within: Floats, own: float) -> tuple[float, float]:
    """Pair (v'Wv, v'C_B v) for the direction v that is greatest in C_B, widened by two standard errors.

    Measured along its own direction the greatest eigenvalue is too large, and measured on one half of the slices along
    the direction that the other half gave too small; the mean of both is taken.
    """
    half, everything = len(u) // 2, slice(None)
    if half < 2:
        return float(np.linalg.eigvalsh(within)[-1]), 0.0
    early, late, whole = (
        _between(u, link, rows, within, own) for rows in (slice(0, half), slice(half, None), everything)
    )
    along = _top(whole)
    found = []
    for direction, measured in ((_top(early), late), (_top(late), early), (along, whole), (along, whole)):
        found.append((float(direction @ within @ direction), float(direction @ measured @ direction)))
    blocks = max(len(u) / LAGS, 1.0)
    return max(a for a, _ in found), sum(b for _, b in found) / len(found) * (1 + 2 * np.sqrt(2 / blocks))


def _across(u: Floats, within: Floats, y: Floats) -> float:
    """Sum of u_s' W y_s."""
    if len(within) <= _NARROW:
        return float(np.einsum("sb,bc,sc->", u, within, y))
    return float(((u @ within) * y).sum())


def _top(matrix: Floats) -> Floats:
    """The direction in which a symmetric matrix is greatest."""
    if len(matrix) <= _NARROW:
        first: Floats = np.linalg.eigh(matrix)[1][:, -1]
        return first
    last = len(matrix) - 1
    vectors: Floats = linalg.eigh(matrix, subset_by_index=[last, last], check_finite=False)[1]
    return vectors[:, 0]


def _between(u: Floats, link: Floats, rows: slice, within: Floats, own: float) -> Floats:
    """C_B from the slices in `rows` alone."""
    part = link[rows, rows] * (float(np.trace(link)) / max(float(np.trace(link[rows, rows])), 1e-300))
    product = u[rows].T @ part @ u[rows]
    return (product + product.T) / 2 + own * within
