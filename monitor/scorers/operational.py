"""What the serving stack and the users say of a record: times, tokens, cost, status, feedback, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor.model import Categories, Column, Floats, Records, Scores, Signal
from monitor.scorers.columns import categories, exchanges, numbers

_AMOUNTS = ("latency_seconds", "time_to_first_token_seconds", "prompt_tokens", "response_tokens", "cost")
_CATEGORIES = ("status", "finish_reason", "model_version")
SIGNALS = (
    *(Signal(name, "numeric") for name in _AMOUNTS),
    Signal("error", "rate"),
    Signal("feedback", "rate"),
    *(Signal(f"{name}_missing", "rate") for name in (*_AMOUNTS, *_CATEGORIES, "feedback")),
    *(Signal(name, "category") for name in _CATEGORIES),
)
_FINE = frozenset({"ok", "success", "succeeded", "completed"})


class Operational:
    """Amounts as logged, `error` (a status that is not fine), `feedback` (share positive), absence, categories.

    Feedback of 0 is there but neither positive nor negative. A feedback event has an observation of `feedback` only.
    """

    @property
    def signals(self) -> Sequence[Signal]:
        return SIGNALS

    def score(self, records: Records) -> Scores:
        """A column for every signal, one entry a record."""
        exchange = exchanges(records)
        amounts = {name: numbers(records.columns[name]) for name in _AMOUNTS}
        named = {name: categories(records.columns[name]) for name in _CATEGORIES}
        score = numbers(records.columns["feedback"])
        absent = {name: np.isnan(values) for name, values in amounts.items()}
        absent |= {name: column.codes < 0 for name, column in named.items()}
        absent["feedback"] = np.isnan(score)
        found: dict[str, Floats] = {**amounts, "error": _errors(named["status"])}
        found |= {f"{name}_missing": flags.astype(np.float64) for name, flags in absent.items()}
        columns: dict[str, Column] = {name: np.where(exchange, values, np.nan) for name, values in found.items()}
        columns["feedback"] = np.where(score > 0, 1.0, np.where(score < 0, 0.0, np.nan))
        for name, column in named.items():
            columns[name] = Categories(column.names, np.where(exchange, column.codes, np.int32(-1)))
        return Scores({signal.name: columns[signal.name] for signal in SIGNALS})


def _errors(status: Categories) -> Floats:
    """1.0 where the status is not fine, NaN where there is none.

    >>> _errors(Categories(["OK", "204", "timeout", "500"], np.array([0, 1, 2, 3, -1], np.int32))).tolist()
    [0.0, 0.0, 1.0, 1.0, nan]
    """
    by_code = [0.0 if _is_fine(name.strip().lower()) else 1.0 for name in status.names]
    return np.array([*by_code, np.nan])[status.codes]  # code -1 is the last


def _is_fine(status: str) -> bool:
    return status in _FINE or (len(status) == 3 and status[0] == "2" and status.isdecimal())
