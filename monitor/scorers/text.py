"""Measures of the text of prompts and responses that need no model: how long, of what characters, how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.model import Categories, Column, Floats, Ints, Records, Scores, Signal
from monitor.scorers.characters import chunks, classify
from monitor.scorers.columns import Texts, categories, exchanges, take
from monitor.scorers.refusal import refuses
from monitor.scorers.repetition import repetition
from monitor.scorers.scripts import SCRIPTS, scripts
from monitor.scorers.truncation import truncated

_SIDES = ("prompt", "response")
SIGNALS = (
    *(Signal(f"{side}_{unit}", "numeric") for side in _SIDES for unit in ("chars", "words")),
    *(Signal(f"{side}_{class_}_ratio", "numeric", "unit") for side in _SIDES for class_ in ("letters", "digits")),
    Signal("response_repetition", "numeric", "unit"),
    *(Signal(f"response_{flaw}", "rate") for flaw in ("refusal", "truncated", "empty")),
    *(Signal(f"{side}_missing", "rate") for side in _SIDES),
    *(Signal(f"{side}_script", "category") for side in _SIDES),
)


class Text:
    """Lengths in code points and words, shares of letters and digits, repetition, refusal, truncation, absence, script.

    A text of nothing but whitespace is `response_empty` and cannot refuse; a text without characters has no shares,
    and one without letters has no script.
    Where there is no text there is only `*_missing`, and `response_truncated` if a finish reason tells. A feedback
    event has no observation of any of these.
    """

    @property
    def signals(self) -> Sequence[Signal]:
        return SIGNALS

    def score(self, records: Records) -> Scores:
        """A column for every signal, one entry a record."""
        exchange = exchanges(records)
        found: dict[str, Floats] = {}
        script: dict[str, Column] = {}
        for side in _SIDES:
            texts = Texts.of(records.columns[side])
            measures, words, codes = _measures(texts, repeats=side == "response")
            script[f"{side}_script"] = Categories(SCRIPTS, np.where(exchange, codes, np.int32(-1)))
            found |= {f"{side}_{name}": np.where(texts.there, values, np.nan) for name, values in measures.items()}
            found[f"{side}_missing"] = np.where(texts.there, 0.0, 1.0)
        strings, reasons = texts.strings(), categories(records.columns["finish_reason"])
        found["response_empty"] = np.where(texts.there, np.where(words == 0, 1.0, 0.0), np.nan)
        found["response_refusal"] = _refusal(strings, words)
        found["response_truncated"] = truncated(strings, words, reasons)
        columns = {name: np.where(exchange, values, np.nan) for name, values in found.items()} | script
        return Scores({signal.name: columns[signal.name] for signal in SIGNALS})


def _measures(texts: Texts, *, repeats: bool) -> tuple[dict[str, Floats], Ints, NDArray[np.int32]]:
    """Measures by name, the number of words and the code of the script of each text."""
    counts: list[Ints] = [np.zeros((4, 0), np.int64)]
    repeated: list[Floats] = [np.zeros(0)]
    codes: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    for chunk in chunks(texts):
        classes = classify(chunk)
        masks = (classes.character, classes.word, classes.letter, classes.digit)
        counts.append(np.stack([chunk.count(mask) for mask in masks]))
        codes.append(scripts(chunk, classes.letter, counts[-1][2], classes.others))
        if repeats:
            repeated.append(repetition(chunk, classes, counts[-1][1]))
    chars, words, letters, digits = np.concatenate(counts, axis=1)
    measures = {
        "chars": chars.astype(np.float64),
        "words": words.astype(np.float64),
        "letters_ratio": _share(letters, chars),
        "digits_ratio": _share(digits, chars),
    }
    if repeats:
        measures["repetition"] = np.concatenate(repeated)
    return measures, words, np.concatenate(codes)


def _share(part: Ints, whole: Ints) -> Floats:
    share = np.full(len(whole), np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share


def _refusal(responses: Any, words: Ints) -> Floats:
    result = np.full(len(words), np.nan)
    spoken = np.flatnonzero(words)
    if len(spoken):
        result[spoken] = refuses(take(responses, spoken))
    return result
