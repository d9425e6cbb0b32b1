"""The wiring: what of the configuration reaches which part, and what a caller gets back."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from monitor.app import Outcome, UsageError, make_engine, make_scorers, replay
from monitor.config import Config, parse
from monitor.engine import Step
from monitor.model import AlertChange, Reading, Reject
from monitor.pipeline import Pipeline
from monitor.rows import change_row, reading_row, reject_row

START = 1_793_577_600_000  # 2026-11-02T00:00:00Z
CHANGE = AlertChange(START, "A", "firing", "drift", "warning", "bot", None, ["cost"], 300_000, 1.0, 0.5, START, "cost")


def lines(count: int, step: int = 10_000) -> bytes:
    rows = ({"id": f"r{i}", "ts": START + i * step, "model": "bot", "prompt": "hi"} for i in range(count))
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_scorers_that_are_off_measure_nothing() -> None:
    assert len(make_scorers(Config())) == 3
    only_text = make_engine(parse("signals: {operational: false}", "f"))
    assert "prompt_chars" in only_text.plan.signals
    assert "cost" not in only_text.plan.signals
    assert "volume" not in make_engine(parse("signals: {operational: false, text: false}", "f")).plan.signals


def test_the_engine_gets_the_rules_that_are_on() -> None:
    rules = make_engine(parse("built_in_rules: [SilentStream]", "f")).plan.rules
    assert [rule.name for rule in rules] == ["AnyDrift", "SilentStream"]


def test_steps_come_in_order_and_commits_show_the_pipeline(tmp_path: Path) -> None:
    steps: list[Step] = []
    seen: list[Pipeline] = []
    config = parse("windows: [12m]\nreference: {size: 2h}", "f")
    data = io.BytesIO(lines(60))
    outcome = replay(
        config, tmp_path / "out", ["-"], resume=False, on_commit=seen.append, on_step=steps.append, stdin=data
    )
    assert [step.at for step in steps] == [START + minute * 60_000 for minute in range(1, 11)]
    assert seen
    assert dict(seen[-1].fates()) == {"counted": 60} == outcome.summary["records"]


def test_the_greatest_record_size_of_the_configuration_holds(tmp_path: Path) -> None:
    sources = ", ".join(f"{{kind: files, paths: [x], max_record_bytes: {size}}}" for size in (50, 150))
    log = tmp_path / "log.jsonl"
    log.write_bytes(lines(3) + b'{"prompt": "' + b"x" * 150 + b'"}\n')
    outcome = replay(parse(f"sources: [{sources}]", "f"), tmp_path / "out", [str(log)], resume=False)
    assert outcome.summary["records"] == {"counted": 3, "oversized": 1}


def test_a_refused_run_makes_no_folder(tmp_path: Path) -> None:
    for logs in ([], [""], [str(tmp_path / "none.jsonl")]):
        with pytest.raises(UsageError):
            replay(Config(), tmp_path / "out", logs, resume=False)
    assert not (tmp_path / "out").exists()


def test_closing_a_replay_that_never_began_is_empty(tmp_path: Path) -> None:
    outcome = replay(Config(), tmp_path / "out", [], resume=True)
    assert sum(outcome.summary["records"].values()) == 0
    assert not outcome.fired


@pytest.mark.parametrize(("state", "fired"), [("pending", False), ("firing", True), ("resolved", False)])
def test_only_firing_is_fired(state: str, fired: bool) -> None:  # noqa: FBT001
    assert Outcome({}, [replace(CHANGE, state=state)]).fired is fired


def test_rows_write_times_and_durations_for_people() -> None:
    reading = Reading(
        at=START,
        window=3_600_000,
        window_start=START - 3_600_000,
        stream="bot",
        segment=None,
        signal="cost",
        kind="numeric",
        test=None,
        value=None,
        reference_value=None,
        effect=None,
        effect_unit="",
        p_value=None,
        threshold=None,
        verdict="learning",
        n=1,
        units=1,
        reference_n=0,
        reference_slices=0,
        detectable=None,
    )
    row = reading_row(reading)
    assert (row["at"], row["window"], row["window_start"]) == (
        "2026-11-02T00:00:00.000Z",
        "1h",
        "2026-11-01T23:00:00.000Z",
    )
    row = change_row(CHANGE)
    assert (row["at"], row["started_at"], row["window"]) == (
        "2026-11-02T00:00:00.000Z",
        "2026-11-02T00:00:00.000Z",
        "5m",
    )
    assert change_row(replace(CHANGE, window=None))["window"] is None
    assert reject_row(Reject("bad_ts", "a", 1, 2, "ab"))["excerpt"] is None
