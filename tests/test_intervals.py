"""Intervals of effects: closed forms, other libraries, and how often they hold the true effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from monitor.calibration import NullMoments, shift_ends
from monitor.evidence import no_nulls, variances
from monitor.readings.intervals import (
    Z_DECILES,
    Z_STRETCH,
    Uncertain,
    of_differences,
    of_ratios,
    of_total_variation,
    share_bounds,
    wilson,
)
from tests.bench.coverage import CHANGES, WHAT, simulate
from tests.bench.null import Setting
from tests.test_readings import BOT, CHARS, Watched, doubled


def test_wilson_is_that_of_scipy() -> None:
    for hits, n in ((0, 40), (3, 40), (40, 40), (500, 900)):
        known = stats.binomtest(hits, n).proportion_ci(method="wilson")
        found = wilson(np.array(hits / n), np.array(1 / n))
        assert [float(end) for end in found] == pytest.approx([known.low, known.high], abs=1e-6)


def test_a_difference_of_rates_without_successes_has_a_width() -> None:
    """Known of no success on either side: Newcombe's square root of both upper ends."""
    low, high = of_differences(np.zeros(1), np.zeros(1), np.array([1 / 50]), np.array([1 / 500]))
    upper = [stats.binomtest(0, n).proportion_ci(method="wilson").high for n in (50, 500)]
    assert (-low[0], high[0]) == pytest.approx((upper[1], upper[0]), abs=1e-6)


def test_nine_deciles_hold_at_once() -> None:
    """The deciles of an empirical distribution are a Brownian bridge; the normal probability is scipy's."""
    q = np.arange(1, 10) / 10
    covariance = np.minimum.outer(q, q) - np.outer(q, q)
    error = np.sqrt(np.diag(covariance))
    bridge = stats.multivariate_normal(np.zeros(9), covariance / np.outer(error, error), seed=1)
    ends = np.full(9, Z_DECILES)
    assert float(bridge.cdf(ends, lower_limit=-ends)) == pytest.approx(0.95, abs=0.002)
    assert pytest.approx(-special.ndtri(0.025 / 10), abs=0.01) == Z_STRETCH


def test_shares_that_nothing_bounds_are_those_of_all_or_none() -> None:
    low, high = share_bounds(np.array([0.1, 0.5, 0.9]), np.full(3, 1 / 40))
    assert low[0] == 0
    assert high[2] == 1
    assert (low[1], high[1]) == pytest.approx(
        (0.5 - Z_DECILES * np.sqrt(0.25 / 40), 0.5 + Z_DECILES * np.sqrt(0.25 / 40))
    )


def test_ratios_are_joined_by_their_logarithms_and_may_be_open() -> None:
    usual, ends = np.full(3, 10.0), np.array([[8.0, 12.5]] * 3)
    found, low, high = np.array([20.0, 20.0, 0.0]), np.array([16.0, 0.0, 0.0]), np.array([25.0, np.inf, 5.0])
    least, most = of_ratios(found, low, high, usual, ends)
    both = np.hypot(np.log(1.25), np.log(1.25))
    assert (least[0], most[0]) == pytest.approx((2 * np.exp(-both), 2 * np.exp(both)), rel=1e-3)
    assert (least[1], most[1]) == (0, np.inf)
    assert least[2] == 0
    assert most[2] == pytest.approx(0.5, rel=0.01)


def of_values(p: list[float], r: list[float], n: float) -> tuple[float, float]:
    known = Uncertain(np.array(r), np.full(len(r), 1 / n), np.full(len(r), 1 / n))
    low, high = of_total_variation([(np.array(p), np.array(r))], [known])
    return float(low[0]), float(high[0])


def test_total_variation_is_rid_of_what_noise_adds() -> None:
    even = [1 / 16] * 16
    noisy = [
        1 / 16 + 0.01 * (-1) ** i for i in range(16)
    ]  # by less than a standard error, sqrt(2 * 0.0586/250) = 0.022
    low, high = of_values(noisy, even, 250)
    assert low == 0
    assert high > 0.08
    clear = of_values([0.5, 0.3, 0.2], [0.8, 0.15, 0.05], 1e6)
    assert clear == pytest.approx((0.3, 0.3), abs=0.003)
    one = of_values([0.9, 0.1], [1.0, 0.0], 400)
    of_rate = of_differences(np.array(0.1), np.array(0.0), np.array(1 / 400), np.array(1 / 400))
    assert one[1] == pytest.approx(float(of_rate[1]))
    assert one[0] == pytest.approx(float(of_rate[0]), abs=1e-4)


@pytest.mark.parametrize("values", [2, 5, 16])
def test_unchanged_categories_have_an_interval_that_begins_at_0(values: int) -> None:
    """2,000 windows of 300 records against references of 3,000."""
    rng, even = np.random.default_rng(0), np.full(values, 1 / values)
    sides = list(zip(rng.multinomial(300, even, 2000) / 300, rng.multinomial(3000, even, 2000) / 3000, strict=True))
    known = Uncertain(even, np.full(values, 1 / 300), np.full(values, 1 / 3000))
    low, high = of_total_variation(sides, [known] * 2000)
    assert (low == 0).mean() >= 0.945
    assert high.min() > 0


def test_an_excess_that_is_an_estimate_counts_as_students_t() -> None:
    nulls = no_nulls()
    one = {name: np.array([value]) for name, value in {"rate": 0.5, "known": 1e9, "unit": 1.0, "base": 0.01}.items()}
    ages = nulls.freedom.shape[1]
    by_age = {"going_on": np.ones((1, ages)), "excess": np.full((1, ages), 3.0), "freedom": np.full((1, ages), 40.0)}
    found = variances(
        replace(nulls, **one, **by_age), np.zeros(1, np.int64), np.array([1200.0]),
        in_slice=np.array([100.0]), ages=np.array([12]),
    )  # fmt: skip
    plain = (1 + 3 * 0.01 * 100) / 1200
    assert np.sqrt(found[0] / plain) == pytest.approx(stats.t(20).ppf(0.975) / stats.norm.ppf(0.975), rel=1e-3)


def test_the_interval_of_a_distance_is_that_of_a_noncentral_chi_square() -> None:
    """Of one whose eigenvalues are all alike, to what a normal approximation is good for."""
    count, rng = 40, np.random.default_rng(0)
    null = NullMoments(*(np.array([value]) for value in (40.0, 40.0, 1.0, 40.0, 1e6)))
    for true in (0.0, 30.0, 200.0):
        drawn = stats.ncx2.rvs(count, true, size=4000, random_state=rng) if true else rng.chisquare(count, 4000)
        moments = NullMoments(*(np.full(4000, float(getattr(null, name)[0])) for name in null.__slots__))
        low, high = shift_ends(drawn, moments)
        assert ((low <= true) & (true <= high)).mean() == pytest.approx(0.96, abs=0.025)


# ---- through the product's own reading function ---------------------------------------------------------------------

SETTINGS = (
    Setting(300, slices=144),
    Setting(300, slices=216, swing=0.25, memory=0.8),
    Setting(600, slices=144, sessions=True),
)


@pytest.mark.parametrize("what", WHAT)
def test_intervals_hold_the_true_effect(what: str) -> None:
    """25 series, 3 windows of each, 3 settings: 225 intervals unchanged, and as many changed."""
    for amount in (0.0, CHANGES[what][1]):
        found = [simulate(setting, what, amount, 25, 2, seed=11) for setting in SETTINGS]
        held = np.concatenate([part.held["window"] for part in found])
        assert len(held) > 150
        assert held.mean() >= 0.92
        assert held.mean() <= 0.995 or what != "rate"
        assert sum(part.below for part in found) / len(found) <= 0.06


def test_every_interval_holds_its_effect_and_none_is_of_nothing() -> None:
    watched = Watched(records=60)
    for change in (None, doubled):
        watched.push(12, change)
        for reading in watched.read().values():
            if reading.signal == "volume":
                assert (reading.effect_low, reading.effect_high) == (None, None)
                continue
            assert reading.effect is not None
            assert reading.effect_low is not None
            assert reading.effect_low <= reading.effect <= (reading.effect_high or np.inf)
    watched.push(12, records=0)
    assert {(r.effect_low, r.effect_high) for n, r in watched.read().items() if n != "volume"} == {(None, None)}


def test_intervals_narrow_with_records() -> None:
    few, many = Watched(records=60), Watched(records=600)
    for watched in (few, many):
        watched.push(12)
    for name, reading in many.read().items():
        if name != "volume":
            here, there = reading, few.read()[name]
            assert width(here) < width(there)


def width(reading: object) -> float:
    low, high = getattr(reading, "effect_low"), getattr(reading, "effect_high")  # noqa: B009
    return float((np.inf if high is None else high) - low)


def test_a_change_that_began_within_the_window_has_the_interval_of_its_stretch() -> None:
    watched = Watched(records=400)
    watched.push(12)
    watched.push(3, lambda values: values | {"error": (np.arange(len(np.asarray(values["error"]))) % 4 == 0) * 1.0})
    error = watched.read()["error"]
    assert error.effect_unit.endswith("in the strongest stretch")
    assert error.effect_low is not None
    assert error.effect_high is not None
    assert error.effect_low <= 0.2 <= error.effect_high  # the window holds a quarter of it
    assert error.effect_low > 0.15


def test_amounts_that_are_always_the_same_did_not_change() -> None:
    def always(values: dict[str, object]) -> dict[str, object]:
        return values | {CHARS.name: np.full(len(np.asarray(values["error"])), 128.0)}

    watched = Watched(records=60, change=always)  # type: ignore[arg-type]
    watched.push(12, always)  # type: ignore[arg-type]
    chars = watched.read()[CHARS.name]
    assert chars.scope == BOT
    assert chars.effect == 0
    assert chars.effect_low == pytest.approx(-0.015, abs=0.005)
    assert chars.effect_high == pytest.approx(0.015, abs=0.005)
