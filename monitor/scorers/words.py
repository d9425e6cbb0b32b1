r"""The words of many texts and their places in a fixed list of words, on the bytes of their UTF-8, without a loop.

A word is what the regular expression ``\w+`` finds: a maximal run of characters that are alphanumeric or an underscore.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import is_not
from typing import Self

import numpy as np
from numpy.typing import NDArray

from monitor.model import Flags, Hashes, Ints
from monitor.scorers.characters import DIGIT, LETTER, NUMERAL, Chunk, Others
from monitor.scorers.columns import Bytes, Texts

LONGEST = 24
"""Bytes of the longest word that is told apart; a longer one is in no list."""
_FILL = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)
_LOW_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
_IN_WORDS = np.isin(np.arange(5), [LETTER, DIGIT, NUMERAL])


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a chunk, in order."""

    begins: Ints
    keys: Hashes
    """Equal for equal words; 0 for those of more than LONGEST bytes. Up to 8 bytes they are the word itself."""
    text: Ints
    """Which text each stands in."""


def lower_case_lines(values: Sequence[str | None]) -> Texts:
    """The texts in lower case, each with a line feed behind it, so that no word goes on in the next."""
    there = np.fromiter(map(is_not, values, repeat(None)), np.bool_, len(values))
    parts = [value.lower().encode() if value else b"" for value in values]
    edges = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)) + 1, out=edges[1:])
    return Texts(np.frombuffer(b"\n".join([*parts, b""]), np.uint8), edges, there)


def lower_case_letters(data: Bytes, others: Others) -> Flags:
    """Where a letter begins, in text that has been lower-cased."""
    letter: Flags = (data - np.uint8(ord("a"))) < 26  # unsigned bytes wrap around
    letter[others.at[others.classes == LETTER]] = True
    return letter


def words(chunk: Chunk, letter: Flags, others: Others) -> Words:
    r"""The words of lower-cased texts, of which each MUST end in a character that is in no word.

    >>> from monitor.scorers.characters import beyond_ascii
    >>> data = np.frombuffer(b"one, two\n3 one\n", np.uint8)
    >>> nothing = beyond_ascii(data)
    >>> found = words(Chunk(data, np.array([0, 9, 15])), lower_case_letters(data, nothing), nothing)
    >>> found.begins.tolist(), found.text.tolist(), bool(found.keys[0] == found.keys[3])
    ([0, 5, 9, 11], [0, 0, 1, 1], True)
    """
    data = chunk.data
    inside = letter | ((data - np.uint8(ord("0"))) < 10) | (data == ord("_"))
    _mark(inside, others)
    turns = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    if len(inside) and inside[0]:
        turns = np.concatenate([np.zeros(1, np.int64), turns])
    begins, ends = turns[::2], turns[1::2]
    per_text = np.diff(np.searchsorted(begins, chunk.edges))
    return Words(begins, _keys(data, begins, ends), np.repeat(np.arange(len(per_text)), per_text))


def _mark(inside: Flags, others: Others) -> None:
    """Mark all bytes of the characters beyond ASCII that words are made of."""
    part = _IN_WORDS[others.classes]
    at, codes = others.at[part], others.codes[part]
    inside[at] = inside[at + 1] = True
    for place, least in ((2, 0x800), (3, 0x10000)):
        inside[at[codes >= least] + place] = True


def _keys(data: Bytes, begins: Ints, ends: Ints) -> Hashes:
    padded = np.zeros(len(data) // 8 + 5, np.uint64)
    padded.view(np.uint8)[: len(data)] = data
    lengths = ends - begins
    keys = _eight(padded, begins, lengths)
    for place, mix in enumerate(_MIX):
        long = np.flatnonzero(lengths > 8 * (place + 1))
        rest = _eight(padded, begins[long] + 8 * (place + 1), lengths[long] - 8 * (place + 1))
        mixed = (keys[long] ^ keys[long] >> np.uint64(29)) * mix + rest * _FILL
        keys[long] = mixed ^ mixed >> np.uint64(32)
    keys[lengths > LONGEST] = 0
    return keys


def _eight(padded: NDArray[np.uint64], begins: Ints, lengths: Ints) -> Hashes:
    """The first eight bytes from each place, those behind `lengths` zero."""
    at, shift = begins >> 3, (begins & 7).astype(np.uint64) << np.uint64(3)
    # a shift by 64 is undefined, by 63 and once more it is zero
    eight: Hashes = padded[at] >> shift | padded[at + 1] << np.uint64(1) << (np.uint64(63) - shift)
    return eight & _LOW_BYTES[np.minimum(lengths, 8)]


@dataclass(frozen=True, slots=True, eq=False)
class WordList:
    """A list of different words in a hash table (open addressing, linear probing, a quarter full at most)."""

    slots: Hashes
    """Key of the word in each slot; 0 in an empty one."""
    places: NDArray[np.int32]
    """Its place in the list, -1 in an empty slot."""

    @classmethod
    def of(cls, listed: Sequence[str]) -> Self:
        r"""The table of lower-case words. Raises ValueError for one that is no word or longer than LONGEST bytes."""
        parts = [word.encode() for word in listed]
        wrong = [word for word, part in zip(listed, parts, strict=True) if not 0 < len(part) <= LONGEST]
        if wrong:
            raise ValueError(f"a word of 1 to {LONGEST} bytes is expected, not {wrong[0]!r}")
        ends = np.cumsum(np.array([len(part) + 1 for part in parts], np.int64)) - 1
        begins = ends - np.array([len(part) for part in parts], np.int64)
        keys = _keys(np.frombuffer(b"\n".join(parts), np.uint8), begins, ends)
        size = 1 << (4 * len(listed)).bit_length()
        slots, places = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        for place, key, home in zip(range(len(keys)), keys, _home(keys, size).tolist(), strict=True):
            slot = home
            while slots[slot]:
                if slots[slot] == key:
                    raise ValueError(f"{listed[place]!r} and {listed[places[slot]]!r} cannot be told apart")
                slot = (slot + 1) % size
            slots[slot], places[slot] = key, place
        return cls(slots, places)

    def find(self, keys: Hashes) -> Ints:
        """The place of each word, -1 where it is not listed.

        >>> listed = WordList.of(["one", "two"])
        >>> data = np.frombuffer(b"two three one", np.uint8)
        >>> listed.find(_keys(data, np.array([0, 4, 10]), np.array([3, 9, 13]))).tolist()
        [1, -1, 0]
        """
        slots = _home(keys, len(self.slots))
        found = self.slots[slots]
        places = np.where(found == keys, self.places[slots], np.int32(-1)).astype(np.int64)
        open_ = np.flatnonzero((found != keys) & (found != 0))
        while len(open_):
            slots[open_] = (slots[open_] + 1) % len(self.slots)
            found = self.slots[slots[open_]]
            hit = found == keys[open_]
            places[open_[hit]] = self.places[slots[open_[hit]]]
            open_ = open_[~hit & (found != 0)]
        return places


def _home(keys: Hashes, size: int) -> Ints:
    """The slot at which the search for each key begins."""
    mixed = (keys ^ keys >> np.uint64(32)) * _FILL
    return (mixed >> np.uint64(64 - size.bit_length() + 1)).astype(np.int64)
