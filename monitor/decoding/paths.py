r"""JSON paths: where in a message a value stands. A subset of RFC 9535, compiled once, walked for every record.

`$` is the message, `.name` and `['name']` a member of an object, `[0]` and `[-1]` an element of a list from its
beginning or end, `[*]` all elements of a list. A name after a dot is letters, digits and _; any other is written in
brackets, where `\\`, `\'` and `\"` stand for themselves. Beyond the RFC: a step into a text that holds a JSON object or
list goes on inside it. What is not there is None, and so is null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

Find = Callable[[Any], Any]
_EVERY = object()
"""The step `[*]`."""
_STEP = re.compile(
    r"\.(?P<name>[^\W\d]\w*)"
    r"|\[\s*(?:'(?P<single>(?:[^'\\]|\\['\"\\])*)'|\"(?P<double>(?:[^\"\\]|\\['\"\\])*)\""
    r"|(?P<index>0|-?[1-9]\d{0,8})|(?P<every>\*))\s*\]"
)
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A path, ready to be walked."""

    text: str
    steps: tuple[Any, ...]
    """Names, indices and _EVERY."""

    @property
    def many(self) -> bool:
        """Whether it finds a list of values."""
        return _EVERY in self.steps

    @property
    def member(self) -> str:
        """The member of the message that it begins with; empty where it begins with none."""
        return self.steps[0] if self.steps and isinstance(self.steps[0], str) else ""

    def finder(self) -> Find:
        """What finds the value that stands there, a list of them if `many`; None where nothing does.

        >>> message = {"a": {"b": [{"c": 1}, {"c": 2}, {"d": 3}]}, "text": '{"c": 4}'}
        >>> paths = ("$.a.b[-2].c", "$['a'].b[*].c", "$.a.b[5]", "$.text.c")
        >>> [parse_path(text).finder()(message) for text in paths]
        [2, [1, 2], None, 4]
        """
        return self._finder(self.steps)

    def finder_in(self) -> Find:
        """The same, given the value of `member`."""
        return self._finder(self.steps[1:])

    def _finder(self, steps: Sequence[Any]) -> Find:
        if self.many or not (steps and type(steps[-1]) is str):
            return partial(_find, steps)

        def find(value: Any) -> Any:
            start = value
            try:  # most often all is there; a text that an index cut a character from takes no name after it
                for step in steps:
                    value = value[step]
            except (KeyError, IndexError, TypeError):
                return _find(steps, start)
            return value

        return find


def parse_path(text: str) -> JsonPath:
    """The path. Raises ValueError that says where it is wrong, counting characters from 1.

    >>> parse_path("$.a..b")
    Traceback (most recent call last):
    ValueError: '$.a..b' at character 4: expected .name, ['name'], [0], [-1] or [*]
    """
    if not text.startswith("$"):
        raise ValueError(f"{text!r} at character 1: a path begins with $, as in $.request.id")
    at, steps = 1, []
    while at < len(text):
        found = _STEP.match(text, at)
        if not found:
            raise ValueError(f"{text!r} at character {at + 1}: {_expectation(text[at:])}")
        steps.append(_step(found))
        at = found.end()
    return JsonPath(text, tuple(steps))


def _step(found: re.Match[str]) -> Any:
    if found["index"]:
        return int(found["index"])
    if found["every"]:
        return _EVERY
    quoted = found["single"] if found["single"] is not None else found["double"]
    return found["name"] if quoted is None else _ESCAPED.sub(r"\1", quoted)


def _expectation(rest: str) -> str:
    if rest.startswith("[?") or re.match(r"\[\s*-?\d*\s*:", rest):
        return "filters and slices are not understood; expected .name, ['name'], [0], [-1] or [*]"
    if re.match(r"\.?[\w@-]", rest):
        return "a name with other characters than letters, digits and _ is written ['name']"
    return "expected .name, ['name'], [0], [-1] or [*]"


def _find(steps: Sequence[Any], value: Any) -> Any:
    """What stands there, looked for with care."""
    for at, step in enumerate(steps):
        if type(value) is str:
            value = opened(value)
        if type(step) is str:
            value = value.get(step) if type(value) is dict else None
        elif type(value) is not list:
            return None
        elif step is _EVERY:
            return _find_all(value, steps[at + 1 :])
        else:
            value = value[step] if -len(value) <= step < len(value) else None
        if value is None:
            return None
    return value


def _find_all(values: Sequence[Any], steps: Sequence[Any]) -> list[Any] | None:
    found = [_find(steps, value) for value in values]
    if _EVERY in steps:
        found = [value for values in found if values is not None for value in values]
    return [value for value in found if value is not None] or None


def opened(text: str) -> Any:
    """The object or list that a text holds as JSON, else None."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
