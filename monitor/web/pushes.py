"""What a body of pushed records holds: its messages, each a record that its source's format knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from monitor.model import Position, Raw, Reject
from monitor.web.desk import Intake

SHOWN = 20
"""Records that an answer says something of, at most."""


class Refusal(Exception):  # noqa: N818  what is answered, not a fault
    """Why nothing of a request was kept."""

    def __init__(self, status: int, said: str, rows: Sequence[Mapping[str, Any]] = (), **headers: str) -> None:
        super().__init__(said)
        self.status, self.rows, self.headers = status, rows, headers


def messages_of(body: bytes, content_type: str, intake: Intake, name: str) -> list[bytes]:
    """The messages of a body: lines of JSON, or where the content type is `application/json` an object or an array.

    Raises Refusal where one is not a record.
    """
    messages = _whole(body) if content_type.partition(";")[0].strip() == "application/json" else body.split(b"\n")
    messages = [message for message in messages if message.strip()]
    if not messages:
        raise Refusal(422, "there is no record in it")
    long = [number for number, message in enumerate(messages) if len(message) > intake.max_record_bytes]
    if long:
        raise Refusal(
            413,
            f"a record may have {intake.max_record_bytes:,} bytes",
            [{"record": number + 1, "reason": "oversized"} for number in long[:SHOWN]],
        )
    raw = Raw(name, messages, list(range(len(messages))), [], Position(0))
    _, refused = intake.make_decoder().decode(raw)
    if refused:
        rows = [_row(reject) for reject in refused[:SHOWN]]
        raise Refusal(422, f"{len(refused)} of {len(messages)} are not records; none was kept", rows)
    return messages


def _whole(body: bytes) -> list[bytes]:
    """The parts of an array, or what is no array itself."""
    try:
        parts = msgspec.json.decode(body, type=msgspec.Raw)
        if bytes(parts).lstrip()[:1] != b"[":
            return [msgspec.json.encode(msgspec.json.decode(body))]
        return [msgspec.json.encode(part) for part in msgspec.json.decode(body, type=list[Any])]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(422, f"the body is not JSON: {error}; lines of JSON are application/x-ndjson") from None


def _row(reject: Reject) -> Mapping[str, Any]:
    return {"record": reject.position + 1, "reason": reject.reason, "detail": reject.detail}
