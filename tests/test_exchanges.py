"""The exchanges that a reference keeps: which they are, what they stand for, and when their prompts get clusters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from monitor.clusters import CLUSTERS, ELSEWHERE, Codebook
from monitor.model import Categories, Hashes, Ints, Scope, Transcripts
from monitor.reference import EXCHANGES, KIND, PROMPT, Exchanges, Learning
from monitor.rolling import Rolling
from monitor.sampling import Measures, Sample
from monitor.windows import Contents, Slice

BOT, SECOND, WIDTH = Scope("bot"), 1_000, 8
SIZE = 12 * SECOND
K = 128


def slice_of(number: int, records: int, *, cost: float = 0.0, seed: int = 0, placed: bool = False) -> Slice:
    """The sample of a slice: the K of its records of least hash, each with the slice's cost."""
    rng = np.random.default_rng([seed, number])
    ids = np.sort(rng.integers(0, 2**64, records, dtype=np.uint64))[:K]
    n = len(ids)
    vectors = rng.normal(size=(n, WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kinds = Categories(["c01"], np.full(n, 0 if placed else -1, np.int32))
    measures = Measures.of({"cost": np.full(n, cost), KIND: kinds}, np.arange(n))
    said, tenants = Transcripts.load([[None] * n] * 3), np.array(["acme", None] * n, np.object_)[:n]
    sample = Sample(ids, ids // 3, ids // 5, said, {"tenant": tenants}, {PROMPT: vectors.astype(np.float16)}, measures)
    scopes = {BOT: Contents(records), Scope("bot", "tenant=acme"): Contents(records // 2)}
    return Slice(number * SECOND, (number + 1) * SECOND, scopes, {"bot": sample})


def learned(slices: list[Slice], book: Codebook | None = None) -> Learning:
    learning = Learning(BOT, 0, slices[-1].end, [SIZE])
    for found in slices:
        learning.take(SIZE, found, book)
    return learning


def kept(learning: Learning) -> Exchanges:
    assert learning.exchanges is not None
    return learning.exchanges


def book() -> Codebook:
    vectors = np.random.default_rng(0).normal(size=(1_024, WIDTH))
    return Codebook.of(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def all_ids(slices: list[Slice]) -> Hashes:
    return np.sort(np.concatenate([found.samples["bot"].id_hash for found in slices]))


def test_those_of_least_hash_are_kept() -> None:
    for count in (3, 50):
        slices = [slice_of(i, 300) for i in range(count)]
        assert kept(learned(slices)).id_hash.tolist() == all_ids(slices)[:EXCHANGES].tolist()


def test_a_segment_keeps_none_of_its_own() -> None:
    learning = Learning(Scope("bot", "tenant=acme"), 0, 10 * SECOND, [SIZE])
    learning.take(SIZE, slice_of(0, 300))
    assert learning.exchanges is None
    none = Learning(BOT, 0, 10 * SECOND, [SIZE])
    none.take(SIZE, replace(slice_of(0, 300), samples={}))
    assert none.exchanges is None


def law_of_weights() -> None:
    """Busy and quiet slices weigh as their records do, however many slices there are: over 40 seeds, without bias."""
    for count, most in ((12, 5_000), (80, 300), (80, 5_000)):
        records = [most if i % 4 == 0 else 60 for i in range(count)]
        true = sum(n for i, n in enumerate(records) if i % 4 == 0) / sum(records)
        means, totals = [], []
        for seed in range(40):
            slices = [slice_of(i, n, cost=float(i % 4 == 0), seed=seed) for i, n in enumerate(records)]
            found = kept(learned(slices))
            means.append(np.average(found.measures.number("cost"), weights=found.stands_for))
            totals.append(found.stands_for.sum())
        assert np.mean(means) == pytest.approx(true, abs=0.005), (count, most)
        assert np.mean(totals) == pytest.approx(sum(records), rel=0.02), (count, most)


def test_exchanges_stand_for_all_records() -> None:
    law_of_weights()


def alone(self: Exchanges, at_most: int) -> Exchanges:
    """As if those that are left out were nobody's."""
    return self.take(np.argsort(self.id_hash, kind="stable")[:at_most])


def equally(found: Slice, stream: str) -> Exchanges | None:
    """As if every slice had been measured whole."""
    part = of(found, stream)
    return None if part is None else replace(part, stands_for=np.ones_like(part.stands_for))


of = Exchanges.of


@pytest.mark.parametrize(("name", "planted"), [("least", alone), ("of", equally)])
def test_the_law_of_weights_notices(name: str, planted: Callable[..., object]) -> None:
    with patch.object(Exchanges, name, planted), pytest.raises(AssertionError):
        law_of_weights()


def test_prompts_get_their_clusters_when_there_is_a_codebook_and_lose_their_vectors() -> None:
    clusters = book()
    early, late = [slice_of(i, 100) for i in range(5)], [slice_of(i, 100, placed=True) for i in range(5, 8)]
    before = learned(early)
    names = kept(before).measures.category(KIND)
    assert kept(before).vectors is not None
    assert set(names) == {None}
    found = kept(learned([*early, *late], clusters))
    assert found.vectors is None
    by_id = dict(zip(found.id_hash.tolist(), found.measures.category(KIND), strict=True))
    for part in early:
        sample = part.samples["bot"]
        expected: Ints = clusters.place(sample.vectors[PROMPT].astype(np.float64))
        assert [by_id[key] for key in sample.id_hash.tolist()] == [clusters.names[code] for code in expected]
    for part in late:
        assert {by_id[key] for key in part.samples["bot"].id_hash.tolist()} == {"c01"}
    assert {*by_id.values()} <= {*clusters.names}
    assert len({*by_id.values()} - {ELSEWHERE}) == CLUSTERS


def test_exchanges_come_back_from_their_packed_form() -> None:
    for clusters in (None, book()):
        found = kept(learned([slice_of(i, 100) for i in range(3)], clusters))
        back = Exchanges.load(found.dump())
        assert back.dump() == found.dump()
        assert back.measures.category(KIND).tolist() == found.measures.category(KIND).tolist()


def test_a_rolling_reference_keeps_those_of_its_blocks() -> None:
    rolling = Rolling([SIZE], 12 * SECOND, 0)
    slices = [slice_of(i, 300) for i in range(120)]
    for found in slices:
        rolling.take(SIZE, found)
    rolling.step(120 * SECOND)
    (reference,) = [r for r in rolling.references({}, lambda *_: 0) if r.scope == BOT]
    assert reference.exchanges is not None
    assert (reference.begin, reference.end) == (12 * SECOND, 108 * SECOND)
    blocks = [all_ids(slices[i : i + 12])[: EXCHANGES // 8] for i in range(12, 108, 12)]
    assert reference.exchanges.id_hash.tolist() == np.sort(np.concatenate(blocks)).tolist()
    assert reference.exchanges.stands_for.sum() == pytest.approx(96 * 300, rel=0.05)
