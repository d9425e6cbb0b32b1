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
from numpy.typing import NDArray

from monitor.model import Flags, Ints
from monitor.scorers.columns import Bytes, Texts

CHUNK_BYTES = 1 << 18
"""Bytes looked at together: the masks of a chunk stay in a processor's second-level cache."""
CHUNK_TEXTS = 1 << 12
"""Texts looked at together."""

LETTER, DIGIT, SPACE, NUMERAL = 1, 2, 3, 4
"""Classes of characters; a numeral is any other that Python's `isalnum` is true of."""
CODE_POINTS = 0x40000
"""Code points from here on (private use, tags, variation selectors) are of no class."""


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
class Others:
    """The characters of a chunk beyond ASCII."""

    at: Ints
    """Where each begins."""
    codes: NDArray[np.uint32]
    """Its code point."""
    classes: Bytes
    """LETTER, DIGIT, SPACE, NUMERAL or 0."""


@dataclass(frozen=True, slots=True)
class Classes:
    """Which bytes of a chunk begin a character, a letter, a digit or a word, and which are whitespace."""

    character: Flags
    letter: Flags
    digit: Flags
    space: Flags
    word: Flags
    others: Others


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
    others = beyond_ascii(data)
    _classify_others(others, letter, digit, space)
    word = ~space
    word[1:] &= space[:-1]
    first = chunk.first()
    word[first] = ~space[first]
    return Classes(character, letter, digit, space, word, others)


def beyond_ascii(data: Bytes) -> Others:
    """The characters of valid UTF-8 beyond ASCII."""
    # sought as signed bytes, which needs no comparison with a mask of its own where there are none
    if not len(data) or data.view(np.int8).min() >= 0:
        return Others(np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint8))
    # UTF-8 without its ASCII is UTF-8 still
    codes = np.frombuffer(data[data >= 0x80].tobytes().decode().encode("utf-32-le"), "<u4")
    return Others(np.flatnonzero(data >= 0xC0), codes, code_point_classes()[np.minimum(codes, CODE_POINTS - 1)])


def _classify_others(others: Others, letter: Flags, digit: Flags, space: Flags) -> None:
    """Mark letters and digits at their first byte, whitespace at all its bytes."""
    letter[others.at[others.classes == LETTER]] = True
    digit[others.at[others.classes == DIGIT]] = True
    blank = others.classes == SPACE
    at = others.at[blank]
    space[at] = space[at + 1] = True
    space[at[others.codes[blank] >= 0x800] + 2] = True  # three bytes; no whitespace needs four


@cache
def code_point_classes() -> Bytes:
    """Class of every code point below CODE_POINTS, built at the first text beyond ASCII (50 ms)."""
    classes = np.zeros(CODE_POINTS, np.uint8)
    tests = ((NUMERAL, str.isalnum), (LETTER, str.isalpha), (DIGIT, str.isdecimal), (SPACE, str.isspace))
    for class_, is_member in tests:
        classes[np.fromiter(map(is_member, map(chr, range(CODE_POINTS))), np.bool_, CODE_POINTS)] = class_
    return classes
