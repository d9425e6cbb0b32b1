"""The demo: its log has what was planted, and its verdict on what was found can be good and bad."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from monitor import __main__, demo
from monitor.decoding import FORMATS
from monitor.demo.findings import Sign, compare, signs_of
from monitor.demo.screen import Screen, print_result
from monitor.demo.traffic import SupportBot, make_schedule
from monitor.demo.truth import CUT, END, LEARNING, REFUSING, SEGMENTS, SHIFT, START, STREAM, TRUTH
from monitor.engine import Step
from monitor.model import Alert, AlertChange, AlertState, Contribution, Position, Raw, Records
from monitor.scorers.text import Text
from monitor.settings import HOUR, MINUTE, format_time

WINDOW = 30 * MINUTE
QUIET = ["demo", "--quiet"]


def _between(bot: SupportBot, begin: int, end: int) -> Raw:
    first, last = np.searchsorted(bot.schedule.ts, [begin, end]).tolist()
    bot.resume({STREAM: Position(first, identity=bot.poll([STREAM], 1)[0].end.identity)})
    return bot.peek(STREAM, last - first)


def _decoded(raw: Raw) -> Records:
    records, rejects = FORMATS["native"]().decode(raw)
    assert not rejects
    return records


# ---- the log --------------------------------------------------------------------------------------------------------


def test_a_seed_gives_one_log_read_in_any_steps() -> None:
    def read(seed: int, steps: Sequence[int]) -> list[bytes]:
        bot = SupportBot(seed)
        return [payload for step in steps for raw in bot.poll([STREAM], step) for payload in raw.payloads]

    assert read(3, [3000]) == read(3, [1, 1023, 500, 1000, 476])
    assert read(3, [3000]) != read(4, [3000])


def test_the_source_keeps_its_contract() -> None:
    bot, again = SupportBot(1), SupportBot(1)
    assert bot.poll([], 10) == []
    (first,) = bot.poll([STREAM], 700)
    assert bot.partitions() == {STREAM: False}
    again.resume({STREAM: first.end})
    assert again.peek(STREAM, 900).payloads == again.poll([STREAM], 900)[0].payloads
    assert again.peek(STREAM, 5).offsets == [1600, 1601, 1602, 1603, 1604]
    with pytest.raises(ValueError, match="support-bot: the position is of seed 1, this is seed 2"):
        SupportBot(2).resume({STREAM: first.end})
    again.resume({STREAM: Position(len(again) - 3, identity=first.end.identity)})
    assert len(again.poll([STREAM], 10)[0].payloads) == 3
    assert again.partitions() == {STREAM: True}
    assert again.poll([STREAM], 10) == []


def test_records_decode_and_have_all_fields() -> None:
    records = _decoded(SupportBot(1).peek(STREAM, 5000))
    assert len(set(records.columns["id"])) == 5000
    assert (np.diff(records.ts) >= 0).all()
    for name in ("model", "model_version", "prompt", "latency_seconds", "prompt_tokens", "cost", "status"):
        assert None not in records.columns[name], name
    for name, least in (("response", 0.98), ("finish_reason", 0.98), ("session", 0.7), ("feedback", 0.1)):
        assert sum(value is not None for value in records.columns[name]) > least * 5000, name
    assert not any("{" in text for text in records.columns["prompt"])


def test_changes_are_told_from_the_rest_of_a_log_that_stays_the_same() -> None:
    whole, muted = make_schedule(1, TRUTH), make_schedule(1, ())
    assert (whole.ts == muted.ts).all()
    differs = (whole.topic != muted.topic) | (whole.refused != muted.refused) | (whole.cap != muted.cap)
    assert whole.ts[differs].min() >= REFUSING.begins > START + LEARNING
    assert not muted.refused[differs].all()


def test_refusals_are_in_voice_alone() -> None:
    def rates(begin: int, end: int) -> dict[str, float]:
        records = _decoded(_between(SupportBot(1), begin, end))
        refused = np.asarray(Text().score(records).columns["response_refusal"])
        where = np.array([labels["segment"] for labels in records.columns["labels"]])
        return {name: float(np.nanmean(refused[where == name])) for name in SEGMENTS}

    before, during = rates(REFUSING.begins - HOUR, REFUSING.begins), rates(REFUSING.begins, REFUSING.ends)
    assert before == {name: pytest.approx(0.02, abs=0.01) for name in SEGMENTS}
    assert during == {name: pytest.approx(0.08 if name == "voice" else 0.02, abs=0.02) for name in SEGMENTS}


def test_the_shift_and_the_cut_are_in_the_text() -> None:
    def measured(begin: int, end: int) -> tuple[float, float]:
        records = _decoded(_between(SupportBot(1), begin, end))
        signals = Text().score(records).columns
        words, cut = np.asarray(signals["prompt_words"]), np.asarray(signals["response_truncated"])
        return float(np.quantile(words, 0.9)), float(np.nanmean(cut))

    usual, shifted, cut = (
        measured(begin, begin + 20 * MINUTE) for begin in (START + HOUR, SHIFT.begins + 10 * MINUTE, CUT.begins)
    )
    assert shifted[0] > 1.2 * usual[0]
    assert usual[1] < 0.02
    assert shifted[1] < 0.02
    assert cut[1] > 0.1


def test_planted_changes_lie_within_the_log_and_apart() -> None:
    assert TRUTH[0].begins > START + LEARNING
    assert all(one.begins < other.begins for one, other in pairwise(TRUTH))
    assert all(planted.begins < planted.ends <= END for planted in TRUTH)


# ---- the verdict ----------------------------------------------------------------------------------------------------


def _row(
    at: int, signals: list[str], segment: str | None = None, state: AlertState = "firing", rule: str = "AnyDrift"
) -> AlertChange:
    return AlertChange(at, rule, state, "drift", "warning", STREAM, segment, signals, None, None, None, at, "moved")


FOUND = [
    _row(REFUSING.begins + 5 * MINUTE, ["response_refusal"], "segment=voice"),
    _row(REFUSING.begins + 9 * MINUTE, ["response_refusal"]),
    _row(SHIFT.begins + 4 * MINUTE, ["prompt_chars", "prompt_words"]),
    _row(CUT.begins + MINUTE, ["response_truncated", "prompt_chars", "prompt_words"]),
]


def test_all_found_and_nothing_else() -> None:
    schedule = make_schedule(1, TRUTH)
    result = compare(TRUTH, FOUND, schedule, WINDOW)
    assert result.perfect
    assert [finding.delay for finding in result.findings] == [5 * MINUTE, 4 * MINUTE, MINUTE]
    assert [sign.signal for sign in result.findings[1].signs] == ["prompt_chars", "prompt_words"]
    at = np.searchsorted(schedule.ts, [SHIFT.begins, SHIFT.begins + 4 * MINUTE])
    assert result.findings[1].records == at[1] - at[0]
    assert 0 < result.findings[0].records < 5 * (at[1] - at[0]) / 4 / 2


@pytest.mark.parametrize(
    "odd",
    [
        _row(REFUSING.begins - MINUTE, ["response_refusal"], "segment=voice"),
        _row(REFUSING.begins + 5 * MINUTE, ["response_refusal"], "segment=web"),
        _row(REFUSING.ends + WINDOW + MINUTE, ["response_words"], "segment=voice"),
        _row(SHIFT.begins + 5 * MINUTE, ["error"]),
        _row(SHIFT.begins + 5 * MINUTE, ["volume"], rule="VolumeChange"),
    ],
    ids=["early", "elsewhere", "long after", "another signal", "volume"],
)
def test_what_nobody_planted_is_told(odd: AlertChange) -> None:
    rows = sorted([*FOUND, odd], key=lambda row: row.at)
    result = compare(TRUTH, rows, make_schedule(1, TRUTH), WINDOW)
    assert result.unplanted == (Sign(odd.at, odd.rule, odd.segment, odd.signals[0]),)
    assert not result.perfect


@pytest.mark.parametrize("missing", [0, 3])
def test_a_change_is_not_found_by_what_follows_from_it_nor_elsewhere(missing: int) -> None:
    rows = [*FOUND[:missing], *FOUND[missing + 1 :], _row(CUT.begins + 2 * MINUTE, ["response_words"])]
    result = compare(TRUTH, rows, make_schedule(1, TRUTH), WINDOW)
    assert [bool(finding.signs) for finding in result.findings] == [missing != 0, True, missing != 3]
    assert not result.perfect
    assert result.unplanted == ()


def test_a_signal_signs_again_after_its_alert_resolved() -> None:
    rows = [_row(1, ["a"]), _row(2, ["b", "a"]), _row(3, ["a", "b"], state="resolved"), _row(4, ["a"])]
    assert [(sign.at, sign.signal) for sign in signs_of(rows)] == [(1, "a"), (2, "b"), (4, "a")]


# ---- what is shown --------------------------------------------------------------------------------------------------


def _step(at: int, changes: list[AlertChange]) -> Step:
    return Step(at, [], changes, [])


def test_lines_where_there_is_no_terminal() -> None:
    file = io.StringIO()
    with Screen(Console(file=file), SupportBot(1), TRUTH) as screen:
        screen.update(_step(REFUSING.begins, FOUND[:1]), [])
        screen.update(_step(REFUSING.ends, []), [])
    lines = file.getvalue().splitlines()
    assert [line.split("  ")[1] for line in lines[1:]] == [
        f"planted: refusals in segment=voice: {REFUSING.description}",
        "AnyDrift firing (drift): moved",
        "planted: refusals in segment=voice ends",
    ]


def test_a_live_table_on_a_terminal() -> None:
    file = io.StringIO()
    alert = Alert("AnyDrift", "warning", STREAM, "segment=voice", "firing", START, START, (_part("response_refusal"),))
    with Screen(Console(file=file, force_terminal=True, width=140), SupportBot(1), TRUTH) as screen:
        screen.update(_step(REFUSING.begins, []), [alert])
    shown = file.getvalue()
    for text in ("judging", "records/s", REFUSING.description, "going on", "to come", "segment=voice", "firing"):
        assert text in shown


def _part(signal: str) -> Contribution:
    return Contribution(signal, WINDOW, 0.08, 1e-9, 0.06, "rose")


def test_the_table_at_the_end_says_what_was_missed_and_what_was_not_planted() -> None:
    file = io.StringIO()
    rows = [*FOUND[:2], _row(CUT.begins + MINUTE, ["error", "response_truncated"])]
    print_result(Console(file=file, width=120), compare(TRUTH, rows, make_schedule(1, TRUTH), WINDOW), 75_000, 20.0)
    shown = file.getvalue()
    assert "missed" in shown
    assert "5.0 min" in shown
    assert f"not planted: AnyDrift, error at {format_time(CUT.begins + MINUTE)[11:19]}" in shown
    assert "found 2 of 3 planted changes and 1 that nobody planted, in 75,000 records" in shown


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_finds_every_change_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-m", "monitor", *QUIET], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for planted in TRUTH:
        assert planted.name in done.stdout
    assert "missed" not in done.stdout
    assert "found 3 of 3 planted changes and nothing else" in done.stdout


def test_the_command_exits_1_where_a_planted_change_did_not_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SupportBot", lambda seed: SupportBot(seed, (SHIFT, CUT)))
    done = CliRunner().invoke(__main__.app, QUIET)
    assert done.exit_code == 1, done.output
    assert "found 2 of 3 planted changes and nothing else" in done.output
    assert "missed" in done.output


def test_messages_are_compact_json_with_known_fields_only() -> None:
    decoder = FORMATS["native"]()
    decoder.decode(raw := SupportBot(1).peek(STREAM, 100))
    assert decoder.unknown_fields == {}
    assert all(msgspec.json.format(payload, indent=-1) == payload for payload in raw.payloads)
