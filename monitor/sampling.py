"""The exchanges of a slice that costly signals are measured on: those of least hash(id), so many at most.

The choice does not depend on the order in which records come, on batches or on restarts, and its cost does not grow
with traffic. What is kept of an exchange is its redacted text. Pure: the caller says what redacts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.model import Categories, Column, Floats, HalfVectors, Hashes, Transcripts, concatenate_transcripts

SAMPLE = 128
"""Exchanges of a slice that are sampled by default."""

MOST_CHARS = 20_000
"""Characters of a text that are sampled: more than the models read, less than hostile text makes redaction slow by."""
_MARGIN = 200
"""Characters before a cut in which a part of a key or a number may stand."""

_FORMAT = 3
"""Version of the packed form of a sample."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """What was measured of some exchanges, one row an exchange; vectors are kept apart."""

    signals: tuple[str, ...] = ()
    """Numbers and rates, the columns of `numbers`."""
    numbers: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """Single precision tells more than the cells that summaries count in; NaN is no observation."""
    categories: tuple[str, ...] = ()
    names: NDArray[np.object_] = field(default_factory=lambda: np.empty((0, 0), np.object_))
    """One column a category; None is no value."""

    @classmethod
    def of(cls, columns: Mapping[str, Column], rows: NDArray[Any]) -> Measures:
        """What some columns say of the records at `rows` (indices).

        >>> columns = {"cost": np.array([1.5, 2.5]), "status": Categories(["ok"], np.array([0, -1], np.int32))}
        >>> found = Measures.of(columns, np.array([1]))
        >>> found.number("cost"), found.category("status")
        (array([2.5]), array([None], dtype=object))
        """
        named = {name: column for name, column in columns.items() if isinstance(column, Categories)}
        plain = {name: found for name, found in columns.items() if isinstance(found, np.ndarray) and found.ndim == 1}
        numbers, names = np.empty((len(rows), len(plain)), np.float32), np.empty((len(rows), len(named)), np.object_)
        for at, values in enumerate(plain.values()):
            numbers[:, at] = values[rows]
        for at, column in enumerate(named.values()):
            names[:, at] = np.array([*column.names, None], np.object_)[column.codes[rows]]
        return cls(tuple(plain), numbers, tuple(named), names)

    def number(self, signal: str) -> Floats:
        """The values of a number or rate. Raises ValueError for another signal."""
        return self.numbers[:, self.signals.index(signal)].astype(np.float64)

    def category(self, signal: str) -> NDArray[np.object_]:
        """The values of a category. Raises ValueError for another signal."""
        return self.names[:, self.categories.index(signal)]

    def take(self, rows: NDArray[Any]) -> Measures:
        """The exchanges at `rows` (indices), in that order."""
        return replace(
            self,
            numbers=self.numbers[rows] if self.signals else self.numbers,
            names=self.names[rows] if self.categories else self.names,
        )

    def without(self, signals: Collection[str]) -> Measures:
        """What is left of it where some signals are not wanted any more."""
        plain = [name for name in self.signals if name not in signals]
        named = [name for name in self.categories if name not in signals]
        numbers = self.numbers[:, [self.signals.index(name) for name in plain]] if self.signals else self.numbers
        names = self.names[:, [self.categories.index(name) for name in named]] if self.categories else self.names
        return Measures(tuple(plain), numbers, tuple(named), names)

    def fitted(self, n: int, signals: Sequence[str], categories: Sequence[str]) -> Measures:
        """The same `n` exchanges with these columns; without observation of what was not measured of them."""
        if (self.signals, self.categories) == (signals, categories):
            return self
        numbers = np.full((n, len(signals)), np.nan, np.float32)
        names = np.full((n, len(categories)), None, np.object_)
        for at, name in enumerate(signals):
            if name in self.signals:
                numbers[:, at] = self.numbers[:, self.signals.index(name)]
        for at, name in enumerate(categories):
            if name in self.categories:
                names[:, at] = self.names[:, self.categories.index(name)]
        return Measures(tuple(signals), numbers, tuple(categories), names)

    def beside(self, more: Measures) -> Measures:
        """The same exchanges with what else was measured of them."""
        if not self.signals and not self.categories:
            return more
        numbers, names = np.hstack([self.numbers, more.numbers]), np.hstack([self.names, more.names])
        return Measures(self.signals + more.signals, numbers, self.categories + more.categories, names)

    def dump(self) -> tuple[Any, ...]:
        """Packed fields, for a checkpoint."""
        return self.signals, self.numbers.tobytes(), self.categories, self.names.tolist(), len(self.numbers)

    @classmethod
    def load(cls, packed: Sequence[Any]) -> Measures:
        """The inverse of `dump`."""
        signals, numbers, categories, rows, n = packed
        names = np.empty((n, len(categories)), np.object_)
        names[:] = rows
        table = np.frombuffer(numbers, np.float32).reshape(n, len(signals))
        return cls(tuple(signals), table, tuple(categories), names)


def add_measures(parts: Sequence[tuple[int, Measures]]) -> Measures:
    """Those of several samples, each with its number of exchanges, one behind the other.

    What was measured of some of them only is no observation of the others.
    """
    signals = tuple(dict.fromkeys(name for _, part in parts for name in part.signals))
    categories = tuple(dict.fromkeys(name for _, part in parts for name in part.categories))
    fitted = [part.fitted(n, signals, categories) for n, part in parts]
    return Measures(
        signals,
        np.concatenate([part.numbers for part in fitted]),
        categories,
        np.concatenate([part.names for part in fitted]),
    )


def add_vectors(parts: Sequence[tuple[int, Mapping[str, HalfVectors]]]) -> dict[str, HalfVectors]:
    """Vectors of several samples in the same way."""
    widths = {name: found.shape[1] for _, part in parts for name, found in part.items()}
    return {
        name: np.concatenate([part.get(name, np.full((n, width), np.nan, np.float16)) for n, part in parts])
        for name, width in widths.items()
    }


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
    user_hash: Hashes = field(default_factory=_no_hashes)
    """0 where the exchange names no user."""
    transcripts: Transcripts = field(default_factory=_nothing_said)
    segments: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    """Label -> its value for each exchange, or None."""
    vectors: Mapping[str, HalfVectors] = field(default_factory=dict)
    """Vector signal -> one row an exchange, once they are measured: half precision tells near from far."""
    measures: Measures = field(default_factory=Measures)
    """What else was measured: of all records from the first, of samples once their slice has closed."""

    def __len__(self) -> int:
        return len(self.id_hash)

    def take(self, rows: NDArray[Any]) -> Sample:
        """The exchanges at `rows` (indices), in that order."""
        return Sample(
            self.id_hash[rows],
            self.session_hash[rows],
            self.user_hash[rows],
            self.transcripts.take(rows),
            {label: values[rows] for label, values in self.segments.items()},
            {name: found[rows] for name, found in self.vectors.items()},
            self.measures.take(rows),
        )

    def least(self, at_most: int) -> Sample:
        """The `at_most` exchanges of least hash, ascending."""
        return self.take(np.argsort(self.id_hash, kind="stable")[:at_most])

    def without(self, signals: Collection[str]) -> Sample:
        """The same exchanges without what was measured of some signals."""
        vectors = {name: found for name, found in self.vectors.items() if name not in signals}
        return replace(self, vectors=vectors, measures=self.measures.without(signals))

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
        """Packed fields, for a checkpoint; versioned by the first of them."""
        segments = {label: values.tolist() for label, values in self.segments.items()}
        vectors = {name: (found.shape[1], found.tobytes()) for name, found in self.vectors.items()}
        hashes = self.id_hash.tobytes(), self.session_hash.tobytes(), self.user_hash.tobytes()
        return _FORMAT, *hashes, self.transcripts.dump(), segments, vectors, self.measures.dump()

    @classmethod
    def load(cls, packed: Sequence[Any]) -> Sample:
        """The inverse of `dump`. Raises ValueError for another version."""
        if packed[0] != _FORMAT:
            raise ValueError("samples as another version of driftd keeps them: give another --out")
        _, ids, sessions, users, said, segments, vectors, measures = packed
        return cls(
            np.frombuffer(ids, np.uint64),
            np.frombuffer(sessions, np.uint64),
            np.frombuffer(users, np.uint64),
            Transcripts.load(said),
            {label: np.fromiter(values, np.object_, len(values)) for label, values in segments.items()},
            {name: np.frombuffer(data, np.float16).reshape(-1, width) for name, (width, data) in vectors.items()},
            Measures.load(measures),
        )


def add_samples(parts: Sequence[Sample]) -> Sample:
    """The exchanges of several samples, one behind the other."""
    filled = [part for part in parts if len(part)]
    if len(filled) < 2:
        return filled[0] if filled else Sample()
    return Sample(
        np.concatenate([part.id_hash for part in filled]),
        np.concatenate([part.session_hash for part in filled]),
        np.concatenate([part.user_hash for part in filled]),
        concatenate_transcripts([part.transcripts for part in filled]) or _nothing_said(),
        {label: np.concatenate([part.segments[label] for part in filled]) for label in filled[0].segments},
        add_vectors([(len(part), part.vectors) for part in filled]),
        add_measures([(len(part), part.measures) for part in filled]),
    )
