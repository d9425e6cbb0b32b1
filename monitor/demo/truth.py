"""When the made-up support bot runs, and which changes are planted in its log. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.settings import HOUR, MINUTE, parse_time

STREAM = "support-bot"
SEGMENTS = {"web": 0.48, "voice": 0.30, "email": 0.22}
"""Where customers write -> share of the conversations. E-mails are single messages without a session."""
START = parse_time("2026-03-02T08:00:00Z")
LEARNING = 3 * HOUR
"""What driftd learns from: nothing changes in it."""
LENGTH = 314 * MINUTE
END = START + LENGTH


@dataclass(frozen=True, slots=True)
class Planted:
    """A change, and what it is fair to see of it."""

    name: str
    description: str
    begins: int
    ends: int
    segment: str | None
    """`label=value` of the segment that it is in; None for the whole stream."""
    shown_by: tuple[str, ...]
    """Signals that say what changed: one of them must be found for the change to count as found."""
    moves: tuple[str, ...]
    """Further signals that change with it."""

    def explains(self, signal: str) -> bool:
        """Whether this change moves a signal."""
        return signal in self.shown_by or signal in self.moves


# What follows from a change is named signal by signal: a glob would explain away what nobody planted.
_LENGTH_OF_PROMPTS = ("prompt_chars", "prompt_words", "prompt_tokens")
_LENGTH_OF_ANSWERS = ("response_chars", "response_words", "response_tokens", "latency_seconds", "cost")
_LETTERS_OF_PROMPTS = ("prompt_letters_ratio", "prompt_digits_ratio")
_WORDS_OF_ANSWERS = (
    "response_letters_ratio",
    "response_digits_ratio",
    "response_repetition",
    "response_embedding",
    "relevance",
)
REFUSING = Planted(
    "refusals",
    "2 % -> 8 % of the answers in voice are refusals",
    START + 185 * MINUTE,
    START + 210 * MINUTE,
    "segment=voice",
    ("response_refusal",),
    (*_LENGTH_OF_ANSWERS, *_WORDS_OF_ANSWERS, "feedback"),
)
INSULTING = Planted(
    "toxicity",
    "1 % -> 7 % of the answers in web insult the customer",
    START + 210 * MINUTE,
    START + 235 * MINUTE,
    "segment=web",
    ("response_toxic", "response_toxicity"),
    (*_LENGTH_OF_ANSWERS, *_WORDS_OF_ANSWERS, "feedback"),
)
GERMAN = Planted(
    "language",
    "two of five conversations are in German, answered in English",
    START + 215 * MINUTE,
    START + 238 * MINUTE,
    None,
    ("prompt_language",),
    ("prompt_embedding", *_LENGTH_OF_PROMPTS, *_LETTERS_OF_PROMPTS, "relevance", "cost"),
)
SHIFT = Planted(
    "topic shift",
    "every second conversation is about a broken device",
    START + 284 * MINUTE,
    END,
    None,
    ("prompt_embedding", *_LENGTH_OF_PROMPTS),
    (*_LETTERS_OF_PROMPTS, *_LENGTH_OF_ANSWERS, *_WORDS_OF_ANSWERS),
)
CUT = Planted(
    "truncation",
    "answers are cut off at 60 tokens instead of 100",
    START + 302 * MINUTE,
    END,
    None,
    ("response_truncated", "finish_reason"),
    (*_LENGTH_OF_ANSWERS, *_WORDS_OF_ANSWERS, "feedback"),
)
TRUTH = (REFUSING, INSULTING, GERMAN, SHIFT, CUT)
