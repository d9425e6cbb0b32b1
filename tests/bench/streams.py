"""Made-up streams that are watched slice by slice by what decides in the product, for benches of many of them at once.

A series is numbers in sixteen bins of the reference, a rate or a category; what is drawn is how many units of a slice
lie in each bin. `Watched` says by which shares a series is watched, `Evidence.step` weighs them, and a series is
decided where the mean over its shares passes what `thresholds` allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from monitor.calibration import LAGS, FalseAlarmSettings, ReferenceSlices, multinomial_within, thresholds
from monitor.evidence import Evidence, join_nulls
from monitor.model import Flags, Floats, Ints, Kind, Scope, Signal
from monitor.readings.verdicts import mean_log
from monitor.readings.watched import Watched
from monitor.reference import SeriesReference, kept_starts
from monitor.settings import DAY, HOUR, MINUTE
from monitor.summaries import Category, Counts, Numeric, Rate
from monitor.windows import SLICES

SIZES = (5 * MINUTE, HOUR)
"""The default windows."""
FINE = SIZES[0] // SLICES
NUMBERS: Floats = np.full(16, 1 / 16)
CATEGORY: Floats = np.array([0.5, 0.25, 0.15, 0.1, 0.0])
"""The last bin of a category is that of values which the reference does not hold."""


def rate(share: float) -> Floats:
    """The bins of a rate."""
    return np.array([1 - share, share])


Series = tuple[Kind, Floats]
"""Kind, and the shares of its bins."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is usual in one kind of traffic."""

    series: Sequence[Series]
    records: float = 2.0
    """Units a second."""
    swing: float = 0.0
    """Standard deviation of the level of every series, on the normal scale."""
    memory: float = 0.8
    """Its correlation from slice to slice of 25 s."""
    day: float = 0.0
    """Amplitude of a daily cycle of every series, on the normal scale."""
    bursts: float = 0.0
    """Standard deviation of the logarithm of the traffic, which wanders with memory 0.9 from slice to slice."""
    load: float = 0.0
    """Amplitude of a daily cycle of the logarithm of the traffic."""
    one_in: int = 1
    """Of so many slices of the longer window one holds records."""
    goes_on: float = 0.0
    """Probability that a unit, a session, lies in the next slice as well."""
    segments: int = 0
    """Into which a stream falls, watched on their own as well."""
    sample: int = 0
    """Records of a slice that are measured; 0 for all."""
    reference: int = DAY


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one slice holds of one series."""

    units: Floats
    """Units in each bin. Shape (scopes, bins)."""
    new: Floats
    """Those of them that did not lie in the slice before."""
    inverse: Floats
    """n^2/k for n units of which k were measured. Shape (scopes,)."""


@dataclass(slots=True)
class Streams:
    """Many streams of one kind, drawn slice by slice. Scopes are all streams, then the segments of each."""

    traffic: Traffic
    count: int
    rng: np.random.Generator
    level: Floats = field(init=False)
    busy: Floats = field(init=False)
    before: list[Floats] = field(init=False)
    """Units of the newest slice in each bin of each series. Shape (leaves, bins)."""

    def __post_init__(self) -> None:
        self.level = self.rng.standard_normal((self.count, len(self.traffic.series)))
        self.busy = self.rng.standard_normal(self.count)
        self.before = [np.zeros((self.leaves, len(usual))) for _, usual in self.traffic.series]

    @property
    def leaves(self) -> int:
        """Scopes that hold no others."""
        return self.count * max(self.traffic.segments, 1)

    @property
    def scopes(self) -> int:
        return self.count * (1 + self.traffic.segments)

    def draw(self, at: int, changed: Mapping[int, Floats] | None = None) -> list[Drawn]:
        """Each series in the slice that begins at `at`; those that changed have other shares."""
        t, rng, phase = self.traffic, self.rng, 2 * np.pi * (at % DAY) / DAY
        self.level = t.memory * self.level + np.sqrt(1 - t.memory**2) * rng.standard_normal(self.level.shape)
        self.busy = 0.9 * self.busy + np.sqrt(1 - 0.81) * rng.standard_normal(self.count)
        load = np.exp(t.load * np.sin(phase) + t.bursts * self.busy - t.bursts**2 / 2)
        silent = at * SLICES // SIZES[-1] % t.one_in != 0
        expected = np.zeros(self.count) if silent else t.records * FINE / 1000 * load * (1 - t.goes_on)
        records = rng.poisson(np.repeat(expected, self.leaves // self.count) * self.count / self.leaves)
        shift = t.swing * self.level + t.day * np.sin(phase)
        found = []
        for row, (_, usual) in enumerate(t.series):
            shares = usual
            if changed is not None and row in changed:
                shares = changed[row]
            elif t.swing or t.day:
                cuts = special.ndtri(np.clip(np.cumsum(usual)[:-1], 1e-12, 1 - 1e-12))
                below = special.ndtr(cuts * np.sqrt(1 + t.swing**2) - shift[:, row, None])
                shares = np.repeat(np.diff(below, axis=1, prepend=0.0, append=1.0), self.leaves // self.count, axis=0)
            found.append(self._drawn(row, records, shares))
        return found

    def _drawn(self, row: int, records: Ints, shares: Floats) -> Drawn:
        seen = np.minimum(records, self.traffic.sample) if self.traffic.sample else records
        new = self.rng.multinomial(seen, shares) * (records / np.maximum(seen, 1))[:, None]
        units = new
        if self.traffic.goes_on:
            units = new + self.rng.binomial(self.before[row].astype(np.int64), self.traffic.goes_on)
            self.before[row], seen = units, units.sum(axis=1)
        many = units.sum(axis=1)
        inverse = np.where(many > 0, many**2 / np.maximum(seen, 1), 0.0)
        parts = (units, new, inverse)
        if not self.traffic.segments:
            return Drawn(*parts)
        return Drawn(
            *(np.concatenate([part.reshape(self.count, -1, *part.shape[1:]).sum(axis=1), part]) for part in parts)
        )


@dataclass(slots=True)
class Filling:
    """A slice of some size that is being filled with finer ones."""

    units: Floats
    inverse: Floats
    carried: Floats
    """Units that lay in the slice before."""

    @classmethod
    def of(cls, first: Drawn) -> Filling:
        return cls(first.units.copy(), first.inverse.copy(), (first.units - first.new).sum(axis=1))

    def add(self, more: Drawn) -> None:
        """A session counts once however many of the finer slices it lies in."""
        self.units += more.new
        self.inverse += np.where(more.units.sum(axis=1) > 0, more.inverse * _part(more.new, more.units), 0.0)


def _part(new: Floats, units: Floats) -> Floats:
    return np.asarray(new.sum(axis=1) / np.maximum(units.sum(axis=1), 1), np.float64)


def learned(units: Floats, inverse: Floats, carried: Floats, goes_on: float) -> ReferenceSlices:
    """What is kept of a series.

    Parameters
    ----------
    units : of all slices of the reference in each bin, shape (slices, bins)
    inverse, carried : as in `Filling`, shape (slices,)
    goes_on : probability that a unit that lies in two slices lies in the next one too

    """
    many = units.sum(axis=1)
    numbers = np.array(sorted(kept_starts(0, len(units), 1)), np.int64)
    numbers = numbers[many[numbers] > 0]
    total, mine = max(float(many.sum()), 1.0), many[numbers]
    lags = [float((many[: len(many) - lag] * many[lag:]).sum()) / total**2 for lag in range(LAGS)]
    shares = units[numbers] / mine[:, None]
    seen = mine**2 / inverse[numbers]
    shared = np.zeros(LAGS)
    for lag in range(1, LAGS) if goes_on else ():
        first = np.flatnonzero(np.isin(numbers + lag, numbers))
        both = numbers[first], numbers[first] + lag
        root = np.sqrt(many[both[0]] * many[both[1]])
        alike = np.minimum(carried[both[0] + 1] * goes_on ** (lag - 1), many[both[1]])
        shared[lag] = float((alike / root).sum()) / max(float(root.sum()), 1e-300)
    within, mean = multinomial_within(shares, seen), units.sum(axis=0) / total
    stays = 1.0 if goes_on else 0.0
    return ReferenceSlices(
        numbers, shares, mine, seen, within, mean, total, np.array(lags), float(inverse.sum()) / total**2, shared, stays
    )


def watched(series: Series, rows: dict[int, ReferenceSlices], size: int, sample: int) -> Watched:
    """By which shares the product watches a series of such a reference."""
    kind, bins = series[0], len(series[1]) - (series[0] == "category")
    signal = Signal("made up", kind, sample=sample > 0)
    cells = Counts(np.arange(bins), np.full(bins, 1_000))
    names = {key: f"c{key}" for key in range(bins)}
    summary: Numeric | Rate | Category = Rate(cells)
    if kind == "numeric":
        summary = Numeric("log", cells)
    elif kind == "category":
        summary = Category(cells, names)
    return Watched(SeriesReference(Scope("made up"), signal, summary, rows), size, 0.0)


@dataclass(slots=True)
class Watch:
    """All series of all scopes in windows of one size; series are ordered by scope."""

    per: int
    """Slices of the finest size to one of this."""
    first: Ints
    """Of each series its first share, and at the end how many there are."""
    yes: Sequence[Flags]
    """Of each row of the traffic which bins make up its shares, scope after scope. Shape (shares, bins)."""
    scope: Sequence[Ints]
    """The scope of each of those shares."""
    place: Sequence[Ints]
    """And its place among all."""
    evidence: Evidence
    needed: Floats
    """Log evidence that decides each series."""
    alarms: Ints
    """Decisions of each series."""
    filling: list[Filling] = field(default_factory=list)

    def add(self, number: int, found: Sequence[Drawn]) -> None:
        """A slice of the finest size, by its number."""
        if number % self.per == 0:
            self.filling = [Filling.of(part) for part in found]
        else:
            for held, part in zip(self.filling, found, strict=True):
                held.add(part)
        if (number + 1) % self.per:
            return
        share, many, seen = np.zeros((3, int(self.first[-1])))
        for held, yes, scope, place in zip(self.filling, self.yes, self.scope, self.place, strict=True):
            n = held.units.sum(axis=1)
            share[place] = np.einsum("sb,sb->s", held.units[scope], yes) / np.maximum(n[scope], 1)
            many[place], seen[place] = n[scope], (n**2 / np.maximum(held.inverse, 1e-9))[scope]
        self.evidence.step(share, many, seen)
        decided = np.flatnonzero(mean_log(self.evidence.log_sum, self.first) >= self.needed)
        for row in decided.tolist():
            self.evidence.restart(np.arange(self.first[row], self.first[row + 1]))
        self.alarms[decided] += 1


def watches(streams: Streams, budget: FalseAlarmSettings, *, alive: int | None = None) -> list[Watch]:
    """One for each size of window, after a reference's time; with `alive` the budget is split over so many series."""
    traffic, sizes = streams.traffic, [size // SLICES for size in SIZES]
    drawn = [streams.draw(begin) for begin in range(-traffic.reference, 0, FINE)]
    count = alive or len(traffic.series)
    scopes = {Scope("bot", f"part={i}" if i else None): count for i in range(1 + traffic.segments)}
    by_size = thresholds(budget, scopes, sizes)
    known = [_learned(streams, drawn, length // FINE) for length in sizes]
    return [_watch(streams, known, place, by_size[length]) for place, length in enumerate(sizes)]


def _learned(streams: Streams, drawn: Sequence[Sequence[Drawn]], per: int) -> list[list[ReferenceSlices]]:
    """What is kept of slices that are `per` of the finest long, of each row of the traffic and scope."""
    traffic = streams.traffic
    rows: list[list[ReferenceSlices]] = []
    for row in range(len(traffic.series)):
        filled = []
        for begin in range(0, len(drawn), per):
            held = Filling.of(drawn[begin][row])
            for part in drawn[begin + 1 : begin + per]:
                held.add(part[row])
            filled.append(held)
        units, inverse, carried = (
            np.stack([getattr(held, name) for held in filled], axis=1) for name in ("units", "inverse", "carried")
        )
        goes_on = traffic.goes_on**per
        rows.append([learned(units[scope], inverse[scope], carried[scope], goes_on) for scope in range(streams.scopes)])
    return rows


def _watch(
    streams: Streams, known: Sequence[list[list[ReferenceSlices]]], place: int, budget: Mapping[bool, float]
) -> Watch:
    """Of the windows at a `place` in the sizes, given what is `known` of the slices of all."""
    traffic, size = streams.traffic, SIZES[place]
    rows = [
        [
            watched(series, dict(zip(SIZES, by_size, strict=True)), size, traffic.sample)
            for by_size in zip(*(of_size[row] for of_size in known), strict=True)
        ]
        for row, series in enumerate(traffic.series)
    ]
    by_scope = [rows[row][scope] for scope in range(streams.scopes) for row in range(len(rows))]
    counts = np.array([len(one.nulls) for one in by_scope])
    first = np.concatenate([[0], np.cumsum(counts)])
    begins = first[:-1].reshape(streams.scopes, -1)
    is_segment = np.repeat(np.arange(streams.scopes) >= streams.count, len(rows))
    return Watch(
        size // SIZES[0],
        first,
        [np.concatenate([one.telling for one in row]) for row in rows],
        [np.repeat(np.arange(streams.scopes), [len(one.nulls) for one in row]) for row in rows],
        [
            np.concatenate([begins[scope, at] + np.arange(len(one.nulls)) for scope, one in enumerate(row)])
            for at, row in enumerate(rows)
        ],
        Evidence.begin(join_nulls([one.nulls for one in by_scope])),
        -np.log(np.where(is_segment, budget[True], budget[False])),
        np.zeros(len(by_scope), np.int64),
    )


def step(
    streams: Streams, watching: Sequence[Watch], number: int, changed: Mapping[int, Floats] | None = None
) -> list[Drawn]:
    """Draw the next slice and hold it against the references."""
    found = streams.draw(number * FINE, changed)
    for watch in watching:
        watch.add(number, found)
    return found


def alarms(streams: Streams, watching: Sequence[Watch]) -> Ints:
    """Decisions so far of each scope. Shape (scopes,)."""
    found: Ints = np.sum([watch.alarms.reshape(streams.scopes, -1).sum(axis=1) for watch in watching], axis=0)
    return found
