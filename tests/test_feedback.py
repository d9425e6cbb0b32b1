from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import feedback
from monitor.feedback import Joins
from monitor.model import Categories, Scored

SIZE = 100
Event = tuple[int, int, str | None, str | None]
"""Time, number of the exchange it is (about), stream, segment."""


def batch(rows: Sequence[Event], *, events: bool) -> Scored:
    """Exchanges, or feedback about them."""
    numbers = np.array([number + 1 for _, number, _, _ in rows], np.uint64)
    zeros = np.zeros(len(rows), np.uint64)

    def categories(values: Sequence[str | None]) -> Categories:
        names = sorted({value for value in values if value is not None})
        return Categories(names, np.array([-1 if v is None else names.index(v) for v in values], np.int32))

    return Scored(
        ts=np.array([ts for ts, _, _, _ in rows], np.int64),
        id_hash=numbers + np.uint64(1_000 * events),
        content_hash=zeros,
        session_hash=zeros,
        user_hash=zeros,
        of_hash=numbers if events else zeros,
        feedback_event=np.full(len(rows), events),
        stream=categories([stream for *_, stream, _ in rows]),
        segments={"segment": categories([segment for *_, segment in rows])},
        values={"feedback": np.array([float(ts) for ts, _, _, _ in rows])},
    )


def named(column: Categories) -> list[str | None]:
    return [column.names[code] if code >= 0 else None for code in column.codes.tolist()]


def said(found: Scored | None) -> list[tuple[int, str | None, str | None]]:
    if found is None:
        return []
    names = zip(found.ts.tolist(), named(found.stream), named(found.segments["segment"]), strict=True)
    return sorted(names, key=str)


def test_an_event_takes_the_stream_and_the_segment_of_its_exchange() -> None:
    joins = Joins(SIZE)
    exchanges = batch([(10, 1, "a", "x"), (20, 2, "b", None)], events=False)
    assert joins.take(exchanges) is exchanges
    assert joins.take(batch([(30, 1, None, None), (40, 2, None, "own"), (41, 1, None, "own")], events=True)) is None
    assert joins.release(99) == (None, 0)
    joined, unjoined = joins.release(100)
    assert said(joined) == [(30, "a", "x"), (40, "b", "own"), (41, "a", "own")]
    assert (unjoined, joins.waiting) == (0, None)
    assert joined is not None
    assert joined.values["feedback"].tolist() == [30.0, 40.0, 41.0]  # type: ignore[union-attr]


def test_an_event_that_names_its_stream_and_segment_does_not_wait() -> None:
    joins = Joins(SIZE)
    mixed = batch([(30, 1, "a", "x"), (31, 1, None, None)], events=True)
    assert said(joins.take(mixed)) == [(30, "a", "x")]
    assert joins.waiting is not None
    assert joins.newest == SIZE


def test_an_event_of_a_known_stream_takes_the_segment_of_its_exchange_and_counts_without_it() -> None:
    joins = Joins(SIZE)
    joins.take(batch([(10, 1, "a", "x")], events=False))
    assert joins.take(batch([(30, 1, "a", None), (31, 7, "a", None), (32, 8, None, None)], events=True)) is None
    joined, unjoined = joins.release(SIZE)
    assert (said(joined), unjoined) == ([(30, "a", "x"), (31, "a", None)], 1)


def test_an_exchange_may_come_after_its_event_until_the_slice_of_the_event_is_over() -> None:
    joins = Joins(SIZE)
    joins.take(batch([(30, 1, None, None), (31, 2, None, None)], events=True))
    joins.take(batch([(99, 1, "a", None), (100, 2, "a", None)], events=False))
    joined, unjoined = joins.release(250)
    assert (said(joined), unjoined) == ([(30, "a", None)], 1)


def test_an_event_about_nothing_is_unjoined() -> None:
    joins = Joins(SIZE)
    joins.take(batch([(30, 9, None, None)], events=True))
    assert joins.release(1_000) == (None, 1)
    assert joins.release(2_000) == (None, 0)


def test_exchanges_that_are_too_many_are_forgotten_by_whole_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "REMEMBERED", 3)
    joins = Joins(SIZE)
    joins.take(batch([(0, 0, "a", None), (100, 1, "a", None), (200, 2, "a", None), (201, 3, "a", None)], events=False))
    joins.release(300)
    assert sorted(joins.exchanges) == [100, 200]
    joins.take(batch([(300 + i, 10 + i, "a", None) for i in range(9)], events=False))
    joins.release(400)
    assert sorted(joins.exchanges) == [300]  # more than fit, but those of the newest piece


def law_of_joining(exchanges: list[tuple[int, int]], events: list[tuple[int, int]], ahead: int) -> None:
    """However far is read ahead of the watermark, the same events find an exchange."""
    rows = sorted(
        [(ts, False, (ts, number, f"s{number}", None)) for ts, number in exchanges]
        + [(ts, True, (ts, number, None, None)) for ts, number in events],
        key=lambda row: row[:2],
    )
    results = []
    for step in (1, ahead):
        joins, joined, unjoined = Joins(SIZE), list[tuple[int, str | None, str | None]](), 0
        for begin in range(0, len(rows), step):
            chunk = rows[begin : begin + step]
            for kind in (False, True):
                if part := [row for _, is_event, row in chunk if is_event is kind]:
                    joins.take(batch(part, events=kind))
            found, lost = joins.release(chunk[-1][0])
            joined += said(found)
            unjoined += lost
        found, lost = joins.release(10**9)
        results.append((sorted([*joined, *said(found)], key=str), unjoined + lost))
        assert len(results[-1][0]) + results[-1][1] == len(events)
    assert results[0] == results[1]


RECORDS = st.lists(st.tuples(st.integers(0, 1_000), st.integers(0, 30)), max_size=40)


@given(RECORDS, RECORDS, st.integers(2, 100))
def test_reading_ahead_joins_no_other_events(
    exchanges: list[tuple[int, int]], events: list[tuple[int, int]], ahead: int
) -> None:
    distinct = {number: ts for ts, number in exchanges}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feedback, "REMEMBERED", 4)
        law_of_joining([(ts, number) for number, ts in distinct.items()], events, ahead)


def test_the_law_of_joining_notices_exchanges_that_are_found_by_reading_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Joins.release
    monkeypatch.setattr(Joins, "release", lambda self, watermark: release(self, watermark + SIZE))
    with pytest.raises(AssertionError):
        law_of_joining([(90, 1)], [(10, 1)], 2)


def test_state_comes_back_as_it_was() -> None:
    joins, again = Joins(SIZE), Joins(SIZE)
    joins.take(batch([(10, 1, "a", "x"), (120, 2, "b", None)], events=False))
    joins.take(batch([(130, 1, None, None), (131, 5, None, None)], events=True))
    kept = {(blob.table, blob.key): blob.data for blob in joins.blobs()}
    joins.take(batch([(125, 3, "c", None)], events=False))
    later = joins.blobs()
    assert {blob.key for blob in later} == {"100", ""}, "a piece that did not change is not written again"
    kept |= {(blob.table, blob.key): blob.data for blob in later}
    again.restore([(table, key, data) for (table, key), data in kept.items() if data is not None])
    assert {start: part.dump() for start, part in again.exchanges.items()} == {
        start: part.dump() for start, part in joins.exchanges.items()
    }
    found, lost = again.release(200)
    assert (said(found), lost) == ([(130, "a", "x")], 1)
    empty = Joins(SIZE)
    empty.restore([])
    assert (empty.exchanges, empty.waiting) == ({}, None)


def test_forgotten_exchanges_leave_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.feedback.REMEMBERED", 1)
    joins = Joins(SIZE)
    joins.take(batch([(10, 1, "a", None), (120, 2, "b", None)], events=False))
    joins.blobs()
    joins.release(200)
    assert [(blob.key, blob.data) for blob in joins.blobs()] == [("0", None), ("", None)]
