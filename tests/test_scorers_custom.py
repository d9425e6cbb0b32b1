"""Custom signals: what becomes an observation, what is remarked on, and which settings are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.app import make_engine, make_scorers, replay
from monitor.config import ConfigError, parse
from monitor.decoding import FieldMap, make_decoder
from monitor.model import Categories, Column, Position, Raw, Records, Scores
from monitor.scorers.custom import MAX_CATEGORY, Custom, CustomSettings, custom_paths

SETTINGS = {
    "queue": CustomSettings(field="$.x", kind="numeric"),
    "score": CustomSettings(field="$.x", kind="numeric", scale="unit"),
    "hit": CustomSettings(field="$.x", kind="rate"),
    "route": CustomSettings(field="$.x", kind="category"),
}


def decoded(rows: Sequence[dict[str, Any]], settings: dict[str, CustomSettings]) -> Records:
    payloads = [msgspec.json.encode({"ts": 0, **row}) for row in rows]
    offsets = [0, *accumulate(map(len, payloads))][: len(rows)]
    records, rejects = make_decoder("native", custom_paths(settings)).decode(
        Raw("p", payloads, offsets, [], Position(0))
    )
    assert not rejects
    return records


def score(rows: Sequence[dict[str, Any]], settings: dict[str, CustomSettings] = SETTINGS) -> Scores:
    return Custom(settings).score(decoded(rows, settings))


def named(column: Column) -> list[Any]:
    if isinstance(column, Categories):
        return [None if code < 0 else column.names[code] for code in column.codes.tolist()]
    return [None if np.isnan(value) else value for value in column.tolist()]


def of(value: Any) -> dict[str, Any]:
    """What each signal makes of one value: the observation, "missing" or "unreadable"."""
    found = score([{"x": value}])
    answers: dict[str, Any] = {}
    for name in SETTINGS:
        (answer,) = named(found.columns[name])
        (missing,) = named(found.columns[f"{name}_missing"])
        unreadable = f"{name}_unreadable" in found.remarks
        assert (answer is not None) + (missing == 1.0) + unreadable == 1, (name, value)
        answers[name] = "missing" if missing else "unreadable" if unreadable else answer
    return answers


@pytest.mark.parametrize(
    ("value", "queue", "rate_of", "hit", "route"),
    [
        (0, 0.0, 0.0, 0.0, "0"),
        (1, 1.0, 1.0, 1.0, "1"),
        (1.0, 1.0, 1.0, 1.0, "1"),
        (0.5, 0.5, 0.5, "unreadable", "0.5"),
        ("0.5", 0.5, 0.5, "unreadable", "0.5"),
        (7, 7.0, "unreadable", "unreadable", "7"),
        ("1e3", 1000.0, "unreadable", "unreadable", "1e3"),
        (-1, "unreadable", "unreadable", "unreadable", "-1"),
        ("-0.5", "unreadable", "unreadable", "unreadable", "-0.5"),
        (True, "unreadable", "unreadable", 1.0, "true"),
        (False, "unreadable", "unreadable", 0.0, "false"),
        ("true", "unreadable", "unreadable", 1.0, "true"),
        (" Yes ", "unreadable", "unreadable", 1.0, " Yes "),
        ("no", "unreadable", "unreadable", 0.0, "no"),
        ("0", 0.0, 0.0, 0.0, "0"),
        ("maybe", "unreadable", "unreadable", "unreadable", "maybe"),
        ("nan", "unreadable", "unreadable", "unreadable", "nan"),
        ("1e999", "unreadable", "unreadable", "unreadable", "1e999"),
        (10**400, "unreadable", "unreadable", "unreadable", "unreadable"),
        ({"a": 1}, *["unreadable"] * 4),
        ([], *["unreadable"] * 4),
        ("x" * (MAX_CATEGORY + 1), *["unreadable"] * 4),
        (None, *["missing"] * 4),
        ("", *["missing"] * 4),
        (" \t", *["missing"] * 4),
    ],
)
def test_what_becomes_of_a_value(value: Any, queue: Any, rate_of: Any, hit: Any, route: Any) -> None:
    assert of(value) == {"queue": queue, "score": rate_of, "hit": hit, "route": route}


def test_a_field_that_is_not_there_is_missing() -> None:
    found = score([{}, {"x": 1}])
    assert named(found.columns["queue"]) == [None, 1.0]
    assert named(found.columns["queue_missing"]) == [1.0, 0.0]
    assert not found.remarks


def test_feedback_events_have_no_observation_and_no_remark() -> None:
    event = {"kind": "feedback", "feedback": 1}
    found = score([event | {"x": value} for value in (1, "maybe", None)])
    assert all(set(named(column)) == {None} for column in found.columns.values())
    assert not found.remarks


def test_values_of_labels_are_read_from_their_text() -> None:
    fields = {"queue": "labels.queue", "hit": "labels.hit", "route": "labels.the route", "score": "labels.none"}
    settings = {
        name: CustomSettings(field=field, kind=SETTINGS[name].kind, scale="unit" if name == "score" else "log")
        if SETTINGS[name].kind == "numeric"
        else CustomSettings(field=field, kind=SETTINGS[name].kind)
        for name, field in fields.items()
    }
    assert custom_paths(settings) == {}
    found = score([{"labels": {"queue": 1.25, "hit": True, "the route": 7}}, {}], settings)
    assert [named(found.columns[name]) for name in ("queue", "hit", "route")] == [
        [1.25, None],
        [1.0, None],
        ["7", None],
    ]
    assert named(found.columns["score_missing"]) == [1.0, 1.0]


def test_a_mapped_log_is_read_by_its_own_paths() -> None:
    fields = FieldMap.model_validate({"ts": "$.t", "labels": {"queue": "$.timings.queue"}})
    settings = {
        "queue": CustomSettings(field="labels.queue", kind="numeric"),
        "route": CustomSettings(field="$.request['the route']", kind="category"),
    }
    payload = msgspec.json.encode({"t": 1, "timings": {"queue": "0.25"}, "request": {"the route": "a"}})
    records, _ = make_decoder(fields, custom_paths(settings)).decode(Raw("p", [payload], [0], [], Position(0)))
    found = Custom(settings).score(records).columns
    assert (named(found["queue"]), named(found["route"])) == ([0.25], ["a"])


# ---- laws of every scorer -------------------------------------------------------------------------------------------

_VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", " ", "yes", "No", "0", "1.5", "-3", "route-7", "é", "\0", "1e999", "x" * 300, [], {}, ["a"]]),
)
_ROW = st.builds(
    lambda value, event: {"x": value} | ({"kind": "feedback", "feedback": 1} if event else {}), _VALUE, st.booleans()
)


@given(st.lists(_ROW, max_size=8))
def test_the_laws_of_scorers(rows: list[dict[str, Any]]) -> None:
    scorer = Custom(SETTINGS)
    whole = score(rows)
    assert list(whole.columns) == [signal.name for signal in scorer.signals]
    singles = [score([row]) for row in rows]
    for signal in scorer.signals:
        column = whole.columns[signal.name]
        assert named(column) == [value for one in singles for value in named(one.columns[signal.name])]
        if isinstance(column, Categories):
            assert column.codes.dtype == np.int32
            assert all(column.names)
            continue
        assert column.dtype == np.float64
        seen = column[~np.isnan(column)]
        assert np.isfinite(seen).all()
        assert (seen >= 0).all()
        assert signal.kind != "rate" or np.isin(seen, [0.0, 1.0]).all()
        assert signal.scale == "log" or (seen <= 1).all()
    for name in SETTINGS:
        remark = f"{name}_unreadable"
        alone = [bool(one.remarks[remark][0]) if remark in one.remarks else False for one in singles]
        together = whole.remarks[remark].tolist() if remark in whole.remarks else [False] * len(rows)
        assert together == alone


# ---- in a configuration ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("Queue: {field: $.q, kind: rate}", "custom.Queue: the name of a signal is a small letter"),
        ("cost: {field: $.q, kind: rate}", "custom.cost: there is a signal 'cost' already"),
        ("volume: {field: $.q, kind: rate}", "custom.volume: there is a signal 'volume' already"),
        ("prompt: {field: $.q, kind: rate}", "custom.prompt: there is a signal 'prompt_missing' already"),
        ("a_missing: {field: $.q, kind: rate}", "custom.a_missing: names that end in _missing"),
        ("a: {field: q, kind: rate}", "custom.a.field: expected a path in the message such as $.timings.queue"),
        ("a: {field: labels., kind: rate}", "custom.a.field: expected a path in the message"),
        ("a: {field: '$[0]', kind: rate}", "custom.a.field: '$[0]' does not begin with the name of a field"),
        ("a: {field: $, kind: rate}", "custom.a.field: '$' does not begin with the name of a field"),
        ("a: {field: $.q., kind: rate}", "custom.a.field: '$.q.' at character 4: "),
        ("a: {field: $.q, kind: number}", "custom.a.kind: unknown kind 'number'; there is 'numeric', 'rate' or"),
        ("a: {field: $.q, kind: rate, scale: unit}", "custom.a: scale is for kind: numeric, not for kind: rate"),
        ("a: {feild: $.q, kind: rate}", "custom.a.feild: unknown key; did you mean 'field'?"),
        ("a: {kind: rate}", "custom.a.field: is missing"),
    ],
)
def test_settings_that_are_refused(entry: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"signals:\n  custom:\n    {entry}", "f.yaml")
    assert any(line.startswith(f"f.yaml:3: signals.{problem}") for line in str(caught.value).splitlines())


QUIET = "text: false, toxicity: false, language: false, embedding: false"
CUSTOM = "custom: {queue: {field: $.timings.queue, kind: numeric}, hit: {field: labels.hit, kind: rate}}"


def test_rules_and_matters_know_custom_signals() -> None:
    text = f"signals: {{{QUIET}, {CUSTOM}, matters: {{queue: 0.2}}}}\nrules: [{{name: Q, signal: queue, on: drift}}]"
    config = parse(text, "f")
    assert make_engine(config, make_scorers(config)).plan.signals["queue"].kind == "numeric"
    assert config.signals.measured()["hit_missing"].kind == "rate"
    with pytest.raises(ConfigError, match="there is no signal 'quue'; did you mean 'queue'"):
        parse(text.replace("matters: {queue", "matters: {quue"), "f")
    with pytest.raises(ConfigError, match="no signal that is measured matches 'quue'; did you mean 'queue'"):
        parse(text.replace("signal: queue", "signal: quue"), "f")


def test_a_custom_signal_drifts_and_says_what_it_could_not_read(tmp_path: Path) -> None:
    rng, start = np.random.default_rng(1), 1_793_577_600_000
    waits = rng.lognormal(0, 0.3, 6000) * np.where(np.arange(6000) < 4000, 1, 3)
    rows = [
        {"id": i, "ts": start + i * 1000, "model": "bot", "timings": {"queue": wait}} for i, wait in enumerate(waits)
    ]
    for i in range(5):
        rows[i]["timings"] = {"queue": -1}
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = parse(f"signals: {{{QUIET}, operational: false, {CUSTOM}}}\nwindows: [10m]\nreference: {{size: 1h}}", "f")
    outcome = replay(config, tmp_path / "out", [str(log)], resume=False)
    fired = [change for change in outcome.changes if change.state == "firing"]
    assert fired
    assert all(set(change.signals) == {"queue"} for change in fired)
    assert fired[0].started_at >= start + 4_000_000
    assert outcome.summary["scoring"] == {"queue_unreadable": 5}
    assert not any("timings" in notice for notice in outcome.summary["notices"])
