"""What is foreseen is what comes: delays against closed loops of the code that decides, and what levels need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.evidence import Evidence, join_nulls
from monitor.model import Floats, Ints, Scope, Signal
from monitor.readings import Judge
from monitor.readings.foresight import (
    HALF,
    LARGER,
    MOST,
    changed_rates,
    earliest,
    share_delay,
    sight_of_shares,
    sight_of_vectors,
    traffic_of,
    vector_delay,
)
from monitor.readings.levels import measure, passed_from
from monitor.readings.watched import Watched
from monitor.reference import Learning, SeriesReference
from monitor.summaries import Counts, Numeric, Rate, Vector, summarise
from monitor.summaries.vector import embed, farthest
from monitor.windows import SLICES, Contents, Slice
from tests.bench.null import SIZE
from tests.test_evidence import World, reference
from tests.test_readings import BOT, BUDGET, CHARS, EMBEDDING, LENGTH, Embedded, slice_of
from tests.test_readings import Watched as Stream

ERROR = Signal("error", "rate")
LEVEL = 1e-7


def watched(path: Floats, matters: float) -> Watched:
    """A rate whose reference is a path of shares and records, shape (slices, 2)."""
    rows = reference(path[:, 0], path[:, 1], whole=12.0)
    ones = round(float(path[:, 0] @ path[:, 1]))
    cells = Counts(np.arange(2), np.array([int(path[:, 1].sum()) - ones, ones]))
    return Watched(SeriesReference(Scope("bot"), ERROR, Rate(cells), {SIZE: rows}), SIZE, matters)


# ---- rates ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    rate: float
    change: float
    """As large as what matters, to the side that shows later."""
    records: float
    swing: float = 0.0


STEADY = (
    Setting(0.02, 0.005, 500),
    Setting(0.3, 0.075, 50),
    Setting(0.003, 0.005, 100),
    Setting(0.97, -0.0075, 300),
    Setting(0.05, 0.0125, 1_000),
)
SWINGING = Setting(0.3, 0.075, 50, 0.05)
RUNS = 150


@dataclass(frozen=True)
class Delays:
    """Of each run, in slices; infinite for none within 512."""

    half: Floats
    """Foreseen for half of the changes."""
    most: Floats
    """Foreseen for nine of ten."""
    passed: Floats
    """Until the evidence passed."""
    decided: Floats
    """Until the decision, which asks for an effect that matters as well."""


@cache
def simulated(setting: Setting, times: float) -> Delays:
    """150 references, each with a stream whose rate changes by so many times what matters after 40 slices."""
    rng, world, quiet = np.random.default_rng(1), World(setting.rate, setting.records, setting.swing), 40
    matters = abs(setting.change)
    series = [watched(path, matters) for path in world.path(rng, RUNS, world.slices)]
    foreseen = [
        [share_delay(one, times * matters, setting.records, LEVEL, power=power) or np.inf for power in (HALF, MOST)]
        for one in series
    ]
    moved = world.path(rng, RUNS, 512, rate=setting.rate + times * setting.change)
    path = np.concatenate([world.path(rng, RUNS, quiet), moved], axis=1)
    evidence = Evidence.begin(join_nulls([one.nulls for one in series]))
    passed, decided = np.full(RUNS, np.inf), np.full(RUNS, np.inf)
    for at in range(path.shape[1]):
        evidence.step(path[:, at, 0], path[:, at, 1], path[:, at, 1])
        beyond = evidence.log_sum >= -np.log(LEVEL)
        if at >= quiet:
            passed = np.where(beyond & np.isinf(passed), at - quiet + 1, passed)
            for row in np.flatnonzero(beyond & np.isinf(decided)).tolist():
                effect = evidence.strongest(row)[1] - evidence.nulls.rate[row]
                decided[row] = at - quiet + 1 if abs(effect) >= matters else np.inf
        if np.isfinite(decided).all():
            break
    half, most = np.array(foreseen).T
    return Delays(half, most, passed, decided)


@pytest.mark.parametrize("times", [1.0, LARGER])
@pytest.mark.parametrize("setting", [*STEADY, SWINGING], ids=str)
def test_half_of_the_changes_of_a_rate_are_found_when_it_was_foreseen(setting: Setting, times: float) -> None:
    """Within a factor of 1.5, or a slice; by the decision too, but where slices swing."""
    found = simulated(setting, times)
    foreseen = float(np.median(found.half))
    for came in (found.passed, *([] if setting.swing else [found.decided])):
        median = float(np.median(came))
        assert median / 1.5 - 1 <= foreseen <= median * 1.5 + 1


@pytest.mark.parametrize("setting", [*STEADY, SWINGING], ids=str)
def test_about_nine_of_ten_changes_of_a_rate_are_found_by_then(setting: Setting) -> None:
    """Of 150 runs at most 15 % come later than what was foreseen of their own reference, by evidence; and of changes
    that are twice as large as what matters by the decision."""
    just, double = simulated(setting, 1.0), simulated(setting, LARGER)
    assert (just.passed > just.most).mean() <= 0.15
    assert (double.decided > double.most).mean() <= 0.15


def test_nine_of_ten_is_not_said_of_far_fewer() -> None:
    """Over all settings 4 to 15 % come later."""
    each = [simulated(setting, 1.0) for setting in STEADY]
    assert 0.04 <= float(np.mean([(found.passed > found.most).mean() for found in each])) <= 0.15


def test_nine_of_ten_changes_just_as_large_as_what_matters_are_not_decided_by_then() -> None:
    """Why they are told of larger ones: a change as large as what matters is often measured to be smaller."""
    each = [simulated(setting, 1.0) for setting in STEADY]
    assert float(np.mean([(found.decided > found.most).mean() for found in each])) >= 0.2


def test_the_delay_falls_with_change_and_traffic_and_a_looser_threshold_and_grows_with_power() -> None:
    one = watched(World(0.05, 100).path(np.random.default_rng(1), 1, 288)[0], 0.0125)

    def delay(change: float = 0.025, known: float = 100.0, level: float = LEVEL, power: float = HALF) -> float:
        return share_delay(one, change, known, level, power=power) or np.inf

    assert delay(0.05) < delay() < delay(0.0125)
    assert delay(known=400.0) < delay() < delay(known=50.0)
    assert delay(level=1e-3) < delay() < delay(level=1e-12)
    assert delay() < delay(power=MOST)
    assert delay(known=0.01) == delay(known=0.0) == np.inf


def test_a_rate_that_has_no_room_to_fall_only_rises() -> None:
    rare = watched(World(0.002, 100).path(np.random.default_rng(0), 1, 288)[0], 0.005)
    usual = watched(World(0.05, 100).path(np.random.default_rng(0), 1, 288)[0], 0.03)
    assert changed_rates(rare, 0.01).ravel().tolist() == [rare.nulls.rate[0] + 0.01]
    up, down = changed_rates(usual, 0.06).ravel().tolist()
    assert (up, down) == (usual.nulls.rate[0] + 0.06, 0.0)  # by no more than there is


# ---- numbers, categories, scores ------------------------------------------------------------------------------------


def chars(rng: np.random.Generator, number: int, factor: float = 1.0) -> Slice:
    return slice_of(number, {"chars": np.round(rng.lognormal(5, 0.6, 125) * factor)})


@pytest.mark.parametrize("factor", [1.1, 1.2])
def test_half_of_the_shifts_of_a_number_are_found_when_it_was_foreseen(factor: float) -> None:
    """Of 30 streams, six against each of five references, by the verdicts of the judge: within a factor of 1.5."""
    foreseen: list[float] = []
    came: list[float] = []
    for seed in range(5):
        rng, learning = np.random.default_rng(seed), Learning(BOT, 0, 144 * LENGTH, [SIZE])
        for number in range(144):
            learning.take(SIZE, chars(rng, number))
        learned = learning.freeze({"chars": CHARS}).without({"volume"})
        one = Watched(learned.series["chars"], SIZE, 0.1)
        foreseen.append(share_delay(one, factor - 1, 125.0, BUDGET[False], power=HALF) or np.inf)
        for _ in range(6):
            judge, ring, slices = Judge(SIZE, {}), [chars(rng, 144 + at) for at in range(SLICES)], 0
            judge.join(learned, [])
            for found in ring:
                judge.push(found)
            drift = False
            while not drift and slices < 200:
                ring = [*ring[1:], chars(rng, 144 + SLICES + slices, factor)]
                judge.push(ring[-1])
                (reading,) = judge.read(ring[-1].end, list(enumerate(ring)), BUDGET, partial=True)
                drift, slices = reading.verdict == "drift", slices + 1
            came.append(slices if drift else np.inf)
    median, expected = float(np.median(came)), float(np.median(foreseen))
    assert median / 1.5 - 1 <= expected <= median * 1.5 + 1


def test_changes_are_as_large_as_they_are_said_to_be() -> None:
    """Of a number all quantiles that are watched move by the values between them; of a category one share does."""
    stream = Stream(records=200)
    of = {one.reference.signal.name: one for one in stream.judge.shares.series}
    lengths = of["chars"]
    raw = np.concatenate([np.asarray(values["chars"]) for values in stream.known])
    for sign, moved in zip((1, -1), changed_rates(lengths, 0.1), strict=True):
        keys = summarise(CHARS, raw * (1.1 if sign > 0 else 1 / 1.1), np.zeros(len(raw), np.int64), 1, no_session(raw))
        cells = keys[0].cells
        placed = np.bincount(lengths.reference.place(cells.keys), cells.mass, minlength=lengths.reference.bins) / len(
            raw
        )
        assert moved == pytest.approx(lengths.telling @ placed, abs=0.02)
    reason = changed_rates(of["reason"], 0.05)
    assert (np.isnan(reason).sum(axis=1) == reason.shape[1] - 1).all()
    assert np.nanmax(np.abs(reason - of["reason"].nulls.rate), axis=1) == pytest.approx(0.05)


def no_session(values: Floats) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.zeros(len(values), np.uint64)


def test_a_constant_shows_nothing_and_says_what_it_lacks() -> None:
    stream = Stream(records=60, change=lambda values: values | {"score": np.zeros(len(np.asarray(values["error"])))})
    (score,) = (one for one in stream.judge.shares.series if one.reference.signal.name == "score")
    found = sight_of_shares(score, traffic_of(score.reference, SIZE, 288), LEVEL)
    assert (found.judged, found.detectable, found.half, found.most) == (True, None, None, None)
    assert found.lacks


# ---- what a window sees, and traffic --------------------------------------------------------------------------------


def test_what_windows_see_is_what_their_readings_say() -> None:
    stream = Stream(records=100)
    stream.push(SLICES)
    readings = stream.read()
    for one in stream.judge.shares.series:
        name = one.reference.signal.name
        found = sight_of_shares(one, traffic_of(one.reference, SIZE, 288), BUDGET[False])
        assert found.matters == one.matters
        assert found.detectable == pytest.approx(readings[name].detectable, rel=0.1)
        assert bool(found.lacks) == (readings[name].verdict == "insufficient")


def test_too_few_units_are_said_not_judged() -> None:
    few, short = Stream(records=3), Stream(records=1, slices=80)
    for stream, lacks in ((few, "40 units in the window"), (short, "240 units in the reference")):
        one = stream.judge.shares.series[0]
        found = sight_of_shares(one, traffic_of(one.reference, SIZE, len(stream.known)), LEVEL)
        assert (found.judged, found.detectable, found.half) == (False, None, None)
        assert found.lacks.startswith(lacks)


def test_traffic_is_that_of_the_slices_kept_and_of_those_without_records() -> None:
    stream = Stream(records=50, slices=200, silent=True)  # 19 slices of 20 are empty
    one = stream.judge.shares.series[0].reference
    found = traffic_of(one, SIZE, 200)
    assert (found.records, found.seen, found.known) == pytest.approx((2.5, 2.5, 2.5))
    double = traffic_of(one, SIZE, 200, 2.0)
    assert (double.records, double.seen, double.known) == pytest.approx((5.0, 5.0, 5.0))


def test_of_a_sample_no_more_is_scored_where_there_is_more_traffic() -> None:
    series = Embedded(records=40, stands_for=10.0).judge.vectors.series[0]
    usual, more, less = (traffic_of(series, SIZE, 96, factor) for factor in (1.0, 3.0, 0.01))
    assert usual.records == pytest.approx(400, rel=0.05)
    assert more.records == pytest.approx(3 * usual.records)
    assert (usual.seen, usual.known) == pytest.approx((40, 40), rel=0.05)
    assert more.seen == usual.seen
    assert less.seen == less.records == pytest.approx(4, rel=0.05)


def test_of_a_sampled_rate_as_much_is_scored_as_before() -> None:
    rng, signal, learning = (
        np.random.default_rng(0),
        Signal("error", "rate", sample=True),
        Learning(BOT, 0, 96 * LENGTH, [SIZE]),
    )
    for number in range(96):
        nothing, order = np.zeros(40, np.uint64), rng.integers(1, 2**63, 40).astype(np.uint64)
        values = (rng.random(40) < 0.1).astype(np.float64)
        found = summarise(signal, values, np.zeros(40, np.int64), 1, nothing, np.array([10.0]), order)[0]
        held = {BOT: Contents(400, {"error": found})}
        learning.take(SIZE, Slice(number * LENGTH, (number + 1) * LENGTH, held))
    series = learning.freeze({"error": signal}).series["error"]
    for factor, records, seen in ((1.0, 400, 40), (3.0, 1200, 40), (0.5, 200, 40), (0.01, 4, 4)):
        found_traffic = traffic_of(series, SIZE, 96, factor)
        assert (found_traffic.records, found_traffic.seen) == pytest.approx((records, seen))
        assert found_traffic.known == pytest.approx(seen)


def test_the_earliest_of_two_window_sizes_counts() -> None:
    stream = Stream(records=100)
    found = sight_of_shares(
        stream.judge.shares.series[0], traffic_of(stream.reference.series["chars"], SIZE, 288), 0.01
    )
    fast, slow = replace(found, half=30, most=90), replace(found, size=10 * SIZE, half=4, most=8)
    assert earliest([fast, slow], HALF) == (fast, 30)
    assert earliest([fast, slow], MOST) == (slow, 8)
    assert earliest([replace(found, half=None)], HALF) is None


# ---- vectors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("records", "replaced"), [(128, 0.15), (40, 0.1)])
def test_a_shift_of_vectors_is_found_when_it_was_foreseen(records: int, replaced: float) -> None:
    """16 streams: half of them within a factor of 1.5, and at most a quarter later than nine of ten should be."""
    half: list[float] = []
    most: list[float] = []
    came: list[int] = []
    for seed in range(16):
        stream = Embedded(records=records, slices=288, seed=seed)
        table, rng = stream.judge.vectors, np.random.default_rng(9)

        def features(topics: Ints, stream: Embedded = stream, rng: np.random.Generator = rng) -> Floats:
            x = stream.topics[topics] + 1.5 * rng.normal(size=(len(topics), EMBEDDING.size))
            mean: Floats = embed((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)).mean(axis=0)
            return mean

        usual = features(rng.choice(4, 10_000, p=[0.4, 0.3, 0.2, 0.1]))
        shift = replaced * float(np.linalg.norm(features(np.full(10_000, 4)) - usual))
        for power, delays in ((HALF, half), (MOST, most)):
            found = vector_delay(table.series[0], SIZE, shift, records, 1e-6, power=power)
            delays.append(found or np.inf)
        for _ in range(SLICES):
            stream.judge.push(stream.draw())
        slices = 0
        while table.p_values()[0] > 1e-6:
            stream.judge.push(stream.draw(replaced))
            slices += 1
            assert slices < 512
        came.append(slices)
    median = float(np.median(came))
    assert median / 1.5 - 1 <= float(np.median(half)) <= median * 1.5 + 1
    assert (np.array(came) > np.array(most)).mean() <= 0.25


def test_what_a_window_sees_of_vectors_is_what_its_reading_says() -> None:
    stream = Embedded(records=150, slices=144)
    series = stream.judge.vectors.series[0]
    found = sight_of_vectors(series, SIZE, 0.02, traffic_of(series, SIZE, 144), BUDGET[False])
    assert found.detectable == pytest.approx(stream.read().detectable, rel=0.1)
    loud = sight_of_vectors(series, SIZE, 0.3, traffic_of(series, SIZE, 144), BUDGET[False])
    far = np.sqrt(farthest(series.summary.units, series.summary.embedding))  # type: ignore[union-attr]
    assert (vector_delay(series, SIZE, 0.3 * far, 150, BUDGET[False], power=HALF) or 512) < SLICES
    assert loud.half == SLICES  # the window must hold nothing else for its effect to be as large


def test_vectors_that_are_all_the_same_show_nothing() -> None:
    series = Embedded(records=20).judge.vectors.series[0]
    one = np.tile(np.eye(EMBEDDING.size)[:1], (400, 1)).astype(np.float32)
    same = summarise(
        EMBEDDING, one, np.zeros(400, np.int64), 1, np.zeros(400, np.uint64), None, np.arange(400, dtype=np.uint64)
    )[0]
    assert isinstance(same, Vector)
    found = sight_of_vectors(replace(series, summary=same), SIZE, 0.02, traffic_of(series, SIZE, 96), LEVEL)
    assert found.half is None or found.half >= SLICES


# ---- levels ---------------------------------------------------------------------------------------------------------


@given(level=st.floats(0.001, 0.9), units=st.integers(50, 2_000), above=st.booleans())
def test_a_rate_passes_its_level_from_what_is_needed_on(level: float, units: int, above: bool) -> None:  # noqa: FBT001
    """Held against the bounds of every count there is."""
    needed = passed_from(Rate(Counts()), "rate", level, units, above=above)
    for ones in range(max(int(needed * units) - 2, 0), min(int(needed * units) + 4, units) + 1):
        _, low, high = measure(Rate(Counts(np.arange(2), np.array([units - ones, ones]))), "rate")
        assert low is not None
        assert high is not None
        if abs(ones / units - needed) > 1e-9:
            assert (low > level if above else high < level) is (
                ones / units > needed if above else ones / units < needed
            )


def test_a_mean_and_a_quantile_pass_their_level_from_what_is_needed_on() -> None:
    rng = np.random.default_rng(0)
    usual, units = rng.lognormal(1, 0.5, 2_000), 400

    def summary(values: Floats) -> Numeric:
        found = summarise(CHARS, values, np.zeros(len(values), np.int64), 1, no_session(values))[0]
        assert isinstance(found, Numeric)
        return found

    window = usual[:units]
    needed = passed_from(summary(window), "mean", 4.0, units, above=True)
    for factor, passes in ((1.02, True), (0.98, False)):
        bounds = measure(summary(window * (needed * factor / window.mean())), "mean")
        assert (bounds.low is not None and bounds.low > 4.0) is passes
    for above in (True, False):
        share = passed_from(summary(usual), "quantile", 50.0, units, above=above, q=0.95)
        for more, passes in ((4, True), (-4, False)):
            beyond = round(share * units) + more
            mixed = np.concatenate(
                [np.full(beyond, 60.0 if above else 40.0), np.full(units - beyond, 40.0 if above else 60.0)]
            )
            bounds = measure(summary(mixed), "quantile", 0.95)
            assert bounds.low is not None
            assert bounds.high is not None
            assert (bounds.low > 50 if above else bounds.high < 50) is passes
    assert passed_from(summary(usual), "count", 50, units, above=True) == 50
