"""The laws of every row of DISTANCES, and for each law a wrong distance that it must catch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

from monitor.distances import DISTANCES, Distance, hellinger, total_variation
from monitor.model import Floats, Ints

Law = Callable[[Distance, Ints, Ints, Floats], None]

OF_COUNTS = [row for row in DISTANCES.values() if row.cells in {"bins", "grid"}]
OF_VECTORS = [row for row in DISTANCES.values() if row not in OF_COUNTS]
COUNTS_ALL_CELLS = {"psi": "half a count in every cell weighs less among more records, and in more cells"}
NEEDS_A_SPREAD = {"wasserstein_normed": "a reference in one cell has no standard deviation"}


def is_zero_on_itself(distance: Distance, window: Ints, reference: Ints, positions: Floats) -> None:
    assert distance(window, window, positions) == 0
    assert distance(reference, reference, positions) == 0


def is_symmetric_if_declared(distance: Distance, window: Ints, reference: Ints, positions: Floats) -> None:
    if distance.symmetric:
        assert distance(window, reference, positions) == distance(reference, window, positions)


def is_finite_and_in_range(distance: Distance, window: Ints, reference: Ints, positions: Floats) -> None:
    value = distance(window, reference, positions)
    assert np.isfinite(value)
    assert 0 <= value <= distance.upper


def knows_shares_only(distance: Distance, window: Ints, reference: Ints, positions: Floats) -> None:
    if distance.name not in COUNTS_ALL_CELLS:
        value = distance(3 * window, 1000 * reference, positions)
        np.testing.assert_allclose(value, distance(window, reference, positions), rtol=1e-12, atol=1e-15)


def ignores_cells_empty_on_both_sides(distance: Distance, window: Ints, reference: Ints, positions: Floats) -> None:
    if distance.name not in COUNTS_ALL_CELLS:
        wider = distance(np.append(window, 0), np.append(reference, 0), np.append(positions, positions[-1] + 1e12))
        np.testing.assert_allclose(wider, distance(window, reference, positions), rtol=1e-12, atol=1e-15)


def many_are_as_one_by_one(distance: Distance, window: Ints, reference: Ints, positions: Floats) -> None:
    windows = np.stack([window, reference, window + reference])
    references = np.stack([reference, np.flip(reference)])
    together = distance(windows[:, np.newaxis], references, positions)
    alone = [[float(distance(one, other, positions)) for other in references] for one in windows]
    np.testing.assert_array_equal(together, np.array(alone))
    np.testing.assert_array_equal(distance(windows, reference, positions), together[:, 0])


def is_undefined_without_observations(distance: Distance, window: Ints, reference: Ints, positions: Floats) -> None:
    nothing = np.zeros_like(window)
    windows = np.stack([window, nothing, window, nothing])
    references = np.stack([reference, reference, nothing, nothing])
    assert np.isnan(distance(windows, references, positions)).tolist() == [False, True, True, True]


def leaves_its_arguments_alone(distance: Distance, window: Ints, reference: Ints, positions: Floats) -> None:
    before = [array.copy() for array in (window, reference, positions)]
    distance(window, reference, positions)
    for array, copy in zip((window, reference, positions), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def grows_as_more_moves(distance: Distance, window: Ints, reference: Ints, positions: Floats) -> None:
    n = int(window.sum() + reference.sum())
    ends = np.zeros((5, len(window) + 1))
    ends[:, 0], ends[:, -1] = n * np.arange(7, 2, -1), n * np.arange(1, 6)
    values = distance(ends, ends[0], np.append(positions, positions[-1] + 1))
    assert (np.diff(values) > 0).all()


LAWS: list[Law] = [
    is_zero_on_itself,
    is_symmetric_if_declared,
    is_finite_and_in_range,
    knows_shares_only,
    ignores_cells_empty_on_both_sides,
    many_are_as_one_by_one,
    is_undefined_without_observations,
    leaves_its_arguments_alone,
    grows_as_more_moves,
]


def as_counts(cells: list[int]) -> Ints:
    return np.array(cells, np.int64)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Ints, Ints, Floats]:
    """Two sides with an observation each, many of their cells empty, and positions far below 1 or far above."""
    width = draw(st.integers(1, 12))
    count = st.just(0) | st.integers(0, 9) | st.integers(0, 2**30)
    side = st.lists(count, min_size=width, max_size=width).filter(any).map(as_counts)
    steps = draw(st.lists(st.integers(1, 1000), min_size=width, max_size=width))
    return draw(side), draw(side), np.cumsum(steps) * draw(st.sampled_from([1e-9, 1.0, 1e6]))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("distance", OF_COUNTS, ids=lambda distance: distance.name)
@settings(max_examples=25, deadline=None)
@given(pair=pairs())
def test_every_distance_keeps_every_law(law: Law, distance: Distance, pair: tuple[Ints, Ints, Floats]) -> None:
    window, reference, positions = pair
    if distance.name in NEEDS_A_SPREAD:
        assume(min(np.count_nonzero(window), np.count_nonzero(reference)) > 1)
    law(distance, window, reference, positions)


def _half_counts_on_one_side(window: Ints, reference: Ints) -> Floats:
    return hellinger(np.asarray(window + 0.5, np.float64), reference)


def _one_way(window: Ints, reference: Ints) -> Floats:
    p, q = window + 0.5, reference + 0.5
    return np.asarray(special.rel_entr(p / p.sum(), q / q.sum()).sum())


def _without_half_counts(window: Ints, reference: Ints) -> Floats:
    p, q = window / window.sum(), reference / reference.sum()
    return np.asarray((special.rel_entr(p, q) + special.rel_entr(q, p)).sum())


def _of_counts(window: Ints, reference: Ints) -> Floats:
    return np.asarray(np.abs(window - reference).sum(axis=-1), np.float64)


def _mean_over_cells(window: Ints, reference: Ints) -> Floats:
    return np.asarray(total_variation(window, reference) / window.shape[-1])


def _over_all_series(window: Ints, reference: Ints) -> Floats:
    return np.asarray(np.abs(window / window.sum() - reference / reference.sum()).sum(axis=-1))


def _zero_without_observations(window: Ints, reference: Ints) -> Floats:
    return np.nan_to_num(hellinger(window, reference))


def _in_place(window: Ints, reference: Ints) -> Floats:
    window *= 2
    return hellinger(window, reference)


def _saturating(window: Ints, reference: Ints) -> Floats:
    return np.asarray(np.minimum(total_variation(window, reference), 0.25))


WRONG: dict[Law, Callable[[Ints, Ints], Floats]] = {
    is_zero_on_itself: _half_counts_on_one_side,
    is_symmetric_if_declared: _one_way,
    is_finite_and_in_range: _without_half_counts,
    knows_shares_only: _of_counts,
    ignores_cells_empty_on_both_sides: _mean_over_cells,
    many_are_as_one_by_one: _over_all_series,
    is_undefined_without_observations: _zero_without_observations,
    leaves_its_arguments_alone: _in_place,
    grows_as_more_moves: _saturating,
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_every_law_catches_a_wrong_distance(law: Law) -> None:
    wrong = Distance("wrong", WRONG[law], frozenset({"numeric"}), "bins", upper=np.inf)
    with pytest.raises(AssertionError):
        law(wrong, as_counts([3, 0, 1, 7, 3]), as_counts([1, 5, 0, 3, 4]), np.arange(5.0))


def test_rows_stand_under_their_own_name_and_kinds() -> None:
    assert all(name == row.name for name, row in DISTANCES.items())
    of_kind = {
        kind: {row.name for row in DISTANCES.values() if kind in row.kinds}
        for kind in ("numeric", "category", "rate", "vector")
    }
    assert of_kind["vector"] == {row.name for row in OF_VECTORS} == {"mmd", "frechet", "centroid_shift"}
    assert of_kind["numeric"] == {"psi", "jensen_shannon", "hellinger", "ks", "wasserstein", "wasserstein_normed"}
    assert of_kind["category"] == {"psi", "jensen_shannon", "hellinger", "total_variation", "chi_square"}
    assert of_kind["rate"] == {"psi", "jensen_shannon", "hellinger"}
    assert {row.name for row in DISTANCES.values() if row.cells == "grid"} == of_kind["numeric"] - of_kind["category"]


@pytest.mark.parametrize("distance", OF_COUNTS, ids=lambda distance: distance.name)
def test_no_cells_are_no_observations_and_other_cells_are_refused(distance: Distance) -> None:
    assert np.isnan(distance(np.empty((2, 0)), np.empty(0), np.empty(0))).all()
    with pytest.raises(ValueError, match="the window has 1 cells, the reference 3"):
        distance(as_counts([4]), as_counts([1, 2, 3]), np.arange(3.0))


def test_what_is_declared_asymmetric_is() -> None:
    narrow, wide, positions = as_counts([0, 5, 5, 0]), as_counts([5, 0, 0, 5]), np.arange(4.0)
    asymmetric = [row for row in DISTANCES.values() if not row.symmetric]
    assert [row.name for row in asymmetric] == ["wasserstein_normed"]
    for row in asymmetric:
        assert row(narrow, wide, positions) != row(wide, narrow, positions)


# ---- distances of vectors -------------------------------------------------------------------------------------------

VectorLaw = Callable[[Distance, Floats, Floats], None]


def side_of(distance: Distance, rng: np.random.Generator, size: int, spread: float) -> Floats:
    """What is known of the vectors of one side: a mean, or mean and covariance."""
    mean = rng.normal(size=size) * spread
    if distance.cells == "moments":
        root = rng.normal(size=(size, max(size - 1, 1)))  # of less than full rank
        return np.column_stack([mean, root @ root.T * spread**2])
    return np.asarray(mean / np.linalg.norm(mean) if distance.cells == "features" else mean)


def nothing_like(side: Floats) -> Floats:
    return np.full_like(side, np.nan)


def is_zero_between_equals(distance: Distance, window: Floats, reference: Floats) -> None:
    for side in (window, reference):
        assert 0 <= distance(side, side) <= 1e-6 * max(float(np.square(side).sum()), 1)


def is_as_far_back(distance: Distance, window: Floats, reference: Floats) -> None:
    np.testing.assert_allclose(distance(window, reference), distance(reference, window), rtol=1e-6, atol=1e-9)


def is_a_number_in_range(distance: Distance, window: Floats, reference: Floats) -> None:
    assert 0 <= distance(window, reference) <= distance.upper


def vectors_of_many_are_as_one_by_one(distance: Distance, window: Floats, reference: Floats) -> None:
    windows, references = np.stack([window, reference, (window + reference) / 2]), np.stack([reference, window])
    together = distance(windows[:, np.newaxis], references)
    alone = [[float(distance(one, other)) for other in references] for one in windows]
    np.testing.assert_allclose(together, np.array(alone), rtol=1e-12, atol=1e-12)


def is_undefined_without_vectors(distance: Distance, window: Floats, reference: Floats) -> None:
    nothing = nothing_like(window)
    found = distance(np.stack([window, nothing, window, nothing]), np.stack([reference, reference, nothing, nothing]))
    assert np.isnan(found).tolist() == [False, True, True, True]


def changes_neither_side(distance: Distance, window: Floats, reference: Floats) -> None:
    before = window.copy(), reference.copy()
    distance(window, reference)
    np.testing.assert_array_equal(window, before[0])
    np.testing.assert_array_equal(reference, before[1])


def refuses_another_size(distance: Distance, window: Floats, reference: Floats) -> None:
    with pytest.raises(ValueError, match="the window has"):
        distance(window[..., :-1], reference)


VECTOR_LAWS: list[VectorLaw] = [
    is_zero_between_equals,
    is_as_far_back,
    is_a_number_in_range,
    vectors_of_many_are_as_one_by_one,
    is_undefined_without_vectors,
    changes_neither_side,
    refuses_another_size,
]


@pytest.mark.parametrize("law", VECTOR_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("distance", OF_VECTORS, ids=lambda distance: distance.name)
@pytest.mark.parametrize("size", [2, 5, 24])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_every_distance_of_vectors_keeps_every_law(
    law: VectorLaw, distance: Distance, size: int, spread: float
) -> None:
    rng = np.random.default_rng(size)
    law(distance, side_of(distance, rng, size, spread), side_of(distance, rng, size, spread))


def _plus_a_bit(window: Floats, reference: Floats) -> Floats:
    return np.asarray(((window - reference) ** 2).sum(axis=-1) + 0.1)


def _from_the_window(window: Floats, reference: Floats) -> Floats:
    return np.asarray(np.sqrt(((window - reference) ** 2).sum(axis=-1)) / np.sqrt((window**2).sum(axis=-1)))


def _signed(window: Floats, reference: Floats) -> Floats:
    return np.asarray((window - reference).sum(axis=-1))


def _of_all_together(window: Floats, reference: Floats) -> Floats:
    return np.asarray(np.full((window - reference).shape[:-1], np.abs(window - reference).sum()))


def _zero_of_nothing(window: Floats, reference: Floats) -> Floats:
    return np.nan_to_num(_from_the_window(window, reference))


def _scaled_in_place(window: Floats, reference: Floats) -> Floats:
    window /= 2
    return _from_the_window(window, reference)


def _cut_to_fit(window: Floats, reference: Floats) -> Floats:
    return np.asarray(np.abs(window - reference[..., : window.shape[-1]]).sum(axis=-1))


WRONG_OF_VECTORS: dict[VectorLaw, Callable[[Floats, Floats], Floats]] = {
    is_zero_between_equals: _plus_a_bit,
    is_as_far_back: _from_the_window,
    is_a_number_in_range: _signed,
    vectors_of_many_are_as_one_by_one: _of_all_together,
    is_undefined_without_vectors: _zero_of_nothing,
    changes_neither_side: _scaled_in_place,
    refuses_another_size: _cut_to_fit,
}


@pytest.mark.parametrize("law", VECTOR_LAWS, ids=lambda law: law.__name__)
def test_every_law_of_vectors_catches_a_wrong_distance(law: VectorLaw) -> None:
    wrong = Distance("wrong", WRONG_OF_VECTORS[law], frozenset({"vector"}), "features", upper=np.inf)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        law(wrong, np.array([0.1, -2.0, 0.3]), np.array([0.5, 0.5, 0.4]))
