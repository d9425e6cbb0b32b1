"""Whether the share of yes has changed since the reference: of a rate, or of the rare values of a category.

`rate_e`, evidence over time (eprocess): it decides where the sum of e-processes passes one over the error probability
that a step may spend, and stays decided until the window's rate has been within what matters, or within two standard
errors of the reference's where those are more, for a whole window.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from scipy import special

from monitor.calibration import CELL_UNITS
from monitor.eprocess import REACH, Evidence, rate_null
from monitor.model import Flags, Floats, Ints, Scope
from monitor.readings.shapes import window_counts
from monitor.reference import SeriesReference
from monitor.windows import SLICES, Slice

_POWER = 1.2816
_ALTERNATIVES = 50.0
"""Weight of the alternative that comes true among all: what not knowing the change costs."""
_CHANGES: Floats = np.geomspace(0.001, 0.9, 120)


@dataclass(frozen=True, slots=True)
class Rates:
    """What one pass over the rates of a window found. Shape (S,) each."""

    p_value: Floats
    threshold: Floats
    effect: Floats
    detectable: Floats
    value: Floats
    reference_value: Floats
    decided: Flags
    stretching: Flags
    """Whether `effect` is that of the strongest stretch of slices, not of the window."""
    records: Ints
    units: Ints


@dataclass(frozen=True, slots=True)
class Share:
    """The records of a series that lie in some of its bins."""

    reference: SeriesReference
    yes: Flags
    """Whether each bin counts; shape (bins,)."""

    def counted(self, keys: Ints, mass: Ints | Floats) -> float:
        """Records of cells that count."""
        return float(mass[self.yes[self.reference.place(keys)]].sum())

    @property
    def rate(self) -> float:
        cells = self.reference.summary.cells
        return self.counted(cells.keys, cells.mass) / max(cells.n, 1)


def share_of_yes(reference: SeriesReference) -> Share:
    """What a rate is."""
    return Share(reference, np.array([False, True]))


def share_of_rare(reference: SeriesReference, size: int) -> Share:
    """The values of a category that too few units of a window are expected to have for a cell of their own.

    Those that the reference does not know, its last bin, are among them.
    """
    rows = reference.slices[size]
    in_window = float(rows.seen.mean()) * SLICES if len(rows.seen) else 0.0
    rare = rows.mean * in_window < CELL_UNITS
    rare[-1] = True
    return Share(reference, rare)


@dataclass(slots=True)
class RateTable:
    """All rates of one window size."""

    size: int
    series: list[Share] = field(default_factory=list)
    matters: list[float] = field(default_factory=list)
    learned: list[tuple[int, int]] = field(default_factory=list)
    """Begin and end of each reference."""
    evidence: Evidence = field(default_factory=Evidence)

    def join(self, share: Share, matters: float, learned: tuple[int, int] = (0, 0)) -> None:
        """Add a rate whose evidence begins now; slices of the time in which it was `learned` are none."""
        rows = share.reference.slices[self.size]
        successes = rows.shares @ share.yes * rows.seen
        null = rate_null(rows.number, successes, rows.seen, _rest(share, successes, rows.seen), matters)
        self.series.append(share)
        self.matters.append(matters)
        self.learned.append(learned)
        self.evidence.join(null)

    def push(self, number: int, found: Slice | None) -> None:
        """The next slice (None: without records)."""
        if not self.series:
            return
        successes, trials = np.zeros(len(self.series)), np.zeros(len(self.series))
        if found is not None:
            for row, share in enumerate(self.series):
                begin, end = self.learned[row]
                if begin < found.end and found.start < end:
                    continue
                reference = share.reference
                summary = found.summary(reference.scope, reference.signal.name)
                if summary is not None:
                    shares, _, seen = summary.cells.project(reference.place, reference.bins)
                    successes[row], trials[row] = float(shares @ share.yes) * seen, seen
        self.evidence.step(number, successes, trials)

    def read(self, window: Sequence[tuple[int, Slice]], threshold: Floats) -> Rates:
        """Where the evidence stands, and the rates of the present window.

        Parameters
        ----------
        window : the slices of the window
        threshold : error probability that each slice of each series may spend, shape (S,)

        """
        evidence, matters = self.evidence, np.array(self.matters)
        counts = window_counts([share.reference for share in self.series], window)
        n = np.array([found.n for found in counts], np.int64)
        successes = np.array([s.counted(c.keys, c.counts) for s, c in zip(self.series, counts, strict=True)])
        usual = np.array([share.rate for share in self.series])
        value = np.where(n > 0, successes / np.maximum(n, 1), np.nan)
        here = np.where(n > 0, value - usual, 0.0)
        spent = threshold * evidence.blocks
        p_value = np.exp(-np.maximum(evidence.log_sum, 0))
        units = np.array([found.units for found in counts], np.int64)
        stretch = np.array([self._stretch(row) for row in range(len(self.series))])
        beyond = p_value <= spent
        decided = evidence.drifting | (beyond & (np.abs(stretch) >= matters))
        stretching = beyond & ~evidence.drifting
        effect = np.where(stretching, stretch, here)
        noise = 2 * np.sqrt(usual * (1 - usual) * evidence.more / np.maximum(units, 1))
        self._follow(decided, (n > 0) & (np.abs(here) < np.maximum(matters, noise)))
        return Rates(
            p_value,
            spent,
            effect,
            self._detectable(units, spent),
            value,
            usual,
            decided,
            stretching,
            n,
            units,
        )

    def _stretch(self, row: int) -> float:
        """How far the rate of the strongest stretch is from the reference's, units weighing the same in both."""
        successes, trials = self.evidence.stretch(row)
        return successes / trials - self.evidence.nulls[row].rate if trials > 0 else 0.0

    def _follow(self, decided: Flags, calm: Flags) -> None:
        """Remember decisions; after a calm window the evidence begins anew."""
        evidence = self.evidence
        evidence.drifting = decided.copy()
        evidence.calm = np.where(decided & calm, evidence.calm + 1, 0)
        over = np.flatnonzero(evidence.calm >= SLICES)
        if len(over):
            evidence.restart(over)

    def _detectable(self, units: Ints, spent: Floats) -> Floats:
        """The smallest change that a window of so many units would have shown with 90 % power; NaN where none.

        Evidence grows by the divergence KL of the new rate from the old, for each unit that counts: those of the
        window, fewer where units of a step or steps go together, against those of the reference.
        """
        more = self.evidence.more
        usual = np.array([null.rate for null in self.evidence.nulls])[:, None]
        a_step = units * self.evidence.blocks / SLICES
        effective = units / (1 + np.maximum(a_step - 1, 0) * self.evidence.correlations) / more
        of_reference = np.array([max(share.reference.known(self.size), 1) for share in self.series]) / more
        both = (effective * of_reference / np.maximum(effective + of_reference, 1))[:, None]
        needed = (np.log(_ALTERNATIVES) - np.log(spent))[:, None]
        p = np.clip(usual, 0.5 / of_reference[:, None], 1 - 0.5 / of_reference[:, None])
        found = [self._side(usual, sign, p, both, needed) for sign in (1, -1)]
        return np.maximum(found[0], found[1])

    def _side(self, usual: Floats, sign: int, p: Floats, both: Floats, needed: Floats) -> Floats:
        """The smallest change up or down that would have shown; 0 where none that matters is possible on that side."""
        q = np.clip(usual + sign * _CHANGES, 1e-9, 1 - 1e-9)
        grown = both * (special.xlogy(q, q / p) + special.xlogy(1 - q, (1 - q) / (1 - p)))
        room = 1 - usual if sign > 0 else usual
        hit = (room >= _CHANGES) & (grown - _POWER * np.sqrt(2 * grown) >= needed)
        nothing = np.where(room[:, 0] < np.array(self.matters), 0.0, np.nan)
        return np.where(hit.any(axis=1), _CHANGES[hit.argmax(axis=1)], nothing)

    def dump(self) -> bytes:
        """What cannot be derived from references, packed."""
        e = self.evidence
        used = int(np.minimum(e.step_number, REACH).max(initial=0))
        columns = (e.step_number, e.history[:, REACH - used :], e.filling, e.drifting, e.calm)
        return msgspec.msgpack.encode(
            (self._names(), used, [np.ascontiguousarray(column).tobytes() for column in columns])
        )

    def restore(self, data: bytes) -> None:
        """Put the state of `dump` back, after the same series have joined."""
        names, used, columns = msgspec.msgpack.decode(data)
        if names != self._names():
            raise ValueError("evidence of other series than the references hold")
        count, e = len(names), self.evidence
        e.step_number = np.frombuffer(columns[0], np.int64).copy()
        e.history[:, REACH - used :] = np.frombuffer(columns[1], np.float64).reshape(count, used, 2)
        e.filling = np.frombuffer(columns[2], np.float64).reshape(count, 2).copy()
        e.drifting = np.frombuffer(columns[3], np.bool_).copy()
        e.calm = np.frombuffer(columns[4], np.int64).copy()
        e.replay()

    def _names(self) -> list[list[str | None]]:
        return [[*share.reference.scope, share.reference.signal.name] for share in self.series]


def without(data: bytes, gone: Collection[tuple[Scope, str]]) -> bytes:
    """What `RateTable.dump` packed, less some series."""
    names, used, columns = msgspec.msgpack.decode(data)
    kept = [row for row, (*scope, signal) in enumerate(names) if (Scope(*scope), signal) not in gone]
    rows = [
        [column[at * row : at * (row + 1)] for row in kept]
        for column in columns
        for at in [len(column) // max(len(names), 1)]
    ]
    return msgspec.msgpack.encode(([names[row] for row in kept], used, [b"".join(column) for column in rows]))


def _rest(share: Share, successes: Floats, trials: Floats) -> tuple[float, float]:
    """Successes and trials of the reference outside the slices kept; none known of sessions and of samples."""
    cells = share.reference.summary.cells
    if len(cells.session) or cells.sampled:
        return 0.0, 0.0
    counted = share.counted(cells.keys, cells.counts)
    yes = max(counted - float(successes.sum()), 0.0)
    no = max(cells.n - counted - float((trials - successes).sum()), 0.0)
    return yes, yes + no
