"""Native records: what is accepted, what is refused and in which words, and what is counted."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from monitor.decoding import COLUMNS, FORMATS, Native, exchange_hash, native
from monitor.decoding.records import FIELDS
from monitor.decoding.times import parse_ts
from monitor.model import Position, Raw, Records, Reject


def raw(*payloads: bytes, lines: bool = True, **more: Any) -> Raw:
    offsets = np.cumsum([0, *(len(payload) + 1 for payload in payloads)]).tolist()
    numbers = list(range(1, len(payloads) + 1)) if lines else []
    return Raw("log.jsonl", list(payloads), offsets[:-1], numbers, Position(offsets[-1]), **more)


def encoded(**fields: Any) -> bytes:
    return msgspec.json.encode({"id": "a", "ts": 0, **fields})


def record(payload: bytes) -> dict[str, Any]:
    records, rejects = Native().decode(raw(payload))
    assert not rejects
    return {name: values[0] for name, values in records.columns.items()}


def refused(payload: bytes) -> Reject:
    records, rejects = Native().decode(raw(payload))
    assert len(records) == 0
    assert all(len(values) == 0 for values in records.columns.values())
    (reject,) = rejects
    return reject


# ---- what is accepted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_answers_with_all_columns_even_for_nothing(name: str) -> None:
    records, rejects = FORMATS[name]().decode(raw())
    assert tuple(records.columns) == COLUMNS
    assert (len(records), rejects) == (0, [])
    assert [records.ts.dtype.name, records.offsets.dtype.name] == ["int64"] * 2
    assert [records.id_hash.dtype.name, records.content_hash.dtype.name] == ["uint64"] * 2


def test_a_full_record() -> None:
    fields = {
        "id": "r-1",
        "kind": "exchange",
        "model": "m",
        "model_version": "v",
        "prompt_version": "p",
        "prompt": "Où ?\0",
        "response": "Là.",
        "contexts": ["one", "two"],
        "session": "s",
        "user": "u",
        "labels": {"tenant": "acme"},
        "latency_seconds": 1.5,
        "time_to_first_token_seconds": 0.5,
        "prompt_tokens": 3.0,
        "response_tokens": 2.0,
        "cost": 0.001,
        "finish_reason": "stop",
        "status": "ok",
        "feedback": 1.0,
        "of": None,
    }
    assert record(encoded(**fields)) == fields
    assert tuple(fields) == COLUMNS


def test_absent_and_null_are_the_same() -> None:
    nothing = record(b'{"id":"a","ts":0}')
    assert nothing == {**dict.fromkeys(COLUMNS), "id": "a", "kind": "exchange"}
    assert record(encoded(**dict.fromkeys(name for name in FIELDS if name not in {"id", "ts"}))) == nothing


@pytest.mark.parametrize("name", ["id", "model", "model_version", "prompt_version", "session", "user", "status", "of"])
@pytest.mark.parametrize(("value", "text"), [("x", "x"), (17, "17"), (17.0, "17"), (1.5, "1.5"), (2**70, str(2**70))])
def test_names_may_be_numbers(name: str, value: str | float, text: str) -> None:
    assert record(encoded(**{name: value}))[name] == text


@pytest.mark.parametrize(
    ("fields", "contexts"),
    [
        ({"context": "a"}, ["a"]),
        ({"context": ["a", "b"]}, ["a", "b"]),
        ({"contexts": "a"}, ["a"]),
        ({"contexts": []}, []),
        ({"context": "a", "contexts": ["b"]}, ["b"]),
        ({"context": None}, None),
        ({"context": ""}, [""]),
        ({"contexts": ""}, [""]),
        ({"context": []}, []),
    ],
)
def test_contexts(fields: dict[str, Any], contexts: list[str] | None) -> None:
    assert record(encoded(**fields))["contexts"] == contexts


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({"segment": "eu"}, {"segment": "eu"}),
        ({"segment": 7}, {"segment": "7"}),
        ({"segment": None, "labels": {}}, None),
        ({"labels": {"a": True, "b": 1, "c": 1.0, "d": 0.5, "e": None}}, {"a": "true", "b": "1", "c": "1", "d": "0.5"}),
        ({"labels": {"segment": "us", "a": "b"}, "segment": "eu"}, {"segment": "eu", "a": "b"}),
    ],
)
def test_labels_and_segment(fields: dict[str, Any], labels: dict[str, str] | None) -> None:
    assert record(encoded(**fields))["labels"] == labels


@pytest.mark.parametrize(
    ("feedback", "score"),
    [
        (1, 1.0),
        (-0.5, -0.5),
        ({"score": 0.25, "label": "down"}, 0.25),
        ({"label": " Thumbs_Up "}, 1.0),
        ({"label": "negative", "comment": "no"}, -1.0),
        ({"label": "neutral"}, 0.0),
        ({"comment": "only words"}, None),
        ({}, None),
    ],
)
def test_feedback(feedback: Any, score: float | None) -> None:
    assert record(encoded(feedback=feedback))["feedback"] == score


def test_a_label_that_says_nothing_is_counted() -> None:
    decoder = Native()
    records, _ = decoder.decode(raw(encoded(feedback=1), encoded(kind="feedback", feedback={"label": "five stars"})))
    assert records.columns["feedback"] == [1.0, None]
    assert decoder.unknown_fields == {"feedback.label": (1, "log.jsonl:line 2")}


@pytest.mark.parametrize(
    ("ts", "milliseconds"),
    [
        ("2025-01-06T00:00:00.445Z", 1736121600445),
        ("2025-01-06T00:00:00.445", 1736121600445),
        ("2025-01-06 02:00:00.445+02:00", 1736121600445),
        ("2025-01-06T00:00:00.445999999Z", 1736121600445),
        ("2025-01-06", 1736121600000),
        ("20250106T000000Z", 1736121600000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01T00:00:00Z", -62135596800000),
        ("9999-12-31T23:59:59.999Z", 253402300799999),
        (0, 0),
        (1736121600, 1736121600000),
        (1736121600.445, 1736121600445),
        (1736121600445, 1736121600445),
        (1736121600445.9, 1736121600445),
        (1736121600445999, 1736121600445),
        (1736121600445999999, 1736121600445),
        (9_999_999_999, 9_999_999_999_000),
        (10_000_000_000, 10_000_000_000),
        ("1736121600", 1736121600000),
        ("1736121600.445", 1736121600445),
        ("1736121600445", 1736121600445),
        ("1.7361216e9", 1736121600000),
        ("20250106", 20250106000),
    ],
)
def test_times(ts: str | float, milliseconds: int) -> None:
    assert parse_ts(ts) == milliseconds
    records, _ = Native().decode(raw(encoded(ts=ts)))
    assert records.ts.tolist() == [milliseconds]


@given(st.integers(10_000_000_000, 9_999_999_999_999))
def test_a_time_is_the_same_in_every_unit(milliseconds: int) -> None:
    forms: list[str | float] = [
        milliseconds,
        milliseconds / 1000,
        milliseconds * 1000,
        milliseconds * 10**6,
        f"{milliseconds}000",
    ]
    forms.append(f"{milliseconds // 1000}.{milliseconds % 1000:03d}")
    assert {parse_ts(form) for form in forms} == {milliseconds}


def test_a_record_without_an_id_is_named_after_its_place() -> None:
    decoder = Native()
    records, _ = decoder.decode(raw(b'{"ts":1}', b'{"ts":1,"id":""}', b'{"ts":1,"id":"x"}', b'{"ts":1,"id":null}'))
    assert list(records.columns["id"]) == ["log.jsonl:0", "log.jsonl:9", "x", "log.jsonl:44"]
    assert len(set(records.id_hash.tolist())) == 4
    assert decoder.generated_ids == 3


def test_hashes_tell_kinds_ids_and_contents_apart() -> None:
    exchange, feedback = encoded(id="x"), encoded(id="x", kind="feedback", feedback=1, of="x")
    records, _ = Native().decode(raw(exchange, feedback, exchange, encoded(id="x", prompt="other")))
    ids, contents = records.id_hash.tolist(), records.content_hash.tolist()
    assert ids[0] == ids[2] == ids[3] == exchange_hash("x") != ids[1]
    assert ids[1] == xxhash.xxh3_64_intdigest(b"feedback\0x")
    assert contents[0] == contents[2] == xxhash.xxh3_64_intdigest(exchange)
    assert len(set(contents)) == 3
    assert exchange_hash(records.columns["of"][1]) == ids[0]


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        (b"", "the message is empty"),
        (b" \r", "the message is empty"),
        (b"{", "Expecting property name enclosed in double quotes at column 2"),
        (b'{"ts":1,\n"id":}', "Expecting value at line 2, column 6"),
        (b'{"ts":1} {"ts":2}', "Extra data at column 10"),
        (b'{"ts":1,"prompt":"a\tb"}', "Invalid control character at column 20"),
        (b'{"ts":1,"prompt":"a\0b"}', "a NUL byte at byte 19"),
        (b"\0\0\0", "a NUL byte at byte 0"),
        (b'{"ts":1,"prompt":"a\xffb"}', "not UTF-8 at byte 19: invalid start byte"),
        (b'{"ts":1,"prompt":"\xed\xa0\x80"}', "not UTF-8 at byte 18: invalid continuation byte"),
        (b'{"ts":1,"prompt":"\\\\ud83d \\ud83d x"}', "half of a surrogate pair is escaped at byte 26"),
        (b'{"ts":1,"prompt":"\\ud83d\\ude00 \\ude00"}', "half of a surrogate pair is escaped at byte 31"),
        ('{"ts":1}'.encode("utf-16"), "the message is UTF-16, where UTF-8 is expected"),
        (b'{"ts":1,"cost":NaN}', "NaN is not a number of JSON"),
        (b"[1]", "Expected `object`, got `array`"),
        (b'"secret"', "Expected `object`, got `str`"),
        (b"null", "Expected `object`, got `null`"),
        (b'{"ts":1,"zz":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_unparseable(payload: bytes, detail: str) -> None:
    reject = refused(payload)
    assert (reject.reason, reject.detail) == ("unparseable", detail)


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        (b'{"id":1}', "no_ts", "$.ts: no time"),
        (encoded(latency_seconds=-1), "bad_field", "$.latency_seconds: Expected `float` >= 0.0"),
        (encoded(cost="secret"), "bad_field", "$.cost: Expected `float | null`, got `str`"),
        (b'{"ts":1,"cost":1e999}', "bad_field", "$.cost: Number out of range"),
        (encoded(prompt=["secret"]), "bad_field", "$.prompt: Expected `str | null`, got `array`"),
        (encoded(contexts=["a", 1]), "bad_field", "$.contexts[1]: Expected `str`, got `int`"),
        (encoded(kind="secret"), "bad_field", "$.kind: not one of the values that it may have"),
        (encoded(id=True), "bad_field", "$.id: Expected `int | float | str | null`, got `bool`"),
        (encoded(feedback=2), "bad_field", "$.feedback: Expected `float` <= 1.0"),
        (encoded(feedback={"score": -2}), "bad_field", "$.feedback.score: Expected `float` >= -1.0"),
        (encoded(kind="feedback"), "bad_field", "$.feedback: a feedback event without feedback"),
        (encoded(kind="feedback", feedback={}), "bad_field", "$.feedback: a feedback event without feedback"),
        (encoded(zz=1, cost="secret"), "bad_field", "$.cost: Expected `float | null`, got `str`"),
        (encoded(ts=True), "bad_ts", "$.ts: Expected `int | float | str | null`, got `bool`"),
    ],
)
def test_refused_with_the_path_of_what_is_wrong(payload: bytes, reason: str, detail: str) -> None:
    reject = refused(payload)
    assert (reject.reason, reject.detail) == (reason, detail)


@pytest.mark.parametrize(
    "ts",
    [
        *(-1, -0.5, 1e19, 2**70, "-5", "nan", "inf", "1e400", "9" * 5000),
        *("", "yesterday", "secret", "2025-13-01", "2025-01-06T25:00:00Z", "10000-01-01T00:00:00Z"),
        *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"),
    ],
)
def test_no_time(ts: str | float) -> None:
    assert parse_ts(ts) is None
    reject = refused(encoded(ts=ts))
    assert reject.reason == "bad_ts"
    assert "secret" not in reject.detail


def test_a_reject_says_where_and_what_but_not_its_text() -> None:
    bad = b'{"ts": 1, "kind": "secret"}'
    good = encoded()
    _, rejects = Native().decode(raw(good, bad, good))
    expected = Reject(
        reason="bad_field",
        source="log.jsonl",
        position=len(good) + 1,
        size=len(bad),
        sha256=hashlib.sha256(bad).hexdigest(),
        line=2,
        detail="$.kind: not one of the values that it may have",
        excerpt=None,
    )
    assert rejects == [expected]
    _, (reject,) = Native().decode(raw(good, bad, lines=False))
    assert reject.line is None


def test_what_is_kept_keeps_its_place_and_append_time() -> None:
    batch = raw(encoded(id=1), b"{", encoded(id=3), b'{"id":4}', encoded(id=5), append=np.array([10, 20, 30, 40, 50]))
    records, rejects = Native().decode(batch)
    assert list(records.columns["id"]) == ["1", "3", "5"]
    assert records.offsets.tolist() == [batch.offsets[at] for at in (0, 2, 4)]
    assert records.append is not None
    assert records.append.tolist() == [10, 30, 50]
    assert [reject.position for reject in rejects] == [batch.offsets[at] for at in (1, 3)]


# ---- what is counted ------------------------------------------------------------------------------------------------


def test_unknown_fields_are_counted_by_name() -> None:
    decoder = Native()
    records, rejects = decoder.decode(raw(encoded(), encoded(promt="x", zz=1), encoded(zz={"prompt": 2})))
    assert (len(records), rejects) == (3, [])
    assert decoder.unknown_fields == {"promt": (1, "log.jsonl:line 2"), "zz": (2, "log.jsonl:line 2")}
    decoder.decode(raw(encoded(yy=1), lines=False))
    assert decoder.unknown_fields["yy"] == (1, "log.jsonl:offset 0")


def test_names_of_unknown_fields_are_bounded() -> None:
    decoder = Native()
    decoder.decode(raw(*(encoded(**{f"{field:03}" + "x" * 1000: 1}) for field in range(150))))
    assert len(decoder.unknown_fields) == native.MAX_UNKNOWN + 1
    assert max(map(len, decoder.unknown_fields)) == native.MAX_NAME
    assert decoder.unknown_fields["other"] == (50, "log.jsonl:line 101")


def test_looking_for_unknown_fields_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "LENIENT_AFTER", 3)
    decoder = Native()
    records, _ = decoder.decode(raw(*[encoded(zz=1)] * 5))
    assert len(records) == 5
    assert decoder.unknown_fields == {"zz": (3, "log.jsonl:line 1")}


# ---- the same answer whatever came before ---------------------------------------------------------------------------

_VALUE = st.sampled_from(
    [
        *(None, "", "x", "\0", "é", "\ud800", 0, 1, -1, 0.5, 1e300, True, [], ["a"], [1], {}, {"a": "b"}),
        *({"score": 1}, {"label": "up"}, "feedback", "2025-01-06T00:00:00Z", "17e8", 1736121600),
    ]
)
_FIELD = st.sampled_from([*FIELDS, "zz", "yy"])
_MESSAGE = st.one_of(
    st.dictionaries(_FIELD, _VALUE, max_size=5).map(lambda fields: json.dumps({"ts": 1, **fields}).encode()),
    st.dictionaries(_FIELD, _VALUE, max_size=5).map(lambda fields: json.dumps(fields).encode()),
    st.binary(max_size=20),
    st.sampled_from(
        [b'{"ts":1,"\xff":1}', b'{"ts":1,"zz":"\xff"}', b'{"ts":1,"zz":NaN}', b'{"ts":1,"zz":1e999}', b"[]"]
    ),
)


def contents(records: Records) -> list[Any]:
    arrays = (records.offsets, records.id_hash, records.content_hash, records.ts)
    return [*(array.tolist() for array in arrays), *(list(values) for values in records.columns.values())]


@given(st.lists(_MESSAGE, max_size=8))
def test_a_message_is_answered_the_same_whatever_was_decoded_before_it(payloads: list[bytes]) -> None:
    batch = raw(*payloads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "LENIENT_AFTER", 1)
        used = Native()
        used.decode(raw(encoded(zz=1)))
        for decoder in (Native(), used):
            whole, rejects = decoder.decode(batch)
            singles = [
                Native().decode(Raw("log.jsonl", [payload], [offset], [line], Position(0)))
                for payload, offset, line in zip(batch.payloads, batch.offsets, batch.lines, strict=True)
            ]
            assert rejects == [reject for _, single in singles for reject in single]
            one_by_one = zip(*(contents(records) for records, _ in singles), strict=True)
            assert (
                contents(whole) == [[value for part in parts for value in part] for parts in one_by_one] or not singles
            )
            assert len(whole) + len(rejects) == len(payloads)
