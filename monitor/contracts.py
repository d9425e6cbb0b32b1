"""The promises between driftd's parts, on one page. Distances are plain functions and need none.

A component is a row in the table of its kind (SOURCES, SCORERS, SUMMARIES), and the suite in tests/contract runs every
law below over every row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, Self

from monitor.model import Position, Raw, Records, Refused, Reject, Scores, Signal, Transcripts


class Source(Protocol):
    """Where records come from: partitions that come and go, each an ordered sequence of messages."""

    def partitions(self) -> Mapping[str, bool]:
        """Partitions known now -> whether its end has been reached for good.

        A partition MUST keep its name for as long as its positions mean the same messages. One that ended stays listed.
        """
        ...

    def resume(self, positions: Mapping[str, Position]) -> None:
        """Go on from `positions`; MUST be called before the first poll. A partition without one begins at its start.

        Raises ValueError, naming the partition, where a position belongs to other data than what is there now.
        """
        ...

    def peek(self, partition: str, limit: int) -> Raw:
        """The partition's next messages, `limit` at most, without moving."""
        ...

    def poll(self, wanted: Sequence[str], limit: int) -> list[Raw]:
        """The next messages of partitions among `wanted`, which is ordered by who is furthest behind.

        MUST return messages of a partition in its order, each exactly once, and no more than `limit` in all; an empty
        list where nothing came. What cannot be read is a Reject in the answer, never an exception, and `Raw.end` is
        behind it.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections. Idempotent."""
        ...


class LiveSource(Source, Protocol):
    """A source that goes on: none of its partitions ends, and new ones may come."""

    def poll(self, wanted: Sequence[str], limit: int, *, wait: bool = True) -> list[Raw]:
        """As of any source. With `wait` it may wait for up to half a second where nothing has come."""
        ...

    @property
    def name(self) -> str:
        """Its kind and what it reads, for people."""
        ...

    @property
    def trouble(self) -> str:
        """Why nothing can be read now, in a sentence; '' where it can. It is no reason to raise."""
        ...

    def drained(self) -> Collection[str]:
        """Partitions that end where `poll` has come to, by an answer asked for after all of it had been read.

        A partition that cannot be asked, or has not been read to its end, MUST NOT be among them.
        """
        ...

    def lag(self) -> Mapping[str, int]:
        """Messages that are there and `poll` has not given yet, by partition; a partition is left out if unknown."""
        ...

    def set_aside(self, refused: Sequence[Refused]) -> Sequence[Reject] | None:
        """Keep refused messages whole where the source has a place for them; called before the commit behind them.

        Returns the rejects of those that it has not kept, which the store keeps; None where that cannot be known now:
        it is called again with the same ones before anything is committed.
        """
        ...

    def committed(self, positions: Mapping[str, Position]) -> None:
        """These positions are stored for good: what is before them will not be asked for again. MUST NOT raise."""
        ...

    def notices(self) -> list[str]:
        """What has happened since the last call that the owner should know."""
        ...


class Scorer(Protocol):
    """Makes signals from a batch of records."""

    @property
    def signals(self) -> Sequence[Signal]:
        """The signals that `score` returns, in the same order whatever the records are."""
        ...

    def score(self, records: Records) -> Scores:
        """A column for every signal, one entry a record.

        A batch MUST score as its records do one by one, an empty batch included; NaN or -1 means "no observation".
        What a scorer raises of one record makes that record unscored, not the batch.
        """
        ...


class SampleScorer(Protocol):
    """Makes signals that cost model time from the sampled exchanges of one slice of one stream."""

    @property
    def signals(self) -> Sequence[Signal]:
        """The signals that `score` returns, all with `sample` set, in the same order whatever the exchanges are."""
        ...

    def score(self, transcripts: Transcripts) -> Scores:
        """A column for every signal, one entry an exchange; NaN, a row of NaN or -1 means "no observation".

        A sample is scored once, whole. The same transcripts in the same order MUST give the same bytes, whatever was
        scored before. Of a batch and of its exchanges one by one, numbers MUST agree to 1e-4, but for signals that say
        how an exchange stands to the others of its sample (`duplicates`).
        """
        ...


class Summary(Protocol):
    """What a slice remembers of one signal: a sum of arrays, so that any two can be added in any order."""

    @classmethod
    def empty(cls, signal: Signal) -> Self:
        """The identity of `merge`."""
        ...

    def merge(self, other: Self) -> Self:
        """Both together. MUST be associative and commutative, leave its arguments alone, and refuse another grid."""
        ...

    def dump(self) -> bytes:
        """Packed, versioned, readable by `load` of this and later versions."""
        ...

    @classmethod
    def load(cls, data: bytes) -> Self:
        """The inverse of `dump`. Raises ValueError for what is not one."""
        ...
