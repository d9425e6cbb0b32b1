"""Where a drift of the answers comes from: other prompts, or other answers to the same prompts.

A shift is counted in one mean: of a rate or a score its own; of a category the share of the value that moved most; of
a number on a log scale the mean of the log, values below a hundredth of the reference's median counting as that.
It is taken over all records of the slices since the change began and over all of the reference; what part of it goes
with the prompts is learned from the sampled exchanges of both, whose prompts have clusters. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.clusters import Codebook
from monitor.decomposition import Side, Split, split
from monitor.model import Flags, Floats, HalfVectors, Ints, Reading
from monitor.readings.effects import named_value, window_counts
from monitor.readings.shares import Watched
from monitor.reference import KIND, PROMPT, Exchanges
from monitor.sampling import Measures
from monitor.summaries.category import category_key
from monitor.summaries.numeric import grid_keys, grid_values
from monitor.windows import Slice

_PROMPTS = "prompt_"
_NOT_ANSWERED = frozenset({"volume", "model_version", "model_version_missing"})
_SMALL = 0.01
"""Part of the reference's median below which amounts are told apart no more."""


def of_answers(signal: str) -> bool:
    """Whether a signal says something of answers, so that prompts may explain it.

    >>> [of_answers(name) for name in ("response_refusal", "latency_seconds", "prompt_chars", "volume")]
    [True, True, False, False]
    """
    return not signal.startswith(_PROMPTS) and signal not in _NOT_ANSWERED


@dataclass(frozen=True, slots=True)
class Counted:
    """What a shift of a signal is counted in: the mean of a number that each value is turned into."""

    of_cells: Callable[[Ints], Floats]
    """Of the cells that summaries count in."""
    of_measures: Callable[[Measures], Floats]
    """Of exchanges, NaN where the signal was not observed."""


def counted(watched: Watched, moved: str) -> Counted | None:
    """What a shift is counted in; None of a category that did not move, or of an amount that is mostly nothing.

    Parameters
    ----------
    moved : of a category the value whose share moved most

    """
    series = watched.reference
    signal = series.signal
    if signal.kind == "rate":
        return Counted(lambda keys: (keys > 0).astype(np.float64), lambda found: found.number(signal.name))
    if signal.kind == "category":
        rows = [row for row in watched.yes if named_value(series, row) == moved]
        return _counted_names(signal.name, series.place, rows[0]) if rows else None
    worth = grid_values(signal.scale)
    if signal.scale == "log":
        median = float(watched.shape.deciles[4])
        if median <= 0:
            return None
        worth = np.log(np.maximum(worth, _SMALL * median))

    def of_measures(found: Measures) -> Floats:
        values = found.number(signal.name)
        there = ~np.isnan(values)
        values[there] = worth[grid_keys(values[there], signal.scale)]
        return values

    return Counted(lambda keys: worth[keys], of_measures)


def _counted_names(signal: str, place: Callable[[Ints], Ints], yes: Flags) -> Counted:
    """Whether a category has one of the values that lie in some bins."""

    def of_cells(keys: Ints) -> Floats:
        return yes[place(keys)].astype(np.float64)

    def of_measures(found: Measures) -> Floats:
        names = found.category(signal)
        keys = np.array([0 if name is None else category_key(name) for name in names], np.int64)
        return np.where([name is None for name in names], np.nan, of_cells(keys))

    return Counted(of_cells, of_measures)


def since(window: Sequence[tuple[int, Slice]], changed_at: int | None) -> Sequence[tuple[int, Slice]]:
    """The slices of a window from the change on; all where it began before, or none of them holds records."""
    return [part for part in window if changed_at is None or part[1].start >= changed_at] or window


def origin(
    reading: Reading, watched: Watched, window: Sequence[tuple[int, Slice]], kept: Exchanges, book: Codebook
) -> Split | None:
    """How the shift of a drift splits; None where that is not known.

    Parameters
    ----------
    kept : sampled exchanges of the reference
    book : what the clusters of prompts are

    """
    how, stretch = counted(watched, reading.moved), since(window, reading.changed_at)
    if how is None or KIND not in kept.measures.categories:
        return None
    (now,) = window_counts([watched.reference], stretch)
    usual = watched.reference.summary.cells
    if not now.n:
        return None
    shift = _mean(now.counts, how.of_cells(now.keys)) - _mean(usual.mass, how.of_cells(usual.keys))
    here, there = _of_window(reading, how, stretch, book, now.n), _of_reference(reading, how, kept, book, usual.n)
    return None if here is None or there is None else split(here, there, shift, strange=len(book.centres))


def with_origin(reading: Reading, found: Split | None) -> Reading:
    """The reading with how its shift splits."""
    if found is None:
        return reading
    return msgspec.structs.replace(
        reading, from_prompts=found.prompts, from_prompts_low=found.low, from_prompts_high=found.high
    )


def _mean(weights: Ints | Floats, values: Floats) -> float:
    return float(weights @ values) / float(weights.sum())


def _of_window(
    reading: Reading, how: Counted, stretch: Sequence[tuple[int, Slice]], book: Codebook, n: int
) -> Side | None:
    """The sampled exchanges of a window; those of a slice stand for all records of the signal in it."""
    parts = []
    for number, found in stretch:
        sample, summary = found.samples.get(reading.stream), found.summary(reading.scope, reading.signal)
        if sample is None or summary is None:
            continue
        values = how.of_measures(sample.measures)
        rows = _rows(reading.segment, sample.segments, values)
        kinds = _kinds(sample.measures.take(rows), sample.vectors[PROMPT][rows], book)
        each = summary.cells.population / max(len(rows), 1)
        alike = np.full(len(rows), each), sample.session_hash[rows], np.full(len(rows), number)
        parts.append((values[rows], kinds, *alike))
    if not parts:
        return None
    value, kind, weight, session, block = map(np.concatenate, zip(*parts, strict=True))
    return Side(value, kind, weight, session, block, min(len(value) / n, 1.0))


def _of_reference(reading: Reading, how: Counted, kept: Exchanges, book: Codebook, n: int) -> Side:
    """The exchanges that a reference keeps."""
    values = how.of_measures(kept.measures)
    rows = _rows(reading.segment, kept.segments, values)
    mine = kept.take(rows)
    kinds, block = _kinds(mine.measures, mine.vectors, book), np.zeros(len(rows), np.int64)
    weight = mine.stands_for.astype(np.float64)
    return Side(values[rows], kinds, weight, mine.session_hash, block, min(len(rows) / max(n, 1), 1.0))


def _kinds(measures: Measures, vectors: HalfVectors | None, book: Codebook) -> Ints:
    """The number of each prompt's cluster, -1 without one."""
    names = measures.category(KIND)
    if vectors is not None:
        names = book.named(names, vectors)
    code_of = {name: code for code, name in enumerate(book.names)}
    return np.array([code_of.get(name, -1) for name in names], np.int64)


def _rows(segment: str | None, segments: Mapping[str, NDArray[np.object_]], values: Floats) -> Ints:
    """The exchanges of a segment, `label=value`, in which the signal was observed."""
    there = ~np.isnan(values)
    if segment is not None:
        label, _, name = segment.partition("=")
        there &= np.equal(segments[label], name).astype(np.bool_)
    return np.flatnonzero(there)
