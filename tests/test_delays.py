"""How soon changes are decided, beside the least delay that any procedure that keeps the budget can have on average.

Simulated slice by slice through the code that decides; `tests/bench/budget.py` prints the same of more runs.
"""

from __future__ import annotations

import numpy as np
import pytest

from monitor.readings import watched
from tests.bench.budget import CHANGES, Change, delays

RUNS = 40


def ratios(change: Change) -> tuple[float, float]:
    """The median and the ninth decile of delays over the bound."""
    bound, found = delays(change, RUNS, seed=3)
    median, later = np.sort(found)[[RUNS // 2, int(0.9 * RUNS)]] / bound
    return float(median), float(later)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_changes_are_decided_soon(change: Change) -> None:
    median, later = ratios(change)
    if change.name.startswith("rate"):
        assert median <= 2
        assert later <= 3
    else:
        assert median <= (6 if change.name.startswith("one of") else 4)


def no_parts(*_: object) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    return np.zeros((0, 43), np.bool_)


@pytest.mark.parametrize(
    ("change", "name", "fault"),
    [
        ("length, spread by 30%", "outside_bins", lambda below: below[:0]),
        ("topic of 3% in a cluster of 0.2%", "_VALUES", 15),
        ("one of 30 rare values to 5%", "rare_bins", no_parts),
    ],
)
def test_without_a_share_of_its_own_a_change_is_decided_late(
    change: str, name: str, fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chosen,) = (one for one in CHANGES if one.name == change)
    soon, _ = ratios(chosen)
    monkeypatch.setattr(watched, name, fault)
    assert ratios(chosen)[0] > 1.3 * soon
