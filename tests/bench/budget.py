"""Months without a change, and how soon a change shows: `python tests/bench/budget.py [--months 20]`.

Every stream learns a day of its own and is watched for 30 days in the default windows, slice by slice, by what the
product decides by: `share_nulls`, `Evidence.step`, the mean over the shares of a series, `thresholds`. Nothing
changes but what the setting says is usual. A series that is decided counts as one false alarm and begins anew; that an
effect must matter as well, which the product asks on top, is left out, so that these are more than it would raise.

Then the delay of changes, beside the information bound: ln(evaluations x series / budget) over the divergence of what
came from what was, which no procedure that keeps the budget beats on average (Lorden, Annals of Statistics 1971).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special, stats

from monitor.calibration import LAGS, FalseAlarmSettings, ReferenceSlices, multinomial_within, thresholds
from monitor.evidence import Evidence, join_nulls, share_nulls
from monitor.model import Flags, Floats, Ints, Scope
from monitor.settings import DAY, HOUR, MINUTE
from monitor.windows import SLICES

SIZES = (5 * MINUTE, HOUR)
"""The default windows."""
RUNS, KEPT = 24, 288
"""Slices of a reference that are kept: all, or so many runs of twelve."""
_RATES = (0.005, 0.02, 0.05, 0.3)
CHANGES = ((0.02, 0.06), (0.04, 0.08), (0.04, 0.06), (0.005, 0.02), (0.3, 0.4), (0.04, 0.02))
"""Rates before and after."""
_CATEGORY: Floats = np.array([0.5, 0.25, 0.15, 0.1])


@dataclass(frozen=True, slots=True)
class Setting:
    """What is usual in one kind of traffic."""

    name: str
    records: float = 2.0
    """A second."""
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
    numbers: int = 3
    rates: Sequence[float] = _RATES
    categories: int = 2
    reference: int = DAY


SETTINGS = (
    Setting("default"),
    Setting("slow traffic", records=0.1),
    Setting("seasonal", day=0.1, load=1.0),
    Setting("bursty", bursts=0.7),
    Setting("swinging", swing=0.05),
    Setting("one signal", numbers=0, rates=(0.02,), categories=0),
    Setting("a short reference", reference=6 * HOUR),
)


@dataclass(slots=True)
class Streams:
    """Many streams of one setting, drawn slice by slice. A series is numbers, a rate or a category."""

    setting: Setting
    count: int
    rng: np.random.Generator
    level: Floats = field(init=False)
    last: Floats = field(init=False)
    """Records of the newest slice."""
    busy: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.rng.standard_normal((self.count, self.series))
        self.busy = self.rng.standard_normal(self.count)

    @property
    def series(self) -> int:
        return self.setting.numbers + len(self.setting.rates) + self.setting.categories

    def draw(self, at: int, moved: Floats | None = None) -> tuple[list[Floats], Floats]:
        """Shares of the bins of each series, shape (streams, bins), and the records, of the slice at `at`."""
        s, rng, phase = self.setting, self.rng, 2 * np.pi * (at % DAY) / DAY
        self.level = s.memory * self.level + np.sqrt(1 - s.memory**2) * rng.standard_normal(self.level.shape)
        self.busy = 0.9 * self.busy + np.sqrt(1 - 0.81) * rng.standard_normal(self.count)
        load = s.load * np.sin(phase) + s.bursts * self.busy - s.bursts**2 / 2
        records = rng.poisson(s.records * 25 * np.exp(load)).astype(np.float64)
        self.last = records
        shift = s.swing * self.level + s.day * np.sin(phase)
        shift = shift if moved is None else shift + moved
        found = []
        for row in range(self.series):
            cuts = special.ndtri(np.clip(np.cumsum(self._usual(row))[:-1], 1e-12, 1 - 1e-12))
            below = special.ndtr(cuts * np.sqrt(1 + s.swing**2) - shift[:, row, None])
            shares = np.diff(below, axis=1, prepend=0.0, append=1.0)
            drawn = rng.multinomial(records.astype(np.int64), shares)
            found.append(drawn / np.maximum(records, 1)[:, None])
        return found, records

    def _usual(self, row: int) -> Floats:
        if row < self.setting.numbers:
            return np.full(16, 1 / 16)
        rate = row - self.setting.numbers
        if rate < len(self.setting.rates):
            share = self.setting.rates[rate]
            return np.array([1 - share, share])
        return _CATEGORY

    def yes(self, row: int) -> Flags:
        """By which shares the product watches a series, for bins of such a reference."""
        if row < self.setting.numbers:
            return np.arange(16) <= np.array([0, 3, 7, 11, 14])[:, None]
        if row - self.setting.numbers < len(self.setting.rates):
            return np.array([[False, True]])
        return np.eye(len(_CATEGORY), dtype=np.bool_)


def kept(slices: int) -> Ints:
    """The slices of a reference that are kept: as `Learning` does, but for the places of the runs in their parts."""
    if slices <= KEPT:
        return np.arange(slices)
    starts = np.arange(RUNS) * slices // RUNS + (slices // RUNS - SLICES) // 2
    return (starts[:, None] + np.arange(SLICES)).ravel()


def learned(shares: Floats, records: Floats, numbers: Ints) -> ReferenceSlices:
    """What is kept of a series: shares (slices, bins) and records of all slices of the reference."""
    total = float(records.sum())
    mean = records @ shares / total
    lags = np.array([float((records[: len(records) - lag] * records[lag:]).sum()) for lag in range(LAGS)]) / total**2
    mine, units = shares[numbers], records[numbers]
    within = multinomial_within(mine, units)
    return ReferenceSlices(numbers, mine, units, units, within, mean, total, lags, 1 / total)


@dataclass(slots=True)
class Watch:
    """All series of all streams in windows of one size."""

    per: int
    """Slices of the finest size to one of this."""
    first: Ints
    """Of each series its first share, and at the end how many there are."""
    evidence: Evidence
    needed: float
    """Log evidence that decides."""
    waiting: Floats
    """Units of the slice that is being filled, for each share: in the share, and in all. Shape (2, shares)."""
    alarms: Ints
    """Decisions of each series."""

    def add(self, number: int, share: Floats, records: Floats) -> None:
        """A slice of the finest size."""
        self.waiting += np.stack([share * records, records])
        if (number + 1) % self.per:
            return
        many = self.waiting[1]
        self.evidence.step(self.waiting[0] / np.maximum(many, 1), many, many)
        self.waiting = np.zeros_like(self.waiting)
        decided = np.flatnonzero(self.log_sum() >= self.needed)
        for row in decided.tolist():
            self.evidence.restart(np.arange(self.first[row], self.first[row + 1]))
        self.alarms[decided] += 1

    def log_sum(self) -> Floats:
        """Log evidence of each series: the mean over its shares."""
        found: Floats = np.logaddexp.reduceat(self.evidence.log_sum, self.first[:-1]) - np.log(np.diff(self.first))
        return found


def watches(streams: Streams, budget: FalseAlarmSettings) -> list[Watch]:
    """One for each size of window, after a reference's time."""
    fine, learning = SIZES[0] // SLICES, streams.setting.reference
    drawn = [streams.draw(begin) for begin in range(-learning, 0, fine)]
    records = np.array([part[1] for part in drawn])
    by_size = thresholds(budget, {Scope("bot"): streams.series}, [size // SLICES for size in SIZES])
    found = []
    for size in SIZES:
        per, nulls, counts = size // SLICES // fine, [], []
        many = records.reshape(-1, per, streams.count).sum(axis=1)
        for stream in range(streams.count):
            for row in range(streams.series):
                shares = np.array([part[0][row][stream] for part in drawn]) * records[:, stream, None]
                shares = shares.reshape(len(many), per, -1).sum(axis=1) / np.maximum(many[:, stream, None], 1)
                known = learned(shares, many[:, stream], kept(len(many)))
                nulls.append(share_nulls(known, streams.yes(row)))
                counts.append(len(nulls[-1]))
        evidence = Evidence.begin(join_nulls(nulls))
        nothing = np.zeros((2, sum(counts)))
        needed = -np.log(by_size[size // SLICES][False])
        first = np.cumsum([0, *counts])
        found.append(Watch(per, first, evidence, needed, nothing, np.zeros(len(counts), np.int64)))
    return found


def step(streams: Streams, watching: Sequence[Watch], number: int, moved: Floats | None = None) -> None:
    """Draw the next slice and hold it against the references."""
    shares, records = streams.draw(number * SIZES[0] // SLICES, moved)
    each = [part @ streams.yes(row).T for row, part in enumerate(shares)]
    share = np.concatenate([np.concatenate([part[stream] for part in each]) for stream in range(streams.count)])
    many = np.repeat(records, sum(part.shape[1] for part in each))
    for watch in watching:
        watch.add(number, share, many)


def months(setting: Setting, count: int, days: int, seed: int) -> Ints:
    """Decisions in each of `count` streams in so many days."""
    streams = Streams(setting, count, np.random.default_rng(seed))
    watching = watches(streams, FalseAlarmSettings())
    for number in range(days * DAY * SLICES // SIZES[0]):
        step(streams, watching, number)
    found: Ints = np.sum([watch.alarms.reshape(count, -1).sum(axis=1) for watch in watching], axis=0)
    return found


def interval(alarms: int) -> tuple[float, float]:
    """95 % interval of a Poisson mean (Garwood, Biometrika 1936)."""
    low = float(stats.chi2.ppf(0.025, 2 * alarms) / 2) if alarms else 0.0
    return low, float(stats.chi2.ppf(0.975, 2 * alarms + 2) / 2)


def delays(rate: float, after: float, count: int, seed: int) -> tuple[float, Floats]:
    """Information bound in records, and the delays of `count` streams (infinite: not within three times the bound and
    a day) after a rate went from `rate` to `after`."""
    setting = Setting("change", numbers=0, rates=(rate,), categories=0, records=5.0)
    streams, budget = Streams(setting, count, np.random.default_rng(seed)), FalseAlarmSettings()
    watching = watches(streams, budget)
    series = 27  # as many as a stream with text has, over which the budget is split
    for watch in watching:
        watch.needed += np.log(series)
    moved = np.full((count, 1), special.ndtri(after) - special.ndtri(rate))
    records, found = np.zeros(count), np.full(count, np.inf)
    needed, divergence = watching[0].needed, after * np.log(after / rate)
    divergence += (1 - after) * np.log((1 - after) / (1 - rate))
    bound = needed / divergence
    for number in range(40):
        step(streams, watching, number)
    before = np.sum([watch.alarms for watch in watching], axis=0)
    number = 40
    while records.min() < 8 * bound and np.isinf(found).any():
        step(streams, watching, number, moved)
        records += streams.last
        now = np.sum([watch.alarms for watch in watching], axis=0) > before
        found = np.where(now & np.isinf(found), records, found)
        number += 1
    return float(bound), found


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=200, help="of the default setting; the others a twentieth each")
    parser.add_argument("--days", type=int, default=30, help="to a month")
    parser.add_argument("--only", default="", help="settings whose name holds this")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    begin = time.monotonic()
    print("| setting | months | false alarms a month (95 %) | series |")
    print("|---|---|---|---|")
    for place, setting in enumerate(SETTINGS):
        if chosen.only in setting.name:
            count = chosen.months if not place else max(chosen.months // 20, 1)
            done = 0
            alarms = 0
            while done < count:
                part = min(20, count - done)
                alarms += int(months(setting, part, chosen.days, chosen.seed + done).sum())
                done += part
            time_seen = count * chosen.days / 30
            low, high = interval(alarms)
            shown = f"{alarms / time_seen:.2f} ({low / time_seen:.2f} to {high / time_seen:.2f})"
            series = Streams(setting, 1, np.random.default_rng(0)).series
            print(f"| {setting.name} | {time_seen:g} | {shown} | {series} |", flush=True)
    print()
    print("| rate | information bound | median, 90 % of delays over the bound |")
    print("|---|---|---|")
    for rate, after in CHANGES:
        if not chosen.only:
            bound, found = delays(rate, after, 100, chosen.seed)
            ratio = np.sort(found) / bound
            row = f"| {rate:g} to {after:g} | {bound:,.0f} records | {np.median(ratio):.2f}, {ratio[89]:.2f} |"
            print(row, flush=True)
    print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
