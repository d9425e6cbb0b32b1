"""Shifts split into other prompts and other answers: by hand, and by simulation against what is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from monitor import decomposition
from monitor.decomposition import LEAST, Side, Split, split
from monitor.model import Floats, Ints

KINDS = 16
STRANGE = KINDS


def side(kind: Ints, value: Floats, *, part: float = 1.0, weight: Floats | None = None) -> Side:
    n = len(kind)
    each = np.ones(n) if weight is None else weight
    return Side(value, kind, each, np.zeros(n, np.uint64), np.arange(n) * 12 // n, part)


def known(counts: dict[int, tuple[int, int]], times: int = 1) -> Side:
    """Kind -> exchanges and how many of them are refused, in any order."""
    kind = np.concatenate([np.full(n * times, k) for k, (n, _) in counts.items()])
    value = np.concatenate([np.arange(n * times) < yes * times for n, yes in counts.values()]).astype(np.float64)
    order = np.random.default_rng(0).permutation(len(kind))
    return side(kind[order], value[order])


def shift(window: Side, reference: Side) -> float:
    here, there = (float(np.average(one.value, weights=one.weight)) for one in (window, reference))
    return here - there


def found(window: Side, reference: Side) -> Split:
    answer = split(window, reference, shift(window, reference), STRANGE)
    assert answer is not None
    return answer


def test_a_worked_example() -> None:
    """80 % of A, of which 10 % refused, and 20 % of B, 50 %; now 60 % of A, 20 %, and 40 % of B, 60 %."""
    reference, window = known({0: (800, 80), 1: (200, 100)}), known({0: (600, 120), 1: (400, 240)})
    prompts = (0.6 - 0.8) * 0.1 + (0.4 - 0.2) * 0.5
    answers = 0.6 * (0.2 - 0.1) + 0.4 * (0.6 - 0.5)
    assert shift(window, reference) == pytest.approx(prompts + answers)
    answer = found(window, reference)
    assert answer.prompts == pytest.approx(prompts / (prompts + answers))
    assert answer.low < answer.prompts < answer.high


def test_prompts_and_answers_may_pull_apart() -> None:
    reference = known({0: (800, 80), 1: (200, 100)}, 16)
    assert found(known({0: (500, 30), 1: (500, 220)}, 16), reference).low > 1
    assert found(known({0: (900, 360), 1: (100, 60)}, 16), reference).high < 0


def test_records_weigh_as_much_as_they_stand_for() -> None:
    reference, window = known({0: (400, 40), 1: (100, 50)}, 8), known({0: (200, 20), 1: (300, 150)}, 8)
    thin = np.flatnonzero((window.kind == 0) | (np.arange(len(window.kind)) % 2 == 0))
    weight = np.where(window.kind[thin] == 0, 1.0, 2.0)
    thinned = side(window.kind[thin], window.value[thin], weight=weight)
    assert found(thinned, reference).prompts == pytest.approx(found(window, reference).prompts, abs=0.03)


def test_what_the_reference_hardly_holds_counts_as_other_prompts_by_what_came() -> None:
    """A new topic that is always refused is no other answer to the same prompts."""
    reference = known({0: (900, 18), 1: (1000, 20), 2: (4, 0), STRANGE: (20, 1)})
    for new in (2, 5, STRANGE):
        window = known({0: (450, 9), 1: (500, 10), new: (300, 270)})
        assert found(window, reference).prompts == pytest.approx(1, abs=0.06)
    same = known({0: (450, 90), 1: (500, 100), 2: (2, 1), STRANGE: (10, 3)})
    assert found(same, reference).prompts == pytest.approx(0, abs=0.03)


def test_exchanges_without_a_prompt_are_a_kind() -> None:
    reference, window = known({0: (900, 18), -1: (100, 90)}, 4), known({0: (800, 16), -1: (200, 180)}, 4)
    assert found(window, reference).prompts == pytest.approx(1, abs=0.02)


def test_where_hardly_anything_is_known_of_prompts_nothing_is_said() -> None:
    window = known({0: (500, 100)}, 4)
    for counts in ({-1: (1000, 10)}, {0: (750, 8), -1: (250, 2)}, {STRANGE: (300, 3), 0: (700, 7)}):
        reference = known(counts)
        assert split(window, reference, shift(window, reference), STRANGE) is None
    few = dict.fromkeys(range(KINDS), (5, 1))
    assert split(known(few), known(few), 0.1, STRANGE) is None


def test_too_few_exchanges_say_nothing() -> None:
    reference, window = known({0: (800, 8), 1: (200, 2)}), known({0: (40, 36), 1: (10, 9)})
    assert split(window, reference, shift(window, reference), STRANGE) is not None
    few = side(window.kind[: LEAST - 1], window.value[: LEAST - 1])
    assert split(few, reference, shift(few, reference), STRANGE) is None
    assert split(window, replace(reference, value=reference.value * 0), 0.0, STRANGE) is None


def test_a_shift_that_may_be_chance_says_nothing() -> None:
    reference, window = known({0: (800, 160), 1: (200, 80)}), known({0: (80, 17), 1: (22, 9)})
    assert split(window, reference, shift(window, reference), STRANGE) is None


# ---- against what is true ------------------------------------------------------------------------------------------


def drawn(rng: np.random.Generator, shares: Floats, means: Floats, records: int, sampled: int) -> tuple[Side, float]:
    """A sample of some records, and their mean."""
    kind = rng.choice(KINDS, records, p=shares)
    value = (rng.random(records) < means[kind]).astype(np.float64)
    rows = rng.choice(records, sampled, replace=False)
    return side(kind[rows], value[rows], part=sampled / records), float(value.mean())


USUAL, REFUSED = np.full(KINDS, 1 / KINDS), np.full(KINDS, 0.02)
REFUSED[3], REFUSED[7] = 0.9, 0.5


def more_of(kind: int, much: float) -> Floats:
    shares = USUAL.copy()
    shares[kind] += much
    return np.asarray(shares / shares.sum(), np.float64)


CASES = {
    "other prompts": (more_of(3, 0.1), REFUSED),
    "other answers": (USUAL, REFUSED + 0.08 * (REFUSED < 0.1)),
    "half and half": (more_of(3, 0.06), REFUSED + 0.05 * (REFUSED < 0.1)),
}


def coverage(case: str, records: int, seeds: int = 150) -> tuple[float, float, float]:
    """What is true, the mean of what is found, and how often the interval holds it."""
    shares, means = CASES[case]
    prompts = float((shares - USUAL) @ REFUSED)
    true = prompts / float(shares @ means - USUAL @ REFUSED)
    shown, holds = [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        window, now = drawn(rng, shares, means, records, 1_500)
        reference, before = drawn(rng, USUAL, REFUSED, 40_000, 2_048)
        answer = split(window, reference, now - before, STRANGE)
        assert answer is not None
        shown.append(answer.prompts)
        holds.append(answer.low <= true <= answer.high)
    return true, float(np.mean(shown)), float(np.mean(holds))


def law_of_coverage() -> None:
    """150 windows each: 95 % intervals hold what is true in 91 to 100 %, whatever part of the records is sampled."""
    for case, expected in (("other prompts", 1.0), ("other answers", 0.0), ("half and half", 0.52)):
        for records in (1_500, 20_000):
            true, mean, holds = coverage(case, records)
            assert true == pytest.approx(expected, abs=0.01)
            assert mean == pytest.approx(true, abs=0.03), (case, records)
            assert 0.91 <= holds <= 1, (case, records)


def test_intervals_hold_what_is_true() -> None:
    law_of_coverage()


def without_the_reference(side: Side, weight: Floats, more: Floats, ratio: float) -> float:
    """As if the reference were known."""
    return 0.0 if len(side.value) == 2_048 else decomposition_variance(side, weight, more, ratio)


def of_the_sample(side: Side, weight: Floats, more: Floats, ratio: float) -> float:
    """As if the parts were known from as many records as the shift."""
    return decomposition_variance(side, weight, more, ratio) * side.part


decomposition_variance = decomposition._variance


@pytest.mark.parametrize("planted", [without_the_reference, of_the_sample])
def test_the_law_of_coverage_notices(planted: Callable[..., float]) -> None:
    with patch.object(decomposition, "_variance", planted), pytest.raises(AssertionError):
        law_of_coverage()


def test_exchanges_of_one_session_are_not_independent() -> None:
    reference, window = known({0: (800, 80), 1: (200, 100)}), known({0: (600, 120), 1: (400, 240)})
    session = np.empty(len(window.kind), np.uint64)
    session[np.lexsort((window.value, window.kind))] = np.arange(len(session)) // 5 + 1
    grouped = replace(window, session=session)
    one, other = found(window, reference), found(grouped, reference)
    assert other.high - other.low > 1.2 * (one.high - one.low)
