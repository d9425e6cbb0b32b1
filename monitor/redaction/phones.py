"""Telephone numbers in folded text, judged by Google's libphonenumber (the package phonenumbers)."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from monitor.redaction.addresses import Span
from monitor.redaction.numbers import Token, runs

# fmt: off
REGIONS = (
    "US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "JP", "BR", "AT", "AU",
    "BE", "CH", "CN", "IE", "IN", "KR", "MX", "PT", "RU", "SE", "TR",
)
# fmt: on
"""ISO 3166 regions whose national numbers are known by their form alone."""

_LEAST, _MOST = 7, 15
"""Digits of a telephone number (E.164 allows 15)."""
_WINDOW = 9
"""Tokens of one number at most."""
_MOST_GROUPS = 6
"""Groups of a national number at most."""

_NAMED = re.compile(
    r"(?:\b(?:t[eé]l\b|t[eé]l[eé]?(?:f|ph)|phone|cell\b|cell(?:phone|ular)|celular|mobile?(?:\b|nummer)"
    r"|mobiel|m[oó]vil|handy|portable|kom[oó]rk|rufnummer|fax|sms\b|whats?app|call (?:me|us|him|her|them)"
    r"|(?:text|ring|reach) (?:me|us|him|her)|ruf(?:en)? |appelez|joindre|llam|contato|ligu?e |chiam"
    r"|bel (?:me|mij|ons)|zadzwo|dzwoni)"
    r"|電話|携帯|电话|手机|전화|휴대폰)[^\d\n@]{0,24}\Z",
    re.IGNORECASE,
)
_NAMED_WITHIN = 48
"""Characters before a number in which its name is looked for."""
_CURRENCIES = r"[$€£¥₹%]|(?:USD|EUR|GBP|PLN|JPY|BRL|INR|R\$)"
# Behind or before a sum of money, a path, a calculation or a list of thousands stands no telephone, unless it is named
_NO_PHONE_BEHIND = re.compile(rf"(?:(?:{_CURRENCIES}|#) ?|[A-Za-z0-9]/|<<|(?<!\d)\d{{1,3}},)\Z", re.ASCII)
_NO_PHONE_BEFORE = re.compile(
    rf",\d{{1,3}}(?!\d)| ?(?:{_CURRENCIES}|[=×÷^]|\*(?!\*)"
    rf"|(?:zł|euros?|dollars?|yen|people|[kcm]?m²?|k[gmW]|g|GB|MB|°)\b)"
)
_EXTENSION = re.compile(
    r" ?(?:x|ext\b\.?|extension|#|poste|ramal|anexo|dw\b|durchwahl)[ :.]{0,2}\d{1,6}(?!\d)", re.IGNORECASE
)
_DATE = re.compile(
    r"(?<!\d)(?:(?:1[5-9]|2[01])\d\d([-./])[01]?\d\1[0-3]?\d|[0-3]?\d([-./])[0-3]?\d\2(?:1[5-9]|2[01])\d\d)(?!\d|[-.]\d)",
    re.ASCII,
)
_INTERNATIONAL = re.compile(r"\(?(?:\+|00(?=[ -]?[1-9])|011[ -](?=[1-9]))", re.ASCII)
# By their form alone: North American numbers, invented area codes such as 555 included; the 2-4-4 of Brazil and Japan,
# unless it holds two years; an area code with its zero in brackets; a number that begins with a zero and has groups
_SHAPES = re.compile(
    r"(?:1[-. ]?)?(?:\(\d{3}\)[-. ]{0,2}\d{3}[-. ]\d{4}|\d{3}([-.])\d{3}\1\d{4}|\d{3}-\d{3} \d{4}"
    r"|[2-9]\d{2} [2-9]\d{2} \d{4})"
    r"|[1-9]\d[ -](?!(?:1[5-9]|20)\d\d-(?:1[5-9]|20))9?\d{4}-\d{4}"
    r"|\(0\d{1,5}\)[ /-]{0,3}\d[\d /-]{3,9}\d"
    r"|0[1-9]\d{0,3} ?[ /-] ?\d{2,8}(?:[ -]\d{2,6}){0,4}",
    re.ASCII,
)
_GROUPS = re.compile(r"\d+", re.ASCII)
_LEAST_BARE = 9
"""Digits from which a number that neither begins with 0 nor is named may be a telephone's."""
_UNGROUPED = 9
"""Digits from which a national number need have no groups."""
_SHAPE_DIGITS = range(9, 14)
_THOUSANDS = re.compile(r"\d{1,3}(?:\.\d{3})+", re.ASCII)
_FRACTION = re.compile(r"\d{1,3}\.\d+|0 .*", re.ASCII)


def phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Telephone numbers with their extensions.

    International ones (``+``, ``00``, ``011`` and a calling code); national ones of the `regions` if they are grouped
    as there or begin with the trunk prefix 0; any that follow a word for a telephone.
    """
    national = _national(tuple(regions))
    for run in _dateless(text):
        at = 0
        while at < len(run):
            length = _phone_length(text, run, at, national)
            # a few digits that stay behind a number are more likely part of it, in a form that nobody foresaw
            if length and sum(len(token.digits) for token in run[at : at + _WINDOW]) <= _MOST:
                length = len(run[at : at + _WINDOW])
            if length:
                yield _whole(text, run[at].start, run[at + length - 1].stop)
            at += length or 1


def _dateless(text: str) -> Iterator[list[Token]]:
    """Runs cut at dates."""
    for run in runs(text):
        dates = [date.span() for date in _DATE.finditer(text, run[0].start, run[-1].stop)]
        if not dates:
            yield run
            continue
        for dated, tokens in groupby(run, partial(_is_within, dates)):
            if not dated:
                yield list(tokens)


def _is_within(spans: Sequence[Span], token: Token) -> bool:
    """Whether a token overlaps a span of an ascending sequence."""
    at = bisect_right(spans, token.start, key=itemgetter(1))
    return at < len(spans) and spans[at][0] < token.stop


def _whole(text: str, start: int, stop: int) -> Span:
    """The number with its extension."""
    extension = _EXTENSION.match(text, stop)
    return _opening(text, start, stop), extension.end() if extension else stop


def _opening(text: str, start: int, stop: int) -> int:
    """Where a number begins behind brackets that stay open."""
    while text[start] == "(" and text.count("(", start, stop) > text.count(")", start, stop):
        start += 1
    return start


class _Window(NamedTuple):
    """Some tokens of a run, as many as one number may have."""

    length: int
    text: str
    digits: str


def _windows(text: str, tokens: Sequence[Token]) -> list[_Window]:
    """The windows that begin at the first of the tokens, longest first."""
    windows: list[_Window] = []
    digits = ""
    for length, token in enumerate(tokens, 1):
        digits += token.digits
        if len(digits) > _MOST + len("0110"):
            break
        if len(digits) >= _LEAST:
            windows.append(_Window(length, text[_opening(text, tokens[0].start, token.stop) : token.stop], digits))
    return windows[::-1]


def _phone_length(text: str, run: list[Token], at: int, national: _National) -> int:
    """Tokens of the number that begins at a token, or 0."""
    windows = _windows(text, run[at : at + _WINDOW])
    if not windows:
        return 0
    start, stop = run[at].start, run[-1].stop
    before = text[max(0, start - _NAMED_WITHIN) : start]
    length = _international(windows)
    if not length and _NAMED.search(before):
        length = _named(windows, national)
    if length or _NO_PHONE_BEHIND.search(before) or _NO_PHONE_BEFORE.match(text, stop):
        return length
    return _grouped(windows, national, whole=len(run) if not at else 0)


def _international(windows: list[_Window]) -> int:
    """The longest valid number behind a ``+`` or an international prefix, else the longest that has a possible length.

    A grouped number need have a calling code only: people leave digits out, and no sum is written like that.
    """
    opening = _INTERNATIONAL.match(windows[0].text)
    if not opening:
        return 0
    library = _library()
    prefix = "".join(filter(str.isdecimal, opening.group()))
    possible = 0
    for length, text, digits in windows:
        if not _LEAST < len(digits) - len(prefix) <= _MOST:
            continue
        try:
            number = library.parse("+" + digits.removeprefix(prefix))
        except library.NumberParseException:
            continue
        if library.is_valid_number(number):
            return length
        if library.is_possible_number(number) or (
            not digits.startswith("00") and not text[opening.end() :].isdecimal()
        ):
            possible = possible or length
    return possible


def _named(windows: list[_Window], national: _National) -> int:
    """What follows a word for a telephone: the longest number valid in some region, else the longest at all."""
    windows = [window for window in windows if len(window.digits) <= _MOST]
    for window in windows:
        if national.regions_of(window.digits):
            return window.length
    return windows[0].length if windows else 0


def _grouped(windows: list[_Window], national: _National, whole: int) -> int:
    """A number in national form, or 0. `whole` is the length of a window that is all of its run."""
    windows = [
        window
        for window in windows
        if (window.length == whole or window.digits[0] == "0" or not set("-().").isdisjoint(window.text))
        and not _is_sum(window)
    ]
    for window in windows:
        if national.has_form(window):
            return window.length
    for window in windows:
        if len(window.digits) in _SHAPE_DIGITS and _SHAPES.fullmatch(window.text):
            return window.length
    return 0


def _is_sum(window: _Window) -> bool:
    """Whether a window looks like thousands with dots, a fraction, a bit pattern, a range or a difference."""
    if _THOUSANDS.fullmatch(window.text) or _FRACTION.fullmatch(window.text) or set(window.digits) <= {"0", "1"}:
        return True
    if window.digits[0] == "0":
        return False
    groups = _GROUPS.findall(window.text)
    return len(window.digits) < _LEAST_BARE or all(group.endswith("00" if len(groups) < 3 else "0") for group in groups)


@dataclass(frozen=True, slots=True)
class _National:
    """The national numbers of some regions."""

    patterns: Mapping[str, re.Pattern[str]]
    """Region -> digits of its numbers, with or without the trunk prefix."""
    of_any: re.Pattern[str]

    def regions_of(self, digits: str) -> list[str]:
        """Regions in which the number is valid."""
        if not self.of_any.fullmatch(digits):
            return []
        return [region for region, pattern in self.patterns.items() if pattern.fullmatch(digits)]

    def has_form(self, window: _Window) -> bool:
        """Whether some region groups a valid number like this; without groups it needs the trunk prefix 0."""
        library, groups = _library(), len(_GROUPS.findall(window.text))
        if groups > _MOST_GROUPS or (
            groups == 1 and not (window.digits[0] == "0" and len(window.digits) >= _UNGROUPED)
        ):
            return False
        exact = library.Leniency.EXACT_GROUPING
        return any(
            any(
                match.end - match.start >= len(window.text) - 2
                for match in library.PhoneNumberMatcher(window.text, region, exact, max_tries=1)
            )
            for region in self.regions_of(window.digits)
        )


@cache
def _national(regions: tuple[str, ...]) -> _National:
    """Raises ValueError for a region that the library does not know."""
    forms: dict[str, str] = {}
    for region in regions:
        data = _library().PhoneMetadata.metadata_for_region(region)
        if data is None or data.general_desc is None:
            raise ValueError(f"no telephone numbers are known of region {region!r}; expected codes such as US or DE")
        trunk = f"(?:{data.national_prefix})?" if data.national_prefix else ""
        forms[region] = f"{trunk}(?:{data.general_desc.national_number_pattern})"
    return _National(
        {region: re.compile(form, re.ASCII) for region, form in forms.items()},
        re.compile("|".join(forms.values()) or r"(?!)", re.ASCII),
    )


def _library() -> Any:
    """Phonenumbers, imported when first needed (50 ms)."""
    import phonenumbers  # noqa: PLC0415

    return phonenumbers
