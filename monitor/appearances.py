"""First appearances: values of a category that the reference of a stream does not hold, each told of once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import msgspec

from monitor.model import Scope
from monitor.settings import format_time
from monitor.summaries import AnySummary, Category
from monitor.windows import Slice

MOST_TOLD = 5
"""New values of one category of a stream that are told of; more of them are no news."""


@dataclass(slots=True)
class Appearances:
    """What was told of so far."""

    told: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """(Stream, signal) -> values."""

    def take(self, closed: Slice, known: Callable[[Scope, str], AnySummary | None]) -> list[str]:
        """What a closed slice holds of streams for the first time, in words.

        Parameters
        ----------
        known : the reference's summary of a signal; None where there is none yet, or its values are not to be told

        """
        notices = []
        for scope, contents in closed.scopes.items():
            for name, summary in contents.summaries.items():
                if scope.segment is not None or not isinstance(summary, Category):
                    continue
                before = known(scope, name)
                if not isinstance(before, Category) or not before.whole:
                    continue
                told = self.told.setdefault((scope.stream, name), [])
                new = sorted({*summary.names.values()} - {*before.names.values(), *told})[: MOST_TOLD - len(told)]
                told += new
                notices += [
                    f"{scope.stream}: {name} {value!r} appeared between {format_time(closed.start)} and "
                    f"{format_time(closed.end)}; the reference holds none such"
                    for value in new
                ]
        return notices

    def forget(self, signals: Collection[str]) -> None:
        """Of some signals nothing was told."""
        self.told = {key: values for key, values in self.told.items() if key[1] not in signals}

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(list(self.told.items()))

    @classmethod
    def load(cls, data: bytes) -> Appearances:
        """The inverse of `dump`."""
        return cls({(stream, name): told for (stream, name), told in msgspec.msgpack.decode(data)})
