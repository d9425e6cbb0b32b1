"""What is measured of every record, and of a sample: a row for every scorer that a configuration may name.

Nothing here loads a model: a scorer that needs a heavy library imports it when it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from monitor.contracts import SampleScorer, Scorer
from monitor.model import Signal
from monitor.scorers import duplicates, embedding, language, operational, text, toxicity
from monitor.settings import Settings


class ScorerKind(NamedTuple):
    """What a configuration may say of a scorer, and what makes the scorer from it."""

    settings: type[Settings] | None
    """None where there is nothing to set."""
    make: Callable[..., Scorer]
    """Takes an instance of `settings`, or nothing."""
    signals: Sequence[Signal]
    """What it measures, whatever its settings are."""


class SampleScorerKind(NamedTuple):
    """The same of a scorer of samples, which may load a model when it is made."""

    settings: type[Settings] | None
    make: Callable[..., SampleScorer]
    signals: Sequence[Signal]
    """As far as they are known without the model."""


SCORERS: dict[str, ScorerKind] = {
    "text": ScorerKind(None, text.Text, text.SIGNALS),
    "operational": ScorerKind(None, operational.Operational, operational.SIGNALS),
    "toxicity": ScorerKind(toxicity.ToxicitySettings, toxicity.Toxicity, toxicity.SIGNALS),
}
"""Name of a scorer of all records -> how it is set and made."""

SAMPLE_SCORERS: dict[str, SampleScorerKind] = {
    "duplicates": SampleScorerKind(None, duplicates.Duplicates, duplicates.SIGNALS),
    "language": SampleScorerKind(None, language.Language, language.SIGNALS),
    "embedding": SampleScorerKind(embedding.EmbeddingSettings, embedding.Embedding, embedding.SIGNALS),
}
"""Name of a scorer of samples -> how it is set and made."""


def made(row: ScorerKind | SampleScorerKind, settings: object = None) -> Any:
    """A scorer with these settings, or where they are none with the default ones."""
    if row.settings is None:
        return row.make()
    return row.make(settings if isinstance(settings, Settings) else row.settings())
