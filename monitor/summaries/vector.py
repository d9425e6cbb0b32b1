"""Vectors: sums of the vectors, of random Fourier features and of second moments, and a few rows.

The features make a kernel's mean embedding a plain mean: their inner product is, on average over frequencies, that of
Gaussian kernels of several bandwidths (Rahimi and Recht, NIPS 2007; frequencies orthogonal in blocks, which lessens the
error, Yu et al., NIPS 2016). Frequencies and the projection of the moments are fixed: they follow from the number of
entries alone. All sums are in fixed point, so that adding is exact in any order. Bandwidths are for vectors of length
one, as sentence embeddings are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from monitor.model import Floats, Hashes, Ints, Signal, Vectors
from monitor.summaries.counts import STEP, STEP_BITS, Counts, count_groups, in_steps, merge_counts, pack, unpack

Bytes = NDArray[np.int8]

BANDWIDTHS: Floats = np.array([0.7, 1.0, 1.4, 2.0])
"""Standard deviations of the Gaussian kernels, where unrelated texts are 1.4 apart. Wider ones see no more of a topic
that grows, narrower ones need twice the records for it."""
FREQUENCIES = 256
FEATURES = 2 * FREQUENCIES
"""Cosine and sine of each frequency, so that the squares of all features of a vector add up to 1."""
PROJECTED = 24
"""Dimensions in which second moments are kept."""
ROWS = 8
"""Units of a slice that are kept themselves: those with the records of least hash."""
_BYTE = 127
"""Features of these are kept in steps of 1/_BYTE: the errors of all 512 add up to 1e-5 of a squared length."""
_UNIT = 1 << 20
"""Entries, features and products are counted in units of 1/_UNIT."""
_GREATEST = 1e6
"""Rows with an entry beyond are no observation, as are those with NaN: no sum overflows."""
_SIDE = 1 << 16
"""Projections are counted in units of 1/_SIDE."""
_ENTRY = 1 << 12
_DIRECTION = 1 << 8
"""Phases are made of entries in units of 1/_ENTRY and frequencies in units of 1/_DIRECTION: below 16 a float32 holds
every sum of their products exactly, so that features do not depend on which vectors share a batch. The first moves a
vector by 0.001 of its length, the second is no error: these are the frequencies."""


def _normal(seed: int, rows: int, columns: int) -> Floats:
    """Normal variates by inversion of the raw stream of a bit generator, which no version of numpy changes."""
    raw = np.random.PCG64(seed).random_raw(rows * columns).reshape(rows, columns)
    variates: Floats = special.ndtri(((raw >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53)
    return variates


def _rounded(values: Floats) -> Floats:
    rounded: Floats = np.rint(values * _DIRECTION) / _DIRECTION
    return rounded


@lru_cache(maxsize=8)
def frequencies(size: int) -> Floats:
    """The frequencies for vectors of `size` entries. Shape (size, FREQUENCIES)."""
    blocks = -(-FREQUENCIES // size)
    normal = _normal(size, blocks * size, 2 * size).reshape(blocks, size, 2 * size)
    directions = np.concatenate([np.linalg.qr(block[:, :size])[0] for block in normal], axis=1)
    lengths = np.concatenate([np.linalg.norm(block[:, size:], axis=0) for block in normal])
    bandwidth = BANDWIDTHS[np.arange(FREQUENCIES) % len(BANDWIDTHS)]
    return _rounded(directions[:, :FREQUENCIES] * lengths[:FREQUENCIES] / bandwidth)


@lru_cache(maxsize=8)
def projection(size: int) -> Floats:
    """The projection of vectors of `size` entries; it keeps squared lengths on average. Shape (size, at most 24)."""
    if size <= PROJECTED:
        return np.eye(size)
    return _rounded(_normal(size + 2**32, size, PROJECTED) / np.sqrt(PROJECTED))


@lru_cache(maxsize=8)
def _directions(size: int) -> Vectors:
    """Frequencies and, behind them, the projection, for entries in units of 1/_ENTRY."""
    return np.asarray(np.concatenate([frequencies(size), projection(size)], axis=1) / _ENTRY, np.float32)


def _in_units(vectors: Vectors | NDArray[np.float16], unit: int) -> Vectors:
    """Entries in units of 1/`unit`, whole numbers."""
    whole: Vectors = vectors.astype(np.float32) * np.float32(unit)
    return np.rint(whole, out=whole)


def _waves(phase: Vectors) -> Vectors:
    """Cosines and sines. Shapes (n, FREQUENCIES) -> (n, FEATURES)."""
    waves: Vectors = np.empty((len(phase), FEATURES), np.float32)
    np.cos(phase, out=waves[:, :FREQUENCIES])
    np.sin(phase, out=waves[:, FREQUENCIES:])
    return waves


def embed(vectors: Vectors | NDArray[np.float16]) -> Floats:
    """The features of each vector, of length one. Shapes (n, d) -> (n, FEATURES).

    >>> e = embed(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32))
    >>> (e @ e.T).round(2).tolist()  # the mean of exp(-2/(2 s^2)) over the bandwidths s is 0.47
    [[1.0, 0.48], [0.48, 1.0]]
    """
    along = _in_units(vectors, _ENTRY) @ _directions(vectors.shape[1])
    features: Floats = _waves(along[:, :FREQUENCIES]).astype(np.float64) / np.sqrt(FREQUENCIES)
    return features


def farthest(units: Floats, mean: Floats) -> float:
    """The greatest mean squared distance of the records of a unit from `mean`, in features; 0 of no unit.

    Parameters
    ----------
    units : mean features of each unit, shape (n, FEATURES)
    mean : shape (FEATURES,)

    """
    apart: Floats = 1 - 2 * (units @ mean) + float(mean @ mean)
    return float(apart.max(initial=0.0))


def _no_sums() -> Ints:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """Observations of a vector signal in one slice of one scope.

    Records always count as a sample's; where all were measured each stands for itself. A unit is what one session says
    in one slice, or a record without a session.
    """

    fingerprint: str
    size: int
    cells: Counts = field(default_factory=Counts)
    """One cell, 0: how many records, of which sessions, standing for how many."""
    sums: Ints = field(default_factory=_no_sums)
    """Of the vectors, each record weighted by what it stands for. Shape (size,)."""
    features: Ints = field(default_factory=_no_sums)
    """The same of their cosines and sines. Shape (FEATURES,)."""
    moments: Ints = field(default_factory=_no_sums)
    """The same of the products of their projections, upper triangle by rows."""
    alike: int = 0
    """Sum over slices of P^2 sum m_j^2 |f_j|^2/M^2 in steps, f_j being the mean features of unit j: `squares` of the
    cells where the records of each unit are the same, less where they differ."""
    order: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    """Least hash of a record in each unit kept, ascending."""
    sizes: Ints = field(default_factory=_no_sums)
    """Records of each."""
    rows: Bytes = field(default_factory=lambda: np.empty((0, FEATURES), np.int8))
    """Mean cosines and sines of each. Shape (at most ROWS, FEATURES)."""

    @classmethod
    def empty(cls, signal: Signal) -> Self:
        return cls(signal.fingerprint, signal.size)

    @classmethod
    def grouped(
        cls,
        signal: Signal,
        values: Vectors,
        groups: Ints,
        number: int,
        session: Hashes,
        *,
        weight: Floats | None = None,
        order: Hashes | None = None,
    ) -> list[Self]:
        """One summary for each group 0 .. `number` - 1 of the records. Raises ValueError for another width."""
        if order is None:
            raise ValueError(f"{signal.name}: vectors are summarised with the hashes of their records")
        if values.shape[1:] != (signal.size,):
            raise ValueError(f"{signal.name}: vectors of {signal.size} entries expected, found {values.shape[1:]}")
        seen = np.flatnonzero((np.abs(values) < _GREATEST).all(axis=1))  # false of NaN, too
        seen = seen[np.lexsort((order[seen], groups[seen]))]
        values, groups, session, order = values[seen], groups[seen], session[seen], order[seen]
        weight = np.ones(number) if weight is None else weight
        cells = count_groups(np.zeros(len(seen), np.int64), groups, number, session, weight)
        cuts = np.searchsorted(groups, np.arange(number + 1))
        whole = _in_units(values, _UNIT)
        along = _in_units(values, _ENTRY) @ _directions(signal.size)
        waves = _waves(along[:, :FREQUENCIES])
        waves *= np.float32(_UNIT)
        np.rint(waves, out=waves)
        found, at = [], np.rint(along[:, FREQUENCIES:].astype(np.float64) * _SIDE)
        for g, steps in enumerate(in_steps(weight)):
            mine = slice(int(cuts[g]), int(cuts[g + 1]))
            if mine.start == mine.stop:
                found.append(cls.empty(signal))
                continue
            sums, features = (_total(part[mine], steps / STEP) for part in (whole, waves))
            moments = _second_moments(at[mine], steps / STEP)
            alike, first, sizes, rows = _units(waves[mine], session[mine])
            kept = order[mine][first]
            made_by = signal.fingerprint, signal.size
            alike = steps**2 * alike >> 2 * STEP_BITS
            found.append(cls(*made_by, cells[g], sums, features, moments, alike, kept, sizes, rows))
        return found

    @property
    def n(self) -> int:
        return self.cells.n

    def _mean(self, sums: Ints) -> Floats:
        """Mean over the records that these stand for; NaN where there are none."""
        return sums / _UNIT / self.cells.population if self.n else np.full(len(sums), np.nan)

    @property
    def centroid(self) -> Floats:
        """The mean vector. Shape (size,)."""
        return self._mean(self.sums) if self.n else np.full(self.size, np.nan)

    @property
    def embedding(self) -> Floats:
        """The mean of the features. Shape (FEATURES,)."""
        return self._mean(self.features) / np.sqrt(FREQUENCIES) if self.n else np.full(FEATURES, np.nan)

    @property
    def projected(self) -> Floats:
        """Mean, the first column, and covariance in the projection. Shape (m, m + 1), m = min(24, size)."""
        mean = self.centroid @ projection(self.size)
        second = np.full((len(mean), len(mean)), np.nan)
        if self.n:
            upper = np.triu_indices(len(mean))
            second[upper] = self._mean(self.moments)
            second.T[upper] = second[upper]
        return np.column_stack([mean, second - np.outer(mean, mean)])

    @property
    def units(self) -> Floats:
        """The mean features of the units kept. Shape (at most ROWS, FEATURES)."""
        units: Floats = self.rows / (_BYTE * np.sqrt(FREQUENCIES))
        return units

    @property
    def agreement(self) -> float:
        """Mean squared length of a unit's mean features, each weighted by the square of its records; NaN of nothing."""
        return self.alike / self.cells.squares if self.n else float("nan")

    def slim(self, rows: int) -> Self:
        """What tells how slices differ and nothing else: features, their weight, sessions and at most `rows` units."""
        kept = replace(self, order=self.order[:rows], sizes=self.sizes[:rows], rows=self.rows[:rows])
        return replace(kept, sums=_no_sums(), moments=_no_sums())

    def merge(self, other: Self) -> Self:
        return self.merged([self, other])

    @classmethod
    def merged(cls, parts: list[Self]) -> Self:
        """The sum of one or more summaries. Raises ValueError where different models made the vectors."""
        first = parts[0]
        for part in parts:
            if (part.fingerprint, part.size) != (first.fingerprint, first.size):
                raise ValueError(f"cannot add vectors of {_made_by(part)} to vectors of {_made_by(first)}")
        parts = [part for part in parts if part.n]
        if len(parts) < 2:
            return parts[0] if parts else first
        if len({len(part.sums) for part in parts}) > 1:
            raise ValueError("cannot add a whole summary of vectors to one that was made slim")
        sums, features, moments = (
            np.sum([getattr(part, name) for part in parts], axis=0) for name in ("sums", "features", "moments")
        )
        order, sizes, rows = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("order", "sizes", "rows")
        )
        least, alike = _least(order, sizes, rows), sum(part.alike for part in parts)
        cells, made_by = merge_counts([part.cells for part in parts]), (first.fingerprint, first.size)
        return cls(*made_by, cells, sums, features, moments, alike, order[least], sizes[least], rows[least])

    def dump(self) -> bytes:
        arrays = [getattr(self, name).tobytes() for name in _ARRAYS]
        alike = self.alike.to_bytes(16, "little")
        return pack("vector", (self.fingerprint, self.size, self.cells.arrays(), alike, arrays))

    @classmethod
    def load(cls, data: bytes) -> Self:
        fingerprint, size, cells, alike, arrays = unpack("vector", data)
        sums, features, moments, sizes = (np.frombuffer(part, np.int64) for part in arrays[:4])
        order, rows = np.frombuffer(arrays[4], np.uint64), np.frombuffer(arrays[5], np.int8)
        whole = len(sums) in {0, size} and len(features) in {0, FEATURES} and len(sizes) == len(order)
        if not whole or len(rows) != len(order) * FEATURES:
            raise ValueError("a vector summary whose columns have different lengths")
        rows, alike = rows.reshape(len(order), FEATURES), int.from_bytes(alike, "little")
        return cls(fingerprint, size, Counts.of_arrays(cells), sums, features, moments, alike, order, sizes, rows)


_ARRAYS = ("sums", "features", "moments", "sizes", "order", "rows")


def _units(waves: Vectors, session: Hashes) -> tuple[int, Ints, Ints, Bytes]:
    """How alike the records of units are, and the units kept: their first record, their records, their mean features.

    Parameters
    ----------
    waves : cosines and sines in units of 1/_UNIT, records in ascending order of hash, shape (n, FEATURES)
    session : of each record, shape (n,)

    """
    first, sizes, rows = np.arange(len(waves)), np.ones(len(waves), np.int64), waves[:ROWS].astype(np.float64)
    alike = STEP * len(waves)
    if session.any():
        rows = waves.astype(np.float64)
        own = np.where(session == 0, first, len(waves) + np.unique(session, return_inverse=True)[1])
        _, first, unit, sizes = np.unique(own, return_index=True, return_inverse=True, return_counts=True)
        rows = np.add.reduceat(rows[np.argsort(unit, kind="stable")], np.cumsum(sizes) - sizes)
        lengths = np.where(sizes > 1, (rows**2).sum(axis=1) / (_UNIT**2 * FREQUENCIES), 1)
        alike = round(float(lengths.sum()) * STEP)
        order = np.argsort(first)
        first, sizes, rows = first[order], sizes[order], rows[order]
    mean = rows[:ROWS] / (sizes[:ROWS, None] * (_UNIT / _BYTE))
    return alike, first[:ROWS], sizes[:ROWS], np.rint(mean).astype(np.int8)


def _total(part: Vectors, weight: float) -> Ints:
    """Weighted sum of rows; that of whole numbers is exact, whatever their order."""
    total: Ints = np.rint(np.ones(len(part)) @ part.astype(np.float64) * weight).astype(np.int64)
    return total


def _second_moments(at: Floats, weight: float) -> Ints:
    """The same of products of columns, upper triangle by rows.

    Parameters
    ----------
    at : projections in whole units of 1/_SIDE

    """
    products = (at.T @ at)[np.triu_indices(at.shape[1])]
    moments: Ints = np.rint(products * (weight * _UNIT / _SIDE**2)).astype(np.int64)
    return moments


def _least(order: Hashes, sizes: Ints, rows: Bytes) -> Ints:
    """Where the ROWS units of least hash are; of equal hashes, whose bytes come first."""
    at: Ints = np.argsort(order, kind="stable")
    if (order[at[1:]] == order[at[:-1]]).any():
        keys = [(int(order[i]), rows[i].tobytes(), int(sizes[i])) for i in range(len(order))]
        at = np.array(sorted(range(len(order)), key=keys.__getitem__), np.int64)
    return at[:ROWS]


def _made_by(part: Vector) -> str:
    return f"{part.fingerprint or 'no named model'} ({part.size} entries)"
