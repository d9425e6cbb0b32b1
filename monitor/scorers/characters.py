"""Counts of characters and words in many texts at once, on the bytes of their UTF-8.

A text that is all ASCII costs a few passes of byte arithmetic; other characters are decoded and looked up, and cost
what there is of them. Letters, decimal digits and whitespace are what Python's `isalpha`, `isdecimal` and `isspace`
say, so non-Latin scripts count like any other. A word is a maximal run of characters that are not whitespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from monitor.model import Flags, Ints
from monitor.scorers.columns import Bytes, Texts

CHUNK_BYTES = 1 << 18
"""Bytes looked at together: the masks of a chunk stay in a processor's second-level cache."""
CHUNK_TEXTS = 1 << 12
"""Texts looked at together."""

_LETTER, _DIGIT, _SPACE = 1, 2, 3
_CODE_POINTS = 0x40000
"""Code points from here on (private use, tags, variation selectors) are none of the three."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of the texts of a column, end to end: text i is `data[edges[i]:edges[i + 1]]`."""

    data: Bytes
    edges: Ints

    def count(self, mask: Flags) -> Ints:
        """How many of each text's bytes are in `mask`: differences of ranks in a bit vector (Jacobson 1989)."""
        packed = np.packbits(mask, bitorder="little")
        words = np.zeros(len(packed) // 8 + 1, "<u8")
        words.view(np.uint8)[: len(packed)] = packed
        before = np.zeros(len(words) + 1, np.int64)
        np.cumsum(np.bitwise_count(words), out=before[1:])
        at, bit = self.edges >> 6, (self.edges & 63).astype(np.uint64)
        below = (np.uint64(1) << bit) - np.uint64(1)
        ranks: Ints = before[at] + np.bitwise_count(words[at] & below)
        return np.diff(ranks)

    def first(self) -> Ints:
        """Position of the first byte of every text that has one."""
        return self.edges[:-1][self.edges[:-1] < self.edges[1:]]

    def last(self) -> Ints:
        return self.edges[1:][self.edges[:-1] < self.edges[1:]] - 1


@dataclass(frozen=True, slots=True)
class Classes:
    """Which bytes of a chunk begin a character, a letter, a digit or a word, and which are whitespace."""

    character: Flags
    letter: Flags
    digit: Flags
    space: Flags
    word: Flags


def chunks(texts: Texts) -> Iterator[Chunk]:
    """The texts in chunks of bounded size, though a text is never cut."""
    edges, number = texts.edges, len(texts.there)
    first = 0
    while first < number:
        fitting = int(np.searchsorted(edges, edges[first] + CHUNK_BYTES, "right")) - 1
        behind = min(max(fitting, first + 1), first + CHUNK_TEXTS, number)
        part = edges[first : behind + 1]
        yield Chunk(texts.data[part[0] : part[-1]], part - part[0])
        first = behind


def classify(chunk: Chunk) -> Classes:
    """The classes of all characters of a chunk."""
    data = chunk.data
    # unsigned bytes wrap around, so that one comparison tests both ends of a range
    letter = ((data | 0x20) - np.uint8(ord("a"))) < 26
    digit = (data - np.uint8(ord("0"))) < 10
    space = (data == 0x20) | ((data - np.uint8(0x09)) < 5) | ((data - np.uint8(0x1C)) < 4)
    character = (data & 0xC0) != 0x80
    if not character.all() or (data >= 0x80).any():
        _classify_others(data, letter, digit, space)
    word = ~space
    word[1:] &= space[:-1]
    first = chunk.first()
    word[first] = ~space[first]
    return Classes(character, letter, digit, space, word)


def _classify_others(data: Bytes, letter: Flags, digit: Flags, space: Flags) -> None:
    """Mark the characters beyond ASCII: letters and digits at their first byte, whitespace at all its bytes."""
    # UTF-8 without its ASCII is UTF-8 still
    codes = np.frombuffer(data[data >= 0x80].tobytes().decode().encode("utf-32-le"), "<u4")
    at = np.flatnonzero(data >= 0xC0)
    classes = _code_point_classes()[np.minimum(codes, _CODE_POINTS - 1)]
    letter[at[classes == _LETTER]] = True
    digit[at[classes == _DIGIT]] = True
    blank = classes == _SPACE
    space[at[blank]] = space[at[blank] + 1] = True
    space[at[blank & (codes >= 0x800)] + 2] = True  # three bytes; no whitespace needs four


@cache
def _code_point_classes() -> Bytes:
    """Class of every code point, built at the first text beyond ASCII (40 ms)."""
    classes = np.zeros(_CODE_POINTS, np.uint8)
    for class_, is_member in ((_LETTER, str.isalpha), (_DIGIT, str.isdecimal), (_SPACE, str.isspace)):
        classes[np.fromiter(map(is_member, map(chr, range(_CODE_POINTS))), np.bool_, _CODE_POINTS)] = class_
    return classes
