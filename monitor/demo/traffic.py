"""The log of a made-up support bot in which changes are planted at known times.

A schedule of all records (who wrote when, about what, how the answer ended) is drawn at once; their text is written in
blocks as they are read, each block from its own random numbers. So one seed gives one log, read in whatever steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.demo.german import GERMAN as IN_GERMAN
from monitor.demo.phrases import (
    AFTER_INSULT,
    AFTER_REFUSAL,
    ANSWERS,
    CLOSINGS,
    ENGLISH,
    INSULTS,
    OPENINGS,
    REFUSALS,
    Language,
)
from monitor.demo.truth import CUT, END, GERMAN, INSULTING, REFUSING, SEGMENTS, SHIFT, START, STREAM, TRUTH, Planted
from monitor.model import Flags, Floats, Ints, Position, Raw
from monitor.settings import HOUR, MINUTE

BLOCK = 1024
"""Records whose text is written together."""


# ---- the schedule ---------------------------------------------------------------------------------------------------

_CONVERSATIONS_PER_SECOND = 1.4
_SWING = 0.25
"""Traffic rises and falls by this part within a day."""
_TURNS = 0.6
"""A conversation ends after a turn with this probability."""
_MOST_TURNS = 8
_TOPIC_SHARES = {"billing": 0.28, "delivery": 0.30, "returns": 0.18, "password": 0.14, "account": 0.10}
_SHIFTED = 0.5
_IN_GERMAN = 0.4
_REFUSED = (0.02, 0.08)
_INSULTED = (0.01, 0.07)
"""Usually, and while more are."""
_CAP, _CAP_LESS = 100, 60
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
    german: Flags
    refused: Flags
    insulting: Flags
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
    topic = np.where(shifted, list(ANSWERS).index("technical"), topic)
    talkative = random.lognormal(0.0, 0.25, len(begin))
    where = segment[conversation]
    refused = _drawn(random, _REFUSED, _during(REFUSING, ts, changes) & (where == _code("voice")))
    insulting = _drawn(random, _INSULTED, _during(INSULTING, ts, changes) & (where == _code("web"))) & ~refused
    german = _during(GERMAN, begin, changes) & (random.random(len(begin)) < _IN_GERMAN)
    cap = np.where(_during(CUT, ts, changes), _CAP_LESS, _CAP)
    of_conversations = [column[conversation] for column in (topic, talkative, german)]
    columns: list[NDArray[Any]] = [ts, conversation, turn, where, *of_conversations, refused, insulting, cap]
    kept = np.flatnonzero((ts >= START) & (ts < END))
    rows = kept[np.argsort(ts[kept], kind="stable")]
    return Schedule(*(column[rows] for column in columns))


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


def _drawn(random: np.random.Generator, rates: tuple[float, float], more: Flags) -> Flags:
    """Which records something happens in, at the first rate, and at the second where `more` is."""
    usual, then = rates
    return random.random(len(more)) < np.where(more, then, usual)


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
        topic = list(ANSWERS)[schedule.topic[row]]
        language = IN_GERMAN if schedule.german[row] else ENGLISH
        things = _Things.drawn(dice)
        prompt = _prompt(language, topic, int(schedule.turn[row]), float(schedule.talkative[row]), dice)
        prompt = prompt.format_map(things.named(language))
        answer = _answer(schedule, row, dice).format_map(things.named(ENGLISH))
        failed = dice.roll() < 0.004
        response, tokens, reason = _cut(answer, int(schedule.cap[row]))
        prompt_tokens = 160 + round(prompt.count(" ") * _TOKENS_PER_WORD)
        bad = schedule.refused[row] or schedule.insulting[row] or reason == "length"
        liked = 0.35 if bad else 0.8
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


class _Things(NamedTuple):
    """What an exchange is about."""

    order: int
    amount: float
    days: int
    day: float
    item: float

    @classmethod
    def drawn(cls, dice: _Dice) -> _Things:
        order, amount = 100_000 + int(dice.roll() * 900_000), 5 + dice.roll() * 200
        return cls(order, amount, 2 + int(dice.roll() * 8), dice.roll(), dice.roll())

    def named(self, language: Language) -> dict[str, str]:
        return {
            "order": str(self.order),
            "amount": f"{self.amount:.2f} {language.money}",
            "days": str(self.days),
            "day": language.days[int(self.day * len(language.days))],
            "item": language.items[int(self.item * len(language.items))],
        }


def _prompt(language: Language, topic: str, turn: int, talkative: float, dice: _Dice) -> str:
    asked = language.topics[topic]
    if turn:
        return " ".join([dice.pick(language.follow_ups), *dice.some(asked.details, int(talkative * 2.0 * dice.roll()))])
    details = dice.some(asked.details, int(talkative * (0.3 + 2.4 * dice.roll())))
    question = dice.pick(asked.questions)
    if dice.roll() < 0.5:
        return " ".join([dice.pick(language.greetings), question, *details])
    return " ".join([question[0].upper() + question[1:], *details])


def _answer(schedule: Schedule, row: int, dice: _Dice) -> str:
    if schedule.refused[row]:
        return " ".join([dice.pick(REFUSALS), dice.pick(AFTER_REFUSAL)])
    if schedule.insulting[row]:
        return " ".join([dice.pick(INSULTS), dice.pick(AFTER_INSULT)])
    answers = list(ANSWERS.values())[schedule.topic[row]]
    parts = dice.some(answers, 1 + int(3.2 * dice.roll() ** 4))
    opening = [dice.pick(OPENINGS)] if dice.roll() < 0.3 else []
    closing = [dice.pick(CLOSINGS)] if dice.roll() < 0.2 else []
    return " ".join([*opening, *parts, *closing])


def _cut(answer: str, cap: int) -> tuple[str, int, str]:
    """An answer within `cap` tokens, how many it has, and why it ends."""
    words = answer.split(" ")
    tokens = round(len(words) * _TOKENS_PER_WORD)
    if tokens <= cap:
        return answer, tokens, "stop"
    return " ".join(words[: int(cap / _TOKENS_PER_WORD)]), cap, "length"
