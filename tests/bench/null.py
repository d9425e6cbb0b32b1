"""How often an unchanged series is decided: `python tests/bench/null.py [--quick] [--markdown FILE]`.

Every series learns its own reference and is then read slice after slice by what the product itself uses: `Learning`,
`Judge.push` and `Judge.read`. Nothing changes but what the setting says is usual. Printed: the share of series whose
evidence ever passed one over what a slice may spend, beside the most that is allowed, that times the slices watched.

All slices of one series are held against the same reference; a share is over `series` references.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from scipy import special

from monitor.calibration import Cycle
from monitor.model import Categories, Column, Floats, Hashes, Ints, Kind, Scope, Signal
from monitor.readings import Judge
from monitor.reference import Learning
from monitor.summaries import summarise
from monitor.windows import SLICES, Contents, Slice

SIZE = SLICES * 1_000
"""A window of twelve slices of one second; only the number of slices matters."""
LEVELS = (1e-3, 1e-4, 1e-6)
"""Error probabilities that a series may spend on each slice."""
KINDS: tuple[Kind, ...] = ("numeric", "category", "rate")
SIGNALS = {kind: Signal(kind, kind) for kind in KINDS}
_SHARES: Mapping[Kind, tuple[float, ...]] = {
    "category": (0.45, 0.2, 0.12, 0.1, 0.06, 0.04, 0.02, 0.01),
    "rate": (0.96, 0.04),
}
_LOAD = 0.7
"""Amplitude of the logarithm of the traffic where it follows a cycle."""
_SESSION_RECORDS = 5
_SESSION_SLICES = 3
_ALIKE = 0.5
"""Correlation of records in one session, on the scale of the normal variate that values are made of."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is usual in one simulation."""

    records: float
    """Records that a window holds while the reference is learned."""
    traffic: float = 1.0
    """The windows' traffic against the reference's."""
    slices: int = 288
    """Slices of the reference."""
    swing: float = 0.0
    """Standard deviation of slice means, in standard deviations of a record."""
    memory: float = 0.0
    """Correlation of the swing from slice to slice."""
    sessions: bool = False
    uneven: float = 0.0
    """Standard deviation of the logarithm of the traffic, which wanders with memory 0.9."""
    shares: tuple[float, ...] = ()
    """Of the values, ascending; without any those that are usual for the kind."""
    sample: int = 0
    """Records of a slice that are measured; 0 for all."""
    cycle: float = 0.0
    """Amplitude of a sine that slice means follow, in standard deviations of a record; traffic follows one as well. The
    reference is seasonal then."""
    period: int = 96
    """Slices of that sine."""

    @property
    def name(self) -> str:
        parts = [f"{self.records:.0f} records", f"x {self.traffic:g}", f"{self.slices} slices"]
        parts += [f"swing {self.swing:g} AR({self.memory:g})"] if self.swing else []
        parts += ["sessions"] if self.sessions else []
        parts += [f"uneven {self.uneven:g}"] if self.uneven else []
        parts += [f"shares {' '.join(f'{share:.2g}' for share in self.shares)}"] if self.shares else []
        parts += [f"sample of {self.sample}"] if self.sample else []
        parts += [f"cycle {self.cycle:g} of {self.period}"] if self.cycle else []
        return ", ".join(parts)


@dataclass(slots=True)
class Traffic:
    """Draws records of many series, slice by slice; what swings goes on from one call to the next."""

    setting: Setting
    kind: Kind
    series: int
    rng: np.random.Generator
    level: Floats
    load: Floats
    next_session: int = 1
    drawn: int = 0
    """Slices that were drawn before."""

    @classmethod
    def begin(cls, setting: Setting, kind: Kind, series: int, seed: int) -> Traffic:
        rng = np.random.default_rng(seed)
        return cls(setting, kind, series, rng, rng.standard_normal(series), rng.standard_normal(series))

    def _wander(self, state: Floats, memory: float, count: int) -> Floats:
        """The next `count` values of an AR(1) process of unit variance for each series, (series, count)."""
        path = np.empty((self.series, count))
        for i in range(count):
            state *= memory
            state += np.sqrt(1 - memory**2) * self.rng.standard_normal(self.series)
            path[:, i] = state
        return path

    def draw(self, count: int, traffic: float) -> tuple[Ints, Column, Hashes]:
        """Records of the next `count` slices: group (series x count + slice), value, session."""
        swing = self._wander(self.level, self.setting.memory, count) * self.setting.swing
        load = self._wander(self.load, 0.9, count) * self.setting.uneven
        if self.setting.cycle:
            angle = 2 * np.pi * (self.drawn + np.arange(count) + 0.5) / self.setting.period
            swing += self.setting.cycle * np.sin(angle)
            load += _LOAD * np.sin(angle + 1)
        self.drawn += count
        expected = self.setting.records * traffic / SLICES * np.exp(load - self.setting.uneven**2 / 2)
        if self.setting.sessions:
            groups, session, own = self._sessions(expected, count)
        else:
            groups = np.repeat(np.arange(self.series * count), self.rng.poisson(expected).ravel())
            session, own = np.zeros(len(groups), np.uint64), np.zeros(len(groups))
        rest = np.sqrt(1 - _ALIKE) if self.setting.sessions else 1.0
        z = own + rest * self.rng.standard_normal(len(groups)) + swing.ravel()[groups]
        return groups, self._values(z), session

    def _sessions(self, expected: Floats, count: int) -> tuple[Ints, Hashes, Floats]:
        """Sessions that begin in a slice and whose records lie in it and the next two (none beyond the last)."""
        begun = np.repeat(np.arange(self.series * count), self.rng.poisson(expected / _SESSION_RECORDS).ravel())
        length = self.rng.geometric(1 / _SESSION_RECORDS, len(begun))
        names = self.rng.integers(1, 2**63, len(begun)).astype(np.uint64)
        shared = np.sqrt(_ALIKE) * self.rng.standard_normal(len(begun))
        row = np.repeat(np.arange(len(begun)), length)
        later = self.rng.integers(0, _SESSION_SLICES, len(row))
        inside = begun[row] % count + later < count
        row, later = row[inside], later[inside]
        return begun[row] + later, names[row], shared[row]

    def _values(self, z: Floats) -> Column:
        """Normal variates as values of the kind, with the same marginal whatever they share."""
        if self.kind == "numeric" and not self.setting.shares:
            return np.exp(4 + 0.8 * z)
        shares = self.setting.shares or _SHARES[self.kind]
        edges: Floats = special.ndtri(np.minimum(np.cumsum(shares)[:-1], 1.0))
        places = np.searchsorted(edges, z)
        if self.kind == "category":
            return Categories([f"c{i}" for i in range(len(shares))], places.astype(np.int32))
        return places.astype(np.float64)


def sampled(groups: Ints, number: int, most: int, rng: np.random.Generator) -> Ints:
    """Places of at most so many records of each group, drawn by chance. `groups` ascend."""
    order = np.lexsort((rng.random(len(groups)), groups))
    records = np.bincount(groups, minlength=number)
    place = np.arange(len(groups)) - np.repeat(np.cumsum(records) - records, records)
    return np.sort(order[place < most])


def stands_for(records: Ints, most: int) -> Floats:
    """Records that each of those of a sample stands for, given how many each group has."""
    return np.asarray(np.maximum(records / most, 1.0), np.float64)


Change = Callable[[Column, Ints], Column]
"""Values, and the series of each, to what is measured in their place."""


def slices_of(
    traffic: Traffic,
    first: int,
    count: int,
    factor: float,
    change: Change | None = None,
    *,
    signal: Signal | None = None,
) -> list[Slice]:
    """The next `count` slices of all series, from slice number `first` on; `change` (values, series) changes them."""
    signal, length, number = signal_of(traffic, signal), SIZE // SLICES, traffic.series * count
    groups, values, session = traffic.draw(count, factor)
    values = values if change is None else change(values, groups // count)
    records, sample, weight = np.bincount(groups, minlength=number), traffic.setting.sample, None
    if sample:
        rows, weight = sampled(groups, number, sample, traffic.rng), stands_for(records, sample)
        groups, session = groups[rows], session[rows]
        values = values.take(rows) if isinstance(values, Categories) else values[rows]
    found = summarise(signal, values, groups, number, session, weight)
    return [
        Slice(
            (first + i) * length,
            (first + i + 1) * length,
            {
                scope_of(row): Contents(int(records[row * count + i]), {signal.name: found[row * count + i]})
                for row in range(traffic.series)
                if found[row * count + i].n
            },
        )
        for i in range(count)
    ]


def scope_of(row: int) -> Scope:
    return Scope(f"{row:06d}")


def signal_of(traffic: Traffic, signal: Signal | None = None) -> Signal:
    return msgspec.structs.replace(signal or SIGNALS[traffic.kind], sample=traffic.setting.sample > 0)


def learn(traffic: Traffic, judge: Judge, change: Change | None = None, signal: Signal | None = None) -> None:
    """Every series learns its reference from `slices` slices and joins the judge."""
    length, count = SIZE // SLICES, traffic.setting.slices
    cycle = Cycle.of(traffic.setting.period * length, length) if traffic.setting.cycle else None
    learning = [Learning(scope_of(row), 0, count * length, [SIZE], cycle=cycle) for row in range(traffic.series)]
    for first in range(0, count, SLICES):
        for found in slices_of(traffic, first, SLICES, 1.0, change, signal=signal):
            for one in learning:
                one.take(SIZE, found)
    for one in learning:
        judge.join(one.freeze({traffic.kind: signal_of(traffic, signal)}), [])


@dataclass(frozen=True, slots=True)
class Simulated:
    """What one simulation found."""

    setting: Setting
    kind: Kind
    least: Floats
    """Least p-value of each series over all slices. Shape (series,)."""
    slices: int

    def reached(self, level: float) -> float:
        """Share of the series that were ever decided at `level` a slice."""
        return float((self.least <= level).mean())

    def allowed(self, level: float) -> float:
        """The most that `reached` may be on average."""
        return min(level * self.slices, 1.0)


def simulate(setting: Setting, kind: Kind, series: int, windows: int, seed: int = 1) -> Simulated:
    """Watch each of `series` unchanged series for so many windows that do not overlap."""
    traffic = Traffic.begin(setting, kind, series, seed)
    judge = Judge(SIZE, {})
    learn(traffic, judge)
    least = np.ones(series)
    for i in range(windows):
        for found in slices_of(traffic, setting.slices + i * SLICES, SLICES, setting.traffic):
            judge.push(found)
            least = np.minimum(least, judge.shares.p_values())
    return Simulated(setting, kind, least, windows * SLICES)


FULL: Sequence[Setting] = [
    *(Setting(60, factor) for factor in (1, 5)),
    *(Setting(300, factor) for factor in (0.2, 1, 5)),
    *(Setting(3000, factor) for factor in (0.2, 1)),
    *(Setting(300, factor, swing=0.1, memory=0.8) for factor in (0.2, 1, 5)),
    Setting(3000, 1, swing=0.1, memory=0.8),
    *(Setting(300, factor, swing=0.3, memory=0.8) for factor in (1, 5)),
    Setting(300, 1, slices=72),
    Setting(300, 1, slices=72, swing=0.1, memory=0.8),
    Setting(300, 1, slices=72, swing=0.3, memory=0.8),
    Setting(300, 1, slices=144, swing=0.3, memory=0.8),
    Setting(300, 1, uneven=0.7, swing=0.1, memory=0.8),
    Setting(60, 1, slices=3456),
    *(Setting(600, factor, sessions=True) for factor in (0.5, 1)),
    Setting(3000, 1, sessions=True, swing=0.1, memory=0.8),
    *(Setting(300, factor, shares=(0.997, 0.003)) for factor in (0.2, 1, 5)),
    *(Setting(300, shares=(0.98, 0.02), slices=slices) for slices in (72, 288)),
    Setting(3000, shares=(0.997, 0.003), swing=0.1, memory=0.8),
    Setting(600, sessions=True, shares=(0.997, 0.003)),
    Setting(600, sessions=True, shares=(0.99, 0.01), swing=0.1, memory=0.8),
    *(Setting(6000, factor, sample=64) for factor in (0.2, 1, 5)),
    Setting(6000, sample=64, swing=0.1, memory=0.8),
    Setting(6000, sample=64, sessions=True),
    *(Setting(300, factor, cycle=0.5) for factor in (0.2, 1, 5)),
    Setting(300, cycle=0.5, period=144),
    *(Setting(300, swing=swing, memory=0.8, cycle=0.5) for swing in (0.1, 0.3)),
    Setting(600, sessions=True, cycle=0.5),
]
QUICK: Sequence[Setting] = [
    Setting(300),
    Setting(300, 0.2),
    Setting(300, 1, swing=0.1, memory=0.8),
    Setting(600, 1, sessions=True),
]
COLUMNS = ("setting", "kind", "series", "slices", *(f"{level:g}" for level in LEVELS))


def row_of(found: Simulated) -> list[str]:
    """One row of the table."""
    shares = [f"{found.reached(level):.3f} of {found.allowed(level):.3g}" for level in LEVELS]
    return [found.setting.name, found.kind, str(len(found.least)), str(found.slices), *shares]


def table(rows: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """Rows under COLUMNS, aligned; with bars between where `markdown`."""
    widths = [max(len(row[i]) for row in [COLUMNS, *rows]) for i in range(len(COLUMNS))]
    lines = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in [COLUMNS, *rows]]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def effort(setting: Setting, *, quick: bool) -> tuple[int, int]:
    """Series and windows to simulate: fewer where windows are large."""
    series, most = (50, 2e6) if quick else (200, 1e7)
    return series, int(min(20 if quick else 50, max(most / (setting.records * setting.traffic * series), 5)))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four settings, under a minute")
    parser.add_argument("--markdown", type=Path, help="write the table here as well, as markdown")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="settings whose name holds this")
    chosen = parser.parse_args(arguments)
    begin, rows = time.monotonic(), []
    for setting in [setting for setting in (QUICK if chosen.quick else FULL) if chosen.only in setting.name]:
        for kind in ("category",) if setting.shares else KINDS:
            series, windows = effort(setting, quick=chosen.quick)
            rows.append(row_of(simulate(setting, kind, series, windows, chosen.seed)))
            print(f"{time.monotonic() - begin:6.0f} s  {'  '.join(rows[-1])}", file=sys.stderr, flush=True)
    print(table(rows))
    print(f"{time.monotonic() - begin:.0f} s")
    if chosen.markdown:
        chosen.markdown.write_text(table(rows, markdown=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
