from __future__ import annotations

from monitor.idleness import Idleness


def test_a_partition_is_idle_when_nothing_came_of_it_for_long_enough_at_its_end() -> None:
    idleness = Idleness(10)
    assert [idleness.idle(["a"], ["a"], [], now) for now in (0, 5, 9.9, 10, 11)] == [set(), set(), set(), {"a"}, {"a"}]
    assert idleness.idle(["a"], ["a"], ["a"], 12) == set()
    assert [idleness.idle(["a"], ["a"], [], now) for now in (21.9, 22)] == [set(), {"a"}]


def test_waiting_begins_anew_when_it_is_not_known_to_be_at_its_end_or_is_held_back() -> None:
    idleness = Idleness(10)
    idleness.idle(["a"], ["a"], [], 0)
    assert idleness.idle(["a"], [], [], 9) == set(), "an outage"
    assert [idleness.idle(["a"], ["a"], [], now) for now in (10, 18.9, 19)] == [set(), set(), {"a"}]
    idleness.idle([], ["a"], [], 20)  # it was not asked
    assert [idleness.idle(["a"], ["a"], [], now) for now in (21, 30, 31)] == [set(), set(), {"a"}]


def test_time_that_passes_in_silence_is_counted_whole() -> None:
    idleness = Idleness(10)
    nows = [0.0004, 0.0013, 0.0021, 0.5, 1.0]
    passed = [idleness.elapsed(silent=True, now=now) for now in nows]
    assert passed[0] == 0
    assert sum(passed) == 999
    assert idleness.elapsed(silent=False, now=2) == 0
    assert idleness.elapsed(silent=True, now=3) == 0, "what passed while something came does not count"
    assert idleness.elapsed(silent=True, now=4) == 1000
