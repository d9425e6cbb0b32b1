"""Whether what a decoder was told to look for is ever there: a misspelt path says nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monitor.decoding.paths import JsonPath

PATIENCE = 1_000
"""Records of a decoder among which a path must match once."""


def custom_words(paths: Mapping[str, JsonPath]) -> list[str]:
    """What is looked for in custom columns, whose names are `$NAME` for the signal NAME."""
    return [f"signals.custom.{name[1:]}: {path.text}" for name, path in paths.items()]


class Matches:
    """Looks at the first PATIENCE records of a decoder, whatever batches they come in, and not at all after them.

    Parameters
    ----------
    sought : what is looked for, in the words of the configuration

    """

    def __init__(self, sought: Sequence[str]) -> None:
        self._sought = dict(enumerate(sought))
        self._left = PATIENCE

    def look(self, columns: Sequence[Sequence[Any]], count: int) -> None:
        """Take note of the next `count` records; a column for all that is looked for, None where it is not there.

        >>> matches = Matches(["format: prompt: $.reqest.body", "format: ts: $.ts"])
        >>> matches.look([[None] * 1500, [None] * 999 + [1] * 501], 1500)
        >>> matches.notices()
        ['format: prompt: $.reqest.body has matched none of 1,000 records']
        """
        if not self._left:
            return
        among = min(count, self._left)
        self._left -= among
        found = {at for at in self._sought if any(value is not None for value in columns[at][:among])}
        self._sought = {at: what for at, what in self._sought.items() if at not in found}

    def notices(self, *, last: bool = False) -> list[str]:
        """What has matched none of the first PATIENCE records, or of all where they were fewer and no more come."""
        seen = PATIENCE - self._left
        if not seen or (self._left and not last):
            return []
        return [f"{what} has matched none of {seen:,} records" for what in self._sought.values()]
