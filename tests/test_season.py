"""Seasons: what is usual by the time of a cycle, what its means absorb, and that a change shows at any time of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from monitor.baselines import Baselines
from monitor.calibration import LAGS, Cycle, FalseAlarmSettings, Season, season_of
from monitor.engine import Engine, Plan
from monitor.evidence import Evidence, join_nulls, share_nulls
from monitor.model import Categories, Column, Floats, Ints, Kind, Reading, Scope, Signal
from monitor.readings import Judge, without
from monitor.reference import Learning, ReferenceSettings, ScopeReference
from monitor.reference_file import pack, unpack
from monitor.sampled import SampledSignals
from monitor.settings import SECOND
from monitor.slices import StreamSettings
from monitor.summaries import Category, summarise
from monitor.windows import SLICES, Contents, Slice, add_slices
from tests.bench.null import Setting, simulate
from tests.test_engine import records
from tests.test_evidence import reference as plain_reference
from tests.test_reference import BOT, SIGNALS, SIZE

VECTOR = Signal("topic", "vector", size=16, sample=True, fingerprint="test")
BUDGET = {False: 1e-6, True: 1e-6}
PERIOD = 96
CYCLE = Cycle(PERIOD * SECOND, 24)


# ---- what the means of phases absorb --------------------------------------------------------------------------------


def laid_independently(cycle: Cycle, number: Ints, *, lines: bool) -> Floats:
    """Weights of phases under each slice of a second, by np.interp around the circle."""
    middle, count = (number * 1000 + 500) % cycle.period / cycle.length, cycle.phases
    if not lines:
        steps: Floats = np.eye(count)[np.floor(middle).astype(int)]
        return steps
    centres = np.arange(-1, count + 1) + 0.5
    rows = [
        np.interp(middle, centres, np.eye(count)[np.arange(-1, count + 1) % count, phase]) for phase in range(count)
    ]
    return np.stack(rows, axis=1)


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("periods", [2, 3.3])
def test_what_means_of_phases_absorb_is_given_back_exactly(periods: float, *, lines: bool) -> None:
    """The covariance of residuals is (1 - H) C (1 - H)': from its lags those of C come back, whatever they are."""
    cycle, count = Cycle(72 * 1000, 12), int(72 * periods)
    number, rng = np.arange(count), np.random.default_rng(0)
    units = np.full(count, 30.0)
    in_phase = np.eye(12)[(number % 72) // 6]
    trend = in_phase @ rng.normal(size=12) if not lines else np.sin(2 * np.pi * (number + 0.5) / 72)
    shares = np.stack([0.5 - 0.1 * trend, 0.5 + 0.1 * trend], axis=1)
    total = in_phase.T @ units
    means = (in_phase.T @ (units[:, None] * shares) / total[:, None], total, 1 / total)
    season = season_of(cycle, means, number=number, shares=shares, units=units, seen=units, span=(0, count, 1000))
    assert season.lines is lines
    between, within = 0.7 ** np.arange(LAGS) - 0.2, 5.0
    apart = np.abs(number[:, None] - number)
    full = np.where(apart < LAGS, between[np.minimum(apart, LAGS - 1)], 0) + within * np.diag(1 / units)
    hat = laid_independently(cycle, number, lines=lines) @ (in_phase / in_phase.sum(axis=0)).T
    left = (np.eye(count) - hat) @ full @ (np.eye(count) - hat).T
    products = np.array([np.diagonal(left, lag).mean() for lag in range(LAGS)])
    products[0] -= within / 30
    assert season.given_back(products, within) == pytest.approx(between, abs=1e-9)
    weights = rng.random(LAGS)
    assert season.for_residuals(weights) @ (products - within * season.own) == pytest.approx(weights @ between)
    assert np.abs(products - between).max() > 0.1  # else nothing was absorbed
    # And so is the variance of the mean of a phase.
    means_of = in_phase / in_phase.sum(axis=0)
    exact = float(np.mean([means_of[:, p] @ (full - within * np.diag(1 / units)) @ means_of[:, p] for p in range(12)]))
    assert between @ season.lag_weights == pytest.approx(exact)


def test_what_goes_on_beyond_the_lags_is_given_back_as_well() -> None:
    """A day that is unlike others throughout a phase: of two days half of that is absorbed, at every lag."""
    cycle, number = Cycle(240 * 1000, 4), np.arange(480)
    passage, units, total = number // 60, np.full(480, 30.0), np.full(4, 3600.0)
    in_phase = np.eye(4)[passage % 4]
    means = in_phase[[0, 60, 120, 180], :2], total, 1 / total
    season = season_of(
        cycle, means, number=number, shares=in_phase[:, :2], units=units, seen=units, span=(0, 480, 1000)
    )
    assert not season.lines
    assert season.freedom == pytest.approx(0.5, abs=0.05)
    days = (passage[:, None] == passage).astype(float)
    hat = in_phase @ (in_phase / 120).T
    left = (np.eye(480) - hat) @ days @ (np.eye(480) - hat).T
    products, truth = (np.array([np.diagonal(of, lag).mean() for lag in range(LAGS)]) for of in (left, days))
    assert products == pytest.approx(truth / 2, rel=0.01)
    assert season.given_back(products, 0.0) == pytest.approx(truth, rel=0.12)


def test_lines_or_steps_are_what_fits_the_slices_better() -> None:
    number = np.arange(3 * PERIOD)
    units, held = np.full(len(number), 100.0), np.eye(24)[number % PERIOD // 4]
    smooth = 0.3 + 0.2 * np.sin(2 * np.pi * (number + 0.5) / PERIOD)
    office = np.where((number % PERIOD >= 36) & (number % PERIOD < 68), 0.5, 0.1)
    for share, lines in ((smooth, True), (office, False)):
        shares, total = np.stack([1 - share, share], axis=1), held.T @ units
        means = (held.T @ (shares * units[:, None]) / total[:, None], total, 1 / total)
        season = season_of(
            CYCLE, means, number=number, shares=shares, units=units, seen=units, span=(0, len(number), 1000)
        )
        assert season.lines is lines
        assert np.abs(season.usual(number, 1000) - shares).max() < 0.01


def test_what_is_usual_in_a_slice_that_covers_phases_is_by_their_traffic() -> None:
    cycle, units = Cycle(8000, 8), np.array([1.0, 3.0, 0.0, 0, 2, 2, 2, 2])
    nothing = np.eye(LAGS), np.zeros(LAGS), np.zeros(LAGS)
    season = Season(cycle, np.arange(8.0)[:, None], units, np.where(units > 0, 1.0, 0), False, *nothing)
    assert season.weights(0, 2000) == pytest.approx([0.25, 0.75, 0, 0, 0, 0, 0, 0])
    assert season.weights(16_000, 8000) == pytest.approx(units / units.sum())
    assert not season.weights(2000, 250).any()  # nothing is known of that time
    lines = replace(season, lines=True)
    assert lines.weights(4875, 250) == pytest.approx([0, 0, 0, 0, 0.5, 0.5, 0, 0])
    assert lines.weights(2000, 250) == pytest.approx([0, 1, 0, 0, 0, 0, 0, 0])


# ---- streams that follow a cycle ------------------------------------------------------------------------------------


def angle(number: int) -> float:
    return 2 * np.pi * (number + 0.5) / PERIOD


def slice_of(number: int, n: int, *, more: float = 0.0, sessions: int = 0, seed: int = 0) -> Slice:
    """A slice of a stream whose signals all follow a cycle; of `more` of its records all have changed."""
    rng = np.random.default_rng([seed, number])
    n = int(rng.poisson(n * np.exp(0.7 * np.sin(angle(number) + 1))))
    session = (
        (rng.integers(0, sessions, n) + 1 + 100 * number).astype(np.uint64) if sessions else np.zeros(n, np.uint64)
    )
    z = rng.normal(size=(4, n)) + 0.5 * np.sin(angle(number))
    z[:, rng.random(n) < more] = 4.0
    edges = special.ndtri([0.5, 0.8, 0.95])
    values: dict[str, Column] = {
        "chars": np.exp(5 + z[0]),
        "score": special.ndtr(z[1]),
        "reason": Categories(list("abcd"), np.searchsorted(edges, z[2]).astype(np.int32)),
        "error": (z[3] > 1.5).astype(np.float64),
    }
    parts = {name: summarise(SIGNALS[name], v, np.zeros(n, np.int64), 1, session)[0] for name, v in values.items()}
    return Slice(number * SECOND, (number + 1) * SECOND, {BOT: Contents(n, parts)} if n else {})


def learned(slices: Iterable[Slice], count: int, cycle: Cycle | None = CYCLE) -> ScopeReference:
    learning = Learning(BOT, 0, count * SECOND, [SIZE], cycle=cycle)
    for found in slices:
        learning.take(SIZE, found)
    return learning.freeze(SIGNALS)


@pytest.fixture(scope="module")
def reference() -> ScopeReference:
    return learned((slice_of(i, 100) for i in range(4 * PERIOD)), 4 * PERIOD)


def at(hour: float, day: int = 4) -> int:
    """The slice that begins at an hour of a day."""
    return day * PERIOD + round(hour * PERIOD / 24)


def read(reference: ScopeReference, begin: int, *, more: float = 0.0, records: int = 100) -> dict[str, Reading]:
    """The readings of a window that begins with a slice, the first after the reference."""
    judge, ring = Judge(SIZE, {}), [slice_of(begin + i, records, more=more) for i in range(SLICES)]
    judge.join(reference, [])
    for found in ring:
        judge.push(found)
    readings = judge.read((begin + SLICES) * SECOND, list(enumerate(ring)), BUDGET, partial=False)
    return {reading.signal: reading for reading in readings}


@pytest.mark.parametrize("hour", [2, 8, 14, 20])
def test_what_is_usual_at_its_hour_is_no_drift_and_what_is_not_is(reference: ScopeReference, hour: int) -> None:
    calm, moved = read(reference, at(hour)), read(reference, at(hour), more=0.25)
    for name in SIGNALS:
        assert calm[name].verdict in {"ok", "insufficient"}, name
        assert moved[name].verdict == "drift", name
    assert calm["volume"].verdict == "ok"
    assert read(reference, at(hour), records=400)["volume"].verdict == "drift"


@pytest.mark.parametrize(("hour", "sine"), [(4.5, 1.0), (16.5, -1.0)])
def test_effects_are_against_the_same_hour(reference: ScopeReference, hour: float, sine: float) -> None:
    found = read(reference, at(hour))
    rate = 1 - special.ndtr(1.5 - 0.5 * sine)
    assert found["error"].reference_value == pytest.approx(rate, abs=0.03)
    assert found["chars"].reference_value == pytest.approx(np.exp(5 + 0.5 * sine), rel=0.1)
    assert found["score"].reference_value == pytest.approx(special.ndtr(0.5 * sine / np.sqrt(2)), abs=0.02)
    usual = found["volume"].reference_value
    assert usual == pytest.approx(100 * np.exp(0.7 * np.sin(2 * np.pi * (hour + 1.5) / 24 + 1)), rel=0.1)
    for name, most in (("error", 0.05), ("chars", 0.25), ("score", 0.05), ("reason", 0.07)):
        assert abs(found[name].effect or 0) < most, name


@pytest.mark.parametrize(("hour", "sine"), [(4.5, 1.0), (16.5, -1.0)])
def test_explanations_hold_categories_against_the_same_hour(
    reference: ScopeReference, hour: float, sine: float
) -> None:
    judge, ring = Judge(SIZE, {}), [slice_of(at(hour) + i, 100) for i in range(SLICES)]
    judge.join(reference, [])
    before = judge.usual(BOT, "reason", list(enumerate(ring)))
    assert isinstance(before, Category)
    edges = special.ndtr(np.array([-np.inf, *special.ndtri([0.5, 0.8, 0.95]), np.inf]) - 0.5 * sine)
    assert [before.shares()[name] for name in "abcd"] == pytest.approx(np.diff(edges), abs=0.03)
    assert judge.usual(BOT, "error", list(enumerate(ring))) is reference.series["error"].summary
    assert judge.usual(BOT, "volume", list(enumerate(ring))) is None


def test_without_its_season_a_reference_calls_the_night_drift() -> None:
    """That the tests above can fail: the same reference whose phases are all as its mean."""
    plain = learned((slice_of(i, 1000) for i in range(4 * PERIOD)), 4 * PERIOD)
    series = plain.series["error"]
    rows = series.slices[SIZE]
    assert rows.season is not None
    same = replace(rows, season=replace(rows.season, mean=np.broadcast_to(rows.mean, rows.season.mean.shape)))
    blind = replace(plain, series={"error": replace(series, slices={SIZE: same})})
    assert read(blind, at(4.5), records=1000)["error"].verdict == "drift"
    assert read(plain, at(4.5), records=1000)["error"].verdict != "drift"


@pytest.mark.parametrize("kind", ["rate", "category", "numeric"])
@pytest.mark.parametrize(
    "setting",
    [Setting(300, 5, cycle=0.5, period=144), Setting(600, sessions=True, cycle=0.5)],
    ids=lambda setting: setting.name,
)
def test_few_unchanged_seasonal_series_are_decided(kind: Kind, setting: Setting) -> None:
    found = simulate(setting, kind, 20, 12)
    assert found.reached(1e-4) <= 0.1
    assert found.reached(1e-6) == 0


def test_evidence_knows_a_stretch_by_the_phases_that_it_covers() -> None:
    """A stretch within a phase is known by the units of that phase, one of a whole period by all of them."""
    shares = np.stack([np.full(4 * PERIOD, 0.7), np.full(4 * PERIOD, 0.3)], axis=1)
    rows = learned((slice_of(i, 100) for i in range(4 * PERIOD)), 4 * PERIOD).series["error"].slices[SIZE]
    nulls = share_nulls(rows, np.array([[False, True]]))
    assert rows.season is not None
    assert nulls.of_phase[0] * 24 == pytest.approx(nulls.known[0], rel=0.45)
    evidence, usual = Evidence.begin(join_nulls([nulls])), np.array([0.1])
    for number in range(PERIOD):
        evidence.step(shares[0, 1:], np.array([50.0]), np.array([50.0]), usual, np.ones(1))
        place = int((evidence.births[0] == 0).argmax())
        assert evidence.mix is not None
        sums, mix = evidence.sums[0, [place]], evidence.mix[0, [place]]
        rate, there = evidence._expected(np.zeros(1, np.int64), mix, sums[:, 1], sums[:, 3])
        assert rate[0] == pytest.approx(0.1)
        wanted = nulls.of_phase[0] * min(max((number + 1) / 4, 1), 24)
        assert there[0] == pytest.approx(min(wanted, nulls.known[0]))
    (usual_then,), _ = evidence.strongest_usual(np.zeros(1, np.int64))
    assert evidence.strongest(0)[1] - usual_then == pytest.approx(0.2)


DAYS, HOURS = 4, 288
"""Periods of a reference, and slices of each."""


def watched_rate(rng: np.random.Generator, amplitude: float, middle: float, begin: int) -> float:
    """Median of the slices until a rate that rose by 0.03 in slice `begin` of a period is found."""
    series, records = 40, 250
    number, cycle = np.arange(DAYS * HOURS), Cycle(HOURS * SECOND, 24)
    rates = special.ndtr(middle + amplitude * np.sin(2 * np.pi * (np.arange(3 * HOURS) + 0.5) / HOURS))
    units, nulls, seasons = np.full(len(number), float(records)), [], []
    for _ in range(series):
        share = rng.binomial(records, np.tile(rates[:HOURS], DAYS)) / records
        rows = plain_reference(share, units)
        if amplitude:
            held = np.eye(24)[number % HOURS // 12]
            total = held.T @ units
            means = held.T @ (rows.shares * units[:, None]) / total[:, None], total, 1 / total
            span = (0, len(number), SECOND)
            season = season_of(cycle, means, number=number, shares=rows.shares, units=units, seen=units, span=span)
            rows = replace(rows, shares=rows.shares - season.usual(number, SECOND) + rows.mean, season=season)
            seasons.append(season)
        nulls.append(share_nulls(rows, np.array([[False, True]])))
    evidence, found, every = Evidence.begin(join_nulls(nulls)), np.full(series, np.inf), np.full(series, 250.0)
    for at in range(begin - 24, begin + HOURS):
        share = rng.binomial(records, rates[at] + 0.03 * (at >= begin), series) / records
        if seasons:
            weights = [season.weights(at * SECOND, SECOND) for season in seasons]
            usual = np.array([w @ season.mean[:, 1] for w, season in zip(weights, seasons, strict=True)])
            vague = np.array([season.vagueness(w) for w, season in zip(weights, seasons, strict=True)])
            evidence.step(share, every, every, usual, vague)
        else:
            evidence.step(share, every, every)
        assert at >= begin or (evidence.log_sum < np.log(1e6)).all()
        found = np.where((evidence.log_sum >= np.log(1e6)) & np.isinf(found), at - begin + 1, found)
        if np.isfinite(found).all():
            break
    return float(np.median(found))


@pytest.mark.parametrize("begin", [24, 90, 160, 230])
def test_a_rate_that_rose_is_found_about_as_soon_as_without_a_cycle(begin: int) -> None:
    """Of four periods each phase is known by four of its own: a difference varies by a quarter more."""
    rng = np.random.default_rng(begin)
    sine = np.sin(2 * np.pi * (begin + 0.5) / HOURS)
    seasonal = watched_rate(rng, 0.25, -1.75, begin)
    flat = watched_rate(rng, 0.0, -1.75 + 0.25 * sine, begin)
    assert seasonal <= 1.7 * flat + 1


# ---- sessions, sizes, packing ---------------------------------------------------------------------------------------


def test_means_of_phases_are_those_of_the_units_of_slices() -> None:
    """With sessions, whose number differs by size, as without."""
    long = 4 * SIZE
    for sessions in (0, 6):
        learning = Learning(BOT, 0, 2 * PERIOD * SECOND, [SIZE, long], cycle=CYCLE)
        for first in range(0, 2 * PERIOD, 4):
            parts = [slice_of(first + i, 40, sessions=sessions) for i in range(4)]
            for part in parts:
                learning.take(SIZE, part)
            learning.take(long, add_slices(parts, first * SECOND, (first + 4) * SECOND))
        assert set(learning.phases) == ({SIZE, long} if sessions else {SIZE})
        plain = replace(learning, cycle=None, phases={})
        found, other = learning.freeze(SIGNALS), plain.freeze(SIGNALS)
        for name, series in found.series.items():
            for size in (SIZE, long):
                rows, whole = series.slices[size], other.series[name].slices[size]
                assert rows.season is not None
                assert rows.season.units.sum() == pytest.approx(whole.units.sum())
                assert rows.mean == pytest.approx(whole.mean, abs=1e-4), (name, size, sessions)
                assert (rows.season.inverse * rows.season.units**2).sum() == pytest.approx(
                    (whole.units**2 / whole.seen).sum()
                )
                by_phase = np.array(
                    [
                        whole.units[(whole.number * size // SIZE // 4) % 24 == p]
                        @ whole.shares[(whole.number * size // SIZE // 4) % 24 == p]
                        for p in range(24)
                    ]
                )
                assert rows.season.mean * rows.season.units[:, None] == pytest.approx(by_phase, abs=2e-3)


@pytest.mark.parametrize("sessions", [0, 6])
def test_learning_goes_on_where_it_was_packed(sessions: int) -> None:
    settings = ReferenceSettings(kind="seasonal", period=f"{PERIOD}s", size=f"{2 * PERIOD}s")
    long = 2 * SIZE

    def step(found: Baselines, first: int) -> None:
        parts = [slice_of(first + i, 20, sessions=sessions) for i in range(2)]
        for part in parts:
            found.begin(part)
            found.take(SIZE, part)
        found.take(long, add_slices(parts, first * SECOND, (first + 2) * SECOND))

    whole = Baselines(settings, [SIZE, long])
    broken = Baselines(settings, [SIZE, long])
    written: dict[tuple[str, str], bytes] = {}
    for first in range(0, 2 * PERIOD, 2):
        step(whole, first)
        if first in {0, 2, 50, 96, 98, 190}:
            now = {key: pack() for key, pack in broken.pieces().items()}
            assert all(written[key] == data for key, data in now.items() if key in written)  # what is written stays
            written |= now
            again = Baselines(settings, [SIZE, long])
            again.restore({key: written[key] for key in now}, broken.dump())
            broken = again
        step(broken, first)
    found = []
    for baselines in (whole, broken):
        assert len(baselines.pieces()) <= 2 * PERIOD * 1.5 + 2 * 24
        (part,) = baselines.due(2 * PERIOD * SECOND)
        found.append(baselines.freeze(part, SIGNALS).dump())
    assert found[0] == found[1]


def test_a_seasonal_reference_comes_back_as_it_was(reference: ScopeReference) -> None:
    data = reference.dump()
    again = ScopeReference.load(data)
    assert again.dump() == data
    assert again.cycle == CYCLE
    assert not again.too_short
    one, other = read(reference, at(8), more=0.1), read(again, at(8), more=0.1)
    assert one == other


def test_evidence_goes_on_where_it_was_packed(reference: ScopeReference) -> None:
    one, two = Judge(SIZE, {}), Judge(SIZE, {})
    for judge in (one, two):
        judge.join(reference, [])
    for i in range(30):
        one.push(slice_of(at(3) + i, 100))
    two.restore(one.dump())
    ring = [slice_of(at(3) + 30 + i, 100, more=0.05) for i in range(SLICES)]
    for judge in (one, two):
        for found in ring:
            judge.push(found)
    assert one.shares.p_values().tobytes() == two.shares.p_values().tobytes()
    assert one.dump() == two.dump()
    fewer = Judge(SIZE, {})
    fewer.join(reference.without(["chars", "reason"]), [])
    fewer.restore(without(one.dump(), {(BOT, "chars"), (BOT, "reason")}))
    assert fewer.shares.p_values().tolist() == one.shares.p_values()[[1, 3]].tolist()


def test_a_file_keeps_its_cycle_for_those_it_does_not_have(reference: ScopeReference) -> None:
    file = unpack(pack([SIZE], SIGNALS, [reference], {}), "x")
    assert file.cycle == CYCLE
    found = Baselines(ReferenceSettings(kind="file", path="x"), [SIZE], file)
    other = Scope("other")
    part = slice_of(1000, 10)
    assert [r.cycle for r in found.begin(Slice(part.start, part.end, {BOT: part.scopes[BOT], other: Contents()}))] == [
        CYCLE
    ]
    (learning,) = found.learning.values()
    assert (learning.scope, learning.cycle, learning.end - learning.begin) == (other, CYCLE, 4 * PERIOD * SECOND)
    found.relearn(BOT, ["error"], 2000 * SECOND)
    assert [part.cycle for part in found.learning.values()] == [CYCLE, CYCLE]


# ---- vectors --------------------------------------------------------------------------------------------------------


class Topics:
    """A stream of vectors about four topics whose mix follows a cycle."""

    def __init__(self, seed: int, cycle: Cycle | None = CYCLE, periods: int = 3) -> None:
        self.rng, self.number = np.random.default_rng(seed), 0
        self.topics = np.random.default_rng(1).normal(size=(5, VECTOR.size))
        learning = Learning(BOT, 0, periods * PERIOD * SECOND, [SIZE], cycle=cycle)
        for _ in range(periods * PERIOD):
            learning.take(SIZE, self.draw())
        self.reference = learning.freeze({VECTOR.name: VECTOR})
        self.judge = Judge(SIZE, {})
        self.judge.join(self.reference, [])

    def draw(self, replaced: float = 0.0) -> Slice:
        n, sine = self.rng.poisson(40), np.sin(angle(self.number))
        topic = self.rng.choice(4, n, p=[0.4 + 0.25 * sine, 0.3 - 0.2 * sine, 0.2, 0.1 - 0.05 * sine])
        topic[self.rng.random(n) < replaced] = 4
        x: NDArray[np.float64] = self.topics[topic] + 1.5 * self.rng.normal(size=(n, VECTOR.size))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        order = self.rng.integers(1, 2**63, n).astype(np.uint64)
        none, weight = np.zeros(n, np.uint64), np.ones(1)
        found = summarise(VECTOR, x.astype(np.float32), np.zeros(n, np.int64), 1, none, weight, order)[0]
        start = self.number * SECOND
        self.number += 1
        return Slice(start, start + SECOND, {BOT: Contents(n, {VECTOR.name: found})})

    def window(self, replaced: float = 0.0) -> tuple[float, Reading]:
        """The p-value of the next window by itself, and its reading."""
        ring = [self.draw(replaced) for _ in range(SLICES)]
        for found in ring:
            self.judge.push(found)
        (reading,) = self.judge.read(self.number * SECOND, list(enumerate(ring)), BUDGET, partial=True)
        return float(self.judge.vectors.window_p_values()[0]), reading


def test_few_unchanged_windows_of_seasonal_vectors_look_changed_and_a_change_shows_at_any_time() -> None:
    p_values, least = [], []
    for seed in range(8):
        stream = Topics(seed)
        found = [stream.window() for _ in range(24)]
        p_values += [p for p, _ in found]
        least.append(min(reading.p_value or 1 for _, reading in found))
        assert all(reading.verdict != "drift" for _, reading in found)
        for _ in range(seed):
            stream.window()
        assert "drift" in {stream.window(0.3)[1].verdict for _ in range(2)}
    p_values_ = np.array(p_values)
    assert (p_values_ <= 0.01).mean() <= 0.04
    assert 0.02 <= (p_values_ <= 0.1).mean() <= 0.2
    assert min(least) > 1e-4


def test_a_seasonal_reference_of_vectors_comes_back_as_it_was() -> None:
    stream = Topics(0)
    again = ScopeReference.load(stream.reference.dump())
    assert again.dump() == stream.reference.dump()
    other = Judge(SIZE, {})
    other.join(again, [])
    for _ in range(30):
        found = stream.draw()
        for judge in (stream.judge, other):
            judge.push(found)
    assert other.vectors.p_values().tobytes() == stream.judge.vectors.p_values().tobytes()


# ---- what is asked for ----------------------------------------------------------------------------------------------


def test_a_stream_that_misses_periods_before_the_end_learns_for_as_long_as_the_others_did() -> None:
    settings = ReferenceSettings(kind="seasonal", period="10s", until="1970-01-01T00:00:40Z")
    assert settings.end(0, 0) == settings.end(20_000, 0) == 40_000
    assert settings.end(22_000, 0) == 62_000


def test_less_than_two_periods_are_told_and_not_judged() -> None:
    reference = ReferenceSettings(kind="seasonal", period="100s", until="1970-01-01T00:02:30Z")
    signals = {"chars": Signal("chars", "numeric"), "cost": Signal("cost", "numeric")}
    plan = Plan(signals, [SIZE], StreamSettings(), reference, FalseAlarmSettings(), {}, ())
    watched = Engine(plan, SampledSignals(), list)
    watched.add(records(0, 250, cost=1.0))
    steps = list(watched.close(250 * SECOND))
    (notice,) = [notice for step in steps for notice in step.notices]
    assert notice == (
        "reference: bot learned for 2m30s up to 1970-01-01T00:02:30.000Z, which does not hold two periods of 1m40s; "
        "it is not judged"
    )
    assert {r.verdict for step in steps for r in step.readings} == {"learning"}


def test_an_engine_with_a_season_goes_on_after_a_restart_anywhere() -> None:
    signals = {"chars": Signal("chars", "numeric"), "cost": Signal("cost", "numeric")}
    reference = ReferenceSettings(kind="seasonal", period="60s", size="120s")

    def engine() -> Engine:
        return Engine(
            Plan(signals, [SIZE, 2 * SIZE], StreamSettings(), reference, FalseAlarmSettings(), {}, ()),
            SampledSignals(),
            list,
        )

    whole, parts = engine(), engine()
    held: dict[tuple[str, str], bytes] = {}
    found: list[list[Reading]] = [[], []]
    for begin in range(0, 240, 7):
        for one, kept in zip((whole, parts), found, strict=True):
            one.add(records(begin * SECOND, 7, cost=1.0))
            kept += [reading for step in one.close((begin + 7) * SECOND) for reading in step.readings]
        for blob in parts.blobs():
            if blob.data is None:
                del held[blob.table, blob.key]
            else:
                held[blob.table, blob.key] = blob.data
        parts = engine()
        parts.restore([(*key, data) for key, data in held.items()])
    assert found[0] == found[1]
    assert {"ok", "insufficient"} & {reading.verdict for reading in found[0]}
