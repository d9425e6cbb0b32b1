"""What the settings of every component are made of: immutable types, durations and times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import pydantic

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Settings(pydantic.BaseModel):
    """Base of all settings: immutable, and a key that nobody declared is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h|d|w))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


def parse_duration(text: object) -> int:
    """Milliseconds of a duration as Prometheus writes it: ``90s``, ``5m``, ``1h30m``, ``7d``.

    Raises ValueError for anything else, a bare number included: its unit would be a guess.

    >>> parse_duration("1h30m"), parse_duration("250ms")
    (5400000, 250)
    """
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f"expected a duration such as 30s, 5m, 1h30m or 7d, not {text!r}")
    return round(sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text)))


def format_duration(milliseconds: int) -> str:
    """The shortest way to write a duration with whole numbers.

    >>> format_duration(5_400_000), format_duration(120_000), format_duration(0)
    ('1h30m', '2m', '0s')
    """
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, milliseconds = divmod(milliseconds, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_time(value: object) -> int:
    """Milliseconds since the epoch of an ISO 8601 time (no offset means UTC) or a datetime. Raises ValueError.

    >>> parse_time("2026-11-20T00:00:00Z")
    1795132800000
    """
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise ValueError(  # noqa: TRY004  pydantic reports ValueErrors
            f"expected a time such as 2026-11-20T00:00:00Z, not {value!r}"
        )
    return round((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000)


def format_time(milliseconds: int) -> str:
    """ISO 8601 in UTC with milliseconds.

    >>> format_time(1795132800000)
    '2026-11-20T00:00:00.000Z'
    """
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


Duration = Annotated[
    int,
    pydantic.BeforeValidator(parse_duration, json_schema_input_type=str),
    pydantic.PlainSerializer(format_duration, return_type=str),
]
"""A setting that is written ``5m`` and read as milliseconds."""

Moment = Annotated[
    int,
    pydantic.BeforeValidator(parse_time, json_schema_input_type=str),
    pydantic.PlainSerializer(format_time, return_type=str),
]
"""A setting that is written as an ISO time and read as milliseconds since the epoch."""
