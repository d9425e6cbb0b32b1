"""What an alert's explanation says of signals, of values and of segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import structs

from monitor.explain import MOST_SIGNALS, Moved, explain, moved
from monitor.model import Reading, Transcripts
from monitor.sampling import Measures, Sample
from monitor.settings import DAY
from monitor.summaries import Counts, Rate

READING = Reading(
    at=0,
    window=300_000,
    window_start=0,
    stream="bot",
    segment=None,
    signal="response_refusal",
    kind="rate",
    test="rate_e",
    value=0.12,
    reference_value=0.03,
    effect=0.09,
    effect_unit="difference of rates",
    p_value=1e-9,
    threshold=1e-6,
    verdict="drift",
    n=1500,
    units=1500,
    reference_n=9000,
    reference_slices=288,
    detectable=0.01,
)


def reading(**other: Any) -> Reading:
    return structs.replace(READING, **other)


RELATIVE = "relative change of the 0.9 quantile"


def test_signals_come_by_their_size() -> None:
    words = reading(
        signal="response_words", kind="numeric", value=80.0, reference_value=100.0, effect=-0.2, effect_unit=RELATIVE
    )
    text = explain([Moved(words, 2.0), Moved(READING, 6.0)], [])
    assert text.splitlines() == [
        "drifting, by size in multiples of what matters: response_refusal 75%, response_words 25%",
        "response_refusal: 3.0% before, 12.0% now, +9 points (1,500 records in 5m)",
        "response_words: the 0.9 quantile -20% now; median 100 before, 80 in the window (1,500 records in 5m)",
    ]


def test_what_joined_is_named_and_how_rarely_chance_does_as_much_is_told() -> None:
    lines = explain([Moved(READING, 6.0)], [], joined=["cost", "error"], by_chance=400.4 * DAY).splitlines()
    assert (lines[0], lines[1][:16]) == ("joined now: cost, error", "response_refusal")
    assert lines[-1] == "false alarms as strong as this, all series together: at most one in 400 days"


def test_the_values_of_a_category_that_moved_most_are_named() -> None:
    language = reading(signal="prompt_language", kind="category", value=None, reference_value=None, effect=None)
    moved = Moved(language, 1.0, {"en": 0.9, "de": 0.1}, {"en": 0.6, "ja": 0.3, "de": 0.1})
    assert "ja 0.0% before, 30.0% now; en 90.0% before, 60.0% now (" in explain([moved], [])
    assert "values changed" in explain([replace(moved, after=moved.before)], [])


def test_arms_are_told_beside_each_other() -> None:
    arm = reading(segment="model_version=v2", against="model_version=v1", test="arm_e")
    assert "refusal: 12.0% against 3.0% in model_version=v1, +9 points (" in explain([Moved(arm, 2.0)], [])
    reason = reading(signal="finish_reason", kind="category", effect=None, against="model_version=v1")
    moved = Moved(reason, 1.0, {"stop": 0.9, "length": 0.1}, {"stop": 0.6, "length": 0.4})
    text = explain([moved], [])
    assert "length 40.0% against 10.0% in model_version=v1; stop 60.0% against 90.0% in model_version=v1 (" in text


def test_replaced_texts_come_with_examples() -> None:
    topic = reading(signal="prompt_embedding", kind="vector", value=0.1, reference_value=None, effect=0.081, n=15)
    lines = explain([Moved(topic, 4.0, examples=["Solve x + 2 = 5", "What is 7 * 6?"])], []).splitlines()
    assert lines == [
        "prompt_embedding: at least 8% of the texts are unlike the reference's (15 records in 5m)",
        "prompt_embedding, for example: Solve x + 2 = 5",
        "prompt_embedding, for example: What is 7 * 6?",
    ]
    cluster = reading(signal="prompt_cluster", kind="category")
    assert "\nprompt_cluster c03, for example: Add" in explain([Moved(cluster, 1.0, examples=["Add"], of="c03")], [])


def answers(flags: Sequence[float], texts: Sequence[str], tenants: Sequence[str]) -> Sample:
    """A sample whose answers are refusals where the flag is 1."""
    count = len(texts)
    ids, nobody = np.arange(count, dtype=np.uint64), np.zeros(count, np.uint64)
    said = np.array(texts, np.object_)
    measures = Measures(("response_refusal",), np.array(flags, np.float32)[:, None])
    transcripts = Transcripts(np.array(["?"] * count, np.object_), said, np.array([None] * count, np.object_))
    return Sample(ids, nobody, nobody, transcripts, {"tenant": np.array(tenants, np.object_)}, measures=measures)


def test_a_rate_that_rose_comes_with_answers_that_count_the_newest_first() -> None:
    old = answers([1, 0], ["I cannot say.", "Yes."], ["a", "a"])
    new = answers([1, 1, 1, 0], ["I  won't.", "i won't!", "Not for b.", "No."], ["a", "a", "b", "a"])
    rate = Rate(Counts(np.array([0, 1]), np.array([9, 1])))

    def shown(one: Reading) -> Sequence[str]:
        return moved(one, 1.0, rate, [], [old, new]).examples

    assert shown(READING) == ["I won't.", "Not for b."]
    assert shown(reading(segment="tenant=a")) == ["I won't.", "I cannot say."]
    for other in (reading(effect=-0.02), reading(signal="error"), reading(signal="prompt_empty")):
        assert not shown(other)


def test_segments_are_named_by_whether_they_moved() -> None:
    acme, calm, few = reading(segment="tenant=acme"), reading(segment="tenant=b"), reading(segment="tenant=c")
    elsewhere = [
        (structs.replace(calm, verdict="ok", effect=0.001), 0.1),
        (acme, 9.0),
        (structs.replace(acme, signal="response_words", effect=0.5), 3.0),
        (structs.replace(few, verdict="insufficient"), 0.2),
    ]
    lines = explain([Moved(READING, 1.0)], elsewhere).splitlines()
    assert lines[1:] == [
        "also in tenant=acme: response_refusal: 3.0% before, 12.0% now, +9 points",
        "not in: tenant=b",
    ]


def test_the_alert_of_a_segment_says_whether_the_whole_stream_moved() -> None:
    lines = explain([Moved(reading(segment="tenant=acme"), 1.0)], [(reading(verdict="ok"), 0.3)]).splitlines()
    assert lines[1] == "not in: the whole stream"


def test_it_is_said_whether_prompts_or_answers_changed() -> None:
    def said(share: float, low: float, high: float) -> str:
        of_prompts = reading(from_prompts=share, from_prompts_low=low, from_prompts_high=high)
        return explain([Moved(of_prompts, 1.0)], []).partition("+9 points")[2]

    prompts = "of it is other prompts, the rest other answers to similar prompts (1,500 records in 5m)"
    answers = "of it is other answers to similar prompts, the rest other prompts (1,500 records in 5m)"
    assert said(0.85, 0.7, 1.0) == f"; 85% (70% to 100%, 95 %) {prompts}"
    assert said(1.04, 0.9, 1.2) == f"; 100% (90% to 100%, 95 %) {prompts}"
    assert said(-0.03, -0.2, 0.1) == f"; 100% (90% to 100%, 95 %) {answers}"
    assert said(0.2, 0.1, 0.4) == f"; 80% (60% to 90%, 95 %) {answers}"
    assert said(1.6, 1.3, 1.9).startswith("; other prompts alone would have moved it further, other answers")
    assert said(-0.6, -0.9, -0.3).startswith("; it is other answers to similar prompts, other prompts pull")


def test_who_most_of_a_shift_is_of_is_named() -> None:
    acme = reading(mostly="tenant=acme", mostly_share=0.9, mostly_records=0.12)
    text = explain([Moved(acme, 1.0)], [])
    assert "+9 points; 90% of it is tenant=acme, 12% of the records (1,500 records in 5m)" in text


def test_many_signals_and_segments_are_counted_not_listed() -> None:
    moved = [Moved(reading(signal=f"s{i}"), 1.0) for i in range(MOST_SIGNALS + 4)]
    lines = explain(moved, [(reading(segment=f"t={i}"), 1.0) for i in range(8)]).splitlines()
    assert lines[0].endswith(f": {', '.join(f's{i} 10%' for i in range(MOST_SIGNALS + 4))}")
    assert [line[:2] for line in lines[1:-6]] == [f"s{i}" for i in range(MOST_SIGNALS)]
    assert lines[-1] == "and in 3 more segments"


def test_effects_come_with_their_intervals() -> None:
    def line(**other: Any) -> str:
        return explain([Moved(reading(**other), 1.0)], [])

    rate = line(effect_low=0.0712, effect_high=0.1088)
    assert "12.0% now, +9 points (+7.1 to +10.9 points, 95 %) (" in rate
    words = line(kind="numeric", effect=0.4, effect_unit=RELATIVE, effect_low=0.25, effect_high=None)
    assert "the 0.9 quantile +40% now (+25% to no bound, 95 %); median" in words
    score = line(kind="numeric", effect=0.04, effect_unit="difference of means", effect_low=0.02, effect_high=0.06)
    assert "mean 0.03 before, 0.12 in the window, difference of means +0.04 (+0.02 to +0.06, 95 %) (" in score
    language = line(kind="category", effect=0.3, effect_unit="total variation", effect_low=0.21, effect_high=0.34)
    assert "values changed, total variation +0.3 (+0.21 to +0.34, 95 %) (" in language
    topic = line(kind="vector", effect=0.08, effect_low=0.051, effect_high=0.112)
    assert "at least 5%, more likely 8% or more, of the texts are unlike the reference's (" in topic


def test_the_time_that_an_effect_is_of_is_told_and_the_whole_window_beside_it() -> None:
    unit = "difference of rates in the strongest stretch"
    text = explain([Moved(reading(at=90_000, changed_at=40_000, effect=0.5, effect_unit=unit), 1.0)], [])
    assert "3.0% before, 53.0% in the last 50s, +50 points; 12.0% in the whole window (" in text
    text = explain([Moved(reading(effect=0.5, effect_unit=unit), 1.0)], [])
    assert "53.0% in the strongest stretch, +50 points; 12.0%" in text
    unit = "difference of means in the strongest stretch"
    text = explain([Moved(reading(kind="numeric", at=9_000, changed_at=4_000, effect=0.2, effect_unit=unit), 1.0)], [])
    assert "0.12 in the window, difference of means +0.2 in the last 5s (" in text


def test_a_change_that_goes_on_is_said_to() -> None:
    line = explain([Moved(reading(changed_at=0), 1.0, ramp="rising, difference of rates a day +0.01")], [])
    assert line.endswith(", rising, difference of rates a day +0.01, since about 1970-01-01T00:00:00.000Z)")


def test_what_is_unknown_is_said_to_be() -> None:
    longer = reading(
        kind="numeric", value=80.0, reference_value=60.0, effect_unit=RELATIVE, effect=0.3, moved="upper tail"
    )
    assert "; median 60 before, 80 in the window, mostly large values (" in explain([Moved(longer, 1.0)], [])
    assert "unknown before, 12.0% now (" in explain([Moved(reading(reference_value=None, effect=None), 0.0)], [])
