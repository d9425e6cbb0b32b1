"""E-mail and IP addresses in folded text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

Span = tuple[int, int]
"""Where something begins and where it ends in a text."""

# Latin, Greek and Cyrillic: scripts written without spaces would lend the words around an address to it
_LETTER = r"A-Za-z\u00AA-\u02AF\u0370-\u052F\u1E00-\u1FFF"
_AT = re.compile(r"[@\[({](?:(?<=@)|(?<!@) ?[aA][tT] ?[\])}])")
_LOCAL = re.compile(rf"[{_LETTER}0-9](?:[{_LETTER}0-9.+%~'’_-]{{0,62}}[{_LETTER}0-9+%~'’_-])?\Z")
_LOCAL_LENGTH = 64
_DOT = r"(?:\.| ?[\[({] ?dot ?[\])}] ?)"
_DOMAIN = re.compile(
    rf"(?:[{_LETTER}0-9](?:[{_LETTER}0-9_-]{{0,62}})?{_DOT}){{1,8}}"
    rf"(?!(?:png|jpe?g|gif|svg|webp|avif)(?![{_LETTER}0-9]))(?:xn--[a-z0-9-]{{2,59}}|[{_LETTER}]{{2,63}})",
    re.IGNORECASE,
)
_IP4 = re.compile(r"\d(?<![\w.]\d)\d{0,2}(?:\.\d{1,3}){3}(?!\w|\.\d)", re.ASCII)
_IP6 = re.compile(r"[23](?<![\w:.][23])[0-9a-f]{3}:[0-9a-f:]{2,34}(?![\w:])", re.ASCII | re.IGNORECASE)


def emails(text: str) -> Iterator[Span]:
    """E-mail addresses, also with ``[at]`` and ``(dot)``; not ``git@``, nor the names of images (``logo@2x.png``)."""
    behind = 0
    for at in _AT.finditer(text):
        spaced = " " if at.group() != "@" else ""
        begin = max(behind, at.start() - _LOCAL_LENGTH - len(spaced))
        before = text[begin : at.start()].removesuffix(spaced)
        local = _LOCAL.search(before)
        domain = _DOMAIN.match(text, at.end() + text.startswith(" ", at.end()) if spaced else at.end())
        if local and domain and local.group() != "git":
            behind = domain.end()
            yield begin + local.start(), behind


def ips(text: str) -> Iterator[Span]:
    """Addresses of the public internet; version numbers have small parts, so two of at least 16 are asked of IPv4."""
    found = [
        match.span()
        for match in _IP4.finditer(text)
        if sum(int(part) >= 16 for part in match.group().split(".")) >= 2 and _is_public(match.group())
    ]
    found += [match.span() for match in _IP6.finditer(text) if _is_public(match.group())]
    yield from sorted(found)


def _is_public(address: str) -> bool:
    try:
        return ip_address(address).is_global
    except ValueError:
        return False
