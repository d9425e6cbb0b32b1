"""Text as the detectors see it: every way to write a digit, a dash or a space made one, invisible characters left out.

Nothing is replaced in the text itself: what is found in the folded text is cut out of the original at `Folded.span`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

_DASHES = "‐‑‒–—―⁃−﹘﹣ー"
_SPACES = "\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
INVISIBLE = (
    "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"
)
"""Soft hyphens, zero-width characters and marks of direction: they split a number for a program, not for a reader."""
_FULL_WIDTH, _FULL_WIDTH_END = 0xFF01, 0xFF5E
_PROSE = "！，；？"
"""Full-width forms that stay as they are: they end sentences, and are no part of any address or number."""
_DIGITS_END = 0x20000
"""No decimal digit of Unicode stands at or behind this code point."""


@dataclass(frozen=True, slots=True)
class Folded:
    """A folded text and where its characters stand in the original."""

    text: str
    places: Sequence[int]
    """Place in the original of each character."""

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Where `text[start:stop]`, which is not empty, stands in the original."""
        return self.places[start], self.places[stop - 1] + 1


def fold(text: str) -> Folded:
    """The text with decimal digits, full-width forms, dashes and spaces as in ASCII, without invisible characters.

    >>> fold("０９０–１２３４").text
    '090-1234'
    """
    if text.isascii():
        return Folded(text.replace("\t", " "), range(len(text)))
    folded = text.translate(_folds())
    if len(folded) == len(text):
        return Folded(folded, range(len(text)))
    return Folded(folded, [place for place, character in enumerate(text) if character not in INVISIBLE])


@cache
def _folds() -> dict[int, str]:
    """Code point -> what it folds to, built at the first text beyond ASCII (10 ms)."""
    characters = filter(str.isdecimal, map(chr, range(0x80, _DIGITS_END)))
    folds = {ord(character): str(int(character)) for character in characters}
    folds |= {code: chr(code - _FULL_WIDTH + ord("!")) for code in range(_FULL_WIDTH, _FULL_WIDTH_END + 1)}
    for character in _PROSE:
        del folds[ord(character)]
    folds |= dict.fromkeys(map(ord, _DASHES), "-") | dict.fromkeys(map(ord, _SPACES), " ")
    return folds | dict.fromkeys(map(ord, INVISIBLE), "")
