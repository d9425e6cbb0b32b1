"""Measures of text against the obvious way to compute them, one text at a time."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.decoding import Native
from monitor.model import Position, Raw
from monitor.scorers import characters
from monitor.scorers.text import Text

# all that Python calls whitespace, and what people take for it
_SPACES = [chr(c) for c in range(0x3001) if chr(c).isspace()] + ["\u200b", "\ufeff", "\u180e"]
_CHARACTER = (
    st.sampled_from(
        ["a", "b", "Z", "7", ".", "\0", "é", "ß", "٣", "𝟘", "中", "ñ", "\u0301", "👩", "\u200d", "\U0010ffff", "ª", "²"]
    )
    | st.sampled_from(_SPACES)
    | st.integers(0, 0x10F7FF).map(lambda c: chr(c if c < 0xD800 else c + 0x800))
)
_TEXT = st.lists(_CHARACTER, max_size=60).map("".join)
_WORDY = st.lists(st.sampled_from(["a", "b", "aa", "é", "中", "word", "a\0"]), max_size=30).map(" ".join)


def score(*rows: dict[str, Any]) -> dict[str, list[Any]]:
    payloads = [msgspec.json.encode({"ts": 0, **row}) for row in rows]
    records, rejects = Native().decode(Raw("p", payloads, list(range(len(rows))), [], Position(0)))
    assert not rejects
    columns = Text().score(records).columns
    return {name: column.tolist() for name, column in columns.items() if isinstance(column, np.ndarray)}


def naive(text: str) -> dict[str, float]:
    words = text.split()
    grams = list(zip(words, words[1:], words[2:], strict=False))
    return {
        "chars": len(text),
        "words": len(words),
        "letters_ratio": sum(map(str.isalpha, text)) / len(text) if text else math.nan,
        "digits_ratio": sum(map(str.isdecimal, text)) / len(text) if text else math.nan,
        "repetition": (len(grams) - len(set(grams))) / len(grams) if grams else math.nan,
    }


def assert_naive(texts: list[str]) -> None:
    found = score(*({"prompt": text, "response": text} for text in texts))
    for row, text in enumerate(texts):
        for name, value in naive(text).items():
            assert found[f"response_{name}"][row] == pytest.approx(value, rel=0, abs=0, nan_ok=True), (name, text[:50])
            if name != "repetition":
                assert found[f"prompt_{name}"][row] == pytest.approx(value, rel=0, abs=0, nan_ok=True), (
                    name,
                    text[:50],
                )


@given(st.lists(_TEXT | _WORDY, max_size=8))
def test_measures_equal_the_naive_ones(texts: list[str]) -> None:
    assert_naive(texts)


@given(st.lists(_TEXT | _WORDY, max_size=8), st.integers(1, 40), st.integers(1, 3))
def test_measures_do_not_depend_on_how_texts_are_cut_into_chunks(texts: list[str], size: int, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "CHUNK_BYTES", size)
        patch.setattr(characters, "CHUNK_TEXTS", number)
        assert_naive(texts)


def test_every_code_point_is_classified_as_python_does() -> None:
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    texts = ["a".join(points[start : start + 4096]) for start in range(0, len(points), 4096)]
    assert_naive(texts)
    edges = [f"a{c}b" for c in points if c.isspace()]
    assert score(*({"prompt": text} for text in edges))["prompt_words"] == [2.0] * len(edges)


@pytest.mark.parametrize(
    "text",
    [
        "\0" * 1_000_000,
        "word " * 200_000,
        "\u3000".join(map(str, range(150_000))),  # no word twice, over several blocks of hashing
        " ".join(map(str, range(60_000))) * 2,
        "x" * 1_000_000,
        " \n" * 500_000,
        "中é" * 500_000,
    ],
    ids=["nul", "same word", "other words", "twice", "one word", "blank", "not ASCII"],
)
def test_a_text_of_a_million_characters(text: str) -> None:
    assert_naive(["before it", text, "and after it"])


def test_words_are_told_apart_by_every_byte() -> None:
    found = score({"response": "a b c a\0 b c A b c ab c a bc"}, {"response": "a b c a b c"})["response_repetition"]
    assert found == [0.0, 0.25]


def test_absent_empty_and_blank_texts() -> None:
    found = score(
        {}, {"prompt": "", "response": ""}, {"prompt": " \n", "response": "\t"}, {"prompt": "a", "response": "b"}
    )
    for side in ("prompt", "response"):
        assert found[f"{side}_missing"] == [1.0, 0.0, 0.0, 0.0]
        assert found[f"{side}_chars"] == pytest.approx([math.nan, 0, 2 if side == "prompt" else 1, 1], nan_ok=True)
        assert found[f"{side}_words"] == pytest.approx([math.nan, 0, 0, 1], nan_ok=True)
        assert found[f"{side}_letters_ratio"] == pytest.approx([math.nan, math.nan, 0, 1], nan_ok=True)
    assert found["response_empty"] == pytest.approx([math.nan, 1, 1, 0], nan_ok=True)
    assert found["response_refusal"] == pytest.approx([math.nan, math.nan, math.nan, 0], nan_ok=True)
    assert found["response_truncated"] == pytest.approx([math.nan, math.nan, math.nan, 0], nan_ok=True)
    assert found["response_repetition"] == pytest.approx([math.nan] * 4, nan_ok=True)


def test_a_repetition_of_two_words_is_no_observation_and_of_three_is() -> None:
    assert score({"response": "a b"}, {"response": "a a a"})["response_repetition"] == pytest.approx(
        [math.nan, 0], nan_ok=True
    )
