"""Readings: verdicts in their order, effects by their definition, honest `detectable`, and shares of false p-values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from scipy import special

from monitor.calibration import FalseAlarmSettings
from monitor.distances import DISTANCES
from monitor.model import Categories, Column, Floats, Ints, Kind, Reading, Scope, Signal
from monitor.readings import Judge, budget_of, key_of, learning_readings
from monitor.readings.lacking import LEAST_REFERENCE_UNITS, LEAST_UNITS
from monitor.readings.levels import measure
from monitor.readings.matters import matters
from monitor.reference import Learning, ScopeReference
from monitor.settings import DAY
from monitor.summaries import Vector, merged, summarise
from monitor.summaries.numeric import GRID_CELLS, grid_keys, grid_values
from monitor.windows import SLICES, Contents, Slice
from tests.bench.null import SIZE, Setting, Traffic, learn, scope_of, simulate, slices_of

LENGTH = SIZE // SLICES
BOT = Scope("bot")
CHARS = Signal("chars", "numeric")
SCORE = Signal("score", "numeric", "unit")
REASON = Signal("reason", "category")
ERROR = Signal("error", "rate")
ALL = {signal.name: signal for signal in (CHARS, SCORE, REASON, ERROR)}
BUDGET = {False: 1e-4, True: 1e-4}


def draws(rng: np.random.Generator, n: int) -> dict[str, Column]:
    return {
        "chars": np.round(rng.lognormal(5, 0.6, n)),
        "score": rng.beta(2, 5, n),
        "reason": Categories(["stop", "length", "tool"], rng.choice(3, n, p=[0.8, 0.15, 0.05]).astype(np.int32)),
        "error": (rng.random(n) < 0.05).astype(np.float64),
    }


def slice_of(number: int, values: dict[str, Column], session: Sequence[int] | None = None) -> Slice:
    n = max(len(column.codes) if isinstance(column, Categories) else len(column) for column in values.values())
    sessions = np.zeros(n, np.uint64) if session is None else np.array(session, np.uint64)
    found = {
        name: summarise(ALL[name], column, np.zeros(n, np.int64), 1, sessions)[0] for name, column in values.items()
    }
    return Slice(number * LENGTH, (number + 1) * LENGTH, {BOT: Contents(n, found)} if n else {})


Change = Callable[[dict[str, Column]], dict[str, Column]]


class Watched:
    """One stream that has learned from `slices` slices and goes on slice by slice."""

    def __init__(
        self,
        *,
        slices: int = 288,
        records: int = 40,
        per_session: int = 0,
        change: Change | None = None,
        silent: bool = False,
    ) -> None:
        self.rng, self.records, self.per_session, self.number = np.random.default_rng(5), records, per_session, 0
        learning = Learning(BOT, 0, slices * LENGTH, [SIZE])
        self.raw: list[dict[str, Column]] = []
        for i in range(slices):
            learning.take(SIZE, self.draw(change, 0 if silent and i % 20 else None))
        self.reference: ScopeReference = learning.freeze(ALL)
        self.known, self.raw = self.raw, []
        self.judge = Judge(SIZE, {})
        self.judge.join(self.reference, [])
        self.ring: list[Slice | None] = [None] * SLICES

    def draw(self, change: Change | None = None, records: int | None = None) -> Slice:
        values = draws(self.rng, self.records if records is None else records)
        values = values if change is None else change(values)
        self.raw.append(values)
        n = len(numbers(values, "error"))
        session = np.arange(n) // self.per_session + 1 + 1000 * self.number if self.per_session else None
        found = slice_of(self.number, values, None if session is None else session.tolist())
        self.number += 1
        return found

    def push(self, count: int, change: Change | None = None, records: int | None = None) -> None:
        for _ in range(count):
            found = self.draw(change, records)
            found_or_none = found if found.scopes else None
            self.judge.push(found_or_none)
            self.ring = [*self.ring[1:], found_or_none]

    @property
    def window(self) -> list[tuple[int, Slice]]:
        return [(place, found) for place, found in enumerate(self.ring) if found is not None]

    def read(self, budget: dict[bool, float] | None = None) -> dict[str, Reading]:
        found = self.judge.read(self.number * LENGTH, self.window, budget or BUDGET, partial=False)
        return {reading.signal: reading for reading in found}


def numbers(values: dict[str, Column], name: str) -> Floats:
    column = values[name]
    assert not isinstance(column, Categories)
    return np.asarray(column, np.float64)


def doubled(values: dict[str, Column]) -> dict[str, Column]:
    """Everything changes by much."""
    n = len(numbers(values, "error"))
    return {
        "chars": numbers(values, "chars") * 2.0,
        "score": np.sqrt(numbers(values, "score")),
        "reason": Categories(["stop", "content_filter"], (np.arange(n) % 3 == 0).astype(np.int32)),
        "error": (np.arange(n) % 3 == 0).astype(np.float64),
    }


# ---- verdicts -------------------------------------------------------------------------------------------------------


def test_what_has_no_reference_is_learning() -> None:
    found = slice_of(0, draws(np.random.default_rng(0), 30))
    readings = {r.signal: r for r in learning_readings(SIZE, SIZE, [BOT, Scope("new")], [(0, found)])}
    assert {r.verdict for r in readings.values()} == {"learning"}
    assert readings["error"].value == pytest.approx(0.05, abs=0.1)
    assert readings["chars"].kind == "numeric"
    assert (readings["reason"].value, readings["reason"].test, readings["reason"].p_value) == (None, None, None)
    assert readings["chars"].n == readings["chars"].units == 30


def test_a_window_is_not_read_before_it_is_full_of_new_slices() -> None:
    watched = Watched()
    watched.push(SLICES - 1)
    assert not watched.read()
    watched.push(1)
    assert set(watched.read()) == {*ALL, "volume"}


def test_drift_where_everything_changed_and_ok_where_nothing_did() -> None:
    watched = Watched(records=1500)
    watched.push(SLICES)
    assert {r.verdict for r in watched.read().values()} == {"ok"}
    watched.push(SLICES, doubled)
    found = watched.read()
    assert {name: found[name].verdict for name in ALL} == dict.fromkeys(ALL, "drift")
    assert found["volume"].verdict == "ok"


def test_a_change_is_said_to_have_begun_about_when_it_did() -> None:
    """Of vectors to a block of four slices."""
    watched, stream = Watched(records=300), Embedded(records=150, slices=144)
    watched.push(30)
    assert {reading.changed_at for reading in watched.read().values()} == {None}
    watched.push(20, doubled)
    found = watched.read()
    for name in ALL:
        assert found[name].verdict == "drift"
        assert abs((found[name].changed_at or 0) - (watched.number - 20) * LENGTH) <= 4 * LENGTH
    stream.read()
    stream.read()
    changed = stream.number
    vectors = stream.read(replaced=0.5)
    assert vectors.verdict == "drift"
    assert abs((vectors.changed_at or 0) - changed * LENGTH) <= 4 * LENGTH


def test_too_few_units_are_insufficient_whatever_they_show() -> None:
    watched = Watched()
    watched.push(SLICES, doubled, records=3)
    found = watched.read()
    assert found["chars"].units == 36 < LEAST_UNITS
    assert found["chars"].lacks == "40 units in the window: it has 36, about 2s more at this traffic"
    assert {found[name].verdict for name in ALL} == {"insufficient"}
    watched.push(SLICES, doubled, records=4)
    assert watched.read()["chars"].verdict == "drift"


def test_a_small_reference_is_insufficient_whatever_is_seen() -> None:
    watched = Watched(slices=96, records=2)
    assert watched.reference.series["chars"].slices[SIZE].total == 192 < LEAST_REFERENCE_UNITS
    watched.push(SLICES, doubled, records=100)
    assert watched.read()["chars"].lacks == "240 units in the reference: it has 192"
    assert {watched.read()[name].verdict for name in ALL} == {"insufficient"}


def test_what_could_not_have_been_seen_is_insufficient_not_ok() -> None:
    few, many = Watched(records=20), Watched(records=2500, slices=144)
    for watched in (few, many):
        watched.push(SLICES)
    for name, signal in ALL.items():
        here, there = few.read()[name], many.read()[name]
        least = matters(signal, {}, 0.05)
        assert here.verdict == "insufficient"
        assert here.detectable is None or here.detectable > least
        assert there.verdict == "ok"
        assert there.detectable is not None
        assert there.detectable <= least


def test_a_change_that_does_not_matter_is_no_drift() -> None:
    watched = Watched(records=2000)
    watched.judge = Judge(SIZE, {"chars": 0.5, "score": 0.5, "reason": 0.9, "error": 0.5})
    watched.judge.join(watched.reference, [])
    watched.push(SLICES, lambda values: values | {"chars": numbers(values, "chars") * 1.2})
    chars = watched.read()["chars"]
    assert chars.p_value is not None
    assert chars.p_value < BUDGET[False]
    assert chars.verdict == "ok"


def test_sessions_are_the_units() -> None:
    watched = Watched(records=30, per_session=10)
    watched.push(SLICES, doubled)
    found = watched.read()
    assert (found["chars"].n, found["chars"].units) == (360, 36)
    assert {found[name].verdict for name in ALL} == {"insufficient"}


def test_a_window_without_records_says_nothing() -> None:
    watched = Watched(records=100)
    watched.push(SLICES, records=0)
    found = watched.read()
    for name in ALL:
        assert (found[name].p_value, found[name].effect, found[name].n) == (None, None, 0)
    assert {found[name].verdict for name in ALL} == {"insufficient"}
    assert found["volume"].verdict == "drift"
    msgspec.json.encode(list(found.values()))


def test_a_rate_stays_drift_until_a_calm_window_has_passed() -> None:
    watched = Watched(records=300)
    watched.push(SLICES)
    watched.push(SLICES, doubled)
    assert watched.read()["error"].verdict == "drift"
    verdicts = []
    for _ in range(3 * SLICES):
        watched.push(1)
        verdicts.append(watched.read()["error"].verdict)
    assert verdicts[: SLICES + 3] == ["drift"] * (SLICES + 3)
    assert verdicts[-1] != "drift"


# ---- values and effects ---------------------------------------------------------------------------------------------


def test_effects_are_what_their_unit_says() -> None:
    watched = Watched(records=500)
    watched.push(SLICES, doubled)
    found = watched.read()
    raw, known = joined(watched.raw), joined(watched.known)
    ratio = np.quantile(raw["chars"], np.arange(1, 10) / 10) / np.quantile(known["chars"], np.arange(1, 10) / 10) - 1
    assert found["chars"].effect == pytest.approx(ratio[np.abs(ratio).argmax()], abs=0.1)
    assert found["chars"].effect_unit.startswith("relative change of the 0.")
    assert found["chars"].value == pytest.approx(np.median(raw["chars"]), rel=0.02)
    assert found["chars"].reference_value == pytest.approx(np.median(known["chars"]), rel=0.02)
    difference = raw["score"].mean() - known["score"].mean()
    assert found["score"].effect == pytest.approx(difference, abs=1e-3)
    assert found["score"].effect_unit.startswith("difference of means")
    assert found["error"].effect == pytest.approx(raw["error"].mean() - known["error"].mean(), abs=0.02)
    assert found["error"].value == pytest.approx(raw["error"].mean())
    shares = {name: (raw["reason"] == name).mean() - (known["reason"] == name).mean() for name in NAMES}
    assert found["reason"].effect == pytest.approx(sum(map(abs, shares.values())) / 2)
    assert found["volume"].value == 500
    assert found["volume"].effect == pytest.approx(0, abs=1e-6)


NAMES = ("stop", "length", "tool", "content_filter")


def joined(raw: Sequence[dict[str, Column]]) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """All records of many slices, a category by name."""
    columns: dict[str, list[object]] = {name: [] for name in ALL}
    for values in raw:
        for name, column in values.items():
            columns[name] += (
                [column.names[code] for code in column.codes] if isinstance(column, Categories) else column.tolist()
            )
    return {name: np.array(found) for name, found in columns.items()}


MOVES: dict[str, Callable[[Floats], Floats]] = {
    "location": lambda z: z + 0.3,
    "spread": lambda z: 1.4 * z,
    "upper tail": lambda z: np.where(z > 1.1, z + 1.0, z),
    "lower tail": lambda z: np.where(z < -1.1, z - 1.0, z),
}


@pytest.mark.parametrize("part", MOVES)
def test_what_of_a_distribution_moved_is_named(part: str) -> None:
    watched = Watched(records=300)
    watched.push(SLICES)
    assert {reading.moved for reading in watched.read().values()} == {""}

    def change(values: dict[str, Column]) -> dict[str, Column]:
        logs = np.log(numbers(values, "chars"))
        z = (logs - logs.mean()) / logs.std()
        odds = special.logit(np.clip(numbers(values, "score"), 1e-6, 1 - 1e-6))
        moved = {"chars": np.exp(logs.mean() + logs.std() * MOVES[part](z)), "score": special.expit(odds + 0.5)}
        return values | moved

    watched.push(SLICES, change)
    found = watched.read()
    assert (found["chars"].verdict, found["chars"].moved) == ("drift", part)
    assert (found["score"].verdict, found["score"].moved) == ("drift", "location")
    assert found["error"].moved == found["reason"].moved == ""


def toxic(share: float, seed: int) -> Change:
    """`score` as one that is 0 but for a few records."""
    rng = np.random.default_rng(seed)

    def change(values: dict[str, Column]) -> dict[str, Column]:
        n = len(numbers(values, "error"))
        return values | {"score": np.where(rng.random(n) < share, rng.uniform(0.4, 1.0, n), 0.0)}

    return change


def test_what_is_detectable_of_a_score_that_is_mostly_zero_is_seen_when_it_comes() -> None:
    """A change of such a score is that more of it, or less, is not zero; zeros do not move by a little."""
    seen = []
    for seed in range(10):
        watched = Watched(records=100, change=toxic(0.02, seed))
        watched.push(SLICES, toxic(0.02, seed + 100))
        quiet = watched.read()["score"]
        assert quiet.detectable is not None
        assert 0.01 < quiet.detectable < 0.1
        watched.push(SLICES, toxic(0.02 + quiet.detectable / 0.7, seed + 200))  # 0.7 is the mean of those not zero
        found = watched.read()["score"]
        seen.append((found.p_value or 0) <= (found.threshold or 0))
    assert np.mean(seen) >= 0.8


def test_what_is_detectable_of_a_score_with_many_zeros_is_seen_when_the_others_move() -> None:
    def change(by: float, seed: int) -> Change:
        rng = np.random.default_rng(seed)

        def moved(values: dict[str, Column]) -> dict[str, Column]:
            n = len(numbers(values, "error"))
            return values | {"score": np.where(rng.random(n) < 0.4, 0.0, np.clip(rng.beta(2, 8, n) + by, 0, 1))}

        return moved

    seen = []
    for seed in range(10):
        watched = Watched(records=60, change=change(0.0, seed))
        watched.push(SLICES, change(0.0, seed + 100))
        quiet = watched.read()["score"]
        assert quiet.detectable is not None
        assert quiet.detectable > 0.005
        watched.push(SLICES, change(quiet.detectable / 0.6, seed + 200))
        found = watched.read()["score"]
        seen.append((found.p_value or 0) <= (found.threshold or 0))
    assert np.mean(seen) >= 0.8


@pytest.mark.parametrize(
    ("name", "records", "least"), [("error", 200, 0.0125), ("reason", 30, 0.05), ("chars", 60, 0.1)]
)
def test_what_a_window_lacks_is_what_more_traffic_gives(name: str, records: int, least: float) -> None:
    """With as many more units as it says the same change is seen, to a quarter."""
    short = Watched(slices=288, records=records)
    short.push(SLICES)
    reading = short.read({False: 1e-6})[name]
    assert reading.verdict == "insufficient"
    assert reading.detectable is not None
    more = (reading.detectable / least) ** 2
    assert reading.lacks.endswith(f": this window sees {reading.detectable:.3g}")
    longer = Watched(slices=288, records=round(records * more))
    longer.push(SLICES)
    seen = longer.read({False: 1e-6})[name].detectable
    assert seen is not None
    assert seen <= 1.25 * least


def test_distances_are_those_of_the_raw_arrays() -> None:
    watched = Watched(records=200)
    watched.push(SLICES, lambda values: values | {"chars": numbers(values, "chars") * 1.3})
    wanted = {key_of(BOT, name) for name in ALL}
    found = {key[2]: distances for key, distances in watched.judge.distances(watched.window, wanted).items()}
    raw, known = joined(watched.raw), joined(watched.known)
    for name, scale in (("chars", "log"), ("score", "unit")):
        width = GRID_CELLS[scale]  # type: ignore[index]
        here, there = (np.bincount(grid_keys(side[name], scale), minlength=width) for side in (raw, known))  # type: ignore[arg-type]
        for distance in ("ks", "wasserstein"):
            expected = DISTANCES[distance](here, there, grid_values(scale))  # type: ignore[arg-type]
            assert found[name][distance] == pytest.approx(float(expected), rel=1e-9)
    sides = [np.array([(side["reason"] == name).sum() for name in NAMES]) for side in (raw, known)]
    for distance in ("total_variation", "hellinger", "jensen_shannon"):
        expected = DISTANCES[distance](sides[0], sides[1])
        assert found["reason"][distance] == pytest.approx(float(expected), rel=1e-9)
    sides = [np.array([(side["error"] == value).sum() for value in (0, 1)]) for side in (raw, known)]
    assert found["error"]["psi"] == pytest.approx(float(DISTANCES["psi"](sides[0], sides[1])), rel=1e-9)
    assert not watched.judge.distances(watched.window, set())


def test_a_new_category_counts_with_the_others() -> None:
    watched = Watched(records=300)
    watched.push(SLICES, lambda values: values | {"reason": fresh(values["reason"])})
    reason = watched.read()["reason"]
    assert reason.verdict == "drift"
    assert reason.effect == pytest.approx(0.1, abs=0.02)
    assert (reason.moved, reason.reference_value) == ("rare values", 0)


def test_a_category_whose_values_are_all_rare_is_not_ok() -> None:
    """Of 60 values none is expected ten times in a window: together they are all units, which shows nothing."""
    traffic, judge = Traffic.begin(Setting(420, shares=(1 / 60,) * 60), "category", 3, 1), Judge(SIZE, {})
    learn(traffic, judge)
    for change in (None, lambda values, _: Categories(values.names, values.codes // 30 * 30)):
        readings = read(judge, slices_of(traffic, 288, SLICES, 1.0, change), BUDGET)
        assert {(r.verdict, r.p_value, r.detectable) for r in readings} == {("insufficient", 1.0, None)}


def fresh(column: Column) -> Categories:
    assert isinstance(column, Categories)
    codes = column.codes.copy()
    codes[::10] = 3
    return Categories([*column.names, "never seen"], codes)


def of_language(rare: float, seed: int) -> Change:
    """`reason` as a category that has one usual value, and another in a share `rare` of the records."""
    rng = np.random.default_rng(seed)

    def change(values: dict[str, Column]) -> dict[str, Column]:
        n = len(numbers(values, "error"))
        return values | {"reason": Categories(["en", "ja"], (rng.random(n) < rare).astype(np.int32))}

    return change


@pytest.mark.parametrize("before", [0.0, 0.004, 0.01])
def test_a_value_that_was_rare_or_not_there_is_found_when_it_comes(before: float) -> None:
    watched = Watched(records=50, change=of_language(before, 1))
    watched.push(2 * SLICES, of_language(before, 2))
    quiet = watched.read()["reason"]
    assert (quiet.test, quiet.verdict) == ("value_e", "ok")
    watched.push(SLICES, of_language(0.15, 3))
    found = watched.read()["reason"]
    assert (found.test, found.verdict, found.tail) == ("value_e", "drift", "anytime")
    assert found.effect_unit == "total variation in the strongest stretch"
    assert found.effect == pytest.approx(0.15 - before, abs=0.05)
    assert min(found.reference_value or 0, 1 - (found.reference_value or 0)) == pytest.approx(before, abs=0.01)
    for _ in range(3 * SLICES):
        watched.push(1, of_language(before, watched.number))
        again = watched.read()["reason"]
    assert again.verdict == "ok"


def test_a_value_that_went_is_found_where_only_rare_ones_are_left() -> None:
    watched = Watched(records=40, change=of_language(0.0, 1))
    watched.push(SLICES, of_language(1.0, 2))
    found = watched.read()["reason"]
    assert found.verdict == "drift"
    assert found.effect == pytest.approx(1.0)


@pytest.mark.parametrize(("factor", "verdict"), [(1, "ok"), (2.5, "ok"), (4, "drift"), (0.5, "ok"), (0.2, "drift")])
def test_volume_is_judged_by_its_range(factor: float, verdict: str) -> None:
    watched = Watched(records=40)
    watched.push(SLICES, records=round(40 * factor))
    assert watched.read()["volume"].verdict == verdict


def test_a_stream_that_was_often_silent_may_be_silent_again() -> None:
    """Of too few records to be judged, but an empty window is as empty as some of the reference were."""
    for often, verdict in ((True, "ok"), (False, "insufficient")):
        watched = Watched(records=1, silent=often)
        watched.push(SLICES, records=0)
        volume = watched.read()["volume"]
        assert (volume.value, volume.verdict) == (0, verdict)


def test_a_partial_window_is_not_judged_for_volume() -> None:
    watched = Watched()
    watched.push(SLICES, records=5)
    found = watched.judge.read(watched.number * LENGTH, watched.window, BUDGET, partial=True)
    assert {reading.signal for reading in found} == set(ALL)


def test_the_budget_counts_series_that_can_be_judged() -> None:
    one, small = Watched().reference, Watched(slices=96, records=2).reference
    segment = replace(small, scope=Scope("bot", "tenant=a"))
    found = budget_of(FalseAlarmSettings(), [one, segment], [SIZE])
    assert found[SIZE][False] * 4 * 30 * DAY / LENGTH == pytest.approx(1)  # four series, no segment is large enough


# ---- many series and one --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numeric", "category", "rate"])
def test_many_series_are_as_one_by_one(kind: Kind) -> None:
    traffic, together = Traffic.begin(Setting(300, slices=72), kind, 4, 0), Judge(SIZE, {})
    learn(traffic, together)
    alone = []
    for row in range(4):
        judge = Judge(SIZE, {})
        judge.join(together.parts[scope_of(row), kind], [])
        alone.append(judge)
    window = slices_of(traffic, 72, SLICES, 1.0)
    for judge in (together, *alone):
        for found in window:
            judge.push(found)
    many = together.read(window[-1].end, list(enumerate(window)), BUDGET, partial=True)
    ones = [judge.read(window[-1].end, list(enumerate(window)), BUDGET, partial=True)[0] for judge in alone]
    assert many == ones


def test_evidence_goes_on_where_they_were_packed() -> None:
    watched = Watched(records=100)
    watched.push(30)
    watched.push(7, doubled)
    watched.read()
    again = Judge(SIZE, {})
    again.join(ScopeReference.load(watched.reference.dump()), [])
    again.shares.restore(watched.judge.shares.dump())
    assert again.shares.dump() == watched.judge.shares.dump()
    found = watched.draw()
    for judge in (watched.judge, again):
        judge.push(found)
    threshold = np.full(len(ALL), 1e-4)
    here, there = (judge.shares.read(watched.window, threshold) for judge in (watched.judge, again))
    assert here.p_value.tobytes() == there.p_value.tobytes()
    with pytest.raises(ValueError, match="other series"):
        Judge(SIZE, {}).shares.restore(watched.judge.shares.dump())
    later = Judge(SIZE, {})
    later.join(ScopeReference.load(watched.reference.dump()), watched.window)
    later.restore(watched.judge.dump())
    now = watched.number * LENGTH
    assert watched.read() == {r.signal: r for r in later.read(now, watched.window, BUDGET, partial=False)}


# ---- what was promised of detectable --------------------------------------------------------------------------------


def shifted(kind: Kind, amount: Floats, rng: np.random.Generator) -> Callable[[Column, Ints], Column]:
    """A change of the values of each series by the effect that it was told it would see."""

    def change(values: Column, series: Ints) -> Column:
        if isinstance(values, Categories):
            codes, by = values.codes.copy(), amount[series]
            codes[(codes == 0) & (rng.random(len(codes)) < by / 0.45)] = 3  # moves a share `by` of all records
            return Categories(values.names, codes)
        if kind == "numeric":
            return values * (1 + amount[series])
        return np.where((values == 0) & (rng.random(len(values)) < amount[series] / 0.96), 1.0, values)

    return change


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("numeric", Setting(1500, slices=144)),
        ("numeric", Setting(1500, slices=144, swing=0.1, memory=0.8)),
        ("category", Setting(3000, slices=144)),
        ("rate", Setting(3000, slices=144)),
        ("rate", Setting(1000, slices=144)),
    ],
)
@pytest.mark.parametrize("threshold", [1e-3, 1e-6])
def test_a_change_as_large_as_detectable_is_seen_nine_times_of_ten(
    kind: Kind, setting: Setting, threshold: float
) -> None:
    series, windows, budget = 20, 4, {False: threshold}
    traffic, judge = Traffic.begin(setting, kind, series, 3), Judge(SIZE, {})
    learn(traffic, judge)
    rng, seen = np.random.default_rng(0), []
    for i in range(windows):
        at = setting.slices + 2 * SLICES * i
        quiet = slices_of(traffic, at, SLICES, 1.0)
        promised = read(judge, quiet, budget)
        amount = np.array([math.nan if r.detectable is None else r.detectable for r in promised])
        told = np.flatnonzero(~np.isnan(amount))
        assert len(told) >= series / 3
        changed = slices_of(traffic, at + SLICES, SLICES, 1.0, shifted(kind, np.nan_to_num(amount), rng))
        found = read(judge, changed, budget)
        seen += [(found[row].p_value or 0) <= (found[row].threshold or 0) for row in told]
        judge.shares.evidence.restart(np.arange(int(judge.shares.first[-1])))
    assert float(np.mean(seen)) >= 0.8


def read(judge: Judge, window: Sequence[Slice], budget: dict[bool, float]) -> list[Reading]:
    for found in window:
        judge.push(found)
    return judge.read(window[-1].end, list(enumerate(window)), budget, partial=True)


def test_detectable_falls_with_records_and_rises_with_a_stricter_threshold() -> None:
    few, many = Watched(records=100), Watched(records=800)
    for watched in (few, many):
        watched.push(SLICES)
    strict, loose = many.read({False: 1e-8}), many.read({False: 1e-3})
    for name in ALL:
        here, there = few.read({False: 1e-3})[name].detectable or math.inf, loose[name].detectable
        assert there is not None
        assert there < here
        assert (strict[name].detectable or math.inf) > there


# ---- false p-values (the full table: python tests/bench/null.py) ----------------------------------------------------


@pytest.mark.parametrize("kind", ["numeric", "category", "rate"])
@pytest.mark.parametrize(
    "setting",
    [
        Setting(300),
        Setting(300, 0.2),
        Setting(60, 5, slices=144),
        Setting(300, swing=0.1, memory=0.8),
        Setting(600, sessions=True),
    ],
    ids=lambda setting: setting.name,
)
def test_few_unchanged_series_are_decided(kind: Kind, setting: Setting) -> None:
    found = simulate(setting, kind, 30, 15)
    assert found.reached(1e-4) <= 0.1
    assert found.reached(1e-6) == 0


def test_few_unchanged_rare_values_are_decided() -> None:
    for setting in (Setting(300, shares=(0.997, 0.003)), Setting(600, sessions=True, shares=(0.99, 0.01))):
        assert simulate(setting, "category", 30, 15).reached(1e-4) <= 0.1


# ---- levels ---------------------------------------------------------------------------------------------------------


def test_levels_have_their_textbook_bounds() -> None:
    rng = np.random.default_rng(0)
    x, hits = rng.beta(2, 3, 400), (np.arange(400) % 8 == 0).astype(np.float64)
    one = np.zeros(400, np.int64), 1, np.zeros(400, np.uint64)
    score, error = summarise(SCORE, x, *one)[0], summarise(ERROR, hits, *one)[0]
    mean = measure(score, "mean")
    assert mean.value == pytest.approx(x.mean(), abs=1e-9)
    assert mean.high == pytest.approx(x.mean() + 1.645 * x.std() / 20, abs=1e-4)
    assert mean.low == pytest.approx(x.mean() - 1.645 * x.std() / 20, abs=1e-4)
    rate = measure(error, "rate")
    centre, z = 0.125, 1.645  # Wilson: the rates p with |p - 1/8| = z sqrt(p (1 - p)/400)
    assert rate.value == centre
    for bound in (rate.low, rate.high):
        assert bound is not None
        assert abs(bound - centre) == pytest.approx(z * math.sqrt(bound * (1 - bound) / 400), rel=1e-9)
    median = measure(score, "quantile", 0.5)
    error_of = 1.645 * math.sqrt(0.25 / 400)
    for bound, q in ((median.low, 0.5 - error_of), (median.value, 0.5), (median.high, 0.5 + error_of)):
        assert bound == pytest.approx(np.quantile(x, q, method="inverted_cdf"), abs=2e-3)
    assert measure(error, "count") == (400, 400, 400)


def test_levels_count_sessions_not_records() -> None:
    hits = (np.arange(400) % 2).astype(np.float64)
    of_sessions = summarise(ERROR, hits, np.zeros(400, np.int64), 1, (np.arange(400) // 10 + 1).astype(np.uint64))[0]
    alone = summarise(ERROR, hits[:40], np.zeros(40, np.int64), 1, np.zeros(40, np.uint64))[0]
    assert measure(of_sessions, "rate") == measure(alone, "rate")


def test_levels_that_a_kind_does_not_have_are_refused() -> None:
    nothing = np.zeros(0, np.int64), 1, np.zeros(0, np.uint64)
    score, error = (summarise(signal, np.zeros(0), *nothing)[0] for signal in (SCORE, ERROR))
    reason = summarise(REASON, Categories([], np.zeros(0, np.int32)), *nothing)[0]
    assert measure(score, "mean") == measure(error, "rate") == (None, None, None)
    assert measure(reason, "count") == (0, 0, 0)
    with pytest.raises(ValueError, match="a category has no mean"):
        measure(reason, "mean")
    full = np.zeros(1, np.int64), 1, np.zeros(1, np.uint64)
    with pytest.raises(ValueError, match="a numeric signal has no rate"):
        measure(summarise(SCORE, np.zeros(1), *full)[0], "rate")
    with pytest.raises(ValueError, match="a rate has no quantile"):
        measure(summarise(ERROR, np.zeros(1), *full)[0], "quantile")


def test_what_matters_is_the_owners_or_the_default() -> None:
    assert [matters(signal, {}, 0.5) for signal in ALL.values()] == [0.1, 0.03, 0.05, 0.125]
    assert matters(ERROR, {}, 0.99) == 0.005
    assert matters(ERROR, {"error": 0.3}, 0.5) == 0.3


# ---- vectors (the full table: python tests/bench/null_vectors.py) ---------------------------------------------------

EMBEDDING = Signal("embedding", "vector", sample=True, fingerprint="model@1", size=16)


class Embedded:
    """A stream whose records lie around four topics, learned from `slices` slices."""

    def __init__(
        self, *, slices: int = 96, records: int = 40, stands_for: float = 1.0, sessions: bool = False, seed: int = 0
    ) -> None:
        self.rng, self.records, self.stands_for = np.random.default_rng(seed), records, stands_for
        self.sessions, self.number, self.count = sessions, 0, slices
        self.topics = np.random.default_rng(1).normal(size=(5, EMBEDDING.size))
        learning = Learning(BOT, 0, slices * LENGTH, [SIZE])
        for _ in range(slices):
            learning.take(SIZE, self.draw())
        self.reference = learning.freeze({EMBEDDING.name: EMBEDDING})
        self.judge = Judge(SIZE, {})
        self.judge.join(self.reference, [])
        self.ring: list[Slice] = []

    def draw(self, replaced: float = 0.0, records: int | None = None) -> Slice:
        n = self.rng.poisson(self.records if records is None else records)
        session = np.zeros(n, np.uint64)
        topic = self.rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
        if self.sessions:  # of five records on average, on one topic
            session = self.rng.integers(0, max(n // 5, 1), n).astype(np.uint64) + np.uint64(1 + 1000 * self.number)
            topics = self.rng.choice(4, 1 + n // 5, p=[0.4, 0.3, 0.2, 0.1])
            topic = topics[(session % np.uint64(max(n // 5, 1))).astype(np.int64)]
        topic[self.rng.random(n) < replaced] = 4
        x = self.topics[topic] + 1.5 * self.rng.normal(size=(n, EMBEDDING.size))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        order = self.rng.integers(1, 2**63, n).astype(np.uint64)
        groups, weight = np.zeros(n, np.int64), np.array([self.stands_for])
        found = summarise(EMBEDDING, x.astype(np.float32), groups, 1, session, weight, order)[0]
        start = self.number * LENGTH
        self.number += 1
        held = {BOT: Contents(round(n * self.stands_for), {EMBEDDING.name: found})} if n else {}
        return Slice(start, start + LENGTH, held)

    def read(
        self, replaced: float = 0.0, records: int | None = None, budget: dict[bool, float] | None = None
    ) -> Reading:
        """The reading of the next window."""
        self.ring = [self.draw(replaced, records) for _ in range(SLICES)]
        for found in self.ring:
            self.judge.push(found)
        return self.judge.read(self.number * LENGTH, self.window, budget or BUDGET, partial=True)[0]

    @property
    def window(self) -> list[tuple[int, Slice]]:
        return list(enumerate(self.ring))


def test_vectors_are_ok_until_records_are_replaced() -> None:
    stream = Embedded(records=1500, slices=288)
    quiet = stream.read()
    assert (quiet.test, quiet.kind, quiet.verdict, quiet.tail) == ("rff_mmd", "vector", "ok", "anytime")
    assert quiet.detectable is not None
    assert quiet.detectable <= 0.02
    changed = stream.read(replaced=0.15)
    assert changed.verdict == "drift"
    assert changed.effect_unit == "share of records replaced, at least"
    assert changed.effect is not None
    assert 0.02 <= changed.effect <= 0.15
    assert changed.value is not None
    assert changed.reference_value is not None
    assert changed.value > 3 * changed.reference_value


def test_few_vectors_are_insufficient() -> None:
    assert Embedded().read(records=2).verdict == "insufficient"
    assert Embedded(records=1).read(replaced=0.5, records=100).verdict == "insufficient"
    nothing = Embedded().read(records=0)
    assert (nothing.verdict, nothing.n, nothing.p_value, nothing.effect) == ("insufficient", 0, None, None)
    seen = Embedded(records=60).read()
    assert seen.verdict == "insufficient"  # it could not have seen 2 %
    assert seen.detectable is not None
    assert seen.detectable > 0.02


def test_of_vectors_the_scored_ones_count_not_those_they_stand_for() -> None:
    """What is scored tells as much as it would alone, whatever it stands for."""
    alone, thin = Embedded(seed=3), Embedded(seed=3, stands_for=250.0)
    here, there = alone.read(), thin.read()
    assert (here.n, here.units) == (there.n, there.units)
    assert there.p_value == pytest.approx(here.p_value, rel=1e-3)
    assert there.detectable == pytest.approx(here.detectable, rel=1e-3)


def test_few_slices_of_vectors_are_widened_and_say_so() -> None:
    full, few = Embedded(slices=72), Embedded(slices=48)
    assert full.read().tail == "anytime"
    assert few.read().tail == "widened"


def test_distances_of_vectors_are_those_of_the_summaries() -> None:
    stream = Embedded()
    stream.read(replaced=0.3)
    found = stream.judge.distances(stream.window, {key_of(BOT, EMBEDDING.name)})[key_of(BOT, EMBEDDING.name)]
    parts = [c.summaries[EMBEDDING.name] for s in stream.ring for c in s.scopes.values()]
    whole, usual = merged(parts), stream.reference.series[EMBEDDING.name].summary
    assert isinstance(whole, Vector)
    assert isinstance(usual, Vector)
    assert found == {
        "mmd": float(DISTANCES["mmd"](whole.embedding, usual.embedding)),
        "frechet": float(DISTANCES["frechet"](whole.projected, usual.projected)),
        "centroid_shift": float(DISTANCES["centroid_shift"](whole.centroid, usual.centroid)),
    }
    assert found["mmd"] == pytest.approx(stream.judge.vectors.read(stream.window, np.array([1e-4])).value[0])
    assert not stream.judge.distances(stream.window, set())
    nothing = stream.judge.distances([], {key_of(BOT, EMBEDDING.name)})
    assert nothing == {key_of(BOT, EMBEDDING.name): {"mmd": None, "frechet": None, "centroid_shift": None}}


def test_vectors_without_a_reference_are_learning() -> None:
    found = Embedded().draw()
    reading = learning_readings(SIZE, SIZE, [BOT], [(0, found)])[0]
    assert (reading.kind, reading.verdict, reading.value) == ("vector", "learning", None)
    assert reading.n == found.scopes[BOT].records


def test_a_window_of_vectors_that_joins_late_reads_as_one_that_was_pushed() -> None:
    stream = Embedded()
    here = stream.read(replaced=0.1)
    late = Judge(SIZE, {})
    late.join(ScopeReference.load(stream.reference.dump()), stream.window)
    assert late.read(stream.number * LENGTH, stream.window, BUDGET, partial=True) == [here]


@pytest.mark.parametrize(("sessions", "factor"), [(False, 1.0), (True, 1.0), (True, 0.25), (False, 4.0)])
def test_few_unchanged_windows_of_vectors_look_changed(sessions: bool, factor: float) -> None:  # noqa: FBT001
    records = 25
    found, least = [], []
    for seed in range(15):
        stream = Embedded(records=records, slices=96, sessions=sessions, seed=seed)
        evidence = []
        for _ in range(20):
            evidence.append(stream.read(records=round(records * factor)).p_value or 0.0)
            found.append(float(stream.judge.vectors.window_p_values()[0]))
        least.append(min(evidence))
    p_values = np.array(found)
    assert np.mean(np.array(least) <= 1e-3) <= 0.24  # of 240 slices
    assert min(least) > 1e-5
    if factor <= 1:  # of more traffic the reference's own noise says most, which is the same for all windows
        assert (p_values <= 1e-1).mean() >= 0.02  # nor is it blind
    assert (p_values <= 1e-2).mean() <= 0.03
    assert (p_values <= 1e-3).mean() <= 0.01  # three of 300
    assert p_values.min() > 1e-6


@pytest.mark.parametrize("threshold", [1e-3, 1e-6])
def test_replacing_as_much_as_detectable_is_seen_nine_times_of_ten(threshold: float) -> None:
    """The effect bounds the replaced share from below, so what is detectable in it is seen."""
    seen = []
    for seed in range(12):
        stream = Embedded(records=150, slices=144, seed=seed)
        promised = stream.read(budget={False: threshold})
        assert promised.detectable is not None
        for _ in range(3):
            found = stream.read(replaced=0.3, budget={False: threshold})
            assert found.effect is not None
            if found.effect >= promised.detectable:
                seen.append((found.p_value or 0) <= threshold)
    assert len(seen) >= 10
    assert float(np.mean(seen)) >= 0.9
