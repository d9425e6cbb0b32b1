"""From messages to records: a row of FORMATS for every format of log that a configuration may name, and field maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from monitor.decoding.fieldmap import Mapped
from monitor.decoding.fieldsettings import FieldMap, Format
from monitor.decoding.native import Native
from monitor.decoding.paths import JsonPath, parse_path
from monitor.decoding.records import COLUMNS, exchange_hash
from monitor.model import Raw, Records, Reject


class Decoder(Protocol):
    """Makes records of one format's messages. One decoder serves one source and counts what it meets there."""

    @property
    def generated_ids(self) -> int:
        """Records so far that had no id and were named after their place."""
        ...

    @property
    def unknown_fields(self) -> dict[str, tuple[int, str]]:
        """Name of a field that nothing reads -> records that have it (at least), and where it was seen first."""
        ...

    def notices(self, *, last: bool = False) -> list[str]:
        """What the owner should know of the log so far, each said once.

        A place that depends on where reading began stands in brackets at the end. `last`: no records come any more.
        """
        ...

    def decode(self, raw: Raw) -> tuple[Records, list[Reject]]:
        """The records of `raw` in its order, with every one of COLUMNS, and a Reject for each message that is none.

        MUST answer the same for a message whatever was decoded before it. `raw.rejects` are not repeated.
        """
        ...


FORMATS: dict[str, Callable[..., Decoder]] = {
    "native": Native,
}
"""Name of a format -> what makes its decoder from the paths of custom columns, or from nothing."""


def make_decoder(format: str | FieldMap, custom: Mapping[str, str] | None = None) -> Decoder:  # noqa: A002  the key
    """A decoder for a source whose `format` is this.

    Parameters
    ----------
    custom : name of a custom signal -> path of its value; the values are in the column `$NAME` of the records, as they
        were logged and None where there is nothing

    """
    paths: dict[str, JsonPath] = {f"${name}": parse_path(path) for name, path in (custom or {}).items()}
    return Mapped(format, paths) if isinstance(format, FieldMap) else FORMATS[format](paths)


__all__ = ["COLUMNS", "FORMATS", "Decoder", "FieldMap", "Format", "Native", "exchange_hash", "make_decoder"]
