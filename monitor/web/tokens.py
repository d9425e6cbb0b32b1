"""Who may do what: bearer tokens from a file that only their owner can read."""

from __future__ import annotations

import hashlib
import hmac
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Role = Literal["viewer", "operator", "writer"]
SHORTEST = 16
"""Characters of a token, at least."""
_MAY: Mapping[Role, frozenset[Role]] = {
    "viewer": frozenset({"viewer"}),
    "operator": frozenset({"viewer", "operator"}),
    "writer": frozenset({"writer"}),
}


class TokensError(Exception):
    """The file cannot be used; the message says why and what to do. It never holds a token."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose a token is."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether it is enough for what needs a role; an operator may look too."""
        return role in _MAY[self.role]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a file, as digests."""

    holders: Mapping[bytes, Holder]

    def holder(self, token: str) -> Holder | None:
        """Whose a token is; takes the same time whatever it is like."""
        given, found = _digest(token), None
        for digest, holder in self.holders.items():
            if hmac.compare_digest(digest, given):
                found = holder
        return found


def read_tokens(path: Path) -> Tokens:
    """The tokens of a file: `ROLE NAME TOKEN` a line; # begins a comment. Raises TokensError."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokensError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise TokensError(f"{path}: everybody on this machine may read or write it; chmod 600 (or 640) makes it safe")
    holders: dict[bytes, Holder] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = [] if line.lstrip().startswith("#") else line.split()
        if words:
            digest, holder = _parsed(words, f"{path}:{number}")
            holders[digest] = holder
    if not holders:
        raise TokensError(f"{path}: holds no token; a line is ROLE NAME TOKEN")
    return Tokens(holders)


def _parsed(words: list[str], place: str) -> tuple[bytes, Holder]:
    if len(words) != 3:
        raise TokensError(f"{place}: expected ROLE NAME TOKEN, found {len(words)} words")
    role, name, token = words
    if role not in get_args(Role):
        raise TokensError(f"{place}: unknown role {role[:20]!r}; there is {', '.join(get_args(Role))}")
    if len(token) < SHORTEST:
        raise TokensError(f"{place}: the token of {name} has {len(token)} characters; {SHORTEST} are the least")
    return _digest(token), Holder(name, role)  # type: ignore[arg-type]  # it is one of them


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
