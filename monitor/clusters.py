"""Clusters of a stream's vectors: a codebook made once from the first of them, and where later ones fall in it.

A codebook is made when enough vectors were sampled, by k-means (Lloyd 1982, started by k-means++), and never changes:
what was learned in it stays comparable. Pure; what is made depends on the vectors and their order alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.cluster import vq

from monitor.model import Categories, Column, Floats, HalfVectors, Ints, Signal, Vectors

CLUSTERS = 16
ENOUGH = 1024
"""Vectors that a codebook is made from."""
ELSEWHERE = "elsewhere"
"""Where vectors fall that are farther from every centre than all but 1 % of those."""
_FARTHEST = 0.99
_ROUNDS = 25
_EMBEDDING, _CLUSTER, _NOVELTY = "_embedding", "_cluster", "_novelty"


def derived(signals: Sequence[Signal]) -> list[Signal]:
    """What is measured by the clusters of the embeddings among some signals.

    >>> [signal.name for signal in derived([Signal("prompt_embedding", "vector"), Signal("relevance", "numeric")])]
    ['prompt_cluster', 'prompt_novelty']
    """
    sides = [(s.name.removesuffix(_EMBEDDING), s.fingerprint) for s in signals if s.name.endswith(_EMBEDDING)]
    return [
        signal
        for side, made_by in sides
        for signal in (
            Signal(side + _CLUSTER, "category", sample=True, fingerprint=made_by),
            Signal(side + _NOVELTY, "numeric", "unit", sample=True, fingerprint=made_by),
        )
    ]


def embedding_of(cluster_signal: str) -> str | None:
    """The vectors that a signal of clusters is made from; None of another signal."""
    return cluster_signal.removesuffix(_CLUSTER) + _EMBEDDING if cluster_signal.endswith(_CLUSTER) else None


@dataclass(frozen=True, slots=True, eq=False)
class Codebook:
    """Centres of clusters, of length one."""

    centres: Floats
    """Shape (clusters, entries)."""
    far: float
    """Novelty beyond which a vector is elsewhere."""

    @classmethod
    def of(cls, vectors: Floats) -> Codebook:
        """The codebook of some vectors of length one, shape (n, entries)."""
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            # An empty cluster keeps the centre that it began with; of fewer different vectors than clusters the centres
            # that are left over begin at the first vector, by way of 0 / 0.
            warnings.simplefilter("ignore", UserWarning)
            centres, _ = vq.kmeans2(vectors, CLUSTERS, iter=_ROUNDS, minit="++", rng=np.random.default_rng(0))
        largest = np.argsort(-np.bincount((vectors @ centres.T).argmax(axis=1), minlength=CLUSTERS), kind="stable")
        lengths = np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
        found = cls((centres / lengths)[largest], np.inf)
        return cls(found.centres, float(np.quantile(found.novelty(vectors), _FARTHEST)))

    @property
    def names(self) -> list[str]:
        """Of the clusters, the largest first, and of what lies elsewhere."""
        return [*(f"c{number + 1:02d}" for number in range(len(self.centres))), ELSEWHERE]

    def novelty(self, vectors: Vectors | Floats) -> Floats:
        """Cosine distance to the nearest centre, 0 .. 1; NaN of a vector that is NaN. Shape (n,)."""
        return self._novelty(self._near(vectors))

    def place(self, vectors: Vectors | Floats) -> Ints:
        """Which of `names` each vector falls in, -1 of a vector that is NaN. Shape (n,)."""
        return self._place(self._near(vectors))

    def measure(self, vectors: Vectors | Floats) -> tuple[Ints, Floats]:
        """`place` and `novelty` in one pass."""
        near = self._near(vectors)
        return self._place(near), self._novelty(near)

    def named(self, known: NDArray[np.object_], vectors: Vectors | HalfVectors) -> NDArray[np.object_]:
        """The names of the clusters: where none is known, by the vectors; None of a vector that is NaN. Shape (n,)."""
        found, rows = known.copy(), np.flatnonzero([name is None for name in known])
        found[rows] = np.array([*self.names, None], np.object_)[self.place(vectors[rows].astype(np.float64))]
        return found

    def _near(self, vectors: Vectors | Floats) -> Floats:
        """Cosine of each vector and each centre. Shape (n, clusters)."""
        return np.asarray(np.asarray(vectors, np.float64) @ self.centres.T, np.float64)

    @staticmethod
    def _novelty(near: Floats) -> Floats:
        return np.asarray(np.clip(1 - near.max(axis=1), 0, 1), np.float64)

    def _place(self, near: Floats) -> Ints:
        known = ~np.isnan(near).any(axis=1)
        found = np.where(self._novelty(near) > self.far, len(self.centres), np.nan_to_num(near).argmax(axis=1))
        return np.where(known, found, -1).astype(np.int64)

    def dump(self) -> bytes:
        return msgspec.msgpack.encode((self.centres.shape[1], self.centres.tobytes(), self.far))

    @classmethod
    def load(cls, data: bytes) -> Codebook:
        """The inverse of `dump`."""
        width, centres, far = msgspec.msgpack.decode(data)
        return cls(np.frombuffer(centres, np.float64).reshape(-1, width), far)


Books = Mapping[tuple[str, str], Codebook]
"""By stream and vector signal."""
NO_BOOKS: Books = {}


@dataclass(slots=True)
class Codebooks:
    """The codebooks of all streams, and the vectors of those that are not made yet."""

    books: dict[tuple[str, str], Codebook] = field(default_factory=dict)
    waiting: dict[tuple[str, str], NDArray[np.float16]] = field(default_factory=dict)

    def columns(self, stream: str, columns: Mapping[str, Column]) -> dict[str, Column]:
        """The signals of clusters for one sample; nothing of those whose codebook is not made.

        Parameters
        ----------
        columns : the vectors among these are also what codebooks are made from, from the next sample on

        """
        found: dict[str, Column] = {}
        for name, column in columns.items():
            if not name.endswith(_EMBEDDING) or not isinstance(column, np.ndarray):
                continue
            side, key = name.removesuffix(_EMBEDDING), (stream, name)
            book = self.books.get(key)
            if book is None:
                self._wait(key, column)
                found[side + _CLUSTER] = Categories([], np.full(len(column), -1, np.int32))
                found[side + _NOVELTY] = np.full(len(column), np.nan)
            else:
                places, found[side + _NOVELTY] = book.measure(column)
                found[side + _CLUSTER] = Categories(book.names, places.astype(np.int32))
        return found

    def _wait(self, key: tuple[str, str], column: Floats | Vectors) -> None:
        known = column[~np.isnan(column).any(axis=1)].astype(np.float16)
        held = self.waiting.pop(key, np.empty((0, column.shape[1]), np.float16))
        held = np.concatenate([held, known])
        if len(held) >= ENOUGH:
            self.books[key] = Codebook.of(held[:ENOUGH].astype(np.float64))
        elif len(held):
            self.waiting[key] = held

    def forget(self, signals: Collection[str]) -> None:
        """Of some vector signals codebooks are made anew."""
        self.books = {key: book for key, book in self.books.items() if key[1] not in signals}
        self.waiting = {key: part for key, part in self.waiting.items() if key[1] not in signals}

    def dump_waiting(self) -> bytes:
        """Packed, for a checkpoint."""
        held: list[Any] = [(key, part.shape[1], part.tobytes()) for key, part in self.waiting.items()]
        return msgspec.msgpack.encode(held)

    def restore_waiting(self, data: bytes) -> None:
        """The inverse of `dump_waiting`."""
        for key, width, part in msgspec.msgpack.decode(data):
            self.waiting[tuple(key)] = np.frombuffer(part, np.float16).reshape(-1, width)
