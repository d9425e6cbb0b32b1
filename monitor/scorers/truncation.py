"""Was an answer cut off? By the reason that the server gave for its end, else by how its text ends.

The text shows it only where sentences do: what ends in a letter or a comma, as prose does not, is taken to be cut off.
Phrases of a few words, lists and verses without full stops, links and numbers are not. Shares that are flagged of
whole answers, and of the same cut after 12 words, are asserted in tests/test_scorers_truncation.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc

from monitor.model import Categories, Flags, Floats, Ints
from monitor.scorers.columns import matches, take

REASONS = {
    **dict.fromkeys(["length", "max_tokens", "max_output_tokens", "model_length"], 1.0),
    **dict.fromkeys(["model_context_window_exceeded", "incomplete"], 1.0),
    **dict.fromkeys(["stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed"], 0.0),
    **dict.fromkeys(["tool_calls", "tool_use", "function_call"], 0.0),
    **dict.fromkeys(["content_filter", "refusal", "safety", "recitation"], 0.0),
}
"""Finish reason, in lower case, of the common servers -> whether the answer was cut off. Others say nothing."""
SHORT = 10
"""Words of a phrase that may be whole without a full stop: `30 June 1949`."""
_TAIL = 200
_STOPS = ".!?…。！？؟۔।॥"
_WHOLE = (
    rf"(?:[{_STOPS};)\]}}>\"'”’»`*~|_$%\d\p{{So}}\p{{Sk}}\x{{200D}}\x{{FE0F}}"
    r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"  # scripts that end sentences without a mark
    r"|://\S+|#\w+)$"
)
_MIDWAY = (  # words that hardly end a sentence
    r"(?:^|[\s(])(?:a|an|the|and|or|but|nor|of|to|in|on|at|by|for|from|with|as|is|are|was|were|be|which|their|your|its"
    r"|our|my|if|because|while|when|than|into|such|including|would|should)$"
)
_LINES = rf"[^{_STOPS};:\s][^\S\n]*\n[^\n]*$"  # the line before the last one ends without a full stop as well
_BULLET = r"\S\s*\n\s*(?:\d+[.)]|[-*•])$"  # of a point that was never made
"""Patterns of the last _TAIL code points."""


def truncated(responses: Any, words: Ints, reasons: Categories) -> Floats:
    """1.0 for answers that were cut off, 0.0 for whole ones, NaN where neither the text nor a reason is there.

    Parameters
    ----------
    responses : pyarrow array of strings, empty where there is no text
    words : number of words in each response
    reasons : finish reason of each response

    """
    known = [REASONS.get(name.strip().lower(), np.nan) for name in reasons.names]
    result: Floats = np.array([*known, np.nan])[reasons.codes]  # code -1 is the last
    undecided = np.flatnonzero(np.isnan(result) & (words > 0))
    if len(undecided):
        result[undecided] = _ends_midway(take(responses, undecided), words[undecided])
    return result


def _ends_midway(responses: Any, words: Ints) -> Flags:
    tails = pc.utf8_slice_codeunits(pc.utf8_rtrim_whitespace(responses), -_TAIL)
    cut = matches(tails, _BULLET)
    rest = np.flatnonzero(~matches(tails, _WHOLE))
    tails, words = take(tails, rest), words[rest]
    cut[rest] |= matches(pc.ascii_lower(tails), _MIDWAY) | ((words >= SHORT) & ~matches(tails, _LINES))
    return cut
