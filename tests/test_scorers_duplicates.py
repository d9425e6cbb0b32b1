"""Near duplicates: what counts as the same, and that how many were sampled does not matter."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.scorers.duplicates import LETTERS, NEIGHBOURS, duplicates

SAME = [
    "Please tell me where my parcel is",
    "PLEASE TELL ME WHERE MY PARCEL IS",
    "Please tell me where my parcel is!!!",
    "  please  tell me where my parcel is #4711",
]


def texts(rng: np.random.Generator, n: int, share: float) -> list[str | None]:
    """Texts of which a share is one text with small changes; the others are all different."""
    flood = rng.random(n) < share
    letters = rng.choice(list("abcdefghijklmnop"), (n, 20))
    return [SAME[i % len(SAME)] if flood[i] else "".join(letters[i]) for i in range(n)]


@pytest.mark.parametrize("other", SAME)
def test_case_signs_digits_and_spaces_do_not_count(other: str) -> None:
    assert duplicates([SAME[0], other, "Something else altogether, it is"]).tolist() == [1, 1, 0]


def test_words_do_count() -> None:
    assert duplicates([SAME[0], SAME[0] + " now"]).tolist() == [0, 0]


def test_other_scripts_have_letters_too() -> None:
    other = ["Где находится моя посылка?", "где находится моя посылка", "我的包裹现在在哪里呢请告诉我一下"]
    assert duplicates(other).tolist() == [1, 1, 0]


def test_what_says_little_is_no_observation() -> None:
    short, long = "a" * (LETTERS - 1), "a" * LETTERS
    assert np.isnan(duplicates([short, short, None, "", "12345678901234567890"])).all()
    assert duplicates([long, long]).tolist() == [1, 1]
    assert duplicates([long]).tolist() == [0]
    assert len(duplicates([])) == 0


@pytest.mark.parametrize("n", [40, 128, 1_000])
def test_the_rate_depends_on_the_share_of_a_flood_not_on_how_many_are_sampled(n: int) -> None:
    rng, share = np.random.default_rng(0), 0.2
    rate = np.mean([duplicates(texts(rng, n, share)).mean() for _ in range(20_000 // n)])
    assert rate == pytest.approx(share * (1 - (1 - share) ** NEIGHBOURS), abs=0.012)
    assert np.mean([duplicates(texts(rng, n, 0.0)).mean() for _ in range(3)]) == 0
