"""driftd's own log format: one JSON object a message, with the canonical names of the fields.

A field that is absent and one that is null are the same. Names (`id`, `model`, `session`, `status` and the like) and
values of labels may be numbers and become text; text, amounts and times must have their own type, or the message is
refused with the path of what is wrong. Fields that nothing reads are counted by name, so that a misspelt one is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import xxhash

from monitor.decoding.damage import describe_damage
from monitor.decoding.times import parse_ts
from monitor.model import OTHER, Hashes, Raw, Records, Reject

LENIENT_AFTER = 1_000
"""Messages with unknown fields after which they are looked for no more: each such message is decoded three times."""
MAX_UNKNOWN = 100
"""Names of unknown fields that are kept; what comes later is counted as `other`."""
MAX_NAME = 80
"""Characters of such a name that are kept."""

Name = str | int | float | None
Amount = Annotated[float, msgspec.Meta(ge=0)] | None
Score = Annotated[float, msgspec.Meta(ge=-1, le=1)]


class _Feedback(msgspec.Struct, gc=False):
    score: Score | None = None
    label: str | None = None
    comment: str | None = None


class _Message(msgspec.Struct, gc=False):
    id: Name = None
    ts: str | int | float | None = None
    kind: Literal["exchange", "feedback"] | None = None
    model: Name = None
    model_version: Name = None
    prompt_version: Name = None
    prompt: str | None = None
    response: str | None = None
    context: str | list[str] | None = None
    contexts: str | list[str] | None = None
    session: Name = None
    user: Name = None
    labels: dict[str, str | int | float | bool | None] | None = None
    segment: Name = None
    latency_seconds: Amount = None
    time_to_first_token_seconds: Amount = None
    prompt_tokens: Amount = None
    response_tokens: Amount = None
    cost: Amount = None
    finish_reason: str | None = None
    status: Name = None
    feedback: Score | _Feedback | None = None
    of: Name = None


class _StrictMessage(_Message, gc=False, forbid_unknown_fields=True):
    """The same, but an unknown field is an error: noticing it costs nothing where there is none."""


_FIELDS = _Message.__struct_fields__
_NAMES = ("id", "model", "model_version", "prompt_version", "session", "user", "status", "of")
COLUMNS = tuple(name for name in _FIELDS if name not in {"ts", "context", "segment"})
"""The columns of Records: every field but the time, which has its own place. Names are text; `kind` is always there;
`contexts` is a list of text, `labels` a dict of text by text, `feedback` a number from -1 to 1; None where absent."""


# ---- one message ----------------------------------------------------------------------------------------------------


class Native:
    """The decoder of the native format."""

    def __init__(self) -> None:
        self.generated_ids = 0
        self.unknown_fields: dict[str, tuple[int, str]] = {}
        self._with_unknown = 0
        self._lenient: Callable[[bytes], _Message] = msgspec.json.Decoder(_Message).decode
        self._decode: Callable[[bytes], _Message] = msgspec.json.Decoder(_StrictMessage).decode

    def decode(self, raw: Raw) -> tuple[Records, list[Reject]]:
        """The records of `raw` in its order, and a Reject for each message that is none.

        Reasons: `unparseable` (not a JSON object), `bad_field` (a field of a wrong type or out of its range, or
        feedback without any), `no_ts`, `bad_ts` (not a time between the years 1 and 9999).
        """
        rows: list[_Message] = []
        kept: list[int] = []
        times: list[int] = []
        rejects: list[Reject] = []
        for at, payload in enumerate(raw.payloads):
            try:
                message = self._message(raw, at, payload)
                times.append(_accepted_time(message))
            except _RefusedError as error:
                rejects.append(_reject(raw, at, *error.args))
            else:
                rows.append(message)
                kept.append(at)
        return self._records(raw, rows, kept, times), rejects

    def _message(self, raw: Raw, at: int, payload: bytes) -> _Message:
        """The message, or _RefusedError. What is refused depends on the lenient decoder alone."""
        try:
            return self._decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            try:
                message = self._lenient(payload)
            except msgspec.ValidationError as error:
                raise _RefusedError(*_describe_misfit(str(error))) from None
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                raise _RefusedError("unparseable", describe_damage(payload)) from None
        self._count_unknown(payload, _place(raw, at))
        return message

    def _count_unknown(self, payload: bytes, place: str) -> None:
        self._with_unknown += 1
        if self._with_unknown == LENIENT_AFTER:
            self._decode = self._lenient
        try:
            names = msgspec.json.decode(payload, type=dict[str, msgspec.Raw]).keys() - set(_FIELDS)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # the name itself is damaged
            names = {OTHER}
        for name in sorted(names):
            self._count_name(name, place)

    def _count_name(self, name: str, place: str) -> None:
        name = name[:MAX_NAME]
        if name not in self.unknown_fields and len(self.unknown_fields) >= MAX_UNKNOWN:
            name = OTHER
        count, first = self.unknown_fields.get(name, (0, place))
        self.unknown_fields[name] = (count + 1, first)

    def _records(self, raw: Raw, rows: list[_Message], kept: list[int], times: list[int]) -> Records:
        values = zip(*map(msgspec.structs.astuple, rows), strict=True) if rows else ((),) * len(_FIELDS)
        columns: dict[str, Sequence[Any]] = dict(zip(_FIELDS, values, strict=True))
        columns |= {name: _as_text(columns[name]) for name in _NAMES}
        columns["id"] = self._identified(columns["id"], raw, kept)
        kinds = zip(columns["kind"], columns["of"], strict=True)
        columns["kind"] = [kind or ("exchange" if of is None else "feedback") for kind, of in kinds]
        columns["contexts"] = _joined_contexts(columns["contexts"], columns["context"])
        columns["labels"] = _joined_labels(columns["labels"], columns["segment"])
        columns["feedback"] = self._scores(columns["feedback"], raw, kept)
        keys = [f"{kind}\0{name}".encode() for kind, name in zip(columns["kind"], columns["id"], strict=True)]
        return Records(
            partition=raw.partition,
            offsets=np.array(raw.offsets, np.int64)[kept],
            id_hash=_hashes(keys),
            content_hash=_hashes([raw.payloads[at] for at in kept]),
            ts=np.array(times, np.int64),
            columns={name: columns[name] for name in COLUMNS},
            append=None if raw.append is None else raw.append[kept],
        )

    def _identified(self, ids: Sequence[str | None], raw: Raw, kept: list[int]) -> Sequence[str]:
        """The ids; a record without one is named after its place."""
        if all(ids):
            return ids  # type: ignore[return-value]
        self.generated_ids += sum(not given for given in ids)
        return [given or f"{raw.partition}:{raw.offsets[at]}" for given, at in zip(ids, kept, strict=True)]

    def _scores(self, values: Sequence[float | _Feedback | None], raw: Raw, kept: list[int]) -> Sequence[float | None]:
        """Feedback as numbers; a label counts where there is no score, and is noted where it says nothing to us."""
        if not any(isinstance(value, _Feedback) for value in values):
            return values  # type: ignore[return-value]
        scores: list[float | None] = []
        for value, at in zip(values, kept, strict=True):
            score = value
            if isinstance(value, _Feedback):
                score = value.score
                if score is None and value.label is not None:
                    score = LABEL_SCORES.get(value.label.strip().lower())
                    if score is None:
                        self._count_name("feedback.label", _place(raw, at))
            scores.append(score)  # type: ignore[arg-type]
        return scores


class _RefusedError(Exception):
    """Reason and detail of a message that cannot become a record."""


def _describe_misfit(error: str) -> tuple[str, str]:
    """Reason and detail of a validation error, without the value that it may quote.

    >>> _describe_misfit("Invalid enum value 'secret' - at `$.kind`")
    ('bad_field', '$.kind: not one of the values that it may have')
    """
    what, _, path = error.partition(" - at `")
    if not path:
        return "unparseable", what
    if not what.startswith(("Expected ", "Number out of range")):
        what = "not one of the values that it may have"
    path = path.removesuffix("`")
    return "bad_ts" if path == "$.ts" else "bad_field", f"{path}: {what}"


def _reject(raw: Raw, at: int, reason: str, detail: str) -> Reject:
    payload = raw.payloads[at]
    line = raw.lines[at] if raw.lines else None
    return Reject(reason, raw.partition, raw.offsets[at], len(payload), sha256(payload).hexdigest(), line, detail)


def _place(raw: Raw, at: int) -> str:
    where = f"line {raw.lines[at]}" if raw.lines else f"offset {raw.offsets[at]}"
    return f"{raw.partition}:{where}"


def _accepted_time(message: _Message) -> int:
    """The message's time, once all is there that its kind of record needs; else _RefusedError."""
    if message.ts is None:
        raise _RefusedError("no_ts", "$.ts: no time")
    if message.kind == "feedback" and (message.feedback is None or message.feedback == _Feedback()):
        raise _RefusedError("bad_field", "$.feedback: a feedback event without feedback")
    time = parse_ts(message.ts)
    if time is None:
        raise _RefusedError("bad_ts", "$.ts: neither ISO 8601 nor a number of s, ms, us or ns since 1970")
    return time


# ---- columns --------------------------------------------------------------------------------------------------------

LABEL_SCORES = {
    **dict.fromkeys(["up", "thumbs_up", "thumbsup", "thumbs up", "positive", "good", "like", "liked", "helpful"], 1.0),
    **dict.fromkeys(["down", "thumbs_down", "thumbsdown", "thumbs down", "negative", "bad", "dislike"], -1.0),
    **dict.fromkeys(["disliked", "unhelpful", "not_helpful", "not helpful"], -1.0),
    **dict.fromkeys(["neutral", "none"], 0.0),
}
"""What a feedback's label means where no score stands beside it."""


def exchange_hash(id: str) -> int:  # noqa: A002  the word of the log
    r"""The `id_hash` of the exchange with this id: what a feedback event's `of` is joined by.

    >>> exchange_hash("a-1") == int(_hashes([b"exchange\0a-1"])[0])
    True
    """
    return xxhash.xxh3_64_intdigest(f"exchange\0{id}".encode())


def _hashes(values: list[bytes]) -> Hashes:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, values), np.uint64, len(values))


def _as_text(values: Sequence[Any]) -> Sequence[str | None]:
    if set(map(type, values)) <= {str, type(None)}:
        return values
    return [None if value is None else _text(value) for value in values]


def _text(value: str | float) -> str:
    """A name that may have been logged as a number: the same text for 1 and 1.0, as in JSON.

    >>> _text("1"), _text(1), _text(1.0), _text(1.5), _text(True)
    ('1', '1', '1', '1.5', 'true')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value)


def _joined_contexts(contexts: Sequence[Any], context: Sequence[Any]) -> Sequence[list[str] | None]:
    if not any(contexts) and not any(context):
        return contexts
    both = [first if first is not None else second for first, second in zip(contexts, context, strict=True)]
    return [[value] if isinstance(value, str) else value for value in both]


def _joined_labels(labels: Sequence[Any], segments: Sequence[Any]) -> Sequence[dict[str, str] | None]:
    """Labels without the null ones; `segment` is a label like any other, and what stands at the top goes before."""
    joined: list[dict[str, str] | None] = []
    for given, segment in zip(labels, segments, strict=True):
        label = {name: _text(value) for name, value in given.items() if value is not None} if given else {}
        if segment is not None:
            label["segment"] = _text(segment)
        joined.append(label or None)
    return joined
