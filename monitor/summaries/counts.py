"""Sparse counts over integer cells, with the sessions they came from: what every summary is made of.

Merging is a sum of integers, so it is exact, associative and commutative. Sessions are kept apart, because turns of one
conversation are not independent: the unit of a test is then the session, and its value the mean over its records.
Memory is bounded: of the sessions, the SESSIONS of least hash are kept whole, and how many there were is estimated from
the largest hash kept (the k minimum values estimate of Bar-Yossef et al., RANDOM 2002), exactly below the cap.

Where a signal is measured on a sample of each slice, each record measured stands for as many of its slice. Counts then
also hold what they stand for, in fixed point, so that adding slices that were sampled more or less thinly is exact too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from monitor.model import Floats, Hashes, Ints

SESSIONS = 2048
"""Sessions kept of a slice: k in the estimate above, whose relative error is 1/sqrt(k), 2 %."""
STEP_BITS = 16
STEP = 1 << STEP_BITS
"""What a record stands for is counted in steps of 1/STEP."""


def _no_ints() -> Ints:
    return np.empty(0, np.int64)


def _no_hashes() -> Hashes:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Counts of records by cell, and the same by session for those that have one."""

    keys: Ints = field(default_factory=_no_ints)
    """Cells that hold records, ascending."""
    counts: Ints = field(default_factory=_no_ints)
    inside_keys: Ints = field(default_factory=_no_ints)
    """The same for the records that belong to a session, whether or not that session is kept."""
    inside_counts: Ints = field(default_factory=_no_ints)
    session: Hashes = field(default_factory=_no_hashes)
    """Rows (session, cell, count) of the kept sessions, ascending."""
    session_keys: Ints = field(default_factory=_no_ints)
    session_counts: Ints = field(default_factory=_no_ints)
    weighted: Ints = field(default_factory=_no_ints)
    """Of a sample: how many records those of each cell stand for, in steps; empty where all records are measured."""
    squares: int = 0
    """Of a sample: sum over slices of P^2 sum m_j^2/M^2 in steps, P being the records that the M measured ones stand
    for and m_j those of session j (each record without one is a session of its own)."""

    @property
    def n(self) -> int:
        """Records that were measured."""
        return int(self.counts.sum())

    @property
    def sampled(self) -> bool:
        """Whether these are records of a sample."""
        return len(self.weighted) > 0

    @property
    def population(self) -> float:
        """Records that these stand for; where all are measured, their number."""
        return int(self.weighted.sum()) / STEP if self.sampled else self.n

    @property
    def effective(self) -> float:
        """Units of equal weight that would say as much of a mean: Kish's number where records are a sample."""
        return self.population**2 / (self.squares / STEP) if self.sampled else self.units()

    @property
    def mass(self) -> Floats | Ints:
        """The measured records by cell, those of a sample weighted by what they stand for; the sum is `n`."""
        if not self.sampled:
            return self.counts
        return np.asarray(self.weighted * (self.n / int(self.weighted.sum())), np.float64)

    @property
    def loose(self) -> int:
        """Records without a session; each is a unit of its own."""
        return self.n - int(self.inside_counts.sum())

    def sessions(self) -> Hashes:
        """Hashes of the kept sessions, ascending, without repeats."""
        return _once(self.session)

    def session_records(self) -> tuple[Hashes, Ints]:
        """The kept sessions, ascending, and how many records each has."""
        kept = self.sessions()
        if not len(kept):
            return kept, _no_ints()
        return kept, np.add.reduceat(self.session_counts, np.searchsorted(self.session, kept))

    def units(self) -> int:
        """Independent units: distinct sessions and records without one."""
        return self.loose + distinct(self.sessions())

    def merge(self, other: Counts) -> Counts:
        return merge_counts([self, other])

    def arrays(self) -> list[bytes]:
        """Packed fields, for `dump`."""
        packed = [getattr(self, name).astype(kind).tobytes() for name, kind in _FIELDS]
        return [*packed, self.weighted.tobytes(), self.squares.to_bytes(16, "little")] if self.sampled else packed

    @classmethod
    def of_arrays(cls, packed: list[bytes]) -> Counts:
        """The inverse of `arrays`. Raises ValueError where lengths do not agree."""
        fields = zip(packed[: len(_FIELDS)], _FIELDS, strict=True)
        columns: dict[str, Any] = {name: np.frombuffer(data, kind) for data, (name, kind) in fields}
        if len(packed) > len(_FIELDS):
            weighted, squares = packed[len(_FIELDS) :]
            columns |= {"weighted": np.frombuffer(weighted, np.int64), "squares": int.from_bytes(squares, "little")}
        counts = cls(**columns)
        pairs = (counts.keys, counts.counts), (counts.session, counts.session_counts)
        if any(len(a) != len(b) for a, b in pairs) or len(counts.weighted) not in {0, len(counts.keys)}:
            raise ValueError("counts whose columns have different lengths")
        return counts

    def renamed(self, rename: Callable[[Ints], Ints]) -> Counts:
        """The same records with every key replaced by `rename` of it."""
        keys, counts = _sum([rename(self.keys)], [self.counts])
        inside_keys, inside_counts = _sum([rename(self.inside_keys)], [self.inside_counts])
        session, rows, sizes = _least_sessions(self.session, rename(self.session_keys), self.session_counts)
        weighted = _sum([rename(self.keys)], [self.weighted])[1] if self.sampled else self.weighted
        return Counts(keys, counts, inside_keys, inside_counts, session, rows, sizes, weighted, self.squares)

    def by_unit(self) -> Counts:
        """The same records without their sessions, as a sample that stands for the units of a slice.

        Sums of it know the mean over units and slices, and `effective` is (sum n_s)^2 over sum n_s^2/k_s.

        >>> one, other = Counts(np.array([0, 1]), np.array([1, 2])), Counts(np.array([1]), np.array([1]))
        >>> two = one.by_unit().merge(other.by_unit())
        >>> two.project(lambda keys: keys, 2)[0].tolist(), two.population, two.effective
        ([0.25, 0.75], 4.0, 4.0)
        """
        if not self.n:
            return Counts()
        if self.sampled:
            return Counts(self.keys, self.counts, weighted=self.weighted, squares=self.squares)
        if not len(self.session):
            return Counts(self.keys, self.counts, weighted=self.counts << STEP_BITS, squares=self.n << STEP_BITS)
        shares, units, seen = self.project(lambda keys: np.searchsorted(self.keys, keys), len(self.keys))
        weighted = np.rint(shares * units * STEP).astype(np.int64)
        return Counts(self.keys, self.counts, weighted=weighted, squares=round(units**2 / seen * STEP))

    def project(self, place: Callable[[Ints], Ints], cells: int) -> tuple[Floats, float, float]:
        """Mean over units of the share of each coarse cell, units in all (n_s) and units seen whole (k_s).

        Of a sample the mean is over records, those in all are what the sample stands for, and those seen are
        `effective`.

        Parameters
        ----------
        place : maps keys to coarse cells 0 .. `cells` - 1
        cells : number of coarse cells

        """
        if self.sampled:
            steps = np.bincount(place(self.keys), self.weighted, minlength=cells)
            return steps / int(self.weighted.sum()), self.population, self.effective
        shares = np.bincount(place(self.keys), self.counts, minlength=cells)
        if not len(self.session):
            total = self.n
            return shares / max(total, 1), total, total
        shares = shares - np.bincount(place(self.inside_keys), self.inside_counts, minlength=cells)
        kept, means = self.session_means(place, cells)
        loose, sessions = self.loose, distinct(kept)
        units = loose + sessions
        return (shares + sessions * means.mean(axis=0)) / units, units, loose + len(kept)

    def session_means(self, place: Callable[[Ints], Ints], cells: int) -> tuple[Hashes, Floats]:
        """The kept sessions, ascending, and for each the share of its records in each coarse cell."""
        kept, row = np.unique(self.session, return_inverse=True)
        flat = row * cells + place(self.session_keys)
        table = np.bincount(flat, self.session_counts, minlength=len(kept) * cells).reshape(len(kept), cells)
        return kept, table / table.sum(axis=1, keepdims=True)


_FIELDS: tuple[tuple[str, type[np.int64 | np.uint64]], ...] = (
    ("keys", np.int64),
    ("counts", np.int64),
    ("inside_keys", np.int64),
    ("inside_counts", np.int64),
    ("session", np.uint64),
    ("session_keys", np.int64),
    ("session_counts", np.int64),
)


def distinct(kept: Hashes) -> int:
    """How many sessions there were, from the (at most SESSIONS) least hashes of them, ascending.

    >>> distinct(np.array([3, 9, 12], np.uint64))
    3
    """
    if len(kept) < SESSIONS:
        return len(kept)
    return round((SESSIONS - 1) * 2.0**64 / float(kept[SESSIONS - 1]))


def distinct_over(parts: Sequence[Counts]) -> int:
    """How many sessions there were in several counts together."""
    kept = [part.sessions() for part in parts if len(part.session)]
    return distinct(_once(np.sort(np.concatenate(kept)))) if kept else 0


def _once(ascending: Hashes) -> Hashes:
    """Each value once (numpy's own would hash or sort them again)."""
    return ascending[np.concatenate(([True], ascending[1:] != ascending[:-1]))] if len(ascending) else ascending


def merge_counts(parts: list[Counts]) -> Counts:
    """The sum of any number of counts. Raises ValueError where some are of samples and some are not."""
    parts = [part for part in parts if len(part.keys)]
    if len(parts) < 2:
        return parts[0] if parts else Counts()
    if len({part.sampled for part in parts}) > 1:
        raise ValueError("cannot add counts of a sample to counts of all records")
    keys, counts = _sum([part.keys for part in parts], [part.counts for part in parts])
    weighted, squares = _no_ints(), sum(part.squares for part in parts)
    if parts[0].sampled:
        weighted = _sum([part.keys for part in parts], [part.weighted for part in parts])[1]
    if not any(len(part.session) for part in parts):
        return Counts(keys, counts, weighted=weighted, squares=squares)
    inside_keys, inside_counts = _sum([part.inside_keys for part in parts], [part.inside_counts for part in parts])
    session, rows, sizes = _least_sessions(
        np.concatenate([part.session for part in parts]),
        np.concatenate([part.session_keys for part in parts]),
        np.concatenate([part.session_counts for part in parts]),
    )
    return Counts(keys, counts, inside_keys, inside_counts, session, rows, sizes, weighted, squares)


def _sum(keys: list[Ints], counts: list[Ints]) -> tuple[Ints, Ints]:
    """Counts by key, each key once, ascending."""
    distinct_keys, row = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.zeros(len(distinct_keys), np.int64)
    np.add.at(total, row, np.concatenate(counts))
    return distinct_keys, total


def _least_sessions(session: Hashes, keys: Ints, counts: Ints) -> tuple[Hashes, Ints, Ints]:
    """Rows (session, key, count) summed, sorted, and cut to the SESSIONS sessions of least hash."""
    if not len(session):
        return session, keys, counts
    order = np.lexsort((keys, session))
    session, keys, counts = session[order], keys[order], counts[order]
    begins = np.concatenate(([True], (session[1:] != session[:-1]) | (keys[1:] != keys[:-1])))
    first = np.flatnonzero(begins)
    session, keys, counts = session[first], keys[first], np.add.reduceat(counts, first)
    names = _once(session)
    if len(names) > SESSIONS:
        keep = int(np.searchsorted(session, names[SESSIONS]))
        session, keys, counts = session[:keep], keys[:keep], counts[:keep]
    return session, keys, counts


def count_groups(keys: Ints, groups: Ints, number: int, session: Hashes, weight: Floats | None = None) -> list[Counts]:
    """Counts of each group 0 .. `number` - 1 from one cell key, group and session hash (0 = none) a record.

    With `weight`, one entry a group, each group is the sample of a whole slice, and each record stands for so many.
    Raises ValueError for a weight that is not positive.
    """
    if weight is not None:
        parts = count_groups(keys, groups, number, session)
        return [
            _standing_for(part, session[groups == g], steps) if len(part.keys) else part
            for g, (part, steps) in enumerate(zip(parts, in_steps(weight), strict=True))
        ]
    if not len(keys):
        return [Counts()] * number
    low = int(keys.min())
    span = int(keys.max()) - low + 1
    if number * span < 2**62:
        names, codes = None, keys - low
    else:  # hashes of names
        names, codes = np.unique(keys, return_inverse=True)
        low, span = 0, len(names)
    found, counts = _count(groups * span + codes, number * span)
    cell_keys = found % span + low if names is None else names[found % span]
    cuts = np.searchsorted(found, np.arange(number + 1) * span).tolist()
    parts = [Counts(cell_keys[a:b], counts[a:b]) for a, b in pairwise(cuts)]
    if not session.any():
        return parts
    order = np.argsort(groups, kind="stable")
    keys, session = keys[order], session[order]
    rows = pairwise(np.searchsorted(groups[order], np.arange(number + 1)).tolist())
    return [_with_sessions(part, keys[a:b], session[a:b]) for part, (a, b) in zip(parts, rows, strict=True)]


def in_steps(weight: Floats) -> list[int]:
    """What a record of each group stands for, in steps."""
    return [round(w * STEP) for w in weight.tolist()]


def _standing_for(part: Counts, session: Hashes, steps: int) -> Counts:
    """The sample of a slice, given the session of each of its records and how many steps each stands for."""
    if steps <= 0:
        raise ValueError("a record of a sample must stand for more than nothing")
    sizes = np.unique(session[session != 0], return_counts=True)[1]
    together = int((sizes**2).sum()) + part.loose
    return replace(part, weighted=part.counts * steps, squares=steps**2 * together >> STEP_BITS)


def _count(flat: Ints, cells: int) -> tuple[Ints, Ints]:
    """Distinct values below `cells`, ascending, and how often each occurs; by table where that is not too large."""
    if cells <= 16 * len(flat) + 4096:
        table = np.bincount(flat, minlength=cells)
        found = np.flatnonzero(table)
        return found, table[found]
    return np.unique(flat, return_counts=True)


def _with_sessions(part: Counts, keys: Ints, session: Hashes) -> Counts:
    inside = session != 0
    keys, ones = keys[inside], np.ones(int(inside.sum()), np.int64)
    inside_keys, inside_counts = _sum([keys], [ones])
    session, rows, sizes = _least_sessions(session[inside], keys, ones)
    return Counts(part.keys, part.counts, inside_keys, inside_counts, session, rows, sizes)


def pack(kind: str, payload: object) -> bytes:
    """One versioned blob."""
    return msgspec.msgpack.encode((kind, 1, payload))


def unpack(kind: str, data: bytes) -> Any:
    """The payload of a blob of `kind`. Raises ValueError where it is something else."""
    try:
        found, version, payload = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise ValueError(f"not a packed {kind} summary: {error}") from None
    if (found, version) != (kind, 1):
        raise ValueError(f"expected a {kind} summary of version 1, found {found} of version {version}")
    return payload
