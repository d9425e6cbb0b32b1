"""Event time cut into slices, and slices into windows.

A closed slice never changes. Slices of a coarser size are sums of finer ones; a window is twelve slices of its size.
Pure: no clock, the caller says how far time has come.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import msgspec

from monitor.model import Kind, Scope
from monitor.sampling import Sample, add_samples
from monitor.settings import format_duration
from monitor.summaries import SUMMARIES, AnySummary, merged

SLICES = 12
"""Slices of a window."""


def further(sizes: Sequence[int]) -> int:
    """Twelve times the longest size. No window of it is judged: its slices show a reference how long rates swing."""
    return sizes[-1] * SLICES


def check_sizes(sizes: Sequence[int]) -> list[str]:
    """What is wrong with a list of window sizes (milliseconds): they must nest.

    >>> check_sizes([300_000, 3_600_000])
    []
    >>> check_sizes([300_000, 420_000])
    ['windows: 7m is not a whole multiple of the next shorter one, 5m']
    """
    problems = [
        f"windows: {format_duration(size)} does not divide into {SLICES} slices of whole milliseconds"
        for size in sizes
        if size < SLICES or size % SLICES
    ]
    if list(sizes) != sorted(set(sizes)):
        problems.append("windows: sizes must grow and not repeat")
    elif not problems:
        problems += [
            f"windows: {format_duration(long)} is not a whole multiple of the next shorter one, {format_duration(size)}"
            for size, long in pairwise(sizes)
            if long % size
        ]
    return problems


@dataclass(frozen=True, slots=True)
class Contents:
    """What one slice holds of one scope."""

    records: int = 0
    """Exchanges (feedback events are not volume)."""
    summaries: Mapping[str, AnySummary] = field(default_factory=dict)

    def without(self, signals: Collection[str]) -> Contents:
        """The same without some signals."""
        return Contents(self.records, {name: part for name, part in self.summaries.items() if name not in signals})

    def dump(self) -> tuple[int, list[tuple[str, Kind, bytes]]]:
        kinds: dict[type, Kind] = {cls: kind for kind, cls in SUMMARIES.items()}
        return self.records, [(name, kinds[type(part)], part.dump()) for name, part in self.summaries.items()]

    @classmethod
    def load(cls, packed: tuple[int, list[tuple[str, Kind, bytes]]]) -> Contents:
        records, parts = packed
        return cls(records, {name: SUMMARIES[kind].load(data) for name, kind, data in parts})


def add_contents(parts: Sequence[Contents]) -> Contents:
    """The sum of slices of one scope."""
    if len(parts) == 1:
        return parts[0]
    by_name: dict[str, list[AnySummary]] = {}
    for part in parts:
        for name, summary in part.summaries.items():
            by_name.setdefault(name, []).append(summary)
    return Contents(sum(part.records for part in parts), {name: merged(found) for name, found in by_name.items()})


@dataclass(frozen=True, slots=True)
class Slice:
    """One closed slice: from `start` (inclusive) to `end`, in milliseconds."""

    start: int
    end: int
    scopes: Mapping[Scope, Contents]
    samples: Mapping[str, Sample] = field(default_factory=dict)
    """Stream -> some of its exchanges, to show what it was about."""

    def summary(self, scope: Scope, signal: str) -> AnySummary | None:
        """What it holds of one signal of a scope."""
        contents = self.scopes.get(scope)
        return contents.summaries.get(signal) if contents else None

    def rewritten(self, contents: Callable[[Contents], Contents], sample: Callable[[Sample], Sample]) -> Slice:
        """The same slice with other contents and samples."""
        return replace(
            self,
            scopes={scope: contents(found) for scope, found in self.scopes.items()},
            samples={stream: sample(found) for stream, found in self.samples.items()},
        )

    def dump(self) -> bytes:
        rows = [(scope, contents.dump()) for scope, contents in self.scopes.items()]
        samples = {stream: sample.dump() for stream, sample in self.samples.items()}
        return msgspec.msgpack.encode((self.start, self.end, rows, samples))

    @classmethod
    def load(cls, data: bytes) -> Slice:
        start, end, rows, samples = msgspec.msgpack.decode(data)
        return cls(
            start,
            end,
            {Scope(*scope): Contents.load(packed) for scope, packed in rows},
            {stream: Sample.load(packed) for stream, packed in samples.items()},
        )


def add_slices(slices: Sequence[Slice], start: int, end: int) -> Slice:
    """The slices of one size between `start` and `end` as one slice of a coarser size."""
    by_scope: dict[Scope, list[Contents]] = {}
    by_stream: dict[str, list[Sample]] = {}
    for part in slices:
        for scope, contents in part.scopes.items():
            by_scope.setdefault(scope, []).append(contents)
        for stream, sample in part.samples.items():
            by_stream.setdefault(stream, []).append(sample)
    return Slice(
        start,
        end,
        {scope: add_contents(parts) for scope, parts in sorted(by_scope.items(), key=scope_order)},
        {stream: add_samples(parts).least(max(map(len, parts))) for stream, parts in sorted(by_stream.items())},
    )


def scope_order(item: tuple[Scope, object]) -> tuple[str, str]:
    return item[0].stream, item[0].segment or ""


@dataclass(slots=True)
class Rings:
    """The last twelve slices of every size, and the coarser slices that are being filled."""

    sizes: Sequence[int]
    """Window sizes, ascending."""
    further: int | None = None
    """A longer size, of which only the newest slice is kept, and none from before a time without records."""
    _slices: dict[int, dict[int, Slice]] = field(default_factory=dict)
    """Window size -> start -> slice that holds records."""

    def __post_init__(self) -> None:
        self._slices = {size: {} for size in self._all}

    @property
    def _all(self) -> Sequence[int]:
        return self.sizes if self.further is None else [*self.sizes, self.further]

    def push(self, closed: Slice) -> None:
        """Take in a closed slice of the finest size."""
        self._slices[self.sizes[0]][closed.start] = closed

    def step(self, now: int) -> list[tuple[int, Slice | None]]:
        """Time has come to `now`, an end of a finest slice: the sizes of which a slice ends now, each with that slice.

        None where the slice holds no records. Slices that no window needs any more are let go.
        """
        ended: list[tuple[int, Slice | None]] = []
        for finer, size in zip([None, *self.sizes], self._all, strict=False):
            length, slices = size // SLICES, self._slices[size]
            if now % length:
                break
            if finer is not None:
                parts = [s for start, s in sorted(self._slices[finer].items()) if now - length <= start < now]
                if parts:
                    slices[now - length] = add_slices(parts, now - length, now)
            # Only when a slice of this size ends, so that whoever reads its window reads it once more when it is empty.
            for start in [start for start in slices if start < now - self._kept(size)]:
                del slices[start]
            ended.append((size, slices.get(now - length)))
        return ended

    def _kept(self, size: int) -> int:
        """A window of its own size, and at least one slice of the next coarser size."""
        if size == self.further:
            return size // SLICES
        coarser = [other // SLICES for other in self._all if other > size]
        return max(size, min(coarser, default=0))

    def window(self, size: int, now: int) -> list[tuple[int, Slice]]:
        """The slices of the window of `size` that ends at `now`, as (place 0 .. 11, slice); empty ones are left out."""
        length, start = size // SLICES, now - size
        return [
            ((s.start - start) // length, s) for _, s in sorted(self._slices[size].items()) if start <= s.start < now
        ]

    def held(self) -> Iterator[tuple[int, Slice]]:
        """All slices that are kept, with the window size they serve."""
        for size, slices in self._slices.items():
            for _, found in sorted(slices.items()):
                yield size, found

    def restore(self, size: int, found: Slice) -> None:
        """Put back a slice that `held` gave."""
        self._slices[size][found.start] = found

    @property
    def empty(self) -> bool:
        """Whether no window holds a record."""
        return not any(self._slices[size] for size in self.sizes)
