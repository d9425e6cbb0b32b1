"""From the fields of messages to Records: names, ids, labels, feedback, hashes; and what is refused on the way.

Every decoder ends here, so that one record is the same whatever form it was logged in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import xxhash

from monitor.decoding.times import parse_ts
from monitor.model import Hashes, Raw, Records, Reject

Name = str | int | float | None
Amount = Annotated[float, msgspec.Meta(ge=0)] | None
Label = str | int | float | bool | None
Score = Annotated[float, msgspec.Meta(ge=-1, le=1)]


class Feedback(msgspec.Struct, gc=False):
    """Feedback with more than its score."""

    score: Score | None = None
    label: str | None = None
    comment: str | None = None


class Message(msgspec.Struct, gc=False):
    """The canonical fields and what each may be."""

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
    labels: dict[str, Label] | None = None
    segment: Name = None
    latency_seconds: Amount = None
    time_to_first_token_seconds: Amount = None
    prompt_tokens: Amount = None
    response_tokens: Amount = None
    cost: Amount = None
    finish_reason: str | None = None
    status: Name = None
    feedback: Score | Feedback | None = None
    of: Name = None


FIELDS = Message.__struct_fields__
COLUMNS = tuple(name for name in FIELDS if name not in {"ts", "context", "segment"})
"""The columns of Records: every field but the time, which has its own place. Names are text; `kind` is always there;
`contexts` is a list of text, `labels` a dict of text by text, `feedback` a number from -1 to 1; None where absent."""
_NAMES = ("id", "model", "model_version", "prompt_version", "session", "user", "status", "of")


# ---- what is refused ------------------------------------------------------------------------------------------------


class RefusedError(Exception):
    """Reason and detail of a message that cannot become a record."""


def describe_misfit(error: str) -> tuple[str, str]:
    """Reason and detail of a validation error, without the value that it may quote.

    >>> describe_misfit("Invalid enum value 'secret' - at `$.kind`")
    ('bad_field', '$.kind: not one of the values that it may have')
    """
    what, _, path = error.partition(" - at `")
    if not path:
        return "unparseable", what
    path = path.removesuffix("`")
    return "bad_ts" if path == "$.ts" else "bad_field", f"{path}: {without_value(what)}"


def without_value(what: str) -> str:
    """What a validation error says, without the value that it may quote."""
    return what if what.startswith(("Expected ", "Number out of range")) else "not one of the values that it may have"


def make_reject(raw: Raw, at: int, reason: str, detail: str) -> Reject:
    """The reject of a message."""
    payload = raw.payloads[at]
    line = raw.lines[at] if raw.lines else None
    return Reject(reason, raw.partition, raw.offsets[at], len(payload), sha256(payload).hexdigest(), line, detail)


def place(raw: Raw, at: int) -> str:
    """Where a message is, for people."""
    where = f"line {raw.lines[at]}" if raw.lines else f"offset {raw.offsets[at]}"
    return f"{raw.partition}:{where}"


def accepted_time(
    ts: str | float | None,
    kind: str | None,
    feedback: float | Feedback | None,
    ts_path: str = "$.ts",
    feedback_path: str = "$.feedback",
) -> int:
    """The time of a message, once all is there that its kind of record needs; else RefusedError."""
    if ts is None:
        raise RefusedError("no_ts", f"{ts_path}: no time")
    if kind == "feedback" and (feedback is None or feedback == Feedback()):
        raise RefusedError("bad_field", f"{feedback_path}: a feedback event without feedback")
    time = parse_ts(ts)
    if time is None:
        raise RefusedError("bad_ts", f"{ts_path}: neither ISO 8601 nor a number of s, ms, us or ns since 1970")
    return time


# ---- columns --------------------------------------------------------------------------------------------------------

LABEL_FIELD = "feedback.label"
LABEL_SCORES = {
    **dict.fromkeys(["up", "thumbs_up", "thumbsup", "thumbs up", "positive", "good", "like", "liked", "helpful"], 1.0),
    **dict.fromkeys(["down", "thumbs_down", "thumbsdown", "thumbs down", "negative", "bad", "dislike"], -1.0),
    **dict.fromkeys(["disliked", "unhelpful", "not_helpful", "not helpful"], -1.0),
    **dict.fromkeys(["neutral", "none"], 0.0),
}
"""What a feedback's label means where no score stands beside it."""


def make_records(
    raw: Raw, kept: Sequence[int], times: Sequence[int], fields: Mapping[str, Sequence[Any]]
) -> tuple[Records, int, list[int]]:
    """The records of the messages at `kept`.

    Parameters
    ----------
    fields : every field of Message but `ts` -> a value of its type for each of them; others become columns as they are

    Returns
    -------
    records, how many of them had no id, and at which of the messages a feedback's label says nothing to us

    """
    columns = dict(fields)
    columns |= {name: _as_text(columns[name]) for name in _NAMES}
    generated = sum(not given for given in columns["id"])
    if generated:
        ids = zip(columns["id"], kept, strict=True)
        columns["id"] = [given or f"{raw.partition}:{raw.offsets[at]}" for given, at in ids]
    kinds = zip(columns["kind"], columns["of"], strict=True)
    columns["kind"] = [kind or ("exchange" if of is None else "feedback") for kind, of in kinds]
    columns["contexts"] = _joined_contexts(columns["contexts"], columns["context"])
    columns["labels"] = _joined_labels(columns["labels"], columns["segment"])
    columns["feedback"], unknown = _scores(columns["feedback"], kept)
    keys = [f"{kind}\0{name}".encode() for kind, name in zip(columns["kind"], columns["id"], strict=True)]
    others = (name for name in fields if name not in FIELDS)
    records = Records(
        partition=raw.partition,
        offsets=np.array(raw.offsets, np.int64)[kept],
        id_hash=_hashes(keys),
        content_hash=_hashes([raw.payloads[at] for at in kept]),
        ts=np.array(times, np.int64),
        columns={name: columns[name] for name in (*COLUMNS, *others)},
        append=None if raw.append is None else raw.append[kept],
    )
    return records, generated, unknown


def exchange_hash(id: str) -> int:  # noqa: A002  the word of the log
    r"""The `id_hash` of the exchange with this id: what a feedback event's `of` is joined by.

    >>> exchange_hash("a-1") == int(_hashes([b"exchange\0a-1"])[0])
    True
    """
    return xxhash.xxh3_64_intdigest(f"exchange\0{id}".encode())


def _hashes(values: list[bytes]) -> Hashes:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, values), np.uint64, len(values))


def as_name(value: str | float) -> str:
    """A name that may have been logged as a number: the same text for 1 and 1.0, as in JSON.

    >>> as_name("1"), as_name(1), as_name(1.0), as_name(1.5), as_name(True)
    ('1', '1', '1', '1.5', 'true')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value)


def _as_text(values: Sequence[Any]) -> Sequence[str | None]:
    if set(map(type, values)) <= {str, type(None)}:
        return values
    return [None if value is None else as_name(value) for value in values]


def _joined_contexts(contexts: Sequence[Any], context: Sequence[Any]) -> Sequence[list[str] | None]:
    if contexts.count(None) == len(contexts) and context.count(None) == len(context):
        return contexts
    both = [first if first is not None else second for first, second in zip(contexts, context, strict=True)]
    return [[value] if isinstance(value, str) else value for value in both]


def _joined_labels(labels: Sequence[Any], segments: Sequence[Any]) -> Sequence[dict[str, str] | None]:
    """Labels without the null ones; `segment` is a label like any other, and what stands at the top goes before."""
    joined: list[dict[str, str] | None] = []
    for given, segment in zip(labels, segments, strict=True):
        label = {name: as_name(value) for name, value in given.items() if value is not None} if given else {}
        if segment is not None:
            label["segment"] = as_name(segment)
        joined.append(label or None)
    return joined


def _scores(values: Sequence[float | Feedback | None], kept: Sequence[int]) -> tuple[Sequence[float | None], list[int]]:
    """Feedback as numbers; a label counts where there is no score; and where a label says nothing to us."""
    if not any(isinstance(value, Feedback) for value in values):
        return values, []  # type: ignore[return-value]
    scores: list[float | None] = []
    unknown: list[int] = []
    for value, at in zip(values, kept, strict=True):
        score = value
        if isinstance(value, Feedback):
            score = value.score
            if score is None and value.label is not None:
                score = LABEL_SCORES.get(value.label.strip().lower())
                if score is None:
                    unknown.append(at)
        scores.append(score)  # type: ignore[arg-type]
    return scores, unknown


def label_notices(counted: Mapping[str, tuple[int, str]]) -> list[str]:
    """What is to be said of labels of feedback that say nothing to us, given the counts of a decoder."""
    if LABEL_FIELD not in counted:
        return []
    known = ", ".join(sorted(LABEL_SCORES)[:6])
    said = f"field {LABEL_FIELD!r}: one that is not {known} or the like, and has no score, counts as no feedback"
    return [f"{said} (first seen at {counted[LABEL_FIELD][1]})"]
