"""Scorers run over batches, so that a record on which one of them raises costs that record and not the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from monitor.model import Categories, Column, Flags, Scores, Signal, concatenate_columns, concatenate_remarks


class Batch(Protocol):
    """Records or transcripts."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[Any], /) -> Self: ...


B_contra = TypeVar("B_contra", bound=Batch, contravariant=True)
RAISED = "_raised"
"""How the remark ends on records on which a scorer raised."""


class BatchScorer(Protocol[B_contra]):
    """A Scorer or a SampleScorer."""

    @property
    def signals(self) -> Sequence[Signal]: ...

    def score(self, batch: B_contra, /) -> Scores: ...


class Score(Protocol):
    """Runs a scorer over a batch: `score`, or what measures it as well."""

    def __call__(self, scorer: BatchScorer[B_contra], batch: B_contra, /) -> Scores: ...


def scorer_name(scorer: object) -> str:
    """What a scorer is called in remarks and metrics."""
    return type(scorer).__name__.lower()


def score(scorer: BatchScorer[B_contra], batch: B_contra) -> Scores:
    """What the scorer makes of the batch; records on which it raises have no observation and a remark `<name>_raised`.

    They are found by halving the batch, so that one of n costs about 2 log2(n) further calls.
    """
    try:
        return scorer.score(batch)
    except Exception:  # noqa: BLE001  whatever a model or a library raises
        n = len(batch)
        if n <= 1:
            name = scorer_name(scorer) + RAISED
            return Scores({signal.name: _nothing(signal, n) for signal in scorer.signals}, {name: np.ones(n, np.bool_)})
    halves = [np.arange(n // 2), np.arange(n // 2, n)]
    parts = [score(scorer, batch.take(rows)) for rows in halves]
    return Scores(
        {name: concatenate_columns([part.columns[name] for part in parts]) for name in parts[0].columns},
        concatenate_remarks([(len(rows), part.remarks) for rows, part in zip(halves, parts, strict=True)]),
    )


def count_remarks(remarks: Mapping[str, Flags]) -> dict[str, int]:
    """How many records each remark was made on, for those that were made."""
    return {name: int(flags.sum()) for name, flags in remarks.items() if flags.any()}


def _nothing(signal: Signal, n: int) -> Column:
    """No observation, n times."""
    if signal.kind == "category":
        return Categories([], np.full(n, -1, np.int32))
    if signal.kind == "vector":
        return np.full((n, signal.size), np.nan, np.float32)
    return np.full(n, np.nan)
