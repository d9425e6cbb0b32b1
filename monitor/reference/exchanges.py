"""The sampled exchanges that a reference keeps of its stream: what a window's are held against one by one.

Of the exchanges that the samples of its slices hold, those of least hash, with what was measured of them and the
cluster of their prompt, and without any text: which they are does not depend on order, batches or restarts. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.clusters import Codebook
from monitor.model import Flags, HalfVectors, Hashes, Ints, Scope
from monitor.sampling import Measures, add_measures
from monitor.windows import Slice

EXCHANGES = 4096
"""Exchanges that a reference keeps of a stream: about 0.3 kB each with all signals on."""
PROMPT = "prompt_embedding"
"""The vectors whose clusters say of what kind a prompt is."""
KIND = "prompt_cluster"


@dataclass(frozen=True, slots=True, eq=False)
class Exchanges:
    """Some exchanges of one stream, in ascending order of hash."""

    id_hash: Hashes
    session_hash: Hashes
    """0 where the exchange has no session."""
    user_hash: Hashes
    """0 where it names no user."""
    stands_for: NDArray[np.float32]
    """Records that each stands for: one over the probability that it is among these."""
    segments: Mapping[str, NDArray[np.object_]]
    """Label -> its value for each exchange, or None."""
    measures: Measures
    vectors: HalfVectors | None
    """Of the prompts, for as long as the clusters are not made; then None."""

    @classmethod
    def of(cls, found: Slice, stream: str) -> Exchanges | None:
        """The sample of one slice of a stream; None where it has none."""
        sample = found.samples.get(stream)
        if sample is None:
            return None
        each = found.scopes[Scope(stream)].records / len(sample)
        return cls(
            sample.id_hash,
            sample.session_hash,
            sample.user_hash,
            np.full(len(sample), each, np.float32),
            sample.segments,
            sample.measures,
            sample.vectors.get(PROMPT),
        )

    def __len__(self) -> int:
        return len(self.id_hash)

    def within(self, segment: str | None) -> Flags:
        """Which of them are of a segment, `label=value`; all where it is None."""
        if segment is None:
            return np.ones(len(self), np.bool_)
        label, _, value = segment.partition("=")
        return np.asarray(np.equal(self.segments[label], value), np.bool_)

    def take(self, rows: NDArray[Any]) -> Exchanges:
        """The exchanges at `rows` (indices), in that order."""
        return Exchanges(
            self.id_hash[rows],
            self.session_hash[rows],
            self.user_hash[rows],
            self.stands_for[rows],
            {label: values[rows] for label, values in self.segments.items()},
            self.measures.take(rows),
            None if self.vectors is None else self.vectors[rows],
        )

    def least(self, at_most: int) -> Exchanges:
        """The `at_most` exchanges of least hash, which then stand for those that are left out."""
        kept = self.take(np.argsort(self.id_hash, kind="stable")[:at_most])
        if len(kept) == len(self):
            return kept
        each = np.float32(2.0**64 / float(kept.id_hash[-1]))
        return replace(kept, stands_for=np.maximum(kept.stands_for, each))

    def without(self, signals: Collection[str]) -> Exchanges:
        """The same exchanges without what was measured of some signals."""
        vectors = None if PROMPT in signals else self.vectors
        return replace(self, measures=self.measures.without(signals), vectors=vectors)

    def joined(self, new: Exchanges, at_most: int) -> Exchanges:
        """The least of both."""
        return add_exchanges([self, new]).least(at_most)

    def placed(self, book: Codebook | None) -> Exchanges:
        """The same with the clusters of their prompts in the place of vectors, where there is a codebook."""
        if book is None or self.vectors is None:
            return self
        at = self.measures.categories.index(KIND)
        names = self.measures.names.copy()
        names[:, at] = book.named(names[:, at], self.vectors)
        return replace(self, measures=replace(self.measures, names=names), vectors=None)

    def dump(self) -> tuple[Any, ...]:
        """Packed fields, for a checkpoint."""
        arrays = [column.tobytes() for column in (self.id_hash, self.session_hash, self.user_hash, self.stands_for)]
        segments = {label: values.tolist() for label, values in self.segments.items()}
        vectors = None if self.vectors is None else (self.vectors.shape[1], self.vectors.tobytes())
        return arrays, segments, self.measures.dump(), vectors

    @classmethod
    def load(cls, packed: Sequence[Any]) -> Exchanges:
        """The inverse of `dump`."""
        (ids, sessions, users, stands_for), segments, measures, vectors = packed
        return cls(
            np.frombuffer(ids, np.uint64),
            np.frombuffer(sessions, np.uint64),
            np.frombuffer(users, np.uint64),
            np.frombuffer(stands_for, np.float32),
            {label: np.fromiter(values, np.object_, len(values)) for label, values in segments.items()},
            Measures.load(measures),
            None if vectors is None else np.frombuffer(vectors[1], np.float16).reshape(-1, vectors[0]),
        )


def sampled(slices: Sequence[Slice], stream: str, book: Codebook | None) -> tuple[Exchanges, Ints] | None:
    """The samples of some slices of a stream without vectors, and the number of each one's slice; None without any."""
    parts = [part for part in (Exchanges.of(found, stream) for found in slices) if part is not None]
    if not parts:
        return None
    placed = [replace(part.placed(book), vectors=None) for part in parts]
    return add_exchanges(placed), np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def add_exchanges(parts: Sequence[Exchanges]) -> Exchanges:
    """Those of one or more parts, one behind the other; of all or of none are the clusters still to be made."""
    vectors = [part.vectors for part in parts if part.vectors is not None]
    return Exchanges(
        np.concatenate([part.id_hash for part in parts]),
        np.concatenate([part.session_hash for part in parts]),
        np.concatenate([part.user_hash for part in parts]),
        np.concatenate([part.stands_for for part in parts]),
        {label: np.concatenate([part.segments[label] for part in parts]) for label in parts[0].segments},
        add_measures([(len(part), part.measures) for part in parts]),
        np.concatenate(vectors) if vectors else None,
    )
