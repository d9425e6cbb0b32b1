"""What was found, held against what was planted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.demo.traffic import Schedule
from monitor.demo.truth import SEGMENTS, Planted
from monitor.model import AlertChange, AlertKey, Flags


@dataclass(frozen=True, slots=True)
class Sign:
    """A signal that made an alert fire, or joined it."""

    at: int
    rule: str
    segment: str | None
    signal: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one planted change."""

    planted: Planted
    signs: tuple[Sign, ...]
    """The first of every signal that says what changed, in order of time; none where it was missed."""
    records: int
    """Records of the stream, or of the segment that it is in, between its begin and the first sign."""

    @property
    def delay(self) -> int | None:
        """Milliseconds of event time from its begin to when it was found."""
        return self.signs[0].at - self.planted.begins if self.signs else None

    @property
    def found_by(self) -> list[str]:
        """The signals that found it, all of one step."""
        return [sign.signal for sign in self.signs if sign.at == self.signs[0].at]

    @property
    def confirmed_by(self) -> list[str]:
        """The signals that said so later."""
        return [sign.signal for sign in self.signs if sign.at > self.signs[0].at]


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo ends with."""

    findings: tuple[Finding, ...]
    unplanted: tuple[Sign, ...]
    """What fired though nothing that was planted explains it."""

    @property
    def perfect(self) -> bool:
        """Every planted change was found, and nothing else."""
        return all(finding.signs for finding in self.findings) and not self.unplanted


def compare(truth: Sequence[Planted], changes: Sequence[AlertChange], schedule: Schedule, window: int) -> Result:
    """Match the signs in rows of alerts with planted changes.

    A change is found by the first sign, in its own segment or in the whole stream if it has none, of a signal that says
    what changed. A change in a segment may show in the whole stream as well, one of the stream in every segment, both
    until the last `window` (milliseconds) that holds a part of it is over.
    """
    signs = signs_of(changes)
    findings = tuple(_finding(planted, signs, schedule, window) for planted in truth)
    unplanted = tuple(sign for sign in signs if not any(_explains(planted, sign, window) for planted in truth))
    return Result(findings, unplanted)


def signs_of(changes: Sequence[AlertChange]) -> list[Sign]:
    """Every signal when it first stood in an alert, and again when it came back after the alert had resolved."""
    known: dict[AlertKey, set[str]] = {}
    signs = []
    for change in changes:
        seen = known.setdefault(change.key, set())
        if change.state == "firing":
            signs += [Sign(change.at, change.rule, change.segment, name) for name in change.signals if name not in seen]
            seen.update(change.signals)
        else:
            seen.clear()
    return signs


def _finding(planted: Planted, signs: Sequence[Sign], schedule: Schedule, window: int) -> Finding:
    fitting = [
        sign
        for sign in signs
        if _explains(planted, sign, window) and sign.segment == planted.segment and sign.signal in planted.shown_by
    ]
    if not fitting:
        return Finding(planted, (), 0)
    first = {sign.signal: sign for sign in reversed(fitting)}
    since = (schedule.ts >= planted.begins) & (schedule.ts < fitting[0].at) & _inside(planted, schedule)
    return Finding(planted, tuple(sign for sign in fitting if sign is first[sign.signal]), int(since.sum()))


def _explains(planted: Planted, sign: Sign, window: int) -> bool:
    where = planted.segment is None or sign.segment in (None, planted.segment)
    return where and planted.begins < sign.at <= planted.ends + window and planted.explains(sign.signal)


def _inside(planted: Planted, schedule: Schedule) -> Flags:
    """The records of a change's segment."""
    if planted.segment is None:
        return np.ones(len(schedule.ts), np.bool_)
    return np.equal(schedule.segment, list(SEGMENTS).index(planted.segment.partition("=")[2]))
