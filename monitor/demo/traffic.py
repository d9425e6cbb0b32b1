"""The log of a made-up support bot in which changes are planted at known times.

A schedule of all records (who wrote when, about what, how the answer ended) is drawn at once; their text is written in
blocks as they are read, each block from its own random numbers. So one seed gives one log, read in whatever steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from monitor.demo.phrases import (
    AFTER_REFUSAL,
    CLOSINGS,
    DAYS,
    FOLLOW_UPS,
    GREETINGS,
    ITEMS,
    OPENINGS,
    REFUSALS,
    TOPICS,
    Phrases,
)
from monitor.demo.truth import CUT, END, REFUSING, SEGMENTS, SHIFT, START, STREAM, TRUTH, Planted
from monitor.model import Flags, Floats, Ints, Position, Raw
from monitor.settings import HOUR, MINUTE

BLOCK = 1024
"""Records whose text is written together."""


# ---- the schedule ---------------------------------------------------------------------------------------------------

_CONVERSATIONS_PER_SECOND = 1.1
_SWING = 0.25
"""Traffic rises and falls by this part within a day."""
_TURNS = 0.5
"""A conversation ends after a turn with this probability."""
_MOST_TURNS = 8
_TOPIC_SHARES = {"billing": 0.28, "delivery": 0.30, "returns": 0.18, "password": 0.14, "account": 0.10}
_SHIFTED = 0.25
_REFUSED, _REFUSED_MORE = 0.02, 0.08
_CAP, _CAP_LESS = 130, 90
"""Most tokens of an answer."""
_TOKENS_PER_WORD = 1.35


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is decided of every record before its text is written; arrays have one entry a record, by time."""

    ts: Ints
    conversation: Ints
    turn: Ints
    segment: Ints
    topic: Ints
    talkative: Floats
    """How much longer than usual this customer's texts are."""
    refused: Flags
    cap: Ints
    """Most tokens of the answer."""


def make_schedule(seed: int, changes: Collection[Planted]) -> Schedule:
    """Draw all records between START and END. Only the planted changes in `changes` happen."""
    random = np.random.default_rng([seed, 0])
    begin, segment = _conversations(random)
    turns = np.where(segment == _code("email"), 1, np.minimum(random.geometric(_TURNS, len(begin)), _MOST_TURNS))
    conversation = np.repeat(np.arange(len(begin)), turns)
    turn = np.arange(len(conversation)) - np.repeat(np.cumsum(turns) - turns, turns)
    pause = np.where(turn == 0, 0.0, 15_000 + random.exponential(35_000, len(turn)))
    passed = np.cumsum(pause)
    ts = begin[conversation] + (passed - passed[np.repeat(np.cumsum(turns) - turns, turns)]).astype(np.int64)
    topic = random.choice(len(_TOPIC_SHARES), len(begin), p=list(_TOPIC_SHARES.values()))
    shifted = _during(SHIFT, begin, changes) & (random.random(len(begin)) < _SHIFTED)
    topic = np.where(shifted, list(TOPICS).index("technical"), topic)
    talkative = random.lognormal(0.0, 0.25, len(begin))
    more = _during(REFUSING, ts, changes) & (segment[conversation] == _code("voice"))
    refused = random.random(len(ts)) < np.where(more, _REFUSED_MORE, _REFUSED)
    cap = np.where(_during(CUT, ts, changes), _CAP_LESS, _CAP)
    kept = np.flatnonzero((ts >= START) & (ts < END))
    rows = kept[np.argsort(ts[kept], kind="stable")]
    of = conversation[rows]
    return Schedule(ts[rows], of, turn[rows], segment[of], topic[of], talkative[of], refused[rows], cap[rows])


def _conversations(random: np.random.Generator) -> tuple[Ints, Ints]:
    """Begin and segment of every conversation, from a while before START on, so that it finds traffic going."""
    first = START - 20 * MINUTE
    most = _CONVERSATIONS_PER_SECOND * (1 + _SWING)
    drawn = np.sort(random.integers(first, END, random.poisson(most * (END - first) / 1000)))
    busy = 1 + _SWING * np.sin(2 * np.pi * (drawn - START) / (24 * HOUR))
    begin = drawn[random.random(len(drawn)) < busy / (1 + _SWING)]
    return begin, random.choice(len(SEGMENTS), len(begin), p=list(SEGMENTS.values()))


def _during(change: Planted, ts: Ints, changes: Collection[Planted]) -> Flags:
    return (ts >= change.begins) & (ts < change.ends) if change in changes else np.zeros(len(ts), np.bool_)


def _code(segment: str) -> int:
    return list(SEGMENTS).index(segment)


# ---- the text -------------------------------------------------------------------------------------------------------


class _Dice:
    """Random numbers of one block, drawn at once: one call of numpy a number would be most of the work."""

    def __init__(self, random: np.random.Generator, count: int) -> None:
        self._numbers = random.random(count).tolist()
        self._at = -1

    def roll(self) -> float:
        self._at += 1
        return float(self._numbers[self._at])

    def pick(self, among: Sequence[str]) -> str:
        return among[int(self.roll() * len(among))]

    def some(self, among: Sequence[str], count: int) -> list[str]:
        """`count` neighbours in the circle of `among`, so that no sentence comes twice."""
        first = int(self.roll() * len(among))
        return [among[(first + step) % len(among)] for step in range(min(count, len(among)))]


_ROLLS = 32
"""Most numbers that a record needs."""


class SupportBot:
    """The log as a source: one partition, its offsets are numbers of records."""

    def __init__(self, seed: int, changes: Collection[Planted] = TRUTH) -> None:
        self.schedule = make_schedule(seed, changes)
        self._seed = seed
        self._identity = f"seed {seed}"
        self._at = 0

    def __len__(self) -> int:
        return len(self.schedule.ts)

    def partitions(self) -> Mapping[str, bool]:
        return {STREAM: self._at >= len(self)}

    def resume(self, positions: Mapping[str, Position]) -> None:
        """Go on from a position of the same seed."""
        known = positions.get(STREAM)
        if known is None:
            return
        if known.identity != self._identity:
            raise ValueError(f"{STREAM}: the position is of {known.identity}, this is {self._identity}")
        self._at = known.offset

    def peek(self, partition: str, limit: int) -> Raw:
        """The next messages, without moving."""
        end = min(self._at + limit, len(self))
        first = self._at // BLOCK
        blocks = [message for block in range(first, -(-end // BLOCK)) for message in self._block(block)]
        payloads = blocks[self._at - first * BLOCK : end - first * BLOCK]
        return Raw(partition, payloads, list(range(self._at, end)), [], Position(end, identity=self._identity))

    def poll(self, wanted: Sequence[str], limit: int) -> list[Raw]:
        """The next messages."""
        if STREAM not in wanted or self._at >= len(self):
            return []
        raw = self.peek(STREAM, limit)
        self._at = raw.end.offset
        return [raw]

    def close(self) -> None:
        """Nothing to let go of."""

    def _block(self, block: int) -> list[bytes]:
        """The messages of one block."""
        rows = range(block * BLOCK, min((block + 1) * BLOCK, len(self)))
        dice = _Dice(np.random.default_rng([self._seed, 1, block]), len(rows) * _ROLLS)
        return [msgspec.json.encode(self._message(row, dice)) for row in rows]

    def _message(self, row: int, dice: _Dice) -> dict[str, object]:
        schedule = self.schedule
        segment = list(SEGMENTS)[schedule.segment[row]]
        phrases = list(TOPICS.values())[schedule.topic[row]]
        names = _names(dice)
        prompt = _prompt(phrases, int(schedule.turn[row]), float(schedule.talkative[row]), dice).format_map(names)
        answer = _answer(phrases, refused=bool(schedule.refused[row]), dice=dice).format_map(names)
        failed = dice.roll() < 0.004
        response, tokens, reason = _cut(answer, int(schedule.cap[row]))
        prompt_tokens = 160 + round(prompt.count(" ") * _TOKENS_PER_WORD)
        liked = 0.35 if schedule.refused[row] or reason == "length" else 0.8
        return {
            "id": f"{self._seed}-{row}",
            "ts": int(schedule.ts[row]),
            "model": STREAM,
            "model_version": "2026-02",
            "prompt": prompt,
            "response": None if failed else response,
            "segment": segment,
            "session": None if segment == "email" else f"{self._seed}-{schedule.conversation[row]}",
            "latency_seconds": round((0.25 + 0.011 * tokens) * (0.7 + 0.6 * dice.roll()), 3),
            "prompt_tokens": prompt_tokens,
            "response_tokens": None if failed else tokens,
            "cost": round(prompt_tokens * 4e-7 + (0 if failed else tokens) * 1.6e-6, 8),
            "finish_reason": None if failed else reason,
            "status": "timeout" if failed else "ok",
            "feedback": (1 if dice.roll() < liked else -1) if dice.roll() < 0.15 else None,
        }


def _names(dice: _Dice) -> dict[str, str]:
    return {
        "order": str(100_000 + int(dice.roll() * 900_000)),
        "amount": f"{5 + dice.roll() * 200:.2f} euros",
        "days": str(2 + int(dice.roll() * 8)),
        "day": dice.pick(DAYS),
        "item": dice.pick(ITEMS),
    }


def _prompt(phrases: Phrases, turn: int, talkative: float, dice: _Dice) -> str:
    if turn:
        return " ".join([dice.pick(FOLLOW_UPS), *dice.some(phrases.details, int(talkative * 1.6 * dice.roll()))])
    details = dice.some(phrases.details, int(talkative * (0.3 + 2.4 * dice.roll())))
    question = dice.pick(phrases.questions)
    if dice.roll() < 0.5:
        return " ".join([dice.pick(GREETINGS), question, *details])
    return " ".join([question[0].upper() + question[1:], *details])


def _answer(phrases: Phrases, *, refused: bool, dice: _Dice) -> str:
    if refused:
        return " ".join([dice.pick(REFUSALS), dice.pick(AFTER_REFUSAL)])
    parts = dice.some(phrases.answers, 1 + int(4.2 * dice.roll() ** 1.5))
    opening = [dice.pick(OPENINGS)] if dice.roll() < 0.6 else []
    closing = [dice.pick(CLOSINGS)] if dice.roll() < 0.4 else []
    return " ".join([*opening, *parts, *closing])


def _cut(answer: str, cap: int) -> tuple[str, int, str]:
    """An answer within `cap` tokens, how many it has, and why it ends."""
    words = answer.split(" ")
    tokens = round(len(words) * _TOKENS_PER_WORD)
    if tokens <= cap:
        return answer, tokens, "stop"
    return " ".join(words[: int(cap / _TOKENS_PER_WORD)]), cap, "length"
