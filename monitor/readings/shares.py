"""Whether shares of the units have changed since the reference: what decides for numbers, categories and rates.

A rate is one share. A number is watched by up to five quantiles of the reference, each the share of units at or below
it, and by the share outside the outer ones; a category by the share of each value that is frequent enough, of all
others as one, and of parts of these: those the reference does not know, and groups of rare ones. The evidence of a
series is the mean of that of its shares (the mean of e-values is one). A series is decided where that passes one over
the error probability that a slice may spend, and stays decided until for a whole window what it shows does not matter
or says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import msgspec
import numpy as np

from monitor.calibration import Season, decided, like_reference
from monitor.evidence import (
    MIX,
    STARTS,
    SUMS,
    Evidence,
    ShareNulls,
    join_nulls,
    no_nulls,
    share_nulls,
    shown_by,
    variances,
)
from monitor.model import Flags, Floats, Ints, Scope
from monitor.readings.effects import (
    Effects,
    Gathered,
    Shape,
    category_effects,
    category_names,
    decile_ends,
    no_effects,
    numeric_effects,
    rate_effects,
    window_counts,
)
from monitor.readings.intervals import Z_STRETCH, Uncertain, Z, of_differences
from monitor.readings.packing import packed_names, packed_shares, rows_but
from monitor.readings.trends import Trend, slopes
from monitor.readings.verdicts import followed, mean_log
from monitor.reference import SeriesReference
from monitor.settings import DAY
from monitor.windows import SLICES, Slice

_QUANTILES = (1 / 16, 1 / 4, 1 / 2, 3 / 4, 15 / 16)
"""Of the reference, by which numbers are watched: its location by the middle, its spread and tails by the others."""
_VALUE_UNITS = 10
"""Units of a window that a value of a category is expected to have to be watched by itself."""
_VALUES = 17
"""Most values of a category that are watched by themselves; there are as many clusters and one for none of them."""
_GROUPS = 8
"""Most groups of rare values."""
_CHANGES: Floats = np.geomspace(0.001, 0.95, 100)
"""Changes of a share that are tried for the smallest that would have shown."""
_LADDER = 8
"""Sizes of windows, to an octave, for which that is worked out."""
_UNKNOWN = 1e12
"""Variance of a share of no units, over rate (1 - rate)."""


def quantile_bins(mean: Floats) -> Flags:
    """Which bins lie below each watched quantile, given their shares. Shape (shares, bins)."""
    below: Floats = np.cumsum(mean)[:-1]
    inside = np.flatnonzero((below > 0) & (below < 1))
    cuts = sorted({int(inside[np.abs(below[inside] - q).argmin()]) for q in _QUANTILES}) if len(inside) else []
    last = np.array(cuts, np.int64).reshape(-1, 1)
    below_cut: Flags = np.less_equal(np.arange(len(mean)), last)
    return below_cut


def outside_bins(below: Flags) -> Flags:
    """Which bins lie beyond the outer two of some quantiles, given those below each. Shape (0 or 1, bins)."""
    return below[:1] | ~below[-1:] if len(below) > 1 else below[:0]


def value_bins(mean: Floats, in_window: float) -> Flags:
    """Which bins make up each watched value, given their shares and the units of a window; the last is all rare ones.

    Shape (shares, bins).
    """
    order = np.argsort(-mean[:-1], kind="stable")[:_VALUES]
    kept = np.sort(order[mean[order] * in_window >= _VALUE_UNITS])
    yes = np.zeros((len(kept) + 1, len(mean)), np.bool_)
    yes[np.arange(len(kept)), kept] = True
    yes[-1] = ~yes.any(axis=0)
    return yes


def rare_bins(mean: Floats, rare: Flags, in_window: float) -> Flags:
    """Parts of the values that are watched as one, so that one of them that comes up is not lost among the others.

    Those that the reference does not know, and groups of its rare ones, dealt out by how frequent they are.

    Parameters
    ----------
    mean : shares of the bins, the last of them of all values that the reference does not know
    rare : which of the bins are watched as one
    in_window : units of a window

    """
    known = np.flatnonzero(rare[:-1])
    groups = min(_GROUPS, len(known), int(float(mean[known].sum()) * in_window / _VALUE_UNITS))
    parts = np.zeros((1 + groups if groups > 1 else 0, len(mean)), np.bool_)
    if len(parts):
        order = known[np.argsort(-mean[known], kind="stable")]
        parts[np.arange(len(order)) % groups, order] = True
        parts[-1, -1] = True
    return parts


@dataclass(frozen=True)
class Watched:
    """One series: its reference, and the shares by which it is watched in windows of one size."""

    reference: SeriesReference
    size: int
    matters: float
    learned: tuple[int, int] = (0, 0)
    """Begin and end of the reference: slices of that time are no evidence."""
    _detectable: dict[tuple[int, float, int], float] = field(default_factory=dict)

    @cached_property
    def shape(self) -> Shape:
        return Shape(self.reference)

    @cached_property
    def _in_window(self) -> float:
        """Units of a window that are usually scored."""
        rows = self.reference.slices[self.size]
        return float(rows.seen.mean()) * SLICES if len(rows.seen) else 0.0

    @cached_property
    def yes(self) -> Flags:
        """Which bins make up each share that effects are told of. Shape (shares, bins)."""
        kind = self.reference.signal.kind
        if kind == "rate":
            return np.array([[False, True]])
        mean = self.reference.slices[self.size].mean
        return quantile_bins(mean) if kind == "numeric" else value_bins(mean, self._in_window)

    @cached_property
    def _own(self) -> Flags:
        """Those of `yes` that tell anything: of two complementary shares one says all, that of all units nothing."""
        return self.yes if self.reference.signal.kind != "category" or len(self.yes) > 2 else self.yes[1:]

    @cached_property
    def telling(self) -> Flags:
        """Which bins make up each share that is watched: of those first, then of further ones. Shape (shares, bins)."""
        kind, own = self.reference.signal.kind, self._own
        if kind == "numeric":
            return np.concatenate([own, outside_bins(own)])
        if kind == "category" and len(own):
            rare = rare_bins(self.reference.slices[self.size].mean, own[-1], self._in_window)
            return np.concatenate([own, rare])
        return own

    @cached_property
    def nulls(self) -> ShareNulls:
        return self._nulls(self.telling)

    def _nulls(self, yes: Flags | Floats) -> ShareNulls:
        return share_nulls(self.reference.slices[self.size], yes, self.reference.coarser(self.size))

    @cached_property
    def effect_nulls(self) -> ShareNulls:
        """What the interval of the effect follows from: of scores the null of their mean, of others that of `nulls`."""
        signal = self.reference.signal
        if signal.kind == "numeric" and signal.scale == "unit":
            return self._nulls(self.shape.bin_means[None])
        own = self.nulls.first(len(self._own))
        return own if len(own) else self._nulls(np.zeros((1, self.reference.bins)))

    @cached_property
    def ends(self) -> Floats:
        """Amounts: the interval of each decile of the reference. Shape (9, 2)."""
        return self.ends_of(self.shape, 1 / self.effect_nulls.known)

    def ends_of(self, shape: Shape, there: Floats) -> Floats:
        """The same of the reference in some phases of its cycle.

        Parameters
        ----------
        there : variance of its shares over rate (1 - rate)

        """
        if self.reference.signal.kind != "numeric" or self.reference.signal.scale != "log":
            return np.empty((0, 2))
        return decile_ends(shape, self.effect_nulls.rate, there)

    def trend_of(self, moved: str, strongest: int) -> tuple[int, float, str] | None:
        """The share whose trend is told, what its change is multiplied by for the owner, and the unit of that.

        Of a category the value that moved; of a number the quantile that moved most, else the middle one, which changes
        by minus that of the share below it over the density there. None where there is none.
        """
        kind, scale = self.reference.signal.kind, self.reference.signal.scale
        if kind == "rate":
            return 0, 1.0, "difference of rates a day"
        if kind == "category":
            names = category_names(self.reference, self.yes)
            if moved not in names:
                return None
            place = names.index(moved)
            alone = len(self._own) < len(names)  # of two values the last one's share is watched
            unit = f"share of {moved} a day"
            return (0, 1.0 if place else -1.0, unit) if alone else (place, 1.0, unit)
        if not len(self.nulls):
            return None
        place = strongest if moved else int(np.abs(self.nulls.rate - 0.5).argmin())
        share = float(self.nulls.rate[place])
        slope = self.shape.slope(share)
        word = "relative change" if scale == "log" else "change"
        return None if slope is None else (place, -slope, f"{word} of the {share:.2g} quantile a day")

    @cached_property
    def season(self) -> Season | None:
        return self.reference.season(self.size)

    @cached_property
    def by_phase(self) -> Floats:
        """Shares that are usual in each phase of the cycle. Shape (P, shares of `nulls`)."""
        assert self.season is not None
        of_all: Floats = self.season.mean @ self.telling.T
        return of_all

    def mix(self, window: Sequence[tuple[int, Slice]]) -> Floats | None:
        """Weights of the phases of the cycle under the records of a window; None without a cycle or where unknown."""
        if self.season is None:
            return None
        total: Floats = np.zeros(self.season.cycle.phases)
        for _, found in window:
            summary = found.summary(self.reference.scope, self.reference.signal.name)
            if summary is not None:
                total += summary.cells.population * self.season.weights(found.start, found.end - found.start)
        return total / total.sum() if total.sum() > 0 else None

    def known(self, mix: Floats | None) -> float:
        """Units of the reference, or those by which it knows phases with these weights, as many as a window covers."""
        if self.season is None:
            return self.reference.known(self.size)
        if mix is None:
            return 0.0
        return min(self.season.known(mix, SLICES / self.season.phase_slices), self.reference.known(self.size))

    def shares(self, found: Slice) -> tuple[Floats | float, ...] | None:
        """Share of the units of a slice in each of `nulls`, units in all and units scored; None without records.

        With a cycle also the usual share and how much less it is known than that of a typical phase.
        """
        if self.learned[0] < found.end and found.start < self.learned[1]:
            return None
        summary = found.summary(self.reference.scope, self.reference.signal.name)
        if summary is None:
            return None
        weights = None if self.season is None else self.season.weights(found.start, found.end - found.start)
        if weights is not None and not weights.any():
            return None
        part, units, seen = summary.cells.project(self.reference.place, self.reference.bins)
        share, seen = self.telling @ part, self.like_reference(seen, summary.n)
        if weights is None or self.season is None:
            return share, units, seen
        return share, units, seen, weights @ self.by_phase, self.season.vagueness(weights)

    def like_reference(self, known: float, records: int) -> float:
        """Of a sample of so many records its units, counted in those of the reference's; else `known` as it is."""
        rows = self.reference.slices[self.size]
        sampled = self.reference.summary.cells.sampled
        return like_reference(known, records, rows.stays, rows.fewer) if sampled else known

    def detectable(self, known: float, threshold: float, mix: Floats | None = None) -> float:
        """The smallest change that a window of so many units would have shown with 90 % power; NaN where none.

        With a cycle, of a window in that phase which most of its records are in.
        """
        step = int(np.floor(_LADDER * np.log2(max(known, 1)) + 1e-9))
        phase = -1 if mix is None else int(mix.argmax())
        key = step, threshold, phase
        if key not in self._detectable:
            if len(self._detectable) > (256 if mix is None else 4096):
                self._detectable.clear()
            self._detectable[key] = self._smallest(2 ** (step / _LADDER), threshold, self._nulls_in(phase))
        return self._detectable[key]

    def _nulls_in(self, phase: int) -> ShareNulls:
        """The nulls of a window in one phase of a cycle."""
        if phase < 0 or self.season is None:
            return self.nulls
        only = np.zeros(self.season.cycle.phases)
        only[phase] = 1
        return replace(self.nulls, rate=self.by_phase[phase], known=self.known_in(self.nulls, only, SLICES))

    def known_in(self, nulls: ShareNulls, mix: Floats, slices: int) -> Floats:
        """Units by which phases with some weights are known, of which a stretch of so many slices covers its part."""
        assert self.season is not None
        covered = min(max(slices / self.season.phase_slices, 1.0), self.season.cycle.phases)
        vagueness = max(self.season.vagueness(mix), 1e-12)
        known: Floats = np.minimum(nulls.of_phase * covered / vagueness, nulls.known)
        return known

    def _smallest(self, known: float, threshold: float, nulls: ShareNulls) -> float:
        count = len(nulls)
        if not count:
            return float("nan")
        needed = np.log(count) - np.log(threshold)
        if self.reference.signal.kind == "numeric":
            shares, effects = self.shape.shifted()
            moved = (shares - self.shape.record_shares) @ self.telling.T + nulls.rate
            rows = np.broadcast_to(np.arange(count), moved.shape)
            shown = shown_by(nulls, rows.ravel(), np.clip(moved, 0, 1).ravel(), known, SLICES).reshape(moved.shape)
            reach = np.where(effects > 0, shown.max(axis=2), np.inf).min(axis=0)
            reach = np.where((effects > 0).any(axis=0), reach, -np.inf)
            return first_shown(effects.max(axis=0), reach, needed)
        sides = [self._side(sign, known, needed, nulls) for sign in (1, -1)]
        return float(np.max(sides))

    def _side(self, sign: int, known: float, needed: float, nulls: ShareNulls) -> float:
        """The smallest change up or down that would have shown whichever share makes it.

        0 where none that matters is possible on that side.
        """
        usual = nulls.rate
        room = 1 - usual if sign > 0 else usual
        able = np.flatnonzero(room >= self.matters)
        if not len(able):
            return 0.0
        tried = usual[able, None] + sign * _CHANGES
        rows = np.broadcast_to(able[:, None], tried.shape)
        shown = shown_by(nulls, rows.ravel(), np.clip(tried, 0, 1).ravel(), known, SLICES).reshape(tried.shape)
        shown = np.where(room[able, None] >= _CHANGES, shown, -np.inf)
        return float(np.max([first_shown(_CHANGES, row, needed) for row in shown]))


def first_shown(changes: Floats, shown: Floats, needed: float) -> float:
    """The first change whose evidence is enough, between it and the one before by the root; NaN where none is."""
    shown = np.maximum.accumulate(shown)
    hit = shown >= needed
    if not hit.any():
        return float("nan")
    at = int(hit.argmax())
    low_change, low = (float(changes[at - 1]), float(shown[at - 1])) if at else (0.0, 0.0)
    here, there, wanted = np.sqrt(np.maximum([low, float(shown[at]), needed], 0))
    part = (wanted - here) / (there - here) if there > here and np.isfinite(there) else 1.0
    return low_change + (float(changes[at]) - low_change) * float(np.clip(part, 0, 1))


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
