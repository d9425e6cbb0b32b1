"""Which versions that run at the same time are compared with which: pairs of an arm and its baseline. Pure.

Of each label of a stream one arm is the baseline: when the label is first seen, the one with most records in that
slice; it stays so until the arm with most records in the window has ten times as many, and that one is it then. So a
canary is held against what it is to replace, a trickle of old clients is nobody's baseline, and none changes by noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from monitor.model import OTHER, Scope
from monitor.slices import name_hash
from monitor.windows import SLICES, Slice

ARMS = 8
"""Arms of a label that are compared with its baseline at a time; of more that come at once those of least hash."""
GONE = 512
"""Slices without records of both arms after which a pair is let go."""
_OVERTAKEN = 10
"""Times the baseline's records that the greatest arm must have to take its place."""


class Pair(NamedTuple):
    """An arm and what it is compared with, as segments (`label=value`) of a stream."""

    stream: str
    arm: str
    baseline: str
    begun: int
    """Begin of the first slice that held both, in milliseconds."""

    @property
    def scopes(self) -> tuple[Scope, Scope]:
        return Scope(self.stream, self.arm), Scope(self.stream, self.baseline)


@dataclass(slots=True)
class Pairs:
    """The pairs of all streams, in slices of one length."""

    labels: Sequence[str]
    length: int
    """Of a slice, in milliseconds."""
    baselines: dict[tuple[str, str], str] = field(default_factory=dict)
    """(Stream, label) -> segment."""
    live: dict[Pair, int] = field(default_factory=dict)
    """Pair -> end of the last slice that held both."""

    def step(self, window: Sequence[tuple[int, Slice]], now: int) -> list[Pair]:
        """A slice ended at `now`, the last of `window`: pairs begin and end. Returns those that ended, in order."""
        newest = dict(window).get(SLICES - 1)
        present = {} if newest is None else self._arms([newest])
        recent = self._arms([found for _, found in window])
        for place, arms in sorted(present.items()):
            self._choose(place, arms, recent[place])
            self._meet(place, arms, now)
        ended = [
            pair
            for pair, last in self.live.items()
            if now - last > GONE * self.length or self.baselines[pair.stream, _label(pair.arm)] != pair.baseline
        ]
        for pair in ended:
            del self.live[pair]
        return ended

    def _arms(self, slices: Sequence[Slice]) -> dict[tuple[str, str], Counter[str]]:
        """(Stream, label) -> records of each of its arms. What the caps left out is no version of anything."""
        found: dict[tuple[str, str], Counter[str]] = {}
        for scope, contents in ((scope, part) for one in slices for scope, part in one.scopes.items()):
            label, _, value = (scope.segment or "").partition("=")
            if label in self.labels and OTHER not in {scope.stream, value} and contents.records:
                found.setdefault((scope.stream, label), Counter())[scope.segment or ""] += contents.records
        return found

    def _choose(self, place: tuple[str, str], arms: Counter[str], recent: Counter[str]) -> None:
        """The baseline of a label."""
        known = self.baselines.get(place)
        if known is None:
            self.baselines[place] = _greatest(arms)
        elif recent[known] * _OVERTAKEN < max(recent.values()):
            self.baselines[place] = _greatest(recent)

    def _meet(self, place: tuple[str, str], arms: Counter[str], now: int) -> None:
        """The arms that a slice holds together with their baseline."""
        stream, baseline = place[0], self.baselines[place]
        if baseline not in arms:
            return
        known = {pair.arm: pair for pair in self.live if (pair.stream, pair.baseline) == (stream, baseline)}
        for arm in sorted(arms.keys() - {baseline} - known.keys(), key=name_hash)[: max(ARMS - len(known), 0)]:
            known[arm] = Pair(stream, arm, baseline, now - self.length)
        self.live |= {known[arm]: now for arm in known if arm in arms}

    def dump(self) -> bytes:
        """All of the state, packed."""
        return msgspec.msgpack.encode((list(self.baselines.items()), list(self.live.items())))

    def restore(self, data: bytes) -> None:
        """The inverse of `dump`, into new pairs."""
        baselines, live = msgspec.msgpack.decode(data)
        self.baselines = {(stream, label): segment for (stream, label), segment in baselines}
        self.live = {Pair(*pair): last for pair, last in live}


def _label(segment: str) -> str:
    return segment.partition("=")[0]


def _greatest(records: Counter[str]) -> str:
    return min(records, key=lambda arm: (-records[arm], name_hash(arm)))
