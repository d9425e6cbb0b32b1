"""Where a drift of answers comes from, through the engine: made-up topics, each refused at its own rate."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from unittest.mock import patch

import numpy as np
import pytest

from monitor.calibration import FalseAlarmSettings
from monitor.decomposition import Side, Split, split
from monitor.engine import Engine, Plan, Step
from monitor.measuring import signals_of
from monitor.model import Categories, Column, Floats, Ints, Reading, Scored, Scores, Signal, Transcripts
from monitor.readings import origins
from monitor.reference import Learning, ReferenceSettings
from monitor.reference_file import ReferenceFile, pack, unpack
from monitor.rules import RuleSettings
from monitor.sampled import SampledSignals
from monitor.sampling import Measures
from monitor.settings import SECOND
from monitor.slices import StreamSettings

TOPICS, WIDTH = 12, 32
WINDOW = 12 * SECOND
LEARNED, UPTO = 120, 150
RATE, SAMPLED = 50, 32
"""Records of a slice of a second, and how many of them are sampled."""
RESTARTS = {10, 60, 120, 130}
"""Before there is a codebook, while the reference is learned, and while there is a drift."""
WHOLE = {
    "prompt_chars": Signal("prompt_chars", "numeric"),
    "latency_seconds": Signal("latency_seconds", "numeric"),
    "response_toxicity": Signal("response_toxicity", "numeric", "unit"),
    "response_refusal": Signal("response_refusal", "rate"),
    "finish_reason": Signal("finish_reason", "category"),
}
CENTRES = np.random.default_rng(0).normal(size=(TOPICS + 1, WIDTH))


class Topics:
    """A vector near the centre of the topic that a prompt names."""

    @property
    def signals(self) -> Sequence[Signal]:
        return [Signal("prompt_embedding", "vector", sample=True, fingerprint="topics", size=WIDTH)]

    def score(self, transcripts: Transcripts) -> Scores:
        words = [text.split() for text in transcripts.prompt.tolist()]
        near = [CENTRES[int(topic)] + np.random.default_rng(int(n)).normal(0, 0.3, WIDTH) for topic, n in words]
        vectors = np.array(near).reshape(-1, WIDTH)
        return Scores(
            {"prompt_embedding": (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)}
        )


@dataclass(frozen=True, eq=False)
class Traffic:
    """How often each topic comes, and how it is answered."""

    shares: Floats
    refused: Floats

    def records(self, begin: int, seconds: int) -> Scored:
        rng = np.random.default_rng(begin)
        n = seconds * RATE
        ts = begin * SECOND + np.arange(n) * SECOND // RATE
        topic = rng.choice(TOPICS + 1, n, p=self.shares / self.shares.sum())
        no = rng.random(n) < self.refused[topic]
        none, prompts = np.zeros(n, np.uint64), [f"{k} {i}" for k, i in zip(topic, ts, strict=True)]
        return Scored(
            ts=ts,
            id_hash=rng.integers(1, 2**63, n, dtype=np.uint64),
            content_hash=none,
            session_hash=none,
            user_hash=none,
            of_hash=none,
            feedback_event=np.zeros(n, np.bool_),
            stream=Categories(["bot"], np.zeros(n, np.int32)),
            segments={"tenant": Categories(["acme", "umbrella"], rng.integers(0, 2, n).astype(np.int32))},
            values={
                "prompt_chars": rng.lognormal(4 + topic / 4, 0.5),
                "latency_seconds": np.where(no, 0.1, 1.0) * rng.lognormal(0, 0.3, n),
                "response_toxicity": np.where(no, 0.6, 0.1) + 0.2 * rng.random(n),
                "response_refusal": no.astype(np.float64),
                "finish_reason": Categories(["filter", "stop"], np.where(no, 0, 1).astype(np.int32)),
            },
            transcripts=Transcripts.load((prompts, prompts, [None] * n)),
        )


_EVEN, _RARELY = np.r_[np.ones(TOPICS), 0.0], np.full(TOPICS + 1, 0.02)
_RARELY[[2, TOPICS]] = 0.9
USUAL = Traffic(_EVEN, _RARELY)
OTHER_PROMPTS = Traffic(_EVEN + np.eye(TOPICS + 1)[2] * 4, _RARELY)
NEW_TOPIC = Traffic(_EVEN + np.eye(TOPICS + 1)[TOPICS] * 4, _RARELY)
OTHER_ANSWERS = Traffic(_EVEN, np.maximum(_RARELY, 0.25))
BOTH = Traffic(_EVEN + np.eye(TOPICS + 1)[2] * 2, np.maximum(_RARELY, 0.13))
ANSWERS = ["finish_reason", "latency_seconds", "response_refusal", "response_toxicity"]


def engine(kind: str = "learned", file: ReferenceFile | None = None) -> Engine:
    samples = SampledSignals([Topics()], keeps_text=False)
    samples.clusters.books |= {} if file is None else file.books
    signals = {**signals_of([samples]), **WHOLE}
    reference = ReferenceSettings() if file else ReferenceSettings.model_validate({"kind": kind, "size": "120s"})
    rules = (RuleSettings(name="AnyDrift", signal=("*",), on="drift"),)
    streams, budget = StreamSettings(segments=("tenant",)), FalseAlarmSettings()
    return Engine(Plan(signals, [WINDOW], streams, reference, budget, {}, rules, SAMPLED, file), samples, list)


def driven(
    watched: Engine,
    records: Callable[[int], Scored],
    upto: int,
    *,
    batches: int,
    restarts: Collection[int],
    renew: Callable[[], Engine],
) -> list[Step]:
    """All steps of an engine that is given ten seconds at a time, in batches of any order.

    Parameters
    ----------
    records : of the ten seconds from so many seconds on
    restarts : after which of them another engine, made by `renew`, takes its place

    """
    held: dict[tuple[str, str], bytes | None] = {}
    steps: list[Step] = []
    for begin in range(0, upto, 10):
        found = records(begin)
        order = np.random.default_rng(batches).permutation(len(found))
        for rows in np.array_split(order, batches):
            watched.add(found.take(rows))
        steps += watched.close((begin + 10) * SECOND)
        if begin in restarts:
            held |= {(blob.table, blob.key): blob.data for blob in watched.blobs()}
            watched = renew()
            watched.restore([(*key, data) for key, data in held.items() if data is not None])
    return steps


def run(
    then: Traffic, watched: Engine | None = None, *, batches: int = 1, renew: Callable[[], Engine] | None = None
) -> list[Step]:
    """All steps of traffic that changes right after the reference, in batches of any order within ten seconds.

    Parameters
    ----------
    renew : makes the engine that takes the place of another at RESTARTS

    """

    def records(begin: int) -> Scored:
        return (USUAL if begin < LEARNED else then).records(begin, 10)

    watched, restarts = watched or engine(), RESTARTS if renew is not None else ()
    return driven(watched, records, UPTO, batches=batches, restarts=restarts, renew=renew or engine)


def drifts(steps: Sequence[Step]) -> dict[tuple[str, str | None], Reading]:
    """The last drift of each series."""
    readings = [reading for step in steps for reading in step.readings if reading.verdict == "drift"]
    return {(reading.signal, reading.segment): reading for reading in readings}


@cache
def steps_of(then: Traffic) -> list[Step]:
    return run(then)


def law_of_origins(steps: Sequence[Step], true: float) -> None:
    found = drifts(steps)
    for signal in ANSWERS:
        for segment, within in ((None, 0.15), ("tenant=acme", 0.25), ("tenant=umbrella", 0.25)):
            reading = found[signal, segment]
            share, low, high = reading.from_prompts, reading.from_prompts_low, reading.from_prompts_high
            assert share is not None, (signal, segment)
            assert low is not None
            assert high is not None
            assert share == pytest.approx(true, abs=within), (signal, segment)
            assert low <= true <= high


def from_prompts(then: Traffic) -> float:
    """What is true of the rate."""
    shares, usual = (one / one.sum() for one in (then.shares, USUAL.shares))
    return float((shares - usual) @ USUAL.refused / (shares @ then.refused - usual @ USUAL.refused))


CASES = {
    "other prompts": (OTHER_PROMPTS, 1.0),
    "a new topic": (NEW_TOPIC, 1.0),
    "other answers": (OTHER_ANSWERS, 0.0),
    "half and half": (BOTH, 0.571),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_told_whether_prompts_or_answers_changed(case: str) -> None:
    then, true = CASES[case]
    assert from_prompts(then) == pytest.approx(true, abs=0.001)
    law_of_origins(steps_of(then), true)


def all_alike(window: Side, reference: Side, shift: float, strange: int) -> Split | None:
    """As if all prompts were of one kind."""
    one, other = (replace(side, kind=np.zeros_like(side.kind)) for side in (window, reference))
    return split(one, other, shift, strange)


def nothing_strange(window: Side, reference: Side, shift: float, strange: int) -> Split | None:
    """As if what is like nothing else were one kind of prompts."""
    return split(window, reference, shift, strange + 5)


@pytest.mark.parametrize(("planted", "case"), [(all_alike, "half and half"), (nothing_strange, "a new topic")])
def test_the_law_of_origins_notices(planted: Callable[..., object], case: str) -> None:
    then, true = CASES[case]
    with patch.object(origins, "split", planted):
        steps = run(then)
    with pytest.raises(AssertionError):
        law_of_origins(steps, true)


def test_signals_of_prompts_have_no_origin() -> None:
    found = drifts(steps_of(OTHER_PROMPTS))
    of_prompts = [reading for (signal, _), reading in found.items() if signal.startswith("prompt_")]
    assert {reading.signal for reading in of_prompts} >= {"prompt_chars", "prompt_cluster", "prompt_embedding"}
    assert {reading.from_prompts for reading in of_prompts} == {None}


def test_without_a_drift_and_without_embeddings_nothing_is_told() -> None:
    quiet = [r for step in steps_of(OTHER_ANSWERS) for r in step.readings if r.verdict != "drift"]
    assert quiet
    assert {r.from_prompts for r in quiet} == {None}
    with patch.object(Topics, "signals", []), patch.object(Topics, "score", lambda *_: Scores({})):
        found = drifts(run(OTHER_ANSWERS))
    assert ("response_refusal", None) in found
    assert {reading.from_prompts for reading in found.values()} == {None}


def test_the_explanation_says_it() -> None:
    changes = [change for step in steps_of(OTHER_PROMPTS) for change in step.changes if change.state == "firing"]
    said = "\n".join(change.explanation or "" for change in changes)
    assert re.search(r"is other prompts, the rest other answers to similar prompts", said)


# ---- whatever the batches and restarts ------------------------------------------------------------------------------


def law_of_batches_and_restarts(kind: str = "learned") -> None:
    """The same readings and explanations, and some with an origin, whatever the batches and restarts."""
    whole = steps_of(BOTH) if kind == "learned" else run(BOTH, engine(kind))
    told = {reading.against for reading in drifts(whole).values() if reading.from_prompts is not None}
    assert told == ({"anchor", "rolling"} if kind == "rolling" else {""})
    assert run(BOTH, engine(kind), batches=7, renew=partial(engine, kind)) == whole


@pytest.mark.parametrize("kind", ["learned", "rolling"])
def test_batches_and_restarts_do_not_matter(kind: str) -> None:
    law_of_batches_and_restarts(kind)


def forgetful(self: Learning, added: int, data: bytes) -> None:
    """As if the exchanges were learned from the restart on."""


def unmeasured(columns: Mapping[str, Column], rows: Ints) -> Measures:
    """The values of the batch's first records in the place of the sampled ones."""
    return measured(columns, np.arange(len(rows)))


measured = Measures.of


@pytest.mark.parametrize(
    ("owner", "name", "planted"), [(Learning, "put_exchanges", forgetful), (Measures, "of", unmeasured)]
)
def test_the_law_of_batches_and_restarts_notices(owner: type, name: str, planted: Callable[..., object]) -> None:
    with patch.object(owner, name, planted), pytest.raises(AssertionError):
        law_of_batches_and_restarts()


def test_a_reference_file_keeps_what_tells_the_origin() -> None:
    learned = engine()
    run(USUAL, learned)
    references, books = learned.baselines.references.values(), learned.samples.clusters.books
    file = unpack(pack([WINDOW], learned.plan.signals, references, books), "x.ref")
    again = [found.exchanges for found in file.scopes.values() if found.exchanges is not None]
    kept = [found.exchanges for found in references if found.exchanges is not None]
    assert [found.dump() for found in again] == [found.dump() for found in kept]
    found = drifts(run(OTHER_PROMPTS, engine(file=file)))
    assert found["response_refusal", None].from_prompts == pytest.approx(1, abs=0.15)
