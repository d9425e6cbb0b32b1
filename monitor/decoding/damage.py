"""What is wrong with a message that is no JSON, said without any of its text."""

from __future__ import annotations

import json
import re
from typing import NoReturn

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a surrogate pair,
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})"  # half of one,
    rb"|.)",  # or any other escape, so that an escaped backslash is not taken for the beginning of one
    re.DOTALL,
)


def describe_damage(payload: bytes) -> str:
    r"""Why `payload` is not JSON (RFC 8259), and at which byte or column. For the path of failure only: it is slow.

    >>> describe_damage(b'{"prompt": "\\ud83d oh"}')
    'half of a surrogate pair is escaped at byte 12'
    >>> describe_damage(b'{"prompt": "a", }')
    'Expecting property name enclosed in double quotes at column 17'
    """
    return _wrong_bytes(payload) or _wrong_syntax(payload) or _lone_surrogate(payload) or "not valid JSON"


def _wrong_bytes(payload: bytes) -> str:
    if not payload.strip():
        return "the message is empty"
    if payload.startswith(_UTF16_MARKS):
        return "the message is UTF-16, where UTF-8 is expected"
    return f"a NUL byte at byte {payload.index(0)}" if 0 in payload else ""


def _wrong_syntax(payload: bytes) -> str:
    try:
        json.loads(payload.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}: {error.reason}"
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        return f"{error.msg.removesuffix(' at')} at {line}column {error.colno}"
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        return str(error)
    return ""


def _lone_surrogate(payload: bytes) -> str:
    lone = next((match.start() for match in _ESCAPE.finditer(payload) if match["lone"]), None)
    return "" if lone is None else f"half of a surrogate pair is escaped at byte {lone}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")
