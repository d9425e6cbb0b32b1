"""driftd's own log format: one JSON object a message, with the canonical names of the fields.

A field that is absent and one that is null are the same. Names (`id`, `model`, `session`, `status` and the like) and
values of labels may be numbers and become text; text, amounts and times must have their own type, or the message is
refused with the path of what is wrong. Fields that nothing reads are counted by name, so that a misspelt one is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from monitor.decoding.damage import describe_damage
from monitor.decoding.matches import Matches, custom_words
from monitor.decoding.paths import JsonPath
from monitor.decoding.records import (
    FIELDS,
    LABEL_FIELD,
    Message,
    RefusedError,
    accepted_time,
    describe_misfit,
    label_notices,
    make_records,
    make_reject,
    place,
)
from monitor.model import OTHER, Raw, Records, Reject

LENIENT_AFTER = 1_000
"""Messages with unknown fields after which they are looked for no more: each such message is decoded three times."""
MAX_UNKNOWN = 100
"""Names of unknown fields that are kept; what comes later is counted as `other`."""
MAX_NAME = 80
"""Characters of such a name that are kept."""


class _StrictMessage(Message, gc=False, forbid_unknown_fields=True):
    """The same, but an unknown field is an error: noticing it costs nothing where there is none."""


class Native:
    """The decoder of the native format.

    Parameters
    ----------
    custom : name of a column -> path in the message of the value it has for each record, whatever that is; a message
        is decoded a second time, partly, if there are any

    """

    def __init__(self, custom: Mapping[str, JsonPath] | None = None) -> None:
        self.generated_ids = 0
        self.unknown_fields: dict[str, tuple[int, str]] = {}
        self._custom = custom or {}
        self._known = {*FIELDS, *(path.member for path in self._custom.values())}
        self._matches = Matches(custom_words(self._custom))
        self._with_unknown = 0
        self._lenient: Callable[[bytes], Message] = msgspec.json.Decoder(Message).decode
        strict = msgspec.json.Decoder(_StrictMessage).decode
        self._decode: Callable[[bytes], Message] = self._lenient if self._custom else strict

    def notices(self, *, last: bool = False) -> list[str]:
        """Fields that nothing reads, labels that are not known, and paths that match nothing."""
        fields = [
            f"field {name!r} is not one of the format's: it is not read (first seen at {first})"
            for name, (_, first) in self.unknown_fields.items()
            if name != LABEL_FIELD
        ]
        return [*fields, *label_notices(self.unknown_fields), *self._matches.notices(last=last)]

    def decode(self, raw: Raw) -> tuple[Records, list[Reject]]:
        """The records of `raw` in its order, and a Reject for each message that is none.

        Reasons: `unparseable` (not a JSON object), `bad_field` (a field of a wrong type or out of its range, or
        feedback without any), `no_ts`, `bad_ts` (not a time between the years 1 and 9999).
        """
        rows: list[Message] = []
        kept: list[int] = []
        times: list[int] = []
        rejects: list[Reject] = []
        for at, payload in enumerate(raw.payloads):
            try:
                message = self._message(raw, at, payload)
                times.append(accepted_time(message.ts, message.kind, message.feedback))
            except RefusedError as error:
                rejects.append(make_reject(raw, at, *error.args))
            else:
                rows.append(message)
                kept.append(at)
        values = zip(*map(msgspec.structs.astuple, rows), strict=True) if rows else ((),) * len(FIELDS)
        fields: dict[str, Sequence[Any]] = dict(zip(FIELDS, values, strict=True))
        if self._custom:
            fields |= self._custom_columns(raw, kept)
        records, generated, unknown = make_records(raw, kept, times, fields)
        self.generated_ids += generated
        for at in unknown:
            self._count_name(LABEL_FIELD, place(raw, at))
        return records, rejects

    def _message(self, raw: Raw, at: int, payload: bytes) -> Message:
        """The message, or RefusedError. What is refused depends on the lenient decoder alone."""
        try:
            return self._decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            try:
                message = self._lenient(payload)
            except msgspec.ValidationError as error:
                raise RefusedError(*describe_misfit(str(error))) from None
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                raise RefusedError("unparseable", describe_damage(payload)) from None
        self._count_unknown(payload, place(raw, at))
        return message

    def _count_unknown(self, payload: bytes, where: str) -> None:
        self._with_unknown += 1
        if self._with_unknown == LENIENT_AFTER:
            self._decode = self._lenient
        for name in sorted(_members(payload).keys() - self._known):
            self._count_name(name, where)

    def _count_name(self, name: str, where: str) -> None:
        name = name[:MAX_NAME]
        if name not in self.unknown_fields and len(self.unknown_fields) >= MAX_UNKNOWN:
            name = OTHER
        count, first = self.unknown_fields.get(name, (0, where))
        self.unknown_fields[name] = (count + 1, first)

    def _custom_columns(self, raw: Raw, kept: Sequence[int]) -> dict[str, Sequence[Any]]:
        """The values of the custom columns; unknown fields are counted on the way."""
        finders = [(path.member, path.finder_in()) for path in self._custom.values()]
        rows: list[list[Any]] = []
        for at in kept:
            members = _members(raw.payloads[at])
            if not members.keys() <= self._known:
                for name in sorted(members.keys() - self._known):
                    self._count_name(name, place(raw, at))
            rows.append([find(_value(members[name])) if name in members else None for name, find in finders])
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(finders)
        self._matches.look(columns, len(rows))
        return dict(zip(self._custom, columns, strict=True))


_decode_members: Callable[[bytes], dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _members(payload: bytes) -> Mapping[str, msgspec.Raw]:
    """The members of a message that was accepted, as they stand; one named `other` where a name is damaged."""
    try:
        return _decode_members(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {OTHER: msgspec.Raw(b"null")}


def _value(member: msgspec.Raw) -> Any:
    """What a member holds; nothing where it is damaged, which only fields that are read are refused for."""
    try:
        return msgspec.json.decode(member)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
