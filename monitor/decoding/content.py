"""The text of what was said, from the shapes in which chat interfaces log it.

- text, or null;
- a list of parts: texts, and objects whose text stands in `text` or `content`. Parts of other types (images, tool
  calls, thoughts) have no text. The texts of several parts are joined by line ends;
- a message: an object with a `role`, and its content in `content` or `parts`;
- a list of messages: the last one of the user counts or, where the user has none, the last one;
- the body of a request or a response: `messages`, or `choices`, of which the first one counts;
- any other object has no text;
- a text that holds one of these as JSON. To be safe from answers that are JSON themselves, only messages, bodies, and
  lists of parts that all have a type are taken for such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from monitor.decoding.paths import opened

_TEXT_TYPES = frozenset({None, "text", "input_text", "output_text", "refusal"})
_PART_KEYS = ("text", "content", "refusal")


class ContentError(ValueError):
    """A value that is no content, said without any of it."""


def text_of(value: Any) -> str | None:
    r"""The text of a content of any shape; None where it has none. Raises ContentError for what is no content.

    >>> text_of([{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {}}, "a cat"])
    'Look:\na cat'
    >>> text_of('[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]')
    'Hi'
    """
    if isinstance(value, str):
        return _text_of_string(value) if value[:1] in "{[ \n\t\r" else value
    return _text_of_shape(value)


def _text_of_string(text: str) -> str | None:
    held = opened(text)
    if not (_is_message(held) or _is_body(held) or _are_messages(held) or _are_typed_parts(held)):
        return text
    try:
        return _text_of_shape(held)
    except ContentError:
        return text


def _text_of_shape(value: Any) -> str | None:
    if _is_body(value):
        value = value["messages"] if _are_messages(value.get("messages")) else _said_in(value["choices"][0])
    if _are_messages(value):
        value = next((message for message in reversed(value) if message["role"] == "user"), value[-1])
    if _is_message(value):
        value = value["content"] if value.get("content") is not None else value.get("parts")
    return _joined(value)


def _said_in(choice: Any) -> Any:
    return choice.get("message", choice.get("text")) if isinstance(choice, dict) else choice


def _is_message(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and ("content" in value or "parts" in value)


def _are_messages(value: Any) -> TypeGuard[Sequence[Mapping[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "role" in v for v in value)


def _is_body(value: Any) -> TypeGuard[Mapping[str, Any]]:
    if not isinstance(value, dict) or "role" in value:
        return False
    choices = value.get("choices")
    return _are_messages(value.get("messages")) or (isinstance(choices, list) and bool(choices))


def _are_typed_parts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and _is_typed(v) for v in value)


def _is_typed(part: Mapping[str, Any]) -> bool:
    return isinstance(part.get("type"), str) and any(key in part for key in (*_PART_KEYS, part["type"]))


def _joined(content: Any) -> str | None:
    """The text of a content: text, a part, or a list of these and of such lists."""
    if content is None or isinstance(content, str):
        return content
    texts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        inner = part if isinstance(part, list) else [part]
        texts += [text for text in map(_text_of_part, inner) if text is not None]
    return "\n".join(texts) if texts else None


def _text_of_part(part: Any) -> str | None:
    if part is None or isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise ContentError(f"{_called(part)} is neither text nor a part of a message")
    if part.get("type") not in _TEXT_TYPES:
        return None
    for key in _PART_KEYS:
        if part.get(key) is not None:
            if isinstance(part[key], str):
                return str(part[key])
            raise ContentError(f"the text of a part is {_called(part[key])}")
    return None


def texts_of(value: Any) -> list[str] | None:
    """The texts of contexts: of a list those of its elements, else the one. Raises ContentError.

    >>> texts_of(["a", {"type": "text", "text": "b"}, [{"text": "c"}]]), texts_of("d")
    (['a', 'b', 'c'], ['d'])
    """
    if value is None:
        return None
    found = map(_joined, value if isinstance(value, list) else [value])
    return [text for text in found if text is not None]


def _called(value: Any) -> str:
    """The name of a value's type in JSON."""
    names = {bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null")
