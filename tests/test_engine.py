"""Steps of event time: levels of signals that come and go, leaps over empty time, state that goes out and in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from monitor.acceptance import accept
from monitor.arm_evidence import start_weight
from monitor.calibration import FalseAlarmSettings, thresholds
from monitor.engine import Engine, Plan, Step
from monitor.model import Categories, Reading, Scope, Scored, Signal
from monitor.reference import ReferenceSettings
from monitor.rules import RuleSettings
from monitor.sampled import SampledSignals
from monitor.settings import DAY, MINUTE, SECOND
from monitor.slices import StreamSettings

SIGNALS = {"chars": Signal("chars", "numeric"), "cost": Signal("cost", "numeric")}
WINDOW = 12 * SECOND
V1, V2 = "model_version=v1", "model_version=v2"


def level(name: str, **on: object) -> RuleSettings:
    settings = {"name": name, "signal": "cost", "on": on, "window": "12s", "min_records": 1}
    return RuleSettings.model_validate(settings)


def engine(*rules: RuleSettings, size: str = "72s") -> Engine:
    reference = ReferenceSettings(size=size)
    plan = Plan(SIGNALS, [WINDOW], StreamSettings(), reference, FalseAlarmSettings(), {}, rules)
    return Engine(plan, SampledSignals(), list)


def records(begin: int, seconds: int, *, cost: float | None) -> Scored:
    """Ten records a second of one stream."""
    ts = begin + np.arange(seconds * 10) * 100
    rng = np.random.default_rng(begin % 2**31)
    none = np.zeros(len(ts), np.uint64)
    return Scored(
        ts=ts,
        id_hash=ts.astype(np.uint64),
        content_hash=ts.astype(np.uint64),
        session_hash=none,
        user_hash=none,
        of_hash=none,
        feedback_event=np.zeros(len(ts), bool),
        stream=Categories(["bot"], np.zeros(len(ts), np.int32)),
        segments={},
        values={
            "chars": rng.lognormal(5, 1, len(ts)),
            "cost": np.full(len(ts), np.nan if cost is None else cost),
        },
    )


def states(steps: Sequence[Step]) -> list[tuple[int, str, str]]:
    return [(change.at // SECOND, change.rule, change.state) for step in steps for change in step.changes]


def test_levels_of_a_signal_that_vanishes_are_not_those_of_its_last_window() -> None:
    watched = engine(level("Dear", value="mean", above=1), level("Gone", value="count", below=5))
    watched.add(records(0, 20, cost=3.0))
    watched.add(records(20 * SECOND, 40, cost=None))
    steps = list(watched.close(60 * SECOND))
    assert states(steps) == [(12, "Dear", "firing"), (32, "Gone", "firing")]
    (dear,) = (alert for alert in watched.alerts.values() if alert.rule == "Dear")
    assert dear.lost_since == 32 * SECOND, "its window holds no cost any more, so nothing is said of it"


def test_empty_time_is_leapt_over_but_for_deadlines() -> None:
    watched = engine(level("Dear", value="mean", above=1))
    watched.add(records(0, 20, cost=3.0))
    watched.add(records(100 * 365 * DAY, 20, cost=0.5))
    steps = list(watched.close(100 * 365 * DAY + MINUTE))
    assert len(steps) < 200
    resolved = [at for at, rule, state in states(steps) if (rule, state) == ("Dear", "resolved")]
    assert resolved == [(20 + 12 + DAY // SECOND)], "a day after there was too little data"


def test_state_goes_out_and_comes_back() -> None:
    rules = (RuleSettings(name="AnyDrift", signal=("*",), on="drift"), level("Dear", value="mean", above=1))
    whole, first = engine(*rules), engine(*rules)
    expected = []
    for begin in range(0, 180, 20):
        whole.add(records(begin * SECOND, 20, cost=3.0 if begin > 100 else 0.5))
        expected += list(whole.close((begin + 15) * SECOND))
    found, kept = [], {}
    for begin in range(0, 180, 20):
        first.add(records(begin * SECOND, 20, cost=3.0 if begin > 100 else 0.5))
        found += list(first.close((begin + 15) * SECOND))
        for blob in first.blobs():
            kept[blob.table, blob.key] = blob.data
        first = engine(*rules)
        first.restore([(table, key, data) for (table, key), data in kept.items() if data is not None])
    assert found == expected
    assert any(change.state == "firing" for step in found for change in step.changes)


def test_what_is_spent_is_the_sum_over_tests_and_goes_on_after_a_restart() -> None:
    watched, length = engine(), SECOND
    watched.add(records(0, 200, cost=None))
    behind = 84 * SECOND  # the first window that is wholly behind the reference
    judged = [step.at for step in watched.close(150 * SECOND) if step.at >= behind]
    alive = watched.budget[WINDOW][False]
    assert watched.spending.expected == pytest.approx(len(judged) * alive)  # one signal is measured
    assert watched.spending.ratio(watched.plan.false_alarms) == pytest.approx(1)
    again = engine()
    again.restore([(blob.table, blob.key, blob.data) for blob in watched.blobs() if blob.data is not None])
    for one in (watched, again):
        list(one.close(200 * SECOND))
    assert again.spending == watched.spending
    assert (again.spending.begun, again.spending.last) == (behind - length, 200 * SECOND)


def test_a_coarse_window_is_read_once_more_when_it_is_empty() -> None:
    """The finest slices are gone before it: what was there is not any more, and a level below is passed."""
    few = RuleSettings.model_validate(
        {"name": "Few", "signal": "volume", "on": {"value": "count", "below": 5}, "window": "144s"}
    )
    reference = ReferenceSettings(size="15m")
    plan = Plan(SIGNALS, [WINDOW, 144 * SECOND], StreamSettings(), reference, FalseAlarmSettings(), {}, [few])
    watched = Engine(plan, SampledSignals(), list)
    watched.add(records(0, 300, cost=None))
    watched.add(records(3 * DAY, 20, cost=None))
    steps = list(watched.close(3 * DAY))
    assert states(steps) == [(444, "Few", "firing")]


def test_windows_that_are_not_full_or_cut_short_are_not_counted() -> None:
    watched = engine(level("Few", value="count", below=119))
    watched.add(records(0, 30, cost=1.0))
    assert states(list(watched.close(40 * SECOND, partial_from=30 * SECOND))) == []


# ---- what is said of references -------------------------------------------------------------------------------------


def test_a_signal_that_was_not_steady_while_it_was_learned_is_named() -> None:
    calm, moved = engine(size="240s"), engine(size="240s")
    for watched in (calm, moved):
        watched.add(records(0, 120, cost=1.0))
        later = records(120 * SECOND, 130, cost=1.0)
        chars = later.values["chars"]
        assert isinstance(chars, np.ndarray)
        watched.add(later if watched is calm else replace(later, values={**later.values, "chars": chars * 4}))
    said = [[notice for step in watched.close(250 * SECOND) for notice in step.notices] for watched in (calm, moved)]
    assert said == [[], ["reference: bot: not steady while it was learned, so that it tells little: chars (a step)"]]


def reasons(begin: int, seconds: int, names: Sequence[str]) -> Scored:
    """The same traffic with a category, whose values come in turn."""
    found = records(begin, seconds, cost=1.0)
    codes = np.arange(len(found.ts)) % len(names)
    return replace(found, values={**found.values, "reason": Categories(list(names), codes.astype(np.int32))})


def test_a_value_that_the_reference_does_not_hold_is_told_of_once() -> None:
    def begun() -> Engine:
        plan = Plan(
            {**SIGNALS, "reason": Signal("reason", "category")},
            [WINDOW],
            StreamSettings(),
            ReferenceSettings(size="72s"),
            FalseAlarmSettings(),
            {},
            (),
        )
        return Engine(plan, SampledSignals(), list)

    watched = begun()
    watched.add(reasons(0, 100, ["stop", "length"]))
    assert [n for step in watched.close(100 * SECOND) for n in step.notices] == []
    watched.add(reasons(100 * SECOND, 3, ["stop", "filter"]))
    (said,) = [n for step in watched.close(102 * SECOND) for n in step.notices]
    assert said.startswith(
        "bot: reason 'filter' appeared between 1970-01-01T00:01:40.000Z and 1970-01-01T00:01:41.000Z"
    )
    again = begun()
    again.restore([(blob.table, blob.key, blob.data) for blob in watched.blobs() if blob.data is not None])
    for one in (watched, again):
        one.add(reasons(103 * SECOND, 3, [f"new {i}" for i in range(9)]))
        more = [n for step in one.close(110 * SECOND) for n in step.notices]
        assert len(more) == 4, "five in all; more of them are no news"
        assert not any("filter" in notice for notice in more)


# ---- segments that are the whole ------------------------------------------------------------------------------------


def versions(begin: int, seconds: int, names: Sequence[str]) -> Scored:
    """The same traffic, its records of the versions in turn."""
    found = records(begin, seconds, cost=1.0)
    codes = np.arange(len(found.ts)) % len(names)
    return replace(found, segments={"model_version": Categories(list(names), codes.astype(np.int32))})


def judged(watched: Engine, upto: int) -> set[str | None]:
    readings = [reading for step in watched.close(upto) for reading in step.readings]
    return {reading.segment for reading in readings if reading.verdict != "learning"}


def test_a_segment_that_is_its_whole_stream_is_not_judged_once_more() -> None:
    one, two = engine(), engine()
    one.add(versions(0, 120, ["v1"]))
    two.add(versions(0, 120, ["v1", "v2"]))
    assert judged(one, 120 * SECOND) == {None}
    assert judged(two, 120 * SECOND) == {None, "model_version=v1", "model_version=v2"}
    assert one.budget[WINDOW][False] == 2 * two.budget[WINDOW][False], "nor has it a part of the budget"


def test_versions_are_judged_each_on_its_own_once_there_are_two() -> None:
    watched = engine()
    watched.add(versions(0, 100, ["v1"]))
    watched.add(versions(100 * SECOND, 140, ["v1", "v2"]))
    assert judged(watched, 100 * SECOND) == {None}
    assert judged(watched, 240 * SECOND) == {None, "model_version=v1", "model_version=v2"}


def test_a_segment_that_comes_forth_does_so_after_a_restart_as_well() -> None:
    rule = RuleSettings(name="AnyDrift", signal=("*",), on="drift")
    batches = [versions(0, 100, ["v1"]), *(versions(at * SECOND, 20, ["v1", "v2"]) for at in range(100, 240, 20))]

    def read(*, restarts: bool) -> list[Step]:
        watched = engine(rule)
        steps: list[Step] = []
        held: dict[tuple[str, str], bytes | None] = {}
        for batch in batches:
            watched.add(batch)
            steps += watched.close(int(batch.ts[-1]) // SECOND * SECOND)
            if restarts:
                held |= {(blob.table, blob.key): blob.data for blob in watched.blobs()}
                kept = [(*key, data) for key, data in held.items() if data is not None]
                watched = engine(rule)
                watched.restore(kept)
        return steps

    expected = read(restarts=False)
    assert {r.segment for step in expected for r in step.readings if r.verdict == "ok"} >= {"model_version=v1"}
    assert read(restarts=True) == expected


# ---- versions held against each other -------------------------------------------------------------------------------


def dearer(begin: int, seconds: int, by: float) -> Scored:
    """Two versions; the second, a third of the records, costs more."""
    found, rng = records(begin, seconds, cost=1.0), np.random.default_rng(begin % 2**31)
    codes = (np.arange(len(found.ts)) % 3 == 2).astype(np.int32)
    cost = rng.lognormal(0, 0.3, len(found.ts)) * np.where(codes == 1, by, 1.0)
    segments = {"model_version": Categories(["v1", "v2"], codes)}
    return replace(found, segments=segments, values={**found.values, "cost": cost})


def beside(watched: Engine, upto: int) -> list[Reading]:
    return [reading for step in watched.close(upto) for reading in step.readings if reading.baseline]


def test_an_arm_and_its_segment_are_two_series_of_one_alert() -> None:
    watched = engine(RuleSettings(name="AnyDrift", signal=("*",), on="drift"))
    watched.add(dearer(0, 100, 1.0))
    assert not [r for r in beside(watched, 100 * SECOND) if r.verdict == "drift"]
    watched.add(dearer(100 * SECOND, 60, 3.0))
    list(watched.close(160 * SECOND))
    found = [r for (_, (_, segment, signal), _), r in watched.latest.items() if (segment, signal) == (V2, "cost")]
    assert sorted((r.against, r.verdict) for r in found) == [("", "drift"), (V1, "drift")]
    (alert,) = [alert for alert in watched.alerts.values() if alert.segment == V2]
    assert sorted((part.signal, part.baseline) for part in alert.contributions) == [("cost", ""), ("cost", V1)]


def test_what_arms_spend_is_part_of_the_budget() -> None:
    watched = engine(size="10h")
    watched.add(dearer(0, 100, 1.0))
    for end in (10, 100):
        assert {reading.signal for reading in beside(watched, end * SECOND)} <= {"chars", "cost"}
        assert watched.budget == thresholds_of({Scope("bot", V2): 2})
        weight = start_weight(np.arange(end - 4)).sum()  # 40 records, those of four slices, say where the bins lie
        assert watched.spending.expected == pytest.approx(2 * weight * watched.budget[WINDOW][True])
    assert watched.spending.ratio(watched.plan.false_alarms) == pytest.approx(1, rel=0.01)
    list(watched.close(2 * 3600 * SECOND))
    ended = watched.spending.expected
    watched.add(versions(2 * 3600 * SECOND, 20, ["v1"]))
    list(watched.close(2 * 3600 * SECOND + 20 * SECOND))
    assert watched.spending.expected == ended
    assert not [reading for reading in watched.latest.values() if reading.baseline], "the pair has ended"


def thresholds_of(series: dict[Scope, float]) -> dict[int, dict[bool, float]]:
    return {WINDOW: thresholds(FalseAlarmSettings(), series, [SECOND])[SECOND]}


def test_a_version_that_is_accepted_as_it_is_is_compared_no_more() -> None:
    rule = RuleSettings(name="AnyDrift", signal=("*",), on="drift")
    watched = engine(rule, size="1h")
    watched.add(dearer(0, 60, 3.0))
    list(watched.close(60 * SECOND))
    (alert,) = watched.alerts.values()
    assert (alert.segment, alert.state) == (V2, "firing")
    state = {(blob.table, blob.key): blob.data for blob in watched.blobs()}
    taken = accept([(*key, data) for key, data in state.items() if data is not None], [WINDOW], alert.key.name)
    state |= {(blob.table, blob.key): blob.data for blob in taken.blobs}
    again = engine(rule, size="1h")
    again.restore([(*key, data) for key, data in state.items() if data is not None])
    again.add(dearer(60 * SECOND, 60, 3.0))
    assert {reading.signal for reading in beside(again, 120 * SECOND)} == {"chars"}
    assert again.alerts == {}


def test_levels_of_a_segment_that_is_its_whole_stream_are_measured() -> None:
    watched = engine(level("Dear", value="mean", above=2).model_copy(update={"segment": "model_version=v1"}))
    watched.add(versions(0, 100, ["v1"]))
    later = versions(100 * SECOND, 30, ["v1"])
    watched.add(replace(later, values={**later.values, "cost": np.full(len(later.ts), 3.0)}))
    assert [rule for _, rule, state in states(list(watched.close(130 * SECOND))) if state == "firing"] == ["Dear"]
