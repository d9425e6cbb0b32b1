"""The script of most letters, against RE2 asked about one character at a time."""

from __future__ import annotations

from collections import Counter
from functools import cache

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.decoding import Native
from monitor.model import OTHER, Categories, Position, Raw
from monitor.scorers.scripts import SCRIPTS
from monitor.scorers.text import Text

_LETTERS = [
    *(
        "a",
        "Z",
        "é",
        "ª",
        "ß",
        "K",
        "Ａ",
        "ﬁ",
        "ж",
        "Ω",
        "α",
        "ա",
        "א",
        "ع",
        "नम",
        "中",
        "竜",
        "〇",
        "々",
        "あ",
        "ア",
        "ｱ",
    ),
    *(
        "ー",
        "한",
        "ไ",
        "ქ",
        "ግ",
        "ᚠ",
        "𐐀",
        "𝐚",
        "𝟘",
        "µ",
        "ʰ",
        "1",
        " ",
        ".",
        "\u0301",
        "👩",
        "\0",
        "\U0010ffff",
        "𠀀",
        "ﷲ",
    ),
]
_CHARACTER = st.sampled_from(_LETTERS) | st.integers(0, 0x10F7FF).map(lambda c: chr(c if c < 0xD800 else c + 0x800))
_TEXT = st.lists(_CHARACTER, max_size=25).map("".join)


def scripts(texts: list[str | None]) -> list[str | None]:
    payloads = [msgspec.json.encode({"ts": 0, "prompt": text, "response": text}) for text in texts]
    records, rejects = Native().decode(Raw("p", payloads, list(range(len(texts))), [], Position(0)))
    assert not rejects
    columns = Text().score(records).columns
    prompt, response = columns["prompt_script"], columns["response_script"]
    assert isinstance(prompt, Categories)
    assert isinstance(response, Categories)
    assert prompt.codes.tolist() == response.codes.tolist()
    return [None if code < 0 else prompt.names[code] for code in prompt.codes.tolist()]


@cache
def script_of(character: str) -> str | None:
    if not character.isalpha():
        return None
    names = [*SCRIPTS[:-1], "Common", "Inherited"]
    found = [name for name in names if pc.match_substring_regex(pa.scalar(character), rf"\p{{{name}}}").as_py()]
    return None if found in (["Common"], ["Inherited"]) else found[0] if found else OTHER


def naive(text: str | None) -> str | None:
    counts = Counter(filter(None, map(script_of, text or "")))
    return min(counts, key=lambda name: (-counts[name], SCRIPTS.index(name))) if counts else None


@settings(deadline=None)  # the first call builds the tables
@given(st.lists(st.none() | _TEXT, max_size=8))
def test_the_script_is_that_of_most_letters(texts: list[str | None]) -> None:
    assert scripts(texts) == [naive(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Hello", "Latin"),
        ("École, Straße, Łódź", "Latin"),
        ("Привет, world", "Cyrillic"),
        ("你好", "Han"),
        ("どうすればいいですか", "Hiragana"),
        ("コンピューター", "Katakana"),
        ("안녕하세요", "Hangul"),
        ("مرحبا", "Arabic"),
        ("नमस्ते", "Devanagari"),
        ("สวัสดี", "Thai"),
        ("ᚠᚢᚦ", OTHER),
        ("42 + 1 = 43 👍", None),
        ("𝐛𝐨𝐥𝐝 is bold", "Latin"),
        ("𝐛𝐨𝐥𝐝", None),
        ("", None),
        (None, None),
    ],
)
def test_scripts_by_hand(text: str | None, script: str | None) -> None:
    assert scripts([text]) == [script]


def test_ties_go_to_the_first_in_order() -> None:
    assert scripts(["ab жж", "жж ab", "Ωж", "あア", "中あ", "aᚠ"]) == [
        *("Cyrillic", "Cyrillic", "Cyrillic", "Hiragana", "Han", "Latin")
    ]
    assert list(SCRIPTS[:-1]) == sorted(SCRIPTS[:-1])


def test_every_letter_of_a_script_counts_for_it() -> None:
    letters = [chr(c) for c in range(0x80, 0x40000) if chr(c).isalpha()]
    strings = pa.array(letters)
    found = scripts([letter * 2 for letter in letters])
    for name in ("Latin", "Greek", "Cyrillic", "Han", "Hangul", "Hiragana", "Arabic", "Thai"):
        members = pc.match_substring_regex(strings, rf"\p{{{name}}}").to_pylist()
        assert [script == name for script in found] == members


def test_a_neighbour_lends_no_letters() -> None:
    assert scripts(["жжжж", "a", "", "中中中", "b1", "ж"]) == ["Cyrillic", "Latin", None, "Han", "Latin", "Cyrillic"]
