"""Field maps: any log with one JSON record a line, read by saying where each field of a record stands.

A value may be of another type than in the native format where logs write it so (conversions.py). What does not fit is
refused with the field's name and its path. What no path names is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from monitor.decoding.conversions import CONVERT, Convert, as_amount, as_label, as_plain_name, convert_all, elapsed
from monitor.decoding.damage import describe_damage
from monitor.decoding.fieldsettings import AmountField, Field, FieldMap
from monitor.decoding.matches import Matches, custom_words
from monitor.decoding.paths import Find, JsonPath, parse_path
from monitor.decoding.records import (
    FIELDS,
    LABEL_FIELD,
    RefusedError,
    accepted_time,
    describe_misfit,
    label_notices,
    make_records,
    make_reject,
    place,
)
from monitor.model import Raw, Records, Reject

LABELS = "labels."
"""What stands before the name of a label."""

# ---- where values stand ---------------------------------------------------------------------------------------------

_LISTS = frozenset({"prompt", "response", "context", "contexts"})
"""Fields that take all that a path finds; others take the first."""


class _Sought(NamedTuple):
    """One value of a record: where it stands and what becomes of it."""

    name: str
    """The field, `labels.NAME`, or the name of a custom column."""
    where: str
    """Its paths, for people."""
    find: Find
    convert: Convert | None
    """None: it stays as it was logged."""


def _sought(name: str, field: Field | AmountField) -> _Sought:
    """What a field's settings ask for."""
    if isinstance(field, AmountField) and field.begin is not None and field.end is not None:
        begin, end = (_finder([parse_path(text)], whole=False) for text in (field.begin, field.end))
        return _Sought(name, f"{field.begin} to {field.end}", _between(begin, end), elapsed)
    find = _finder([parse_path(text) for text in field.path], whole=name in _LISTS)
    where = " or ".join(field.path)
    if isinstance(field, AmountField):
        return _Sought(name, where, find, as_amount(field.scale))
    return _Sought(name, where, find, as_label if name.startswith(LABELS) else CONVERT.get(name, as_plain_name))


def _finder(paths: Sequence[JsonPath], *, whole: bool) -> Find:
    """What the first of the paths that leads anywhere leads to."""
    finders = [path.finder() if whole or not path.many else _first(path.finder()) for path in paths]
    if len(finders) == 1:
        return finders[0]
    return lambda message: next((value for find in finders if (value := find(message)) is not None), None)


def _first(find: Find) -> Find:
    return lambda message: next(iter(find(message) or ()), None)


def _between(begin: Find, end: Find) -> Find:
    def find(message: Any) -> tuple[Any, Any] | None:
        first, last = begin(message), end(message)
        return None if first is None or last is None else (first, last)

    return find


# ---- the decoder ----------------------------------------------------------------------------------------------------


class Mapped:
    """The decoder of a field map.

    Parameters
    ----------
    custom : name of a column -> path of the value it has for each record, whatever that is

    """

    def __init__(self, fields: FieldMap, custom: Mapping[str, JsonPath] | None = None) -> None:
        self.generated_ids = 0
        self.unknown_fields: dict[str, tuple[int, str]] = {}
        given = {name: field for name in FIELDS if name != "labels" and (field := getattr(fields, name)) is not None}
        given |= {LABELS + name: field for name, field in fields.labels.items()}
        self._values = {name: f.value for name, f in given.items() if isinstance(f, Field) and f.value is not None}
        self._sought = [_sought(name, f) for name, f in given.items() if isinstance(f, AmountField) or f.path]
        where = {sought.name: f"{sought.name}: {sought.where}" for sought in self._sought}
        self._deciding = where["ts"], where.get("feedback", "feedback")
        custom = custom or {}
        self._sought += [_Sought(name, path.text, path.finder(), None) for name, path in custom.items()]
        words = [*(f"format: {place}" for place in where.values()), *custom_words(custom)]
        self._matches = Matches(words)
        self._decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode

    def notices(self, *, last: bool = False) -> list[str]:
        """Paths that match nothing, and labels of feedback that say nothing to us."""
        return [*label_notices(self.unknown_fields), *self._matches.notices(last=last)]

    def decode(self, raw: Raw) -> tuple[Records, list[Reject]]:
        """The records of `raw` in its order, and a Reject for each message that is none.

        Reasons: `unparseable` (not a JSON object), `bad_field` (a value that does not fit its field, or feedback
        without any), `no_ts`, `bad_ts` (not a time between the years 1 and 9999).
        """
        found: list[list[Any]] = []
        at: list[int] = []
        refused: dict[int, tuple[str, str]] = {}
        finders = [sought.find for sought in self._sought]
        for index, payload in enumerate(raw.payloads):
            try:
                message = _message(self._decode, payload)
            except RefusedError as error:
                refused[index] = error.args
            else:
                found.append([find(message) for find in finders])
                at.append(index)
        fields = self._converted(found, at, refused)
        times = self._times(fields, at, refused)
        kept = [index for index in at if index not in refused]
        if len(kept) < len(at):
            good = [row for row, index in enumerate(at) if index not in refused]
            fields = {name: [column[row] for row in good] for name, column in fields.items()}
        records, generated, unknown = make_records(raw, kept, times, self._complete(fields, len(kept)))
        self.generated_ids += generated
        for index in unknown:
            count, first = self.unknown_fields.get(LABEL_FIELD, (0, place(raw, index)))
            self.unknown_fields[LABEL_FIELD] = (count + 1, first)
        return records, [make_reject(raw, index, *refused[index]) for index in sorted(refused)]

    def _converted(
        self, found: Sequence[Sequence[Any]], at: Sequence[int], refused: dict[int, tuple[str, str]]
    ) -> dict[str, Sequence[Any]]:
        """A column for all that is sought; of the misfits of a message the first is what it is refused for."""
        columns = list(zip(*found, strict=True)) if found else [()] * len(self._sought)
        fields: dict[str, Sequence[Any]] = {}
        for (name, where, _, convert), column in zip(self._sought, columns, strict=True):
            fields[name], misfits = (column, []) if convert is None else convert_all(column, convert)
            for row, what in misfits:
                refused.setdefault(at[row], ("bad_ts" if name == "ts" else "bad_field", f"{name}: {where}{what}"))
        self._matches.look(list(fields.values()), len(found))
        for name, always in self._values.items():
            fields[name] = [always if v is None else v for v in fields.get(name, (None,) * len(found))]
        return fields

    def _times(
        self, fields: Mapping[str, Sequence[Any]], at: Sequence[int], refused: dict[int, tuple[str, str]]
    ) -> list[int]:
        """The times of records that have all that they need; others are refused."""
        nothing = (None,) * len(at)
        deciding = fields["ts"], fields.get("kind", nothing), fields.get("feedback", nothing)
        times: list[int] = []
        for index, ts, kind, feedback in zip(at, *deciding, strict=True):
            if index not in refused:
                try:
                    times.append(accepted_time(ts, kind, feedback, *self._deciding))
                except RefusedError as error:
                    refused[index] = error.args
        return times

    def _complete(self, found: Mapping[str, Sequence[Any]], count: int) -> dict[str, Sequence[Any]]:
        """Columns of all fields, absent ones too, and of the custom ones."""
        nothing = (None,) * count
        known = dict(found)
        fields = {name: known.pop(name, nothing) for name in FIELDS if name not in {"ts", "labels"}}
        labels = {name.removeprefix(LABELS): known.pop(name) for name in list(known) if name.startswith(LABELS)}
        rows = zip(*labels.values(), strict=True)
        fields["labels"] = [dict(zip(labels, row, strict=True)) for row in rows] if labels else nothing
        known.pop("ts")
        return fields | known


def _message(decode: Callable[[bytes], dict[str, Any]], payload: bytes) -> dict[str, Any]:
    try:
        return decode(payload)
    except msgspec.ValidationError as error:
        raise RefusedError(*describe_misfit(str(error))) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RefusedError("unparseable", describe_damage(payload)) from None
