"""Rolling references: when blocks begin and end, what they keep, and that what they add up to is what was learned."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.model import Scope
from monitor.reference import BLOCKS, KEPT, Learning, ReferenceSettings, ScopeReference
from monitor.rolling import Rolling
from monitor.settings import DAY, HOUR, MINUTE
from monitor.windows import SLICES, Contents, Slice
from tests.test_reference import BOT, SECOND, SIGNALS, SIZE, slice_of


def rolling(blocks: int = 12, gap: int = 0) -> Rolling:
    """Blocks of so many slices of a second."""
    return Rolling([SIZE], blocks * SECOND, gap)


def always(_: Scope, __: str) -> int:
    return 0


def run(found: Rolling, slices: list[Slice]) -> list[int]:
    """Take slices in their order; returns the times at which the reference moved on."""
    moved = []
    for part in slices:
        found.take(SIZE, part)
        if found.step(part.end):
            moved.append(part.end // SECOND)
    return moved


def only(found: Rolling) -> ScopeReference:
    (reference,) = found.references(SIGNALS, always)
    return reference


def test_blocks_are_an_eighth_in_whole_slices_of_the_coarsest_size() -> None:
    made = Rolling.of(ReferenceSettings(kind="rolling", size="7d", gap="1d"), [5 * MINUTE, HOUR])
    assert made is not None
    assert (made.block, made.gap) == (21 * HOUR, DAY)
    uneven = Rolling.of(ReferenceSettings(kind="rolling", size="7d"), [HOUR, 24 * HOUR])
    assert uneven is not None
    assert (uneven.block, uneven.gap) == (22 * HOUR, 24 * HOUR)
    assert Rolling.of(ReferenceSettings(), [HOUR]) is None


def test_it_moves_on_when_a_block_is_the_window_and_the_gap_behind() -> None:
    found = rolling(blocks=12, gap=5 * SECOND)
    moved = run(found, [slice_of(i, 10) for i in range(12, 200)])
    assert moved[1:] == list(range(17, 201, 12)), "12 s of window and 5 s of gap behind a multiple"
    assert found.end == 180 * SECOND
    assert (only(found).begin, only(found).end) == (84 * SECOND, 180 * SECOND)
    assert min(begin for _, begin in found.blocks) == found.begin, "what left it is let go"
    assert len(found.blocks) == BLOCKS + 2


def test_its_sums_are_those_of_a_reference_that_learned_the_same_time() -> None:
    found = rolling()
    slices = [slice_of(i, 10 if i % 5 else 0) for i in range(160)]
    run(found, slices)
    got = only(found)
    learning = Learning(BOT, got.begin, got.end, [SIZE])
    for part in slices:
        learning.take(SIZE, part)
    assert got.dump() == learning.freeze(SIGNALS).dump(), "where so few slices are all kept"


def test_a_long_one_keeps_three_runs_a_block_whose_places_move_on() -> None:
    found = rolling(blocks=100)
    run(found, [slice_of(i, 2) for i in range(100 * (BLOCKS + 1) + 12)])
    rows = only(found).series["chars"].slices[SIZE]
    assert len(rows.number) == KEPT
    begins = rows.number[::SLICES]
    assert (np.diff(rows.number.reshape(-1, SLICES)) == 1).all(), "whole runs"
    per_block = np.bincount(begins // 100)
    assert per_block[per_block > 0].tolist() == [3] * BLOCKS
    assert len(set((begins % 100).tolist())) > 12, "not at the same places of each block, which may be a day"
    assert rows.total == pytest.approx(2 * 100 * BLOCKS)


def test_blocks_without_records_count_as_empty() -> None:
    found = rolling()
    run(found, [slice_of(i, 0 if 36 <= i < 72 else 10) for i in range(120)])
    got = only(found)
    assert got.slices == {SIZE: 96}
    assert got.volume[SIZE][0] == 0
    assert got.volume[SIZE][1] == pytest.approx(12 * 10 * 5 / 8)


def test_a_scope_joins_when_it_has_been_there_for_all_of_it() -> None:
    found = rolling()
    run(found, [slice_of(i, 10) for i in range(5, 125)])
    assert found.begin == 12 * SECOND
    for began, there in ((5, True), (12, True), (13, False)):
        assert bool(list(found.references(SIGNALS, lambda *_, s=began: s * SECOND))) is there
    (part,) = found.references(SIGNALS, lambda _, name: (99 if name in {"chars", "volume"} else 5) * SECOND)
    assert (set(part.series), part.volume) == ({"score", "reason", "error"}, {})


def test_a_leap_forward_forgets_all_at_once() -> None:
    found = rolling()
    run(found, [slice_of(i, 10) for i in range(120)])
    assert found.step(DAY)
    assert not found.blocks
    assert not list(found.references(SIGNALS, always))


@pytest.mark.parametrize("cut", [1, 50, 120, 131])
def test_it_goes_on_where_it_was_packed(cut: int) -> None:
    slices = [slice_of(i, 10, sessions=4) for i in range(160)]
    whole, found = rolling(blocks=14), rolling(blocks=14)
    moved = run(whole, slices)
    before = run(found, slices[:cut])
    held = {key: pack() for key, pack in found.pieces(cut * SECOND).items()}
    again = rolling(blocks=14)
    again.restore(held, found.dump(cut * SECOND))
    assert before + run(again, slices[cut:]) == moved
    assert only(again).dump() == only(whole).dump()


def test_a_complete_block_is_one_piece_that_never_changes() -> None:
    found = rolling()
    slices = [slice_of(i, 10) for i in range(60)]
    run(found, slices[:30])
    first = {key: pack() for key, pack in found.pieces(30 * SECOND).items()}
    assert sorted(table for table, _ in first) == ["block"] * 2 + ["block_kept"] * 6
    run(found, slices[30:])
    later = {key: pack() for key, pack in found.pieces(60 * SECOND).items()}
    assert all(later[key] == data for key, data in first.items() if key[0] == "block")


def test_slices_of_nothing_make_no_block() -> None:
    found = rolling()
    found.take(SIZE, Slice(0, SECOND, {BOT: Contents(0, {})}))
    found.take(SIZE, Slice(SECOND, 2 * SECOND, {}))
    assert found.step(300 * SECOND)
    assert not list(found.references(SIGNALS, always))
