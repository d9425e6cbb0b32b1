"""By which shares of its units a series is watched: the one of a rate, quantiles of a number, values of a category.

A number is watched by up to five quantiles of the reference, each the share of units at or below it, and by the share
outside the outer ones; a category by the share of each value that is frequent enough, of all others as one, and of
parts of these: those the reference does not know, and groups of rare ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from monitor.calibration import Season, like_reference
from monitor.evidence import ShareNulls, share_nulls, shown_by
from monitor.model import Flags, Floats
from monitor.readings.effects import Shape, category_names, decile_ends
from monitor.reference import SeriesReference
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
        of_number = self.reference.signal.kind == "numeric"
        return self._nulls(self.telling, range(len(self._own), len(self.telling)) if of_number else ())

    def _nulls(self, yes: Flags | Floats, outside: Sequence[int] = ()) -> ShareNulls:
        rows, coarser = self.reference.slices[self.size], self.reference.coarser(self.size)
        return share_nulls(rows, yes, coarser, outside=outside)

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
