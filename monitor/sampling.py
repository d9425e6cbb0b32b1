"""The exchanges of a slice that costly signals are measured on: those of least hash(id), so many at most.

The choice does not depend on the order in which records come, on batches or on restarts, and its cost does not grow
with traffic. What is kept of an exchange is its redacted text. Pure: the caller says what redacts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.model import Hashes, Transcripts, concatenate_transcripts

HalfVectors = NDArray[np.float16]

SAMPLE = 128
"""Exchanges of a slice that are sampled by default."""

MOST_CHARS = 20_000
"""Characters of a text that are sampled: more than the models read, less than hostile text makes redaction slow by."""
_MARGIN = 200
"""Characters before a cut in which a part of a key or a number may stand."""

Redact = Callable[[Sequence[str | None]], Sequence[str | None]]


def redacted(transcripts: Transcripts, redact: Redact) -> Transcripts:
    """The same exchanges with every text cut to MOST_CHARS and passed through `redact`, in one call."""
    contexts = [list(texts or ()) for texts in transcripts.contexts]
    texts = [*transcripts.prompt, *transcripts.response, *(text for part in contexts for text in part)]
    n, found = len(transcripts), redacted_begin(texts, redact)
    rest = iter(found[2 * n :])
    return Transcripts.load(
        (
            found[:n],
            found[n : 2 * n],
            [
                None if given is None else [next(rest) for _ in part]
                for given, part in zip(transcripts.contexts, contexts, strict=True)
            ],
        )
    )


def redacted_begin(texts: Sequence[str | None], redact: Redact) -> list[str | None]:
    """How texts begin, redacted; twice is as once.

    Of a text that is cut the last characters go as well: the cut may have left a part of what is not to be kept.
    """
    found = redact([text if text is None else text[:MOST_CHARS] for text in texts])
    return [
        kept if kept is None or text is None or len(text) <= MOST_CHARS else kept[:-_MARGIN][: MOST_CHARS - _MARGIN]
        for text, kept in zip(texts, found, strict=True)
    ]


def _no_hashes() -> Hashes:
    return np.empty(0, np.uint64)


def _nothing_said() -> Transcripts:
    return Transcripts.load(((), (), ()))


@dataclass(frozen=True, slots=True)
class Sample:
    """Sampled exchanges of one slice of one stream, in ascending order of hash."""

    id_hash: Hashes = field(default_factory=_no_hashes)
    session_hash: Hashes = field(default_factory=_no_hashes)
    """0 where the exchange has no session."""
    transcripts: Transcripts = field(default_factory=_nothing_said)
    segments: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    """Label -> its value for each exchange, or None."""
    vectors: Mapping[str, HalfVectors] = field(default_factory=dict)
    """Vector signal -> one row an exchange, once they are measured: half precision tells near from far."""

    def __len__(self) -> int:
        return len(self.id_hash)

    def take(self, rows: NDArray[Any]) -> Sample:
        """The exchanges at `rows` (indices), in that order."""
        return Sample(
            self.id_hash[rows],
            self.session_hash[rows],
            self.transcripts.take(rows),
            {label: values[rows] for label, values in self.segments.items()},
            {name: found[rows] for name, found in self.vectors.items()},
        )

    def least(self, at_most: int) -> Sample:
        """The `at_most` exchanges of least hash, ascending."""
        return self.take(np.argsort(self.id_hash, kind="stable")[:at_most])

    def joined(self, new: Sample, at_most: int, redact: Redact) -> Sample:
        """The least of both; of the `new` only those that stay are redacted."""
        if len(self) >= at_most:
            new = new.take(np.flatnonzero(new.id_hash < self.id_hash[-1]))
        new = new.least(at_most)
        if not len(new):
            return self
        if len(self) + len(new) > at_most:
            last = np.sort(np.concatenate([self.id_hash, new.id_hash]))[at_most - 1]
            new = new.take(np.flatnonzero(new.id_hash <= last))
        new = replace(new, transcripts=redacted(new.transcripts, redact))
        return add_samples([self, new]).least(at_most)

    def dump(self) -> tuple[Any, ...]:
        """Packed fields, for a checkpoint."""
        segments = {label: values.tolist() for label, values in self.segments.items()}
        vectors = {name: (found.shape[1], found.tobytes()) for name, found in self.vectors.items()}
        return self.id_hash.tobytes(), self.session_hash.tobytes(), self.transcripts.dump(), segments, vectors

    @classmethod
    def load(cls, packed: Sequence[Any]) -> Sample:
        """The inverse of `dump`."""
        ids, sessions, said, segments, vectors = packed
        return cls(
            np.frombuffer(ids, np.uint64),
            np.frombuffer(sessions, np.uint64),
            Transcripts.load(said),
            {label: np.fromiter(values, np.object_, len(values)) for label, values in segments.items()},
            {name: np.frombuffer(data, np.float16).reshape(-1, width) for name, (width, data) in vectors.items()},
        )


def add_samples(parts: Sequence[Sample]) -> Sample:
    """The exchanges of several samples, one behind the other."""
    filled = [part for part in parts if len(part)]
    if len(filled) < 2:
        return filled[0] if filled else Sample()
    return Sample(
        np.concatenate([part.id_hash for part in filled]),
        np.concatenate([part.session_hash for part in filled]),
        concatenate_transcripts([part.transcripts for part in filled]) or _nothing_said(),
        {label: np.concatenate([part.segments[label] for part in filled]) for label in filled[0].segments},
        {name: np.concatenate([part.vectors[name] for part in filled]) for name in filled[0].vectors},
    )
