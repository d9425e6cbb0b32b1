"""Units that lie in several slices: what they add, against sums over all pairs of records."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model import Floats
from monitor.summaries.counts import SESSIONS, Counts, count_groups
from monitor.summaries.units import UnitParts, shared_by_lag, shared_by_window

SLICE = st.lists(st.integers(0, 5), min_size=1, max_size=12)
"""The session of each record of a slice; 0 has none."""


def counts(session: list[int], *, sampled: bool) -> Counts:
    hashes, zeros = np.array(session, np.uint64), np.zeros(len(session), np.int64)
    return count_groups(zeros, zeros, 1, hashes, np.array([3.0]) if sampled else None)[0]


def parts_of(session: list[int], *, sampled: bool) -> dict[int, float]:
    """The part of each session in the mean; of a sample by its records, else as one of the units."""
    units = len({name for name in session if name}) + session.count(0)
    share = {name: session.count(name) / len(session) if sampled else 1 / units for name in session if name}
    return dict(share)


def dense(slices: list[list[int]], *, sampled: bool) -> Floats:
    table = np.zeros((len(slices), 6))
    for row, session in enumerate(slices):
        for name, part in parts_of(session, sampled=sampled).items():
            table[row, name] = part
    return table


@given(slices=st.lists(SLICE, min_size=1, max_size=6), sampled=st.booleans())
def test_parts_sum_to_one_and_their_squares_to_the_effective_units(*, slices: list[list[int]], sampled: bool) -> None:
    for session in slices:
        cells = counts(session, sampled=sampled)
        found = UnitParts.of(cells)
        assert found.parts.sum() + found.loose * found.each == pytest.approx(1)
        squares = (found.parts**2).sum() + found.loose * found.each**2
        assert squares == pytest.approx(1 / cells.effective, rel=1e-4)


@given(slices=st.lists(SLICE, min_size=1, max_size=6), sampled=st.booleans())
def test_a_window_and_lags_are_as_summed_over_all_pairs(*, slices: list[list[int]], sampled: bool) -> None:
    held = [UnitParts.of(counts(session, sampled=sampled)) for session in slices]
    table, weights = dense(slices, sampled=sampled), np.arange(1, len(slices) + 1) / sum(range(len(slices) + 1))
    pairs = [(s, t) for s, t in product(range(len(slices)), repeat=2) if s != t]
    expected = sum(weights[s] * weights[t] * float(table[s] @ table[t]) for s, t in pairs)
    alone = sum(s.loose * (w * s.each) ** 3 for s, w in zip(held, weights.tolist(), strict=True))
    squares, cubes = shared_by_window(held, weights)
    assert squares == pytest.approx(expected)
    assert cubes == pytest.approx(float(((weights @ table) ** 3).sum()) + alone)
    assert shared_by_window([None, *held], np.concatenate([[0.5], weights])) == (squares, cubes)

    number, units = np.cumsum([1 + (i == 2) for i in range(len(slices))]), np.arange(1.0, len(slices) + 1)
    by_lag = shared_by_lag(number, units, held, 4)
    for lag in range(1, 4):
        apart = [(s, t) for s, t in pairs if number[t] - number[s] == lag]
        root = [np.sqrt(units[s] * units[t]) for s, t in apart]
        products = [float(table[s] @ table[t]) for s, t in apart]
        assert by_lag[lag] == pytest.approx(np.dot(root, products) / sum(root) if apart else 0.0)
    assert by_lag[0] == 0


def test_sessions_beyond_those_kept_are_spread_over_those_that_are() -> None:
    cells = counts([*range(1, 2 * SESSIONS), 0], sampled=False)
    found = UnitParts.of(cells)
    assert len(found.parts) == SESSIONS
    assert found.parts.sum() + found.each == pytest.approx(1)
