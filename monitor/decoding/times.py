"""When a record happened, from the many ways in which logs write it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from math import floor

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND


def parse_ts(ts: str | float) -> int | None:
    """Milliseconds since the epoch, rounded down, of a time as logs write it; None where it is none.

    Text is ISO 8601 of the years 1 to 9999, without an offset UTC, or a number. A number counts seconds below 1e10,
    milliseconds below 1e13, microseconds below 1e16 and nanoseconds below 1e19: each unit reaches to the year 2286,
    and is told from a coarser one for all times after 26 April 1970.

    >>> parse_ts("2025-01-06T01:00:00.445+01:00"), parse_ts("2025-01-06 00:00:00.445")
    (1736121600445, 1736121600445)
    >>> [parse_ts(number) for number in (1736121600.445, 1736121600445, "1736121600445999", 1736121600445999999)]
    [1736121600445, 1736121600445, 1736121600445, 1736121600445]
    >>> parse_ts(-1), parse_ts("yesterday")
    (None, None)
    """
    if not isinstance(ts, str):
        return _scaled(ts)
    if ts[4:5] != "-" and (number := parse_number(ts)) is not None:
        return _scaled(number)
    try:
        moment = datetime.fromisoformat(ts)
    except ValueError:
        return None
    time = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND
    return time if _FIRST <= time <= _LAST else None


_NUMBER = re.compile(r"\s*[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?\s*", re.ASCII)


def parse_number(text: str) -> int | float | None:
    """The decimal number that a text is, else None; infinite where it is out of the range of floats.

    >>> parse_number("1.25"), parse_number(" -3 "), parse_number("1e400"), parse_number("nan")
    (1.25, -3, inf, None)
    """
    if len(text) > 40 or not _NUMBER.fullmatch(text):  # longer ones are no times or amounts
        return None
    return float(text) if {".", "e", "E"} & set(text) else int(text)


def _scaled(number: float) -> int | None:
    if not 0 <= number < 1e19:
        return None
    if number < 1e10:
        # a float of seconds is exact to a quarter of a microsecond: rounded to those it is what was written
        return number * 1000 if isinstance(number, int) else round(number * 1e6) // 1000
    number = floor(number)
    return number if number < 1e13 else number // 1_000 if number < 1e16 else number // 1_000_000
