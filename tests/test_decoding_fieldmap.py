"""Field maps: paths, content of any shape, what is coerced and refused, and the maps that are shipped."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.app import replay
from monitor.config import ConfigError, load, parse
from monitor.decoding import COLUMNS, Decoder, FieldMap, Native, make_decoder
from monitor.decoding.content import text_of
from monitor.decoding.paths import parse_path
from monitor.decoding.records import FIELDS
from monitor.model import Position, Raw, Records, Reject

ROOT = Path(__file__).parent.parent
FORMATS = ROOT / "config" / "formats"
CANARY = "s3cr3t"


def raw(*payloads: bytes, lines: bool = True) -> Raw:
    numbers = list(range(1, len(payloads) + 1)) if lines else []
    return Raw("log.jsonl", list(payloads), [100 * at for at in range(len(payloads))], numbers, Position(0))


def mapped(fields: dict[str, Any]) -> Decoder:
    return make_decoder(FieldMap.model_validate({"ts": "$.ts", **fields}))


def record(fields: dict[str, Any], message: Any) -> dict[str, Any]:
    records, rejects = mapped(fields).decode(raw(msgspec.json.encode({"ts": 0, **message})))
    assert not rejects
    return {name: values[0] for name, values in records.columns.items()}


def refused(fields: dict[str, Any], message: dict[str, Any]) -> tuple[str, str]:
    records, (reject,) = mapped(fields).decode(raw(msgspec.json.encode({"ts": 0, **message})))
    assert len(records) == 0
    return reject.reason, reject.detail


def contents(records: Records) -> list[Any]:
    arrays = (records.offsets, records.id_hash, records.ts)
    return [*(array.tolist() for array in arrays), {name: list(values) for name, values in records.columns.items()}]


# ---- paths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.a", 1),
        ("$['a']", 1),
        ('$["a"]', 1),
        ("$[ 'a' ]", 1),
        ("$['x-y z']", 2),
        (r"$['it\'s \\ \"']", 3),
        ("$.é_1", 4),
        ("$.list[0]", "one"),
        ("$.list[-1]", "three"),
        ("$.list[3]", None),
        ("$.list[-4]", None),
        ("$.list[*]", ["one", "two", "three"]),
        ("$.deep[*].b[*].c", [1, 2, 3]),
        ("$.deep[*].none", None),
        ("$.deep[1].b[0].c", 3),
        ("$.null", None),
        ("$.null.a", None),
        ("$.a.b", None),
        ("$.a[0]", None),
        ("$.word[0]", None),
        ("$.word[0].b", None),
        ("$.word.b", None),
        ("$.list.b", None),
        ("$.list[0][0]", None),
        ("$.json.a[1].b", 5),
        ("$.json.a[0]", 0),
        ("$.broken.a", None),
        ("$.none.of[0].these", None),
    ],
)
def test_what_a_path_finds(path: str, value: Any) -> None:
    message = {
        "a": 1,
        "x-y z": 2,
        "it's \\ \"": 3,
        "é_1": 4,
        "null": None,
        "word": "word",
        "broken": '{"a": ',
        "list": ["one", "two", "three"],
        "deep": [{"b": [{"c": 1}, {"c": 2}]}, {"b": [{"c": 3}, {"c": None}]}, {"d": 4}],
        "json": ' {"a": [0, {"b": 5}]}',
    }
    assert parse_path(path).finder()(message) == value


def test_the_whole_message_is_a_path_too() -> None:
    assert parse_path("$").finder()({"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    ("path", "at", "what"),
    [
        ("", 1, "begins with $"),
        ("a.b", 1, "begins with $"),
        ("$a", 2, "['name']"),
        ("$.", 2, "expected"),
        ("$.a.", 4, "expected"),
        ("$..a", 2, "expected"),
        ("$.a.1b", 4, "['name']"),
        ("$.x-request-id", 4, "['name']"),
        ("$.a b", 4, "expected"),
        ("$.a[", 4, "expected"),
        ("$.a[x]", 4, "expected"),
        ("$.a['x]", 4, "expected"),
        ("$.a[01]", 4, "expected"),
        ("$.a[1:2]", 4, "slices"),
        ("$.a[?@.b]", 4, "filters"),
        (r"$['\n']", 2, "expected"),
        ("$.*", 2, "expected"),
    ],
)
def test_a_bad_path_is_refused_where_it_is_wrong(path: str, at: int, what: str) -> None:
    with pytest.raises(ValueError, match=f"at character {at}: ") as caught:
        parse_path(path)
    assert what in str(caught.value)


# ---- content --------------------------------------------------------------------------------------------------------

USER, BOT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        (None, None),
        ([], None),
        (["a", "b"], "a\nb"),
        ([{"type": "text", "text": "a"}], "a"),
        ([{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}], "a\nb"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "a"}], "a"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], None),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "tool_use", "text": "x"}, {"text": "a"}], "a"),
        ([{"type": "text", "text": None}, None, {"type": "text", "text": ""}], ""),
        ({"type": "text", "content": "a"}, "a"),
        ({"type": "refusal", "refusal": "No."}, "No."),
        (USER, "Hi"),
        ({"role": "model", "parts": [{"text": "a"}, {"inline_data": {}}]}, "a"),
        ({"role": "assistant", "content": None, "tool_calls": [{}]}, None),
        ([{"role": "system", "content": "Be kind."}, USER, BOT], "Hi"),
        (
            [USER, {"role": "user", "content": [{"type": "text", "text": "Again"}]}, {"role": "tool", "content": "x"}],
            "Again",
        ),
        ([BOT], "Hello"),
        ({"messages": [USER, BOT], "model": "m"}, "Hi"),
        ({"choices": [{"message": BOT, "index": 0}]}, "Hello"),
        ({"choices": [{"text": "Hello"}]}, "Hello"),
        ({"choices": [{"message": None}]}, None),
        ({"choices": [{"message": {"role": "assistant", "content": None}}]}, None),
        ({"error": {"code": 500}}, None),
        ({}, None),
    ],
)
def test_content_of_every_shape(content: Any, text: str | None) -> None:
    assert text_of(content) == text
    assert record({"prompt": "$.p"}, {"p": content})["prompt"] == text


@pytest.mark.parametrize(
    ("held", "text"),
    [
        ([USER, BOT], "Hi"),
        (USER, "Hi"),
        ([{"type": "text", "text": "a"}], "a"),
        ({"messages": [USER]}, "Hi"),
        ({"choices": [{"message": BOT}]}, "Hello"),
        ([{"role": "user", "parts": [{"type": "text", "content": "a"}]}], "a"),
    ],
)
def test_a_text_that_holds_messages_as_json_is_opened(held: Any, text: str) -> None:
    assert text_of(json.dumps(held)) == text
    assert text_of("\n " + json.dumps(held)) == text


@pytest.mark.parametrize(
    "text",
    [
        '["a", "b"]',
        "[1, 2]",
        "{}",
        "[]",
        '{"answer": "yes"}',
        '{"text": "yes"}',
        '{"content": "yes"}',
        '[{"text": "yes"}]',
        '{"type": "text", "text": "yes"}',
        '{"role": "admin"}',
        '{"messages": ["a"]}',
        '{"choices": []}',
        '[{"type": "fruit"}]',
        '{"role": "user", "content": 5}',
        "{not json",
        "[see below]",
        "{" * 5000,
    ],
)
def test_a_text_that_is_json_of_another_kind_stays_as_it_is(text: str) -> None:
    assert text_of(text) == text


@pytest.mark.parametrize(
    "content", [5, True, [5], [[5]], [{"type": "text", "text": 5}], {"role": "user", "content": 1.5}]
)
def test_what_is_no_content_is_refused(content: Any) -> None:
    reason, detail = refused({"response": "$.a.r"}, {"a": {"r": content}})
    assert reason == "bad_field"
    assert detail.startswith("response: $.a.r: ")


@pytest.mark.parametrize(
    ("fields", "contexts"),
    [
        ({"contexts": "$.c[*].text"}, ["a", "b"]),
        ({"context": "$.c[*].text"}, ["a", "b"]),
        ({"contexts": "$.c"}, ["a", "b"]),
        ({"contexts": "$.c[0].text"}, ["a"]),
        ({"contexts": "$.none[*].text"}, None),
        ({"contexts": "$.empty"}, []),
        ({"contexts": "$.c[1].text", "context": "$.c[0].text"}, ["b"]),
    ],
)
def test_contexts(fields: dict[str, Any], contexts: list[str] | None) -> None:
    message = {"c": [{"type": "text", "text": "a"}, {"text": "b"}], "empty": []}
    assert record(fields, message)["contexts"] == contexts


# ---- other fields ---------------------------------------------------------------------------------------------------


def test_a_map_names_every_field() -> None:
    assert tuple(FieldMap.model_fields) == FIELDS


def test_what_no_path_names_is_absent() -> None:
    records, _ = mapped({}).decode(raw(b'{"ts": 5, "id": "x", "prompt": "y"}'))
    assert tuple(records.columns) == COLUMNS
    assert {name: values[0] for name, values in records.columns.items()} == {
        **dict.fromkeys(COLUMNS),
        "id": "log.jsonl:0",
        "kind": "exchange",
    }


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        (1, 1.0),
        (1.25, 1.25),
        ("1.25", 1.25),
        (" 3 ", 3.0),
        ("1e-3", 0.001),
        ("", None),
        ("-", None),
        (" ", None),
        (None, None),
    ],
)
def test_amounts(value: Any, amount: float | None) -> None:
    found = record({"cost": "$.c", "latency_seconds": {"path": "$.c", "scale": 0.5}}, {"c": value})
    assert found["cost"] == amount
    assert found["latency_seconds"] == (None if amount is None else amount / 2)
    assert isinstance(found["cost"], float | None)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("cost", "cheap", "Expected `float | null`, got `str`"),
        ("cost", "nan", "Expected `float | null`, got `str`"),
        ("cost", "1e400", "Number out of range"),
        ("cost", -1, "Expected `float` >= 0.0"),
        ("cost", "-0.5", "Expected `float` >= 0.0"),
        ("cost", True, "Expected `float | null`, got `bool`"),
        ("cost", [1], "Expected `float | null`, got `array`"),
        ("cost", 10**400, "Number out of range"),
        ("id", {}, "Expected `int | float | str | null`, got `object`"),
        ("id", True, "Expected `int | float | str | null`, got `bool`"),
        ("finish_reason", ["stop"], "Expected `int | float | str | null`, got `array`"),
        ("kind", CANARY, "not one of the values that it may have"),
        ("kind", 5, "Expected `str | null`, got `int`"),
        ("feedback", 2, "Expected `float` <= 1.0"),
        ("feedback", "-1.5", "Expected `float` >= -1.0"),
        ("feedback", True, "Expected `float | object | null`, got `bool`"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_field_and_path(name: str, value: Any, what: str) -> None:
    assert refused({name: "$.a['b']"}, {"a": {"b": value}}) == ("bad_field", f"{name}: $.a['b']: {what}")


def test_the_path_inside_a_value_is_told_too() -> None:
    assert refused({"feedback": "$.f"}, {"f": {"score": 2}}) == (
        "bad_field",
        "feedback: $.f.score: Expected `float` <= 1.0",
    )
    assert refused({"labels": {"tenant": ["$.t", "$.u"]}}, {"u": []}) == (
        "bad_field",
        "labels.tenant: $.t or $.u: Expected `bool | int | float | str | null`, got `array`",
    )


def test_of_several_misfits_the_first_field_is_told_whatever_their_order_in_the_message() -> None:
    fields = {"cost": "$.c", "id": "$.i", "status": "$.s"}
    for message in ({"c": "x", "i": []}, {"i": [], "c": "x"}, {"s": [], "c": "x", "i": []}):
        assert refused(fields, message)[1].startswith("id: ")


@pytest.mark.parametrize(
    ("ts", "reason", "what"),
    [
        (None, "no_ts", "no time"),
        (True, "bad_ts", "Expected `int | float | str | null`, got `bool`"),
        (CANARY, "bad_ts", "neither ISO 8601 nor a number of s, ms, us or ns since 1970"),
        (-1, "bad_ts", "neither ISO 8601 nor a number of s, ms, us or ns since 1970"),
    ],
)
def test_times_that_are_none(ts: Any, reason: str, what: str) -> None:
    assert refused({"ts": ["$.a.b", "$.c"]}, {"ts": None, "c": ts}) == (reason, f"ts: $.a.b or $.c: {what}")


@pytest.mark.parametrize(
    ("value", "score"),
    [
        (1, 1.0),
        ("0.5", 0.5),
        ("thumbs_up", 1.0),
        ({"score": -1}, -1.0),
        ({"label": "bad"}, -1.0),
        ("five stars", None),
        (None, None),
    ],
)
def test_feedback(value: Any, score: float | None) -> None:
    assert record({"feedback": "$.f"}, {"f": value})["feedback"] == score


def test_a_label_that_says_nothing_is_noted_without_it() -> None:
    decoder = mapped({"feedback": "$.f"})
    decoder.decode(raw(*[msgspec.json.encode({"ts": 0, "f": CANARY})] * 2))
    assert decoder.unknown_fields == {"feedback.label": (2, "log.jsonl:line 1")}
    (notice,) = decoder.notices()
    assert notice.startswith("field 'feedback.label': ")
    assert notice.endswith("(first seen at log.jsonl:line 1)")
    assert CANARY not in notice


def test_the_time_between_two_times() -> None:
    fields = {"latency_seconds": {"begin": "$.b", "end": "$.e"}}
    assert record(fields, {"b": 1795169700.12, "e": "1795169701480000000"})["latency_seconds"] == 1.36
    for missing in ({"b": 1}, {"e": 1}, {}):
        assert record(fields, missing)["latency_seconds"] is None
    for message, what in (
        ({"b": 1, "e": CANARY}, "the end is no time"),
        ({"b": {}, "e": 1}, "the beginning is no time"),
        ({"b": 2, "e": 1}, "the end is before the beginning"),
    ):
        assert refused(fields, message) == ("bad_field", f"latency_seconds: $.b to $.e: {what}")


def test_values_of_the_configuration() -> None:
    fields = {
        "model": {"value": "bot"},
        "status": {"path": ["$.error", "$.code"], "value": "ok"},
        "labels": {"site": {"value": "eu"}, "app": "$.app"},
        "segment": {"path": "$.s", "value": "web"},
    }
    found = record(fields, {"app": 7})
    assert (found["model"], found["status"]) == ("bot", "ok")
    assert found["labels"] == {"site": "eu", "app": "7", "segment": "web"}
    assert record(fields, {"code": 500, "s": "phone"})["labels"] == {"site": "eu", "segment": "phone"}
    assert record(fields, {"code": 500})["status"] == "500"


def test_feedback_events() -> None:
    fields = {"kind": {"value": "feedback"}, "of": "$.of", "feedback": "$.f"}
    assert record(fields, {"of": 17, "f": 1}) | {"id": ""} == {
        **dict.fromkeys(COLUMNS),
        "id": "",
        "kind": "feedback",
        "of": "17",
        "feedback": 1.0,
    }
    assert refused(fields, {"of": 17}) == ("bad_field", "feedback: $.f: a feedback event without feedback")
    assert record({"of": "$.of"}, {"of": 17})["kind"] == "feedback"


def test_a_field_of_one_value_takes_the_first_that_a_path_finds() -> None:
    assert (
        record({"session": "$.tags[*].id", "cost": "$.none[*]"}, {"tags": [{}, {"id": 5}, {"id": 6}]})["session"] == "5"
    )


# ---- laws -----------------------------------------------------------------------------------------------------------

_WORD = st.text("abcé\0\u2028 ", max_size=6)
_NAME = st.none() | _WORD | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
_AMOUNT = st.none() | st.integers(0, 10**15) | st.floats(0, 1e15)
_TEXTS = st.none() | _WORD | st.lists(_WORD, max_size=3)
_FEEDBACK = st.floats(-1, 1) | st.fixed_dictionaries(
    {}, optional={"score": st.none() | st.floats(-1, 1), "label": st.sampled_from(["up", "what"])}
)
_TIME = st.integers(0, 10**18) | st.sampled_from(["2025-01-06T00:00:00.445Z", "1736121600", 1736121600.25])
_VALUES = {
    "ts": _TIME,
    "kind": st.sampled_from([None, "exchange"]),
    "prompt": st.none() | _WORD,
    "response": st.none() | _WORD,
    "context": _TEXTS,
    "contexts": _TEXTS,
    "labels": st.fixed_dictionaries({}, optional={"tenant": _NAME, "app-1": st.booleans()}),
    "finish_reason": st.none() | _WORD,
    "feedback": st.none() | _FEEDBACK,
    **dict.fromkeys(
        ["latency_seconds", "time_to_first_token_seconds", "prompt_tokens", "response_tokens", "cost"], _AMOUNT
    ),
}
_NATIVE = st.fixed_dictionaries(
    {"ts": _TIME}, optional={name: _VALUES.get(name, _NAME) for name in FIELDS if name != "ts"}
)
PLACES = {
    "id": "$.request.id",
    "ts": "$.meta.times[0]",
    "kind": "$.meta.kind",
    "prompt": "$.request.body.messages[-1].content",
    "response": "$.response.choices[0].message.content",
    "context": "$['a context']",
    "contexts": "$.retrieved[*].text",
    "segment": "$.meta['the segment']",
    "cost": "$.meta.amounts[-1]",
    **{
        name: f"$.other.{name}"
        for name in ("model", "model_version", "prompt_version", "session", "user", "status", "of")
    },
    **{
        name: f"$.other.{name}"
        for name in ("latency_seconds", "time_to_first_token_seconds", "finish_reason", "feedback")
    },
    **{name: f"$.response.usage['{name}']" for name in ("prompt_tokens", "response_tokens")},
}
MAP = FieldMap.model_validate({**PLACES, "labels": {"tenant": "$.headers.tenant", "app-1": "$.headers['x-app']"}})


def nested(native: dict[str, Any]) -> dict[str, Any]:
    """The same record as a gateway might log it."""
    labels = native.get("labels") or {}
    prompt, contexts = native.get("prompt"), native.get("contexts")
    usage = {name: native.get(name) for name in ("prompt_tokens", "response_tokens")}
    return {
        "request": {
            "id": native.get("id"),
            "body": {"messages": [{"role": "system"}, {"content": prompt and [{"type": "text", "text": prompt}]}]},
        }
        if prompt is None or prompt
        else {"id": native.get("id"), "body": {"messages": [{"role": "user", "content": ""}]}},
        "response": {"choices": [{"message": {"content": native.get("response")}}], "usage": usage},
        "meta": {
            "times": [native["ts"], 1],
            "kind": native.get("kind"),
            "the segment": native.get("segment"),
            "amounts": [{}, native.get("cost")],
        },
        "a context": native.get("context"),
        "retrieved": [{"text": text} for text in contexts] if isinstance(contexts, list) else [{"text": contexts}],
        "headers": {"tenant": labels.get("tenant"), "x-app": labels.get("app-1")},
        "other": {name: native.get(name) for name in FIELDS},
    }


@given(st.lists(_NATIVE, max_size=4))
def test_a_record_is_the_same_in_native_form_and_in_another_that_a_map_reads(messages: list[dict[str, Any]]) -> None:
    for message in messages:  # a path that finds nothing cannot tell an empty list from none
        message.update({"contexts": message.get("contexts") or None})
    native, none = Native().decode(raw(*map(msgspec.json.encode, messages)))
    other, neither = make_decoder(MAP).decode(raw(*(msgspec.json.encode(nested(message)) for message in messages)))
    assert not none
    assert not neither
    assert contents(other) == contents(native)


_ODD = st.sampled_from(
    [
        *(None, "", CANARY, "\0", "-", "1.5", "[1]", "{", 0, 1, -1, 0.5, 1e300, True, [], [CANARY], [1], {}),
        *({"a": CANARY}, {"score": CANARY}, {"label": CANARY}, {"role": CANARY}, [{"type": CANARY, "text": CANARY}]),
        *("feedback", "2025-01-06T00:00:00Z", "17e8", 1736121600, [{"role": "user", "content": 5}]),
    ]
)
_DAMAGED = [
    *(
        b"",
        b" ",
        b"{",
        b"[1]",
        b'"s3cr3t"',
        b"null",
        b'{"meta":{}} x',
        b'{"meta":"a\tb"}',
        b'{"meta":"\xff"}',
        b"\xff\xfe{\0",
    ),
    *(
        b'{"meta":"\\ud83d"}',
        b'{"meta":NaN}',
        b'{"meta":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"s3cr3t":1e999}',
        b"\0",
    ),
]
_MESSAGE = st.one_of(
    st.builds(
        lambda native, odd: msgspec.json.encode(nested({"ts": 1} | native | odd)),
        _NATIVE,
        st.dictionaries(st.sampled_from([name for name in FIELDS if name != "labels"]), _ODD, max_size=2),
    ),
    st.builds(lambda odd: msgspec.json.encode({"meta": odd, "request": odd, "headers": {"tenant": odd}}), _ODD),
    st.sampled_from(_DAMAGED),
)


@given(st.lists(_MESSAGE, max_size=8))
def test_a_message_is_answered_the_same_alone_and_in_a_batch(payloads: list[bytes]) -> None:
    batch = raw(*payloads)
    whole, rejects = make_decoder(MAP, {"x": "$.other"}).decode(batch)
    singles = [
        make_decoder(MAP, {"x": "$.other"}).decode(Raw("log.jsonl", [payload], [offset], [line], Position(0)))
        for payload, offset, line in zip(batch.payloads, batch.offsets, batch.lines, strict=True)
    ]
    assert rejects == [reject for _, single in singles for reject in single]
    assert len(whole) + len(rejects) == len(payloads)
    for name, column in whole.columns.items():
        assert list(column) == [value for records, _ in singles for value in records.columns[name]]
    for name in ("id_hash", "content_hash", "ts", "offsets"):
        assert getattr(whole, name).tolist() == [v for records, _ in singles for v in getattr(records, name).tolist()]


@given(st.lists(_MESSAGE, max_size=8))
def test_no_text_of_the_log_is_in_a_reject_or_a_notice(payloads: list[bytes]) -> None:
    decoder = make_decoder(MAP, {"x": "$.other.prompt"})
    _, rejects = decoder.decode(raw(*payloads))
    told = [*(msgspec.json.encode(reject).decode() for reject in rejects), *decoder.notices()]
    assert not any(CANARY in text for text in told)
    assert {reject.reason for reject in rejects} <= {"unparseable", "bad_field", "no_ts", "bad_ts"}


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b" \r", b"{", b'{"ts":1,\n"id":}', b'{"ts":1} {"ts":2}', b'{"ts":1,"prompt":"a\tb"}', b"\0\0\0"),
        *(b'{"ts":1,"prompt":"a\0b"}', b'{"ts":1,"prompt":"a\xffb"}', b'{"ts":1,"prompt":"\\\\ud83d \\ud83d x"}'),
        *('{"ts":1}'.encode("utf-16"), b'{"ts":1,"cost":NaN}', b"[1]", b'"s3cr3t"', b"null", b'{"id":1}'),
        *(b'{"ts":true}', b'{"ts":"soon"}', b'{"ts":1,"zz":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        *(b'{"ts":1,"cost":-1}', b'{"ts":1,"cost":"x"}', b'{"ts":1,"kind":"x"}', b'{"ts":1,"id":true}'),
        *(b'{"ts":1,"kind":"feedback"}', b'{"ts":1,"feedback":{"score":3}}', b'{"ts":1,"prompt":5}'),
    ],
)
def test_damage_is_refused_for_the_reason_it_has_in_native_form(payload: bytes) -> None:
    flat = mapped({name: f"$.{name}" for name in FIELDS if name != "labels"})
    (expected,) = Native().decode(raw(payload))[1]
    (reject,) = flat.decode(raw(payload))[1]
    assert (reject.reason, reject.sha256, reject.line) == (expected.reason, expected.sha256, expected.line)
    if reject.reason == "unparseable":
        assert reject.detail == expected.detail


# ---- what is said of the log ----------------------------------------------------------------------------------------


def said(fields: dict[str, Any], messages: list[dict[str, Any]], cuts: list[int]) -> list[str]:
    decoder = mapped(fields)
    payloads = [msgspec.json.encode(message) for message in messages]
    for begin, end in pairwise([0, *cuts, len(payloads)]):
        decoder.decode(raw(*payloads[begin:end]))
    return decoder.notices()


@pytest.mark.parametrize("cuts", [[], [1], [999], [1000], [500, 999, 1000], list(range(1, 1001, 7))])
def test_a_path_that_never_matches_is_said_after_a_thousand_records(cuts: list[int]) -> None:
    fields = {"prompt": "$.reqest.body", "model": ["$.a", "$.b"], "labels": {"late": "$.late", "never": "$.x"}}
    fields |= {"status": {"path": "$.none", "value": "ok"}, "cost": {"begin": "$.b", "end": "$.none"}}
    first = [{"ts": 1, "b": 1}] * 999
    assert said(fields, first, [cut for cut in cuts if cut < 999]) == []
    expected = [
        "format: prompt: $.reqest.body has matched none of 1,000 records",
        "format: cost: $.b to $.none has matched none of 1,000 records",
        "format: status: $.none has matched none of 1,000 records",
        "format: labels.late: $.late has matched none of 1,000 records",
        "format: labels.never: $.x has matched none of 1,000 records",
    ]
    more = [{"ts": 1, "late": 1, "reqest": {"body": "x"}}] * 200
    assert sorted(said(fields, [*first, {"ts": 1}, *more], cuts)) == sorted(expected)
    assert len(said(fields, [*first, *more], cuts)) == len(expected) - 2


def test_refused_records_count_and_what_does_not_fit_is_a_match() -> None:
    assert said({"ts": "$.time", "cost": "$.c"}, [{"ts": 1, "c": "x"}] * 1000, []) == [
        "format: ts: $.time has matched none of 1,000 records"
    ]


def test_a_path_to_an_object_without_text_matches_nothing() -> None:
    assert said({"prompt": "$.p"}, [{"ts": 1, "p": {"q": "hi"}}] * 1000, []) == [
        "format: prompt: $.p has matched none of 1,000 records"
    ]


@pytest.mark.parametrize("format_", ["native", FieldMap.model_validate({"ts": "$.ts"})])
def test_custom_paths_are_watched_in_every_format(format_: str | FieldMap) -> None:
    decoder = make_decoder(format_, {"queue": "$.timings.queue", "gone": "$.timings.gone"})
    payload = msgspec.json.encode({"ts": 1, "timings": {"queue": [CANARY]}})
    records, _ = decoder.decode(raw(*[payload] * 1000))
    assert list(records.columns) == [*COLUMNS, "$queue", "$gone"]
    assert (records.columns["$queue"][0], records.columns["$gone"][0]) == ([CANARY], None)
    assert decoder.notices() == ["signals.custom.gone: $.timings.gone has matched none of 1,000 records"]


def test_custom_columns_of_native_records() -> None:
    paths = {
        "a": "$.timings.queue",
        "b": "$.labels.tenant",
        "c": "$.cost",
        "d": "$.feedback.comment",
        "e": "$.json.x[0]",
    }
    decoder = make_decoder("native", paths)
    full = {"ts": 1, "timings": {"queue": 5}, "labels": {"tenant": "t"}, "cost": 2, "json": '{"x": [7]}', "zz": 1}
    full["feedback"] = {"comment": "ok"}
    broken = b'{"ts": 1, "timings": "\xff", "json": 1e999, "labels": null}'
    records, rejects = decoder.decode(raw(msgspec.json.encode(full), b"{", b'{"ts": 1}', broken, b'{"ts":1,"\xff":2}'))
    assert [reject.line for reject in rejects] == [2]
    found = list(zip(*(records.columns[f"${name}"] for name in paths), strict=True))
    assert found == [(5, "t", 2, "ok", 7), (None,) * 5, (None,) * 5, (None,) * 5]
    assert decoder.unknown_fields == {"zz": (1, "log.jsonl:line 1"), "other": (1, "log.jsonl:line 5")}
    plain, _ = Native().decode(raw(msgspec.json.encode(full), b"{", b'{"ts": 1}', broken, b'{"ts":1,"\xff":2}'))
    assert contents(plain)[:3] == contents(records)[:3]
    assert all(list(plain.columns[name]) == list(records.columns[name]) for name in COLUMNS)
    empty, _ = make_decoder("native", paths).decode(raw())
    assert tuple(empty.columns) == (*COLUMNS, *(f"${name}" for name in paths))


# ---- the maps that are shipped --------------------------------------------------------------------------------------

SAMPLES: dict[str, tuple[str, str]] = {
    "openai": (
        r"""{"request_id": "req-7f0c", "ts": "2026-11-20T10:15:03.412Z", "latency_ms": 1840, "ttft_ms": 210,
"status": 200, "tenant": "acme", "route": "support-bot", "model_version": "support-7b@2026-11-02",
"request": {"model": "support-7b", "messages": [{"role": "system", "content": "You answer billing questions."},
{"role": "user", "content": [{"type": "text", "text": "Why was I charged twice?"}]}], "user": "u-1842"},
"response": {"id": "chatcmpl-9xk2", "created": 1795169703, "model": "support-7b", "system_fingerprint": "fp_44",
"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant",
"content": "It will drop off."}}], "usage": {"prompt_tokens": 31, "completion_tokens": 14, "total_tokens": 45}}}""",
        r"""{"id": "req-7f0c", "model": "support-7b", "model_version": "support-7b@2026-11-02", "user": "u-1842",
"prompt": "Why was I charged twice?", "response": "It will drop off.", "status": "200", "labels": {"tenant": "acme",
"segment": "support-bot"}, "finish_reason": "stop", "latency_seconds": 1.84, "time_to_first_token_seconds": 0.21,
"prompt_tokens": 31.0, "response_tokens": 14.0}""",
    ),
    "litellm": (
        r"""{"id": "chatcmpl-b81e", "trace_id": "8c3a0f52", "response_cost": 0.00042, "status": "success",
"custom_llm_provider": "hosted_vllm", "prompt_tokens": 90, "completion_tokens": 28, "model": "hosted_vllm/b",
"startTime": 1795169700.12, "endTime": 1795169701.48, "completionStartTime": 1795169700.62,
"model_group": "support", "cache_hit": false, "end_user": "u-77", "response_time": 0.5,
"metadata": {"user_api_key_team_id": "team-3",
"vector_store_request_metadata": [{"vector_store_search_response": {"data": [{"content": [{"type": "text",
"text": "Within 30 days."}]}]}}]}, "messages": [{"role": "user",
"content": "How long do I have to ask for a refund?"}], "response": {"model": "support-7b",
"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "You have 30 days."}}]}}""",
        r"""{"id": "chatcmpl-b81e", "model": "support", "model_version": "support-7b", "session": "8c3a0f52",
"prompt": "How long do I have to ask for a refund?", "response": "You have 30 days.", "user": "u-77",
"contexts": ["Within 30 days."], "labels": {"team": "team-3", "provider": "hosted_vllm"}, "status": "success",
"latency_seconds": 1.36, "time_to_first_token_seconds": 0.5, "prompt_tokens": 90.0, "response_tokens": 28.0,
"cost": 0.00042, "finish_reason": "stop"}""",
    ),
    "opentelemetry": (
        r"""{"traceId": "4bf9", "spanId": "00f0", "startTimeUnixNano": "1795169703000000000",
"endTimeUnixNano": "1795169704250000000", "resource": {"service.name": "helpdesk"},
"attributes": {"gen_ai.request.model": "support-7b", "gen_ai.response.model": "support-7b-2026-11-02",
"gen_ai.response.id": "chatcmpl-9J3u", "gen_ai.conversation.id": "conv-5", "gen_ai.usage.input_tokens": "52",
"gen_ai.usage.output_tokens": 47, "gen_ai.response.finish_reasons": ["stop"],
"gen_ai.input.messages": "[{\"role\":\"user\",\"parts\":[{\"type\":\"text\",\"content\":\"Reset my password\"}]}]",
"gen_ai.output.messages": "[{\"role\":\"assistant\",\"parts\":[{\"type\":\"text\",\"content\":\"A link.\"}]}]"}}""",
        r"""{"id": "chatcmpl-9J3u", "model": "support-7b", "model_version": "support-7b-2026-11-02",
"session": "conv-5", "prompt": "Reset my password", "response": "A link.", "labels": {"service": "helpdesk"},
"latency_seconds": 1.25, "prompt_tokens": 52.0, "response_tokens": 47.0, "finish_reason": "stop", "status": "ok"}""",
    ),
    "bedrock": (
        r"""{"schemaType": "ModelInvocationLog", "timestamp": "2026-11-20T10:15:03Z", "region": "eu-west-1",
"requestId": "a1b2", "operation": "Converse", "modelId": "anthropic.claude-example-v1:0",
"identity": {"arn": "arn:aws:sts::1:assumed-role/helpdesk/s1"}, "requestMetadata": {"team": "helpdesk"},
"input": {"inputBodyJson": {"messages": [{"role": "user", "content": [{"text": "Where is my invoice?"}]}]},
"inputTokenCount": 12}, "output": {"outputBodyJson": {"output": {"message": {"role": "assistant",
"content": [{"text": "Under Billing, Invoices."}]}}, "stopReason": "end_turn", "metrics": {"latencyMs": 640}},
"outputTokenCount": 8}}""",
        r"""{"id": "a1b2", "model": "anthropic.claude-example-v1:0", "user": "arn:aws:sts::1:assumed-role/helpdesk/s1",
"prompt": "Where is my invoice?", "response": "Under Billing, Invoices.", "finish_reason": "end_turn",
"labels": {"team": "helpdesk", "region": "eu-west-1"}, "latency_seconds": 0.64, "status": "ok",
"prompt_tokens": 12.0, "response_tokens": 8.0}""",
    ),
    "kong": (
        r"""{"started_at": 1795169703412, "request": {"id": "7d1e"}, "response": {"status": 200},
"latencies": {"request": 1320}, "consumer": {"username": "team-3"},
"ai": {"proxy": {"meta": {"provider_name": "openai", "request_model": "support-7b",
"response_model": "support-7b-2", "llm_latency": 1305}, "usage": {"prompt_tokens": 31, "completion_tokens": 14,
"time_to_first_token": 205, "cost": 0.0004},
"payload": {"request": "{\"messages\":[{\"role\":\"user\",\"content\":\"Opening hours?\"}]}",
"response": "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"9 to 5.\"},\"finish_reason\":\"stop\"}]}"
}}}}""",
        r"""{"id": "7d1e", "model": "support-7b", "model_version": "support-7b-2", "prompt": "Opening hours?",
"response": "9 to 5.", "user": "team-3", "labels": {"provider": "openai"}, "latency_seconds": 1.305,
"time_to_first_token_seconds": 0.205, "prompt_tokens": 31.0, "response_tokens": 14.0, "cost": 0.0004,
"finish_reason": "stop", "status": "200"}""",
    ),
}
"""Name of a map -> a line of such a log, and the fields of the record that it makes."""


def sample_of(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    line, fields = map(json.loads, SAMPLES[name])
    return line, fields


def shipped(name: str) -> FieldMap:
    config = parse(f"sources: [{{kind: files, paths: [x], format: {FORMATS / name}.yaml}}]", "test")
    assert isinstance(config.sources[0].format, FieldMap)
    return config.sources[0].format


def test_every_shipped_map_has_a_sample() -> None:
    assert {path.stem for path in FORMATS.glob("*.yaml")} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_shipped_map_reads_its_sample(name: str) -> None:
    sample, expected = sample_of(name)
    records, rejects = make_decoder(shipped(name)).decode(raw(json.dumps(sample).encode()))
    assert not rejects
    found = {field: values[0] for field, values in records.columns.items() if values[0] is not None}
    seconds = ("latency_seconds", "time_to_first_token_seconds")
    found |= {field: round(found[field], 9) for field in seconds if field in found}
    assert found == {"kind": "exchange", **expected}
    assert abs(int(records.ts[0]) - 1795169703000) <= 3500


@pytest.mark.parametrize("name", SAMPLES)
def test_a_shipped_map_reads_a_failure_too(name: str) -> None:
    sample, expected = sample_of(name)
    answer = {"response": {"status": 500}, "output": {}} if name == "kong" else {"response": None, "output": None}
    decoder = make_decoder(shipped(name))
    for changed in (sample | answer, sample | {"response": {"error": {"code": 500}}}):
        records, rejects = decoder.decode(raw(json.dumps(changed).encode()))
        assert not rejects
        assert records.columns["id"][0] == expected["id"]


def test_a_tool_call_has_no_text_and_a_refusal_has_its_own() -> None:
    sample, _ = sample_of("openai")
    said = sample["response"]["choices"][0]["message"]
    decoder = make_decoder(shipped("openai"))
    for message, text in (
        ({"content": None, "tool_calls": [{"id": "c"}]}, None),
        ({"content": None, "refusal": "I cannot."}, "I cannot."),
    ):
        choice = sample["response"]["choices"][0] | {"message": said | message}
        changed = sample | {"response": sample["response"] | {"choices": [choice]}}
        records, _ = decoder.decode(raw(json.dumps(changed).encode()))
        assert records.columns["response"][0] == text


# ---- in a configuration ---------------------------------------------------------------------------------------------


def mistakes(format_: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(f"sources:\n- kind: files\n  paths: [x]\n  format:\n    ts: $.ts\n    {format_}", "f.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("entry", "key", "what"),
    [
        ("promt: $.p", "promt", "unknown key; did you mean 'prompt'?"),
        ("id: $.request..id", "id", "'$.request..id' at character 10: expected .name, ['name'], [0], [-1] or [*]"),
        ("id: [$.a, b]", "id[1]", "'b' at character 1: a path begins with $, as in $.request.id"),
        ("id: {path: [$.a, b]}", "id.path[1]", "'b' at character 1: a path begins with $, as in $.request.id"),
        ("cost: {path: $.c, scael: 2}", "cost.scael", "unknown key; did you mean 'scale'?"),
        ("cost: {path: $.c, scale: 0}", "cost.scale", "must be greater than 0, not 0"),
        ("cost: {value: 5}", "cost.value", "unknown key"),
        ("cost: {scale: 5}", "cost", "expected a path, a list of paths, or one of path and begin with end"),
        ("cost: {begin: $.c}", "cost", "expected a path, a list of paths, or one of path and begin with end"),
        ("model: {path: $.c, scale: 2}", "model.scale", "unknown key"),
        ("model: 5", "model", "expected a path such as $.request.id, a list of paths, or keys and values"),
        ("model: []", "model", "expected a path, a list of paths, or a value"),
        ("prompt: {value: hi}", "prompt", "is never the same for all records; it has no value, only a path"),
        ("kind: {value: feedbak}", "kind", "expected 'exchange' or 'feedback' as value, not 'feedbak'"),
        ("labels: {a: x}", "labels.a", "'x' at character 1: a path begins with $, as in $.request.id"),
        ("labels: {a: {pth: $.x}}", "labels.a.pth", "unknown key; did you mean 'path'?"),
    ],
)
def test_mistakes_are_told_with_key_and_line(entry: str, key: str, what: str) -> None:
    (mistake,) = mistakes(entry)
    assert mistake.startswith(f"f.yaml:6: sources[0].format.{key}: {what}")


def test_a_map_without_a_time_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"f.yaml:1: sources\[0\].format.ts: is missing"):
        parse("sources: [{kind: files, paths: [x], format: {id: $.id}}]", "f.yaml")


def test_a_map_in_a_file_is_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "good.yaml").write_text("ts: $.time\nid: [$.a, $.b]\n")
    (tmp_path / "maps" / "bad.yml").write_text("ts: $.time\n\nprmpt: $.a\nid: $[\n")
    config, source = tmp_path / "driftd.yaml", "{kind: files, paths: [x], format: maps/%s}"
    config.write_text(f"sources: [{source % 'good.yaml'}]")
    good = load(config).sources[0].format
    assert isinstance(good, FieldMap)
    assert good.id is not None
    assert good.id.path == ("$.a", "$.b")
    config.write_text(f"sources: [{source % 'bad.yml'}, {source % 'none.yaml'}]\nlatenes: 5s")
    with pytest.raises(ConfigError) as caught:
        load(config)
    assert str(caught.value).splitlines() == [
        f"{config}:2: latenes: unknown key; did you mean 'lateness'?",
        f"{tmp_path}/maps/bad.yml:3: prmpt: unknown key; did you mean 'prompt'?",
        f"{tmp_path}/maps/bad.yml:4: id: '$[' at character 2: expected .name, ['name'], [0], [-1] or [*]",
        f"{tmp_path}/maps/none.yaml: cannot be read: No such file or directory",
    ]


# ---- in a run -------------------------------------------------------------------------------------------------------

QUIET = "text: false, toxicity: false, language: false, embedding: false"


def test_a_run_over_a_mapped_log_says_each_notice_once(tmp_path: Path) -> None:
    config = parse(
        "sources: [{kind: files, paths: [x], format: {id: $.i, ts: $.t, prompt: $.reqest.body, cost: $.c}}]\n"
        f"signals: {{{QUIET}, custom: {{queue: {{field: $.q, kind: numeric}}}}}}\n"
        "windows: [12m]\nreference: {size: 2h}",
        "f",
    )
    log, out = tmp_path / "log.jsonl", tmp_path / "out"
    lines = [json.dumps({"i": i, "t": 1_793_577_600 + i, "request": {"body": "hi"}}) for i in range(2500)]
    lines[7] = lines[8].replace('"i": 8', '"c": "s3cr3t", "i": 7')
    notice = "format: prompt: $.reqest.body has matched none of 1,000 records"
    for end in (1200, 2500):
        log.write_text("".join(line + "\n" for line in lines[:end]))
        outcome = replay(config, out, [str(log)], resume=True)
        assert outcome.summary["notices"].count(notice) == 1
    assert "signals.custom.queue: $.q has matched none of 1,000 records" in outcome.summary["notices"]
    assert outcome.summary["records"]["bad_field"] == 1
    (reject,) = map(json.loads, (out / "rejects.jsonl").read_text().splitlines())
    assert (reject["detail"], reject["line"]) == ("cost: $.c: Expected `float | null`, got `str`", 8)


def test_a_short_log_says_at_its_end_what_matched_nothing(tmp_path: Path) -> None:
    source = "{kind: files, paths: [x], format: {ts: $.t, prompt: $.reqest}}"
    config = parse(f"sources: [{source}]\nsignals: {{{QUIET}}}\ncontent: redacted", "f")
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"t": 1_793_577_600 + i, "request": "hi"}) + "\n" for i in range(20)))
    outcome = replay(config, tmp_path / "out", [str(log)], resume=False)
    assert "format: prompt: $.reqest has matched none of 20 records" in outcome.summary["notices"]
    growing = replay(config, tmp_path / "more", [str(log)], resume=True)  # there may be more of it
    assert not any("matched none" in notice for notice in growing.summary["notices"])


def test_standard_input_is_read_by_the_map(tmp_path: Path) -> None:
    source = "{kind: files, paths: [x], format: {ts: $.t, model: {value: bot}}}"
    config = parse(f"sources: [{source}]\nsignals: {{{QUIET}}}", "f")
    outcome = replay(config, tmp_path / "out", ["-"], resume=False, stdin=io.BytesIO(b'{"t": 1793577600}\n'))
    assert outcome.summary["streams"] == ["bot"]
    assert outcome.summary["generated_ids"] == 1


def test_rejects_keep_their_places() -> None:
    decoder = mapped({"cost": "$.c"})
    good, bad = b'{"ts": 1, "c": 1}', b'{"ts": 1, "c": "x"}'
    batch = Raw("p", [good, bad, b"{", good, b"{}"], [0, 10, 20, 30, 40], [], Position(50), append=np.arange(5))
    records, rejects = decoder.decode(batch)
    assert [(reject.reason, reject.position, reject.line) for reject in rejects] == [
        ("bad_field", 10, None),
        ("unparseable", 20, None),
        ("no_ts", 40, None),
    ]
    assert isinstance(rejects[0], Reject)
    assert records.offsets.tolist() == [0, 30]
    assert records.append is not None
    assert records.append.tolist() == [0, 3]
