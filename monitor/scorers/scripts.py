"""The Unicode script of most letters of each of many texts, on the bytes of their UTF-8.

Scripts are the values of Unicode's Script property (UAX #24) as RE2 knows it: those that UAX #31 recommends for
general use and some others in daily use; letters of any other script are `other`. Letters that several scripts share
(mathematical alphabets, the prolonged sound mark of kana) count for none. So Japanese is Han, Hiragana or Katakana.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from monitor.model import OTHER, Flags, Ints
from monitor.scorers.characters import CODE_POINTS, LETTER, Chunk, Others, code_point_classes
from monitor.scorers.columns import Bytes, Texts

SCRIPTS = (
    *("Arabic", "Armenian", "Bengali", "Bopomofo", "Canadian_Aboriginal", "Cherokee", "Cyrillic", "Devanagari"),
    *("Ethiopic", "Georgian", "Greek", "Gujarati", "Gurmukhi", "Han", "Hangul", "Hebrew", "Hiragana", "Kannada"),
    *("Katakana", "Khmer", "Lao", "Latin", "Malayalam", "Mongolian", "Myanmar", "Nko", "Oriya", "Sinhala", "Syriac"),
    *("Tamil", "Telugu", "Thaana", "Thai", "Tibetan", "Tifinagh", "Yi", OTHER),
)
"""What `scripts` answers with, by code. Of scripts with equally many letters the first one here is taken."""
LATIN = SCRIPTS.index("Latin")
_SHARED = len(SCRIPTS)


def scripts(chunk: Chunk, letter: Flags, letters: Ints, others: Others) -> NDArray[np.int32]:
    """The code of each text's script; -1 where no letter belongs to one.

    Parameters
    ----------
    chunk : texts
    letter : which bytes begin a letter
    letters : number of letters of each text
    others : the characters beyond ASCII, of which the letters are among `letter`

    """
    found = np.where(letters > 0, np.int32(LATIN), np.int32(-1))
    foreign = others.classes == LETTER
    if foreign.any():
        beyond = chunk.count(letter & (chunk.data >= 0x80))
        mixed = np.flatnonzero(beyond)
        counts = _counts(_code_point_scripts()[others.codes[foreign]], beyond[mixed])
        counts[:, LATIN] += letters[mixed] - beyond[mixed]
        found[mixed] = np.where(counts.any(axis=1), counts.argmax(axis=1), -1)
    return found


def _counts(script: Bytes, lengths: Ints) -> Ints:
    """How often each of SCRIPTS occurs in runs of the given lengths, one row a run."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    width = len(SCRIPTS) + 1
    counts: Ints = np.bincount(run * width + script, minlength=len(lengths) * width).reshape(-1, width)
    return counts[:, :_SHARED]


@cache
def _code_point_scripts() -> Bytes:
    """Code of the script of every letter below CODE_POINTS, built at the first letter beyond ASCII (70 ms)."""
    letters = np.flatnonzero(code_point_classes() == LETTER).astype("<u4")
    table = np.full(CODE_POINTS, len(SCRIPTS) - 1, np.uint8)
    text = Texts.of([letters.tobytes().decode("utf-32-le")]).strings()
    names = {name: code for code, name in enumerate(SCRIPTS[:-1])} | dict.fromkeys(("Common", "Inherited"), _SHARED)
    for name, code in names.items():
        members = pc.replace_substring_regex(text, rf"\P{{{name}}}+", "")[0].as_py()
        table[np.frombuffer(members.encode("utf-32-le"), "<u4")] = code
    return table
