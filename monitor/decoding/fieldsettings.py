"""What a configuration says of a field map: where each field of a record stands in a log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

import pydantic

from monitor.decoding.paths import parse_path
from monitor.settings import Settings


def _sound_path(text: str) -> str:
    parse_path(text)
    return text


def _listed(given: object) -> object:
    return [given] if isinstance(given, str) else given


PathText = Annotated[str, pydantic.AfterValidator(_sound_path)]
_Paths = Annotated[tuple[PathText, ...], pydantic.BeforeValidator(_listed, json_schema_input_type=str | list[str])]


class Field(Settings):
    """Where a field stands, or what it always is. A path alone, or a list of them, is short for `path`."""

    path: _Paths = ()
    """The first of these paths that leads to a value counts."""
    value: str | None = None
    """What it is where no path leads to a value: of all records where there is no path."""

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        if not self.path and self.value is None:
            raise ValueError("expected a path, a list of paths, or a value")
        return self


class AmountField(Settings):
    """Where an amount stands. A path alone, or a list of them, is short for `path`."""

    path: _Paths = ()
    """The first of these paths that leads to a value counts."""
    scale: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = 1.0
    """What the value is multiplied by: 0.001 makes seconds of milliseconds."""
    begin: PathText | None = None
    """With `end`, in place of a path: two times, whose difference in seconds (to the millisecond) is the value."""
    end: PathText | None = None

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.path) + (self.begin is not None) != 1 or (self.begin is None) != (self.end is None):
            raise ValueError("expected a path, a list of paths, or one of path and begin with end")
        return self


def _short(given: object) -> object:
    if isinstance(given, str | list | tuple):
        return {"path": given}
    if not isinstance(given, dict | Field | AmountField):
        raise ValueError("expected a path such as $.request.id, a list of paths, or keys and values")  # noqa: TRY004
    return given


def _from_record(given: Field) -> Field:
    if given.value is not None:
        raise ValueError("is never the same for all records; it has no value, only a path")
    return given


_Field = Annotated[Field, pydantic.BeforeValidator(_short, json_schema_input_type=str | list[str] | Field)]
_Own = Annotated[_Field, pydantic.AfterValidator(_from_record)]
_Amount = Annotated[AmountField, pydantic.BeforeValidator(_short, json_schema_input_type=str | list[str] | AmountField)]


class FieldMap(Settings):
    """Where the fields of a record stand in a log. Those that are left out are absent from every record."""

    id: _Own | None = None
    ts: _Own
    kind: _Field | None = None
    model: _Field | None = None
    model_version: _Field | None = None
    prompt_version: _Field | None = None
    prompt: _Own | None = None
    response: _Own | None = None
    context: _Own | None = None
    contexts: _Own | None = None
    session: _Own | None = None
    user: _Own | None = None
    labels: Mapping[Annotated[str, pydantic.Field(min_length=1)], _Field] = {}
    """Name of a label -> where it stands."""
    segment: _Field | None = None
    latency_seconds: _Amount | None = None
    time_to_first_token_seconds: _Amount | None = None
    prompt_tokens: _Amount | None = None
    response_tokens: _Amount | None = None
    cost: _Amount | None = None
    finish_reason: _Field | None = None
    status: _Field | None = None
    feedback: _Own | None = None
    of: _Own | None = None

    @pydantic.field_validator("kind")
    @classmethod
    def _known_kind(cls, given: Field | None) -> Field | None:
        if given is not None and given.value not in {None, "exchange", "feedback"}:
            raise ValueError(f"expected 'exchange' or 'feedback' as value, not {given.value!r}")
        return given


def _way(given: object) -> str:
    return "map" if isinstance(given, dict | FieldMap) else "name"


Format = Annotated[
    Annotated[str, pydantic.Tag("name")] | Annotated[FieldMap, pydantic.Tag("map")], pydantic.Discriminator(_way)
]
"""What a source's `format` may be: the name of a format, or a field map."""
