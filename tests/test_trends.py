"""Slopes: exact on lines, intervals that hold, and a step that is no ramp."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scipy import special, stats

from monitor.evidence import Evidence
from monitor.model import Categories, Column, Floats, Kind
from monitor.readings.trends import LEAST_SLICES, Trend, goes_on, slopes
from monitor.settings import DAY
from tests.test_evidence import World
from tests.test_explain import READING
from tests.test_readings import LENGTH, Change, Watched, numbers


def path_of(world: World, rng: np.random.Generator, series: int, rates: Floats) -> Floats:
    """Share and records of each slice, the rate being `rates`. Shape (series, slices, 2)."""
    level, found = rng.standard_normal(series), np.zeros((series, len(rates), 2))
    for at, rate in enumerate(rates.tolist()):
        level = world.memory * level + np.sqrt(1 - world.memory**2) * rng.standard_normal(series)
        n = rng.poisson(world.records, series)
        z = special.ndtri(rate) * np.sqrt(1 + world.swing**2) + world.swing * level
        found[:, at] = np.stack([rng.binomial(n, special.ndtr(z)) / np.maximum(n, 1), n], axis=1)
    return found


def watched(world: World, rates: Floats, series: int = 200) -> Evidence:
    rng = np.random.default_rng(1)
    evidence = Evidence.begin(world.nulls(rng, series))
    for share, n in path_of(world, rng, series, rates).transpose(1, 2, 0):
        evidence.step(share, n, n)
    return evidence


def test_a_line_has_its_slope_and_units_their_weight() -> None:
    """Where slices differ by their units alone it is the least squares of all slices, as scipy has it."""
    evidence = Evidence.begin(World(0.3, 200).nulls(np.random.default_rng(0), 1))
    rates = [*np.full(32, 0.3), *(0.3 + 0.0005 * np.arange(8))]
    for rate in rates:
        evidence.step(np.array([rate]), np.array([200.0]), np.array([200.0]))
    whole = slopes(evidence, np.zeros(1, np.int64))
    line = stats.linregress(np.arange(40), rates)
    assert whole.slope[0] == pytest.approx(line.slope, rel=0.15)  # old slices are known by fours
    away = np.arange(40.0) - 19.5
    error = 1.96 * np.sqrt(0.3 * 0.7 / 200 / (away @ away))
    assert error <= (whole.high[0] - whole.low[0]) / 2 <= 1.4 * error


@pytest.mark.parametrize("world", [World(0.05, 60), World(0.3, 100, 0.1), World(0.05, 200, 0.1)], ids=str)
@pytest.mark.parametrize("grows", [0.0, 1.0])
def test_intervals_of_slopes_hold_the_true_one(world: World, grows: float) -> None:
    """200 series with a reference each, on a rate that stays or doubles within the slices watched; 0.895 to 0.98."""
    for slices in (24, 64, 200):
        rates = world.rate * (1 + grows * np.arange(slices) / slices)
        found, true = slopes(watched(world, rates), np.arange(200)), rates[1] - rates[0]
        assert 0.88 <= ((found.low <= true) & (true <= found.high)).mean() <= 0.995


def test_less_than_two_windows_has_no_slope() -> None:
    evidence = watched(World(0.3, 50), np.full(LEAST_SLICES - 1, 0.3), series=3)
    assert np.isnan(np.stack(slopes(evidence, np.arange(3)))).all()


def test_a_step_has_no_slope_since_it_began_and_a_ramp_has() -> None:
    world, quiet = World(0.02, 400), np.full(64, 0.02)
    step = watched(world, np.concatenate([quiet, np.full(256, 0.04)]), 100)
    ramp = watched(world, np.concatenate([quiet, 0.02 + 0.02 * np.arange(256) / 256]), 100)
    rising = []
    for evidence in (step, ramp):
        last = np.array([evidence.strongest(row)[0] for row in range(100)])
        rising.append(float((slopes(evidence, np.arange(100), last).low > 0).mean()))
    assert rising[0] <= 0.06
    assert rising[1] >= 0.7
    assert (slopes(step, np.arange(100)).low > 0).mean() > 0.95  # a line through the step itself rises


@pytest.mark.parametrize(
    ("slope", "kind", "said"),
    [(0.048, "rate", True), (0.02, "rate", False), (-0.048, "rate", False), (0.048, "category", False)],
)
def test_a_line_is_told_of_where_it_makes_up_the_effect(slope: float, kind: Kind, *, said: bool) -> None:
    """Over half a day a slope of 0.048 makes 0.024, of a rate that is 0.02 more and of a value that is 0.09 more."""
    seen = msgspec.structs.replace(READING, kind=kind, effect=0.02, at=DAY // 2, changed_at=0)
    assert goes_on(Trend(slope, slope - 0.01, slope + 0.01, "a day"), seen) is said
    assert not goes_on(Trend(slope, slope, slope, "a day"), msgspec.structs.replace(seen, changed_at=None))


def test_trends_are_a_day_and_in_the_units_of_the_owner() -> None:
    stream = Watched(records=300)
    begin = stream.number

    def growing(values: dict[str, Column]) -> dict[str, Column]:
        by, n = 0.01 * (stream.number - begin), len(numbers(values, "error"))
        hits = np.random.default_rng(stream.number).random(n) < 0.05 + by / 5
        return values | {"chars": numbers(values, "chars") * np.exp(by / 2), "error": hits.astype(np.float64)}

    stream.push(LEAST_SLICES - 1, growing)
    assert not stream.judge.trends(stream.read().values())
    stream.push(37, growing)
    found = {key[2]: trend for key, trend in stream.judge.trends(stream.read().values()).items()}
    slices = DAY / LENGTH
    assert found["error"].unit == "difference of rates a day"
    assert found["error"].low <= 0.002 * slices <= found["error"].high
    assert found["chars"].unit.startswith("relative change of the 0.")
    assert found["chars"].low > 0
    assert 0.5 <= found["chars"].value / (0.005 * slices) <= 1.3  # of a share near 1 little is left to fall
    assert found["score"].unit == "change of the 0.5 quantile a day"
    assert found["score"].low <= 0 <= found["score"].high
    assert "reason" not in found  # nothing of it moved


@pytest.mark.parametrize(("name", "sign"), [("stop", -1), ("length", 1)])
def test_of_a_category_the_value_that_moved_has_the_trend(name: str, sign: int) -> None:
    stream = Watched(records=300)
    stream.push(60, shifting(stream))
    reading = msgspec.structs.replace(stream.read()["reason"], moved=name)
    (trend,) = stream.judge.trends([reading]).values()
    assert trend.unit == f"share of {name} a day"
    assert sign * trend.value == pytest.approx(0.003 * DAY / LENGTH, rel=0.25)


@pytest.mark.parametrize(("name", "sign"), [("en", -1), ("rare values", 1)])
def test_of_two_values_one_is_watched_and_either_is_told(name: str, sign: int) -> None:
    def languages(stream: Watched, by: float) -> Change:
        def change(values: dict[str, Column]) -> dict[str, Column]:
            n = len(numbers(values, "error"))
            share = 0.004 + by * (stream.number - 288)
            codes = np.random.default_rng(stream.number).random(n) < share
            return values | {"reason": Categories(["en", "ja"], codes.astype(np.int32))}

        return change

    start = Watched(records=40, change=lambda values: values | {"reason": few(values)})
    start.push(60, languages(start, 0.003))
    reading = msgspec.structs.replace(start.read()["reason"], moved=name)
    (trend,) = start.judge.trends([reading]).values()
    assert sign * trend.value == pytest.approx(0.003 * DAY / LENGTH, rel=0.35)


def few(values: dict[str, Column]) -> Categories:
    rng, n = np.random.default_rng(len(numbers(values, "error"))), len(numbers(values, "error"))
    return Categories(["en", "ja"], (rng.random(n) < 0.004).astype(np.int32))


def shifting(stream: Watched) -> Change:
    def change(values: dict[str, Column]) -> dict[str, Column]:
        by, n = 0.003 * (stream.number - 288), len(numbers(values, "error"))
        codes = np.random.default_rng(stream.number).choice(3, n, p=[0.8 - by, 0.15 + by, 0.05])
        return values | {"reason": Categories(["stop", "length", "tool"], codes.astype(np.int32))}

    return change
