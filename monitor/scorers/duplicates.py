"""Near duplicates: sampled texts that say the same as another of the sample, but for case, signs, digits and spaces.

Each text is held against the same number of others, those next to it in the order of the sample, which is by hash and
so random: how often two of a stream's texts are the same then does not depend on how many were sampled. A flood of one
text that is a share s of the traffic makes about s (1 - (1 - s)^16) of the records duplicates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from monitor.model import Floats, Scores, Signal, Transcripts

NEIGHBOURS = 16
"""Others that each text is held against; in a smaller sample, all of them."""
LETTERS = 12
"""Texts with fewer letters are no observation: many people say `yes`."""
BEGINNING = 4_000
"""Characters of a text that are compared."""
_NO_LETTERS = re.compile(r"[\W\d_]+")
SIGNALS = (
    Signal("prompt_duplicate", "rate", sample=True),
    Signal("response_duplicate", "rate", sample=True),
)


class Duplicates:
    """`prompt_duplicate` and `response_duplicate`."""

    @property
    def signals(self) -> Sequence[Signal]:
        return SIGNALS

    def score(self, transcripts: Transcripts) -> Scores:
        """A column for every signal, one entry an exchange."""
        sides = (transcripts.prompt, transcripts.response)
        return Scores({s.name: duplicates(side.tolist()) for s, side in zip(SIGNALS, sides, strict=True)})


def duplicates(texts: Sequence[str | None]) -> Floats:
    """1 where one of the next 16 texts says the same, 0 where none does, NaN of a text that says little. Shape (n,).

    >>> duplicates(["Where is my order?", "where is my order #17", "What is the weather like?", "yes"]).tolist()
    [1.0, 1.0, 0.0, nan]
    """
    letters = [None if text is None else _NO_LETTERS.sub("", text[:BEGINNING].casefold()) for text in texts]
    told = [said is not None and len(said) >= LETTERS for said in letters]
    code = {said: place for place, said in enumerate(dict.fromkeys(letters))}
    codes = np.fromiter((code[said] for said in letters), np.int64, len(letters))
    same = np.zeros(len(codes), np.bool_)
    for apart in range(1, min(NEIGHBOURS, len(codes) - 1) + 1):
        same |= codes == np.roll(codes, -apart)
    found: Floats = np.where(told, same.astype(np.float64), np.nan)
    return found
