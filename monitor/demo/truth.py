"""When the made-up support bot runs, and which changes are planted in its log. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from monitor.settings import HOUR, MINUTE, parse_time

STREAM = "support-bot"
SEGMENTS = {"web": 0.48, "voice": 0.30, "email": 0.22}
"""Where customers write -> share of the conversations. E-mails are single messages without a session."""
START = parse_time("2026-03-02T08:00:00Z")
LEARNING = 3 * HOUR
"""What driftd learns from: nothing changes in it."""
LENGTH = 385 * MINUTE
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
    """Globs of the signals that say what changed: one of them must be found for the change to count as found."""
    moves: tuple[str, ...]
    """Globs of further signals that change with it."""

    def is_shown_by(self, signal: str) -> bool:
        """Whether a signal says what changed."""
        return any(fnmatchcase(signal, glob) for glob in self.shown_by)

    def explains(self, signal: str) -> bool:
        """Whether this change moves a signal."""
        return self.is_shown_by(signal) or any(fnmatchcase(signal, glob) for glob in self.moves)


_OF_ANSWERS = ("response_*", "latency_seconds", "cost", "feedback")
"""What changes wherever answers become longer, shorter or worse."""
REFUSING = Planted(
    "refusals",
    "2 % -> 8 % of the answers in voice are refusals",
    START + 190 * MINUTE,
    START + 230 * MINUTE,
    "segment=voice",
    ("response_refusal",),
    _OF_ANSWERS,
)
SHIFT = Planted(
    "topic shift",
    "every fourth conversation is about a broken device",
    START + 330 * MINUTE,
    END,
    None,
    ("prompt_chars", "prompt_words", "prompt_tokens"),
    ("prompt_*", *_OF_ANSWERS),
)
CUT = Planted(
    "truncation",
    "answers are cut off at 90 tokens instead of 130",
    START + 360 * MINUTE,
    END,
    None,
    ("response_truncated", "finish_reason"),
    _OF_ANSWERS,
)
TRUTH = (REFUSING, SHIFT, CUT)
