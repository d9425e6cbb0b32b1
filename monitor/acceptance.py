"""A new normal: what an alert says is accepted, and its series learn anew.

Comes in: the packed state of a run that has stopped. Goes out: what of it changes, to be written in one transaction; a
run that goes on from there needs no further word. Pure, and without the scorers that the run was made with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from monitor.baselines import Baselines
from monitor.model import Alert, AlertChange, AlertKey, Blob, Reading, Scope
from monitor.readings import arms, without
from monitor.reference import ReferenceSettings
from monitor.rules import rebaselined
from monitor.settings import format_time

TABLE = "accepted"
"""Where in the store acceptances are kept, by number."""


class NotAcceptedError(Exception):
    """What was asked for cannot be accepted; the message says why."""


class Acceptance(msgspec.Struct, frozen=True):
    """Who accepted what, and when: kept for as long as the store."""

    at: int
    """Event time from which the signals learn anew."""
    rule: str
    stream: str
    segment: str | None
    signals: list[str]
    scopes: int
    """Streams and segments that learn them anew."""
    by: str
    reason: str

    @property
    def alert(self) -> str:
        return AlertKey(self.rule, self.stream, self.segment).name


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an acceptance changes."""

    acceptance: Acceptance
    blobs: Sequence[Blob]
    changes: Sequence[AlertChange]
    alerts: Sequence[Alert]
    """Those that are live after it."""


def accept(
    state: Sequence[tuple[str, str, bytes]],
    sizes: Sequence[int],
    name: str,
    by: str = "",
    reason: str = "",
    *,
    levels: Collection[str] = (),
) -> Accepted:
    """Take what a live alert says for the new normal. Raises NotAcceptedError.

    It covers the alert's signals: of its segment, or of its stream with all segments. Every alert that is about
    nothing else resolves with it.

    Parameters
    ----------
    state : (table, key, data) of all packed state
    name : RULE/STREAM or RULE/STREAM/LABEL=VALUE
    levels : rules that watch a fixed level, which no reference moves

    """
    held = {(table, key): data for table, key, data in state}
    alerts = msgspec.msgpack.decode(held.get(("engine", "alerts"), b"\x90"), type=list[Alert])
    alert = _found(alerts, name, levels)
    now = msgspec.msgpack.decode(held["engine", "time"], type=int)
    signals = sorted({part.signal for part in alert.contributions})
    baselines = Baselines(ReferenceSettings(), sizes)
    baselines.restore(held, held["engine", "baselines"])
    covered = baselines.accept(Scope(alert.stream, alert.segment), signals, now)
    gone = {(scope, signal) for scope in covered for signal in signals}
    why = f"accepted as the new normal at {format_time(now)}{f' by {by}' if by else ''}"
    over = [other for other in alerts if other.rule not in levels and _is_about(other, gone)]
    left = [other for other in alerts if other not in over]
    acceptance = Acceptance(now, alert.rule, alert.stream, alert.segment, signals, len(covered), by, reason)
    number = sum(table == TABLE for table, _ in held)
    return Accepted(
        acceptance,
        [
            Blob(TABLE, f"{number:06}", msgspec.msgpack.encode(acceptance)),
            Blob("engine", "baselines", baselines.dump()),
            Blob("engine", "alerts", msgspec.msgpack.encode(left)),
            *_forget(held, gone),
        ],
        [rebaselined(other, now, why) for other in over],
        left,
    )


def _found(alerts: Sequence[Alert], name: str, levels: Collection[str]) -> Alert:
    by_name = {alert.key.name: alert for alert in alerts}
    if name not in by_name:
        live = ", ".join(sorted(by_name)) or "none"
        raise NotAcceptedError(f"there is no live alert {name!r}; there are: {live}")
    if by_name[name].rule in levels:
        raise NotAcceptedError(f"{name} watches a fixed level, which no reference moves; change its rule")
    return by_name[name]


def _is_about(alert: Alert, gone: Collection[tuple[Scope, str]]) -> bool:
    """Whether all that an alert says is about series that learn anew."""
    return all((Scope(alert.stream, alert.segment), part.signal) in gone for part in alert.contributions)


def _forget(held: Mapping[tuple[str, str], bytes], gone: Collection[tuple[Scope, str]]) -> list[Blob]:
    """What was last read of series that learn anew, and evidence on them, is no more."""
    latest = msgspec.msgpack.decode(held["engine", "latest"], type=list[Reading])
    kept = [reading for reading in latest if (reading.scope, reading.signal) not in gone]
    evidence = [
        Blob(table, key, without(data, gone))
        for (table, key), data in held.items()
        if table in {"evidence", "evidence_rolling"}
    ]
    evidence += [
        Blob(table, key, arms.as_they_are(data, gone))
        for (table, key), data in held.items()
        if table == "evidence_arms"
    ]
    return [Blob("engine", "latest", msgspec.msgpack.encode(kept)), *evidence]
