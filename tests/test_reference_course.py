"""What course signals took while they were learned: nothing where nothing is, else its name, held against scipy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy import stats

from monitor.calibration import LAGS, ReferenceSlices, multinomial_within
from monitor.engine import _unsteady
from monitor.model import Floats, Scope, Signal
from monitor.reference import ScopeReference, SeriesReference, kept_starts, remedy
from monitor.reference.course import CYCLE, STEP, TREND, Span, _other, _Path, course
from monitor.reference.steady import bins_course
from monitor.reference.units import lag_sum
from monitor.reference_commands import _of_signal
from monitor.settings import DAY, HOUR, parse_duration
from monitor.summaries import Counts, Rate

LENGTH = 25_000
"""Of a slice, that of windows of five minutes; 288 of them are two hours, 3456 a day."""
CHARS = Signal("chars", "numeric")
Path = Callable[[np.random.Generator, int], Floats]
"""Where the mean of a normal signal lies in each slice, in its own standard deviations."""


def autoregressive(rng: np.random.Generator, count: int, rho: float) -> Floats:
    noise, path = rng.normal(size=count), np.empty(count)
    path[0] = noise[0]
    for i in range(1, count):
        path[i] = rho * path[i - 1] + np.sqrt(1 - rho**2) * noise[i]
    return path


def rows_of(path: Path, count: int, units: int, seed: int, bins: int = 16) -> ReferenceSlices:
    rng = np.random.default_rng([seed, count, units])
    kept = np.array(sorted(kept_starts(0, count, 1)), np.int64)
    below = stats.norm.cdf(stats.norm.ppf(np.arange(bins + 1) / bins) - path(rng, count)[kept][:, None])
    shares = rng.multinomial(units, np.diff(below, axis=1)) / units
    each = np.full(len(kept), float(units))
    total, scale = float(units * count), count / len(kept)
    lags = np.array([lag_sum(kept, each, lag) for lag in range(LAGS)]) * scale / total**2
    within = multinomial_within(shares, each)
    return ReferenceSlices(kept, shares, each, each, within, shares.mean(axis=0), total, lags, 1 / total)


def courses(path: Path, count: int, units: int, series: int) -> list[str]:
    span = Span(LENGTH, count)
    return [bins_course(CHARS, rows_of(path, count, units, seed), span) for seed in range(series)]


# ---- nothing where nothing is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.8])
@pytest.mark.parametrize(("count", "units"), [(72, 200), (288, 40), (3456, 200)])
def test_swings_about_a_steady_mean_are_no_course(count: int, units: int, rho: float) -> None:
    """200 series whose mean swings by 0.2 standard deviations: at most 2 are named."""
    found = courses(lambda rng, n: 0.2 * autoregressive(rng, n, rho), count, units, 200)
    assert sum(map(bool, found)) <= 2, [name for name in found if name]


def test_a_course_too_small_to_matter_is_not_named() -> None:
    small = courses(lambda _, n: 0.03 * np.sin(2 * np.pi * 3 * np.arange(n) / n), 288, 100_000, 3)
    assert small == [""] * 3


# ---- its name -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "units"), [(288, 200), (3456, 40)])
def test_trends_and_steps_are_named(count: int, units: int) -> None:
    """50 series each, among swings of 0.05 standard deviations that last."""

    def swings(rng: np.random.Generator, n: int) -> Floats:
        return 0.05 * autoregressive(rng, n, 0.8)

    trends = courses(lambda rng, n: 0.8 * np.arange(n) / n + swings(rng, n), count, units, 50)
    assert trends.count(TREND) >= 45

    def stepping(rng: np.random.Generator, n: int) -> Floats:
        return 0.4 * (np.arange(n) >= n * rng.uniform(0.25, 0.75)) + swings(rng, n)

    steps = courses(stepping, count, units, 50)
    assert steps.count(STEP) >= 45


@pytest.mark.parametrize(
    ("count", "units", "cycles"), [(288, 200, 3.0), (288, 200, 7.3), (3456, 40, 4.0), (3456, 40, 7.3)]
)
def test_cycles_are_named_with_their_period(count: int, units: int, cycles: float) -> None:
    """50 series each of 0.2 standard deviations about the mean, among swings that last; periods within 5 %."""

    def path(rng: np.random.Generator, n: int) -> Floats:
        wave = np.sin(2 * np.pi * (cycles * np.arange(n) / n + rng.random()))
        return 0.2 * wave + 0.05 * autoregressive(rng, n, 0.8)

    found = [name.removeprefix(CYCLE) for name in courses(path, count, units, 50) if name.startswith(CYCLE)]
    period = count * LENGTH / cycles
    near = [text for text in found if abs(parse_duration(text) / period - 1) <= 0.05]
    assert len(near) >= 45, found
    if period == 6 * HOUR:
        assert near.count("6h") >= 45


def test_day_and_night_are_a_cycle() -> None:
    """50 series that go up and down at once four times a day."""
    found = courses(
        lambda rng, n: 0.2 * np.sign(np.sin(2 * np.pi * (4 * np.arange(n) / n + rng.random()))), 3456, 200, 50
    )
    assert found.count(f"{CYCLE}6h") >= 40


def test_less_than_two_periods_are_no_cycle() -> None:
    found = courses(lambda rng, n: 0.4 * np.sin(2 * np.pi * (1.5 * np.arange(n) / n + rng.random())), 288, 200, 20)
    assert not [name for name in found if name.startswith(CYCLE) and parse_duration(name[len(CYCLE) :]) > HOUR]


def test_a_seasonal_reference_is_not_told_of_cycles() -> None:
    rows = rows_of(lambda _, n: 0.3 * np.sin(2 * np.pi * 4 * np.arange(n) / n), 3456, 200, 1)

    def named(rows: ReferenceSlices) -> str:
        return course(rows, Span(LENGTH, 3456), level=1e-6, matters=lambda _: True, stepped=False)

    assert named(rows) == f"{CYCLE}6h"
    assert named(replace(rows, season=cast("Any", object()))) == ""


# ---- what it is made of ---------------------------------------------------------------------------------------------


def test_fits_are_those_of_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    number = np.sort(rng.choice(400, 150, replace=False)).astype(np.int64)
    units = rng.uniform(0.5, 1.5, 150)
    y = rng.normal(size=150)
    y -= units @ y / units.sum()
    periods = np.array(_other(Span(LENGTH, 400)))
    least = []
    for period in periods:
        turn = 2 * np.pi * number / period
        design = np.stack([np.ones(150), np.cos(turn), np.sin(turn)], axis=1) * np.sqrt(units)[:, None]
        least.append(float(np.linalg.lstsq(design, y * np.sqrt(units))[1][0]))
    sine = _Path(number, y, units).sine(periods, LENGTH, 1)
    assert sine.squares == pytest.approx(min(least), rel=1e-9)

    even = _Path(number, y - y.mean(), np.ones(150))
    monkeypatch.setattr(_Path, "apart", lambda *_: 150.0)
    assert even.chance(even.line()) == pytest.approx(float(stats.linregress(number, y).pvalue), rel=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_slices_that_are_alike_count_as_fewer(rho: float) -> None:
    """100 series of 2000 slices: on average n (1 - rho)/(1 + rho), within a tenth."""
    found = []
    for seed in range(100):
        y = autoregressive(np.random.default_rng(seed), 2000, rho)
        path = _Path(np.arange(2000), y - y.mean(), np.ones(2000))
        found.append(path.apart(path.line()))
    assert np.mean(found) == pytest.approx(2000 * (1 - rho) / (1 + rho), rel=0.1)


def test_periods_that_are_tried_lie_close_and_fit_twice() -> None:
    periods = np.array(_other(Span(LENGTH, 3456)))
    assert periods[0] == 3456 / 2
    assert periods[-1] >= 24
    assert (periods[:-1] / periods[1:] <= 1.0201).all()
    assert _other(Span(LENGTH, 47)) == []


# ---- what is said of it ---------------------------------------------------------------------------------------------


def test_the_notice_names_courses_and_what_would_know_a_cycle() -> None:
    bot = Scope("bot")

    def reference(**named: str) -> ScopeReference:
        series = {n: SeriesReference(bot, Signal(n, "rate"), Rate(Counts()), {}, unsteady=c) for n, c in named.items()}
        return ScopeReference(bot, 0, DAY, {}, {}, series)

    said = "not steady while it was learned, so that it tells little: "
    assert _unsteady(reference(a="a trend", b="", c="a step")) == said + "a (a trend), c (a step)"
    cycles = reference(a="a cycle of about 6h", b="a cycle of about 1h")
    cure = "; `reference: {kind: seasonal, period: 6h}` would know such a cycle"
    assert _unsteady(cycles) == f"{said}a (a cycle of about 6h), b (a cycle of about 1h){cure}"
    assert ScopeReference.load(cycles.dump()).unsteady == cycles.unsteady
    shown = cast("Any", SimpleNamespace(scopes={bot: cycles}, signals={"a": Signal("a", "rate")}))
    assert _of_signal(shown, "a") == ("rate", "0", "bot (a cycle of about 6h)")
    assert remedy(["a step"]) == ""
    many = reference(**dict.fromkeys("abcdef", "a step"))
    assert _unsteady(many).endswith("e (a step) and others")
