"""Text without personal data: addresses, numbers and keys that tell of a person or open a door are replaced by a mark.

Most texts hold none. An RE2 pattern runs over a whole batch at once, and only the texts that it is found in are looked
at one by one. It asks for no more than the detectors need, so that it never changes what they find.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from monitor.redaction.addresses import Span, emails, ips
from monitor.redaction.folding import INVISIBLE, fold
from monitor.redaction.keys import NAMES_OF_KEYS, NAMES_OF_PASSWORDS, known_keys, named_keys, private_keys
from monitor.redaction.numbers import cards, ibans
from monitor.redaction.phones import REGIONS, phones

__all__ = ["REGIONS", "redact"]

_MARK = re.compile(r"\[(?:email|phone|card|iban|key|ip)\]")
_SHORTEST = 6
"""No detector finds anything in fewer characters."""
_ROUNDS = 16
"""How often what is left of a text is looked at again. Texts that people write need two; what is still not settled is
replaced whole."""

_FEW = 16
"""Texts that are looked at sooner than the pattern of suspects is compiled (2 ms)."""

_Detector = Callable[[str], Iterable[Span]]

# What folding makes a digit, a space or a dash, in RE2's classes
_D, _S, _H = r"\p{Nd}", r"[\p{Zs}\t]", r"[\p{Pd}\x{2043}\x{2212}\x{30FC}]"
_APART = r"[\p{Zs}\t\p{Pd}\x{2043}\x{2212}\x{30FC}./()（）]"
_FULL_WIDTH = r"\x{FF02}-\x{FF07}\x{FF0A}\x{FF0B}\x{FF0D}-\x{FF19}\x{FF1C}-\x{FF1E}\x{FF20}-\x{FF5E}"
_HIDDEN = f"[{INVISIBLE}{_FULL_WIDTH}]"
"""Characters that hide the rest from the patterns below."""
_PASSWORD, _KEY = NAMES_OF_PASSWORDS.replace(" ", _S), NAMES_OF_KEYS.replace("[_ -]", rf"(?:_|{_S}|{_H})")
_SUSPECT = "|".join(
    (
        _HIDDEN,
        rf"BEGIN{_S}|A{_D}T|A[KS]IA|ABIA|ACCA|AROA|AIDA|gh[pousr]_|github_pat|gl[a-z]{{2,5}}{_H}|xox|xapp|sk{_H}|[spr]k_",
        r"whsec_|AIza|ya\p{Nd}|GOCSPX|eyJ|SG\.|SK[0-9a-f\p{Nd}]|npm_|pypi|hf_|dop_v|[:：]AA|T[A-Z0-9\p{Nd}]{8,12}/B",
        rf"(?i:bearer|authorization|[:：]//[^\s/?#@]*[:：]|{_PASSWORD})",
        rf"(?i:(?:{_KEY})(?:_[a-z0-9\p{{Nd}}]+)?[\"'`*]*{_S}*(?:[=:：]|{_S}[ieèéwlj]))",
        rf"\S@\S|(?i:[\[({{（]{_S}?at{_S}?[\])}}）])",
        rf"{_D}(?:{_APART}*{_D}){{5}}",
        rf"[A-Za-z]{{2}}{_S}?{_D}{{2}}(?:{_APART}?[A-Za-z\p{{Nd}}]){{11}}",
        r"[23][0-9A-Fa-f\p{Nd}]{3}[:：][0-9A-Fa-f:：\p{Nd}]",
    )
)
"""RE2 pattern that is found in every text in which a detector finds anything."""


def redact(texts: Sequence[str | None], *, regions: Sequence[str] = REGIONS) -> list[str | None]:
    """Each text with personal data replaced by ``[email]``, ``[phone]``, ``[card]``, ``[iban]``, ``[key]`` or ``[ip]``.

    None stays None. Redacting what was redacted changes nothing. Telephone numbers in national form are those of the
    `regions` (ISO 3166 codes). Raises ValueError for an unknown region where a telephone number is sought.

    >>> redact(["Mail bob@example.com or call +49 30 1234567.", "12 * 345678 = 4148136", None])
    ['Mail [email] or call [phone].', '12 * 345678 = 4148136', None]
    """
    result = list(texts)
    detectors = _detectors(regions)
    for row in range(len(result)) if len(result) < _FEW else _suspects(result):
        text = result[row]
        if text:
            result[row] = _redacted(text, detectors)
    return result


def _detectors(regions: Sequence[str]) -> Sequence[tuple[str, _Detector]]:
    """Mark -> what finds the places for it, in order of precedence: a number inside a key is the key's."""
    return (
        ("[key]", private_keys),
        ("[key]", named_keys),
        ("[key]", known_keys),
        ("[email]", emails),
        ("[iban]", ibans),
        ("[ip]", ips),
        ("[card]", cards),
        ("[phone]", partial(phones, regions=regions)),
    )


def _suspects(texts: Sequence[str | None]) -> list[int]:
    """Rows of the texts that may hold personal data."""
    found = pc.match_substring_regex(_strings(texts), _SUSPECT)
    octets = np.frombuffer(found.buffers()[1], np.uint8)
    rows: list[int] = np.flatnonzero(np.unpackbits(octets, bitorder="little", count=len(texts))).tolist()
    return rows


def _strings(texts: Sequence[str | None]) -> Any:
    """The texts as a pyarrow array; `pyarrow.array` would import pandas where it is installed."""
    parts = [(text or "").encode() for text in texts]
    edges = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=edges[1:])
    return pa.LargeStringArray.from_buffers(len(parts), pa.py_buffer(edges), pa.py_buffer(b"".join(parts)))


def _redacted(text: str, detectors: Sequence[tuple[str, _Detector]]) -> str:
    folded = fold(text)
    parts, behind = [], 0
    for start, stop, mark in sorted(_found(folded.text, detectors)):
        begin, end = folded.span(start, stop)
        parts += [text[behind:begin], mark]
        behind = end
    return "".join([*parts, text[behind:]])


def _found(text: str, detectors: Sequence[tuple[str, _Detector]]) -> list[tuple[int, int, str]]:
    """What is to be replaced, and by which mark.

    Marks divide a text, and what stands between two is judged as if it were all there is; it is looked at until
    nothing more is found. So what is left has been judged just as it will be when it is redacted again.
    """
    found: list[tuple[int, int, str]] = []
    pieces = list(_between(_MARK.finditer(text), len(text)))
    for _ in range(_ROUNDS):
        changed: list[Span] = []
        for piece in pieces:
            rest = [piece]
            before = len(found)
            for mark, detect in detectors:
                rest = [part for span in rest for part in _cut(text, span, mark, detect, found)]
            if len(found) > before:
                changed += rest
        pieces = changed
    return found + [(start, stop, "[key]") for start, stop in pieces]


def _cut(text: str, piece: Span, mark: str, detect: _Detector, found: list[tuple[int, int, str]]) -> Iterable[Span]:
    """What a detector leaves of a piece; what it finds is added to `found`."""
    first, last = piece
    if last - first < _SHORTEST:
        return (piece,)
    spans = [(first + start, first + stop) for start, stop in detect(text[first:last])]
    if not spans:
        return (piece,)
    found += [(start, stop, mark) for start, stop in spans]
    edges = [first, *(edge for span in spans for edge in span), last]
    return [(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop]


def _between(marks: Iterable[re.Match[str]], length: int) -> Iterator[Span]:
    behind = 0
    for mark in marks:
        if behind < mark.start():
            yield behind, mark.start()
        behind = mark.end()
    if behind < length:
        yield behind, length
