"""Where a drift of the answers comes from: other prompts, or other answers to the same prompts.

The shift is taken over all records of the slices since the change began and over all of the reference; what part of it
goes with the prompts is learned from the sampled exchanges of both, whose prompts have clusters. Pure.
"""

from __future__ import annotations

import msgspec
import numpy as np

from monitor.clusters import Codebook
from monitor.decomposition import Side, split
from monitor.model import Ints, Reading
from monitor.readings.counted import Counted, Window, mean_over, since
from monitor.readings.watched import Watched
from monitor.reference import KIND, Exchanges, sampled

_PROMPTS = "prompt_"
_NOT_ANSWERED = frozenset({"volume", "model_version", "model_version_missing", "response_duplicate"})
"""What is no property of an answer to a prompt, but of the traffic, of what answers, or of answers among each other."""


def of_answers(signal: str) -> bool:
    """Whether a signal says something of answers, so that prompts may explain it.

    >>> [of_answers(name) for name in ("response_refusal", "latency_seconds", "prompt_chars", "volume")]
    [True, True, False, False]
    """
    return not signal.startswith(_PROMPTS) and signal not in _NOT_ANSWERED


def with_origin(
    reading: Reading, watched: Watched, how: Counted, window: Window, *, kept: Exchanges | None, book: Codebook | None
) -> Reading:
    """The reading of a drift with how its shift splits, where that is known.

    Parameters
    ----------
    how : what the shift is counted in
    kept : sampled exchanges of the reference
    book : what the clusters of prompts are

    """
    if kept is None or KIND not in kept.measures.categories or book is None or not of_answers(reading.signal):
        return reading
    series, stretch = watched.reference, since(window, reading.changed_at)
    now = mean_over([found.summary(reading.scope, reading.signal) for _, found in stretch], how)
    usual, found = mean_over([series.summary], how), sampled([part for _, part in stretch], reading.stream, book)
    if now is None or usual is None or found is None:
        return reading
    exchanges, block = found
    here = _side(exchanges, reading.segment, how, book, records=now.measured, block=block)
    alike = np.zeros(len(kept), np.int64)
    there = _side(kept, reading.segment, how, book, records=usual.measured, block=alike)
    answer = split(here, there, now.mean - usual.mean, strange=len(book.centres))
    if answer is None:
        return reading
    return msgspec.structs.replace(
        reading, from_prompts=answer.prompts, from_prompts_low=answer.low, from_prompts_high=answer.high
    )


def _side(
    exchanges: Exchanges, segment: str | None, how: Counted, book: Codebook, *, records: int, block: Ints
) -> Side:
    """The exchanges of a segment in which a signal was observed, `records` in all."""
    values = how.of_measures(exchanges.measures)
    rows = np.flatnonzero(exchanges.within(segment) & ~np.isnan(values))
    mine = exchanges.take(rows).placed(book)
    code_of = {name: code for code, name in enumerate(book.names)}
    kinds = np.array([code_of.get(name, -1) for name in mine.measures.category(KIND)], np.int64)
    weight, part = mine.stands_for.astype(np.float64), min(len(rows) / max(records, 1), 1.0)
    return Side(values[rows], kinds, weight, mine.session_hash, block[rows], part)
