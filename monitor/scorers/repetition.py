"""How much of a text repeats itself: seq-rep-3 of many texts at once.

seq-rep-n = 1 - |different n-grams| / |n-grams| (Welleck et al., "Neural Text Generation with Unlikelihood Training",
ICLR 2020), here of words: the share of 3-grams that stood earlier in the text. Words are told apart by their bytes.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from monitor.model import Floats, Hashes, Ints
from monitor.scorers.characters import CHUNK_BYTES, CHUNK_TEXTS, Chunk, Classes
from monitor.scorers.columns import Bytes

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 1 << 64)
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
_BLOCK = CHUNK_BYTES
"""Bytes hashed together, a power of two; more than one block is a single long text."""
_BLOCK_BITS = _BLOCK.bit_length() - 1
_TEXT_BITS = CHUNK_TEXTS.bit_length() - 1
_HASH_BITS = 64 - _TEXT_BITS


def repetition(chunk: Chunk, classes: Classes, words: Ints) -> Floats:
    """The share of each text's 3-grams of words that occurred earlier in it; NaN below three words.

    Collisions of the 52-bit hashes that stand for 3-grams are to be expected once in 2**52 pairs of them.

    Parameters
    ----------
    chunk : at most CHUNK_TEXTS texts
    classes : of the chunk's characters
    words : number of words in each text

    """
    end = ~classes.space
    end[:-1] &= classes.space[1:]
    last = chunk.last()
    end[last] = ~classes.space[last]
    hashes = _word_hashes(chunk.data, np.flatnonzero(classes.word), np.flatnonzero(end) + 1)
    text = np.repeat(np.arange(len(words), dtype=np.uint64), words)
    grams = hashes[:-2] * np.uint64(_MIX[0]) + hashes[1:-1] * np.uint64(_MIX[1]) + hashes[2:] * np.uint64(_MIX[2])
    inside = text[:-2] == text[2:]
    keys = (text[:-2] << np.uint64(_HASH_BITS) | grams >> np.uint64(_TEXT_BITS))[inside]
    keys = np.sort(_perhaps_equal(keys))
    again = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(_HASH_BITS)
    repeated = np.bincount(again.astype(np.int64), minlength=len(words))
    share = np.full(len(words), np.nan)
    np.divide(repeated, words - 2, out=share, where=words >= 3)
    return share


def _perhaps_equal(keys: Hashes) -> Hashes:
    """The keys without most of those that occur once: sorting all of them would be the dearest step of all."""
    bits = (4 * len(keys)).bit_length()
    slots = (keys * np.uint64(_MIX[0]) >> np.uint64(64 - bits)).astype(np.int64)
    return keys[np.bincount(slots, minlength=1 << bits)[slots] > 1]


def _word_hashes(data: Bytes, begins: Ints, ends: Ints) -> Hashes:
    """The sum over each word's bytes of (byte + 1) * BASE**(place in the word), modulo 2**64.

    It is a difference of the same sum over all of `data`, times BASE**-begin: so a word has one hash wherever it
    stands, and what it costs does not depend on how long words are.
    """
    sums = _sums_before(data, np.stack([begins, ends], axis=1).ravel()).reshape(-1, 2)
    inverses, of_blocks = _powers(_INVERSE), _powers(pow(_INVERSE, _BLOCK, 1 << 64))
    hashes: Hashes = (sums[:, 1] - sums[:, 0]) * inverses[begins & _BLOCK - 1] * of_blocks[begins >> _BLOCK_BITS]
    return hashes


def _sums_before(data: Bytes, positions: Ints) -> Hashes:
    """The sum of (byte + 1) * BASE**place over all bytes before each of `positions`, which ascend."""
    powers, scales = _powers(_BASE), _powers(pow(_BASE, _BLOCK, 1 << 64))
    sums = np.zeros(len(positions), np.uint64)
    inside = np.zeros(_BLOCK + 1, np.uint64)
    before = np.zeros(1, np.uint64)
    for block, start in enumerate(range(0, len(data), _BLOCK)):
        part = data[start : start + _BLOCK]
        np.cumsum((part.astype(np.uint64) + np.uint64(1)) * powers[: len(part)], out=inside[1 : len(part) + 1])
        low, high = np.searchsorted(positions, (start, start + _BLOCK), "right")
        scale = scales[block : block + 1]  # not a scalar, whose overflow would be warned of
        sums[low:high] = before + scale * inside[positions[low:high] - start]
        before = before + scale * inside[len(part)]
    return sums


@cache
def _powers(base: int) -> Hashes:
    """The powers of `base` modulo 2**64, from 0 on."""
    return np.concatenate([np.ones(1, np.uint64), np.full(_BLOCK - 1, base, np.uint64)]).cumprod()
