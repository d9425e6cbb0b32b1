"""Versions that run at the same time held against each other: no reference is needed, and what changes for all is none.

For each pair of an arm and its baseline, each signal is watched by shares as it is against a reference; where the bins
lie is frozen from the first records of both. In each slice that holds units of both their shares are compared
(`monitor/arm_evidence.py`), so that a common change says nothing. Pure: the caller says how far time has come.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np

from monitor.arm_evidence import ArmEvidence
from monitor.model import STRETCH, Flags, Floats, Ints, Kind, Pieces, Reading, Scope, Signal, piece_key
from monitor.readings.arm_power import detectable
from monitor.readings.arm_units import Known, SessionsBefore, records_of
from monitor.readings.compared import Compared, Shown, Window, shown_in
from monitor.readings.intervals import Z_STRETCH, of_differences
from monitor.readings.lacking import LEAST_UNITS, lacking
from monitor.readings.matters import matters
from monitor.readings.packing import packed_shares
from monitor.readings.pairs import Pair, Pairs
from monitor.readings.verdicts import followed, mean_log, number, verdict_of
from monitor.reference import SeriesReference, never_logged
from monitor.summaries import SUMMARIES, AnySummary
from monitor.windows import SLICES, Slice

TEST = "arm_e"
_KINDS: frozenset[Kind] = frozenset({"rate", "numeric", "category"})


class Stepped(NamedTuple):
    """What one slice brought."""

    weight: float
    """Slices' worth of error probability that the series spend on it, together."""
    changed: bool
    """Whether there are other series than before."""


@dataclass(slots=True)
class ArmTable:
    """All pairs of arms and their series, in windows of one size."""

    size: int
    labels: Sequence[str]
    """Whose values are versions."""
    signals: Mapping[str, Signal]
    own: Mapping[str, float]
    """What matters, where the owner set it."""
    pairs: Pairs = field(init=False)
    series: list[Compared] = field(default_factory=list)
    left_out: dict[Pair, set[str]] = field(default_factory=dict)
    """Signals that are not compared: never logged, or accepted as they are."""
    first: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    """Of each series its first share, and at the end how many there are."""
    evidence: ArmEvidence = field(default_factory=ArmEvidence)
    drifting: Flags = field(default_factory=lambda: np.empty(0, np.bool_))
    """Decided, and not yet calm for a window."""
    calm: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Slices for which the window has been calm since the decision."""
    _sessions: SessionsBefore = field(default_factory=SessionsBefore)

    def __post_init__(self) -> None:
        self.pairs = Pairs(self.labels, self.size // SLICES)

    # ---- slices -----------------------------------------------------------------------------------------------------

    def push(self, window: Window, now: int) -> Stepped:
        """A slice ended at `now`, the last of `window`."""
        before = len(self.series)
        ended = set(self.pairs.step(window, now))
        if ended:
            self._keep([row for row, one in enumerate(self.series) if one.pair not in ended])
            self.left_out = {pair: names for pair, names in self.left_out.items() if pair not in ended}
        kept, newest = len(self.series), dict(window).get(SLICES - 1)
        earlier = [found for place, found in window if place < SLICES - 1]
        known: dict[Pair, Known] = {}
        if newest is not None:
            for pair in sorted(pair for pair, last in self.pairs.live.items() if last == now):
                known[pair] = self._sessions.of(earlier, pair.scopes)
                self._meet(pair, newest, earlier)
        self._sessions.forget(now - self.size)
        weight = self._step(newest, known, now)
        return Stepped(weight, (before, kept) != (kept, len(self.series)))

    def _meet(self, pair: Pair, newest: Slice, earlier: Sequence[Slice]) -> None:
        """Begin to compare the signals of which both arms hold records now, and slices before hold enough."""
        known = {one.signal.name for one in self.series if one.pair == pair} | self.left_out.setdefault(pair, set())
        label = pair.arm.partition("=")[0]
        held = [newest.scopes[scope].summaries for scope in pair.scopes]
        for name in sorted((held[0].keys() & held[1].keys()) - known - {label, f"{label}_missing"}):
            signal = self.signals.get(name)
            if signal is None or signal.kind not in _KINDS:
                continue
            parts = [found.summary(scope, name) for found in earlier for scope in pair.scopes]
            first = [part for part in parts if part is not None]
            if sum(part.n for part in first) < LEAST_UNITS:
                continue
            one = Compared(pair, SeriesReference(pair.scopes[0], signal, records_of(signal, first), {}))
            if never_logged(name, one.usual.summary) or not len(one.yes):
                self.left_out[pair].add(name)
            else:
                self._join(one)

    def _join(self, one: Compared) -> None:
        self.series.append(one)
        self.evidence.join(one.yes @ one.shape.record_shares * one.usual.n, one.usual.n)
        self.first = np.append(self.first, self.first[-1] + len(one.yes))
        self.drifting, self.calm = np.append(self.drifting, False), np.append(self.calm, 0)

    def _keep(self, rows: Sequence[int]) -> None:
        """Let all other series go."""
        shares = [np.arange(self.first[row], self.first[row + 1]) for row in rows]
        self.evidence.keep(np.concatenate([np.empty(0, np.int64), *shares]))
        self.series = [self.series[row] for row in rows]
        self.first = np.cumsum([0, *map(len, shares)])
        self.drifting, self.calm = self.drifting[rows], self.calm[rows]

    def _step(self, newest: Slice | None, known: Mapping[Pair, Known], now: int) -> float:
        """Add the newest slice to the evidence; returns what is spent on it."""
        sums = np.zeros((len(self.evidence), 4))
        for one, begin, end in zip(self.series, self.first[:-1].tolist(), self.first[1:].tolist(), strict=True):
            found = one.sums(newest, known[one.pair]) if newest is not None and one.pair in known else None
            if found is not None:
                sums[begin:end] = found
        return float(self.evidence.step(sums, now - self.size // SLICES)[self.first[:-1]].sum())

    # ---- readings ---------------------------------------------------------------------------------------------------

    def read(self, now: int, window: Window, threshold: float) -> list[Reading]:
        """Readings of every series, in their order.

        Parameters
        ----------
        threshold : error probability that each slice of each series may spend

        """
        if not self.series:
            return []
        p_value = np.exp(-np.maximum(mean_log(self.evidence.log_e(), self.first), 0))
        beyond, least = p_value <= threshold, self._matter()
        recent, smallest = (
            mean_log(self.evidence.recent(), self.first),
            detectable(self.series, self.first, self.evidence, threshold, least),
        )
        units = self._units()
        in_window = shown_in(self.series, [window] * len(self.series), units)
        stretching = beyond & ~self.drifting
        told = self._by_stretch(in_window, np.flatnonzero(stretching), window)
        drift = self.drifting | (beyond & (_sizes(told) >= least))
        readings = [
            self._reading(
                row,
                now,
                told[row],
                units=round(float(units[row].min())),
                p_value=float(p_value[row]),
                threshold=threshold,
                drift=bool(drift[row]),
                stretching=bool(stretching[row]),
                detectable=float(smallest[row]),
                least=float(least[row]),
            )
            for row in range(len(self.series))
        ]
        some = np.array([one.n > 0 for one in in_window])
        self._follow(drift, some & ((_sizes(in_window) < least) | (recent <= 0)))
        return sorted(readings, key=lambda r: (r.stream, r.segment or "", r.against, r.signal))

    def _by_stretch(self, in_window: Sequence[Shown], rows: Ints, window: Window) -> list[Shown]:
        """What is shown, at some series by the likeliest stretch of slices in the place of the window."""
        told = list(in_window)
        stretches = [self.evidence.strongest(self._strongest(row)) for row in rows.tolist()]
        short = [[part for part in window if part[1].start >= since] for since, _ in stretches]
        units = np.array([sums[1::2] for _, sums in stretches]).reshape(-1, 2)
        found = shown_in([self.series[row] for row in rows.tolist()], short, units, Z_STRETCH)
        for row, (_, sums), one in zip(rows.tolist(), stretches, found, strict=True):
            if self.series[row].signal.kind == "rate":  # of which the sums say it however long it is
                value, usual = float(sums[0] / sums[1]), float(sums[2] / sums[3])
                here, there = 1 / np.maximum(sums[1::2], 1)
                low, high = of_differences(np.array(value), np.array(usual), here, there, Z_STRETCH)
                told[row] = told[row]._replace(
                    value=value, baseline=usual, effect=value - usual, low=float(low), high=float(high)
                )
            elif one.n:
                told[row] = told[row]._replace(
                    value=one.value,
                    baseline=one.baseline,
                    effect=one.effect,
                    low=one.low,
                    high=one.high,
                    unit=one.unit,
                    moved=one.moved,
                )
        return told

    def _units(self) -> Floats:
        """Units of arm and baseline in the window of each series. Shape (S, 2)."""
        found: Floats = self.evidence.window[self.first[:-1], :, 1::2].sum(axis=1)
        return found

    def _strongest(self, row: int) -> int:
        """The share of a series that differs most clearly."""
        begin, end = int(self.first[row]), int(self.first[row + 1])
        return begin + int(self.evidence.log_e()[begin:end].argmax())

    def _reading(
        self,
        row: int,
        now: int,
        told: Shown,
        *,
        units: int,
        p_value: float,
        threshold: float,
        drift: bool,
        stretching: bool,
        detectable: float,
        least: float,
    ) -> Reading:
        one = self.series[row]
        smallest = detectable if math.isfinite(detectable) and told.n else None
        verdict = verdict_of(units, math.inf, drift=drift, seen=smallest is not None and smallest <= least)
        lacks = lacking(self.size, units, math.inf, smallest, least) if verdict == "insufficient" else ""
        return Reading(
            at=now,
            window=self.size,
            window_start=now - self.size,
            stream=one.pair.stream,
            segment=one.pair.arm,
            signal=one.signal.name,
            kind=one.signal.kind,
            test=TEST,
            value=number(told.value),
            reference_value=number(told.baseline),
            effect=number(told.effect),
            effect_unit=told.unit + STRETCH * stretching,
            p_value=p_value if told.n else None,
            threshold=threshold,
            verdict=verdict,
            n=told.n,
            units=units,
            reference_n=told.baseline_n,
            reference_slices=told.slices,
            detectable=smallest,
            tail="anytime",
            against=one.pair.baseline,
            lacks=lacks,
            moved=told.moved if verdict == "drift" else "",
            changed_at=self.evidence.strongest(self._strongest(row))[0] if verdict == "drift" else None,
            effect_low=number(told.low) if math.isfinite(told.effect) else None,
            effect_high=number(told.high) if math.isfinite(told.effect) else None,
        )

    def _matter(self) -> Floats:
        """The smallest difference of each series that its owner wants to hear of."""
        rates = self.evidence.predicted[self.first[:-1]].tolist()
        return np.array([matters(one.signal, self.own, rate) for one, rate in zip(self.series, rates, strict=True)])

    def _follow(self, drift: Flags, still: Flags) -> None:
        """Remember decisions; after a calm window the evidence begins anew."""
        self.drifting, self.calm, over = followed(drift, still, self.calm)
        for row in over:
            self.evidence.restart(np.arange(int(self.first[row]), int(self.first[row + 1])))

    def sides(self, reading: Reading, window: Window) -> tuple[AnySummary, list[AnySummary]] | None:
        """What a reading is about: the records of the baseline, and those of the arm slice by slice."""
        for one in self.series:
            pair = one.pair
            if (pair.scopes[0], pair.baseline, one.signal.name) == (reading.scope, reading.against, reading.signal):
                common = one.common(window)
                parts = [found.summary(reading.scope, reading.signal) for _, found in common]
                return one.beside(common)[0].reference.summary, [part for part in parts if part is not None]
        return None

    # ---- state ------------------------------------------------------------------------------------------------------

    def alive(self) -> set[tuple[Scope, str, str]]:
        """Arm, baseline and signal of every series: each has a part of the budget."""
        return {(one.pair.scopes[0], one.pair.baseline, one.signal.name) for one in self.series}

    def pieces(self) -> Pieces:
        """Packed state that never changes: the first records of each series."""
        return {
            ("arm", piece_key(self.size, *one.pair, one.signal.name)): one.usual.summary.dump for one in self.series
        }

    def dump(self) -> bytes:
        """The rest, packed."""
        names = [(one.pair, one.signal.name) for one in self.series]
        counts = np.diff(self.first).tolist()
        left_out = [(pair, sorted(signals)) for pair, signals in self.left_out.items()]
        columns = [*self.evidence.dump(), self.drifting.tobytes(), self.calm.tobytes()]
        return msgspec.msgpack.encode((self.pairs.dump(), names, counts, left_out, columns))

    def restore(self, data: bytes, held: Mapping[tuple[str, str], bytes]) -> None:
        """The inverse of `dump` and `pieces`, into a new table."""
        pairs, names, counts, left_out, columns = msgspec.msgpack.decode(data)
        self.pairs.restore(pairs)
        self.left_out = {Pair(*pair): set(signals) for pair, signals in left_out}
        for key, name in names:
            pair, signal = Pair(*key), self.signals[name]
            summary = SUMMARIES[signal.kind].load(held["arm", piece_key(self.size, *pair, name)])
            self.series.append(Compared(pair, SeriesReference(pair.scopes[0], signal, summary, {})))
        self.first = np.cumsum([0, *counts])
        *evidence, drifting, calm = columns
        self.evidence = ArmEvidence.load(evidence)
        self.drifting = np.frombuffer(drifting, np.bool_).copy()
        self.calm = np.frombuffer(calm, np.int64).copy()


def as_they_are(data: bytes, gone: Collection[tuple[Scope, str]]) -> bytes:
    """What `ArmTable.dump` packed, with some signals of arms not compared any more."""
    pairs, names, counts, left_out, columns = msgspec.msgpack.decode(data)
    lost = {(*scope, signal) for scope, signal in gone}
    kept = [row for row, ((stream, arm, *_), name) in enumerate(names) if (stream, arm, name) not in lost]
    *series, packed = _rows(names, counts, columns, kept)
    found = {tuple(pair): {*signals, *(s for *arm, s in lost if arm == pair[:2])} for pair, signals in left_out}
    out = [(pair, sorted(signals)) for pair, signals in found.items()]
    return msgspec.msgpack.encode((pairs, *series, out, packed))


def without(data: bytes, signals: Collection[str]) -> bytes:
    """What `ArmTable.dump` packed, as if some signals had never been met."""
    pairs, names, counts, left_out, columns = msgspec.msgpack.decode(data)
    kept = [row for row, (_, name) in enumerate(names) if name not in signals]
    *series, packed = _rows(names, counts, columns, kept)
    out = [(pair, [name for name in found if name not in signals]) for pair, found in left_out]
    return msgspec.msgpack.encode((pairs, *series, out, packed))


def _rows(
    names: Sequence[Any], counts: Sequence[int], columns: Sequence[bytes], kept: Sequence[int]
) -> tuple[list[Any], list[int], list[bytes]]:
    """Names, shares and packed columns of some series."""
    packed = packed_shares(columns, {len(columns) - 2, len(columns) - 1}, counts, kept)
    return [names[row] for row in kept], [counts[row] for row in kept], packed


def _sizes(told: Sequence[Shown]) -> Floats:
    """Sizes of effects, 0 where there is none."""
    return np.array([0.0 if math.isnan(one.effect) else abs(one.effect) for one in told])
