r"""Does an answer begin by refusing, or by saying that it does not know? English phrases, matched by RE2.

A sensor for a change of rate, not a judge of single answers. Agreement with labelled answers is asserted in
tests/test_scorers_refusal.py. Not seen are refusals that argue without saying no, and other languages.
"""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from monitor.model import Flags
from monitor.scorers.columns import matches

BEGINNING = 300
"""Code points of the response that are looked at: a refusal says so at once, a story may quote one later."""

_I = (
    r"\bi(?:'m|'ve| am| have| was)?"
    r"(?: (?:just|really|simply|still|also|currently|actually|unfortunately|personally|definitely|only|must|truly))?"
)
_CANNOT = (
    r"(?:can(?:not|'t| not)|could(?: not|n't)|won't|will not|(?:unable|not (?:[\w-]+ )?(?:able|allowed|permitted"
    r"|authorized|programmed|designed|going|comfortable|equipped|qualified|capable|in a position))(?: to| of| with)?)"
)
_ACT = (  # what is not done; stories say "I can't wait", "I couldn't help but", "I won't give up"
    r"(?:help (?:you|with|him|her|them|anyone|out)|help[.,;!]|assist|answer|respond|fulfil|comply|provid|offer|discuss"
    r"|giv(?:e|ing) (?:you|out|an?|any|specific|advice|medical|legal)|shar(?:e|ing)|support|engag|recommend|suggest"
    r"|promot|encourag|condon|participat|advis|do (?:that|this|it|so|what)|tell (?:you|whether|if)|verif|confirm"
    r"|determin|identif|find|locat|access|brows|search|look (?:up|that|this|it)|generat|creat|produc|writ|compos|draw"
    r"|design|perform|complet|process|predict|endors|facilitat|accurately|directly|definitively|in good conscience"
    r"|say (?:with|for|who|what|which|whether)|speak to|speculat|comment on|go into)"
)
_LACK = (
    r"(?:do not|don't|did not|didn't) (?:[\w-]+ )?(?:know|(?:have|possess) (?:[\w-]+[ ,/]){0,3}(?:info|information"
    r"|access|data|details|knowledge|records?|ability|capability|capabilities|capacity|permission|context|idea|enough))\b"
)
_UNSURE = (
    r"not (?:[\w-]+ )?(?:aware of|familiar with|certain (?:who|when|where|which|about|what)"
    r"|sure (?:who|when|where|which|about|how to|what the|i can|if i can))\b"
)
_UNWILLING = (
    r"(?:(?:do not|don't) (?:condone|promote|encourage|support|engage in|endorse|participate in"
    r"|think (?:it's|it is|that's|that is|i (?:can|should)))|(?:must|have to|will) (?:\w+ )?(?:decline|refuse))"
)
_SORRY = r"\b(?:sorry|apologi[sz]e|afraid|unfortunately|regret(?:tably)?)\b"
_AS_AI = (
    r"\b(?:as|am|'m) (?:just |only |merely )?an? (?:[\w-]+ )?"
    r"(?:ai|language model|artificial intelligence|chatbot|assistant)\b"
)
_SOURCE = (
    r"(?:information|details|data|sources?|results?|text|context|documents?|references?|articles?|passages?|pages?"
    r"|website|query|question)"
)
_CANNOT_DO = rf"{_I} (?:{_CANNOT} (?:[\w-]+ )?{_ACT}|{_LACK}|{_UNSURE}|{_UNWILLING})"
_SORRY_BUT = rf"(?:{_SORRY}|{_AS_AI})[^.!?\n]*{_I} {_CANNOT}"
_IMPROPER = (  # It is not appropriate to
    r"^\W*(?:(?:i(?:'m| am)? )?(?:sorry|apologi[sz]e)[, ]+(?:but )?)?(?:it|that)(?: is|'s| would be)"
    r" (?:not|never|illegal|unethical|inappropriate|neither)(?: \w+)?"
    r" ?(?:appropriate|ethical|acceptable|okay|ok|legal|respectful|right|and|or|to)\b"
)
_NOT_IN_SOURCES = (  # The search results do not mention it. It is not specified in the text. There is no data about it.
    rf"\b{_SOURCE}\b[^.!?\n]* (?:do|does|did)(?: not|n't) (?:\w+ )?"
    r"(?:contain|include|mention|specify|provide|state|name|list|give|match)\b"
    r"|\b(?:is|are|was|were)(?: not|n't) (?:\w+ )?(?:provided|specified|stated|mentioned|named|given|available|listed"
    rf"|detailed|found|included)\b[^.!?\n]* (?:in|by|from) [^.!?\n]*{_SOURCE}\b"
    rf"|\bno (?:\w+ )?(?:\w+ )?{_SOURCE} (?:is |are |was )?(?:\w+ )?(?:available|provided|about|on|regarding|that)"
)
_REFUSAL = f"{_CANNOT_DO}|{_SORRY_BUT}|{_IMPROPER}|{_NOT_IN_SOURCES}"


def refuses(responses: Any) -> Flags:
    """Which strings of a pyarrow array refuse, or say that they do not know.

    >>> from monitor.scorers.columns import Texts
    >>> refuses(Texts.of(["I’m sorry, but I can’t help with that.", "I can't wait to see you!"]).strings()).tolist()
    [True, False]
    """
    beginnings = pc.ascii_lower(pc.utf8_slice_codeunits(responses, 0, BEGINNING))
    return matches(pc.replace_substring(beginnings, "\N{RIGHT SINGLE QUOTATION MARK}", "'"), _REFUSAL)
