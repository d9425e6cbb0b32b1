"""Truncation: finish reasons, endings by hand, and how often whole and cut answers are flagged."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from monitor.scorers.columns import Texts, categories
from monitor.scorers.truncation import truncated

SHARED = Path(__file__).resolve().parents[2] / "shared"


def flagged(responses: list[str], reasons: list[str | None] | None = None) -> list[float]:
    words = np.array([len(response.split()) for response in responses], np.int64)
    found = truncated(Texts.of(responses).strings(), words, categories(reasons or [None] * len(responses)))
    return [float(flag) for flag in found]


@pytest.mark.parametrize(
    ("response", "reason", "expected"),
    [
        ("Done.", "length", 1.0),
        ("Done.", " MAX_TOKENS ", 1.0),
        ("", "max_output_tokens", 1.0),
        ("It ends in the middle of the sentence that was begun by the", "stop", 0.0),
        ("It ends in the middle of the sentence that was begun by the", "tool_calls", 0.0),
        ("It ends in the middle of the sentence that was begun by the", "who knows", 1.0),
        ("Done.", "who knows", 0.0),
        ("Done.", "", 0.0),
        ("", None, math.nan),
        (" \n", "who knows", math.nan),
    ],
)
def test_the_reason_comes_before_the_text(response: str, reason: str | None, expected: float) -> None:
    assert flagged([response], [reason]) == pytest.approx([expected], nan_ok=True)


@pytest.mark.parametrize(
    "response",
    [
        "One two three four five six seven eight nine ten eleven",
        "One two three four five six seven eight nine ten,",
        "One two three four five six seven eight nine: here",
        "It is the",
        "The answer depends on",
        "First point.\n\nSecond point.\n\n3.",
        "First point.\n- ",
        "A sentence stands here before the end. And then one that is not finished, for",
        "一 二 三 四 五 六 七 八 九 十 十一",
    ],
)
def test_cut_off(response: str) -> None:
    assert flagged([response]) == [1.0]


@pytest.mark.parametrize(
    "response",
    [
        "One two three four five six seven eight nine ten eleven.",
        "One two three four five six seven eight nine ten eleven.  \n",
        'He said: "One two three four five six seven eight nine ten eleven."',
        "One two three four five six seven eight nine ten (eleven)",
        "```\nfor i in range(10): print(i) # one two three four five\n```",
        "Marcel Roche",
        "30 June 1949",
        "The sum of all these numbers that were given in the question is 42",
        "Read more about it on the page that belongs to it, https://example.org/a/b-c",
        "We are so happy to tell you about our new shop in town #grandopening",
        "We are so happy to tell you about our new shop in town 🎉",
        "Buy these things for the cake:\n- flour\n- sugar\n- a dozen eggs from the market",
        "Roses are red\nViolets are blue\nSugar is sweet\nAnd so are all of you",
        "| a | b |\n|---|---|\n| one two three four five six seven eight | nine |",
        "一二三四五六七八九十。",
        "สวัสดีครับ ผม ชื่อ สม ชาย ผม มา จาก ประเทศ ไทย ยินดี ที่ได้ รู้จัก",
    ],
)
def test_whole(response: str) -> None:
    assert flagged([response]) == [0.0]


def test_an_empty_batch() -> None:
    assert flagged([]) == []


# most of the whole answers and least of those cut after 12 words that may be flagged, a little off what was measured:
# 1.2 %, 0.4 %, 0.1 % and 91 %, 95 %, 91 %. A cut at a sentence's end cannot be seen.
SHARES = {
    "general_halueval": (0.02, 0.90),
    "general_gpteacher_roleplay": (0.01, 0.93),
    "general_gpteacher_tooluse": (0.01, 0.89),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", SHARES)
def test_shares_of_whole_and_cut_answers(name: str) -> None:
    path = SHARED / "data" / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        whole = [row["response"] for row in map(json.loads, lines) if row["response"]]
    cut = [" ".join(words[:12]) for words in map(str.split, whole) if len(words) > 12]
    of_whole, of_cut = np.mean(flagged(whole)), np.mean(flagged(cut))
    print(f"{name}: {len(whole)} whole answers, {of_whole:.4f} flagged; {len(cut)} cut ones, {of_cut:.4f}")
    assert of_whole <= SHARES[name][0]
    assert of_cut >= SHARES[name][1]
