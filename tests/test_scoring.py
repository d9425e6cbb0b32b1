"""A record on which a scorer raises costs that record and not the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.model import Categories, Scores, Signal, Transcripts
from monitor.scoring import score


class Touchy:
    """Measures the length of prompts, and raises on those that hold `bad`."""

    calls = 0

    @property
    def signals(self) -> Sequence[Signal]:
        return [
            Signal("length", "numeric", sample=True),
            Signal("first", "category", sample=True),
            Signal("vector", "vector", sample=True, size=2),
        ]

    def score(self, transcripts: Transcripts) -> Scores:
        self.calls += 1
        prompts: list[str] = transcripts.prompt.tolist()
        if any("bad" in prompt for prompt in prompts):
            raise RuntimeError(prompts)
        names = sorted({prompt[:1] for prompt in prompts})
        lengths = np.array([len(prompt) for prompt in prompts], np.float64)
        return Scores(
            {
                "length": lengths,
                "first": Categories(names, np.array([names.index(prompt[:1]) for prompt in prompts], np.int32)),
                "vector": np.stack([lengths, lengths], axis=1).astype(np.float32).reshape(-1, 2),
            },
            {"long": lengths > 4} if (lengths > 4).any() else {},
        )


def said(prompts: Sequence[str]) -> Transcripts:
    return Transcripts.load((prompts, [None] * len(prompts), [None] * len(prompts)))


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "bcd", "longer", "a bad one", "bad"]), max_size=20))
def test_all_records_but_those_it_raises_on_are_scored(prompts: list[str]) -> None:
    found = score(Touchy(), said(prompts))
    bad = np.array(["bad" in prompt for prompt in prompts], bool)
    lengths = np.array([len(prompt) for prompt in prompts], np.float64)
    assert np.array_equal(found.columns["length"], np.where(bad, np.nan, lengths), equal_nan=True)  # type: ignore[arg-type]
    first = found.columns["first"]
    assert isinstance(first, Categories)
    assert [None if c < 0 else first.names[c] for c in first.codes] == [
        None if b else prompt[:1] for prompt, b in zip(prompts, bad, strict=True)
    ]
    assert np.isnan(np.asarray(found.columns["vector"])).all(axis=1).tolist() == bad.tolist()
    nothing = np.zeros(len(prompts), bool)
    assert found.remarks.get("touchy_raised", nothing).tolist() == bad.tolist()
    assert found.remarks.get("long", nothing).tolist() == ((lengths > 4) & ~bad).tolist()


def test_one_of_many_is_found_in_few_calls() -> None:
    scorer = Touchy()
    found = score(scorer, said(["fine"] * 700 + ["bad"] + ["fine"] * 323))
    assert int(found.remarks["touchy_raised"].sum()) == 1
    assert scorer.calls <= 2 * 10 + 1


def test_what_no_scorer_should_catch_goes_through() -> None:
    class Stopped(Touchy):
        def score(self, transcripts: Transcripts) -> Scores:
            raise KeyboardInterrupt(len(transcripts))

    with pytest.raises(KeyboardInterrupt):
        score(Stopped(), said(["a"]))
