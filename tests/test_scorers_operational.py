from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from monitor.decoding import Native
from monitor.model import Categories, Column, Position, Raw
from monitor.scorers.operational import Operational


def score(*rows: dict[str, Any]) -> dict[str, Column]:
    payloads = [msgspec.json.encode({"ts": 0, **row}) for row in rows]
    records, rejects = Native().decode(Raw("p", payloads, list(range(len(rows))), [], Position(0)))
    assert not rejects
    return dict(Operational().score(records).columns)


def values(column: Column) -> list[Any]:
    if isinstance(column, Categories):
        return [None if code < 0 else column.names[code] for code in column.codes]
    return list(column)


@pytest.mark.parametrize(
    "name", ["latency_seconds", "time_to_first_token_seconds", "prompt_tokens", "response_tokens", "cost"]
)
def test_amounts_are_as_logged(name: str) -> None:
    columns = score({name: 1.5}, {name: 0}, {name: None}, {})
    assert values(columns[name]) == pytest.approx([1.5, 0, math.nan, math.nan], nan_ok=True)
    assert values(columns[f"{name}_missing"]) == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((fine, 0.0) for fine in ("ok", "OK", "Success", "succeeded", "completed", 200, "204", 299)),
        *((failed, 1.0) for failed in (199, 300, 429, "500", "20", "2000", "timeout", "not ok")),
        *((absent, math.nan) for absent in (None, "")),
    ],
)
def test_error_is_a_status_that_is_not_fine(status: str | int | None, error: float) -> None:
    columns = score({"status": status})
    assert values(columns["error"]) == pytest.approx([error], nan_ok=True)
    assert values(columns["status_missing"]) == [float(math.isnan(error))]


def test_feedback_is_positive_negative_or_neither() -> None:
    rows: list[dict[str, Any]] = [
        {"feedback": 1},
        {"feedback": 0.1},
        {"feedback": -1},
        {"feedback": 0},
        {},
        {"feedback": {"label": "thumbs_down"}},
    ]
    columns = score(*rows)
    assert values(columns["feedback"]) == pytest.approx([1, 1, 0, math.nan, math.nan, 0], nan_ok=True)
    assert values(columns["feedback_missing"]) == [0, 0, 0, 0, 1, 0]


def test_categories_keep_their_names() -> None:
    columns = score(
        {"status": 200, "finish_reason": "stop", "model_version": 2}, {"finish_reason": "length"}, {"status": 500}
    )
    assert values(columns["status"]) == ["200", None, "500"]
    assert values(columns["finish_reason"]) == ["stop", "length", None]
    assert values(columns["model_version"]) == ["2", None, None]
    assert values(columns["finish_reason_missing"]) == [0.0, 0.0, 1.0]


def test_a_feedback_event_is_no_exchange_without_fields() -> None:
    columns = score(
        {"kind": "feedback", "of": "a", "feedback": 1, "status": "ok", "cost": 1}, {"status": "ok", "cost": 1}
    )
    assert values(columns["feedback"]) == pytest.approx([1, math.nan], nan_ok=True)
    assert values(columns["status"]) == [None, "ok"]
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and name != "feedback":
            assert np.isnan(column[0]), name
