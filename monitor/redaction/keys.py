"""Keys, tokens and passwords in folded text: by the published form of a vendor's keys, or by the name before them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from monitor.redaction.addresses import Span

# A key file, or what there is of one that was cut short. Its body ends at the next dashes, so that no part of a text
# is read for two beginnings.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:[^-]|-(?!----)){0,16384}+-----END [A-Z0-9 ]{0,50}-----"
    r"|(?:(?:[\s\"',+]|\\[nr]){0,20}+[A-Za-z0-9+/=]{16,100})*+(?:(?:\s|\\[nr]){0,4}[A-Za-z0-9+/=]{1,100})?)"
)
_FORMS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z0-9]{16}(?![A-Z0-9])"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{22,255}"
    r"|gl(?:pat|dt|ft|soat|rt|cbt|ptt|agent|oas|imt)-[A-Za-z0-9_-]{20,255}"
    r"|xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{10,250}|xapp-[A-Za-z0-9-]{10,250}"
    r"|sk-(?=[a-z_-]{0,100}[0-9A-Z])[A-Za-z0-9_-]{20,250}"  # OpenAI, Anthropic, OpenRouter
    r"|[spr]k_(?:live|test)_[A-Za-z0-9]{10,250}|whsec_[A-Za-z0-9+/=]{20,250}"  # Stripe
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,250}|GOCSPX-[A-Za-z0-9_-]{20,60}"  # Google
    r"|eyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{2,8192}(?:\.[A-Za-z0-9_-]{1,8192}){0,3}"  # JWT, JWE
    r"|SG\.[A-Za-z0-9_-]{16,40}\.[A-Za-z0-9_-]{16,60}|SK[0-9a-f]{32}"  # SendGrid, Twilio
    r"|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,255}|hf_[A-Za-z0-9]{30,60}|dop_v1_[a-f0-9]{64}"
    r"|[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"  # Telegram
    r"|T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{20,30}"  # Slack webhook
    r")"
)
_BEARER = re.compile(
    r"\bbearer[ \"':]{1,4}(?=[A-Za-z._~+/=-]{0,300}[0-9])([A-Za-z0-9._~+/=-]{12,8192})"
    r"|\bauthorization[\"']?[ ]?[:=][ ]?[\"']?basic ([A-Za-z0-9+/]{8,1024}={0,2})",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"://([^\s/?#@:\"'<>\[\]]{0,100}:(?!\[)[^\s/@\"'<>]{1,200})@[A-Za-z0-9\[_-]")
NAMES_OF_PASSWORDS = (
    r"pass(?:word|wd|phrase|code|wort)|pwd|kennwort|mot de passe|contraseñ?n?a|senha|hasło|wachtwoord"
    r"|パスワード|密码|密碼|비밀번호"
)
"""What a password is called, as RE2 and `re` both read it."""
NAMES_OF_KEYS = (
    r"(?:api|access|account|auth|client|encryption|license|private|secret|service|shared|signing)[_ -]?"
    r"(?:key|token|secret)"
    r"|apikey|authtoken|secret|token"
)
"""What a key is called."""
_NAME_END = r"(?:_[a-z0-9]{1,12})?[\"'`*]{0,3}"
# What stands where a value would: a placeholder, and in code a call, a look-up, an attribute or a constant.
_PLACEHOLDER = r"\$[{(]|\{\{|\{[a-z_.]{1,60}\}|%\(|%s(?!\w)|<[a-z_ -]{1,60}>|\*{3,}(?:[\s\"'`]|$)|\.\.\.|\["
_CODE = (
    rf"(?!{_PLACEHOLDER}"
    r"|(?:none|null|nil|true|false|undefined|str|string|int|bool|bytes|any|optional|required)\b"
    r"|(?-i:[a-z_]{4,60}|[a-z]{3,20}(?:[A-Z][a-z]{1,20}){1,4})[(\[]|[a-z_]\w{0,60}(?:\.\w{1,60}){1,8}[(\[]"
    r"|[a-z_]{1,30}_(?:password|passwd|pwd)\b|\$[a-z_]{4,60}(?=[\s\"'`,;)\[])"
    r"|(?:os|self|this|process|config|settings|request|req|args|env|props|user|data)\.[a-z_])"
)
_SAID = r"(?:[ ]{0,4}(?:=>|:=|={1,3}|[:：])|[ ](?:is|ist|es|est|was|lautet|jest|è|é)(?:[ ]?:)?(?=[ ]))"
_ENDED = r"(?<![.,;:!?)\]}])"
_QUOTED = r"(?:\"(?P<double>[^\"\n]{3,200})\"|'(?P<single>[^'\n]{3,500})'|`(?P<back>[^`\n]{3,500})`)"
# a name, a sign, a value in quotes; a value right behind "=", as in a query or a connection string; any other value,
# which then needs a digit or a sign that words do not have
_PASSWORDS = re.compile(
    rf"(?:{NAMES_OF_PASSWORDS})s?{_NAME_END}(?:"
    rf"{_SAID}[ ]{{0,4}}(?![\"'`](?:{_PLACEHOLDER})){_QUOTED}"
    rf"|={_CODE}(?P<tight>(?:[^\s&;,\"'`<>]|&(?![\w.-]{{1,30}}=|amp;)|[;,](?=[^\s\w\"'])){{3,500}}){_ENDED}"
    rf"|{_SAID}[ ]{{0,4}}{_CODE}(?=[^\s\"'`<>]{{0,60}}[\d!@#$%^&*+?])(?P<loose>[^\s\"'`<>]{{4,500}}){_ENDED}"
    rf")",
    re.IGNORECASE,
)
_KEYS = re.compile(
    rf"(?:{NAMES_OF_KEYS}){_NAME_END}{_SAID}[ ]{{0,4}}[\"'`]?{_CODE}"
    rf"(?=[A-Za-z_+/=.~:!@#$%^&*-]{{0,200}}[0-9])(?P<value>[A-Za-z0-9_+/=.~:!@#$%^&*-]{{8,1024}}){_ENDED}",
    re.IGNORECASE,
)
_NAMED = (
    (_USER_INFO, ("://",)),
    (_BEARER, ("bearer", "authorization")),
    (
        _PASSWORDS,
        ("pass", "pwd", "kennwort", "contrase", "senha", "hasło", "wachtwoord", "パスワード", "密", "비밀번호"),
    ),
    (_KEYS, ("key", "token", "secret")),
)
"""Patterns, and what a text must hold in small letters for each to be tried: that is found a hundred times faster."""


def private_keys(text: str) -> Iterator[Span]:
    """PEM and PGP private keys, whole or cut short."""
    return (match.span() for match in _PRIVATE_KEY.finditer(text))


def named_keys(text: str) -> Iterator[Span]:
    """Values that a name gives away: ``password=...``, ``api_key: ...``, bearer tokens, user:password@ of a URL."""
    behind, lowered = 0, text.lower()
    patterns = [pattern for pattern, stems in _NAMED if any(stem in lowered for stem in stems)]
    spans = sorted(_value(match) for pattern in patterns for match in pattern.finditer(text))
    for start, stop in spans:
        if start >= behind:
            behind = stop
            yield start, stop


def _value(match: re.Match[str]) -> Span:
    """Where the group that took part stands, or all of a pattern without groups."""
    return match.span(match.lastindex or 0)


def known_keys(text: str) -> Iterator[Span]:
    """Keys of the forms that vendors publish for their scanners."""
    return (match.span() for match in _FORMS.finditer(text))
