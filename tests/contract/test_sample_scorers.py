"""Laws of every row of SAMPLE_SCORERS, and a scorer that breaks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.contracts import SampleScorer
from monitor.model import Categories, Column, Scores, Signal, Transcripts
from monitor.scorers import SAMPLE_SCORERS
from monitor.scorers.duplicates import Duplicates
from monitor.scorers.embedding import EmbeddingSettings
from tests.tiny_model import make_tiny_model

SAID = Transcripts.load(
    (
        [
            "What is a lamp?",
            None,
            "Was kostet diese Lampe, und wann kommt sie an?",
            "",
            "x" * 5_000,
            "これは何ですか。",
        ],
        ["It gives light.", "Nobody asked me that.", None, "  ", "It gives light.", "ランプです。\0"],
        [["A lamp gives light.", "Lamps are old."], None, [], [""], None, ["光"]],
    )
)


@pytest.fixture(scope="module", params=sorted(SAMPLE_SCORERS))
def scorer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SampleScorer:
    return make(request.param, tmp_path_factory.mktemp("model"))


def make(name: str, folder: Path) -> SampleScorer:
    row = SAMPLE_SCORERS[name]
    if row.settings is EmbeddingSettings:
        return row.make(EmbeddingSettings(model=str(make_tiny_model(folder / "tiny"))))
    return row.make() if row.settings is None else row.make(row.settings())


def plain(column: Column) -> list[Any]:
    """Values that can be compared whatever the codes are."""
    if isinstance(column, Categories):
        return [None if code < 0 else column.names[code] for code in column.codes.tolist()]
    return [None if np.isnan(value).any() else value for value in column]


def law_declared(scorer: SampleScorer) -> None:
    """Every declared signal has its column, in the order declared, of its kind, with one entry an exchange."""
    for said in (SAID, SAID.take(np.arange(0))):
        columns = scorer.score(said).columns
        assert list(columns) == [signal.name for signal in scorer.signals]
        for signal in scorer.signals:
            assert signal.sample
            column = columns[signal.name]
            if isinstance(column, Categories):
                assert signal.kind == "category"
                assert column.codes.shape == (len(said),)
            else:
                assert column.shape == ((len(said), signal.size) if signal.kind == "vector" else (len(said),))
                assert column.dtype == (np.float32 if signal.kind == "vector" else np.float64)


def law_nothing_from_nothing(scorer: SampleScorer) -> None:
    """An exchange in which nothing was said has no observation and no remark."""
    scores = scorer.score(Transcripts.load(([None, "a lamp"], [None, "a lamp"], [None, ["a lamp"]])))
    assert all(plain(column)[0] is None for column in scores.columns.values())
    assert not any(flags[0] for flags in scores.remarks.values())


def law_batch_as_singles(scorer: SampleScorer) -> None:
    """A batch scores as its exchanges do one by one: names alike, numbers to 1e-4."""
    whole = scorer.score(SAID)
    for i in range(len(SAID)):
        single = scorer.score(SAID.take(np.array([i])))
        for signal in scorer.signals:
            (one,), of_all = plain(single.columns[signal.name]), plain(whole.columns[signal.name])[i]
            if one is None or isinstance(one, str):
                assert of_all == one, signal.name
            else:
                assert np.allclose(one, of_all, rtol=0, atol=1e-4), signal.name
        for name, flags in whole.remarks.items():
            assert bool(flags[i]) == bool(single.remarks.get(name, np.zeros(1, bool))[0]), name


def law_same_bytes(scorer: SampleScorer) -> None:
    """The same transcripts give the same bytes, whatever was scored before."""
    before = packed(scorer.score(SAID))
    scorer.score(SAID.take(np.array([4, 1])))
    assert packed(scorer.score(SAID)) == before


def packed(scores: Scores) -> list[object]:
    return [
        (name, column.names, column.codes.tobytes()) if isinstance(column, Categories) else (name, column.tobytes())
        for name, column in scores.columns.items()
    ]


LAWS = [law_declared, law_nothing_from_nothing, law_batch_as_singles, law_same_bytes]


@pytest.mark.parametrize("law", LAWS)
def test_law(scorer: SampleScorer, law: Any) -> None:
    if law is law_batch_as_singles and isinstance(scorer, Duplicates):  # it says how an exchange stands to the others
        with pytest.raises(AssertionError, match="response_duplicate"):
            law(scorer)
    else:
        law(scorer)


@pytest.mark.parametrize("name", sorted(SAMPLE_SCORERS))
def test_the_table_says_which_signals_a_scorer_makes(name: str, tmp_path: Path) -> None:
    made = make(name, tmp_path).signals
    said = SAMPLE_SCORERS[name].signals
    assert [(s.name, s.kind, s.scale, s.sample) for s in made] == [(s.name, s.kind, s.scale, s.sample) for s in said]
    assert all((signal.kind == "vector") == bool(signal.fingerprint and signal.size) for signal in made)


class Planted:
    """A scorer with a fault."""

    def __init__(self, scorer: SampleScorer, fault: str) -> None:
        self.scorer, self.fault, self.calls = scorer, fault, 0

    @property
    def signals(self) -> Sequence[Signal]:
        return self.scorer.signals

    def score(self, transcripts: Transcripts) -> Scores:
        self.calls += 1
        scores = self.scorer.score(transcripts)
        columns = dict(scores.columns)
        vectors = np.asarray(columns["prompt_embedding"])
        if self.fault == "neighbours":
            columns["prompt_embedding"] = vectors + np.float32(0.001 * len(transcripts))
        elif self.fault == "memory":
            columns["prompt_embedding"] = vectors + np.float32(1e-6 * self.calls)
        elif self.fault == "zeros":
            columns["prompt_embedding"] = np.nan_to_num(vectors)
        else:
            columns["prompt_embedding"] = vectors.astype(np.float64)
        return replace(scores, columns=columns)


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        ("neighbours", law_batch_as_singles),
        ("memory", law_same_bytes),
        ("zeros", law_nothing_from_nothing),
        ("double", law_declared),
    ],
)
def test_a_law_notices_what_it_is_there_for(tmp_path: Path, fault: str, law: Any) -> None:
    with pytest.raises(AssertionError):
        law(Planted(make("embedding", tmp_path), fault))
