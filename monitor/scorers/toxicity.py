"""Toxicity of prompts and responses by a lexicon: alt-profanity-check's model, scored on the bytes of whole batches.

A sensor for a change of rate, not a judge of single texts: it knows words, not who is meant by them. English only; a
text in another language has no observation and is remarked. Probabilities agree with `profanity_check.predict_prob`
to rounding (tests/test_scorers_toxicity.py); precision and recall are measured by tests/bench/toxicity.py.

As a signal, a probability below FLOOR is 0. Down there it tells topic and length, not toxicity: answers cut to 12 words
move the distribution of raw probabilities of harmless text by a Kolmogorov-Smirnov distance of 0.27, another model's
answers to the same questions by 0.25, and of what the floor leaves by 0.006 and 0.000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
import pydantic

from monitor.model import Column, Flags, Floats, Ints, Records, Scores, Signal
from monitor.scorers.characters import Chunk, chunks
from monitor.scorers.columns import exchanges
from monitor.scorers.english import vocabulary
from monitor.scorers.lexicon import Lexicon, lexicon
from monitor.scorers.words import lower_case_lines
from monitor.settings import Settings

_SIDES = ("prompt", "response")
SIGNALS = (
    *(Signal(f"{side}_toxicity", "numeric", "unit") for side in _SIDES),
    *(Signal(f"{side}_toxic", "rate") for side in _SIDES),
)


FLOOR = 0.3
"""Least probability that tells anything of toxicity; 1 % of answers to ordinary requests reach it."""


class ToxicitySettings(Settings):
    """What the configuration may say of toxicity."""

    model: Literal["lexical"] = "lexical"
    threshold: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.7
    """Probability from which on a text counts as toxic: the operating point."""


_DEFAULT = ToxicitySettings()


class Toxicity:
    """Probability that a text is toxic (0 below FLOOR), and whether it reaches the operating point.

    No observation of a text without letters, nor of one that cannot be judged for its language; the latter are
    remarked: `prompt_toxicity_language`, `response_toxicity_language`.
    """

    def __init__(self, settings: ToxicitySettings = _DEFAULT) -> None:
        """Raises ModuleNotFoundError where the model is not installed, ValueError where it is another one."""
        self._threshold = settings.threshold
        vocabulary()  # whatever is wrong with the model is said now

    @property
    def signals(self) -> Sequence[Signal]:
        at = f"{_DEFAULT.model} from {self._threshold:g} on"
        return [msgspec.structs.replace(s, fingerprint=at) if s.kind == "rate" else s for s in SIGNALS]

    def score(self, records: Records) -> Scores:
        """A column for every signal, one entry a record."""
        exchange = exchanges(records)
        columns: dict[str, Column] = {}
        remarks: dict[str, Flags] = {}
        for side in _SIDES:
            probability, strange = judge(records.columns[side])
            probability[~exchange] = np.nan
            toxic = np.where(np.isnan(probability), np.nan, (probability >= self._threshold).astype(np.float64))
            probability[probability < FLOOR] = 0.0
            columns |= {f"{side}_toxicity": probability, f"{side}_toxic": toxic}
            remarks[f"{side}_toxicity_language"] = strange & exchange
        return Scores({signal.name: columns[signal.name] for signal in SIGNALS}, remarks)


def judge(values: Sequence[str | None]) -> tuple[Floats, Flags]:
    """Of each text its probability of being toxic or NaN, and whether it could not be judged for its language.

    >>> probability, strange = judge(["You idiot", "Thank you", "Du bist ein Idiot", None])
    >>> probability.round(2).tolist(), strange.tolist()
    ([1.0, 0.0, nan, nan], [False, False, True, False])
    """
    parts = [_judge(chunk) for chunk in chunks(lower_case_lines(values))]
    if not parts:
        return np.zeros(0), np.zeros(0, np.bool_)
    probability, strange = zip(*parts, strict=True)
    return np.concatenate(probability), np.concatenate(strange)


def _judge(chunk: Chunk) -> tuple[Floats, Flags]:
    model = lexicon()
    found, places, evidence = vocabulary().read(chunk)
    strange = evidence.doubtful()
    known = (places >= 0) & (places < len(model.terms))
    probability = _probability(model, found.text[known], places[known], len(strange))
    probability[strange | (evidence.script < 0)] = np.nan
    return probability, strange & (evidence.script >= 0)


def _probability(model: Lexicon, text: Ints, terms: Ints, number: int) -> Floats:
    """The probability of each of `number` texts, of the terms that stand in them; `text` ascends."""
    width = len(model.terms)
    # sorted, so that sums are the same wherever a text stands in a batch
    occurrences = np.sort(text * width + terms)
    begins = np.flatnonzero(np.diff(occurrences, prepend=-1))
    text, terms = np.divmod(occurrences[begins], width)
    values = np.diff(begins, append=len(occurrences)) * model.idf[terms]
    length = np.sqrt(np.bincount(text, values * values, number))
    length[length == 0] = 1.0
    total = np.zeros(number)
    for weights, intercept, slope, offset in zip(
        model.weights, model.intercepts, model.slopes, model.offsets, strict=True
    ):
        decision = np.bincount(text, values * weights[terms], number) / length + intercept
        total += 1 / (1 + np.exp(slope * decision + offset))
    return total / len(model.weights)
