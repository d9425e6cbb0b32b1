"""From messages to records: a row of FORMATS for every format of log that a configuration may name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from monitor.decoding.native import COLUMNS, Native, exchange_hash
from monitor.model import Raw, Records, Reject


class Decoder(Protocol):
    """Makes records of one format's messages. One decoder serves one source and counts what it meets there."""

    generated_ids: int
    """Records so far that had no id and were named after their place."""
    unknown_fields: dict[str, tuple[int, str]]
    """Name of a field that nothing reads -> records so far that have it (at least), and where it was seen first."""

    def decode(self, raw: Raw) -> tuple[Records, list[Reject]]:
        """The records of `raw` in its order, with every one of COLUMNS, and a Reject for each message that is none.

        MUST answer the same for a message whatever was decoded before it. `raw.rejects` are not repeated.
        """
        ...


FORMATS: dict[str, Callable[[], Decoder]] = {
    "native": Native,
}
"""Name of a format -> what makes its decoder."""

__all__ = ["COLUMNS", "FORMATS", "Decoder", "Native", "exchange_hash"]
