"""Decoded records -> measured ones: every scorer's columns, the stream and the segments.

Text is left behind it only where signals are measured on a sample of the exchanges, until that sample is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, chain, pairwise

import numpy as np
import xxhash

from monitor.contracts import Scorer
from monitor.decoding import exchange_hash
from monitor.model import Categories, Column, Flags, Hashes, Records, Scored, Signal, Transcripts
from monitor.sampled import SampledSignals
from monitor.sampling import Redact
from monitor.scorers.columns import categories, exchanges
from monitor.scoring import Score, score

UNKNOWN = "unknown"
"""Stream of exchanges that do not say which they belong to."""
_SAID = ("prompt", "response", "contexts")


def measure(
    batches: Sequence[Records],
    scorers: Sequence[Scorer],
    stream: str,
    segments: Sequence[str],
    *,
    redact: Redact,
    sampling: bool = False,
    score: Score = score,
) -> list[Scored]:
    """Score batches of several partitions together, and give each back on its own.

    Parameters
    ----------
    stream, segments : fields or labels that name the stream and the segments of a record
    redact : what the names of categories pass through; those of streams and segments are the owner's own
    sampling : whether signals are measured on a sample, so that what was said goes along
    score : what runs a scorer over a batch

    """
    if not batches:
        return []
    together = _measure(_joined(batches), scorers, stream, segments, score, sampling=sampling)
    together = replace(
        together, values={name: _fit_to_keep(column, redact) for name, column in together.values.items()}
    )
    cuts = list(accumulate(map(len, batches), initial=0))
    return [together.take(np.arange(a, b)) for a, b in pairwise(cuts)]


def _fit_to_keep(column: Column, redact: Redact) -> Column:
    """Categories are remembered by name, and a log may have anything in their place."""
    if not isinstance(column, Categories):
        return column
    return Categories([str(name) for name in redact(column.names)], column.codes)


def signals_of(scorers: Sequence[Scorer | SampledSignals]) -> Mapping[str, Signal]:
    """All signals by name, in the scorers' order. Raises ValueError where two scorers make the same."""
    found: dict[str, Signal] = {}
    for scorer in scorers:
        for signal in scorer.signals:
            if signal.name in found:
                raise ValueError(f"two scorers make the signal {signal.name}")
            found[signal.name] = signal
    return found


def _joined(batches: Sequence[Records]) -> Records:
    first = batches[0]
    if len(batches) == 1:
        return first
    appends = [batch.append for batch in batches if batch.append is not None]
    return Records(
        partition=first.partition,
        offsets=np.concatenate([batch.offsets for batch in batches]),
        id_hash=np.concatenate([batch.id_hash for batch in batches]),
        content_hash=np.concatenate([batch.content_hash for batch in batches]),
        ts=np.concatenate([batch.ts for batch in batches]),
        columns={name: list(chain.from_iterable(batch.columns[name] for batch in batches)) for name in first.columns},
        append=np.concatenate(appends) if len(appends) == len(batches) else None,
    )


def _measure(
    records: Records, scorers: Sequence[Scorer], stream: str, segments: Sequence[str], score: Score, *, sampling: bool
) -> Scored:
    values: dict[str, Column] = {}
    remarks: dict[str, Flags] = {}
    for scorer in scorers:
        scores = score(scorer, records)
        values |= scores.columns
        remarks |= scores.remarks
    feedback = ~exchanges(records)
    return Scored(
        ts=records.ts,
        id_hash=records.id_hash,
        content_hash=records.content_hash,
        session_hash=_hashes(records.columns["session"]),
        user_hash=_hashes(records.columns["user"]),
        of_hash=_of(records.columns["of"]),
        feedback_event=feedback,
        stream=_or_unknown(_names(records, stream), feedback),
        segments={label: _names(records, label) for label in segments},
        values=values,
        append=records.append,
        remarks=remarks,
        transcripts=Transcripts.load([records.columns[name] for name in _SAID]) if sampling else None,
    )


def _names(records: Records, name: str) -> Categories:
    """The values of a field, or else of a label."""
    if name in records.columns:
        return categories(records.columns[name])
    return categories([None if labels is None else labels.get(name) for labels in records.columns["labels"]])


def _or_unknown(stream: Categories, feedback: Flags) -> Categories:
    """Exchanges without a stream belong to UNKNOWN; feedback events may still be joined to one."""
    nameless = (stream.codes < 0) & ~feedback
    if not nameless.any():
        return stream
    codes = np.where(nameless, len(stream.names), stream.codes).astype(np.int32)
    return Categories([*stream.names, UNKNOWN], codes)


def _hashes(values: Sequence[str | None]) -> Hashes:
    """XXH3 of each value; 0 for none. Each distinct value is hashed once."""
    found = categories(values)
    hashes: Hashes = np.array([*(xxhash.xxh3_64_intdigest(name.encode()) or 1 for name in found.names), 0], np.uint64)
    return hashes[found.codes]


def _of(values: Sequence[str | None]) -> Hashes:
    """The `id_hash` of the exchange that each event is about; 0 for none."""
    if not any(values):
        return np.zeros(len(values), np.uint64)
    return np.array([0 if value is None else exchange_hash(value) for value in values], np.uint64)
