"""Payment cards and IBANs in folded text, and the runs of digits that cards and telephone numbers are sought in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from stdnum import iban, luhn, numdb

from monitor.redaction.addresses import Span

# Patterns begin with what is rare in text, a digit, so that the search skips to it; the lookbehind then says that no
# word runs into it. The n of an escaped newline is no word.
_RUN = re.compile(r"\d(?:(?<![A-Za-z0-9_]\d)|(?<=\\[nrt]\d))(?:[ ./()-]{0,3}\d){6,}+", re.ASCII)
_OPENING = re.compile(r"(?<![A-Za-z0-9_])[+(]{1,3}\Z", re.ASCII)
_TOKEN = re.compile(r"[^ /]*\d[^ /]*", re.ASCII)
_ENDING = re.compile(r".*\.|[^(]*\)")
"""A token that ends a sentence or a bracket, or numbers a list; what follows is another number."""
_DIGITS = re.compile(r"\d+", re.ASCII)

# Ranges of ISO/IEC 7812 issuer numbers in use: American Express, Diners Club, Discover, JCB, Maestro, Mastercard, Mir,
# RuPay, UnionPay, Visa, Elo, Hipercard, Troy.
_ISSUERS = re.compile(
    r"3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11,16}|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|35\d{14,17}"
    r"|(?:2131|1800)\d{11}|(?:5(?:0|[6-8])|6)\d{10,17}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|220[0-4]\d{12,15}|4\d{12}(?:\d{3}){0,2}|9792\d{12}|8[12]\d{14}",
    re.ASCII,
)
_CARD_DIGITS = range(12, 20)
_CHECK_DIGITS = re.compile(r"\d\d(?=[ .-]?[A-Za-z0-9])(?:(?<=[A-Za-z]{2}\d\d)|(?<=[A-Za-z]{2} \d\d))", re.ASCII)
_COUNTRY = re.compile(r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt]))([A-Za-z]{2}) ?\Z", re.ASCII)


class Token(NamedTuple):
    """Digits of a run that no space or slash divides."""

    start: int
    stop: int
    digits: str


def runs(text: str) -> Iterator[list[Token]]:
    """Seven or more digits with no more than spaces, dashes, dots, slashes and brackets between them, as tokens.

    A token that is part of a word, a UUID or a name with dashes is left out and ends the run.
    """
    for match in _RUN.finditer(text):
        opening = _OPENING.search(text[max(0, match.start() - 4) : match.start()])
        start = match.start() - (len(opening.group()) if opening else 0)
        run: list[Token] = []
        for part in _TOKEN.finditer(text, start, match.end()):
            in_word = _in_word(text, *part.span())
            if not in_word:
                run.append(Token(*part.span(), "".join(_DIGITS.findall(part.group()))))
            if run and (in_word or _ENDING.fullmatch(part.group())):
                yield run
                run = []
        if run:
            yield run


_BEFORE_WORD = re.compile(r"-?[A-Za-z_]", re.ASCII)
_EXTENSION = re.compile(r" ?(?:x|ext\b\.?|extension\b) ?\d", re.ASCII | re.IGNORECASE)


def _in_word(text: str, start: int, stop: int) -> bool:
    dashed = text[max(0, start - 2) : start]
    if len(dashed) == 2 and dashed[1] == "-" and (dashed[0].isalnum() or dashed[0] == "_"):
        return True
    return bool(_BEFORE_WORD.match(text, stop)) and not _EXTENSION.match(text, stop)


def cards(text: str) -> Iterator[Span]:
    """Payment cards: digits of an issuer, right by Luhn's check digit, in even groups or in such of four and more."""
    for run in runs(text):
        at = 0
        while at < len(run):
            length = _card_length(text, run, at)
            if length:
                yield (
                    run[at].start + text[run[at].start : run[at].stop].find(run[at].digits[0]),
                    run[at + length - 1].stop,
                )
            at += length or 1


def _card_length(text: str, run: list[Token], at: int) -> int:
    """Tokens of the longest card that begins at a token, or 0."""
    digits, found = "", 0
    for length, token in enumerate(run[at : at + _CARD_DIGITS.stop], 1):
        digits += token.digits
        if len(digits) >= _CARD_DIGITS.stop:
            break
        if len(digits) in _CARD_DIGITS and _ISSUERS.fullmatch(digits) and luhn.is_valid(digits):
            groups = [len(group) for group in _DIGITS.findall(text[run[at].start : token.stop])]
            even = groups[-1] <= groups[0] and len(set(groups[:-1])) <= 1
            # lists of small numbers are common, and one window in forty of them passes for a card
            if min(groups[:-1], default=4) >= 4 or (even and (groups[0] == 3 or length == len(run))):
                found = length
    return found


def ibans(text: str) -> Iterator[Span]:
    """International bank account numbers (ISO 13616): a country's length and form, right by the check digits."""
    behind = 0
    for match in _CHECK_DIGITS.finditer(text):
        begin = max(behind, match.start() - 5)
        country = _COUNTRY.search(text[begin : match.start()])
        rest = _bban_length(country.group(1).upper()) if country else 0
        whole = _bban(rest).match(text, match.end()) if rest else None
        if country and whole and iban.is_valid(text[begin + country.start() : whole.end()], check_country=False):
            behind = whole.end()
            yield begin + country.start(), behind


@cache
def _bban(length: int) -> re.Pattern[str]:
    """What follows the check digits."""
    return re.compile(rf"(?:[ .-]?[A-Za-z0-9]){{{length}}}(?![A-Za-z0-9])", re.ASCII)


@cache
def _bban_length(country: str) -> int:
    """Characters behind the check digits of a country's account numbers; 0 where it has none."""
    form = numdb.get("iban").info(country + "00")[0][1].get("bban", "")
    return sum(map(int, re.findall(r"(\d+)!", form)))
