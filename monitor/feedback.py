"""Feedback events that do not say which stream and segments they belong to wait for the exchange they are about.

An event is joined by the id of its exchange, which may come later in another partition; it waits until the watermark
has passed its own slice and is then counted `unjoined`. Pure; the table of exchanges is bounded and forgets whole
slices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from monitor.model import Blob, Categories, Flags, Ints, Scored, concatenate

REMEMBERED = 200_000
"""Exchanges before the end of its slice that feedback can be joined to, at least those of the slice."""


@dataclass(slots=True)
class Joins:
    """Exchanges by id, and the events that wait for theirs."""

    size: int
    """Length in milliseconds of the pieces of time that are forgotten together."""
    exchanges: dict[int, Scored] = field(default_factory=dict)
    """Start of a piece -> its exchanges, without what was measured."""
    waiting: Scored | None = None
    _changed: set[int] = field(default_factory=set)
    _written: set[int] = field(default_factory=set)

    def take(self, records: Scored) -> Scored | None:
        """Note exchanges, set aside events that lack what theirs may know, and return what can be counted now."""
        lacking = records.stream.codes < 0
        for column in records.segments.values():
            lacking = lacking | ((column.codes < 0) & (records.of_hash != 0))
        astray = records.feedback_event & lacking
        self._remember(records.take(np.flatnonzero(~records.feedback_event)))
        if not astray.any():
            return records
        parts = [part for part in (self.waiting, records.take(np.flatnonzero(astray))) if part is not None]
        self.waiting = replace(concatenate(parts), transcripts=None)
        rest = np.flatnonzero(~astray)
        return records.take(rest) if len(rest) else None

    def _remember(self, exchanges: Scored) -> None:
        piece = exchanges.ts // self.size * self.size
        for start in np.unique(piece).tolist():
            rows = np.flatnonzero(piece == start)
            slim = replace(exchanges.take(rows), values={}, remarks={}, transcripts=None)
            held = self.exchanges.get(start)
            self.exchanges[start] = slim if held is None else concatenate([held, slim])
            self._changed.add(start)

    @property
    def newest(self) -> int | None:
        """End of the piece in which the newest waiting event lies."""
        return None if self.waiting is None else int(self.waiting.ts.max()) // self.size * self.size + self.size

    def release(self, watermark: int) -> tuple[Scored | None, int]:
        """Events of pieces that the watermark has passed: those that found their exchange, and how many did not.

        An event finds no exchange of a later piece, and none behind the last REMEMBERED: what was read ahead of it does
        not matter.
        """
        upto = watermark // self.size * self.size
        joined, unjoined = None, 0
        if self.waiting is not None:
            due = self.waiting.ts < upto
            ready, rest = self.waiting.take(np.flatnonzero(due)), np.flatnonzero(~due)
            self.waiting = self.waiting.take(rest) if len(rest) else None
            joined = self._joined(ready) if len(ready) else None
            unjoined = len(ready) - (0 if joined is None else len(joined))
        first = self._remembered_from(upto)
        for start in [start for start in self.exchanges if start < first]:
            del self.exchanges[start]
        return joined, unjoined

    def _joined(self, events: Scored) -> Scored | None:
        """The events that have a stream, of their own or of their exchange, with its segments where they have none."""
        hit, rows, known = self._found(events)
        if known is not None:

            def filled(own: Categories, other: Categories) -> Categories:
                return _filled(own, Categories(other.names, np.where(hit, other.codes[rows], -1).astype(np.int32)))

            segments = {label: filled(column, known.segments[label]) for label, column in events.segments.items()}
            events = replace(events, stream=filled(events.stream, known.stream), segments=segments)
        kept = np.flatnonzero(events.stream.codes >= 0)
        return events.take(kept) if len(kept) else None

    def _found(self, events: Scored) -> tuple[Flags, Ints, Scored | None]:
        """Which events have an exchange, and where it is among all that are remembered."""
        if not self.exchanges:
            return np.zeros(len(events), bool), np.zeros(len(events), np.int64), None
        known = concatenate([self.exchanges[start] for start in sorted(self.exchanges)])
        order = np.argsort(known.id_hash, kind="stable")
        ids = known.id_hash[order]
        at = np.minimum(np.searchsorted(ids, events.of_hash), len(ids) - 1)
        ends, piece = np.unique(events.ts // self.size * self.size + self.size, return_inverse=True)
        first = np.array([self._remembered_from(end) for end in ends.tolist()])[piece]
        when = known.ts[order[at]]
        return (ids[at] == events.of_hash) & (first <= when) & (when < ends[piece]), order[at], known

    def _remembered_from(self, end: int) -> int:
        """Start of the first piece that an event before `end` can still be joined to."""
        total, first = 0, end - self.size
        for start in sorted((start for start in self.exchanges if start < end), reverse=True):
            total += len(self.exchanges[start])
            if total > REMEMBERED and start < first:
                break
            first = min(first, start)
        return first

    def blobs(self) -> list[Blob]:
        """Packed state that has changed since the last call."""
        changed = [
            Blob("exchanges", str(start), msgspec.msgpack.encode(self.exchanges[start].dump()))
            for start in sorted(self._changed & set(self.exchanges))
        ]
        gone = [Blob("exchanges", str(start), None) for start in sorted(self._written - set(self.exchanges))]
        self._changed, self._written = set(), set(self.exchanges)
        waiting = None if self.waiting is None else msgspec.msgpack.encode(self.waiting.dump())
        return [*changed, *gone, Blob("waiting", "", waiting)]

    def restore(self, blobs: Iterable[tuple[str, str, bytes]]) -> None:
        """Put back what `blobs` gave over time, into a new table."""
        for table, key, data in blobs:
            if table == "waiting":
                self.waiting = Scored.load(msgspec.msgpack.decode(data))
            elif table == "exchanges":
                self.exchanges[int(key)] = Scored.load(msgspec.msgpack.decode(data))
        self._written = set(self.exchanges)


def _filled(own: Categories, other: Categories) -> Categories:
    """`own`, with the value of `other` where it has none."""
    names = [*own.names, *(name for name in other.names if name not in set(own.names))]
    code_of: dict[str, int] = {name: code for code, name in enumerate(names)}
    table: Ints = np.array([*(code_of[name] for name in other.names), -1], np.int64)
    return Categories(names, np.where(own.codes >= 0, own.codes, table[other.codes]).astype(np.int32))
