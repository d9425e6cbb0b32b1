"""What a scope held in each phase of a cycle while its reference is learned: sums of the whole period. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import msgspec
import numpy as np

from monitor.calibration import Cycle
from monitor.model import Floats, Ints
from monitor.summaries import AnySummary, Counts, Vector
from monitor.windows import Contents, add_contents

_TOGETHER = 32
"""Slices that are added at once."""


def _by_unit(summary: AnySummary) -> AnySummary:
    """What is kept of a slice for its phase: units instead of sessions, of vectors their features."""
    if isinstance(summary, Vector):
        summary = summary.slim(0)
    return replace(summary, cells=summary.cells.by_unit())


@dataclass(slots=True)
class PhaseSums:
    """The sums of the slices of one size in each phase.

    The sum of a phase changes only when time has passed through it once more, so that it is written once a passage.
    """

    cycle: Cycle
    done: dict[int, tuple[int, Contents]] = field(default_factory=dict)
    """Phase -> how often it was passed, and the sum of that."""
    phase: int = -1
    """The phase that time is in; -1 before the first slice."""
    vectors: bool = True
    """Whether vectors are added as well: of these slices of all sizes say the same."""
    _open: Contents = field(default_factory=Contents)
    _fresh: list[Contents] = field(default_factory=list)

    def take(self, start: int, length: int, contents: Contents) -> None:
        """Add the next slice."""
        phase = self.cycle.phase(start, length)
        if phase != self.phase:
            self._pass()
            self.phase = phase
        kept = {n: s for n, s in contents.summaries.items() if self.vectors or not isinstance(s, Vector)}
        self._fresh.append(Contents(contents.records, {name: _by_unit(part) for name, part in kept.items()}))
        if len(self._fresh) >= _TOGETHER:
            self._fold()

    def _fold(self) -> None:
        if self._fresh:
            self._open, self._fresh = add_contents([self._open, *self._fresh]), []

    def _pass(self) -> None:
        """Time has left a phase."""
        self._fold()
        if self.phase >= 0:
            times, before = self.done.get(self.phase, (0, Contents()))
            self.done[self.phase] = times + 1, add_contents([before, self._open])
        self.phase, self._open = -1, Contents()

    def sums(self) -> list[Contents]:
        """What was held in each phase."""
        self._fold()
        parts = [self.done.get(phase, (0, Contents()))[1] for phase in range(self.cycle.phases)]
        if self.phase >= 0:
            parts[self.phase] = add_contents([parts[self.phase], self._open])
        return parts

    def without_vectors(self) -> PhaseSums:
        """A copy without vectors, to which none are added."""
        self._fold()
        done = {phase: (times, _without_vectors(sums)) for phase, (times, sums) in self.done.items()}
        return PhaseSums(self.cycle, done, self.phase, False, _without_vectors(self._open))

    def forget(self, signals: Collection[str]) -> None:
        """Drop what was learned of some signals."""
        self._fold()
        self.done = {phase: (times, sums.without(signals)) for phase, (times, sums) in self.done.items()}
        self._open = self._open.without(signals)

    def pieces(self) -> Iterator[tuple[int, int, Callable[[], bytes]]]:
        """Phase, how often it was passed, and what packs the sum of that: it never changes."""
        for phase, (times, sums) in self.done.items():
            yield phase, times, partial(_packed, sums)

    def put_back(self, phase: int, times: int, data: bytes) -> None:
        """The inverse of `pieces`."""
        self.done[phase] = times, Contents.load(msgspec.msgpack.decode(data))

    def dump(self) -> tuple[Any, ...]:
        """The rest, packed."""
        self._fold()
        return self.phase, self.vectors, self._open.dump()

    @classmethod
    def load(cls, cycle: Cycle, packed: Sequence[Any]) -> PhaseSums:
        """The inverse of `dump`; pieces follow by `put_back`."""
        phase, vectors, contents = packed
        return cls(cycle, {}, phase, vectors, Contents.load(contents))


def _packed(contents: Contents) -> bytes:
    return msgspec.msgpack.encode(contents.dump())


def _without_vectors(contents: Contents) -> Contents:
    parts = {name: part for name, part in contents.summaries.items() if not isinstance(part, Vector)}
    return Contents(contents.records, parts)


@dataclass(frozen=True, slots=True, eq=False)
class PhaseCounts:
    """How the records of each phase of a reference lie in cells."""

    keys: Ints
    """Cells that hold records, those of one phase after those of the one before."""
    parts: Floats
    """The part of its phase's records that each of them holds."""
    cuts: Ints
    """Where each phase begins, and the end. Shape (P + 1,)."""

    @classmethod
    def of(cls, phases: Sequence[Counts | None], *, sampled: bool) -> PhaseCounts:
        """Of the cells of each phase by unit; records weigh the same, or as what they stand for where `sampled`."""
        keys, parts = [np.empty(0, np.int64)], [np.empty(0)]
        for cells in phases:
            if cells is not None and cells.n:
                keys.append(cells.keys)
                parts.append((cells.mass if sampled else cells.counts) / cells.n)
        cuts = np.cumsum([0, *(0 if cells is None or not cells.n else len(cells.keys) for cells in phases)])
        return cls(np.concatenate(keys), np.concatenate(parts), cuts)

    def mixed(self, weights: Floats) -> tuple[Ints, Floats]:
        """Cells, each once a phase, and the part of records in each where phases have these weights."""
        rows = [slice(int(self.cuts[at]), int(self.cuts[at + 1])) for at in np.flatnonzero(weights).tolist()]
        parts = [self.parts[row] * weight for row, weight in zip(rows, weights[weights != 0].tolist(), strict=True)]
        nothing = np.empty(0, np.int64)
        return np.concatenate([nothing, *(self.keys[row] for row in rows)]), np.concatenate([np.empty(0), *parts])

    def dump(self) -> list[bytes]:
        """Packed."""
        return [self.keys.tobytes(), self.parts.tobytes(), self.cuts.tobytes()]

    @classmethod
    def load(cls, packed: Sequence[bytes]) -> PhaseCounts:
        """The inverse of `dump`."""
        keys, parts, cuts = packed
        return cls(np.frombuffer(keys, np.int64), np.frombuffer(parts), np.frombuffer(cuts, np.int64))
