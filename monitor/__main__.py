"""The command line. Exit: 0 quiet, 1 alerts fired or a check failed, 2 usage or configuration, 3 failed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monitor import __version__

if TYPE_CHECKING:
    from monitor.app import Outcome
    from monitor.pipeline import Pipeline

app = typer.Typer(
    name="driftd",
    help="Says when what a language model is asked or answers has changed, within a stated false-alarm budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ConfigPath = Annotated[
    Path | None, typer.Option("-c", "--config", metavar="FILE", help="Configuration (YAML). Without it: the defaults.")
]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for what comes out; new or empty, unless --resume.")
]


def _version(value: bool) -> None:  # noqa: FBT001  typer's callbacks are called so
    if value:
        typer.echo(f"driftd {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,  # noqa: FBT002
) -> None:
    pass


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what goes wrong into a sentence on standard error and an exit code."""
    from monitor.app import UsageError  # noqa: PLC0415  `driftd --help` needs none of it
    from monitor.config import ConfigError  # noqa: PLC0415
    from monitor.store import StoreError  # noqa: PLC0415

    try:
        yield
    except (UsageError, ConfigError) as error:
        _stop(2, str(error))
    except StoreError as error:
        _stop(3, str(error))
    except OSError as error:
        _stop(3, f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))


def _stop(code: int, text: str) -> NoReturn:
    for line in text.splitlines():
        typer.echo(f"driftd: {line}", err=True)
    raise typer.Exit(code) from None


@app.command()
def replay(
    out: Out,
    logs: Annotated[
        list[str] | None,
        typer.Argument(metavar="LOG", help="Files, folders, globs, or - for standard input.", show_default=False),
    ] = None,
    config: ConfigPath = None,
    resume: Annotated[  # noqa: FBT002  typer's options are declared so
        bool,
        typer.Option("--resume", help="Create DIR or go on with it, and leave its end open; without a LOG, close it."),
    ] = False,
) -> None:
    """Run finished logs through the pipeline, in their own time, and write what was found to DIR.

    Exit: 0 nothing fired, 1 alerts fired, 2 bad usage or configuration, 3 failed, 130 interrupted.
    """
    from monitor import app as wiring  # noqa: PLC0415
    from monitor.config import Config, load  # noqa: PLC0415

    with _failures():
        settings = Config() if config is None else load(config)
        try:
            with _progress() as show:
                outcome = wiring.replay(settings, out, logs or [], resume=resume, on_commit=show)
        except KeyboardInterrupt:
            hint = "the same command goes on" if resume else "the same command with --resume goes on"
            _stop(130, f"interrupted; {out} keeps what was committed, and {hint}")
        _report(outcome, out)
    raise typer.Exit(1 if outcome.fired else 0)


@contextmanager
def _progress() -> Iterator[Callable[[Pipeline], None]]:
    """A bar on a terminal; called after each commit. Its length is known where no file is compressed."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    sizes: list[Mapping[str, int] | None] = []
    last = [(time.monotonic(), -1)]
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=None)

        def show(pipeline: Pipeline) -> None:
            if not console.is_terminal:
                return
            sizes[:] = sizes or [_sizes(pipeline.source.partitions())]
            now, count = time.monotonic(), sum(pipeline.fates().values())
            (then, before), last[0] = last[0], (now, count)
            rate = (count - before) / max(now - then, 1e-9) if before >= 0 else None
            progress.update(task, description=_headway(pipeline, count, rate))
            if sizes[0]:
                done = sum(pipeline.positions[name].offset for name in sizes[0] if name in pipeline.positions)
                progress.update(task, completed=done, total=sum(sizes[0].values()))

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


def _report(outcome: Outcome, out: Path) -> None:
    """The table at the end of a replay."""
    from monitor.settings import format_time  # noqa: PLC0415  with the command

    console = Console()
    fired = [
        change for change in outcome.changes if change.state in {"firing", "resolved"} and change.reason != "joined"
    ]
    rows = [(f"{format_time(c.at)[:19]}Z", c.rule, c.state, c.stream, c.segment or "", _few(c.signals)) for c in fired]
    columns = ("at", "rule", "state", "stream", "segment", "signals")
    console.print(_table("alerts" if fired else "no alerts", columns, rows))
    records = outcome.summary["records"]
    fates = ", ".join(f"{name} {count:,}" for name, count in records.items())
    seconds, rate = outcome.summary["seconds"], outcome.summary["records_per_second"]
    for line in (
        f"{sum(records.values()):,} records in {seconds:.1f} s ({rate:,.0f} records/s): {fates}",
        *(f"note: {notice}" for notice in outcome.summary["notices"]),
        f"written to {out}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A table whose last column takes the room that is left."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column not in {"stream", "segment", "signals"})
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _few(names: Sequence[str]) -> str:
    """The first four of many names.

    >>> _few(["a", "b", "c", "d", "e"])
    'a, b, c, d and 1 more'
    """
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


@app.command()
def check(
    config: Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="Configuration (YAML).")],
) -> None:
    """Say all that is wrong with a configuration, each mistake with its line and key.

    Exit: 0 nothing is wrong, 2 something is.
    """
    from monitor.config import ConfigError, load  # noqa: PLC0415

    try:
        load(config)
    except ConfigError as error:
        _stop(2, str(error))
    typer.echo(f"{config}: ok")


@app.command()
def status(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a replay, finished or running; or its store.")],
) -> None:
    """Say what a replay has counted, how far its time has come, and which alerts are live.

    Exit: 0 said, 2 there is no store, 3 it cannot be read.
    """
    from monitor.store import StoreError, read_only  # noqa: PLC0415

    path = out / "driftd.db" if out.is_dir() else out
    if not path.is_file():
        _stop(2, f"there is no store at {path}")
    try:
        store = read_only(path)
    except StoreError as error:
        _stop(3, str(error))
    counts, live, notices = store.counts(), store.alerts(), store.notices()
    lines = [
        f"watermark  {store.meta().get('watermark') or 'none yet'}",
        f"partitions {len(store.positions())}",
        f"records    {sum(counts.values()):,}",
        *(f"  {name:<12}{count:,}" for name, count in sorted(counts.items())),
        *(f"note: {notice}" for notice in notices),
    ]
    store.close()
    console = Console()
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    columns = ("since", "rule", "state", "severity", "stream", "segment", "signals")
    rows = [(f"{since[:19]}Z", *named, _few(signals.split(", "))) for *named, since, signals in live]
    console.print(_table("live alerts" if live else "no live alerts", columns, rows))


@app.command()
def demo(
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed makes another log.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the table at the end.")] = False,  # noqa: FBT002
) -> None:
    """Find the changes planted in a made-up support bot's log; 0 if all were found and nothing else."""
    from monitor.demo import demonstrate  # noqa: PLC0415

    raise typer.Exit(0 if demonstrate(seed, quiet=quiet) else 1)


def main() -> None:
    """Run the command line; whatever nobody expected exits with 3."""
    try:
        app(prog_name="driftd")
    except Exception as error:
        if os.environ.get("DRIFTD_DEBUG"):
            raise
        typer.echo(f"driftd: failed: {type(error).__name__}: {error} (DRIFTD_DEBUG=1 shows where)", err=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
