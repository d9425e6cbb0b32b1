"""Rules, what the owner wants to hear of, and alerts, what became of it: pending, firing, resolved.

Comes in: the latest readings and levels, and the alerts as they stood. Goes out: the alerts as they stand, and a row
for every change. An alert is (rule, stream, segment); the series (signal and window) that say so contribute to it.
Pure: all times are arguments, in milliseconds of event time, and the order of readings does not matter.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Literal, Self

import pydantic
from msgspec import structs

from monitor.model import (
    RELATIVE,
    STRETCH,
    Alert,
    AlertChange,
    AlertKey,
    AlertState,
    Contribution,
    Level,
    Reading,
    Scope,
)
from monitor.settings import DAY, Duration, Settings, format_duration, format_time

CALM_UNITS = 40
"""Units of a window below which it cannot say that a change is over."""
WAIT = DAY
"""How long an alert stays as it is while its series have too little data to say."""
EVENTS = frozenset({"volume", "model_version"})
"""Signals that `*` leaves out: a change in them is an event, not drift."""

Observed = Reading | Level
"""What one series says now: to a drift rule by its verdict, to a level rule by its bounds."""


# ---- settings -------------------------------------------------------------------------------------------------------


_RANGES = {"rate": (0.0, 1.0), "count": (0.0, math.inf)}


class LevelSettings(Settings):
    """A fixed level that a window's value must not pass."""

    value: Literal["mean", "rate", "quantile", "count"]
    q: Annotated[float, pydantic.Field(gt=0, lt=1)] | None = None
    """Which quantile."""
    above: Annotated[float, pydantic.Field(allow_inf_nan=False)] | None = None
    below: Annotated[float, pydantic.Field(allow_inf_nan=False)] | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("a level needs exactly one of `above` and `below`")
        if (self.value == "quantile") != (self.q is not None):
            raise ValueError("`q` is needed with `value: quantile`, as in `q: 0.95`, and with no other value")
        least, most = _RANGES.get(self.value, (-math.inf, math.inf))
        if not (self.above is None or least <= self.above < most) or not (
            self.below is None or least < self.below <= most
        ):
            raise ValueError(
                f"a {self.value} lies between {least:g} and {most:g}: this level is always or never passed"
            )
        return self


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _form(on: object) -> str:
    return "level" if isinstance(on, (Mapping, LevelSettings)) else "word"


_Glob = Annotated[str, pydantic.Field(min_length=1)]
_Globs = Annotated[
    tuple[_Glob, ...],
    pydantic.BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]


class RuleSettings(Settings):
    """What the owner wants to hear of. Globs are the shell's (`*`, `?`, `[...]`) and mind upper and lower case."""

    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    signal: _Globs
    """Signals by name, one glob or a list of them; `*` is every signal but `volume` and `model_version`."""
    on: Annotated[
        Annotated[Literal["drift", "silent"], pydantic.Tag("word")] | Annotated[LevelSettings, pydantic.Tag("level")],
        pydantic.Discriminator(_form),
    ]
    """`drift`: its verdict says so. `silent`: no records where the reference has them. Else: a level is passed."""
    window: Duration | None = None
    """One window size; without it a drift rule looks at all, and a level rule is refused."""
    stream: _Glob = "*"
    segment: str | None = None
    """Segments by `label=value`; without it whole streams and all segments, `""` is whole streams alone."""
    hold: Annotated[Duration, pydantic.Field(alias="for")] = 0
    """How long it must last before the alert fires."""
    keep_firing_for: Duration | None = None
    """How long all must be calm before it resolves; without it, one window of its series."""
    severity: Literal["info", "warning", "critical"] = "warning"
    sinks: tuple[str, ...] = ()
    min_records: Annotated[int, pydantic.Field(ge=1)] = 100
    """Records below which a level is not judged; counts always are."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if not self.signal:
            raise ValueError("`signal` names no signal; `*` is all of them")
        if isinstance(self.on, LevelSettings):
            if self.window is None:
                raise ValueError("a level rule needs a window, as in `window: 1h`")
        elif "min_records" in self.model_fields_set:
            raise ValueError("`min_records` is for level rules; how much drift needs follows from its test")
        if self.on == "silent" and self.signal != ("volume",):
            raise ValueError("`on: silent` needs `signal: volume`")
        return self


Rule = RuleSettings
DEFAULT_RULES: tuple[Rule, ...] = (RuleSettings(name="AnyDrift", signal=("*",), on="drift"),)
"""What an owner who names no rules hears of."""


def built_in_rules() -> tuple[Rule, ...]:
    """The rules that exist unless the owner switches them off; both are outside the false-alarm budget."""
    return (
        RuleSettings(name="VolumeChange", signal=("volume",), on="drift"),
        RuleSettings(name="SilentStream", signal=("volume",), on="silent", segment="", severity="critical"),
    )


def with_built_in(own: Sequence[Rule]) -> tuple[Rule, ...]:
    """The owner's rules, then the built-in ones whose names the owner did not take.

    >>> [rule.name for rule in with_built_in(DEFAULT_RULES)]
    ['AnyDrift', 'VolumeChange', 'SilentStream']
    """
    taken = {rule.name for rule in own}
    return (*own, *(rule for rule in built_in_rules() if rule.name not in taken))


def check_rules(rules: Sequence[Rule], sizes: Sequence[int]) -> list[str]:
    """What is wrong with rules taken together, given the window sizes (milliseconds) that there are.

    >>> check_rules([*DEFAULT_RULES, *DEFAULT_RULES], [300_000])
    ['rules: 2 are named AnyDrift; alerts are told apart by the name of their rule']
    """
    names = Counter(rule.name for rule in rules)
    return [
        f"rules: {count} are named {name}; alerts are told apart by the name of their rule"
        for name, count in names.items()
        if count > 1
    ] + [
        f"rules: {rule.name} watches a window of {format_duration(rule.window)}; there are "
        + ", ".join(map(format_duration, sizes))
        for rule in rules
        if rule.window is not None and rule.window not in sizes
    ]


# ---- does a rule's condition hold? ----------------------------------------------------------------------------------


@lru_cache(maxsize=65_536)
def _any_glob(globs: tuple[str, ...], signal: str) -> bool:
    return any(signal not in EVENTS if glob == "*" else fnmatchcase(signal, glob) for glob in globs)


@lru_cache(maxsize=65_536)
def _covers(stream_glob: str, segment_glob: str | None, stream: str, segment: str | None) -> bool:
    return fnmatchcase(stream, stream_glob) and (segment_glob is None or fnmatchcase(segment or "", segment_glob))


def selects(rule: Rule, scope: Scope, signal: str) -> bool:
    """Whether a rule watches a signal of a stream or segment, in whatever window."""
    return _any_glob(rule.signal, signal) and _covers(rule.stream, rule.segment, scope.stream, scope.segment)


def _watches(rule: Rule, seen: Observed) -> bool:
    window = rule.window is None or rule.window == seen.window
    return window and selects(rule, Scope(seen.stream, seen.segment), seen.signal)


def _says_so(rule: Rule, seen: Observed) -> bool:
    """Whether this series alone makes the rule's condition true."""
    if isinstance(seen, Level):
        return isinstance(rule.on, LevelSettings) and _enough(rule, seen) and _passed(rule.on, seen)
    if rule.on == "silent":
        # A window that is `ok` without records is as empty as some of the reference were.
        return seen.value == 0 and (seen.reference_value or 0) > 0 and seen.verdict not in ("learning", "ok")
    return rule.on == "drift" and seen.verdict == "drift"


def _passed(on: LevelSettings, level: Level) -> bool:
    """Whether the 95 % bound nearer to the level is beyond it; a count is exact and is its own bound."""
    low, high = (level.value, level.value) if on.value == "count" else (level.low, level.high)
    if on.above is not None:
        return low is not None and low > on.above
    return high is not None and on.below is not None and high < on.below


def _enough(rule: Rule, seen: Observed) -> bool:
    """Whether there is data enough to say that the condition does not hold."""
    if isinstance(seen, Level):
        counted = isinstance(rule.on, LevelSettings) and rule.on.value == "count"
        return seen.value is not None and (counted or seen.records >= rule.min_records)
    # No records are little data for any signal but volume, of which they are the value.
    return seen.verdict != "learning" and (seen.kind == "level" or seen.units >= CALM_UNITS)


def _standing(rule: Rule, began: Contribution, seen: Observed | None) -> Literal["stands", "lost", "calm"]:
    """What a contributing series says of its firing alert: that it still stands, nothing (too little data), or calm."""
    if seen is not None and _says_so(rule, seen):
        return "stands"
    if seen is None or not _enough(rule, seen):
        return "lost"
    if isinstance(seen, Level) or rule.on == "silent" or began.effect is None:
        return "calm"
    if seen.effect is None:
        return "lost"
    return "calm" if abs(seen.effect) < abs(began.effect) / 2 else "stands"


# ---- the step -------------------------------------------------------------------------------------------------------


_Moved = tuple[Alert | None, AlertChange | None]
_Place = tuple[str, str, str | None, str, int, str]
"""Where a series is found: rule (empty for readings, which all rules share), stream, segment, signal, window, and the
baseline of an arm."""


def step(
    rules: Sequence[Rule],
    alerts: Mapping[AlertKey, Alert],
    readings: Sequence[Reading],
    levels: Sequence[Level],
    now: int,
) -> tuple[dict[AlertKey, Alert], list[AlertChange]]:
    """Move all alerts on to `now`.

    Parameters
    ----------
    alerts : those that are pending or firing
    readings : the latest one of every live series, new or not; a series that is not among them has no data
    levels : the latest one of every level rule, scope and window
    now : event time of the step, milliseconds

    Returns
    -------
    The alerts that are pending or firing now (an alert that did not change is the same object), and a row for each
    change, by place of the rule in `rules`, then stream, then segment. One alert has at most one row a step.

    """
    by_name = {rule.name: rule for rule in rules}
    place = {rule.name: number for number, rule in enumerate(rules)}
    saying, latest = _saying(rules, readings, levels), _latest(alerts, readings, levels)
    after: dict[AlertKey, Alert] = {}
    changes: list[AlertChange] = []
    for key in sorted(
        {*saying, *alerts}, key=lambda key: (place.get(key.rule, len(rules)), key.rule, key.stream, key.segment or "")
    ):
        rule, alert = by_name.get(key.rule), alerts.get(key)
        if rule is None or not _covers(rule.stream, rule.segment, key.stream, key.segment):
            moved, change = _removed(alerts[key], now)
        elif alert is None or alert.state == "pending":
            moved, change = _toward_firing(rule, key, alert, saying.get(key, []), now)
        else:
            moved, change = _while_firing(rule, alert, saying.get(key, []), latest, now)
        if moved is not None:
            after[key] = moved
        if change is not None:
            changes.append(change)
    return after, changes


def next_deadline(rules: Sequence[Rule], alerts: Mapping[AlertKey, Alert], now: int) -> int | None:
    """The earliest time after `now` at which `step` would change something although no reading did.

    Takes the alerts as the step at `now` left them; None where nothing but a new reading can change them.
    """
    by_name = {rule.name: rule for rule in rules}
    due = []
    for alert in alerts.values():
        rule = by_name.get(alert.rule)
        if rule is None:
            due.append(now)
        elif alert.state == "pending":
            due.append(alert.started_at + rule.hold)
        elif alert.quiet_since is not None:
            due.append(alert.quiet_since + _keep(rule, alert.contributions))
        elif alert.lost_since is not None:
            due.append(alert.lost_since + WAIT)
    return max(min(due), now + 1) if due else None


def _saying(
    rules: Sequence[Rule], readings: Sequence[Reading], levels: Sequence[Level]
) -> dict[AlertKey, list[Observed]]:
    """Alert -> the series that make its condition true now, strongest first."""
    loud = [reading for reading in readings if reading.verdict == "drift" or reading.signal == "volume"]
    by_name = {rule.name: rule for rule in rules}
    asked: list[tuple[Rule, Iterable[Observed]]] = [(rule, loud) for rule in rules]
    asked += [(by_name[level.rule], (level,)) for level in levels if level.rule in by_name]
    found: dict[AlertKey, list[Observed]] = {}
    for rule, series in asked:
        for seen in series:
            if _says_so(rule, seen) and _watches(rule, seen):
                found.setdefault(AlertKey(rule.name, seen.stream, seen.segment), []).append(seen)
    for together in found.values():
        together.sort(key=_strength)
    return found


def _latest(
    alerts: Mapping[AlertKey, Alert], readings: Sequence[Reading], levels: Sequence[Level]
) -> dict[_Place, Observed]:
    """The latest of every series that an alert may be about."""
    scopes = {(key.stream, key.segment) for key in alerts}
    latest: dict[_Place, Observed] = {}
    if scopes:
        for seen in readings:
            if (seen.stream, seen.segment) in scopes:
                latest["", seen.stream, seen.segment, seen.signal, seen.window, seen.baseline] = seen
        for level in levels:
            if (level.stream, level.segment) in scopes:
                latest[level.rule, level.stream, level.segment, level.signal, level.window, ""] = level
    return latest


def _removed(alert: Alert, now: int) -> _Moved:
    """Its rule was taken away, or no longer covers it."""
    state: AlertState = "inactive" if alert.state == "pending" else "resolved"
    return None, _row(
        alert, now, state, "rule_removed", f"{alert.contributions[0].summary}; no rule asks for it any more"
    )


def rebaselined(alert: Alert, now: int, why: str) -> AlertChange:
    """Its owner takes what it says for the new normal."""
    state: AlertState = "inactive" if alert.state == "pending" else "resolved"
    return _row(alert, now, state, "rebaselined", f"{alert.contributions[0].summary}; {why}")


def taken_away(alert: Alert, now: int, names: Collection[str], gone: Collection[str]) -> _Moved:
    """An alert where its rule is not among those `names` any more, or some of its signals are not what they were."""
    if alert.rule not in names:
        return _removed(alert, now)
    left = tuple(part for part in alert.contributions if part.signal not in gone)
    if left:
        return alert if left == alert.contributions else structs.replace(alert, contributions=left), None
    state: AlertState = "inactive" if alert.state == "pending" else "resolved"
    why = f"{alert.contributions[0].summary}; it is not measured any more as it was"
    return None, _row(alert, now, state, "signal_removed", why)


def _toward_firing(rule: Rule, key: AlertKey, alert: Alert | None, saying: Sequence[Observed], now: int) -> _Moved:
    """An alert that is inactive or pending."""
    started_at = now if alert is None else alert.started_at
    if not saying:
        if alert is None:
            return None, None
        return None, _row(alert, now, "inactive", "cleared", f"{alert.contributions[0].summary}; gone before it fired")
    state: AlertState = "firing" if now - started_at >= rule.hold else "pending"
    if alert is not None and state == "pending":
        return alert, None
    contributions = tuple(_contribution(rule, seen) for seen in saying)
    moved = Alert(rule.name, rule.severity, key.stream, key.segment, state, now, started_at, contributions)
    return moved, _row(moved, now, state, _reason(rule), contributions[0].summary)


def _while_firing(
    rule: Rule, alert: Alert, saying: Sequence[Observed], latest: Mapping[_Place, Observed], now: int
) -> _Moved:
    """A firing alert: series join it, or it waits until all are calm, or gives up waiting for data."""
    known = {(part.signal, part.window, part.baseline) for part in alert.contributions}
    joining = tuple(_contribution(rule, seen) for seen in saying if _series(seen) not in known)
    source = rule.name if isinstance(rule.on, LevelSettings) else ""
    standing = {
        _standing(rule, part, latest.get((source, alert.stream, alert.segment, *_series(part))))
        for part in alert.contributions
    }
    quiet_since, lost_since = alert.quiet_since, alert.lost_since
    if joining or "stands" in standing:
        quiet_since = lost_since = None
    elif "lost" in standing:
        quiet_since, lost_since = None, now if lost_since is None else lost_since
    else:
        # `lost_since` stays: a lone full window among empty ones must not begin the wait for data anew.
        quiet_since = now if quiet_since is None else quiet_since
    if quiet_since is not None and now - quiet_since >= _keep(rule, alert.contributions):
        calm = f"{alert.contributions[0].summary}; calm since {format_time(quiet_since)}"
        return None, _row(alert, now, "resolved", "resolved", calm)
    if quiet_since is None and lost_since is not None and now - lost_since >= WAIT:
        silent = f"{alert.contributions[0].summary}; too little data to say more since {format_time(lost_since)}"
        return None, _row(alert, now, "resolved", "no_data", silent)
    if not joining and (quiet_since, lost_since) == (alert.quiet_since, alert.lost_since):
        return alert, None
    together = alert.contributions + joining
    moved = structs.replace(alert, contributions=together, quiet_since=quiet_since, lost_since=lost_since)
    if {part.signal for part in joining} <= {signal for signal, *_ in known}:
        return moved, None
    return moved, _row(moved, now, "firing", "joined", moved.contributions[0].summary)


def _keep(rule: Rule, contributions: Sequence[Contribution]) -> int:
    """How long all must be calm, milliseconds."""
    if rule.keep_firing_for is not None:
        return rule.keep_firing_for
    windows = [part.window for part in contributions]
    # One fresh window of every series; but records in its shortest window are proof that a stream is not silent.
    return min(windows) if rule.on == "silent" else max(windows)


# ---- rows -----------------------------------------------------------------------------------------------------------


def _contribution(rule: Rule, seen: Observed) -> Contribution:
    sentence = _sentence(rule, seen)
    if isinstance(seen, Level):
        return Contribution(seen.signal, seen.window, seen.value, None, None, sentence)
    shown = seen.value, seen.p_value, seen.effect, sentence, seen.changed_at
    return Contribution(seen.signal, seen.window, *shown, seen.baseline)


def _series(part: Observed | Contribution) -> tuple[str, int, str]:
    """What tells the series of one stream or segment apart: signal, window, and the baseline of an arm."""
    return part.signal, part.window, "" if isinstance(part, Level) else part.baseline


def _strength(part: Observed | Contribution) -> tuple[bool, float, float, str, int, str]:
    """What series are ordered by, the strongest first; names settle ties."""
    if isinstance(part, Level):
        return True, 0.0, 0.0, *_series(part)
    return part.p_value is None, part.p_value or 0.0, -abs(part.effect or 0.0), *_series(part)


def _reason(rule: Rule) -> str:
    return rule.on if isinstance(rule.on, str) else "level"


def joined(change: AlertChange, before: Alert | None) -> list[str]:
    """The signals that joined a firing alert by a change, given what it was before."""
    if change.reason != "joined" or before is None:
        return []
    known = {part.signal for part in before.contributions}
    return [signal for signal in change.signals if signal not in known]


def _row(alert: Alert, now: int, state: AlertState, reason: str, sentence: str) -> AlertChange:
    first = alert.contributions[0]
    signals = list(dict.fromkeys(part.signal for part in sorted(alert.contributions, key=_strength)))
    others = len(signals) - 1
    return AlertChange(
        at=now,
        rule=alert.rule,
        state=state,
        reason=reason,
        severity=alert.severity,
        stream=alert.stream,
        segment=alert.segment,
        signals=signals,
        window=first.window,
        value=first.value,
        p_value=first.p_value,
        started_at=alert.started_at,
        summary=sentence + (f", and {others} more signal{'s' * (others > 1)}" if others else ""),
        changed_at=first.changed_at,
    )


_POINTS = "difference of rates"


def _effect_text(effect: float, unit: str) -> str:
    """An effect in its unit; of rates in points.

    >>> _effect_text(0.053, "difference of rates in the strongest stretch"), _effect_text(-0.2, "difference of means")
    ('+5.3 points', 'difference of means -0.200')
    """
    unit = unit.removesuffix(STRETCH)
    return f"{100 * effect:+.3g} points" if unit == _POINTS else f"{unit} {_signed(effect)}"


def _sentence(rule: Rule, seen: Observed) -> str:
    """What one series says, for a person."""
    where = Scope(seen.stream, seen.segment).words
    when = f"in the {format_duration(seen.window)} to {format_time(seen.at)}"
    if isinstance(seen, Reading) and seen.changed_at is not None:
        when = f"since about {format_time(seen.changed_at)} (seen {when})"
    if isinstance(seen, Level):
        return f"{where}: {_level_text(rule, seen)} {when}"
    if rule.on == "silent":
        return f"{where}: no records {when}; the reference has {_number(seen.reference_value)} a slice"
    if seen.baseline:
        return f"{where} against {seen.baseline}: {_beside(seen)}{_effect(seen)} {when}"
    return f"{where}: {_move(seen)} {when}"


def _effect(seen: Reading) -> str:
    return "" if seen.effect is None else f" ({_effect_text(seen.effect, seen.effect_unit)})"


def _move(seen: Reading) -> str:
    """What a series did against its reference."""
    if seen.kind == "vector":
        return f"{seen.signal}: at least {abs(seen.effect or 0.0):.0%} of the texts are unlike the reference's"
    if seen.effect is not None and seen.effect_unit.startswith(RELATIVE):
        medians = f"median {_number(seen.reference_value)} before, {_number(seen.value)} now"
        move = f"{'rose' if seen.effect > 0 else 'fell'} by {abs(seen.effect):.0%} ({medians})"
        return f"{seen.signal}: {seen.effect_unit.removeprefix(RELATIVE)} {move}"
    if seen.value is None or seen.reference_value is None or seen.value == seen.reference_value:
        return f"{seen.signal} changed{_effect(seen)}"
    value = seen.value_then
    verb = "rose" if value is not None and value > seen.reference_value else "fell"
    move = f"{verb} from {_plain(seen, seen.reference_value)} to {_plain(seen, value)}"
    if seen.kind == "category":
        return f"{seen.signal}: the share of {seen.moved or 'some values'} {move}"
    return f"{seen.signal} {move}{_effect(seen)}"


def _plain(seen: Reading, value: float | None) -> str:
    """A value of a series; shares in percent."""
    return f"{value:.1%}" if seen.kind in {"rate", "category"} and value is not None else _number(value)


def _beside(seen: Reading) -> str:
    """An arm's value beside its baseline's."""
    what = f"{seen.signal}, share of {seen.moved or 'some values'}," if seen.kind == "category" else seen.signal
    return f"{what} {_plain(seen, seen.value)} against {_plain(seen, seen.reference_value)}"


def _level_text(rule: Rule, level: Level) -> str:
    on = rule.on
    assert isinstance(on, LevelSettings)  # a rule of another kind is never told of levels
    what = on.value if on.q is None else f"{on.q:g} quantile"
    bounds = "" if on.value == "count" else f" (95 % {_number(level.low)} to {_number(level.high)})"
    limit = f"below {_number(on.below)}" if on.above is None else f"above {_number(on.above)}"
    return f"{what} of {level.signal} is {_number(level.value)}{bounds}, {limit},"


def _number(value: float | None) -> str:
    """Three figures, as people write them.

    >>> [_number(x) for x in (0.0, 0.0004, 0.05, 1.25, 17.04, 12345.6)]
    ['0', '0.0004', '0.050', '1.25', '17.0', '12346']
    """
    if value is None:
        return "unknown"
    size = abs(value)
    places = 0 if size == 0 or size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{places}f}" if size == 0 or size >= 0.01 else f"{value:.2g}"


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{_number(abs(value))}"
