"""Clusters: made once and the same from the same vectors, and where vectors fall in them."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from monitor.clusters import CLUSTERS, ELSEWHERE, ENOUGH, Codebook, Codebooks, derived, embedding_of
from monitor.model import Categories, Column, Floats, Signal

ENTRIES = 24
KEY = ("bot", "prompt_embedding")


def topics(rng: np.random.Generator, n: int, first: int = 0, number: int = CLUSTERS) -> Floats:
    """Vectors of length one about some of the directions e_0, e_1, ..."""
    vectors = np.eye(ENTRIES)[rng.integers(first, first + number, n)] + rng.normal(0, 0.1, (n, ENTRIES))
    found: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def test_topics_that_stand_apart_are_clusters() -> None:
    rng = np.random.default_rng(0)
    book = Codebook.of(topics(rng, 2_000, number=6))
    again = topics(rng, 600, number=6)
    of_topic = again[:, :6].argmax(axis=1)
    places = book.place(again)
    inside = places < CLUSTERS
    assert inside.mean() > 0.95
    for place in np.unique(places[inside]):
        mine = of_topic[inside & (places == place)]
        assert (mine == np.bincount(mine).argmax()).mean() > 0.95


def test_the_largest_cluster_is_the_first() -> None:
    vectors = topics(np.random.default_rng(1), 2_000)
    book = Codebook.of(vectors)
    near = (vectors @ book.centres.T).argmax(axis=1)
    counts = np.bincount(near, minlength=CLUSTERS)
    assert counts[0] >= counts[-1]
    assert book.names == [*(f"c{i:02d}" for i in range(1, CLUSTERS + 1)), ELSEWHERE]
    np.testing.assert_allclose(np.linalg.norm(book.centres, axis=1), 1)


def test_a_topic_that_was_never_there_is_elsewhere_and_novel() -> None:
    rng = np.random.default_rng(2)
    book = Codebook.of(topics(rng, 2_000))
    usual, new = topics(rng, 500), topics(rng, 500, first=CLUSTERS, number=4)
    assert (book.place(usual) == CLUSTERS).mean() < 0.05
    assert (book.place(new) == CLUSTERS).mean() > 0.99
    assert book.novelty(new).min() > np.quantile(book.novelty(usual), 0.95)


def test_fewer_different_vectors_than_clusters_are_no_trouble() -> None:
    """A bot whose prompt is always the same."""
    vectors = np.repeat(np.eye(3, 8), [50, 30, 20], axis=0)
    book = Codebook.of(vectors)
    assert np.bincount(book.place(vectors))[:3].tolist() == [50, 30, 20]
    np.testing.assert_allclose(book.novelty(vectors), 0, atol=1e-12)


def test_what_is_no_vector_is_in_no_cluster() -> None:
    book = Codebook.of(topics(np.random.default_rng(3), 1_500))
    rows = np.vstack([book.centres[:1], np.full((1, ENTRIES), np.nan)])
    assert book.place(rows).tolist() == [0, -1]
    assert book.novelty(rows)[0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(book.novelty(rows)[1])


def test_a_codebook_is_made_of_the_first_vectors_and_stays() -> None:
    rng, one, two = np.random.default_rng(4), Codebooks(), Codebooks()
    vectors = topics(rng, ENOUGH + 500).astype(np.float32)
    codes = []
    for begin in range(0, len(vectors), 100):
        part: dict[str, Column] = {"prompt_embedding": vectors[begin : begin + 100], "relevance": np.zeros(100)}
        found = one.columns("bot", part)
        assert set(found) == {"prompt_cluster", "prompt_novelty"}
        codes.append(cast("Categories", found["prompt_cluster"]).codes)
    made = [bool((part >= 0).all()) for part in codes]
    assert made == [False] * 11 + [True] * 5, "a sample that a codebook is made from is not placed in it"
    two.columns("bot", {"prompt_embedding": vectors})
    assert one.books[KEY].dump() == two.books[KEY].dump()
    assert not one.waiting


def test_what_waits_is_put_back() -> None:
    rng, one, two = np.random.default_rng(5), Codebooks(), Codebooks()
    vectors = topics(rng, ENOUGH).astype(np.float32)
    vectors[7] = np.nan
    one.columns("bot", {"prompt_embedding": vectors[:600]})
    two.restore_waiting(one.dump_waiting())
    for books in (one, two):
        books.columns("bot", {"prompt_embedding": vectors[600:]})
        assert KEY not in books.books, "one of them is no vector"
        books.columns("bot", {"prompt_embedding": vectors[:1]})
    assert one.books[KEY].dump() == two.books[KEY].dump() == Codebook.load(one.books[KEY].dump()).dump()


def test_signals_are_those_of_embeddings() -> None:
    made = derived([Signal("response_embedding", "vector", size=4, fingerprint="m"), Signal("cost", "numeric")])
    assert [(s.name, s.kind, s.sample, s.fingerprint) for s in made] == [
        ("response_cluster", "category", True, "m"),
        ("response_novelty", "numeric", True, "m"),
    ]
    assert embedding_of("response_cluster") == "response_embedding"
    assert embedding_of("prompt_language") is None
