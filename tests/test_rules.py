"""Rules and alerts: every transition and boundary, and the step against a slow model that remembers everything."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from monitor import rules as rules_module
from monitor.model import Alert, AlertChange, AlertKey, Kind, Level, Reading, Verdict
from monitor.rules import (
    DEFAULT_RULES,
    Rule,
    RuleSettings,
    built_in_rules,
    check_rules,
    next_deadline,
    step,
    with_built_in,
)
from monitor.settings import DAY, HOUR, MINUTE, SECOND, parse_time

SLICE, WINDOW, LONG = 25 * SECOND, 5 * MINUTE, HOUR
START = parse_time("2026-11-20T00:00:00Z")
KEY = AlertKey("Some", "bot", None)


def rule(**keys: Any) -> Rule:
    """A drift rule on every signal, but for `keys`, written as in a configuration."""
    return RuleSettings.model_validate({"name": "Some", "signal": "*", "on": "drift"} | keys)


def reading(
    verdict: Verdict = "drift",
    *,
    signal: str = "cost",
    stream: str = "bot",
    segment: str | None = None,
    window: int = WINDOW,
    effect: float | None = 0.4,
    effect_unit: str = "difference of rates",
    p_value: float | None = 1e-9,
    units: int = 400,
    value: float | None = 0.12,
    usual: float | None = 0.05,
    kind: Kind = "rate",
    at: int = START,
    moved: str = "",
    changed_at: int | None = None,
) -> Reading:
    return Reading(
        at=at,
        window=window,
        window_start=at - window,
        stream=stream,
        segment=segment,
        signal=signal,
        kind=kind,
        test="rate_e",
        value=value,
        reference_value=usual,
        effect=effect,
        effect_unit=effect_unit,
        p_value=p_value,
        threshold=1e-6,
        verdict=verdict,
        n=units,
        units=units,
        reference_n=9_000,
        reference_slices=288,
        detectable=0.01,
        moved=moved,
        changed_at=changed_at,
    )


def volume(value: float, verdict: Verdict = "drift", **keys: Any) -> Reading:
    return reading(
        verdict, signal="volume", kind="level", value=value, units=round(value * 12), p_value=None, usual=10.0, **keys
    )


def level(
    low: float | None,
    high: float | None,
    *,
    value: float | None = 0.03,
    records: int = 400,
    stream: str = "bot",
    segment: str | None = None,
    signal: str = "error",
    window: int = WINDOW,
) -> Level:
    return Level("Some", START, window, stream, segment, signal, value, low, high, records)


@dataclass
class Run:
    """Steps one after the other; alerts are packed and unpacked between them, as a restart does."""

    rules: Sequence[Rule]
    alerts: dict[AlertKey, Alert] = field(default_factory=dict)
    rows: list[AlertChange] = field(default_factory=list)
    steps: int = 0

    def at(self, now: int, *seen: Reading | Level) -> list[AlertChange]:
        """Step to `now`, counted from START; the rows of that step."""
        readings = [one for one in seen if isinstance(one, Reading)]
        levels = [one for one in seen if isinstance(one, Level)]
        after, rows = step(self.rules, self.alerts, readings, levels, START + now)
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(list(after.values())), type=list[Alert])
        self.alerts = {alert.key: alert for alert in again}
        assert self.alerts == after
        self.rows += rows
        self.steps += 1
        return rows

    def said(self, now: int, *seen: Reading | Level) -> list[tuple[str, str]]:
        return [(row.state, row.reason) for row in self.at(now, *seen)]


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "where", "what"),
    [
        ({"name": "Any Drift"}, ("name",), "pattern"),
        ({"signal": ""}, ("signal", 0), "at least 1 character"),
        ({"signal": []}, (), "`signal` names no signal"),
        ({"on": "drfit"}, ("on", "word"), "'drift' or 'silent'"),
        ({"on": 3}, ("on", "word"), "'drift' or 'silent'"),
        ({"on": "silent"}, (), "needs `signal: volume`"),
        ({"on": "drift", "min_records": 50}, (), "`min_records` is for level rules"),
        ({"for": 10}, ("for",), "expected a duration"),
        ({"severity": "fatal"}, ("severity",), "'critical'"),
        ({"on": {"value": "rate", "above": 0.1}}, (), "a level rule needs a window"),
        ({"on": {"value": "rate", "abov": 0.1}, "window": "1h"}, ("on", "level", "abov"), "not permitted"),
        ({"on": {"value": "mean"}, "window": "1h"}, ("on", "level"), "exactly one of"),
        ({"on": {"value": "mean", "above": 1, "below": 2}, "window": "1h"}, ("on", "level"), "exactly one of"),
        ({"on": {"value": "quantile", "above": 1}, "window": "1h"}, ("on", "level"), "`q` is needed"),
        ({"on": {"value": "mean", "q": 0.5, "above": 1}, "window": "1h"}, ("on", "level"), "`q` is needed"),
        ({"on": {"value": "quantile", "q": 1, "above": 1}, "window": "1h"}, ("on", "level", "q"), "less than 1"),
        ({"on": {"value": "mean", "above": float("nan")}, "window": "1h"}, ("on", "level", "above"), "finite"),
        ({"on": {"value": "rate", "above": 1}, "window": "1h"}, ("on", "level"), "always or never passed"),
        ({"on": {"value": "rate", "below": 0}, "window": "1h"}, ("on", "level"), "always or never passed"),
        ({"on": {"value": "count", "above": -1}, "window": "1h"}, ("on", "level"), "always or never passed"),
        ({"on": {"value": "count", "below": 0}, "window": "1h"}, ("on", "level"), "always or never passed"),
    ],
)
def test_settings_that_are_refused(keys: dict[str, Any], where: tuple[str | int, ...], what: str) -> None:
    with pytest.raises(pydantic.ValidationError) as failure:
        rule(**keys)
    (error,) = failure.value.errors()
    assert error["loc"] == where
    assert what in error["msg"]


def test_settings_of_the_design_are_read() -> None:
    read = rule(signal="response_toxic", on={"value": "rate", "above": 0.02}, window="1h", **{"for": "10m"})
    assert (read.signal, read.window, read.hold, read.min_records) == (("response_toxic",), HOUR, 10 * MINUTE, 100)
    assert RuleSettings.model_validate(read.model_dump(by_alias=True, exclude_unset=True)) == read
    assert RuleSettings.model_json_schema()["properties"]["signal"]["anyOf"][0] == {"type": "string"}


def test_built_in_rules_give_way_to_rules_of_their_name() -> None:
    own = rule(name="SilentStream", signal="volume", on="silent", severity="info")
    assert [found.name for found in with_built_in([own])] == ["SilentStream", "VolumeChange"]
    assert with_built_in([own])[0] is own
    assert [found.severity for found in (*DEFAULT_RULES, *built_in_rules())] == ["warning", "warning", "critical"]


def test_rules_are_checked_together() -> None:
    rules = [rule(), rule(name="Other", window="7m"), rule()]
    assert check_rules(rules, [WINDOW, LONG]) == [
        "rules: 2 are named Some; alerts are told apart by the name of their rule",
        "rules: Other watches a window of 7m; there are 5m, 1h",
    ]
    assert check_rules([rule(window="1h")], [WINDOW, LONG]) == []


# ---- which series a rule watches ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "seen", "fires"),
    [
        ({}, {}, True),
        ({}, {"signal": "volume"}, False),
        ({}, {"signal": "model_version"}, False),
        ({}, {"signal": "model_version_missing"}, True),
        ({"signal": "vol*"}, {"signal": "volume"}, True),
        ({"signal": ["*", "model_version"]}, {"signal": "model_version"}, True),
        ({"signal": ["prompt_*", "error"]}, {"signal": "error"}, True),
        ({"signal": ["prompt_*", "error"]}, {"signal": "response_chars"}, False),
        ({"signal": "Cost"}, {}, False),
        ({"window": "1h"}, {}, False),
        ({"window": "1h"}, {"window": LONG}, True),
        ({"stream": "b?t"}, {}, True),
        ({"stream": "B*"}, {}, False),
        ({}, {"segment": "segment=eu"}, True),
        ({"segment": "*"}, {}, True),
        ({"segment": "*"}, {"segment": "segment=eu"}, True),
        ({"segment": "segment=e?"}, {"segment": "segment=eu"}, True),
        ({"segment": "segment=e?"}, {}, False),
        ({"segment": ""}, {}, True),
        ({"segment": ""}, {"segment": "segment=eu"}, False),
    ],
)
def test_which_series_a_rule_watches(keys: dict[str, Any], seen: dict[str, Any], fires: bool) -> None:  # noqa: FBT001
    assert bool(Run([rule(**keys)]).at(0, reading(**seen))) is fires


@pytest.mark.parametrize("verdict", ["ok", "insufficient", "learning"])
def test_only_drift_fires_a_drift_rule(verdict: Verdict) -> None:
    assert Run([rule()]).at(0, reading(verdict)) == []


# ---- pending and firing ---------------------------------------------------------------------------------------------


def test_without_for_it_fires_at_once() -> None:
    run = Run([rule(severity="critical")])
    (row,) = run.at(0, reading(segment="segment=eu-mobile", signal="response_refusal", effect=0.07))
    assert row == AlertChange(
        at=START,
        rule="Some",
        state="firing",
        reason="drift",
        severity="critical",
        stream="bot",
        segment="segment=eu-mobile",
        signals=["response_refusal"],
        window=WINDOW,
        value=0.12,
        p_value=1e-9,
        started_at=START,
        summary="bot, segment=eu-mobile: response_refusal rose from 5.0% to 12.0% (+7 points) "
        "in the 5m to 2026-11-20T00:00:00.000Z",
    )
    assert run.said(SLICE, reading(segment="segment=eu-mobile", signal="response_refusal")) == []


def test_it_fires_exactly_when_held_for_long_enough() -> None:
    run = Run([rule(**{"for": "50s"})])
    assert run.said(0, reading()) == [("pending", "drift")]
    assert run.said(2 * SLICE - 1, reading()) == []
    assert run.said(2 * SLICE, reading()) == [("firing", "drift")]
    alert = run.alerts[KEY]
    assert (alert.started_at, alert.since) == (START, START + 2 * SLICE)
    assert run.rows[-1].started_at == START


def test_pending_is_over_when_a_step_does_not_hold() -> None:
    run = Run([rule(**{"for": "50s"})])
    run.at(0, reading())
    assert run.said(SLICE, reading("insufficient")) == [("inactive", "cleared")]
    assert run.alerts == {}
    assert run.rows[-1].summary == (
        "bot: cost rose from 5.0% to 12.0% (+40 points) in the 5m to 2026-11-20T00:00:00.000Z; gone before it fired"
    )
    assert run.said(2 * SLICE, reading()) == [("pending", "drift")]
    assert run.said(3 * SLICE, reading()) == []
    assert run.said(4 * SLICE, reading()) == [("firing", "drift")]


def test_any_series_holds_a_pending_alert_and_those_at_firing_contribute() -> None:
    run = Run([rule(**{"for": "25s"})])
    run.at(0, reading(signal="cost", effect=0.9))
    (row,) = run.at(SLICE, reading("ok", signal="cost"), reading(signal="error", value=0.3))
    assert (row.state, row.signals, row.value, row.started_at) == ("firing", ["error"], 0.3, START)


def test_signals_come_strongest_first_and_the_first_speaks() -> None:
    run = Run([rule()])
    (row,) = run.at(
        0,
        reading(signal="weak", p_value=1e-7, effect=0.9, value=1.0),
        reading(signal="none", p_value=None, effect=9.0, value=2.0),
        reading(signal="small", p_value=1e-9, effect=0.1, value=3.0),
        reading(signal="strong", p_value=1e-9, effect=-0.2, value=4.0, window=LONG),
        reading(signal="strong", p_value=1e-8, effect=0.3, value=5.0),
    )
    assert row.signals == ["strong", "small", "weak", "none"]
    assert (row.window, row.value, row.p_value) == (LONG, 4.0, 1e-9)
    assert row.summary.startswith("bot: strong rose from 5.0% to 400.0% (-20 points) in the 1h to ")
    assert row.summary.endswith("Z, and 3 more signals")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"value": 0.01}, "cost fell from 5.0% to 1.0% (+40 points) in"),
        ({"value": 0.05}, "cost changed (+40 points) in"),
        ({"value": None}, "cost changed (+40 points) in"),
        ({"effect": None}, "cost rose from 5.0% to 12.0% in"),
        (
            {"changed_at": START - 60_000},
            "since about 2026-11-19T23:59:00.000Z (seen in the 5m to 2026-11-20T00:00:00.000Z)",
        ),
        ({"kind": "category", "moved": "high"}, "cost: the share of high rose from 5.0% to 12.0% in"),
        (
            {"kind": "numeric", "effect": -0.4, "effect_unit": "relative change of the 0.9 quantile", "value": 3.0},
            "cost: the 0.9 quantile fell by 40% (median 0.050 before, 3.00 now) in",
        ),
        (
            {"effect": 0.3, "effect_unit": "difference of rates in the strongest stretch"},
            "cost rose from 5.0% to 35.0% (+30 points) in",
        ),
        ({"kind": "category", "value": None}, "cost changed (+40 points) in"),
    ],
)
def test_summaries_of_what_can_be_said(keys: dict[str, Any], words: str) -> None:
    (row,) = Run([rule()]).at(0, reading(**keys))
    assert words in row.summary


def test_each_rule_stream_and_segment_is_an_alert_of_its_own_in_order() -> None:
    run = Run([rule(name="Second"), rule(name="First"), rule(name="Never", stream="x")])
    rows = run.at(0, reading(stream="b", segment="s=2"), reading(stream="b"), reading(stream="a", segment="s=1"))
    scopes = [("a", "s=1"), ("b", None), ("b", "s=2")]
    assert [(row.rule, row.stream, row.segment) for row in rows] == [
        (name, stream, segment) for name in ("Second", "First") for stream, segment in scopes
    ]
    rows = run.at(SLICE, reading("ok", stream="b", segment="s=2"), reading(stream="b"), reading(stream="a"))
    assert [(row.rule, row.stream, row.segment) for row in rows] == [("Second", "a", None), ("First", "a", None)]


# ---- joining --------------------------------------------------------------------------------------------------------


def test_new_signals_join_with_a_row_and_the_first_still_speaks() -> None:
    run = Run([rule()])
    run.at(0, reading(p_value=1e-8))
    (row,) = run.at(SLICE, reading(), reading(signal="error", p_value=1e-12, value=0.9), reading(signal="status"))
    assert (row.state, row.reason, row.signals) == ("firing", "joined", ["error", "status", "cost"])
    assert (row.window, row.value, row.p_value, row.started_at) == (WINDOW, 0.12, 1e-8, START)
    assert row.summary == (
        "bot: cost rose from 5.0% to 12.0% (+40 points) in the 5m to 2026-11-20T00:00:00.000Z, and 2 more signals"
    )
    assert [part.signal for part in run.alerts[KEY].contributions] == ["cost", "error", "status"]
    assert run.alerts[KEY].since == START
    assert run.said(2 * SLICE, reading(), reading("ok", signal="error"), reading(signal="status")) == []
    assert run.said(3 * SLICE, reading(), reading(signal="error"), reading(signal="status")) == []


def test_another_window_of_a_known_signal_joins_without_a_row_and_must_calm_down_too() -> None:
    run = Run([rule()])
    run.at(0, reading())
    assert run.at(SLICE, reading(), reading(window=LONG)) == []
    assert [part.window for part in run.alerts[KEY].contributions] == [WINDOW, LONG]
    calm = reading("ok", effect=0.0)
    assert run.at(2 * SLICE, calm, reading(window=LONG)) == []
    assert run.at(2 * DAY, calm, reading(window=LONG)) == []
    assert run.at(3 * DAY, calm, reading("ok", effect=0.0, window=LONG)) == []
    assert run.at(3 * DAY + LONG - 1, calm, reading("ok", effect=0.0, window=LONG)) == []
    assert run.said(3 * DAY + LONG, calm, reading("ok", effect=0.0, window=LONG)) == [("resolved", "resolved")]


def test_joining_ends_the_calm() -> None:
    run = Run([rule()])
    run.at(0, reading())
    run.at(SLICE, reading("ok", effect=0.0))
    assert run.said(SLICE + WINDOW, reading("ok", effect=0.0), reading(signal="error")) == [("firing", "joined")]
    assert run.alerts[KEY].quiet_since is None


def test_a_version_held_against_another_is_a_series_of_its_own_in_the_alert_of_its_segment() -> None:
    run = Run([rule()])
    segment, v1, v3 = "model_version=v2", "model_version=v1", "model_version=v3"
    (row,) = run.at(0, msgspec.structs.replace(reading(segment=segment, signal="response_refusal"), against=v1))
    words = f"bot, {segment} against {v1}: response_refusal 12.0% against 5.0% (+40 points) in the 5m to"
    assert row.summary.startswith(words)
    calm, still = (
        reading("ok", segment=segment, effect=0.0),
        msgspec.structs.replace(reading(segment=segment), against=v1),
    )
    key = AlertKey("Some", "bot", segment)
    for at, other in enumerate((reading(segment=segment), msgspec.structs.replace(calm, against=v3)), 1):
        run.at(
            at * SLICE,
            msgspec.structs.replace(still, signal="response_refusal"),
            msgspec.structs.replace(other, signal="response_refusal"),
        )
    assert [part.baseline for part in run.alerts[key].contributions] == [v1, ""]
    both = (
        msgspec.structs.replace(calm, signal="response_refusal"),
        msgspec.structs.replace(calm, signal="response_refusal", against=v1),
    )
    run.at(3 * SLICE, *both)
    assert run.alerts[key].quiet_since == START + 3 * SLICE
    run.at(4 * SLICE, both[0], msgspec.structs.replace(still, signal="response_refusal"))
    assert run.alerts[key].quiet_since is None, "one of the two stands"


# ---- resolving ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "after"), [({}, WINDOW), ({"keep_firing_for": "1m"}, MINUTE)])
def test_it_resolves_exactly_when_calm_for_long_enough(keep: dict[str, str], after: int) -> None:
    run = Run([rule(**keep)])
    run.at(0, reading())
    calm = reading("ok", effect=0.1)
    assert run.at(SLICE, calm) == []
    assert run.alerts[KEY].quiet_since == START + SLICE
    assert run.at(SLICE + after - 1, calm) == []
    (row,) = run.at(SLICE + after, calm)
    assert (row.state, row.reason, row.started_at, row.value) == ("resolved", "resolved", START, 0.12)
    assert row.summary.endswith("; calm since 2026-11-20T00:00:25.000Z")
    assert run.alerts == {}


def test_without_keep_firing_for_the_first_calm_step_resolves() -> None:
    run = Run([rule(keep_firing_for="0s")])
    run.at(0, reading())
    assert run.said(SLICE, reading("ok", effect=0.1)) == [("resolved", "resolved")]


@pytest.mark.parametrize(
    ("seen", "calm"),
    [
        (reading("ok", effect=-0.199), True),
        (reading("ok", effect=0.2), False),
        (reading("ok", effect=-0.2), False),
        (reading("insufficient", effect=0.1, units=40), True),
        (reading("insufficient", effect=0.1, units=39), False),
        (reading("insufficient", effect=None), False),
        (reading("learning", effect=0.0), False),
        (reading("ok", effect=0.0, window=LONG), False),
        (reading("ok", effect=0.0, signal="error"), False),
        (reading("ok", effect=0.0, segment="segment=eu"), False),
    ],
)
def test_what_calm_is(seen: Reading, calm: bool) -> None:  # noqa: FBT001
    run = Run([rule()])
    run.at(0, reading(effect=0.4))
    run.at(SLICE, seen)
    assert (run.alerts[KEY].quiet_since is not None) is calm


def test_without_an_effect_at_firing_no_drift_is_calm() -> None:
    run = Run([rule()])
    run.at(0, reading(effect=None))
    run.at(SLICE, reading("ok", effect=0.9))
    assert run.alerts[KEY].quiet_since == START + SLICE


def test_one_restless_step_begins_the_calm_anew() -> None:
    run = Run([rule()])
    run.at(0, reading())
    run.at(SLICE, reading("ok", effect=0.0))
    run.at(2 * SLICE, reading("ok", effect=0.3))
    assert run.at(3 * SLICE, reading("ok", effect=0.0)) == []
    assert run.at(SLICE + WINDOW, reading("ok", effect=0.0)) == []
    assert run.said(3 * SLICE + WINDOW, reading("ok", effect=0.0)) == [("resolved", "resolved")]


@pytest.mark.parametrize("seen", [[], [reading("insufficient", units=39)], [reading("learning")]])
def test_without_data_it_is_held_for_exactly_a_day(seen: list[Reading]) -> None:
    run = Run([rule()])
    run.at(0, reading())
    assert run.at(SLICE, *seen) == []
    assert run.at(SLICE + DAY - 1, *seen) == []
    (row,) = run.at(SLICE + DAY, *seen)
    assert (row.state, row.reason) == ("resolved", "no_data")
    assert row.summary.endswith("; too little data to say more since 2026-11-20T00:00:25.000Z")


def test_a_series_that_drifts_or_is_restless_keeps_an_alert_whose_others_are_lost() -> None:
    for seen in (reading(signal="error"), reading("ok", signal="error")):
        run = Run([rule()])
        run.at(0, reading(), reading(signal="error"))
        assert run.at(SLICE, seen) == []
        assert run.at(3 * DAY, seen) == []
        assert run.alerts[KEY].lost_since is None


def test_lone_calm_windows_among_lost_ones_do_not_hold_an_alert_for_ever() -> None:
    run = Run([rule()])
    run.at(0, reading())
    for hour in range(1, 25):
        assert run.at(hour * HOUR, reading("insufficient", units=30)) == []
        assert run.at(hour * HOUR + SLICE, reading("ok", effect=0.0)) == []
    assert run.said(25 * HOUR, reading("insufficient", units=30)) == [("resolved", "no_data")]


def test_a_calm_alert_is_not_given_up_for_data_that_were_lost_before() -> None:
    run = Run([rule(keep_firing_for="30h")])
    run.at(0, reading())
    run.at(SLICE)
    run.at(2 * SLICE, reading("ok", effect=0.0))
    assert run.at(SLICE + DAY, reading("ok", effect=0.0)) == []
    assert run.said(2 * SLICE + 30 * HOUR, reading("ok", effect=0.0)) == [("resolved", "resolved")]


def test_an_alert_whose_rule_is_gone_ends() -> None:
    for after in ([], [rule(stream="other")], [rule(name="Else", window="1h")]):
        for hold, state in (("0s", "resolved"), ("1h", "inactive")):
            run = Run([rule(**{"for": hold})])
            run.at(0, reading())
            run.rules = after
            assert run.said(SLICE, reading()) == [(state, "rule_removed")]
            assert run.alerts == {}


def test_the_same_alert_object_comes_back_where_nothing_changed() -> None:
    alerts, _ = step([rule()], {}, [reading()], [], START)
    again, _ = step([rule()], alerts, [reading()], [], START + SLICE)
    assert again[KEY] is alerts[KEY]


# ---- level rules ----------------------------------------------------------------------------------------------------


ABOVE = {"signal": "error", "on": {"value": "rate", "above": 0.02}, "window": "5m"}
BELOW = {"signal": "error", "on": {"value": "mean", "below": 0.02}, "window": "5m"}
COUNT = {"signal": "error", "on": {"value": "count", "above": 20}, "window": "5m"}


@pytest.mark.parametrize(
    ("keys", "seen", "fires"),
    [
        (ABOVE, level(0.021, 0.04), True),
        (ABOVE, level(0.02, 0.04), False),
        (ABOVE, level(0.021, 0.04, records=100), True),
        (ABOVE, level(0.021, 0.04, records=99), False),
        (ABOVE | {"min_records": 99}, level(0.021, 0.04, records=99), True),
        (ABOVE, level(None, None), False),
        (ABOVE, level(0.021, 0.04, window=LONG), False),
        (ABOVE, level(0.021, 0.04, signal="cost"), False),
        (BELOW, level(0.0, 0.019), True),
        (BELOW, level(0.0, 0.02), False),
        (COUNT, level(None, None, value=21.0, records=21), True),
        (COUNT, level(None, None, value=20.0), False),
        (COUNT | {"on": {"value": "count", "below": 1}}, level(None, None, value=0.0, records=0), True),
        (COUNT, level(None, None, value=None), False),
        ({}, level(0.9, 1.0), False),
    ],
)
def test_when_a_level_is_passed(keys: dict[str, Any], seen: Level, fires: bool) -> None:  # noqa: FBT001
    rows = Run([rule(**keys)]).said(0, seen)
    assert rows == ([("firing", "level")] if fires else [])


@pytest.mark.parametrize(
    ("keys", "seen", "words"),
    [
        (
            ABOVE,
            level(0.025, 0.045, value=0.034),
            "rate of error is 0.034 (95 % 0.025 to 0.045), above 0.020, in the 5m",
        ),
        (COUNT, level(None, None, value=530.0), "count of error is 530, above 20.0, in the 5m"),
        (
            {"signal": "cost", "on": {"value": "quantile", "q": 0.95, "below": 0.5}, "window": "5m"},
            level(0.2, 0.4, value=0.3, signal="cost"),
            "0.95 quantile of cost is 0.300 (95 % 0.200 to 0.400), below 0.500, in the 5m",
        ),
    ],
)
def test_summaries_of_levels(keys: dict[str, Any], seen: Level, words: str) -> None:
    (row,) = Run([rule(**keys)]).at(0, seen)
    assert row.summary == f"bot: {words} to 2026-11-20T00:00:00.000Z"


def test_a_level_rule_resolves_when_its_level_is_not_passed_any_more() -> None:
    run = Run([rule(**ABOVE)])
    run.at(0, level(0.025, 0.045))
    assert run.at(SLICE, level(0.019, 0.03)) == []
    assert run.at(SLICE + WINDOW - 1, level(0.019, 0.03)) == []
    assert run.said(SLICE + WINDOW, level(0.019, 0.03)) == [("resolved", "resolved")]


@pytest.mark.parametrize("seen", [[], [level(0.01, 0.03, records=99)], [level(None, None, value=None)]])
def test_a_level_rule_without_data_is_held_for_a_day(seen: list[Level]) -> None:
    run = Run([rule(**ABOVE)])
    run.at(0, level(0.025, 0.045))
    assert run.at(SLICE, *seen) == []
    assert run.at(SLICE + DAY - 1, *seen) == []
    assert run.said(SLICE + DAY, *seen) == [("resolved", "no_data")]


def test_a_count_of_nothing_is_data() -> None:
    run = Run([rule(**COUNT)])
    run.at(0, level(None, None, value=21.0))
    run.at(SLICE, level(None, None, value=0.0, records=0))
    assert run.said(SLICE + WINDOW, level(None, None, value=0.0, records=0)) == [("resolved", "resolved")]


# ---- built-in rules -------------------------------------------------------------------------------------------------


def test_a_stream_that_falls_silent_and_speaks_again() -> None:
    run = Run([built_in_rules()[1]])
    (row,) = run.at(0, volume(0.0), volume(0.0, segment="segment=eu"), volume(1.0, window=LONG))
    assert (row.state, row.reason, row.severity, row.signals) == ("firing", "silent", "critical", ["volume"])
    assert row.summary == "bot: no records in the 5m to 2026-11-20T00:00:00.000Z; the reference has 10.0 a slice"
    assert run.at(30 * DAY, volume(0.0), volume(0.0, window=LONG)) == []
    # Back at a tenth of its volume: still too little, but not silent.
    assert run.at(30 * DAY + SLICE, volume(1.0), volume(1.0, window=LONG)) == []
    assert run.said(30 * DAY + SLICE + WINDOW, volume(1.0), volume(1.0, window=LONG)) == [("resolved", "resolved")]


@pytest.mark.parametrize("verdict", ["learning", "ok"])
def test_no_records_are_no_news_where_the_reference_knows_them(verdict: Verdict) -> None:
    assert Run([built_in_rules()[1]]).at(0, volume(0.0, verdict)) == []


@pytest.mark.parametrize("usual", [0.0, None])
def test_a_stream_that_never_spoke_is_not_silent(usual: float | None) -> None:
    never = msgspec.structs.replace(volume(0.0, "insufficient"), reference_value=usual)
    assert Run([built_in_rules()[1]]).at(0, never) == []


def test_volume_beyond_its_range_fires_and_resolves_without_any_units() -> None:
    run = Run([*DEFAULT_RULES, *built_in_rules()])
    assert [row.rule for row in run.at(0, volume(0.0, effect=-5.0))] == ["VolumeChange", "SilentStream"]
    assert run.at(2 * DAY, volume(0.0, effect=-5.0)) == []
    back = volume(2.0, "ok", effect=-1.6)
    run.at(2 * DAY + SLICE, back)
    assert {(row.rule, row.reason) for row in run.at(2 * DAY + SLICE + WINDOW, back)} == {
        ("VolumeChange", "resolved"),
        ("SilentStream", "resolved"),
    }


# ---- deadlines ------------------------------------------------------------------------------------------------------


def test_deadlines() -> None:
    rules = [rule(**{"for": "1m"})]
    run = Run(rules)
    assert next_deadline(rules, {}, START) is None
    run.at(0, reading())
    assert next_deadline(rules, run.alerts, START) == START + MINUTE
    run.at(MINUTE, reading())
    assert next_deadline(rules, run.alerts, START + MINUTE) is None
    run.at(2 * MINUTE, reading("ok", effect=0.0))
    assert next_deadline(rules, run.alerts, START + 2 * MINUTE) == START + 2 * MINUTE + WINDOW
    run.at(3 * MINUTE)
    assert next_deadline(rules, run.alerts, START + 3 * MINUTE) == START + 3 * MINUTE + DAY
    assert next_deadline([], run.alerts, START + 3 * MINUTE) == START + 3 * MINUTE + 1


# ---- against a slow model -------------------------------------------------------------------------------------------

Series = tuple[str, str | None, str, int]
"""Stream, segment, signal, window."""
ALL_SERIES: tuple[Series, ...] = tuple(
    ("bot", segment, signal, window)
    for segment in (None, "s=1")
    for signal in ("cost", "error")
    for window in (WINDOW, LONG)
)
SAYINGS: Mapping[str, tuple[Verdict, float | None, int] | None] = {
    "drifts": ("drift", 0.4, 400),
    "drifts more": ("drift", -0.9, 400),
    "restless": ("ok", 0.3, 400),
    "calm": ("ok", 0.05, 400),
    "few": ("insufficient", 0.05, 39),
    "learning": ("learning", None, 400),
    "gone": None,
}
Moment = tuple[int, dict[Series, str]]


def as_reading(series: Series, saying: str) -> list[Reading]:
    stream, segment, signal, window = series
    found = SAYINGS[saying]
    if found is None:
        return []
    verdict, effect, units = found
    p_value = 1e-9 if saying == "drifts more" else 1e-7
    given = reading(verdict, stream=stream, segment=segment, signal=signal, window=window, effect=effect, units=units)
    return [msgspec.structs.replace(given, p_value=p_value)]


def as_readings(said: Mapping[Series, str]) -> list[Reading]:
    return [found for series, saying in said.items() for found in as_reading(series, saying)]


def slow_model(one: Rule, segment: str | None, moments: Iterable[Moment]) -> list[tuple[int, str, str, list[str]]]:
    """Rows of one alert, from the words of the design and a memory of all that was said since it fired."""
    rows: list[tuple[int, str, str, list[str]]] = []
    began: int | None = None
    parts: dict[tuple[str, int], str] = {}
    memory: list[tuple[int, str]] = []
    for now, everything in moments:
        said = {series[2:]: saying for series, saying in everything.items() if series[1] == segment}
        said = {series: saying for series, saying in said.items() if one.window in (None, series[1])}
        drifting = {series: saying for series, saying in said.items() if saying.startswith("drifts")}
        if not parts:
            if drifting and began is None:
                began = now
                if one.hold:
                    rows.append((now, "pending", "drift", strongest(drifting)))
            if drifting and began is not None and now - began >= one.hold:
                parts, memory = drifting, []
                rows.append((now, "firing", "drift", strongest(parts)))
            elif not drifting and began is not None:
                rows.append((now, "inactive", "cleared", []))
                began = None
            continue
        joined = {series: saying for series, saying in drifting.items() if series not in parts}
        new = {signal for signal, _ in joined} - {signal for signal, _ in parts}
        parts = parts | joined
        if new:
            rows.append((now, "firing", "joined", strongest(parts)))
        memory.append((now, summed_up({series: said.get(series, "gone") for series in parts}, parts)))
        reason = over(one, memory, max(window for _, window in parts))
        if reason:
            rows.append((now, "resolved", reason, strongest(parts)))
            parts, began = {}, None
    return rows


def strongest(parts: Mapping[tuple[str, int], str]) -> list[str]:
    best = {signal: min(p for (s, _), p in parts.items() if s == signal) for signal, _ in parts}
    ranked = {signal: "drifts more" in [p for (s, _), p in parts.items() if s == signal] for signal in best}
    return sorted(best, key=lambda signal: (not ranked[signal], signal))


def summed_up(now: Mapping[tuple[str, int], str], began: Mapping[tuple[str, int], str]) -> str:
    """What all contributing series together say."""
    # 0.3 is below half of 0.9 but not of 0.4.
    calm = {series for series, saying in now.items() if saying == "calm"}
    calm |= {series for series, saying in now.items() if saying == "restless" and began[series] == "drifts more"}
    lost = {series for series, saying in now.items() if saying in ("few", "learning", "gone")}
    if len(calm) == len(now):
        return "calm"
    return "lost" if len(calm) + len(lost) == len(now) else "stands"


def over(one: Rule, memory: Sequence[tuple[int, str]], window: int) -> str | None:
    """Whether, and why, an alert is over after all that was said since it fired."""
    now, last = memory[-1]
    keep = window if one.keep_firing_for is None else one.keep_firing_for
    not_calm = max((place for place, (_, said) in enumerate(memory) if said != "calm"), default=-1)
    if last == "calm" and now - memory[not_calm + 1][0] >= keep:
        return "resolved"
    standing = max((place for place, (_, said) in enumerate(memory) if said == "stands"), default=-1)
    lost = [at for at, said in memory[standing + 1 :] if said == "lost"]
    return "no_data" if last == "lost" and now - lost[0] >= DAY else None


@st.composite
def all_rules(draw: st.DrawFn) -> list[Rule]:
    return [
        rule(
            name=f"Rule{number}",
            window=draw(st.sampled_from([None, None, "5m", "1h"])),
            keep_firing_for=draw(st.sampled_from([None, None, "0s", "50s", "30h"])),
            **{"for": draw(st.sampled_from(["0s", "0s", "25s", "60s", "1h"]))},
        )
        for number in range(draw(st.integers(1, 3)))
    ]


@st.composite
def timelines(draw: st.DrawFn) -> list[Moment]:
    """What every series says at times a slice to half a day apart; most go on saying what they said."""
    now, said = 0, dict.fromkeys(ALL_SERIES, "calm")
    moments = []
    some = st.dictionaries(st.sampled_from(ALL_SERIES), st.sampled_from(list(SAYINGS)), max_size=4)
    alike = st.sampled_from(["calm", "calm", "few"]).map(lambda saying: dict.fromkeys(ALL_SERIES, saying))
    for gap in draw(st.lists(st.sampled_from([SLICE, SLICE, MINUTE, 30 * MINUTE, 13 * HOUR]), min_size=1, max_size=30)):
        now += gap
        said = said | draw(some | st.just({}) | alike)
        moments.append((now, said))
    return moments


def agree(rules: Sequence[Rule], moments: Sequence[Moment]) -> None:
    run = Run(rules)
    for now, said in moments:
        run.at(now, *as_readings(said))
    for one in rules:
        for segment in (None, "s=1"):
            rows = [row for row in run.rows if (row.rule, row.segment) == (one.name, segment)]
            expected = slow_model(one, segment, moments)
            assert [(row.at - START, row.state, row.reason) for row in rows] == [row[:3] for row in expected]
            shown = [(row.signals, signals) for row, (*_, signals) in zip(rows, expected, strict=True) if signals]
            assert [got for got, _ in shown] == [wanted for _, wanted in shown]


@settings(max_examples=150, deadline=None)
@given(all_rules(), timelines())
def test_alerts_are_those_of_the_slow_model(rules: list[Rule], moments: list[Moment]) -> None:
    agree(rules, moments)


PLANTED = settings(
    max_examples=400,
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    phases=[Phase.generate],
)
"""How a law is run that is to fail."""
TRUE_STANDING, TRUE_GLOB = rules_module._standing, rules_module._any_glob


def keep_shortest(one: Rule, contributions: Sequence[Any]) -> int:
    return min(part.window for part in contributions) if one.keep_firing_for is None else one.keep_firing_for


def more_calm(one: Rule, began: Any, seen: Any) -> str:
    found = TRUE_STANDING(one, began, seen)
    return "calm" if found == "lost" else found


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("_keep", keep_shortest),
        ("_standing", more_calm),
        ("WAIT", 2 * DAY),
        ("CALM_UNITS", 39),
        ("_strength", lambda part: (part.signal, part.window)),
        ("_watches", lambda one, seen: TRUE_GLOB(one.signal, seen.signal)),
    ],
)
def test_planted_bugs_are_seen(monkeypatch: pytest.MonkeyPatch, name: str, bug: Any) -> None:
    monkeypatch.setattr(rules_module, name, bug)
    law = PLANTED(given(all_rules(), timelines())(agree))
    with pytest.raises(AssertionError):
        law()


@settings(max_examples=60, deadline=None)
@given(all_rules(), timelines(), st.randoms(use_true_random=False))
def test_the_order_of_readings_does_not_matter(rules: list[Rule], moments: list[Moment], dice: random.Random) -> None:
    straight, shuffled = Run(rules), Run(rules)
    for now, said in moments:
        readings = as_readings(said)
        rows = straight.at(now, *readings)
        dice.shuffle(readings)
        assert shuffled.at(now, *readings) == rows
        assert shuffled.alerts == straight.alerts
        assert list(shuffled.alerts) == list(straight.alerts)


def jump(run: Run, begin: int, end: int, seen: Sequence[Reading]) -> None:
    """Step only where a deadline says so, rounded up to the grid of `begin`."""
    now = begin
    while (due := next_deadline(run.rules, run.alerts, START + now)) is not None:
        now = begin - (begin - (due - START)) // GRID * GRID
        if now > end:
            return
        run.at(now, *seen)


GRID = 10 * MINUTE


def jumps_agree(rules: Sequence[Rule], moments: Sequence[Moment]) -> None:
    """Once nothing is new, stepping at deadlines gives the rows of stepping at every slice, in far fewer steps."""
    moments = moments[:8]
    every, jumping = Run(rules), Run(rules)
    for now, said in moments:
        every.at(now, *as_readings(said))
        jumping.at(now, *as_readings(said))
    now, said = moments[-1]
    end = now + 32 * HOUR
    for later in range(now + GRID, end + 1, GRID):
        every.at(later, *as_readings(said))
    jump(jumping, now, end, as_readings(said))
    assert jumping.rows == every.rows
    assert jumping.alerts == every.alerts
    assert every.steps - jumping.steps > 150


@settings(max_examples=50, deadline=None)
@given(all_rules(), timelines())
def test_stepping_at_deadlines_alone_misses_nothing(rules: list[Rule], moments: list[Moment]) -> None:
    jumps_agree(rules, moments)


def test_a_late_deadline_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    true = next_deadline
    monkeypatch.setitem(globals(), "next_deadline", lambda *given: (due := true(*given)) and due + GRID)
    law = PLANTED(given(all_rules(), timelines())(jumps_agree))
    with pytest.raises(AssertionError):
        law()
