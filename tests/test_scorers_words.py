r"""Words and their places in a list, against the regular expression ``\w+`` and a dictionary."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.scorers.characters import beyond_ascii, chunks
from monitor.scorers.words import LONGEST, WordList, lower_case_letters, lower_case_lines, words

_PIECE = st.sampled_from(
    ["a", "b", "_", "7", " ", "\n", "-", "É", "ß", "中", "ࡀ", "𐐀", "\u0301", "x" * 7, "x" * 8, "x" * 16]
)
_TEXT = st.lists(_PIECE | st.integers(0, 0xD7FF).map(chr), max_size=20).map("".join)


def found(texts: list[str | None], listed: list[str]) -> list[tuple[int, int, int]]:
    """Text, first byte in it and place of every word."""
    result, row = [], 0
    table = WordList.of(listed)
    for chunk in chunks(lower_case_lines(texts)):
        others = beyond_ascii(chunk.data)
        these = words(chunk, lower_case_letters(chunk.data, others), others)
        begins = these.begins - chunk.edges[these.text]
        result += list(zip((these.text + row).tolist(), begins.tolist(), table.find(these.keys).tolist(), strict=True))
        row += len(chunk.edges) - 1
    return result


def expected(texts: list[str | None], listed: list[str]) -> list[tuple[int, int, int]]:
    place = {word: at for at, word in enumerate(listed)}
    return [
        (row, len(lower[: match.start()].encode()), place.get(match.group(), -1))
        for row, text in enumerate(texts)
        for lower in [(text or "").lower()]
        for match in re.finditer(r"\w+", lower)
    ]


@settings(deadline=None)  # the first call builds a table
@given(st.lists(st.none() | _TEXT, max_size=6), st.lists(_TEXT, max_size=6))
def test_words_are_those_of_the_regular_expression(texts: list[str | None], more: list[str]) -> None:
    tokens = [token for text in [*texts, *more] for token in re.findall(r"\w+", (text or "").lower())]
    listed = [token for token in dict.fromkeys(tokens) if len(token.encode()) <= LONGEST][::2]
    assert found(texts, listed) == expected(texts, listed)


def test_every_code_point_is_in_words_or_between_them() -> None:
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    texts: list[str | None] = ["a" + "a".join(points[start : start + 4096]) for start in range(0, len(points), 4096)]
    assert found(texts, ["a"]) == expected(texts, ["a"])


@pytest.mark.parametrize("length", range(1, LONGEST + 3))
def test_a_word_is_found_at_its_full_length_only(length: int) -> None:
    longer, word, other = "x" * (length + 1), "x" * length, "x" * (length - 1) + "y"
    listed = [item for item in (word, other) if len(item) <= LONGEST]
    texts: list[str | None] = [f"{word} {longer} {other} {word}"]
    assert found(texts, listed) == expected(texts, listed)


def test_a_full_table_is_probed_to_its_end() -> None:
    listed = [f"word{number}" for number in range(5000)]
    texts: list[str | None] = [" ".join(listed), "nothing of it stands here " * 1000]
    assert found(texts, listed) == expected(texts, listed)
    assert WordList.of([]).find(np.array([5, 0], np.uint64)).tolist() == [-1, -1]


def test_words_of_a_list_must_be_words_and_different() -> None:
    for wrong in ("", "x" * (LONGEST + 1)):
        with pytest.raises(ValueError, match="1 to 24 bytes"):
            WordList.of(["one", wrong])
    with pytest.raises(ValueError, match="cannot be told apart"):
        WordList.of(["one", "two", "one"])
