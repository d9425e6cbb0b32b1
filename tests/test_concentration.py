"""What one part of a stream a drift is mostly of, through the engine: traffic of tenants, users and sessions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import xxhash

from monitor.calibration import FalseAlarmSettings
from monitor.engine import Engine, Plan, Step
from monitor.model import Categories, Hashes, Ints, Reading, Scored, Scores, Signal, Transcripts
from monitor.readings import concentration
from monitor.readings.concentration import Groups, Mostly, strongest
from monitor.readings.counted import Mean
from monitor.reference import Exchanges, ReferenceSettings
from monitor.rules import RuleSettings
from monitor.sampled import SampledSignals
from monitor.settings import SECOND
from monitor.slices import StreamSettings
from tests.test_origins import driven

WINDOW = 12 * SECOND
LEARNED, UPTO, RATE, SAMPLED = 120, 160, 80, 60
"""Seconds, records of each, and how many of them are sampled."""
RESTARTS = {60, 120, 130}
TENANTS = ("acme", "initech", "umbrella", "wonka")
USERS, SESSION = 40, 2
"""Users in all, and records of a session."""
OFTEN, ENDLESS = 7, 10**6
"""A user who comes more often than others, and a session that goes on and on."""


class Answer:
    """Vectors that tell what is refused."""

    @property
    def signals(self) -> Sequence[Signal]:
        return [Signal("answer_vector", "vector", sample=True, fingerprint="answer", size=4)]

    def score(self, transcripts: Transcripts) -> Scores:
        angles = np.array([[float(part) for part in text.split()] for text in transcripts.response])
        turned = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        return Scores({"answer_vector": (turned / np.sqrt(2)).astype(np.float32)})


@dataclass(frozen=True, eq=False)
class Traffic:
    """Who comes how often, and how often each is refused."""

    refused: tuple[float, float, float, float] = (0.04, 0.04, 0.04, 0.6)
    """Of each tenant: one is refused more than all others, and always was."""
    tenants: tuple[float, float, float, float] = (0.15, 0.35, 0.35, 0.15)
    often: float = 0.04
    """Of the user who comes most."""
    endless: float = 0.0
    """Part of the records that one session makes up, which is refused."""

    def records(self, begin: int, seconds: int) -> Scored:
        rng = np.random.default_rng(begin)
        n = seconds * RATE
        ts = begin * SECOND + np.arange(n) * SECOND // RATE
        session = begin * RATE + np.arange(n) // SESSION
        user = np.repeat(np.where(rng.random(n) < 0.12, OFTEN, 10 + rng.integers(0, USERS, n)), SESSION)[:n]
        session = np.where(rng.random(n) < self.endless, ENDLESS, session)
        tenant, region = rng.choice(4, n, p=self.tenants), rng.integers(0, 2, n)
        no = rng.random(n) < np.where(user == OFTEN, self.often, np.array(self.refused)[tenant])
        no |= session == ENDLESS
        said = [f"{2 * int(yes)} {k}" for yes, k in zip(no, rng.integers(0, 3, n), strict=True)]
        none = np.zeros(n, np.uint64)
        return Scored(
            ts=ts,
            id_hash=rng.integers(1, 2**63, n, dtype=np.uint64),
            content_hash=none,
            session_hash=hashes(session),
            user_hash=hashes(user),
            of_hash=none,
            feedback_event=np.zeros(n, np.bool_),
            stream=Categories(["bot"], np.zeros(n, np.int32)),
            segments={
                "tenant": Categories(TENANTS, tenant.astype(np.int32)),
                "region": Categories(["eu", "us"], region.astype(np.int32)),
            },
            values={
                "response_refusal": no.astype(np.float64),
                "latency_seconds": np.where(no, 0.1, 1.0) * rng.lognormal(0, 0.3, n),
                "finish_reason": Categories(["filter", "stop"], np.where(no, 0, 1).astype(np.int32)),
            },
            transcripts=Transcripts.load((said, said, [None] * n)),
        )


def hashes(who: Ints) -> Hashes:
    return np.array([hashed(number) for number in who.tolist()], np.uint64)


def hashed(number: int) -> int:
    return xxhash.xxh3_64_intdigest(str(number).encode())


USUAL = Traffic()
SIGNALS = {
    "response_refusal": Signal("response_refusal", "rate"),
    "latency_seconds": Signal("latency_seconds", "numeric"),
    "finish_reason": Signal("finish_reason", "category"),
}


def engine() -> Engine:
    samples = SampledSignals([Answer()], keeps_text=False)
    signals = {**SIGNALS, **{signal.name: signal for signal in samples.signals}}
    reference = ReferenceSettings.model_validate({"size": f"{LEARNED}s"})
    streams = StreamSettings(segments=("region", "tenant"))
    rules = (RuleSettings(name="AnyDrift", signal=("*",), on="drift"),)
    return Engine(Plan(signals, [WINDOW], streams, reference, FalseAlarmSettings(), {}, rules, SAMPLED), samples, list)


def run(then: Traffic, *, batches: int = 1, restarts: bool = False) -> list[Step]:
    """All steps of traffic that changes right after the reference, in batches of any order within ten seconds."""

    def records(begin: int) -> Scored:
        return (USUAL if begin < LEARNED else then).records(begin, 10)

    places = RESTARTS if restarts else ()
    return driven(engine(), records, UPTO, batches=batches, restarts=places, renew=engine)


@cache
def steps_of(then: Traffic) -> list[Step]:
    return run(then)


def drifts(steps: Sequence[Step]) -> dict[tuple[str, str | None], Reading]:
    """The last drift of each series."""
    readings = [reading for step in steps for reading in step.readings if reading.verdict == "drift"]
    return {(reading.signal, reading.segment): reading for reading in readings}


CASES: dict[str, tuple[Traffic, str, float]] = {
    "a tenant": (Traffic(refused=(0.8, 0.04, 0.04, 0.6)), "tenant=acme", 0.15),
    "a tenant that comes more": (Traffic(tenants=(0.1, 0.25, 0.25, 0.4)), "tenant=wonka", 0.4),
    "a user": (Traffic(often=0.95), f"user {hashed(OFTEN):016x}"[:11], 0.12),
    "a session": (
        Traffic(refused=(0.14, 0.14, 0.14, 0.7), often=0.14, endless=0.2),
        f"session {hashed(ENDLESS):016x}"[:14],
        0.2,
    ),
}
NOBODY = {
    "everyone": Traffic(refused=(0.16, 0.16, 0.16, 0.72), often=0.16),
    "two tenants": Traffic(refused=(0.04, 0.4, 0.4, 0.6)),
    "a tenant with most records": Traffic(refused=(0.04, 0.04, 0.04, 0.6), tenants=(0.1, 0.1, 0.1, 0.7)),
}


def law_of_concentration(steps: Sequence[Step], name: str, records: float) -> None:
    """A shift that one part of a stream explains is said to be its: in the stream, and within other segments."""
    found = drifts(steps)
    regions = {key for key in found if key[1] in {"region=eu", "region=us"} and key[0] == "response_refusal"}
    for key in {("response_refusal", None), ("finish_reason", None), *regions}:
        reading = found[key]
        assert reading.mostly == name, key
        assert reading.mostly_share is not None
        assert reading.mostly_records is not None
        assert 0.6 <= reading.mostly_share <= 1
        assert reading.mostly_records == pytest.approx(records, abs=0.06)


@pytest.mark.parametrize("case", CASES)
def test_what_most_of_a_shift_is_of_is_named(case: str) -> None:
    then, name, records = CASES[case]
    law_of_concentration(steps_of(then), name, records)


def test_vectors_are_told_by_segment() -> None:
    for case in ("a tenant", "a tenant that comes more"):
        then, name, _ = CASES[case]
        assert drifts(steps_of(then))["answer_vector", None].mostly == name


def law_of_nobody(steps: Sequence[Step]) -> None:
    """Nobody is named where no single one explains half of the shift with less than half of the records."""
    found = [reading for (signal, _), reading in drifts(steps).items() if signal in SIGNALS]
    assert {reading.signal for reading in found if reading.segment is None} >= {"response_refusal", "finish_reason"}
    assert {(reading.mostly, reading.mostly_share, reading.mostly_records) for reading in found} == {("", None, None)}


@pytest.mark.parametrize("case", NOBODY)
def test_nobody_is_named_who_does_not_explain_it(case: str) -> None:
    law_of_nobody(steps_of(NOBODY[case]))


def left_in_the_reference(*_: object, **__: object) -> Mean:
    """As if a segment had not been there when its stream learned."""
    return Mean(0.0, 0.0, 0)


def test_the_law_of_nobody_notices_who_was_always_different() -> None:
    with patch.object(concentration, "_usual", left_in_the_reference):
        steps = run(NOBODY["everyone"])
    with pytest.raises(AssertionError):
        law_of_nobody(steps)


def by_records_alone(names: Sequence[str], now: Groups, _: Groups) -> Mostly | None:
    """Who has most records."""
    fit = np.where(now.mass / now.whole.mass < 0.5, now.mass, 0.0)
    return Mostly(1.0, float(fit.max() / now.whole.mass), names[int(fit.argmax())]) if names else None


def test_the_law_of_concentration_notices() -> None:
    then, name, records = CASES["a user"]
    with patch.object(concentration, "strongest", by_records_alone):
        steps = run(then)
    with pytest.raises(AssertionError):
        law_of_concentration(steps, name, records)


def test_the_explanation_says_it_and_no_name_of_a_user() -> None:
    then, name, _ = CASES["a user"]
    changes = [change for step in steps_of(then) for change in step.changes if change.explanation]
    assert re.search(rf"; \d+% of it is {name}, 1\d% of the records", "\n".join(str(c.explanation) for c in changes))


# ---- by hand --------------------------------------------------------------------------------------------------------


def groups(whole: float, *parts: tuple[float, float]) -> Groups:
    mass, mean = np.array([part[0] for part in parts]), np.array([part[1] for part in parts])
    return Groups(Mean(whole, 100, 100), mass, mean)


def test_a_worked_example() -> None:
    """10 % before; of a fifth of the records 50 % now, of the others 12.5 %: together 20 %."""
    found = strongest(["tenant=acme"], groups(0.2, (20, 0.5)), groups(0.1, (20, 0.1)))
    assert found is not None
    assert found.share == pytest.approx(1 - (0.125 - 0.1) / (0.2 - 0.1))
    assert (found.records, found.name) == (0.2, "tenant=acme")


def test_of_equals_the_first_is_named_and_none_that_turns_the_shift_around() -> None:
    same = (20.0, 0.6)
    found = strongest(["a", "b"], groups(0.2, same, same), groups(0.1, (20, 0.1), (20, 0.1)))
    assert found is not None
    assert found.name == "a"
    turned = groups(0.2, (40, 0.5))  # of the others none is refused now
    assert strongest(["a"], turned, groups(0.1, (40, 0.1))) is None


def test_who_has_half_of_the_records_or_all_of_the_reference_is_not_named() -> None:
    assert strongest(["a"], groups(0.2, (50, 0.3)), groups(0.1, (50, 0.1))) is None
    assert strongest(["a"], groups(0.2, (49, 0.304)), groups(0.1, (49, 0.1))) is not None
    assert strongest(["a"], groups(0.2, (20, 0.6)), groups(0.1, (100, 0.1))) is None
    assert strongest([], groups(0.2), groups(0.1)) is None
    assert strongest(["a"], groups(0.2, (20, 0.6)), groups(0.2, (20, 0.6))) is None


# ---- whatever the batches and restarts ------------------------------------------------------------------------------


def law_of_batches_and_restarts() -> None:
    then, name, _ = CASES["a user"]
    whole = steps_of(then)
    assert drifts(whole)["response_refusal", None].mostly == name
    assert run(then, batches=7, restarts=True) == whole


def test_batches_and_restarts_do_not_matter() -> None:
    law_of_batches_and_restarts()


def test_the_law_of_batches_and_restarts_notices() -> None:
    load = Exchanges.load

    def nameless(packed: Sequence[Any]) -> Exchanges:
        back = load(packed)
        return replace(back, user_hash=back.user_hash * np.uint64(0))

    with patch.object(Exchanges, "load", nameless), pytest.raises(AssertionError):
        law_of_batches_and_restarts()
