"""Signals that the owner names: any field of the log as an amount, a yes/no or a category, on every record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, Literal, Self

import numpy as np
import pydantic

from monitor.decoding.paths import parse_path
from monitor.decoding.records import as_name
from monitor.decoding.times import parse_number
from monitor.model import Categories, Column, Flags, Floats, Records, Scale, Scores, Signal
from monitor.scorers.columns import categories, exchanges
from monitor.settings import Settings

LABEL = "labels."
"""What stands before the name of a label."""
MAX_CATEGORY = 200
"""Characters of a category; what is longer is text and no name."""
_TRUTHS = {"true": 1.0, "yes": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "0": 0.0}
_UNREADABLE = float("inf")
"""Stands for a value that is there and does not fit, as NaN does for one that is not there."""


def _sound_field(text: str) -> str:
    if text.startswith(LABEL) and text != LABEL:
        return text
    if not text.startswith("$"):
        raise ValueError(f"expected a path in the message such as $.timings.queue, or labels.NAME, not {text!r}")
    if not parse_path(text).member:
        raise ValueError(f"{text!r} does not begin with the name of a field, as $.timings.queue does")
    return text


class CustomSettings(Settings):
    """One custom signal."""

    field: Annotated[str, pydantic.AfterValidator(_sound_field)]
    """A path in the message as it was logged, whatever the format, or `labels.NAME`."""
    kind: Literal["numeric", "rate", "category"]
    scale: Scale = "log"
    """Numeric only: `log` for amounts from 0 on, `unit` for scores from 0 to 1."""

    @pydantic.model_validator(mode="after")
    def _scale_of_numbers(self) -> Self:
        if self.kind != "numeric" and "scale" in self.model_fields_set:
            raise ValueError(f"scale is for kind: numeric, not for kind: {self.kind}")
        return self


class Custom:
    """The signals of the configuration by name, and `<name>_missing` for each.

    A value that does not fit is no observation, and the record is remarked on as `<name>_unreadable`: no number (or
    text of one), below 0, above 1 on the scale `unit`; no truth value, 0, 1, or text of one; no text up to
    MAX_CATEGORY characters, number or truth value. Blank text is absent. A feedback event has no observation of any.
    """

    def __init__(self, settings: Mapping[str, CustomSettings] | None = None) -> None:
        self._settings = settings or {}
        self._signals: list[Signal] = []
        for name, custom in self._settings.items():
            signal = Signal(name, custom.kind, custom.scale, fingerprint=custom.field)
            self._signals += [signal, Signal(f"{name}_missing", "rate", fingerprint=custom.field)]

    @property
    def signals(self) -> Sequence[Signal]:
        return self._signals

    def score(self, records: Records) -> Scores:
        """A column for every signal, one entry a record."""
        exchange = exchanges(records)
        columns: dict[str, Column] = {}
        remarks: dict[str, Flags] = {}
        for name, custom in self._settings.items():
            column, missing, unreadable = _observed(_values(records, name, custom.field), custom)
            columns[name] = _only(column, exchange)
            columns[f"{name}_missing"] = np.where(exchange, missing.astype(np.float64), np.nan)
            if (unreadable & exchange).any():
                remarks[f"{name}_unreadable"] = unreadable & exchange
        return Scores(columns, remarks)


def custom_paths(settings: Mapping[str, CustomSettings]) -> dict[str, str]:
    """Signal -> path of its value, for those that a decoder has to look up.

    >>> custom_paths({"queue": CustomSettings(field="$.timings.queue", kind="numeric")})
    {'queue': '$.timings.queue'}
    """
    return {name: custom.field for name, custom in settings.items() if not custom.field.startswith(LABEL)}


def _values(records: Records, name: str, field: str) -> Sequence[Any]:
    """The values as they were logged; text that is blank is None."""
    if field.startswith(LABEL):
        label = field.removeprefix(LABEL)
        values: Sequence[Any] = [None if labels is None else labels.get(label) for labels in records.columns["labels"]]
    else:
        values = records.columns[f"${name}"]
    return [None if isinstance(value, str) and not value.strip() else value for value in values]


def _observed(values: Sequence[Any], custom: CustomSettings) -> tuple[Column, Flags, Flags]:
    """Observations, whether there is no value, and whether there is one that does not fit."""
    if custom.kind == "category":
        names = [_as_category(value) for value in values]
        missing = np.array([value is None for value in values], np.bool_)
        column = categories(names)
        return column, missing, (column.codes < 0) & ~missing
    read: Callable[[Any], float] = _as_rate if custom.kind == "rate" else _as_number
    numbers: Floats = np.array([np.nan if value is None else read(value) for value in values], np.float64)
    missing = np.isnan(numbers)
    top = 1.0 if custom.scale == "unit" else np.finfo(np.float64).max
    unreadable = ~missing & ~((numbers >= 0) & (numbers <= top))
    return np.where(unreadable, np.nan, numbers), missing, unreadable


def _only(column: Column, exchange: Flags) -> Column:
    """The column without observations of feedback events."""
    if isinstance(column, Categories):
        return Categories(column.names, np.where(exchange, column.codes, np.int32(-1)))
    return np.where(exchange, column, np.nan)


def _as_number(value: Any) -> float:
    """The number that a value is, or _UNREADABLE.

    >>> _as_number(3), _as_number(" 1.5 "), _as_number("fast"), _as_number(True)
    (3.0, 1.5, inf, inf)
    """
    if isinstance(value, str):
        value = parse_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _UNREADABLE
    return float(value) if abs(value) < 1e300 and isfinite(value) else _UNREADABLE  # an int may be too long for a float


def _as_rate(value: Any) -> float:
    """1.0 or 0.0 of a value that says yes or no, or _UNREADABLE.

    >>> _as_rate(True), _as_rate(0), _as_rate("Yes"), _as_rate(0.5)
    (1.0, 0.0, 1.0, inf)
    """
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower(), _UNREADABLE)
    return float(value) if isinstance(value, bool | int | float) and value in {0, 1} else _UNREADABLE


def _as_category(value: Any) -> str | None:
    """The name that a value is, or None.

    >>> _as_category("eu-1"), _as_category(7.0), _as_category(False), _as_category({"a": 1})
    ('eu-1', '7', 'false', None)
    """
    if not isinstance(value, str | bool | int | float):
        return None
    name = as_name(value)
    return name if len(name) <= MAX_CATEGORY else None
