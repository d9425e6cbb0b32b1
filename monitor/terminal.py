"""What commands share: refusals with their exit codes, tables, a progress bar, a store to look at."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from monitor.config import Config
    from monitor.pipeline import Pipeline
    from monitor.store import Store


_FOLDED = {"stream", "segment", "scope", "signals", "unsteady in", "distances"}
"""Columns that may take more than one line."""


_WIDE = 400


@contextmanager
def failures() -> Iterator[None]:
    """Turn what goes wrong into a sentence on standard error and an exit code."""
    from monitor.app import UsageError  # noqa: PLC0415  `driftd --help` needs none of it
    from monitor.config import ConfigError  # noqa: PLC0415
    from monitor.store import StoreError  # noqa: PLC0415

    try:
        yield
    except (UsageError, ConfigError) as error:
        stop(2, str(error))
    except StoreError as error:
        stop(3, str(error))
    except OSError as error:
        stop(3, f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))


def configuration(path: Path | None) -> Config:
    """What is in a file, or without one the defaults. Raises ConfigError."""
    from monitor.config import Config, load  # noqa: PLC0415

    return Config() if path is None else load(path)


def printable(text: str) -> str:
    r"""The text with control characters as escapes: names in a log may hold what a terminal obeys.

    >>> printable("b\x1b[31mot")
    'b\\x1b[31mot'
    """
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode() for ch in text)


def stop(code: int, text: str) -> NoReturn:
    for line in text.splitlines():
        typer.echo(f"driftd: {printable(line)}", err=True)
    raise typer.Exit(code) from None


@contextmanager
def progress() -> Iterator[Callable[[Pipeline], None]]:
    """A bar on a terminal; called after each commit. Its length is known where no file is compressed."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    sizes: list[Mapping[str, int] | None] = []
    last = [(time.monotonic(), -1)]
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)

        def show(pipeline: Pipeline) -> None:
            if not console.is_terminal:
                return
            sizes[:] = sizes or [_sizes(pipeline.source.partitions())]
            now, count = time.monotonic(), sum(pipeline.fates().values())
            (then, before), last[0] = last[0], (now, count)
            rate = (count - before) / max(now - then, 1e-9) if before >= 0 else None
            bar.update(task, description=_headway(pipeline, count, rate))
            if sizes[0]:
                done = sum(pipeline.positions[name].offset for name in sizes[0] if name in pipeline.positions)
                bar.update(task, completed=done, total=sum(sizes[0].values()))

        yield show


def _sizes(partitions: Iterable[str]) -> dict[str, int] | None:
    """Bytes of each file; None where one is compressed or no file, so that its positions are no share of its size."""
    names = list(partitions)
    plain = all(not name.endswith((".gz", ".zst")) and Path(name).is_file() for name in names)
    return {name: Path(name).stat().st_size for name in names} if plain else None


def _headway(pipeline: Pipeline, count: int, rate: float | None) -> str:
    from monitor.settings import format_time  # noqa: PLC0415  with the command

    watermark, live = pipeline.admission.watermark, len(pipeline.engine.alerts)
    parts = [f"{count:,} records"]
    parts += [] if rate is None else [f"{rate:,.0f}/s"]
    parts += [] if watermark is None else [f"up to {format_time(watermark)[:19]}Z"]
    return ", ".join([*parts, f"{live} alert{'' if live == 1 else 's'} live"])


def standard_output() -> Console:
    """Standard output. Where that is no terminal nothing is folded: a table is as wide as it is."""
    found = Console()
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDE)


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A table whose last column takes the room that is left."""
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column not in _FOLDED)
    for row in rows:
        made.add_row(*(escape(printable(cell)) for cell in row))
    return made


def say(lines: Iterable[str]) -> None:
    """Lines on standard output, as long as they are."""
    for line in lines:
        typer.echo(printable(line))


def few(names: Sequence[str]) -> str:
    """The first four of many names.

    >>> few(["a", "b", "c", "d", "e"])
    'a, b, c, d and 1 more'
    """
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def store_in(out: Path) -> Path:
    """Where the store of a folder is; a path to something else is the store itself."""
    return out / "driftd.db" if out.is_dir() else out


def opened(out: Path) -> Store:
    """The store of a folder, to look at."""
    from monitor.store import StoreError, read_only  # noqa: PLC0415

    path = store_in(out)
    if not path.is_file():
        stop(2, f"there is no store at {path}")
    try:
        return read_only(path)
    except StoreError as error:
        stop(3, str(error))
