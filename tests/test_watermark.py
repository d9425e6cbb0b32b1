from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import watermark
from monitor.model import Categories, Ints, Scored
from monitor.settings import DAY, HOUR, MINUTE, SECOND
from monitor.watermark import Admission, PartitionTime, TimeSettings, judge

SETTINGS = TimeSettings(lateness="30s", skew="5m")
FATES = ("accepted", "late", "early", "stale")
T = 1_767_225_600_000


def times(*values: int) -> Ints:
    return np.array(values, np.int64)


def scored(ts: Sequence[int], append: Sequence[int] | None = None) -> Scored:
    n, zeros = len(ts), np.zeros(len(ts), np.uint64)
    return Scored(
        ts=times(*ts),
        id_hash=np.arange(n, dtype=np.uint64),
        content_hash=zeros,
        session_hash=zeros,
        user_hash=zeros,
        of_hash=zeros,
        feedback_event=np.zeros(n, bool),
        stream=Categories(["m"], np.zeros(n, np.int32)),
        segments={},
        values={},
        append=None if append is None else times(*append),
    )


def fates(
    ts: Sequence[int], newest: int | None = None, *, ended: bool = True, elsewhere: Ints | None = None
) -> list[str]:
    spans = np.empty((0, 2), np.int64) if elsewhere is None else elsewhere
    codes, _, _ = judge(times(*ts), newest, SETTINGS, ended=ended, elsewhere=spans)
    return [FATES[code] for code in codes.tolist()]


# ---- against one record at a time -----------------------------------------------------------------------------------


@dataclass
class Slow:
    """DESIGN section 7, sentence by sentence, one record at a time."""

    newest: int | None = None
    held: list[int] = field(default_factory=list)
    fates: list[str] = field(default_factory=list)

    def take(self, ts: int) -> None:
        self.held.append(ts)
        while self.held and (self.ordinary(self.held[0]) or len(self.held) > 20):
            self.decide()

    def end(self) -> None:
        while self.held:
            self.decide()

    def ordinary(self, ts: int) -> bool:
        """Neither a first record nor a leap of more than `skew`."""
        return self.newest is not None and ts <= self.newest + SETTINGS.skew

    def decide(self) -> None:
        ts, followers = self.held[0], self.held[1:21]
        if self.newest is not None and self.ordinary(ts):
            fate = "late" if ts < self.newest - SETTINGS.lateness else "accepted"
        elif self.believed(ts, followers):
            fate = "accepted"
        else:
            lies_back = self.newest is None and followers and ts < int(statistics.median(followers))
            fate = "stale" if lies_back else "early"
        if fate == "accepted":
            self.newest = ts if self.newest is None else max(ts, self.newest)
        self.fates.append(fate)
        del self.held[0]

    def believed(self, ts: int, followers: list[int]) -> bool:
        if not followers:
            return self.newest is None or ts - self.newest < DAY
        agree = [f for f in followers if f >= ts - SETTINGS.skew and (self.newest is not None or f <= ts + DAY)]
        return len(agree) >= 10 if len(followers) == 20 else 2 * len(agree) >= len(followers) and len(agree) > 0


STEPS = st.one_of(
    st.integers(-40 * SECOND, 40 * SECOND),
    st.sampled_from([0, -10 * MINUTE, 6 * MINUTE, 5 * MINUTE, 3 * HOUR, DAY, DAY + HOUR, 36_500 * DAY, -T]),
)


@st.composite
def walks(draw: st.DrawFn) -> list[int]:
    """Times that mostly go on from the last ordinary one, with leaps, gaps and times of other years."""
    now, found = T, []
    for step in draw(st.lists(STEPS, max_size=90)):
        found.append(max(now + step, 0))
        if abs(step) < DAY and (step < HOUR or draw(st.booleans())):
            now = max(now, now + step)
    return found


def law_of_judging(walk: list[int], cuts: list[int]) -> None:
    """Records that come in any batches meet the fates that they meet one by one."""
    slow = Slow()
    for ts in walk:
        slow.take(ts)
    decided = len(slow.fates)
    quick: list[str] = []
    newest: int | None = None
    queue: list[int] = []
    bounds = sorted({0, *(cut % (len(walk) + 1) for cut in cuts), len(walk)})
    for begin, end in pairwise(bounds):
        queue += walk[begin:end]
        codes, newest, done = judge(times(*queue), newest, SETTINGS, ended=False)
        quick += [FATES[code] for code in codes.tolist()]
        del queue[:done]
    assert quick == slow.fates
    assert len(queue) == len(walk) - decided
    codes, newest, done = judge(times(*queue), newest, SETTINGS, ended=True)
    slow.end()
    assert quick + [FATES[code] for code in codes.tolist()] == slow.fates
    assert (newest, done) == (slow.newest, len(queue))


@given(walks(), st.lists(st.integers(0, 100), max_size=5))
def test_batches_are_judged_as_their_records_one_by_one(walk: list[int], cuts: list[int]) -> None:
    law_of_judging(walk, cuts)


@pytest.mark.parametrize(("constant", "wrong"), [("AGREEING", 9), ("FOLLOWERS", 19)])
def test_the_law_of_judging_notices_a_wrong_constant(
    monkeypatch: pytest.MonkeyPatch, constant: str, wrong: int
) -> None:
    monkeypatch.setattr(watermark, constant, wrong)
    leap = T + HOUR
    with pytest.raises(AssertionError):
        law_of_judging([T + i for i in range(21)] + [leap] + [leap] * 9 + [T] * 11, [])


def test_strides_do_not_show() -> None:
    rng = np.random.default_rng(1)
    walk = (T + np.cumsum(rng.integers(0, 400 * SECOND, 3_000))).tolist()
    law_of_judging(walk, [1_000, 1_024, 2_000])


# ---- sentence by sentence -------------------------------------------------------------------------------------------


def test_late_is_more_than_lateness_behind_the_partitions_newest() -> None:
    assert fates([T, T - 30 * SECOND, T - 30 * SECOND - 1, T + 1, T - 30 * SECOND], T) == [
        "accepted",
        "accepted",
        "late",
        "accepted",
        "late",
    ]


def test_a_leap_of_no_more_than_skew_is_accepted_at_once() -> None:
    assert fates([T + 5 * MINUTE], T, ended=False) == ["accepted"]
    assert fates([T + 5 * MINUTE + 1], T, ended=False) == []


@pytest.mark.parametrize(("agreeing", "fate"), [(9, "early"), (10, "accepted")])
def test_a_leap_is_believed_if_ten_of_twenty_followers_agree(agreeing: int, fate: str) -> None:
    leap = T + 3 * HOUR
    followers = [leap - 5 * MINUTE] * agreeing + [leap - 5 * MINUTE - 1] * (20 - agreeing)
    assert fates([leap, *followers], T, ended=False)[0] == fate
    assert fates([leap, *followers[:-1]], T, ended=False) == []


def test_a_first_record_wants_followers_within_a_day() -> None:
    assert fates([T, *[T + DAY] * 20], ended=False)[0] == "accepted"
    assert fates([T, *[T + DAY + 1] * 20], ended=False)[0] == "stale"
    assert fates([T + 36_500 * DAY, *[T] * 20], ended=False)[0] == "early"


def test_at_the_end_half_of_at_least_one_follower_agree_or_the_leap_is_under_a_day() -> None:
    leap = T + 3 * HOUR
    assert fates([leap, leap, T], T) == ["accepted", "accepted", "late"]
    assert fates([leap, leap, T, T], T)[0] == "early"
    assert fates([T + DAY - 1], T) == ["accepted"]
    assert fates([T + DAY], T) == ["early"]


def test_a_first_record_with_few_followers_is_believed_near_other_partitions() -> None:
    elsewhere = np.array([[T, T + HOUR]])
    far = T + 36_500 * DAY
    assert fates([T + HOUR + DAY], elsewhere=elsewhere) == ["accepted"]
    assert fates([T + HOUR + DAY + 1], elsewhere=elsewhere) == ["early"]
    assert fates([T - DAY - 1], elsewhere=elsewhere) == ["stale"]
    assert fates([T, far], elsewhere=elsewhere) == ["accepted", "early"]
    assert fates([far, T], elsewhere=elsewhere) == ["early", "accepted"]
    assert fates([far, far], elsewhere=elsewhere) == ["accepted", "accepted"]  # together they are a file of other days


def test_append_times_decide_at_once() -> None:
    append = [T, T, T + HOUR, T + HOUR]
    admission = Admission(SETTINGS)
    accepted, met = admission.admit("p", scored([T + 5 * MINUTE, T + 5 * MINUTE + 1, T + HOUR, T], append), ended=False)
    assert accepted is not None
    assert accepted.ts.tolist() == [T + 5 * MINUTE, T + HOUR]
    assert met == {"early": 1, "late": 1}
    assert admission.partitions["p"].newest == T + HOUR


def test_an_append_time_keeps_a_first_absurd_record_from_moving_time() -> None:
    admission = Admission(SETTINGS)
    accepted, met = admission.admit("p", scored([T + 36_500 * DAY], [T]), ended=False)
    assert (accepted, met, admission.partitions["p"].newest) == (None, {"early": 1}, None)


# ---- admission ------------------------------------------------------------------------------------------------------


@given(walks(), st.integers(1, 30))
def test_every_record_is_accepted_or_counted_or_held(walk: list[int], size: int) -> None:
    admission, met, accepted = Admission(SETTINGS), Counter[str](), 0
    for begin in range(0, len(walk), size):
        found, fate = admission.admit("p", scored(walk[begin : begin + size]), ended=False)
        accepted += 0 if found is None else len(found)
        met.update(fate)
        held = admission.partitions["p"].held
        read = min(begin + size, len(walk))
        assert accepted + met.total() + (0 if held is None else len(held)) == read
    found, fate = admission.admit("p", None, ended=True)
    met.update(fate)
    assert accepted + (0 if found is None else len(found)) + met.total() == len(walk)
    assert walk == [] or admission.partitions["p"].held is None


def test_accepted_records_keep_their_order_and_their_columns() -> None:
    admission = Admission(SETTINGS)
    assert admission.admit("p", scored([T, T + SECOND, T - HOUR]), ended=False) == (None, {})
    found, met = admission.admit("p", scored([T + 2 * SECOND]), ended=True)
    assert found is not None
    assert (found.ts.tolist(), found.id_hash.tolist()) == ([T, T + SECOND, T + 2 * SECOND], [0, 1, 0])
    assert met == {"late": 1}


def placed(**peeked: Sequence[int]) -> dict[str, int | None]:
    admission = Admission(SETTINGS)
    admission.place({name: times(*ts) for name, ts in peeked.items()})
    return {name: time.place for name, time in admission.partitions.items()}


def test_a_place_is_the_least_accepted_time_of_the_first_records() -> None:
    assert placed(a=[T + SECOND, T], b=[T + HOUR], c=[]) == {"a": T, "b": T + HOUR, "c": None}


def test_a_place_is_not_an_absurd_time() -> None:
    far = T + 36_500 * DAY
    assert placed(a=[far, T], b=[T, far], c=[far + 3 * DAY], d=[1, T + 2], e=[T + 3]) == {
        "a": T,
        "b": T,
        "c": None,
        "d": T + 2,
        "e": T + 3,
    }
    assert placed(a=[far, *range(T, T + 20)]) == {"a": T}


def test_new_partitions_are_placed_near_those_that_are_known() -> None:
    admission = Admission(SETTINGS, {"known": PartitionTime(T, T + HOUR)})
    admission.place({"new": times(T + 36_500 * DAY, T + 2 * HOUR)})
    assert admission.partitions["new"].place == T + 2 * HOUR


# ---- watermark and order --------------------------------------------------------------------------------------------


def standing(**reached: int | None) -> Admission:
    return Admission(SETTINGS, {name: PartitionTime(newest=newest) for name, newest in reached.items()})


def test_the_watermark_is_the_least_newest_less_lateness_and_never_goes_back() -> None:
    admission = standing(a=T, b=T + HOUR)
    assert admission.advance() == T - 30 * SECOND
    admission.partitions["c"] = PartitionTime(newest=T - HOUR)
    assert admission.advance() == T - 30 * SECOND


def test_a_partition_that_was_not_read_yet_holds_the_watermark() -> None:
    admission = standing(a=T, b=None)
    assert admission.advance() is None
    admission.partitions["b"] = PartitionTime(place=T - HOUR)
    assert admission.advance() == T - HOUR - 30 * SECOND


def test_an_ended_partition_leaves_the_watermark() -> None:
    admission = standing(a=T, b=T + HOUR)
    admission.partitions["a"] = replace(admission.partitions["a"], ended=True)
    assert admission.advance() == T + HOUR - 30 * SECOND


def test_when_all_have_ended_the_watermark_is_that_of_the_newest_accepted_time() -> None:
    admission = Admission(SETTINGS, {"a": PartitionTime(T, T, ended=True)})
    admission.partitions["odd"] = PartitionTime(place=T + 36_500 * DAY, ended=True)  # nothing of it was accepted
    assert admission.advance() == T - 30 * SECOND


def test_without_partitions_there_is_no_watermark() -> None:
    assert Admission(SETTINGS).advance() is None


def test_the_partition_furthest_behind_is_read_first_and_one_far_ahead_waits() -> None:
    admission = standing(b=T + 60, a=T + 60, c=T, far=T + HOUR, new=None)
    assert admission.order(["a", "b", "c", "far", "new"], MINUTE) == ["new", "c", "a", "b", "far"]
    admission.watermark = T
    assert admission.order(["a", "b", "c", "far"], MINUTE) == ["c", "a", "b"]
    assert admission.order(["far"], MINUTE) == ["far"]


def test_held_records_of_an_ended_partition_are_overdue_when_the_watermark_would_pass_them() -> None:
    admission = standing(a=T, b=T + HOUR)
    admission.admit("a", scored([T + 10 * MINUTE, T - HOUR]), ended=False)
    admission.admit("a", scored([T + 11 * MINUTE]), ended=False)
    assert admission.overdue() == []  # it goes on
    admission.partitions["a"] = replace(admission.partitions["a"], ended=True)
    assert admission.overdue() == ["a"]
    admission.admit("a", None, ended=True)
    assert admission.overdue() == []
    assert admission.partitions["a"].newest == T + 11 * MINUTE


def test_a_late_record_behind_a_held_one_is_no_haste() -> None:
    admission = standing(a=T)
    admission.admit("a", scored([T + 10 * MINUTE, T - HOUR]), ended=False)
    admission.partitions["a"] = replace(admission.partitions["a"], ended=True)
    assert admission.overdue() == []


def test_an_idle_partition_leaves_the_watermark_and_is_read_still() -> None:
    admission = Admission(TimeSettings.model_construct(lateness=0))
    for name, newest in (("a", 1_000), ("b", 90_000), ("c", 95_000)):
        admission.partitions[name] = PartitionTime(newest=newest)
    assert admission.advance() == 1_000
    admission.rest("a")
    assert (admission.advance(), admission.firm, admission.silent) == (90_000, 1_000, False)
    assert admission.order(["a", "b", "c"], ahead=4_000) == ["a", "b"]
    for name in ("b", "c"):
        admission.rest(name)
    assert admission.silent
    admission.advance()
    admission.tick(500)
    assert (admission.watermark, admission.advance()) == (95_500, 95_500)


def test_without_a_time_yet_the_watermark_does_not_tick() -> None:
    admission = Admission(TimeSettings(), {"a": PartitionTime()})
    admission.rest("a")
    admission.tick(500)
    assert (admission.watermark, admission.silent) == (None, False)
    assert admission.firm < 0
