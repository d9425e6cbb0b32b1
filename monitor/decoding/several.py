"""Decoders of several sources as one: each message is decoded by that of its partition's source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from monitor.model import Raw, Records, Reject

if TYPE_CHECKING:
    from monitor.decoding import Decoder


class EachItsOwn:
    """A decoder (`monitor.decoding.Decoder`) made of others; `number_of` tells which of them a partition is for."""

    def __init__(self, decoders: Sequence[Decoder], number_of: Callable[[str], int]) -> None:
        self._decoders, self._number_of = decoders, number_of

    @property
    def generated_ids(self) -> int:
        return sum(decoder.generated_ids for decoder in self._decoders)

    @property
    def unknown_fields(self) -> dict[str, tuple[int, str]]:
        found: dict[str, tuple[int, str]] = {}
        for decoder in self._decoders:
            for name, (count, place) in decoder.unknown_fields.items():
                known, first = found.get(name, (0, place))
                found[name] = known + count, first
        return found

    def notices(self, *, last: bool = False) -> list[str]:
        return [notice for decoder in self._decoders for notice in decoder.notices(last=last)]

    def decode(self, raw: Raw) -> tuple[Records, list[Reject]]:
        return self._decoders[self._number_of(raw.partition)].decode(raw)
