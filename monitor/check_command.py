"""What `driftd check` says of a log or a store: per rule, which change each signal would show, and how soon."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monitor.evidence import REACH
from monitor.model import Scope
from monitor.outlook import Outlook, Passing, Volume
from monitor.readings.foresight import HALF, MOST, Sight, earliest
from monitor.readings.lacking import rounded
from monitor.rules import LevelSettings, Rule, selects
from monitor.settings import format_duration
from monitor.terminal import printable

_SEGMENTS = 8
"""Segments of a stream that are told one by one, those with most traffic."""
_NOTES = (
    "matters: what signals.matters says or leaves at its default.",
    "under the windows: the smallest change that one of them shows with 90 % power; - where it shows none.",
    "half in: records and time until half of the changes as large as what matters are found.",
    "double in: the same of nine of ten changes that are twice as large.",
)
_OF_LEVELS = (
    "fires above, below: what a window must show for its 95 % bound to pass; of a quantile, of how many records."
)


def show(outlook: Outlook) -> None:
    """Print one table for each rule and stream."""
    console = Console()
    for rule in outlook.rules:
        if isinstance(rule.on, LevelSettings):
            _level(console, rule, rule.on, outlook.levels[rule.name])
            continue
        for stream in sorted({scope.stream for scope, _ in outlook.sights} | {s.stream for s in outlook.volumes}):
            if rule.on == "silent":
                _silence(console, rule, stream, outlook)
            else:
                _drift(console, rule, stream, outlook)
    drifts = [rule for rule in outlook.rules if rule.on == "drift"]
    console.print()
    if any(selects(rule, *key) for rule in drifts for key in outlook.sights):
        _print(console, _NOTES)
    if outlook.levels:
        _print(console, [_OF_LEVELS])
    _print(console, (f"note: {notice}" for notice in outlook.notices))


# ---- drift ----------------------------------------------------------------------------------------------------------


def _drift(console: Console, rule: Rule, stream: str, outlook: Outlook) -> None:
    """Whole streams signal by signal, their segments in a line each; of a rule for segments alone these in full."""
    watched = _watched(rule, stream, outlook)
    whole = [scope for scope in watched if scope.segment is None]
    for scope in whole or watched:
        pace = _pace(outlook, scope)
        _put(console, f"{rule.name} on {scope.words}" + f": {pace}" * bool(pace), _signals(rule, watched[scope]))
        _print(console, _lacking(watched[scope]))
    segments = [scope for scope in watched if scope.segment is not None] if whole else []
    if segments:
        rows = _segments(rule, {scope: watched[scope] for scope in segments}, outlook)
        _put(console, f"{rule.name} on the segments of {stream}", rows)
    _volume(console, rule, stream, outlook)


def _watched(rule: Rule, stream: str, outlook: Outlook) -> dict[Scope, dict[str, list[Sight]]]:
    """Stream or segment -> signal -> what the windows that a rule looks at see of it."""
    found: dict[Scope, dict[str, list[Sight]]] = {}
    for (scope, signal), by_size in outlook.sights.items():
        sights = [sight for size, sight in by_size.items() if rule.window in {None, size}]
        if scope.stream == stream and selects(rule, scope, signal) and sights:
            found.setdefault(scope, {})[signal] = sights
    return dict(sorted(found.items(), key=lambda item: item[0].segment or ""))


def _signals(rule: Rule, signals: dict[str, list[Sight]]) -> Table:
    """Those that some window judges."""
    sizes = sorted({sight.size for sights in signals.values() for sight in sights})
    found = _table(("signal", "kind", "matters", *map(format_duration, sizes), "half in", "double in"))
    for name, sights in sorted(signals.items()):
        if not any(sight.judged for sight in sights):
            continue
        by_size = {sight.size: sight.detectable for sight in sights}
        half, most = earliest(sights, HALF), earliest(sights, MOST)
        cells = [
            name,
            sights[0].kind,
            f"{sights[0].matters:.2g}",
            *("-" if by_size.get(size) is None else f"{by_size[size]:.2g}" for size in sizes),
            _delay(half, rule.hold, sights, records=True),
            _delay(most, rule.hold, sights, records=False),
        ]
        found.add_row(*(escape(printable(cell)) for cell in cells))
    return found


def _delay(found: tuple[Sight, int] | None, hold: int, sights: Sequence[Sight], *, records: bool) -> str:
    """When a change is found; that it is not is said with how long was looked for."""
    if found is None:
        never = rounded(REACH * max(sight.length for sight in sights if sight.judged))
        return f"not in {never}" if records else f"> {never}"
    sight, slices = found
    time = slices * sight.length + hold
    about = _about(sight.traffic.records * time / sight.length)
    return f"{about} in {rounded(time)}" if records else rounded(time)


def _lacking(signals: dict[str, list[Sight]]) -> Iterator[str]:
    """What signals lack of which no change is found, in the longest window."""
    by_reason: dict[str, list[str]] = {}
    for name, sights in sorted(signals.items()):
        if earliest(sights, HALF) is None and earliest(sights, MOST) is None:
            by_reason.setdefault(sights[-1].lacks, []).append(name)
    return (f"{', '.join(names)}: lacks {reason}" for reason, names in by_reason.items())


def _segments(rule: Rule, segments: dict[Scope, dict[str, list[Sight]]], outlook: Outlook) -> Table:
    found = _table(("segment", "records", "half in", "found", "not found", "lacking"))
    shown = sorted(segments, key=lambda scope: -outlook.paces.get(scope, 0.0))[:_SEGMENTS]
    for scope in shown:
        row = _segment(rule, segments[scope].values())
        found.add_row(escape(printable(scope.segment or "")), _pace(outlook, scope).replace(" records", ""), *row)
    rest = [sights for scope in segments if scope not in shown for sights in segments[scope].values()]
    if rest:
        found.add_row(f"{len(segments) - len(shown)} more", "", *_segment(rule, rest))
    return found


def _segment(rule: Rule, signals: Iterable[Sequence[Sight]]) -> tuple[str, str, str, str]:
    """The shortest and the longest delay of a change that matters, and of how many signals there is one."""
    missed, delays, lacking = 0, [], 0
    for sights in signals:
        half = earliest(sights, HALF)
        if half is not None:
            delays.append(half[1] * half[0].length + rule.hold)
        elif any(sight.judged for sight in sights):
            missed += 1
        else:
            lacking += 1
    span = list(dict.fromkeys(rounded(time) for time in (min(delays), max(delays)))) if delays else ["-"]
    return " to ".join(span), str(len(delays)), str(missed), str(lacking)


# ---- volume and silence ---------------------------------------------------------------------------------------------


def _volume(console: Console, rule: Rule, stream: str, outlook: Outlook) -> None:
    rows = {
        scope: [volume for volume in found if rule.window in {None, volume.size}]
        for scope, found in outlook.volumes.items()
        if scope.stream == stream and selects(rule, scope, "volume")
    }
    scopes = sorted(rows, key=lambda scope: (scope.segment is not None, -outlook.paces[scope]))
    if not scopes:
        return
    found = _table(("segment", "window", "usual", "fires below", "fires above"))
    for scope in scopes[: _SEGMENTS + 1]:
        for volume in rows[scope]:
            found.add_row(*map(escape, (printable(scope.segment or "all"), *_range(volume))))
    if len(scopes) > _SEGMENTS + 1:
        found.add_row(f"{len(scopes) - _SEGMENTS - 1} more")
    _put(console, f"{rule.name} on the records of a window of {stream}", found)


def _range(volume: Volume) -> tuple[str, str, str, str]:
    low = f"{math.ceil(volume.low):,}" if volume.low > 0 else "never"
    high = f"{math.floor(volume.high):,}" if math.isfinite(volume.high) else "never"
    return format_duration(volume.size), _about(volume.usual), low, high


def _silence(console: Console, rule: Rule, stream: str, outlook: Outlook) -> None:
    scopes = [scope for scope in outlook.volumes if scope.stream == stream and selects(rule, scope, "volume")]
    for scope in scopes:
        sizes = [v.size for v in outlook.volumes[scope] if v.silent and rule.window in {None, v.size}]
        after = (
            f"after {rounded(min(sizes) + rule.hold)} without a record"
            if sizes
            else "never: its reference is as silent"
        )
        _print(console, [f"{rule.name} on {scope.words}: {after}"])


# ---- levels ---------------------------------------------------------------------------------------------------------


def _level(console: Console, rule: Rule, on: LevelSettings, passing: Sequence[Passing]) -> None:
    assert rule.window is not None
    what = f"{on.q:g} quantile" if on.q is not None else on.value
    side, level = ("below", on.below) if on.above is None else ("above", on.above)
    if not passing:
        _print(console, [f"{rule.name}: nothing that it watches has a reference"])
        return
    title = f"{rule.name}: {what} {side} {level:g} in {format_duration(rule.window)}, at the latest after "
    title += rounded(rule.window + rule.hold)
    found = _table(("on", "signal", "usual", f"fires {side}", "records"))
    passing = sorted(passing, key=lambda row: (row.scope.segment is not None, -row.records))
    shown = passing[: max(_SEGMENTS, sum(row.scope.segment is None for row in passing))]
    for row in shown:
        few_records = on.value != "count" and row.records < rule.min_records
        needed = f"{row.needed:.3g}" if on.q is None else f"{row.needed:.1%} beyond {level:g}"
        cells = (
            row.scope.words,
            row.signal,
            "-" if row.usual is None else f"{row.usual:.3g}" if on.value != "count" else _about(row.usual),
            f"never below {rule.min_records}" if few_records else needed if on.value != "count" else f"{level:,g}",
            _about(row.records),
        )
        found.add_row(*(escape(printable(cell)) for cell in cells))
    _put(console, title, found)
    if len(passing) > len(shown):
        _print(console, [f"{len(passing) - len(shown)} more segments"])


# ---- words ----------------------------------------------------------------------------------------------------------


def _table(columns: Iterable[str]) -> Table:
    """A table that is narrow: only its first column is folded."""
    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    made.padding = (0, 1, 0, 0)
    for number, column in enumerate(columns):
        made.add_column(column, overflow="fold", no_wrap=number > 0)
    return made


def _put(console: Console, title: str, found: Table) -> None:
    console.print()
    _print(console, [title])
    if found.row_count:
        console.print(found)


def _print(console: Console, lines: Iterable[str]) -> None:
    """Sentences, as wide as the tables."""
    for line in lines:
        console.print(printable(line), highlight=False, markup=False)


def _pace(outlook: Outlook, scope: Scope) -> str:
    """How much traffic there is, in words."""
    pace = outlook.paces.get(scope)
    if pace is None:
        return ""
    units = ((1, "second"), (60, "minute"), (3_600, "hour"), (86_400, "day"))
    seconds, unit = next((row for row in units if pace * row[0] >= 1), units[-1])
    return f"{_about(pace * seconds)} records a {unit}"


def _about(number: float) -> str:
    """Two figures.

    >>> [_about(number) for number in (0.0, 1.234, 47.6, 1934.0, 128_412.0)]
    ['0', '1.2', '48', '1,900', '130,000']
    """
    if number < 10:
        return f"{number:.2g}"
    scale: float = 10 ** (math.floor(math.log10(number)) - 1)
    return f"{round(number / scale) * scale:,.0f}"
