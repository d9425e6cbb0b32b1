"""What every series is held against: given, learned, learned anew; who rules what, and since when."""

from __future__ import annotations

import pytest

from monitor.baselines import Baselines, Part
from monitor.model import Scope
from monitor.reference import ReferenceSettings
from monitor.reference_file import ReferenceFile, pack, unpack
from monitor.windows import Contents, Slice
from tests.test_reference import BOT, SECOND, SIGNALS, SIZE, slice_of

TENANT = Scope("bot", "tenant=a")
OTHER = Scope("other")
SETTINGS = ReferenceSettings(size="80s")


def everywhere(number: int, *scopes: Scope) -> Slice:
    found = slice_of(number, 10)
    return Slice(found.start, found.end, dict.fromkeys(scopes or (BOT, TENANT, OTHER), found.scopes[BOT]))


def run(found: Baselines, slices: list[Slice]) -> None:
    for part in slices:
        found.begin(part)
        found.take(SIZE, part)
        for due in found.due(part.end):
            found.freeze(due, SIGNALS)


@pytest.fixture
def learned() -> Baselines:
    found = Baselines(SETTINGS, [SIZE])
    run(found, [everywhere(i) for i in range(90)])
    return found


def reloaded(found: Baselines) -> Baselines:
    again = Baselines(SETTINGS, [SIZE], found.file)
    again.restore({key: pack() for key, pack in found.pieces().items()}, found.dump())
    return again


def packed(found: Baselines) -> tuple[dict[tuple[str, str], bytes], bytes]:
    return {key: pack() for key, pack in found.pieces().items()}, found.dump()


def test_scopes_learn_from_their_first_slice_on(learned: Baselines) -> None:
    assert learned.scopes() == [BOT, TENANT, OTHER]
    assert list(learned.references) == [Part(BOT), Part(TENANT), Part(OTHER)]
    assert {(r.begin, r.end) for r in learned.all_ruling()} == {(0, 80 * SECOND)}
    late = Scope("late")
    run(learned, [everywhere(90, late)])
    assert learned.learning[Part(late)].end == 170 * SECOND
    assert (learned.began(late, "chars"), learned.began(BOT, "chars"), learned.began(Scope("?"), "chars")) == (
        90 * SECOND,
        0,
        None,
    )


def test_a_stream_is_accepted_with_its_segments_and_a_segment_alone(learned: Baselines) -> None:
    assert learned.accept(TENANT, ["chars"], 90 * SECOND) == [TENANT]
    assert list(learned.learning) == [Part(TENANT, 1)]
    assert learned.accept(BOT, ["chars", "error"], 100 * SECOND) == [BOT, TENANT]
    assert {part: found.only for part, found in learned.learning.items()} == {
        Part(TENANT, 1): frozenset({"chars"}),
        Part(BOT, 1): frozenset({"chars", "error"}),
        Part(TENANT, 2): frozenset({"chars", "error"}),
    }
    assert not learned.learns(Part(TENANT, 1), "chars"), "it was accepted again"
    assert learned.learns(Part(TENANT, 2), "chars")
    ruled = {reference.scope: sorted(reference.signals) for reference in learned.all_ruling()}
    assert ruled == {
        BOT: ["reason", "score", "volume"],
        TENANT: ["reason", "score", "volume"],
        OTHER: ["chars", "error", "reason", "score", "volume"],
    }


def test_what_is_learned_anew_is_learned_for_as_long_as_before_and_alone(learned: Baselines) -> None:
    learned.accept(BOT, ["chars", "volume"], 95 * SECOND)
    run(learned, [everywhere(i) for i in range(90, 180)])
    again = learned.references[Part(BOT, 1)]
    assert (again.begin, again.end, again.signals) == (95 * SECOND, 175 * SECOND, ["chars", "volume"])
    assert again.series["chars"].n == 800
    assert (learned.began(BOT, "chars"), learned.began(BOT, "error")) == (95 * SECOND, 0)
    learned.accept(BOT, ["error"], 180 * SECOND)
    run(learned, [everywhere(i) for i in range(180, 265)])
    assert learned.references[Part(BOT, 2)].volume == {}, "volume is ruled by the part before"


def test_it_begins_with_a_whole_slice_of_the_longest_window() -> None:
    found = Baselines(SETTINGS, [SIZE, 60 * SECOND])
    found.begin(everywhere(0, BOT))
    found.accept(BOT, ["chars"], 91 * SECOND)
    assert found.learning[Part(BOT, 1)].begin == 95 * SECOND, "slices of a window of a minute are of five seconds"


def test_a_scope_that_is_still_learning_learns_what_is_accepted_anew() -> None:
    found = Baselines(SETTINGS, [SIZE])
    run(found, [everywhere(i, BOT) for i in range(30)])
    found.accept(BOT, ["chars"], 30 * SECOND)
    assert [(part.number, learning.end // SECOND) for part, learning in found.learning.items()] == [(0, 80), (1, 110)]
    assert (found.learns(Part(BOT), "chars"), found.learns(Part(BOT), "error")) == (False, True)
    run(found, [everywhere(i, BOT) for i in range(30, 120)])
    ruled = [sorted(reference.signals) for reference in found.all_ruling()]
    assert ruled == [["error", "reason", "score", "volume"], ["chars"]]
    assert found.references[Part(BOT, 1)].series["chars"].n == 800


@pytest.mark.parametrize("cut", [0, 40, 80, 95, 130, 170, 185])
def test_it_goes_on_where_it_was_packed(cut: int) -> None:
    def course(stop: int | None) -> Baselines:
        found = Baselines(SETTINGS, [SIZE])
        for i in range(190):
            if i == stop:
                found = reloaded(found)
            if i == 90:
                found.accept(BOT, ["chars", "volume"], 90 * SECOND)
            run(found, [everywhere(i, BOT, *([TENANT] if i > 20 else []))])
        return found

    assert packed(course(cut)) == packed(course(None))


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(learned: Baselines) -> ReferenceFile:
    return unpack(pack([SIZE], SIGNALS, [learned.references[Part(BOT)], learned.references[Part(TENANT)]], {}), "")


def test_what_a_file_has_is_held_against_at_once_and_the_rest_learns_as_long(file: ReferenceFile) -> None:
    found = Baselines(ReferenceSettings(kind="file", path="good.reference"), [SIZE], file)
    assert [given.scope for given in found.begin(everywhere(500))] == [BOT, TENANT]
    assert not found.begin(everywhere(501))
    assert {part.scope: learning.end for part, learning in found.learning.items()} == {OTHER: 580 * SECOND}


def test_what_was_accepted_of_a_stream_holds_for_segments_that_come_later(file: ReferenceFile) -> None:
    found = Baselines(SETTINGS, [SIZE], file)
    run(found, [everywhere(i, BOT) for i in range(500, 510)])
    found.accept(BOT, ["chars"], 510 * SECOND)
    (given,) = reloaded(found).begin(everywhere(520, BOT, TENANT))
    assert (given.scope, "chars" in given.series, "error" in given.series) == (TENANT, False, True)


def test_for_a_file_all_learn_to_one_end() -> None:
    found = Baselines(SETTINGS, [SIZE], until=100 * SECOND)
    run(found, [everywhere(i, BOT, *([TENANT] if i > 70 else [])) for i in range(100)])
    assert {r.scope: (r.begin, r.end) for r in found.all_ruling()} == {
        BOT: (0, 100 * SECOND),
        TENANT: (71 * SECOND, 100 * SECOND),
    }
    found.begin(Slice(100 * SECOND, 101 * SECOND, {OTHER: Contents(5, {})}))
    assert not found.learning, "who comes behind the end is not in it"
