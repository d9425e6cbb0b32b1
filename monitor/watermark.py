"""Which records may count: late, early and stale ones, leaps that are held until others agree, and the watermark.

Pure: works on the times that records carry and never on the clock, so that a log read again in other batches, or from
other files, is judged the same. Each partition is judged by its own newest accepted time alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from monitor.model import Ints, Scored, concatenate
from monitor.settings import DAY, MINUTE, Duration, Settings

FOLLOWERS = 20
"""Records that a held one waits for."""
AGREEING = 10
"""Of these, how many must agree with its time."""
_STRIDE = 512
"""Records looked at together; bounds the work where nearly every record is a leap."""
_NEVER = -(1 << 62)
_NOWHERE: Ints = np.empty((0, 2), np.int64)

Fate = Literal["accepted", "late", "early", "stale"]


class TimeSettings(Settings):
    """How far out of order a record may come."""

    lateness: Duration = 30_000
    """A record this much older than its partition's newest is late: counted, never merged."""
    skew: Duration = 5 * MINUTE
    """A leap ahead by more than this is believed only if others follow."""


@dataclass(frozen=True, slots=True)
class PartitionTime:
    """What is known of the time in one partition."""

    place: int | None = None
    """Least accepted time among its first records, as a peek found it; where it stands in a merge before it is read."""
    newest: int | None = None
    """Newest accepted time; None before any."""
    held: Scored | None = None
    """Records that wait for a verdict on the first of them."""
    ended: bool = False
    idle: bool = False
    """Of a live source: it is at its end and nothing has come for a while, so that it does not hold the watermark."""

    @property
    def reached(self) -> int | None:
        return self.place if self.newest is None else self.newest


@dataclass(slots=True)
class Admission:
    """Decides on the records of all partitions and keeps the watermark."""

    settings: TimeSettings
    partitions: dict[str, PartitionTime] = field(default_factory=dict)
    watermark: int | None = None
    """No record of an earlier time will be accepted; None until every partition has a time."""

    def place(self, peeked: Mapping[str, Ints]) -> None:
        """Note where new partitions stand, from the times of each one's first records; none: it must be read."""
        known = {name: _span(time) for name, time in self.partitions.items()}
        spans = known | {name: _stretches(ts) for name, ts in peeked.items()}
        owners = np.repeat(np.arange(len(spans)), [len(each) for each in spans.values()])
        every = np.concatenate([*spans.values(), _NOWHERE])
        number = {name: owner for owner, name in enumerate(spans)}
        for name, ts in peeked.items():
            elsewhere = every[owners != number[name]]
            fates, _, _ = judge(ts, None, self.settings, ended=True, elsewhere=elsewhere)
            accepted = ts[fates == _CODES["accepted"]]
            self.partitions[name] = PartitionTime(place=int(accepted.min()) if len(accepted) else None)

    def admit(self, partition: str, records: Scored | None, *, ended: bool) -> tuple[Scored | None, Mapping[Fate, int]]:
        """Judge new records, and with `ended` all that were held.

        Returns the accepted ones in their order (None where there are none) and how many met each other fate.
        """
        known = self.partitions.get(partition, PartitionTime())
        parts = [part for part in (known.held, records) if part is not None and len(part)]
        if not parts:
            self.partitions[partition] = replace(known, held=None, ended=ended)
            return None, {}
        queue = concatenate(parts)
        elsewhere = self._elsewhere(partition) if known.newest is None and ended else _NOWHERE
        fates, newest, done = judge(
            queue.ts, known.newest, self.settings, ended=ended, elsewhere=elsewhere, append=queue.append
        )
        held = queue.take(np.arange(done, len(queue))) if done < len(queue) else None
        self.partitions[partition] = replace(known, newest=newest, held=held, ended=ended, idle=False)
        names = Counter(_FATES[code] for code in fates.tolist())
        accepted = np.flatnonzero(fates == _CODES["accepted"])
        return (queue.take(accepted) if len(accepted) else None), {k: v for k, v in names.items() if k != "accepted"}

    def rest(self, partition: str) -> tuple[Scored | None, Mapping[Fate, int]]:
        """Let a partition of which nothing comes go idle; what was held is decided, as `admit` says."""
        found = self.admit(partition, None, ended=True)
        self.partitions[partition] = replace(self.partitions[partition], ended=False, idle=True)
        return found

    @property
    def silent(self) -> bool:
        """Whether all partitions are idle, so that the watermark moves with the clock."""
        return self.watermark is not None and all(time.idle or time.ended for time in self.partitions.values())

    def tick(self, elapsed: int) -> None:
        """Move the watermark on with the time, in ms, that passed in silence."""
        if self.watermark is not None:
            self.watermark += elapsed

    def _elsewhere(self, partition: str) -> Ints:
        """The stretches of time that the other partitions are known to cover."""
        return np.concatenate([_NOWHERE, *(_span(time) for name, time in self.partitions.items() if name != partition)])

    def order(self, partitions: Iterable[str], ahead: int) -> list[str]:
        """The unfinished partitions to read from, the one furthest behind first.

        One more than `ahead` milliseconds before the watermark waits; of those that go on one never does.
        """
        open_ones = [name for name in partitions if not self.partitions[name].ended]
        limit = None if self.watermark is None else self.watermark + ahead

        def reached(name: str) -> tuple[bool, int, str]:
            time = self.partitions[name].reached
            return time is not None, time or 0, name

        ordered = sorted(open_ones, key=reached)
        first = next((name for name in ordered if not self.partitions[name].idle), None)
        return [
            name
            for name in ordered
            if name == first
            or limit is None
            or self.partitions[name].idle
            or (self.partitions[name].reached or 0) <= limit
        ]

    def overdue(self) -> list[str]:
        """Partitions that ended for now, but hold records which the watermark is about to pass.

        To wait for what may follow would be to lose them: they are to be decided on as at a final end.
        """
        limit = self._limit()
        return [name for name, time in self.partitions.items() if limit is not None and self._endangered(time, limit)]

    def _endangered(self, time: PartitionTime, limit: int) -> bool:
        if not time.ended or time.held is None:
            return False
        ts = time.held.ts if time.newest is None else time.held.ts[time.held.ts >= time.newest - self.settings.lateness]
        return bool((ts < limit).any())

    def advance(self) -> int | None:
        """Move the watermark to what the partitions allow; it never goes back."""
        limit = self._limit()
        if limit is not None:
            self.watermark = limit if self.watermark is None else max(limit, self.watermark)
        return self.watermark

    @property
    def firm(self) -> int:
        """How far the watermark would have come if no partition were idle."""
        going = [time.reached for time in self.partitions.values() if not time.ended]
        return min((_NEVER if time is None else time for time in going), default=_NEVER) - self.settings.lateness

    def _limit(self) -> int | None:
        """How far the partitions allow the watermark: the least of those that go on, else the newest of all."""
        going = [time.reached for time in self.partitions.values() if not time.ended and not time.idle]
        if going:
            low = None if None in going else min(time for time in going if time is not None)
        else:
            low = max((time.newest for time in self.partitions.values() if time.newest is not None), default=None)
        return None if low is None else low - self.settings.lateness


def _span(time: PartitionTime) -> Ints:
    """The stretch of time that a partition is known to cover, as one (first, last) or none."""
    low, high = time.reached if time.place is None else time.place, time.reached
    return _NOWHERE if low is None or high is None else np.array([[low, max(low, high)]])


def _stretches(ts: Ints) -> Ints:
    """The stretches (first, last) that times cover, without holes of a day."""
    ordered = np.sort(ts)
    breaks = np.flatnonzero(np.diff(ordered) > DAY) + 1
    return np.array([[part[0], part[-1]] for part in np.split(ordered, breaks) if len(part)], np.int64).reshape(-1, 2)


_FATES: tuple[Fate, ...] = ("accepted", "late", "early", "stale")
_CODES: dict[Fate, int] = {fate: code for code, fate in enumerate(_FATES)}


def judge(
    ts: Ints,
    newest: int | None,
    settings: TimeSettings,
    *,
    ended: bool,
    elsewhere: Ints = _NOWHERE,
    append: Ints | None = None,
) -> tuple[Ints, int | None, int]:
    """Fate of each record of one partition, in order.

    Parameters
    ----------
    ts : times of the records, the first of them perhaps held before
    newest : the partition's newest accepted time before them
    ended : nothing will follow, so that a held record is decided on what is there
    elsewhere : stretches of time (first, last; one a row) that other partitions cover; a first record that too few
        follow is believed if it lies within a day of one of them, and of as many as any of its followers
    append : times set by something other than the producer: they decide at once and nothing is held

    Returns
    -------
    codes of fates for the first `done` records, the newest accepted time after them, and `done`; the rest is held

    """
    if append is not None:
        return _judge_by_append(ts, append, newest, settings)
    fates, i, n = np.zeros(len(ts), np.int64), 0, len(ts)
    while i < n:
        if newest is not None:
            i, newest, leaped = _run(ts, i, newest, settings, fates)
            if not leaped:
                continue
        followers = ts[i + 1 : i + 1 + FOLLOWERS]
        if len(followers) < FOLLOWERS and not ended:
            break
        if _believed(int(ts[i]), followers, newest, settings.skew, elsewhere):
            newest = int(ts[i])
        else:
            fates[i] = _CODES["stale" if newest is None and _past(int(ts[i]), followers, elsewhere) else "early"]
        i += 1
    return fates[:i], newest, i


def _judge_by_append(
    ts: Ints, append: Ints, newest: int | None, settings: TimeSettings
) -> tuple[Ints, int | None, int]:
    early = ts > append + settings.skew
    before = np.maximum.accumulate(
        np.concatenate(([ts.min() if newest is None else newest], np.where(early, ts.min(), ts)))
    )
    late = ts < before[:-1] - settings.lateness
    fates = np.where(early, _CODES["early"], np.where(late, _CODES["late"], _CODES["accepted"]))
    return fates, newest if early.all() else int(before[-1]), len(ts)


def _run(ts: Ints, start: int, newest: int, settings: TimeSettings, fates: Ints) -> tuple[int, int, bool]:
    """Judge records from `start` up to the next leap, a stride at most; writes into `fates`."""
    chunk = ts[start : start + _STRIDE]
    before = np.maximum.accumulate(np.concatenate(([newest], chunk)))
    leaps = np.flatnonzero(chunk > before[:-1] + settings.skew)
    count = int(leaps[0]) if len(leaps) else len(chunk)
    late = chunk[:count] < before[:count] - settings.lateness
    fates[start : start + count][late] = _CODES["late"]
    return start + count, int(before[count]), bool(len(leaps))


def _believed(time: int, followers: Ints, newest: int | None, skew: int, elsewhere: Ints) -> bool:
    if newest is None and len(followers) < FOLLOWERS and len(elsewhere):
        times = np.concatenate(([time], followers))[:, None]
        support = ((elsewhere[:, 0] - DAY <= times) & (times <= elsewhere[:, 1] + DAY)).sum(axis=1)
        if support[0] and support[0] == support.max():
            return True
        if not len(followers):
            return False
    if not len(followers):
        return newest is None or time - newest < DAY
    agree = followers >= time - skew
    if newest is None:
        agree &= followers <= time + DAY
    needed = AGREEING if len(followers) == FOLLOWERS else max(1, (len(followers) + 1) // 2)
    return int(agree.sum()) >= needed


def _past(time: int, followers: Ints, elsewhere: Ints) -> bool:
    """Whether a first record that is not believed lies before the rest, not ahead of it."""
    rest = followers if len(followers) else elsewhere[:, 0]
    return len(rest) > 0 and time < int(np.median(rest))
