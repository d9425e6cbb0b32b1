"""What one part of a stream a drift is mostly of: a value of a segment label, a user, or a session.

The part of the shift that a group of records explains is what is gone without them: 1 - |shift of the rest|/|shift|,
its records left out of window and reference alike, so that a tenant that was always different explains nothing. Named
is the one that explains most, if that is at least half and it has less than half of the records.

Segments of a stream are summed over all records; users, sessions and segments within segments over sampled exchanges,
and those that have hardly any are not looked at. Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from monitor.decomposition import LEAST
from monitor.model import OTHER, Floats, Hashes, Ints, Reading, Scope
from monitor.readings.counted import Along, Counted, Mean, Window, mean_over, since
from monitor.readings.effects import window_counts
from monitor.reference import Exchanges, ScopeReference, SeriesReference, sampled

EXPLAINS = 0.5
"""Least part of the shift that the one that is named explains."""
RECORDS = 0.5
"""It has less than this part of the records."""
FEWEST = 5
"""Sampled exchanges that a user or a session must have."""
_CLEAR = 2.0
"""Standard errors by which a mean must have shifted for parts of the shift to mean something."""
_DIGITS = 6
"""Hex digits by which a user or a session is told from others."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Means of some groups of records, one entry each, and of all records."""

    whole: Mean
    mass: Floats
    mean: Floats

    def without(self) -> Floats:
        """The mean of all others, for each group; NaN where there are none."""
        rest = self.whole.mass - self.mass
        total = self.whole.mass * self.whole.mean - self.mass * np.where(self.mass > 0, self.mean, 0.0)
        return np.where(rest > 1e-9 * self.whole.mass, total / np.where(rest > 0, rest, 1.0), np.nan)


@dataclass(frozen=True, slots=True)
class Mostly:
    """One part of a stream."""

    share: float
    """Of the shift that it explains."""
    records: float
    """Its part of the records of the window."""
    name: str


def strongest(names: Sequence[str], now: Groups, usual: Groups) -> Mostly | None:
    """The group that explains most of a shift, if it is to be named; of equals the first.

    >>> whole, before = Mean(0.2, 100, 100), Mean(0.1, 100, 100)
    >>> now = Groups(whole, np.array([20.0, 30.0]), np.array([0.6, 0.1]))
    >>> usual = Groups(before, np.array([20.0, 30.0]), np.array([0.1, 0.1]))
    >>> strongest(["tenant=acme", "tenant=b"], now, usual)
    Mostly(share=1.0, records=0.2, name='tenant=acme')
    """
    if not names or now.whole.mean == usual.whole.mean:
        return None
    left = np.abs(now.without() - usual.without()) / abs(now.whole.mean - usual.whole.mean)
    share, records = 1 - left, now.mass / now.whole.mass
    fit = (share >= EXPLAINS) & (records < RECORDS)
    if not fit.any():
        return None
    best = int(np.where(fit, share, -np.inf).argmax())
    return Mostly(float(share[best]), float(records[best]), names[best])


Parts = Mapping[tuple[Scope, str], ScopeReference]
"""Scope and signal -> the reference that it is held against."""


def with_mostly(
    reading: Reading, how: Counted | Along, window: Window, parts: Parts, kept: Exchanges | None
) -> Reading:
    """The reading of a drift with the one part of the stream that explains it, where there is one.

    Parameters
    ----------
    parts : what the scopes of this size of window are held against
    kept : sampled exchanges of the reference

    """
    stretch = since(window, reading.changed_at)
    found = [] if reading.segment is not None else [_of_segments(reading, how, stretch, parts, kept)]
    if kept is not None and isinstance(how, Counted):
        found += _of_exchanges(reading, how, stretch, kept)
    named = [mostly for mostly in found if mostly is not None]
    if not named:
        return reading
    best = max(named, key=lambda mostly: mostly.share)  # of equals the first
    return msgspec.structs.replace(reading, mostly=best.name, mostly_share=best.share, mostly_records=best.records)


# ---- segments, over all records -------------------------------------------------------------------------------------


def _of_segments(
    reading: Reading, how: Counted | Along, stretch: Window, parts: Parts, kept: Exchanges | None
) -> Mostly | None:
    """The segment of a stream that explains most."""
    whole = parts[reading.scope, reading.signal]
    series = whole.series[reading.signal]
    now, usual = _now(reading.scope, reading.signal, how, stretch), mean_over([series.summary], how)
    if now is None or usual is None or not _moved(how, series, stretch, now.mean - usual.mean):
        return None
    found: dict[str, tuple[Mean, Mean]] = {}
    scopes = (scope for _, part in stretch for scope in part.scopes if scope.stream == reading.stream)
    for segment in sorted({scope.segment for scope in scopes if scope.segment is not None}):
        if segment.partition("=")[2] == OTHER:
            continue
        scope = Scope(reading.stream, segment)
        here = _now(scope, reading.signal, how, stretch)
        there = _usual(scope, reading.signal, how, whole, parts=parts, kept=kept)
        if here is not None and there is not None:
            found[segment] = here, there
    sides = [_groups(of, [pair[side] for pair in found.values()]) for side, of in enumerate((now, usual))]
    return strongest(list(found), *sides)


def _now(scope: Scope, signal: str, how: Counted | Along, stretch: Window) -> Mean | None:
    return mean_over([found.summary(scope, signal) for _, found in stretch], how)


def _usual(
    scope: Scope, signal: str, how: Counted | Along, whole: ScopeReference, *, parts: Parts, kept: Exchanges | None
) -> Mean | None:
    """A segment's part of what its stream learned: none where it came later; None where it is not known."""
    own = parts.get((scope, signal))
    if own is None:
        was_there = kept is not None and bool(kept.within(scope.segment).any())
        return None if was_there else Mean(0.0, 0.0, 0)
    found = mean_over([own.series[signal].summary], how)
    together = max(min(own.end, whole.end) - max(own.begin, whole.begin), 0) / (own.end - own.begin)
    return None if found is None else Mean(found.mean, found.mass * together, found.measured)


def _groups(whole: Mean, parts: Sequence[Mean]) -> Groups:
    return Groups(whole, np.array([part.mass for part in parts]), np.array([part.mean for part in parts]))


def _moved(how: Counted | Along, series: SeriesReference, stretch: Window, shift: float) -> bool:
    """Whether a mean has shifted by more than chance might; that of vectors is the one that was decided on."""
    if isinstance(how, Along):
        return True
    (now,) = window_counts([series], stretch)
    usual = series.summary.cells
    error = _variance(now.counts, how.of_cells(now.keys)) / now.known
    error += _variance(usual.mass, how.of_cells(usual.keys)) / usual.effective
    return abs(shift) > _CLEAR * math.sqrt(error)


def _variance(weight: Floats | Ints, values: Floats) -> float:
    total = float(weight.sum())
    mean = float(weight @ values) / total
    return max(float(weight @ values**2) / total - mean**2, 0.0)


# ---- users, sessions and segments within segments, over sampled exchanges -------------------------------------------


def _of_exchanges(reading: Reading, how: Counted, stretch: Window, kept: Exchanges) -> list[Mostly | None]:
    """The user, the session and, of a segment, the other segments that explain most."""
    found = sampled([part for _, part in stretch], reading.stream, None)
    if found is None:
        return []
    now, usual = (_Observed.of(side, reading.segment, how) for side in (found[0], kept))
    if min(now.mean.measured, usual.mean.measured) < LEAST or not now.moved(usual):
        return []
    by = {"user": (now.kept.user_hash, usual.kept.user_hash)}
    by["session"] = now.kept.session_hash, usual.kept.session_hash
    people = [strongest(*_by_hash(what, now, usual, *hashes)) for what, hashes in by.items()]
    if reading.segment is None:
        return list(people)
    labels = sorted({*now.kept.segments} - {reading.segment.partition("=")[0]})
    return [*(strongest(*_by_label(label, now, usual)) for label in labels), *people]


@dataclass(frozen=True, slots=True, eq=False)
class _Observed:
    """Sampled exchanges in which a signal was observed."""

    kept: Exchanges
    value: Floats
    weight: Floats
    mean: Mean

    @classmethod
    def of(cls, exchanges: Exchanges, segment: str | None, how: Counted) -> _Observed:
        values = how.of_measures(exchanges.measures)
        rows = np.flatnonzero(exchanges.within(segment) & ~np.isnan(values))
        mine, value = exchanges.take(rows), values[rows]
        weight = mine.stands_for.astype(np.float64)
        mass = float(weight.sum())
        return cls(mine, value, weight, Mean(float(weight @ value) / max(mass, 1e-300), mass, len(rows)))

    def moved(self, usual: _Observed) -> bool:
        """Whether the mean has shifted by more than chance might."""
        error = sum(_variance(side.weight, side.value) / side.units for side in (self, usual))
        return abs(self.mean.mean - usual.mean.mean) > _CLEAR * math.sqrt(error)

    @property
    def units(self) -> float:
        """Sessions and exchanges without one, as many of equal weight as would say as much (Kish)."""
        session = self.kept.session_hash
        apart = len(np.unique(session[session != 0])) + int((session == 0).sum())
        return float(self.weight.sum()) ** 2 / float(self.weight @ self.weight) * apart / len(session)

    def groups(self, codes: Ints, number: int) -> Groups:
        """Those of codes 0 .. `number` - 1; -1 is none of them."""
        rows = codes >= 0
        mass = np.bincount(codes[rows], self.weight[rows], minlength=number).astype(np.float64)
        total = np.bincount(codes[rows], self.weight[rows] * self.value[rows], minlength=number)
        return Groups(self.mean, mass, total / np.maximum(mass, 1e-300))


def _by_hash(
    what: str, now: _Observed, usual: _Observed, here: Hashes, there: Hashes
) -> tuple[list[str], Groups, Groups]:
    names, counts = np.unique(here[here != 0], return_counts=True)
    names = names[counts >= FEWEST]
    codes = [_codes(names, hashes) for hashes in (here, there)]
    said = [f"{what} {name:016x}"[: len(what) + 1 + _DIGITS] for name in names.tolist()]
    return said, now.groups(codes[0], len(names)), usual.groups(codes[1], len(names))


def _codes(names: Hashes, hashes: Hashes) -> Ints:
    """The place of each hash among `names`, -1 where it is not one of them."""
    if not len(names):
        return np.full(len(hashes), -1)
    at = np.minimum(np.searchsorted(names, hashes), len(names) - 1)
    return np.where(names[at] == hashes, at, -1)


def _by_label(label: str, now: _Observed, usual: _Observed) -> tuple[list[str], Groups, Groups]:
    counts = Counter(now.kept.segments[label].tolist())
    names = sorted(name for name, count in counts.items() if name not in {None, OTHER} and count >= FEWEST)
    code_of = {name: code for code, name in enumerate(names)}
    codes = [np.array([code_of.get(name, -1) for name in side.kept.segments[label]], np.int64) for side in (now, usual)]
    said = [f"{label}={name}" for name in names]
    return said, now.groups(codes[0], len(names)), usual.groups(codes[1], len(names))
