"""Signals that are measured on a sample: a closed slice in, the slice with them out.

A sample is scored once, whole and in the order of its hashes, when its slice closes: what comes of it does not depend
on when records came. A segment uses its part of its stream's sample. Pure: the scorers are given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from monitor.clusters import Codebooks, derived
from monitor.contracts import SampleScorer
from monitor.model import Column, HalfVectors, Scope, Signal, Transcripts
from monitor.sampling import Measures, Sample
from monitor.scoring import Score, count_remarks, score
from monitor.summaries import AnySummary, summarise
from monitor.windows import Contents, Slice, scope_order


@dataclass(slots=True)
class SampledSignals:
    """The scorers of samples, and what is kept of what they read."""

    scorers: Sequence[SampleScorer] = ()
    keeps_text: bool = True
    """Whether closed slices keep the (redacted) text of their samples."""
    score: Score = score
    """What runs a scorer over a sample."""
    clusters: Codebooks = field(default_factory=Codebooks)

    @property
    def signals(self) -> list[Signal]:
        """Those of the scorers, and what the clusters of vectors among them are."""
        scored = [signal for scorer in self.scorers for signal in scorer.signals]
        return [*scored, *derived(scored)]

    def measure(self, closed: Slice, remarks: Counter[str]) -> Slice:
        """The closed slice with the sample signals of every scope; its samples with their vectors, and as is kept.

        `remarks` counts the sampled exchanges by what scorers remarked on them.
        """
        if not self.scorers:
            return closed
        scopes, kept = dict(closed.scopes), {}
        for stream, sample in sorted(closed.samples.items()):
            columns = self._columns(sample.transcripts, remarks)
            columns |= self.clusters.columns(stream, columns)
            for scope, summaries in self._summaries(closed, stream, sample, columns):
                found = scopes[scope]
                scopes[scope] = Contents(found.records, dict(sorted({**found.summaries, **summaries}.items())))
            said = sample.transcripts if self.keeps_text else Transcripts.load([[None] * len(sample)] * 3)
            measures = sample.measures.beside(Measures.of(columns, np.arange(len(sample))))
            kept[stream] = replace(sample, transcripts=said, vectors=_vectors(columns), measures=measures)
        return replace(closed, scopes=dict(sorted(scopes.items(), key=scope_order)), samples=kept)

    def _columns(self, transcripts: Transcripts, remarks: Counter[str]) -> dict[str, Column]:
        columns: dict[str, Column] = {}
        for scorer in self.scorers:
            scores = self.score(scorer, transcripts)
            columns |= scores.columns
            remarks.update(count_remarks(scores.remarks))
        return columns

    def _summaries(
        self, closed: Slice, stream: str, sample: Sample, columns: Mapping[str, Column]
    ) -> list[tuple[Scope, dict[str, AnySummary]]]:
        """The summaries of the stream and of those of its segments that have a part of the sample."""
        every = np.zeros(len(sample), np.int64)
        levels = [([Scope(stream)], every)]
        for label, values in sample.segments.items():
            names = sorted({value for value in values if value is not None})
            code_of = {name: code for code, name in enumerate(names)} | {None: -1}
            codes = np.fromiter((code_of[value] for value in values), np.int64, len(values))
            levels.append(([Scope(stream, f"{label}={name}") for name in names], codes))
        found: list[tuple[Scope, dict[str, AnySummary]]] = []
        for scopes, groups in levels:
            rows = np.flatnonzero(groups >= 0)
            sampled = np.bincount(groups[rows], minlength=len(scopes))
            weight = np.array([closed.scopes[scope].records for scope in scopes]) / np.maximum(sampled, 1)
            summaries: list[dict[str, AnySummary]] = [{} for _ in scopes]
            for signal in self.signals:
                taken = columns[signal.name]
                taken = taken[rows] if isinstance(taken, np.ndarray) else taken.take(rows)
                parts = summarise(
                    signal, taken, groups[rows], len(scopes), sample.session_hash[rows], weight, sample.id_hash[rows]
                )
                for of_scope, part in zip(summaries, parts, strict=True):
                    if part.n:
                        of_scope[signal.name] = part
            found += zip(scopes, summaries, strict=True)
        return found


def _vectors(columns: Mapping[str, Column]) -> dict[str, HalfVectors]:
    """The vectors among the columns."""
    return {
        name: column.astype(np.float16)
        for name, column in columns.items()
        if isinstance(column, np.ndarray) and column.ndim == 2
    }
