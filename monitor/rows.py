"""Readings, alerts and rejects as others get them: the rows of a replay's files and of the HTTP interface."""

from __future__ import annotations

from typing import Any

import msgspec

from monitor.model import Alert, AlertChange, Event, Reading, Reject
from monitor.settings import format_duration, format_time


def reading_row(reading: Reading) -> dict[str, Any]:
    """A row of readings.jsonl."""
    row = msgspec.structs.asdict(reading)
    row["at"], row["window_start"] = format_time(reading.at), format_time(reading.window_start)
    row["window"], row["changed_at"] = format_duration(reading.window), _time(reading.changed_at)
    return row


def change_row(change: AlertChange) -> dict[str, Any]:
    """A row of alerts.jsonl."""
    row = msgspec.structs.asdict(change)
    row["at"], row["started_at"] = format_time(change.at), format_time(change.started_at)
    row["window"] = None if change.window is None else format_duration(change.window)
    row["changed_at"] = _time(change.changed_at)
    return row


def _time(at: int | None) -> str | None:
    return None if at is None else format_time(at)


def reject_row(reject: Reject) -> dict[str, Any]:
    """A row of rejects.jsonl."""
    return msgspec.structs.asdict(reject)


def alert_row(alert: Alert) -> dict[str, Any]:
    """An alert that is pending or firing now."""
    return {
        "rule": alert.rule,
        "state": alert.state,
        "severity": alert.severity,
        "stream": alert.stream,
        "segment": alert.segment,
        "since": format_time(alert.since),
        "started_at": format_time(alert.started_at),
        "signals": sorted({part.signal for part in alert.contributions}),
        "summary": alert.contributions[0].summary,
    }


def event_row(event: Event) -> dict[str, Any]:
    """Something that the owner said has happened."""
    return {**msgspec.structs.asdict(event), "at": format_time(event.at)}
