"""A reference that follows: the last part of each stream before the window, in eight blocks that come and go.

Blocks are equal and begin at multiples of their length since the epoch, the same for every scope, so that all rolling
references move on together when a block completes. Pure: the caller says how far time has come.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from monitor.clusters import NO_BOOKS, Books
from monitor.model import Pieces, Scope, Signal, piece_key
from monitor.reference import BLOCKS, PROMPT, Learning, ReferenceSettings, ScopeReference
from monitor.windows import SLICES, Slice, scope_order


@dataclass(slots=True)
class Rolling:
    """What the blocks of every scope hold, and which of them are the reference now."""

    sizes: Sequence[int]
    block: int
    """Length of a block in milliseconds, a whole number of the coarsest slices."""
    gap: int
    """Least time from the end of the reference to the begin of the longest window."""
    end: int | None = None
    """End of the reference; None before there has been a step."""
    blocks: dict[tuple[Scope, int], Learning] = field(default_factory=dict)
    """Scope and begin -> what was learned; a block without records is not there."""

    @classmethod
    def of(cls, settings: ReferenceSettings, sizes: Sequence[int]) -> Rolling | None:
        """As configured; None where the reference does not roll.

        >>> from monitor.settings import DAY, HOUR
        >>> rolling = Rolling.of(ReferenceSettings(kind="rolling", size="7d"), [HOUR])
        >>> rolling.block / HOUR, rolling.gap / HOUR
        (21.0, 1.0)
        """
        if settings.kind != "rolling" or settings.size is None:
            return None
        coarsest = sizes[-1] // SLICES
        block = -(-settings.size // (BLOCKS * coarsest)) * coarsest
        return cls(sizes, block, sizes[-1] if settings.gap is None else settings.gap)

    @property
    def begin(self) -> int | None:
        return None if self.end is None else self.end - BLOCKS * self.block

    def take(self, size: int, found: Slice, books: Books = NO_BOOKS) -> None:
        """Learn from a closed slice of one window size."""
        begin = found.start // self.block * self.block
        for scope in found.scopes:
            learning = self.blocks.get((scope, begin))
            if learning is None:
                learning = Learning(scope, begin, begin + self.block, self.sizes, block=self.block)
                self.blocks[scope, begin] = learning
            learning.take(size, found, books.get((scope.stream, PROMPT)))

    def step(self, now: int) -> bool:
        """Time has come to `now`: whether the reference has moved on. Blocks that left it are let go."""
        end = (now - self.sizes[-1] - self.gap) // self.block * self.block
        if self.end is not None and end <= self.end:
            return False
        self.end = end
        first = end - BLOCKS * self.block
        self.blocks = {key: learning for key, learning in self.blocks.items() if key[1] >= first}
        return True

    def references(
        self, signals: Mapping[str, Signal], began: Callable[[Scope, str], int | None], books: Books = NO_BOOKS
    ) -> Iterator[ScopeReference]:
        """The reference of every scope, with the signals that are known for as long as it is.

        Parameters
        ----------
        began : since when a signal of a scope is what it is now: first seen, or accepted as a new normal

        """
        begin, end = self.begin, self.end
        if begin is None or end is None:
            return
        scopes = {scope for scope, start in self.blocks if start < end}
        for scope in sorted(scopes, key=lambda scope: scope_order((scope, None))):
            starts = [start for start in range(begin, end, self.block) if (scope, start) in self.blocks]
            blocks = [self.blocks[scope, start] for start in starts]
            names = {name for learning in blocks for name in (*learning.names, "volume")}
            late = {name for name in names if (since := began(scope, name)) is None or since > begin}
            if names - late:
                book = books.get((scope.stream, PROMPT))
                yield Learning.joined(blocks, begin, end, book).freeze(signals).without(late)

    def forget(self, signals: Collection[str], *, exchanges: bool = False) -> None:
        """Drop what was learned of some signals, and with `exchanges` those that were sampled."""
        for learning in self.blocks.values():
            learning.forget(signals)
            learning.exchanges = None if exchanges else learning.exchanges

    # ---- state ------------------------------------------------------------------------------------------------------

    def pieces(self, now: int | None) -> Pieces:
        """Packed state that does not change any more: blocks that are complete at `now`, kept slices of the others."""
        found: Pieces = {}
        for (scope, begin), learning in self.blocks.items():
            if now is not None and begin + self.block <= now:
                found["block", piece_key(scope, begin)] = learning.dump_whole
                continue
            for size, kept in learning.kept.items():
                for start in kept:
                    found["block_kept", piece_key(scope, begin, size, start)] = partial(learning.dump_kept, size, start)
            if learning.exchanges is not None:
                found["block_sampled", piece_key(scope, begin, learning.added)] = learning.dump_exchanges
        return found

    def dump(self, now: int | None) -> bytes:
        """The rest, packed."""
        filling = [found.dump() for (_, begin), found in self.blocks.items() if now is None or begin + self.block > now]
        return msgspec.msgpack.encode((self.end, filling))

    def restore(self, held: Mapping[tuple[str, str], bytes], data: bytes) -> None:
        """The inverse of `pieces` and `dump`."""
        self.end, filling = msgspec.msgpack.decode(data)
        whole = [Learning.load_whole(piece, self.sizes) for (table, _), piece in held.items() if table == "block"]
        for learning in [*whole, *(Learning.load(packed, self.sizes) for packed in filling)]:
            self.blocks[learning.scope, learning.begin] = learning
        for (table, key), piece in held.items():
            if table == "block_kept":
                scope, begin, size, start = msgspec.json.decode(key)
                self.blocks[Scope(*scope), begin].put_back(size, start, piece)
            elif table == "block_sampled":
                scope, begin, added = msgspec.json.decode(key)
                self.blocks[Scope(*scope), begin].put_exchanges(added, piece)
