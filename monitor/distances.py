"""How far a window lies from the reference: textbook distances between two sets of counts over the same cells.

Comes in: counts (not shares, not negative) of the window and of the reference, shape (..., cells) each; leading axes
are series and broadcast against each other. Vectors have no cells: what stands in the place of counts is said there.
Goes out: one float64 a series, shape (...). All are descriptive: no verdict follows from them. In the formulas p and q
are the shares of window and reference in a cell, F and G their running sums over ordered cells, n and m their numbers
of observations.

Promised for every distance: 0 where both are equal, never an exception or a warning for lack of data, and NaN
(undefined) where window or reference has no observation. Cells that are empty on one side or both are ordinary. Raises
ValueError where window and reference have different numbers of cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from monitor.model import Flags, Floats, Ints, Kind

Cells = Floats | Ints

_HALF_COUNT = 0.5


def psi(window: Cells, reference: Cells) -> Floats:
    """Population stability index: sum (p - q) ln(p / q), with half a count added to every cell of both sides.

    Range 0 to infinity, symmetric, NaN without observations. The half count (the estimate under Jeffreys' prior) keeps
    it finite where a cell is empty without a made-up smallest share that would rule the sum; in exchange it shrinks
    with few observations, and a cell empty on both sides is not quite nothing. With c cells and nothing changed it is
    about (c - 1)(1/n + 1/m): read it beside n.

    Siddiqi, Credit Risk Scorecards, 2006; as a divergence Jeffreys, Proc. R. Soc. A 186, 1946; the half count
    Krichevsky and Trofimov, IEEE Trans. Inf. Theory 27(2), 1981; its size Yurdakul, dissertation, Western Michigan
    University, 2018.

    >>> float(psi(np.array([10, 30, 60]), np.array([30, 40, 30])).round(3))
    0.44
    """
    p, q, seen = _shares(window, reference, _HALF_COUNT)
    return _defined(seen, ((p - q) * (np.log(p) - np.log(q))).sum(axis=-1))


def jensen_shannon(window: Cells, reference: Cells) -> Floats:
    """Jensen-Shannon distance in base 2: sqrt(sum p log2(p / a) / 2 + sum q log2(q / a) / 2), a = (p + q) / 2.

    Range 0 to 1 (nothing in common), a metric, NaN without observations. It is the root of the divergence. Evidently's
    `jensenshannon` is in base e: this one times sqrt(ln 2).

    Endres and Schindelin, IEEE Trans. Inf. Theory 49(7), 2003.

    >>> float(jensen_shannon(np.array([10, 30, 60]), np.array([30, 40, 30])).round(3))
    0.282
    """
    p, q, seen = _shares(window, reference)
    middle = (p + q) / 2
    divergence = (special.rel_entr(p, middle) + special.rel_entr(q, middle)).sum(axis=-1) / (2 * np.log(2))
    return _defined(seen, np.sqrt(np.clip(divergence, 0, 1)))


def hellinger(window: Cells, reference: Cells) -> Floats:
    """Hellinger distance: sqrt(sum (sqrt(p) - sqrt(q))^2 / 2).

    Range 0 to 1 (nothing in common), a metric, NaN without observations. Equal to sqrt(1 - sum sqrt(p q)), which loses
    half of the digits near 0.

    Gibbs and Su, Int. Statistical Review 70(3), 2002, there without the 1/2.

    >>> float(hellinger(np.array([10, 30, 60]), np.array([30, 40, 30])).round(3))
    0.237
    """
    p, q, seen = _shares(window, reference)
    squared = ((np.sqrt(p) - np.sqrt(q)) ** 2).sum(axis=-1) / 2
    return _defined(seen, np.sqrt(np.minimum(squared, 1)))


def total_variation(window: Cells, reference: Cells) -> Floats:
    """Total variation: sum |p - q| / 2, the share of records that would have to change their cell.

    Range 0 to 1 (nothing in common), a metric, NaN without observations.

    Gibbs and Su, Int. Statistical Review 70(3), 2002.

    >>> float(total_variation(np.array([10, 30, 60]), np.array([30, 40, 30])).round(3))
    0.3
    """
    p, q, seen = _shares(window, reference)
    return _defined(seen, np.minimum(np.abs(p - q).sum(axis=-1) / 2, 1))


def chi_square(window: Cells, reference: Cells) -> Floats:
    """Chi-square distance (triangular discrimination): sum (p - q)^2 / (p + q) / 2.

    Range 0 to 1 (nothing in common), symmetric, NaN without observations; its root is a metric. Unlike the test
    statistic it does not grow with the number of records: for n = m Pearson's statistic of homogeneity is 2 n times it.

    Topsøe, IEEE Trans. Inf. Theory 46(4), 2000, there without the 1/2.

    >>> float(chi_square(np.array([10, 30, 60]), np.array([30, 40, 30])).round(3))
    0.107
    """
    p, q, seen = _shares(window, reference)
    both = p + q
    terms = (p - q) ** 2 / np.where(both > 0, both, 1)
    return _defined(seen, np.minimum(terms.sum(axis=-1) / 2, 1))


def ks(window: Cells, reference: Cells) -> Floats:
    """Kolmogorov-Smirnov statistic: max |F - G| over cells in ascending order.

    Range 0 to 1, a metric, NaN without observations. It is that of the observations rounded to their cells: below that
    of the raw ones by at most the largest share in one cell.

    Hodges, Arkiv för Matematik 3(43), 1958.

    >>> float(ks(np.array([10, 30, 60]), np.array([30, 40, 30])).round(3))
    0.3
    """
    gaps, seen = _cdf_gaps(window, reference)
    return _defined(seen, gaps.max(axis=-1, initial=0.0))


def wasserstein(window: Cells, reference: Cells, positions: Floats) -> Floats:
    """First Wasserstein (earth mover's) distance: the integral of |F - G|, in the signal's own unit.

    How far an observation moved on average. Range 0 to infinity, a metric, NaN without observations. It differs from
    that of the raw observations by at most the mean distance from an observation to its cell's position, of both sides.

    Ramdas, Garcia and Cuturi, Entropy 19(2), 2017.

    Parameters
    ----------
    window, reference : counts, shape (..., cells)
    positions : value of each cell, ascending, shape (cells,); ValueError where it is not

    >>> float(wasserstein(np.array([10, 30, 60]), np.array([30, 40, 30]), np.array([0.0, 1.0, 10.0])).round(3))
    2.9

    """
    gaps, seen = _cdf_gaps(window, reference)
    widths = np.diff(positions)
    if positions.shape != window.shape[-1:] or (widths < 0).any():
        raise ValueError(f"positions must ascend, one for each of {window.shape[-1]} cells; got {positions.shape}")
    return _defined(seen, (gaps[..., : len(widths)] * widths).sum(axis=-1))


def wasserstein_normed(window: Cells, reference: Cells, positions: Floats) -> Floats:
    """`wasserstein` in standard deviations of the reference, so that signals can be compared.

    Range 0 to infinity, not symmetric, NaN without observations or where the reference lies in one cell. This is what
    Evidently calls `wasserstein`.

    Ramdas, Garcia and Cuturi, Entropy 19(2), 2017.

    >>> float(wasserstein_normed(np.array([0, 0, 9]), np.array([5, 0, 5]), np.array([0.0, 1.0, 2.0])).round(3))
    1.0
    """
    distance = wasserstein(window, reference, positions)
    shares, _ = _share(reference, 0.0)
    mean = (shares * positions).sum(axis=-1, keepdims=True)
    deviation = np.sqrt((shares * (positions - mean) ** 2).sum(axis=-1))
    return distance / np.where(deviation > 0, deviation, np.nan)


def mmd(window: Floats, reference: Floats) -> Floats:
    """Maximum mean discrepancy: |E f(x) - E f(y)| of the mean features f of window and reference.

    Features are random Fourier features, whose inner products are those of a kernel; this is then the V-statistic
    (biased upward: with nothing changed its square is about 1/n + 1/m times how much features vary). Range 0 to 2 for
    features of length one, a metric, NaN without observations.

    Gretton et al., JMLR 13, 2012; in features Rahimi and Recht, NIPS 2007.

    Parameters
    ----------
    window, reference : mean features, shape (..., features), NaN without observations

    >>> float(mmd(np.array([1.0, 0.0]), np.array([0.6, 0.3])))
    0.5

    """
    _same_cells(window, reference)
    return np.asarray(np.sqrt(((window - reference) ** 2).sum(axis=-1)), np.float64)


def centroid_shift(window: Floats, reference: Floats) -> Floats:
    """Cosine distance of the mean vectors: 1 - x y/(|x| |y|).

    Range 0 to 2 (opposite), symmetric, NaN without observations or where a mean is zero. What Evidently calls the
    cosine distance of embeddings.

    >>> float(centroid_shift(np.array([3.0, 4.0]), np.array([4.0, 3.0])).round(3))
    0.04
    """
    _same_cells(window, reference)
    lengths = np.sqrt((window**2).sum(axis=-1) * (reference**2).sum(axis=-1))
    cosine = (window * reference).sum(axis=-1) / np.where(lengths > 0, lengths, np.nan)
    return np.asarray(1 - np.clip(cosine, -1, 1), np.float64)


def frechet(window: Floats, reference: Floats) -> Floats:
    """Squared Fréchet distance of the normal distributions of the same moments, as in the Fréchet inception distance.

    |a - b|^2 + tr(S + T - 2 (S T)^(1/2)) for means a, b and covariances S, T. Range 0 to infinity, symmetric, NaN
    without observations. Of moments in a projection that keeps squared lengths on average it is an approximation.

    Dowson and Landau, J. Multivariate Analysis 12(3), 1982; Heusel et al., NIPS 2017.

    Parameters
    ----------
    window, reference : the mean as the first column and the covariance behind it, shape (..., m, m + 1)

    >>> one, two = np.array([[0.0, 4.0]]), np.array([[1.0, 9.0]])  # (0 - 1)^2 + (2 - 3)^2
    >>> float(frechet(one, two))
    2.0

    """
    _same_cells(window, reference)
    window, reference = np.broadcast_arrays(window, reference)
    apart = ((window[..., 0] - reference[..., 0]) ** 2).sum(axis=-1)
    seen = np.isfinite(apart) & np.isfinite(window + reference).all(axis=(-1, -2))
    s, t = (np.where(seen[..., None, None], side[..., 1:], 0) for side in (window, reference))
    values, vectors = np.linalg.eigh(s)
    root = (vectors * np.sqrt(np.maximum(values, 0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    both = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ t @ root), 0)).sum(axis=-1)
    spread = np.trace(s, axis1=-2, axis2=-1) + np.trace(t, axis1=-2, axis2=-1) - 2 * both
    return _defined(seen, np.maximum(apart + spread, 0))


def _shares(window: Cells, reference: Cells, added: float = 0.0) -> tuple[Floats, Floats, Flags]:
    """Shares of both, `added` to every count first, and whether both sides have observations."""
    _same_cells(window, reference)
    p, window_seen = _share(window, added)
    q, reference_seen = _share(reference, added)
    return p, q, window_seen & reference_seen


def _share(counts: Cells, added: float) -> tuple[Floats, Flags]:
    n: Floats = counts.sum(axis=-1, keepdims=True, dtype=np.float64)
    whole = n + added * counts.shape[-1]
    return (counts + added) / np.where(whole > 0, whole, 1), n[..., 0] > 0


def _cdf_gaps(window: Cells, reference: Cells) -> tuple[Floats, Flags]:
    """|F - G| in every cell, and whether both sides have observations."""
    _same_cells(window, reference)
    cdf, window_seen = _cdf(window)
    reference_cdf, reference_seen = _cdf(reference)
    gaps = cdf - reference_cdf
    return np.abs(gaps, out=gaps), window_seen & reference_seen


def _cdf(counts: Cells) -> tuple[Floats, Flags]:
    # Counts are summed before they are divided, and by their own last sum, so that F is exactly 1 behind the last
    # observation: a rounding error there, times cells that are up to 1e10 wide, would be larger than a latency.
    # Integers are left integers until then, which is four times as fast.
    sums = np.cumsum(counts, axis=-1)
    n: Floats = sums[..., -1:].sum(axis=-1, keepdims=True, dtype=np.float64)
    cdf: Floats = np.divide(sums, np.where(n > 0, n, 1))
    return cdf, n[..., 0] > 0


def _same_cells(window: Cells, reference: Cells) -> None:
    if window.shape[-1] != reference.shape[-1]:  # numpy would stretch a single cell over all
        raise ValueError(f"the window has {window.shape[-1]} cells, the reference {reference.shape[-1]}")


def _defined(seen: Flags, distance: Floats) -> Floats:
    return np.where(seen, distance, np.nan)


@dataclass(frozen=True, slots=True)
class Distance:
    """A row of DISTANCES. Call it with counts on its `cells`, and with their positions where they have some."""

    name: str
    function: Callable[..., Floats]
    kinds: frozenset[Kind]
    """Kinds of signal that it is computed for."""
    cells: Literal["bins", "grid", "features", "centroid", "moments"]
    """`grid`: cells of a numeric summary, in order; those empty on both sides may be left out. `bins`: its 16
    reference-quantile bins; the categories of either side; no and yes of a rate. The others are no counts but what
    is known of vectors: mean features, the mean, or mean and covariance."""
    positions: bool = False
    """Whether it reads the positions of the cells."""
    symmetric: bool = True
    upper: float = 1.0
    """Its greatest value, infinity where there is none; the least is 0."""

    def __call__(self, window: Cells, reference: Cells, positions: Floats | None = None) -> Floats:
        return self.function(window, reference, positions) if self.positions else self.function(window, reference)


_NUMERIC: frozenset[Kind] = frozenset({"numeric"})
_CATEGORY: frozenset[Kind] = frozenset({"category"})
_VECTOR: frozenset[Kind] = frozenset({"vector"})
_ALL: frozenset[Kind] = frozenset({"numeric", "category", "rate"})

DISTANCES: dict[str, Distance] = {
    row.name: row
    for row in (
        Distance("psi", psi, _ALL, "bins", upper=np.inf),
        Distance("jensen_shannon", jensen_shannon, _ALL, "bins"),
        Distance("hellinger", hellinger, _ALL, "bins"),
        Distance("total_variation", total_variation, _CATEGORY, "bins"),
        Distance("chi_square", chi_square, _CATEGORY, "bins"),
        Distance("ks", ks, _NUMERIC, "grid"),
        Distance("wasserstein", wasserstein, _NUMERIC, "grid", positions=True, upper=np.inf),
        Distance(
            "wasserstein_normed", wasserstein_normed, _NUMERIC, "grid", positions=True, symmetric=False, upper=np.inf
        ),
        Distance("mmd", mmd, _VECTOR, "features", upper=2.0),
        Distance("frechet", frechet, _VECTOR, "moments", upper=np.inf),
        Distance("centroid_shift", centroid_shift, _VECTOR, "centroid", upper=2.0),
    )
}
"""Every distance by name. On a rate the two that are left out say no more than its effect does."""
