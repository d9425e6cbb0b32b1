"""Signals of samples: which scopes have them, what they stand for, and what is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from monitor.model import Categories, Scope, Scores, Signal, Transcripts
from monitor.sampled import SampledSignals
from monitor.sampling import Sample
from monitor.summaries import Category, Numeric, Vector
from monitor.windows import Contents, Slice


class Words:
    """Counts words, tells capitals, and draws a vector of both; raises on `bad`."""

    @property
    def signals(self) -> Sequence[Signal]:
        return [
            Signal("length", "numeric", sample=True),
            Signal("loud", "category", sample=True),
            Signal("drawn", "vector", sample=True, fingerprint="words", size=2),
        ]

    def score(self, transcripts: Transcripts) -> Scores:
        said: list[str] = transcripts.prompt.tolist()
        if "bad" in said:
            raise RuntimeError
        lengths = np.array([len(text.split()) for text in said], np.float64)
        loud = np.array([text.isupper() for text in said], np.int32)
        vectors = np.stack([np.cos(lengths), np.sin(lengths)], axis=1).astype(np.float32)
        return Scores(
            {"length": lengths, "loud": Categories(["no", "yes"], loud), "drawn": vectors}, {"quiet": loud == 0}
        )


def column(*values: object) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    return np.fromiter(values, np.object_, len(values))


def sample(*said: str, tenants: Sequence[str | None]) -> Sample:
    nothing = [None] * len(said)
    return Sample(
        np.arange(1, len(said) + 1, dtype=np.uint64),
        np.zeros(len(said), np.uint64),
        np.zeros(len(said), np.uint64),
        Transcripts.load((said, nothing, nothing)),
        {"tenant": column(*tenants)},
    )


def closed(records: int, of_a: int, drawn: Sample) -> Slice:
    scopes = {Scope("bot"): Contents(records), Scope("bot", "tenant=a"): Contents(of_a)}
    scopes[Scope("bot", "tenant=b")] = Contents(records - of_a)
    return Slice(0, 1000, scopes, {"bot": drawn})


def test_a_segment_uses_its_part_of_the_sample() -> None:
    drawn = sample("one", "TWO WORDS", "and three words", tenants=["a", None, "a"])
    found = SampledSignals([Words()]).measure(closed(3, 2, drawn), Counter())
    whole, part = (found.scopes[scope].summaries for scope in (Scope("bot"), Scope("bot", "tenant=a")))
    assert isinstance(whole["length"], Numeric)
    assert isinstance(part["loud"], Category)
    assert (whole["length"].n, whole["length"].sum) == (3, 6)
    assert part["loud"].counts() == {"no": 2}
    assert isinstance(part["drawn"], Vector)
    assert part["drawn"].n == 2
    assert not found.scopes[Scope("bot", "tenant=b")].summaries
    assert found.scopes[Scope("bot")].records == 3


def test_sampled_records_stand_for_those_that_were_not() -> None:
    drawn = sample("one", "two words", "and three words", "four", tenants=["a", "b", "b", "b"])
    found = SampledSignals([Words()]).measure(closed(1000, 600, drawn), Counter())
    for scope, population in ((Scope("bot"), 1000), (Scope("bot", "tenant=a"), 600), (Scope("bot", "tenant=b"), 400)):
        summary = found.scopes[scope].summaries["length"]
        _, units, _ = summary.cells.project(lambda keys: keys * 0, 1)
        assert units == pytest.approx(population, abs=0.01), scope


def test_the_samples_stay_with_the_slice_as_far_as_text_may() -> None:
    drawn = sample("one", "two words", tenants=["a", "b"])
    kept = SampledSignals([Words()]).measure(closed(2, 1, drawn), Counter()).samples["bot"]
    assert kept.transcripts.prompt.tolist() == ["one", "two words"]
    assert kept.vectors["drawn"].dtype == np.float16
    without = SampledSignals([Words()], keeps_text=False).measure(closed(2, 1, drawn), Counter()).samples["bot"]
    assert without.transcripts.prompt.tolist() == [None, None]
    assert without.vectors["drawn"].tolist() == kept.vectors["drawn"].tolist()


def test_what_a_scorer_raises_on_is_counted_and_the_rest_measured() -> None:
    samples = SampledSignals([Words()])
    remarks: Counter[str] = Counter()
    found = samples.measure(closed(3, 3, sample("one", "bad", "TWO WORDS", tenants=["a", "a", "a"])), remarks)
    assert remarks == {"words_raised": 1, "quiet": 1}
    assert found.scopes[Scope("bot")].summaries["length"].n == 2
    assert found.scopes[Scope("bot")].summaries["drawn"].n == 2


def test_without_scorers_a_slice_stays_as_it_is() -> None:
    before = Slice(0, 1000, {Scope("bot"): Contents(1)}, {})
    assert SampledSignals().measure(before, Counter()) is before


def test_a_slice_with_a_sampled_signal_comes_back_from_its_packed_form() -> None:
    found = SampledSignals([Words()]).measure(closed(9, 4, sample("one", "TWO", tenants=["a", "b"])), Counter())
    assert Slice.load(found.dump()).dump() == found.dump()
