"""The null: how much do windows differ from the reference when nothing changes, and what follows from it.

Comes in: the slices of a reference. Goes out: p-values, thresholds from the false-alarm budget, and the change that a
window would have shown. Pure; arrays carry the series on their first axis unless said.

A slice's mean of k units has covariance W/k + B_0: W is how units differ within a slice, B_l the autocovariance of
slice means at lag l, beyond what comes of units that lie in both slices. A window with slice weights w_s = n_s/N, in
which unit j has part A_j, then differs from the reference with covariance

    C = W sum A_j^2 + sum over |l| < LAGS of B_l sum w_s w_(s+l),      summed over window and reference,

whatever the traffic and whether all units are scored or a sample. Of a unit in several slices only a part of W stays
the same, which is estimated with B; sum A_j^2 has its products of two slices weakened by it.

A quadratic statistic d'Dd of the difference d is then a weighted sum of chi-squares, the weights being the eigenvalues
of DC. Two moments, tr(DC) and tr(DCDC), and the greatest eigenvalue are estimated; tr(DCDC) leaves out the products of
a slice with itself and the eigenvalue is measured on one half of the slices in the direction that the other half gave,
so that noise in B does not pass for spread. The tail comes from the saddlepoint of that sum, with the noise in tr(DC)
as a further chi-square in the denominator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated

import numpy as np
import pydantic
from scipy import linalg, special

from monitor.model import Flags, Floats, Ints, Scope
from monitor.settings import DAY, Duration, Settings

LAGS = 12
"""Lags 0 .. 11 of slice means are estimated: a window is twelve slices."""
SUPPORTED = 1e-6
"""Tail probabilities that simulation supports; readings below say so."""
FEW_SLICES = 70
"""Slices of a reference below which the null of vectors is widened."""
_NARROW = 128
"""Bins above which matrices are too large for what is good enough for few."""
_NOTHING = 1e-12
"""Variance below which a signal is a constant with rounding errors."""
CELL_UNITS = 10
"""Units of the window that each pooled bin expects."""
_CLEARLY = 2 * np.sqrt(2)
"""Two standard errors of tr(Gamma_l^2) over P pairs of slices that do not correlate, in units of tr(Gamma_0^2)/P."""
_POWER = 1.2816
"""Normal quantile of the 90 % power that `detectable` stands for."""
_BOTH_SIDES: Floats = np.array([1.0, *([2.0] * (LAGS - 1))])


class FalseAlarmSettings(Settings):
    """The budget: drift alerts that enter firing though nothing changed."""

    at_most: Annotated[float, pydantic.Field(gt=0)] = 1
    per: Annotated[Duration, pydantic.Field(gt=0)] = 30 * DAY


def thresholds(
    settings: FalseAlarmSettings, series: Mapping[Scope, float], lengths: Sequence[int]
) -> dict[int, dict[bool, float]]:
    """Error probability that each test of one series may spend: slice length -> (is a segment's) -> threshold.

    The budget is split in half between whole streams and segments where both exist, evenly over the series alive
    (`series`: scope -> how many), over the window sizes and over the slices that come in its period. Windows that
    overlap are counted as if they did not (union bound).

    >>> budget = FalseAlarmSettings(at_most=1, per="30d")
    >>> round(thresholds(budget, {Scope("bot"): 10}, [10_000])[10_000][False] * 10 * 30 * DAY)
    10000
    """
    alive = {False: 0.0, True: 0.0}
    for scope, count in series.items():
        alive[scope.segment is not None] += count
    kinds = max(sum(count > 0 for count in alive.values()), 1)
    return {
        length: {
            is_segment: settings.at_most / kinds / max(count, 1) / len(lengths) * length / settings.per
            for is_segment, count in alive.items()
        }
        for length in lengths
    }


@dataclass(frozen=True, slots=True)
class ReferenceSlices:
    """What the slices of a reference say of one signal in r bins; R slices are kept."""

    number: Ints
    """Slice numbers, ascending; gaps part the runs. Shape (R,)."""
    shares: Floats
    """Mean over units of the share in each bin. Shape (R, r)."""
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


def pool_bins(expected: Floats, units: float) -> Ints:
    """Labels 0, 1, ... that join neighbouring bins until each expects at least 10 of `units`; the last may join back.

    >>> pool_bins(np.array([0.25, 0.25, 0.25, 0.25]), 25).tolist()
    [0, 0, 1, 1]
    """
    labels, label, mass = np.zeros(len(expected), np.int64), 0, 0.0
    for i, share in enumerate(expected.tolist()):
        labels[i] = label
        mass += share * units
        if mass >= CELL_UNITS - 1e-9:
            label, mass = label + 1, 0.0
    if label and labels[-1] == label:  # what is left over is too little for a bin of its own
        labels[labels == label] = label - 1
    return labels


def pool_small(expected: Floats, units: float) -> Ints:
    """Labels that keep cells expecting at least 10 of `units` and join all others, the last cell (`other`) with them.

    Where those together expect fewer, the smallest kept cells join them too.

    >>> pool_small(np.array([0.7, 0.25, 0.04, 0.01]), 100).tolist()
    [0, 1, 1, 1]
    """
    order = np.argsort(-expected[:-1], kind="stable")
    kept = [int(i) for i in order if expected[i] * units >= CELL_UNITS]
    while kept and units * (expected.sum() - expected[kept].sum()) < CELL_UNITS:
        kept.pop()
    labels = np.full(len(expected), len(kept), np.int64)
    labels[sorted(kept)] = np.arange(len(kept))
    return labels


def ladder(units: float) -> int:
    """The largest of a geometric ladder of sizes (40, 57, 80, ...) that is not above `units`: few sizes, few poolings.

    >>> ladder(41), ladder(100)
    (40, 80)
    """
    steps = int(np.floor(2 * np.log2(max(units, 40) / 40) + 1e-9))
    return round(40 * 2 ** (steps / 2))


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
    stays = _stays(between, slices, trace)
    between -= trace * stays * slices.shared
    shrink = _shrinkage(between, slices, trace, stays)
    between += shrink * trace
    kernel = _BOTH_SIDES * ((LAGS - np.arange(LAGS)) / LAGS**2 + slices.lag_weights)
    link = _link(pairs, weight, kernel, len(u))
    own = shrink * kernel.sum() - kernel[0] * inverse_seen - stays * float(kernel @ slices.shared)
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
        stays=np.asarray(stays),
        shared=np.asarray(stays * float(_BOTH_SIDES * slices.lag_weights @ slices.shared)),
    )


def _lag_products(number: Ints, units: Floats, u: Floats) -> tuple[list[tuple[Ints, Ints]], Floats, Floats]:
    """Per lag: the pairs of slices that far apart, their total weight, and the mean product u_s'u_(s+l)."""
    count = len(number)
    pairs, weight, product = [], np.zeros(LAGS), np.zeros(LAGS)
    for lag in range(LAGS):
        at = np.searchsorted(number, number + lag)
        first = np.flatnonzero((at < count) & (number[np.minimum(at, count - 1)] == number + lag))
        second = at[first]
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


def _stays(between: Floats, slices: ReferenceSlices, trace: float) -> float:
    """The part of W that explains best (least squares over lags) how slices correlate by the units that they share."""
    shared = slices.shared[1:]
    if trace <= 0 or not shared.any():
        return 0.0
    explained = (between[1:] / trace + slices.inverse) @ shared / (shared @ shared)
    return float(np.clip(explained, 0, 1))


def _shrinkage(between: Floats, slices: ReferenceSlices, trace: float, stays: float) -> float:
    """Residuals about the reference's own mean are too small by that mean's variance, here as a multiple of W."""
    if trace <= 0:  # a constant: nothing differs between units
        return 0.0
    share = _BOTH_SIDES * slices.lag_weights
    variance = slices.inverse + float(share @ (between / trace + stays * slices.shared))
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
    kernel = _BOTH_SIDES * (np.stack(lags, axis=1) + terms.lag_weights)
    even = _BOTH_SIDES * ((LAGS - np.arange(LAGS)) / LAGS**2 + terms.lag_weights)
    own = (share**2 / np.maximum(seen, 1)).sum(axis=1) + terms.inverse + terms.shared
    own = own if shared is None else own + terms.stays * shared
    between = np.where(terms.within > 0, np.maximum((kernel * terms.between).sum(axis=1), 0), 0)
    usable = (terms.nominal > 0) & (between > 0)
    ratio = np.where(usable, between / np.where(usable, terms.nominal, 1), 0)
    like_within = between / np.maximum(terms.within, 1e-150)
    cross = np.where(usable, ratio * terms.cross, like_within * terms.within_square)
    square = np.where(usable, ratio**2 * terms.square, like_within**2 * terms.within_square)
    trace = own * terms.within + between
    total = own**2 * terms.within_square + 2 * own * cross + square
    total = np.clip(total, trace**2 / terms.rank, trace**2)
    along = ratio * np.maximum(terms.lead_between, 0)
    if np.any(terms.within_cube):  # many directions: by noise alone one seems greater than all together
        along = np.minimum(along, between)
    lead = own * terms.lead_within + along
    lead = np.asarray(np.clip(lead, total / np.maximum(trace, 1e-300), trace), np.float64)
    noise = terms.noise * (kernel.sum(axis=1) / even.sum(axis=1)) ** 2
    if np.any(terms.within_cube):
        cubes = (share**3 / np.maximum(seen, 1) ** 2).sum(axis=1) if cubes is None else cubes
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


def g_statistic(window: Floats, reference: Floats, n: Floats, m: Floats) -> Floats:
    """The log-likelihood ratio of two multinomials against one, divided by n m/(n + m). Shapes (S, r), (S,).

    Near the null it equals the chi-square form sum (x - p)^2/e; beyond it, it keeps to its tail better.

    >>> float(g_statistic(np.array([[0.5, 0.5]]), np.array([[0.5, 0.5]]), np.array([10.0]), np.array([99.0]))[0])
    0.0
    """
    n, m = n[:, None], m[:, None]
    joint = (n * window + m * reference) / (n + m)
    safe = np.where(joint > 0, joint, 1)
    terms = n * special.xlogy(window, window / safe) + m * special.xlogy(reference, reference / safe)
    statistic: Floats = 2 * terms.sum(axis=1) * (n + m)[:, 0] / (n * m)[:, 0]
    return np.maximum(statistic, 0)


def pooled(values: Floats, labels: Ints, cells: int) -> Floats:
    """Sum the last axis by labels, one set of labels a series. Shapes (S, r), (S, r) -> (S, cells)."""
    flat = labels + np.arange(len(labels))[:, None] * cells
    sums: Floats = np.bincount(flat.ravel(), values.ravel(), minlength=len(labels) * cells).astype(np.float64)
    return sums.reshape(len(labels), cells)


def decided(p_value: Floats, threshold: Floats, effect: Floats, matters: Floats) -> Flags:
    """Drift: beyond the threshold, and by as much as matters."""
    return (p_value <= threshold) & (np.abs(effect) >= matters)
