"""The demo on a screen: a live table on a terminal, lines elsewhere, and the table that it ends with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from monitor.demo.findings import Finding, Result
from monitor.demo.traffic import SupportBot
from monitor.demo.truth import END, LEARNING, START, Planted
from monitor.engine import Step
from monitor.model import Alert
from monitor.settings import HOUR, MINUTE, SECOND, format_time

_FRAMES_PER_SECOND = 8


class Screen:
    """Shows a run while it goes on."""

    def __init__(self, console: Console, bot: SupportBot, truth: Sequence[Planted]) -> None:
        self._console, self._bot, self._truth = console, bot, truth
        self._now = START
        self._alerts: Sequence[Alert] = ()
        self._started = time.monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            live = Live(console=self._console, get_renderable=self._frame, refresh_per_second=_FRAMES_PER_SECOND)
            self._stack.enter_context(live)
        else:
            self._say(START, f"{len(self._bot):,} records; learning until {_clock(START + LEARNING)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def update(self, step: Step, alerts: Sequence[Alert]) -> None:
        """Event time has come to `step.at`; `alerts` are those that stand now."""
        before, self._now, self._alerts = self._now, step.at, alerts
        if self._console.is_terminal:
            return
        for planted in self._truth:
            if before < planted.begins <= step.at:
                self._say(planted.begins, f"planted: {planted.name}{_place(planted)}: {planted.description}")
            if before < planted.ends <= step.at and planted.ends < END:
                self._say(planted.ends, f"planted: {planted.name}{_place(planted)} ends")
        for change in step.changes:
            self._say(change.at, f"{change.rule} {change.state} ({change.reason}): {change.summary}")

    def _say(self, at: int, text: str) -> None:
        self._console.print(f"{_clock(at)}  {text}", highlight=False, markup=False, soft_wrap=True)

    def _frame(self) -> RenderableType:
        seconds = max(time.monotonic() - self._started, 1e-3)
        records = int(np.searchsorted(self._bot.schedule.ts, self._now))
        passed = (self._now - START) / SECOND
        state = "learning" if self._now < START + LEARNING else "judging"
        return Group(
            Text(
                f"{_clock(self._now)}  {state}  {records:,} of {len(self._bot):,} records  "
                f"{records / seconds:,.0f} records/s  {passed / seconds:,.0f} times as fast as real time"
            ),
            self._planted(),
            self._live_alerts(),
        )

    def _planted(self) -> Table:
        table = Table("planted change", "where", "from", "to", "now", title="planted", title_justify="left")
        for planted in self._truth:
            now = "to come" if self._now < planted.begins else "going on" if self._now < planted.ends else "over"
            row = (planted.description, planted.segment or "everywhere", _clock(planted.begins), _clock(planted.ends))
            table.add_row(*map(escape, row), f"[bold]{now}" if now == "going on" else now)
        return table

    def _live_alerts(self) -> Table:
        table = Table("rule", "segment", "state", "since", "signals", title_justify="left")
        table.title = "alerts" if self._alerts else "no alerts"
        for alert in self._alerts:
            signals = ", ".join(dict.fromkeys(part.signal for part in alert.contributions))
            row = (alert.rule, alert.segment or "", alert.state, _clock(alert.since), signals)
            table.add_row(*map(escape, row))
        return table


def print_result(console: Console, result: Result, records: int, seconds: float) -> None:
    """The table at the end: each planted change and how it was found, then all that was not planted."""
    table = Table(title="planted and found", title_justify="left")
    for column in ("planted change", "began", "found", "rule: signals", "delay"):
        table.add_column(column, overflow="fold")
    for finding in result.findings:
        table.add_row(*map(escape, _row(finding)))
    console.print(table)
    for sign in result.unplanted:
        where = f" in {sign.segment}" if sign.segment else ""
        console.print(
            f"not planted: {sign.rule}, {sign.signal}{where} at {_clock(sign.at)}", highlight=False, markup=False
        )
    found = sum(bool(finding.signs) for finding in result.findings)
    rest = f"{len(result.unplanted)} that nobody planted" if result.unplanted else "nothing else"
    console.print(
        f"found {found} of {len(result.findings)} planted changes and {rest}, "
        f"in {records:,} records; {(END - START) / HOUR:.1f} hours of traffic took {seconds:.0f} s",
        highlight=False,
        soft_wrap=True,
    )


def _row(finding: Finding) -> tuple[str, ...]:
    planted, delay = finding.planted, finding.delay
    begin = (f"{planted.name}\n{planted.segment or 'everywhere'}", _clock(planted.begins))
    if delay is None:
        return (*begin, "missed", "", "")
    by = f"{finding.signs[0].rule}: {', '.join(finding.found_by)}"
    if finding.confirmed_by:
        by += f"\nlater: {', '.join(finding.confirmed_by)}"
    return (*begin, _clock(finding.signs[0].at), by, f"{delay / MINUTE:.1f} min\n{finding.records:,} records")


def _place(planted: Planted) -> str:
    return f" in {planted.segment}" if planted.segment else ""


def _clock(at: int) -> str:
    """Time of day, UTC."""
    return format_time(at)[11:19]
