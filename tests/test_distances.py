"""Distances against closed forms, scipy and Evidently, each within a stated tolerance."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy import integrate, linalg, stats
from scipy.spatial import distance as spatial

from monitor.distances import (
    centroid_shift,
    chi_square,
    frechet,
    hellinger,
    jensen_shannon,
    ks,
    mmd,
    psi,
    total_variation,
    wasserstein,
    wasserstein_normed,
)
from monitor.model import Floats, Ints, Vectors
from monitor.summaries.numeric import GRID_CELLS, grid_keys, grid_values
from monitor.summaries.vector import BANDWIDTHS, embed

RECORDS = 1e12
"""So many that half a count is nothing."""
UNIT, SHIFTED = NormalDist(0, 1), NormalDist(1, 1)


def masses(normal: NormalDist, edges: Floats) -> Floats:
    """Expected counts of RECORDS records between `edges`, and beyond them in the end cells."""
    cdf = np.array([0.0, *(normal.cdf(edge) for edge in edges), 1.0])
    return np.asarray(np.diff(cdf) * RECORDS)


@pytest.fixture(scope="module")
def two_sides() -> tuple[Ints, Ints]:
    """Counts of 200 pairs of sides in 12 cells, some empty; shape (200, 12)."""
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.full(12, 0.5), (2, 200))
    return rng.multinomial(300, shares[0]), rng.multinomial(5_000, shares[1])


# ---- closed forms: two unit normals one apart -----------------------------------------------------------------------


def test_two_normals_one_apart_on_a_fine_grid() -> None:
    edges = np.linspace(-10, 11, 21_001)
    positions = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])
    window, reference = masses(SHIFTED, edges), masses(UNIT, edges)

    def integral(of: Callable[[float, float], float]) -> float:
        return float(integrate.quad(lambda x: of(SHIFTED.pdf(x), UNIT.pdf(x)), -12, 13)[0])

    divergence = integral(lambda p, q: (p * np.log2(2 * p / (p + q)) + q * np.log2(2 * q / (p + q))) / 2)
    halves = 2 * UNIT.cdf(0.5) - 1  # the densities cross half way between the means
    assert hellinger(window, reference) == pytest.approx(np.sqrt(1 - np.exp(-1 / 8)), rel=1e-6)
    assert ks(window, reference) == pytest.approx(halves, rel=1e-6)
    assert total_variation(window, reference) == pytest.approx(halves, rel=1e-6)
    assert wasserstein(window, reference, positions) == pytest.approx(1, rel=1e-6)
    assert wasserstein_normed(window, reference, positions) == pytest.approx(1, rel=1e-6)
    assert psi(window, reference) == pytest.approx(1, rel=1e-6)  # Jeffreys' divergence: the squared shift
    assert jensen_shannon(window, reference) == pytest.approx(np.sqrt(divergence), rel=1e-6)
    assert chi_square(window, reference) == pytest.approx(integral(lambda p, q: (p - q) ** 2 / (p + q) / 2), rel=1e-6)


def test_psi_of_two_normals_one_apart_on_reference_deciles() -> None:
    deciles = np.array([UNIT.inv_cdf(i / 10) for i in range(1, 10)])
    value = psi(masses(SHIFTED, deciles), masses(UNIT, deciles))
    assert value == pytest.approx(0.926142424, abs=1e-8)  # summed by hand from NormalDist; cells can only lose of the 1


# ---- psi and its half counts ----------------------------------------------------------------------------------------


def test_psi_of_a_one_sided_cell_stays_sensible() -> None:
    # One record of 1,000 in a cell that the reference never saw is no news: with the smallest float as the empty
    # cell's share it would count 0.7. All of them there is ln(1000) for what left and ln(20000) for what came.
    reference = np.array([5_000, 5_000, 0])
    assert psi(np.array([499, 500, 1]), reference) < 0.005
    assert psi(np.array([0, 0, 1_000]), reference) == pytest.approx(np.log(1_000) + np.log(20_000), rel=0.01)


def test_psi_without_change_is_as_large_as_documented() -> None:
    rng = np.random.default_rng(7)
    shares = rng.dirichlet(np.full(16, 5.0))
    values = psi(rng.multinomial(600, shares, 4_000), rng.multinomial(3_000, shares, 4_000))
    assert values.mean() == pytest.approx(15 * (1 / 600 + 1 / 3_000), rel=0.03)


# ---- agreement with scipy -------------------------------------------------------------------------------------------


def test_agrees_with_scipy(two_sides: tuple[Ints, Ints]) -> None:
    windows, references = two_sides
    positions = np.cumsum(np.random.default_rng(1).exponential(size=12))
    expected: list[list[float]] = []
    for w, r in zip(windows, references, strict=True):
        raw, raw_reference = np.repeat(np.arange(12), w), np.repeat(np.arange(12), r)
        moved = stats.wasserstein_distance(positions, positions, w, r)
        spread = np.std(positions[raw_reference])
        expected.append(
            [
                float(spatial.jensenshannon(w, r, base=2)),
                float(stats.ks_2samp(raw, raw_reference, method="asymp").statistic),
                float(moved),
                float(moved / spread),
                float(spatial.euclidean(np.sqrt(w / w.sum()), np.sqrt(r / r.sum())) / np.sqrt(2)),
                float(spatial.cityblock(w / w.sum(), r / r.sum()) / 2),
            ]
        )
    ours = [
        jensen_shannon(windows, references),
        ks(windows, references),
        wasserstein(windows, references, positions),
        wasserstein_normed(windows, references, positions),
        hellinger(windows, references),
        total_variation(windows, references),
    ]
    np.testing.assert_allclose(np.stack(ours, axis=1), expected, rtol=1e-11)


def test_chi_square_is_the_statistic_of_homogeneity_by_the_number_of_records(two_sides: tuple[Ints, Ints]) -> None:
    windows = two_sides[0]
    for w, r in zip(windows[:100], windows[100:], strict=True):
        cells = w + r > 0
        statistic = stats.chi2_contingency([w[cells], r[cells]], correction=False).statistic
        assert chi_square(w, r) * 2 * 300 == pytest.approx(statistic, rel=1e-11)


# ---- the grid of numeric summaries ----------------------------------------------------------------------------------


def test_costs_of_a_hundredth_of_a_cent_on_the_log_grid() -> None:
    # The grid ends at 1e12: the least rounding error of a CDF in its widest cells would bury these amounts.
    rng = np.random.default_rng(3)
    raw, raw_reference = rng.lognormal(np.log(1.1e-4), 0.3, 5_000), rng.lognormal(np.log(1e-4), 0.3, 7_000)
    cells = GRID_CELLS["log"]
    counts, reference = (np.bincount(grid_keys(x, "log"), minlength=cells) for x in (raw, raw_reference))
    positions = grid_values("log")
    moved = stats.wasserstein_distance(raw, raw_reference)
    assert wasserstein(counts, reference, positions) == pytest.approx(moved, rel=0.02)
    assert wasserstein_normed(counts, reference, positions) == pytest.approx(moved / raw_reference.std(), rel=0.02)
    assert ks(counts, reference) == pytest.approx(float(stats.ks_2samp(raw, raw_reference).statistic), abs=0.005)


@pytest.mark.parametrize("positions", [np.array([0.0, 2.0, 1.0]), np.array([0.0, 1.0])], ids=["descend", "too_few"])
def test_positions_that_do_not_fit_are_refused(positions: Floats) -> None:
    with pytest.raises(ValueError, match="positions must ascend, one for each of 3 cells"):
        wasserstein(np.array([1, 2, 3]), np.array([3, 2, 1]), positions)


# ---- agreement with Evidently ---------------------------------------------------------------------------------------

_Evidently = Callable[[str, list[Any] | Floats, list[Any] | Floats, str], float]


@pytest.fixture(scope="module")
def evidently() -> Iterator[_Evidently]:
    """Evidently's own statistic: (name, window, reference, "num" or "cat") -> score."""
    with pytest.MonkeyPatch.context() as environment, warnings.catch_warnings():
        environment.setenv("DO_NOT_TRACK", "1")
        warnings.filterwarnings("ignore", "numpy.core is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", "Use of deprecated class 'DependencyKwarg'", DeprecationWarning)
        warnings.filterwarnings("ignore", "Call to deprecated function 'Dependency'", DeprecationWarning)
        import pandas as pd
        from evidently.legacy.calculations.stattests.registry import get_stattest
        from evidently.legacy.core import ColumnType

        def score(name: str, window: list[Any] | Floats, reference: list[Any] | Floats, kind: str) -> float:
            sides = pd.Series(reference), pd.Series(window)
            test = get_stattest(*sides, ColumnType(kind), name)
            return float(test(*sides, ColumnType(kind), None).drift_score)

        yield score


def test_agrees_with_evidently_on_numbers(evidently: _Evidently) -> None:
    # Evidently cuts the pooled values by Sturges' rule. No cell is empty here: where one is, it fills in 0.0001.
    rng = np.random.default_rng(2)
    window, reference = rng.beta(2, 2.5, 20_000), rng.beta(2, 2, 30_000)
    edges = np.histogram_bin_edges(np.concatenate([window, reference]), "sturges")
    counts, reference_counts = np.histogram(window, edges)[0], np.histogram(reference, edges)[0]
    assert min(counts.min(), reference_counts.min()) > 20
    assert psi(counts, reference_counts) == pytest.approx(evidently("psi", window, reference, "num"), rel=2e-3)
    base_e = jensen_shannon(counts, reference_counts) * np.sqrt(np.log(2))
    assert base_e == pytest.approx(evidently("jensenshannon", window, reference, "num"), rel=1e-9)
    assert hellinger(counts, reference_counts) == pytest.approx(
        evidently("hellinger", window, reference, "num"), rel=1e-9
    )
    grid, reference_grid = (np.bincount(grid_keys(x, "unit"), minlength=1001) for x in (window, reference))
    normed = wasserstein_normed(grid, reference_grid, grid_values("unit"))
    assert normed == pytest.approx(evidently("wasserstein", window, reference, "num"), rel=1e-3)


def test_agrees_with_evidently_on_categories(evidently: _Evidently) -> None:
    names, counts, reference_counts = ["stop", "length", "tool"], np.array([700, 250, 50]), np.array([2_500, 400, 100])
    window, reference = list(np.repeat(names, counts)), list(np.repeat(names, reference_counts))
    assert psi(counts, reference_counts) == pytest.approx(evidently("psi", window, reference, "cat"), rel=1e-2)
    base_e = jensen_shannon(counts, reference_counts) * np.sqrt(np.log(2))
    assert base_e == pytest.approx(evidently("jensenshannon", window, reference, "cat"), rel=1e-9)
    assert hellinger(counts, reference_counts) == pytest.approx(
        evidently("hellinger", window, reference, "cat"), rel=1e-9
    )


# ---- vectors --------------------------------------------------------------------------------------------------------


def moments(x: Floats) -> Floats:
    return np.column_stack([x.mean(axis=0), np.cov(x.T, ddof=0)])


def test_frechet_is_the_formula_with_a_matrix_root() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 1
    one, two = moments(x), moments(y)
    root = linalg.sqrtm(one[:, 1:] @ two[:, 1:])
    expected = ((one[:, 0] - two[:, 0]) ** 2).sum() + np.trace(one[:, 1:] + two[:, 1:] - 2 * root).real
    assert float(frechet(one, two)) == pytest.approx(float(expected), rel=1e-9)


def test_frechet_of_commuting_covariances_is_a_distance_of_deviations() -> None:
    means, deviations = np.array([[1.0, 2.0], [4.0, -2.0]]), np.array([[1.0, 3.0], [2.0, 0.5]])
    one, two = (np.column_stack([m, np.diag(d**2)]) for m, d in zip(means, deviations, strict=True))
    assert float(frechet(one, two)) == pytest.approx(9 + 16 + 1 + 6.25)


def test_mmd_is_that_of_the_gaussian_kernels() -> None:
    """The V-statistic with the exact kernel, which features stand for to one in sqrt(256)."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(n, 24)) + shift for n, shift in ((300, 0.0), (200, 0.6)))
    x, y = ((side / np.linalg.norm(side, axis=1, keepdims=True)).astype(np.float32) for side in (x, y))

    def kernel(a: Vectors, b: Vectors) -> float:
        squared = ((a[:, None, :].astype(np.float64) - b) ** 2).sum(axis=2)
        return float(np.mean([np.exp(-squared / (2 * width**2)) for width in BANDWIDTHS]))

    exact = np.sqrt(kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))
    assert float(mmd(embed(x).mean(axis=0), embed(y).mean(axis=0))) == pytest.approx(float(exact), rel=0.05)


def test_centroid_shift_is_the_cosine_distance_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 7, 30))
    expected = [spatial.cosine(a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(centroid_shift(x, y), expected)
    assert np.isnan(centroid_shift(np.zeros(3), np.ones(3)))
