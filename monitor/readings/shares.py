"""Whether shares of the units have changed since the reference: what decides for numbers, categories and rates.

The evidence of a series is the mean of that of its shares (the mean of e-values is one). A series is decided where that
passes one over the error probability that a slice may spend, and stays decided until for a whole window what it shows
does not matter or says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from monitor.calibration import decided
from monitor.evidence import (
    MIX,
    STARTS,
    SUMS,
    Evidence,
    ShareNulls,
    join_nulls,
    no_nulls,
    variances,
)
from monitor.model import Flags, Floats, Ints, Scope
from monitor.readings.effects import (
    Effects,
    Gathered,
    Shape,
    category_effects,
    no_effects,
    numeric_effects,
    rate_effects,
    window_counts,
)
from monitor.readings.intervals import Z_STRETCH, Uncertain, Z, of_differences
from monitor.readings.packing import packed_names, packed_shares, rows_but
from monitor.readings.trends import Trend, slopes
from monitor.readings.verdicts import followed, mean_log
from monitor.readings.watched import Watched
from monitor.settings import DAY
from monitor.windows import SLICES, Slice

_UNKNOWN = 1e12
"""Variance of a share of no units, over rate (1 - rate)."""


@dataclass(frozen=True, slots=True)
class Shares:
    """What one pass over the series of a window found. Shape (S,) each."""

    p_value: Floats
    effects: Effects
    detectable: Floats
    decided: Flags
    stretching: Flags
    """Whether the effects are those of the strongest stretch of slices, not of the window."""
    records: Ints
    units: Ints
    since: Ints
    """Slices in the strongest stretch."""
    known: Floats
    """Units of the reference that say what is usual."""


@dataclass(slots=True)
class ShareTable:
    """All series of one window size that are watched by shares."""

    size: int
    series: list[Watched] = field(default_factory=list)
    first: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    """Of each series its first share, and at the end how many there are."""
    effect_nulls: ShareNulls = field(default_factory=no_nulls)
    """What the intervals of effects follow from."""
    effect_first: list[int] = field(default_factory=lambda: [0])
    """Of each series the first of them, and at the end how many there are."""
    held: Floats = field(default_factory=lambda: np.zeros((0, SLICES, 2)))
    """Units in all and units scored of the last twelve slices of each series, the newest last."""
    evidence: Evidence = field(default_factory=lambda: Evidence.begin(no_nulls()))
    drifting: Flags = field(default_factory=lambda: np.empty(0, np.bool_))
    """Decided, and not yet calm for a window."""
    calm: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Slices for which the window has been calm since the decision."""

    def join(self, watched: Watched, window: Sequence[tuple[int, Slice]]) -> None:
        """Add a series, with the evidence of the slices that its window holds already."""
        evidence, slices = Evidence.begin(watched.nulls), dict(window)
        held = np.zeros((1, SLICES, 2))
        for place in range(min(slices, default=SLICES), SLICES):
            columns, held[:, place] = self._of_slice([watched], slices.get(place))
            evidence.step(*columns)
        self.held = np.concatenate([self.held, held])
        self.effect_first.append(self.effect_first[-1] + len(watched.effect_nulls))
        self.effect_nulls = join_nulls([self.effect_nulls, watched.effect_nulls])
        self.series.append(watched)
        self.evidence.join(evidence)
        self.first = np.append(self.first, self.first[-1] + len(watched.nulls))
        self.drifting, self.calm = np.append(self.drifting, False), np.append(self.calm, 0)

    def push(self, found: Slice | None) -> None:
        """The next slice (None: without records)."""
        if self.series:
            columns, held = self._of_slice(self.series, found)
            self.evidence.step(*columns)
            self.held = np.concatenate([self.held[:, 1:], held[:, None]], axis=1)

    @staticmethod
    def _of_slice(series: Sequence[Watched], found: Slice | None) -> tuple[Floats, Floats]:
        """Share of the units in each share of the series, units in all and units scored, shape (3, shares).

        Where a series has a cycle there are two more rows, as in `Evidence.step`. With it the units of each series, in
        all and scored, shape (S, 2).
        """
        rows = 3 if all(watched.season is None for watched in series) else 5
        columns = np.zeros((rows, sum(len(watched.nulls) for watched in series)))
        held, begin = np.zeros((len(series), 2)), 0
        for place, watched in enumerate(series):
            of_slice = None if found is None else watched.shares(found)
            mine = slice(begin, begin + len(watched.nulls))
            if of_slice is not None:
                for row, column in enumerate(of_slice):
                    columns[row, mine] = column
                held[place] = of_slice[1:3]
            begin = mine.stop
        return columns, held

    def p_values(self) -> Floats:
        """Of each series, one over its evidence, at most 1. Shape (S,)."""
        least: Floats = np.exp(-np.maximum(mean_log(self.evidence.log_sum, self.first), 0))
        return least

    def read(self, window: Sequence[tuple[int, Slice]], threshold: Floats) -> Shares:
        """Where the evidence stands, and what the present window shows.

        Parameters
        ----------
        window : the slices of the window
        threshold : error probability that each slice of each series may spend, shape (S,)

        """
        matters = np.array([watched.matters for watched in self.series])
        counts = window_counts([watched.reference for watched in self.series], window)
        mixes = [watched.mix(window) for watched in self.series]
        found = self._effects(np.arange(len(self.series)), counts, np.full(len(self.series), SLICES), mixes)
        since, p_value = self._since(), self.p_values()
        beyond = p_value <= threshold
        stretching = beyond & ~self.drifting
        still = np.abs(found.effect) < matters
        self._by_stretch(np.flatnonzero(stretching), since, window, found)
        drift = self.drifting | decided(p_value, threshold, found.effect, matters)
        records = np.array([part.n for part in counts], np.int64)
        recent = mean_log(self.evidence.recent(SLICES), self.first)
        self._follow(drift, (records > 0) & (still | (recent <= 0)))
        each = list(zip(self.series, counts, threshold.tolist(), mixes, strict=True))
        detectable = np.array(
            [
                watched.detectable(watched.like_reference(part.known, part.n), spent, mix)
                for watched, part, spent, mix in each
            ]
        )
        known = np.array([watched.known(mix) for watched, _, _, mix in each])
        units = np.array([part.units for part in counts], np.int64)
        return Shares(p_value, found, detectable, drift, stretching, records, units, since, known)

    def _by_stretch(self, rows: Ints, since: Ints, window: Sequence[tuple[int, Slice]], found: Effects) -> None:
        """Put the effects of the strongest stretch in the place of the window's: what changed may have just begun."""
        short = rows[since[rows] < SLICES]
        recent = [[part for part in window if part[0] >= SLICES - since[row]] for row in short.tolist()]
        each = list(zip([self.series[row] for row in short.tolist()], recent, strict=True))
        parts = [window_counts([watched.reference], slices)[0] for watched, slices in each]
        mixes = [watched.mix(slices) for watched, slices in each]
        stretch = self._effects(short, parts, since[short], mixes, Z_STRETCH)
        for name in ("effect", "decile", "moved", "low", "high"):
            getattr(found, name)[short] = getattr(stretch, name)
        of_category = [self.series[row].reference.signal.kind == "category" for row in short.tolist()]
        for name in ("value", "reference_value"):  # those of the value that moved most
            getattr(found, name)[short[of_category]] = getattr(stretch, name)[of_category]
        rates = np.array([row for row in rows.tolist() if self.series[row].reference.signal.kind == "rate"], np.int64)
        shares = self.first[rates]
        rate = np.array([self.evidence.strongest(share)[1] for share in shares.tolist()])
        known, in_slice, ages = self.evidence.strongest_known(shares)
        usual, knowing = self.evidence.strongest_usual(shares)
        here = variances(self.evidence.nulls, shares, known, in_slice=in_slice, ages=ages)
        found.effect[rates] = rate - usual
        found.low[rates], found.high[rates] = of_differences(rate, usual, here, 1 / knowing, Z_STRETCH)

    def trends(self, rows: Sequence[int], moved: Sequence[str], *, strongest: bool) -> list[Trend | None]:
        """How fast some series change.

        Parameters
        ----------
        moved : what of each series moved, as its reading says
        strongest : over the strongest stretch of the share that is told of, not over all that is remembered

        """
        told: list[tuple[int, float, str] | None] = []
        for row, name in zip(rows, moved, strict=True):
            begin, end = self.first[row : row + 2].tolist()
            last = min(end, begin + len(self.series[row].yes))
            most = int(self.evidence.log_sum[begin:last].argmax()) if last > begin else 0
            found = self.series[row].trend_of(name, most)
            told.append(None if found is None else (begin + found[0], *found[1:]))
        shares = np.array([found[0] for found in told if found is not None], np.int64)
        last = np.array([self.evidence.strongest(share)[0] for share in shares.tolist()]) if strongest else None
        lines = iter(zip(*(part.tolist() for part in slopes(self.evidence, shares, last)), strict=True))
        a_day = DAY / (self.size // SLICES)
        result: list[Trend | None] = []
        for found in told:
            line = None if found is None else next(lines)
            if found is None or line is None or np.isnan(line[0]):
                result.append(None)
                continue
            value, *ends = (found[1] * a_day * part for part in line)
            result.append(Trend(value, min(ends), max(ends), found[2]))
        return result

    def _since(self) -> Ints:
        """Slices in the strongest stretch of the strongest share of each series."""
        since = np.zeros(len(self.series), np.int64)
        for row, (begin, end) in enumerate(zip(self.first[:-1].tolist(), self.first[1:].tolist(), strict=True)):
            if end > begin:
                strongest = begin + int(self.evidence.log_sum[begin:end].argmax())
                since[row] = self.evidence.strongest(strongest)[0]
        return since

    def _effects(
        self, rows: Ints, counts: Sequence[Gathered], ages: Ints, mixes: Sequence[Floats | None], z: float = Z
    ) -> Effects:
        """Of the series at `rows` in their last slices, `ages` of them, by their kind.

        With a cycle they are held against phases with the weights of `mixes`.
        """
        shapes = [
            self.series[row].shape if mix is None else Shape(self.series[row].reference, mix)
            for row, mix in zip(rows.tolist(), mixes, strict=True)
        ]
        found, known = no_effects(len(rows)), self._uncertain(rows, ages, mixes, shapes, z)
        kinds = [self.series[row].reference.signal.kind for row in rows.tolist()]
        for kind in sorted(set(kinds)):
            mine = np.flatnonzero([of == kind for of in kinds])
            places = mine.tolist()
            watched, parts = [self.series[rows[at]] for at in places], [counts[at] for at in places]
            of_kind, doubts = [shapes[at] for at in places], [known[at] for at in places]
            if kind == "category":
                found.put(mine, category_effects(of_kind, [one.yes for one in watched], parts, doubts))
            else:
                found.put(mine, (numeric_effects if kind == "numeric" else rate_effects)(of_kind, parts, doubts))
        return found

    def _uncertain(
        self, rows: Ints, ages: Ints, mixes: Sequence[Floats | None], shapes: Sequence[Shape], z: float
    ) -> list[Uncertain]:
        """How well the shares of some series are known from their last slices."""
        last = np.arange(SLICES) >= SLICES - ages[:, None]
        units, seen = np.moveaxis(self.held[rows], 2, 0)
        squares = np.where(last & (seen > 0), units, 0) ** 2
        total, inverse = np.sqrt(squares).sum(axis=1), (squares / np.maximum(seen, 1e-300)).sum(axis=1)
        some = inverse > 0
        inverse = np.where(some, inverse, 1.0)
        places = [np.arange(*self.effect_first[row : row + 2]) for row in rows.tolist()]
        of = np.repeat(np.arange(len(rows)), [len(mine) for mine in places])
        flat, nulls = np.concatenate([np.empty(0, np.int64), *places]), self.effect_nulls
        total, squares = np.where(some, total, 1.0), np.where(some, squares.sum(axis=1), 1.0)
        known, in_slice = total**2 / inverse, squares / inverse
        here = variances(nulls, flat, known[of], in_slice=in_slice[of], ages=ages[of])
        here, ends = np.where(some[of], here, _UNKNOWN), np.cumsum([0, *map(len, places)]).tolist()
        found = []
        for at, (row, mine) in enumerate(zip(rows.tolist(), places, strict=True)):
            watched, mix, of_stretch = self.series[row], mixes[at], here[ends[at] : ends[at + 1]]
            if mix is None:
                found.append(Uncertain(nulls.rate[mine], of_stretch, 1 / nulls.known[mine], z, watched.ends))
                continue
            there = 1 / watched.known_in(watched.effect_nulls, mix, int(ages[at]))
            of_deciles = watched.ends_of(shapes[at], there)
            found.append(Uncertain(nulls.rate[mine], of_stretch, there, z, of_deciles))
        return found

    def _follow(self, decided: Flags, calm: Flags) -> None:
        """Remember decisions; after a calm window the evidence begins anew."""
        self.drifting, self.calm, over = followed(decided, calm, self.calm)
        for row in over:
            self.evidence.restart(np.arange(int(self.first[row]), int(self.first[row + 1])))

    def dump(self) -> bytes:
        """What cannot be derived from references, packed."""
        counts = np.diff(self.first).tolist()
        columns = [*self.evidence.state(), self.drifting, self.calm]
        columns += [] if self.evidence.mix is None else [self.evidence.mix]
        return msgspec.msgpack.encode(
            (self._names(), counts, [np.ascontiguousarray(column).tobytes() for column in columns])
        )

    def restore(self, data: bytes) -> None:
        """Put the state of `dump` back, after the same series have joined. Raises ValueError where others have."""
        names, counts, columns = msgspec.msgpack.decode(data)
        if names != self._names() or counts != np.diff(self.first).tolist():
            raise ValueError("evidence of other series than the references hold")
        shares = sum(counts)
        steps, births = (np.frombuffer(column, np.int64).copy() for column in columns[:2])
        sums = np.frombuffer(columns[2], np.float64).copy()
        mix = np.frombuffer(columns[5], np.float64).reshape(shares, STARTS, MIX).copy() if columns[5:] else None
        self.evidence.put_back(steps, births.reshape(shares, STARTS), sums.reshape(shares, STARTS, SUMS), mix)
        self.drifting = np.frombuffer(columns[3], np.bool_).copy()
        self.calm = np.frombuffer(columns[4], np.int64).copy()

    def _names(self) -> list[list[str | None]]:
        return packed_names([watched.reference for watched in self.series])


def without(data: bytes, gone: Collection[tuple[Scope, str]]) -> bytes:
    """What `ShareTable.dump` packed, less some series."""
    names, counts, columns = msgspec.msgpack.decode(data)
    kept = rows_but(names, gone)
    packed = packed_shares(columns, {3, 4}, counts, kept)
    return msgspec.msgpack.encode(([names[row] for row in kept], [counts[row] for row in kept], packed))
