"""The language of sampled prompts and responses, as ISO 639-1 codes.

Text that is English by its words is called so at once. Other text is shown to lingua (character n-grams), in its
low-accuracy mode, which costs 70 MB and not 1 GB, but only where there is reason to doubt that it is English: of names,
code, sums and answers of a few words any detector makes a lottery, and the lottery would change with the topics. Those
have no observation. A text has the same answer wherever it stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor.model import Categories, Scores, Signal, Transcripts
from monitor.scorers.characters import chunks
from monitor.scorers.english import vocabulary
from monitor.scorers.scripts import LATIN
from monitor.scorers.words import lower_case_lines

BEGINNING = 400
"""Characters of a text that are looked at."""
FEWEST = 3
"""Least number of words by which languages in Latin script are told apart; in other scripts one word does."""
CONFIDENCE = 0.75
"""Least share of lingua's confidence, of all languages, that the likeliest one must have."""
SIGNALS = (
    Signal("prompt_language", "category", sample=True),
    Signal("response_language", "category", sample=True),
)


class Language:
    """`prompt_language` and `response_language`; no observation of a text too short or too odd to tell."""

    def __init__(self) -> None:
        """Raises ModuleNotFoundError where lingua or the lexicon is not installed."""
        from lingua import LanguageDetectorBuilder  # noqa: PLC0415  heavy

        builder = LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode()
        self._detector = builder.build()
        vocabulary()

    @property
    def signals(self) -> Sequence[Signal]:
        return SIGNALS

    def score(self, transcripts: Transcripts) -> Scores:
        """A column for every signal, one entry an exchange."""
        sides = (transcripts.prompt, transcripts.response)
        found = (self.languages(side.tolist()) for side in sides)
        return Scores({signal.name: column for signal, column in zip(SIGNALS, found, strict=True)})

    def languages(self, values: Sequence[str | None]) -> Categories:
        """The language of each text."""
        beginnings = [value[:BEGINNING] if value else value for value in values]
        found: list[str | None] = []
        for chunk in chunks(lower_case_lines(beginnings)):
            _, _, evidence = vocabulary().read(chunk)
            sure = evidence.certain()
            number = evidence.english + evidence.foreign + evidence.unknown
            enough = number >= np.where(evidence.script == LATIN, FEWEST, 1)
            asked = enough & ~sure & (evidence.doubtful() | (evidence.foreign > 0))
            texts = beginnings[len(found) : len(found) + len(asked)]
            answers = iter(self._detected([texts[row] or "" for row in np.flatnonzero(asked)]))
            found += [
                next(answers) if ask else "en" if en else None
                for ask, en in zip(asked.tolist(), sure.tolist(), strict=True)
            ]
        names = sorted({name for name in found if name})
        code = {name: place for place, name in enumerate(names)}
        return Categories(names, np.array([code[name] if name else -1 for name in found], np.int32))

    def _detected(self, texts: list[str]) -> list[str | None]:
        """What lingua says, or None where it is not sure."""
        ranked = self._detector.compute_language_confidence_values_in_parallel(texts) if texts else []
        likeliest = [values[0] for values in ranked]
        return [best.language.iso_code_639_1.name.lower() if best.value >= CONFIDENCE else None for best in likeliest]
