"""Laws of every row of SCORERS, and scorers that break them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.contracts import Scorer
from monitor.decoding import Native
from monitor.model import Categories, Column, Position, Raw, Records, Scores, Signal
from monitor.scorers import SCORERS

Row = dict[str, Any]

_ODD = [
    *("", " ", "\0", "a\0b", "\x1c", "\x85", "\u00a0", "\u2028", "\u3000x\u3000", "\u200b", "\ufeff", "\ufffd"),
    *(
        "é",
        "e\u0301",
        "ß",
        "中文 测试。",
        "١٢٣",
        "𝟘𝟙",
        "𐐀",
        "नमस्ते",
        "ไทย",
        "👩\u200d👩\u200d👧",
        "\U0010ffff",
        "”",
        "I’m sorry",
    ),
]
# not st.text(): its first use takes seconds
_CHARACTER = st.integers(0, 0x24F).map(chr) | st.integers(0, 0x10F7FF).map(
    lambda c: chr(c if c < 0xD800 else c + 0x800)
)
_RANDOM = st.lists(_CHARACTER, max_size=12).map("".join)
_TEXT = st.none() | st.lists(st.sampled_from(_ODD) | _RANDOM, max_size=12).map(" ".join)
_AMOUNT = st.none() | st.floats(0, 1e12) | st.integers(0, 10**12)
_WORD = (
    st.none() | st.sampled_from(["", "ok", "OK", "stop", "length", "v1", "other", "é", "\0"]) | st.integers(100, 599)
)
_EXCHANGE = st.fixed_dictionaries(
    {"ts": st.just(0)},
    optional={
        "prompt": _TEXT,
        "response": _TEXT,
        "status": _WORD,
        "finish_reason": st.none() | st.sampled_from(["stop", "length", "MAX_TOKENS", "who knows", ""]),
        "model_version": _WORD,
        "feedback": st.none() | st.floats(-1, 1),
        "latency_seconds": _AMOUNT,
        "time_to_first_token_seconds": _AMOUNT,
        "prompt_tokens": _AMOUNT,
        "response_tokens": _AMOUNT,
        "cost": _AMOUNT,
    },
)
_FEEDBACK = st.fixed_dictionaries(
    {"ts": st.just(0), "kind": st.just("feedback"), "feedback": st.floats(-1, 1)},
    optional={"prompt": _TEXT, "response": _TEXT, "status": _WORD, "cost": _AMOUNT},
)
_ROWS = st.lists(_EXCHANGE | _FEEDBACK, max_size=12)


def decoded(rows: Sequence[Row]) -> Records:
    payloads = [msgspec.json.encode(row) for row in rows]
    records, rejects = Native().decode(Raw("p", payloads, list(range(len(rows))), [], Position(0)))
    assert not rejects
    return records


def named(column: Column) -> list[Any]:
    """Values that can be compared whatever the codes are: names, or floats with one NaN."""
    if isinstance(column, Categories):
        return [None if code < 0 else column.names[code] for code in column.codes.tolist()]
    return ["nan" if np.isnan(value) else value for value in column.tolist()]


# ---- the laws -------------------------------------------------------------------------------------------------------


def law_declared_columns(scorer: Scorer, rows: Sequence[Row]) -> None:
    """Every declared signal has its column, in the order declared, of its kind, with one entry a record."""
    columns = scorer.score(decoded(rows)).columns
    assert list(columns) == [signal.name for signal in scorer.signals]
    assert len(set(columns)) == len(columns)
    for signal in scorer.signals:
        column = columns[signal.name]
        if signal.kind == "category":
            assert isinstance(column, Categories)
            assert column.codes.dtype == np.int32
            assert column.codes.shape == (len(rows),)
            assert len(set(column.names)) == len(column.names)
            assert all(map(str, column.names))
            assert all(-1 <= code < len(column.names) for code in column.codes)
        else:
            assert isinstance(column, np.ndarray)
            assert column.dtype == np.float64
            assert column.shape == (len(rows),)


def law_batch_equals_singles(scorer: Scorer, rows: Sequence[Row]) -> None:
    """A batch scores as its records do one by one, bit for bit."""
    whole = scorer.score(decoded(rows)).columns
    singles = [scorer.score(decoded([row])).columns for row in rows]
    for signal in scorer.signals:
        assert named(whole[signal.name]) == [value for one in singles for value in named(one[signal.name])], signal


def law_values_in_range(scorer: Scorer, rows: Sequence[Row]) -> None:
    """Rates are 0 or 1, unit scores from 0 to 1, log amounts finite and not negative; or NaN."""
    columns = scorer.score(decoded(rows)).columns
    for signal in scorer.signals:
        column = columns[signal.name]
        if isinstance(column, Categories):
            continue
        seen = column[~np.isnan(column)]
        if signal.kind == "rate":
            assert np.isin(seen, [0.0, 1.0]).all(), signal
        else:
            assert (seen >= 0).all(), signal
            assert np.isfinite(seen).all(), signal
            assert signal.scale == "log" or (seen <= 1).all(), signal


def law_nothing_from_nothing(scorer: Scorer, rows: Sequence[Row]) -> None:
    """A record without any field has no observation but of what is missing."""
    columns = scorer.score(decoded([{"ts": 0} for _ in rows])).columns
    for signal in scorer.signals:
        expected = 1.0 if signal.name.endswith("_missing") else None if signal.kind == "category" else "nan"
        assert named(columns[signal.name]) == [expected] * len(rows), signal


def law_feedback_counts_for_feedback(scorer: Scorer, rows: Sequence[Row]) -> None:
    """A feedback event has no observation but of `feedback`."""
    events = [row | {"kind": "feedback", "feedback": row.get("feedback") or 0.5} for row in rows]
    columns = scorer.score(decoded(events)).columns
    for signal in scorer.signals:
        if signal.name != "feedback":
            assert set(named(columns[signal.name])) <= {"nan", None}, signal


Law = Callable[[Scorer, Sequence[Row]], None]
LAWS: list[Law] = [
    law_declared_columns,
    law_batch_equals_singles,
    law_values_in_range,
    law_nothing_from_nothing,
    law_feedback_counts_for_feedback,
]


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("law", LAWS)
@given(rows=_ROWS)
def test_law_holds(law: Law, name: str, rows: list[Row]) -> None:
    law(SCORERS[name].make(), rows)


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("law", LAWS)
def test_law_holds_for_an_empty_batch(law: Law, name: str) -> None:
    law(SCORERS[name].make(), [])


def test_signal_names_are_unique_over_all_scorers() -> None:
    names = [signal.name for kind in SCORERS.values() for signal in kind.make().signals]
    assert len(set(names)) == len(names)


def test_scoring_imports_neither_torch_nor_pandas() -> None:
    script = """
import sys
from monitor.decoding import Native
from monitor.model import Position, Raw
from monitor.scorers import SCORERS
payloads = [b'{"ts": 0, "prompt": "a b", "response": "I cannot help you with this one thing, sadly. It is", "cost": 1}']
records, _ = Native().decode(Raw("p", payloads, [0], [], Position(1)))
for kind in SCORERS.values():
    kind.make().score(records)
heavy = {"torch", "pandas", "scipy", "evidently"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# ---- laws that have been seen failing -------------------------------------------------------------------------------


class Planted:
    """A scorer with a bug in one of its columns."""

    def __init__(self, scorer: Scorer, spoil: Callable[[dict[str, Column], Records], Mapping[str, Column]]) -> None:
        self.scorer, self.spoil = scorer, spoil

    @property
    def signals(self) -> Sequence[Signal]:
        return self.scorer.signals

    def score(self, records: Records) -> Scores:
        columns = dict(self.scorer.score(records).columns)
        return Scores({**columns, **self.spoil(columns, records)} if len(records) else columns)


def _centred(columns: dict[str, Column], _: Records) -> Mapping[str, Column]:
    chars = columns["prompt_chars"]
    assert isinstance(chars, np.ndarray)
    return {"prompt_chars": chars - np.nanmean(chars)}


def _shifted_codes(columns: dict[str, Column], records: Records) -> Mapping[str, Column]:
    status = columns["status"]
    assert isinstance(status, Categories)
    return {"status": replace(status, codes=np.roll(status.codes, len(records) // 2))}


def _zero_for_absent(columns: dict[str, Column], _: Records) -> Mapping[str, Column]:
    return {"error": np.nan_to_num(np.asarray(columns["error"]))}


def _negative(columns: dict[str, Column], _: Records) -> Mapping[str, Column]:
    return {"prompt_letters_ratio": -np.asarray(columns["prompt_letters_ratio"])}


def _half_true(columns: dict[str, Column], _: Records) -> Mapping[str, Column]:
    return {"response_empty": np.asarray(columns["response_empty"]) + 0.5}


def _single_precision(columns: dict[str, Column], _: Records) -> Mapping[str, Column]:
    return {"cost": np.asarray(columns["cost"]).astype(np.float32)}


def _undeclared(_: dict[str, Column], records: Records) -> Mapping[str, Column]:
    return {"surprise": np.zeros(len(records))}


@pytest.mark.parametrize(
    ("law", "name", "spoil"),
    [
        (law_batch_equals_singles, "text", _centred),
        (law_batch_equals_singles, "operational", _shifted_codes),
        (law_nothing_from_nothing, "operational", _zero_for_absent),
        (law_feedback_counts_for_feedback, "operational", _zero_for_absent),
        (law_values_in_range, "text", _negative),
        (law_values_in_range, "text", _half_true),
        (law_declared_columns, "operational", _single_precision),
        (law_declared_columns, "text", _undeclared),
    ],
)
def test_law_fails_for_a_planted_bug(
    law: Law, name: str, spoil: Callable[[dict[str, Column], Records], Mapping[str, Column]]
) -> None:
    rows = [
        {"ts": 0, "prompt": "a", "response": "", "status": "ok", "cost": 0.1},
        {"ts": 0, "prompt": "three words here", "response": "b", "status": "bad", "cost": 0.2},
    ]
    law(SCORERS[name].make(), rows)
    with pytest.raises(AssertionError):
        law(Planted(SCORERS[name].make(), spoil), rows)
