"""Which exchanges of a slice are sampled: against sorting all, in any order, batch and after any restart."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.model import OTHER, Categories, Column, Scored, Transcripts
from monitor.sampling import (
    MOST_CHARS,
    Measures,
    Redact,
    Sample,
    add_measures,
    add_samples,
    redacted,
    redacted_begin,
)
from monitor.slices import OpenSlices, StreamSettings
from monitor.windows import Slice
from tests.test_windows import SIGNALS, SIZE, Record, logs, scored

K = 5
Told = dict[tuple[int, str], list[tuple[int, str, str | None, float, str | None]]]
ANY_ORDER = st.randoms(use_true_random=False)


def shout(texts: Sequence[str | None]) -> list[str | None]:
    """A redactor whose work can be seen; twice is as once."""
    return [text if text is None else text.upper() for text in texts]


def measured(record: int) -> tuple[float, str | None]:
    """What is measured of a record: a number and a category."""
    return float(record % 97), [None, "a", "b"][record % 3]


def with_text(records: Sequence[Record]) -> Scored:
    records = [r._replace(chars=measured(r.id)[0], reason=measured(r.id)[1]) for r in records]
    said = [f"prompt {r.id}" for r in records]
    return replace(
        scored(records),
        transcripts=Transcripts.load((said, [None] * len(records), [[f"context {r.id}"] for r in records])),
    )


def opened(at_most: int = 50) -> OpenSlices:
    return OpenSlices(SIZE, SIGNALS, StreamSettings(segments=("tenant",), at_most=at_most), K, shout)


def told(slices: Sequence[Slice]) -> Told:
    return {
        (found.start, stream): list(
            zip(
                sample.id_hash.tolist(),
                sample.transcripts.prompt,
                sample.segments["tenant"],
                sample.measures.number("chars").tolist(),
                sample.measures.category("reason"),
                strict=True,
            )
        )
        for found in slices
        for stream, sample in found.samples.items()
    }


def obvious(records: Sequence[Record]) -> Told:
    """Slice and stream -> the K exchanges of least hash."""
    first: dict[int, Record] = {}
    for r in records:
        first.setdefault(r.id, r)
    found: Told = {}
    for r in sorted(first.values(), key=lambda r: r.id):
        if not r.feedback:
            kept = found.setdefault((r.ts // SIZE * SIZE, r.stream), [])
            if len(kept) < K:
                kept.append((r.id, f"PROMPT {r.id}", r.tenant, *measured(r.id)))
    return found


def law_of_samples(log: Sequence[Record], cuts: Sequence[int], *, restarts: bool) -> None:
    slices = opened()
    bounds = [0, *sorted({cut % (len(log) + 1) for cut in cuts}), len(log)]
    for a, b in pairwise(bounds):
        if b > a:
            slices.add(with_text(log[a:b]))
        if restarts:
            packed, slices = slices.dump(), opened()
            slices.restore(packed)
    assert told(list(slices.close(2**50))) == obvious(log)


@settings(deadline=None)
@given(logs(), st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_the_exchanges_of_least_hash_are_sampled(log: list[Record], cuts: list[int], restarts: bool) -> None:  # noqa: FBT001
    law_of_samples(log, cuts, restarts=restarts)


def first_come(self: Sample, new: Sample, at_most: int, redact: Redact) -> Sample:
    both = add_samples([self, replace(new, transcripts=redacted(new.transcripts, redact))])
    return both.take(np.arange(min(len(both), at_most))).least(at_most)


def as_it_came(self: Sample, new: Sample, at_most: int, _: Redact) -> Sample:
    return add_samples([self, new]).least(at_most)


@pytest.mark.parametrize("planted", [first_come, as_it_came])
def test_the_law_of_samples_notices(planted: Callable[..., Sample]) -> None:
    log = [Record(ts=1_000_000 + i, id=100 - i) for i in range(60)]
    law_of_samples(log, [10, 20, 35], restarts=True)
    with patch.object(Sample, "joined", planted), pytest.raises(AssertionError):
        law_of_samples(log, [10, 20, 35], restarts=True)


@settings(deadline=None)
@given(logs(streams=6, tenants=6), ANY_ORDER)
def test_caps_leave_samples_whole_whatever_the_order(log: list[Record], random: Random) -> None:
    """Within one slice: what moves to `other` takes its sample along, and the least of all there stay."""
    log = list({r.id: r._replace(ts=1_000_000) for r in log}.values())
    expected, found = opened(2), opened(2)
    expected.add(with_text(log))
    random.shuffle(log)
    for r in log:
        found.add(with_text([r]))
    assert told(list(found.close(2**50))) == told(list(expected.close(2**50)))


def test_a_sampled_exchange_whose_segment_is_not_kept_apart_is_of_other() -> None:
    slices = opened(1)
    slices.add(with_text([Record(ts=0, id=i + 1, tenant=f"t{i}") for i in range(3)]))
    (closed,) = slices.close(2**50)
    named = closed.samples["bot"].segments["tenant"].tolist()
    assert sorted(named)[:2] == [OTHER, OTHER]
    assert {f"tenant={name}" for name in named} == {scope.segment for scope in closed.scopes if scope.segment}


def test_contexts_are_redacted_with_the_rest() -> None:
    said = Transcripts.load((["a", None], [None, "b"], [None, ["c", "d"]]))
    found = redacted(said, shout)
    assert found.dump() == (["A", None], [None, "B"], [None, ["C", "D"]])


def test_of_a_text_that_is_cut_nothing_is_left_that_the_cut_split() -> None:
    def without_numbers(texts: Sequence[str | None]) -> list[str | None]:
        return [text if text is None else re.sub(r"\b\d{16}\b", "[card]", text) for text in texts]

    split = "x" * (MOST_CHARS - 12) + "4111111111111111"
    shrinking = "4111111111111111 " * 100 + split[:-1700]
    for text in (split, shrinking + "4111111111111111"):
        (once,) = redacted_begin([text], without_numbers)
        assert once is not None
        assert "4111" not in once
        assert redacted_begin([once], without_numbers) == [once]
    assert redacted_begin([None, "short"], without_numbers) == [None, "short"]


def test_a_sample_comes_back_from_its_packed_form() -> None:
    said = Transcripts.load((["a", None], [None, "b"], [None, ["c", "d"]]))
    vectors: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float16]]] = {"v": np.ones((2, 3), np.float16)}
    columns: dict[str, Column] = {
        "cost": np.array([1.5, np.nan]),
        "status": Categories(["ok"], np.array([-1, 0], np.int32)),
    }
    measures = Measures.of(columns, np.arange(2))
    ids, sessions, users = (np.array(pair, np.uint64) for pair in ((1, 2), (0, 9), (7, 0)))
    sample = Sample(ids, sessions, users, said, {}, vectors, measures)
    back = Sample.load(sample.dump())
    assert back.dump() == sample.dump()
    assert back.vectors["v"].shape == (2, 3)
    assert back.measures.number("cost").tolist() == pytest.approx([1.5, np.nan], nan_ok=True)
    assert back.measures.category("status").tolist() == [None, "ok"]


def test_a_sample_of_another_version_is_refused() -> None:
    _, *packed = Sample().dump()
    with pytest.raises(ValueError, match="another version of driftd"):
        Sample.load(packed)


def test_measures_stand_side_by_side_and_one_behind_the_other() -> None:
    one = Measures.of({"cost": np.array([1.0, 2.0])}, np.arange(2))
    other = Measures.of({"language": Categories(["de"], np.array([0, -1], np.int32))}, np.arange(2))
    both = one.beside(other)
    assert both.number("cost").tolist() == [1.0, 2.0]
    assert both.category("language").tolist() == ["de", None]
    twice = add_measures([(len(both.numbers), both), (1, both.take(np.array([1])))])
    assert twice.number("cost").tolist() == [1.0, 2.0, 2.0]
    assert twice.category("language").tolist() == ["de", None, None]
    assert Measures().beside(one) is one
