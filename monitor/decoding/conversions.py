"""From values as logs write them to values of the canonical fields.

An amount or feedback may be a number written as text ("1.25"; "" and "-" are no amount), a name a number, content any
of the shapes of content.py, feedback a label. All else must have the type that it has in the native format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import msgspec

from monitor.decoding.content import ContentError, text_of, texts_of
from monitor.decoding.records import Amount, Label, Message, Name, as_name, without_value
from monitor.decoding.times import parse_number, parse_ts

Convert = Callable[[Any], Any]
"""A value that is there -> one of its field's type, or None; raises MisfitError."""
_TYPES = {field.name: field.type for field in msgspec.structs.fields(Message)}
_PLAIN = frozenset({int, float})
_LARGE = 1e300
_BLANK = frozenset({"", "-"})


class MisfitError(Exception):
    """What is wrong with a value, said without it: `: what`, or `.score: what` of what is inside it."""


def convert_all(values: Sequence[Any], convert: Convert) -> tuple[Sequence[Any], list[tuple[int, str]]]:
    """The converted values, and where one does not fit, with what is wrong with it; such a one is left as it is."""
    if convert in _TAKE_TEXT and set(map(type, values)) <= {str, type(None)}:
        return values, []
    converted: list[Any] = []
    misfits: list[tuple[int, str]] = []
    for row, value in enumerate(values):
        try:
            converted.append(None if value is None else convert(value))
        except MisfitError as error:
            converted.append(value)
            misfits.append((row, str(error)))
    return converted, misfits


def as_plain_name(value: Any) -> Any:
    """A name, which may still be a number."""
    return value if type(value) is str else _fitting(value, Name)


def as_label(value: Any) -> Any:
    """The value of a label, which may still be a number or a truth value."""
    return value if type(value) is str else _fitting(value, Label)


def as_amount(scale: float) -> Convert:
    """What makes amounts, each multiplied by `scale`.

    >>> convert = as_amount(0.001)
    >>> convert("1840"), convert(1840), convert("-")
    (1.84, 1.84, None)
    """

    def convert(value: Any) -> float | None:
        if isinstance(value, str):
            if value.strip() in _BLANK:
                return None
            number = parse_number(value)
            value = value if number is None else number
        right = type(value) in _PLAIN and 0 <= value < _LARGE  # almost all are: the library's own check costs 2 us
        amount: float = float(value if right else _fitting(value, Amount)) * scale
        if not isfinite(amount):
            raise MisfitError(": Number out of range")
        return amount

    return convert


def elapsed(times: tuple[Any, Any]) -> float:
    """Seconds between two times, to the millisecond.

    >>> elapsed((1795169700.12, "2026-11-20T10:15:01.48Z"))
    1.36
    """
    begin, end = (parse_ts(time) if type(time) in {str, int, float} else None for time in times)
    if begin is None or end is None:
        raise MisfitError(f": the {'beginning' if begin is None else 'end'} is no time")
    if end < begin:
        raise MisfitError(": the end is before the beginning")
    return (end - begin) / 1000


def _fitting(value: Any, type_: Any) -> Any:
    """The value, if it is of that type; else MisfitError in the words of the native format."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        raise MisfitError(f"{path.removesuffix('`')}: {without_value(what)}") from None


def _as_time(value: Any) -> Any:
    return value if type(value) in _PLAIN else _fitting(value, _TYPES["ts"])


def _as_kind(value: Any) -> Any:
    return _fitting(value, _TYPES["kind"])


def _as_reason(value: Any) -> Any:
    return value if type(value) is str else as_name(_fitting(value, Name))


def _as_feedback(value: Any) -> Any:
    if isinstance(value, str):
        number = parse_number(value)
        value = {"label": value} if number is None else number
    return _fitting(value, _TYPES["feedback"])


def _as_content(read: Convert) -> Convert:
    def convert(value: Any) -> Any:
        try:
            return read(value)
        except ContentError as error:
            raise MisfitError(f": {error}") from None

    return convert


CONVERT: dict[str, Convert] = {
    "ts": _as_time,
    "kind": _as_kind,
    "prompt": _as_content(text_of),
    "response": _as_content(text_of),
    "context": _as_content(texts_of),
    "contexts": _as_content(texts_of),
    "finish_reason": _as_reason,
    "feedback": _as_feedback,
}
"""Field -> what makes its values, where they are neither names nor amounts."""
_TAKE_TEXT: frozenset[Convert] = frozenset({as_plain_name, as_label, _as_reason, _as_time})
"""What leaves text as it is."""
